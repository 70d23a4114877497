//! A volume that one node writes: the right follows the pod, and what is written elsewhere is taken back and kept.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{self, until};
use crate::program::kubectl;
use std::time::Instant;

const SPACE: &str = "syncmesh-single-writer";

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    product::install(&kind)?;
    kubectl(&format!("delete namespace {SPACE} --ignore-not-found"))?;
    cluster.open_namespace(SPACE).await?;
    let [one, other] = kind.workers()?;
    product::volume(SPACE, "queue", "{ mode: SingleWriter }")?;
    for (name, claim, node) in [("writer", "queue", &one), ("reader", "queue-ro", &other)] {
        pod(name, claim, node)?;
    }
    until("what the writer wrote, for the reader", || {
        sh("writer", "echo first >/data/f")?;
        sh("reader", "grep -qx first /data/f").map(drop)
    })?;
    println!("{}", kubectl(&format!("get svol -n {SPACE} -o wide"))?.trim_end());
    let directory = format!("{}/data", product::place(&product::id(SPACE, "queue")?));
    kind.on(&other, &format!("cd {directory} && echo foreign >f && echo foreign >new && sync"))?;
    until("what was written on the reader's node taken back", || {
        kind.on(&other, &format!("cd {directory} && grep -qx first f && test ! -e new")).map(drop)
    })?;
    kind.on(&one, &format!("cd {directory} && grep -qx first f && test ! -e new"))?;
    println!("what was written on the reader's node was taken back there, and is nowhere else");
    follows(&kind, &directory, [&one, &other])?;
    cluster.close_namespace(SPACE).await
}

/// The writing pod goes, and comes back on the other node.
fn follows(kind: &Kind, directory: &str, [one, other]: [&str; 2]) -> Outcome<()> {
    let start = Instant::now();
    kubectl(&format!("delete pod -n {SPACE} writer"))?;
    pod("writer", "queue", other)?;
    let running = start.elapsed().as_secs_f64();
    sh("writer", "echo second >/data/f")?;
    until("what the second writer wrote, on the first one's node", || {
        kind.on(one, &format!("grep -qx second {directory}/f")).map(drop)
    })?;
    let seen = start.elapsed().as_secs_f64();
    println!(
        "the writing pod moved to another node: it ran after {running:.1} s, what it wrote was on the first node after {seen:.1} s"
    );
    if kind.on(other, &format!("cat {directory}/f"))?.trim() == "second" {
        return Ok(());
    }
    Err(Failure::new("what the second writer wrote isn't on its own node any more"))
}

fn pod(name: &str, claim: &str, node: &str) -> Outcome<()> {
    product::pod(SPACE, name, claim, node, "true")?;
    product::runs(SPACE, name)
}

fn sh(pod: &str, line: &str) -> Outcome<String> {
    product::sh(SPACE, pod, line)
}
