//! What is on a node's disk below the storage root (KUBERNETES.md, "Directories").
//!
//! ```text
//! ROOT/state/                registry, journal, identity, lock, admin socket
//! ROOT/volumes/ID/meta/      volume.json, which says whose it is; stage, version store and the engine's marker
//!                 incoming/  the files, until they have all come; then it is renamed to
//!                 data/      what pods mount. Its inode never changes
//! ROOT/volumes/.removed-ID/  on its way out
//! ```
//! Nothing is deleted because an object is missing: a directory that nobody asks for stays, as an orphan.

use super::surroundings::Places;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use syncmesh_crds::replica::{Data, Start, SyncReplicaSpec};
use syncmesh_io::StateFiles;
use syncmesh_io::linux::LinuxStateFiles;

/// The file that says whose a directory is.
const MARKER: &str = "volume.json";
/// The file with the id of this node's disk.
const ID: &str = "replica-id";
/// How names of directories begin that are on their way out.
const REMOVED: &str = ".removed-";

/// The directories of one node.
#[derive(Clone, Debug)]
pub struct Storage {
    places: Places,
}

/// Whose a directory is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    mesh: String,
    #[serde(flatten)]
    owner: Owner,
    volume_id: String,
}

/// A directory that no object asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its name.
    pub volume_id: String,
    /// Whose it was, if that can be read.
    pub owner: Option<Owner>,
}

/// The volume that a directory is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Its namespace.
    pub namespace: String,
    /// The uid of that namespace.
    pub namespace_uid: String,
    /// Its name.
    pub volume: String,
}

impl Storage {
    /// Makes what is missing of the storage root, for root alone, and finishes removals that a stop interrupted.
    ///
    /// # Errors
    /// The root can't be used.
    pub fn open(places: Places) -> Result<Self, String> {
        for directory in [places.root.clone(), places.state(), places.volumes()] {
            let closed = make(&directory, 0o700);
            // A hostPath that the kubelet made has mode 0755.
            let closed = closed.and_then(|()| fs::set_permissions(&directory, Permissions::from_mode(0o700)));
            closed.map_err(|why| {
                format!("can't make {}: {why}; the storage root has to be a directory of root's", directory.display())
            })?;
        }
        let storage = Self { places };
        storage.sweep();
        Ok(storage)
    }

