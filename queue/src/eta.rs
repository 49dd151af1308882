//! How long it may take: an honest range, or nothing when nobody can know.

use crate::admission::LimitReason;
use serde::Serialize;

/// A waiting time as a range, in seconds, rounded up to units that can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Eta {
    /// If all goes well.
    pub low: u64,
    /// If it goes slowly.
    pub high: u64,
}

/// Slower than this share of the expected rate is outside the range.
const SLOW: f64 = 0.8;
/// Faster than this share of a measured rate is outside the range.
const FAST: f64 = 1.25;
/// Waits beyond this are not worth a promise: two days.
const SECONDS_MAX: f64 = 172_800.0;

/// What an estimate stands on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Calls per second that the room aims at.
    pub target_per_s: f64,
    /// Calls per second measured; `None` = too early.
    pub measured_per_s: Option<f64>,
    /// Why the last tick did not call more.
    pub reason: LimitReason,
}

/// The wait of somebody with `ahead` people in front, `start_in_ms` before the calls begin (0 = they have begun).
pub fn estimate(ahead: u64, start_in_ms: i64, pace: Pace) -> Option<Eta> {
    let people = count(ahead) + 1.0;
    let start_s = count(u64::try_from(start_in_ms).unwrap_or(0)) / 1_000.0;
    let (fast, slow) = match pace.reason {
        // The rate is what holds the line back, so the target is the best guess.
        LimitReason::Target | LimitReason::NobodyWaits | LimitReason::NotOpen | LimitReason::Rebuilding => {
            (pace.target_per_s, pace.target_per_s * SLOW)
        }
        // Something else holds it back: only what was measured counts.
        LimitReason::InsideCap | LimitReason::Stock => {
            let measured = pace.measured_per_s.filter(|rate| *rate > 0.0)?;
            ((measured * FAST).min(pace.target_per_s.max(measured)), measured * SLOW)
        }
        LimitReason::Paused => return None,
    };
    let (low, high) = (start_s + people / fast, start_s + people / slow);
    if !high.is_finite() || high > SECONDS_MAX {
        return None;
    }
    Some(Eta { low: round_up(low), high: round_up(high) })
}

fn round_up(seconds: f64) -> u64 {
    // Between 1 and SECONDS_MAX: the cast is exact.
    let whole = seconds.ceil().clamp(1.0, SECONDS_MAX) as u64;
    let unit = match whole {
        0..10 => 1,
        10..60 => 5,
        60..600 => 30,
        600..3_600 => 60,
        _ => 300,
    };
    whole.div_ceil(unit) * unit
}

/// Exact below 2^53, and nobody counts further.
fn count(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(reason: LimitReason, measured_per_s: Option<f64>) -> Pace {
        Pace { target_per_s: 10.0, measured_per_s, reason }
    }

    #[test]
    fn a_room_at_its_target_promises_by_the_target() {
        assert_eq!(estimate(0, 0, pace(LimitReason::Target, None)), Some(Eta { low: 1, high: 1 }));
        assert_eq!(estimate(999, 0, pace(LimitReason::Target, Some(0.0))), Some(Eta { low: 120, high: 150 }));
        assert_eq!(estimate(99, 60_000, pace(LimitReason::NotOpen, None)), Some(Eta { low: 90, high: 90 }));
    }

    #[test]
    fn a_room_held_back_promises_by_what_was_measured_or_not_at_all() {
        assert_eq!(estimate(99, 0, pace(LimitReason::InsideCap, Some(2.0))), Some(Eta { low: 40, high: 90 }));
        for measured in [None, Some(0.0)] {
            assert_eq!(estimate(99, 0, pace(LimitReason::Stock, measured)), None);
        }
        assert_eq!(estimate(0, 0, pace(LimitReason::Paused, Some(5.0))), None);
        assert_eq!(estimate(u64::MAX, 0, pace(LimitReason::Target, None)), None, "no promise beyond two days");
    }

    #[test]
    fn more_people_in_front_never_means_a_shorter_wait() {
        let mut last = Eta { low: 0, high: 0 };
        for ahead in 0..20_000 {
            let eta = estimate(ahead, 0, pace(LimitReason::Target, None)).unwrap();
            assert!(eta.low >= last.low && eta.high >= last.high && eta.low <= eta.high, "{ahead}: {eta:?}");
            last = eta;
        }
    }
}
