//! How the upstream behind a room does, as this gate sees it: of the requests that it forwarded for the room in the last
//! seconds, how many were slow and how many failed.
//!
//! Requests are counted by the second in which they *began*. So a request that is not answered yet counts as slow as soon
//! as it is late, and an upstream that hangs is noticed before its time-outs. "One in twenty is slower than the limit" is
//! exactly "the 95th percentile is above the limit", and needs no histogram. Event streams and clients that leave early
//! say nothing about the upstream and do not count.
//!
//! Everything is a few relaxed atomics. Two requests that open a new second at the same moment may lose a count, which
//! changes no verdict.

use queue::admission;
use queue::settings::RoomSettings;
use service_kit::clock::monotonic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Fewer answers than this say nothing.
const ANSWERS_MIN: u64 = 20;
/// Requests that began so long ago still count, beyond the limit for slow answers itself, in seconds.
const WINDOW_S: u64 = 5;
/// One in so many may be slow.
const SLOW_ONE_IN: u64 = 20;
/// Seconds that are remembered: more than the window and the largest `upstream_slow_ms` (60 s) together.
const SLOTS: usize = 128;

/// Requests that began in one second.
#[derive(Debug, Default)]
struct Slot {
    /// Which second, from 1; 0 = never used.
    second: AtomicU64,
    begun: AtomicU64,
    answered: AtomicU64,
    slow: AtomicU64,
    failed: AtomicU64,
}

/// The last seconds of one room's upstream. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health {
    seconds: Arc<Seconds>,
}

#[derive(Debug)]
struct Seconds {
    epoch: Instant,
    slots: Box<[Slot]>,
}

/// One forwarded request. Dropped without an answer it counts as if it had never been sent.
#[derive(Debug)]
pub struct Trial {
    seconds: Arc<Seconds>,
    began: Instant,
    slow_ms: u32,
    done: bool,
}

impl Seconds {
    fn second(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_secs() + 1
    }

    fn slot(&self, second: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(second).ok()? % SLOTS)
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new(monotonic())
    }
}

impl Health {
    /// Nothing is known at `now`.
    pub fn new(now: Instant) -> Self {
        let slots = (0..SLOTS).map(|_| Slot::default()).collect();
        Self { seconds: Arc::new(Seconds { epoch: now, slots }) }
    }

    /// A request goes to the upstream now.
    pub fn begin(&self, settings: &RoomSettings, now: Instant) -> Trial {
        let second = self.seconds.second(now);
        if let Some(slot) = self.seconds.slot(second) {
            let before = slot.second.load(Ordering::Relaxed);
            let fresh = before != second
                && slot.second.compare_exchange(before, second, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if fresh {
                for count in [&slot.begun, &slot.answered, &slot.slow, &slot.failed] {
                    count.store(0, Ordering::Relaxed);
                }
            }
            slot.begun.fetch_add(1, Ordering::Relaxed);
        }
        Trial { seconds: self.seconds.clone(), began: now, slow_ms: settings.upstream_slow_ms, done: false }
    }

    /// What the last seconds say, by the room's limits.
    pub fn verdict(&self, settings: &RoomSettings, now: Instant) -> admission::Health {
        let slow_ms = u64::from(settings.upstream_slow_ms);
        let errors_percent = u64::from(settings.upstream_errors_percent);
        if slow_ms == 0 && errors_percent == 0 {
            return admission::Health::Unknown;
        }
        let seconds = &self.seconds;
        let now_ms = u64::try_from(now.saturating_duration_since(seconds.epoch).as_millis()).unwrap_or(u64::MAX);
        let latest = seconds.second(now);
        let earliest = latest.saturating_sub(WINDOW_S + slow_ms.div_ceil(1_000)).max(1);
        let (mut answers, mut slow, mut failed) = (0_u64, 0_u64, 0_u64);
        for second in earliest..=latest {
            let Some(slot) = seconds.slot(second).filter(|s| s.second.load(Ordering::Relaxed) == second) else {
                continue;
            };
            let answered = slot.answered.load(Ordering::Relaxed);
            // A slot holds the second that ended at `second * 1,000` ms.
            let late = slow_ms > 0 && second.saturating_mul(1_000).saturating_add(slow_ms) <= now_ms;
            let missing = if late { slot.begun.load(Ordering::Relaxed).saturating_sub(answered) } else { 0 };
            answers += answered + missing;
            slow += slot.slow.load(Ordering::Relaxed) + missing;
            failed += slot.failed.load(Ordering::Relaxed);
        }
        let too_slow = slow_ms > 0 && slow.saturating_mul(SLOW_ONE_IN) > answers;
        let too_many_errors = errors_percent > 0 && failed.saturating_mul(100) > answers.saturating_mul(errors_percent);
        match answers {
            ..ANSWERS_MIN => admission::Health::Unknown,
            _ if too_slow || too_many_errors => admission::Health::Bad,
            _ => admission::Health::Good,
        }
    }
}

impl Trial {
    /// The upstream answered, or failed to.
    pub fn answered(mut self, failed: bool, now: Instant) {
        let late = now.saturating_duration_since(self.began).as_millis() > u128::from(self.slow_ms);
        let slow = self.slow_ms > 0 && late;
        self.count(|slot| {
            slot.answered.fetch_add(1, Ordering::Relaxed);
            slot.slow.fetch_add(u64::from(slow), Ordering::Relaxed);
            slot.failed.fetch_add(u64::from(failed), Ordering::Relaxed);
        });
    }

