//! A volume that one node writes: the right follows the pod, and what is written elsewhere is taken back and kept.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{self, until};
use crate::program::kubectl;
use crate::release::HOME;
use std::time::{Duration, Instant};

const SPACE: &str = "syncmesh-single-writer";

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    product::install(&kind)?;
    kubectl(&format!("delete namespace {SPACE} --ignore-not-found"))?;
    cluster.open_namespace(SPACE).await?;
    let [one, other] = places(&kind)?;
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
    let told = outlives_its_node(&kind, &directory, [&other, &one]);
    kind.mend(&other)?;
    told?;
    keeps_what_was_written_alone(&kind, &directory, [&one, &other])?;
    cluster.close_namespace(SPACE).await
}

/// Two nodes, of which the second will be lost, and not the operator that leads with it: then nobody fences the next writer's node for
/// 15 s, and what is written there meanwhile is taken back (decision 0046 names the price).
fn places(kind: &Kind) -> Outcome<[String; 2]> {
    let leader = until("an operator that leads", product::leader)?;
    let home = kubectl(&format!("get pod -n {HOME} {leader} -o jsonpath={{.spec.nodeName}}"))?;
    let [one, other] = kind.workers()?;
    Ok(if other == home.trim() { [other, one] } else { [one, other] })
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

/// The writer's node is cut from everything, and its pod goes on writing there. Somebody gives the pod up and makes it anew elsewhere.
fn outlives_its_node(kind: &Kind, directory: &str, [lost, other]: [&str; 2]) -> Outcome<()> {
    kind.cut(lost, other)?;
    kind.cut(lost, &kind.control_plane())?;
    let start = Instant::now();
    kubectl(&format!("delete pod -n {SPACE} writer --force --grace-period=0"))?;
    pod("writer", "queue", other)?;
    sh("writer", "echo third >/data/f && echo new >/data/third")?;
    let running = start.elapsed().as_secs_f64();
    let of_other = format!("jsonpath={{.items[?(@.spec.node=='{other}')].spec.writer.node}}");
    until("the right for the node of the new pod", || {
        let writer = kubectl(&format!("get srep -n {SPACE} -o {of_other}"))?;
        if writer == other { Ok(()) } else { Err(Failure::new(format!("{writer} has it"))) }
    })?;
    let granted = start.elapsed().as_secs_f64();
    // The lost one has had no answer for 30 s by now, or another node couldn't have the right.
    kind.on(lost, &format!("cd {directory} && grep -qx second f && echo alone >f && echo alone >alone && sync"))?;
    std::thread::sleep(Duration::from_secs(3));
    kind.on(other, &format!("cd {directory} && grep -qx third f && grep -qx new third"))?;
    println!(
        "the writer's node was cut from everything: its pod ran elsewhere after {running:.1} s, had the right after {granted:.1} s, and kept all that it wrote before"
    );
    Ok(())
}

/// What the lost writer wrote without knowing that it was one no more is beside what the new one wrote, on both nodes.
fn keeps_what_was_written_alone(kind: &Kind, directory: &str, nodes: [&str; 2]) -> Outcome<()> {
    for node in nodes {
        let copies = "test $(cat 'f (conflict'* 'alone (conflict'* | grep -cx alone) = 2";
        until(&format!("both writers' files on {node}"), || {
            kind.on(node, &format!("cd {directory} && grep -qx third f && test ! -e alone && {copies}")).map(drop)
        })?;
    }
    let list = product::sums(directory);
    let [one, other] = nodes.map(|node| kind.on(node, &list));
    let (one, other) = (one?, other?);
    if one != other {
        return Err(Failure::new(format!("the nodes differ:\n{one}\n{other}")));
    }
    println!("what the lost writer wrote meanwhile is offered as conflict copies:\n{}", one.trim_end());
    Ok(())
}

fn pod(name: &str, claim: &str, node: &str) -> Outcome<()> {
    product::pod(SPACE, name, claim, node, "true")?;
    product::runs(SPACE, name)
}

fn sh(pod: &str, line: &str) -> Outcome<String> {
    product::sh(SPACE, pod, line)
}
