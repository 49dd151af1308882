//! All metric names of the gate, their help texts, and the handles that hot paths keep.

use crate::head::METHODS;
use http::Method;
use metrics::{
    Counter, Gauge, SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use service_kit::metric::buckets;
use service_kit::telemetry::Histograms;
use std::time::Instant;

/// Finished requests. Labels `route` (pattern), `method`, `code_class`, `outcome`.
pub const REQUESTS: &str = "floodgate_gate_requests_total";
/// First byte in to last byte out, event streams excluded. Labels `route`, `outcome`.
pub const REQUEST_DURATION: &str = "floodgate_gate_request_duration_seconds";
/// The upstream's share: from sending the request to its response head. Label `route`.
pub const UPSTREAM_DURATION: &str = "floodgate_gate_upstream_duration_seconds";
/// Failed forwards. Label `reason`: `connect`, `timeout`, `reset`, `5xx`.
pub const UPSTREAM_ERRORS: &str = "floodgate_gate_upstream_errors_total";
/// Requests being worked on.
pub const INFLIGHT: &str = "floodgate_gate_inflight_requests";
/// Refused for a limit per address. Label `reason`: `join`, `claim`, `code`, `poll`.
pub const LIMITED: &str = "floodgate_gate_limited_requests_total";
/// Addresses that the limiters remember.
pub const LIMITED_ADDRESSES: &str = "floodgate_gate_limited_addresses";
/// The most they may remember.
pub const LIMITED_ADDRESSES_LIMIT: &str = "floodgate_gate_limited_addresses_limit";
/// Checks of passes. Label `result`: `valid`, `invalid`, `missing`.
pub const PASS_VERIFICATIONS: &str = "floodgate_gate_pass_verifications_total";
/// Where a decision about a protected path came from. Label `result`: `cache`, `redis`, `fail_closed`.
pub const DECISION_SOURCE: &str = "floodgate_gate_decision_source_total";
/// Clients that left before the answer was complete.
pub const CLIENT_ABORTS: &str = "floodgate_gate_client_aborts_total";
/// 1 while the process is told to stop.
pub const DRAINING: &str = "floodgate_gate_draining";
/// Rooms that this gate serves.
pub const ROOMS: &str = "floodgate_gate_rooms";
/// Rooms whose board is too old to admit anybody.
pub const STALE_ROOMS: &str = "floodgate_gate_stale_rooms";
/// Heartbeats that did not fit into the buffer; the place is kept all the same.
pub const HEARTBEATS_DROPPED: &str = "floodgate_gate_heartbeats_dropped_total";
/// Status polls. Label `result`: `hit` (fresh board), `stale`, `miss` (no board).
pub const STATUS_REQUESTS: &str = "floodgate_gate_status_requests_total";
/// Open event streams of waiting visitors.
pub const STREAMS: &str = "floodgate_gate_streams";
/// The most there may be.
pub const STREAMS_LIMIT: &str = "floodgate_gate_streams_limit";
/// Event streams refused. Label `reason`: `address`, `gate`.
pub const STREAMS_REFUSED: &str = "floodgate_gate_streams_refused_total";
/// Events sent on event streams.
pub const STREAM_EVENTS: &str = "floodgate_gate_stream_events_total";
/// Holds that the gate looked at the stock for. Label `result`: `sold_out` (answered here), `forwarded`.
pub const LOOKS: &str = "floodgate_gate_stock_looks_total";
/// Letters "your turn is near". Label `result`: `sent`, `refused`, `retry`, `unknown`.
pub const LETTERS: &str = "floodgate_gate_letters_total";

/// Lines written into the visitors' journal.
pub const JOURNAL_LINES: &str = "floodgate_gate_journal_lines_total";
/// Events that the journal could not keep; a `gap` entry in it says the same.
pub const JOURNAL_DROPPED: &str = "floodgate_gate_journal_dropped_events_total";

const OWN: Histograms = &[(REQUEST_DURATION, buckets::REQUEST), (UPSTREAM_DURATION, buckets::REQUEST)];
const ALL_LEN: usize = OWN.len() + queue::metric::HISTOGRAMS.len();
static ALL: [(&str, &[f64]); ALL_LEN] = joined();

/// Histograms of the gate and of the queue rules that run inside it.
pub const HISTOGRAMS: Histograms = &ALL;

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler: a wrong index does not build")]
const fn joined() -> [(&'static str, &'static [f64]); ALL_LEN] {
    let mut all: [(&str, &[f64]); ALL_LEN] = [("", &[]); ALL_LEN];
    let mut i = 0;
    while i < ALL_LEN {
        all[i] = if i < OWN.len() { OWN[i] } else { queue::metric::HISTOGRAMS[i - OWN.len()] };
        i += 1;
    }
    all
}

/// Describes every metric and exports what is known as zero.
pub fn describe() {
    queue::metric::describe();
    crate::people_metric::describe();
    describe_counter!(REQUESTS, "Finished requests");
    describe_histogram!(REQUEST_DURATION, Unit::Seconds, "First byte in to last byte out, event streams excluded");
    describe_histogram!(UPSTREAM_DURATION, Unit::Seconds, "From sending the request to the upstream's response head");
    describe_counter!(UPSTREAM_ERRORS, "Failed forwards");
    describe_gauge!(INFLIGHT, "Requests being worked on");
    describe_counter!(LIMITED, "Requests refused for a limit per address");
    describe_gauge!(LIMITED_ADDRESSES, "Addresses that the limiters remember");
    describe_gauge!(LIMITED_ADDRESSES_LIMIT, "Most addresses that the limiters may remember one by one");
    describe_counter!(PASS_VERIFICATIONS, "Checks of passes");
    describe_counter!(DECISION_SOURCE, "Where decisions about protected paths came from");
    describe_counter!(CLIENT_ABORTS, "Clients that left before the answer was complete");
    describe_gauge!(DRAINING, "1 while the process is told to stop");
    describe_gauge!(ROOMS, "Rooms that this gate serves");
    describe_gauge!(STALE_ROOMS, "Rooms whose board is too old to admit anybody");
    describe_counter!(HEARTBEATS_DROPPED, "Heartbeats that did not fit into the buffer");
    describe_counter!(STATUS_REQUESTS, "Status polls");
    describe_gauge!(STREAMS, "Open event streams of waiting visitors");
    describe_gauge!(STREAMS_LIMIT, "Most event streams of this gate");
    describe_counter!(STREAMS_REFUSED, "Event streams refused for a limit");
    describe_counter!(STREAM_EVENTS, "Events sent on event streams");
    describe_counter!(LOOKS, "Holds that the gate looked at the stock for");
    describe_counter!(LETTERS, "Letters to people whose turn is near");
    for name in [INFLIGHT, DRAINING, ROOMS, STALE_ROOMS, LIMITED_ADDRESSES] {
        gauge!(name).set(0.0);
    }
    describe_counter!(JOURNAL_LINES, "Lines written into the visitors' journal");
    describe_counter!(JOURNAL_DROPPED, "Events that the visitors' journal could not keep");
    counter!(JOURNAL_LINES).increment(0);
    counter!(JOURNAL_DROPPED).increment(0);
    counter!(CLIENT_ABORTS).increment(0);
    for reason in ["connect", "timeout", "reset", "5xx"] {
        counter!(UPSTREAM_ERRORS, "reason" => reason).increment(0);
    }
}

/// Handles of what is counted on every request or poll: no lookup by name there.
#[derive(Clone)]
pub struct Hot {
    /// [`INFLIGHT`].
    pub inflight: Gauge,
    /// [`PASS_VERIFICATIONS`] `valid`.
    pub pass_valid: Counter,
    /// [`PASS_VERIFICATIONS`] `invalid`.
    pub pass_invalid: Counter,
    /// [`PASS_VERIFICATIONS`] `missing`.
    pub pass_missing: Counter,
    /// [`DECISION_SOURCE`] `cache`.
    pub by_cache: Counter,
    /// [`DECISION_SOURCE`] `redis`.
    pub by_redis: Counter,
    /// [`DECISION_SOURCE`] `fail_closed`.
    pub fail_closed: Counter,
    /// [`STATUS_REQUESTS`] `hit`.
    pub status_hit: Counter,
    /// [`STATUS_REQUESTS`] `stale`.
    pub status_stale: Counter,
    /// [`STATUS_REQUESTS`] `miss`.
    pub status_miss: Counter,
    /// [`LIMITED`] `join`.
    pub limited_join: Counter,
    /// [`LIMITED`] `claim`.
    pub limited_claim: Counter,
    /// [`LIMITED`] `code`.
    pub limited_code: Counter,
    /// [`LIMITED`] `poll`.
    pub limited_poll: Counter,
    /// [`REQUESTS`] of answered status polls.
    pub polls_ok: Counter,
    /// [`HEARTBEATS_DROPPED`].
    pub heartbeats_dropped: Counter,
}

impl std::fmt::Debug for Hot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hot")
    }
}

