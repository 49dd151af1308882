//! The sale: a line in plain Rust that is called by [`decide`], and people who do what people do.

use queue::admission::{Health, LimitReason, Snapshot, decide};
use queue::eta::{Eta, Inside, Pace, SLOT_S, SLOTS, Sample, Trend, estimate};
use queue::settings::RoomSettings;
use queue::state::Stock;
use std::collections::{BTreeMap, BTreeSet};

pub const PEOPLE: usize = 10_000;
const TICK_MS: i64 = 200;
/// Pages ask so often.
const POLL_MS: i64 = 15_000;
/// The lobby is open for so long.
const LOBBY_MS: i64 = 120_000;
/// Nobody waits longer than that in these rooms.
const HOURS_MAX_MS: i64 = 6 * 3_600_000;
const START_MS: i64 = 1_000_000_000;
/// One kind of sale.
#[derive(Clone, Copy)]
pub struct Scene {
    pub name: &'static str,
    pub rate_per_s: u32,
    pub inside_max: u32,
    pub session_s: f64,
    /// The operator sets another rate after so long, from and to; half to double of the first one.
    pub changes_ms: Option<(i64, i64)>,
    /// The operator stops the calls now and then, for 15 to 90 s.
    pub pauses: bool,
    /// The operator changes the cap every five minutes, by up to 40 %.
    pub cap_changes: bool,
    pub units: u64,
    pub silent_percent: u64,
    /// Those who are not in the lobby come within so long after the start.
    pub arrivals_ms: i64,
}

pub const PLAIN: Scene = Scene {
    name: "steady",
    rate_per_s: 12,
    inside_max: 1_000_000,
    session_s: 90.0,
    changes_ms: None,
    pauses: false,
    cap_changes: false,
    units: 0,
    silent_percent: 20,
    arrivals_ms: 700_000,
};
pub const OFTEN: Option<(i64, i64)> = Some((90_000, 300_000));
/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
    fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
    fn between_ms(&mut self, from: i64, to: i64) -> i64 {
        from + (self.unit() * (to - from) as f64) as i64
    }
    fn one_of(&mut self, factors: &[f64]) -> f64 {
        factors[(self.next() % factors.len() as u64) as usize]
    }
    /// Log-normal with this mean: most sessions are short, some are long.
    fn session_ms(&mut self, mean_s: f64) -> i64 {
        let normal = (0..12).map(|_| self.unit()).sum::<f64>() - 6.0;
        let seconds = mean_s * (0.8 * normal - 0.32).exp();
        (seconds.clamp(2.0, 600.0) * 1_000.0) as i64
    }
}

/// Something that happens to somebody at a time.
type Agenda = BTreeSet<(i64, usize)>;

fn due(agenda: &mut Agenda, now: i64) -> Option<usize> {
    let first = agenda.first().copied().filter(|(at, _)| *at <= now)?;
    agenda.remove(&first);
    Some(first.1)
}

/// People in line by number: a Fenwick tree, so that "how many in front" is cheap.
struct Line {
    present: BTreeSet<usize>,
    sums: Vec<u32>,
}

impl Line {
    fn change(&mut self, number: usize, join: bool) -> bool {
        let changed = if join { self.present.insert(number) } else { self.present.remove(&number) };
        let mut i = number + 1;
        while changed && i < self.sums.len() {
            self.sums[i] = if join { self.sums[i] + 1 } else { self.sums[i] - 1 };
            i += i & i.wrapping_neg();
        }
        changed
    }
    fn ahead(&self, number: usize) -> u64 {
        let (mut i, mut people) = (number, 0);
        while i > 0 {
            people += u64::from(self.sums[i]);
            i &= i - 1;
        }
        people
    }
}

pub struct Sale {
    scene: Scene,
    random: Random,
    room: RoomSettings,
    pub now: i64,
    pub arrivals: Vec<i64>,
    joined: usize,
    silent: Vec<bool>,
    back: Vec<bool>,
    pub called_ms: Vec<Option<i64>>,
    /// Skipped, left, or let a call pass: their wait is their own.
    pub out: Vec<bool>,
    line: Line,
    leaving: Agenda,
    returning: Agenda,
    polling: Agenda,
    called: Agenda,
    /// Of the called: those who will not claim.
    missing: BTreeSet<usize>,
    inside: Agenda,
    buying: Agenda,
    stock: Stock,
    totals: Sample,
    claims: u64,
    idle: u64,
    last_tick_ms: i64,
    carry_micro: i64,
    reason: LimitReason,
    seconds: BTreeMap<i64, u64>,
    slots: BTreeMap<i64, Sample>,
    trend: Trend,
    change_at: i64,
    pause_at: i64,
    resume_at: i64,
    pub promises: Vec<Option<Eta>>,
    pub shown: Vec<(usize, i64, Eta)>,
    /// Polls at which nobody could know.
    pub unknown: u64,
}

