//! What befalls a machine while its agent is off, in random stories: its registry is lost, it is set back to an older image, its
//! clock is set wrong.
//!
//! Not in stories in which power is lost: what power loss leaves of a file can't be told from what a user wrote once the
//! registry and the journal that could tell are gone, too.

use crate::ledger::Ledger;
use crate::mesh::{Image, Mesh};
use std::collections::{BTreeMap, BTreeSet};

const SECOND: i64 = 1_000_000_000;

/// What may befall machines.
#[derive(Default)]
pub struct Mishaps {
    images: BTreeMap<u32, Image>,
    /// Some machine's registry was lost: it declares what it finds.
    pub rebuilt: bool,
    /// Something befell a machine: power isn't lost in that story.
    pub befell: bool,
}

impl Mishaps {
    /// Now and then something befalls a machine that is about to start.
    pub fn befall(&mut self, mesh: &mut Mesh, ledger: &mut Ledger, node: u32) {
        match mesh.random.between(0, 15) {
            0 => {
                mesh.lose_state(node);
                self.befell = true;
                self.rebuilt = true;
            }
            1..=3 => {
                let image = mesh.image(node);
                self.images.insert(node, image);
            }
            4..=5 => {
                if let Some(image) = self.images.get(&node) {
                    let kept = everything(mesh, |id| id != node);
                    // What only this machine had is gone with its disk.
                    let lost = everything(mesh, |id| id == node);
                    lost.difference(&kept).for_each(|contents| ledger.supersede(contents));
                    mesh.restore(node, image);
                    self.befell = true;
                }
            }
            6 => {
                let ahead = [-3_600, -20, 20, 3_600][mesh.random.between(0, 3) as usize];
                // The disk's stamps are the world's: which files changed before power was lost can't be told from them then.
                mesh.set_clock(node, ahead * SECOND);
                self.befell = true;
            }
            _ => {}
        }
    }
}

/// All contents that some machines have, under names and in their stores.
fn everything(mesh: &Mesh, which: impl Fn(u32) -> bool) -> BTreeSet<Vec<u8>> {
    let machines = mesh.machines.iter().filter(|machine| which(machine.id));
    let contents = machines.flat_map(|machine| {
        let shown = machine.disk.snapshot().into_values().map(|shown| shown.contents);
        shown.chain(machine.disk.stored_contents().into_values())
    });
    contents.collect()
}
