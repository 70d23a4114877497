//! What users do in stories: files written, replaced, deleted, renamed, in the ways in which people and their programs do
//! that. What takes a program several calls takes several steps here: agents act between them.

use super::Teller;
use crate::{Disk, Snapshot};

const DIRECTORIES: [&str; 4] = ["", "d", "d/e", "f"];
const FILES: [&str; 5] = ["a", "b", "c.txt", "big", "x"];
const FEW: [&str; 5] = ["a", "b", "c.txt", "d/a", "d/big"];

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

impl Teller {
    fn disk(&self, node: u32) -> Disk {
        self.mesh.disk(node).clone()
    }

    pub(super) fn path(&mut self) -> Vec<u8> {
        if self.renaming {
            return FEW[self.mesh.random.between(0, FEW.len() as u64 - 1) as usize].into();
        }
        let directory = DIRECTORIES[self.mesh.random.between(0, DIRECTORIES.len() as u64 - 1) as usize];
        let file = FILES[self.mesh.random.between(0, FILES.len() as u64 - 1) as usize];
        if directory.is_empty() { file.into() } else { format!("{directory}/{file}").into_bytes() }
    }

    /// Any but the root.
    fn directory(&mut self) -> &'static str {
        DIRECTORIES[self.mesh.random.between(1, DIRECTORIES.len() as u64 - 1) as usize]
    }

    fn size(&mut self, path: &[u8]) -> usize {
        let (least, most) = if path.ends_with(b"big") { (60_000, 700_000) } else { (0, 300) };
        self.mesh.random.between(least, most) as usize
    }

    /// Agents and the network do something while a program is between two calls.
    fn a_moment(&mut self) {
        let steps = self.mesh.random.between(0, 30);
        self.mesh.take_steps(steps);
    }

    /// Opens with `O_TRUNC`, writes at once, closes. False if the disk refuses.
    fn put(&mut self, node: u32, path: &[u8]) -> bool {
        let size = self.size(path);
        let disk = self.disk(node);
        let seen = disk.user_read(path).ok();
        let contents = self.ledger.contents(node, path, size);
        let written = disk.user_write(path, &contents).is_ok();
        if written {
            self.writes += 1;
            let id = text(&contents[..contents.len().min(8)]);
            self.mesh.note(&format!("user of n{node} writes {id} to {}", text(path)));
        } else {
            self.ledger.never_written(&contents);
        }
        // A full disk refuses what was to be written and not that the file was cut off before.
        if let Some(seen) = seen.filter(|seen| written || disk.user_read(path).as_ref() != Ok(seen)) {
            self.ledger.supersede(&seen);
        }
        written
    }

    pub(super) fn write(&mut self, node: u32) {
        let path = self.path();
        self.put(node, &path);
    }

    /// As editors do it that want to lose nothing: the new version beside the old one, then over it.
    pub(super) fn save_beside(&mut self, node: u32) {
        let path = self.path();
        let beside = [&path[..], b".new"].concat();
        if self.put(node, &beside) {
            self.a_moment();
            self.rename_from_to(node, &beside, &path);
        }
    }

    /// As other editors do it: the old version gets a name beside it, the new one is written, the old one goes.
    pub(super) fn save_with_backup(&mut self, node: u32) {
        let path = self.path();
        let backup = [&path[..], b"~"].concat();
        self.rename_from_to(node, &path, &backup);
        self.a_moment();
        self.put(node, &path);
        self.a_moment();
        self.remove(node, &backup);
    }

    /// The old version goes, the new one comes under its name.
    pub(super) fn remove_and_create(&mut self, node: u32) {
        let path = self.path();
        self.remove(node, &path);
        self.a_moment();
        self.put(node, &path);
    }

    /// The file is cut off and written again piece by piece, in place.
    pub(super) fn rewrite_in_place(&mut self, node: u32) {
        let path = self.path();
        let size = self.size(&path);
        let disk = self.disk(node);
        let seen = disk.user_read(&path).unwrap_or_default();
        let Ok(file) = disk.user_create_open(&path) else { return };
        // Lost in part while it is written, it would be what nobody wrote, and what nobody can tell from what somebody did.
        disk.fail_sync(None);
        let contents = self.ledger.contents(node, &path, size);
        self.ledger.in_parts(&contents);
        self.mesh.note(&format!("user of n{node} rewrites {} in place", text(&path)));
        let mut written = disk.user_truncate(file, 0).is_ok();
        self.ledger.supersede(&seen);
        let mut offset = 0;
        for piece in [contents.len().min(32), contents.len().div_ceil(2), contents.len()] {
            self.a_moment();
            let part = &contents[offset..piece.max(offset)];
            written = written && disk.user_write_at(file, part, offset as u64).is_ok();
            offset += part.len();
        }
        disk.user_close(file);
        if written {
            self.writes += 1;
        } else {
            self.ledger.never_written(&contents);
        }
    }

    /// More is written behind what is there.
    pub(super) fn append(&mut self, node: u32) {
        let path = self.path();
        let size = self.size(&path) / 4;
        let disk = self.disk(node);
        // Nobody goes on with what power loss has torn.
        let Some(seen) = disk.user_read(&path).ok().filter(|seen| self.ledger.was_shown(seen)) else { return };
        let Ok(file) = disk.user_create_open(&path) else { return };
        self.a_moment();
        if disk.has_lost() {
            // What it goes on with may be lost already, and it can't see that: a version that nobody has, by its own doing.
            return disk.user_close(file);
        }
        let more = self.ledger.appended(node, &path, &seen, size);
        match disk.user_write_at(file, &more, seen.len() as u64) {
            Ok(()) => {
                self.ledger.supersede(&seen);
                self.writes += 1;
                let id = text(&more[..more.len().min(8)]);
                self.mesh.note(&format!("user of n{node} appends {id} to {}", text(&path)));
            }
            Err(_) => self.ledger.never_written(&more),
        }
        disk.user_close(file);
    }

    pub(super) fn delete(&mut self, node: u32) {
        let path = self.path();
        self.remove(node, &path);
    }

    fn remove(&mut self, node: u32, path: &[u8]) {
        let disk = self.disk(node);
        if let Ok(seen) = disk.user_read(path)
            && disk.user_remove(path).is_ok()
        {
            self.ledger.delete(node, path, &seen);
            self.mesh.note(&format!("user of n{node} deletes {}", text(path)));
        }
    }

    pub(super) fn rename(&mut self, node: u32) {
        let (from, to) = (self.path(), self.path());
        self.rename_from_to(node, &from, &to);
    }

    /// One user edits a file while another one renames it.
    pub(super) fn rename_and_edit(&mut self, node: u32, author: u32) {
        let other = self.mesh.random.between(1, u64::from(self.nodes)) as u32;
        let other = if self.writer.is_some() { author } else { other };
        let (from, to) = (self.path(), self.path());
        let to = if self.mesh.random.once_in(2) { to } else { [&to[..], b".moved"].concat() };
        if other == node || self.mesh.random.once_in(3) {
            return self.rename_from_to(author, &from, &to);
        }
        if self.mesh.random.once_in(2) {
            self.rename_from_to(other, &from, &to);
            self.a_moment();
        }
        if self.disk(author).user_read(&from).is_ok() {
            self.put(author, &from);
            self.a_moment();
        }
        self.rename_from_to(other, &from, &to);
    }

    fn rename_from_to(&mut self, node: u32, from: &[u8], to: &[u8]) {
        let disk = self.disk(node);
        let inode = |path| disk.user_stat(path).ok().map(|stat| stat.id);
        if inode(from) == inode(to) {
            return; // two names of one file: nothing happens
        }
        let replaced = disk.user_read(to).ok();
        // Nobody puts in another place what power loss or a broken disk has left of a file: that would be somebody's word for it.
        let moved = disk.user_read(from).ok().filter(|contents| self.ledger.is_whole(contents));
        if from != to
            && let Some(moved) = moved
            && disk.user_rename(from, to).is_ok()
        {
            self.ledger.name(node, to, &moved);
            if let Some(replaced) = replaced {
                self.ledger.supersede(&replaced);
            }
            self.mesh.note(&format!("user of n{node} renames {} to {}", text(from), text(to)));
        }
    }

    /// A file gets a second name: what is written through one shows under both.
    pub(super) fn second_name(&mut self, node: u32) {
        let (path, other) = (self.path(), self.path());
        if self.disk(node).user_link(&path, &other).is_ok() {
            let contents = self.disk(node).user_read(&other).unwrap_or_default();
            self.ledger.name(node, &other, &contents);
            self.mesh.note(&format!("user of n{node} gives {} the second name {}", text(&path), text(&other)));
        }
    }

    pub(super) fn make_directory(&mut self, node: u32) {
        let directory = self.directory();
        if self.disk(node).user_mkdir(directory.as_bytes()).is_ok() {
            self.mesh.note(&format!("user of n{node} makes directory {directory}"));
        }
    }

    pub(super) fn link(&mut self, node: u32) {
        let target = format!("to-{}", self.mesh.random.between(0, 3));
        let directory = DIRECTORIES[self.mesh.random.between(0, DIRECTORIES.len() as u64 - 1) as usize];
        let path = if directory.is_empty() { "link".to_owned() } else { format!("{directory}/link") };
        if self.disk(node).user_symlink(target.as_bytes(), path.as_bytes()).is_ok() {
            self.mesh.note(&format!("user of n{node} links {path} to {target}"));
        }
    }

    /// A file that is excluded: it stays where it is, and keeps no other node from anything.
    pub(super) fn unselected(&mut self, node: u32) {
        let directory = self.directory();
        if self.disk(node).user_write(format!("{directory}/n{node}.tmp").as_bytes(), b"").is_ok() {
            self.mesh.note(&format!("user of n{node} writes an excluded file in {directory}"));
        }
    }

    pub(super) fn remove_tree(&mut self, node: u32) {
        let directory = self.directory();
        let disk = self.disk(node);
        let prefix = format!("{directory}/").into_bytes();
        let below: Vec<(Vec<u8>, Snapshot)> =
            disk.snapshot().into_iter().filter(|(path, _)| path.starts_with(&prefix)).collect();
        for (path, shown) in below.into_iter().rev() {
            if disk.user_remove(&path).is_ok() {
                self.ledger.delete(node, &path, &shown.contents);
            }
        }
        if disk.user_remove(directory.as_bytes()).is_ok() {
            self.mesh.note(&format!("user of n{node} removes {directory} with all that is in it"));
        }
    }

    pub(super) fn change_mode(&mut self, node: u32) {
        let path = self.path();
        let mode = [0o600, 0o644, 0o755][self.mesh.random.between(0, 2) as usize];
        if self.disk(node).user_chmod(&path, mode).is_ok() {
            self.mesh.note(&format!("user of n{node} sets mode {mode:o} of {}", text(&path)));
        }
    }
}
