//! Names of the waiting room's metrics, and the only code that sets them. Label `deal` is the room's name.

use crate::admission::LimitReason;
use crate::board::Board;
use crate::reply::Called;
use crate::ticket::Ticket;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use service_kit::ids::RoomId;
use service_kit::metric::buckets;
use service_kit::telemetry::Histograms;
use std::time::Duration;

/// Joins. Labels `deal`, `result` (new, existing, rejected_closed).
pub const JOINED: &str = "floodgate_queue_joined_total";
/// People in line. Label `deal`.
pub const WAITING: &str = "floodgate_queue_waiting_sessions";
/// People who were silent when called or let a call pass, not back yet. Label `deal`.
pub const SILENT: &str = "floodgate_queue_silent_sessions";
/// People called, inside or buying. Label `deal`.
pub const ACTIVE: &str = "floodgate_queue_active_sessions";
/// The room's limit of the above. Label `deal`.
pub const ACTIVE_LIMIT: &str = "floodgate_queue_active_sessions_limit";
/// People called, those let in directly included; by the gate whose tick called them. Label `deal`.
pub const ADMITTED: &str = "floodgate_queue_admitted_total";
/// People passed over in silence. Label `deal`.
pub const SKIPPED: &str = "floodgate_queue_skipped_total";
/// Calls that nobody claimed in time. Label `deal`.
pub const CLAIMS_MISSED: &str = "floodgate_queue_claims_missed_total";
/// The rate aimed at. Label `deal`.
pub const TARGET: &str = "floodgate_queue_admission_target_sessions_per_second";
/// 1 while the operator stopped the calls. Label `deal`.
pub const PAUSED: &str = "floodgate_queue_admission_paused";
/// 1 for the reason why not more are called, else 0. Labels `deal`, `reason`.
pub const LIMIT_REASON: &str = "floodgate_queue_admission_limit_reason";
/// One tick, in seconds.
pub const TICK_DURATION: &str = "floodgate_queue_admission_tick_duration_seconds";
/// The store's clock at the last tick that took effect, in seconds since 1970. Label `deal`.
pub const LAST_TICK: &str = "floodgate_queue_admission_last_tick_timestamp_seconds";
/// From the join to the call, in seconds. Label `deal`.
pub const WAIT: &str = "floodgate_queue_wait_duration_seconds";
/// |promised − actual| ÷ actual wait. Label `deal`.
pub const ETA_ERROR: &str = "floodgate_queue_eta_error_ratio";
/// Waits against the range that was promised at the join. Labels `deal`, `result` (kept, early, late).
pub const PROMISES: &str = "floodgate_queue_promises_total";
/// People called behind somebody who came later: must stay 0. Label `deal`.
pub const INVERSIONS: &str = "floodgate_queue_order_inversions_total";
/// Times that the store was doubted and the room put on hold. Labels `deal`, `reason` (memory, process, clock).
pub const STORE_DOUBTS: &str = "floodgate_queue_store_doubts_total";
/// The rate's share in use while the upstream is slow, 0 to 1. Label `deal`.
pub const THROTTLE: &str = "floodgate_queue_admission_throttle_ratio";
/// People who left the line. Labels `deal`, `reason` (admitted, abandoned, expired).
pub const LEFT: &str = "floodgate_queue_left_total";
/// Highest place called. Label `deal`.
pub const FRONTIER: &str = "floodgate_queue_serving_watermark";
/// Operators' commands that took effect, by the gate that took them. Label `action`.
pub const OPERATOR_ACTIONS: &str = "floodgate_queue_operator_actions_total";

/// Histograms of the waiting room with their bounds.
pub const HISTOGRAMS: Histograms =
    &[(TICK_DURATION, buckets::REDIS), (WAIT, buckets::WAIT), (ETA_ERROR, buckets::ETA_ERROR)];

