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

/// The milliseconds of an RFC 3339 time, e.g. `2026-11-21T12:00:00+09:00`; `None` when it is not one.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    use time::format_description::well_known::Rfc3339;
    let at = time::OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_was_written_can_be_read() {
        for ms in [0, 1_795_228_496_123, 253_402_300_799_999] {
            assert_eq!(parse_rfc3339(&rfc3339(ms)), Some(ms));
        }
        assert_eq!(parse_rfc3339("2026-11-21T12:00:00+09:00"), parse_rfc3339("2026-11-21T03:00:00Z"));
        assert_eq!(parse_rfc3339("tomorrow"), None);
    }
}
