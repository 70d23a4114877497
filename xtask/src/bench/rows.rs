//! The rows: what data, what is measured, and how for our own agents.

use super::peers;
use super::report::Measured;
use super::syncthing;
use crate::agents::{self, Agent};
use crate::demo::input::noise;
use crate::demo::{Latency, visible};
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::repository;
use crate::tree::Tree;
use crate::usage::Usage;
use clap::ValueEnum;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// No cell takes longer; a row has to end within 8 minutes.
pub const LIMIT: Duration = Duration::from_secs(480);
/// How often completion is asked for: asking costs a process.
pub const POLL: Duration = Duration::from_millis(50);
/// Single writes of the latency row, and their size.
const WRITES: usize = 300;
/// Tools that take tenths of a second for each get fewer.
pub const SLOW_WRITES: usize = 30;
const WRITE_BYTES: usize = 4096;
/// How long an agent may take to say that it is there.
const START: Duration = Duration::from_secs(20);
const VOLUME: &str = "bench";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Row {
    /// 100,000 files of 10 KiB to an empty peer.
    SmallFiles,
    /// One file of 4 GiB to an empty peer.
    LargeFile,
    /// One write of 4 KiB until it is visible on the peer, at rest.
    Latency,
    /// Resident memory of one agent with 1,000,000 files.
    Memory,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Two agents of ours, or one in the memory row.
    Ours,
    /// `cp -a`, without any network.
    Copy,
    /// rsync to its own daemon, plain TCP.
    Rsync,
    /// Two Syncthing processes.
    Syncthing,
}

/// In this order, so that ours doesn't profit from a warm machine.
pub const TOOLS: &[Tool] = &[Tool::Ours, Tool::Copy, Tool::Rsync, Tool::Syncthing];

/// Our agent, and what its loop runs on.
pub struct Ours {
    /// The program.
    pub binary: PathBuf,
    /// As the configuration has it.
    pub engine: String,
}

/// How much data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Files, or writes.
    pub files: usize,
    /// Of each.
    pub bytes: usize,
    /// In how many directories.
    pub directories: usize,
}

/// Where it is measured.
pub struct Place {
    /// `disk` or `tmpfs`.
    pub name: &'static str,
    /// A directory that is ours.
    pub home: PathBuf,
}

impl Row {
    /// In the order of the document.
    pub const ALL: &'static [Self] = &[Self::SmallFiles, Self::LargeFile, Self::Latency, Self::Memory];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::SmallFiles => "small-files",
            Self::LargeFile => "large-file",
            Self::Latency => "latency",
            Self::Memory => "memory",
        }
    }

    /// Its data.
    pub fn size(self, quick: bool) -> Size {
        let (files, bytes, directories) = match (self, quick) {
            (Self::SmallFiles, false) => (100_000, 10 * 1024, 100),
            (Self::SmallFiles, true) => (10_000, 10 * 1024, 10),
            (Self::LargeFile, false) => (1, 4 << 30, 1),
            (Self::LargeFile, true) => (1, 512 << 20, 1),
            (Self::Latency, _) => (WRITES, WRITE_BYTES, 1),
            (Self::Memory, false) => (1_000_000, 64, 1_000),
            (Self::Memory, true) => (100_000, 64, 100),
        };
        Size { files, bytes, directories }
    }

    /// Syncthing's: figures per file compare all the same.
    pub fn syncthing_size(self, quick: bool) -> Size {
        let size = self.size(quick);
        match self {
            Self::SmallFiles => Size { files: size.files.min(20_000), directories: size.directories.min(20), ..size },
            Self::Memory => Size { files: size.files.min(100_000), directories: size.directories.min(100), ..size },
            Self::LargeFile | Self::Latency => size,
        }
    }
}

impl Tool {
    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Copy => "cp -a",
            Self::Rsync => "rsync",
            Self::Syncthing => "syncthing",
        }
    }

    /// Why a cell is empty without having failed.
    pub fn absence(self, row: Row) -> &'static str {
        match (self, row) {
            (Self::Copy, _) | (Self::Rsync, Row::Memory) => "not measured",
            _ => "not installed",
        }
    }
}

impl Place {
    /// The disk of the repository, and tmpfs where it has room. Resident memory doesn't depend on the place.
    pub fn all_for(row: Row, quick: bool) -> Outcome<Vec<Self>> {
        let id = std::process::id();
        let mut places = vec![Self { name: "disk", home: repository::root().join(format!("target/bench/{id}")) }];
        let size = row.size(quick);
        // Both ends, and half as much again for what is staged; small files fill a page each, and have an inode.
        let each = size.bytes.div_ceil(4096) * 4096 + 2048;
        let needed = (size.files * each) as u64 * 5 / 2;
        let shared = Path::new("/dev/shm");
        let room = rustix::fs::statvfs(shared).map_or(0, |fs| fs.f_bavail * fs.f_frsize);
        if row != Row::Memory && room.min(available_memory()) > needed {
            places.push(Self { name: "tmpfs", home: shared.join(format!("syncmesh-bench-{id}")) });
        }
        Ok(places)
    }
}

