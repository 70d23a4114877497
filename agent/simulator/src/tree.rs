//! What a kernel does to the inodes of one mount, with the events that it tells. [`crate::Disk`] puts users in front of
//! it, [`crate::SimFs`] the agent.
//!
//! Events and their order were taken from Linux 6.18 (ext4 and tmpfs); `suite_fs` holds both to them.

use crate::inode::{Contents, Inode, Names, Node, Number};
use crate::watch_queue::{Cause, WatchQueue};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use syncmesh_io::{FsError, Metadata, Owner, Stat};

/// `EINVAL`: what a rename answers that would put a directory into itself.
pub(crate) const INVALID: FsError = FsError::Os(22);

/// `EIO`: the disk couldn't take what was written.
const IO: FsError = FsError::Os(5);

/// How large a disk is unless somebody says otherwise.
const CAPACITY: u64 = 1 << 40;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rename {
    Replace,
    NoReplace,
    Exchange,
}

/// An open descriptor. Its events are told where the name lies by which it was opened, as that moves.
#[derive(Debug)]
struct Handle {
    inode: Number,
    place: Option<(Number, Vec<u8>)>,
    writes: bool,
}

/// Handles of all disks have numbers of their own, so that one which was opened before a disk was set back names nothing.
static HANDLES: AtomicU64 = AtomicU64::new(1);

/// How many changes lie between two states of names that power loss may go back to.
const STATES_APART: u32 = 5;

#[derive(Debug)]
pub(crate) struct Tree {
    pub device: u64,
    /// How often it was mounted.
    pub mount: u64,
    pub root: Number,
    inodes: BTreeMap<Number, Inode>,
    /// As of the last sync, and one state since then: what a file system with a journal of its own may show after power loss.
    durable: BTreeMap<Number, Inode>,
    since: Option<BTreeMap<Number, Inode>>,
    changes: u32,
    /// Files whose data was written since it was last synced.
    unsynced: BTreeSet<Number>,
    /// What the disk has of files whose data it couldn't take, while memory still shows what was written.
    pub lost: BTreeMap<Number, Contents>,
    /// The next sync that has something to write can't write all of it, as this decides.
    failing: Option<crate::Random>,
    /// The mount's first descriptor hasn't been told of that.
    untold: bool,
    /// No sync succeeds.
    pub broken: bool,
    /// No sync ends.
    pub hanging: bool,
    /// What was written and lost.
    pub losses: Vec<Vec<u8>>,
    last_inode: Number,
    handles: BTreeMap<u64, Handle>,
    pub watchers: BTreeMap<u32, WatchQueue>,
    clock: Arc<AtomicU64>,
    pub tick: u64,
    /// It tells who has a file open for writing.
    pub leases: bool,
    /// Names that differ in the case of ASCII letters only are the same.
    pub folds: bool,
    /// Names must be UTF-8, of at most so many bytes.
    pub longest_name: Option<usize>,
    /// Bytes that inodes may take together, and that they take.
    pub capacity: u64,
    used: u64,
}

impl Tree {
    pub(crate) fn new(device: u64, clock: Arc<AtomicU64>, owner: Owner) -> Self {
        let mut tree = Self {
            device,
            mount: 1,
            root: 2,
            inodes: BTreeMap::new(),
            durable: BTreeMap::new(),
            since: None,
            changes: 0,
            unsynced: BTreeSet::new(),
            lost: BTreeMap::new(),
            failing: None,
            untold: false,
            broken: false,
            hanging: false,
            losses: Vec::new(),
            last_inode: 2,
            handles: BTreeMap::new(),
            watchers: BTreeMap::new(),
            clock,
            tick: 1,
            leases: true,
            folds: false,
            longest_name: None,
            capacity: CAPACITY,
            used: 0,
        };
        let root = Inode::new(Node::Directory(Names::default()), 0o755, owner, tree.now());
        tree.inodes.insert(tree.root, root);
        tree.make_durable();
        tree
    }

