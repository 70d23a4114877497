//! The simulated twin of `LinuxFs`: the agent's side of a [`Disk`].

use crate::coroutine::step;
use crate::disk::{Disk, META};
use crate::faults::Faults;
use crate::inode::{Contents, Names, Node, Number};
use crate::tree::{INVALID, Rename, Tree};
use std::sync::{Arc, OnceLock};
use syncmesh_io::{
    DirEntry, Directory, Displaced, FileId, FileKind, Fs, FsError, Metadata, OpenFile, Owner, Probe, Space, Stat,
    WatchDescriptor, Watcher,
};

/// Called with a call's name before and after it. The simulator suspends the job here; nothing is locked meanwhile.
pub type StepHook = Arc<dyn Fn(&'static str) + Send + Sync>;

/// The agent runs as root.
const AGENT: Owner = Owner { uid: 0, gid: 0 };

const MARKER: &[u8] = b"marker";
const NEW_MARKER: &[u8] = b"marker.new";

/// One agent's view of a disk: it ends with the agent, and its watches with it. After a crash drop the old one before
/// making a new one with the same watcher, whose events end with it.
pub struct SimFs {
    disk: Disk,
    watcher: Watcher,
    faults: Faults,
    step: StepHook,
    meta: OnceLock<Meta>,
}

#[derive(Clone, Copy)]
struct Meta {
    directory: Number,
    stage: Number,
    store: Number,
}

impl SimFs {
    /// Opens a disk. The watcher's number is the caller's choice and must be unlike those of all other volumes that one
    /// simulated network serves. Its events are fetched with [`Disk::take_events`].
    pub fn new(disk: Disk, watcher: Watcher, faults: Faults, step: StepHook) -> Self {
        disk.start_watching(watcher);
        let meta = OnceLock::new();
        if let Ok(found) = find_meta(&disk.tree()) {
            let _ = meta.set(found);
        }
        Self { disk, watcher, faults, step, meta }
    }

    /// One call: a step before it, a step after it, and between them it happens at once or fails. The closure locks the
    /// tree itself and only for its duration, so that whatever it returns can be dropped when a job is unwound.
    fn call<T>(&self, name: &'static str, body: impl FnOnce() -> Result<T, FsError>) -> Result<T, FsError> {
        (self.step)(name);
        let result = self.faults.take(name).and_then(|()| body());
        (self.step)(name);
        result
    }

    fn on_tree<T>(&self, name: &'static str, body: impl FnOnce(&mut Tree) -> Result<T, FsError>) -> Result<T, FsError> {
        self.call(name, || body(&mut self.disk.tree()))
    }

    fn meta(&self) -> Result<Meta, FsError> {
        self.meta.get().copied().ok_or(FsError::NotFound)
    }

    fn held(&self, handle: u64) -> Held {
        Held { disk: self.disk.clone(), handle }
    }
}

impl Drop for SimFs {
    fn drop(&mut self) {
        self.disk.stop_watching(self.watcher);
    }
}

/// A handle that is closed when the agent lets go of it, or is gone.
struct Held {
    disk: Disk,
    handle: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.disk.tree().close(self.handle);
    }
}

fn find_meta(tree: &Tree) -> Result<Meta, FsError> {
    let directory = tree.lookup(tree.root, META)?;
    Ok(Meta { directory, stage: tree.lookup(directory, b"stage")?, store: tree.lookup(directory, b"store")? })
}

fn make_directory(tree: &mut Tree, parent: Number, name: &[u8]) -> Result<Number, FsError> {
    match tree.create(parent, name, Node::Directory(Names::default()), 0o700, AGENT) {
        Err(FsError::Exists) => tree.lookup(parent, name),
        result => result,
    }
}

fn slot_name(slot: u64) -> Vec<u8> {
    format!("{slot:016x}").into_bytes()
}

fn parse_slot(name: &[u8]) -> Option<u64> {
    let slot = u64::from_str_radix(std::str::from_utf8(name).ok()?, 16).ok()?;
    (slot_name(slot) == name).then_some(slot)
}

fn check_name(name: &[u8]) -> Result<(), FsError> {
    let single = !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|byte| matches!(byte, b'/' | 0));
    if single { Ok(()) } else { Err(FsError::Outside) }
}

