//! The registry: every path's row, in one redb file, behind an overlay of the rows that no durable commit holds yet.
//!
//! The loop puts rows; jobs on other threads read. A path belongs to at most one job at a time, so a reader never races
//! with a writer of the same row. Rows of the open epoch collect in the overlay and are written in key order by one
//! transaction when the epoch ends (SYNC 8).

mod volume_state;

pub use volume_state::{Counts, VolumeState, conflicts};

use crate::limits::REGISTRY_CACHE_BYTES;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend, TableDefinition};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock, RwLock, RwLockReadGuard};
use syncmesh_core::entry::{ContentHash, Here, Row, RowError};
use syncmesh_core::limits::INLINE_BYTES;
use syncmesh_core::path::{Name, RelativePath};
use syncmesh_core::version::ReplicaId;

/// The registry's format. An older binary refuses a newer registry.
pub const FORMAT: u32 = 1;

const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
const SEQUENCE: TableDefinition<(u16, u64), &[u8]> = TableDefinition::new("sequence");
const WANTED: TableDefinition<&[u8], ()> = TableDefinition::new("wanted");
/// Where files are that have to be fetched: volume, the first bytes of their contents' hash, directory, name.
const CONTENTS: TableDefinition<&[u8], ()> = TableDefinition::new("contents");
const VOLUMES: TableDefinition<&str, &[u8]> = TableDefinition::new("volumes");
const REPLICAS: TableDefinition<u64, &str> = TableDefinition::new("replicas");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Keys in it.
const LAST: &str = "last";
const ENDED: &str = "ended";

/// Where the names of forgotten nodes stand in it.
const FORGOTTEN: &str = "forgotten";
/// Where the revocation list stands in it.
const REVOKED: &str = "revoked";

/// Where a row lives: ordered so that a directory's children are neighbours.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Key {
    /// The registry's number of the volume.
    pub volume: u16,
    /// The parent directory.
    pub directory: RelativePath,
    /// The name in it.
    pub name: Name,
}

impl Key {
    /// The key of a path that isn't the root.
    pub fn of(volume: u16, path: &RelativePath) -> Option<Self> {
        path.split().map(|(directory, name)| Self { volume, directory, name })
    }

    /// The path.
    pub fn path(&self) -> RelativePath {
        self.directory.join(&self.name).expect("a key is made from a path")
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = children_prefix(self.volume, &self.directory);
        bytes.extend_from_slice(self.name.as_bytes());
        bytes
    }

    /// Where a file with these contents stands in the table of contents: behind all that begins like the hash.
    fn encode_contents(&self, hash: &ContentHash) -> Vec<u8> {
        let mut bytes = contents_prefix(self.volume, hash).to_vec();
        bytes.extend_from_slice(&self.encode()[2..]);
        bytes
    }

    fn decode_contents(bytes: &[u8]) -> Option<Self> {
        let (volume, rest) = bytes.split_first_chunk::<2>()?;
        Self::decode(&[&volume[..], rest.get(HASH_BYTES..)?].concat())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (volume, rest) = bytes.split_first_chunk::<2>()?;
        let at = rest.iter().position(|&b| b == 0)?;
        Some(Self {
            volume: u16::from_be_bytes(*volume),
            directory: RelativePath::new(&rest[..at]).ok()?,
            name: Name::new(&rest[at + 1..]).ok()?,
        })
    }
}

/// So many bytes of a hash stand in the table of contents.
const HASH_BYTES: usize = 8;

fn contents_prefix(volume: u16, hash: &ContentHash) -> [u8; 2 + HASH_BYTES] {
    let mut bytes = [0; 2 + HASH_BYTES];
    bytes[..2].copy_from_slice(&volume.to_be_bytes());
    bytes[2..].copy_from_slice(&hash.as_bytes()[..HASH_BYTES]);
    bytes
}

