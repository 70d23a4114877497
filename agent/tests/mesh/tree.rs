//! What a directory shows, for exact comparison.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Differences that a failed comparison names.
const SHOWN: usize = 20;

/// Paths relative to the root, as bytes, and what is there.
pub type Tree = BTreeMap<Vec<u8>, Shown>;

/// What one path shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Kind, and what is particular to it.
    pub kind: Kind,
    /// Permission bits; links have none of their own.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
}

/// Kind, contents and time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A directory. Its time is its own.
    Directory,
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// Hash of the contents.
        hash: String,
        /// Modification time in ns since 1970.
        mtime: i128,
    },
    /// A symbolic link.
    Link {
        /// What it points to.
        target: Vec<u8>,
        /// Modification time in ns since 1970.
        mtime: i128,
    },
    /// Socket, pipe or device.
    Special,
}

/// Reads a tree without following links; `.syncmesh` at its root is left out.
pub fn read(root: &Path) -> Tree {
    names(root).into_iter().map(|name| (name.clone(), shown(&at(root, &name)))).collect()
}

/// The paths in a tree, sorted; `.syncmesh` at its root is left out. What goes away meanwhile may or may not be among them.
pub fn names(root: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut waiting: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(at(root, &directory)) else { continue };
        for entry in entries.flatten() {
            let mut path = directory.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(entry.file_name().as_bytes());
            if path == b".syncmesh" {
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort_unstable();
    found
}

/// Fails with the first differences of two trees.
#[track_caller]
pub fn assert_same((one, ours): (&str, &Tree), (other, theirs): (&str, &Tree)) {
    let mut differences = Vec::new();
    for (path, shown) in ours {
        match theirs.get(path) {
            Some(there) if there == shown => {}
            Some(there) => differences.push(format!("{}: {one} {shown:?}, {other} {there:?}", path.escape_ascii())),
            None => differences.push(format!("{}: only {one} has it: {shown:?}", path.escape_ascii())),
        }
    }
    for (path, shown) in theirs.iter().filter(|(path, _)| !ours.contains_key(*path)) {
        differences.push(format!("{}: only {other} has it: {shown:?}", path.escape_ascii()));
    }
    let count = differences.len();
    differences.truncate(SHOWN);
    assert!(count == 0, "{one} and {other} differ in {count} paths:\n{}", differences.join("\n"));
}

fn at(root: &Path, path: &[u8]) -> PathBuf {
    root.join(std::ffi::OsString::from_vec(path.to_vec()))
}

fn shown(path: &Path) -> Shown {
    let found = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mtime = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
    let kind = found.file_type();
    let kind = if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        Kind::Link { target: fs::read_link(path).unwrap().into_os_string().into_vec(), mtime }
    } else if kind.is_socket() || kind.is_fifo() || kind.is_block_device() || kind.is_char_device() {
        Kind::Special
    } else {
        let hash = blake3::hash(&fs::read(path).unwrap()).to_hex()[..16].to_owned();
        Kind::File { size: found.len(), hash, mtime }
    };
    let mode = if matches!(kind, Kind::Link { .. }) { 0 } else { found.mode() & 0o7777 };
    Shown { kind, mode, owner: (found.uid(), found.gid()) }
}
