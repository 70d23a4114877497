//! Two pods write one file while their nodes are cut from each other. Nothing is lost, and kubectl shows and ends the conflict.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{self, Demo, until};

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    product::install(&kind)?;
    let demo = Demo::new(cluster, "syncmesh-conflict", "{}").await?;
    demo.sh(0, "echo before >/data/report.txt")?;
    demo.until(1, "the file on the other node", "grep -q before /data/report.txt")?;
    demo.write_apart(&kind, "/data/report.txt")?;
    let both =
        |pod: usize, what: &str| demo.until(pod, what, "cat /data/report* | sort | tr '\\n' ' ' | grep -q 'one two'");
    both(0, "both versions on the first node")?;
    both(1, "both versions on the second node")?;
    demo.same_files()?;
    until("the question about it", || {
        let asked = demo.kubectl("get sconf -o jsonpath={.items[*].status.contents.path}")?;
        if asked.trim() == "report.txt" { Ok(()) } else { Err(Failure::new(format!("asked about: {asked:?}"))) }
    })?;
    println!("{}", demo.kubectl("get sconf")?.trim_end());
    let name = demo.kubectl("get sconf -o name")?;
    let answer = "{\"spec\":{\"resolution\":{\"action\":\"loser\"}}}";
    let winner = demo.kubectl("get sconf -o jsonpath={.items[0].status.contents.winner.node}")?;
    let loser_wrote = if winner == demo.node(0) { "two" } else { "one" };
    demo.kubectl(&format!("patch {} --type=merge -p {answer}", name.trim()))?;
    demo.kubectl(&format!("wait {} --for=delete --timeout=60s", name.trim()))?;
    for pod in 0..2 {
        let resolved = format!("test \"$(cat /data/report.txt)\" = {loser_wrote}");
        demo.until(pod, "what lost under the name", &resolved)?;
    }
    demo.in_sync()?;
    println!("resolved by kubectl: the other version has the name on both nodes");
    demo.close(cluster).await
}
