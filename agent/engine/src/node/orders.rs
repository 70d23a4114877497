//! What people order: volumes to pause, to go on, to look at everything again; a node to be forgotten.

use super::Node;
use crate::connection::{Lane, Phase};
use crate::forget::{Forget, Forgotten, Mentioned};
use crate::job::Job;
use crate::journal::Record;
use crate::verify::Verified;
use crate::volume::Reading;
use crossbeam_channel::Sender;
use std::collections::BTreeSet;
use std::sync::Arc;
use syncmesh_core::path::RelativePath;
use syncmesh_core::version::ReplicaId;
use syncmesh_io::Io;
use syncmesh_protocol::message::Message;

/// What the status says of a file whose contents changed by themselves.
const ROTTEN: &str = "its contents changed while its size and times didn't, as on a disk that fails: this is announced to nobody. Compare it with another node's, and write it anew";

impl<I: Io> Node<I> {
    /// Volumes stop to look, to announce, to apply and to fetch, until [`Node::resume`], also after a restart. Their names.
    pub fn pause(&mut self, name: Option<&str>) -> Result<Vec<String>, String> {
        let meant = self.volumes_named(name)?;
        for (number, _) in &meant {
            self.set_paused(*number, true);
        }
        Ok(meant.into_iter().map(|(_, name)| name).collect())
    }

    /// Paused volumes go on. Their names; an error if their configuration says otherwise.
    pub fn resume(&mut self, name: Option<&str>) -> Result<Vec<String>, String> {
        let meant = self.volumes_named(name)?;
        let configured = |number: &u16| self.volumes.get(number).is_some_and(|volume| volume.settings.get().paused);
        let fixed: Vec<&str> =
            meant.iter().filter(|(number, _)| configured(number)).map(|(_, name)| name.as_str()).collect();
        if !fixed.is_empty() {
            return Err(format!(
                "{} can't go on: `paused: true` stands in the configuration; take it out",
                fixed.join(", ")
            ));
        }
        for (number, _) in &meant {
            self.set_paused(*number, false);
        }
        Ok(meant.into_iter().map(|(_, name)| name).collect())
    }

    /// Journalled, so that neither a kill nor a restart forgets it, and told to the peers.
    fn set_paused(&mut self, number: u16, paused: bool) {
        let Some(volume) = self.volumes.get_mut(&number).filter(|volume| volume.state.paused != paused) else { return };
        volume.state.paused = paused;
        self.record(&Record::Paused(number, paused));
        self.stands_or_goes_on(number);
    }

    /// Somebody said whether a volume stands still: it ends what it fetches, and peers are told.
    pub(super) fn stands_or_goes_on(&mut self, number: u16) {
        let now = self.io.now();
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        volume.retry.at(now);
        let is_paused = volume.is_paused();
        tracing::info!(volume = %volume.name, "{}", if is_paused { "paused" } else { "goes on" });
        if is_paused {
            let fetches = self.fetches.iter().filter(|(_, fetch)| fetch.volume == number);
            let under_way: Vec<u64> = fetches.map(|(id, _)| *id).collect();
            under_way.into_iter().for_each(|id| self.end_fetch(id));
        }
        for connection in self.connections.values_mut().filter(|connection| connection.phase == Phase::Ready) {
            if connection.links.contains_key(&number) {
                connection.send(Lane::Control, number, &Message::Paused(is_paused));
            }
        }
    }

    /// Everything is listed again; with `contents` files are read, too, whose stat is as it was. The volumes' names.
    pub fn rescan(&mut self, name: Option<&str>, contents: bool) -> Result<Vec<String>, String> {
        let now = self.io.now();
        let meant = self.volumes_named(name)?;
        for (number, _) in &meant {
            let Some(volume) = self.volumes.get_mut(number) else { continue };
            volume.dirty.mark_all(&RelativePath::root(), true, now);
            if contents {
                volume.problems.retain(|_, problem| problem != ROTTEN);
                volume.reading = Reading::Next(None);
            }
        }
        Ok(meant.into_iter().map(|(_, name)| name).collect())
    }

    /// Some files were read again.
    pub(super) fn verified(&mut self, verified: Verified) {
        let Some(volume) = self.volumes.get_mut(&verified.volume) else { return };
        for path in verified.rotten {
            tracing::error!(volume = %volume.name, %path, "{ROTTEN}");
            volume.problem(path, ROTTEN.into());
        }
        // Ordered anew meanwhile, it begins anew.
        if volume.reading == Reading::Running {
            volume.reading = match verified.next {
                Some(after) => Reading::Next(Some(after)),
                None => Reading::Not,
            };
        }
    }

    /// A node that is no member any more is forgotten: a job looks for what mentions its replicas.
    pub fn forget(&mut self, node: String, reply: Sender<Result<Forgotten, String>>) {
        let refuse = |why: String| drop(reply.try_send(Err(why)));
        if node == self.node {
            return refuse(format!("{node} is this node itself: to leave the mesh see \"How to leave\" in the README"));
        }
        if self.peers.contains_key(&node) {
            return refuse(format!(
                "{node} is among `peers` in this node's configuration: take it out there, then forget it"
            ));
        }
        let of_node = self.replicas.iter().filter(|(_, name)| **name == node);
        let replicas: BTreeSet<ReplicaId> = of_node.map(|(replica, _)| *replica).collect();
        if replicas.is_empty() {
            return refuse(format!("no node {node} is known here: there is nothing to forget"));
        }
        let unconfigured = self.unconfigured.values().map(|state| state.number);
        let volumes = self.volumes.keys().copied().chain(unconfigured).collect();
        self.jobs_running += 1;
        self.jobs.push(Job::Forget(Forget { node, replicas, volumes, reply }));
    }

    /// What mentions a node's replicas is known: the others are dropped.
    pub(super) fn mentioned(&mut self, mentioned: Mentioned) {
        let Mentioned { forget: Forget { node, replicas, reply, .. }, used, paths } = mentioned;
        let dropped: Vec<ReplicaId> = replicas.difference(&used).copied().collect();
        let kept = Arc::make_mut(&mut self.replicas);
        dropped.iter().for_each(|replica| _ = kept.remove(replica));
        self.forgotten.insert(node.clone());
        self.record(&Record::Forgotten(node.clone(), dropped.clone()));
        tracing::info!(%node, dropped = dropped.len(), kept = used.len(), "a node was forgotten");
        let (dropped, kept) = (dropped.len() as u64, used.len() as u64);
        drop(reply.try_send(Ok(Forgotten { node, dropped, kept, paths })));
    }
}
