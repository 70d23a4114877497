//! A node that stops in the middle of a sync, as if its power were cut, and starts again. What was written on both sides is there.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{Demo, until};
use crate::program::kubectl;
use crate::release;
use std::time::{Duration, Instant};

const FILES: usize = 2_000;

/// Tells it. A stopped node forgets what it has in memory: its storage root is on its disk here, of which others have used most.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    release::clear()?;
    kind.has_our_image()?;
    kind.has_busybox()?;
    kind.has_own_disks()?;
    release::install(&[])?;
    kubectl("patch smesh default --type=merge -p {\"spec\":{\"storage\":{\"reserve\":\"1%\"}}}")?;
    kubectl("wait smesh/default --for=condition=Ready --timeout=120s")?;
    let told = stops(cluster, &kind).await;
    // Later stories begin with disks of their own.
    let cleared = release::clear();
    kind.has_own_disks()?;
    told.and(cleared)
}

async fn stops(cluster: &Cluster, kind: &Kind) -> Outcome<()> {
    let demo = Demo::new(cluster, "syncmesh-stopped-node", "{}").await?;
    for stopped in [1, 0] {
        stop_in_a_sync(kind, &demo, stopped)?;
    }
    let files = demo.same_files()?;
    println!("{files} files are the same on both nodes");
    demo.close(cluster).await
}

/// The first pod writes, and one of the two nodes stops meanwhile. The other one goes on.
fn stop_in_a_sync(kind: &Kind, demo: &Demo, stopped: usize) -> Outcome<()> {
    let folder = format!("/data/stopped-{stopped}");
    let write = format!(
        "mkdir {folder} && cd {folder} && i=0; while [ $i -lt {FILES} ]; do head -c 3000 /dev/urandom >$i; i=$((i + 1)); done"
    );
    let ended = std::thread::scope(|scope| {
        let writing = scope.spawn(|| demo.sh(0, &write));
        std::thread::sleep(Duration::from_millis(1_500));
        kind.stop(demo.node(stopped))?;
        // Who writes on a node that stops writes no more.
        Ok::<bool, Failure>(writing.join().is_ok_and(|written| written.is_ok()))
    })?;
    demo.sh(1 - stopped, &format!("echo on >/data/on-{stopped}"))?;
    let start = Instant::now();
    kind.start(demo.node(stopped))?;
    demo.until(stopped, "what was written meanwhile", &format!("test -s /data/on-{stopped}"))?;
    demo.until(0, "the writer's pod again", "true")?;
    let written = demo.sh(0, &format!("ls {folder} | wc -l"))?;
    demo.until(1, "the same files there", &format!("test $(ls {folder} | wc -l) = {}", written.trim()))?;
    until("both in sync", || demo.in_sync())?;
    let which = if ended { "the other node" } else { "the writer's own node" };
    println!(
        "{which} stopped while files were written, and had all {} of them {:.0} s after its start",
        written.trim(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