impl Hot {
    /// Registers the handles; each series is exported from now on.
    pub fn new() -> Self {
        let zero = |counter: Counter| {
            counter.increment(0);
            counter
        };
        let labelled = |name, key: &'static str, value: &'static str| zero(counter!(name, key => value));
        Self {
            inflight: gauge!(INFLIGHT),
            pass_valid: labelled(PASS_VERIFICATIONS, "result", "valid"),
            pass_invalid: labelled(PASS_VERIFICATIONS, "result", "invalid"),
            pass_missing: labelled(PASS_VERIFICATIONS, "result", "missing"),
            by_cache: labelled(DECISION_SOURCE, "result", "cache"),
            by_redis: labelled(DECISION_SOURCE, "result", "redis"),
            fail_closed: labelled(DECISION_SOURCE, "result", "fail_closed"),
            status_hit: labelled(STATUS_REQUESTS, "result", "hit"),
            status_stale: labelled(STATUS_REQUESTS, "result", "stale"),
            status_miss: labelled(STATUS_REQUESTS, "result", "miss"),
            limited_join: labelled(LIMITED, "reason", "join"),
            limited_claim: labelled(LIMITED, "reason", "claim"),
            limited_code: labelled(LIMITED, "reason", "code"),
            limited_poll: labelled(LIMITED, "reason", "poll"),
            polls_ok: zero(
                counter!(REQUESTS, "route" => "status", "method" => "GET", "code_class" => "2xx", "outcome" => "queued"),
            ),
            heartbeats_dropped: zero(counter!(HEARTBEATS_DROPPED)),
        }
    }
}

