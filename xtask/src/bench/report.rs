//! Figures: the median of some runs, one line of JSON per row, and a table.

use super::rows::{Place, Row, Size, Tool};
use crate::demo::Latency;
use crate::usage::Usage;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Instant;

const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// One run.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Until everything was visible on the other end.
    pub seconds: f64,
    /// Files, or writes.
    pub files: usize,
    /// Of contents.
    pub bytes: u64,
    /// Of both ends.
    pub cpu_seconds: f64,
    /// Sum of the most that each end had resident, in bytes.
    pub peak: u64,
    /// Resident at the end, in bytes, where that is the question.
    pub resident: Option<u64>,
    /// What the agent itself says it uses.
    pub counted: Option<u64>,
    /// By both ends, on the wire.
    pub sent: Option<u64>,
    /// Of single writes.
    pub latency: Option<Latency>,
}

impl Measured {
    /// A run over all of `size`.
    pub fn of(size: Size, seconds: f64, usage: Usage) -> Self {
        Self {
            seconds,
            files: size.files,
            bytes: (size.files * size.bytes) as u64,
            cpu_seconds: usage.cpu_seconds,
            peak: usage.peak,
            ..Self::default()
        }
    }

    /// What the row is about; less is better.
    fn key(&self, row: Row) -> f64 {
        match row {
            // Per file and byte, since tools may get different amounts.
            Row::SmallFiles => self.seconds / self.files.max(1) as f64,
            Row::LargeFile => self.seconds / self.bytes.max(1) as f64,
            Row::Latency => self.latency.map_or(f64::NAN, |latency| latency.p50),
            Row::Memory => self.peak as f64,
        }
    }

    fn files_per_second(&self) -> f64 {
        self.files as f64 / self.seconds.max(1e-9)
    }

    fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds.max(1e-9)
    }

    fn json(&self) -> Value {
        json!({
            "seconds": rounded(self.seconds),
            "files": self.files,
            "bytes": self.bytes,
            "filesPerSecond": rounded(self.files_per_second()),
            "megabytesPerSecond": rounded(self.megabytes_per_second()),
            "cpuSeconds": rounded(self.cpu_seconds),
            "peakMiB": rounded(self.peak as f64 / MEBIBYTE),
            "residentMiB": self.resident.map(|bytes| rounded(bytes as f64 / MEBIBYTE)),
            "countedMiB": self.counted.map(|bytes| rounded(bytes as f64 / MEBIBYTE)),
            "sentBytes": self.sent,
            "sentPerPayloadByte": self.sent.filter(|_| self.bytes > 0)
                .map(|sent| rounded(sent as f64 / self.bytes as f64)),
            "latencyMs": self.latency.map(|l| json!({"p50": rounded(l.p50), "p99": rounded(l.p99)})),
        })
    }
}

/// All runs of one tool, or why there are none.
#[derive(Default)]
pub struct Cell {
    /// Each in fresh directories.
    pub runs: Vec<Measured>,
    /// "not installed", or how it failed.
    pub why: Option<String>,
}

impl Cell {
    /// The run in the middle by the row's key.
    fn median(&self, row: Row) -> Option<&Measured> {
        if self.why.is_some() {
            return None;
        }
        let mut sorted: Vec<&Measured> = self.runs.iter().collect();
        sorted.sort_by(|a, b| a.key(row).total_cmp(&b.key(row)));
        sorted.get(sorted.len().saturating_sub(1) / 2).copied()
    }

    /// How far apart the runs are: (worst - best) / median.
    fn spread(&self, row: Row) -> Option<f64> {
        let median = self.median(row)?.key(row);
        let keys = || self.runs.iter().map(|run| run.key(row));
        let best = keys().min_by(f64::total_cmp)?;
        let worst = keys().max_by(f64::total_cmp)?;
        Some((worst - best) / median)
    }

    fn json(&self, row: Row) -> Value {
        match (self.median(row), &self.why) {
            (Some(median), _) => {
                let mut value = median.json();
                value["runs"] = json!(self.runs.len());
                value["spread"] = json!(self.spread(row).map(rounded));
                value
            }
            (None, why) => json!(why.as_deref().unwrap_or("not measured")),
        }
    }
}

/// A row at a place.
pub struct Line {
    row: Row,
    place: &'static str,
    quick: bool,
    size: Size,
    machine: Value,
    /// Ours and others, in the order of measurement.
    pub cells: Vec<(Tool, Cell)>,
}

impl Line {
    /// No cell yet.
    pub fn new(row: Row, place: &Place, size: Size, quick: bool) -> Self {
        Self { row, place: place.name, quick, size, machine: machine(&place.home), cells: Vec::new() }
    }

    /// Whether our own cell has a figure.
    pub fn ours_is_fine(&self) -> bool {
        self.ours().is_some()
    }

    /// One object on one line. A ratio above 1 means that ours is that many times better.
    pub fn json(&self) -> Value {
        let mut peers = serde_json::Map::new();
        let mut ratios = serde_json::Map::new();
        for (tool, cell) in &self.cells {
            if *tool != Tool::Ours {
                peers.insert(tool.name().to_owned(), cell.json(self.row));
                if let Some(ratio) = self.ratio(cell) {
                    ratios.insert(tool.name().to_owned(), json!(rounded(ratio)));
                }
            }
        }
        let ours = self.cells.iter().find(|(tool, _)| *tool == Tool::Ours);
        json!({
            "row": self.row.name(),
            "where": self.place,
            "quick": self.quick,
            "files": self.size.files,
            "bytesEach": self.size.bytes,
            "ours": ours.map(|(_, cell)| cell.json(self.row)),
            "peers": peers,
            "ratio": ratios,
            "machine": self.machine,
        })
    }

