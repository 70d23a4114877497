//! Certificates that count no more: who shows one is cut off at once, and everybody hears of it.

use super::Node;
use crate::connection::{Connection, Lane, Phase};
use crate::limits::HANDSHAKE;
use crate::revoked::Revoked;
use syncmesh_io::Io;
use syncmesh_protocol::message::{Farewell, Message};

/// What became of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in force from now on.
    Now,
    /// It was already.
    Before,
}

impl<I: Io> Node<I> {
    /// Takes a revocation list in, from a file or from a peer. It has to be newer than the one that is kept, and signed by an authority
    /// that is trusted. Else nothing changes.
    ///
    /// # Errors
    /// Why it isn't taken, and what to do.
    pub fn revoke(&mut self, text: &str) -> Result<Taken, String> {
        let list = Revoked::read(text).map_err(|why| why.to_string())?;
        if let Some(kept) = &self.revoked {
            if kept.text() == list.text() {
                return Ok(Taken::Before);
            }
            // One of an authority that is gone stands in nobody's way.
            if list.number() <= kept.number() && self.has_authority(kept).is_ok() {
                let (old, new) = (list.number(), kept.number());
                return Err(format!("its number {old} isn't above {new}, that of the list which is in force"));
            }
        }
        self.has_authority(&list)?;
        tracing::info!(number = list.number(), nodes = list.nodes().len(), "another revocation list is in force");
        self.revoked = Some(list);
        // The registry keeps it.
        self.epoch.used = true;
        self.cut_off_revoked();
        let Some(list) = &self.revoked else { return Ok(Taken::Now) };
        for connection in self.connections.values_mut().filter(|connection| connection.phase == Phase::Ready) {
            connection.send(Lane::Control, 0, &Message::Revoked(list.text()));
        }
        Ok(Taken::Now)
    }

    fn has_authority(&self, list: &Revoked) -> Result<(), String> {
        let (signed, signature) = list.signed();
        self.sessions.has_signed(list.authority(), signed, signature)
    }

    /// The list that a peer keeps.
    pub(super) fn revoked_message(&mut self, id: u64, text: &str) {
        if self.revoked.as_ref().is_some_and(|kept| kept.text() == text) {
            return;
        }
        let peer = self.connections.get(&id).and_then(|connection| connection.peer.clone()).unwrap_or_default();
        let number = Revoked::read(text).ok().map(|list| list.number());
        let is_old = number.zip(self.revoked.as_ref()).is_some_and(|(number, kept)| number <= kept.number());
        match self.revoke(text) {
            Ok(_) => {}
            // It was told the newer one when the session began.
            Err(why) if is_old => tracing::debug!(%peer, %why, "a peer keeps an older revocation list"),
            Err(why) => tracing::warn!(%peer, %why, "a peer's revocation list isn't taken over"),
        }
    }

    /// Has the other side of a connection proven itself by a certificate that counts no more?
    pub(super) fn shows_revoked(&self, connection: &Connection) -> bool {
        let (list, session) = (self.revoked.as_ref(), &connection.session);
        let shown = session.peer().zip(session.valid_from());
        list.zip(shown).is_some_and(|(list, (node, valid_from))| list.revokes(node, valid_from))
    }

    fn cut_off_revoked(&mut self) {
        let live = self.connections.iter().filter(|(_, connection)| connection.phase == Phase::Ready);
        let revoked: Vec<u64> =
            live.filter(|(_, connection)| self.shows_revoked(connection)).map(|(id, _)| *id).collect();
        for id in revoked {
            self.cut_off(id);
        }
    }

    /// Nothing more is taken from a connection, and nothing said but why: who is what the certificate says gets another one by that.
    pub(super) fn cut_off(&mut self, id: u64) {
        let deadline = self.io.now() + HANDSHAKE.as_nanos() as u64;
        let (Some(connection), Some(list)) = (self.connections.get_mut(&id), &self.revoked) else { return };
        let node = connection.session.peer().unwrap_or_default().to_owned();
        let from = connection.address.map(|address| address.to_string()).unwrap_or_default();
        tracing::warn!(peer = %node, %from, "its certificate is revoked: the session ends");
        connection.leave([Message::Revoked(list.text()), Message::Goodbye(Farewell::Revoked)], deadline);
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.last_error = Some(Farewell::Revoked.reason_here().to_owned());
        }
    }

    /// The list that is in force.
    pub fn revoked(&self) -> Option<&Revoked> {
        self.revoked.as_ref()
    }

    /// Certificates of this node that begin before this moment, in seconds since 1970, count no more, if there is one.
    pub(super) fn own_revocation(&self) -> Option<u64> {
        self.revoked.as_ref().and_then(|list| list.nodes().get(&self.node).copied())
    }
}
