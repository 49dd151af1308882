//! Names of all metrics of this role.

use service_kit::telemetry::Histograms;

/// API requests. Labels `endpoint`, `outcome` (ok, refused, error).
pub const REQUESTS: &str = "floodgate_simulator_requests_total";
/// Faults that were carried out. Labels `endpoint`, `fault`.
pub const FAULTS: &str = "floodgate_simulator_faults_total";
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
    metrics::describe_gauge!(PAYMENTS, "Payments kept in memory");
    metrics::describe_gauge!(PAYMENTS_LIMIT, "The most payments that are kept");
    for endpoint in crate::fault::Endpoint::ALL {
        for outcome in ["ok", "refused", "error"] {
            metrics::counter!(REQUESTS, "endpoint" => endpoint.name(), "outcome" => outcome).increment(0);
        }
    }
    metrics::gauge!(PAYMENTS).set(0.0);
    metrics::gauge!(PAYMENTS_LIMIT).set(f64::from(u32::try_from(payments_max).unwrap_or(u32::MAX)));
}
