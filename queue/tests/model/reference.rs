//! The line without Redis, written once more in the plainest way: what the scripts must agree with.

use queue::admission::LimitReason;
use queue::line::{Claim, Presence, REBUILD_HOLD_MS, SPARE_AGE_MAX_MS};
use queue::settings::RoomSettings;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
pub struct Model {
    pub next: u64,
    pub frontier: u64,
    pub last_tick_ms: i64,
    /// Thousandths of a person: the model counts in `rate × ms`.
    pub carry_milli: i64,
    pub spare: u64,
    pub hold_until_ms: i64,
    pub lost_ms: i64,
    /// number → last heartbeat
    pub line: BTreeMap<u64, i64>,
    pub silent: BTreeSet<u64>,
    pub called: BTreeMap<u64, i64>,
    pub inside: BTreeMap<u64, i64>,
    pub buying: BTreeMap<u64, i64>,
    pub missed_once: BTreeSet<u64>,
    pub left: BTreeSet<u64>,
    pub joins: BTreeMap<String, (u64, i64, String)>,
    pub stock: Option<(u64, u64)>,
    pub calls: u64,
    pub claims: u64,
    pub misses: u64,
    pub skips: u64,
    pub leaves: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            next: 1,
            frontier: 0,
            last_tick_ms: 0,
            carry_milli: 0,
            spare: 0,
            hold_until_ms: 0,
            lost_ms: 0,
            line: BTreeMap::new(),
            silent: BTreeSet::new(),
            called: BTreeMap::new(),
            inside: BTreeMap::new(),
            buying: BTreeMap::new(),
            missed_once: BTreeSet::new(),
            left: BTreeSet::new(),
            joins: BTreeMap::new(),
            stock: None,
            calls: 0,
            claims: 0,
            misses: 0,
            skips: 0,
            leaves: 0,
        }
    }
}

pub fn alive(leases: &BTreeMap<u64, i64>, now: i64) -> u64 {
    leases.values().filter(|until| **until > now).count() as u64
}

impl Model {
    /// (number, joined, created, called until, visitor)
    pub fn join(
        &mut self,
        room: &RoomSettings,
        key: &str,
        visitor: &str,
        now: i64,
    ) -> (u64, i64, bool, Option<i64>, String) {
        if let Some((number, joined, owner)) = self.joins.get(key).cloned() {
            if let Some(heard) = self.line.get_mut(&number) {
                *heard = now;
            }
            let until = self.called.get(&number).copied().filter(|until| *until > now);
            return (number, joined, false, until, owner);
        }
        let number = self.next;
        self.next += 1;
        self.joins.insert(key.to_owned(), (number, now, visitor.to_owned()));
        let shelf = !room.stock_aware || self.stock.is_some_and(|(available, _)| available > 0);
        let fresh = now >= self.last_tick_ms && now - self.last_tick_ms < SPARE_AGE_MAX_MS;
        let open = !room.paused && !room.closed && now >= room.starts_at_ms;
        if self.line.is_empty() && self.spare > 0 && fresh && open && shelf && now >= self.hold_until_ms {
            self.spare -= 1;
            self.calls += 1;
            self.frontier = number;
            let until = now + i64::from(room.claim_window_ms);
            self.called.insert(number, until);
            return (number, now, true, Some(until), visitor.to_owned());
        }
        self.line.insert(number, now);
        (number, now, true, None, visitor.to_owned())
    }