    /// The same tree on a disk of its own, as a copy of the disk has it: nothing is open, nobody watches.
    pub(crate) fn copy(&self) -> Self {
        Self {
            device: self.device,
            mount: self.mount,
            root: self.root,
            inodes: self.inodes.clone(),
            durable: self.durable.clone(),
            since: self.since.clone(),
            changes: self.changes,
            unsynced: self.unsynced.clone(),
            lost: self.lost.clone(),
            failing: None,
            untold: false,
            broken: false,
            hanging: false,
            losses: Vec::new(),
            last_inode: self.last_inode,
            handles: BTreeMap::new(),
            watchers: BTreeMap::new(),
            clock: self.clock.clone(),
            tick: self.tick,
            leases: self.leases,
            folds: self.folds,
            longest_name: self.longest_name,
            capacity: self.capacity,
            used: self.used,
        }
    }

    // Durability.

    /// Everything so far survives power loss, but for what can't be written. That is told once, as Linux does: what couldn't be
    /// written counts as written from then on.
    pub(crate) fn sync(&mut self) -> Result<(), FsError> {
        self.lose(self.unsynced.clone());
        self.make_durable();
        if std::mem::take(&mut self.untold) || self.broken { Err(IO) } else { Ok(()) }
    }

    /// The same through a descriptor of its own, which takes no report away from the mount's first.
    pub(crate) fn write_out(&mut self) -> Result<(), FsError> {
        self.lose(self.unsynced.clone());
        self.make_durable();
        if self.untold || self.broken { Err(IO) } else { Ok(()) }
    }

    fn make_durable(&mut self) {
        self.durable = self.inodes.clone();
        for (number, contents) in &self.lost {
            if let Some(inode) = self.durable.get_mut(number) {
                inode.node = Node::File(contents.clone());
            }
        }
        self.since = None;
        self.unsynced.clear();
    }

    /// A file's data survives power loss, wherever its names are then.
    pub(crate) fn sync_file(&mut self, inode: Number) -> Result<(), FsError> {
        let written = self.unsynced.contains(&inode).then_some(inode);
        let fails = self.lose(written.into_iter().collect());
        self.unsynced.remove(&inode);
        let mut data = self.inode(inode).clone();
        if let Some(contents) = self.lost.get(&inode) {
            data.node = Node::File(contents.clone());
        }
        for state in [Some(&mut self.durable), self.since.as_mut()].into_iter().flatten() {
            if let Some(old) = state.get_mut(&inode) {
                *old = Inode { names: old.names, ..data.clone() };
            }
        }
        if fails { Err(IO) } else { Ok(()) }
    }

    /// The next sync that has something to write fails, or doesn't.
    pub(crate) fn fail_sync(&mut self, random: Option<crate::Random>) {
        self.failing = random;
    }

    /// The disk couldn't take one page of a file; the next sync tells.
    pub(crate) fn lose_page(&mut self, inode: Number, page: u64) {
        let Node::File(shown) = &self.inode(inode).node else { return };
        let mut left = shown.clone();
        left.lose_page(page);
        self.losses.push(shown.whole());
        self.lost.insert(inode, left);
        self.untold = true;
    }

    /// Of files that are being written some lose all, or their end. Whether anything failed.
    fn lose(&mut self, written: BTreeSet<Number>) -> bool {
        let Some(mut random) = self.failing.take_if(|_| !written.is_empty()) else { return false };
        for number in written {
            let Some(Node::File(shown)) = self.inodes.get(&number).map(|inode| &inode.node) else { continue };
            let pages = shown.length_in_pages();
            let mut left = self.lost.get(&number).unwrap_or(shown).clone();
            match random.between(0, 3) {
                0 => left.lose_from(0),
                1 if pages > 0 => left.lose_from(random.between(0, pages - 1)),
                _ => continue,
            }
            self.losses.push(shown.whole());
            self.lost.insert(number, left);
        }
        self.untold = true;
        true
    }

    /// Memory forgets a file's data, and shows what the disk has.
    pub(crate) fn forget_cached(&mut self, inode: Number) {
        if let Some(contents) = self.lost.remove(&inode)
            && self.inodes.contains_key(&inode)
        {
            let before = self.taken_by(inode);
            self.inode_mut(inode).node = Node::File(contents);
            self.used = self.used - before + self.taken_by(inode);
        }
    }

