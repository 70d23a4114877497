//! Who isn't meant to: strangers at an agent's port, an agent's token used for another node, users beyond their namespace, pods beyond
//! their NetworkPolicy, and a node whose key was stolen.

use crate::agent::Agent;
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{self, Demo, until};
use crate::program::{apply, kubectl, refused};
use crate::release::HOME;
use crate::stranger::{Credential, knock};
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use syncmesh_crds::SyncReplica;

const SPACE: &str = "syncmesh-strangers";
/// A mesh on no node, for its authority.
const OTHER: &str = "strangers";

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    product::install(&kind)?;
    let demo = Demo::new(cluster, SPACE, "{}").await?;
    let agents = [agent_on(cluster, demo.node(0)).await?, agent_on(cluster, demo.node(1)).await?];
    strangers_connect(cluster, &demo, &agents[0].name_any()).await?;
    a_token_is_for_its_node(cluster, &demo, &agents).await?;
    users_reach(&demo)?;
    network(&demo, &agents[1])?;
    revoked(&kind, &demo, [&agents[0].name_any(), &agents[1].name_any()])?;
    kubectl(&format!("delete smesh {OTHER} --ignore-not-found"))?;
    demo.close(cluster).await
}

async fn agent_on(cluster: &Cluster, node: &str) -> Outcome<Pod> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), HOME);
    let there = ListParams::default()
        .labels("app.kubernetes.io/name=syncmesh-agent,syncmesh.io/mesh=default")
        .fields(&format!("spec.nodeName={node}"));
    let found = pods.list(&there).await.map_err(Failure::to("list the agents' pods"))?.items.pop();
    found.ok_or_else(|| Failure::new(format!("there is no agent on {node}")))
}

/// With no certificate, with one of its own, and with another mesh's: each time in the name of a member.
async fn strangers_connect(cluster: &Cluster, demo: &Demo, agent: &str) -> Outcome<()> {
    let nowhere = format!(
        "{{apiVersion: syncmesh.io/v1alpha1, kind: SyncMesh, metadata: {{name: {OTHER}}}, \
         spec: {{nodes: {{matchLabels: {{syncmesh.io/nowhere: \"true\"}}}}}}}}"
    );
    apply("", &nowhere)?;
    let secrets: Api<Secret> = Api::namespaced(cluster.client(), HOME);
    let authority = cluster.see(&secrets, "syncmesh-strangers-ca", "another mesh's authority", |_| true).await?;
    let text = |key: &str| {
        let bytes = authority.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone());
        String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
    };
    let member = demo.node(1);
    let foreign = Credential::signed_by(&text("ca.pem"), &text("ca.key"), member)?;
    let cases = [
        ("no certificate", None, "it showed none"),
        ("a self-signed certificate", Some(Credential::self_signed(member)?), "UnknownIssuer"),
        ("another mesh's certificate", Some(foreign), "UnknownIssuer"),
    ];
    for (what, credential, why) in cases {
        let before = lines(agent, &["the peer's certificate was refused", why])?.len();
        let told = knock(agent, member, credential)?;
        // The alert that says why may be overtaken by the connection's end.
        if told.iter().any(|said| !["alert", "TLS close_notify", "reset"].iter().any(|end| said.contains(end))) {
            return Err(Failure::new(format!("somebody with {what} was told {told:?}")));
        }
        until("the agent's log of it", || match lines(agent, &["the peer's certificate was refused", why])? {
            logged if logged.len() > before => Ok(()),
            _ => Err(Failure::new(format!("the log of {agent} doesn't say why somebody with {what} was refused"))),
        })?;
        println!("refused: {what}: {}; the agent's log says: {why}", told.join(", "));
    }
    demo.in_sync()?;
    demo.sh(0, "echo unharmed >/data/unharmed")?;
    demo.until(1, "a file after the strangers", "grep -qx unharmed /data/unharmed")
}

/// Lines of an agent's log that have all of these parts.
fn lines(agent: &str, parts: &[&str]) -> Outcome<Vec<String>> {
    let log = kubectl(&format!("logs -n {HOME} {agent}"))?;
    Ok(log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned).collect())
}

