//! A simulated disk, and what its users do. It is owned by the scenario and survives a crash of the agent: whatever was
//! done is there, open handles are gone.

use crate::inode::{Contents, Names, Node, Number};
use crate::tree::{Rename, Tree};
use crate::watch_queue::{QUEUE_EVENTS, WatchQueue};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use syncmesh_io::{FileKind, FsError, Metadata, Owner, Stat, WatchEvent, Watcher};

/// The name in the root that is the agent's.
pub(crate) const META: &[u8] = b".syncmesh";

/// Whose files users make.
const USER: Owner = Owner { uid: 1000, gid: 1000 };

/// One volume's disk. Clones are the same disk.
///
/// User actions take paths relative to the root, components divided by `/` and the root itself empty, follow no links,
/// and report what the system call would. They may be called from a step hook.
#[derive(Clone, Debug)]
pub struct Disk {
    tree: Arc<Mutex<Tree>>,
    /// Somebody moved the root away.
    elsewhere: Arc<AtomicBool>,
}

/// A file that a user holds open for writing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct UserFile(u64);

/// A file that has a name outside of the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outside(Number);

/// One name of the tree that users see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// What it is.
    pub kind: FileKind,
    /// A file's contents; empty for all else.
    pub contents: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: Owner,
    /// Last change of contents, nanoseconds since 1970.
    pub mtime: i64,
    /// A link's target.
    pub target: Option<Vec<u8>>,
}

impl Disk {
    /// An empty disk. The clock has nanoseconds since 1970 and may be shared and set at any time.
    pub fn new(device: u64, clock: Arc<AtomicU64>) -> Self {
        Self { tree: Arc::new(Mutex::new(Tree::new(device, clock, USER))), elsewhere: Arc::default() }
    }

    /// Time stamps are rounded down to this many nanoseconds, as those of kernels before 6.13 are. One at the start.
    pub fn set_tick(&self, nanoseconds: u64) {
        self.tree().tick = nanoseconds;
    }

    pub(crate) fn is_elsewhere(&self) -> bool {
        self.elsewhere.load(Ordering::Relaxed)
    }

    /// Another disk with the same on it.
    pub fn copy(&self) -> Self {
        let tree = Arc::new(Mutex::new(self.tree().copy()));
        Self { tree, elsewhere: Arc::default() }
    }

    /// From now on it doesn't tell who has a file open for writing, as some network file systems don't.
    pub fn forbid_leases(&self) {
        self.tree().leases = false;
    }

    /// From now on names that differ in the case of ASCII letters only are the same, as on a file system that folds case.
    pub fn fold_case(&self) {
        self.tree().folds = true;
    }

    /// From now on names must be UTF-8, and have at most so many bytes.
    pub fn refuse_names(&self, longest: usize) {
        self.tree().longest_name = Some(longest);
    }

    /// From now on it has so many bytes; what is on it stays, also if that is more.
    pub fn set_capacity(&self, bytes: u64) {
        self.tree().capacity = bytes;
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        self.tree().room().0
    }

    pub(crate) fn tree(&self) -> MutexGuard<'_, Tree> {
        // No change of a tree can be left half done: it calls nothing of others.
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Power fails: what wasn't synced may be gone, and a file's data more than its name. The agent must have ended.
    pub fn lose_power(&self, random: &mut crate::Random) {
        self.tree().lose_power(random);
    }

    /// The next sync that has something to write can't write all of it: files lose all that was written to them, or their end.
    /// Whoever reads them from memory doesn't notice. None takes that back.
    pub fn fail_sync(&self, random: Option<crate::Random>) {
        self.tree().fail_sync(random);
    }

    /// The next sync fails, and has lost one page of a file, wherever that was written.
    pub fn lose_page(&self, path: &[u8], page: u64) {
        let mut tree = self.tree();
        let inode = find(&tree, path).expect("the file is there");
        tree.lose_page(inode, page);
    }

    /// From now on every sync fails, or none does. Nothing is lost.
    pub fn break_syncs(&self, broken: bool) {
        self.tree().broken = broken;
    }

    /// From now on syncs of the file system don't end, or they end.
    pub fn hang_syncs(&self, hang: bool) {
        self.tree().hanging = hang;
    }

    pub(crate) fn hangs(&self) -> bool {
        self.tree().hanging
    }

    /// A user syncs a file, as `fsync` does.
    pub fn user_sync(&self, path: &[u8]) -> Result<(), FsError> {
        let mut tree = self.tree();
        let inode = find(&tree, path)?;
        tree.sync_file(inode)
    }

