//! What the demo plays on: a copy of some tree, exact in all that agents synchronise.

use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::repository;
use rustix::fs::{AtFlags, CWD, Gid, Timespec, Timestamps, Uid, chownat, utimensat};
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// About how many files the repository is multiplied to.
const FILES: usize = 3_000;

/// Symbolic links in the default input: the repository has none, and edits want some.
const LINKS: usize = 24;

/// What was copied.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Files and links.
    pub files: u64,
    /// Of the files.
    pub bytes: u64,
    /// Sockets, FIFOs and devices that were left out.
    pub special: u64,
}

/// Copies the files that git tracks into `copy-000`, `copy-001`, ... until there are enough, and adds some links.
pub fn repository_copies(to: &Path, tick: &dyn Fn()) -> Outcome<Copied> {
    let root = repository::root();
    let paths: Vec<PathBuf> = repository::files(false)?
        .into_iter()
        // Tracked, but deleted in the working tree.
        .filter(|path| root.join(path).symlink_metadata().is_ok())
        .collect();
    if paths.is_empty() {
        return Err(Failure::new("git tracks no files here; give the demo a tree with --from DIR"));
    }
    let mut copied = Copied::default();
    for round in 0..FILES.div_ceil(paths.len()) {
        let place = to.join(format!("copy-{round:03}"));
        for path in &paths {
            let target = place.join(path);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(Failure::io("create", parent))?;
            }
            copy_entry(&root.join(path), &target, &mut copied, tick)?;
        }
    }
    let links = to.join("links");
    fs::create_dir(&links).map_err(Failure::io("create", &links))?;
    for number in 0..LINKS {
        let at = links.join(format!("link-{number:02}"));
        let target = Path::new("../copy-000").join(&paths[number % paths.len()]);
        symlink(target, &at).map_err(Failure::io("create", &at))?;
        copied.files += 1;
    }
    Ok(copied)
}

/// Copies what is below `from` into `to`, which exists: contents, modes, owners where we may, times; links as links.
/// Leaves out `.syncmesh` at the top, and what agents don't synchronise.
pub fn copy_tree(from: &Path, to: &Path, tick: &dyn Fn()) -> Outcome<Copied> {
    // A copy into itself would have no end.
    let source = from.canonicalize().map_err(Failure::io("find", from))?;
    let target = to.canonicalize().map_err(Failure::io("find", to))?;
    if target.starts_with(&source) {
        return Err(Failure::new(format!(
            "{} holds the demo's own directory {}; choose a tree elsewhere",
            source.display(),
            target.display()
        )));
    }
    let mut copied = Copied::default();
    for item in fs::read_dir(&source).map_err(Failure::io("list", &source))? {
        let item = item.map_err(Failure::io("list", &source))?;
        if item.file_name() != ".syncmesh" {
            copy_entry(&item.path(), &target.join(item.file_name()), &mut copied, tick)?;
        }
    }
    Ok(copied)
}

fn copy_entry(from: &Path, to: &Path, copied: &mut Copied, tick: &dyn Fn()) -> Outcome<()> {
    interrupt::check()?;
    tick();
    let metadata = fs::symlink_metadata(from).map_err(Failure::io("read", from))?;
    let kind = metadata.file_type();
    if kind.is_file() {
        copied.bytes += fs::copy(from, to).map_err(Failure::io("copy", from))?;
        copied.files += 1;
    } else if kind.is_symlink() {
        fs::read_link(from).and_then(|target| symlink(target, to)).map_err(Failure::io("copy", from))?;
        copied.files += 1;
    } else if kind.is_dir() {
        // A directory of another user, or read-only, is filled first and gets its mode afterwards.
        fs::create_dir(to).map_err(Failure::io("create", to))?;
        for item in fs::read_dir(from).map_err(Failure::io("list", from))? {
            let item = item.map_err(Failure::io("list", from))?;
            copy_entry(&item.path(), &to.join(item.file_name()), copied, tick)?;
        }
    } else {
        copied.special += 1;
        return Ok(());
    }
    dress(to, &metadata).map_err(Failure::io("set the metadata of", to))
}

/// Owner, mode and times, in this order: a change of owner takes mode bits away. setuid and setgid are dropped, as
/// agents do; an owner that we may not set stays ours.
fn dress(path: &Path, like: &Metadata) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let owner = Some(Uid::from_raw(like.uid()));
        let group = Some(Gid::from_raw(like.gid()));
        chownat(CWD, path, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    if !like.file_type().is_symlink() {
        fs::set_permissions(path, Permissions::from_mode(like.mode() & 0o1777))?;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: like.atime(), tv_nsec: like.atime_nsec() },
        last_modification: Timespec { tv_sec: like.mtime(), tv_nsec: like.mtime_nsec() },
    };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Bytes that nothing compresses or finds twice, the same for the same seed (splitmix64, Steele et al. 2014).
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    #[test]
    fn a_copy_is_exact_but_for_what_is_never_synchronised() {
        let home = tempfile::tempdir().unwrap();
        let from = home.path().join("from");
        let to = home.path().join("to");
        fs::create_dir_all(from.join("d")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("d/f"), "x").unwrap();
        fs::set_permissions(from.join("d/f"), Permissions::from_mode(0o640)).unwrap();
        symlink("nowhere", from.join("l")).unwrap();
        let expected = Tree::read(&from).unwrap();
        fs::create_dir(from.join(".syncmesh")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(from.join("s")).unwrap();
        let copied = copy_tree(&from, &to, &|| {}).unwrap();
        assert_eq!(copied, Copied { files: 2, bytes: 1, special: 1 });
        assert_eq!(expected.differences(&Tree::read(&to).unwrap()), []);
        drop(socket);
    }

    #[test]
    fn a_tree_is_not_copied_into_itself() {
        let home = tempfile::tempdir().unwrap();
        let inside = home.path().join("inside");
        fs::create_dir(&inside).unwrap();
        assert!(copy_tree(home.path(), &inside, &|| {}).is_err());
    }

    #[test]
    fn noise_repeats_by_seed() {
        assert_eq!(noise(3, 1_001), noise(3, 1_001));
        assert_ne!(noise(3, 16), noise(4, 16));
        assert_eq!(noise(3, 1_001).len(), 1_001);
    }
}
