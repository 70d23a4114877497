//! A run of the operator, from its settings to its end.

use crate::caches::{self, Bell};
use crate::controllers;
use crate::error::Error;
use crate::health;
use crate::lease::Leadership;
use crate::mesh::desired::Home;
use crate::mesh::first::{self, FirstMesh};
use crate::mesh::silent::Silent;
use crate::metrics::Metrics;
use crate::operator::Operator;
use crate::writes::Writes;
use kube::Client;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

/// What a run is told.
pub struct Settings {
    /// What the operator knows of itself.
    pub home: Home,
    /// This operator among others.
    pub name: String,
    /// The mesh that a new installation begins with, if it shall have one.
    pub first_mesh: Option<FirstMesh>,
    /// Where metrics and health are served.
    pub metrics: SocketAddr,
}

/// Runs until it is told to stop.
pub fn main(settings: Settings) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Error::process("make a runtime"))?.block_on(run(settings))
}

async fn run(settings: Settings) -> Result<(), Error> {
    let mut terminated = signal(SignalKind::terminate()).map_err(Error::process("listen for SIGTERM"))?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(Error::process("listen for SIGINT"))?;
    let client = Client::try_default().await.map_err(|reason| Error::Surroundings(Box::new(reason)))?;
    let home = settings.home;
    let metrics = Arc::new(Metrics::default());
    let (caches, bell, _watches) = caches::follow_all(&client, &home.namespace);
    let mut leadership = Leadership::new(client.clone(), &home.namespace, settings.name.clone());
    let writes = Writes::new(client.clone(), &settings.name, metrics.clone());
    let volumes = caches.volumes.clone();
    let operator = Arc::new(Operator { caches, writes, home, metrics: metrics.clone(), silent: Silent::default() });
    // Whatever ends first ends the others: nothing is called after a lease that may be lost, or after it was given up.
    let ended = tokio::select! {
        error = lead(operator, &bell, &mut leadership, settings.first_mesh.as_ref(), client) => Err(error),
        error = health::serve(settings.metrics, metrics, volumes) => Err(error),
        _ = terminated.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
    };
    info!("the operator ends");
    match ended {
        Err(Error::LeadershipLost) => {}
        Ok(()) | Err(_) => leadership.give_up().await,
    }
    ended
}

/// Waits for its turn with caches that are kept up to date, then works for as long as it leads.
async fn lead(
    operator: Arc<Operator>,
    bell: &Bell,
    leadership: &mut Leadership,
    first_mesh: Option<&FirstMesh>,
    client: Client,
) -> Error {
    operator.caches.are_complete().await;
    operator.metrics.read_all();
    let deadline = leadership.win().await;
    operator.metrics.leads();
    tokio::select! {
        // The lease is looked at first, so that a process which was stopped for longer than its deadline makes no call when it goes on.
        biased;
        error = leadership.keep(deadline) => error,
        () = work(&operator, bell, first_mesh, client) => Error::LeadershipLost,
    }
}

/// Works until it is dropped.
async fn work(operator: &Arc<Operator>, bell: &Bell, first_mesh: Option<&FirstMesh>, client: Client) {
    let beginning = async {
        if let Some(first_mesh) = first_mesh {
            first::make_once(first_mesh, operator, client).await;
        }
    };
    tokio::join!(controllers::run(operator.clone(), bell), beginning);
}
