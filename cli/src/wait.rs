//! `wait`: until a volume is in sync, or what was written before is on all its nodes.

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::show::print;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use serde_json::json;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use syncmesh_crds::SyncVolume;
use syncmesh_crds::condition::Holds;

/// The annotation that the operator carries to all replicas, and whose token the status repeats.
const BARRIER: &str = "syncmesh.io/barrier";

/// What to wait for.
#[derive(clap::Args, Debug)]
#[command(group(clap::ArgGroup::new("what").required(true)))]
pub struct Arguments {
    /// The volume [default: the only one of the namespace]
    volume: Option<String>,
    /// All members are connected, and have everything
    #[arg(long, group = "what")]
    in_sync: bool,
    /// What was written before this command, on whatever node, is on all of them
    #[arg(long, group = "what")]
    written: bool,
    /// How many seconds to wait
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
}

/// Runs the command.
pub async fn main(session: &Session, arguments: &Arguments) -> Outcome<()> {
    let volume = session.volume(arguments.volume.as_deref()).await?;
    let name = volume.name_any();
    let volumes: Api<SyncVolume> = session.here();
    let start = Instant::now();
    let token = if arguments.written { Some(set_barrier(&volumes, &name).await?) } else { None };
    let is_so = |volume: Option<&SyncVolume>| volume.is_some_and(|volume| holds(volume, token.as_deref()));
    let seen = await_condition(volumes.clone(), &name, is_so);
    match tokio::time::timeout(Duration::from_secs(arguments.timeout), seen).await {
        Ok(seen) => seen.map(drop).map_err(Failure::to(format!("watch volume {name}")))?,
        Err(_) => {
            let now = volumes.get(&name).await.map_err(Failure::call(format!("read volume {name}")))?;
            let status = now.status.unwrap_or_default();
            return Err(Failure::new(format!(
                "{name} was not {} within {} s: it is {}; {}",
                if arguments.written { "written everywhere" } else { "in sync" },
                arguments.timeout,
                status.state.map_or_else(|| "unknown".into(), |state| format!("{state:?}")),
                status.message.unwrap_or_else(|| "`kubectl syncmesh status` says more".into())
            )));
        }
    }
    let what = if arguments.written { "is on all nodes" } else { "is in sync" };
    print(&format!("{name} {what}, after {:.1} s\n", start.elapsed().as_secs_f64()))
}

async fn set_barrier(volumes: &Api<SyncVolume>, name: &str) -> Outcome<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let token = format!("{}-{}", now.as_micros(), std::process::id());
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { BARRIER: token } } }));
    let set = volumes.patch(name, &PatchParams::default(), &patch).await;
    set.map(|_| token).map_err(Failure::call(format!("annotate volume {name}")))
}

fn holds(volume: &SyncVolume, token: Option<&str>) -> bool {
    let Some(status) = &volume.status else { return false };
    match token {
        Some(token) => status.barrier.as_deref() == Some(token),
        None => {
            let is_fresh = status.observed_generation >= volume.metadata.generation;
            is_fresh && status.conditions.iter().any(|one| one.r#type == "InSync" && one.status == Holds::True)
        }
    }
}
