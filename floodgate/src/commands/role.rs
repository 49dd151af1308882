//! Runs one role: configuration first (no port bound yet), then logs and metrics, then the role.
//!
//! With `--check` everything up to that point happens, and nothing is bound or connected.

use crate::cli::RoleArgs;
use crate::output;
use crate::settings::{Settings, section};
use metrics_exporter_prometheus::PrometheusHandle;
use service_kit::config::ConfigError;
use service_kit::keys::{KeyRing, KeysConfig};
use service_kit::shutdown;
use service_kit::telemetry::{self, Histograms};
use std::future::Future;
use std::process::ExitCode;

/// The gate. Not async: it owns its runtimes.
///
/// # Errors
/// When the configuration is wrong or the role cannot start.
pub fn proxy(args: &RoleArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(&args.config)?;
    let keys = ring(settings.keys)?;
    let redis = section(settings.redis, "redis")?;
    let mut gate = section(settings.gate, "gate")?;
    gate.operators.extend(settings.operators);
    gate.validate()?;
    if args.check {
        return checked("proxy", &[("[gate]", format!("{gate:?}")), ("[redis]", redis.url)]);
    }
    let metrics = telemetry("proxy", proxy::HISTOGRAMS)?;
    proxy::run(gate, keys, redis, metrics)?;
    Ok(ExitCode::SUCCESS)
}

/// The deal service.
///
/// # Errors
/// When the configuration is wrong or the role cannot start.
pub fn deal_service(args: &RoleArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(&args.config)?;
    let keys = ring(settings.keys)?;
    let redis = section(settings.redis, "redis")?;
    let postgres = section(settings.postgres, "postgres")?;
    let service = section(settings.deal_service, "deal_service")?;
    service.validate()?;
    if args.check {
        return checked("deal-service", &[("[deal_service]", format!("{service:?}")), ("[redis]", redis.url)]);
    }
    let metrics = telemetry("deal-service", deal_service::HISTOGRAMS)?;
    serve(|shutdown| deal_service::run(service, keys, redis, postgres, metrics, shutdown))
}

/// The payment worker.
///
/// # Errors
/// When the configuration is wrong or the role cannot start.
pub fn payment_adapter(args: &RoleArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(&args.config)?;
    let postgres = section(settings.postgres, "postgres")?;
    let adapter = section(settings.payment_adapter, "payment_adapter")?;
    adapter.validate()?;
    if args.check {
        return checked("payment-adapter", &[("[payment_adapter]", format!("{adapter:?}"))]);
    }
    let metrics = telemetry("payment-adapter", payment_adapter::HISTOGRAMS)?;
    serve(|shutdown| payment_adapter::run(adapter, postgres, metrics, shutdown))
}

/// The simulated provider.
///
/// # Errors
/// When the configuration is wrong or the role cannot start.
pub fn payment_simulator(args: &RoleArgs) -> anyhow::Result<ExitCode> {
    let simulator = section(Settings::load(&args.config)?.payment_simulator, "payment_simulator")?;
    simulator.validate()?;
    if args.check {
        return checked("payment-simulator", &[("[payment_simulator]", format!("{simulator:?}"))]);
    }
    let metrics = telemetry("payment-simulator", payment_simulator::HISTOGRAMS)?;
    serve(|shutdown| payment_simulator::run(simulator, metrics, shutdown))
}

fn ring(keys: Option<KeysConfig>) -> Result<KeysConfig, ConfigError> {
    let keys = section(keys, "keys")?;
    KeyRing::new(&keys)?;
    Ok(keys)
}

fn telemetry(role: &'static str, histograms: Histograms) -> anyhow::Result<PrometheusHandle> {
    telemetry::init_logs();
    tracing::info!(role, version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "starting");
    telemetry::init_metrics(role, histograms)
}

/// Runs an async role until SIGINT or SIGTERM.
fn serve<F, Fut>(role: F) -> anyhow::Result<ExitCode>
where
    F: FnOnce(shutdown::Shutdown) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { Box::pin(role(shutdown::on_signal())).await })?;
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(ExitCode::SUCCESS)
}

fn checked(role: &str, facts: &[(&str, String)]) -> anyhow::Result<ExitCode> {
    output::data(&format!("the configuration is usable; `floodgate {role}` would run with"));
    for (name, value) in facts {
        output::data(&format!("  {name} {value}"));
    }
    Ok(ExitCode::SUCCESS)
}