    /// Of all files.
    pub(crate) fn forget_all_cached(&mut self) {
        for inode in self.lost.keys().copied().collect::<Vec<_>>() {
            self.forget_cached(inode);
        }
    }

    /// The names are about to change.
    fn changing(&mut self) {
        self.changes += 1;
        if self.changes.is_multiple_of(STATES_APART) {
            self.since = Some(self.inodes.clone());
        }
    }

    /// Power fails. Names are as they were at some time since the last sync; files that were written since then have lost
    /// nothing, all, or their end. Nobody has anything open any more.
    pub(crate) fn lose_power(&mut self, random: &mut crate::Random) {
        let shown = match random.between(0, 2) {
            0 => Some(self.durable.clone()),
            1 => self.since.take(),
            _ => None,
        };
        let written = std::mem::take(&mut self.unsynced);
        if let Some(shown) = shown {
            self.inodes = shown;
        }
        for (number, contents) in std::mem::take(&mut self.lost) {
            if let Some(inode) = self.inodes.get_mut(&number) {
                inode.node = Node::File(contents);
            }
        }
        (self.failing, self.untold) = (None, false);
        for (number, inode) in &mut self.inodes {
            // What shows as it did at the last sync has the data of then.
            let is_durable = self.durable.get(number).is_some_and(|old| old.ctime == inode.ctime);
            if let (Node::File(contents), true) = (&mut inode.node, written.contains(number) && !is_durable) {
                let pages = contents.length_in_pages();
                match random.between(0, 5) {
                    0 => contents.set_length(0),
                    1 if pages > 0 => contents.lose_from(random.between(0, pages - 1)),
                    _ => {}
                }
            }
        }
        self.mount += 1;
        self.handles.clear();
        self.inodes.retain(|_, inode| inode.names > 0);
        self.used = self.inodes.keys().map(|inode| self.taken_by(*inode)).sum();
        self.make_durable();
    }

    pub(crate) fn now(&self) -> i64 {
        let now = self.clock.load(Ordering::Relaxed);
        i64::try_from(now - now % self.tick.max(1)).expect("the year 2262 isn't simulated")
    }

    pub(crate) fn inode(&self, inode: Number) -> &Inode {
        self.inodes.get(&inode).expect("names and handles keep inodes")
    }

