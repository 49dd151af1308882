//! What the last ten minutes of a line were like: how slow and how fast it passed over short and over long stretches,
//! how many of those in front were not there, and how fast the room emptied.
//!
//! The store keeps one [`Sample`] per slot of 20 s, written by each tick over the one before, in a ring of 32. A slot
//! in which the line ran empty has no sample: the rate of a line without people says nothing.

/// Length of a slot, in seconds; `call.lua` uses the same number.
pub const SLOT_S: i64 = 20;
/// Slots that the ring remembers; `call.lua` uses the same number.
pub const SLOTS: i64 = 32;
/// Stretches that are looked at, in slots: 20 s to 8 min.
const STRETCHES: [usize; SPANS] = [1, 2, 4, 8, 16, 24];
/// How many of them.
pub(super) const SPANS: usize = 6;
/// Which of them shows whether the room runs evenly: 40 s.
const EVEN_SPAN: usize = 1;
/// Evenly = the fastest is at most this many times the slowest.
const EVEN: f64 = 1.35;
/// So many slots in a row must be known before a room is called even.
const EVEN_SLOTS: usize = 9;
/// The stretch over which those who leave the room are counted, in slots.
const TURNOVER_SLOTS: usize = 4;
/// Fewer people who passed say little about how many are not there.
const PASSED_ENOUGH: u64 = 50;
/// More silent people than this are not believed.
const SILENT_SHARE_MAX: f64 = 0.8;

/// Totals of a room at the last tick of one slot: `slot:calls:misses:silent:active` in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The slot: seconds since 1970 divided by [`SLOT_S`].
    pub slot: i64,
    /// People called since the first one.
    pub calls: u64,
    /// Calls that nobody claimed since the first one.
    pub misses: u64,
    /// People silent at their turn and not back.
    pub silent: u64,
    /// People called, inside or buying.
    pub active: u64,
}

impl Sample {
    /// From one field of the ring.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let slot = parts.next()?.parse().ok()?;
        let mut number = || parts.next()?.parse().ok();
        let sample = Self { slot, calls: number()?, misses: number()?, silent: number()?, active: number()? };
        parts.next().is_none().then_some(sample)
    }

    /// People who are no longer in line in front of the others: called or silent. One who missed a call counts as
    /// called first and as silent then, one who comes back as neither.
    fn passed(&self) -> u64 {
        self.calls.saturating_add(self.silent).saturating_sub(self.misses)
    }
}

/// People who passed per second over all stretches of one length.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Span {
    /// The slowest.
    pub slow: f64,
    /// The fastest.
    pub fast: f64,
    /// The latest.
    pub last: f64,
}

/// What is known about the last minutes; the default = nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trend {
    /// By length of the stretch: 20, 40, 80, 160, 320 and 480 s; `None` = no stretch so long yet.
    pub spans: [Option<Span>; SPANS],
    /// The part of those in the room who left it per second over the last two minutes; one divided by it is how long a
    /// place is taken, the claim window included.
    pub turnover_per_s: Option<f64>,
    /// The part of those who passed that was not called, 0 to 0.8.
    pub silent_share: Option<f64>,
    /// The line has passed evenly for some minutes.
    pub calm: bool,
}

impl Trend {
    /// From the samples of the ring, in any order. Only whole slots since `since_ms` count.
    pub fn new(samples: &[Sample], since_ms: i64, now_ms: i64) -> Self {
        let slot_of = |ms: i64| ms.div_euclid(SLOT_S * 1_000);
        let (current, begun) = (slot_of(now_ms), slot_of(since_ms));
        let slots: Vec<Option<Sample>> = (current - SLOTS + 1..current)
            .map(|slot| samples.iter().find(|s| s.slot == slot && slot >= begun).copied())
            .collect();
        let mut trend = Self::default();
        for (span, length) in trend.spans.iter_mut().zip(STRETCHES) {
            for (from, to) in whole_stretches(&slots, length) {
                let rate = per_s(to.passed().saturating_sub(from.passed()), length);
                let seen = span.get_or_insert(Span { slow: rate, fast: rate, last: rate });
                *seen = Span { slow: seen.slow.min(rate), fast: seen.fast.max(rate), last: rate };
            }
        }
        let run: Vec<Sample> = slots.iter().rev().map_while(|s| *s).collect();
        let Some(latest) = run.first() else { return trend };
        trend.turnover_per_s = turnover(run.get(..=TURNOVER_SLOTS).unwrap_or(&run));
        if let Some(first) = run.last() {
            let (passed, calls) =
                (latest.passed().saturating_sub(first.passed()), latest.calls - first.calls.min(latest.calls));
            if passed >= PASSED_ENOUGH {
                let called = calls.min(passed) as f64 / passed as f64;
                trend.silent_share = Some((1.0 - called).min(SILENT_SHARE_MAX));
            }
        }
        let even = trend.spans.get(EVEN_SPAN).copied().flatten().is_some_and(|s| s.fast < s.slow * EVEN);
        trend.calm = run.len() >= EVEN_SLOTS && even;
        trend
    }
}

/// Seconds of the `span`-th stretch.
pub(super) fn span_s(span: usize) -> f64 {
    STRETCHES.get(span).map_or(f64::INFINITY, |slots| seconds(*slots))
}

