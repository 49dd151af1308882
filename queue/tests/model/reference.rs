//! The line without Redis, written once more in the plainest way: what the scripts must agree with.

use queue::admission::LimitReason;
use queue::lane::{self, DEMOTED};
use queue::line::{Claim, Presence, REBUILD_HOLD_MS, SPARE_AGE_MAX_MS};
use queue::settings::RoomSettings;
use std::collections::{BTreeMap, BTreeSet};

/// A clock that differs by more from what it should show was stepped.
const STEP_MS: i64 = 5_000;
/// A gate expects something of the clock for so long.
const EXPECTS_MS: i64 = 10_000;

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub next: u64,
    pub frontier: u64,
    pub last_tick_ms: i64,
    /// Hundred-thousandths of a person: the model counts in `rate × percent × ms`.
    pub carry: i64,
    pub spare: u64,
    pub hold_until_ms: i64,
    pub lost_ms: i64,
    pub skew_ms: i64,
    pub losses: u64,
    /// The last tag of each lane.
    pub tags: BTreeMap<u8, u64>,
    /// place → number
    pub line: BTreeMap<u64, u64>,
    /// number → place, of everybody who ever had one: what the tickets say
    pub tickets: BTreeMap<u64, u64>,
    /// Who was heard in which slot of time: when it began (not known before the first tick), the newest first.
    pub heard: Vec<(Option<i64>, BTreeSet<u64>)>,
    pub silent: BTreeSet<u64>,
    pub called: BTreeMap<u64, i64>,
    pub inside: BTreeMap<u64, i64>,
    pub buying: BTreeMap<u64, i64>,
    /// number → when and by which browser it was claimed
    pub entered: BTreeMap<u64, (i64, u64)>,
    pub ended: BTreeMap<u64, i64>,
    pub missed_once: BTreeSet<u64>,
    pub left: BTreeSet<u64>,
    /// key → number, joined, visitor
    pub joins: BTreeMap<String, (u64, i64, String)>,
    pub stock: Option<(u64, u64)>,
    /// second → calls, claims
    pub ring: BTreeMap<i64, (u64, u64)>,
    pub calls: u64,
    pub claims: u64,
    pub misses: u64,
    pub skips: u64,
    pub leaves: u64,
    pub idle: u64,
}

/// What one gate remembers of the clock: the room's and the steady one.
pub type Remembered = Option<(i64, i64)>;

/// What a join says: number, place, joined, created, called until, visitor.
pub type Joined = (u64, u64, i64, bool, Option<i64>, String);

pub fn alive(leases: &BTreeMap<u64, i64>, now: i64) -> u64 {
    leases.values().filter(|until| **until > now).count() as u64
}

impl Model {
    pub fn new() -> Self {
        Self { next: 1, heard: vec![Default::default()], ..Self::default() }
    }

    pub fn join(&mut self, room: &RoomSettings, key: Option<&str>, visitor: &str, lane: u8, clock: i64) -> Joined {
        let now = clock + self.skew_ms;
        if let Some((number, joined, owner)) = key.and_then(|k| self.joins.get(k).cloned()) {
            self.hear(number);
            let until = self.called.get(&number).copied().filter(|until| *until > now);
            return (number, self.tickets[&number], joined, false, until, owner);
        }
        let number = self.next;
        self.next += 1;
        let tag = |lane: u8| self.tags.get(&lane).copied().unwrap_or(0);
        let behind = if lane == DEMOTED { tag(lane).max(tag(0)) } else { tag(lane) };
        let tag = behind.max(self.frontier / 8) + lane::cost(&room.lanes, lane);
        self.tags.insert(lane, tag);
        let place = tag * 8 + u64::from(lane);
        self.tickets.insert(number, place);
        if let Some(key) = key {
            self.joins.insert(key.to_owned(), (number, now, visitor.to_owned()));
        }
        self.hear(number);
        let shelf = !room.stock_aware || self.stock.is_some_and(|(available, _)| available > 0);
        let fresh = now >= self.last_tick_ms && now - self.last_tick_ms < SPARE_AGE_MAX_MS;
        // The gate looks at its own clock for the hours of the room, the script for the rest.
        let open = !room.paused && !room.closed && clock >= room.starts_at_ms;
        let may = fresh && open && shelf && now >= self.hold_until_ms && lane != DEMOTED;
        if self.line.is_empty() && self.spare > 0 && may {
            self.spare -= 1;
            self.calls += 1;
            self.ring_at(now).0 += 1;
            self.frontier = self.frontier.max(place);
            let until = now + i64::from(room.claim_window_ms);
            self.called.insert(number, until);
            return (number, place, now, true, Some(until), visitor.to_owned());
        }
        self.line.insert(place, number);
        (number, place, now, true, None, visitor.to_owned())
    }

