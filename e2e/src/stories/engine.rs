//! Which system interface agents run on: io_uring under our profile, epoll under one that blocks io_uring, as the default profiles of newer
//! container runtimes do. Both do the same work, and the columns say which it is.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{self, Demo, until};
use crate::program::{kubectl, repository};
use crate::release::HOME;
use serde_json::{Value, json};

/// The agents of the default mesh.
const AGENTS: &str = "daemonset/syncmesh-default";
/// A profile below the kubelet's directory that is ours but for io_uring.
const BLOCKING: &str = "syncmesh/e2e-blocking.json";

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    product::install(&kind)?;
    let demo = Demo::new(cluster, "syncmesh-engine", "{}").await?;
    println!("the runtime's own profile: {}", engines(&demo)?.trim().replace('\n', ", "));
    set_profile("\"syncmesh\"")?;
    let told = on_uring(&demo, &kind).and_then(|()| on_epoll(&demo, &kind));
    // Whatever became of it the next story finds the mesh as it was.
    operators(2)?;
    set_profile("null")?;
    told?;
    until("all agents as they were", || {
        kubectl(&format!("rollout status -n {HOME} {AGENTS} --timeout=100s")).map(drop)
    })?;
    demo.in_sync()?;
    demo.close(cluster).await
}

fn on_uring(demo: &Demo, kind: &Kind) -> Outcome<()> {
    runs_on(demo, "io_uring")?;
    has_profile(AGENTS, "syncmesh/agent.json")?;
    until("the volume naming it", || {
        let wide = demo.kubectl("get svol demo -o wide")?;
        let is_named = wide.lines().nth(1).is_some_and(|line| line.split_whitespace().any(|word| word == "io_uring"));
        if is_named { Ok(()) } else { Err(Failure::new(format!("`get svol -o wide` says:\n{wide}"))) }
    })?;
    work(demo, "under-io-uring")?;
    // What a start does has to be allowed, too, and what people run in the pod.
    kind.kill_agent(demo.node(0))?;
    runs_on(demo, "io_uring")?;
    work(demo, "after-a-kill")?;
    let status = kubectl(&format!("exec -n {HOME} {AGENTS} -- /syncmesh-agent status"))?;
    println!("a status by exec has {} lines", status.lines().count());
    nothing_was_refused()
}

/// The mesh has no word for a profile that is worse than ours, and the operator would take it back: it is away meanwhile.
fn on_epoll(demo: &Demo, kind: &Kind) -> Outcome<()> {
    let profile = blocking()?;
    for node in [demo.node(0), demo.node(1)] {
        kind.on(node, &format!("echo '{profile}' >/var/lib/kubelet/seccomp/{BLOCKING}"))?;
    }
    operators(0)?;
    let path = "/spec/template/spec/containers/0/securityContext/seccompProfile/localhostProfile";
    let patch = json!([{ "op": "replace", "path": path, "value": BLOCKING }]).to_string();
    kubectl(&format!("patch -n {HOME} {AGENTS} --type=json -p {patch}"))?;
    runs_on(demo, "epoll")?;
    has_profile(AGENTS, BLOCKING)?;
    work(demo, "under-epoll")
}

/// Our profile without the calls of io_uring.
fn blocking() -> Outcome<String> {
    let ours = std::fs::read(repository().join("deploy/seccomp.json")).map_err(Failure::to("read our profile"))?;
    let mut profile: Value = serde_json::from_slice(&ours).map_err(Failure::to("read our profile"))?;
    for rule in profile["syscalls"].as_array_mut().into_iter().flatten() {
        if let Some(names) = rule["names"].as_array_mut() {
            names.retain(|name| !name.as_str().is_some_and(|name| name.starts_with("io_uring")));
        }
    }
    Ok(profile.to_string())
}

/// The mesh gets another profile for its agents, which are replaced.
fn set_profile(name: &str) -> Outcome<()> {
    let patch = format!("{{\"spec\":{{\"agent\":{{\"seccomp\":{name}}}}}}}");
    kubectl(&format!("patch smesh default --type=merge -p {patch}")).map(drop)
}

fn has_profile(of: &str, expected: &str) -> Outcome<()> {
    let path = "{.spec.template.spec.containers[0].securityContext.seccompProfile.localhostProfile}";
    let found = kubectl(&format!("get -n {HOME} {of} -o jsonpath={path}"))?;
    if found.trim() == expected {
        Ok(())
    } else {
        Err(Failure::new(format!("the agents' profile is `{}`", found.trim())))
    }
}

fn operators(count: usize) -> Outcome<()> {
    kubectl(&format!("scale -n {HOME} deployment/syncmesh-operator --replicas={count}"))?;
    kubectl(&format!("rollout status -n {HOME} deployment/syncmesh-operator --timeout=100s")).map(drop)
}

fn engines(demo: &Demo) -> Outcome<String> {
    demo.kubectl("get srep --no-headers -o custom-columns=E:.status.engine,S:.status.state")
}

/// Waits until both nodes' columns say so, and the files of one are the other's.
fn runs_on(demo: &Demo, engine: &str) -> Outcome<()> {
    until(&format!("{engine} on both nodes"), || {
        let columns = engines(demo)?;
        match columns.lines().map(str::trim).all(|line| line.starts_with(engine) && line.ends_with("InSync")) {
            true => Ok(()),
            false => Err(Failure::new(format!("the replicas say:\n{columns}"))),
        }
    })?;
    println!("both nodes' agents run on {engine}");
    Ok(())
}

/// A bit of everything, on both nodes, which ends equal.
fn work(demo: &Demo, name: &str) -> Outcome<()> {
    demo.sh(
        0,
        &format!(
            "mkdir -p /data/{name}/d && cd /data/{name} && head -c 20000000 /dev/urandom >large && echo one >small && ln small second \
             && ln -s small link && for i in $(seq 60); do echo $i >d/$i; done && chmod 600 small && mv large moved && echo more >>moved"
        ),
    )?;
    let ready =
        format!("cd /data/{name} && test -h link && test $(ls d | wc -l) = 60 && tail -c 5 moved | grep -q more");
    demo.until(1, "what the first pod made", &ready)?;
    demo.sh(
        1,
        &format!("cd /data/{name} && rm -r d && echo two >small && cp -p moved copy && truncate -s 5000000 copy"),
    )?;
    let ready = format!("cd /data/{name} && ! test -e d && grep -q two small && test $(stat -c %s copy) = 5000000");
    demo.until(0, "what the second pod made of it", &ready)?;
    // The operator may be away, so it isn't asked whether all is in sync.
    until("the same files on both nodes", || {
        let files = demo.same_files()?;
        println!("{name}: {files} files are the same on both nodes");
        Ok(())
    })
}

/// A call that the profile forbids looks like one that the kernel doesn't have.
fn nothing_was_refused() -> Outcome<()> {
    let logs = kubectl(&format!("logs -n {HOME} -l app.kubernetes.io/name=syncmesh-agent --tail=-1 --prefix"))?;
    let refused = ["Function not implemented", "ENOSYS", "os error 38"];
    match logs.lines().find(|line| refused.iter().any(|word| line.contains(word))) {
        None => Ok(()),
        Some(line) => Err(Failure::new(format!("the profile refuses what the agent needs: {line}"))),
    }
}
