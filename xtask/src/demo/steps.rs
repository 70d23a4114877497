//! The demo's steps. Each changes directories as users would, tells the mesh what it changed, waits, and has all trees
//! compared. Nodes change different paths: conflicts are another story.

use super::input::noise;
use super::mesh::Mesh;
use super::report::{Latency, StepResult};
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::tree::What;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A step of the demo.
pub type Step = fn(&mut Mesh<'_>) -> Outcome<StepResult>;

/// All steps, in order.
pub const ALL: &[Step] = &[initial, edits, coming_and_going, kill, single_writes, at_once, apart, restored, emptied];

/// Steps that tell real agents from a directory that is shared.
#[cfg(test)]
pub const WITH_AGENTS: usize = 4;

/// Files that each node edits, and links.
const EDITED: usize = 50;
const RETARGETED: usize = 4;
/// What each node makes and deletes.
const MADE: usize = 30;
const DELETED: usize = 15;
const RENAMED: usize = 10;
/// The transfer in which an agent is killed.
const BURST_FILES: usize = 1_000;
const BURST_FILE_BYTES: usize = 8 * 1024;
const BURST_LARGE_BYTES: usize = 64 * 1024 * 1024;
/// The agent is killed once it has this many of them.
const KILLED_AT: usize = 100;
/// Single writes, one after another.
const WRITES: usize = 50;
const WRITE_BYTES: usize = 4096;

/// How long one write, or the first files of a transfer, may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(20);

fn initial(mesh: &mut Mesh<'_>) -> Outcome<StepResult> {
    mesh.screen.stage("initial sync");
    mesh.observe_all(0)?;
    let start = Instant::now();
    for node in 0..mesh.nodes() {
        mesh.start(node)?;
    }
    let took = mesh.converge(start)?;
    let (files, bytes) = mesh.expected.size();
    Ok(StepResult { name: "initial sync", files, bytes, took, latency: None })
}

/// What one node changes in a step, collected before any change, since nodes must not meet.
struct Plan {
    node: usize,
    files: Vec<PathBuf>,
    links: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

/// Deals files, links and small directories out to nodes, without a path in two hands, nor one below another.
fn deal(mesh: &Mesh<'_>, files: usize, links: usize, directories: usize) -> Vec<Plan> {
    let nodes = mesh.nodes();
    let all: Vec<(&Path, &What, u32)> =
        mesh.expected.entries().map(|(path, entry)| (path, &entry.what, entry.mode)).collect();
    let total = all.len();
    let may = |path: &Path| {
        // Users who aren't root can't change what is read-only, nor names in such a directory.
        let parent = path.parent().and_then(|parent| mesh.expected.get(parent));
        parent.is_none_or(|parent| parent.mode & 0o300 == 0o300)
    };
    let mut chosen: Vec<&Path> = Vec::new();
    for (path, what, mode) in &all {
        if chosen.len() == directories * nodes {
            break;
        }
        let inside = all.iter().filter(|(p, ..)| p.starts_with(path)).count();
        // Small ones only: deleting much of a volume is what the deletion guard holds.
        let fits = **what == What::Directory
            && (2..=(total / 50).max(2)).contains(&inside)
            && mode & 0o300 == 0o300
            && may(path)
            && !chosen.iter().any(|other| path.starts_with(other));
        if fits {
            chosen.push(path);
        }
    }
    let free = |path: &Path| may(path) && !chosen.iter().any(|other| path.starts_with(other));
    let writable: Vec<&Path> = all
        .iter()
        .filter(|(path, what, mode)| matches!(what, What::File { .. }) && mode & 0o600 == 0o600 && free(path))
        .map(|(path, ..)| *path)
        .collect();
    let linked: Vec<&Path> = all
        .iter()
        .filter(|(path, what, _)| matches!(what, What::Link { .. }) && free(path))
        .map(|(path, ..)| *path)
        .collect();
    (0..nodes)
        .map(|node| Plan {
            node,
            files: hand(&writable, node, nodes, files),
            links: hand(&linked, node, nodes, links),
            directories: hand(&chosen, node, nodes, directories),
        })
        .collect()
}

/// Every `nodes`-th from `node` on, spread over all, at most `count`.
fn hand(all: &[&Path], node: usize, nodes: usize, count: usize) -> Vec<PathBuf> {
    let own: Vec<&&Path> = all.iter().skip(node).step_by(nodes).collect();
    let stride = own.len().checked_div(count).unwrap_or(1).max(1);
    own.iter().step_by(stride).take(count).map(|path| path.to_path_buf()).collect()
}

/// Counts what changed, while it tells the mesh.
struct Changes<'m, 'a> {
    mesh: &'m mut Mesh<'a>,
    node: usize,
    root: PathBuf,
    files: u64,
    bytes: u64,
}

impl<'m, 'a> Changes<'m, 'a> {
    fn on(mesh: &'m mut Mesh<'a>, node: usize) -> Self {
        let root = mesh.volume(node).to_path_buf();
        Self { mesh, node, root, files: 0, bytes: 0 }
    }

    fn make(&mut self, path: &Path, change: impl FnOnce(&Path) -> io::Result<u64>) -> Outcome<()> {
        interrupt::check()?;
        self.mesh.screen.tick();
        let full = self.root.join(path);
        self.bytes += change(&full).map_err(Failure::io("change", &full))?;
        self.files += 1;
        self.mesh.observe(self.node, path)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Outcome<()> {
        let target = self.root.join(to);
        self.make(from, |full| fs::rename(full, &target).map(|()| 0))?;
        self.mesh.observe(self.node, to)
    }
}

fn edits(mesh: &mut Mesh<'_>) -> Outcome<StepResult> {
    mesh.screen.stage("edits on each node");
    let plans = deal(mesh, EDITED, RETARGETED, 0);
    let start = Instant::now();
    let (mut files, mut bytes) = (0, 0);
    for plan in plans {
        let mut changes = Changes::on(mesh, plan.node);
        for (number, path) in plan.files.iter().enumerate() {
            changes.make(path, |full| edit(full, number, plan.node))?;
        }
        for (number, path) in plan.links.iter().enumerate() {
            changes.make(path, |full| {
                fs::remove_file(full)?;
                symlink(format!("retargeted-{}-{number}", plan.node), full).map(|()| 0)
            })?;
        }
        files += changes.files;
        bytes += changes.bytes;
    }
    Ok(StepResult { name: "edits on each node", files, bytes, took: mesh.converge(start)?, latency: None })
}

/// One of six ways in which programs change a file. Returns the bytes written.
fn edit(full: &Path, number: usize, node: usize) -> io::Result<u64> {
    let text = noise((node * 1_000 + number) as u64, 700 + 37 * number);
    match number % 6 {
        // As editors save.
        0 => {
            let name = full.file_name().unwrap_or_default().to_string_lossy();
            let beside = full.with_file_name(format!(".{name}.{node}.saving"));
            fs::write(&beside, &text)?;
            fs::set_permissions(&beside, fs::metadata(full)?.permissions())?;
            fs::rename(&beside, full)?;
            Ok(text.len() as u64)
        }
        1 => fs::write(full, &text).map(|()| text.len() as u64),
        2 => {
            let mut file = File::options().append(true).open(full)?;
            file.write_all(&text).map(|()| text.len() as u64)
        }
        3 => {
            let file = File::options().write(true).open(full)?;
            file.set_len(file.metadata()?.len() / 2).map(|()| 0)
        }
        4 => {
            let mode = if fs::metadata(full)?.permissions().mode() & 0o777 == 0o750 { 0o640 } else { 0o750 };
            fs::set_permissions(full, Permissions::from_mode(mode)).map(|()| 0)
        }
        _ => {
            let time = Timespec { tv_sec: 1_600_000_000 + number as i64, tv_nsec: 123_456_789 };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, full, &times, AtFlags::empty())?;
            Ok(0)
        }
    }
}

fn coming_and_going(mesh: &mut Mesh<'_>) -> Outcome<StepResult> {
    mesh.screen.stage("new, renamed and deleted");
    let plans = deal(mesh, DELETED + RENAMED, 0, 2);
    let start = Instant::now();
    let (mut files, mut bytes) = (0, 0);
    for plan in plans {
        let node = plan.node;
        let mut changes = Changes::on(mesh, node);
        let new = PathBuf::from(format!("new-{node}"));
        changes.make(&new, |full| {
            fs::create_dir_all(full.join("nested/deep/empty"))?;
            symlink("nested/deep", full.join("shortcut"))?;
            let mut written = 0;
            for number in 0..MADE {
                let directory = ["", "nested", "nested/deep"][number % 3];
                let text = noise((node * 77 + number) as u64, number * 400);
                fs::write(full.join(directory).join(format!("made {number}")), &text)?;
                written += text.len() as u64;
            }
            Ok(written)
        })?;
        // Made and renamed before anybody else has seen it.
        let draft = new.join("draft");
        changes.make(&draft, |full| fs::write(full, b"draft").map(|()| 5))?;
        changes.rename(&draft, &new.join("final"))?;
        let (deleted, renamed) = plan.files.split_at(plan.files.len().min(DELETED));
        for path in deleted {
            changes.make(path, |full| fs::remove_file(full).map(|()| 0))?;
        }
        for path in renamed {
            let mut name = path.file_name().unwrap_or_default().to_os_string();
            name.push(format!(".renamed-{node}"));
            changes.rename(path, &path.with_file_name(name))?;
        }
        if let Some(directory) = plan.directories.first() {
            changes.rename(directory, &PathBuf::from(format!("moved-{node}")))?;
        }
        if let Some(directory) = plan.directories.get(1) {
            changes.make(directory, |full| fs::remove_dir_all(full).map(|()| 0))?;
        }
        files += changes.files + MADE as u64;
        bytes += changes.bytes;
    }
    Ok(StepResult { name: "new, renamed and deleted", files, bytes, took: mesh.converge(start)?, latency: None })
}

/// Node a gets many files and a large one; b is killed in the middle and started again.
fn kill(mesh: &mut Mesh<'_>) -> Outcome<StepResult> {
    mesh.screen.stage("kill -9 during a transfer");
    let burst = Path::new("burst");
    let from = mesh.volume(0).join(burst);
    let to = mesh.volume(1).join(burst);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_burst(&from).map_err(Failure::io("write", &from)));
        let killed = loop {
            let arrived = fs::read_dir(&to).map_or(0, Iterator::count);
            if arrived >= KILLED_AT {
                mesh.kill(1);
                break Ok(());
            }
            if start.elapsed() > ARRIVAL {
                break Err(Failure::new(format!(
                    "only {arrived} of {BURST_FILES} new files arrived on {} within {} s",
                    mesh.name(1),
                    ARRIVAL.as_secs()
                )));
            }
            let next = mesh.must_run().and_then(|()| interrupt::pause(Duration::from_micros(500)));
            if let Err(stop) = next {
                break Err(stop);
            }
        };
        let written = writer.join().expect("writing files doesn't panic");
        killed.and(written)
    })?;
    mesh.observe(0, burst)?;
    if fs::read_dir(&to).map_or(0, Iterator::count) > BURST_FILES {
        // Not a failure: it only proves less.
        eprintln!("note: {} had everything before it could be killed", mesh.name(1));
    }
    mesh.start(1)?;
    let took = mesh.converge(start)?;
    Ok(StepResult {
        name: "kill -9 during a transfer",
        files: BURST_FILES as u64 + 1,
        bytes: (BURST_FILES * BURST_FILE_BYTES + BURST_LARGE_BYTES) as u64,
        took,
        latency: None,
    })
}

