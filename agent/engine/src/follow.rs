//! Which step an edit takes that follows a rename: the rules of [`syncmesh_core::follow`], with the registry's rows.

use crate::registry::{Key, Registry, RegistryError};
use syncmesh_core::decide::merge;
use syncmesh_core::entry::{Attributes, Entry, Row, Why};
use syncmesh_core::follow::{Place, attributes, place, rename};
use syncmesh_core::path::RelativePath;
use syncmesh_core::version::ReplicaId;

/// A file that was moved on more often isn't followed.
const HOPS: usize = 8;

/// What is next for an edit that follows.
pub enum Next {
    /// Something must happen first.
    Wait,
    /// It becomes a version at the new name.
    Copy {
        /// The new name.
        to: Key,
        /// What is known of it.
        over: Box<Entry>,
        /// Its mode and owner there.
        attributes: Attributes,
    },
    /// It is at the new name: the old one goes.
    Leave {
        /// The new name.
        to: RelativePath,
    },
}

/// Somebody may still tell of a path that isn't known here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// Members that are connected have told what they had.
    All,
    /// Not yet.
    NotAll,
}

/// Is there an edit by this node under a path, and a rename to follow? `known` is what is known of the path besides what is here.
pub fn next(
    registry: &Registry,
    key: &Key,
    row: &Row,
    known: &Entry,
    is_ours: impl Fn(ReplicaId) -> bool,
    heard: Heard,
) -> Result<Option<Next>, RegistryError> {
    let Some(edit) = row.live().map(|here| &here.entry) else { return Ok(None) };
    let waits = |why| matches!(why, Why::Conflict | Why::Suspect);
    if !is_ours(edit.content.stamp.dot.replica) || row.wanted.as_ref().is_some_and(|wanted| waits(wanted.why)) {
        return Ok(None);
    }
    let known = merge(edit, known);
    let Some(rename) = rename(edit, &known) else { return Ok(None) };
    let mut to = rename.to.clone();
    for _ in 0..HOPS {
        let Some(at) = Key::of(key.volume, &to).filter(|at| at != key) else { return Ok(None) };
        match place(registry.get(&at)?.as_ref(), &edit.content.body, rename.contents) {
            Place::Unknown if heard == Heard::All => return Ok(None),
            Place::Unknown | Place::OnTheWay => return Ok(Some(Next::Wait)),
            Place::Free(over) => {
                let attributes = attributes(edit, &known, &over, &rename);
                return Ok(Some(Next::Copy { to: at, over, attributes }));
            }
            Place::Arrived => return Ok(Some(Next::Leave { to })),
            Place::MovedOn(on) => to = on,
            Place::Taken => return Ok(None),
        }
    }
    Ok(None)
}