impl Sale {
    pub fn new(scene: Scene, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut room = RoomSettings::new("sim".parse().unwrap(), "Sale".into(), scene.rate_per_s, scene.inside_max);
        room.starts_at_ms = START_MS + LOBBY_MS;
        room.stock_aware = scene.units > 0;
        let mut arrivals: Vec<i64> = (0..PEOPLE)
            .map(|_| match random.percent(40) {
                true => random.between_ms(START_MS, START_MS + LOBBY_MS + 20_000),
                false => room.starts_at_ms + (random.unit().powi(2) * scene.arrivals_ms as f64) as i64,
            })
            .collect();
        arrivals.sort_unstable();
        let silent = (0..PEOPLE).map(|_| random.percent(scene.silent_percent)).collect();
        let back = (0..PEOPLE).map(|_| random.percent(30)).collect();
        let change_at = room.starts_at_ms + random.between_ms(60_000, 180_000);
        let pause_at = room.starts_at_ms + random.between_ms(100_000, 400_000);
        let stock = Stock { available: scene.units, held: 0, sold: 0, total: scene.units };
        Self {
            scene,
            random,
            room,
            now: START_MS,
            arrivals,
            joined: 0,
            silent,
            back,
            called_ms: vec![None; PEOPLE],
            out: vec![false; PEOPLE],
            line: Line { present: BTreeSet::new(), sums: vec![0; PEOPLE + 2] },
            leaving: Agenda::new(),
            returning: Agenda::new(),
            polling: Agenda::new(),
            called: Agenda::new(),
            missing: BTreeSet::new(),
            inside: Agenda::new(),
            buying: Agenda::new(),
            stock,
            totals: Sample::default(),
            claims: 0,
            idle: 0,
            last_tick_ms: 0,
            carry_micro: 0,
            reason: LimitReason::NotOpen,
            seconds: BTreeMap::new(),
            slots: BTreeMap::new(),
            trend: Trend::default(),
            change_at,
            pause_at,
            resume_at: i64::MAX,
            promises: vec![None; PEOPLE],
            shown: Vec::new(),
            unknown: 0,
        }
    }

    /// The whole sale.
    pub fn run(mut self) -> Self {
        while self.now < START_MS + HOURS_MAX_MS && !self.over() {
            self.now += TICK_MS;
            self.operate();
            self.happen();
            self.join();
            self.poll();
            self.tick();
        }
        self
    }

    fn over(&self) -> bool {
        let sold_out = self.room.stock_aware && self.stock.available + self.stock.held == 0;
        self.joined == PEOPLE && (self.line.present.is_empty() || sold_out)
    }

    fn operate(&mut self) {
        if let Some((from, to)) = self.scene.changes_ms.filter(|_| self.now >= self.change_at) {
            let factor = self.random.one_of(&[0.5, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0]);
            self.room.rate_per_s = ((f64::from(self.scene.rate_per_s) * factor) as u32).max(1);
            self.change_at = self.now + self.random.between_ms(from, to);
        }
        if self.scene.cap_changes && self.random.next().is_multiple_of(300_000 / TICK_MS as u64) {
            let factor = self.random.one_of(&[0.7, 0.85, 1.0, 1.2, 1.4]);
            self.room.inside_max = (f64::from(self.scene.inside_max) * factor) as u32;
        }
        if self.scene.pauses && self.now >= self.pause_at {
            self.room.paused = true;
            self.resume_at = self.now + self.random.between_ms(15_000, 90_000);
            self.pause_at = self.resume_at + self.random.between_ms(150_000, 550_000);
        }
        if self.now >= self.resume_at {
            (self.room.paused, self.resume_at) = (false, i64::MAX);
        }
    }

    fn happen(&mut self) {
        while let Some(person) = due(&mut self.called, self.now) {
            if self.missing.remove(&person) {
                // Let the call pass: silent until the page is opened again, which these people do not.
                (self.totals.misses, self.totals.silent) = (self.totals.misses + 1, self.totals.silent + 1);
                continue;
            }
            self.claims += 1;
            let session_ms = self.random.session_ms(self.scene.session_s);
            if self.room.stock_aware && self.stock.available > 0 && self.random.percent(60) {
                (self.stock.available, self.stock.held) = (self.stock.available - 1, self.stock.held + 1);
                self.buying.insert((self.now + session_ms, person));
            } else {
                self.inside.insert((self.now + session_ms, person));
            }
        }
        while due(&mut self.inside, self.now).is_some() {
            self.idle += 1;
        }
        while due(&mut self.buying, self.now).is_some() {
            self.stock.held -= 1;
            let returned = self.random.percent(15);
            *(if returned { &mut self.stock.available } else { &mut self.stock.sold }) += 1;
        }
        while let Some(person) = due(&mut self.returning, self.now) {
            self.silent[person] = false;
            self.totals.silent -= 1;
            self.line.change(person, true);
        }
        while let Some(person) = due(&mut self.leaving, self.now) {
            self.out[person] |= self.line.change(person, false);
        }
    }