fn write_burst(directory: &Path) -> io::Result<()> {
    fs::create_dir(directory)?;
    for number in 0..BURST_FILES {
        let text = noise(500_000 + number as u64, BURST_FILE_BYTES);
        fs::write(directory.join(format!("small-{number:04}")), text)?;
        // Early enough that it is on its way when the agent is killed.
        if number == KILLED_AT / 2 {
            fs::write(directory.join("large"), noise(9, BURST_LARGE_BYTES))?;
        }
    }
    Ok(())
}

/// One write after another, the next when the last is everywhere; measured on b from the moment that a's is closed.
fn single_writes(mesh: &mut Mesh<'_>) -> Outcome<StepResult> {
    mesh.screen.stage("single writes");
    let directory = Path::new("single");
    let own = mesh.volume(0).join(directory);
    fs::create_dir(&own).map_err(Failure::io("create", &own))?;
    mesh.observe(0, directory)?;
    mesh.converge(Instant::now())?;
    let start = Instant::now();
    let mut millis = Vec::with_capacity(WRITES);
    for number in 0..WRITES {
        interrupt::check()?;
        mesh.screen.tick();
        // Ten files, new at first and replaced later.
        let path = directory.join(format!("write-{}", number % 10));
        let text = noise(1_000_000 + number as u64, WRITE_BYTES);
        let full = mesh.volume(0).join(&path);
        fs::write(&full, &text).map_err(Failure::io("write", &full))?;
        let written = Instant::now();
        for node in 1..mesh.nodes() {
            let there = mesh.volume(node).join(&path);
            visible(&there, &text, written)?;
            if node == 1 {
                millis.push(written.elapsed().as_secs_f64() * 1_000.0);
            }
        }
        mesh.observe(0, &path)?;
    }
    mesh.must_run()?;
    Ok(StepResult {
        name: "single writes of 4 KiB",
        files: WRITES as u64,
        bytes: (WRITES * WRITE_BYTES) as u64,
        took: mesh.converge(start)?,
        latency: Latency::of(millis),
    })
}

