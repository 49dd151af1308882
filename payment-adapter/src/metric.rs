//! Names of all metrics of this role.

use crate::breaker::Circuit;
use crate::providers::Account;
use ledger::{DiscrepancyClass, PaymentState};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use service_kit::metric::buckets;
use service_kit::telemetry::Histograms;

/// Jobs of the worker. Labels `provider`, `kind`, `outcome` (ok, declined, retried, failed, duplicate).
pub const COMMANDS: &str = "floodgate_payment_commands_total";
/// From taking a job to its end, in seconds. Labels `provider`, `kind`.
pub const COMMAND_DURATION: &str = "floodgate_payment_command_duration_seconds";
/// Calls to providers. Labels `provider`, `kind`, `outcome` (ok, declined, timeout, error, limited).
pub const PROVIDER_REQUESTS: &str = "floodgate_payment_provider_requests_total";
/// Time of a call, in seconds. Label `provider`.
pub const PROVIDER_DURATION: &str = "floodgate_payment_provider_duration_seconds";
/// Jobs that run now.
pub const INFLIGHT: &str = "floodgate_payment_inflight_commands";
/// The most jobs that may run at once.
pub const INFLIGHT_LIMIT: &str = "floodgate_payment_inflight_commands_limit";
/// 1 for the state the circuit is in. Labels `provider`, `state`.
pub const CIRCUIT: &str = "floodgate_payment_circuit_state";
/// When the oldest unsettled payment of a deal last moved, as a Unix time; now when there is none. Label `deal`.
pub const OLDEST_PENDING: &str = "floodgate_payment_oldest_pending_timestamp_seconds";
/// Unsettled payments. Label `state`.
pub const PENDING: &str = "floodgate_payment_pending_payments";
/// Payments without a known outcome for longer than the bound. Label `state`.
pub const STUCK: &str = "floodgate_payment_stuck_payments";
/// Jobs taken from the ledger. Label `reason`: `due`, or `crash` when another worker's lease ran out after a call began.
pub const CLAIMS: &str = "floodgate_payment_claims_total";
/// Answers that settled nothing. Labels `provider`, `reason`.
pub const RETRIES: &str = "floodgate_payment_retries_total";
/// Answers that do not fit our figures: an operator must look. Labels `provider`, `field`.
pub const MISMATCHES: &str = "floodgate_payment_mismatches_total";
/// Money captured, in minor units. Label `currency`.
pub const CAPTURED: &str = "floodgate_payment_captured_minor_units_total";
/// Shoppers who came back. Label `result` (approve, cancel, fail, refused, unavailable).
pub const RETURNS: &str = "floodgate_payment_returns_total";
/// Providers' notices. Labels `provider`, `result` (asked, repeated, unknown, forged, garbage, flood, unavailable,
/// unserved).
pub const WEBHOOKS: &str = "floodgate_payment_webhooks_total";
/// When the reconciliation last ran to its end, as a Unix time.
pub const RECONCILED: &str = "floodgate_payment_reconciliation_last_run_timestamp_seconds";

/// Differences between our books and a provider's that were found. Labels `provider`, `class`.
pub const DISCREPANCIES_FOUND: &str = "floodgate_payment_discrepancies_found_total";
/// Differences that nobody has settled yet. Label `class`.
pub const DISCREPANCIES: &str = "floodgate_payment_open_discrepancies";
/// What waits for an operator. Label `kind`: order (quarantined), payment, refund (set aside).
pub const WAITING_FOR_OPERATOR: &str = "floodgate_payment_waiting_for_operator";

/// The kinds of jobs and calls.
pub const KINDS: [&str; 5] = ["prepare", "confirm", "query", "refund", "query_refund"];
/// The figures that are compared.
pub const FIELDS: [&str; 12] = [
    "tid",
    "partner_order_id",
    "reference",
    "order",
    "payment",
    "amount",
    "canceled_amount",
    "currency",
    "refunded",
    "status",
    "capture_method",
    "ledger",
];

/// What can come of a provider's notice.
pub const NOTICE_RESULTS: [&str; 7] = ["asked", "repeated", "unknown", "forged", "garbage", "flood", "unavailable"];

