//! What scenarios do and look at, in words of their own: users' writes, names and contents by node, everybody in sync.

use crate::Disk;
use crate::mesh::Mesh;
use std::collections::BTreeMap;

/// How long everybody may take to be in sync, in simulated nanoseconds.
const PATIENCE: u64 = 120_000_000_000;

impl Mesh {
    /// Runs until all nodes are in sync.
    ///
    /// # Panics
    /// They aren't within two minutes.
    #[track_caller]
    pub fn in_sync(&mut self) {
        let result = self.run_until_in_sync(PATIENCE);
        result.unwrap_or_else(|why| panic!("seed {}: {why}", self.seed));
    }

    /// A file `f` of the first node, on all nodes and durable there.
    ///
    /// # Panics
    /// They aren't in sync within two minutes.
    #[track_caller]
    pub fn settled(&mut self, contents: impl AsRef<[u8]>) {
        self.write(1, b"f", contents);
        self.in_sync();
        self.run_for(10_000_000_000);
    }

    /// A node's disk.
    pub fn disk(&self, node: u32) -> &Disk {
        &self.machines[node as usize - 1].disk
    }

    /// All paths on a node, in order.
    pub fn names(&self, node: u32) -> Vec<String> {
        self.disk(node).snapshot().keys().map(|path| text(path)).collect()
    }

    /// All paths on a node with their contents, in order.
    pub fn tree(&self, node: u32) -> Vec<(String, String)> {
        let snapshot = self.disk(node).snapshot();
        snapshot.iter().map(|(path, shown)| (text(path), text(&shown.contents))).collect()
    }

    /// A file's contents, if it is there.
    pub fn read(&self, node: u32, path: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        self.disk(node).user_read(path.as_ref()).ok()
    }

    /// A user of a node replaces a file's contents, or makes the file.
    ///
    /// # Panics
    /// The disk refuses.
    #[track_caller]
    pub fn write(&self, node: u32, path: impl AsRef<[u8]>, contents: impl AsRef<[u8]>) {
        self.disk(node).user_write(path.as_ref(), contents.as_ref()).expect("a scenario's disk takes its writes");
    }

    /// A user of a node makes a directory.
    ///
    /// # Panics
    /// The disk refuses.
    #[track_caller]
    pub fn mkdir(&self, node: u32, path: impl AsRef<[u8]>) {
        self.disk(node).user_mkdir(path.as_ref()).expect("a scenario's disk takes its directories");
    }

    /// A user of a node removes a file, a link or an empty directory.
    ///
    /// # Panics
    /// The disk refuses.
    #[track_caller]
    pub fn remove(&self, node: u32, path: impl AsRef<[u8]>) {
        self.disk(node).user_remove(path.as_ref()).expect("a scenario removes what is there");
    }

    /// What a node's version store has, by name.
    pub fn stored(&self, node: u32) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut stored = self.disk(node).stored_contents();
        stored.retain(|path, _| path.starts_with(b"store/"));
        stored
    }

    /// Does a node have these contents, under a name or in its store?
    pub fn has_contents(&self, node: u32, contents: impl AsRef<[u8]>) -> bool {
        let disk = self.disk(node);
        let shown = disk.snapshot().into_values().map(|shown| shown.contents);
        shown.chain(disk.stored_contents().into_values()).any(|found| found == contents.as_ref())
    }

    /// Does so many steps.
    pub fn take_steps(&mut self, steps: u64) {
        (0..steps).for_each(|_| _ = self.step());
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
