//! A rolling update of all agents while a pod writes: no write is lost, and the pods keep their mounts.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{self, Demo, until};
use crate::program::kubectl;
use crate::release::HOME;
use std::collections::BTreeSet;

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    product::install(&kind)?;
    let demo = Demo::new(cluster, "syncmesh-update", "{}").await?;
    let pods = demo.kubectl("get pods -o name")?;
    // Counts as long as it may; what it has written last is in `last`.
    demo.sh(
        0,
        "mkdir /tmp /data/w && (i=0; while [ ! -e /tmp/stop ]; do i=$((i + 1)); echo $i >/data/w/$i; sleep 0.01; done; echo $i >/tmp/last) \
         </dev/null >/dev/null 2>&1 &",
    )?;
    let before = agents()?;
    kubectl("patch smesh default --type=merge -p {\"spec\":{\"agent\":{\"logLevel\":\"debug\"}}}")?;
    let updated = until("all agents updated", || {
        let now = agents()?;
        if now.len() == before.len() && now.is_disjoint(&before) {
            return Ok(());
        }
        Err(Failure::new(format!("agents before: {before:?}, now: {now:?}")))
    });
    // Whatever became of it the next story finds the mesh as it was.
    kubectl("patch smesh default --type=merge -p {\"spec\":{\"agent\":{\"logLevel\":null}}}")?;
    updated?;
    demo.sh(0, "touch /tmp/stop")?;
    demo.until(0, "the writer's last word", "test -s /tmp/last")?;
    let last = demo.sh(0, "cat /tmp/last")?;
    let last = last.trim();
    demo.until(1, "all that was written", &format!("test $(ls /data/w | wc -l) = {last}"))?;
    until("the agents of before", || kubectl("wait smesh/default --for=condition=Ready --timeout=10s").map(drop))?;
    demo.in_sync()?;
    println!(
        "all agents were replaced while a pod wrote {last} files: {} are the same on both nodes",
        demo.same_files()?
    );
    if demo.kubectl("get pods -o name")? != pods {
        return Err(Failure::new("the pods that had the volume mounted aren't those of before"));
    }
    nobody_shared_a_state_directory()?;
    demo.close(cluster).await
}

/// Names of the agents' pods that are ready.
fn agents() -> Outcome<BTreeSet<String>> {
    let columns = "-o custom-columns=N:.metadata.name,R:.status.containerStatuses[0].ready --no-headers";
    let list = kubectl(&format!("get pods -n {HOME} -l app.kubernetes.io/name=syncmesh-agent {columns}"))?;
    let ready = list.lines().filter_map(|line| line.trim().strip_suffix("true"));
    Ok(ready.map(|name| name.trim().to_owned()).collect())
}

/// The state directory has a lock, which a second agent on it would meet, and say so before it ends.
fn nobody_shared_a_state_directory() -> Outcome<()> {
    let columns = "-o custom-columns=N:.metadata.name,R:.status.containerStatuses[0].restartCount --no-headers";
    let list = kubectl(&format!("get pods -n {HOME} -l app.kubernetes.io/name=syncmesh-agent {columns}"))?;
    match list.lines().find(|line| line.split_whitespace().nth(1) != Some("0")) {
        None => Ok(()),
        Some(line) => Err(Failure::new(format!("an agent had to be started again: {line}"))),
    }
}
