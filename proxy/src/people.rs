//! What a gate remembers about the people of one room. Everything here is a convenience in bounded memory: a gate that
//! starts anew forgets it, and nothing that was promised depends on it.

use crate::bypass::Rules;
use crate::session::Once;
use arc_swap::ArcSwapOption;
use queue::settings::RoomSettings;
use service_kit::clock::monotonic;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

/// How long a room counts as under attack after the last second with too many joins.
const ATTACK_S: u64 = 10;
/// Most numbers in [`Ended`]: every lease of the largest room inside, for as long as its pass would last.
const ENDED_MAX: usize = 1_000_000;
/// Most numbers per generation of [`Renewals`].
const GENERATION_MAX: usize = 20_000;

/// See the module.
#[derive(Debug)]
pub struct People {
    compiled: ArcSwapOption<Compiled>,
    /// Joins per second.
    joins: Meter,
    /// Passes that were seen in another browser.
    pub copied: Once,
    /// Numbers whose lease ended for good, by this gate or by what the boards said.
    pub ended: Ended,
    /// When leases were carried on.
    pub renewals: Renewals,
    started: Instant,
}

#[derive(Debug)]
struct Compiled {
    of: Arc<RoomSettings>,
    rules: Arc<Rules>,
}

impl Default for People {
    fn default() -> Self {
        Self {
            compiled: ArcSwapOption::empty(),
            joins: Meter::default(),
            copied: Once::default(),
            ended: Ended::default(),
            renewals: Renewals::default(),
            started: monotonic(),
        }
    }
}

impl People {
    /// The bypass rules of these settings: compiled when the settings are new, else only looked up.
    pub fn rules(&self, settings: &Arc<RoomSettings>) -> Arc<Rules> {
        if let Some(compiled) = self.compiled.load_full()
            && Arc::ptr_eq(&compiled.of, settings)
        {
            return compiled.rules.clone();
        }
        let rules = Arc::new(Rules::compile(&settings.bypass));
        self.compiled.store(Some(Arc::new(Compiled { of: settings.clone(), rules: rules.clone() })));
        rules
    }

    /// Counts a newcomer; says whether the room is under attack.
    pub fn count_join(&self, joins_per_s_max: u32) -> bool {
        self.joins.count(self.started.elapsed().as_secs(), joins_per_s_max)
    }
}

/// Counts events per second.
#[derive(Debug, Default)]
struct Meter {
    /// The second (upper half) and the events in it (lower half).
    now: AtomicU64,
    /// Until this second the limit counts as passed.
    over_until_s: AtomicU64,
}

impl Meter {
    fn count(&self, second: u64, per_s_max: u32) -> bool {
        let second = second & u64::from(u32::MAX);
        let next = |before: u64| {
            let count = if before >> 32 == second { (before & u64::from(u32::MAX)) + 1 } else { 1 };
            second << 32 | count.min(u64::from(u32::MAX))
        };
        let before = self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(next(n)));
        let count = next(before.unwrap_or_else(|n| n)) & u64::from(u32::MAX);
        if count > u64::from(per_s_max) {
            self.over_until_s.store(second + ATTACK_S, Ordering::Relaxed);
        }
        second < self.over_until_s.load(Ordering::Relaxed)
    }
}

/// Number → when its pass would be over anyway, of leases that ended before their pass. A pass is checked against it by
/// one look-up; after that moment the pass itself says no.
#[derive(Debug, Default)]
pub struct Ended {
    until_ms: RwLock<HashMap<u64, i64>>,
}

impl Ended {
    /// Whether the lease of this number has ended for good.
    pub fn has(&self, number: u64) -> bool {
        // A panic elsewhere cannot leave a map half changed in a way that matters.
        self.until_ms.read().unwrap_or_else(PoisonError::into_inner).contains_key(&number)
    }

