//! How long it may take: an honest range, or nothing when nobody can know.
//!
//! The range is meant to hold for at least 85 of 100 people, also while the operator changes the rate
//! (`queue/tests/eta_sim` measures it). It is made of three things: how fast the line passes now, how slow and how
//! fast it has passed over stretches as long as this wait ([`Trend`]), and how soon the room is full.

mod trend;

pub use trend::{SLOT_S, SLOTS, Sample, Span, Trend};

use crate::admission::LimitReason;
use serde::Serialize;
use trend::{SPANS, span_s};

/// A waiting time as a range, in seconds: the lower end rounded down, the upper one up, beyond a minute to minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Eta {
    /// If all goes well.
    pub low: u64,
    /// If it goes slowly.
    pub high: u64,
}

/// What an estimate stands on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Calls per second that the room aims at.
    pub target_per_s: f64,
    /// Calls per second measured over the last seconds; `None` = too early.
    pub measured_per_s: Option<f64>,
    /// Why the last tick did not call more.
    pub reason: LimitReason,
    /// What the last minutes were like.
    pub trend: Trend,
    /// How full the room is; `None` = there is no limit.
    pub inside: Option<Inside>,
}

/// How full a room is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    /// People called, inside or buying.
    pub active: u64,
    /// As many as the room takes.
    pub max: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            target_per_s: 0.0,
            measured_per_s: None,
            reason: LimitReason::NotOpen,
            trend: Trend::default(),
            inside: None,
        }
    }
}

/// What may come on top of what was seen, slower and faster by these factors; more may happen in a longer wait.
const SURPRISE: [(f64, f64); SPANS] =
    [(0.82, 1.22), (0.82, 1.22), (0.82, 1.22), (0.75, 1.35), (0.75, 1.35), (0.72, 2.0)];
/// The same in a room that has run evenly for minutes.
const SURPRISE_CALM: (f64, f64) = (0.85, 1.0 / 0.85);
/// The past counts only so far: not slower and not faster than the present by these factors.
const PAST: (f64, f64) = (0.6, 1.8);
/// The same where the present is known better, from those who leave a full room.
const PAST_FULL: (f64, f64) = (0.72, 1.8);
/// Standard deviations of chance: who leaves the room when is not planned.
const CHANCE: f64 = 1.3;
/// Before anybody was skipped: so many of those in front may not be there, at most.
const SILENT_PRIOR: f64 = 0.3;
/// A range whose ends are further apart than this factor (and a minute) tells nobody anything.
const WIDTH_MAX: f64 = 6.0;
/// Waits beyond this are not worth a promise: two days.
const SECONDS_MAX: f64 = 172_800.0;

/// The wait of somebody with `ahead` people in front, `start_in_ms` before the calls begin (0 = they have begun).
/// `None` while nobody can know: the operator stopped the calls, nothing was measured of what holds the line back, or
/// the room will be full and nobody has left it yet.
pub fn estimate(ahead: u64, start_in_ms: i64, pace: Pace) -> Option<Eta> {
    if pace.reason == LimitReason::Paused {
        return None;
    }
    let people = count(ahead) + 1.0;
    let start_s = count(u64::try_from(start_in_ms).unwrap_or(0)) / 1_000.0;
    let (low, high) = pace.passing(people)?;
    let high = high.max(pace.filling(people));
    if !high.is_finite() || high > SECONDS_MAX || high > low * WIDTH_MAX + 60.0 {
        return None;
    }
    Some(Eta { low: rounded(start_s + low, Round::Down).max(1), high: rounded(start_s + high, Round::Up) })
}

impl Pace {
    /// Whether the room's own rate is what holds the line back; else only what was measured counts.
    fn free_running(&self) -> bool {
        match self.reason {
            LimitReason::Target | LimitReason::NobodyWaits | LimitReason::NotOpen | LimitReason::Store => true,
            LimitReason::InsideCap | LimitReason::Stock | LimitReason::UpstreamSlow | LimitReason::Paused => false,
        }
    }

