//! The scripts on a real Redis against a model in plain Rust, step by step.
//!
//! `FLOODGATE_SEED=17` repeats one run; `FLOODGATE_SEEDS=5000` makes more of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod reference;
#[path = "../support/mod.rs"]
mod support;

use queue::keys::RoomKeys;
use queue::lane::{DEMOTED, Lane};
use queue::line::{BatchId, JoinRequest, Line};
use queue::marks::Marks;
use queue::settings::RoomSettings;
use reference::{Model, Remembered, alive};
use service_kit::ids::VisitorId;
use service_kit::redis::Redis;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use support::{Random, members, zset};

const STEPS: u64 = 60;
const HOUR_MS: i64 = 3_600_000;

struct Run {
    seed: u64,
    random: Random,
    redis: Redis,
    /// Two gates: two memories.
    gates: [Line; 2],
    batches: [u64; 2],
    room: RoomSettings,
    keys: RoomKeys,
    model: Model,
    remembered: [Remembered; 2],
    /// A clock that nobody sets, and how far the store's is away from it.
    steady: i64,
    offset: i64,
    log: Vec<String>,
}

impl Run {
    fn new(seed: u64, redis: Redis) -> Self {
        let mut random = Random(seed);
        let steady = 1_700_000_000_000 + random.below(1_000_000) as i64;
        let lease_ms = 1_000 + random.below(20_000) as u32;
        let mut room = RoomSettings {
            rate_per_s: 1 + random.below(40) as u32,
            inside_max: 1 + random.below(30) as u32,
            claim_window_ms: 1_000 + random.below(8_000) as u32,
            lease_ms,
            lease_max_ms: lease_ms + random.below(20_000) as u32,
            silence_ms: 1_000 + random.below(10_000) as u32,
            starts_at_ms: steady + random.below(3) as i64 * 2_000,
            stock_aware: random.below(2) == 0,
            no_show_percent_max: 100 + 100 * random.below(2) as u32,
            ..support::room(&format!("m-{seed}"))
        };
        if random.below(2) == 0 {
            room.lanes = vec![Lane { name: "vip".into(), share_percent: 30, codes: vec![] }];
        }
        let keys = RoomKeys::new(&room.room);
        let gates = [Line::new(redis.clone()), Line::new(redis.clone())];
        let model = Model::new();
        let (batches, remembered) = ([0; 2], [None; 2]);
        Self { seed, random, redis, gates, batches, room, keys, model, remembered, steady, offset: 0, log: Vec::new() }
    }

    /// The store's clock.
    fn clock(&self) -> i64 {
        self.steady + self.offset
    }
    /// The room's clock.
    fn now(&self) -> i64 {
        self.clock() + self.model.skew_ms
    }
    /// Either gate, at this moment.
    fn gate(&mut self) -> Line {
        let i = self.random.below(2) as usize;
        self.gates[i].at_stepped(self.clock(), self.steady)
    }

    /// Any ticket given so far, or sometimes one that was never given: number and place.
    fn some_ticket(&mut self) -> (u64, u64) {
        let number = if self.random.below(60) == 0 {
            self.model.next + self.random.below(3)
        } else {
            1 + self.random.below((self.model.next - 1).max(1))
        };
        // In a lane of their own, so that no place is there twice.
        let unknown = 1_000_000 * number * 8 + 6;
        (number, *self.model.tickets.entry(number).or_insert(unknown))
    }

