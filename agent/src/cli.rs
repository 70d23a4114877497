//! The command line.
//!
//! A file per command. Results go to standard output, everything else to standard error; exit codes are 0 for yes,
//! 1 for no, 2 for a command line that can't be read and, from `status` and `wait`, for an agent that can't be reached.

mod ca;
mod check_config;
mod conflicts;
mod history;
mod holds;
mod install_seccomp;
mod orphans;
mod pause;
mod peers;
mod plan;
mod reach;
mod run;
mod status;
mod table;
mod versions;
mod wait;

use crate::control::reload;
use clap::{Parser, Subcommand};
use reach::NoReply;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use syncmesh_config::Config;

const EXAMPLES: &str = "\
A mesh of two nodes, from nothing:
  syncmesh-agent ca create --out ca
  syncmesh-agent ca issue --ca ca --node a --out a
  syncmesh-agent ca issue --ca ca --node b --out b
  syncmesh-agent check-config a/agent.yaml      every mistake at once
  syncmesh-agent plan --config a/agent.yaml     what would be synchronised; writes nothing
  syncmesh-agent run --config a/agent.yaml      the same on the other machine, with b's files
  syncmesh-agent wait --in-sync && echo identical

A first configuration (a/agent.yaml; paths are relative to it):
  node: a
  stateDir: state
  listen: 0.0.0.0:7400
  identity: { ca: ca.pem, certificate: a.pem, key: a.key }
  peers: [ { node: b, address: \"b.example:7400\" } ]
  volumes: [ { name: docs, path: /srv/docs } ]";

/// Keeps directories on several machines identical
#[derive(Debug, Parser)]
#[command(name = "syncmesh-agent", version = crate::control::VERSION)]
#[command(after_help = EXAMPLES, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the mesh's CA, or an identity for a node
    #[command(subcommand)]
    Ca(ca::Command),
    /// Run the agent until it is told to stop
    Run(run::Arguments),
    /// Check a configuration: every problem at once, with line and field
    CheckConfig(check_config::Arguments),
    /// Show what a first start would synchronise, in counts; writes nothing
    Plan(plan::Arguments),
    /// Show how the running agent is
    Status(status::Arguments),
    /// See, approve or take back many deletions at once, which wait for that
    #[command(subcommand)]
    Holds(holds::Command),
    /// See conflicts, and decide them
    #[command(subcommand)]
    Conflicts(conflicts::Command),
    /// Let volumes stand still
    Pause(pause::Pause),
    /// Let paused volumes go on
    Resume(pause::Resume),
    /// Look at everything again
    Rescan(pause::Rescan),
    /// See directories that no object of the cluster asks for, and order what becomes of them
    #[command(subcommand)]
    Orphans(orphans::Command),
    /// Forget nodes that left the mesh
    #[command(subcommand)]
    Peers(peers::Command),
    /// Show what changed, when, and on which node
    History(history::Arguments),
    /// List the stored versions of a path
    Versions(versions::Versions),
    /// Bring back a stored version, or all deleted files of a directory
    Restore(versions::Restore),
    /// Wait until the running agent's volumes are in sync
    Wait(wait::Arguments),
    /// Write the agent's seccomp profile, which lets it use io_uring
    InstallSeccomp(install_seccomp::Arguments),
}

/// Why a command failed: what is printed to standard error, and the exit code.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// No, and why.
    fn no(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// The agent refused, or can't be reached.
    fn of_agent(error: NoReply) -> Self {
        match error {
            NoReply::Refused(message) => Self::no(message),
            NoReply::Unreachable(message) => Self::unreachable(message),
        }
    }

    /// The agent can't be reached.
    fn unreachable(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Ca(command) => ca::main(&command),
        Command::Run(arguments) => run::main(&arguments),
        Command::CheckConfig(arguments) => check_config::main(&arguments),
        Command::Plan(arguments) => plan::main(&arguments),
        Command::Status(arguments) => status::main(&arguments),
        Command::Holds(command) => holds::main(&command),
        Command::Conflicts(command) => conflicts::main(&command),
        Command::Pause(arguments) => pause::pause(&arguments),
        Command::Resume(arguments) => pause::resume(&arguments),
        Command::Rescan(arguments) => pause::rescan(&arguments),
        Command::Orphans(command) => orphans::main(&command),
        Command::Peers(command) => peers::main(&command),
        Command::History(arguments) => history::main(&arguments),
        Command::Versions(arguments) => versions::list(&arguments),
        Command::Restore(arguments) => versions::restore(&arguments),
        Command::Wait(arguments) => wait::main(&arguments),
        Command::InstallSeccomp(arguments) => install_seccomp::main(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody reads it if this fails; `eprintln!` would panic.
            let _ = writeln!(io::stderr(), "syncmesh-agent: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// Prints a result. A reader that has seen enough and left (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::no(format!("can't write the result to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Reads a configuration's file; each problem on a line of its own, with the file's name.
fn read_config(file: &Path) -> Result<Config, Failure> {
    reload::read(file).map_err(Failure::no)
}

/// Which running agent is meant.
#[derive(Debug, clap::Args)]
struct Which {
    /// The agent's admin socket (stateDir/admin.sock)
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// The agent's configuration, which says where the socket is [default: the only running agent]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Command, String> {
        Arguments::try_parse_from(line.split(' ')).map(|arguments| arguments.command).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn commands_are_those_that_were_promised() {
        for line in [
            "x ca create --out d",
            "x ca issue --ca d --node a --out d",
            "x ca issue --ca d --node a.site --out d --days 30",
            "x run --config f",
            "x check-config f",
            "x plan --config f",
            "x status",
            "x status --socket s -o json",
            "x status --config f --output table",
            "x holds list",
            "x holds list --volume docs -o json --socket s",
            "x holds approve",
            "x holds reject --volume docs --config f",
            "x conflicts list",
            "x conflicts list --volume docs -o json --socket s",
            "x conflicts resolve a/b local",
            "x conflicts resolve a/b remote --contents 0a1b2c3d --volume docs -o json",
            "x conflicts resolve a/b both --config f",
            "x orphans list -o json",
            "x orphans purge 0a1b --yes",
            "x orphans hand-over 0a1b --namespace web --namespace-uid 2c3d --volume docs -o json",
            "x peers forget b",
            "x peers forget b.site -o json --socket s",
            "x history",
            "x history a/b -n 100 -o json",
            "x history --volume docs --number 5 --socket s",
            "x pause",
            "x pause --volume docs -o json --socket s",
            "x resume --volume docs --config f",
            "x rescan",
            "x rescan --contents --volume docs -o json",
            "x versions a/b",
            "x versions --volume docs a/b -o json",
            "x restore a/b",
            "x restore a/b --version 1764000000000 --to c",
            "x restore a/b --at 2h --volume docs --socket s",
            "x wait --in-sync",
            "x wait --in-sync --volume docs --timeout 5m --socket s",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
        for line in [
            "x",
            "x ca",
            "x ca issue --ca d --node A --out d",
            "x ca issue --ca d --node a --out d --days 0",
            "x run",
            "x status -o yaml",
            "x status --socket s --config f",
            "x holds",
            "x holds approve docs",
            "x conflicts",
            "x conflicts resolve a",
            "x conflicts resolve a mine",
            "x orphans purge 0a1b",
            "x orphans hand-over 0a1b --namespace web",
            "x peers",
            "x peers forget",
            "x peers forget B",
            "x history -n 0",
            "x pause docs",
            "x pause --contents",
            "x versions",
            "x restore a --at now",
            "x restore a --at 2h --version 1",
            "x wait",
            "x wait --in-sync --timeout 60",
            "x wait --in-sync --volume Docs",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn help_shows_command_lines_that_parse() {
        let mut command = Arguments::command();
        let mut texts = vec![command.render_long_help().to_string()];
        texts.extend(command.get_subcommands_mut().map(|command| command.render_long_help().to_string()));
        let mut lines = 0;
        for line in texts.iter().flat_map(|text| text.lines()).map(str::trim) {
            if line.starts_with("syncmesh-agent ") {
                // What follows two blanks or a shell's operator is for people.
                let end =
                    ["  ", " && ", " | ", " 2> "].iter().filter_map(|end| line.find(end)).min().unwrap_or(line.len());
                assert!(parse(&line[..end]).is_ok(), "{line}: {:?}", parse(&line[..end]).err());
                lines += 1;
            }
        }
        assert!(lines >= 15, "each command's help has examples: {lines}");
    }

    #[test]
    fn the_example_configuration_is_accepted_with_its_comments_and_with_what_they_hide() {
        let example = include_str!("../../deploy/config.example.yaml");
        let written = Config::parse(example, Path::new("/etc/syncmesh")).unwrap();
        assert_eq!(written.state_dir, Path::new("/var/lib/syncmesh"), "as in the systemd unit");
        let defaults = ["# engine:", "# connections:", "# maxClockSkew:", "# memory:", "# log:"];
        let mut all = example.to_owned();
        for default in defaults {
            assert!(all.contains(default), "{default}");
            all = all.replace(default, &default[2..]);
        }
        assert_eq!(
            Config::parse(&all, Path::new("/etc/syncmesh")).unwrap(),
            written,
            "what is commented out is the default"
        );
    }

    #[test]
    fn a_bad_configuration_is_told_with_file_line_and_field() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.yaml");
        std::fs::write(
            &file,
            "node: a\nstateDir: s\nidentity: { ca: c, certificate: a, key: k }\nvolumes: []\npears: 1\n",
        )
        .unwrap();
        let failure = read_config(&file).unwrap_err();
        assert_eq!(failure.code, 1);
        for part in ["2 problems", "agent.yaml: line 4", "volumes: ", "line 5", "pears: "] {
            assert!(failure.message.contains(part), "{part}: {}", failure.message);
        }
        assert!(read_config(&dir.path().join("none")).unwrap_err().message.contains("check the path"));
    }
}