    fn count(&mut self, change: impl Fn(&Slot)) {
        self.done = true;
        let second = self.seconds.second(self.began);
        if let Some(slot) = self.seconds.slot(second).filter(|s| s.second.load(Ordering::Relaxed) == second) {
            change(slot);
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if !self.done {
            self.count(|slot| {
                let _ = slot.begun.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use queue::admission::Health as Verdict;
    use std::time::Duration;

    fn room(upstream_slow_ms: u32, upstream_errors_percent: u8) -> RoomSettings {
        RoomSettings {
            upstream_slow_ms,
            upstream_errors_percent,
            ..RoomSettings::new("shoes".parse().unwrap(), "Shoes".into(), 10, 100)
        }
    }

    struct World {
        start: Instant,
        health: Health,
        room: RoomSettings,
    }

    impl World {
        fn new(slow_ms: u32, errors_percent: u8) -> Self {
            let start = monotonic();
            Self { start, health: Health::new(start), room: room(slow_ms, errors_percent) }
        }
        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }
        /// `n` requests that begin at `ms` and take `took_ms`.
        fn requests(&self, n: usize, ms: u64, took_ms: u64, failed: bool) {
            for _ in 0..n {
                self.health.begin(&self.room, self.at(ms)).answered(failed, self.at(ms + took_ms));
            }
        }
        fn verdict(&self, ms: u64) -> Verdict {
            self.health.verdict(&self.room, self.at(ms))
        }
    }

    #[test]
    fn few_answers_and_rooms_without_limits_say_nothing() {
        let world = World::new(500, 10);
        world.requests(19, 0, 9_000, true);
        assert_eq!(world.verdict(500), Verdict::Unknown);
        world.requests(1, 0, 9_000, true);
        assert_eq!(world.verdict(500), Verdict::Bad);
        let deaf = World::new(0, 0);
        deaf.requests(500, 0, 60_000, true);
        assert_eq!(deaf.verdict(500), Verdict::Unknown);
    }

    #[test]
    fn one_slow_answer_in_twenty_is_good_and_more_are_bad() {
        for (slow, verdict) in [(0, Verdict::Good), (5, Verdict::Good), (6, Verdict::Bad)] {
            let world = World::new(500, 0);
            world.requests(100 - slow, 0, 500, true);
            world.requests(slow, 0, 501, false);
            assert_eq!(world.verdict(900), verdict, "{slow} of 100");
        }
    }

    #[test]
    fn errors_count_by_their_own_limit() {
        for (failed, verdict) in [(10, Verdict::Good), (11, Verdict::Bad)] {
            let world = World::new(0, 10);
            world.requests(100 - failed, 0, 60_000, false);
            world.requests(failed, 0, 1, true);
            assert_eq!(world.verdict(900), verdict, "{failed} of 100");
        }
    }

    #[test]
    fn an_upstream_that_hangs_is_noticed_before_it_answers() {
        let world = World::new(500, 0);
        let open: Vec<Trial> = (0..30).map(|_| world.health.begin(&world.room, world.at(100))).collect();
        assert_eq!(world.verdict(1_400), Verdict::Unknown, "they are not late yet");
        assert_eq!(world.verdict(1_500), Verdict::Bad);
        drop(open);
        assert_eq!(world.verdict(1_600), Verdict::Unknown, "clients that left say nothing");
    }

    #[test]
    fn it_recovers_by_itself() {
        let world = World::new(500, 0);
        world.requests(100, 0, 4_000, false);
        assert_eq!(world.verdict(1_000), Verdict::Bad);
        for second in 1..10 {
            world.requests(100, second * 1_000, 10, false);
        }
        assert_eq!(world.verdict(9_500), Verdict::Good);
        assert_eq!(world.verdict(60_000), Verdict::Unknown, "what is long ago says nothing");
        // The ring comes round: an old second is not taken for a new one.
        world.requests(100, 128_000, 10, false);
        assert_eq!(world.verdict(128_500), Verdict::Good);
    }
}