    fn ring_at(&mut self, now: i64) -> &mut (u64, u64) {
        let second = now.div_euclid(1_000);
        // A slot of the ring that is written anew forgets what was in it.
        self.ring.retain(|at, _| *at == second || at.rem_euclid(64) != second.rem_euclid(64));
        self.ring.entry(second).or_default()
    }

    fn no_show_percent(&self, room: &RoomSettings, now: i64) -> i64 {
        let settled = 25.min(i64::from(room.claim_window_ms) / 1_000 + 1);
        let last = now.div_euclid(1_000) - settled;
        let (mut calls, mut claims) = (0, 0);
        for (_, (a, b)) in self.ring.range(last - 30..last) {
            calls += a;
            claims += b;
        }
        if calls < 20 {
            return 100;
        }
        ((calls * 100).div_ceil(claims.max(1)) as i64).clamp(100, i64::from(room.no_show_percent_max))
    }

    fn budget(&mut self, room: &RoomSettings, now: i64) -> (u64, LimitReason) {
        let carry = std::mem::take(&mut self.carry);
        if room.paused {
            return (0, LimitReason::Paused);
        }
        if room.closed {
            return (0, LimitReason::NotOpen);
        }
        if now < self.hold_until_ms {
            return (0, LimitReason::Store);
        }
        if now < room.starts_at_ms {
            return (0, LimitReason::NotOpen);
        }
        if room.stock_aware && self.stock.is_some_and(|(available, _)| available == 0) {
            return (0, LimitReason::Stock);
        }
        let elapsed = if self.last_tick_ms == 0 { 0 } else { (now - self.last_tick_ms).clamp(0, 1_000) };
        let rate = i64::from(room.rate_per_s) * self.no_show_percent(room, now);
        let earned = (elapsed * rate + carry).min(rate * 1_000 + 99_999);
        self.carry = earned % 100_000;
        let budget = (earned / 100_000) as u64;
        let (called, inside, buying) = (alive(&self.called, now), alive(&self.inside, now), alive(&self.buying, now));
        let cap = u64::from(room.inside_max).saturating_sub(called + inside + buying);
        let mut shelf = u64::MAX;
        if room.stock_aware {
            let units = self.stock.map_or(0, |(available, _)| available);
            let decided = self.claims.saturating_sub(inside);
            let holders = decided.saturating_sub(self.idle);
            let factor =
                (decided + 20) * 10_000 / (holders * 100 + 200_000 / u64::from(room.overbooking_percent)).max(1);
            let factor = factor.clamp(100, u64::from(room.overbooking_percent_max));
            shelf = (units * factor).div_ceil(100).saturating_sub(called + inside);
        }
        let waiting = self.line.len() as u64;
        let reason = if waiting == 0 {
            LimitReason::NobodyWaits
        } else if shelf < budget.max(1) && shelf <= cap {
            LimitReason::Stock
        } else if cap < budget.max(1) {
            LimitReason::InsideCap
        } else if waiting < budget {
            LimitReason::NobodyWaits
        } else {
            LimitReason::Target
        };
        (budget.min(cap).min(shelf), reason)
    }

    /// Whether a gate that remembers `remembered` finds that the clock was stepped, and by how much it must be put back.
    fn step(&self, now: i64, steady: i64, remembered: Remembered) -> Option<i64> {
        let expected =
            remembered.map(|(then, at)| (then, steady - at)).filter(|(_, age)| (0..=EXPECTS_MS).contains(age));
        let by = match expected {
            Some((then, age)) => {
                if self.last_tick_ms > then + age + STEP_MS && self.last_tick_ms <= now {
                    return None;
                }
                then + age - now
            }
            None => (self.last_tick_ms - now).max(0),
        };
        (by.abs() > STEP_MS).then_some(by)
    }

