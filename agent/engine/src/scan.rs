//! Looking at a directory: list, stat, and join with the registry's rows by name. What differs is a finding; what can't
//! be seen is unknown, never absent (I15).

use crate::hash::{Hashed, hash, is_open};
use crate::job::{VolumeContext, identity};
use crate::limits::FINDINGS;
use crate::registry::{Key, Registry, RegistryError};
use crate::second_names::{Seen, shown};
use crate::suspect::is_suspect;
use syncmesh_core::entry::{Body, ContentHash, Entry, Identity, Owner, Row, Unsure};
use syncmesh_core::path::{Name, RelativePath};
use syncmesh_io::{Directory, FileKind, FsError, Stat, WatchDescriptor};

/// Look at one directory.
pub struct Scan {
    /// Which volume.
    pub volume: u16,
    /// Which directory.
    pub directory: RelativePath,
    /// At what in it.
    pub scope: Scope,
}

/// How much of a directory is looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Every name; the directory is watched from before it is listed. With `recurse`, the directories in it are
    /// reported too, changed or not.
    All {
        /// Report directories that show no change.
        recurse: bool,
    },
    /// Some names.
    Names(Vec<Name>),
    /// Some names that may have changed without showing it. Nothing tells of a change, so as long as none is found the volume
    /// is in sync.
    Unsure(Vec<Name>),
}

/// A part of what a scan found.
pub struct Findings {
    /// Which volume.
    pub volume: u16,
    /// Which directory.
    pub directory: RelativePath,
    /// Names that differ from their rows.
    pub findings: Vec<Finding>,
    /// Files that have several names, changed or not.
    pub seen: Vec<Seen>,
    /// Directories whose insides must be looked at.
    pub directories: Vec<Name>,
}

/// One name that differs from its row.
pub struct Finding {
    /// The name.
    pub name: Name,
    /// Its row when it was looked at.
    pub row: Option<Row>,
    /// How it differs.
    pub what: What,
    /// Why it may change without showing it.
    pub unsure: Unsure,
}

/// How a name differs from its row.
pub enum What {
    /// It is new, or has other contents, or another time.
    Content {
        /// The contents.
        body: Body,
        /// Declared mode.
        mode: u32,
        /// Declared owner.
        owner: Option<Owner>,
        /// What the disk showed.
        identity: Identity,
    },
    /// Only mode or owner differ.
    Attributes {
        /// Declared mode.
        mode: u32,
        /// Declared owner.
        owner: Option<Owner>,
        /// What the disk showed.
        identity: Identity,
    },
    /// Nothing that is declared differs; the disk shows it otherwise (another inode, a later ctime).
    Identity(Identity),
    /// It is what the row says, and was suspect before.
    AsItWas,
    /// It has other contents, of which power loss may have taken a part.
    Doubted,
    /// It is gone.
    Removed,
    /// A directory is gone, and rows below it still say that they are here: those first.
    Vanished,
}

impl What {
    /// Contents, with what the disk showed of them.
    pub fn contents(volume: &VolumeContext, body: Body, stat: &Stat) -> Self {
        Self::Content { body, mode: declared_mode(stat), owner: volume.declared_owner(stat), identity: identity(stat) }
    }
}

/// How a scan ended.
pub struct Scanned {
    /// Which volume.
    pub volume: u16,
    /// Which directory.
    pub directory: RelativePath,
    /// What was looked at.
    pub scope: Scope,
    /// The directory's watch, if it was listed.
    pub watch: Option<WatchDescriptor>,
    /// Names that changed while they were read: look again.
    pub unstable: Vec<Name>,
    /// Files that may change without showing it: look again later.
    pub unsure: Vec<(Name, Unsure)>,
    /// Names that couldn't be read, and why. Their rows stay as they are.
    pub unreadable: Vec<(Name, FsError)>,
    /// The directory counts as deleted, and something went from it: it may be no leftover any more.
    pub emptied: bool,
    /// How the directory as a whole was.
    pub state: Result<Presence, FsError>,
}

/// Is the directory there?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It is.
    There,
    /// It isn't, and what the registry had below it was reported as removed.
    Gone,
}

