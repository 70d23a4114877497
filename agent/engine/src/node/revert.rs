//! What a scan finds where only another node may write (SingleWriter): it is taken back, and told.

use super::Node;
use crate::fetch::wanted_file;
use crate::limits::FETCH_QUEUE;
use crate::publish::{Errand, Item};
use crate::record::version;
use crate::registry::Key;
use crate::revert::{Answer, answer};
use crate::scan::{Finding, What};
use crate::settings::Role;
use crate::stage::Source;
use crate::suspect::is_suspect;
use crate::volume::{FetchWanted, Volume};
use std::collections::VecDeque;
use syncmesh_core::clock::Hlc;
use syncmesh_core::entry::{Body, ContentHash, Stamp};
use syncmesh_core::version::Dot;
use syncmesh_io::Io;

/// What was taken back within so many milliseconds is told once in the log.
const BURST_MILLIS: u64 = 60_000;

/// For how long no member may have had what is to be put back, until it is given up, in nanoseconds. Contents that are just being
/// replaced are nowhere for a moment, too.
const NOWHERE: u64 = 60_000_000_000;

/// … and until what was written in its place stays: only where nobody has anything older.
const NOTHING_OLDER: u64 = 2 * NOWHERE;

/// Paths of which that is remembered.
const NOWHERE_PATHS: usize = 1_024;

/// How long a directory waits that has something in it, in nanoseconds.
const AGAIN: u64 = 1_000_000_000;

impl<I: Io> Node<I> {
    /// Takes a finding back if this node may not write. False if it is to be recorded.
    pub(super) fn takes_back(&mut self, key: &Key, finding: &Finding) -> bool {
        let (now, wall, replica) = (self.io.now(), self.wall_millis(), self.replica);
        let Some(volume) = self.volumes.get_mut(&key.volume) else { return false };
        if volume.settings.get().role != Role::Reader || volume.meets {
            return false;
        }
        let path = key.path();
        let awaited = finding.row.as_ref().filter(|row| is_suspect(row)).and_then(wanted_file);
        let is_awaited = |hash: &ContentHash| awaited.is_some_and(|(awaited, ..)| awaited == *hash);
        if volume.nowhere.get(key).is_some_and(|(hash, _)| !is_awaited(hash)) {
            volume.nowhere.remove(key);
        }
        let is_content = matches!(finding.what, What::Content { .. });
        if is_content && volume.nowhere.get(key).is_some_and(|(_, since)| now >= since + NOTHING_OLDER) {
            tracing::warn!(volume = %volume.name, %path, "written where only another node may write, over contents that no member has any more: it is a version");
            volume.nowhere.remove(key);
            return false;
        }
        let item = |entry, errand| Item { name: key.name.clone(), entry, source: Source::None, stream: None, errand };
        let waiting = volume.incoming.get(&key.directory).map_or(0, VecDeque::len);
        match answer(finding, volume.beside) {
            Answer::Record => return false,
            Answer::Waits => return true,
            Answer::TakeAway if waiting >= FETCH_QUEUE => {
                // It is found again.
                volume.dirty.mark(&key.directory, key.name.clone(), now, AGAIN);
                return true;
            }
            Answer::Restore(next) => {
                let wanted = next.wanted.as_ref().and_then(|wanted| wanted.entries.first()).cloned();
                match wanted {
                    Some(entry) if waiting < FETCH_QUEUE => {
                        volume.queue(key.directory.clone(), item(entry, Errand::Again));
                    }
                    // More stay in the registry until they are swept up.
                    _ => volume.retry.later(now),
                }
                volume.count(key, finding.row.as_ref(), &next);
                self.keep(key.clone(), next);
            }
            Answer::TakeAway => {
                // It never becomes a row.
                let stamp = Stamp { hlc: Hlc::default(), dot: Dot { replica, counter: 0 } };
                let nothing = version(None, Body::tombstone(None), 0, None, stamp);
                volume.queue(key.directory.clone(), item(nothing, Errand::Revert));
                if matches!(finding.what, What::Content { body: Body::Directory, .. }) {
                    volume.dirty.mark_all(&path, true, now);
                }
            }
        }
        let Some(volume) = self.volumes.get_mut(&key.volume) else { return true };
        let reverted = &mut volume.reverted;
        if reverted.count == 0 || wall >= reverted.at_millis + BURST_MILLIS {
            tracing::warn!(
                volume = %volume.name,
                %path,
                "written here, where only another node may write: it is taken back and kept, see `versions`. More of the same are only counted"
            );
        }
        reverted.count += 1;
        (reverted.last, reverted.at_millis) = (Some(path), wall);
        true
    }

    /// No member has what is wanted. After a while what was there before stays, or what a user has put in its place.
    pub(super) fn cant_be_put_back(&mut self, wanted: &FetchWanted) {
        let (now, key) = (self.io.now(), &wanted.key);
        // Who stands still may have it, or something over it, that nobody has looked at yet.
        let mut links = self.connections.values().filter_map(|connection| connection.links.get(&key.volume));
        if links.any(|link| link.paused_there) {
            return;
        }
        let row = self.registry.get(key).ok().flatten().filter(|row| row.live().is_some() || is_suspect(row));
        let Some(volume) = self.volumes.get_mut(&key.volume) else { return };
        let (Some(row), Role::Reader) = (row, volume.settings.get().role) else { return };
        if volume.nowhere.len() >= NOWHERE_PATHS {
            volume.nowhere.retain(|_, (_, since)| now < *since + 2 * NOTHING_OLDER);
        }
        match volume.nowhere.get(key) {
            Some((hash, since)) if *hash == wanted.hash && now < since + NOWHERE => {}
            // It is looked at again, and then it is no more to be taken back.
            Some((hash, _)) if *hash == wanted.hash && is_suspect(&row) => {
                volume.dirty.mark(&key.directory, key.name.clone(), now, 0);
            }
            Some((hash, _)) if *hash == wanted.hash => {
                volume.nowhere.remove(key);
                self.declare_lost(key.volume, key);
            }
            None if volume.nowhere.len() >= NOWHERE_PATHS => {}
            Some(_) | None => _ = volume.nowhere.insert(key.clone(), (wanted.hash, now)),
        }
    }

    /// What came of taking something away. A directory that still has something in it is tried again.
    pub(super) fn taken_away(&mut self, key: &Key, waits: bool) {
        let now = self.io.now();
        let Some(volume) = self.volumes.get_mut(&key.volume) else { return };
        if waits {
            volume.dirty.mark_all(&key.path(), true, now);
            volume.dirty.mark(&key.directory, key.name.clone(), now, AGAIN);
        } else if let Some((parent, name)) = key.directory.split() {
            // It may have been the last thing in a directory that has to go.
            volume.dirty.mark(&parent, name, now, 0);
        }
    }

    /// Once nothing is left to be looked at, what is found from then on was written by who couldn't believe that he might.
    pub(super) fn tend_roles(&mut self) {
        for volume in self.volumes.values_mut().filter(|volume| volume.beside) {
            if volume.settings.get().role == Role::Reader && volume.is_settled() && !self.io.has_events(volume.watcher)
            {
                volume.beside = false;
            }
        }
    }
}

impl Volume {
    /// Does what is taken back become conflict copies? Not where power loss may have torn it.
    pub(super) fn keeps_beside(&self) -> bool {
        self.beside && self.state.suspicion.is_none()
    }
}