    /// Takes in what a board or an end says. A board says mostly what is known: then nothing is locked for writing.
    pub fn learn<'e>(&self, ended: impl IntoIterator<Item = (&'e u64, &'e i64)>, now_ms: i64) {
        let new: Vec<(u64, i64)> = {
            let known = self.until_ms.read().unwrap_or_else(PoisonError::into_inner);
            let is_new = |number: &u64, until_ms: &i64| known.get(number).is_none_or(|had| had < until_ms);
            ended.into_iter().filter(|(n, u)| is_new(n, u)).map(|(n, u)| (*n, *u)).collect()
        };
        if new.is_empty() {
            return;
        }
        let mut known = self.until_ms.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() + new.len() > ENDED_MAX {
            known.retain(|_, until_ms| *until_ms > now_ms);
        }
        for (number, until_ms) in new {
            // When full, those of the board come again with the next one.
            if known.len() < ENDED_MAX || known.contains_key(&number) {
                known.insert(number, until_ms);
            }
        }
    }
}

/// Number → when its lease may be carried on again.
#[derive(Debug, Default)]
pub struct Renewals {
    generations: RwLock<[HashMap<u64, i64>; 2]>,
}

impl Renewals {
    /// Whether it is time for this number; if so, not again before `next_ms`. Many requests of one page ask at once.
    pub fn due(&self, number: u64, now_ms: i64, next_ms: i64) -> bool {
        // A panic elsewhere cannot leave a map half changed in a way that matters.
        let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *generations;
        if young.get(&number).or_else(|| old.get(&number)).is_some_and(|again_ms| now_ms < *again_ms) {
            return false;
        }
        young.insert(number, next_ms);
        if young.len() >= GENERATION_MAX {
            *old = std::mem::take(young);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attack_lasts_ten_seconds_longer_than_its_last_second() {
        let meter = Meter::default();
        for _ in 0..3 {
            assert!(!meter.count(5, 3));
        }
        assert!(meter.count(5, 3), "the fourth in one second");
        assert!(meter.count(6, 3) && meter.count(14, 3));
        assert!(!meter.count(15, 3));
        for second in 16..100 {
            assert!(!meter.count(second, 3), "one a second is no attack");
        }
    }

    #[test]
    fn an_ended_lease_stays_ended_when_boards_say_no_more_of_it() {
        let ended = Ended::default();
        ended.learn(&HashMap::from([(1, 500), (2, 900)]), 0);
        ended.learn(&HashMap::from([(2, 900), (3, 700)]), 100);
        assert!(ended.has(1) && ended.has(2) && ended.has(3) && !ended.has(4));
        for block in 0..12_u64 {
            let board: HashMap<u64, i64> =
                (0..100_000).map(|i| (10 + block * 100_000 + i, 1_000 + block as i64)).collect();
            ended.learn(&board, 800 + block as i64);
        }
        let known = ended.until_ms.read().unwrap();
        assert!(known.len() <= ENDED_MAX && !known.contains_key(&1) && known.contains_key(&2), "{}", known.len());
    }

    #[test]
    fn a_lease_is_carried_on_once_per_half_life() {
        let renewals = Renewals::default();
        assert!(renewals.due(1, 0, 500));
        assert!(!renewals.due(1, 499, 900) && renewals.due(2, 499, 900));
        assert!(renewals.due(1, 500, 900));
        for n in 0..100_000 {
            renewals.due(n, 1_000, 2_000);
        }
        assert!(renewals.generations.write().unwrap().iter().map(HashMap::len).sum::<usize>() <= 2 * GENERATION_MAX);
    }

    #[test]
    fn rules_are_compiled_once_per_settings() {
        let people = People::default();
        let settings = |bypass: &str| {
            let text = format!(r#"{{"room":"hall","title":"Hall","rate_per_s":1,"inside_max":1,"bypass":{bypass}}}"#);
            Arc::new(serde_json::from_str::<RoomSettings>(&text).unwrap())
        };
        let (one, two) = (settings("[]"), settings(r#"[{"path":"/a"}]"#));
        assert!(Arc::ptr_eq(&people.rules(&one), &people.rules(&one)));
        assert!(!Arc::ptr_eq(&people.rules(&one), &people.rules(&two)));
    }
}
