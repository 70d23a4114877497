//! Directories that no object asks for: which there are, and what an administrator orders about one of them.
//!
//! Nothing happens to a directory because nobody asks for it. It goes, or gets another owner, because somebody who may run commands in
//! the agents' pods has named it, and only while nobody uses it.

use super::directories::{Orphan, Owner, Storage};
use super::surroundings::Surroundings;
use crate::control::question::Loop;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use syncmesh_crds::SyncReplica;
use tokio::time::timeout;
use tracing::{info, warn};

/// How long the loop and the API server may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// An orphan, as commands tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Its name.
    #[serde(rename = "volumeID")]
    pub volume_id: String,
    /// Whose it is; nobody knows that of a directory without a marker.
    #[serde(flatten)]
    pub owner: Option<Owner>,
    /// Its files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// To whom a directory is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HandOver {
    /// The directory's name.
    #[serde(rename = "volumeID")]
    pub volume_id: String,
    /// Whose it is from now on.
    pub owner: Owner,
}

/// Directories that are asked for, each with the uid of the namespace that does.
type AskedFor = BTreeMap<String, String>;

/// The orphans of a node.
pub struct Orphans {
    storage: Storage,
    /// Directories that are asked for, as far as this node was told, and the uids of the namespaces that do. Held while directories are
    /// made or taken away, so that none is taken away that is about to be used; none before the first look.
    asked_for: tokio::sync::Mutex<Option<AskedFor>>,
    found: Mutex<Vec<(Orphan, u64, u64)>>,
}

impl Orphans {
    /// Those below a storage root.
    pub fn of(storage: Storage) -> Self {
        Self { storage, asked_for: tokio::sync::Mutex::default(), found: Mutex::default() }
    }

    /// Runs what makes directories for these replicas, while none is taken away.
    pub async fn beside<T>(&self, replicas: &[SyncReplica], make: impl FnOnce() -> T) -> T {
        let mut asked_for = self.asked_for.lock().await;
        let asks = |replica: &SyncReplica| (replica.spec.volume_id.clone(), replica.spec.namespace_uid.clone());
        *asked_for = Some(replicas.iter().map(asks).collect());
        make()
    }

    /// Those that were found at the last look, with their files and bytes.
    pub fn found(&self) -> Vec<(Orphan, u64, u64)> {
        self.last().clone()
    }

    /// Looks which there are, and counts them if they are others than before.
    pub async fn look(&self) {
        let Some(asked_for) = self.asked_for.lock().await.clone() else { return };
        let orphans = match self.storage.orphans(&asked_for.into_keys().collect()) {
            Ok(orphans) => orphans,
            Err(why) => return warn!(%why, "it isn't known which directories nobody asks for"),
        };
        if self.last().iter().map(|(orphan, ..)| orphan).eq(&orphans) {
            return;
        }
        let counted = self.counted(orphans).await;
        *self.last() = counted;
    }

    /// All of them, counted now.
    ///
    /// # Errors
    /// It isn't known yet what is asked for, or they can't be listed.
    pub async fn list(&self) -> Result<Vec<Listed>, String> {
        let orphans = self.all(self.asked_for.lock().await.as_ref())?;
        let counted = self.counted(orphans).await;
        Ok(counted.into_iter().map(|(orphan, files, bytes)| listed(orphan, files, bytes)).collect())
    }

    /// Deletes an orphan, as an administrator orders. The result is what it had.
    ///
    /// # Errors
    /// Somebody asks for it or uses it, or it can't be known whether somebody does; or it can't be deleted.
    pub async fn purge(&self, id: &str, around: &Surroundings, agent: &Loop) -> Result<Listed, String> {
        let asking = asking(id, around).await?;
        let out = {
            let asked_for = self.asked_for.lock().await;
            if let Some(replica) = asking.first() {
                return Err(used_by(id, replica));
            }
            let orphan = self.named(id, asked_for.as_ref())?;
            rests(id, agent).await?;
            self.storage.take_out(id).map(|out| (orphan, out))?
        };
        let (orphan, out) = out;
        let storage = self.storage.clone();
        let gone = tokio::task::spawn_blocking(move || {
            let (files, bytes) = storage.count_below(&out);
            storage.delete(&out).map(|()| (files, bytes))
        });
        let (files, bytes) = gone.await.map_err(|why| format!("deleting {id} ended early: {why}"))??;
        let gone = listed(orphan, files, bytes);
        info!(volume = id, owner = %whose(gone.owner.as_ref()), files, bytes, "an orphan was deleted, as an administrator ordered");
        Ok(gone)
    }

    /// Gives an orphan to another volume, as an administrator orders. It keeps its files.
    ///
    /// # Errors
    /// Its own volume asks for it or it is used, or it can't be known whether it is; or that can't be written.
    pub async fn hand_over(&self, order: &HandOver, around: &Surroundings, agent: &Loop) -> Result<Listed, String> {
        let id = order.volume_id.as_str();
        let asking = asking(id, around).await?;
        let _asked_for = self.asked_for.lock().await;
        let orphan = self.named(id, Some(&AskedFor::new()))?;
        let is_owner = |replica: &&SyncReplica| {
            orphan.owner.as_ref().is_some_and(|owner| owner.namespace_uid == replica.spec.namespace_uid)
        };
        if let Some(owner) = asking.iter().find(is_owner) {
            return Err(used_by(id, owner));
        }
        rests(id, agent).await?;
        self.storage.hand_over(id, around.mesh.as_str(), &order.owner)?;
        let (before, after) = (whose(orphan.owner.as_ref()), whose(Some(&order.owner)));
        info!(volume = id, %before, %after, "an orphan has another owner, as an administrator ordered");
        let (files, bytes) = (0, 0);
        Ok(Listed { volume_id: id.to_owned(), owner: Some(order.owner.clone()), files, bytes })
    }

