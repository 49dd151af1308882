//! The measured rate: calls per second over the last seconds, from a small ring that the scripts keep.

/// Seconds that the ring remembers; the scripts use the same number.
pub const RING_S: i64 = 32;
/// The window that is tried first, in seconds.
const SHORT_S: i64 = 10;
/// The window for slow rooms, in seconds.
const LONG_S: i64 = 30;
/// Fewer calls than this say little about a rate.
const CALLS_ENOUGH: u64 = 20;

/// Calls per second from `(second, calls)` entries. Only whole seconds since `since_ms` count; `None` until one has passed.
pub fn measure(ring: &[(i64, u64)], since_ms: i64, now_ms: i64) -> Option<f64> {
    let second = now_ms.div_euclid(1_000);
    let begun = since_ms.div_euclid(1_000) + i64::from(since_ms.rem_euclid(1_000) != 0);
    let over = |window_s: i64| {
        let first = (second - window_s).max(begun);
        let calls: u64 = ring.iter().filter(|(s, _)| (first..second).contains(s)).map(|(_, n)| n).sum();
        let seconds = u32::try_from(second - first).ok().filter(|s| *s > 0)?;
        Some((calls, f64::from(seconds)))
    };
    let (calls, seconds) = match over(SHORT_S)? {
        (calls, _) if calls < CALLS_ENOUGH => over(LONG_S)?,
        enough => enough,
    };
    Some(f64::from(u32::try_from(calls).unwrap_or(u32::MAX)) / seconds)
}

/// One field of the ring, `second:calls`.
pub fn parse_entry(text: &str) -> Option<(i64, u64)> {
    let (second, calls) = text.split_once(':')?;
    Some((second.parse().ok()?, calls.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_rooms_use_ten_seconds_and_slow_ones_thirty() {
        let steady: Vec<_> = (70..=100).map(|s| (s, 50)).collect();
        assert_eq!(measure(&steady, 0, 100_500), Some(50.0));
        let slow: Vec<_> = (70..100).step_by(10).map(|s| (s, 1)).collect();
        assert_eq!(measure(&slow, 0, 100_000), Some(0.1));
        let stale: Vec<_> = (0..32).map(|s| (s, 9)).collect();
        assert_eq!(measure(&stale, 0, 100_000), Some(0.0), "old entries of the ring do not count");
    }

    #[test]
    fn a_room_that_just_started_is_measured_from_its_start() {
        let ring = [(100, 30), (101, 30), (102, 7)];
        assert_eq!(measure(&ring, 100_000, 102_300), Some(30.0));
        assert_eq!(measure(&ring, 100_000, 100_900), None);
        assert_eq!(measure(&ring, 105_000, 102_000), None, "before the start");
    }

    #[test]
    fn ring_entries() {
        assert_eq!(parse_entry("100:7"), Some((100, 7)));
        assert_eq!(parse_entry("100"), None);
    }
}
