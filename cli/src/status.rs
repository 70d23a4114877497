//! `status`: a volume and its replicas, from their objects, or `--live` from the agents themselves.

use crate::failure::{Failure, Outcome};
use crate::session::{Session, id};
use crate::show::{Output, cell, show, table};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use syncmesh_crds::replica::SyncReplicaStatus;
use syncmesh_crds::{SyncReplica, SyncVolume};

/// Which volumes, and from where.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The volume [default: all of the namespace]
    volume: Option<String>,
    /// Ask the agents instead of reading objects, which may be some seconds old. Needs the right to `exec` in their pods
    #[arg(long)]
    live: bool,
}

/// Runs the command.
pub async fn main(session: &Session, arguments: &Arguments, output: Output) -> Outcome<()> {
    let volumes = match &arguments.volume {
        Some(name) => vec![session.volume(Some(name)).await?],
        None => {
            let volumes: Api<SyncVolume> = session.here();
            volumes.list(&ListParams::default()).await.map_err(Failure::call("list volumes"))?.items
        }
    };
    if arguments.live { live(session, &volumes, output).await } else { stored(session, &volumes, output).await }
}

async fn stored(session: &Session, volumes: &[SyncVolume], output: Output) -> Outcome<()> {
    let replicas: Api<SyncReplica> = session.here();
    let replicas = replicas.list(&ListParams::default()).await.map_err(Failure::call("list replicas"))?.items;
    let mut found = Vec::new();
    let mut rows = Vec::new();
    for volume in volumes {
        let name = volume.name_any();
        let status = volume.status.clone().unwrap_or_default();
        rows.push(vec![
            name.clone(),
            cell(status.nodes.as_ref()),
            cell(status.state.map(|state| format!("{state:?}"))),
            cell(status.synced.as_ref()),
            cell(status.lag.as_ref()),
            cell(status.pending),
            cell(status.files),
            cell(status.engine.as_ref()),
            cell(status.message.as_ref()),
        ]);
        let mut its: Vec<&SyncReplica> = replicas.iter().filter(|replica| replica.spec.volume == name).collect();
        its.sort_by(|one, other| one.spec.node.cmp(&other.spec.node));
        rows.extend(its.iter().map(|replica| row(replica)));
        found.push(json!({ "volume": name, "status": status, "replicas": its.iter().map(|one| replica(one)).collect::<Vec<_>>() }));
    }
    let headline = ["VOLUME / NODE", "NODES", "STATE", "SYNCED", "LAG", "PENDING", "FILES", "ENGINE", "MESSAGE"];
    show(output, &found, |_| table(&headline, &rows))
}

fn row(replica: &SyncReplica) -> Vec<String> {
    let status: SyncReplicaStatus = replica.status.clone().unwrap_or_default();
    vec![
        format!("  {}", replica.spec.node),
        String::new(),
        cell(status.state.map(|state| format!("{state:?}"))),
        cell(status.synced.as_ref()),
        cell(status.lag.as_ref()),
        cell(status.pending),
        cell(status.files),
        cell(status.engine.as_ref()),
        cell(status.message.as_ref()),
    ]
}

fn replica(replica: &SyncReplica) -> Value {
    json!({ "node": replica.spec.node, "status": replica.status })
}

async fn live(session: &Session, volumes: &[SyncVolume], output: Output) -> Outcome<()> {
    let mut found = Vec::new();
    let mut rows = Vec::new();
    for volume in volumes {
        let id = id(volume)?;
        let agents = session.agents(&volume.spec.mesh).await?;
        for (node, answer) in session.ask_all::<Value>(&agents, &["status"]) {
            let name = volume.name_any();
            match answer {
                Ok(status) => {
                    let all = status["volumes"].as_array().into_iter().flatten();
                    let Some(one) = all.into_iter().find(|one| one["name"] == id.as_str()) else { continue };
                    rows.push(live_row(&name, &node, &status, one));
                    found.push(json!({ "volume": name, "node": node, "engine": status["engine"], "status": one }));
                }
                Err(failure) => {
                    let mut row = vec![name.clone(), node.clone(), "Unknown".into()];
                    row.resize(10, String::new());
                    row.push(failure.to_string());
                    rows.push(row);
                    found.push(json!({ "volume": name, "node": node, "error": failure.to_string() }));
                }
            }
        }
    }
    let headline = [
        "VOLUME",
        "NODE",
        "STATE",
        "SYNCED",
        "LAG",
        "DURABLE LAG",
        "PENDING",
        "FILES",
        "CONFLICTS",
        "ENGINE",
        "MESSAGE",
    ];
    show(output, &found, |_| table(&headline, &rows))
}

fn live_row(volume: &str, node: &str, status: &Value, one: &Value) -> Vec<String> {
    let text = |value: &Value| {
        value.as_str().map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, Into::into)
    };
    vec![
        volume.to_owned(),
        node.to_owned(),
        text(&one["state"]),
        format!("{}%", text(&one["syncedPercent"])),
        format!("{}ms", text(&one["lagMs"])),
        format!("{}ms", text(&one["durableLagMs"])),
        text(&one["pendingFiles"]),
        text(&one["files"]),
        text(&one["conflicts"]),
        text(&status["engine"]),
        text(&one["message"]),
    ]
}
