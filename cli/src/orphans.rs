//! `orphans`: directories on nodes that belong to no volume. Agents name them, delete them and give them to volumes, on an
//! administrator's order.

use crate::failure::{Failure, Outcome};
use crate::session::{Agent, Session};
use crate::show::{Output, print, show, table};
use crate::users::users;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::{Api, ListParams, PostParams};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use syncmesh_crds::volume::{Seed, SyncVolumeSpec};
use syncmesh_crds::{SyncMesh, SyncVolume};

/// What can be done about orphans.
#[derive(clap::Subcommand, Debug)]
pub enum Orphans {
    /// Show them, of all namespaces
    List {
        /// Only those of this mesh
        #[arg(long, value_name = "NAME")]
        mesh: Option<String>,
    },
    /// Make a volume of one, in the namespace of -n
    Adopt {
        /// Its volumeID, as `list` shows it
        id: String,
        /// The new volume's name
        #[arg(long, value_name = "NAME")]
        volume: String,
        /// Its mesh
        #[arg(long, value_name = "NAME", default_value = "default")]
        mesh: String,
        /// Also if it was a volume of a namespace with another name
        #[arg(long)]
        yes: bool,
    },
    /// Delete one on some nodes, for good
    Purge {
        /// Its volumeID, as `list` shows it
        id: String,
        /// A node; can be given several times
        #[arg(long = "node", value_name = "NAME", required = true)]
        nodes: Vec<String>,
        /// Its mesh
        #[arg(long, value_name = "NAME", default_value = "default")]
        mesh: String,
        /// Its files are to be deleted
        #[arg(long)]
        yes: bool,
    },
}

/// An orphan, as an agent tells it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    #[serde(rename = "volumeID")]
    volume_id: String,
    namespace: Option<String>,
    namespace_uid: Option<String>,
    volume: Option<String>,
    files: u64,
    bytes: u64,
}

/// An orphan, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    #[serde(rename = "volumeID")]
    volume_id: String,
    namespace: Option<String>,
    volume: Option<String>,
    node: String,
    files: u64,
    bytes: u64,
    made_in: MadeIn,
}

/// What has become of the namespace of which an orphan was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum MadeIn {
    /// It is there.
    ThisOne,
    /// Another one has its name.
    AnEarlierOne,
    /// There is none of its name.
    Gone,
    /// Nothing on the disk says whose it was.
    Unknown,
}

/// Runs the command.
pub async fn main(session: &Session, command: &Orphans, output: Output) -> Outcome<()> {
    match command {
        Orphans::List { mesh } => list(session, mesh.as_deref(), output).await,
        Orphans::Adopt { id, volume, mesh, yes } => adopt(session, &Adoption { id, volume, mesh, yes: *yes }).await,
        Orphans::Purge { id, nodes, mesh, yes } => purge(session, id, nodes, mesh, *yes).await,
    }
}

async fn list(session: &Session, mesh: Option<&str>, output: Output) -> Outcome<()> {
    let meshes = match mesh {
        Some(mesh) => vec![mesh.to_owned()],
        None => {
            let all: Api<SyncMesh> = Api::all(session.client.clone());
            let all = all.list(&ListParams::default()).await.map_err(Failure::call("list meshes"))?;
            all.items.iter().map(ResourceExt::name_any).collect()
        }
    };
    let namespaces = namespaces(session).await?;
    let mut found = Vec::new();
    for mesh in meshes {
        let agents = session.agents(&mesh).await?;
        let (told, failures) = told(session, &agents);
        failures.iter().for_each(|failure| eprintln!("warning: {failure}"));
        found.extend(told.into_iter().map(|(node, told)| at(node, told, &namespaces)));
    }
    found.sort_by(|one, other| (&one.volume_id, &one.node).cmp(&(&other.volume_id, &other.node)));
    let row = |one: &Found| {
        vec![
            one.volume_id.clone(),
            one.namespace.clone().unwrap_or_default(),
            one.volume.clone().unwrap_or_default(),
            one.node.clone(),
            one.files.to_string(),
            one.bytes.to_string(),
            one.made_in.to_string(),
        ]
    };
    let headline = ["VOLUME ID", "NAMESPACE", "VOLUME", "NODE", "FILES", "BYTES", "MADE IN"];
    show(output, &found, |found| table(&headline, &found.iter().map(row).collect::<Vec<_>>()))
}

/// What somebody wants to make of an orphan.
struct Adoption<'a> {
    id: &'a str,
    volume: &'a str,
    mesh: &'a str,
    yes: bool,
}

