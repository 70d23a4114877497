//! The control thread: whatever an agent does besides synchronising. Admin socket, metrics and health, signals, renewed
//! identities, the service manager's watchdog.
//!
//! It asks the loop and never touches its data, and each of its parts may fail or panic and is started again, without
//! the loop noticing. Only here is tokio used.

pub mod admin;
mod handover;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod process;
pub mod question;
pub mod reload;
pub mod renewal;
pub mod revoked;
mod signals;
pub mod stamp;
pub mod wait;
mod watchdog;

use crate::kubernetes::Cluster;
use limits::{RESTART, SOUND};
use question::Loop;
use stamp::Stamps;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use syncmesh_config::{Config, IdentityFiles, NodeName};
use syncmesh_engine::run::CurrentIdentity;
use syncmesh_engine::threads;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::error;

/// The release and the commit it was built from.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SYNCMESH_COMMIT"), ")");

/// Name of the admin socket in the state directory.
pub const SOCKET: &str = "admin.sock";

/// What the control thread works with.
#[derive(Clone)]
pub struct Control {
    /// Where the admin socket is made.
    pub socket: PathBuf,
    /// Where metrics and health are served, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// This node.
    pub node: NodeName,
    /// The identity's files.
    pub files: IdentityFiles,
    /// Where the configuration comes from.
    pub source: Source,
    /// What the files looked like before they were read.
    pub stamps: Stamps,
    /// The identity that sessions are made with.
    pub identity: CurrentIdentity,
    /// The way to the loop.
    pub agent: Loop,
}

/// Where an agent's configuration comes from.
#[derive(Clone)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// The objects of a Kubernetes cluster.
    Cluster(Arc<Cluster>),
}

impl Source {
    fn ready(&self) -> http::Ready {
        match self {
            Self::File(_) => http::Ready::WithAllVolumes,
            Self::Cluster(_) => http::Ready::Running,
        }
    }
}

impl Control {
    /// For the agent of `config`, read after `stamps` were taken, as was its `identity`.
    pub fn new(config: &Config, source: Source, stamps: Stamps, identity: CurrentIdentity, agent: Loop) -> Self {
        Self {
            socket: config.state_dir.join(SOCKET),
            metrics: config.metrics_listen,
            node: config.node.clone(),
            files: config.identity.clone(),
            source,
            stamps,
            identity,
            agent,
        }
    }

    /// Starts the thread. It ends with the process.
    pub fn start(self) -> JoinHandle<()> {
        threads::spawn("control", move || {
            let mut pause = RESTART.0;
            loop {
                match catch_unwind(AssertUnwindSafe(|| self.run())) {
                    Ok(why) => error!("the control thread ended: {why}; starting it again in {pause:?}"),
                    Err(panic) => {
                        error!("the control thread panicked: {}; starting it again in {pause:?}", words(&*panic));
                    }
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(RESTART.1);
            }
        })
    }

    /// Runs all parts; returns only where that isn't possible, with the reason.
    fn run(&self) -> String {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return format!("can't start its runtime: {error}"),
        };
        runtime.block_on(async {
            let hangups = [Arc::new(Notify::new()), Arc::new(Notify::new())];
            let hands_over = matches!(self.source, Source::Cluster(_));
            let signals = signals::Signals { agent: self.agent.clone(), hands_over, hangups: hangups.clone() };
            let [reload, renewal] = hangups;
            let renew = renewal.clone();
            let renewal = renewal::Renewal::new(self, renewal);
            let (socket, asked) = (self.socket.clone(), admin::Asked::new(&self.agent, &self.source));
            let mut parts = vec![
                part("signals", move || signals.clone().run()),
                part("identity", move || renewal.clone().run()),
                part("admin socket", move || admin::serve(socket.clone(), asked.clone())),
            ];
            if let Some(file) = &self.files.revoked {
                let revocations = revoked::Revocations::new(file, &self.agent);
                parts.push(part("revocations", move || revocations.clone().run()));
            }
            match &self.source {
                Source::File(file) => {
                    let reload = reload::Reload::new(self, file, reload);
                    parts.push(part("configuration", move || reload.clone().run()));
                }
                Source::Cluster(cluster) => parts.extend(cluster.parts(&self.agent, &self.identity, &renew)),
            }
            if let Some(address) = self.metrics {
                let (agent, identity) = (self.agent.clone(), self.identity.clone());
                let ready = self.source.ready();
                let serve = move || http::serve(address, agent.clone(), identity.clone(), ready);
                parts.push(part("metrics", serve));
            }
            if let Some(every) = watchdog::interval() {
                let agent = self.agent.clone();
                parts.push(part("watchdog", move || watchdog::run(agent.clone(), every)));
            }
            for part in parts {
                if let Err(error) = part.await {
                    return format!("a part's supervisor failed: {error}");
                }
            }
            "all of its parts ended".into()
        })
    }
}

/// A part of the control thread, and its name.
pub type Supervised = tokio::task::JoinHandle<()>;

/// Runs something as a part of the control thread: again whenever it fails.
pub fn part<F>(name: &'static str, make: impl Fn() -> F + Send + 'static) -> Supervised
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    tokio::spawn(supervise(name, boxed(make)))
}

type PartFuture = std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
type Part = Box<dyn Fn() -> PartFuture + Send>;

fn boxed<F: Future<Output = Result<(), String>> + Send + 'static>(make: impl Fn() -> F + Send + 'static) -> Part {
    Box::new(move || Box::pin(make()))
}

/// Runs a part again and again. A part that returns without an error has nothing more to do.
async fn supervise(name: &'static str, part: Part) {
    let mut pause = RESTART.0;
    loop {
        let began = Instant::now();
        // A task of its own, so that a panic ends the part alone.
        let why = match tokio::spawn(part()).await {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => format!("it panicked: {}", words(&*panic)),
                Err(error) => error.to_string(),
            },
        };
        pause = next_pause(pause, began.elapsed());
        error!(part = name, "a part of the control thread ended and is started again in {pause:?}: {why}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RESTART.1);
    }
}

fn next_pause(pause: Duration, ran: Duration) -> Duration {
    if ran >= SOUND { RESTART.0 } else { pause }
}

/// What a panic says.
fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a word")
}

#[cfg(test)]
pub(crate) mod fake;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_part_that_fails_or_panics_is_started_again_until_it_is_done() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let tries = Arc::new(AtomicU32::new(0));
        let counted = tries.clone();
        runtime.block_on(supervise(
            "test",
            boxed(move || {
                let tries = counted.clone();
                async move {
                    match tries.fetch_add(1, Ordering::Relaxed) {
                        0 => Err("no".into()),
                        1 => panic!("on purpose"),
                        _ => Ok(()),
                    }
                }
            }),
        ));
        assert_eq!(tries.load(Ordering::Relaxed), 3);
        assert_eq!(next_pause(RESTART.1, SOUND), RESTART.0);
        assert_eq!(next_pause(RESTART.1, RESTART.0), RESTART.1);
    }
}
