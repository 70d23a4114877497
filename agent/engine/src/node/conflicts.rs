//! A person's decision about a conflict becomes a version over all that were known: what one node decides all follow.

use super::Node;
use crate::ask::Resolve;
use crate::conflicts::{Choice, Resolved, choices, digits};
use crate::inquiry::Place;
use crate::publish::{Cause, Errand, Fate, Item, copy_name};
use crate::record::version;
use crate::registry::Key;
use crate::stage::Source;
use crate::volume::FetchWanted;
use std::collections::BTreeMap;
use std::sync::Arc;
use syncmesh_core::decide::{displaced, joined, merge};
use syncmesh_core::entry::{Content, Entry, Origin, Row, Stamp, Why};
use syncmesh_core::policy::Policy;
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
        let resolved = Resolved { contents: digits(chosen), over: others.len() as u64 };
        tracing::info!(volume = %volume.name, %path, choice = ?order.choice, "a conflict is decided");
        match order.choice {
            Choice::Remote => _ = volume.decisions.insert(key.clone(), chosen.clone()),
            Choice::Local | Choice::Both => _ = volume.decisions.remove(&key),
        }
        let beside = if order.choice == Choice::Both { others.as_slice() } else { &[] };
        self.decide(key, &over, chosen, beside, Source::None);
        Ok(resolved)
    }

    /// A version over everything that is known of a path.
    fn decide(&mut self, key: Key, over: &Entry, chosen: &Content, beside: &[Content], source: Source) {
        let (wall, replica) = (self.wall_millis(), self.replica);
        let Some(volume) = self.volumes.get_mut(&key.volume) else { return };
        let stamp = Stamp { hlc: self.clock.stamp(wall, Some(over.newest().hlc)), dot: volume.next_dot(replica) };
        let attributes = over.attributes;
        let mut entry = version(Some(over), chosen.body.clone(), attributes.mode, attributes.owner, stamp);
        entry.losers = beside.iter().map(|other| Content { origin: Origin::Beside, ..other.clone() }).collect();
        // In the order that all have.
        entry = merge(&entry, &entry);
        self.counters.versions_made += 1;
        let Key { directory, name, .. } = key;
        volume.queue(directory, Item { name, entry, source, stream: None, errand: Errand::Decision });
    }

    /// Losers of what a user here writes over, or deletes, that have no copy yet as far as is known here: their node hasn't
    /// heard of the conflict, or its copy is on its way. Nobody here has seen them (I2).
    pub(super) fn unseen(&mut self, key: &Key, over: Option<&Entry>) -> Vec<Content> {
        let losers: Vec<&Content> = over.into_iter().flat_map(displaced).collect();
        // Asked of every finding, and hardly any has one.
        if losers.is_empty() {
            return Vec::new();
        }
        let policy = self.volumes.get(&key.volume).map(|volume| volume.policies.of(&key.path()));
        if policy != Some(Policy::KeepBoth) {
            return Vec::new();
        }
        let copies: Vec<Key> = losers
            .iter()
            .map(|loser| Key { name: copy_name(&key.name, loser, &self.replicas), ..key.clone() })
            .collect();
        match self.registry.get_all(&copies) {
            Ok(rows) => {
                let without = losers.into_iter().zip(rows).filter(|(_, row)| row.is_none());
                without.map(|(loser, _)| loser.clone()).collect()
            }
            Err(error) => {
                self.fail(error.to_string());
                Vec::new()
            }
        }
    }

    /// A decision for other contents was carried out, or couldn't be.
    pub(super) fn decided(&mut self, key: &Key, fate: &Fate) {
        let Some(volume) = self.volumes.get_mut(&key.volume) else { return };
        match fate {
            Fate::Waits(Cause::Contents) => self.fetch_decided(key.volume),
            Fate::Visible => _ = volume.decisions.remove(key),
            Fate::Waits(cause) => {
                volume.decisions.remove(key);
                tracing::warn!(volume = %volume.name, path = %key.path(), ?cause, "a decision couldn't be carried out: decide again");
            }
        }
    }

    /// Contents for which somebody decided are fetched, again and again until somebody has them or the conflict is over.
    pub(super) fn fetch_decided(&mut self, number: u16) {
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        let decisions: Vec<(Key, Content)> =
            volume.decisions.iter().map(|(key, content)| (key.clone(), content.clone())).collect();
        for (key, chosen) in decisions {
            let under_way = self.fetches.values().any(|fetch| fetch.wanted.key == key && !fetch.cancelled);
            let row = match self.registry.get(&key) {
                Ok(row) => row,
                Err(error) => return self.fail(error.to_string()),
            };
            let Some(volume) = self.volumes.get_mut(&number) else { return };
            let is_open = row.and_then(|row| choices(&row)).is_some_and(|(_, others)| others.contains(&chosen));
            if !is_open {
                volume.decisions.remove(&key);
            } else if !under_way
                && !volume.fetch_queue.iter().any(|wanted| wanted.key == key)
                && let Some(wanted) = FetchWanted::of_content(&key, &chosen)
            {
                volume.fetch_queue.push_back(wanted);
            }
        }
    }

    /// Contents came that somebody decided for. False if nobody did, or the conflict is over.
    pub(super) fn decide_for(&mut self, fetched: &FetchWanted, row: Option<&Row>, slot: u64) -> bool {
        let Some(volume) = self.volumes.get(&fetched.key.volume) else { return false };
        let Some(chosen) = volume.decisions.get(&fetched.key).cloned() else { return false };
        let is_open = row.and_then(choices).is_some_and(|(_, others)| others.contains(&chosen));
        let Some(over) = row.and_then(|row| joined(row.entries())).filter(|_| is_open) else { return false };
        if chosen.body.hash() != Some(fetched.hash) {
            return false;
        }
        self.decide(fetched.key.clone(), &over, &chosen, &[], Source::Slot(slot));
        true
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