/// An object that is there already has directories of its own, and is never changed here.
async fn adopt(session: &Session, wanted: &Adoption<'_>) -> Outcome<()> {
    let Adoption { id, volume: name, mesh, .. } = *wanted;
    let volumes: Api<SyncVolume> = session.here();
    let existing = volumes.get_opt(name).await.map_err(Failure::call(format!("read volume {name}")))?;
    let is_same = |volume: &SyncVolume| volume.spec.volume_id.as_deref() == Some(id);
    if existing.as_ref().is_some_and(|volume| !is_same(volume)) {
        return Err(Failure::new(format!(
            "volume {name} is there already: delete it first, its files become an orphan then, or choose another name"
        )));
    }
    let agents = session.agents(mesh).await?;
    let (told, failures) = told(session, &agents);
    failures.iter().for_each(|failure| eprintln!("warning: {failure}"));
    let its: Vec<(String, Told)> = told.into_iter().filter(|(_, told)| told.volume_id == id).collect();
    if its.is_empty() && failures.is_empty() && existing.is_none() {
        return Err(Failure::new(format!(
            "no node of mesh {mesh} has an orphan {id}: `kubectl syncmesh orphans list` names those that there are"
        )));
    }
    hand_over(session, wanted, &agents, &its).await?;
    if existing.is_none() {
        let spec = SyncVolumeSpec {
            mesh: mesh.to_owned(),
            volume_id: Some(id.to_owned()),
            seed: seed(&agents, &its).map(|node| Seed { node }),
            ..SyncVolumeSpec::default()
        };
        let made = volumes.create(&PostParams::default(), &SyncVolume::new(name, spec)).await;
        made.map_err(Failure::call(format!("make volume {name}")))?;
    }
    print(&format!("volume {name} has the directories {id} now; see `kubectl get svol {name} -o wide`\n"))
}

/// Agents give a directory to no other namespace by themselves, also not to one of the same name.
async fn hand_over(session: &Session, wanted: &Adoption<'_>, agents: &[Agent], its: &[(String, Told)]) -> Outcome<()> {
    let namespaces = namespaces(session).await?;
    let namespace = session.namespace.as_str();
    let uid = namespaces.get(namespace);
    let uid = uid.ok_or_else(|| Failure::new(format!("there is no namespace {namespace}: make it first")))?;
    let foreign = its.iter().filter(|(_, told)| told.namespace_uid.as_ref() != Some(uid));
    let foreign: Vec<&(String, Told)> = foreign.collect();
    let other = foreign.iter().find(|(_, told)| told.namespace.as_deref() != Some(namespace));
    if let Some((node, told)) = other.filter(|_| !wanted.yes) {
        return Err(Failure::new(format!(
            "{} on {node} was {}'s: repeat this with --yes to give it to namespace {namespace}",
            wanted.id,
            told.whose()
        )));
    }
    for agent in agents.iter().filter(|agent| foreign.iter().any(|(node, _)| *node == agent.node)) {
        let owner = ["--namespace", namespace, "--namespace-uid", uid, "--volume", wanted.volume];
        let order = [&["orphans", "hand-over", wanted.id][..], &owner[..]].concat();
        session.ask::<Told>(agent, &order)?;
        print(&format!("{}: {} is {namespace}/{}'s\n", agent.node, wanted.id, wanted.volume))?;
    }
    Ok(())
}

/// Where some nodes don't have the files they wait for one that does, so that no pod sees an empty directory there.
fn seed(agents: &[Agent], its: &[(String, Told)]) -> Option<String> {
    let lacks = agents.iter().any(|agent| its.iter().all(|(node, _)| *node != agent.node));
    let fullest = its.iter().max_by_key(|(_, told)| (told.files, told.bytes));
    fullest.filter(|_| lacks).map(|(node, _)| node.clone())
}

async fn purge(session: &Session, id: &str, nodes: &[String], mesh: &str, yes: bool) -> Outcome<()> {
    unused(session, id, nodes).await?;
    let agents = session.agents(mesh).await?;
    let agent = |node: &String| {
        let found = agents.iter().find(|agent| agent.node == *node).cloned();
        found.ok_or_else(|| Failure::new(format!("mesh {mesh} has no running agent on {node}")))
    };
    let agents = nodes.iter().map(agent).collect::<Outcome<Vec<Agent>>>()?;
    let (told, failures) = told(session, &agents);
    if let Some(failure) = failures.into_iter().next() {
        return Err(failure);
    }
    let mut lines = Vec::new();
    for agent in &agents {
        let its = told.iter().find(|(node, told)| *node == agent.node && told.volume_id == id);
        let (node, told) = its.ok_or_else(|| {
            Failure::new(format!("{} has no orphan {id}: `kubectl syncmesh orphans list` names them", agent.node))
        })?;
        lines.push(format!("{node}: {} files, {} bytes of {}", told.files, told.bytes, told.whose()));
    }
    if !yes {
        return Err(Failure::new(format!(
            "nothing was deleted. Repeat this with --yes, and these are gone for good:\n  {}",
            lines.join("\n  ")
        )));
    }
    let mut failed = Vec::new();
    for agent in &agents {
        match session.ask::<Told>(agent, &["orphans", "purge", id, "--yes"]) {
            Ok(gone) => print(&format!(
                "{}: deleted {} files, {} bytes of {}\n",
                agent.node,
                gone.files,
                gone.bytes,
                gone.whose()
            ))?,
            Err(failure) => failed.push(failure.to_string()),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(failed.join("\n"))) }
}

