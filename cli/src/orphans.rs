//! `orphans`: directories that no object asks for, as replicas of their name tell of them.

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::show::{Output, print, show, table};
use kube::ResourceExt;
use kube::api::{Api, ListParams, PostParams};
use serde::Serialize;
use syncmesh_crds::volume::SyncVolumeSpec;
use syncmesh_crds::{SyncReplica, SyncVolume};

/// What can be done about orphans.
#[derive(clap::Subcommand, Debug)]
pub enum Orphans {
    /// Show them, of all namespaces
    List,
    /// Make a volume of one
    Adopt {
        /// Its volumeID, as `list` shows it
        id: String,
        /// The new volume's name
        #[arg(long, value_name = "NAME")]
        volume: String,
        /// Its mesh
        #[arg(long, value_name = "NAME", default_value = "default")]
        mesh: String,
    },
}

#[derive(Debug, Serialize)]
struct Found {
    #[serde(rename = "volumeID")]
    volume_id: String,
    namespace: String,
    volume: String,
    node: String,
    files: u64,
    bytes: u64,
    #[serde(rename = "sameNamespace")]
    same_namespace: bool,
}

/// Runs the command.
pub async fn main(session: &Session, command: &Orphans, output: Output) -> Outcome<()> {
    match command {
        Orphans::List => list(session, output).await,
        Orphans::Adopt { id, volume, mesh } => adopt(session, id, volume, mesh).await,
    }
}

async fn list(session: &Session, output: Output) -> Outcome<()> {
    let replicas: Api<SyncReplica> = Api::all(session.client.clone());
    let replicas = replicas.list(&ListParams::default()).await.map_err(Failure::call("list replicas"))?.items;
    let of_replica = |replica: &SyncReplica| {
        let orphans = replica.status.clone().unwrap_or_default().orphans;
        let found = |orphan: syncmesh_crds::replica::Orphan| Found {
            volume_id: orphan.volume_id,
            namespace: replica.namespace().unwrap_or_default(),
            volume: replica.spec.volume.clone(),
            node: replica.spec.node.clone(),
            files: orphan.files,
            bytes: orphan.bytes,
            same_namespace: orphan.same_namespace,
        };
        orphans.into_iter().map(found).collect::<Vec<_>>()
    };
    let found: Vec<Found> = replicas.iter().flat_map(of_replica).collect();
    let row = |one: &Found| {
        let namespace = if one.same_namespace { "this one" } else { "an earlier one of its name" };
        let (files, bytes) = (one.files.to_string(), one.bytes.to_string());
        vec![
            one.volume_id.clone(),
            one.namespace.clone(),
            one.volume.clone(),
            one.node.clone(),
            files,
            bytes,
            namespace.to_owned(),
        ]
    };
    let headline = ["VOLUME ID", "NAMESPACE", "VOLUME", "NODE", "FILES", "BYTES", "MADE IN"];
    show(output, &found, |found| table(&headline, &found.iter().map(row).collect::<Vec<_>>()))
}

/// An object that is there already has directories of its own, and is never changed here.
async fn adopt(session: &Session, id: &str, name: &str, mesh: &str) -> Outcome<()> {
    let volumes: Api<SyncVolume> = session.here();
    let spec = SyncVolumeSpec { mesh: mesh.to_owned(), volume_id: Some(id.to_owned()), ..SyncVolumeSpec::default() };
    match volumes.create(&PostParams::default(), &SyncVolume::new(name, spec)).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Err(Failure::new(format!(
            "volume {name} is there already: delete it first, its files become an orphan then, or choose another name"
        ))),
        made => {
            made.map_err(Failure::call(format!("make volume {name}")))?;
            print(&format!("volume {name} has the directories {id} now; see `kubectl get svol {name} -o wide`\n"))
        }
    }
}
