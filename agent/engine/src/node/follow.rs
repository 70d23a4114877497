//! An edit that didn't know of a rename follows it: first it becomes a version at the new name, then the old name goes.

use super::holds::stamp;
use super::{Node, Peer};
use crate::connection::{Connection, Phase};
use crate::follow::{Heard, Next, next};
use crate::job::Job;
use crate::limits::FETCH_QUEUE;
use crate::publish::{Errand, Item};
use crate::record::version;
use crate::registry::Key;
use crate::stage::Source;
use crate::volume::{FetchWanted, Volume};
use std::collections::BTreeMap;
use syncmesh_core::decide::joined;
use syncmesh_core::entry::{Attributes, Body, Entry, MovedTo, Row, Stamp};
use syncmesh_core::path::RelativePath;
use syncmesh_io::Io;

impl<I: Io> Node<I> {
    /// Takes the next step of the edit at a path, if it isn't under way.
    pub(super) fn follow(&mut self, key: &Key) {
        let Some((row, next)) = self.next_step(key) else { return };
        let Some(edit) = row.live().map(|here| here.entry.content.clone()) else { return };
        let copying = self.reuses.values().any(|wanted| wanted.from.as_ref() == Some(key));
        let Some(volume) = self.volumes.get_mut(&key.volume) else { return };
        let queued = |at: &Key| {
            volume.incoming.get(&at.directory).is_some_and(|items| items.iter().any(|item| item.name == at.name))
        };
        let copying = copying || volume.fetch_queue.iter().any(|wanted| wanted.from.as_ref() == Some(key));
        match next {
            Next::Copy { to, over, attributes } if !copying && !queued(&to) => {
                match FetchWanted::of_content(&to, &edit) {
                    // What the queue has no room for is tried again with all that is wanted.
                    Some(_) if volume.fetch_queue.len() >= FETCH_QUEUE => {}
                    Some(wanted) => volume.fetch_queue.push_back(FetchWanted { from: Some(key.clone()), ..wanted }),
                    // A link has no contents that must be copied first.
                    None => self.move_edit(key, to, &row, (&over, attributes), Source::None),
                }
            }
            Next::Leave { to } if !queued(key) => self.leave(key, &row, to),
            Next::Wait | Next::Copy { .. } | Next::Leave { .. } => {}
        }
    }

    /// The contents of an edit were copied for its new name.
    pub(super) fn edit_copied(&mut self, from: &Key, copied: &FetchWanted, slot: u64) {
        match self.next_step(from) {
            Some((row, Next::Copy { to, over, attributes }))
                if row.live().is_some_and(|here| here.entry.content.body.hash() == Some(copied.hash)) =>
            {
                self.move_edit(from, to, &row, (&over, attributes), Source::Slot(slot));
            }
            _ => self.start(Job::DropSlot(copied.key.volume, slot)),
        }
    }

    fn next_step(&mut self, key: &Key) -> Option<(Row, Next)> {
        let found = self.registry.get(key).and_then(|row| {
            let Some(row) = row else { return Ok(None) };
            let Some(known) = row.wanted.as_ref().and_then(|wanted| wanted.entries.first()) else { return Ok(None) };
            let is_ours = |replica| self.replicas.get(&replica) == Some(&self.node);
            let next = next(&self.registry, key, &row, known, is_ours, Heard::NotAll)?;
            Ok(next.map(|next| (row, next)))
        });
        found.unwrap_or_else(|error| {
            self.fail(error.to_string());
            None
        })
    }

    /// The edit becomes a version at its new name, over what is known of that, with the given mode and owner.
    fn move_edit(&mut self, from: &Key, to: Key, row: &Row, (over, given): (&Entry, Attributes), source: Source) {
        let (wall, replica) = (self.wall_millis(), self.replica);
        let Some(volume) = self.volumes.get_mut(&from.volume) else { return };
        let Some(edit) = row.live().map(|here| &here.entry) else { return };
        let mut body = edit.content.body.clone();
        if let Body::File { moved_from, .. } = &mut body {
            *moved_from = Some(from.path());
        }
        let above = over.newest().hlc.max(edit.newest().hlc);
        let stamp = Stamp { hlc: self.clock.stamp(wall, Some(above)), dot: volume.next_dot(replica) };
        let entry = version(Some(over), body, given.mode, given.owner, stamp);
        self.counters.versions_made += 1;
        tracing::info!(volume = %volume.name, from = %from.path(), to = %to.path(), "an edit follows a rename");
        let item = Item { name: to.name, entry, source, stream: None, errand: Errand::Follow };
        volume.queue(to.directory, item);
    }

    /// The edit has its new name: the old one is deleted over all that is known of it. No user deletes anything, so no guard asks.
    fn leave(&mut self, key: &Key, row: &Row, to: RelativePath) {
        let (wall, replica) = (self.wall_millis(), self.replica);
        let Some(volume) = self.volumes.get_mut(&key.volume) else { return };
        let (Some(edit), Some(over)) = (row.live(), joined(row.entries())) else { return };
        let (edit, attributes) = (&edit.entry.content, edit.entry.attributes.stamp.dot);
        let moved_to = Some(MovedTo { path: to, version: edit.stamp.dot, attributes });
        let body = Body::Tombstone { deleted: edit.body.recognised_by(), moved_to, approved_by: None };
        let stamp = stamp(volume, &mut self.clock, wall, replica, &over);
        let entry = version(Some(&over), body, over.attributes.mode, over.attributes.owner, stamp);
        self.counters.versions_made += 1;
        let errand = Errand::FewDeletions;
        let item = Item { name: key.name.clone(), entry, source: Source::None, stream: None, errand };
        volume.queue(key.directory.clone(), item);
    }

    /// A version that followed is at its new name.
    pub(super) fn edit_moved(&mut self, key: &Key, row: Option<&Row>) {
        let here = row.and_then(Row::live).map(|here| &here.entry.content.body);
        match here {
            Some(Body::File { moved_from: Some(from), .. }) => {
                if let Some(from) = Key::of(key.volume, from) {
                    self.follow(&from);
                }
            }
            Some(Body::Symlink { .. }) => {
                let now = self.io.now();
                if let Some(volume) = self.volumes.get_mut(&key.volume) {
                    volume.retry.at(now);
                }
            }
            Some(_) | None => {}
        }
    }
}

/// Have the connected members told all that they had of a volume? Without any member there is nobody to tell.
pub(super) fn heard(connections: &BTreeMap<u64, Connection>, peers: &BTreeMap<String, Peer>, volume: &Volume) -> Heard {
    let keeps_it = |connection: &&Connection| connection.peer.as_deref().is_some_and(|name| volume.members.has(name));
    let ready = connections.values().filter(|connection| connection.phase == Phase::Ready);
    let mut ready = ready.filter(keeps_it).peekable();
    let anybody = ready.peek().is_some() || !peers.keys().any(|name| volume.members.has(name));
    let number = volume.number;
    let has_told = |connection: &Connection| connection.links.get(&number).is_some_and(|link| link.incoming.has_told);
    if anybody && ready.all(has_told) { Heard::All } else { Heard::NotAll }
}
