//! `run`.

use super::{Failure, read_config};
use crate::control::Source;
use crate::control::question::Loop;
use crate::control::stamp::{Stamp, Stamps};
use crate::control::{Control, SOCKET, VERSION};
use crate::kubernetes::Cluster;
use crate::kubernetes::surroundings::Surroundings;
use crate::logging;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use syncmesh_config::{Config, Log, LogFormat, LogLevel};
use syncmesh_engine::identity::Identity;
use syncmesh_engine::run::{CurrentIdentity, Unopened};
use syncmesh_engine::wall::unix_now;
use syncmesh_engine::{ask, run};
use tracing::info;

const EXAMPLES: &str = "\
Examples:
  syncmesh-agent run --config /etc/syncmesh/agent.yaml
  syncmesh-agent run --config agent.yaml 2> agent.log

SYNCMESH_LOG=debug, or SYNCMESH_LOG=info,syncmesh_engine::publish=trace, overrides log.level of the configuration.
SIGTERM and Ctrl-C say goodbye to peers and end the epoch; a second one ends at once. SIGHUP loads configuration and
identity again, which is done by itself as well when their files change.
Nothing is lost either way: the next start goes on where this one ended.";

/// Longest path of a unix socket, in bytes, less its end (unix(7)).
const SOCKET_PATH_BYTES: usize = 107;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE", required_unless_present = "kubernetes", conflicts_with = "kubernetes")]
    config: Option<PathBuf>,
    /// Run as a pod of a mesh: what to do comes from the cluster's objects. The operator starts such pods
    #[arg(long)]
    kubernetes: bool,
}

/// Runs the command.
pub(super) fn main(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.config {
        Some(file) => by_file(file),
        None => in_cluster(),
    }
}

fn by_file(file: &Path) -> Result<(), Failure> {
    let stamp = Stamp::of(&[file]);
    let config = read_config(file)?;
    logging::start(config.log).map_err(Failure::no)?;
    info!(version = VERSION, config = %file.display(), "starting");
    let stamps = Stamps { configuration: stamp, identity: Stamp::of(&config.identity.paths()) };
    let identity = Identity::load(&config.identity, &config.node, unix_now())
        .map_err(|error| Failure::no(format!("can't start as node {}: {error}", config.node)))?;
    run(&config, Source::File(file.to_owned()), stamps, Some(identity), Unopened::IsRefused)
}

/// It starts without a certificate if it has none yet: peers wait, and files are there.
fn in_cluster() -> Result<(), Failure> {
    let surroundings = Surroundings::read(|name| std::env::var(name).ok()).map_err(Failure::no)?;
    logging::start(Log { level: LogLevel::Info, format: LogFormat::Text }).map_err(Failure::no)?;
    info!(version = VERSION, node = %surroundings.node, mesh = surroundings.mesh, "starting");
    let (cluster, config) = Cluster::open(surroundings).map_err(Failure::no)?;
    let identity_stamp = Stamp::of(&config.identity.paths());
    let stamps = Stamps { configuration: Stamp::of(&[]), identity: identity_stamp };
    let identity = Identity::load(&config.identity, &config.node, unix_now()).ok();
    run(&config, Source::Cluster(Arc::new(cluster)), stamps, identity, Unopened::IsLeftOut)
}

fn run(
    config: &Config,
    source: Source,
    stamps: Stamps,
    identity: Option<Identity>,
    unopened: Unopened,
) -> Result<(), Failure> {
    check_socket_path(&config.state_dir)?;
    let identity: CurrentIdentity = Arc::new(Mutex::new(identity.map(Arc::new)));
    let (asks, asked) = crossbeam_channel::bounded(ask::QUEUE);
    let mut agent: Option<Loop> = None;
    run::run(config, &identity, &asked, unopened, |started| match &agent {
        Some(agent) => agent.wake_by(started.waker),
        None => {
            let way = agent.insert(Loop::new(asks.clone(), started.waker)).clone();
            // The thread ends with the process: there is nothing in it to be saved.
            drop(Control::new(config, source.clone(), stamps.clone(), identity.clone(), way).start());
        }
    })
    .map_err(Failure::no)?;
    info!("stopped");
    Ok(())
}

/// Said here, once, instead of by a control thread that tries for ever.
fn check_socket_path(state_dir: &Path) -> Result<(), Failure> {
    let path = state_dir.join(SOCKET);
    let length = path.as_os_str().as_bytes().len();
    if length <= SOCKET_PATH_BYTES {
        return Ok(());
    }
    Err(Failure::no(format!(
        "the admin socket's path {} has {length} bytes, a socket's has at most {SOCKET_PATH_BYTES}: use a \
         shorter stateDir",
        path.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_too_deep_for_a_socket_is_refused() {
        assert!(check_socket_path(&Path::new("/").join("d".repeat(95))).is_ok());
        let failure = check_socket_path(&Path::new("/").join("d".repeat(96))).unwrap_err();
        assert!(failure.message.contains("shorter stateDir"), "{}", failure.message);
    }
}
