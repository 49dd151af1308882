#![doc = include_str!("../README.md")]

pub mod breaker;
mod call;
mod config;
pub mod kakaopay;
pub mod metric;
pub mod provider;
mod reconcile;
pub mod return_http;
mod rules;
mod worker;

pub use config::{Config, KakaoPayConfig, Secret};
pub use metric::HISTOGRAMS;
pub use reconcile::reconcile_once;
pub use worker::{Clock, Worker};

use kakaopay::KakaoPay;
use ledger::{Ledger, PgConfig};
use metrics_exporter_prometheus::PrometheusHandle;
use service_kit::admin::Ready;
use service_kit::shutdown::Shutdown;
use std::sync::Arc;

/// How long open requests may take after shutdown, in milliseconds.
const HTTP_DRAIN_MS: u64 = 5_000;

/// Plays the role until shutdown: the worker, the return pages, the reconciliation and the admin port.
///
/// # Errors
/// When the configuration is refused or an address cannot be bound.
pub async fn run(cfg: Config, postgres: PgConfig, metrics: PrometheusHandle, shutdown: Shutdown) -> anyhow::Result<()> {
    cfg.validate()?;
    let ledger = Ledger::connect(&postgres).await?;
    let kakaopay = Arc::new(KakaoPay::new(&cfg.kakaopay)?);
    let worker = Worker::new(&cfg, ledger.clone(), vec![kakaopay], Arc::new(service_kit::clock::now_ms));
    metric::describe(&worker.provider_names(), cfg.kakaopay.concurrency);

    let ready: Ready = {
        let ledger = ledger.clone();
        Arc::new(move || {
            let ledger = ledger.clone();
            Box::pin(async move { ledger.ping().await.map_err(|e| e.to_string()) })
        })
    };
    let pages = return_http::router(ledger.clone());
    tokio::try_join!(
        service_kit::admin::serve(cfg.admin_listen, metrics, ready, shutdown.clone()),
        service_kit::http::serve(cfg.listen, pages, shutdown.clone(), HTTP_DRAIN_MS),
        async {
            worker.run(shutdown.clone()).await;
            anyhow::Ok(())
        },
        async {
            reconcile::run(&cfg, &ledger, &shutdown).await;
            anyhow::Ok(())
        },
    )?;
    Ok(())
}
