//! The registry's file in memory: it outlives the agent, as a file outlives kill -9.

use redb::StorageBackend;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// A file that registries are opened on. Clones are the same file.
#[derive(Clone, Debug, Default)]
pub struct Storage(Arc<Mutex<File>>);

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    /// As of the last sync, and what was done since.
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

impl Storage {
    /// Another file with the same bytes. An agent that is dropped closes its registry in order; a killed one doesn't, so
    /// a crash goes on from a copy that was made before.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.with(|file| file.clone()))))
    }

    /// What power loss leaves: all that was synced, and any of the writes since.
    pub fn after_power_loss(&self, random: &mut crate::Random) -> Self {
        let mut file = self.with(|file| file.clone());
        let mut bytes = file.durable;
        for change in file.unsynced.drain(..) {
            if random.once_in(2) {
                continue;
            }
            match change {
                Change::Length(length) => bytes.resize(length, 0),
                Change::Write(offset, data) => {
                    let end = offset + data.len();
                    bytes.resize(bytes.len().max(end), 0);
                    bytes[offset..end].copy_from_slice(&data);
                }
            }
        }
        Self(Arc::new(Mutex::new(File { durable: bytes.clone(), bytes, unsynced: Vec::new() })))
    }

    fn with<T>(&self, work: impl FnOnce(&mut File) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn range(offset: u64, length: usize) -> std::ops::Range<usize> {
    let offset = usize::try_from(offset).expect("a file in memory is addressed by usize");
    offset..offset + length
}

impl StorageBackend for Storage {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.with(|file| file.bytes.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.with(|file| {
            let part = file.bytes.get(range(offset, out.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(part);
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        self.with(|file| {
            let length = range(length, 0).start;
            file.bytes.resize(length, 0);
            file.unsynced.push(Change::Length(length));
        });
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.with(|file| {
            for change in std::mem::take(&mut file.unsynced) {
                match change {
                    Change::Length(length) => file.durable.resize(length, 0),
                    Change::Write(offset, data) => {
                        file.durable[offset..offset + data.len()].copy_from_slice(&data);
                    }
                }
            }
        });
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.with(|file| {
            let range = range(offset, data.len());
            let part = file.bytes.get_mut(range.clone()).ok_or(io::ErrorKind::UnexpectedEof)?;
            part.copy_from_slice(data);
            file.unsynced.push(Change::Write(range.start, data.to_vec()));
            Ok(())
        })
    }
}
