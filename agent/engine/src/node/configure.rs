//! Another configuration, as far as it can be taken over by a running engine.

use super::{LeftOut, Node, Peer, PeerState};
use crate::connection::{Connection, Lane, Phase};
use crate::pace::Pace;
use crate::settings::{Members, Role, Settings, Tuning};
use crate::volume::Volume;
use std::collections::{BTreeMap, BTreeSet};
use syncmesh_core::path::RelativePath;
use syncmesh_io::Io;
use syncmesh_protocol::message::{Farewell, Message};

impl<I: Io> Node<I> {
    /// Goes on with other members and settings.
    pub fn configure(&mut self, tuning: Tuning) {
        self.connection_limit = tuning.connections;
        self.max_clock_skew_millis = tuning.max_clock_skew_millis;
        self.set_members(tuning.peers.into_iter().collect());
        self.left_out.retain(|left| tuning.volumes.contains_key(&left.name));
        for (name, (settings, members)) in tuning.volumes {
            let found = self.volumes.values().find(|volume| volume.name == name).map(|volume| volume.number);
            if let Some(number) = found {
                self.set_settings(number, settings);
                self.set_keepers(number, members);
            }
        }
    }

    /// Does the registry know a volume of this name, whether or not it is open?
    pub fn knows(&self, volume: &str) -> bool {
        self.unconfigured.contains_key(volume) || self.volumes.values().any(|known| known.name == volume)
    }

    /// The first of the numbers that no volume ever had.
    pub fn free_number(&self) -> u16 {
        let open = self.volumes.keys().copied();
        open.chain(self.unconfigured.values().map(|state| state.number)).max().map_or(1, |number| number + 1)
    }

    /// Goes on with one volume more. The next sessions name it.
    pub fn admit(&mut self, volume: Volume) {
        let number = volume.number;
        let none = Members::Only(BTreeSet::new());
        let members = std::mem::replace(&mut self.volumes.entry(number).or_insert(volume).members, none);
        self.begin_volume(number);
        self.obey_rights();
        self.set_keepers(number, members);
    }

    /// Another volume that came with it couldn't be opened: what the registry knows of this one stays there.
    pub fn lay_aside(&mut self, volume: Volume) {
        self.unconfigured.insert(volume.name, volume.state);
    }

    /// Other peers keep a volume from now on. With each of them a new session names it, or doesn't any more.
    fn set_keepers(&mut self, number: u16, members: Members) {
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        let before = std::mem::replace(&mut volume.members, members);
        let now = &volume.members;
        let is_other = |peer: &str| before.has(peer) != now.has(peer);
        let is_concerned = |connection: &Connection| {
            connection.phase == Phase::Ready && connection.peer.as_deref().is_some_and(is_other)
        };
        let concerned = self.connections.iter().filter(|(_, connection)| is_concerned(connection));
        let concerned: Vec<u64> = concerned.map(|(id, _)| *id).collect();
        concerned.into_iter().for_each(|id| self.farewell(id, Farewell::Members));
    }

    /// The status warns of a configuration that can't be used.
    pub fn misconfigured(&mut self, why: Option<String>) {
        self.misconfigured = why;
    }

    /// The status names a volume that couldn't be opened, until a configuration doesn't.
    pub fn unopened(&mut self, volume: LeftOut) {
        tracing::error!(volume = %volume.name, why = %volume.why, "a volume can't be opened and is left out");
        self.left_out.push(volume);
    }

    /// Who isn't a member any more is told so. What it made stays known: see `peers forget`.
    fn set_members(&mut self, members: BTreeMap<String, Option<String>>) {
        let now = self.io.now();
        let gone: Vec<String> = self.peers.keys().filter(|name| !members.contains_key(*name)).cloned().collect();
        for name in gone {
            tracing::info!(peer = %name, "it is no member any more");
            let is_its = |connection: &Connection| connection.peer.as_deref() == Some(&name);
            let sessions = self.connections.iter().filter(|(_, connection)| is_its(connection));
            let sessions: Vec<u64> = sessions.map(|(id, _)| *id).collect();
            sessions.into_iter().for_each(|id| self.farewell(id, Farewell::NotAMember));
            self.peers.remove(&name);
        }
        for (name, address) in members {
            self.forgotten.remove(&name);
            match self.peers.get_mut(&name) {
                Some(peer) if peer.address == address => {}
                Some(peer) => {
                    tracing::info!(peer = %name, address = address.as_deref().unwrap_or("none"), "its address has changed");
                    (peer.address, peer.resolved) = (address, None);
                    if matches!(peer.state, PeerState::Waiting(_)) {
                        peer.state = PeerState::Waiting(now);
                    }
                }
                None => {
                    tracing::info!(peer = %name, "a new member");
                    let peer = Peer::new(address, &self.node, &name, now);
                    self.peers.insert(name, peer);
                }
            }
        }
    }

    pub(super) fn set_settings(&mut self, number: u16, settings: Settings) {
        let settings = Settings { role: self.role(number, &settings), ..settings };
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        let (was_paused, before) = (volume.is_paused(), volume.settings.get());
        volume.settings.set(settings);
        if settings.send_limit != before.send_limit {
            // What was sent under the old limit may have taken long.
            volume.pace = Pace::default();
        }
        if settings.role != before.role {
            tracing::info!(volume = %volume.name, role = ?settings.role, "another right to write");
            // What was written before, and that nobody has looked at yet, was written by who could believe that he might.
            volume.beside = true;
            if settings.role == Role::Writer && volume.state.counts.suspects > 0 {
                // What was to be taken back and is still here is what the writer has. Nobody else may have what it was written over.
                volume.dirty.mark_all(&RelativePath::root(), true, self.io.now());
            }
        }
        volume.guard.limits = settings.guard;
        if volume.is_paused() != was_paused {
            self.stands_or_goes_on(number);
        }
        if settings.filling != before.filling {
            for connection in self.connections.values_mut().filter(|connection| connection.phase == Phase::Ready) {
                if connection.links.contains_key(&number) {
                    connection.send(Lane::Control, number, &Message::Filling(settings.filling));
                }
            }
        }
    }
}
