//! `kubectl syncmesh`: what takes more than one field of one object, or an agent's own word.
//!
//! What a namespace's user does is a change of an object, and works with `kubectl` alone. `status --live`, `versions`, `restore`,
//! `diff` and `orphans` ask agents through `kubectl exec`, which is an administrator's right.

// It waits for the real world.
#![allow(clippy::disallowed_types)]

mod diff;
mod failure;
mod files;
mod forget;
mod orphans;
mod pause;
mod questions;
mod report;
mod revoke;
mod session;
mod show;
mod status;
mod users;
mod wait;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use failure::Outcome;
use session::{Flags, Session};
use show::Output;
use std::io::{self, Write};
use std::process::ExitCode;

/// Sees and steers SyncMesh volumes
#[derive(Parser)]
#[command(name = "kubectl-syncmesh", bin_name = "kubectl syncmesh", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// Form of a result
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show volumes and how they are on each node
    Status(status::Arguments),
    /// Wait until a volume is in sync, or has everywhere what was written
    Wait(wait::Arguments),
    /// See conflicts, and decide them
    #[command(subcommand)]
    Conflicts(questions::Conflicts),
    /// See held deletions, and decide them
    #[command(subcommand)]
    Holds(questions::Holds),
    /// Let a volume stand still
    Pause(pause::Arguments),
    /// Let a paused volume go on
    Resume(pause::Arguments),
    /// List the versions of a file that nodes have stored
    Versions(files::Versions),
    /// Bring back a file that was deleted or replaced
    Restore(files::Restore),
    /// Show in what two nodes differ
    Diff(diff::Arguments),
    /// See directories that belong to no volume, make volumes of them, or delete them
    #[command(subcommand)]
    Orphans(orphans::Orphans),
    /// Give up a machine that went with files which no other node has
    ForgetNode(forget::Arguments),
    /// Have what was signed for a node so far count no more
    Revoke(revoke::Arguments),
    /// Collect objects, events and logs for whoever helps
    Report(report::Arguments),
    /// Print a completion script
    Completion {
        /// The shell
        shell: Shell,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody reads it if this fails; `eprintln!` would panic.
            let _ = writeln!(io::stderr(), "error: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Outcome<()> {
    if let Command::Completion { shell } = arguments.command {
        clap_complete::generate(shell, &mut Arguments::command(), "kubectl-syncmesh", &mut io::stdout());
        return Ok(());
    }
    let (session, output) = (Session::begin(&arguments.flags).await?, arguments.output);
    match &arguments.command {
        Command::Status(arguments) => status::main(&session, arguments, output).await,
        Command::Wait(arguments) => wait::main(&session, arguments).await,
        Command::Conflicts(command) => questions::conflicts(&session, command, output).await,
        Command::Holds(command) => questions::holds(&session, command, output).await,
        Command::Pause(arguments) => pause::main(&session, arguments, true).await,
        Command::Resume(arguments) => pause::main(&session, arguments, false).await,
        Command::Versions(arguments) => files::versions(&session, arguments, output).await,
        Command::Restore(arguments) => files::restore(&session, arguments).await,
        Command::Diff(arguments) => diff::main(&session, arguments, output).await,
        Command::Orphans(command) => orphans::main(&session, command, output).await,
        Command::ForgetNode(arguments) => forget::main(&session, arguments).await,
        Command::Revoke(arguments) => revoke::main(&session, arguments).await,
        Command::Report(arguments) => report::main(&session, arguments).await,
        // It was answered above, without a cluster.
        Command::Completion { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn commands_are_those_that_were_promised() {
        for line in [
            "x status",
            "x status docs --live -o json -n web",
            "x wait docs --in-sync",
            "x wait --written --timeout 60",
            "x conflicts list",
            "x conflicts resolve docs-conflict-1 both --pattern *.log",
            "x holds list docs",
            "x holds approve docs-hold-1",
            "x holds reject docs-hold-1 --context kind-x",
            "x pause docs",
            "x resume",
            "x versions a/b --volume docs",
            "x restore a/b",
            "x restore a/b --version 1764000000000 --to c --node worker-1",
            "x diff worker-1 worker-2 --volume docs",
            "x orphans list -o yaml",
            "x orphans list --mesh default",
            "x orphans adopt 123 --volume docs",
            "x orphans adopt 123 --volume docs --mesh default --yes -n web",
            "x orphans purge 123 --node worker-1",
            "x orphans purge 123 --node worker-1 --node worker-2 --mesh default --yes",
            "x forget-node worker-1 --yes",
            "x revoke worker-1",
            "x report --to there",
            "x completion bash",
        ] {
            let parsed = Arguments::try_parse_from(line.split(' ')).map(drop);
            assert!(parsed.is_ok(), "{line}: {:?}", parsed.err().map(|error| error.to_string()));
        }
        for line in [
            "x",
            "x wait docs",
            "x wait --in-sync --written",
            "x conflicts resolve a approve",
            "x diff a",
            "x orphans purge 123",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
