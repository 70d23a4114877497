//! `durability: strict` where versions arrive: what is staged is on the disk before it gets its name, so that whoever opens
//! that name after power loss finds it whole.

use super::Work;
use super::act::{Act, Plan};
use crate::epoch::Durability;
use syncmesh_core::entry::Body;
use syncmesh_io::FsError;

/// From so many files on one sync of the file system costs less than one of each.
const MANY: usize = 4;

impl Work<'_> {
    /// Writes out the contents that are about to get names. After an error none of them does: what a file system couldn't
    /// write once it may report as written the next time.
    pub(super) fn write_out(&self, plans: &[Plan]) -> Result<(), FsError> {
        let has_contents = |plan: &&Plan| {
            matches!(plan.act, Act::Exchange { .. }) && matches!(plan.entry.content.body, Body::File { .. })
        };
        let slots: Vec<u64> = match self.volume.durability {
            Durability::Epoch => return Ok(()),
            Durability::Strict => plans.iter().filter(has_contents).map(|plan| plan.slot).collect(),
        };
        let fs = &*self.volume.fs;
        if slots.len() >= MANY {
            return fs.write_out();
        }
        for slot in slots {
            match fs.open_slot(slot) {
                Ok(file) => file.sync()?,
                // It has the mode of its version already, and who isn't root may not open it any more.
                Err(FsError::Denied) => return fs.write_out(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
