//! `peers`.

use super::reach::ask;
use super::status::Output;
use super::{Failure, Which, print};
use crate::control::admin::Request;
use std::time::Duration;
use syncmesh_config::NodeName;
use syncmesh_engine::forget::Forgotten;

const EXAMPLES: &str = "\
Examples:
  syncmesh-agent peers forget b
  syncmesh-agent peers forget old-node.site -o json

For a node that was taken out of \"peers\" for good, on each node that remembers it: its runs that nothing mentions any more
are forgotten. Its versions stay, whoever has them. Named in \"peers\" again it is a member like any other.

Exit code 0: forgotten. 1: it is a member still, or was never known. 2: the agent can't be reached.";

/// A walk over millions of rows takes seconds.
const LIMIT: Duration = Duration::from_secs(75);

#[derive(Debug, clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// Forget a node that was taken out of the configuration's peers
    Forget(Forget),
}

#[derive(Debug, clap::Args)]
pub(super) struct Forget {
    /// The node's name
    #[arg(value_name = "NODE")]
    node: NodeName,
    #[command(flatten)]
    which: Which,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Runs the command.
pub(super) fn main(command: &Command) -> Result<(), Failure> {
    let Command::Forget(arguments) = command;
    let socket = arguments.which.socket()?;
    let request = Request::Forget { node: arguments.node.as_str().to_owned() };
    let forgotten: Forgotten = ask(&socket, &request, LIMIT).map_err(Failure::of_agent)?;
    match arguments.output {
        Output::Json => print(&format!("{}\n", serde_json::to_string(&forgotten).expect("it is a plain struct"))),
        Output::Table => print(&show(&forgotten)),
    }
}

fn show(forgotten: &Forgotten) -> String {
    let Forgotten { node, dropped, kept, paths } = forgotten;
    let rest = match kept {
        0 => "nothing mentions it any more".to_owned(),
        kept => format!("{kept} more made versions of {paths} paths, which stay"),
    };
    format!("{node} is forgotten: {dropped} runs of its agent; {rest}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_what_is_forgotten_and_what_stays() {
        let forgotten = |kept, paths| Forgotten { node: "b".into(), dropped: 3, kept, paths };
        assert_eq!(show(&forgotten(0, 0)), "b is forgotten: 3 runs of its agent; nothing mentions it any more\n");
        let text = show(&forgotten(2, 40));
        assert!(text.ends_with("2 more made versions of 40 paths, which stay\n"), "{text}");
    }
}