/// Two nodes write one file at the same moment: all agree, and both versions are there.
fn at_once(mesh: &mut Mesh<'_>) -> Outcome<StepResult> {
    mesh.screen.stage("a simultaneous edit");
    let path = shared(mesh, "at-once")?;
    let start = Instant::now();
    let texts = [noise(41, 3_000), noise(42, 4_000)];
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|node| {
                let (full, text) = (mesh.volume(node).join(&path), &texts[node]);
                scope.spawn(move || fs::write(&full, text).map_err(Failure::io("write", &full)))
            })
            .collect();
        writers.into_iter().try_for_each(|writer| writer.join().expect("writing a file doesn't panic"))
    })?;
    both(mesh, "a simultaneous edit of one file", &path, &texts, start)
}

/// Two nodes write one file while they can't reach each other.
fn apart(mesh: &mut Mesh<'_>) -> Outcome<StepResult> {
    mesh.screen.stage("edits while apart");
    let path = shared(mesh, "apart")?;
    let texts = [noise(43, 3_000), noise(44, 4_000)];
    mesh.kill(1);
    for (node, text) in texts.iter().enumerate() {
        let full = mesh.volume(node).join(&path);
        fs::write(&full, text).map_err(Failure::io("write", &full))?;
    }
    let start = Instant::now();
    mesh.start(1)?;
    both(mesh, "edits of one file while apart", &path, &texts, start)
}

