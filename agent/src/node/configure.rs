//! Another configuration, as far as it can be taken over by a running engine.

use super::{Node, Peer, PeerState};
use crate::connection::Connection;
use crate::settings::{Settings, Tuning};
use std::collections::BTreeMap;
use syncmesh_io::Io;
use syncmesh_protocol::message::Farewell;

impl<I: Io> Node<I> {
    /// Goes on with other members and settings.
    pub fn configure(&mut self, tuning: Tuning) {
        self.connection_limit = tuning.connections;
        self.max_clock_skew_millis = tuning.max_clock_skew_millis;
        self.set_members(tuning.peers.into_iter().collect());
        for (name, settings) in tuning.volumes {
            let found = self.volumes.values().find(|volume| volume.name == name).map(|volume| volume.number);
            if let Some(number) = found {
                self.set_settings(number, settings);
            }
        }
    }

    /// The status warns of a configuration that can't be used.
    pub fn misconfigured(&mut self, why: Option<String>) {
        self.misconfigured = why;
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

    fn set_settings(&mut self, number: u16, settings: Settings) {
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        let was_paused = volume.is_paused();
        volume.settings.set(settings);
        volume.guard.limits = settings.guard;
        if volume.is_paused() != was_paused {
            self.stands_or_goes_on(number);
        }
    }
}
