//! Programs of this machine that stories use as people do: docker, kind, kubectl, helm.

use crate::failure::{Failure, Outcome};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// This repository. Commands run here, as documents have them.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a program, and gives what it printed.
pub fn run<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> Outcome<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(command, None)
}

/// Runs a program that reads this text, and gives what it printed.
pub fn feed<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>, text: &str) -> Outcome<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(command, Some(text))
}

/// Runs kubectl with arguments that are divided by spaces.
pub fn kubectl(line: &str) -> Outcome<String> {
    run("kubectl", line.split_whitespace())
}

/// Runs our plugin for kubectl, which was built beside this program, with arguments that are divided by spaces.
pub fn syncmesh(line: &str) -> Outcome<String> {
    let own = std::env::current_exe().map_err(Failure::to("find this program"))?;
    run(&own.with_file_name("kubectl-syncmesh").to_string_lossy(), line.split_whitespace())
}

/// Applies an object of this text, as whoever kubectl's flags say.
pub fn apply(flags: &str, text: &str) -> Outcome<String> {
    feed("kubectl", ["apply", "-f", "-"].into_iter().chain(flags.split_whitespace()), &yaml(text))
}

/// kubectl takes what begins with a brace for JSON.
fn yaml(text: &str) -> String {
    format!("---\n{text}")
}

/// Makes an object of this text, or only asks whether that could be.
pub fn create(flags: &str, text: &str) -> Outcome<String> {
    feed("kubectl", ["create", "-f", "-"].into_iter().chain(flags.split_whitespace()), &yaml(text))
}

/// A step that has to be refused. The result is what was said.
pub fn refused(what: &str, outcome: Outcome<String>) -> Outcome<String> {
    match outcome {
        Ok(said) => Err(Failure::new(format!("{what} was not refused: {said}"))),
        Err(refusal) => Ok(refusal.to_string()),
    }
}

/// Fails when a text doesn't have this part.
pub fn mentions(text: &str, part: &str) -> Outcome<()> {
    if text.contains(part) { Ok(()) } else { Err(Failure::new(format!("`{part}` isn't said: {text}"))) }
}

/// Runs a command to its end.
pub fn finish(mut command: Command, text: Option<&str>) -> Outcome<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.current_dir(repository()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if text.is_some() { Stdio::piped() } else { Stdio::null() });
    let output = written_and_read(command, text).map_err(|reason| match reason.kind() {
        io::ErrorKind::NotFound => Failure::new(format!(
            "{program} is not on PATH: stories that install the chart need docker, kind, kubectl and helm"
        )),
        _ => Failure::new(format!("could not run {program}: {reason}")),
    })?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        Ok(out.into_owned())
    } else {
        Err(Failure::new(format!("{program} ended with {}: {}{}", output.status, out, err.trim_end())))
    }
}

fn written_and_read(mut command: Command, text: Option<&str>) -> io::Result<Output> {
    let mut child = command.spawn()?;
    if let (Some(text), Some(mut input)) = (text, child.stdin.take()) {
        // A program that doesn't read it all says why itself.
        let _ = input.write_all(text.as_bytes());
    }
    child.wait_with_output()
}