/// A file that all nodes have, in a directory of its own.
fn shared(mesh: &mut Mesh<'_>, directory: &str) -> Outcome<PathBuf> {
    let own = mesh.volume(0).join(directory);
    fs::create_dir(&own).map_err(Failure::io("create", &own))?;
    fs::write(own.join("file.txt"), "before").map_err(Failure::io("write", &own))?;
    mesh.observe(0, Path::new(directory))?;
    mesh.converge(Instant::now())?;
    Ok(Path::new(directory).join("file.txt"))
}

/// All nodes agree, and both texts are among what is in the file's directory: neither is lost.
fn both(
    mesh: &mut Mesh<'_>,
    name: &'static str,
    path: &Path,
    texts: &[Vec<u8>; 2],
    start: Instant,
) -> Outcome<StepResult> {
    let took = mesh.agree(start)?;
    let directory = mesh.volume(0).join(path.parent().unwrap_or(path));
    let mut found = Vec::new();
    for entry in fs::read_dir(&directory).map_err(Failure::io("list", &directory))? {
        let path = entry.map_err(Failure::io("list", &directory))?.path();
        found.push(fs::read(&path).map_err(Failure::io("read", &path))?);
    }
    if let Some(lost) = texts.iter().position(|text| !found.contains(text)) {
        return Err(Failure::new(format!("what {} wrote is in none of {}", mesh.name(lost), directory.display())));
    }
    let bytes = texts.iter().map(|text| text.len() as u64).sum();
    Ok(StepResult { name, files: 2, bytes, took, latency: None })
}

