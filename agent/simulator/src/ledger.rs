//! The oracle: every write carries an id of its own, and at the end each must be accounted for (I2).

use std::collections::{BTreeMap, BTreeSet};

/// What users wrote, and what they had seen when they wrote over it.
#[derive(Default)]
pub struct Ledger {
    last: u64,
    written: BTreeMap<u64, Written>,
    superseded: BTreeSet<u64>,
    /// What users deleted, and where.
    deleted: BTreeSet<(Vec<u8>, u64)>,
    /// Whose users gave contents a name that they hadn't been written under.
    named: BTreeMap<(Vec<u8>, u64), Vec<u32>>,
    /// What power loss took when nobody else had it: as lost as anything that was never synced.
    unsynced: BTreeSet<u64>,
}

struct Written {
    node: u32,
    path: Vec<u8>,
    /// How long the file was when it was written whole.
    size: usize,
    /// It was written piece by piece: whoever looks meanwhile sees its beginning, and that is no fault of ours.
    in_parts: bool,
}

impl Ledger {
    /// Contents that were never written before, for a user of node `id` at `path`.
    pub fn contents(&mut self, id: u32, path: &[u8], size: usize) -> Vec<u8> {
        self.record(id, path, 0, size)
    }

    /// What a user appends to what is there: together they are a version of their own.
    pub fn appended(&mut self, id: u32, path: &[u8], before: &[u8], size: usize) -> Vec<u8> {
        self.record(id, path, before.len(), size)
    }

    fn record(&mut self, node: u32, path: &[u8], before: usize, size: usize) -> Vec<u8> {
        self.last += 1;
        let mut contents = format!("<{}>", self.last).into_bytes();
        contents.resize(size.max(contents.len()), b'.');
        let written = Written { node, path: path.to_vec(), size: before + contents.len(), in_parts: false };
        self.written.insert(self.last, written);
        contents
    }

    /// These contents are about to be written piece by piece, their id first.
    pub fn in_parts(&mut self, contents: &[u8]) {
        if let Some(written) = last_id(contents).and_then(|id| self.written.get_mut(&id)) {
            written.in_parts = true;
        }
    }

    /// The disk refused them, or their end.
    pub fn never_written(&mut self, contents: &[u8]) {
        self.superseded.extend(last_id(contents));
    }

    /// A user saw these contents and then wrote over or deleted them.
    pub fn supersede(&mut self, contents: &[u8]) {
        self.superseded.extend(self.whole(contents));
    }

    /// A user of a node saw these contents at a path and deleted them.
    pub fn delete(&mut self, node: u32, path: &[u8], contents: &[u8]) {
        self.supersede(contents);
        let Some(id) = self.whole(contents) else { return };
        let at = (path.to_vec(), id);
        // What came there twice, once by somebody else, may be there without having been seen.
        let named = self.named.get(&at).map_or(&[][..], Vec::as_slice);
        let times = named.len() + usize::from(self.written[&id].path == path);
        if times <= 1 || named.iter().all(|by| *by == node) {
            self.deleted.insert(at);
        }
    }

    /// A user of a node gave these contents that name, deleted there or not.
    pub fn name(&mut self, node: u32, path: &[u8], contents: &[u8]) {
        if let Some(id) = self.whole(contents) {
            let at = (path.to_vec(), id);
            self.deleted.remove(&at);
            self.named.entry(at).or_default().push(node);
        }
    }

