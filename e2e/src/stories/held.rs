//! A pod deletes 600 of 900 files: the other node keeps all until somebody approves, and has them all back if somebody rejects.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{self, Demo, until};

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    product::install(&kind)?;
    let demo = Demo::new(cluster, "syncmesh-held", "{}").await?;
    demo.sh(0, "mkdir /data/d && cd /data/d && i=0; while [ $i -lt 900 ]; do echo $i >$i; i=$((i + 1)); done")?;
    has(&demo, 1, 900)?;
    demo.in_sync()?;
    deletes_most(&demo)?;
    answer(&demo, "reject")?;
    has(&demo, 0, 900)?;
    println!("rejected: all 900 files are back on the first node");
    demo.in_sync()?;
    deletes_most(&demo)?;
    answer(&demo, "approve")?;
    has(&demo, 1, 300)?;
    println!("approved: 300 files are left on both nodes");
    demo.in_sync()?;
    demo.same_files()?;
    emptied(&kind, &demo)?;
    demo.close(cluster).await
}

/// The other node keeps them, and a person is asked.
fn deletes_most(demo: &Demo) -> Outcome<()> {
    demo.sh(0, "cd /data/d && i=0; while [ $i -lt 600 ]; do rm $i; i=$((i + 1)); done")?;
    demo.kubectl("wait svol/demo --for=condition=DeletionsHeld --timeout=60s")?;
    has(demo, 1, 900)?;
    println!("{}\n{}", demo.kubectl("get svol")?.trim_end(), demo.kubectl("get sconf")?.trim_end());
    Ok(())
}

fn answer(demo: &Demo, action: &str) -> Outcome<()> {
    until("the question", || {
        let names = demo.kubectl("get sconf -o name")?;
        if names.lines().count() == 1 { Ok(()) } else { Err(Failure::new(format!("questions: {names:?}"))) }
    })?;
    let name = demo.kubectl("get sconf -o name")?;
    let patch = format!("{{\"spec\":{{\"resolution\":{{\"action\":\"{action}\"}}}}}}");
    demo.kubectl(&format!("patch {} --type=merge -p {patch}", name.trim()))?;
    demo.kubectl(&format!("wait {} --for=delete --timeout=60s", name.trim())).map(drop)
}

/// Somebody empties the directory of one node behind the pods' back.
fn emptied(kind: &Kind, demo: &Demo) -> Outcome<()> {
    kind.on(demo.node(1), &format!("rm -rf {}/*", demo.directory()?))?;
    demo.kubectl("wait svol/demo --for=condition=DeletionsHeld --timeout=60s")?;
    has(demo, 0, 300)?;
    answer(demo, "reject")?;
    has(demo, 1, 300)?;
    println!("a node's directory was emptied: the other one kept all, and gave it back");
    Ok(())
}

fn has(demo: &Demo, pod: usize, files: usize) -> Outcome<()> {
    demo.until(pod, &format!("{files} files"), &format!("test $(ls /data/d | wc -l) = {files}"))
}
