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
use queue::line::Line;
use queue::settings::RoomSettings;
use reference::{Model, alive};
use service_kit::ids::VisitorId;
use service_kit::redis::Redis;
use std::collections::BTreeMap;
use std::sync::Arc;
use support::{Random, members, zset};

const STEPS: u64 = 60;

struct Run {
    seed: u64,
    random: Random,
    redis: Redis,
    line: Line,
    room: RoomSettings,
    keys: RoomKeys,
    model: Model,
    now: i64,
    log: Vec<String>,
}

impl Run {
    fn new(seed: u64, redis: Redis) -> Self {
        let mut random = Random(seed);
        let now = 1_700_000_000_000 + random.below(1_000_000) as i64;
        let room = RoomSettings {
            rate_per_s: 1 + random.below(40) as u32,
            inside_max: 1 + random.below(30) as u32,
            claim_window_ms: 1_000 + random.below(8_000) as u32,
            lease_ms: 1_000 + random.below(20_000) as u32,
            silence_ms: 1_000 + random.below(10_000) as u32,
            starts_at_ms: now + random.below(3) as i64 * 2_000,
            stock_aware: random.below(2) == 0,
            ..support::room(&format!("m-{seed}"))
        };
        let keys = RoomKeys::new(&room.room);
        let line = Line::new(redis.clone());
        Self { seed, random, redis, line, room, keys, model: Model::default(), now, log: Vec::new() }
    }

    /// Any number given so far, or sometimes one that was never given.
    fn some_number(&mut self) -> u64 {
        if self.random.below(60) == 0 {
            self.model.next + self.random.below(3)
        } else {
            1 + self.random.below((self.model.next - 1).max(1))
        }
    }