    /// Has it lost something that memory may still show, or that [`Self::take_losses`] hasn't told?
    pub fn has_lost(&self) -> bool {
        let tree = self.tree();
        !tree.lost.is_empty() || !tree.losses.is_empty()
    }

    /// What files showed, since the last call, of which a sync that failed lost something.
    pub fn take_losses(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.tree().losses)
    }

    /// Memory is short: what the disk has is what everybody reads from now on.
    pub fn forget_cached(&self) {
        self.tree().forget_all_cached();
    }

    // Events, for the simulated `Io`.

    /// A new inotify instance; an older one of the same number is forgotten.
    pub(crate) fn start_watching(&self, watcher: Watcher) {
        self.tree().watchers.insert(watcher.0, WatchQueue::new(QUEUE_EVENTS));
    }

    pub(crate) fn stop_watching(&self, watcher: Watcher) {
        self.tree().watchers.remove(&watcher.0);
    }

    /// How many events wait before the rest becomes one [`syncmesh_io::WatchKind::Overflow`]. 16,384 at the start.
    pub fn limit_events(&self, watcher: Watcher, events: usize) {
        if let Some(queue) = self.tree().watchers.get_mut(&watcher.0) {
            queue.set_limit(events);
        }
    }

    /// Whether [`Self::take_events`] would return any.
    pub fn has_events(&self, watcher: Watcher) -> bool {
        let tree = self.tree();
        tree.watchers.get(&watcher.0).is_some_and(|queue| !queue.is_empty())
    }

    /// All events that wait, oldest first.
    pub fn take_events(&self, watcher: Watcher) -> Vec<WatchEvent> {
        let mut tree = self.tree();
        tree.watchers.get_mut(&watcher.0).map_or_else(Vec::new, WatchQueue::take)
    }

    // Users.

    /// Moves the whole root away, or back. What is done meanwhile is done in it where it is.
    pub fn user_move_root(&self, away: bool) {
        self.elsewhere.store(away, Ordering::Relaxed);
    }

    /// Opens a file for writing as `O_CREAT` does, making it (0644) if it isn't there.
    pub fn user_create_open(&self, path: &[u8]) -> Result<UserFile, FsError> {
        let mut tree = self.tree();
        let (parent, name) = resolve(&tree, path)?;
        let inode = match tree.lookup(parent, name) {
            Ok(inode) => inode,
            Err(FsError::NotFound) => tree.create(parent, name, Node::File(Contents::default()), 0o644, USER)?,
            Err(why) => return Err(why),
        };
        if tree.inode(inode).kind() != FileKind::File {
            return Err(FsError::WrongKind);
        }
        Ok(UserFile(tree.open(inode, Some((parent, name)), true)))
    }

    /// Writes at an offset.
    pub fn user_write_at(&self, file: UserFile, bytes: &[u8], offset: u64) -> Result<(), FsError> {
        self.tree().change(file.0, |contents| contents.write(bytes, offset))
    }

    /// Writes over a file's beginning through a mapping whose page was written before: neither its times nor any event tell.
    pub fn user_write_mapped(&self, file: UserFile, bytes: &[u8]) -> Result<(), FsError> {
        self.tree().change_silently(file.0, bytes)
    }

    /// What an open file has now, wherever it lies.
    pub fn user_read_open(&self, file: UserFile) -> Result<Vec<u8>, FsError> {
        let tree = self.tree();
        match &tree.inode(tree.handle_inode(file.0)?).node {
            Node::File(contents) => Ok(contents.whole()),
            _ => Err(FsError::WrongKind),
        }
    }

    /// How many names an open file has.
    pub fn user_links(&self, file: UserFile) -> Result<u32, FsError> {
        let tree = self.tree();
        Ok(tree.inode(tree.handle_inode(file.0)?).names)
    }

    /// Sets the length of an open file.
    pub fn user_truncate(&self, file: UserFile, length: u64) -> Result<(), FsError> {
        self.tree().change(file.0, |contents| contents.set_length(length))
    }

    /// Closes a file.
    pub fn user_close(&self, file: UserFile) {
        self.tree().close(file.0);
    }

    /// Replaces a file's contents: open with `O_CREAT | O_TRUNC`, one write unless there is nothing to write, close.
    pub fn user_write(&self, path: &[u8], bytes: &[u8]) -> Result<(), FsError> {
        let before = self.user_stat(path).is_ok();
        let file = self.user_create_open(path)?;
        let truncated = if before { self.user_truncate(file, 0) } else { Ok(()) };
        let written = truncated.and_then(|()| match bytes {
            [] => Ok(()),
            bytes => self.user_write_at(file, bytes, 0),
        });
        self.user_close(file);
        written
    }

    /// Reads a file whole.
    pub fn user_read(&self, path: &[u8]) -> Result<Vec<u8>, FsError> {
        let tree = self.tree();
        match &tree.inode(find(&tree, path)?).node {
            Node::File(contents) => Ok(contents.whole()),
            _ => Err(FsError::WrongKind),
        }
    }

    /// What a name stands for.
    pub fn user_stat(&self, path: &[u8]) -> Result<Stat, FsError> {
        let tree = self.tree();
        Ok(tree.stat(find(&tree, path)?))
    }

    /// Names in a directory, sorted, the meta directory too.
    pub fn user_list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, FsError> {
        let tree = self.tree();
        Ok(tree.names(find(&tree, path)?)?.keys().cloned().collect())
    }

    /// Makes a directory (0755).
    pub fn user_mkdir(&self, path: &[u8]) -> Result<(), FsError> {
        self.user_make(path, Node::Directory(Names::default()), 0o755)
    }

    /// Makes a link.
    pub fn user_symlink(&self, target: &[u8], path: &[u8]) -> Result<(), FsError> {
        self.user_make(path, Node::Symlink(target.to_vec()), 0o777)
    }

    /// Makes a FIFO.
    pub fn user_special(&self, path: &[u8]) -> Result<(), FsError> {
        self.user_make(path, Node::Special, 0o644)
    }

    fn user_make(&self, path: &[u8], node: Node, mode: u32) -> Result<(), FsError> {
        let mut tree = self.tree();
        let (parent, name) = resolve(&tree, path)?;
        tree.create(parent, name, node, mode, USER).map(|_| ())
    }

    /// Gives a file a second name.
    pub fn user_link(&self, path: &[u8], other: &[u8]) -> Result<(), FsError> {
        let mut tree = self.tree();
        let (from, to) = (resolve(&tree, path)?, resolve(&tree, other)?);
        tree.link(from, to)
    }

    /// Gives a file a name that isn't in the volume.
    pub fn user_link_outside(&self, path: &[u8]) -> Result<Outside, FsError> {
        let mut tree = self.tree();
        let inode = find(&tree, path)?;
        tree.link_outside(inode)?;
        Ok(Outside(inode))
    }

    /// Replaces a file's contents through a name that isn't in the volume: nobody is told.
    pub fn user_write_outside(&self, file: Outside, bytes: &[u8]) -> Result<(), FsError> {
        let mut tree = self.tree();
        let handle = tree.open(file.0, None, true);
        let written = tree.change(handle, |contents| {
            contents.set_length(0);
            contents.write(bytes, 0);
        });
        tree.close(handle);
        written
    }

    /// Removes a file, a link or an empty directory.
    pub fn user_remove(&self, path: &[u8]) -> Result<(), FsError> {
        let mut tree = self.tree();
        let (parent, name) = resolve(&tree, path)?;
        tree.remove(parent, name)
    }

    /// Renames, replacing.
    pub fn user_rename(&self, from: &[u8], to: &[u8]) -> Result<(), FsError> {
        let mut tree = self.tree();
        let (from, to) = (resolve(&tree, from)?, resolve(&tree, to)?);
        tree.rename(from, to, Rename::Replace)
    }

    /// The medium turns a bit of a file's first byte. Nothing shows it, and nobody is told.
    pub fn rot(&self, path: &[u8]) {
        let mut tree = self.tree();
        let inode = find(&tree, path).expect("the file is there");
        tree.rot(inode);
    }

    /// Sets permission bits.
    pub fn user_chmod(&self, path: &[u8], mode: u32) -> Result<(), FsError> {
        let metadata = Metadata { mode: Some(mode), ..Metadata::default() };
        self.user_metadata(path, &metadata)
    }

    /// Sets the owner.
    pub fn user_chown(&self, path: &[u8], owner: Owner) -> Result<(), FsError> {
        let metadata = Metadata { owner: Some(owner), ..Metadata::default() };
        self.user_metadata(path, &metadata)
    }

    /// Sets an extended attribute.
    pub fn user_set_attribute(&self, path: &[u8], name: &str, value: &[u8]) -> Result<(), FsError> {
        let mut tree = self.tree();
        let inode = find(&tree, path)?;
        let place = resolve(&tree, path).ok().map(|(parent, name)| (parent, name.to_vec()));
        tree.set_attribute(inode, place.as_ref(), name, value);
        Ok(())
    }

    /// An extended attribute's value.
    pub fn user_attribute(&self, path: &[u8], name: &str) -> Option<Vec<u8>> {
        let tree = self.tree();
        tree.inode(find(&tree, path).ok()?).attributes.get(name).cloned()
    }

    fn user_metadata(&self, path: &[u8], metadata: &Metadata) -> Result<(), FsError> {
        let mut tree = self.tree();
        let inode = find(&tree, path)?;
        let place = resolve(&tree, path).ok().map(|(parent, name)| (parent, name.to_vec()));
        tree.set_metadata(inode, place.as_ref(), metadata);
        Ok(())
    }

    /// Sets access and modification time, nanoseconds since 1970, as `touch -d` does.
    pub fn user_touch(&self, path: &[u8], mtime: i64) -> Result<(), FsError> {
        let mut tree = self.tree();
        let inode = find(&tree, path)?;
        let place = resolve(&tree, path).ok().map(|(parent, name)| (parent, name.to_vec()));
        tree.set_times(inode, place.as_ref(), mtime);
        Ok(())
    }

    // Oracles.

    /// All that users see, by path. The root itself isn't in it.
    pub fn snapshot(&self) -> BTreeMap<Vec<u8>, Snapshot> {
        let tree = self.tree();
        let mut found = BTreeMap::new();
        let mut open = vec![(tree.root, Vec::new())];
        while let Some((directory, path)) = open.pop() {
            for (name, number) in names(&tree, directory) {
                if directory == tree.root && name == META {
                    continue;
                }
                let path = join(&path, name);
                let inode = tree.inode(*number);
                let (contents, target) = match &inode.node {
                    Node::File(contents) => (contents.whole(), None),
                    Node::Symlink(target) => (Vec::new(), Some(target.clone())),
                    Node::Directory(_) => {
                        open.push((*number, path.clone()));
                        (Vec::new(), None)
                    }
                    Node::Special => (Vec::new(), None),
                };
                let snapshot = Snapshot {
                    kind: inode.kind(),
                    contents,
                    mode: inode.mode,
                    owner: inode.owner,
                    mtime: inode.mtime,
                    target,
                };
                found.insert(path, snapshot);
            }
        }
        found
    }

    /// Contents of all files in slots and store, by path below the meta directory (`stage/…`, `store/…`), those within
    /// displaced directories too.
    pub fn stored_contents(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let tree = self.tree();
        let mut found = BTreeMap::new();
        let Ok(meta) = tree.lookup(tree.root, META) else {
            return found;
        };
        let mut open: Vec<(Number, Vec<u8>)> = Vec::new();
        for part in [b"stage", b"store"] {
            if let Ok(directory) = tree.lookup(meta, part) {
                open.push((directory, part.to_vec()));
            }
        }
        while let Some((directory, path)) = open.pop() {
            for (name, number) in names(&tree, directory) {
                let path = join(&path, name);
                match &tree.inode(*number).node {
                    Node::File(contents) => {
                        found.insert(path, contents.whole());
                    }
                    Node::Directory(_) => open.push((*number, path)),
                    Node::Symlink(_) | Node::Special => {}
                }
            }
        }
        found
    }
}

fn names(tree: &Tree, directory: Number) -> &BTreeMap<Vec<u8>, Number> {
    tree.names(directory).expect("a directory that has a name")
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        return name.to_vec();
    }
    [path, name].join(&b'/')
}

/// The directory that a path's last component lies in, and that component. The root has none.
fn resolve<'a>(tree: &Tree, path: &'a [u8]) -> Result<(Number, &'a [u8]), FsError> {
    let mut components: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let name = components.pop().filter(|name| !name.is_empty());
    let name = name.ok_or(FsError::Outside)?;
    let mut here = tree.root;
    for component in components {
        here = tree.lookup(here, component)?;
    }
    Ok((here, name))
}

fn find(tree: &Tree, path: &[u8]) -> Result<Number, FsError> {
    if path.is_empty() {
        return Ok(tree.root);
    }
    let (parent, name) = resolve(tree, path)?;
    tree.lookup(parent, name)
}
