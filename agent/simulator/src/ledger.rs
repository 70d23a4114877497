//! The oracle: every write carries an id of its own, and at the end each must be accounted for (I2).

use std::collections::{BTreeMap, BTreeSet};

/// What users wrote, and what they had seen when they wrote over it.
#[derive(Default)]
pub struct Ledger {
    last: u64,
    written: BTreeMap<u64, (u32, Vec<u8>)>,
    superseded: BTreeSet<u64>,
    /// What power loss took when nobody else had it: as lost as anything that was never synced.
    unsynced: BTreeSet<u64>,
}

impl Ledger {
    /// Contents that were never written before, for a user of node `id` at `path`.
    pub fn contents(&mut self, id: u32, path: &[u8], size: usize) -> Vec<u8> {
        self.last += 1;
        self.written.insert(self.last, (id, path.to_vec()));
        let mut contents = format!("<{}>", self.last).into_bytes();
        contents.resize(size.max(contents.len()), b'.');
        contents
    }

    /// A user saw these contents and then wrote over or deleted them.
    pub fn supersede(&mut self, contents: &[u8]) {
        self.superseded.extend(id_of(contents));
    }

    /// Power was lost. `before` and `after` are all contents of all disks.
    pub fn power_lost<'a>(&mut self, before: impl Iterator<Item = &'a [u8]>, after: impl Iterator<Item = &'a [u8]>) {
        let after: BTreeSet<u64> = after.filter_map(id_of).collect();
        self.unsynced.extend(before.filter_map(id_of).filter(|id| !after.contains(id)));
    }

    /// Ids that are neither superseded nor among what is found. Also checks that nothing was found that nobody wrote (I3).
    ///
    /// `published` has paths and contents. In version stores there may be what power loss has left of a file.
    pub fn check<'a>(
        &self,
        published: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        stored: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), String> {
        let mut there: BTreeSet<u64> = stored.filter_map(id_of).filter(|id| self.written.contains_key(id)).collect();
        for (path, contents) in published {
            match id_of(contents) {
                Some(id) if self.written.contains_key(&id) => {
                    there.insert(id);
                }
                _ if contents.is_empty() => {}
                _ => {
                    let begin = &contents[..contents.len().min(40)];
                    let (begin, path) = (String::from_utf8_lossy(begin), String::from_utf8_lossy(path));
                    return Err(format!("I3: nobody wrote {begin:?} at {path}"));
                }
            }
        }
        let lost: Vec<_> = self
            .written
            .iter()
            .filter(|(id, _)| ![&there, &self.superseded, &self.unsynced].iter().any(|ids| ids.contains(id)))
            .map(|(id, (node, path))| format!("<{id}> of n{node} at {}", String::from_utf8_lossy(path)))
            .collect();
        if lost.is_empty() { Ok(()) } else { Err(format!("I2: lost {}", lost.join(", "))) }
    }

    /// Was this content's id superseded by somebody who had seen it?
    pub fn is_superseded(&self, contents: &[u8]) -> bool {
        id_of(contents).is_some_and(|id| self.superseded.contains(&id))
    }
}

/// The id in contents that are whole; a torn or mixed file has none.
fn id_of(contents: &[u8]) -> Option<u64> {
    let end = contents.iter().position(|&b| b == b'>')?;
    let whole = contents[end + 1..].iter().all(|&b| b == b'.');
    let digits = contents[..end].strip_prefix(b"<")?;
    if whole { std::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}
