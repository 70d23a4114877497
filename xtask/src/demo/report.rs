//! What the demo shows: progress while it works, a table and a line of JSON at the end.

use crate::agents::{Agent, VolumeStatus};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::cell::Cell;
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

/// Progress on a terminal; one line per stage elsewhere. Both go to stderr.
pub struct Screen {
    bar: ProgressBar,
    terminal: bool,
    counted: Cell<bool>,
}

impl Screen {
    /// For this process's stderr.
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        Self { bar, terminal, counted: Cell::new(false) }
    }

    /// Something that can't be counted begins.
    pub fn stage(&self, what: &str) {
        if !self.terminal {
            eprintln!("{what}");
        }
        self.counted.set(false);
        self.bar.set_style(style("{spinner} {msg} {elapsed}"));
        self.bar.reset();
        self.bar.set_message(what.to_owned());
    }

    /// Still at it.
    pub fn tick(&self) {
        self.bar.tick();
    }

    /// An agent is waited for. `status` is asked only when somebody looks.
    pub fn waiting(&self, name: &str, status: impl FnOnce() -> Option<VolumeStatus>) {
        if !self.terminal {
            return;
        }
        let Some(percent) = status().and_then(|status| status.synced_percent) else {
            return;
        };
        if !self.counted.replace(true) {
            self.bar.set_style(style("{spinner} {msg} {bar:30} {percent}% {elapsed}"));
        }
        self.bar.set_length(100);
        self.bar.set_position(percent.clamp(0.0, 100.0) as u64);
        self.bar.tick();
        // The name tells which of them is the last.
        self.bar.set_prefix(name.to_owned());
    }

    /// Leaves the terminal as it was.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("templates are constants of this file")
}

/// Milliseconds from a write's end until its content is visible elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Half of them were faster.
    pub p50: f64,
    /// One in a hundred was slower.
    pub p99: f64,
}

impl Latency {
    /// Of these milliseconds, by nearest rank. None of none.
    pub fn of(mut millis: Vec<f64>) -> Option<Self> {
        millis.sort_by(f64::total_cmp);
        let rank = |percent: usize| {
            let rank = (millis.len() * percent).div_ceil(100);
            millis.get(rank.max(1) - 1).copied()
        };
        Some(Self { p50: rank(50)?, p99: rank(99)? })
    }
}

/// How a step went.
pub struct StepResult {
    /// For people.
    pub name: &'static str,
    /// Entries that the step changed.
    pub files: u64,
    /// Contents that it changed.
    pub bytes: u64,
    /// From the first change until all agents were in sync.
    pub took: Duration,
    /// Where the step measures it.
    pub latency: Option<Latency>,
}

impl StepResult {
    fn per_second(&self) -> f64 {
        self.files as f64 / self.took.as_secs_f64().max(1e-6)
    }
}

/// Everything that happened.
pub struct Report {
    nodes: u8,
    files: u64,
    bytes: u64,
    took: Duration,
    steps: Vec<StepResult>,
    early_claims: u64,
    error: Option<String>,
}

impl Report {
    /// Nothing happened yet.
    pub fn new(nodes: u8) -> Self {
        Self { nodes, files: 0, bytes: 0, took: Duration::ZERO, steps: Vec::new(), early_claims: 0, error: None }
    }

    /// What was played on.
    pub fn input(&mut self, files: u64, bytes: u64) {
        self.files = files;
        self.bytes = bytes;
    }

    /// A step came to its end.
    pub fn step(&mut self, step: StepResult) {
        self.steps.push(step);
    }

    /// How often agents said that they were in sync too early, so far.
    pub fn claims(&mut self, early: u64) {
        self.early_claims = early;
    }

    /// All steps together.
    pub fn took(&mut self, took: Duration) {
        self.took = took;
    }

    /// The demo ended, well without an error.
    pub fn finish(&mut self, error: Option<String>) {
        self.error = error;
    }

    /// For people.
    pub fn print_table(&self) {
        print!("{}", self.table());
    }

    /// For programs: one line, and nothing comes after it.
    pub fn print_json(&self) {
        println!("{}", self.json());
    }