/// First and last sample of every stretch of `length` slots without a gap, in order.
fn whole_stretches(slots: &[Option<Sample>], length: usize) -> impl Iterator<Item = (Sample, Sample)> {
    slots.windows(length + 1).filter_map(|stretch| {
        let whole = stretch.iter().all(Option::is_some);
        Some(((*stretch.first()?)?, (*stretch.last()?)?)).filter(|_| whole)
    })
}

/// Those who left a room ÷ those who were in it ÷ the time; samples of one run, the latest first.
fn turnover(run: &[Sample]) -> Option<f64> {
    let (latest, first) = (run.first()?, run.last()?);
    let entered = latest.calls.saturating_sub(first.calls).saturating_add(first.active);
    let left = per_s(entered.saturating_sub(latest.active), run.len() - 1);
    let inside = run.iter().map(|s| s.active as f64).sum::<f64>() / run.len() as f64;
    (run.len() > 1 && inside > 0.0).then(|| left / inside)
}

fn per_s(people: u64, slots: usize) -> f64 {
    people as f64 / seconds(slots)
}

/// At most 32 slots: exact.
fn seconds(slots: usize) -> f64 {
    slots as f64 * SLOT_S as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots 100 to `100 + calls.len()`, each with so many more calls.
    fn ring(calls: &[u64]) -> Vec<Sample> {
        let mut total = 0;
        (100..)
            .zip(calls)
            .map(|(slot, calls)| {
                total += calls;
                Sample { slot, calls: total, ..Sample::default() }
            })
            .collect()
    }

    #[test]
    fn slow_fast_and_last_over_short_and_long_stretches() {
        let trend = Trend::new(&ring(&[0, 200, 100, 400, 200]), 0, 105 * 20_000);
        assert_eq!(trend.spans[0], Some(Span { slow: 5.0, fast: 20.0, last: 10.0 }));
        assert_eq!(trend.spans[1], Some(Span { slow: 7.5, fast: 15.0, last: 15.0 }));
        assert_eq!(trend.spans[2], Some(Span { slow: 11.25, fast: 11.25, last: 11.25 }));
        assert_eq!(trend.spans[3], None);
        assert!(!trend.calm);
        assert_eq!(Trend::new(&ring(&[0, 200, 100]), 0, 102 * 20_000).spans[0].unwrap().last, 10.0, "whole slots only");
        assert_eq!(Trend::new(&ring(&[0, 200, 100]), 102 * 20_000, 103 * 20_000), Trend::default(), "before the start");
        assert_eq!(Trend::new(&ring(&[0, 200, 100]), 0, 200 * 20_000), Trend::default(), "old entries do not count");
        assert!(Trend::new(&ring(&[100; 12]), 0, 112 * 20_000).calm);
    }

    #[test]
    fn a_line_that_ran_empty_is_a_gap() {
        let mut samples = ring(&[0, 200, 0, 0, 200, 200]);
        samples.retain(|s| s.slot != 102 && s.slot != 103);
        let trend = Trend::new(&samples, 0, 106 * 20_000);
        assert_eq!(trend.spans[0], Some(Span { slow: 10.0, fast: 10.0, last: 10.0 }));
        assert_eq!(trend.spans[1], None, "no stretch goes over the gap");
    }

    #[test]
    fn silent_people_pass_and_those_who_come_back_do_not() {
        let sample = |slot, calls, misses, silent| Sample { slot, calls, misses, silent, active: 0 };
        // 100 called and 25 skipped; then 100 called of whom 10 missed it, and 10 silent ones came back.
        let trend = Trend::new(&[sample(1, 0, 0, 0), sample(2, 100, 0, 25), sample(3, 200, 10, 25)], 0, 80_000);
        assert_eq!(trend.spans[0], Some(Span { slow: 4.5, fast: 6.25, last: 4.5 }));
        assert_eq!(trend.silent_share, Some(1.0 - 200.0 / 215.0));
        assert_eq!(Trend::new(&[sample(1, 0, 0, 0), sample(2, 30, 0, 9)], 0, 60_000).silent_share, None, "too few");
    }

    #[test]
    fn whoever_is_called_and_no_longer_inside_has_left() {
        let sample = |slot, calls, active| Sample { slot, calls, active, ..Sample::default() };
        let filling = [sample(1, 0, 0), sample(2, 200, 200)];
        assert_eq!(Trend::new(&filling, 0, 60_000).turnover_per_s, Some(0.0));
        // 200 inside, 60 leave every 20 s: 1.5 % per second.
        let full = [sample(1, 200, 200), sample(2, 260, 200), sample(3, 320, 200), sample(4, 380, 200)];
        assert_eq!(Trend::new(&full, 0, 100_000).turnover_per_s, Some(0.015));
        assert_eq!(Trend::new(&full[..1], 0, 40_000).turnover_per_s, None);
        assert_eq!(Trend::new(&[sample(1, 5, 0), sample(2, 5, 0)], 0, 60_000).turnover_per_s, None, "nobody is inside");
    }

    #[test]
    fn ring_entries() {
        let sample = Sample { slot: 90_000_000, calls: 5, misses: 1, silent: 2, active: 3 };
        assert_eq!(Sample::parse("90000000:5:1:2:3"), Some(sample));
        for wrong in ["90000000:5:1:2", "90000000:5:1:2:3:4", "90000000:5:1:2:-3", ""] {
            assert_eq!(Sample::parse(wrong), None, "{wrong}");
        }
    }
}