struct Pass<'a> {
    scan: &'a Scan,
    volume: &'a VolumeContext,
    registry: &'a Registry,
    emit: &'a mut dyn FnMut(Findings),
    part: Findings,
    unstable: Vec<Name>,
    unsure: Vec<(Name, Unsure)>,
    unreadable: Vec<(Name, FsError)>,
    /// A name was looked at that isn't there.
    missing: bool,
}

impl Scan {
    /// Scans; findings go to `emit` in parts. Errors of the registry end it, errors of the disk are in the result.
    pub fn run(
        self,
        volume: &VolumeContext,
        registry: &Registry,
        emit: &mut dyn FnMut(Findings),
    ) -> Result<Scanned, RegistryError> {
        let part = Findings {
            volume: self.volume,
            directory: self.directory.clone(),
            findings: Vec::new(),
            seen: Vec::new(),
            directories: Vec::new(),
        };
        let (unstable, unsure, unreadable) = (Vec::new(), Vec::new(), Vec::new());
        let missing = false;
        let mut pass = Pass { scan: &self, volume, registry, emit, part, unstable, unsure, unreadable, missing };
        let mut watch = None;
        let state = match pass.whole(&mut watch) {
            Ok(presence) => Ok(presence),
            Err(Stop::Disk(error)) => Err(error),
            Err(Stop::Registry(error)) => return Err(error),
        };
        pass.flush();
        let missing = pass.missing;
        let (unstable, unsure, unreadable) = (pass.unstable, pass.unsure, pass.unreadable);
        let own = Key::of(self.volume, &self.directory).filter(|_| missing && state == Ok(Presence::There));
        let own = own.map(|key| registry.get(&key)).transpose()?.flatten();
        let emptied = own.is_some_and(|row| row.here.is_some() && row.live().is_none());
        let Scan { volume, directory, scope } = self;
        Ok(Scanned { volume, directory, scope, watch, unstable, unsure, unreadable, emptied, state })
    }
}

enum Stop {
    Disk(FsError),
    Registry(RegistryError),
}

impl From<FsError> for Stop {
    fn from(error: FsError) -> Self {
        Self::Disk(error)
    }
}

impl From<RegistryError> for Stop {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

impl Pass<'_> {
    fn whole(&mut self, watch: &mut Option<WatchDescriptor>) -> Result<Presence, Stop> {
        let fs = self.volume.fs.clone();
        if !fs.is_in_place()? {
            return Err(Stop::Disk(FsError::Outside));
        }
        let components = self.scan.directory.components();
        let directory = match fs.open_directory(&components) {
            Ok(directory) => directory,
            Err(FsError::NotFound | FsError::Outside) if is_gone(self.volume, &components)? => {
                self.root_is_ours()?;
                self.join(None, Vec::new())?;
                return Ok(Presence::Gone);
            }
            Err(error) => return Err(error.into()),
        };
        match &self.scan.scope {
            Scope::All { .. } => {
                // Watched before it is listed, so that nothing can happen between the two.
                *watch = Some(directory.watch()?);
                let mut names = Vec::new();
                for entry in directory.list()? {
                    names.push(Name::new(&entry.name).map_err(|_| FsError::Os(5))?);
                }
                names.sort_unstable();
                self.root_is_ours()?;
                self.join(Some(&*directory), names)?;
            }
            Scope::Names(names) | Scope::Unsure(names) => {
                let key = |name: &Name| Key {
                    volume: self.scan.volume,
                    directory: self.scan.directory.clone(),
                    name: name.clone(),
                };
                let rows = self.registry.get_all(&names.iter().map(key).collect::<Vec<_>>())?;
                for (name, row) in names.iter().zip(rows) {
                    self.look(Some(&*directory), name, row)?;
                }
            }
        }
        Ok(Presence::There)
    }

