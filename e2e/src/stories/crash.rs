//! Agents that are killed in the middle of a sync, and one that starts while the API server is away.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{self, Demo, until};
use std::time::Duration;

const FILES: usize = 2_000;

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    product::install(&kind)?;
    let demo = Demo::new(cluster, "syncmesh-crash", "{}").await?;
    kill_in_a_sync(&kind, &demo)?;
    start_without_api_server(&kind, &demo)?;
    demo.in_sync()?;
    let files = demo.same_files()?;
    println!("{files} files are the same on both nodes");
    demo.close(cluster).await
}

/// Both agents die while files are being written on one node and fetched by the other.
fn kill_in_a_sync(kind: &Kind, demo: &Demo) -> Outcome<()> {
    let write = format!(
        "mkdir -p /data/many && cd /data/many && i=0; while [ $i -lt {FILES} ]; do head -c 3000 /dev/urandom >$i; i=$((i + 1)); done"
    );
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| demo.sh(0, &write));
        for round in 0..3 {
            std::thread::sleep(Duration::from_millis(700));
            kind.kill_agent(demo.node(round % 2))?;
        }
        let written = writing.join().map_err(|_| Failure::new("the writing pod's thread panicked"))?;
        written.map(drop)
    })?;
    println!("agents were killed three times while {FILES} files were written: the pod noticed nothing");
    demo.until(1, "all files on the other node", &format!("test $(ls /data/many | wc -l) = {FILES}"))?;
    demo.same_files().map(drop)
}

/// What was obeyed last is on the disk: a node without uplink restarts and goes on.
fn start_without_api_server(kind: &Kind, demo: &Demo) -> Outcome<()> {
    let before = kind.agent_on(demo.node(0))?;
    let directory = demo.directory()?;
    kind.pause_control_plane()?;
    let without = (|| {
        kind.kill_agent(demo.node(0))?;
        until("another agent without the API server", || {
            let now = kind.agent_on(demo.node(0))?;
            if now != before { Ok(()) } else { Err(Failure::new("none has started yet")) }
        })?;
        kind.on(demo.node(1), &format!("echo away >{directory}/while-away"))?;
        until("a file that came without the API server", || {
            kind.on(demo.node(0), &format!("grep -q away {directory}/while-away")).map(drop)
        })
    })();
    kind.resume_control_plane()?;
    without?;
    println!("an agent started while the API server was away, and files flowed");
    Ok(())
}
