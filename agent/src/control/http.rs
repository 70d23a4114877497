//! Metrics and health over HTTP: `/metrics`, `/livez`, `/readyz`, and nothing else. No file names.

use super::limits::{ANSWER, HTTP_CONNECTION, HTTP_CONNECTIONS, HTTP_HEAD, HTTP_HEAD_BYTES, HTTP_HEADERS};
use super::question::Loop;
use super::{CurrentIdentity, metrics, process};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use syncmesh_engine::node::Status;
use syncmesh_engine::wall::unix_now;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, info};

/// Serves until that isn't possible any more.
///
/// # Errors
/// The address can't be listened on, or no connections can be accepted.
pub async fn serve(address: SocketAddr, agent: Loop, identity: CurrentIdentity, ready: Ready) -> Result<(), String> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        format!("can't listen on {address} for metrics: {error}; change metrics.listen, or stop who listens there")
    })?;
    info!(%address, "metrics and health are served");
    accept(listener, agent, identity, ready).await
}

async fn accept(listener: TcpListener, agent: Loop, identity: CurrentIdentity, ready: Ready) -> Result<(), String> {
    let room = Arc::new(Semaphore::new(HTTP_CONNECTIONS));
    loop {
        let permit = room.clone().acquire_owned().await.map_err(|error| error.to_string())?;
        let (stream, _) = listener.accept().await.map_err(|error| format!("can't accept connections: {error}"))?;
        let (agent, identity) = (agent.clone(), identity.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let service = service_fn(|request| reply(request, &agent, &identity, ready));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HTTP_HEAD)
                .max_buf_size(HTTP_HEAD_BYTES)
                .max_headers(HTTP_HEADERS)
                .serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(HTTP_CONNECTION, connection).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => debug!("a metrics connection ended: {error}"),
            }
        });
    }
}

async fn reply(
    request: Request<Incoming>,
    agent: &Loop,
    identity: &CurrentIdentity,
    ready: Ready,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n".into()));
    }
    Ok(match request.uri().path() {
        "/metrics" => match agent.status_within(ANSWER).await {
            Ok((status, counters)) => {
                let identity = identity.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // Without one it has ended as it is.
                let not_after = identity.map_or(0, |identity| identity.not_after);
                let own = metrics::Process {
                    cpu_seconds: process::cpu_seconds(),
                    certificate_seconds: not_after as f64 - unix_now() as f64,
                };
                let mut response = text(StatusCode::OK, metrics::text(&status, &counters, own));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
                response
            }
            Err(no_answer) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{no_answer}\n")),
        },
        "/livez" => match agent.status_within(ANSWER).await {
            Ok(_) => text(StatusCode::OK, "ok\n".into()),
            Err(no_answer) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{no_answer}\n")),
        },
        "/readyz" => match agent.status_within(ANSWER).await {
            Ok((status, _)) => readiness(&status, ready),
            Err(no_answer) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{no_answer}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "ask for /metrics, /livez or /readyz\n".into()),
    })
}

/// Who is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Who runs and has no failed volume.
    WithAllVolumes,
    /// Who runs: each volume has a state of its own elsewhere.
    Running,
}

/// Why a volume failed may name paths, so it is left to `status`.
fn readiness(status: &Status, ready: Ready) -> Response<Full<Bytes>> {
    if ready == Ready::Running {
        return text(StatusCode::OK, "ok\n".into());
    }
    let failed: Vec<&str> =
        status.volumes.iter().filter(|volume| volume.state == "Failed").map(|volume| volume.name.as_str()).collect();
    if failed.is_empty() {
        return text(StatusCode::OK, "ok\n".into());
    }
    let message = format!("failed: {}; see \"syncmesh-agent status\"\n", failed.join(", "));
    text(StatusCode::SERVICE_UNAVAILABLE, message)
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fake::{Fake, hanging, status};
    use crate::control::renewal::tests::issued;
    use std::sync::Mutex;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Sends bytes to a served agent, gives all that comes back.
    fn exchange(agent: Loop, request: &[u8]) -> String {
        let (_dir, files, node) = issued();
        let now = unix_now();
        let identity = syncmesh_engine::identity::Identity::load(&files, &node, now).unwrap();
        let identity: CurrentIdentity = Arc::new(Mutex::new(Some(Arc::new(identity))));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(accept(listener, agent, identity, Ready::WithAllVolumes));
            let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
            client.write_all(request).await.unwrap();
            let mut reply = Vec::new();
            // A connection that is reset has said what it had to say.
            let read = tokio::time::timeout(Duration::from_secs(30), client.read_to_end(&mut reply)).await;
            let _ = read.expect("an answer within 30 s");
            String::from_utf8(reply).unwrap()
        })
    }

    fn get(agent: Loop, path: &str) -> String {
        exchange(agent, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
    }

    #[test]
    fn metrics_health_and_nothing_else_are_served() {
        let fake = Fake::start(|| status(true, 7));
        let metrics = get(fake.agent.clone(), "/metrics");
        assert!(metrics.starts_with("HTTP/1.1 200 OK") && metrics.contains("text/plain; version=0.0.4"), "{metrics}");
        assert!(metrics.contains("syncmesh_volume_files{volume=\"docs\"} 12"), "{metrics}");
        assert!(get(fake.agent.clone(), "/livez").ends_with("ok\n"));
        assert!(get(fake.agent.clone(), "/readyz").starts_with("HTTP/1.1 200"));
        assert!(get(fake.agent.clone(), "/").starts_with("HTTP/1.1 404"));
        let post = b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        assert!(exchange(fake.agent.clone(), post).starts_with("HTTP/1.1 405"));
    }

    #[test]
    fn a_failed_volume_is_named_and_not_ready_but_alive() {
        let fake = Fake::start(|| {
            let mut status = status(true, 7);
            status.volumes[0].state = "Failed".into();
            status.volumes[0].message = "secret/name: gone".into();
            status
        });
        let ready = get(fake.agent.clone(), "/readyz");
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("failed: docs"), "{ready}");
        assert!(get(fake.agent.clone(), "/livez").starts_with("HTTP/1.1 200"));
        assert!(!ready.contains("secret") && !get(fake.agent.clone(), "/metrics").contains("secret"));
    }

    #[test]
    fn an_agent_that_stopped_is_not_alive() {
        let (agent, asks) = hanging();
        drop(asks);
        assert!(get(agent, "/livez").starts_with("HTTP/1.1 503"));
    }

    #[test]
    fn a_head_beyond_its_limits_is_refused() {
        let fake = Fake::start(|| status(true, 7));
        let long = format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(HTTP_HEAD_BYTES));
        let reply = exchange(fake.agent.clone(), long.as_bytes());
        assert!(reply.starts_with("HTTP/1.1 431") || reply.is_empty(), "{reply}");
        let many = format!("GET /livez HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(HTTP_HEADERS + 1));
        let reply = exchange(fake.agent.clone(), many.as_bytes());
        assert!(reply.starts_with("HTTP/1.1 431"), "{reply}");
    }
}
