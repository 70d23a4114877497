//! The registry's file in memory: it outlives the agent, as a file outlives kill -9.

use redb::StorageBackend;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// A file that registries are opened on. Clones are the same file.
#[derive(Clone, Debug, Default)]
pub struct Storage(Arc<Mutex<Vec<u8>>>);

impl Storage {
    /// Another file with the same bytes. An agent that is dropped closes its registry in order; a killed one doesn't, so
    /// a crash goes on from a copy that was made before.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.with(|bytes| bytes.clone()))))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn range(offset: u64, length: usize) -> std::ops::Range<usize> {
    let offset = usize::try_from(offset).expect("a file in memory is addressed by usize");
    offset..offset + length
}

impl StorageBackend for Storage {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.with(|bytes| bytes.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.with(|bytes| {
            let part = bytes.get(range(offset, out.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(part);
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        self.with(|bytes| bytes.resize(range(length, 0).start, 0));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.with(|bytes| {
            let part = bytes.get_mut(range(offset, data.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
            part.copy_from_slice(data);
            Ok(())
        })
    }
}