impl Fs for SimFs {
    fn probe(&self) -> Result<Probe, FsError> {
        self.on_tree("probe", |tree| {
            let directory = make_directory(tree, tree.root, META)?;
            let stage = make_directory(tree, directory, b"stage")?;
            let store = make_directory(tree, directory, b"store")?;
            let _ = self.meta.set(Meta { directory, stage, store });
            Ok(Probe {
                device: tree.device,
                file_system: "simulated".to_owned(),
                exchange: true,
                no_replace: true,
                change_owner: true,
                leases: tree.leases,
                exact_stamps: tree.tick <= 1,
                exact_metadata: true,
                mount: tree.mount,
            })
        })
    }

    fn space(&self) -> Result<Space, FsError> {
        self.on_tree("space", |tree| {
            let (free_bytes, total_bytes) = tree.room();
            Ok(Space { free_bytes, total_bytes })
        })
    }

    fn open_directory(&self, components: &[&[u8]]) -> Result<Box<dyn Directory + '_>, FsError> {
        self.call("open_directory", || {
            for component in components {
                check_name(component)?;
            }
            if components.first() == Some(&META) {
                return Err(FsError::Outside);
            }
            let (directory, handle) = {
                let mut tree = self.disk.tree();
                let mut here = tree.root;
                for component in components {
                    here = lookup_spelled(&tree, here, component)?;
                    if !tree.inode(here).is_directory() {
                        return Err(FsError::Outside);
                    }
                }
                (here, tree.open(here, None, false))
            };
            Ok(Box::new(SimDirectory { fs: self, directory, is_root: components.is_empty(), _held: self.held(handle) })
                as Box<dyn Directory>)
        })
    }

    fn is_in_place(&self) -> Result<bool, FsError> {
        self.call("is_in_place", || Ok(!self.disk.is_elsewhere()))
    }

    fn read_marker(&self) -> Result<Option<Vec<u8>>, FsError> {
        self.on_tree("read_marker", |tree| {
            let Ok(meta) = self.meta() else {
                return Ok(None);
            };
            match tree.lookup(meta.directory, MARKER) {
                Ok(inode) => match &tree.inode(inode).node {
                    Node::File(contents) => Ok(Some(contents.whole())),
                    _ => Err(FsError::WrongKind),
                },
                Err(FsError::NotFound) => Ok(None),
                Err(why) => Err(why),
            }
        })
    }

    fn write_marker(&self, contents: &[u8]) -> Result<(), FsError> {
        self.on_tree("write_marker", |tree| {
            let meta = self.meta()?.directory;
            let mut new = Contents::default();
            new.write(contents, 0);
            tree.create(meta, NEW_MARKER, Node::File(new), 0o600, AGENT)?;
            tree.rename((meta, NEW_MARKER), (meta, MARKER), Rename::Replace)?;
            tree.sync()
        })
    }

    fn stage_file(&self, slot: u64) -> Result<Box<dyn OpenFile + '_>, FsError> {
        self.call("stage_file", || {
            let stage = self.meta()?.stage;
            let name = slot_name(slot);
            let handle = {
                let mut tree = self.disk.tree();
                match tree.unlink(stage, &name) {
                    Ok(()) | Err(FsError::NotFound) => {}
                    Err(why) => return Err(why),
                }
                let node = Node::File(Contents::default());
                let inode = tree.create(stage, &name, node, 0o600, AGENT)?;
                tree.open(inode, Some((stage, &name)), true)
            };
            Ok(self.file(handle))
        })
    }

    fn open_slot(&self, slot: u64) -> Result<Box<dyn OpenFile + '_>, FsError> {
        self.call("open_slot", || {
            let stage = self.meta()?.stage;
            let handle = open_file(&mut self.disk.tree(), stage, &slot_name(slot), false)?;
            Ok(self.file(handle))
        })
    }

    fn resume_slot(&self, slot: u64) -> Result<Box<dyn OpenFile + '_>, FsError> {
        self.call("resume_slot", || {
            let stage = self.meta()?.stage;
            let handle = open_file(&mut self.disk.tree(), stage, &slot_name(slot), true)?;
            Ok(self.file(handle))
        })
    }

    fn stage_directory(&self, slot: u64) -> Result<(), FsError> {
        self.on_tree("stage_directory", |tree| {
            let node = Node::Directory(Names::default());
            let stage = self.meta()?.stage;
            tree.create(stage, &slot_name(slot), node, 0o700, AGENT).map(|_| ())
        })
    }

    fn stage_symlink(&self, slot: u64, target: &[u8]) -> Result<(), FsError> {
        self.on_tree("stage_symlink", |tree| {
            let node = Node::Symlink(target.to_vec());
            let stage = self.meta()?.stage;
            tree.create(stage, &slot_name(slot), node, 0o777, AGENT).map(|_| ())
        })
    }

    fn set_slot_metadata(&self, slot: u64, metadata: &Metadata) -> Result<(), FsError> {
        self.on_tree("set_slot_metadata", |tree| {
            let stage = self.meta()?.stage;
            let name = slot_name(slot);
            let inode = tree.lookup(stage, &name)?;
            tree.set_metadata(inode, Some(&(stage, name)), metadata);
            Ok(())
        })
    }

    fn stat_slot(&self, slot: u64) -> Result<Stat, FsError> {
        self.on_tree("stat_slot", |tree| {
            let inode = tree.lookup(self.meta()?.stage, &slot_name(slot))?;
            Ok(tree.stat(inode))
        })
    }

    fn list_slots(&self) -> Result<Vec<u64>, FsError> {
        self.on_tree("list_slots", |tree| {
            let names = tree.names(self.meta()?.stage)?.keys();
            Ok(names.filter_map(|name| parse_slot(name)).collect())
        })
    }

    fn drop_slot(&self, slot: u64) -> Result<(), FsError> {
        self.on_tree("drop_slot", |tree| tree.remove(self.meta()?.stage, &slot_name(slot)))
    }

    fn store_slot(&self, slot: u64, name: &str) -> Result<(), FsError> {
        self.on_tree("store_slot", |tree| {
            check_name(name.as_bytes())?;
            let meta = self.meta()?;
            let (from, to) = (slot_name(slot), name.as_bytes());
            tree.rename((meta.stage, &from), (meta.store, to), Rename::NoReplace)
        })
    }

    fn take_stored(&self, name: &str, slot: u64) -> Result<(), FsError> {
        self.on_tree("take_stored", |tree| {
            check_name(name.as_bytes())?;
            let meta = self.meta()?;
            let (from, to) = (name.as_bytes(), slot_name(slot));
            tree.rename((meta.store, from), (meta.stage, &to), Rename::NoReplace)
        })
    }

    fn list_store(&self) -> Result<Vec<String>, FsError> {
        self.on_tree("list_store", |tree| {
            let names = tree.names(self.meta()?.store)?.keys();
            Ok(names.filter_map(|name| String::from_utf8(name.clone()).ok()).collect())
        })
    }

    fn stat_stored(&self, name: &str) -> Result<Stat, FsError> {
        self.on_tree("stat_stored", |tree| {
            check_name(name.as_bytes())?;
            let inode = tree.lookup(self.meta()?.store, name.as_bytes())?;
            Ok(tree.stat(inode))
        })
    }

    fn open_stored(&self, name: &str) -> Result<Box<dyn OpenFile + '_>, FsError> {
        self.call("open_stored", || {
            check_name(name.as_bytes())?;
            let store = self.meta()?.store;
            let handle = open_file(&mut self.disk.tree(), store, name.as_bytes(), false)?;
            Ok(self.file(handle))
        })
    }

    fn drop_stored(&self, name: &str) -> Result<(), FsError> {
        self.on_tree("drop_stored", |tree| {
            check_name(name.as_bytes())?;
            tree.remove(self.meta()?.store, name.as_bytes())
        })
    }

    fn stamp(&self) -> Result<i64, FsError> {
        self.on_tree("stamp", |tree| Ok(tree.now()))
    }

    fn watch_source(&self) -> Watcher {
        self.watcher
    }

    fn sync(&self) -> Result<(), FsError> {
        while self.disk.hangs() {
            step("sync hangs");
        }
        self.on_tree("sync", Tree::sync)
    }

    fn write_out(&self) -> Result<(), FsError> {
        self.on_tree("write_out", Tree::write_out)
    }
}

