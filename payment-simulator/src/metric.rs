//! Names of all metrics of this role.

use crate::fault::{Endpoint, Fault};
use axum::http::StatusCode;
use metrics::Counter;
use service_kit::telemetry::Histograms;

/// API requests. Labels `provider`, `endpoint`, `outcome` (ok, refused, error).
pub const REQUESTS: &str = "floodgate_simulator_requests_total";
/// Faults that were carried out. Labels `provider`, `endpoint`, `fault`.
pub const FAULTS: &str = "floodgate_simulator_faults_total";
/// Webhooks that were tried. Labels `provider`, `outcome` (delivered, failed).
pub const WEBHOOKS: &str = "floodgate_simulator_webhooks_total";
/// Payments in memory.
pub const PAYMENTS: &str = "floodgate_simulator_payments";
/// The most payments that are kept.
pub const PAYMENTS_LIMIT: &str = "floodgate_simulator_payments_limit";

/// This role has no histograms.
pub const HISTOGRAMS: Histograms = &[];

/// Describes every metric and shows the ones without history as zero.
pub fn describe(payments_max: usize) {
    metrics::describe_counter!(REQUESTS, "Requests to the simulated provider");
    metrics::describe_counter!(FAULTS, "Faults carried out on demand");
    metrics::describe_counter!(WEBHOOKS, "Webhooks that were tried");
    metrics::describe_gauge!(PAYMENTS, "Payments kept in memory");
    metrics::describe_gauge!(PAYMENTS_LIMIT, "The most payments that are kept");
    for endpoint in Endpoint::all() {
        for outcome in ["ok", "refused", "error"] {
            requests(endpoint, outcome).increment(0);
        }
    }
    metrics::gauge!(PAYMENTS).set(0.0);
    metrics::gauge!(PAYMENTS_LIMIT).set(f64::from(u32::try_from(payments_max).unwrap_or(u32::MAX)));
}

/// Counts an answered request.
pub fn count(endpoint: Endpoint, status: StatusCode) {
    let outcome = match status.as_u16() {
        200..=299 => "ok",
        400..=499 => "refused",
        _ => "error",
    };
    requests(endpoint, outcome).increment(1);
}

/// Counts a fault that was carried out.
pub fn count_fault(endpoint: Endpoint, fault: Fault) {
    let (provider, endpoint, fault) = (endpoint.provider().name(), endpoint.name(), fault.name());
    metrics::counter!(FAULTS, "provider" => provider, "endpoint" => endpoint, "fault" => fault).increment(1);
}

fn requests(endpoint: Endpoint, outcome: &'static str) -> Counter {
    let (provider, endpoint) = (endpoint.provider().name(), endpoint.name());
    metrics::counter!(REQUESTS, "provider" => provider, "endpoint" => endpoint, "outcome" => outcome)
}