    /// Where things are.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The id of this node's disk, made at the first call.
    ///
    /// # Errors
    /// It can't be read or written.
    pub fn id(&self) -> Result<String, String> {
        let path = self.places.in_state(ID);
        match fs::read_to_string(&path) {
            Ok(id) => Ok(id.trim().to_owned()),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                let mut random = [0_u8; 16];
                let made = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
                made.map_err(|why| format!("can't make an id for this disk: {why}"))?;
                let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
                replace(&self.places.state(), ID, id.as_bytes())?;
                Ok(id)
            }
            Err(why) => Err(format!("can't read {}: {why}", path.display())),
        }
    }

    /// Makes a replica's directory, or finds it, and says how far it is.
    ///
    /// # Errors
    /// It is somebody else's, or can't be made.
    pub fn prepare(&self, namespace: &str, spec: &SyncReplicaSpec, had: bool) -> Result<Data, String> {
        if let Some(listed) = &spec.directory {
            let path = self.places.directory(listed);
            return if path.is_dir() {
                Ok(Data::Ready)
            } else {
                Err(format!("the mesh's directory {listed} isn't there on this node: make it, or mount its disk"))
            };
        }
        let base = self.places.volume(&spec.volume_id);
        let failed = |why: io::Error| format!("can't make {}: {why}", base.display());
        make(&base, 0o700).map_err(failed)?;
        let [data, incoming, meta] = ["data", "incoming", "meta"].map(|name| base.join(name));
        let ours = Marker {
            mesh: spec.mesh.clone(),
            owner: Owner {
                namespace: namespace.to_owned(),
                namespace_uid: spec.namespace_uid.clone(),
                volume: spec.volume.clone(),
            },
            volume_id: spec.volume_id.clone(),
        };
        match marker(&meta)? {
            Some(found) if found.owner.namespace_uid != ours.owner.namespace_uid => {
                return Err(format!(
                    "{} has files of volume {}/{}, whose namespace was another one: choose another volumeID, or have an administrator give them to this one with `kubectl syncmesh orphans adopt {} --volume {} -n {namespace}`",
                    base.display(),
                    found.owner.namespace,
                    found.owner.volume,
                    spec.volume_id,
                    spec.volume
                ));
            }
            Some(found) if found == ours => {}
            found => {
                if found.is_none() && (data.exists() || incoming.exists()) {
                    return Err(format!(
                        "{} has files, and {} isn't there to say whose: an administrator has to move them away",
                        base.display(),
                        meta.join(MARKER).display()
                    ));
                }
                make(&meta, 0o700).map_err(failed)?;
                write_marker(&meta, &ours)?;
            }
        }
        if data.is_dir() {
            return Ok(Data::Ready);
        }
        if !incoming.is_dir() {
            if meta.join("marker").exists() {
                return Err(format!(
                    "{} is gone, and the rest of the volume isn't: put it back; or, if its files are really gone, delete {} on this node, and they come from peers",
                    data.display(),
                    base.display()
                ));
            }
            // Not yet under its last name: who finds that finds it with its owner and mode.
            make(&incoming, 0o700).map_err(failed)?;
            chown(&incoming, Some(spec.root.uid), Some(spec.root.gid)).map_err(failed)?;
            fs::set_permissions(&incoming, Permissions::from_mode(spec.root.mode.bits())).map_err(failed)?;
            sync(&base)?;
        }
        let alone = spec.members.iter().all(|member| member.node == spec.node);
        let is_new = !had && !meta.join("marker").exists();
        if spec.start == Start::Empty && (is_new || alone) {
            self.promote(&spec.volume_id)?;
            return Ok(Data::Ready);
        }
        Ok(Data::Incoming)
    }

    /// A volume's files have all come: pods can mount them.
    ///
    /// # Errors
    /// They can't be moved, or there are some under that name already.
    pub fn promote(&self, id: &str) -> Result<(), String> {
        let base = self.places.volume(id);
        let [data, incoming] = ["data", "incoming"].map(|name| base.join(name));
        if data.exists() {
            return Err(format!("{} is there already", data.display()));
        }
        fs::rename(&incoming, &data).map_err(|why| format!("can't rename {}: {why}", incoming.display()))?;
        sync(&base)
    }

    /// Deletes a volume's files, because that was ordered. First they go out of sight at once, so that a stop in the middle leaves
    /// nothing that looks whole.
    ///
    /// # Errors
    /// They are somebody else's, or can't be deleted.
    pub fn remove(&self, spec: &SyncReplicaSpec) -> Result<(), String> {
        // The administrator's own directory is the administrator's to delete.
        if spec.directory.is_some() {
            return Ok(());
        }
        let base = self.places.volume(&spec.volume_id);
        match marker(&base.join("meta"))? {
            None if !base.exists() => return Ok(()),
            Some(found) if found.owner.namespace_uid == spec.namespace_uid => {}
            _ => {
                return Err(format!("{} isn't this volume's, and is left alone", base.display()));
            }
        }
        let out = self.take_out(&spec.volume_id)?;
        self.delete(&out)
    }

    /// Takes a volume's directory out of sight, whosever it is, and says where it is then. A name like that is deleted at the next start.
    ///
    /// # Errors
    /// It can't be renamed, or what was taken out before can't be deleted.
    pub fn take_out(&self, id: &str) -> Result<PathBuf, String> {
        let base = self.places.volume(id);
        let out = self.places.volumes().join(format!("{REMOVED}{id}"));
        if out.exists() {
            self.delete(&out)?;
        }
        fs::rename(&base, &out).map_err(|why| format!("can't rename {}: {why}", base.display()))?;
        sync(&self.places.volumes())?;
        Ok(out)
    }

    /// Deletes what was taken out of sight.
    ///
    /// # Errors
    /// It can't be deleted.
    pub fn delete(&self, out: &Path) -> Result<(), String> {
        fs::remove_dir_all(out).map_err(|why| format!("can't delete {}: {why}", out.display()))
    }

    /// Writes into a directory whose it is from now on.
    ///
    /// # Errors
    /// It can't be written.
    pub fn hand_over(&self, id: &str, mesh: &str, owner: &Owner) -> Result<(), String> {
        let meta = self.places.volume(id).join("meta");
        make(&meta, 0o700).map_err(|why| format!("can't make {}: {why}", meta.display()))?;
        write_marker(&meta, &Marker { mesh: mesh.to_owned(), owner: owner.clone(), volume_id: id.to_owned() })
    }

    /// Whose a directory is, if that can be read.
    pub fn owner(&self, id: &str) -> Option<Owner> {
        marker(&self.places.volume(id).join("meta")).ok().flatten().map(|found| found.owner)
    }

    /// Directories that none of these ids asks for.
    ///
    /// # Errors
    /// The volumes can't be listed.
    pub fn orphans(&self, asked_for: &BTreeSet<String>) -> Result<Vec<Orphan>, String> {
        let volumes = self.places.volumes();
        let failed = |why: io::Error| format!("can't list {}: {why}", volumes.display());
        let mut orphans = Vec::new();
        for entry in fs::read_dir(&volumes).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(id) = name.to_str().filter(|id| !id.starts_with('.') && !asked_for.contains(*id)) else {
                continue;
            };
            if is_real_directory(&self.places.volume(id)) {
                // One whose marker can't be read is an orphan all the more.
                orphans.push(Orphan { volume_id: id.to_owned(), owner: self.owner(id) });
            }
        }
        orphans.sort_by(|one, other| one.volume_id.cmp(&other.volume_id));
        Ok(orphans)
    }

    /// Files and bytes of a volume's directory.
    pub fn count(&self, id: &str) -> (u64, u64) {
        self.count_below(&self.places.volume(id))
    }

    /// The same of one that was taken out of sight.
    pub fn count_below(&self, base: &Path) -> (u64, u64) {
        ["data", "incoming"].iter().fold((0, 0), |(files, bytes), name| {
            let (more, larger) = count(&base.join(name));
            (files + more, bytes + larger)
        })
    }

    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.places.volumes()) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let is_out = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(REMOVED));
            if is_out && let Err(why) = fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %why, "what was ordered to be deleted can't be");
            }
        }
    }
}

