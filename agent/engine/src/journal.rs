//! The journal: what happened since the last durable epoch, one append-only file per epoch in the state directory.
//!
//! After kill -9 the files are as the last system call left them, so rows and intents are replayed from here. A record
//! is `| length: u32 | CRC32: u32 | postcard |`; a torn last record is where the journal ends.

use crate::registry::Key;
use serde::{Deserialize, Serialize};
use syncmesh_core::entry::{Entry, Identity, Row};
use syncmesh_core::version::ReplicaId;

/// The format of records, in the header.
pub const FORMAT: u32 = 1;

/// One record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Record {
    /// First record of a file.
    Header {
        /// See [`FORMAT`].
        format: u32,
        /// The system's boot id. What a start compares is the registry's, which is durable: see `Last` there.
        boot: String,
        /// Who writes it.
        replica: ReplicaId,
        /// The epoch's number.
        epoch: u64,
        /// Peers with which the run had sessions, for people who read journals; a start asks the registry.
        sessions: Vec<String>,
    },
    /// A row as it is from here on.
    Row(Key, Row),
    /// Which node a replica belongs to.
    Replica(ReplicaId, String),
    /// A volume was ordered to pause, or to go on.
    Paused(u16, bool),
    /// A node was forgotten, and with it these of its replicas.
    Forgotten(String, Vec<ReplicaId>),
    /// A name is about to be given to what lies in a slot, or taken away into it.
    Intent(Intent),
}

/// What a job is about to do to one name. Written before it is done: which inode lies in the slot tells afterwards
/// whether it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Intent {
    /// Which name.
    pub key: Key,
    /// The slot that is exchanged with the name.
    pub slot: u64,
    /// What lies in the slot; `None` for a deletion, whose slot is empty. The inode that has the name already, if that stays
    /// and only gets other metadata.
    pub staged: Option<Identity>,
    /// What the name is expected to show.
    pub old: Option<Identity>,
    /// The row's published entry afterwards.
    pub new: Entry,
    /// What lies in the slot before isn't of our making: a user wrote it, and it exists nowhere else.
    pub only_copy: bool,
}

/// Appends one record's bytes.
pub fn encode(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    *out = postcard::to_extend(record, std::mem::take(out)).expect("records have no type that postcard refuses");
    let length = u32::try_from(out.len() - start - 8).expect("a record is two entries long at most");
    let crc = crc32fast::hash(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// All whole records of a journal's bytes, and whether bytes were left that are none: a torn or damaged end.
pub fn decode(mut bytes: &[u8]) -> (Vec<Record>, bool) {
    let mut records = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let crc = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let Some(body) = rest.get(..length).filter(|body| crc32fast::hash(body) == crc) else { break };
        let Ok(record) = postcard::from_bytes(body) else { break };
        records.push(record);
        bytes = &rest[length..];
    }
    (records, !bytes.is_empty())
}

/// The file name of an epoch's journal.
pub fn file_name(epoch: u64) -> String {
    format!("journal-{epoch:016x}")
}

/// The epoch of a journal's file name; `None` for other files.
pub fn epoch_of(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_prefix("journal-").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_end_loses_only_the_last_record() {
        let mut bytes = Vec::new();
        let record = |n| Record::Replica(ReplicaId(n), "a".into());
        encode(&record(1), &mut bytes);
        let first = bytes.len();
        encode(&record(2), &mut bytes);
        assert_eq!(decode(&bytes), (vec![record(1), record(2)], false));
        for cut in first + 1..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), (vec![record(1)], true));
        }
        bytes[first + 9] ^= 1;
        assert_eq!(decode(&bytes), (vec![record(1)], true));
        assert_eq!(epoch_of(&file_name(77)), Some(77));
        assert_eq!(epoch_of("journal-x"), None);
    }
}