    /// Only what is listed can be named, so that no path comes from outside.
    fn named(&self, id: &str, asked_for: Option<&AskedFor>) -> Result<Orphan, String> {
        let mut orphans = self.all(asked_for)?.into_iter();
        orphans.find(|orphan| orphan.volume_id == id).ok_or_else(|| {
            format!("there is no orphan {id} here: `syncmesh-agent orphans list` names those that there are")
        })
    }

    /// Those that nobody asks for, or only somebody whose they aren't.
    fn all(&self, asked_for: Option<&AskedFor>) -> Result<Vec<Orphan>, String> {
        let asked_for = asked_for.ok_or("this agent doesn't know yet what is asked for: ask again in a moment")?;
        let is_own =
            |(id, uid): &(&String, &String)| self.storage.owner(id).is_none_or(|owner| owner.namespace_uid == **uid);
        let own: BTreeSet<String> = asked_for.iter().filter(is_own).map(|(id, _)| id.clone()).collect();
        self.storage.orphans(&own)
    }

    async fn counted(&self, orphans: Vec<Orphan>) -> Vec<(Orphan, u64, u64)> {
        let storage = self.storage.clone();
        let count = move |orphan: Orphan| {
            let (files, bytes) = storage.count(&orphan.volume_id);
            (orphan, files, bytes)
        };
        // Not on this thread: there may be millions of files.
        let counted = tokio::task::spawn_blocking(|| orphans.into_iter().map(count).collect());
        counted.await.unwrap_or_default()
    }

    fn last(&self) -> MutexGuard<'_, Vec<(Orphan, u64, u64)>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Replicas of this node, of whatever mesh, that ask for a directory, by what the API server says now. What a watch told may be old.
async fn asking(id: &str, around: &Surroundings) -> Result<Vec<SyncReplica>, String> {
    let listed = async {
        let client = Client::try_default().await.map_err(|why| why.to_string())?;
        let own = ListParams::default().fields(&format!("spec.node={}", around.node));
        Api::<SyncReplica>::all(client).list(&own).await.map_err(|why| why.to_string())
    };
    let answer = timeout(ANSWER, listed).await.unwrap_or_else(|_| Err("no answer".into()));
    let all = answer.map_err(|why| {
        format!("the API server has to say first that nobody asks for {id}, and can't be asked: {why}")
    })?;
    Ok(all.items.into_iter().filter(|replica| replica.spec.volume_id == id).collect())
}

/// The engine has let go of it.
async fn rests(id: &str, agent: &Loop) -> Result<(), String> {
    let (node, _) = agent.status_within(ANSWER).await.map_err(|why| why.to_string())?;
    if node.volumes.iter().any(|volume| volume.name == id) {
        return Err(format!("{id} runs still: ask again in a moment"));
    }
    Ok(())
}

fn used_by(id: &str, replica: &SyncReplica) -> String {
    let namespace = replica.namespace().unwrap_or_default();
    format!("{id} is no orphan: volume {namespace}/{} has it; delete that first", replica.spec.volume)
}

fn listed(orphan: Orphan, files: u64, bytes: u64) -> Listed {
    Listed { volume_id: orphan.volume_id, owner: orphan.owner, files, bytes }
}

fn whose(owner: Option<&Owner>) -> String {
    owner.map_or_else(|| "nobody".into(), |owner| format!("{}/{}", owner.namespace, owner.volume))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::status::tests::replica;
    use crate::kubernetes::surroundings::Places;
    use std::fs;

    fn orphans() -> (tempfile::TempDir, Orphans) {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(Places { root: dir.path().join("root"), ..Places::default() }).unwrap();
        storage.prepare("web", &replica(&["a"]).spec, false).unwrap();
        fs::write(storage.places().volume("id").join("data/f"), "12345").unwrap();
        (dir, Orphans::of(storage))
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn nothing_is_an_orphan_before_it_is_known_what_is_asked_for() {
        let (_dir, orphans) = orphans();
        run(async {
            orphans.look().await;
            assert_eq!(orphans.found(), []);
            assert!(orphans.list().await.unwrap_err().contains("yet"));
            assert!(orphans.named("id", None).unwrap_err().contains("yet"));
            orphans.beside(&[replica(&["a"])], || ()).await;
            assert_eq!(orphans.list().await, Ok(vec![]));
            orphans.beside(&[], || ()).await;
            let listed = orphans.list().await.unwrap();
            assert_eq!((listed[0].volume_id.as_str(), listed[0].files, listed[0].bytes), ("id", 1, 5));
            orphans.look().await;
            assert_eq!(orphans.found().len(), 1);
        });
    }

    #[test]
    fn only_what_is_listed_can_be_named() {
        let (_dir, orphans) = orphans();
        for name in ["..", "../state", "id/data", ".removed-id", "", "/etc"] {
            assert!(orphans.named(name, Some(&AskedFor::new())).is_err(), "{name}");
        }
        let owner = orphans.named("id", Some(&AskedFor::new())).unwrap().owner.unwrap();
        let asked_by = |uid: &str| AskedFor::from([("id".to_owned(), uid.to_owned())]);
        assert!(orphans.named("id", Some(&asked_by("another"))).is_ok(), "it isn't its own");
        assert!(orphans.named("id", Some(&asked_by(&owner.namespace_uid))).is_err());
    }
}
