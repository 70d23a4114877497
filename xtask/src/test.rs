//! `cargo xtask test`: every check and test, one after another, all of them even when one fails, and a summary.

use crate::chart;
use crate::checks::{self, Allowed};
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::reference;
use crate::repository::{self, Metadata};
use crate::sim;
use crate::testlog::TestLog;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Seeds of the simulator that belong to every run.
const SEEDS: &str = "5000";

/// Integration tests with this prefix start real agents: they run apart from the others.
const BLACK_BOX: &str = "blackbox_";

/// How a step ended.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed(String),
    NotRun(String),
}

struct Step {
    name: &'static str,
    verdict: Verdict,
    seconds: f64,
    tests: TestLog,
}

/// Runs everything. The last line printed is `N passed, N failed`.
pub fn run() -> Outcome<()> {
    interrupt::listen()?;
    let mut steps = Vec::new();
    let mut metadata = None;
    step(&mut steps, "formatting", |_| succeeds(repository::cargo().args(["fmt", "--all", "--check"])));
    step(&mut steps, "lints", |_| {
        succeeds(
            repository::cargo()
                .args(["clippy", "--quiet", "--workspace", "--all-targets"])
                .args(["--", "-D", "warnings"]),
        )
    });
    step(&mut steps, "crate graph can be read", |_| match repository::metadata() {
        Ok(found) => {
            metadata = Some(found);
            Verdict::Passed
        }
        Err(failure) => Verdict::Failed(failure.to_string()),
    });
    let metadata = metadata.as_ref();
    step(&mut steps, "layers: who may know whom", |_| graph(metadata, |metadata| Ok(checks::layers::check(metadata))));
    step(&mut steps, "licences", |_| {
        graph(metadata, |metadata| Ok(checks::licences::check(metadata, &Allowed::read()?)))
    });
    step(&mut steps, "sources and banned crates", |_| {
        graph(metadata, |metadata| {
            let mut found = checks::sources::check(metadata);
            found.extend(checks::sources::banned(&repository::built()?));
            Ok(found)
        })
    });
    step(&mut steps, "duplicate versions", |_| {
        complaints(repository::built().and_then(|packages| Ok(checks::duplicates::check(&packages, &Allowed::read()?))))
    });
    step(&mut steps, "links in documents", |_| complaints(checks::links::check()));
    step(&mut steps, "tests that documents name", |_| complaints(checks::named_tests::check()));
    step(&mut steps, "reasons that documents explain", |_| complaints(checks::reasons::check()));
    step(&mut steps, "API reference as committed", |_| complaints(reference::check()));
    step(&mut steps, "chart: lint, and rendered manifests as committed", |_| match chart::check() {
        Ok(Some(found)) => complaints(Ok(found)),
        Ok(None) => Verdict::NotRun("needs helm on PATH".into()),
        Err(failure) => Verdict::Failed(failure.to_string()),
    });
    step(&mut steps, "unit, property and backend tests", |log| match metadata {
        Some(metadata) => tests(&mut everything_but_black_box(metadata), log),
        None => Verdict::NotRun("needs the crate graph".into()),
    });
    step(&mut steps, "examples in documentation", |log| {
        tests(repository::release("test").args(["--doc", "--no-fail-fast"]), log)
    });
    step(&mut steps, "black box: real agents", |log| match black_box(metadata) {
        Ok(mut command) => tests(&mut command, log),
        Err(needs) => Verdict::NotRun(needs),
    });
    step(&mut steps, "simulator, 5000 seeds", |_| {
        let there = metadata.is_some_and(|metadata| metadata.targets("bin").iter().any(|(_, name)| name == "simulate"));
        if there {
            succeeds(sim::simulate().args(["--seeds", SEEDS]))
        } else {
            Verdict::NotRun("needs binary `simulate` of package syncmesh-simulator".into())
        }
    });
    summary(&steps)
}

