//! `pause` and `resume`.

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::show::print;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use syncmesh_crds::SyncVolume;

/// Which volume.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The volume [default: the only one of the namespace]
    volume: Option<String>,
}

/// Lets a volume stand still, or go on.
pub async fn main(session: &Session, arguments: &Arguments, paused: bool) -> Outcome<()> {
    let name = session.volume(arguments.volume.as_deref()).await?.name_any();
    let volumes: Api<SyncVolume> = session.here();
    let patch = Patch::Merge(json!({ "spec": { "paused": paused } }));
    volumes
        .patch(&name, &PatchParams::default(), &patch)
        .await
        .map_err(Failure::call(format!("change volume {name}")))?;
    print(&format!("{name} {}\n", if paused { "is to stand still" } else { "is to go on" }))
}
