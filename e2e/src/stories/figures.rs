//! Figures of a running mesh, printed and not judged: this machine's load decides about them, too.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{self, Demo, milliseconds, until};
use crate::program::{apply, kubectl};
use crate::release::HOME;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Writes whose way is measured.
const WRITES: usize = 1_000;
/// Files of the volume whose agent is started again.
const FILES: usize = 100_000;
/// For how long an idle mesh is watched.
const IDLE: Duration = Duration::from_secs(180);

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    product::install(&kind)?;
    until_in_sync(cluster).await?;
    let demo = Demo::new(cluster, "syncmesh-figures", "{}").await?;
    latency(&demo)?;
    requests_of_an_idle_mesh()?;
    restart(&demo, &kind)?;
    demo.close(cluster).await
}

/// From `kubectl apply` of a volume to InSync on nodes that have nothing of it.
async fn until_in_sync(cluster: &Cluster) -> Outcome<()> {
    const NAMESPACE: &str = "syncmesh-figures-empty";
    cluster.open_namespace(NAMESPACE).await?;
    let start = Instant::now();
    apply(
        &format!("-n {NAMESPACE}"),
        "apiVersion: syncmesh.io/v1alpha1\nkind: SyncVolume\nmetadata: { name: empty }\nspec: {}\n",
    )?;
    kubectl(&format!("wait -n {NAMESPACE} svol/empty --for=condition=InSync --timeout=60s"))?;
    println!("from apply to InSync on empty nodes: {:.1} s", start.elapsed().as_secs_f64());
    cluster.close_namespace(NAMESPACE).await
}

/// From the moment in which a pod has written a file, which is the file's own time everywhere, to its appearance on the other node.
/// Nodes of kind have one clock.
fn latency(demo: &Demo) -> Outcome<()> {
    demo.sh(0, &format!("mkdir /data/l && for i in $(seq {WRITES}); do echo $i >/data/l/$i; usleep 10000; done"))?;
    demo.until(1, "all writes", &format!("test $(ls /data/l | wc -l) = {WRITES}"))?;
    let times = demo.sh(1, "cd /data/l && stat -c '%y|%z' *")?;
    let mut ways: Vec<f64> = times
        .lines()
        .filter_map(|line| line.split_once('|'))
        .filter_map(|(written, here)| milliseconds(written, here))
        .collect();
    ways.sort_by(f64::total_cmp);
    if ways.len() != WRITES {
        return Err(Failure::new(format!("{} of {WRITES} files have two times", ways.len())));
    }
    println!(
        "from a write in one pod to the other pod, {WRITES} writes: median {:.2} ms, p99 {:.2} ms, most {:.2} ms",
        ways[WRITES / 2],
        ways[WRITES * 99 / 100],
        ways[WRITES - 1]
    );
    Ok(())
}

/// What agents and operator ask of the API server while nobody writes, but for the operator's lease.
fn requests_of_an_idle_mesh() -> Outcome<()> {
    let agents = kubectl("get smesh default -o jsonpath={.status.agents}")?;
    let count = agents.trim().split('/').next_back().and_then(|count| count.parse::<f64>().ok());
    let count = count.ok_or_else(|| Failure::new(format!("the mesh has `{agents}` agents")))?;
    // What the story before wrote is told within seconds.
    std::thread::sleep(Duration::from_secs(20));
    let before = requests()?;
    std::thread::sleep(IDLE);
    let mut total = 0.0;
    for (what, count) in requests()? {
        let new = count - before.get(&what).copied().unwrap_or(0.0);
        if new > 0.0 {
            println!("  {what}: {new}");
            total += new;
        }
    }
    let minutes = IDLE.as_secs_f64() / 60.0;
    println!(
        "requests of an idle mesh for SyncMesh's kinds and certificates, all agents ({}) and operators: {:.2} a minute and node",
        agents.trim(),
        total / minutes / count
    );
    Ok(())
}

/// The API server's own count, by resource and verb.
fn requests() -> Outcome<BTreeMap<String, f64>> {
    let metrics = kubectl("get --raw /metrics")?;
    let mut counts = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
        let label = |name: &str| line.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
        let is_ours = label("group") == Some("syncmesh.io") || label("resource") == Some("certificatesigningrequests");
        if let (true, Some(count)) = (is_ours, line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok())) {
            let what = format!("{} {}", label("verb").unwrap_or_default(), label("resource").unwrap_or_default());
            *counts.entry(what).or_default() += count;
        }
    }
    Ok(counts)
}

/// From the agent's death to its pod being ready again, with many files.
fn restart(demo: &Demo, kind: &Kind) -> Outcome<()> {
    let start = Instant::now();
    demo.sh(
        0,
        &format!(
            "for d in $(seq 100); do mkdir -p /data/m/$d; for i in $(seq {}); do echo $i >/data/m/$d/$i; done; done",
            FILES / 100
        ),
    )?;
    demo.until(1, "the last directory", "test -d /data/m/100")?;
    // A wait of the story's own: that many files may take longer than one of kubectl's.
    kubectl(&format!("wait -n {} svol/demo --for=condition=InSync --timeout=600s", demo.namespace()))?;
    println!("{FILES} files were written and are on both nodes after {:.0} s", start.elapsed().as_secs_f64());
    let node = demo.node(1);
    let pod = product::agent(node, ".metadata.name")?;
    let ready = format!("get --raw /api/v1/namespaces/{HOME}/pods/{pod}:9400/proxy/readyz");
    let before = kind.agent_on(node)?;
    let killed = Instant::now();
    kind.kill_agent(node)?;
    until("another agent", || match kind.agent_on(node)? {
        now if now.trim().is_empty() || now == before => Err(Failure::new("the kubelet hasn't started one yet")),
        _ => Ok(()),
    })?;
    let runs = killed.elapsed();
    while kubectl(&ready).is_err() {
        if killed.elapsed() > Duration::from_secs(120) {
            return Err(Failure::new("the agent isn't ready two minutes after it was killed"));
        }
    }
    println!(
        "an agent with {FILES} files: started again by the kubelet {:.1} s after it was killed, ready {:.1} s later",
        runs.as_secs_f64(),
        (killed.elapsed() - runs).as_secs_f64()
    );
    demo.in_sync()
}