/// Describes every metric. Call it once after the recorder is installed.
pub fn describe() {
    use metrics::Unit;
    describe_counter!(JOINED, "Joins by result");
    describe_gauge!(WAITING, "People in line");
    describe_gauge!(SILENT, "People silent at their turn, not back yet");
    describe_gauge!(ACTIVE, "People called, inside or buying");
    describe_gauge!(ACTIVE_LIMIT, "Most people called, inside or buying at once");
    describe_counter!(ADMITTED, "People called, direct entries included");
    describe_counter!(SKIPPED, "People passed over in silence");
    describe_counter!(CLAIMS_MISSED, "Calls that nobody claimed in time");
    describe_gauge!(TARGET, "Calls per second aimed at");
    describe_gauge!(PAUSED, "1 while the operator stopped the calls");
    describe_gauge!(LIMIT_REASON, "1 for the reason why not more people are called");
    describe_histogram!(TICK_DURATION, Unit::Seconds, "One tick: snapshot, decision, calls");
    describe_gauge!(LAST_TICK, Unit::Seconds, "Store clock at the last tick that took effect");
    describe_histogram!(WAIT, Unit::Seconds, "From the join to the call");
    describe_histogram!(ETA_ERROR, "Error of the promised wait as a share of the actual one");
    describe_counter!(PROMISES, "Waits against the promised range: kept, early or late");
    describe_counter!(INVERSIONS, "People called behind somebody who came later; must stay 0");
    describe_counter!(STORE_DOUBTS, "Times that the store was doubted and the room put on hold");
    describe_gauge!(THROTTLE, "Share of the rate in use while the upstream is slow");
    describe_counter!(LEFT, "People who left the line, by reason");
    describe_gauge!(FRONTIER, "Highest place called");
    describe_counter!(OPERATOR_ACTIONS, "Operators' commands that took effect");
}

/// Counts operators' commands that took effect; 0 exports the series.
pub fn operator_actions(action: &'static str, commands: u64) {
    counter!(OPERATOR_ACTIONS, "action" => action).increment(commands);
}

/// Sets the gauges of a room, and starts its counters at zero so that the first event is seen as an increase.
pub fn record_board(board: &Board) {
    let deal = || board.settings.room.to_string();
    gauge!(WAITING, "deal" => deal()).set(number(board.crowd()));
    gauge!(SILENT, "deal" => deal()).set(number(board.silent));
    gauge!(ACTIVE, "deal" => deal()).set(number(board.called + board.inside + board.buying));
    gauge!(ACTIVE_LIMIT, "deal" => deal()).set(f64::from(board.settings.inside_max));
    gauge!(TARGET, "deal" => deal()).set(f64::from(board.settings.rate_per_s));
    gauge!(PAUSED, "deal" => deal()).set(f64::from(u8::from(board.settings.paused)));
    gauge!(THROTTLE, "deal" => deal()).set(f64::from(board.throttle.milli) / 1_000.0);
    gauge!(FRONTIER, "deal" => deal()).set(number(board.frontier));
    gauge!(LAST_TICK, "deal" => deal()).set(number(u64::try_from(board.last_tick_ms).unwrap_or(0)) / 1_000.0);
    for reason in LimitReason::ALL {
        gauge!(LIMIT_REASON, "deal" => deal(), "reason" => reason.label())
            .set(f64::from(u8::from(reason == board.reason)));
    }
    for name in [ADMITTED, SKIPPED, CLAIMS_MISSED, INVERSIONS] {
        counter!(name, "deal" => deal()).increment(0);
    }
    for result in ["new", "existing", "rejected_closed"] {
        counter!(JOINED, "deal" => deal(), "result" => result).increment(0);
    }
    for reason in ["memory", "process", "clock"] {
        counter!(STORE_DOUBTS, "deal" => deal(), "reason" => reason).increment(0);
    }
    for result in ["kept", "early", "late"] {
        counter!(PROMISES, "deal" => deal(), "result" => result).increment(0);
    }
    for reason in ["admitted", "abandoned", "expired"] {
        counter!(LEFT, "deal" => deal(), "reason" => reason).increment(0);
    }
}