fn available_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok())
        .map_or(0, |kibibytes| kibibytes * 1024)
}

/// One run of one tool. None where it isn't installed or has no such figure.
pub fn measure(row: Row, tool: Tool, size: Size, home: &Path, ours: &Ours) -> Outcome<Option<Measured>> {
    match (tool, row) {
        (Tool::Ours, Row::SmallFiles | Row::LargeFile) => transfer(size, home, ours).map(Some),
        (Tool::Ours, Row::Latency) => latency(home, ours).map(Some),
        (Tool::Ours, Row::Memory) => memory(size, home, ours).map(Some),
        (Tool::Copy, Row::SmallFiles | Row::LargeFile) => peers::copy(size, home).map(Some),
        (Tool::Rsync, Row::SmallFiles | Row::LargeFile) => peers::rsync(size, home),
        (Tool::Rsync, Row::Latency) => peers::rsync_latency(home),
        (Tool::Copy, Row::Latency | Row::Memory) | (Tool::Rsync, Row::Memory) => Ok(None),
        (Tool::Syncthing, Row::SmallFiles | Row::LargeFile) => syncthing::transfer(size, home),
        (Tool::Syncthing, Row::Latency) => syncthing::latency(home),
        (Tool::Syncthing, Row::Memory) => syncthing::memory(size, home),
    }
}

/// Fills a directory, and waits until the disk has it: no tool should pay for writing back the source.
pub fn fill(directory: &Path, size: Size) -> Outcome<()> {
    let per_directory = size.files.div_ceil(size.directories);
    for number in 0..size.files {
        let place = directory.join(format!("d{:04}", number / per_directory));
        if number % per_directory == 0 {
            interrupt::check()?;
            fs::create_dir_all(&place).map_err(Failure::io("create", &place))?;
        }
        let path = place.join(format!("f{number:07}"));
        let mut file = fs::File::create(&path).map_err(Failure::io("create", &path))?;
        let mut left = size.bytes;
        let mut part = 0;
        while left > 0 {
            let piece = left.min(16 << 20);
            file.write_all(&noise(((number as u64) << 20) + part, piece)).map_err(Failure::io("write", &path))?;
            left -= piece;
            part += 1;
        }
    }
    rustix::fs::sync();
    Ok(())
}

/// Files below a directory, without asking for anything but names.
pub fn count(directory: &Path) -> usize {
    let Ok(listing) = fs::read_dir(directory) else {
        return 0;
    };
    listing
        .flatten()
        .filter(|item| item.file_name() != ".syncmesh" && item.file_name() != ".stfolder")
        .map(|item| match item.file_type() {
            Ok(kind) if kind.is_dir() => count(&item.path()),
            _ => 1,
        })
        .sum()
}

/// Runs `ready` until it says so.
pub fn wait_for(what: &str, limit: Duration, every: Duration, mut ready: impl FnMut() -> Outcome<bool>) -> Outcome<()> {
    let deadline = Instant::now() + limit;
    while !ready()? {
        if Instant::now() > deadline {
            return Err(Failure::new(format!("{what} took longer than {} s", limit.as_secs())));
        }
        interrupt::pause(every)?;
    }
    Ok(())
}

fn agents(home: &Path, ours: &Ours, names: &[&str]) -> Outcome<Vec<Agent>> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let agents = agents::mesh(&ours.binary, home, &names, VOLUME)?;
    for agent in &agents {
        let file = fs::File::options().append(true).open(&agent.configuration);
        file.and_then(|mut file| writeln!(file, "engine: {}", ours.engine))
            .map_err(Failure::io("write to", &agent.configuration))?;
    }
    Ok(agents)
}

fn answers(agent: &mut Agent) -> Outcome<()> {
    wait_for("the start of an agent", START, POLL, || {
        agent.must_run()?;
        Ok(agent.status().is_some())
    })
}

