//! The accept loop of the public port. It is our own, because one fault needs what no web framework offers: to make the
//! effect and then close the connection without a byte of an answer.

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use service_kit::shutdown::Shutdown;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// How long open requests may take after shutdown, in milliseconds.
pub const DRAIN_MS: u64 = 2_000;
/// How long a client may take to send its request head, in milliseconds.
const HEAD_TIMEOUT_MS: u64 = 30_000;

/// Closes the connection instead of answering.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the connection closes without an answer, as asked")]
pub struct Hangup;

impl Hangup {
    /// A response that the accept loop turns into a closed connection.
    pub fn response() -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = axum::http::StatusCode::BAD_GATEWAY;
        response.extensions_mut().insert(Self);
        response
    }
}

/// Serves until shutdown, then gives open requests [`DRAIN_MS`].
///
/// # Errors
/// When the semaphore is closed, which nobody does.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let router = TowerToHyperService::new(router);
    let slots = Arc::new(Semaphore::new(connections_max));
    let graceful = GracefulShutdown::new();
    loop {
        let slot = slots.clone().acquire_owned().await?;
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, or the client is gone already: neither ends the simulator.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
            () = shutdown.requested() => break,
        };
        let _ = stream.set_nodelay(true);
        let router = router.clone();
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let answer = router.call(request);
            async move {
                let Ok(response) = answer.await;
                if response.extensions().get::<Hangup>().is_some() { Err(Hangup) } else { Ok(response) }
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(HEAD_TIMEOUT_MS))
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // An error here is the client's, or a hang-up that was asked for.
            let _ = connection.await;
            drop(slot);
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(Duration::from_millis(DRAIN_MS)) => {}
    }
    Ok(())
}