    fn budget(&mut self, room: &RoomSettings, now: i64) -> (u64, LimitReason) {
        let carry = std::mem::take(&mut self.carry_milli);
        if room.paused {
            return (0, LimitReason::Paused);
        }
        if room.closed || now < room.starts_at_ms {
            return (0, LimitReason::NotOpen);
        }
        if room.stock_aware && self.stock.is_some_and(|(available, _)| available == 0) {
            return (0, LimitReason::Stock);
        }
        if now < self.hold_until_ms {
            return (0, LimitReason::Rebuilding);
        }
        let elapsed = if self.last_tick_ms == 0 { 0 } else { (now - self.last_tick_ms).clamp(0, 1_000) };
        let rate = i64::from(room.rate_per_s);
        let milli = (elapsed * rate + carry).min(rate * 1_000 + 999);
        self.carry_milli = milli % 1_000;
        let budget = (milli / 1_000) as u64;
        let (called, inside, buying) = (alive(&self.called, now), alive(&self.inside, now), alive(&self.buying, now));
        let cap = u64::from(room.inside_max).saturating_sub(called + inside + buying);
        let mut shelf = u64::MAX;
        if room.stock_aware {
            let units = self.stock.map_or(0, |(available, _)| available);
            let people = (units * u64::from(room.overbooking_percent)).div_ceil(100);
            shelf = people.saturating_sub(called + inside);
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

    /// (calls, skips, claims missed, reason)
    pub fn tick(&mut self, room: &RoomSettings, now: i64) -> (u64, u64, u64, LimitReason) {
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
        self.inside.retain(|_, until| *until > now);
        self.buying.retain(|_, until| *until > now);
        let (mut calls, mut skips) = (0, 0);
        while allowed > 0 {
            let Some((number, heard)) = self.line.pop_first() else { break };
            if heard < now - i64::from(room.silence_ms) {
                self.silent.insert(number);
                skips += 1;
                continue;
            }
            self.called.insert(number, now + i64::from(room.claim_window_ms));
            self.frontier = self.frontier.max(number);
            calls += 1;
            allowed -= 1;
        }
        self.spare = if self.line.is_empty() { allowed } else { 0 };
        self.calls += calls;
        self.skips += skips;
        (calls, skips, over.len() as u64, reason)
    }

    pub fn beat(&mut self, number: u64, now: i64) -> Presence {
        if let Some(heard) = self.line.get_mut(&number) {
            *heard = now;
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
            self.line.insert(number, now);
            return Presence::Waiting;
        }
        if let Some(until) = self.inside.get(&number).or(self.buying.get(&number)) {
            return if *until > now { Presence::Inside } else { Presence::Missed };
        }
        if self.silent.remove(&number) {
            self.line.insert(number, now);
            return Presence::Waiting;
        }
        if self.left.contains(&number) {
            return Presence::Left;
        }
        if number <= self.frontier {
            return Presence::Missed;
        }
        self.take_as_evidence(number, now);
        self.line.insert(number, now);
        Presence::Waiting
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

    pub fn claim(&mut self, room: &RoomSettings, number: u64, now: i64) -> Claim {
        if let Some(until) = self.inside.get(&number).or(self.buying.get(&number)) {
            return if *until > now { Claim::Inside { lease_until_ms: *until } } else { Claim::Missed };
        }
        if let Some(until) = self.called.get(&number) {
            if *until <= now {
                return Claim::Missed;
            }
            self.called.remove(&number);
            self.missed_once.remove(&number);
            let lease_until_ms = now + i64::from(room.lease_ms);
            self.inside.insert(number, lease_until_ms);
            self.claims += 1;
            return Claim::Inside { lease_until_ms };
        }
        if self.line.contains_key(&number) {
            return Claim::NotYourTurn;
        }
        if self.silent.contains(&number) {
            return if self.missed_once.contains(&number) { Claim::Missed } else { Claim::NotYourTurn };
        }
        if self.left.contains(&number) {
            return Claim::Left;
        }
        self.take_as_evidence(number, now);
        if number > self.frontier { Claim::NotYourTurn } else { Claim::Missed }
    }

    pub fn leave(&mut self, number: u64, now: i64) -> bool {
        self.take_as_evidence(number, now);
        let mut gone = self.line.remove(&number).is_some() | self.silent.remove(&number);
        for people in [&mut self.called, &mut self.inside, &mut self.buying] {
            gone |= people.remove(&number).is_some();
        }
        self.missed_once.remove(&number);
        self.left.insert(number);
        self.leaves += u64::from(gone);
        gone
    }
}
