//! `wait`.

use super::reach::ask;
use super::{Failure, Which, print};
use crate::control::admin::{Request, Waited};
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use syncmesh_config::{VolumeName, parse_duration};

const EXAMPLES: &str = "\
Examples:
  syncmesh-agent wait --in-sync
  syncmesh-agent wait --in-sync --volume docs --timeout 10m
  syncmesh-agent wait --in-sync --config agent.yaml && echo identical

Exit code 0: in sync, with every member connected and nothing pending on any of them. 1: not within the time, with the
reason. 2: the agent can't be reached; with --config or --socket, one that is just starting gets three seconds.";

/// For the way, beyond the time that the agent waits.
const WAY: Duration = Duration::from_secs(15);

/// An agent that was started a moment ago is waited for this long: its socket comes after recovery.
const STARTING: Duration = Duration::from_secs(3);

/// How often it is looked for.
const STARTING_POLL: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Wait until volumes are in sync, the one thing that can be waited for today
    #[arg(long, required = true)]
    in_sync: bool,
    /// Only this volume [default: all]
    #[arg(long, value_name = "NAME")]
    volume: Option<VolumeName>,
    /// How long at most, like 500ms, 60s or 10m; a day at most
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    which: Which,
}

/// Runs the command.
pub(super) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let socket = arguments.which.socket()?;
    await_listener(&socket, arguments.timeout.min(STARTING));
    let timeout_ms = u64::try_from(arguments.timeout.as_millis()).unwrap_or(u64::MAX);
    let volume = arguments.volume.as_ref().map(|volume| volume.as_str().to_owned());
    let request = Request::Wait { volume, timeout_ms };
    let waited: Waited =
        ask(&socket, &request, arguments.timeout + WAY).map_err(|error| Failure::unreachable(error.to_string()))?;
    match waited {
        Waited { ok: true, .. } => print("in sync\n"),
        Waited { ok: false, why } => Err(Failure::no(format!(
            "not in sync: {}",
            why.unwrap_or_else(|| "the agent doesn't say why; see \"syncmesh-agent status\"".into())
        ))),
    }
}

/// Returns when somebody listens on the socket, or won't within `limit`; asking then says which.
fn await_listener(socket: &Path, limit: Duration) {
    for _ in 0..limit.as_millis() / STARTING_POLL.as_millis() {
        match UnixStream::connect(socket) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
            _ => return,
        }
        std::thread::sleep(STARTING_POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn an_agent_that_is_starting_is_waited_for_and_a_missing_one_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("admin.sock");
        await_listener(&socket, STARTING_POLL * 2);
        let path = socket.clone();
        let starting = syncmesh_engine::threads::spawn("starting", move || {
            std::thread::sleep(STARTING_POLL);
            let listener = UnixListener::bind(path).unwrap();
            listener.accept().unwrap();
        });
        await_listener(&socket, Duration::from_secs(600));
        starting.join().unwrap();
    }
}