impl SimFs {
    fn file(&self, handle: u64) -> Box<dyn OpenFile + '_> {
        Box::new(SimFile { fs: self, held: self.held(handle) })
    }
}

/// As the trait wants it: another spelling of a name isn't the name.
fn lookup_spelled(tree: &Tree, directory: Number, name: &[u8]) -> Result<Number, FsError> {
    match tree.spelled(directory, name)? {
        Some(spelled) if spelled == name => tree.lookup(directory, name),
        _ => Err(FsError::NotFound),
    }
}

fn open_file(tree: &mut Tree, directory: Number, name: &[u8], writes: bool) -> Result<u64, FsError> {
    let inode = lookup_spelled(tree, directory, name)?;
    match tree.inode(inode).kind() {
        FileKind::File => Ok(tree.open(inode, Some((directory, name)), writes)),
        _ => Err(FsError::WrongKind),
    }
}

struct SimDirectory<'a> {
    fs: &'a SimFs,
    directory: Number,
    is_root: bool,
    /// Keeps the inode, as a descriptor does.
    _held: Held,
}

impl SimDirectory<'_> {
    fn call<T>(
        &self,
        call: &'static str,
        names: &[&[u8]],
        body: impl FnOnce(&mut Tree) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        self.fs.on_tree(call, |tree| {
            self.check(names)?;
            body(tree)
        })
    }

    fn check(&self, names: &[&[u8]]) -> Result<(), FsError> {
        for name in names {
            check_name(name)?;
            if self.is_root && *name == META {
                return Err(FsError::Outside);
            }
        }
        Ok(())
    }
}