    fn join(&mut self) {
        self.trend_of_slot();
        while self.arrivals.get(self.joined).is_some_and(|at| *at <= self.now) {
            let person = self.joined;
            self.joined += 1;
            self.promises[person] = self.eta(self.line.present.len() as u64);
            self.line.change(person, true);
            if !self.silent[person] {
                self.polling.insert((self.now + self.random.between_ms(0, POLL_MS), person));
                if self.random.percent(3) {
                    self.leaving.insert((self.now + self.random.between_ms(0, 600_000), person));
                }
            }
        }
    }

    fn poll(&mut self) {
        while let Some(person) = due(&mut self.polling, self.now) {
            if self.called_ms[person].is_some() || self.out[person] {
                continue;
            }
            match self.eta(self.line.ahead(person)) {
                Some(eta) => self.shown.push((person, self.now, eta)),
                None => self.unknown += 1,
            }
            self.polling.insert((self.now + POLL_MS, person));
        }
    }

    fn active(&self) -> u64 {
        (self.called.len() + self.inside.len() + self.buying.len()) as u64
    }

    /// As the board does it.
    fn eta(&self, ahead: u64) -> Option<Eta> {
        let start_in_ms = (self.room.starts_at_ms - self.now).max(0);
        let reason = match (self.room.paused, start_in_ms) {
            (true, _) => LimitReason::Paused,
            (_, 1..) => LimitReason::NotOpen,
            _ if self.room.stock_aware && self.stock.available == 0 => return None, // standby
            _ => self.reason,
        };
        let pace = Pace {
            target_per_s: f64::from(self.room.rate_per_s),
            measured_per_s: self.measured(),
            reason,
            trend: self.trend,
            inside: Some(Inside { active: self.active(), max: u64::from(self.room.inside_max) }),
        };
        estimate(ahead, start_in_ms, pace)
    }

    /// As the board does it: ten seconds, or thirty where little happens.
    fn measured(&self) -> Option<f64> {
        let second = self.now / 1_000;
        let over = |window_s: i64| {
            let first = (second - window_s).max(self.room.starts_at_ms / 1_000);
            let calls: u64 = self.seconds.range(first..second.max(first)).map(|(_, calls)| calls).sum();
            (second > first).then(|| (calls, (second - first) as f64))
        };
        let (calls, seconds) = over(10).and_then(|(calls, s)| if calls < 20 { over(30) } else { Some((calls, s)) })?;
        Some(calls as f64 / seconds)
    }

    fn trend_of_slot(&mut self) {
        let slot = self.now / (SLOT_S * 1_000);
        if self.now % (SLOT_S * 1_000) < TICK_MS {
            let ring: Vec<Sample> = self.slots.range(slot - SLOTS..).map(|(_, sample)| *sample).collect();
            self.trend = Trend::new(&ring, self.room.starts_at_ms, self.now);
        }
    }

    fn tick(&mut self) {
        let judged = self.claims + self.totals.misses;
        let snapshot = Snapshot {
            now_ms: self.now,
            last_tick_ms: self.last_tick_ms,
            carry_micro: self.carry_micro,
            waiting: self.line.present.len() as u64,
            called: self.called.len() as u64,
            inside: self.inside.len() as u64,
            buying: self.buying.len() as u64,
            stock: Some(self.stock),
            calls_per_hundred_claims: if judged < 20 { 100 } else { (judged * 100).div_ceil(self.claims.max(1)) },
            claims: self.claims,
            idle: self.idle,
            ..Snapshot::default()
        };
        let decision = decide(&self.room, &snapshot, Health::Unknown);
        (self.last_tick_ms, self.carry_micro, self.reason) = (self.now, decision.carry_micro, decision.reason);
        let mut left = decision.calls;
        while let Some(person) = self.line.present.first().copied().filter(|_| left > 0) {
            self.line.change(person, false);
            if self.silent[person] {
                self.totals.silent += 1;
                self.out[person] = true;
                if self.back[person] {
                    self.returning.insert((self.now + self.random.between_ms(0, 120_000), person));
                }
                continue;
            }
            left -= 1;
            self.totals.calls += 1;
            self.called_ms[person] = Some(self.now);
            *self.seconds.entry(self.now / 1_000).or_default() += 1;
            let claims = !self.random.percent(8);
            if !claims {
                self.missing.insert(person);
            }
            let ms = if claims { self.random.between_ms(1_000, 8_000) } else { i64::from(self.room.claim_window_ms) };
            self.called.insert((self.now + ms, person));
        }
        let slot = self.now / (SLOT_S * 1_000);
        self.totals = Sample { slot, active: self.active(), ..self.totals };
        if self.line.present.is_empty() {
            self.slots.remove(&slot);
        } else {
            self.carry_micro += left as i64 * 1_000_000;
            self.slots.insert(slot, self.totals);
        }
    }
}
