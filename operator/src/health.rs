//! Health and metrics over HTTP: `/livez`, `/readyz`, `/metrics`, and nothing else.

use crate::error::Error;
use crate::metrics::Metrics;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use kube::runtime::reflector::Store;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use syncmesh_crds::SyncVolume;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, info};

/// How many connections there are at once.
const CONNECTIONS: usize = 16;
/// How long one may last, so that idle ones keep nobody out.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves until that isn't possible any more.
pub async fn serve(address: SocketAddr, metrics: Arc<Metrics>, volumes: Store<SyncVolume>) -> Error {
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(reason) => return Error::process("listen for metrics and health (--metrics)")(reason),
    };
    info!(%address, "metrics and health are served");
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = room.clone().acquire_owned().await.expect("nobody closes it");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(reason) => return Error::process("accept connections for metrics and health")(reason),
        };
        let (metrics, volumes) = (metrics.clone(), volumes.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let service = service_fn(|request| reply(request, &metrics, &volumes));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(PATIENCE, connection).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => debug!("a connection for metrics ended: {error}"),
            }
        });
    }
}

async fn reply(
    request: Request<Incoming>,
    metrics: &Metrics,
    volumes: &Store<SyncVolume>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = answer(request.uri().path(), metrics, || volumes.state());
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    Ok(response)
}

/// Who answers at all is alive: there is one thread. Who has read everything could lead at once, and is ready.
fn answer(path: &str, metrics: &Metrics, volumes: impl Fn() -> Vec<Arc<SyncVolume>>) -> (StatusCode, String) {
    match path {
        "/livez" => (StatusCode::OK, "ok\n".into()),
        "/readyz" if metrics.has_read_all() => (StatusCode::OK, "ok\n".into()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "objects are being read\n".into()),
        "/metrics" => (StatusCode::OK, metrics.text(&volumes())),
        _ => (StatusCode::NOT_FOUND, "ask for /metrics, /livez or /readyz\n".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_ready_once_it_has_read_everything_and_alive_before() {
        let metrics = Metrics::default();
        assert_eq!(answer("/livez", &metrics, Vec::new).0, StatusCode::OK);
        assert_eq!(answer("/readyz", &metrics, Vec::new).0, StatusCode::SERVICE_UNAVAILABLE);
        metrics.read_all();
        assert_eq!(answer("/readyz", &metrics, Vec::new).0, StatusCode::OK);
        assert_eq!(answer("/", &metrics, Vec::new).0, StatusCode::NOT_FOUND);
    }

    #[test]
    fn metrics_say_who_leads_and_what_was_done() {
        let metrics = Metrics::default();
        metrics.leads();
        metrics.reconciled("SyncVolume", true);
        metrics.reconciled("SyncVolume", false);
        metrics.written();
        let text = answer("/metrics", &metrics, Vec::new).1;
        assert!(text.contains("syncmesh_operator_leads 1"), "{text}");
        assert!(
            text.contains("syncmesh_operator_reconciliations_total{kind=\"SyncVolume\",outcome=\"failed\"} 1"),
            "{text}"
        );
        assert!(text.contains("syncmesh_operator_writes_total 1"), "{text}");
    }
}
