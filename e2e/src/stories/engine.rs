//! Which system interface agents run on: epoll under the profile that container runtimes have, which blocks io_uring, and io_uring
//! under our own. Both do the same work, and the columns say which it is.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{self, Demo, until};
use crate::program::kubectl;
use crate::release::HOME;

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    product::install(&kind)?;
    let demo = Demo::new(cluster, "syncmesh-engine", "{}").await?;
    runs_on(&demo, "epoll")?;
    work(&demo, "under-epoll")?;
    profile("\"syncmesh\"")?;
    let told = on_uring(&demo, &kind);
    // Whatever became of it the next story finds the mesh as it was.
    profile("null")?;
    told?;
    runs_on(&demo, "epoll")?;
    work(&demo, "under-epoll-again")?;
    demo.close(cluster).await
}

fn on_uring(demo: &Demo, kind: &Kind) -> Outcome<()> {
    runs_on(demo, "io_uring")?;
    work(demo, "under-io-uring")?;
    // What a start does has to be allowed, too, and what people run in the pod.
    kind.kill_agent(demo.node(0))?;
    runs_on(demo, "io_uring")?;
    work(demo, "after-a-kill")?;
    let status = kubectl(&format!("exec -n {HOME} daemonset/syncmesh-default -- /syncmesh-agent status"))?;
    println!("a status by exec has {} lines", status.lines().count());
    nothing_was_refused()
}

/// The mesh gets another profile for its agents, which are replaced.
fn profile(name: &str) -> Outcome<()> {
    let patch = format!("{{\"spec\":{{\"agent\":{{\"seccomp\":{name}}}}}}}");
    kubectl(&format!("patch smesh default --type=merge -p {patch}"))?;
    Ok(())
}

/// Waits until both nodes' columns say so, and everything is in sync.
fn runs_on(demo: &Demo, engine: &str) -> Outcome<()> {
    until(&format!("{engine} on both nodes"), || {
        let columns = demo.kubectl("get srep --no-headers -o custom-columns=E:.status.engine,S:.status.state")?;
        match columns.lines().map(str::trim).all(|line| line.starts_with(engine) && line.ends_with("InSync")) {
            true => Ok(()),
            false => Err(Failure::new(format!("the replicas say:\n{columns}"))),
        }
    })?;
    demo.in_sync()?;
    let wide = demo.kubectl("get svol demo -o wide")?;
    let is_named = wide.lines().nth(1).is_some_and(|line| line.split_whitespace().any(|word| word == engine));
    if !is_named {
        return Err(Failure::new(format!("`get svol -o wide` doesn't name {engine}:\n{wide}")));
    }
    println!("both nodes' agents run on {engine}");
    Ok(())
}

/// A bit of everything, on both nodes, which ends equal.
fn work(demo: &Demo, name: &str) -> Outcome<()> {
    demo.sh(
        0,
        &format!(
            "mkdir -p /data/{name}/d && cd /data/{name} && head -c 20000000 /dev/urandom >large && echo one >small && ln small second \
             && ln -s small link && for i in $(seq 200); do echo $i >d/$i; done && chmod 600 small && mv large moved && echo more >>moved"
        ),
    )?;
    let ready =
        format!("cd /data/{name} && test -h link && test $(ls d | wc -l) = 200 && tail -c 5 moved | grep -q more");
    demo.until(1, "what the first pod made", &ready)?;
    demo.sh(
        1,
        &format!("cd /data/{name} && rm -r d && echo two >small && cp -p moved copy && truncate -s 5000000 copy"),
    )?;
    let ready = format!("cd /data/{name} && ! test -e d && grep -q two small && test $(stat -c %s copy) = 5000000");
    demo.until(0, "what the second pod made of it", &ready)?;
    demo.in_sync()?;
    println!("{name}: {} files are the same on both nodes", demo.same_files()?);
    Ok(())
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