fn step(steps: &mut Vec<Step>, name: &'static str, work: impl FnOnce(&mut TestLog) -> Verdict) {
    println!("== {name}");
    let start = Instant::now();
    let mut tests = TestLog::default();
    let verdict = match interrupt::check() {
        Ok(()) => work(&mut tests),
        Err(stop) => Verdict::Failed(stop.to_string()),
    };
    match &verdict {
        Verdict::Passed => {}
        Verdict::Failed(why) => println!("failed: {why}"),
        Verdict::NotRun(why) => println!("not run: {why}"),
    }
    steps.push(Step { name, verdict, seconds: start.elapsed().as_secs_f64(), tests });
}

/// A command whose words go through.
fn succeeds(command: &mut Command) -> Verdict {
    match command.status() {
        Ok(status) if status.success() => Verdict::Passed,
        Ok(status) => Verdict::Failed(format!("{} ended with {status}", shown(command))),
        Err(reason) => Verdict::Failed(format!("could not run {}: {reason}", shown(command))),
    }
}

fn graph(metadata: Option<&Metadata>, check: impl FnOnce(&Metadata) -> Outcome<Vec<String>>) -> Verdict {
    match metadata {
        Some(metadata) => complaints(check(metadata)),
        None => Verdict::NotRun("needs the crate graph".into()),
    }
}

fn complaints(found: Outcome<Vec<String>>) -> Verdict {
    match found {
        Err(failure) => Verdict::Failed(failure.to_string()),
        Ok(found) if found.is_empty() => Verdict::Passed,
        Ok(found) => {
            for complaint in &found {
                println!("{complaint}");
            }
            Verdict::Failed(format!("{} found", found.len()))
        }
    }
}

/// One invocation, so that everything is built once: cargo can leave out a package, but not a single test of it, so
/// the integration tests are named.
fn everything_but_black_box(metadata: &Metadata) -> Command {
    let mut command = repository::release("test");
    command.args(["--no-fail-fast", "--lib", "--bins"]);
    let mut names: Vec<String> = metadata
        .targets("test")
        .into_iter()
        .map(|(_, name)| name)
        .filter(|name| !name.starts_with(BLACK_BOX))
        .collect();
    names.dedup();
    for name in names {
        command.args(["--test", &name]);
    }
    command.args(["--", "--show-output"]);
    command
}

fn black_box(metadata: Option<&Metadata>) -> Result<Command, String> {
    let there = metadata.is_some_and(|metadata| {
        metadata
            .targets("test")
            .iter()
            .any(|(package, name)| package == "syncmesh-agent" && name.starts_with(BLACK_BOX))
    });
    if !there {
        return Err(format!("needs agent/tests/{BLACK_BOX}*.rs"));
    }
    let mut command = repository::release("test");
    command.args(["--no-fail-fast", "--test", &format!("{BLACK_BOX}*")]);
    command.args(["--", "--show-output"]);
    Ok(command)
}

/// Runs tests, shows their lines but for the noise, and collects the rest in `log`.
fn tests(command: &mut Command, log: &mut TestLog) -> Verdict {
    let mut child = match command.stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(reason) => {
            return Verdict::Failed(format!("could not run {}: {reason}", shown(command)));
        }
    };
    let mut out = BufReader::new(child.stdout.take().expect("stdout was piped above"));
    let mut line = Vec::new();
    // Tests may print bytes that aren't UTF-8.
    while matches!(out.read_until(b'\n', &mut line), Ok(n) if n > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\n');
        if log.line(text) {
            println!("{text}");
        }
        line.clear();
    }
    match child.wait() {
        Ok(status) if status.success() => Verdict::Passed,
        Ok(status) => Verdict::Failed(format!("{} ended with {status}", shown(command))),
        Err(reason) => Verdict::Failed(format!("lost {}: {reason}", shown(command))),
    }
}

/// A command as people would type it.
fn shown(command: &Command) -> String {
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    format!("`cargo {}`", arguments.join(" "))
}

