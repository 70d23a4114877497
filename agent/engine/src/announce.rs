//! Telling peers: rows in the order of this replica's own sequence, without what the peer's knowledge covers.

use crate::job::{VolumeContext, identity};
use crate::limits::{COLLECT_BYTES, COLLECT_ROWS};
use crate::registry::{Key, Registry, RegistryError};
use std::collections::BTreeSet;
use std::sync::Arc;
use syncmesh_core::entry::{Body, Entry, Here, Identity};
use syncmesh_core::limits::INLINE_BYTES;
use syncmesh_core::path::RelativePath;
use syncmesh_core::version::{Knowledge, ReplicaId, Vector};
use syncmesh_io::{FileKind, FsError};

/// Read the rows that a peer lacks, with small contents.
pub struct Collect {
    /// Which volume.
    pub volume: u16,
    /// For which session.
    pub session: u64,
    /// Rows with higher sequence numbers than this.
    pub position: u64,
    /// And at most this: rows beyond aren't journalled yet, or not durable where they must be, and nothing is announced before.
    pub tellable: u64,
    /// What the peer knows.
    pub knowledge: Arc<Knowledge>,
    /// Replicas whose versions the peer has from themselves: its own, and those of nodes with which it has a session.
    pub elsewhere: Arc<BTreeSet<ReplicaId>>,
    /// Small contents may ride along. Those that don't are asked for.
    pub with_contents: bool,
}

/// Rows to send.
pub struct Collected {
    /// Which volume.
    pub volume: u16,
    /// For which session.
    pub session: u64,
    /// The position that was asked from.
    pub from: u64,
    /// Everything up to here was looked at.
    pub position: u64,
    /// Whether there may be more rows beyond.
    pub more: bool,
    /// Something was left out only because its maker has a session with the peer.
    pub left_to_makers: bool,
    /// What to send.
    pub rows: Vec<Outgoing>,
}

/// One entry to send.
pub struct Outgoing {
    /// Its row's sequence number.
    pub sequence: u64,
    /// The path.
    pub path: RelativePath,
    /// What is declared.
    pub entry: Entry,
    /// Small contents.
    pub contents: Option<Vec<u8>>,
}

/// What to do with an entry for one peer.
enum Need {
    Covered,
    FromItsMaker,
    Send,
}

impl Collect {
    /// Reads.
    pub fn run(self, volume: &VolumeContext, registry: &Registry) -> Result<Collected, RegistryError> {
        let rows = registry.since(self.volume, self.position, COLLECT_ROWS)?;
        let mut done = Collected {
            volume: self.volume,
            session: self.session,
            from: self.position,
            position: self.position,
            more: rows.len() == COLLECT_ROWS,
            left_to_makers: false,
            rows: Vec::new(),
        };
        let mut bytes = 0;
        for (key, row) in rows {
            if row.sequence > self.tellable {
                done.more = false;
                break;
            }
            if bytes >= COLLECT_BYTES {
                done.more = true;
                break;
            }
            done.position = row.sequence;
            let path = key.path();
            if let Some(here) = &row.here {
                match self.need(&here.entry.vector) {
                    Need::Covered => {}
                    Need::FromItsMaker => done.left_to_makers = true,
                    Need::Send => {
                        let contents = self.with_contents.then(|| contents(volume, &key, here)).flatten();
                        bytes += contents.as_ref().map_or(0, Vec::len) + 200;
                        let entry = here.entry.clone();
                        done.rows.push(Outgoing { sequence: row.sequence, path: path.clone(), entry, contents });
                    }
                }
            }
            for entry in row.wanted.into_iter().flat_map(|wanted| wanted.entries) {
                match self.need(&entry.vector) {
                    Need::Covered => {}
                    Need::FromItsMaker => done.left_to_makers = true,
                    Need::Send => {
                        bytes += 200;
                        done.rows.push(Outgoing { sequence: row.sequence, path: path.clone(), entry, contents: None });
                    }
                }
            }
        }
        Ok(done)
    }

    fn need(&self, vector: &Vector) -> Need {
        let mut unknown = vector.dots().iter().filter(|&&dot| !self.knowledge.contains(dot)).peekable();
        if unknown.peek().is_none() {
            Need::Covered
        } else if unknown.all(|dot| self.elsewhere.contains(&dot.replica)) {
            Need::FromItsMaker
        } else {
            Need::Send
        }
    }
}

/// A small file's contents, if the disk shows still what the row says. If it doesn't, a newer version is on its way and
/// the entry goes without.
fn contents(volume: &VolumeContext, key: &Key, here: &Here) -> Option<Vec<u8>> {
    let Body::File { size, .. } = here.entry.content.body else { return None };
    if size == 0 || size > INLINE_BYTES {
        return None;
    }
    read(volume, key, here, 0, usize::try_from(size).ok()?, is_unchanged).ok()
}

/// A conflict copy's second name moves the ctime, contents can't change without moving the mtime.
fn is_unchanged(row: &Identity, now: &Identity) -> bool {
    (row.inode, row.size, row.mtime) == (now.inode, now.size, now.mtime)
}

/// Reads a part of the file that a row publishes, if the file is the row's before and after: `is_it` compares the row's
/// identity with the file's.
pub fn read(
    volume: &VolumeContext,
    key: &Key,
    here: &Here,
    offset: u64,
    length: usize,
    is_it: fn(&Identity, &Identity) -> bool,
) -> Result<Vec<u8>, FsError> {
    let directory = volume.fs.open_directory(&key.directory.components())?;
    let file = directory.open(key.name.as_bytes())?;
    let check = || {
        let stat = file.stat()?;
        let same = stat.kind == FileKind::File && here.identity.is_some_and(|row| is_it(&row, &identity(&stat)));
        if same { Ok(()) } else { Err(FsError::NotFound) }
    };
    check()?;
    let mut bytes = vec![0; length];
    let read = file.read_at(&mut bytes, offset)?;
    bytes.truncate(read);
    check()?;
    Ok(bytes)
}
