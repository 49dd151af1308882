#![doc = include_str!("../README.md")]

mod book;
pub mod breaker;
mod call;
pub mod checkout_http;
mod config;
mod http;
pub mod kakaopay;
pub mod metric;
pub mod provider;
pub mod providers;
mod reconcile;
pub mod return_http;
mod rules;
pub mod stripe;
mod together;
pub mod toss;
pub mod webhook_http;
mod worker;

pub use config::{Config, Secret};
pub use metric::HISTOGRAMS;
pub use providers::Account;
pub use reconcile::books::Difference;
pub use reconcile::pass::pass as reconcile_books;
pub use reconcile::proof::{Proof, prove};
pub use reconcile::reconcile_once;
pub use worker::{Clock, Worker};

use ledger::{Ledger, PgConfig};
use metrics_exporter_prometheus::PrometheusHandle;
use service_kit::admin::Ready;
use service_kit::shutdown::Shutdown;
use std::sync::Arc;

/// How long open requests may take after shutdown, in milliseconds.
const HTTP_DRAIN_MS: u64 = 5_000;

/// Everything that is served behind the gate: where shoppers come back, our pages around the providers' scripts, and
/// the providers' notices. `public_url` is the shop as browsers reach it.
pub fn pages(ledger: &Ledger, accounts: &Arc<[Account]>, public_url: &str) -> axum::Router {
    return_http::router(ledger.clone(), accounts.clone())
        .merge(checkout_http::router(ledger.clone(), accounts.clone(), public_url))
        .merge(webhook_http::router(ledger.clone(), accounts.clone()))
}

/// Plays the role until shutdown: the worker, the return pages, the reconciliation and the admin port.
///
/// # Errors
/// When the configuration is refused or an address cannot be bound.
pub async fn run(cfg: Config, postgres: PgConfig, metrics: PrometheusHandle, shutdown: Shutdown) -> anyhow::Result<()> {
    cfg.validate()?;
    let ledger = Ledger::connect(&postgres).await?;
    let accounts = cfg.accounts()?;
    let worker = Worker::new(&cfg, ledger.clone(), &accounts, Arc::new(service_kit::clock::now_ms));
    metric::describe(&accounts);

    let ready: Ready = {
        let ledger = ledger.clone();
        Arc::new(move || {
            let ledger = ledger.clone();
            Box::pin(async move { ledger.ping().await.map_err(|e| e.to_string()) })
        })
    };
    let accounts: Arc<[Account]> = accounts.into();
    let pages = pages(&ledger, &accounts, &cfg.public_url);
    tokio::try_join!(
        service_kit::admin::serve(cfg.admin_listen, metrics, ready, shutdown.clone()),
        service_kit::http::serve(cfg.listen, pages, shutdown.clone(), HTTP_DRAIN_MS),
        async {
            worker.run(shutdown.clone()).await;
            anyhow::Ok(())
        },
        async {
            reconcile::run(&cfg, &ledger, &accounts, &shutdown).await;
            anyhow::Ok(())
        },
    )?;
    Ok(())
}