    fn check<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, real: &T, model: &T) {
        self.log.push(format!("{} {what} -> {real:?}", self.now()));
        assert!(
            real == model,
            "FLOODGATE_SEED={} cargo test -p queue --test model: {what}\n real {real:?}\nmodel {model:?}\n{}",
            self.seed,
            self.log.join("\n")
        );
    }

    /// One to four people in one script; sometimes the reply is lost and the same batch is sent again.
    async fn join(&mut self) {
        let gate = self.random.below(2) as usize;
        self.batches[gate] += 1;
        let batch = BatchId { gate: GATES[gate].parse().unwrap(), number: self.batches[gate] };
        let mut people = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            // A third repeats a key: a lost reply, a double click, a second tab. A third has none.
            let key = match self.random.below(3) {
                0 => Some(format!("key-{}", self.random.below(self.model.next))),
                1 => Some(format!("key-{}", 1_000 + self.model.next + people.len() as u64)),
                _ => None,
            };
            let lane = match self.random.below(8) {
                0 => DEMOTED,
                1 | 2 if !self.room.lanes.is_empty() => 1,
                _ => 0,
            };
            people.push(JoinRequest { visitor: VisitorId::new(), key, lane, code: None, nonce: None });
        }
        let line = self.gates[gate].at_stepped(self.clock(), self.steady);
        let clock = self.clock();
        let mut first = Vec::new();
        for person in &people {
            let key = person.key.as_deref();
            first.push(self.model.join(&self.room, key, person.visitor.as_str(), person.lane, clock));
        }
        let facts = |answers: Vec<Result<queue::line::Joined, _>>| -> Vec<_> {
            let facts = |j: queue::line::Joined| {
                (j.number, j.place, j.joined_ms, j.created, j.called_until_ms, j.visitor.to_string())
            };
            answers.into_iter().map(|a: Result<_, service_kit::redis::StoreError>| facts(a.unwrap())).collect()
        };
        let real = facts(line.join_batch(&self.room, &batch, &people, clock).await.unwrap());
        self.check(&format!("join {:?}", people.iter().map(|p| (&p.key, p.lane)).collect::<Vec<_>>()), &real, &first);
        if self.random.below(4) == 0 {
            let again = facts(line.join_batch(&self.room, &batch, &people, clock).await.unwrap());
            let expected: Vec<_> = first.iter().map(|j| (j.0, j.1, j.2, false, j.4, j.5.clone())).collect();
            self.check("the same batch again", &again, &expected);
        }
    }

    async fn tick(&mut self) {
        let gate = self.random.below(2) as usize;
        let line = self.gates[gate].at_stepped(self.clock(), self.steady);
        let t = line.tick(&self.room).await.unwrap();
        assert!(!t.raced);
        let (clock, steady) = (self.clock(), self.steady);
        let model = self.model.tick(&self.room, clock, steady, &mut self.remembered[gate]);
        self.check(&format!("tick by {gate}"), &(t.calls, t.skips, t.claims_missed, t.reason), &model);
    }

    async fn beat(&mut self) {
        // A quarter of all tickets, with repeats: the others are the silent ones.
        let tickets: Vec<(u64, u64)> = (0..1 + self.model.next / 4).map(|_| self.some_ticket()).collect();
        let real = self.gate().beat(&self.room, &tickets).await.unwrap();
        let mut known = BTreeMap::new();
        let mut model = Vec::new();
        let clock = self.clock();
        for (number, place) in &tickets {
            if !known.contains_key(number) {
                known.insert(*number, self.model.beat(*number, *place, clock));
            }
            model.push(known[number]);
        }
        self.check(&format!("beat {tickets:?}"), &real, &model);
    }

    /// Signs of life that ask nothing, of anybody: whoever is not in the line is heard without effect.
    async fn mark(&mut self) {
        let mut marks = Marks::default();
        let tickets: Vec<(u64, u64)> = (0..1 + self.model.next / 4).map(|_| self.some_ticket()).collect();
        for (number, place) in &tickets {
            marks.insert(*number, *place);
            self.model.hear(*number);
        }
        for _ in 0..1 + self.random.below(2) {
            self.gate().mark(&self.room, &marks).await.unwrap();
        }
        self.log.push(format!("{} mark {tickets:?}", self.now()));
    }

    async fn claim(&mut self) {
        let called: Vec<u64> = self.model.called.keys().copied().collect();
        let (number, place) = if called.is_empty() || self.random.below(4) == 0 {
            self.some_ticket()
        } else {
            let number = called[self.random.below(called.len() as u64) as usize];
            (number, self.model.tickets[&number])
        };
        // Each claim twice: the reply of the first one was lost; or another browser has a copy of the ticket.
        for _ in 0..2 {
            let browser = [0, 1, u64::MAX][self.random.below(3) as usize];
            let real = self.gate().claim(&self.room, number, place, browser, false).await.unwrap();
            let model = self.model.claim(&self.room, number, place, browser, self.clock());
            self.check(&format!("claim {number}"), &real, &model);
        }
    }

    async fn renew_or_end(&mut self) {
        let inside: Vec<u64> = self.model.entered.keys().copied().collect();
        let number = match inside.is_empty() {
            true => self.some_ticket().0,
            false => inside[self.random.below(inside.len() as u64) as usize],
        };
        let ends = self.random.below(3) == 0;
        let expires = self.now() + self.random.below(20_000) as i64;
        for _ in 0..2 {
            let (gate, clock) = (self.gate(), self.clock());
            if ends {
                let real = gate.end(&self.room, number, expires).await.unwrap();
                let model = self.model.end(number, expires, clock);
                self.check(&format!("end {number}"), &real, &model);
            } else {
                let real = gate.renew(&self.room, number).await.unwrap();
                let model = self.model.renew(&self.room, number, clock);
                self.check(&format!("renew {number}"), &real, &model);
            }
        }
    }

    async fn leave(&mut self) {
        let (number, _) = self.some_ticket();
        for _ in 0..2 {
            let real = self.gate().leave(&self.room, number).await.unwrap();
            let model = self.model.leave(&self.room, number, self.clock());
            self.check(&format!("leave {number}"), &real, &model);
        }
    }

    /// What the deal behind the room does: stock moves, and a visitor inside takes a hold.
    async fn deal(&mut self) {
        let (available, held) = (self.random.below(6), self.random.below(3));
        self.model.stock = Some((available, held));
        let (a, h) = (available.to_string(), held.to_string());
        self.redis
            .command("HSET", &[&self.keys.stock(), "available", &a, "held", &h, "sold", "0", "total", "9"])
            .await
            .unwrap();
        if let Some((number, until)) = self.model.inside.pop_first() {
            self.model.buying.insert(number, until);
            self.redis.command("ZREM", &[&self.keys.inside(), &number.to_string()]).await.unwrap();
            self.redis.command("ZADD", &[&self.keys.buying(), &until.to_string(), &number.to_string()]).await.unwrap();
        }
        self.log.push(format!("{} deal {:?}", self.now(), self.model.stock));
    }

    fn change_settings(&mut self) {
        match self.random.below(5) {
            0 => self.room.rate_per_s = 1 + self.random.below(100) as u32,
            1 => self.room.inside_max = 1 + self.random.below(30) as u32,
            2 => self.room.paused = !self.room.paused,
            // The store's clock is set forwards or back.
            3 => self.offset += [-HOUR_MS, -8_000, 8_000, HOUR_MS][self.random.below(4) as usize],
            _ => self.room.overbooking_percent = 100 + self.random.below(200) as u32,
        }
        let room = &self.room;
        self.log.push(format!(
            "{} rate {} cap {} paused {} overbooking {} offset {}",
            self.now(),
            room.rate_per_s,
            room.inside_max,
            room.paused,
            room.overbooking_percent,
            self.offset
        ));
    }

    async fn step(&mut self) {
        self.steady += match self.random.below(12) {
            0 => self.random.below(12_000) as i64,
            1..=3 => 0,
            _ => self.random.below(700) as i64,
        };
        match self.random.below(100) {
            0..24 => self.join().await,
            24..54 => self.tick().await,
            54..62 => self.beat().await,
            62..68 => self.mark().await,
            68..80 => self.claim().await,
            80..86 => self.renew_or_end().await,
            86..91 => self.leave().await,
            91..96 => self.deal().await,
            _ => self.change_settings(),
        }
    }

    async fn compare_board(&mut self) {
        let board = self.gate().board(Arc::new(self.room.clone())).await.unwrap();
        let model = self.model.clone();
        let now = self.now();
        assert_eq!(board.taken_ms, now);
        let counts =
            (board.waiting, board.silent, board.called, board.inside, board.buying, board.frontier, board.next);
        let expected = (
            model.line.len() as u64,
            model.silent.len() as u64,
            alive(&model.called, now),
            alive(&model.inside, now),
            alive(&model.buying, now),
            model.frontier,
            model.next,
        );
        self.check("board", &counts, &expected);
        let t = board.totals;
        self.check(
            "totals",
            &[t.calls, t.claims, t.misses, t.skips, t.leaves, t.idle, t.losses, t.inversions],
            &[model.calls, model.claims, model.misses, model.skips, model.leaves, model.idle, model.losses, 0],
        );
        let called: Vec<_> =
            model.called.iter().filter(|(_, until)| **until > now).map(|(n, until)| (*n, *until)).collect();
        self.check("called", &board.called_until, &called);
        let ended: BTreeSet<u64> = model.ended.iter().filter(|(_, until)| **until > now).map(|(n, _)| *n).collect();
        self.check("ended", &board.ended.keys().copied().collect(), &ended);
        for (rank, (place, number)) in model.line.iter().enumerate().take(64) {
            let ticket = support::ticket(&self.room, *number, *place);
            self.check(&format!("rank of {number}"), &board.ahead_of(&ticket), &Some(rank as u64));
        }
    }

    async fn compare_keys(&mut self) {
        let model = self.model.clone();
        let real = zset(&self.redis, &self.keys.line()).await;
        self.check("keys: line", &real, &model.line.iter().map(|(place, n)| (*n, *place as i64)).collect());
        let mut real = members(&self.redis, &self.keys.silent()).await;
        real.sort_unstable();
        self.check("keys: silent", &real, &model.silent.iter().copied().collect());
        for (key, people) in [
            (self.keys.called(), &model.called),
            (self.keys.inside(), &model.inside),
            (self.keys.buying(), &model.buying),
        ] {
            let mut real = zset(&self.redis, &key).await;
            real.sort_unstable();
            self.check(&format!("keys: {key}"), &real, &people.iter().map(|(n, until)| (*n, *until)).collect());
        }
        let mut real = members(&self.redis, &self.keys.left()).await;
        real.sort_unstable();
        self.check("keys: left", &real, &model.left.iter().copied().collect());
        for (key, numbers) in [
            (self.keys.missed(), model.missed_once.iter().copied().collect::<Vec<u64>>()),
            (self.keys.entered(), model.entered.keys().copied().collect()),
        ] {
            let reply = self.redis.command("HKEYS", &[&key]).await.unwrap();
            let mut real: Vec<u64> = reply.ints().unwrap().into_iter().map(|n| n as u64).collect();
            real.sort_unstable();
            self.check(&format!("keys: {key}"), &real, &numbers);
        }
    }
}

