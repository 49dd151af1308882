//! The roles under test, each in a process of its own: this program, started again.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use service_kit::keys::KeysConfig;
use service_kit::redis::RedisConfig;
use service_kit::{shutdown, telemetry};

/// First argument of a child; the second is a [`Role`] as JSON.
pub const HIDDEN: &str = "--child";

/// What a child is, with the sections of its configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names of the roles")]
pub enum Role {
    Gate { gate: serde_json::Value, ring: Vec<String>, redis: String },
    Shop { service: serde_json::Value, ring: Vec<String>, redis: String, postgres: String },
    Payments { adapter: serde_json::Value, postgres: String },
    Simulator { simulator: serde_json::Value },
}

impl Role {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Gate { .. } => "gate",
            Self::Shop { .. } => "deal service",
            Self::Payments { .. } => "adapter",
            Self::Simulator { .. } => "simulator",
        }
    }
}

/// Runs a child until its parent ends it.
pub fn run(role: Option<String>) -> anyhow::Result<()> {
    let role: Role = serde_json::from_str(&role.context("a child needs its role")?)?;
    let redis =
        |url: String| -> anyhow::Result<RedisConfig> { Ok(serde_json::from_value(serde_json::json!({ "url": url }))?) };
    let postgres = |url: String| -> anyhow::Result<ledger::PgConfig> {
        Ok(serde_json::from_value(serde_json::json!({ "url": url }))?)
    };
    match role {
        Role::Gate { gate, ring, redis: url } => {
            let metrics = telemetry::init_metrics("proxy", proxy::HISTOGRAMS)?;
            proxy::run(
                serde_json::from_value(gate).context("the gate's settings")?,
                KeysConfig { ring },
                redis(url)?,
                metrics,
            )
        }
        Role::Shop { service, ring, redis: url, postgres: pg } => {
            let metrics = telemetry::init_metrics("deal-service", deal_service::HISTOGRAMS)?;
            let service = serde_json::from_value(service).context("the deal service's settings")?;
            let (keys, redis, pg) = (KeysConfig { ring }, redis(url)?, postgres(pg)?);
            serve(|stop| deal_service::run(service, keys, redis, pg, metrics, stop))
        }
        Role::Payments { adapter, postgres: pg } => {
            let metrics = telemetry::init_metrics("payment-adapter", payment_adapter::HISTOGRAMS)?;
            let (adapter, pg) = (serde_json::from_value(adapter).context("the adapter's settings")?, postgres(pg)?);
            serve(|stop| payment_adapter::run(adapter, pg, metrics, stop))
        }
        Role::Simulator { simulator } => {
            let metrics = telemetry::init_metrics("payment-simulator", payment_simulator::HISTOGRAMS)?;
            let simulator = serde_json::from_value(simulator).context("the simulator's settings")?;
            serve(|stop| payment_simulator::run(simulator, metrics, stop))
        }
    }
}

/// As `floodgate` runs a role.
fn serve<F, Fut>(role: F) -> anyhow::Result<()>
where
    F: FnOnce(shutdown::Shutdown) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { Box::pin(role(shutdown::on_signal())).await })
}