/// The hash of a file that is published, and so large that peers would have to fetch it.
fn large_contents(row: &Row) -> Option<ContentHash> {
    let body = &row.live()?.entry.content.body;
    body.hash().filter(|_| body.size() > INLINE_BYTES)
}

fn children_prefix(volume: u16, directory: &RelativePath) -> Vec<u8> {
    let mut bytes = volume.to_be_bytes().to_vec();
    bytes.extend_from_slice(directory.as_bytes());
    bytes.push(0);
    bytes
}

/// Why the registry can't be used.
#[derive(Debug)]
pub enum RegistryError {
    /// The embedded store failed, or its file is damaged.
    Store(redb::Error),
    /// A newer release wrote it.
    Newer {
        /// Its format.
        format: u32,
    },
    /// A row can't be read.
    Row(RowError),
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => write!(
                f,
                "the registry can't be used: {error}. If its disk is sound, move `registry.redb` away: it is rebuilt from the files and the peers"
            ),
            Self::Newer { format } => write!(
                f,
                "the registry has format {format}, which a newer release of syncmesh-agent wrote (this one knows {FORMAT}): install that release again, nothing was changed"
            ),
            Self::Row(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for RegistryError {}

impl<E: Into<redb::Error>> From<E> for RegistryError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

#[derive(Default)]
struct Overlay {
    /// Rows of the open epoch.
    open: BTreeMap<Key, Row>,
    /// Their approximate encoded size.
    open_bytes: usize,
    /// Rows of the epoch that is being made durable.
    closing: Arc<BTreeMap<Key, Row>>,
    /// Sequence numbers of the rows in both.
    sequence: BTreeMap<(u16, u64), Key>,
    /// A path of each contents in both that would have to be fetched.
    contents: BTreeMap<[u8; 2 + HASH_BYTES], Key>,
}

impl Overlay {
    fn get(&self, key: &Key) -> Option<&Row> {
        self.open.get(key).or_else(|| self.closing.get(key))
    }
}

/// A handle that can be cloned and used from any thread.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    database: Database,
    overlay: RwLock<Overlay>,
    before_read: OnceLock<fn()>,
}

const POISONED: &str = "no code panics while it holds the overlay";

impl Registry {
    /// Opens or makes the registry on a storage backend; returns it and what it holds of volumes and replicas.
    pub fn open(storage: impl StorageBackend) -> Result<(Self, Stored), RegistryError> {
        let database = Database::builder().set_cache_size(REGISTRY_CACHE_BYTES).create_with_backend(storage)?;
        let mut stored = Stored::default();
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        {
            let mut meta = transaction.open_table(META)?;
            let format =
                meta.get("format")?.map(|bytes| bytes.value().try_into().map(u32::from_le_bytes).unwrap_or(u32::MAX));
            match format {
                Some(FORMAT) => {}
                Some(format) => return Err(RegistryError::Newer { format }),
                None => {
                    meta.insert("format", &FORMAT.to_le_bytes()[..])?;
                }
            }
            if let Some(bytes) = meta.get(LAST)? {
                stored.last = postcard::from_bytes(bytes.value()).map_err(|_| RegistryError::Row(RowError::Damaged))?;
            }
            stored.ended = meta.remove(ENDED)?.is_some();
            transaction.open_table(ROWS)?;
            transaction.open_table(SEQUENCE)?;
            transaction.open_table(WANTED)?;
            transaction.open_table(CONTENTS)?;
            for item in transaction.open_table(VOLUMES)?.iter()? {
                let (name, bytes) = item?;
                let state = postcard::from_bytes(bytes.value()).map_err(|_| RegistryError::Row(RowError::Damaged))?;
                stored.volumes.insert(name.value().to_owned(), state);
            }
            for item in transaction.open_table(REPLICAS)?.iter()? {
                let (replica, node) = item?;
                stored.replicas.insert(ReplicaId(replica.value()), node.value().to_owned());
            }
            if let Some(bytes) = meta.get(FORGOTTEN)? {
                let forgotten = postcard::from_bytes(bytes.value());
                stored.forgotten = forgotten.map_err(|_| RegistryError::Row(RowError::Damaged))?;
            }
            if let Some(bytes) = meta.get(REVOKED)? {
                stored.revoked = String::from_utf8_lossy(bytes.value()).into_owned();
            }
        }
        transaction.commit()?;
        let registry = Self(Arc::new(Inner { database, overlay: RwLock::default(), before_read: OnceLock::new() }));
        for state in stored.volumes.values_mut().filter(|state| state.counts.wanted > 0) {
            registry.count_waiting(state)?;
        }
        Ok((registry, stored))
    }