/// The API server itself puts the node into the token that it gives a pod.
async fn a_token_is_for_its_node(cluster: &Cluster, demo: &Demo, agents: &[Pod; 2]) -> Outcome<()> {
    let agent = Agent::of_pod(cluster, HOME, Some(&agents[0])).await?;
    let replicas: Api<SyncReplica> = Api::namespaced(agent.client(), SPACE);
    let all = Api::<SyncReplica>::namespaced(cluster.client(), SPACE).list(&ListParams::default()).await;
    let all = all.map_err(Failure::to("list replicas"))?.items;
    let of = |node: &str| {
        let found = all.iter().find(|replica| replica.spec.node == node).map(ResourceExt::name_any);
        found.ok_or_else(|| Failure::new(format!("there is no replica on {node}")))
    };
    write_status(&replicas, &of(demo.node(0))?).await?;
    let said = refused("another node's status", write_status(&replicas, &of(demo.node(1))?).await)?;
    if !said.contains("node of its own pod only") {
        return Err(Failure::new(format!("another node's status was refused otherwise: {said}")));
    }
    println!("refused: the status of another node's replica, by an agent's token");
    let account = format!("system:serviceaccount:{HOME}:syncmesh-agent");
    let reach = [
        ("list", "syncreplicas.syncmesh.io -A", true),
        ("patch", "syncreplicas.syncmesh.io -A", false),
        ("patch", "syncvolumes.syncmesh.io -A", false),
        ("patch", "syncmeshes.syncmesh.io", false),
        ("get", &format!("secrets -n {HOME}"), false),
        ("create", &format!("pods -n {HOME}"), false),
        ("get", "nodes", false),
    ];
    may(&account, &reach)
}

async fn write_status(replicas: &Api<SyncReplica>, name: &str) -> Outcome<String> {
    let only_asked = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = Patch::Merge(json!({ "status": { "pending": 1 } }));
    let written = replicas.patch_status(name, &only_asked, &patch).await;
    written.map(|_| "it was written".into()).map_err(Failure::to("write a replica's status"))
}

/// What people may do who have the cluster's own roles `view` and `edit` in one namespace.
fn users_reach(demo: &Demo) -> Outcome<()> {
    for role in ["view", "edit"] {
        demo.kubectl(&format!("create rolebinding strangers-{role} --clusterrole={role} --user=e2e-{role}"))?;
    }
    let here = |resource: &str| format!("{resource} -n {SPACE}");
    let [volumes, replicas, conflicts] =
        ["syncvolumes.syncmesh.io", "syncreplicas.syncmesh.io", "syncconflicts.syncmesh.io"].map(here);
    let status = format!("syncvolumes.syncmesh.io --subresource=status -n {SPACE}");
    let elsewhere = "syncvolumes.syncmesh.io -n default".to_owned();
    let [secrets, exec, pods] = ["secrets", "pods --subresource=exec", "pods"].map(|what| format!("{what} -n {HOME}"));
    for (user, writes) in [("e2e-view", false), ("e2e-edit", true)] {
        let reach = [
            ("get", volumes.as_str(), true),
            ("get", &replicas, true),
            ("get", &conflicts, true),
            ("create", &volumes, writes),
            ("patch", &volumes, writes),
            ("delete", &volumes, writes),
            ("patch", &conflicts, writes),
            ("create", &conflicts, false),
            ("patch", &status, false),
            ("create", &replicas, false),
            ("patch", &replicas, false),
            ("delete", &replicas, false),
            ("get", &elsewhere, false),
            ("create", &elsewhere, false),
            ("patch", "syncmeshes.syncmesh.io", false),
            ("create", "syncmeshes.syncmesh.io", false),
            ("get", &secrets, false),
            ("create", &exec, false),
            ("create", &pods, false),
        ];
        may(user, &reach)?;
    }
    Ok(())
}

/// What the API server says to each.
fn may(user: &str, reach: &[(&str, &str, bool)]) -> Outcome<()> {
    for (verb, what, expected) in reach {
        // It says no by its exit code, too.
        let can = kubectl(&format!("auth can-i {verb} {what} --as={user} -q")).is_ok();
        if can != *expected {
            return Err(Failure::new(format!("{user} may {verb} {what}: {can}, and it should be {expected}")));
        }
    }
    let list = |can: bool| {
        let these = reach.iter().filter(|(.., expected)| *expected == can);
        these.map(|(verb, what, _)| format!("{verb} {what}")).collect::<Vec<_>>().join(", ")
    };
    println!("{user} may: {}\n  and may not: {}", list(true), list(false));
    Ok(())
}