/// Histograms with their bounds.
pub const HISTOGRAMS: Histograms = &[(COMMAND_DURATION, buckets::PROVIDER), (PROVIDER_DURATION, buckets::PROVIDER)];

/// The states in which a payment is not settled.
pub const UNSETTLED: [PaymentState; 6] = [
    PaymentState::Requested,
    PaymentState::Ready,
    PaymentState::Authorized,
    PaymentState::Confirming,
    PaymentState::Unknown,
    PaymentState::Waiting,
];

/// Describes every metric and shows the ones without history as zero.
pub fn describe(accounts: &[Account]) {
    describe_counter!(COMMANDS, "Jobs of the payment worker");
    describe_histogram!(COMMAND_DURATION, Unit::Seconds, "From taking a job to its end");
    describe_counter!(PROVIDER_REQUESTS, "Calls to payment providers");
    describe_histogram!(PROVIDER_DURATION, Unit::Seconds, "Time of a call to a provider");
    describe_gauge!(INFLIGHT, "Jobs that run now");
    describe_gauge!(INFLIGHT_LIMIT, "The most jobs that may run at once");
    describe_gauge!(CIRCUIT, "1 for the state the provider's circuit is in");
    describe_gauge!(
        OLDEST_PENDING,
        Unit::Seconds,
        "When the oldest unsettled payment last moved; now when there is none"
    );
    describe_gauge!(PENDING, "Unsettled payments by state");
    describe_gauge!(STUCK, "Payments without a known outcome for longer than the bound");
    describe_counter!(CLAIMS, "Jobs taken from the ledger");
    describe_counter!(RETRIES, "Answers that settled nothing");
    describe_counter!(MISMATCHES, "Answers that do not fit our figures; an operator must look");
    describe_counter!(CAPTURED, "Money captured, in minor units");
    describe_counter!(RETURNS, "Shoppers who came back from the provider");
    describe_counter!(DISCREPANCIES_FOUND, "Differences between our books and a provider's that were found");
    describe_gauge!(DISCREPANCIES, "Differences between our books and a provider's that are open");
    describe_gauge!(WAITING_FOR_OPERATOR, "Orders, payments and refunds that wait for an operator");
    describe_counter!(WEBHOOKS, "Notices of payment providers, by what came of them");
    describe_gauge!(RECONCILED, Unit::Seconds, "When the reconciliation last ran to its end");
    for provider in accounts.iter().map(|account| account.provider.name()) {
        for kind in KINDS {
            for outcome in ["ok", "declined", "timeout", "error", "limited"] {
                counter!(PROVIDER_REQUESTS, "provider" => provider, "kind" => kind, "outcome" => outcome).increment(0);
            }
        }
        for field in FIELDS {
            counter!(MISMATCHES, "provider" => provider, "field" => field).increment(0);
        }
        for class in DiscrepancyClass::ALL {
            counter!(DISCREPANCIES_FOUND, "provider" => provider, "class" => class.as_str()).increment(0);
        }
        for result in NOTICE_RESULTS {
            counter!(WEBHOOKS, "provider" => provider, "result" => result).increment(0);
        }
        circuit(provider, Circuit::default());
    }
    for reason in ["due", "crash"] {
        counter!(CLAIMS, "reason" => reason).increment(0);
    }
    for result in ["approve", "cancel", "fail", "refused", "unavailable"] {
        counter!(RETURNS, "result" => result).increment(0);
    }
    for state in UNSETTLED {
        gauge!(PENDING, "state" => state.as_str()).set(0.0);
    }
    gauge!(INFLIGHT).set(0.0);
    let limit: usize = accounts.iter().map(|account| account.provider.concurrency()).sum();
    gauge!(INFLIGHT_LIMIT).set(f64::from(u32::try_from(limit).unwrap_or(u32::MAX)));
}

/// Shows where a provider's circuit stands.
pub fn circuit(provider: &'static str, now: Circuit) {
    for state in Circuit::NAMES {
        gauge!(CIRCUIT, "provider" => provider, "state" => state).set(if state == now.name() { 1.0 } else { 0.0 });
    }
}
