//! A person's decision about a conflict becomes a version over all that were known: what one node decides all follow.

use super::Node;
use crate::ask::Resolve;
use crate::conflicts::{Choice, Resolved, choices, digits};
use crate::inquiry::Place;
use crate::publish::{Errand, Item};
use crate::record::version;
use crate::registry::Key;
use crate::stage::Source;
use std::collections::BTreeMap;
use std::sync::Arc;
use syncmesh_core::decide::{joined, merge};
use syncmesh_core::entry::{Content, Origin, Stamp, Why};
use syncmesh_core::version::ReplicaId;
use syncmesh_io::Io;

impl<I: Io> Node<I> {
    /// Which node each replica belongs to.
    pub fn replicas(&self) -> Arc<BTreeMap<ReplicaId, String>> {
        Arc::clone(&self.replicas)
    }

    /// Somebody's word about a conflict. An error says that there is none, or that it can't be decided now.
    pub fn resolve(&mut self, order: &Resolve) -> Result<Resolved, String> {
        let place = self.place(&order.path)?;
        let (wall, replica) = (self.wall_millis(), self.replica);
        let none =
            || format!("{} has no conflict: `syncmesh-agent conflicts list` shows those that there are", place.path);
        let Place { number, path } = &place;
        let key = Key::of(*number, path).ok_or_else(none)?;
        let row = self.registry.get(&key).map_err(|error| error.to_string())?.ok_or_else(none)?;
        if row.wanted.as_ref().is_some_and(|wanted| wanted.why != Why::Conflict) {
            return Err(format!("another version of {path} is on its way: decide when it is here"));
        }
        let (here, others) = choices(&row).ok_or_else(none)?;
        let over = joined(row.entries()).filter(|_| !others.is_empty()).ok_or_else(none)?;
        let chosen = match order.choice {
            Choice::Local | Choice::Both => &here,
            Choice::Remote => choose(&others, order.contents.as_deref())?,
        };
        let volume = self.volumes.get_mut(number).filter(|volume| volume.scanned);
        let volume = volume.ok_or("the first scan is under way: decide when it is over")?;
        let stamp = Stamp { hlc: self.clock.stamp(wall, Some(over.newest().hlc)), dot: volume.next_dot(replica) };
        let attributes = over.attributes;
        let mut entry = version(Some(&over), chosen.body.clone(), attributes.mode, attributes.owner, stamp);
        if order.choice == Choice::Both {
            entry.losers = others.iter().map(|other| Content { origin: Origin::Beside, ..other.clone() }).collect();
            // In the order that all have.
            entry = merge(&entry, &entry);
        }
        self.counters.versions_made += 1;
        let resolved = Resolved { contents: digits(chosen), over: others.len() as u64 };
        tracing::info!(volume = %volume.name, %path, choice = ?order.choice, "a conflict is decided");
        let Key { directory, name, .. } = key;
        volume.queue(directory, Item { name, entry, source: Source::None, stream: None, errand: Errand::Again });
        Ok(resolved)
    }
}

/// The other version that is meant: the only one, or the one whose hash begins so.
fn choose<'a>(others: &'a [Content], contents: Option<&str>) -> Result<&'a Content, String> {
    let meant = |other: &&Content| contents.is_none_or(|contents| digits(other) == contents);
    let found: Vec<&Content> = others.iter().filter(meant).collect();
    let known = || others.iter().map(digits).collect::<Vec<_>>().join(", ");
    match found.as_slice() {
        [only] => Ok(only),
        [] => Err(format!("there is no other version with these contents: use one of {}", known())),
        _ => Err(format!("there are several other versions: say which with --contents, one of {}", known())),
    }
}