/// Names of two gates, as they would make them at their start.
const GATES: [&str; 2] = ["gateAAAAAAAAAAAAAAAAAA", "gateBAAAAAAAAAAAAAAAAA"];

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    match number("FLOODGATE_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("FLOODGATE_SEEDS").unwrap_or(2_000)).collect(),
    }
}

#[derive(Default)]
struct Seen {
    calls: u64,
    skips: u64,
    misses: u64,
    claims: u64,
    losses: u64,
    reasons: BTreeSet<&'static str>,
}

async fn run_seeds(seeds: Vec<u64>) -> Seen {
    let (_server, redis, _) = support::line().await;
    let mut seen = Seen::default();
    for seed in seeds {
        let mut run = Run::new(seed, redis.clone());
        for _ in 0..STEPS {
            run.step().await;
            run.compare_board().await;
        }
        run.compare_keys().await;
        seen.calls += run.model.calls;
        seen.skips += run.model.skips;
        seen.misses += run.model.misses;
        seen.claims += run.model.claims;
        seen.losses += run.model.losses;
        for name in ["Target", "InsideCap", "Stock", "Paused", "NotOpen", "NobodyWaits", "Store"] {
            if run.log.iter().any(|l| l.contains(&format!(", {name})"))) {
                seen.reasons.insert(name);
            }
        }
        redis.command("DEL", &[&run.keys.line(), &run.keys.heard(), &run.keys.joins()]).await.unwrap();
    }
    seen
}

/// Two halves with a store each, because two cores can do them at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scripts_agree_with_the_model_step_by_step() {
    let seeds = seeds();
    let (many, tens) = (seeds.len() > 100, seeds.len() as u64 / 10);
    let (even, odd): (Vec<u64>, Vec<u64>) = seeds.into_iter().partition(|s| s % 2 == 0);
    let (a, b) = (tokio::spawn(run_seeds(even)), tokio::spawn(run_seeds(odd)));
    let (a, b) = (a.await.unwrap(), b.await.unwrap());
    if many {
        let sums =
            [a.calls + b.calls, a.skips + b.skips, a.misses + b.misses, a.claims + b.claims, a.losses + b.losses];
        // Per ten seeds, so that a shorter run is measured as fairly as a long one.
        let least = [50, 20, 20, 5, 1].map(|per_ten| per_ten * tens);
        assert!(sums.iter().zip(least).all(|(sum, least)| *sum > least), "too tame: {sums:?}");
        let reasons: BTreeSet<_> = a.reasons.union(&b.reasons).collect();
        assert_eq!(reasons.len(), 7, "reasons seen: {reasons:?}");
    }
}