/// The empty peer is there first; time runs from the start of the full one (so it includes the scan) until everything
/// is visible on the other. Then the trees are compared, out of time.
fn transfer(size: Size, home: &Path, ours: &Ours) -> Outcome<Measured> {
    let mut both = agents(home, ours, &["a", "b"])?;
    fill(&both[0].volume, size)?;
    both[1].start()?;
    answers(&mut both[1])?;
    let start = Instant::now();
    both[0].start()?;
    wait_for("our transfer", LIMIT, POLL, || {
        both.iter_mut().try_for_each(Agent::must_run)?;
        let claimed = both[1].volume_status().is_some_and(|volume| volume.in_sync && volume.files >= size.files as u64);
        // What counts is what a user sees.
        Ok(claimed && count(&both[1].volume) == size.files)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let usage = both.iter().map(Agent::usage).fold(Usage::default(), Usage::and);
    let sent = both.iter().filter_map(Agent::status).map(|status| status.sent_bytes()).sum();
    let differences = Tree::read(&both[0].volume)?.differences(&Tree::read(&both[1].volume)?);
    if let Some(first) = differences.first() {
        return Err(Failure::new(format!("{} paths differ after the transfer, the first: {first}", differences.len())));
    }
    Agent::stop_all(&mut both)?;
    Ok(Measured { sent: Some(sent), ..Measured::of(size, seconds, usage) })
}

fn latency(home: &Path, ours: &Ours) -> Outcome<Measured> {
    let mut both = agents(home, ours, &["a", "b"])?;
    for agent in &mut both {
        agent.start()?;
    }
    let deadline = Instant::now() + START;
    for agent in &mut both {
        agent.wait_in_sync(deadline, &|_| {})?;
    }
    let before = both.iter().map(Agent::usage).fold(Usage::default(), Usage::and);
    let (from, to) = (both[0].volume.clone(), both[1].volume.clone());
    let start = Instant::now();
    let millis = single_writes(&from, &to, WRITES, |_| Ok(()))?;
    let seconds = start.elapsed().as_secs_f64();
    let after = both.iter().map(Agent::usage).fold(Usage::default(), Usage::and);
    let sent = both.iter().filter_map(Agent::status).map(|status| status.sent_bytes()).sum();
    Agent::stop_all(&mut both)?;
    Ok(Measured {
        seconds,
        files: WRITES,
        bytes: (WRITES * WRITE_BYTES) as u64,
        cpu_seconds: after.cpu_seconds - before.cpu_seconds,
        peak: after.peak,
        sent: Some(sent),
        latency: Latency::of(millis),
        ..Measured::default()
    })
}

/// Writes one after another, `pass` after each (for tools that don't watch), and milliseconds until each is visible.
pub fn single_writes(
    from: &Path,
    to: &Path,
    writes: usize,
    mut pass: impl FnMut(usize) -> Outcome<()>,
) -> Outcome<Vec<f64>> {
    let mut millis = Vec::with_capacity(writes);
    for number in 0..writes {
        interrupt::check()?;
        let name = format!("write-{}", number % 10);
        // Rsync takes the same size within the same second for the same file: sizes differ by a byte.
        let text = noise(number as u64, WRITE_BYTES + number % 2 + (number / 10) % 7);
        let path = from.join(&name);
        fs::write(&path, &text).map_err(Failure::io("write", &path))?;
        let written = Instant::now();
        pass(number)?;
        visible(&to.join(&name), &text, written)?;
        millis.push(written.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(millis)
}

/// One agent without peers, files made before it starts; resident when it knows them all, and the most on the way.
fn memory(size: Size, home: &Path, ours: &Ours) -> Outcome<Measured> {
    let mut one = agents(home, ours, &["a"])?;
    let agent = &mut one[0];
    fill(&agent.volume, size)?;
    let start = Instant::now();
    agent.start()?;
    wait_for("our scan", LIMIT, Duration::from_millis(200), || {
        agent.must_run()?;
        Ok(agent.volume_status().is_some_and(|volume| volume.files >= size.files as u64))
    })?;
    let seconds = start.elapsed().as_secs_f64();
    // The epoch's commit has its own peak.
    interrupt::pause(Duration::from_secs(3))?;
    let usage = agent.usage();
    let counted = agent.status().map(|status| status.memory_bytes);
    Agent::stop_all(&mut one)?;
    Ok(Measured { resident: Some(usage.resident), counted, ..Measured::of(size, seconds, usage) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filling_makes_the_files_and_counting_finds_them() {
        let home = tempfile::tempdir().unwrap();
        let size = Size { files: 25, bytes: 33, directories: 4 };
        fill(home.path(), size).unwrap();
        fs::create_dir(home.path().join(".syncmesh")).unwrap();
        fs::write(home.path().join(".syncmesh/x"), "").unwrap();
        assert_eq!(count(home.path()), 25);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 5);
    }

    #[test]
    fn single_writes_measure_each_pass() {
        let home = tempfile::tempdir().unwrap();
        let mut passes = 0;
        let millis = single_writes(home.path(), home.path(), 12, |_| {
            passes += 1;
            Ok(())
        });
        assert_eq!((millis.unwrap().len(), passes), (12, 12));
    }
}