    /// The part of those in front who are not there, and cost nothing: at least, about, at most.
    fn silent(&self) -> (f64, f64, f64) {
        let (least, most) = match self.trend.silent_share {
            Some(share) => (share * 0.8, share + 0.05),
            None => (0.0, SILENT_PRIOR),
        };
        (least, f64::midpoint(least, most), most)
    }

    /// Seconds until `people` have passed, if it goes well and if it goes slowly. Longer waits are compared with longer
    /// stretches of the past; each stretch counts up to its own length, so more people never mean a shorter wait.
    fn passing(&self, people: f64) -> Option<(f64, f64)> {
        let about = self.silent().1;
        let measured = self.measured_per_s.filter(|rate| *rate > 0.0).map(|rate| rate / (1.0 - about));
        let turnover = self.turnover().map(|rate| rate / (1.0 - about));
        // Whoever must leave before the next one is called counts as somebody in front.
        let people = if turnover.is_some() { (people - self.places() / (1.0 - about)).max(1.0) } else { people };
        let known = |span: usize| self.trend.spans.iter().take(span + 1).rev().find_map(|s| *s);
        let (mut low, mut high) = (0.0_f64, 0.0_f64);
        for span in 0..SPANS {
            let past = known(span);
            let present = match (self.free_running(), turnover) {
                (true, _) => self.target_per_s / (1.0 - about),
                (false, Some(turnover)) => turnover,
                (false, None) => match (measured, past.map(|p| p.last).filter(|rate| *rate > 0.0)) {
                    // What was measured just now is noisy, what was measured long is late: in the middle of both.
                    (Some(now), Some(before)) => (now * before).sqrt(),
                    (now, before) => now.or(before)?,
                },
            };
            let (slow, fast) = self.rates(span, present, measured, past);
            let longest = if span + 1 < SPANS { present * span_s(span + 1) } else { f64::INFINITY };
            let some = people.min(longest);
            let chance = CHANCE * some.sqrt();
            low = low.max((some - chance).max(1.0) / fast);
            high = high.max((some + chance) / slow);
            if people <= longest {
                break;
            }
        }
        Some((low, high))
    }

    /// The slowest and the fastest that the line may pass, in people per second.
    fn rates(&self, span: usize, present: f64, measured: Option<f64>, past: Option<Span>) -> (f64, f64) {
        let (least, about, most) = self.silent();
        let (mut slow, mut fast) = (present * (1.0 - about) / (1.0 - least), present * (1.0 - about) / (1.0 - most));
        // In a line that was empty or not open, the last seconds say nothing about the rate.
        let telling = !matches!(self.reason, LimitReason::NobodyWaits | LimitReason::NotOpen | LimitReason::Store);
        let seen = [measured.filter(|_| telling), past.map(|p| p.slow), past.map(|p| p.fast)];
        for rate in seen.into_iter().flatten() {
            (slow, fast) = (slow.min(rate), fast.max(rate));
        }
        let surprise = SURPRISE.get(span).copied().unwrap_or(SURPRISE_CALM);
        // What is longer than the memory may still bring a change.
        let calm = self.trend.calm && span + 1 < SPANS;
        let (slower, faster) = if calm { SURPRISE_CALM } else { surprise };
        let (least, most) = if self.turnover().is_some() { PAST_FULL } else { PAST };
        (slow.max(present * least) * slower, fast.min(present * most) * faster)
    }

    /// Places that are free inside; negative while more are inside than the room takes by now.
    fn places(&self) -> f64 {
        self.inside.map_or(0.0, |inside| count(inside.max) - count(inside.active))
    }

    /// Places that become free per second once the room is full, if that is what holds the line back.
    fn turnover(&self) -> Option<f64> {
        let full = self.inside.filter(|_| self.reason == LimitReason::InsideCap)?;
        self.trend.turnover_per_s.map(|turnover| turnover * count(full.max)).filter(|rate| *rate > 0.0)
    }

    /// Seconds until `people` have found a place inside, if the rate of the room lets it fill up: infinite while nobody
    /// has left it.
    fn filling(&self, people: f64) -> f64 {
        let Some(inside) = self.inside.filter(|_| self.free_running()) else { return 0.0 };
        let behind = people * (1.0 - self.trend.silent_share.unwrap_or(0.0)) - self.places();
        if behind <= 0.0 {
            return 0.0;
        }
        let leaving = self.trend.turnover_per_s.unwrap_or(0.0) * count(inside.max) * SURPRISE_CALM.0;
        (behind + CHANCE * behind.sqrt()) / leaving
    }
}