/// Replaces a file whole, durably, for its owner alone.
///
/// # Errors
/// It can't be written.
pub(super) fn replace(directory: &Path, name: &str, contents: &[u8]) -> Result<(), String> {
    let failed = |why: syncmesh_io::FsError| format!("can't write {}: {why}", directory.join(name).display());
    LinuxStateFiles::open(directory).map_err(failed)?.write(name, contents).map_err(failed)
}

fn write_marker(meta: &Path, marker: &Marker) -> Result<(), String> {
    let text = serde_json::to_vec(marker).map_err(|why| why.to_string())?;
    replace(meta, MARKER, &text)
}

fn marker(meta: &Path) -> Result<Option<Marker>, String> {
    let path = meta.join(MARKER);
    match fs::read(&path) {
        Ok(text) => {
            let found = serde_json::from_slice(&text);
            found.map(Some).map_err(|why| format!("can't read {}: {why}; it says whose the files are", path.display()))
        }
        Err(why) if matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(why) => Err(format!("can't read {}: {why}", path.display())),
    }
}

/// A directory that is there already is as good.
fn make(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists && is_real_directory(path) => Ok(()),
        made => made,
    }
}

/// No link: whoever may make one could lead us elsewhere.
fn is_real_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

fn sync(directory: &Path) -> Result<(), String> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|why| format!("can't sync {}: {why}", directory.display()))
}