/// Prints what happened, and fails if anything did.
fn summary(steps: &[Step]) -> Outcome<()> {
    let strict = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    println!("\n== summary");
    for step in steps {
        println!("{step}");
    }
    let failures: Vec<&String> = steps.iter().flat_map(|s| &s.tests.failures).collect();
    if !failures.is_empty() {
        println!("\nfailed tests:");
        failures.iter().for_each(|name| println!("  {name}"));
    }
    let not_run: Vec<&String> = steps.iter().flat_map(|s| &s.tests.not_run).collect();
    if !not_run.is_empty() {
        println!("\ntests that did not run:");
        not_run.iter().for_each(|what| println!("  {what}"));
    }
    let (passed, failed) = totals(steps, strict);
    if strict && failed > 0 && missing(steps) > 0 {
        println!("\nCI is set: what did not run counts as failed");
    }
    println!("\n{passed} passed, {failed} failed");
    let _ = std::io::stdout().flush();
    if failed == 0 { Ok(()) } else { Err(Failure::reported()) }
}

fn missing(steps: &[Step]) -> u64 {
    let steps_missing = steps.iter().filter(|step| matches!(step.verdict, Verdict::NotRun(_))).count();
    let tests_missing: usize = steps.iter().map(|step| step.tests.not_run.len()).sum();
    (steps_missing + tests_missing) as u64
}

/// Tests that passed and failed. A step that failed without a failed test (lints, a test that doesn't compile, a
/// crash) counts as one failure, so that nothing failed never stands beside "0 failed".
fn totals(steps: &[Step], strict: bool) -> (u64, u64) {
    let passed = steps.iter().map(|step| step.tests.passed).sum();
    let mut failed = steps
        .iter()
        .map(|step| match step.verdict {
            Verdict::Failed(_) => step.tests.failed.max(1),
            Verdict::Passed | Verdict::NotRun(_) => step.tests.failed,
        })
        .sum();
    if strict {
        failed += missing(steps);
    }
    (passed, failed)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, why) = match &self.verdict {
            Verdict::Passed => ("passed", None),
            Verdict::Failed(why) => ("FAILED", Some(why)),
            Verdict::NotRun(why) => ("not run", Some(why)),
        };
        write!(f, "{word:8} {:7.1} s  {}", self.seconds, self.name)?;
        if self.tests.passed + self.tests.failed > 0 {
            write!(f, " ({} tests)", self.tests.passed + self.tests.failed)?;
        }
        match why {
            Some(why) => write!(f, ": {}", why.lines().next().unwrap_or_default()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(verdict: Verdict, lines: &[&str]) -> Step {
        let mut tests = TestLog::default();
        for line in lines {
            tests.line(line);
        }
        Step { name: "s", verdict, seconds: 0.0, tests }
    }

    #[test]
    fn a_failed_step_without_a_failed_test_counts_once() {
        let steps = [
            step(Verdict::Failed("lint".into()), &[]),
            step(Verdict::Failed("tests".into()), &["test result: FAILED. 5 passed; 2 failed; 0 ignored;"]),
            step(Verdict::Passed, &["test result: ok. 4 passed; 0 failed;"]),
        ];
        assert_eq!(totals(&steps, true), (9, 3));
    }

    #[test]
    fn what_did_not_run_fails_in_ci_only() {
        let steps = [
            step(Verdict::NotRun("needs a thing".into()), &[]),
            step(
                Verdict::Passed,
                &["---- t stdout ----", "not run: needs root", "test result: ok. 1 passed; 0 failed;"],
            ),
        ];
        assert_eq!(totals(&steps, false), (1, 0));
        assert_eq!(totals(&steps, true), (1, 2));
    }

    #[test]
    fn black_box_tests_are_left_out_of_the_large_invocation() {
        let metadata: Metadata = serde_json::from_str(
            r#"{"workspace_members":["a"],"packages":[{"id":"a","name":"syncmesh-agent","version":"0.1.0",
            "license":null,"source":null,"dependencies":[],"targets":[
            {"name":"blackbox_kill","kind":["test"]},{"name":"backends","kind":["test"]}]}]}"#,
        )
        .unwrap();
        let shown_large = shown(&everything_but_black_box(&metadata));
        assert!(shown_large.contains("--test backends"), "{shown_large}");
        assert!(!shown_large.contains("blackbox"), "{shown_large}");
        assert!(black_box(Some(&metadata)).is_ok());
        assert!(black_box(None).is_err());
    }
}