    fn count_waiting(&self, state: &mut VolumeState) -> Result<(), RegistryError> {
        const ROWS: usize = 1_024;
        let mut after = None;
        loop {
            let rows = self.wanted(state.number, after.as_ref(), ROWS)?;
            rows.iter().for_each(|(_, row)| state.counts.add_waiting(row));
            if rows.len() < ROWS {
                return Ok(());
            }
            after = rows.last().map(|(key, _)| key.clone());
        }
    }

    /// Has this called before each read from now on. Two reads show two moments, and whoever stands between them in the
    /// simulator, others go on.
    pub fn before_each_read(&self, call: fn()) {
        let _ = self.0.before_read.set(call);
    }

    /// The rows that aren't in the database yet.
    fn overlay(&self) -> RwLockReadGuard<'_, Overlay> {
        if let Some(call) = self.0.before_read.get() {
            call();
        }
        self.0.overlay.read().expect(POISONED)
    }

    /// One path's row.
    pub fn get(&self, key: &Key) -> Result<Option<Row>, RegistryError> {
        Ok(self.get_all(std::slice::from_ref(key))?.pop().flatten())
    }

    /// The rows of several paths, in the same order.
    pub fn get_all(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, RegistryError> {
        let overlay = self.overlay();
        let mut rows = Vec::with_capacity(keys.len());
        let mut table = None;
        for key in keys {
            if let Some(row) = overlay.get(key) {
                rows.push(Some(row.clone()));
                continue;
            }
            let table = match &mut table {
                Some(table) => table,
                none => none.insert(self.0.database.begin_read()?.open_table(ROWS)?),
            };
            rows.push(match table.get(key.encode().as_slice())? {
                Some(bytes) => Some(Row::decode(bytes.value()).map_err(RegistryError::Row)?),
                None => None,
            });
        }
        Ok(rows)
    }

    /// Up to `limit` rows of a directory's children, in the order of their names, from the one after `after` on.
    pub fn children(
        &self,
        volume: u16,
        directory: &RelativePath,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<(Name, Row)>, RegistryError> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let overlay = self.overlay();
        let prefix = children_prefix(volume, directory);
        let mut found: BTreeMap<Name, Row> = BTreeMap::new();
        let table = self.0.database.begin_read()?.open_table(ROWS)?;
        let start = match after {
            Some(name) => {
                let key = Key { volume, directory: directory.clone(), name: name.clone() };
                Excluded(key.encode())
            }
            None => Included(prefix.clone()),
        };
        let bounds = (start.as_ref().map(Vec::as_slice), Unbounded);
        for item in table.range::<&[u8]>(bounds)? {
            let (key, bytes) = item?;
            let Some(name) = key.value().strip_prefix(prefix.as_slice()) else { break };
            let name = Name::new(name).map_err(|_| RegistryError::Row(RowError::Damaged))?;
            found.insert(name, Row::decode(bytes.value()).map_err(RegistryError::Row)?);
            if found.len() >= limit {
                break;
            }
        }
        // A cut listing is complete only up to its last name: rows of the overlay beyond it come with a later call.
        let last = (found.len() >= limit).then(|| found.keys().next_back().cloned()).flatten();
        let in_directory = |key: &&Key| key.volume == volume && key.directory == *directory;
        for rows in [&*overlay.closing, &overlay.open] {
            let first = match after {
                Some(name) => Excluded(Key { volume, directory: directory.clone(), name: name.clone() }),
                None => Included(first_child(volume, directory)),
            };
            for (key, row) in rows.range((first, Unbounded)).take_while(|(key, _)| in_directory(key)) {
                if last.as_ref().is_none_or(|last| key.name <= *last) {
                    found.insert(key.name.clone(), row.clone());
                }
            }
        }
        let mut rows: Vec<_> = found.into_iter().collect();
        rows.truncate(limit);
        Ok(rows)
    }

    /// Is anything published below this directory?
    pub fn has_live_children(&self, volume: u16, directory: &RelativePath) -> Result<bool, RegistryError> {
        self.any_child(volume, directory, |row| row.live().is_some())
    }

    /// Looks at the rows of a directory's children, each once, until one is it.
    pub fn any_child(
        &self,
        volume: u16,
        directory: &RelativePath,
        mut is_it: impl FnMut(&Row) -> bool,
    ) -> Result<bool, RegistryError> {
        const ROWS: usize = 64;
        let mut after = None;
        loop {
            let rows = self.children(volume, directory, after.as_ref(), ROWS)?;
            if rows.iter().any(|(_, row)| is_it(row)) {
                return Ok(true);
            }
            match rows.last() {
                Some((name, _)) if rows.len() == ROWS => after = Some(name.clone()),
                _ => return Ok(false),
            }
        }
    }

    /// Up to `limit` rows whose sequence number is above `position`, lowest first.
    pub fn since(&self, volume: u16, position: u64, limit: usize) -> Result<Vec<(Key, Row)>, RegistryError> {
        let overlay = self.overlay();
        let mut found: BTreeMap<u64, (Key, Row)> = BTreeMap::new();
        for (&(_, sequence), key) in overlay.sequence.range((volume, position + 1)..=(volume, u64::MAX)).take(limit) {
            let row = overlay.get(key).expect("the overlay's sequence names its rows").clone();
            found.insert(sequence, (key.clone(), row));
        }
        let read = self.0.database.begin_read()?;
        let (sequences, rows) = (read.open_table(SEQUENCE)?, read.open_table(ROWS)?);
        let mut taken = 0;
        for item in sequences.range((volume, position + 1)..=(volume, u64::MAX))? {
            let (sequence, key) = item?;
            let key = Key::decode(key.value()).ok_or(RegistryError::Row(RowError::Damaged))?;
            if overlay.get(&key).is_some() {
                continue; // a newer row of it has a higher number
            }
            let Some(bytes) = rows.get(key.encode().as_slice())? else { continue };
            let row = Row::decode(bytes.value()).map_err(RegistryError::Row)?;
            found.insert(sequence.value().1, (key, row));
            taken += 1;
            if taken >= limit {
                break;
            }
        }
        Ok(found.into_values().take(limit).collect())
    }

    /// Up to `limit` rows that want something, from the one after `after` on.
    pub fn wanted(&self, volume: u16, after: Option<&Key>, limit: usize) -> Result<Vec<(Key, Row)>, RegistryError> {
        use std::ops::Bound::{Excluded, Included};
        let overlay = self.overlay();
        let read = self.0.database.begin_read()?;
        let (wanted, rows) = (read.open_table(WANTED)?, read.open_table(ROWS)?);
        let start = match after {
            Some(key) => Excluded(key.encode()),
            None => Included(volume.to_be_bytes().to_vec()),
        };
        let end = u32::from(volume) + 1;
        let end = Excluded(end.to_be_bytes()[2..].to_vec());
        let mut found: BTreeMap<Key, Row> = BTreeMap::new();
        let bounds = (start.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
        for item in wanted.range::<&[u8]>(bounds)? {
            let (bytes, _) = item?;
            let key = Key::decode(bytes.value()).ok_or(RegistryError::Row(RowError::Damaged))?;
            if overlay.get(&key).is_none()
                && let Some(bytes) = rows.get(bytes.value())?
            {
                found.insert(key, Row::decode(bytes.value()).map_err(RegistryError::Row)?);
                if found.len() >= limit {
                    break;
                }
            }
        }
        for rows in [&*overlay.closing, &overlay.open] {
            for (key, row) in rows.iter().filter(|(key, _)| key.volume == volume && after.is_none_or(|a| *key > a)) {
                match row.wanted {
                    Some(_) => found.insert(key.clone(), row.clone()),
                    None => found.remove(key),
                };
            }
        }
        Ok(found.into_iter().take(limit).collect())
    }

    /// Up to `limit` rows between two keys, in their order: from the one behind `after` to `upto`, which belongs to it.
    /// `None` stands for the volume's first and last. The keys must be in order.
    pub fn between(
        &self,
        volume: u16,
        after: Option<&Key>,
        upto: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Row)>, RegistryError> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let overlay = self.overlay();
        let table = self.0.database.begin_read()?.open_table(ROWS)?;
        let start = match after {
            Some(key) => Excluded(key.encode()),
            None => Included(volume.to_be_bytes().to_vec()),
        };
        let mut found: BTreeMap<Key, Row> = BTreeMap::new();
        for item in table.range::<&[u8]>((start.as_ref().map(Vec::as_slice), Unbounded))? {
            let (bytes, row) = item?;
            let key = Key::decode(bytes.value()).ok_or(RegistryError::Row(RowError::Damaged))?;
            if key.volume != volume || upto.is_some_and(|upto| key > *upto) || found.len() >= limit {
                break;
            }
            found.insert(key, Row::decode(row.value()).map_err(RegistryError::Row)?);
        }
        // As with children: a cut list is complete only up to its last key.
        let last = (found.len() >= limit).then(|| found.keys().next_back().cloned()).flatten();
        for rows in [&*overlay.closing, &overlay.open] {
            let first = match after {
                Some(key) => Excluded(key.clone()),
                None => Included(first_child(volume, &RelativePath::root())),
            };
            let belongs =
                |key: &Key| key.volume == volume && [upto, last.as_ref()].into_iter().flatten().all(|end| key <= end);
            for (key, row) in rows.range((first, Unbounded)).take_while(|(key, _)| belongs(key)) {
                found.insert(key.clone(), row.clone());
            }
        }
        Ok(found.into_iter().take(limit).collect())
    }

    /// A file that is published with these contents, if they are larger than what comes with an announcement.
    pub fn with_contents(&self, volume: u16, hash: ContentHash) -> Result<Option<(Key, Here)>, RegistryError> {
        /// Files are many that begin like one hash only if they are equal.
        const FILES: usize = 8;
        let prefix = contents_prefix(volume, &hash);
        let mut keys: Vec<Key> = self.overlay().contents.get(&prefix).cloned().into_iter().collect();
        let table = self.0.database.begin_read()?.open_table(CONTENTS)?;
        for item in table.range::<&[u8]>(&prefix[..]..)?.take(FILES) {
            let (bytes, _) = item?;
            if !bytes.value().starts_with(&prefix) {
                break;
            }
            keys.push(Key::decode_contents(bytes.value()).ok_or(RegistryError::Row(RowError::Damaged))?);
        }
        for (key, row) in keys.iter().zip(self.get_all(&keys)?) {
            if let Some(row) = row.filter(|row| large_contents(row) == Some(hash)) {
                return Ok(row.here.map(|here| (key.clone(), here)));
            }
        }
        Ok(None)
    }

    /// Puts a row into the open epoch.
    pub fn put(&self, key: Key, row: Row) {
        let mut overlay = self.0.overlay.write().expect(POISONED);
        let overlay = &mut *overlay;
        if let Some(old) = overlay.get(&key) {
            let old = (key.volume, old.sequence);
            overlay.sequence.remove(&old);
        }
        overlay.sequence.insert((key.volume, row.sequence), key.clone());
        if let Some(hash) = large_contents(&row) {
            overlay.contents.insert(contents_prefix(key.volume, &hash), key.clone());
        }
        overlay.open_bytes += bytes_of(&key);
        overlay.open.insert(key, row);
    }

    /// Approximate bytes of the open epoch's rows.
    pub fn open_bytes(&self) -> usize {
        self.0.overlay.read().expect(POISONED).open_bytes
    }

    /// Ends the open epoch: what comes from here on belongs to the next. The one before must be committed.
    pub fn close_epoch(&self) {
        let mut overlay = self.0.overlay.write().expect(POISONED);
        assert!(overlay.closing.is_empty(), "two epochs at most");
        overlay.closing = Arc::new(std::mem::take(&mut overlay.open));
        overlay.open_bytes = 0;
    }

    /// Notes that the run ends in order: nothing is open, and what was recorded is durable.
    pub fn end(&self) -> Result<(), RegistryError> {
        let transaction = self.0.database.begin_write()?;
        transaction.open_table(META)?.insert(ENDED, &[1][..])?;
        Ok(transaction.commit()?)
    }

    /// A volume's rows that no durable epoch holds. Not while an epoch is closed and not committed.
    pub fn undurable(&self, volume: u16) -> Vec<(Key, Row)> {
        let overlay = self.0.overlay.read().expect(POISONED);
        let rows = overlay.open.iter().filter(|(key, _)| key.volume == volume);
        rows.map(|(key, row)| (key.clone(), row.clone())).collect()
    }

    /// Gives them up. Returns the volume as of its last durable epoch, if it was in one. Not while an epoch is closed and not
    /// committed.
    pub fn take_back(&self, volume: u16) -> Result<Option<VolumeState>, RegistryError> {
        {
            let mut overlay = self.0.overlay.write().expect(POISONED);
            overlay.open.retain(|key, _| key.volume != volume);
            overlay.sequence.retain(|(number, _), _| *number != volume);
            overlay.contents.retain(|_, key| key.volume != volume);
        }
        let read = self.0.database.begin_read()?;
        for item in read.open_table(VOLUMES)?.iter()? {
            let (_, bytes) = item?;
            let mut state: VolumeState =
                postcard::from_bytes(bytes.value()).map_err(|_| RegistryError::Row(RowError::Damaged))?;
            if state.number == volume {
                self.count_waiting(&mut state)?;
                return Ok(Some(state));
            }
        }
        Ok(None)
    }

    /// A volume of which nothing was known, durable when this returns: no row of it may be older.
    pub fn add_volume(&self, name: &str, state: &VolumeState) -> Result<(), RegistryError> {
        let mut transaction = self.0.database.begin_write()?;
        transaction.set_quick_repair(true);
        transaction.open_table(VOLUMES)?.insert(name, encode_state(state).as_slice())?;
        transaction.commit()?;
        Ok(())
    }

    /// Writes the closed epoch's rows and `stored` in one durable transaction, then lets the rows go. Of volumes that are left
    /// out nothing is written: their rows belong to the open epoch again.
    pub fn commit(&self, stored: &Stored, left_out: &BTreeSet<u16>) -> Result<(), RegistryError> {
        // Shared, not locked: the loop goes on putting rows of the next epoch while these are written.
        let closing = self.0.overlay.read().expect(POISONED).closing.clone();
        let mut transaction = self.0.database.begin_write()?;
        transaction.set_quick_repair(true);
        {
            let mut rows = transaction.open_table(ROWS)?;
            let mut wanted = transaction.open_table(WANTED)?;
            let mut sequence = transaction.open_table(SEQUENCE)?;
            let mut contents = transaction.open_table(CONTENTS)?;
            for (key, row) in closing.iter().filter(|(key, _)| !left_out.contains(&key.volume)) {
                let bytes = key.encode();
                let old = rows.insert(bytes.as_slice(), row.encode().as_slice())?;
                let old = old.map(|old| Row::decode(old.value())).transpose().map_err(RegistryError::Row)?;
                if let Some(old) = &old
                    && old.sequence != row.sequence
                {
                    sequence.remove((key.volume, old.sequence))?;
                }
                sequence.insert((key.volume, row.sequence), bytes.as_slice())?;
                let (before, now) = (old.as_ref().and_then(large_contents), large_contents(row));
                if before != now {
                    before.map(|hash| contents.remove(key.encode_contents(&hash).as_slice())).transpose()?;
                    now.map(|hash| contents.insert(key.encode_contents(&hash).as_slice(), ())).transpose()?;
                }
                if row.wanted.is_some() {
                    wanted.insert(bytes.as_slice(), ())?;
                } else if old.is_some_and(|old| old.wanted.is_some()) {
                    wanted.remove(bytes.as_slice())?;
                }
            }
            let mut volumes = transaction.open_table(VOLUMES)?;
            for (name, state) in stored.volumes.iter().filter(|(_, state)| !left_out.contains(&state.number)) {
                volumes.insert(name.as_str(), encode_state(state).as_slice())?;
            }
            let mut meta = transaction.open_table(META)?;
            let forgotten = postcard::to_stdvec(&stored.forgotten).expect("a set of names can be encoded");
            let old = meta.insert(FORGOTTEN, forgotten.as_slice())?;
            let is_new = old.is_none_or(|old| old.value() != forgotten);
            let is_kept = meta.get(REVOKED)?.is_some_and(|kept| kept.value() == stored.revoked.as_bytes());
            if !is_kept && !stored.revoked.is_empty() {
                meta.insert(REVOKED, stored.revoked.as_bytes())?;
            }
            let last = postcard::to_stdvec(&stored.last).expect("plain values, which postcard takes");
            meta.insert(LAST, last.as_slice())?;
            let mut replicas = transaction.open_table(REPLICAS)?;
            if is_new {
                replicas.retain(|replica, _| stored.replicas.contains_key(&ReplicaId(replica)))?;
            }
            if replicas.len()? != stored.replicas.len() as u64 {
                for (replica, node) in &stored.replicas {
                    replicas.insert(replica.0, node.as_str())?;
                }
            }
        }
        transaction.commit()?;
        let mut overlay = self.0.overlay.write().expect(POISONED);
        let overlay = &mut *overlay;
        overlay.closing = Arc::default();
        for (key, row) in &*closing {
            if overlay.open.contains_key(key) {
                continue;
            }
            if left_out.contains(&key.volume) {
                overlay.open_bytes += bytes_of(key);
                overlay.open.insert(key.clone(), row.clone());
            } else {
                overlay.sequence.remove(&(key.volume, row.sequence));
            }
        }
        let open = &overlay.open;
        overlay.contents.retain(|_, key| open.contains_key(key));
        Ok(())
    }
}

/// The last epoch that became durable, and the run that it belongs to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Last {
    /// Its number: journals up to it have nothing more to tell.
    pub epoch: u64,
    /// The system's boot id.
    pub boot: String,
    /// Members with which the run had sessions.
    pub sessions: Vec<String>,
}