/// What can't be read counts nothing.
fn count(directory: &Path) -> (u64, u64) {
    let mut sum = (0, 0);
    let mut left: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => left.push(entry.path()),
                Ok(metadata) => sum = (sum.0 + 1, sum.1 + metadata.len()),
                Err(_) => {}
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::status::tests::replica;
    use std::os::unix::fs::MetadataExt;

    fn storage() -> (tempfile::TempDir, Storage) {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(Places { root: dir.path().join("root"), ..Places::default() }).unwrap();
        (dir, storage)
    }

    fn spec(start: Start) -> SyncReplicaSpec {
        SyncReplicaSpec { start, ..replica(&["a", "b"]).spec }
    }

    fn data(storage: &Storage) -> PathBuf {
        storage.places.volume("id").join("data")
    }

    #[test]
    fn an_empty_volume_can_be_mounted_at_once_with_its_mode() {
        let (_dir, storage) = storage();
        assert_eq!(storage.prepare("web", &spec(Start::Empty), false), Ok(Data::Ready));
        assert_eq!(fs::metadata(data(&storage)).unwrap().mode() & 0o7777, 0o777);
        assert_eq!(storage.prepare("web", &spec(Start::Empty), true), Ok(Data::Ready), "again");
    }

    #[test]
    fn one_that_is_filled_appears_when_it_is_full_and_keeps_its_inode() {
        let (_dir, storage) = storage();
        assert_eq!(storage.prepare("web", &spec(Start::FromPeers), false), Ok(Data::Incoming));
        let incoming = storage.places.volume("id").join("incoming");
        let inode = fs::metadata(&incoming).unwrap().ino();
        storage.promote("id").unwrap();
        assert_eq!(fs::metadata(data(&storage)).unwrap().ino(), inode);
        assert_eq!(storage.prepare("web", &spec(Start::FromPeers), true), Ok(Data::Ready));
    }

    /// The disk was replaced: what begins empty in a mesh that has files must not be mounted empty.
    #[test]
    fn a_replica_that_had_files_and_finds_none_is_filled_again() {
        let (_dir, storage) = storage();
        assert_eq!(storage.prepare("web", &spec(Start::Empty), true), Ok(Data::Incoming));
        let (_dir, storage) = self::storage();
        let alone = SyncReplicaSpec { start: Start::Empty, ..replica(&["a"]).spec };
        assert_eq!(storage.prepare("web", &alone, true), Ok(Data::Ready), "nobody has them");
    }

    #[test]
    fn files_of_another_namespace_are_given_to_nobody_and_deleted_for_nobody() {
        let (_dir, storage) = storage();
        storage.prepare("web", &spec(Start::Empty), false).unwrap();
        fs::write(data(&storage).join("f"), "theirs").unwrap();
        let other = SyncReplicaSpec { namespace_uid: "another".into(), ..spec(Start::Empty) };
        assert!(storage.prepare("web", &other, false).unwrap_err().contains("another one"));
        assert!(storage.remove(&other).unwrap_err().contains("left alone"));
        assert!(data(&storage).join("f").exists());
    }

    #[test]
    fn files_without_a_marker_are_nobodys() {
        let (_dir, storage) = storage();
        fs::create_dir_all(data(&storage)).unwrap();
        assert!(storage.prepare("web", &spec(Start::Empty), false).unwrap_err().contains("to say whose"));
    }

    #[test]
    fn data_that_vanished_is_not_made_again() {
        let (_dir, storage) = storage();
        storage.prepare("web", &spec(Start::Empty), false).unwrap();
        fs::write(storage.places.volume("id").join("meta/marker"), "as the engine writes it").unwrap();
        fs::remove_dir(data(&storage)).unwrap();
        assert!(storage.prepare("web", &spec(Start::Empty), true).unwrap_err().contains("is gone"));
        assert!(!data(&storage).exists());
    }

    #[test]
    fn what_is_ordered_to_be_deleted_is_and_what_nobody_asks_for_stays() {
        let (_dir, storage) = storage();
        storage.prepare("web", &spec(Start::Empty), false).unwrap();
        fs::write(data(&storage).join("f"), "12345").unwrap();
        assert_eq!(storage.orphans(&BTreeSet::from(["id".to_owned()])), Ok(Vec::new()));
        let orphans = storage.orphans(&BTreeSet::new()).unwrap();
        let owner = orphans[0].owner.as_ref().unwrap();
        assert_eq!((orphans[0].volume_id.as_str(), owner.volume.as_str()), ("id", "docs"));
        assert_eq!(storage.count("id"), (1, 5));
        storage.remove(&spec(Start::Empty)).unwrap();
        assert!(!storage.places.volume("id").exists());
        storage.remove(&spec(Start::Empty)).unwrap();
    }

    #[test]
    fn a_directory_whose_owner_cant_be_read_is_an_orphan_and_a_file_is_none() {
        let (_dir, storage) = storage();
        fs::create_dir_all(storage.places.volume("bare").join("data")).unwrap();
        fs::create_dir_all(storage.places.volume("torn").join("meta")).unwrap();
        fs::write(storage.places.volume("torn").join("meta/volume.json"), "{").unwrap();
        fs::write(storage.places.volume("file"), "x").unwrap();
        let orphans = storage.orphans(&BTreeSet::new()).unwrap();
        let found: Vec<_> = orphans.iter().map(|one| (one.volume_id.as_str(), one.owner.is_some())).collect();
        assert_eq!(found, [("bare", false), ("torn", false)]);
    }

    #[test]
    fn a_directory_that_was_handed_over_is_its_new_owners() {
        let (_dir, storage) = storage();
        storage.prepare("web", &spec(Start::Empty), false).unwrap();
        fs::write(data(&storage).join("f"), "kept").unwrap();
        let again = SyncReplicaSpec { namespace_uid: "made again".into(), ..spec(Start::Empty) };
        let refused = storage.prepare("web", &again, false).unwrap_err();
        assert!(refused.contains("kubectl syncmesh orphans adopt id --volume docs -n web"), "{refused}");
        let owner = Owner { namespace: "web".into(), namespace_uid: "made again".into(), volume: "docs".into() };
        storage.hand_over("id", "default", &owner).unwrap();
        assert_eq!(storage.prepare("web", &again, false), Ok(Data::Ready));
        assert!(data(&storage).join("f").exists());
    }

    #[test]
    fn a_deletion_that_was_interrupted_ends_at_the_next_start() {
        let (_dir, storage) = storage();
        let out = storage.places.volumes().join(".removed-id");
        fs::create_dir_all(out.join("data")).unwrap();
        Storage::open(storage.places.clone()).unwrap();
        assert!(!out.exists());
    }

    #[test]
    fn a_link_in_place_of_a_directory_is_refused() {
        let (dir, storage) = storage();
        std::os::unix::fs::symlink(dir.path(), storage.places.volume("id")).unwrap();
        assert!(storage.prepare("web", &spec(Start::Empty), false).unwrap_err().contains("can't make"));
    }

    #[test]
    fn a_disk_has_one_id() {
        let (_dir, storage) = storage();
        let id = storage.id().unwrap();
        assert_eq!((id.len(), storage.id()), (32, Ok(id.clone())));
    }
}
