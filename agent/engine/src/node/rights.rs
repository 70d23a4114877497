//! Rights to write that run out unless they are renewed. The loop counts them down itself: whatever else hangs, it turns.

use super::Node;
use crate::settings::{Rights, Role, Settings};
use syncmesh_io::Io;

impl<I: Io> Node<I> {
    /// These rights count from now on, and no others.
    pub fn renew_rights(&mut self, rights: Rights) {
        self.rights = rights;
        self.obey_rights();
    }

    /// Those that haven't run out.
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Lets go of rights that have run out. Most turns have nothing to do here.
    pub(super) fn tend_rights(&mut self, now: u64) {
        let before = self.rights.len();
        self.rights.retain(|_, (_, until)| now < *until);
        if self.rights.len() < before {
            self.obey_rights();
        }
    }

    /// Volumes whose right has come, or has gone, have another role.
    pub(super) fn obey_rights(&mut self) {
        for number in self.volumes.keys().copied().collect::<Vec<_>>() {
            let settings = self.volumes[&number].settings.get();
            if settings.right.is_some() && self.role(number, &settings) != settings.role {
                self.set_settings(number, settings);
            }
        }
    }

    /// The role that a volume has by its settings, and by its right if it needs one.
    pub(super) fn role(&self, number: u16, settings: &Settings) -> Role {
        let Some(needed) = settings.right else { return settings.role };
        let right = self.volumes.get(&number).and_then(|volume| self.rights.get(&volume.name));
        let counts = |&(epoch, until): &(u64, u64)| epoch == needed && self.io.now() < until;
        if right.is_some_and(counts) { Role::Writer } else { Role::Fenced }
    }
}