    /// An ordered merge of the names that are there with the rows that are known. `None` for a directory that is gone.
    fn join(&mut self, directory: Option<&dyn Directory>, names: Vec<Name>) -> Result<(), Stop> {
        const ROWS: usize = 512;
        let mut names = names.into_iter().peekable();
        let mut after: Option<Name> = None;
        loop {
            let rows = self.registry.children(self.scan.volume, &self.scan.directory, after.as_ref(), ROWS)?;
            let last = rows.len() < ROWS;
            after = rows.last().map(|(name, _)| name.clone()).or(after);
            for (name, row) in rows {
                while let Some(new) = names.next_if(|new| *new < name) {
                    self.look(directory, &new, None)?;
                }
                let there = names.next_if_eq(&name).is_some();
                self.look(if there { directory } else { None }, &name, Some(row))?;
            }
            if last {
                break;
            }
        }
        for new in names {
            self.look(directory, &new, None)?;
        }
        Ok(())
    }

    /// Compares one name with its row. Without a directory the name is known to be absent.
    fn look(&mut self, directory: Option<&dyn Directory>, name: &Name, row: Option<Row>) -> Result<(), Stop> {
        let Ok(path) = self.scan.directory.join(name) else {
            return Ok(()); // too deep to be named: counted as unreadable by whoever made it
        };
        let stat = match directory.map(|directory| directory.stat(name.as_bytes())) {
            None | Some(Err(FsError::NotFound | FsError::Collision)) => None,
            Some(Ok(stat)) if stat.kind == FileKind::Special => None,
            Some(Ok(stat)) => Some(stat),
            Some(Err(error)) => {
                self.unreadable.push((name.clone(), error));
                return Ok(());
            }
        };
        self.missing |= stat.is_none();
        let here = row.as_ref().and_then(Row::live);
        let was_directory = here.is_some_and(|here| here.entry.content.body == Body::Directory);
        let is_directory = stat.map_or(was_directory, |stat| stat.kind == FileKind::Directory);
        if !self.volume.selection.includes(&path, is_directory) {
            return Ok(()); // an excluded path is neither announced nor deleted
        }
        if stat.is_some_and(|stat| stat.kind == FileKind::Directory && stat.id.device != self.volume.device) {
            // Something else is mounted over it: what it shows, its mode too, is nothing of ours.
            self.unreadable.push((name.clone(), FsError::Outside));
            return Ok(());
        }
        if was_directory
            && stat.is_none_or(|stat| stat.kind != FileKind::Directory)
            && self.registry.has_live_children(self.scan.volume, &path)?
        {
            self.found(name, row, What::Vanished);
            return Ok(());
        }
        let was_suspect = row.as_ref().is_some_and(is_suspect);
        let Some(stat) = stat else {
            if here.is_some() {
                self.root_is_ours()?;
                self.found(name, row, What::Removed);
            } else if was_suspect {
                self.found(name, row, What::AsItWas);
            }
            return Ok(());
        };
        let deleted = row.as_ref().is_some_and(|row| row.here.is_some() && row.live().is_none());
        let recurse = matches!(self.scan.scope, Scope::All { recurse: true });
        if is_directory && deleted && is_leftover(self.volume, self.registry, self.scan.volume, &path)? {
            if recurse {
                // Nothing of it is announced, and yet it is watched: somebody may write into it.
                self.part.directories.push(name.clone());
            }
            return Ok(());
        }
        let known = here.and_then(|here| here.identity);
        let same_directory = known.is_some_and(|known| known.same_directory(&identity(&stat)));
        if is_directory && (recurse || !same_directory) {
            self.part.directories.push(name.clone());
        }
        let directory = directory.expect("something was stat'ed in it");
        let unsure = here.map(|here| here.unsure).unwrap_or_default();
        let is_same = known == Some(identity(&stat));
        if is_same && stat.kind == FileKind::File && stat.links > 1 {
            let contents = here.and_then(|here| here.entry.content.body.hash());
            self.seen(name, &stat, contents, false, false);
        }
        if is_same && !unsure.any() {
            if was_suspect {
                self.found(name, row, What::AsItWas);
            }
            return Ok(());
        }
        let stat = match self.volume.doubt.read_anew(directory, name, stat, was_suspect) {
            Ok(stat) => stat,
            Err(error) => {
                self.unreadable.push((name.clone(), error));
                return Ok(());
            }
        };
        if is_same && unsure.open && !unsure.racy {
            let file = directory.open(name.as_bytes());
            if file.is_ok_and(|file| is_open(self.volume, &*file, &stat)) {
                self.unsure.push((name.clone(), unsure));
                return Ok(());
            }
        }
        match body(self.volume, directory, name, &stat) {
            Ok(Some((body, stat, unsure))) => {
                if unsure.any() {
                    self.unsure.push((name.clone(), unsure));
                }
                let contents = body.hash();
                let mut what = self.compare(row.as_ref(), body, &stat);
                if matches!(what, What::Content { .. }) {
                    match self.volume.doubt.suspects(directory, &path, name, &stat, row.as_ref()) {
                        Ok(false) => {}
                        Ok(true) => what = What::Doubted,
                        Err(error) => {
                            self.unreadable.push((name.clone(), error));
                            return Ok(());
                        }
                    }
                }
                let is_new = row.as_ref().and_then(Row::live).is_none();
                if stat.kind == FileKind::File && (stat.links > 1 || !is_new) {
                    let changed = !matches!(what, What::Identity(_));
                    self.seen(name, &stat, contents, changed, is_new);
                }
                self.found_unsure(name, row, what, unsure);
            }
            Ok(None) => self.unstable.push(name.clone()),
            Err(error) => self.unreadable.push((name.clone(), error)),
        }
        Ok(())
    }