/// A directory is deleted on a, and restored on b from what a's deletion displaced there.
fn restored(mesh: &mut Mesh<'_>) -> Outcome<StepResult> {
    const FILES: usize = 15;
    mesh.screen.stage("a restore");
    let directory = Path::new("restored");
    let own = mesh.volume(0).join(directory);
    fs::create_dir(&own).map_err(Failure::io("create", &own))?;
    let mut bytes = 0;
    for number in 0..FILES {
        let text = noise(2_000_000 + number as u64, 1_000 * (number + 1));
        fs::write(own.join(format!("file {number}")), &text).map_err(Failure::io("write", &own))?;
        bytes += text.len() as u64;
    }
    mesh.observe(0, directory)?;
    mesh.converge(Instant::now())?;
    let before = mesh.expected.clone();
    fs::remove_dir_all(&own).map_err(Failure::io("delete", &own))?;
    mesh.observe(0, directory)?;
    mesh.converge(Instant::now())?;
    mesh.expected = before;
    let start = Instant::now();
    mesh.restore(1, directory)?;
    let took = mesh.converge(start)?;
    Ok(StepResult { name: "a deleted directory, restored", files: FILES as u64, bytes, took, latency: None })
}

/// Everything is deleted on b: the others keep it all, and it returns once that is rejected.
fn emptied(mesh: &mut Mesh<'_>) -> Outcome<StepResult> {
    const NODE: usize = 1;
    mesh.screen.stage("an emptied directory");
    let root = mesh.volume(NODE).to_path_buf();
    for entry in fs::read_dir(&root).map_err(Failure::io("list", &root))? {
        let path = entry.map_err(Failure::io("list", &root))?.path();
        if path.file_name().is_none_or(|name| name != ".syncmesh") {
            remove(&path).map_err(Failure::io("delete", &path))?;
        }
    }
    mesh.held(NODE)?;
    mesh.compare_except(NODE)?;
    let start = Instant::now();
    mesh.reject_holds(NODE)?;
    let took = mesh.converge(start)?;
    let (files, bytes) = mesh.expected.size();
    Ok(StepResult { name: "an emptied directory, held and rejected", files, bytes, took, latency: None })
}

/// Deletes what is at a path, but for what is in directories that its user may not change.
fn remove(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return fs::remove_file(path);
    }
    if metadata.permissions().mode() & 0o300 != 0o300 {
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        remove(&entry?.path())?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        result => result,
    }
}

/// Reads in a tight loop until the file has these contents.
pub fn visible(path: &Path, text: &[u8], since: Instant) -> Outcome<()> {
    loop {
        if fs::read(path).is_ok_and(|found| found == text) {
            return Ok(());
        }
        if since.elapsed() > ARRIVAL {
            return Err(Failure::new(format!(
                "{} did not get its contents within {} s",
                path.display(),
                ARRIVAL.as_secs()
            )));
        }
        interrupt::check()?;
        // Agents need the core more than this loop does.
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_do_not_share_a_path_and_are_no_larger_than_asked() {
        let names: Vec<PathBuf> = (0..100).map(|n| PathBuf::from(format!("f{n:02}"))).collect();
        let all: Vec<&Path> = names.iter().map(PathBuf::as_path).collect();
        let mut dealt: Vec<PathBuf> = (0..3).flat_map(|node| hand(&all, node, 3, 5)).collect();
        assert_eq!(dealt.len(), 15);
        dealt.sort();
        dealt.dedup();
        assert_eq!(dealt.len(), 15);
        assert_eq!(hand(&all, 0, 3, 0), Vec::<PathBuf>::new());
        assert_eq!(hand(&all[..2], 1, 2, 9), [PathBuf::from("f01")]);
    }

    #[test]
    fn every_kind_of_edit_changes_a_tree() {
        for number in 0..6 {
            let home = tempfile::tempdir().unwrap();
            fs::write(home.path().join("f"), "some words").unwrap();
            let before = crate::tree::Tree::read(home.path()).unwrap();
            edit(&home.path().join("f"), number, 0).unwrap();
            let after = crate::tree::Tree::read(home.path()).unwrap();
            assert_eq!(before.differences(&after).len(), 1, "edit {number}");
        }
    }
}
