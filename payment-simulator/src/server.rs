//! Starting and serving: the public port with all providers, the control port.

use crate::accept::{self, DRAIN_MS};
use crate::fault::{BadFault, Endpoint, Fault};
use crate::store::State;
use crate::webhook::sender;
use crate::{Config, control, kakaopay, metric, page, stripe, toss};
use axum::Router;
use axum::http::HeaderMap;
use metrics_exporter_prometheus::PrometheusHandle;
use service_kit::shutdown::Shutdown;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;

/// What every handler shares. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Simulator {
    pub(crate) cfg: Arc<Config>,
    pub(crate) public_url: Arc<str>,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Simulator {
    /// The state, in which everything has happened that is due.
    pub(crate) async fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().await;
        state.settle();
        state
    }
    /// The fault that this call meets: the one of its header, else the planned one.
    ///
    /// # Errors
    /// When the header names no fault that means something here.
    pub(crate) async fn fault(&self, headers: &HeaderMap, endpoint: Endpoint) -> Result<Option<Fault>, BadFault> {
        let fault = match Fault::asked(headers, endpoint)? {
            Some(fault) => Some(fault),
            None => self.state.lock().await.next_fault(endpoint),
        };
        if let Some(fault) = fault {
            metric::count_fault(endpoint, fault);
        }
        Ok(fault)
    }
}

/// A running simulator.
#[derive(Debug)]
pub struct Running {
    /// Where the API and the pages are.
    pub address: SocketAddr,
    /// Where the control port is.
    pub control_address: SocketAddr,
    tasks: [JoinHandle<anyhow::Result<()>>; 3],
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
    // For the client of the webhooks; a second time does nothing.
    service_kit::install_crypto_providers();
    metric::describe(cfg.payments_max);
    let public = bind(cfg.listen).await?;
    let control = bind(cfg.admin_listen).await?;
    let (address, control_address) = (public.local_addr()?, control.local_addr()?);
    let public_url = cfg.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
    tracing::info!(%address, %control_address, public_url, "payment simulator is listening");

    let connections_max = cfg.connections_max;
    let state = Arc::new(Mutex::new(State::new(&cfg, &public_url)));
    let sim = Simulator { cfg: Arc::new(cfg), public_url: public_url.into(), state };
    let http = sender::client()?;
    let router = Router::new()
        .merge(kakaopay::router(sim.clone()))
        .merge(toss::router(sim.clone()))
        .merge(stripe::router(sim.clone()))
        .merge(page::router())
        .layer(axum::extract::DefaultBodyLimit::max(service_kit::http::BODY_BYTES_MAX));
    let admin =
        service_kit::admin::router(metrics, service_kit::admin::always_ready()).merge(control::router(sim.clone()));
    let stop = shutdown.clone();
    Ok(Running {
        address,
        control_address,
        tasks: [
            tokio::spawn(accept::serve(public, router, connections_max, shutdown.clone())),
            tokio::spawn(sender::run(sim, http, shutdown.clone())),
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