/// Records how long a ticket really waited, against what it was promised. Call it once, when the visitor claims
/// for the first time, with the board that showed the call.
pub fn record_turn(board: &Board, ticket: &Ticket) {
    let Some(called_ms) = board.called_at(ticket.number) else { return };
    let Ok(waited_ms) = u64::try_from(called_ms.saturating_sub(ticket.joined_ms)) else { return };
    histogram!(WAIT, "deal" => board.settings.room.to_string()).record(number(waited_ms) / 1_000.0);
    record_promise(
        &board.settings.room,
        ticket.promise_low_ms,
        ticket.promise_high_ms,
        i64::try_from(waited_ms).unwrap_or(i64::MAX),
    );
    if let Some(error) = eta_error(ticket.promise_high_ms, waited_ms) {
        histogram!(ETA_ERROR, "deal" => board.settings.room.to_string()).record(error);
    }
}

/// Counts whether a real wait was inside the promised range. `high_ms` = 0: nothing was promised, nothing is counted.
pub fn record_promise(room: &RoomId, low_ms: i64, high_ms: i64, waited_ms: i64) {
    if let Some(result) = promise(low_ms, high_ms, waited_ms) {
        counter!(PROMISES, "deal" => room.to_string(), "result" => result).increment(1);
    }
}

fn promise(low_ms: i64, high_ms: i64, waited_ms: i64) -> Option<&'static str> {
    if high_ms <= 0 {
        return None;
    }
    Some(match waited_ms {
        early if early < low_ms => "early",
        late if late > high_ms => "late",
        _ => "kept",
    })
}

/// `None` when nothing was promised or the wait was too short to promise anything.
fn eta_error(promise_ms: i64, waited_ms: u64) -> Option<f64> {
    let promise_ms = u64::try_from(promise_ms).ok().filter(|ms| *ms > 0)?;
    (waited_ms >= 1_000).then(|| number(promise_ms.abs_diff(waited_ms)) / number(waited_ms))
}

pub(crate) fn joined(room: &RoomId, result: &'static str, people: usize) {
    if people > 0 {
        counter!(JOINED, "deal" => room.to_string(), "result" => result)
            .increment(u64::try_from(people).unwrap_or(u64::MAX));
    }
}

pub(crate) fn doubted(room: &RoomId, why: &'static str) {
    counter!(STORE_DOUBTS, "deal" => room.to_string(), "reason" => why).increment(1);
}

pub(crate) fn admitted(room: &RoomId, people: u64) {
    counter!(ADMITTED, "deal" => room.to_string()).increment(people);
}

pub(crate) fn left(room: &RoomId, reason: &'static str, people: u64) {
    counter!(LEFT, "deal" => room.to_string(), "reason" => reason).increment(people);
}

pub(crate) fn called(room: &RoomId, run: &Called) {
    admitted(room, run.calls);
    left(room, "expired", run.dropped);
    for (name, people) in [(SKIPPED, run.skips), (CLAIMS_MISSED, run.claims_missed), (INVERSIONS, run.inversions)] {
        counter!(name, "deal" => room.to_string()).increment(people);
    }
}

pub(crate) fn tick_took(time: Duration) {
    histogram!(TICK_DURATION).record(time.as_secs_f64());
}

/// Gauges are floats: exact below 2^53.
fn number(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_kept_inside_its_range_the_ends_included() {
        for (waited_ms, result) in
            [(0, "early"), (59_999, "early"), (60_000, "kept"), (120_000, "kept"), (120_001, "late")]
        {
            assert_eq!(promise(60_000, 120_000, waited_ms), Some(result), "{waited_ms}");
        }
        assert_eq!(promise(0, 0, 5_000), None);
    }

    #[test]
    fn the_error_of_a_promise_is_a_share_of_the_real_wait() {
        assert_eq!(eta_error(90_000, 60_000), Some(0.5));
        assert_eq!(eta_error(30_000, 60_000), Some(0.5));
        assert_eq!(eta_error(0, 60_000), None);
        assert_eq!(eta_error(5_000, 400), None);
    }
}
