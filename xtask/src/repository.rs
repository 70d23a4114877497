//! Where this repository is, what cargo knows of it, and how cargo is called.

use crate::failure::{Failure, Outcome};
use crate::interrupt;
use serde::Deserialize;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The parts of `cargo metadata` that checks use.
#[derive(Deserialize)]
pub struct Metadata {
    /// Every package in the resolved graph.
    pub packages: Vec<Package>,
    /// Ids of ours.
    pub workspace_members: Vec<String>,
}

/// One package of the graph.
#[derive(Deserialize, Default, Clone)]
pub struct Package {
    /// Unique in the graph.
    pub id: String,
    /// As in its manifest.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// SPDX expression, or its older form with `/`.
    pub license: Option<String>,
    /// Registry or git address; none for path packages.
    pub source: Option<String>,
    /// As declared, not as resolved.
    pub dependencies: Vec<Dependency>,
    /// Libraries, binaries and tests.
    pub targets: Vec<Target>,
}

/// A declared dependency.
#[derive(Deserialize, Default, Clone)]
pub struct Dependency {
    /// The package's name, whatever it is renamed to.
    pub name: String,
    /// None for normal ones, else `dev` or `build`.
    pub kind: Option<String>,
}

/// A library, binary, test, ...
#[derive(Deserialize, Default, Clone)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// `lib`, `bin`, `test`, ...
    pub kind: Vec<String>,
}

impl Metadata {
    /// Our own packages.
    pub fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Names of our targets of a kind, without repetition, with the package each belongs to.
    pub fn targets(&self, kind: &str) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = self
            .ours()
            .flat_map(|package| {
                package
                    .targets
                    .iter()
                    .filter(|target| target.kind.iter().any(|k| k == kind))
                    .map(|target| (package.name.clone(), target.name.clone()))
            })
            .collect();
        found.sort();
        found.dedup();
        found
    }
}

/// The repository's directory. Cargo tells where this crate is when it runs us; the place of compilation otherwise.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .filter(|path| path.ends_with("xtask"))
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    here.parent().unwrap_or(Path::new(".")).to_path_buf()
}

/// `cargo`, the one that runs us, in the repository.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(root()).stdin(Stdio::null());
    // Cargo gave us these for this very package; a nested cargo would rebuild what depends on them.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH"] {
        command.env_remove(name);
    }
    command
}

