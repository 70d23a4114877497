//! The simulated state directory: journals and small files that survive a crash of the agent.

use crate::faults::Faults;
use crate::fs::StepHook;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use syncmesh_io::{FsError, Log, StateFiles};

/// A state directory. Owned by the scenario; clones are the same directory.
#[derive(Clone, Debug, Default)]
pub struct StateDisk(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    names: BTreeMap<String, u64>,
    /// By number, not by name: a log that was removed can still be appended to.
    files: BTreeMap<u64, Vec<u8>>,
    last_file: u64,
    /// Each open log. Numbers aren't used again, so a stale one finds nothing.
    logs: BTreeMap<u32, OpenLog>,
    last_log: u32,
    /// Files that were removed since the last durable write.
    removed: BTreeMap<String, Vec<u8>>,
    last_run: u64,
    /// The run that has the lock.
    locked: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct OpenLog {
    file: u64,
    /// Whose descriptor it is.
    run: u64,
}

impl StateDisk {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends for [`syncmesh_io::Operation::Append`]: at once, and without a step. For a crash in the middle of it
    /// give only a part of the bytes.
    pub fn append_from_io(&self, log: Log, bytes: &[u8]) -> Result<(), FsError> {
        let mut contents = self.contents();
        let file = contents.logs.get(&log.0).ok_or(FsError::NotFound)?.file;
        contents.files.entry(file).or_default().extend_from_slice(bytes);
        Ok(())
    }

    /// Is there a file whose name begins like that?
    pub fn has(&self, prefix: &str) -> bool {
        self.contents().names.keys().any(|name| name.starts_with(prefix))
    }

    /// Power fails. Logs are never synced: each ends somewhere, or is gone. What was removed since the last durable write may
    /// be back.
    pub fn lose_power(&self, random: &mut crate::Random) {
        let mut contents = self.contents();
        let contents = &mut *contents;
        contents.logs.clear();
        contents.locked = None;
        for (name, bytes) in std::mem::take(&mut contents.removed) {
            if random.once_in(3) && !contents.names.contains_key(&name) {
                contents.new_file(&name, &bytes);
            }
        }
        let logs: Vec<String> = contents.names.keys().filter(|name| name.starts_with("journal-")).cloned().collect();
        for name in logs {
            let file = contents.names[&name];
            let length = contents.files[&file].len() as u64;
            match random.between(0, 3) {
                0 => {
                    contents.names.remove(&name);
                    contents.files.remove(&file);
                }
                1 => {
                    let kept = random.between(0, length) as usize;
                    contents.files.entry(file).or_default().truncate(kept);
                }
                _ => {}
            }
        }
    }

    /// All files by name.
    pub fn snapshot(&self) -> BTreeMap<String, Vec<u8>> {
        let contents = self.contents();
        let names = contents.names.iter();
        names.map(|(name, file)| (name.clone(), contents.files[file].clone())).collect()
    }

    /// Another directory with the same files; nobody has it open.
    pub fn copy(&self) -> Self {
        let files = self.snapshot();
        let copy = Self::new();
        {
            let mut contents = copy.contents();
            for (name, bytes) in files {
                contents.new_file(&name, &bytes);
            }
        }
        copy
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn new_file(&mut self, name: &str, bytes: &[u8]) -> u64 {
        self.last_file += 1;
        self.files.insert(self.last_file, bytes.to_vec());
        let before = self.names.insert(name.to_owned(), self.last_file);
        self.free(before);
        self.last_file
    }

    fn free(&mut self, file: Option<u64>) {
        let Some(file) = file else { return };
        let named = self.names.values().any(|other| *other == file);
        let open = self.logs.values().any(|log| log.file == file);
        if !named && !open {
            self.files.remove(&file);
        }
    }
}

/// One agent's view of a state directory. Its lock and logs end with it.
pub struct SimStateFiles {
    disk: StateDisk,
    faults: Faults,
    step: StepHook,
    run: u64,
}

impl SimStateFiles {
    /// Opens the directory.
    pub fn new(disk: StateDisk, faults: Faults, step: StepHook) -> Self {
        let run = {
            let mut contents = disk.contents();
            contents.last_run += 1;
            contents.last_run
        };
        Self { disk, faults, step, run }
    }

    /// Takes the directory for this agent; false if another has it.
    pub fn lock(&self) -> bool {
        *self.disk.contents().locked.get_or_insert(self.run) == self.run
    }

    fn call<T>(
        &self,
        call: &'static str,
        name: Option<&str>,
        body: impl FnOnce(&mut Contents) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        (self.step)(call);
        let result = self.faults.take(call).and_then(|()| {
            name.map_or(Ok(()), check)?;
            body(&mut self.disk.contents())
        });
        (self.step)(call);
        result
    }
}

impl Drop for SimStateFiles {
    fn drop(&mut self) {
        let mut contents = self.disk.contents();
        contents.locked.take_if(|holder| *holder == self.run);
        let ours: Vec<u64> =
            contents.logs.extract_if(.., |_, log| log.run == self.run).map(|(_, log)| log.file).collect();
        for file in ours {
            contents.free(Some(file));
        }
    }
}

fn check(name: &str) -> Result<(), FsError> {
    if name.is_empty() || matches!(name, "." | "..") || name.contains(['/', '\0']) {
        return Err(FsError::Outside);
    }
    if name == "lock" || name.ends_with(".new") {
        return Err(FsError::Denied);
    }
    Ok(())
}

impl StateFiles for SimStateFiles {
    fn list(&self) -> Result<Vec<String>, FsError> {
        self.call("state.list", None, |contents| Ok(contents.names.keys().cloned().collect()))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, FsError> {
        self.call("state.read", Some(name), |contents| {
            let file = contents.names.get(name).ok_or(FsError::NotFound)?;
            Ok(contents.files[file].clone())
        })
    }

    fn open_log(&self, name: &str) -> Result<Log, FsError> {
        self.call("state.open_log", Some(name), |contents| {
            let file = match contents.names.get(name) {
                Some(file) => *file,
                None => contents.new_file(name, b""),
            };
            contents.last_log += 1;
            let log = contents.last_log;
            contents.logs.insert(log, OpenLog { file, run: self.run });
            Ok(Log(log))
        })
    }

    fn append(&self, log: Log, bytes: &[u8]) -> Result<(), FsError> {
        (self.step)("state.append");
        let result = self.faults.take("state.append").and_then(|()| self.disk.append_from_io(log, bytes));
        (self.step)("state.append");
        result
    }

    fn close_log(&self, log: Log) {
        let mut contents = self.disk.contents();
        let closed = contents.logs.remove(&log.0);
        contents.free(closed.map(|log| log.file));
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FsError> {
        self.call("state.write", Some(name), |contents| {
            contents.removed.clear();
            contents.new_file(name, bytes);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> Result<(), FsError> {
        self.call("state.remove", Some(name), |contents| {
            let file = contents.names.remove(name);
            if let Some(bytes) = file.and_then(|file| contents.files.get(&file)) {
                contents.removed.insert(name.to_owned(), bytes.clone());
            }
            contents.free(file);
            Ok(())
        })
    }
}
