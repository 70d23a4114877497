//! The API server is away for a minute while files flow, and an operator that leads dies.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{self, Demo, leader, until};
use crate::program::{apply, kubectl};
use crate::release::HOME;
use std::time::{Duration, Instant};

const AWAY: Duration = Duration::from_secs(60);

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    product::install(&kind)?;
    let demo = Demo::new(cluster, "syncmesh-control-plane", "{}").await?;
    files_flow_without_api_server(&kind, &demo)?;
    demo.in_sync()?;
    let files = demo.same_files()?;
    println!("{files} files are the same on both nodes");
    another_operator_leads(&demo)?;
    let told = an_agent_hears_nothing(&kind, &demo);
    kind.mend(demo.node(0))?;
    told?;
    kubectl("wait smesh/default --for=condition=ControlPlaneUnreachable=false --timeout=180s")?;
    println!("it is heard again, and the mesh says so");
    demo.close(cluster).await
}

fn files_flow_without_api_server(kind: &Kind, demo: &Demo) -> Outcome<()> {
    let directory = demo.directory()?;
    kind.pause_control_plane()?;
    let start = Instant::now();
    let mut files = 0;
    let flow = loop {
        if start.elapsed() > AWAY {
            break Ok(());
        }
        let (from, to) = (files % 2, 1 - files % 2);
        let write = kind.on(demo.node(from), &format!("echo {files} >{directory}/{files}"));
        let seen = write.and_then(|_| {
            until("a file without the API server", || {
                kind.on(demo.node(to), &format!("grep -qx {files} {directory}/{files}")).map(drop)
            })
        });
        if let Err(failure) = seen {
            break Err(failure);
        }
        files += 1;
    };
    kind.resume_control_plane()?;
    flow?;
    println!(
        "the API server was away for {} s: {files} files, written one after another, arrived meanwhile",
        AWAY.as_secs()
    );
    until("the API server", || kubectl("get --raw /readyz").map(drop))
}

/// One agent is kept from the API server, while its node and its peers reach everything.
fn an_agent_hears_nothing(kind: &Kind, demo: &Demo) -> Outcome<()> {
    kind.mute_agent(demo.node(0))?;
    demo.kubectl("patch svol demo --type=merge -p {\"spec\":{\"bandwidth\":{\"limit\":\"1Gi\"}}}")?;
    let start = Instant::now();
    kubectl("wait smesh/default --for=condition=ControlPlaneUnreachable --timeout=150s")?;
    println!(
        "an agent that took up no change was found after {:.0} s: {}",
        start.elapsed().as_secs_f64(),
        kubectl("get smesh default -o jsonpath={.status.message}")?.trim()
    );
    demo.sh(0, "echo unheard >/data/unheard")?;
    demo.until(1, "its files on the other node all the same", "grep -qx unheard /data/unheard")
}

fn another_operator_leads(demo: &Demo) -> Outcome<()> {
    let first = until("a leader", leader)?;
    let start = Instant::now();
    kubectl(&format!("delete pod -n {HOME} {first} --grace-period=0 --force"))?;
    let volume = "apiVersion: syncmesh.io/v1alpha1\nkind: SyncVolume\nmetadata: { name: second }\nspec: {}\n";
    demo.kubectl("get svol demo")?;
    apply(&format!("-n {}", demo.namespace()), volume)?;
    demo.kubectl("wait svol/second --for=condition=InSync --timeout=120s")?;
    until("another leader", || {
        let now = leader()?;
        if now != first { Ok(()) } else { Err(Failure::new(format!("{now} still leads"))) }
    })?;
    println!(
        "the leader was killed: a volume made in that moment was in sync after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