/// What cargo knows, for the platforms that we ship: duplicates among Windows crates concern nobody here.
pub fn metadata() -> Outcome<Metadata> {
    let output = cargo()
        .args(["metadata", "--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .args(["--filter-platform", "aarch64-unknown-linux-gnu"])
        .output()
        .map_err(|reason| Failure::new(format!("could not run cargo metadata: {reason}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr))));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|reason| Failure::new(format!("cargo metadata printed what we don't understand: {reason}")))
}

/// Names and versions of the packages that are really built here, tests included. `cargo metadata` also names optional
/// dependencies that nobody switched on.
pub fn built() -> Outcome<Vec<(String, String)>> {
    let output = cargo()
        .args(["tree", "--workspace", "--edges", "all"])
        .args(["--prefix", "none", "--format", "{p}"])
        .output()
        .map_err(|reason| Failure::new(format!("could not run cargo tree: {reason}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!("cargo tree failed:\n{}", String::from_utf8_lossy(&output.stderr))));
    }
    Ok(packages(&String::from_utf8_lossy(&output.stdout)))
}

/// `name v1.2.3 (where)` lines as names and versions, each once.
fn packages(tree: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = tree
        .lines()
        .filter_map(|line| line.split_once(" v"))
        .map(|(name, rest)| {
            let version = rest.split_whitespace().next().unwrap_or(rest);
            (name.to_owned(), version.to_owned())
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Paths that git knows, relative to the repository, as bytes. `untracked` adds new files that git doesn't ignore.
pub fn files(untracked: bool) -> Outcome<Vec<PathBuf>> {
    let mut command = Command::new("git");
    command.current_dir(root()).args(["ls-files", "-z"]);
    if untracked {
        command.args(["--cached", "--others", "--exclude-standard"]);
    }
    let output = command.output().map_err(|reason| {
        Failure::new(format!(
            "could not run git ls-files ({reason}); install git, or give the demo a tree with --from DIR"
        ))
    })?;
    if !output.status.success() {
        return Err(Failure::new(format!(
            "git ls-files failed: {}give the demo a tree with --from DIR",
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    let mut paths: Vec<PathBuf> = output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| PathBuf::from(OsString::from_vec(name.to_vec())))
        .collect();
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// `cargo build`, `run` or `test` in release, of targets that are still to be named by `--bin` or `--test`. Without shared libraries, as
/// the image is, and with the features that all packages need together: so demo, tests, stories and image have the same binaries, and
/// what these share is built once.
pub fn release(verb: &str) -> Command {
    let mut command = cargo();
    let given = std::env::var("RUSTFLAGS").unwrap_or_default();
    // With --target, build scripts and derive macros, which can't be static, stay as they are.
    command.args([verb, "--release", "--target", "host-tuple"]);
    let flags = format!("{given} -C target-feature=+crt-static");
    command.env("RUSTFLAGS", &flags).env("RUSTDOCFLAGS", &flags);
    command
}

/// Builds binaries in release and returns the directory that they are in. Cargo's words are shown only when it fails. `tick` is called
/// while it works.
pub fn build(binaries: &[&str], tick: impl Fn()) -> Outcome<PathBuf> {
    let mut command = release("build");
    for binary in binaries {
        command.args(["--bin", binary]);
    }
    let mut child = command
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|reason| Failure::new(format!("could not run cargo build: {reason}")))?;
    let mut out = child.stdout.take().expect("stdout was piped above");
    let mut err = child.stderr.take().expect("stderr was piped above");
    let (messages, words, status) = std::thread::scope(|scope| {
        let messages = scope.spawn(move || {
            let mut text = String::new();
            let _ = out.read_to_string(&mut text);
            text
        });
        let words = scope.spawn(move || {
            let mut text = String::new();
            let _ = err.read_to_string(&mut text);
            text
        });
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) => {}
                Err(reason) => break Err(Failure::new(format!("lost cargo build: {reason}"))),
            }
            tick();
            if let Err(stop) = interrupt::pause(Duration::from_millis(50)) {
                let _ = child.kill();
                let _ = child.wait();
                break Err(stop);
            }
        };
        (
            messages.join().expect("reading a pipe doesn't panic"),
            words.join().expect("reading a pipe doesn't panic"),
            status,
        )
    });
    if !status?.success() {
        return Err(Failure::new(format!("{} doesn't build:\n{words}", binaries.join(", "))));
    }
    let built = binaries.iter().filter_map(|binary| executable(&messages, binary)).next_back();
    let directory = built.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    directory.ok_or_else(|| Failure::new(format!("cargo names no executable for {}", binaries.join(", "))))
}

/// The path of a binary in the messages that `cargo build --message-format=json` printed.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_from_cargos_tree() {
        let tree = "xtask v0.1.0 (/x/xtask)\nclap v4.6.9\nserde_derive v1.0.2 (proc-macro) (*)\n\nclap v4.6.9\n";
        let found = packages(tree);
        let names: Vec<String> = found.iter().map(|(n, v)| format!("{n} {v}")).collect();
        assert_eq!(names, ["clap 4.6.9", "serde_derive 1.0.2", "xtask 0.1.0"]);
    }

    #[test]
    fn the_executable_is_found_among_other_messages() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"serde\"},\"executable\":null}\n",
            "not json\n",
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"syncmesh-agent\"},\"executable\":\"/t/agent\"}\n",
            "{\"reason\":\"build-finished\",\"success\":true}\n"
        );
        assert_eq!(executable(messages, "syncmesh-agent"), Some(PathBuf::from("/t/agent")));
        assert_eq!(executable(messages, "other"), None);
    }
}