    fn table(&self) -> String {
        let mut text = String::new();
        if self.steps.is_empty() {
            return text;
        }
        let width = self.steps.iter().map(|s| s.name.len()).max().unwrap_or(4);
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "{:width$}  {:>7}  {:>10}  {:>8}  {:>9}  latency p50 / p99",
            "step", "files", "MB", "seconds", "files/s"
        );
        for step in &self.steps {
            let latency = match step.latency {
                Some(Latency { p50, p99 }) => format!("{p50:.2} / {p99:.2} ms"),
                None => "-".to_owned(),
            };
            let _ = writeln!(
                text,
                "{:width$}  {:>7}  {:>10.2}  {:>8.2}  {:>9.0}  {latency}",
                step.name,
                step.files,
                step.bytes as f64 / 1e6,
                step.took.as_secs_f64(),
                step.per_second(),
            );
        }
        if self.early_claims > 0 {
            let _ = writeln!(
                text,
                "note: {} times all agents said that they were in sync before the trees were equal",
                self.early_claims
            );
        }
        if self.error.is_none() {
            let _ = writeln!(text, "all {} trees were exactly equal after every step", self.nodes);
        }
        text
    }

    fn json(&self) -> String {
        let steps = self
            .steps
            .iter()
            .map(|step| StepJson {
                name: step.name,
                files: step.files,
                bytes: step.bytes,
                seconds: rounded(step.took.as_secs_f64()),
                files_per_second: rounded(step.per_second()),
                latency_ms: step.latency.map(|latency| rounded(latency.p50)),
                latency_p99_ms: step.latency.map(|latency| rounded(latency.p99)),
            })
            .collect();
        let report = ReportJson {
            demo: match self.error {
                None => "ok",
                Some(_) => "failed",
            },
            nodes: self.nodes,
            files: self.files,
            bytes: self.bytes,
            seconds: rounded(self.took.as_secs_f64()),
            steps,
            early_in_sync: self.early_claims,
            error: self.error.as_deref(),
        };
        serde_json::to_string(&report).expect("plain structs with string keys serialise")
    }
}

/// The contract's line: structs, since their fields keep this order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportJson<'a> {
    demo: &'a str,
    nodes: u8,
    files: u64,
    bytes: u64,
    seconds: f64,
    steps: Vec<StepJson>,
    early_in_sync: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StepJson {
    name: &'static str,
    files: u64,
    bytes: u64,
    seconds: f64,
    files_per_second: f64,
    /// The median, where the step measures it.
    latency_ms: Option<f64>,
    #[serde(rename = "latencyP99Ms")]
    latency_p99_ms: Option<f64>,
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// What to do with agents that were left running.
pub fn how_to_play(agents: &[Agent], home: &Path) -> String {
    let mut text = String::from("the agents run on; change anything in one of these directories:\n");
    let mut pids = Vec::new();
    for agent in agents {
        let pid = agent.pid().map(|pid| pid.to_string()).unwrap_or_default();
        let _ =
            writeln!(text, "  {}  {}  (pid {pid}, log {})", agent.name, agent.volume.display(), agent.log.display());
        pids.push(pid);
    }
    text.push_str("ask them:\n");
    for agent in agents {
        let _ = writeln!(text, "  {}", agent.status_command());
    }
    let _ = writeln!(
        text,
        "stop them, and remove everything:\n  kill {} && sleep 2 && rm -rf {}\n",
        pids.join(" "),
        home.display()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_go_by_nearest_rank() {
        let hundred = Latency::of((1..=100).rev().map(f64::from).collect()).unwrap();
        assert_eq!((hundred.p50, hundred.p99), (50.0, 99.0));
        let one = Latency::of(vec![7.0]).unwrap();
        assert_eq!((one.p50, one.p99), (7.0, 7.0));
        assert_eq!(Latency::of(Vec::new()), None);
    }

    #[test]
    fn the_json_line_is_the_contracts() {
        let mut report = Report::new(3);
        report.input(3_000, 12);
        report.step(StepResult {
            name: "initial sync",
            files: 100,
            bytes: 12,
            took: Duration::from_millis(500),
            latency: None,
        });
        report.took(Duration::from_secs(2));
        let text = report.json();
        assert!(
            text.starts_with(r#"{"demo":"ok","nodes":3,"files":3000,"bytes":12,"seconds":2.0,"steps":[{"name""#),
            "{text}"
        );
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["steps"][0]["filesPerSecond"], 200.0);
        assert!(line["steps"][0]["latencyMs"].is_null());
        report.finish(Some("a difference".into()));
        let text = report.json();
        assert!(text.starts_with(r#"{"demo":"failed""#) && !text.contains('\n'));
        assert!(text.ends_with(r#""error":"a difference"}"#), "{text}");
    }
}
