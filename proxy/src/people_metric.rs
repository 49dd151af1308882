//! Names of the metrics about people: rules, codes, proofs, sessions. Described with the gate's others.

use metrics::{counter, describe_counter};

/// Requests that a bypass rule let by. Label `rule`: `rule`, `crawler`.
pub const BYPASSED: &str = "floodgate_gate_bypassed_requests_total";
/// Requests of crawlers without a rule that lets them by.
pub const CRAWLERS: &str = "floodgate_gate_crawler_refusals_total";
/// Newcomers with a code. Label `result`: `word`, `signed`, `wrong`, `used`.
pub const CODES: &str = "floodgate_gate_codes_total";
/// Newcomers in rooms that ask for a proof. Label `result`: `solved`, `waited`, `early`, `wrong`, `asked`.
pub const PROOFS: &str = "floodgate_gate_proofs_total";
/// Newcomers who were put into the last lane: too many from one address.
pub const DEMOTED: &str = "floodgate_gate_demoted_joins_total";
/// People who took a new number by reloading, where the room says so.
pub const REQUEUED: &str = "floodgate_gate_requeues_total";
/// Requests with a pass, and claims with a ticket, of another browser. Label `policy`: `warn`, `refuse`.
pub const COPIED_PASSES: &str = "floodgate_gate_copied_passes_total";
/// Leases carried on by activity. Label `result`: `renewed`, `kept` (cannot be longer), `failed`.
pub const RENEWALS: &str = "floodgate_gate_lease_renewals_total";
/// Sessions that an upstream ended. Label `result`: `ended`, `failed`.
pub const SESSIONS_ENDED: &str = "floodgate_gate_sessions_ended_total";

/// Describes them and exports what is known as zero.
pub fn describe() {
    describe_counter!(BYPASSED, "Requests that a bypass rule let by");
    describe_counter!(CRAWLERS, "Requests of crawlers that no rule lets by");
    describe_counter!(CODES, "Newcomers with a code");
    describe_counter!(PROOFS, "Newcomers in rooms that ask for a proof");
    describe_counter!(DEMOTED, "Newcomers in the last lane: too many from one address");
    describe_counter!(REQUEUED, "New numbers by reloading, where the room says so");
    describe_counter!(COPIED_PASSES, "Requests with a pass, and claims with a ticket, of another browser");
    describe_counter!(RENEWALS, "Leases carried on by activity");
    describe_counter!(SESSIONS_ENDED, "Sessions that an upstream ended");
    for (name, key, values) in [
        (BYPASSED, "rule", &["rule", "crawler"][..]),
        (CODES, "result", &["word", "signed", "wrong", "used"]),
        (PROOFS, "result", &["solved", "waited", "early", "wrong", "asked"]),
        (COPIED_PASSES, "policy", &["warn", "refuse"]),
        (RENEWALS, "result", &["renewed", "kept", "failed"]),
        (SESSIONS_ENDED, "result", &["ended", "failed"]),
    ] {
        for value in values {
            counter!(name, key => *value).increment(0);
        }
    }
    for name in [CRAWLERS, DEMOTED, REQUEUED] {
        counter!(name).increment(0);
    }
}