    /// (calls, skips, claims missed, reason)
    pub fn tick(
        &mut self,
        room: &RoomSettings,
        clock: i64,
        steady: i64,
        remembered: &mut Remembered,
    ) -> (u64, u64, u64, LimitReason) {
        if let Some(by) = self.step(clock + self.skew_ms, steady, *remembered) {
            self.skew_ms += by;
            let now = clock + self.skew_ms;
            let longer = now + REBUILD_HOLD_MS - now.max(self.hold_until_ms);
            if longer > 0 {
                self.called.values_mut().for_each(|until| *until += longer);
            }
            (self.hold_until_ms, self.lost_ms) = (now + REBUILD_HOLD_MS, now);
            self.losses += 1;
            return (0, 0, 0, LimitReason::Store);
        }
        let now = clock + self.skew_ms;
        *remembered = Some((now, steady));
        let (mut allowed, reason) = self.budget(room, now);
        self.last_tick_ms = now;
        let over: Vec<u64> = self.called.iter().filter(|(_, until)| **until <= now).map(|(n, _)| *n).collect();
        for number in &over {
            self.called.remove(number);
            self.misses += 1;
            if self.missed_once.insert(*number) {
                self.silent.insert(*number);
            } else {
                self.missed_once.remove(number);
            }
        }
        self.idle += self.inside.values().filter(|until| **until <= now).count() as u64;
        self.inside.retain(|_, until| *until > now);
        self.buying.retain(|_, until| *until > now);
        self.entered.retain(|n, _| self.inside.contains_key(n) || self.buying.contains_key(n));
        self.ended.retain(|_, until| *until > now);
        let silence_ms = i64::from(room.silence_ms);
        match self.heard[0].0 {
            None => self.heard[0].0 = Some(now),
            Some(begun) if now >= begun && now - begun < (silence_ms + 2) / 3 => {}
            Some(_) => {
                self.heard.insert(0, (Some(now), BTreeSet::new()));
                self.heard.truncate(4);
            }
        }
        let (mut calls, mut skips) = (0, 0);
        while allowed > 0 {
            let Some((place, number)) = self.line.pop_first() else { break };
            if !self.was_heard(number, now - silence_ms) {
                self.silent.insert(number);
                skips += 1;
                continue;
            }
            self.called.insert(number, now + i64::from(room.claim_window_ms));
            self.frontier = self.frontier.max(place);
            calls += 1;
            allowed -= 1;
        }
        self.spare = if self.line.is_empty() { allowed } else { 0 };
        if calls > 0 {
            self.ring_at(now).0 += calls;
        }
        self.calls += calls;
        self.skips += skips;
        (calls, skips, over.len() as u64, reason)
    }

    /// A sign of life that asks nothing.
    pub fn hear(&mut self, number: u64) {
        self.heard[0].1.insert(number);
    }

    /// A slot ends when the next one begins.
    fn was_heard(&self, number: u64, since: i64) -> bool {
        let ends = std::iter::once(i64::MAX).chain(self.heard.iter().map(|(begun, _)| begun.unwrap_or(i64::MIN)));
        self.heard.iter().zip(ends).any(|((_, numbers), end)| end >= since && numbers.contains(&number))
    }

    fn stand(&mut self, number: u64, place: u64) -> Presence {
        self.line.insert(place, number);
        self.hear(number);
        Presence::Waiting
    }

    pub fn beat(&mut self, number: u64, place: u64, clock: i64) -> Presence {
        let now = clock + self.skew_ms;
        if self.line.values().any(|n| *n == number) {
            self.hear(number);
            return Presence::Waiting;
        }
        if let Some(until) = self.called.get(&number) {
            if *until > now {
                return Presence::Called;
            }
            self.called.remove(&number);
            self.misses += 1;
            if !self.missed_once.insert(number) {
                self.missed_once.remove(&number);
                return Presence::Missed;
            }
            return self.stand(number, place);
        }
        if let Some(until) = self.inside.get(&number).or(self.buying.get(&number)) {
            return if *until > now { Presence::Inside } else { Presence::Missed };
        }
        if self.silent.remove(&number) {
            return self.stand(number, place);
        }
        if self.left.contains(&number) {
            return Presence::Left;
        }
        if place <= self.frontier {
            return Presence::Missed;
        }
        self.take_as_evidence(number, now);
        let tag = self.tags.entry((place % 8) as u8).or_default();
        *tag = (*tag).max(place / 8);
        self.stand(number, place)
    }