    fn compare(&self, row: Option<&Row>, body: Body, stat: &Stat) -> What {
        let Some((row, entry)) = row.and_then(|row| Some((row, row.base().filter(|base| base.is_live())?))) else {
            return What::contents(self.volume, body, stat);
        };
        let (mode, identity) = (declared_mode(stat), identity(stat));
        let owner = self.volume.declared_owner(stat).or(entry.attributes.owner);
        let old = &entry.content.body;
        if row.wanted.iter().flat_map(|wanted| &wanted.entries).any(|wanted| {
            let either = |is: &dyn Fn(&Entry) -> bool| is(entry) || is(wanted);
            old.same_contents(&body)
                && either(&|entry| time(&entry.content.body) == time(&body))
                && either(&|entry| entry.attributes.mode == mode)
                && either(&|entry| entry.attributes.owner == owner)
        }) {
            // It was being set for a peer, and not all of it, or nobody could look whether it was.
            return What::Identity(identity);
        }
        if !old.same_contents(&body) || time(old) != time(&body) {
            return What::Content { body, mode, owner, identity };
        }
        // Compared with what the disk showed, not with what is declared: a difference that the disk made isn't a change.
        let shown = row.live().and_then(|here| here.identity).map(|old| (old.mode, old.owner));
        if shown != Some((identity.mode, identity.owner))
            && (mode, owner) != (entry.attributes.mode, entry.attributes.owner)
        {
            What::Attributes { mode, owner, identity }
        } else {
            What::Identity(identity)
        }
    }

    fn found(&mut self, name: &Name, row: Option<Row>, what: What) {
        self.found_unsure(name, row, what, Unsure::default());
    }

    fn found_unsure(&mut self, name: &Name, row: Option<Row>, what: What, unsure: Unsure) {
        self.part.findings.push(Finding { name: name.clone(), row, what, unsure });
        if self.part.findings.len() >= FINDINGS {
            self.flush();
        }
    }