    /// Something that is back where a user had deleted it (I4).
    pub fn resurrected<'a>(&self, mut published: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<String> {
        let is_back = |(path, contents): &(&[u8], &[u8])| {
            self.whole(contents).is_some_and(|id| self.deleted.contains(&(path.to_vec(), id)))
        };
        let (path, contents) = published.find(is_back)?;
        let begin = &contents[..contents.len().min(40)];
        Some(format!("{:?} at {}", String::from_utf8_lossy(begin), String::from_utf8_lossy(path)))
    }

    /// Power was lost. `before` and `after` are all contents of all disks.
    pub fn power_lost<'a>(&mut self, before: impl Iterator<Item = &'a [u8]>, after: impl Iterator<Item = &'a [u8]>) {
        let after: BTreeSet<u64> = after.filter_map(|contents| self.whole(contents)).collect();
        let before: Vec<u64> = before.filter_map(|contents| self.whole(contents)).collect();
        self.unsynced.extend(before.into_iter().filter(|id| !after.contains(id)));
    }

    /// Ids that are neither superseded nor among what is found. Also checks that nothing was found that nobody wrote (I3).
    ///
    /// `published` has paths and contents. In version stores there may be what power loss has left of a file.
    pub fn check<'a>(
        &self,
        published: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        stored: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), String> {
        let mut there: BTreeSet<u64> = stored.filter_map(|contents| self.whole(contents)).collect();
        for (path, contents) in published {
            there.extend(self.whole(contents));
            if !contents.is_empty() && !self.was_shown(contents) {
                let begin = &contents[..contents.len().min(40)];
                let (begin, path) = (String::from_utf8_lossy(begin), String::from_utf8_lossy(path));
                return Err(format!("I3: nobody wrote {begin:?} at {path}"));
            }
        }
        let lost = self.missing(&there);
        if lost.is_empty() { Ok(()) } else { Err(format!("I2: lost {}", lost.join(", "))) }
    }

    /// Ids that nobody superseded and that no path shows: only version stores have them, if anything has.
    pub fn unpublished<'a>(&self, published: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
        self.missing(&published.filter_map(|contents| self.whole(contents)).collect())
    }

    fn missing(&self, there: &BTreeSet<u64>) -> Vec<String> {
        let accounted = |id: &u64| [there, &self.superseded, &self.unsynced].iter().any(|ids| ids.contains(id));
        let missing = self.written.iter().filter(|(id, _)| !accounted(id));
        missing
            .map(|(id, Written { node, path, .. })| format!("<{id}> of n{node} at {}", String::from_utf8_lossy(path)))
            .collect()
    }

    /// Are these contents as somebody wrote them?
    pub fn is_whole(&self, contents: &[u8]) -> bool {
        self.whole(contents).is_some()
    }

    /// Was this content's id superseded by somebody who had seen it?
    pub fn is_superseded(&self, contents: &[u8]) -> bool {
        self.whole(contents).is_some_and(|id| self.superseded.contains(&id))
    }

    /// The id of contents that are there from the first byte to the last.
    fn whole(&self, contents: &[u8]) -> Option<u64> {
        last_id(contents).filter(|id| self.written.get(id).is_some_and(|written| written.size == contents.len()))
    }

    /// Could anybody have seen these contents in a file that users wrote?
    pub fn was_shown(&self, contents: &[u8]) -> bool {
        let written = last_id(contents).and_then(|id| self.written.get(&id));
        written.is_some_and(|written| written.size == contents.len() || written.in_parts)
    }
}

/// The last id in contents that are ids, each followed by dots. A torn or mixed file has none.
fn last_id(contents: &[u8]) -> Option<u64> {
    let mut last = None;
    let mut rest = contents;
    while !rest.is_empty() {
        let end = rest.iter().position(|&b| b == b'>')?;
        let digits = rest[..end].strip_prefix(b"<")?;
        last = Some(std::str::from_utf8(digits).ok()?.parse().ok()?);
        let dots = rest[end + 1..].iter().take_while(|&&b| b == b'.').count();
        rest = &rest[end + 1 + dots..];
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_deleted_is_back_only_where_nobody_put_it() {
        let mut ledger = Ledger::default();
        let [one, other] = ["p", "q"].map(|path| ledger.contents(1, path.as_bytes(), 10));
        ledger.delete(2, b"p", &one);
        ledger.delete(2, b"q", &other);
        let back = |ledger: &Ledger, path: &[u8], contents: &[u8]| ledger.resurrected([(path, contents)].into_iter());
        assert_eq!(back(&ledger, b"p", &one), Some("\"<1>.......\" at p".into()));
        assert_eq!(back(&ledger, b"p", &other), None, "it was deleted elsewhere");
        ledger.name(1, b"p", &one);
        assert_eq!(back(&ledger, b"p", &one), None);
    }

    #[test]
    fn who_deletes_has_not_seen_what_another_one_put_there_meanwhile() {
        let mut ledger = Ledger::default();
        let contents = ledger.contents(1, b"p", 10);
        let is_back = |ledger: &Ledger| ledger.resurrected([(&b"q"[..], &contents[..])].into_iter()).is_some();
        ledger.name(1, b"q", &contents);
        ledger.delete(2, b"q", &contents);
        assert!(is_back(&ledger), "it was moved there once, and was seen there");
        ledger.name(2, b"q", &contents);
        ledger.delete(2, b"q", &contents);
        assert!(!is_back(&ledger), "twice");
    }
}
