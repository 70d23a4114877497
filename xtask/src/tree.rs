//! Exact comparison of directory trees: kind, contents, mode, owner, group, modification time of files and links in
//! nanoseconds, and link targets. The agent's own `.syncmesh` at the top is no part of a tree.
//!
//! Modification times of directories are not compared: each side writes into its directories when it does, and they
//! are not synchronised.

use crate::failure::{Failure, Outcome};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What stands at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Kind, with what only this kind has.
    pub what: What,
    /// Permission bits; 0 for links, which have none.
    pub mode: u32,
    /// Owner's number.
    pub owner: u32,
    /// Group's number.
    pub group: u32,
}

/// Kinds of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A regular file.
    File {
        /// In bytes.
        length: u64,
        /// Of the contents.
        hash: blake3::Hash,
        /// Since 1970, in nanoseconds.
        modified_ns: i128,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Link {
        /// As stored, not resolved.
        target: PathBuf,
        /// Since 1970, in nanoseconds.
        modified_ns: i128,
    },
    /// Sockets, FIFOs, devices: named, since they are never synchronised.
    Special(&'static str),
}

/// A directory's entries by path relative to it. The directory itself is none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
}

/// One path at which a tree isn't as expected.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    /// Relative to both trees.
    pub path: PathBuf,
    /// For people.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl Tree {
    /// Reads everything below `root`. What vanishes meanwhile is absent.
    pub fn read(root: &Path) -> Outcome<Self> {
        let mut tree = Self::default();
        tree.read_below(root, Path::new(""))?;
        Ok(tree)
    }

    /// Replaces what the tree says of `path` and of everything below it by what is there now.
    pub fn refresh(&mut self, root: &Path, path: &Path) -> Outcome<()> {
        self.entries.retain(|known, _| !known.starts_with(path));
        self.read_entry(root, path)
    }

    /// All entries, parents before their children.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_path(), entry))
    }

    /// What stands at a path.
    pub fn get(&self, path: &Path) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Entries that aren't directories, and the bytes of the files among them.
    pub fn size(&self) -> (u64, u64) {
        self.entries.values().fold((0, 0), |(files, bytes), entry| match entry.what {
            What::File { length, .. } => (files + 1, bytes + length),
            What::Link { .. } | What::Special(_) => (files + 1, bytes),
            What::Directory => (files, bytes),
        })
    }

    /// Where `actual` isn't as this tree says, in the order of paths.
    pub fn differences(&self, actual: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        for (path, expected) in &self.entries {
            let what = match actual.entries.get(path) {
                None => Some(format!("missing {}", expected.what.kind())),
                Some(entry) => expected.difference(entry),
            };
            if let Some(what) = what {
                found.push(Difference { path: path.clone(), what });
            }
        }
        for (path, entry) in &actual.entries {
            if !self.entries.contains_key(path) {
                found.push(Difference { path: path.clone(), what: format!("unexpected {}", entry.what.kind()) });
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    fn read_below(&mut self, root: &Path, directory: &Path) -> Outcome<()> {
        let full = root.join(directory);
        let listing = match fs::read_dir(&full) {
            Ok(listing) => listing,
            // The root itself has to be there.
            Err(reason) if vanished(&reason) && !directory.as_os_str().is_empty() => return Ok(()),
            Err(reason) => return Err(Failure::io("list", &full)(reason)),
        };
        for item in listing {
            let item = item.map_err(Failure::io("list", &full))?;
            let path = directory.join(item.file_name());
            if path != Path::new(".syncmesh") {
                self.read_entry(root, &path)?;
            }
        }
        Ok(())
    }

    fn read_entry(&mut self, root: &Path, path: &Path) -> Outcome<()> {
        let full = root.join(path);
        let read = fs::symlink_metadata(&full).and_then(|metadata| Entry::read(&full, &metadata));
        match read {
            Ok(entry) => {
                let descend = entry.what == What::Directory;
                self.entries.insert(path.to_path_buf(), entry);
                if descend {
                    self.read_below(root, path)?;
                }
                Ok(())
            }
            Err(reason) if vanished(&reason) => Ok(()),
            Err(reason) => Err(Failure::io("read", &full)(reason)),
        }
    }
}

fn vanished(reason: &io::Error) -> bool {
    matches!(reason.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl What {
    /// Its name for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Directory => "directory",
            Self::Link { .. } => "symbolic link",
            Self::Special(name) => name,
        }
    }
}

impl Entry {
    fn read(path: &Path, metadata: &Metadata) -> io::Result<Self> {
        let kind = metadata.file_type();
        let modified_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        let what = if kind.is_file() {
            let mut hasher = blake3::Hasher::new();
            let length = io::copy(&mut fs::File::open(path)?, &mut hasher)?;
            What::File { length, hash: hasher.finalize(), modified_ns }
        } else if kind.is_dir() {
            What::Directory
        } else if kind.is_symlink() {
            What::Link { target: fs::read_link(path)?, modified_ns }
        } else if kind.is_fifo() {
            What::Special("FIFO")
        } else if kind.is_socket() {
            What::Special("socket")
        } else {
            What::Special("device")
        };
        let mode = match what {
            What::Link { .. } => 0,
            _ => metadata.mode() & 0o7777,
        };
        Ok(Self { what, mode, owner: metadata.uid(), group: metadata.gid() })
    }

    /// Everything in which `actual` differs, as one line; none when they are equal.
    fn difference(&self, actual: &Self) -> Option<String> {
        let mut parts = Vec::new();
        match (&self.what, &actual.what) {
            (
                What::File { length, hash, modified_ns },
                What::File { length: actual_length, hash: actual_hash, modified_ns: actual_modified },
            ) => {
                if length != actual_length {
                    parts.push(format!("{actual_length} bytes, expected {length}"));
                } else if hash != actual_hash {
                    parts.push(format!("other contents ({length} bytes)"));
                }
                parts.extend(time_difference(*modified_ns, *actual_modified));
            }
            (
                What::Link { target, modified_ns },
                What::Link { target: actual_target, modified_ns: actual_modified },
            ) => {
                if target != actual_target {
                    parts.push(format!("points to {}, expected {}", actual_target.display(), target.display()));
                }
                parts.extend(time_difference(*modified_ns, *actual_modified));
            }
            (expected, found) if expected.kind() != found.kind() => {
                // Nothing else of them can be compared.
                return Some(format!("is a {}, expected a {}", found.kind(), expected.kind()));
            }
            _ => {}
        }
        for (name, expected, found) in [("owner", self.owner, actual.owner), ("group", self.group, actual.group)] {
            if expected != found {
                parts.push(format!("{name} {found}, expected {expected}"));
            }
        }
        if self.mode != actual.mode {
            parts.push(format!("mode {:o}, expected {:o}", actual.mode, self.mode));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

fn time_difference(expected: i128, found: i128) -> Option<String> {
    (expected != found).then(|| format!("modified at {found} ns, expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn set_time(path: &Path, nanoseconds: i64) {
        let time = Timespec { tv_sec: 1_000_000, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    /// The same tree at two places, then `change` on the second; the lines that tell the difference.
    fn differences_after(change: impl Fn(&Path)) -> Vec<String> {
        let home = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            let root = home.path().join(name);
            fs::create_dir_all(root.join("d/e")).unwrap();
            fs::write(root.join("d/f"), "hello").unwrap();
            symlink("f", root.join("d/l")).unwrap();
            set_time(&root.join("d/f"), 5);
            set_time(&root.join("d/l"), 6);
        }
        change(&home.path().join("b"));
        let a = Tree::read(&home.path().join("a")).unwrap();
        let b = Tree::read(&home.path().join("b")).unwrap();
        a.differences(&b).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn equal_trees_have_no_difference() {
        assert_eq!(differences_after(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn the_agents_directory_counts_at_the_top_only() {
        let found = differences_after(|b| {
            fs::create_dir_all(b.join(".syncmesh/versions")).unwrap();
            fs::create_dir_all(b.join("d/.syncmesh")).unwrap();
        });
        assert_eq!(found, ["d/.syncmesh: unexpected directory"]);
    }

    #[test]
    fn contents_of_the_same_length_are_compared() {
        let found = differences_after(|b| {
            fs::write(b.join("d/f"), "jello").unwrap();
            set_time(&b.join("d/f"), 5);
        });
        assert_eq!(found, ["d/f: other contents (5 bytes)"]);
    }

    #[test]
    fn length_mode_and_time_are_told_in_one_line() {
        let found = differences_after(|b| {
            fs::write(b.join("d/f"), "hell").unwrap();
            fs::set_permissions(b.join("d/f"), fs::Permissions::from_mode(0o600)).unwrap();
            set_time(&b.join("d/f"), 7);
        });
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("4 bytes, expected 5"), "{found:?}");
        assert!(found[0].contains("mode 600, expected"), "{found:?}");
        assert!(found[0].contains("modified at"), "{found:?}");
    }

    #[test]
    fn a_nanosecond_in_a_link_or_file_matters() {
        let found = differences_after(|b| {
            set_time(&b.join("d/f"), 6);
            set_time(&b.join("d/l"), 7);
        });
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_directorys_mode_matters_and_its_time_does_not() {
        let found = differences_after(|b| {
            fs::set_permissions(b.join("d/e"), fs::Permissions::from_mode(0o700)).unwrap();
            set_time(&b.join("d"), 9);
        });
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("d/e: mode 700"), "{found:?}");
    }

    #[test]
    fn another_target_another_kind_missing_and_unexpected_are_told() {
        let found = differences_after(|b| {
            fs::remove_file(b.join("d/l")).unwrap();
            symlink("g", b.join("d/l")).unwrap();
            set_time(&b.join("d/l"), 6);
            fs::remove_dir(b.join("d/e")).unwrap();
            fs::write(b.join("d/e"), "").unwrap();
            fs::remove_file(b.join("d/f")).unwrap();
            fs::write(b.join("new"), "").unwrap();
        });
        assert_eq!(
            found,
            [
                "d/e: is a file, expected a directory",
                "d/f: missing file",
                "d/l: points to g, expected f",
                "new: unexpected file",
            ]
        );
    }

    #[test]
    fn another_owner_or_group_is_told() {
        let entry = Entry { what: What::Directory, mode: 0o755, owner: 1, group: 2 };
        let other = Entry { owner: 3, group: 4, ..entry.clone() };
        assert_eq!(entry.difference(&other).as_deref(), Some("owner 3, expected 1; group 4, expected 2"));
    }

    #[test]
    fn refresh_follows_a_change_and_a_removal() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        fs::create_dir_all(root.join("d/e")).unwrap();
        fs::write(root.join("d/e/f"), "1").unwrap();
        fs::write(root.join("dx"), "1").unwrap();
        let mut tree = Tree::read(root).unwrap();
        fs::remove_dir_all(root.join("d/e")).unwrap();
        fs::write(root.join("d/g"), "2").unwrap();
        tree.refresh(root, Path::new("d")).unwrap();
        assert_eq!(tree, Tree::read(root).unwrap());
        assert_eq!(tree.size(), (2, 2));
        fs::remove_dir_all(root.join("d")).unwrap();
        tree.refresh(root, Path::new("d")).unwrap();
        assert_eq!(tree, Tree::read(root).unwrap());
    }
}
