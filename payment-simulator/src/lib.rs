#![doc = include_str!("../README.md")]

mod accept;
mod call;
mod clock;
mod config;
mod control;
mod draw;
pub mod fault;
mod idempotency;
mod kakaopay;
pub mod metric;
mod page;
mod server;
mod store;
mod stripe;
mod text;
mod toss;
mod web;
mod webhook;

pub use config::Config;
pub use metric::HISTOGRAMS;
pub use server::{Running, start};

use metrics_exporter_prometheus::PrometheusHandle;
use service_kit::shutdown::Shutdown;

/// Plays the role until shutdown.
///
/// # Errors
/// When the configuration is refused or an address cannot be bound.
pub async fn run(cfg: Config, metrics: PrometheusHandle, shutdown: Shutdown) -> anyhow::Result<()> {
    start(cfg, metrics, shutdown).await?.finished().await
}