/// Which way a time is rounded.
#[derive(Clone, Copy)]
enum Round {
    Down,
    Up,
}

/// To units that a person can use: nobody needs the seconds of a wait of minutes.
fn rounded(seconds: f64, round: Round) -> u64 {
    let whole = match round {
        Round::Down => seconds.floor(),
        Round::Up => seconds.ceil(),
    };
    // Between 0 and twice SECONDS_MAX, the start included: the cast is exact.
    let whole = whole.clamp(0.0, 365.0 * 86_400.0) as u64;
    let unit = match whole {
        0..10 => 1,
        10..60 => 5,
        60..3_600 => 60,
        _ => 300,
    };
    match round {
        Round::Down => whole / unit * unit,
        Round::Up => whole.div_ceil(unit) * unit,
    }
}

/// Exact below 2^53, and nobody counts further.
fn count(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(reason: LimitReason, measured_per_s: Option<f64>) -> Pace {
        Pace { target_per_s: 10.0, measured_per_s, reason, ..Pace::default() }
    }

    /// A room that has passed between `slow` and `fast` people per second over every stretch.
    fn trend(slow: f64, fast: f64, last: f64) -> Trend {
        Trend { spans: [Some(Span { slow, fast, last }); SPANS], silent_share: Some(0.0), ..Trend::default() }
    }

    #[test]
    fn a_room_at_its_target_promises_by_the_target() {
        for (ahead, start_in_ms, low, high) in [
            (0, 0, 1, 1),
            (10, 0, 1, 5),
            (99, 0, 3, 20),
            (999, 0, 55, 180),     // 100 s at the target
            (5_999, 0, 180, 900),  // 10 min
            (99, 60_000, 60, 120), // the start and 10 s
        ] {
            let eta = estimate(ahead, start_in_ms, pace(LimitReason::Target, None)).unwrap();
            assert!(eta.low >= low && eta.high <= high && eta.low <= eta.high, "{ahead}, {start_in_ms}: {eta:?}");
        }
        let even = Trend { calm: true, ..trend(10.0, 10.0, 10.0) };
        let even = Pace { trend: even, ..pace(LimitReason::Target, Some(10.0)) };
        let new = estimate(3_999, 0, pace(LimitReason::Target, None)).unwrap();
        let calm = estimate(3_999, 0, even).unwrap();
        assert!(calm.low > new.low && calm.high < new.high, "an even past narrows the range: {new:?}, {calm:?}");
    }

    #[test]
    fn a_room_held_back_promises_by_what_was_measured_or_not_at_all() {
        for reason in [LimitReason::InsideCap, LimitReason::Stock, LimitReason::UpstreamSlow] {
            let eta = estimate(99, 0, pace(reason, Some(2.0))).unwrap();
            assert!((15..50).contains(&eta.low) && (60..=120).contains(&eta.high), "{eta:?}");
            for measured in [None, Some(0.0)] {
                assert_eq!(estimate(99, 0, pace(reason, measured)), None);
                let past = Pace { trend: trend(1.0, 3.0, 2.0), ..pace(reason, measured) };
                assert!(estimate(99, 0, past).is_some(), "a moment without calls does not take back what is known");
            }
        }
        assert_eq!(estimate(0, 0, pace(LimitReason::Paused, Some(5.0))), None);
        assert_eq!(estimate(u64::MAX, 0, pace(LimitReason::Target, None)), None, "no promise beyond two days");
        assert_eq!(estimate(0, 0, Pace::default()), None, "nobody is ever called");
    }

    #[test]
    fn a_room_that_will_be_full_promises_only_to_those_who_fit() {
        let inside = Some(Inside { active: 0, max: 500 });
        let opening = Pace { inside, ..pace(LimitReason::NotOpen, None) };
        assert!(estimate(499, 0, opening).is_some());
        assert_eq!(estimate(900, 0, opening), None, "nobody has left yet: the turnover is unknown");
        let leaving = |per_s: f64| Trend { turnover_per_s: Some(per_s / 500.0), ..Trend::default() };
        let slow = Pace { trend: leaving(2.0), ..opening };
        let fast = Pace { trend: leaving(20.0), ..opening };
        let (slow, fast) = (estimate(900, 0, slow).unwrap(), estimate(900, 0, fast).unwrap());
        assert!(slow.high > fast.high && fast.high <= 180, "{slow:?}, {fast:?}");
    }

    #[test]
    fn a_full_room_promises_by_those_who_leave_it() {
        // A place is taken for 100 s: 400 places make 4 calls per second, whatever the last seconds happened to see.
        let trend = Trend { turnover_per_s: Some(0.01), silent_share: Some(0.0), ..Trend::default() };
        let full = |active| {
            let inside = Some(Inside { active, max: 400 });
            estimate(1_199, 0, Pace { trend, inside, ..pace(LimitReason::InsideCap, Some(0.0)) }).unwrap()
        };
        let eta = full(400);
        assert!((120..=300).contains(&eta.low) && (360..=480).contains(&eta.high), "five minutes: {eta:?}");
        assert!(full(800).low > eta.low && full(800).high > eta.high, "400 must leave before the next is called");
    }

    #[test]
    fn an_uneven_past_widens_the_range_but_not_without_end() {
        let at = |ahead, slow, fast| {
            estimate(ahead, 0, Pace { trend: trend(slow, fast, 10.0), ..pace(LimitReason::Target, Some(10.0)) })
        };
        let [even, uneven, wild] = [(10.0, 10.0), (7.0, 14.0), (0.0, 500.0)].map(|(s, f)| at(2_999, s, f).unwrap());
        assert!(uneven.low < even.low && uneven.high > even.high, "{even:?}, {uneven:?}");
        assert!(wild.low >= 60 && wild.high <= 720, "five minutes at the present rate: {wild:?}");
        assert_eq!(at(5_999, 0.0, 500.0), None, "from two to twenty-four minutes: that tells nobody anything");
    }

    #[test]
    fn those_who_are_not_there_shorten_the_wait() {
        let with = |share| {
            let trend = Trend { silent_share: Some(share), ..Trend::default() };
            estimate(5_999, 0, Pace { trend, ..pace(LimitReason::Target, None) }).unwrap()
        };
        assert!(with(0.3).low < with(0.0).low && with(0.3).high < with(0.0).high);
    }

    #[test]
    fn no_seconds_above_a_minute() {
        for ahead in 0..50_000 {
            let Some(eta) = estimate(ahead, 0, pace(LimitReason::Target, None)) else { continue };
            for seconds in [eta.low, eta.high] {
                assert!(seconds < 60 || seconds % 60 == 0, "{ahead}: {eta:?}");
            }
        }
        assert_eq!((rounded(61.0, Round::Up), rounded(119.0, Round::Down)), (120, 60));
        assert_eq!((rounded(11.0, Round::Up), rounded(9.2, Round::Up), rounded(3_700.0, Round::Up)), (15, 10, 3_900));
    }

    #[test]
    fn more_people_in_front_never_mean_a_shorter_wait() {
        let mut narrowing = trend(4.0, 30.0, 9.0);
        for (span, share) in narrowing.spans.iter_mut().zip([0.4, 0.55, 0.7, 0.85, 0.95, 0.97]) {
            *span = Some(Span { slow: 9.0 * share, fast: 9.0 / share, last: 9.0 });
        }
        for (reason, trend) in [
            (LimitReason::Target, Trend::default()),
            (LimitReason::Target, narrowing),
            (LimitReason::InsideCap, narrowing),
            (LimitReason::Target, Trend { calm: true, ..narrowing }),
        ] {
            let mut last = Eta { low: 0, high: 0 };
            for ahead in 0..20_000 {
                let eta = estimate(ahead, 0, Pace { trend, ..pace(reason, Some(9.0)) }).unwrap();
                assert!(eta.low >= last.low && eta.high >= last.high && eta.low <= eta.high, "{ahead}: {eta:?}");
                last = eta;
            }
        }
    }
}
