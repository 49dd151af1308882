//! Measured rates: what the last seconds saw, from a small ring that the scripts keep.

/// Seconds that the ring remembers; the scripts use the same number.
pub const RING_S: i64 = 64;
/// The window that is tried first, in seconds.
const SHORT_S: i64 = 10;
/// The window for slow rooms, in seconds.
const LONG_S: i64 = 30;
/// Fewer calls than this say little about a rate.
const CALLS_ENOUGH: u64 = 20;
/// Whoever has not claimed so long after the call probably will not: polls of the called come every second, and a page
/// without a script asks every 20 s.
const SETTLED_AFTER_S: i64 = 25;
/// Calls of so many seconds before that are looked at.
const SETTLED_FOR_S: i64 = 30;

/// One second of the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// Which one, since 1970.
    pub at: i64,
    /// People called in it.
    pub calls: u64,
    /// Those of them who have claimed so far.
    pub claims: u64,
}

/// Calls per second. Only whole seconds since `since_ms` count; `None` until one has passed.
pub fn measure(ring: &[Second], since_ms: i64, now_ms: i64) -> Option<f64> {
    let second = now_ms.div_euclid(1_000);
    let begun = since_ms.div_euclid(1_000) + i64::from(since_ms.rem_euclid(1_000) != 0);
    let over = |window_s: i64| {
        let first = (second - window_s).max(begun);
        let calls: u64 = ring.iter().filter(|s| (first..second).contains(&s.at)).map(|s| s.calls).sum();
        let seconds = u32::try_from(second - first).ok().filter(|s| *s > 0)?;
        Some((calls, f64::from(seconds)))
    };
    let (calls, seconds) = match over(SHORT_S)? {
        (calls, _) if calls < CALLS_ENOUGH => over(LONG_S)?,
        enough => enough,
    };
    Some(f64::from(u32::try_from(calls).unwrap_or(u32::MAX)) / seconds)
}

/// Calls per hundred claims among calls old enough to judge; 100 = everybody comes, or too few to say.
pub fn calls_per_hundred_claims(ring: &[Second], claim_window_ms: u32, now_ms: i64) -> u64 {
    let settled_s = SETTLED_AFTER_S.min(i64::from(claim_window_ms).div_euclid(1_000) + 1);
    let last = now_ms.div_euclid(1_000) - settled_s;
    let judged = || ring.iter().filter(|s| (last - SETTLED_FOR_S..last).contains(&s.at));
    let (calls, claims): (u64, u64) = (judged().map(|s| s.calls).sum(), judged().map(|s| s.claims).sum());
    if calls < CALLS_ENOUGH { 100 } else { (calls * 100).div_ceil(claims.max(1)).max(100) }
}

/// One field of the ring, `second:calls:claims`.
pub fn parse_entry(text: &str) -> Option<Second> {
    let mut parts = text.split(':');
    let second = Second {
        at: parts.next()?.parse().ok()?,
        calls: parts.next()?.parse().ok()?,
        claims: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(at: i64, calls: u64) -> Second {
        Second { at, calls, claims: 0 }
    }

    #[test]
    fn fast_rooms_use_ten_seconds_and_slow_ones_thirty() {
        let steady: Vec<_> = (70..=100).map(|s| calls(s, 50)).collect();
        assert_eq!(measure(&steady, 0, 100_500), Some(50.0));
        let slow: Vec<_> = (70..100).step_by(10).map(|s| calls(s, 1)).collect();
        assert_eq!(measure(&slow, 0, 100_000), Some(0.1));
        let stale: Vec<_> = (0..32).map(|s| calls(s, 9)).collect();
        assert_eq!(measure(&stale, 0, 100_000), Some(0.0), "old entries of the ring do not count");
    }

    #[test]
    fn a_room_that_just_started_is_measured_from_its_start() {
        let ring = [calls(100, 30), calls(101, 30), calls(102, 7)];
        assert_eq!(measure(&ring, 100_000, 102_300), Some(30.0));
        assert_eq!(measure(&ring, 100_000, 100_900), None);
        assert_eq!(measure(&ring, 105_000, 102_000), None, "before the start");
    }

    #[test]
    fn no_shows_are_judged_when_they_had_time_to_come() {
        let ring: Vec<_> = (0..60).map(|at| Second { at, calls: 10, claims: if at < 35 { 7 } else { 0 } }).collect();
        assert_eq!(calls_per_hundred_claims(&ring, 60_000, 60_000), 143);
        assert_eq!(calls_per_hundred_claims(&ring[..5], 60_000, 30_500), 143);
        assert_eq!(calls_per_hundred_claims(&ring[..1], 60_000, 30_000), 100, "ten calls say nothing");
        let all: Vec<_> = (0..60).map(|at| Second { at, calls: 10, claims: 10 }).collect();
        assert_eq!(calls_per_hundred_claims(&all, 5_000, 60_000), 100);
        let none: Vec<_> = (0..60).map(|at| Second { at, calls: 10, claims: 0 }).collect();
        assert!(calls_per_hundred_claims(&none, 5_000, 60_000) > 300, "the caller bounds it");
    }

    #[test]
    fn ring_entries() {
        assert_eq!(parse_entry("100:7:2"), Some(Second { at: 100, calls: 7, claims: 2 }));
        assert_eq!(parse_entry("100:7"), None);
        assert_eq!(parse_entry("100:7:2:1"), None);
    }
}