    fn check<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, real: &T, model: &T) {
        self.log.push(format!("{} {what} -> {real:?}", self.now));
        assert!(
            real == model,
            "FLOODGATE_SEED={}: {what}\n real {real:?}\nmodel {model:?}\n{}",
            self.seed,
            self.log.join("\n")
        );
    }

    async fn join(&mut self) {
        // Every third join repeats a key: a lost reply, a double click, a second tab.
        let key = format!(
            "key-{}",
            if self.random.below(3) == 0 { self.random.below(self.model.next) } else { 1_000 + self.model.next }
        );
        let visitor = VisitorId::new();
        let j = self.line.at(self.now).join(&self.room, &visitor, &key, self.now).await.unwrap();
        let real = (j.number, j.joined_ms, j.created, j.called_until_ms, j.visitor.to_string());
        let model = self.model.join(&self.room, &key, visitor.as_str(), self.now);
        self.check(&format!("join {key}"), &real, &model);
    }

    async fn tick(&mut self) {
        let t = self.line.at(self.now).tick(&self.room).await.unwrap();
        assert!(!t.raced);
        let model = self.model.tick(&self.room, self.now);
        self.check("tick", &(t.calls, t.skips, t.claims_missed, t.reason), &model);
    }

    async fn beat(&mut self) {
        // A quarter of all tickets, with repeats: the others are the silent ones.
        let numbers: Vec<u64> = (0..1 + self.model.next / 4).map(|_| self.some_number()).collect();
        let real = self.line.at(self.now).beat(&self.room, &numbers).await.unwrap();
        let mut known = BTreeMap::new();
        let mut model = Vec::new();
        for number in &numbers {
            if !known.contains_key(number) {
                known.insert(*number, self.model.beat(*number, self.now));
            }
            model.push(known[number]);
        }
        self.check(&format!("beat {numbers:?}"), &real, &model);
    }

    async fn claim(&mut self) {
        let called: Vec<u64> = self.model.called.keys().copied().collect();
        let number = if called.is_empty() || self.random.below(4) == 0 {
            self.some_number()
        } else {
            called[self.random.below(called.len() as u64) as usize]
        };
        // Each claim twice: the reply of the first one was lost.
        for _ in 0..2 {
            let real = self.line.at(self.now).claim(&self.room, number).await.unwrap();
            let model = self.model.claim(&self.room, number, self.now);
            self.check(&format!("claim {number}"), &real, &model);
        }
    }

    async fn leave(&mut self) {
        let number = self.some_number();
        for _ in 0..2 {
            let real = self.line.at(self.now).leave(&self.room, number).await.unwrap();
            let model = self.model.leave(number, self.now);
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
        self.log.push(format!("{} deal {:?}", self.now, self.model.stock));
    }

    fn change_settings(&mut self) {
        match self.random.below(4) {
            0 => self.room.rate_per_s = 1 + self.random.below(100) as u32,
            1 => self.room.inside_max = 1 + self.random.below(30) as u32,
            2 => self.room.paused = !self.room.paused,
            _ => self.room.overbooking_percent = 100 + self.random.below(300) as u32,
        }
        let room = &self.room;
        self.log.push(format!(
            "{} rate {} cap {} paused {} overbooking {}",
            self.now, room.rate_per_s, room.inside_max, room.paused, room.overbooking_percent
        ));
    }

    async fn step(&mut self) {
        self.now += match self.random.below(12) {
            0 => self.random.below(12_000) as i64,
            1..=3 => 0,
            4 => -(self.random.below(300) as i64),
            _ => self.random.below(700) as i64,
        };
        match self.random.below(100) {
            0..34 => self.join().await,
            34..60 => self.tick().await,
            60..74 => self.beat().await,
            74..86 => self.claim().await,
            86..91 => self.leave().await,
            91..96 => self.deal().await,
            _ => self.change_settings(),
        }
    }

    async fn compare_board(&mut self) {
        let board = self.line.at(self.now).board(Arc::new(self.room.clone())).await.unwrap();
        let model = self.model.clone();
        let now = self.now;
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
            &(t.calls, t.claims, t.misses, t.skips, t.leaves, t.inversions),
            &(model.calls, model.claims, model.misses, model.skips, model.leaves, 0),
        );
        let called: Vec<_> =
            model.called.iter().filter(|(_, until)| **until > now).map(|(n, until)| (*n, *until)).collect();
        self.check("called", &board.called_until, &called);
        assert!(model.line.len() < 64, "short enough for the ladder to be exact");
        for (rank, number) in model.line.keys().enumerate() {
            self.check(&format!("rank of {number}"), &board.ahead_of(*number), &(rank as u64));
        }
    }

    async fn compare_keys(&mut self) {
        let model = self.model.clone();
        let real = members(&self.redis, &self.keys.line()).await;
        self.check("keys: line", &real, &model.line.keys().copied().collect());
        let mut real = zset(&self.redis, &self.keys.seen()).await;
        real.sort_unstable();
        self.check("keys: seen", &real, &model.line.iter().map(|(n, heard)| (*n, *heard)).collect());
        let real = members(&self.redis, &self.keys.silent()).await;
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
        let reply = self.redis.command("HKEYS", &[&self.keys.missed()]).await.unwrap();
        let mut real: Vec<u64> = reply.ints().unwrap().into_iter().map(|n| n as u64).collect();
        real.sort_unstable();
        self.check("keys: missed", &real, &model.missed_once.iter().copied().collect());
    }
}

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    match number("FLOODGATE_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("FLOODGATE_SEEDS").unwrap_or(300)).collect(),
    }
}

#[tokio::test]
async fn the_scripts_agree_with_the_model_step_by_step() {
    let (_server, redis, _) = support::line().await;
    let (mut calls, mut skips, mut misses, mut claims, mut seen_reasons) =
        (0, 0, 0, 0, std::collections::BTreeSet::new());
    let seeds = seeds();
    let many = seeds.len() > 100;
    for seed in seeds {
        let mut run = Run::new(seed, redis.clone());
        for _ in 0..STEPS {
            run.step().await;
            run.compare_board().await;
        }
        run.compare_keys().await;
        calls += run.model.calls;
        skips += run.model.skips;
        misses += run.model.misses;
        claims += run.model.claims;
        for name in ["Target", "InsideCap", "Stock", "Paused", "NotOpen", "NobodyWaits", "Rebuilding"] {
            if run.log.iter().any(|l| l.contains(&format!(", {name})"))) {
                seen_reasons.insert(name);
            }
        }
    }
    if many {
        assert!(
            calls > 1_000 && skips > 100 && misses > 100 && claims > 300,
            "too tame: {calls} {skips} {misses} {claims}"
        );
        assert_eq!(seen_reasons.len(), 7, "reasons seen: {seen_reasons:?}");
    }
}
