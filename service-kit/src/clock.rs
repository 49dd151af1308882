//! The only place that reads the clock. Rules take `now_ms` as an argument, so that tests can move time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch by this machine's clock.
///
/// Order is never decided by it: places come from a counter, deadlines from the store that owns them.
#[expect(clippy::disallowed_methods, reason = "this is the one door to the clock")]
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)).unwrap_or(0)
}

/// A point on the monotonic clock, for measuring how long something took.
#[expect(clippy::disallowed_methods, reason = "this is the one door to the clock")]
pub fn monotonic() -> std::time::Instant {
    std::time::Instant::now()
}

/// `now_ms` as RFC 3339 with milliseconds in UTC, e.g. `2026-11-21T03:00:00.123Z`.
pub fn rfc3339(ms: i64) -> String {
    use time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_else(|| ms.to_string())
}