    fn inode_mut(&mut self, inode: Number) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("names and handles keep inodes")
    }

    pub(crate) fn stat(&self, inode: Number) -> Stat {
        self.inode(inode).stat(self.device, inode)
    }

    /// A directory's names, if it is one and wasn't removed.
    pub(crate) fn names(&self, directory: Number) -> Result<&BTreeMap<Vec<u8>, Number>, FsError> {
        let inode = self.inode(directory);
        match &inode.node {
            Node::Directory(_) if inode.names == 0 => Err(FsError::NotFound),
            Node::Directory(names) => Ok(&names.entries),
            _ => Err(FsError::WrongKind),
        }
    }

    fn entries_mut(&mut self, directory: Number) -> &mut Names {
        match &mut self.inode_mut(directory).node {
            Node::Directory(names) => names,
            _ => unreachable!("only called for what `names` has accepted"),
        }
    }

    pub(crate) fn lookup(&self, directory: Number, name: &[u8]) -> Result<Number, FsError> {
        let spelled = self.spelled(directory, name)?.ok_or(FsError::NotFound)?;
        Ok(self.names(directory)?[&spelled])
    }

    /// The name that is there, as it is spelled: the same, or one that this file system takes for it.
    pub(crate) fn spelled(&self, directory: Number, name: &[u8]) -> Result<Option<Vec<u8>>, FsError> {
        self.must_hold(name)?;
        let names = self.names(directory)?;
        if names.contains_key(name) || !self.folds {
            return Ok(names.get_key_value(name).map(|(name, _)| name.clone()));
        }
        Ok(names.keys().find(|other| other.eq_ignore_ascii_case(name)).cloned())
    }

    /// Can a name be given here?
    fn must_hold(&self, name: &[u8]) -> Result<(), FsError> {
        let holds = |longest| name.len() <= longest && std::str::from_utf8(name).is_ok();
        if self.longest_name.is_none_or(holds) { Ok(()) } else { Err(FsError::Collision) }
    }

    // Space.

    /// Bytes that are free, and bytes in total.
    pub(crate) fn room(&self) -> (u64, u64) {
        (self.capacity.saturating_sub(self.used), self.capacity)
    }

    fn taken_by(&self, inode: Number) -> u64 {
        self.stat(inode).blocks * 512
    }

    // Events.

    fn tell(&mut self, directory: Number, cause: Cause, name: &[u8], is_directory: bool) {
        for queue in self.watchers.values_mut() {
            queue.push(directory, cause, name, is_directory);
        }
    }

    /// Tells of an inode under one of its names, and of a directory to itself too.
    fn tell_inode(&mut self, inode: Number, place: Option<&(Number, Vec<u8>)>, cause: Cause) {
        let is_directory = self.inode(inode).is_directory();
        if let Some((parent, name)) = place {
            self.tell(*parent, cause, name, is_directory);
        }
        if is_directory {
            self.tell(inode, cause, b"", true);
        }
    }

    fn touch(&mut self, directory: Number) {
        let now = self.now();
        let inode = self.inode_mut(directory);
        inode.mtime = now;
        inode.ctime = now;
    }

    // Names.

    /// Makes a name for a new inode. A new file tells nothing of its being closed: handles do.
    pub(crate) fn create(
        &mut self,
        directory: Number,
        name: &[u8],
        mut node: Node,
        mode: u32,
        owner: Owner,
    ) -> Result<Number, FsError> {
        self.changing();
        self.must_hold(name)?;
        if self.spelled(directory, name)?.is_some() {
            return Err(FsError::Exists);
        }
        if let Node::Directory(names) = &mut node {
            names.place = Some((directory, name.to_vec()));
        }
        self.last_inode += 1;
        let inode = self.last_inode;
        let made = Inode::new(node, mode, owner, self.now());
        let is_directory = made.is_directory();
        let takes = made.stat(self.device, inode).blocks * 512;
        if takes > self.room().0 {
            return Err(FsError::NoSpace);
        }
        self.used += takes;
        self.inodes.insert(inode, made);
        self.attach(directory, name, inode);
        self.tell(directory, Cause::Create, name, is_directory);
        Ok(inode)
    }

    fn attach(&mut self, directory: Number, name: &[u8], inode: Number) {
        let is_directory = self.inode(inode).is_directory();
        let names = self.entries_mut(directory);
        names.entries.insert(name.to_vec(), inode);
        names.subdirectories += u32::from(is_directory);
        self.touch(directory);
    }

    fn detach(&mut self, directory: Number, name: &[u8]) -> Number {
        let spelled = self.spelled(directory, name).ok().flatten().expect("looked up before");
        let names = self.entries_mut(directory);
        let inode = names.entries.remove(&spelled).expect("it is there as it is spelled");
        let is_directory = self.inode(inode).is_directory();
        self.entries_mut(directory).subdirectories -= u32::from(is_directory);
        self.touch(directory);
        inode
    }

    pub(crate) fn link(&mut self, from: (Number, &[u8]), to: (Number, &[u8])) -> Result<(), FsError> {
        self.changing();
        self.must_hold(to.1)?;
        let inode = self.lookup(from.0, from.1)?;
        if matches!(self.inode(inode).node, Node::Directory(_)) {
            return Err(FsError::WrongKind);
        }
        if self.spelled(to.0, to.1)?.is_some() {
            return Err(FsError::Exists);
        }
        let now = self.now();
        let linked = self.inode_mut(inode);
        linked.names += 1;
        linked.ctime = now;
        self.attach(to.0, to.1, inode);
        self.tell(to.0, Cause::Create, to.1, false);
        Ok(())
    }

    /// One more name, somewhere else on the same file system.
    pub(crate) fn link_outside(&mut self, inode: Number) -> Result<(), FsError> {
        self.changing();
        let now = self.now();
        let linked = self.inode_mut(inode);
        if linked.is_directory() {
            return Err(FsError::WrongKind);
        }
        linked.names += 1;
        linked.ctime = now;
        Ok(())
    }

    /// Removes what is no directory.
    pub(crate) fn unlink(&mut self, directory: Number, name: &[u8]) -> Result<(), FsError> {
        self.changing();
        let inode = self.lookup(directory, name)?;
        if self.inode(inode).is_directory() {
            return Err(FsError::WrongKind);
        }
        self.detach(directory, name);
        self.lose_name(inode, directory, name);
        self.tell(directory, Cause::Delete, name, false);
        Ok(())
    }

    pub(crate) fn remove_directory(&mut self, directory: Number, name: &[u8]) -> Result<(), FsError> {
        self.changing();
        let inode = self.lookup(directory, name)?;
        if !self.names(inode)?.is_empty() {
            return Err(FsError::NotEmpty);
        }
        self.detach(directory, name);
        // Unless someone holds it the inode goes at once, and says so before its parent does.
        self.lose_name(inode, directory, name);
        self.tell(directory, Cause::Delete, name, true);
        Ok(())
    }

    /// A file, a link or an empty directory.
    pub(crate) fn remove(&mut self, directory: Number, name: &[u8]) -> Result<(), FsError> {
        let inode = self.lookup(directory, name)?;
        if self.inode(inode).is_directory() {
            self.remove_directory(directory, name)
        } else {
            self.unlink(directory, name)
        }
    }

    fn lose_name(&mut self, inode: Number, directory: Number, name: &[u8]) {
        let now = self.now();
        let lost = self.inode_mut(inode);
        lost.names -= 1;
        lost.ctime = now;
        if let Node::Directory(names) = &mut lost.node {
            names.place = None;
        }
        for handle in self.handles.values_mut() {
            if handle.place.as_ref().is_some_and(|place| is_place(place, directory, name)) {
                handle.place = None;
            }
        }
        self.free(inode);
    }

    /// An inode without names and handles is gone.
    fn free(&mut self, inode: Number) {
        let held = self.handles.values().any(|handle| handle.inode == inode);
        if held || self.inode(inode).names > 0 {
            return;
        }
        self.tell(inode, Cause::DeleteSelf, b"", false);
        for queue in self.watchers.values_mut() {
            queue.forget(inode);
        }
        self.used -= self.taken_by(inode);
        self.lost.remove(&inode);
        self.unsynced.remove(&inode);
        self.inodes.remove(&inode);
    }

    pub(crate) fn rename(&mut self, from: (Number, &[u8]), to: (Number, &[u8]), how: Rename) -> Result<(), FsError> {
        self.changing();
        self.must_hold(to.1)?;
        let source = self.lookup(from.0, from.1)?;
        let target = self.spelled(to.0, to.1)?.map(|spelled| self.lookup(to.0, &spelled)).transpose()?;
        // Another spelling of the same name: nothing is in the way.
        let respelled = self.folds && from.0 == to.0 && from.1 != to.1 && from.1.eq_ignore_ascii_case(to.1);
        let target = target.filter(|_| !respelled);
        match (target, how) {
            (Some(_), Rename::NoReplace) => return Err(FsError::Exists),
            (None, Rename::Exchange) => return Err(FsError::NotFound),
            _ => {}
        }
        if self.is_below(to.0, source) {
            return Err(INVALID);
        }
        if let Some(target) = target {
            if target == source {
                return Ok(());
            }
            match how {
                Rename::Exchange if self.is_below(from.0, target) => return Err(INVALID),
                Rename::Exchange => {}
                Rename::Replace | Rename::NoReplace => {
                    let (ours, theirs) = (self.inode(source), self.inode(target));
                    if ours.is_directory() != theirs.is_directory() {
                        return Err(FsError::WrongKind);
                    }
                    if theirs.is_directory() && !self.names(target)?.is_empty() {
                        return Err(FsError::NotEmpty);
                    }
                }
            }
        }
        self.detach(from.0, from.1);
        if target.is_some() {
            self.detach(to.0, to.1);
        }
        match (target, how) {
            (Some(target), Rename::Exchange) => {
                self.place(source, to);
                self.place(target, from);
                for handle in self.handles.values_mut() {
                    handle.place = match handle.place.take() {
                        Some(place) if is_place(&place, from.0, from.1) => Some(owned(to)),
                        Some(place) if is_place(&place, to.0, to.1) => Some(owned(from)),
                        other => other,
                    };
                }
                self.tell_move(source, from, to);
                self.tell_move(target, to, from);
            }
            (target, _) => {
                self.place(source, to);
                for handle in self.handles.values_mut() {
                    handle.place = match handle.place.take() {
                        Some(place) if is_place(&place, from.0, from.1) => Some(owned(to)),
                        Some(place) if is_place(&place, to.0, to.1) => None,
                        other => other,
                    };
                }
                let is_directory = self.inode(source).is_directory();
                self.tell(from.0, Cause::MovedFrom, from.1, is_directory);
                self.tell(to.0, Cause::MovedTo, to.1, is_directory);
                if let Some(target) = target
                    && self.inode(target).is_directory()
                {
                    self.tell(target, Cause::Attributes, b"", true);
                }
                self.tell(source, Cause::MoveSelf, b"", false);
                if let Some(target) = target {
                    self.lose_name(target, to.0, to.1);
                }
            }
        }
        Ok(())
    }

    /// Gives an inode that a rename has detached its new name.
    fn place(&mut self, inode: Number, at: (Number, &[u8])) {
        self.attach(at.0, at.1, inode);
        let now = self.now();
        let moved = self.inode_mut(inode);
        moved.ctime = now;
        if let Node::Directory(names) = &mut moved.node {
            names.place = Some(owned(at));
        }
    }

    fn tell_move(&mut self, inode: Number, from: (Number, &[u8]), to: (Number, &[u8])) {
        let is_directory = self.inode(inode).is_directory();
        self.tell(from.0, Cause::MovedFrom, from.1, is_directory);
        self.tell(to.0, Cause::MovedTo, to.1, is_directory);
        self.tell(inode, Cause::MoveSelf, b"", false);
    }

    /// Whether a directory is `above` or lies somewhere below it.
    fn is_below(&self, directory: Number, above: Number) -> bool {
        let mut here = Some(directory);
        while let Some(number) = here {
            if number == above {
                return true;
            }
            here = match &self.inode(number).node {
                Node::Directory(names) => names.place.as_ref().map(|place| place.0),
                _ => None,
            };
        }
        false
    }

    // Handles.

    pub(crate) fn open(&mut self, inode: Number, place: Option<(Number, &[u8])>, writes: bool) -> u64 {
        let number = HANDLES.fetch_add(1, Ordering::Relaxed);
        self.handles.insert(number, Handle { inode, place: place.map(owned), writes });
        number
    }

    /// Tells of the closing of files that could be written, and frees what nobody else has.
    pub(crate) fn close(&mut self, handle: u64) {
        let Some(handle) = self.handles.remove(&handle) else {
            return;
        };
        if handle.writes
            && let Some(place) = &handle.place
        {
            self.tell_inode(handle.inode, Some(place), Cause::CloseWrite);
        }
        self.free(handle.inode);
    }

    /// Does anybody have it open for writing?
    pub(crate) fn has_writers(&self, inode: Number) -> bool {
        self.handles.values().any(|handle| handle.inode == inode && handle.writes)
    }

    fn handle(&self, handle: u64) -> Result<&Handle, FsError> {
        // EBADF.
        self.handles.get(&handle).ok_or(FsError::Os(9))
    }

    pub(crate) fn handle_inode(&self, handle: u64) -> Result<Number, FsError> {
        Ok(self.handle(handle)?.inode)
    }

    /// Changes an open file's contents, and tells. What there is no room for isn't written at all.
    pub(crate) fn change(&mut self, handle: u64, change: impl Fn(&mut Contents)) -> Result<(), FsError> {
        let Handle { inode, place, writes } = self.handle(handle)?;
        let (inode, place, writes) = (*inode, place.clone(), *writes);
        let (before, is_small) = (self.taken_by(inode), self.capacity < CAPACITY);
        let Node::File(contents) = &mut self.inode_mut(inode).node else { return Err(FsError::Os(9)) };
        if !writes {
            return Err(FsError::Os(9));
        }
        // Copied only where it may have to be put back.
        let old = is_small.then(|| contents.clone());
        change(contents);
        let after = self.taken_by(inode);
        if after.saturating_sub(before) > self.room().0
            && let (Some(old), Node::File(contents)) = (old, &mut self.inode_mut(inode).node)
        {
            *contents = old;
            return Err(FsError::NoSpace);
        }
        if let Some(lost) = self.lost.get_mut(&inode) {
            change(lost);
        }
        self.lost.retain(|_, lost| lost.length() > 0);
        self.used = self.used - before + after;
        self.unsynced.insert(inode);
        self.touch(inode);
        if place.is_some() {
            self.tell_inode(inode, place.as_ref(), Cause::Modify);
        }
        Ok(())
    }

    /// See [`crate::Disk::user_write_mapped`].
    pub(crate) fn change_silently(&mut self, handle: u64, bytes: &[u8]) -> Result<(), FsError> {
        let inode = self.handle_inode(handle)?;
        if let Node::File(contents) = &mut self.inode_mut(inode).node {
            contents.write(bytes, 0);
        }
        self.unsynced.insert(inode);
        Ok(())
    }

    /// See [`crate::Disk::rot`].
    pub(crate) fn rot(&mut self, inode: Number) {
        if let Node::File(contents) = &mut self.inode_mut(inode).node {
            let mut first = [0];
            contents.read(&mut first, 0);
            contents.write(&[first[0] ^ 1], 0);
        }
    }

    // Metadata.

    /// Where a handle's events are told.
    pub(crate) fn handle_place(&self, handle: u64) -> Result<Option<(Number, Vec<u8>)>, FsError> {
        Ok(self.handle(handle)?.place.clone())
    }

    /// As `chown`, `chmod` and `utimensat` without access time would, in this order.
    pub(crate) fn set_metadata(&mut self, inode: Number, place: Option<&(Number, Vec<u8>)>, metadata: &Metadata) {
        let now = self.now();
        if let Some(owner) = metadata.owner {
            let changed = self.inode_mut(inode);
            changed.owner = owner;
            changed.ctime = now;
            if matches!(changed.node, Node::File(_)) {
                changed.mode &= !0o4000;
                if changed.mode & 0o010 != 0 {
                    changed.mode &= !0o2000;
                }
            }
            self.tell_inode(inode, place, Cause::Attributes);
        }
        if let Some(mode) = metadata.mode
            && !matches!(self.inode(inode).node, Node::Symlink(_))
        {
            let changed = self.inode_mut(inode);
            changed.mode = mode & 0o7777;
            changed.ctime = now;
            self.tell_inode(inode, place, Cause::Attributes);
        }
        if let Some(mtime) = metadata.mtime {
            self.set_mtime(inode, mtime);
            // Linux: the time of modification alone is a modification.
            self.tell_inode(inode, place, Cause::Modify);
        }
    }

    /// As `setxattr` does.
    pub(crate) fn set_attribute(&mut self, inode: Number, place: Option<&(Number, Vec<u8>)>, name: &str, value: &[u8]) {
        let now = self.now();
        let changed = self.inode_mut(inode);
        changed.attributes.insert(name.to_owned(), value.to_vec());
        changed.ctime = now;
        self.tell_inode(inode, place, Cause::Attributes);
    }

    fn set_mtime(&mut self, inode: Number, mtime: i64) {
        let now = self.now();
        let changed = self.inode_mut(inode);
        changed.mtime = mtime;
        changed.ctime = now;
    }

    /// As `touch -d` would: both times, which is a change of attributes.
    pub(crate) fn set_times(&mut self, inode: Number, place: Option<&(Number, Vec<u8>)>, mtime: i64) {
        self.set_mtime(inode, mtime);
        self.tell_inode(inode, place, Cause::Attributes);
    }
}

fn is_place(place: &(Number, Vec<u8>), directory: Number, name: &[u8]) -> bool {
    place.0 == directory && place.1 == name
}

fn owned(place: (Number, &[u8])) -> (Number, Vec<u8>) {
    (place.0, place.1.to_vec())
}