impl Directory for SimDirectory<'_> {
    fn watch(&self) -> Result<WatchDescriptor, FsError> {
        self.call("watch", &[], |tree| {
            let queue = tree.watchers.get_mut(&self.fs.watcher.0);
            let queue = queue.expect("the volume that made the queue is borrowed");
            Ok(queue.watch(self.directory))
        })
    }

    fn list(&self) -> Result<Vec<DirEntry>, FsError> {
        self.call("list", &[], |tree| {
            let names = tree.names(self.directory)?.iter();
            let users = names.filter(|(name, _)| !(self.is_root && *name == META));
            Ok(users
                .map(|(name, inode)| DirEntry { name: name.clone(), kind: Some(tree.inode(*inode).kind()) })
                .collect())
        })
    }

    fn stat_self(&self) -> Result<Stat, FsError> {
        self.call("stat_self", &[], |tree| Ok(tree.stat(self.directory)))
    }

    fn stat(&self, name: &[u8]) -> Result<Stat, FsError> {
        self.call("stat", &[name], |tree| match tree.spelled(self.directory, name)? {
            Some(spelled) if spelled == name => Ok(tree.stat(tree.lookup(self.directory, name)?)),
            Some(_) => Err(FsError::Collision),
            None => Err(FsError::NotFound),
        })
    }

    fn open(&self, name: &[u8]) -> Result<Box<dyn OpenFile + '_>, FsError> {
        self.fs.call("open", || {
            self.check(&[name])?;
            let handle = open_file(&mut self.fs.disk.tree(), self.directory, name, false)?;
            Ok(self.fs.file(handle))
        })
    }

    fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, FsError> {
        self.call("read_link", &[name], |tree| match &tree.inode(lookup_spelled(tree, self.directory, name)?).node {
            Node::Symlink(target) => Ok(target.clone()),
            _ => Err(FsError::WrongKind),
        })
    }

    fn publish(&self, slot: u64, name: &[u8], replace: bool) -> Result<Displaced, FsError> {
        self.call("publish", &[name], |tree| {
            let stage = self.fs.meta()?.stage;
            let from = slot_name(slot);
            let (from, to) = ((stage, from.as_slice()), (self.directory, name));
            if tree.spelled(self.directory, name)?.is_some_and(|spelled| spelled != name) {
                return Err(FsError::Collision);
            }
            if replace {
                match tree.rename(from, to, Rename::Exchange) {
                    Ok(()) => {
                        let displaced = tree.lookup(from.0, from.1)?;
                        return Ok(Displaced::InSlot(tree.stat(displaced)));
                    }
                    Err(FsError::NotFound) => {}
                    Err(why) => return Err(why),
                }
            }
            tree.rename(from, to, Rename::NoReplace)?;
            Ok(Displaced::Nothing)
        })
    }

    fn withdraw(&self, name: &[u8], slot: u64) -> Result<Stat, FsError> {
        self.call("withdraw", &[name], |tree| {
            let stage = self.fs.meta()?.stage;
            let to = slot_name(slot);
            lookup_spelled(tree, self.directory, name)?;
            tree.rename((self.directory, name), (stage, &to), Rename::NoReplace)?;
            Ok(tree.stat(tree.lookup(stage, &to)?))
        })
    }

    fn link(&self, name: &[u8], other: &[u8]) -> Result<(), FsError> {
        self.call("link", &[name, other], |tree| {
            lookup_spelled(tree, self.directory, name)?;
            tree.link((self.directory, name), (self.directory, other))
        })
    }

    fn remove_directory(&self, name: &[u8]) -> Result<(), FsError> {
        self.call("remove_directory", &[name], |tree| {
            lookup_spelled(tree, self.directory, name)?;
            tree.remove_directory(self.directory, name)
        })
    }

    fn keep_attributes(&self, name: &[u8], id: FileId, slot: u64) -> Result<(), FsError> {
        self.call("keep_attributes", &[name], |tree| {
            let from = lookup_spelled(tree, self.directory, name)?;
            if tree.stat(from).id != id {
                return Err(FsError::NotFound);
            }
            let to = tree.lookup(self.fs.meta()?.stage, &slot_name(slot))?;
            if [from, to].iter().all(|inode| tree.inode(*inode).kind() == FileKind::File) {
                let mut kept = tree.inode(from).attributes.clone();
                kept.remove("security.capability");
                kept.into_iter().for_each(|(name, value)| tree.set_attribute(to, None, &name, &value));
            }
            Ok(())
        })
    }

    fn set_metadata(&self, name: &[u8], id: FileId, metadata: &Metadata) -> Result<Stat, FsError> {
        // One system call each: a kill may leave part of it.
        let owner = Metadata { owner: metadata.owner, ..Metadata::default() };
        let mode = Metadata { mode: metadata.mode, ..Metadata::default() };
        let mtime = Metadata { mtime: metadata.mtime, ..Metadata::default() };
        for part in [owner, mode, mtime].iter().filter(|part| **part != Metadata::default()) {
            self.call("set_metadata", &[name], |tree| {
                let inode = lookup_spelled(tree, self.directory, name)?;
                if tree.stat(inode).id != id {
                    return Err(FsError::NotFound);
                }
                tree.set_metadata(inode, Some(&(self.directory, name.to_vec())), part);
                Ok(())
            })?;
        }
        self.stat(name).and_then(|stat| if stat.id == id { Ok(stat) } else { Err(FsError::NotFound) })
    }
}

