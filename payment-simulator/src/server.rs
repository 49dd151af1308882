//! Starting and serving. The public port has an accept loop of its own, because one fault needs what no web framework
//! offers: to make the effect and then close the connection without a byte of an answer.

use crate::store::State;
use crate::{Config, api, control, metric, page};
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusHandle;
use service_kit::shutdown::Shutdown;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;

/// How long open requests may take after shutdown, in milliseconds.
const DRAIN_MS: u64 = 2_000;
/// How long a client may take to send its request head, in milliseconds.
const HEAD_TIMEOUT_MS: u64 = 30_000;

/// What every handler shares. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Simulator {
    pub(crate) cfg: Arc<Config>,
    pub(crate) public_url: Arc<str>,
    pub(crate) state: Arc<Mutex<State>>,
}

/// A running simulator.
#[derive(Debug)]
pub struct Running {
    /// Where the API and the pages are.
    pub address: SocketAddr,
    /// Where the control port is.
    pub control_address: SocketAddr,
    tasks: [JoinHandle<anyhow::Result<()>>; 2],
}

impl Running {
    /// Returns when both ports are closed.
    ///
    /// # Errors
    /// When one of them failed.
    pub async fn finished(self) -> anyhow::Result<()> {
        for task in self.tasks {
            task.await??;
        }
        Ok(())
    }
}

/// Binds both ports and serves them until shutdown.
///
/// # Errors
/// When the configuration is refused or an address cannot be bound.
pub async fn start(cfg: Config, metrics: PrometheusHandle, shutdown: Shutdown) -> anyhow::Result<Running> {
    cfg.validate()?;
    metric::describe(cfg.payments_max);
    let public = bind(cfg.listen).await?;
    let control = bind(cfg.admin_listen).await?;
    let (address, control_address) = (public.local_addr()?, control.local_addr()?);
    let public_url = cfg.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
    tracing::info!(%address, %control_address, public_url, "payment simulator is listening");

    let connections_max = cfg.connections_max;
    let sim = Simulator { cfg: Arc::new(cfg), public_url: public_url.into(), state: Arc::default() };
    let router = Router::new()
        .merge(api::router(sim.clone()))
        .merge(page::router(sim.clone()))
        .layer(axum::extract::DefaultBodyLimit::max(service_kit::http::BODY_BYTES_MAX));
    let admin = service_kit::admin::router(metrics, service_kit::admin::always_ready()).merge(control::router(sim));
    let stop = shutdown.clone();
    Ok(Running {
        address,
        control_address,
        tasks: [
            tokio::spawn(serve(public, router, connections_max, shutdown)),
            tokio::spawn(async move {
                let server = axum::serve(control, admin).with_graceful_shutdown({
                    let stop = stop.clone();
                    async move { stop.requested().await }
                });
                tokio::select! {
                    result = server => result.map_err(Into::into),
                    () = drained(&stop) => Ok(()),
                }
            }),
        ],
    })
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| anyhow::anyhow!("listen on {address}: {e}"))
}

async fn drained(shutdown: &Shutdown) {
    shutdown.requested().await;
    tokio::time::sleep(Duration::from_millis(DRAIN_MS)).await;
}

/// Closes the connection instead of answering.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the connection closes without an answer, as asked")]
pub(crate) struct Hangup;

impl Hangup {
    /// A response that the accept loop turns into a closed connection.
    pub(crate) fn response() -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = axum::http::StatusCode::BAD_GATEWAY;
        response.extensions_mut().insert(Self);
        response
    }
}

async fn serve(
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