    fn ours(&self) -> Option<&Measured> {
        self.cells.iter().find(|(tool, _)| *tool == Tool::Ours).and_then(|(_, cell)| cell.median(self.row))
    }

    fn ratio(&self, cell: &Cell) -> Option<f64> {
        let ours = self.ours()?.key(self.row);
        let theirs = cell.median(self.row)?.key(self.row);
        let ratio = theirs / ours;
        ratio.is_finite().then_some(ratio)
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// What figures depend on.
fn machine(home: &Path) -> Value {
    let place = home.ancestors().find(|path| path.exists());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "kernel": kernel.trim(),
        "fileSystem": place.map(file_system),
        "flushMs": place.and_then(flush_millis).map(rounded),
    })
}

/// By the magic numbers of statfs(2).
fn file_system(path: &Path) -> String {
    match rustix::fs::statfs(path).map(|found| found.f_type as u64) {
        Ok(0xef53) => "ext4".into(),
        Ok(0x0102_1994) => "tmpfs".into(),
        Ok(0x5846_5342) => "xfs".into(),
        Ok(0x9123_683e) => "btrfs".into(),
        Ok(0x794c_7630) => "overlay".into(),
        Ok(other) => format!("{other:#x}"),
        Err(_) => "unknown".into(),
    }
}

/// What the disk takes to make 4 KiB durable (the median of some): the floor below durable latency.
fn flush_millis(directory: &Path) -> Option<f64> {
    let path = directory.join(format!(".flush-{}", std::process::id()));
    let mut millis = Vec::new();
    for _ in 0..15 {
        fs::write(&path, [7; 4096]).ok()?;
        let file = fs::File::open(&path).ok()?;
        let start = Instant::now();
        file.sync_data().ok()?;
        millis.push(start.elapsed().as_secs_f64() * 1_000.0);
    }
    fs::remove_file(&path).ok()?;
    Latency::of(millis).map(|latency| latency.p50)
}

/// For people.
pub fn table(lines: &[Line]) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = writeln!(
        text,
        "{:12} {:6} {:10} {:>9} {:>9} {:>9} {:>17} {:>8} {:>9} {:>9} {:>7}",
        "row", "where", "tool", "seconds", "files/s", "MB/s", "p50 / p99 ms", "CPU s", "peak MiB", "sent MB", "ratio"
    );
    for line in lines {
        for (tool, cell) in &line.cells {
            let _ = write!(text, "{:12} {:6} {:10} ", line.row.name(), line.place, tool.name());
            let Some(run) = cell.median(line.row) else {
                let why = cell.why.as_deref().unwrap_or("not measured");
                let _ = writeln!(text, "{}", why.lines().next().unwrap_or_default());
                continue;
            };
            let latency =
                run.latency.map_or("-".to_owned(), |latency| format!("{:.2} / {:.2}", latency.p50, latency.p99));
            let sent = run.sent.map_or("-".to_owned(), |sent| format!("{:.1}", sent as f64 / 1e6));
            let ratio = match tool {
                Tool::Ours => "1".to_owned(),
                _ => line.ratio(cell).map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            };
            let _ = write!(
                text,
                "{:>9.2} {:>9.0} {:>9.1} {latency:>17} {:>8.2} {:>9.1} {sent:>9} {ratio:>7}",
                run.seconds,
                run.files_per_second(),
                run.megabytes_per_second(),
                run.cpu_seconds,
                run.peak as f64 / MEBIBYTE,
            );
            match cell.spread(line.row) {
                Some(spread) if cell.runs.len() > 1 => {
                    let _ = writeln!(text, "  spread {:.0} %", spread * 100.0);
                }
                _ => text.push('\n'),
            }
        }
    }
    text.push_str("ratio: how many times ours is better than this tool, by the row's own figure\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(seconds: &[f64]) -> Cell {
        Cell {
            runs: seconds
                .iter()
                .map(|seconds| Measured { seconds: *seconds, files: 100, bytes: 1_000, ..Measured::default() })
                .collect(),
            why: None,
        }
    }

    #[test]
    fn the_median_run_and_the_spread_are_told() {
        let cell = cell(&[3.0, 1.0, 2.0]);
        assert_eq!(cell.median(Row::SmallFiles).map(|run| run.seconds), Some(2.0));
        let spread = cell.spread(Row::SmallFiles).unwrap();
        assert!((spread - 1.0).abs() < 1e-9, "{spread}");
    }

    #[test]
    fn a_ratio_above_one_is_ours_being_better_and_absence_is_a_word() {
        let home = tempfile::tempdir().unwrap();
        let place = Place { name: "disk", home: home.path().to_path_buf() };
        let mut line = Line::new(Row::SmallFiles, &place, Row::SmallFiles.size(true), true);
        line.cells.push((Tool::Ours, cell(&[1.0])));
        line.cells.push((Tool::Rsync, cell(&[3.0])));
        let absent = Cell { runs: Vec::new(), why: Some("not installed".into()) };
        line.cells.push((Tool::Syncthing, absent));
        let value = line.json();
        assert_eq!(value["ratio"]["rsync"], 3.0);
        assert_eq!(value["peers"]["syncthing"], "not installed");
        assert_eq!(value["ours"]["filesPerSecond"], 100.0);
        assert!(table(&[line]).contains("not installed"));
    }
}