/// Counts holds whose answer is known: true is "sold out".
pub fn looked(answers: &[bool]) {
    let lost = answers.iter().filter(|loses| **loses).count();
    counter!(LOOKS, "result" => "sold_out").increment(lost as u64);
    counter!(LOOKS, "result" => "forwarded").increment((answers.len() - lost) as u64);
}

/// Counts a finished request. `outcome` where the status does not tell; `started` is `None` where the time tells nothing.
pub fn finished(
    hot: &Hot,
    route: SharedString,
    method: &Method,
    status: u16,
    outcome: Option<&'static str>,
    started: Option<Instant>,
) {
    if &*route == "status" && status == 200 {
        return hot.polls_ok.increment(1);
    }
    let method = METHODS.split(", ").find(|m| *m == method.as_str()).unwrap_or("other");
    let code_class = match status {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500..600 => "5xx",
        _ => "none",
    };
    let outcome = outcome.unwrap_or(match status {
        0 => "client_error",
        429 => "limited",
        401 | 403 => "denied",
        500.. => "error",
        400..500 => "client_error",
        _ => "ok",
    });
    counter!(REQUESTS, "route" => route.clone(), "method" => method, "code_class" => code_class, "outcome" => outcome)
        .increment(1);
    if let Some(started) = started {
        histogram!(REQUEST_DURATION, "route" => route, "outcome" => outcome).record(started.elapsed().as_secs_f64());
    }
}

impl Default for Hot {
    fn default() -> Self {
        Self::new()
    }
}