struct SimFile<'a> {
    fs: &'a SimFs,
    held: Held,
}

impl OpenFile for SimFile<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, FsError> {
        self.fs.on_tree("file.read_at", |tree| match &tree.inode(tree.handle_inode(self.held.handle)?).node {
            Node::File(contents) => Ok(contents.read(buffer, offset)),
            _ => Err(FsError::WrongKind),
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), FsError> {
        self.fs.on_tree("file.write_at", |tree| tree.change(self.held.handle, |contents| contents.write(bytes, offset)))
    }

    fn set_len(&self, bytes: u64) -> Result<(), FsError> {
        self.fs.on_tree("file.set_len", |tree| tree.change(self.held.handle, |contents| contents.set_length(bytes)))
    }

    fn has_writers(&self) -> Result<bool, FsError> {
        self.fs.on_tree("file.has_writers", |tree| {
            let inode = tree.handle_inode(self.held.handle)?;
            if tree.leases { Ok(tree.has_writers(inode)) } else { Err(INVALID) }
        })
    }

    fn stat(&self) -> Result<Stat, FsError> {
        self.fs.on_tree("file.stat", |tree| Ok(tree.stat(tree.handle_inode(self.held.handle)?)))
    }

    fn sync(&self) -> Result<(), FsError> {
        self.fs.on_tree("file.sync", |tree| {
            let inode = tree.handle_inode(self.held.handle)?;
            tree.sync_file(inode)
        })
    }

    fn forget_cached(&self) -> Result<(), FsError> {
        self.fs.on_tree("file.forget_cached", |tree| {
            let inode = tree.handle_inode(self.held.handle)?;
            tree.forget_cached(inode);
            Ok(())
        })
    }

    fn set_metadata(&self, metadata: &Metadata) -> Result<(), FsError> {
        self.fs.on_tree("file.set_metadata", |tree| {
            let inode = tree.handle_inode(self.held.handle)?;
            let place = tree.handle_place(self.held.handle)?;
            tree.set_metadata(inode, place.as_ref(), metadata);
            Ok(())
        })
    }
}