    fn seen(&mut self, name: &Name, stat: &Stat, contents: Option<ContentHash>, changed: bool, is_new: bool) {
        let (inode, links, shown) = (stat.id.inode, stat.links, shown(contents, &identity(stat)));
        self.part.seen.push(Seen { name: name.clone(), inode, links, shown, changed, is_new });
        if self.part.seen.len() >= FINDINGS {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let findings = std::mem::take(&mut self.part.findings);
        let seen = std::mem::take(&mut self.part.seen);
        let directories = std::mem::take(&mut self.part.directories);
        if !findings.is_empty() || !seen.is_empty() || !directories.is_empty() {
            let (volume, directory) = (self.part.volume, self.part.directory.clone());
            (self.emit)(Findings { volume, directory, findings, seen, directories });
        }
    }

    /// Nothing counts as deleted unless the root is the one that the registry knows.
    fn root_is_ours(&self) -> Result<(), FsError> {
        match self.volume.fs.read_marker()? {
            Some(marker) if marker == self.volume.marker => Ok(()),
            _ => Err(FsError::Outside),
        }
    }
}

/// The body of what `name` stands for; `None` if it changes while we look.
pub fn body(
    volume: &VolumeContext,
    directory: &dyn Directory,
    name: &Name,
    stat: &Stat,
) -> Result<Option<(Body, Stat, Unsure)>, FsError> {
    match stat.kind {
        FileKind::Directory => Ok(Some((Body::Directory, *stat, Unsure::default()))),
        FileKind::Special => Ok(None),
        FileKind::File => Ok(match hash(volume, directory, name.as_bytes(), stat)? {
            Hashed::Body(body, stat, unsure) => Some((body, stat, unsure)),
            Hashed::Unstable => None,
        }),
        FileKind::Symlink => {
            let target = match directory.read_link(name.as_bytes()) {
                Ok(target) => target,
                Err(FsError::NotFound | FsError::WrongKind) => return Ok(None),
                Err(error) => return Err(error),
            };
            // Its own name shows it again: the same inode can't get another target.
            let again = directory.stat(name.as_bytes());
            let same = again.is_ok_and(|again| again == *stat);
            Ok(same.then_some((Body::Symlink { target, mtime: stat.mtime }, *stat, Unsure::default())))
        }
    }
}

fn time(body: &Body) -> i64 {
    match body {
        Body::File { mtime, .. } | Body::Symlink { mtime, .. } => *mtime,
        Body::Directory | Body::Tombstone { .. } => 0,
    }
}

/// The mode to declare: setuid and setgid are never synchronised, a link's mode has no meaning.
pub fn declared_mode(stat: &Stat) -> u32 {
    if stat.kind == FileKind::Symlink { 0o777 } else { stat.mode & 0o1777 }
}

/// Is there something in a deleted directory, and nothing of it selected but other such directories? It is a leftover
/// (SYNC 10). A directory that was never recorded is somebody's new one, so this one isn't.
pub fn is_leftover(
    volume: &VolumeContext,
    registry: &Registry,
    number: u16,
    directory: &RelativePath,
) -> Result<bool, RegistryError> {
    let Ok(opened) = volume.fs.open_directory(&directory.components()) else { return Ok(false) };
    let Ok(entries) = opened.list() else { return Ok(false) };
    for entry in &entries {
        let Ok(name) = Name::new(&entry.name) else { return Ok(false) };
        let Ok(path) = directory.join(&name) else { return Ok(false) };
        let kind = entry.kind.or_else(|| opened.stat(&entry.name).ok().map(|stat| stat.kind));
        let is_directory = kind == Some(FileKind::Directory);
        if !volume.selection.includes(&path, is_directory) {
            continue;
        }
        let row = registry.get(&Key { volume: number, directory: directory.clone(), name })?;
        let deleted = row.is_some_and(|row| row.here.is_some() && row.live().is_none());
        if !is_directory || !deleted || !is_leftover(volume, registry, number, &path)? {
            return Ok(false);
        }
    }
    Ok(!entries.is_empty())
}

/// Is the directory really gone, or only unseen? Gone means: some directory above it is there, on our device, and lacks
/// the next component, or has something else than a directory under its name.
fn is_gone(volume: &VolumeContext, components: &[&[u8]]) -> Result<bool, FsError> {
    for (depth, component) in components.iter().enumerate() {
        let parent = volume.fs.open_directory(&components[..depth])?;
        match parent.stat(component) {
            Err(FsError::NotFound | FsError::Collision) => return Ok(true),
            Err(error) => return Err(error),
            Ok(stat) if stat.kind != FileKind::Directory => return Ok(true),
            Ok(stat) if stat.id.device != volume.device => return Ok(false),
            Ok(_) => {}
        }
    }
    Ok(false)
}