    /// A ticket with a number that was never given: the store lost its memory.
    fn take_as_evidence(&mut self, number: u64, now: i64) {
        if number < self.next {
            return;
        }
        self.next = number + 1;
        if now - self.lost_ms > 600_000 {
            self.lost_ms = now;
            self.hold_until_ms = now + REBUILD_HOLD_MS;
        }
    }

    pub fn claim(&mut self, room: &RoomSettings, number: u64, place: u64, browser: u64, clock: i64) -> Claim {
        let now = clock + self.skew_ms;
        if self.ended.contains_key(&number) {
            return Claim::Missed;
        }
        if let Some(until) = self.inside.get(&number).or(self.buying.get(&number)) {
            let browser = self.entered.get(&number).map_or(0, |(_, browser)| *browser);
            return if *until > now { Claim::Inside { lease_until_ms: *until, browser } } else { Claim::Missed };
        }
        if let Some(until) = self.called.get(&number).copied() {
            if until <= now {
                return Claim::Missed;
            }
            if now < self.hold_until_ms {
                return Claim::NotYourTurn;
            }
            self.called.remove(&number);
            self.missed_once.remove(&number);
            let lease_until_ms = now + i64::from(room.lease_ms);
            self.inside.insert(number, lease_until_ms);
            self.entered.insert(number, (now, browser));
            self.claims += 1;
            if let Some(second) = self.ring.get_mut(&(until - i64::from(room.claim_window_ms)).div_euclid(1_000)) {
                second.1 += 1;
            }
            return Claim::Inside { lease_until_ms, browser };
        }
        if self.line.values().any(|n| *n == number) {
            return Claim::NotYourTurn;
        }
        if self.silent.contains(&number) {
            return if self.missed_once.contains(&number) { Claim::Missed } else { Claim::NotYourTurn };
        }
        if self.left.contains(&number) {
            return Claim::Left;
        }
        self.take_as_evidence(number, now);
        if place > self.frontier { Claim::NotYourTurn } else { Claim::Missed }
    }

    pub fn renew(&mut self, room: &RoomSettings, number: u64, clock: i64) -> Option<i64> {
        let now = clock + self.skew_ms;
        let since = self.entered.get(&number).map_or(now, |(since, _)| *since);
        let until = self
            .inside
            .get_mut(&number)
            .filter(|u| **u > now)
            .or(self.buying.get_mut(&number).filter(|u| **u > now))?;
        *until = (*until).max((now + i64::from(room.lease_ms)).min(since + i64::from(room.lease_max_ms)));
        Some(*until)
    }

    pub fn end(&mut self, number: u64, expires: i64, clock: i64) -> bool {
        let now = clock + self.skew_ms;
        let had = self.inside.remove(&number).is_some() | self.buying.remove(&number).is_some();
        self.entered.remove(&number);
        if expires > now {
            self.ended.insert(number, expires);
        }
        had
    }

    pub fn leave(&mut self, room: &RoomSettings, number: u64, clock: i64) -> bool {
        let now = clock + self.skew_ms;
        self.take_as_evidence(number, now);
        let before = self.line.len();
        self.line.retain(|_, n| *n != number);
        let waited = self.line.len() < before || self.silent.remove(&number) | self.called.remove(&number).is_some();
        let idle = self.inside.remove(&number).is_some();
        let leased = self.buying.remove(&number).is_some() | idle;
        if leased {
            self.entered.remove(&number);
            self.ended.insert(number, now + i64::from(room.lease_max_ms));
            self.idle += u64::from(idle);
        }
        self.missed_once.remove(&number);
        self.left.insert(number);
        self.leaves += u64::from(waited || leased);
        waited || leased
    }
}