/// Fails while a volume has a directory, or a pod on one of these nodes does.
async fn unused(session: &Session, id: &str, nodes: &[String]) -> Outcome<()> {
    let volumes: Api<SyncVolume> = Api::all(session.client.clone());
    let volumes = volumes.list(&ListParams::default()).await.map_err(Failure::call("list volumes"))?;
    let has = |volume: &&SyncVolume| {
        let told = volume.status.as_ref().and_then(|status| status.volume_id.as_deref());
        [volume.spec.volume_id.as_deref(), told, volume.metadata.uid.as_deref()].contains(&Some(id))
    };
    let name = |volume: &SyncVolume| format!("{}/{}", volume.namespace().unwrap_or_default(), volume.name_any());
    if let Some(volume) = volumes.items.iter().find(has) {
        return Err(Failure::new(format!(
            "volume {} has {id}: what is to go with it goes by deleting that volume with reclaimPolicy Delete",
            name(volume)
        )));
    }
    let users = users(&session.client, id, nodes).await?;
    if users.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("pods have {id} mounted: delete {} first", users.join(", "))))
}

/// What these agents tell, with their nodes, and who couldn't be asked.
fn told(session: &Session, agents: &[Agent]) -> (Vec<(String, Told)>, Vec<Failure>) {
    let (mut all, mut failures) = (Vec::new(), Vec::new());
    for (node, answer) in session.ask_all::<Vec<Told>>(agents, &["orphans", "list"]) {
        match answer {
            Ok(its) => all.extend(its.into_iter().map(|told| (node.clone(), told))),
            Err(failure) => failures.push(failure),
        }
    }
    (all, failures)
}

/// The uids of all namespaces.
async fn namespaces(session: &Session) -> Outcome<BTreeMap<String, String>> {
    let all: Api<Namespace> = Api::all(session.client.clone());
    let all = all.list(&ListParams::default()).await.map_err(Failure::call("list namespaces"))?;
    Ok(all.items.iter().filter_map(|one| Some((one.name_any(), one.uid()?))).collect())
}

fn at(node: String, told: Told, namespaces: &BTreeMap<String, String>) -> Found {
    let made_in = match (&told.namespace, &told.namespace_uid) {
        (Some(name), Some(uid)) => match namespaces.get(name) {
            Some(now) if now == uid => MadeIn::ThisOne,
            Some(_) => MadeIn::AnEarlierOne,
            None => MadeIn::Gone,
        },
        _ => MadeIn::Unknown,
    };
    let Told { volume_id, namespace, volume, files, bytes, .. } = told;
    Found { volume_id, namespace, volume, node, files, bytes, made_in }
}

impl Told {
    fn whose(&self) -> String {
        match (&self.namespace, &self.volume) {
            (Some(namespace), Some(volume)) => format!("{namespace}/{volume}"),
            _ => "nobody known".into(),
        }
    }
}

impl std::fmt::Display for MadeIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ThisOne => "this namespace",
            Self::AnEarlierOne => "an earlier one of its name",
            Self::Gone => "one that is gone",
            Self::Unknown => "",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(namespace: &str, uid: &str, files: u64) -> Told {
        let text = |text: &str| Some(text.to_owned());
        Told {
            volume_id: "id".into(),
            namespace: text(namespace),
            namespace_uid: text(uid),
            volume: text("docs"),
            files,
            bytes: 5,
        }
    }

    #[test]
    fn it_is_told_what_became_of_the_namespace() {
        let namespaces = BTreeMap::from([("web".to_owned(), "1".to_owned())]);
        let made_in = |told: Told| at("a".into(), told, &namespaces).made_in;
        assert_eq!(made_in(told("web", "1", 0)), MadeIn::ThisOne);
        assert_eq!(made_in(told("web", "0", 0)), MadeIn::AnEarlierOne);
        assert_eq!(made_in(told("shop", "2", 0)), MadeIn::Gone);
        assert_eq!(made_in(Told { namespace: None, ..told("web", "1", 0) }), MadeIn::Unknown);
    }

    #[test]
    fn what_an_agent_tells_is_read_with_and_without_an_owner() {
        let text = r#"[{"volumeID":"1","namespace":"web","namespaceUid":"u","volume":"docs","files":2,"bytes":3},
                       {"volumeID":"2","files":0,"bytes":0}]"#;
        let all: Vec<Told> = serde_json::from_str(text).unwrap();
        assert_eq!((all[0].whose(), all[1].whose()), ("web/docs".into(), "nobody known".into()));
    }

    #[test]
    fn nodes_without_the_files_wait_for_the_one_that_has_most() {
        let agents = ["a", "b", "c"].map(Agent::on);
        let its = [("a".to_owned(), told("web", "1", 2)), ("b".to_owned(), told("web", "1", 3))];
        assert_eq!(seed(&agents, &its).as_deref(), Some("b"));
        assert_eq!(seed(&agents[..2], &its), None);
        assert_eq!(seed(&agents, &[]), None);
    }
}