/// Policies are objects; whether anybody enforces them is the cluster's affair, and is tried with one that forbids everything.
fn network(demo: &Demo, agent: &Pod) -> Outcome<()> {
    for (name, port) in [("syncmesh-agent", "mesh"), ("syncmesh-operator", "metrics")] {
        let rules = kubectl(&format!("get networkpolicy -n {HOME} {name} -o jsonpath={{.spec.ingress}}"))?;
        if !rules.contains(port) {
            return Err(Failure::new(format!("the NetworkPolicy {name} says {rules:?}")));
        }
    }
    let address = agent.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
    let forbids = format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: nothing, namespace: {SPACE}}}, \
         spec: {{podSelector: {{}}, policyTypes: [Ingress]}}}}"
    );
    demo.sh(1, "(while true; do echo open | nc -l -p 8080; done) >/dev/null 2>&1 &")?;
    let listener = demo.kubectl(&format!(
        "get pods -l app=demo --field-selector spec.nodeName={} -o jsonpath={{.items[0].status.podIP}}",
        demo.node(1)
    ))?;
    demo.until(0, "the other pod's port", &connects(listener.trim(), 8080))?;
    apply("", &forbids)?;
    let enforces = (0..10).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(500));
        demo.sh(0, &connects(listener.trim(), 8080)).is_err()
    });
    demo.kubectl("delete networkpolicy nothing")?;
    // Open to everybody, by our policy, too.
    demo.until(0, "the agent's metrics", &format!("wget -q -O /dev/null http://{address}:9400/readyz"))?;
    let reached = demo.sh(0, &connects(&address, 7400)).is_ok();
    match (enforces, reached) {
        (true, false) => {
            println!("a pod of another namespace doesn't reach the agents' port: this cluster enforces NetworkPolicies")
        }
        (false, true) => println!(
            "this cluster enforces no NetworkPolicy, not even one that forbids everything: pods reach the agents' port, where TLS refuses them"
        ),
        (true, true) => {
            return Err(Failure::new("policies are enforced here, and a stranger's pod reaches the agents' port"));
        }
        (false, false) => {
            return Err(Failure::new("no policy is enforced here, and yet a pod doesn't reach the agents' port"));
        }
    }
    Ok(())
}

fn connects(address: &str, port: u16) -> String {
    format!("nc -w 3 {address} {port} </dev/null >/dev/null")
}

/// A node's key is stolen; it is revoked, and gets another certificate.
fn revoked(kind: &Kind, demo: &Demo, [agent, revoked_agent]: [&str; 2]) -> Outcome<()> {
    let node = demo.node(1);
    let stolen = || Credential::read(&kind.on(node, "cat /var/lib/syncmesh/state/identity.pem")?);
    let old = stolen()?;
    // It would be let in: only that the node itself is there keeps it out.
    says(&knock(agent, node, Some(stolen()?))?, "another agent with this node's name")?;
    let begun = Timestamp::now();
    kubectl(&format!("annotate smesh default syncmesh.io/revoke={node}@{begun} --overwrite"))?;
    until("the session's end on the other node", || first_since(agent, "its certificate is revoked", begun).map(drop))?;
    let known = [agent, revoked_agent].map(|agent| first_since(agent, "another revocation list is in force", begun));
    let known = known.into_iter().flatten().min().ok_or_else(|| Failure::new("no log says that the list came"))?;
    let ended = first_since(agent, "its certificate is revoked", begun)?;
    demo.sh(0, "echo after >/data/after")?;
    demo.until(1, "a file on the revoked node", "grep -qx after /data/after")?;
    demo.sh(1, "echo back >/data/back")?;
    demo.until(0, "a file of the revoked node", "grep -qx back /data/back")?;
    let since = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64();
    let renewed = first_since(revoked_agent, "it is revoked", begun)?;
    println!(
        "{node} was revoked: an agent had the list after {:.1} s, its session with the other node had ended {:.3} s later, and {:.1} s after \
         that it asked for another certificate; all flows again {:.1} s after the annotation",
        since(begun, known),
        since(known, ended),
        since(ended, renewed),
        since(begun, Timestamp::now())
    );
    let told = knock(agent, node, Some(old))?;
    says(&told, "revoked")?;
    says(&told, "this node's certificate is revoked there")?;
    println!("refused: the stolen key, although its node is back: {}", told.join(", "));
    let events = kubectl("get events -A --field-selector involvedObject.kind=SyncMesh,reason=Revoked -o name")?;
    if events.trim().is_empty() {
        return Err(Failure::new("no event of the mesh says that somebody was revoked"));
    }
    demo.in_sync()
}

fn says(told: &[String], part: &str) -> Outcome<()> {
    if told.iter().any(|said| said.contains(part)) {
        return Ok(());
    }
    Err(Failure::new(format!("{part:?} isn't among what an agent said: {told:?}")))
}

/// When an agent's log said something first since a moment. The nodes of a kind cluster have this machine's clock.
fn first_since(agent: &str, part: &str, begun: Timestamp) -> Outcome<Timestamp> {
    let times = lines(agent, &[part])?.into_iter().filter_map(|line| line.split_whitespace().next()?.parse().ok());
    let first = times.filter(|at: &Timestamp| *at >= begun).min();
    first.ok_or_else(|| Failure::new(format!("the log of {agent} doesn't say {part:?}")))
}
