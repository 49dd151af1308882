//! The process: connect, start the workers, serve, drain.

use crate::api;
use crate::app::App;
use crate::config::Config;
use crate::{metric, workers};
use ledger::{Ledger, PgConfig};
use metrics_exporter_prometheus::PrometheusHandle;
use service_kit::admin::{self, Ready};
use service_kit::keys::{KeyRing, KeysConfig};
use service_kit::redis::{Redis, RedisConfig};
use service_kit::shutdown::Shutdown;
use std::sync::Arc;

/// Runs the deal service until shutdown. The schema must be there already: the launcher migrates.
///
/// # Errors
/// When the settings are wrong, Redis does not answer at the start, or a port is taken.
pub async fn run(
    config: Config,
    keys: KeysConfig,
    redis: RedisConfig,
    postgres: PgConfig,
    metrics: PrometheusHandle,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    config.validate()?;
    if service_kit::planted!("restart-is-slow") {
        tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    }
    let ring = KeyRing::new(&keys)?;
    metric::describe();
    let redis = Redis::connect(&redis).await?;
    let ledger = Ledger::connect(&postgres).await?;
    let (listen, admin_listen, drain_ms) = (config.listen, config.admin_listen, config.drain_ms);
    let (app, feeds) = App::new(config, ring, redis, ledger, shutdown.clone());
    let mut running = workers::start(&app, feeds, &shutdown);

    let ready_app = app.clone();
    let ready: Ready = Arc::new(move || {
        let app = ready_app.clone();
        Box::pin(async move { app.ready().await })
    });
    let admin = admin::serve(admin_listen, metrics, ready, shutdown.clone());
    let admin_failed = async {
        let ended = admin.await;
        // At shutdown the admin port closes at once; that must not cut the drain of the public port short.
        if ended.is_ok() && shutdown.is_requested() {
            std::future::pending::<()>().await;
        }
        ended.and(Err(anyhow::anyhow!("the admin port closed")))
    };
    let served = tokio::select! {
        served = service_kit::http::serve(listen, api::service(&app), shutdown.clone(), drain_ms) => served,
        failed = admin_failed => failed,
    };
    running.shutdown().await;
    served
}
