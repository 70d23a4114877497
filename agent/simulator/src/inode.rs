//! Inodes of a simulated disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use syncmesh_io::{FileId, FileKind, Owner, Stat};

/// Bytes that are allocated together.
const PAGE: u64 = 4096;

/// An inode's number.
pub(crate) type Number = u64;

#[derive(Clone, Debug)]
pub(crate) struct Inode {
    pub node: Node,
    pub mode: u32,
    pub owner: Owner,
    pub mtime: i64,
    pub ctime: i64,
    /// When it was made.
    pub born: i64,
    /// Extended attributes.
    pub attributes: BTreeMap<String, Vec<u8>>,
    /// Names; for directories only whether it still has one.
    pub names: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    File(Contents),
    Directory(Names),
    Symlink(Vec<u8>),
    Special,
}

/// A directory's names, and where it lies itself: directories have one name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub entries: BTreeMap<Vec<u8>, Number>,
    pub place: Option<(Number, Vec<u8>)>,
    pub subdirectories: u32,
}

/// A file's bytes. Pages that were never written are holes. Copies share their pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    length: u64,
    pages: BTreeMap<u64, Arc<Vec<u8>>>,
}

impl Contents {
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let rest = self.length.saturating_sub(offset);
        let bytes = usize::try_from(rest).map_or(buffer.len(), |rest| rest.min(buffer.len()));
        let mut done = 0;
        while done < bytes {
            let (page, start, count) = piece(offset + done as u64, bytes - done);
            let target = &mut buffer[done..done + count];
            match self.pages.get(&page) {
                Some(written) => target.copy_from_slice(&written[start..start + count]),
                None => target.fill(0),
            }
            done += count;
        }
        bytes
    }

    pub(crate) fn write(&mut self, bytes: &[u8], offset: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let (page, start, count) = piece(offset + done as u64, bytes.len() - done);
            let written = Arc::make_mut(self.pages.entry(page).or_insert_with(|| Arc::new(vec![0; PAGE as usize])));
            written[start..start + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
        if !bytes.is_empty() {
            self.length = self.length.max(offset + bytes.len() as u64);
        }
    }

    pub(crate) fn set_length(&mut self, length: u64) {
        if length < self.length {
            self.pages.retain(|page, _| page * PAGE < length);
            // What is cut off must read as zeros when the file grows again.
            if let Some(last) = self.pages.get_mut(&(length / PAGE)) {
                Arc::make_mut(last)[(length % PAGE) as usize..].fill(0);
            }
        }
        self.length = length;
    }

    /// Zeros from a page on, as after power loss a file shows whose length was written and whose data wasn't.
    pub(crate) fn lose_from(&mut self, page: u64) {
        self.pages.retain(|at, _| *at < page);
    }

    /// Zeros in the place of one page.
    pub(crate) fn lose_page(&mut self, page: u64) {
        self.pages.remove(&page);
    }

    /// How many pages it is long.
    pub(crate) fn length_in_pages(&self) -> u64 {
        self.length.div_ceil(PAGE)
    }

    pub(crate) fn whole(&self) -> Vec<u8> {
        let length = usize::try_from(self.length).expect("simulated files fit in memory");
        let mut bytes = vec![0; length];
        self.read(&mut bytes, 0);
        bytes
    }

    fn blocks(&self) -> u64 {
        self.pages.len() as u64 * (PAGE / 512)
    }
}

/// The page at an offset, where in it that is, and how much of `rest` it holds.
fn piece(offset: u64, rest: usize) -> (u64, usize, usize) {
    let start = (offset % PAGE) as usize;
    (offset / PAGE, start, rest.min(PAGE as usize - start))
}

impl Inode {
    pub(crate) fn new(node: Node, mode: u32, owner: Owner, now: i64) -> Self {
        Self { node, mode, owner, mtime: now, ctime: now, born: now, attributes: BTreeMap::new(), names: 1 }
    }

    pub(crate) fn kind(&self) -> FileKind {
        match self.node {
            Node::File(_) => FileKind::File,
            Node::Directory(_) => FileKind::Directory,
            Node::Symlink(_) => FileKind::Symlink,
            Node::Special => FileKind::Special,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.node, Node::Directory(_))
    }

    pub(crate) fn stat(&self, device: u64, inode: Number) -> Stat {
        let (size, blocks) = match &self.node {
            Node::File(contents) => (contents.length(), contents.blocks()),
            Node::Directory(_) => (PAGE, PAGE / 512),
            Node::Symlink(target) => (target.len() as u64, 0),
            Node::Special => (0, 0),
        };
        let links = match &self.node {
            Node::Directory(names) if self.names > 0 => 2 + names.subdirectories,
            _ => self.names,
        };
        Stat {
            kind: self.kind(),
            id: FileId { device, inode },
            size,
            blocks,
            mode: self.mode,
            owner: self.owner,
            mtime: self.mtime,
            ctime: self.ctime,
            born: self.born,
            links,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_reads_as_zeros_and_frees_its_blocks() {
        let mut contents = Contents::default();
        contents.write(&[7; 10_000], 0);
        assert_eq!(contents.blocks(), 24);
        contents.set_length(4_100);
        assert_eq!(contents.blocks(), 16);
        contents.set_length(1 << 40);
        assert_eq!((contents.length(), contents.blocks()), (1 << 40, 16));
        let mut buffer = [1; 8];
        assert_eq!(contents.read(&mut buffer, 4_096), 8);
        assert_eq!(buffer, [7, 7, 7, 7, 0, 0, 0, 0]);
    }
}