/// What the registry keeps beside rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stored {
    /// See [`Last`].
    pub last: Last,
    /// The run before ended in order, with everything durable. Known once, to whoever opens the registry next.
    pub ended: bool,
    /// Volumes by name.
    pub volumes: BTreeMap<String, VolumeState>,
    /// Which node each replica belongs to.
    pub replicas: BTreeMap<ReplicaId, String>,
    /// Nodes that were taken out of the mesh and forgotten: what peers tell of their replicas isn't taken in.
    pub forgotten: BTreeSet<String>,
    /// The revocation list in force, as an authority has signed it; empty if there is none.
    pub revoked: String,
}

fn encode_state(state: &VolumeState) -> Vec<u8> {
    postcard::to_stdvec(state).expect("a volume's state has no type that postcard refuses")
}

/// What a row takes, about.
fn bytes_of(key: &Key) -> usize {
    300 + key.directory.as_bytes().len() + key.name.as_bytes().len()
}

/// The least key that a child of the directory can have.
fn first_child(volume: u16, directory: &RelativePath) -> Key {
    Key { volume, directory: directory.clone(), name: Name::new(&[1]).expect("one byte that may stand in a name") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text.as_bytes()).unwrap()
    }

    fn put(registry: &Registry, at: &str, sequence: u64) {
        registry.put(Key::of(1, &path(at)).unwrap(), Row { sequence, here: None, wanted: None });
    }

    fn commit(registry: &Registry) {
        registry.close_epoch();
        registry.commit(&Stored::default(), &BTreeSet::new()).unwrap();
    }

    #[test]
    fn reads_see_the_open_epoch_before_the_closed_before_the_durable() {
        let (registry, _) = Registry::open(InMemoryBackend::new()).unwrap();
        for (sequence, name) in ["d/a", "d/b", "d/c", "d/c/x", "e"].iter().enumerate() {
            put(&registry, name, sequence as u64 + 1);
        }
        commit(&registry);
        put(&registry, "d/b", 6);
        registry.close_epoch();
        put(&registry, "d/aa", 7);
        put(&registry, "d/c", 8);
        let children = |after: Option<&str>, limit| {
            let after = after.map(|n| Name::new(n.as_bytes()).unwrap());
            let rows = registry.children(1, &path("d"), after.as_ref(), limit).unwrap();
            rows.into_iter().map(|(name, row)| format!("{name}{}", row.sequence)).collect::<Vec<_>>()
        };
        assert_eq!(children(None, 10), ["a1", "aa7", "b6", "c8"]);
        assert_eq!(children(Some("a"), 2), ["aa7", "b6"]);
        assert_eq!(children(Some("b"), 2), ["c8"]);
        let since = |position, limit| {
            let rows = registry.since(1, position, limit).unwrap();
            rows.into_iter().map(|(key, row)| format!("{}{}", key.path(), row.sequence)).collect::<Vec<_>>()
        };
        let expected = ["d/a1", "d/c/x4", "e5", "d/b6", "d/aa7", "d/c8"];
        assert_eq!(since(0, 10), expected);
        assert_eq!(since(4, 2), ["e5", "d/b6"]);
        let between = |after: Option<&str>, upto: Option<&str>, limit| {
            let key = |at: &str| Key::of(1, &path(at)).unwrap();
            let (after, upto) = (after.map(key), upto.map(key));
            let rows = registry.between(1, after.as_ref(), upto.as_ref(), limit).unwrap();
            rows.into_iter().map(|(key, row)| format!("{}{}", key.path(), row.sequence)).collect::<Vec<_>>()
        };
        assert_eq!(between(None, None, 10), ["e5", "d/a1", "d/aa7", "d/b6", "d/c8", "d/c/x4"]);
        assert_eq!(between(None, Some("d/aa"), 10), ["e5", "d/a1", "d/aa7"]);
        assert_eq!(between(Some("e"), None, 2), ["d/a1", "d/aa7"]);
        assert_eq!(between(Some("d/b"), Some("d/c"), 9), ["d/c8"]);
        registry.commit(&Stored::default(), &BTreeSet::new()).unwrap();
        assert_eq!(since(0, 10), expected);
        commit(&registry);
        assert_eq!(since(0, 10), expected);
    }
}
