//! The nemesis plans: from a seed, one to six faults that overlap, and mostly a provider in trouble. The plan is plain data and depends on the seed only,
//! so that a seed means the same on every machine; what a machine cannot do is skipped with a word when it is struck.

use crate::tcp_proxy::{Toxics, Way};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;
use std::ops::RangeInclusive;

/// The most faults of one run, besides the provider's.
const FAULTS_MAX: usize = 6;

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// kill -9, and away for some time.
    Kill {
        /// Process.
        whom: &'static str,
        /// How long it stays away, in ms.
        down_ms: u64,
    },
    /// SIGSTOP, and SIGCONT after some time.
    Pause {
        /// Process.
        whom: &'static str,
        /// For how long, in ms.
        for_ms: u64,
    },
    /// A hop misbehaves.
    Hop {
        /// Hop.
        hop: &'static str,
        /// How.
        harm: Harm,
        /// For how long, in ms.
        for_ms: u64,
    },
    /// A role dies at a fail point, in its first life.
    FailPoint {
        /// Role.
        role: &'static str,
        /// Point.
        point: &'static str,
        /// At which hit.
        hit: u32,
    },
    /// A role stops at a fail point in its first life, a victim is killed meanwhile, the role goes on.
    KillAt {
        /// Role that stops.
        role: &'static str,
        /// Where.
        point: &'static str,
        /// At which hit.
        hit: u32,
        /// Who dies.
        victim: &'static str,
    },
    /// A process has another time.
    Clock {
        /// Process.
        whom: &'static str,
        /// How far ahead, in ms; negative = behind.
        ahead_ms: i64,
        /// For how long, in ms.
        for_ms: u64,
    },
    /// FLUSHALL.
    FlushAll,
    /// Redis is killed and comes back with nothing.
    RedisEmpty {
        /// How long it stays away, in ms.
        down_ms: u64,
    },
    /// Redis is killed and comes back as it was before: an old file, or a replica that had fallen behind. To everybody
    /// else both are the same, another process with older data.
    RedisOldCopy {
        /// How old, in ms.
        old_ms: u64,
        /// How long it stays away, in ms.
        down_ms: u64,
    },
    /// SCRIPT FLUSH.
    ScriptFlush,
    /// All connections to a store end.
    ClientKill {
        /// `redis` or `postgres`.
        store: &'static str,
    },
    /// The provider misbehaves.
    Provider {
        /// `ready`, `approve`, `cancel` or `order`.
        endpoint: &'static str,
        /// As its control port spells it.
        fault: &'static str,
        /// For this many calls.
        times: u32,
    },
    /// A store's file system is full.
    DiskFull {
        /// `redis` or `postgres`.
        store: &'static str,
        /// For how long, in ms.
        for_ms: u64,
    },
}

/// What a hop does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it; see `toxics`")]
pub enum Harm {
    Slow,
    Trickle,
    Slices,
    Cut,
    Refuse,
    HoldRequests,
    HoldReplies,
    CutReplies,
    SwallowReplies,
}

impl Harm {
    const ALL: [Self; 9] = [
        Self::Slow,
        Self::Trickle,
        Self::Slices,
        Self::Cut,
        Self::Refuse,
        Self::HoldRequests,
        Self::HoldReplies,
        Self::CutReplies,
        Self::SwallowReplies,
    ];

    /// What the proxy is set to. Cutting and swallowing are not states but moments.
    pub fn toxics(self) -> Toxics {
        let none = Toxics::default();
        match self {
            Self::Slow => Toxics { latency_ms: 150, jitter_ms: 350, ..none },
            Self::Trickle => Toxics { bandwidth_bytes_per_s: 4_096, ..none },
            Self::Slices => Toxics { slice_bytes: 1, ..none },
            Self::Refuse => Toxics { refuse: true, ..none },
            Self::HoldRequests => Toxics { hold: Some(Way::Request), ..none },
            Self::HoldReplies => Toxics { hold: Some(Way::Reply), ..none },
            Self::CutReplies => Toxics { limit_reply_bytes: Some(20_000), ..none },
            Self::Cut | Self::SwallowReplies => none,
        }
    }
}

/// Processes that may die or stop. The provider is somebody else's house and remembers in memory only.
pub const VICTIMS: [&str; 5] = ["proxy", "deal-service", "payment-adapter", "redis", "postgres"];
/// Processes with a clock of their own.
const CLOCKS: [&str; 4] = ["proxy", "deal-service", "payment-adapter", "redis"];
/// Hops.
const HOPS: [&str; 6] =
    ["gate-shop", "gate-redis", "shop-redis", "shop-postgres", "adapter-postgres", "adapter-provider"];
/// What the provider can be made to do.
const PROVIDER: [(&str, &str); 10] = [
    ("approve", "drop-after-effect"),
    ("approve", "error-after-effect"),
    ("approve", "delay=2500"),
    ("approve", "delay-before=2500"),
    ("approve", "limited"),
    ("approve", "decline"),
    ("approve", "wrong-amount"),
    ("ready", "drop-after-effect"),
    ("cancel", "drop-after-effect"),
    ("order", "error-after-effect"),
];

/// What the provider does in most runs besides.
const TROUBLE: [(&str, &str); 8] = [
    ("approve", "drop-after-effect"),
    ("approve", "delay=2500"),
    ("approve", "wrong-amount"),
    ("approve", "limited"),
    ("cancel", "drop-after-effect"),
    ("cancel", "error-after-effect"),
    ("cancel", "delay=2500"),
    ("cancel", "limited"),
];

/// At which hits a fail point is met during the sale. Regular work passes its points long before the crowd comes:
/// the tick of a room about twenty times a second, the reaper every 400 ms, the reconciliation every second.
pub fn hits(point: &str) -> RangeInclusive<u32> {
    match point.get(..2).unwrap_or("") {
        "A1" => 15..=60,
        "X1" => 8..=20,
        "Q2" => 4..=9,
        _ => 1..=12,
    }
}

/// The role that passes a fail point.
pub fn role_of(point: &str) -> &'static str {
    match point.get(..2).unwrap_or("") {
        "J1" | "J2" | "A1" | "A2" | "A3" => "proxy",
        "P1" | "P2" | "P3" | "P4" | "P5" | "C2" | "C3" | "Q2" => "payment-adapter",
        _ => "deal-service",
    }
}

impl Fault {
    /// Whether the gate may doubt its store after it, or is away itself.
    pub fn is_of_the_line(&self) -> bool {
        let line = |whom: &str| matches!(whom, "proxy" | "redis" | "gate-redis");
        match self {
            Self::FlushAll | Self::RedisEmpty { .. } | Self::RedisOldCopy { .. } | Self::ScriptFlush => true,
            Self::Kill { whom, .. } | Self::Pause { whom, .. } | Self::Clock { whom, .. } => line(whom),
            Self::Hop { hop, .. } => line(hop),
            Self::FailPoint { role, .. } => line(role),
            Self::KillAt { role, victim, .. } => line(role) || line(victim),
            Self::ClientKill { store } | Self::DiskFull { store, .. } => line(store),
            Self::Provider { .. } => false,
        }
    }
    /// Whether Redis knows less after it.
    pub fn is_a_loss(&self) -> bool {
        matches!(self, Self::FlushAll | Self::RedisEmpty { .. } | Self::RedisOldCopy { .. })
    }
    /// How long it lasts, in ms.
    pub fn for_ms(&self) -> u64 {
        match self {
            Self::Kill { down_ms, .. } | Self::RedisEmpty { down_ms } => *down_ms,
            Self::RedisOldCopy { old_ms, down_ms } => old_ms.saturating_add(*down_ms),
            Self::Pause { for_ms, .. } | Self::Hop { for_ms, .. } => *for_ms,
            Self::Clock { for_ms, .. } | Self::DiskFull { for_ms, .. } => *for_ms,
            _ => 0,
        }
    }
}

/// A fault and its moment, in ms after the opening.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// When.
    pub at_ms: u64,
    /// What.
    pub fault: Fault,
}

/// The faults of `seed` in a sale of this length, by time.
pub fn plan(seed: u64, sale_ms: u64) -> Vec<Planned> {
    let mut dice = StdRng::seed_from_u64(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x6e65_6d65_7369_7321);
    let count = dice.random_range(1..=FAULTS_MAX);
    let mut planned: Vec<Planned> = (0..count)
        .map(|_| {
            let at_ms = dice.random_range(200..sale_ms.saturating_sub(1_500).max(400));
            Planned { at_ms, fault: draw(&mut dice) }
        })
        .collect();
    // Drawn last, so that the others stay what they are: money is where unknown answers cost most.
    if dice.random_ratio(3, 4) {
        let (endpoint, fault) = TROUBLE.choose(&mut dice).copied().unwrap_or(("approve", "drop-after-effect"));
        let fault = Fault::Provider { endpoint, fault, times: dice.random_range(1..=4) };
        planned.push(Planned { at_ms: dice.random_range(200..4_000), fault });
    }
    planned.sort_by_key(|planned| planned.at_ms);
    planned
}

fn draw(dice: &mut StdRng) -> Fault {
    let for_ms = dice.random_range(300..3_000);
    let pick = |dice: &mut StdRng, from: &[&'static str]| from.choose(dice).copied().unwrap_or("proxy");
    match dice.random_range(0..21) {
        0..4 => Fault::Kill { whom: pick(dice, &VICTIMS), down_ms: dice.random_range(0..1_500) },
        4..6 => Fault::Pause { whom: pick(dice, &VICTIMS), for_ms },
        6..10 => {
            let harm = Harm::ALL.choose(dice).copied().unwrap_or(Harm::Cut);
            Fault::Hop { hop: pick(dice, &HOPS), harm, for_ms }
        }
        10..13 => {
            let point = pick(dice, service_kit::failpoint::POINTS);
            // Regular work passes its points long before the crowd comes.
            Fault::FailPoint { role: role_of(point), point, hit: dice.random_range(hits(point)) }
        }
        20 => {
            let point = pick(dice, service_kit::failpoint::POINTS);
            let (role, hit) = (role_of(point), dice.random_range(hits(point)));
            let others: Vec<&'static str> = VICTIMS.into_iter().filter(|victim| *victim != role).collect();
            Fault::KillAt { role, point, hit, victim: pick(dice, &others) }
        }
        13 => {
            let ahead_ms = if dice.random() { 3_600_000 } else { -3_600_000 };
            Fault::Clock { whom: pick(dice, &CLOCKS), ahead_ms, for_ms }
        }
        14 => Fault::FlushAll,
        15 if dice.random() => Fault::RedisEmpty { down_ms: dice.random_range(0..1_000) },
        15 => Fault::RedisOldCopy { old_ms: for_ms, down_ms: dice.random_range(0..1_000) },
        16 if dice.random() => Fault::ScriptFlush,
        16 => Fault::ClientKill { store: pick(dice, &["redis", "postgres"]) },
        17 => Fault::DiskFull { store: pick(dice, &["redis", "postgres"]), for_ms },
        _ => {
            let (endpoint, fault) = PROVIDER.choose(dice).copied().unwrap_or(("approve", "drop-after-effect"));
            Fault::Provider { endpoint, fault, times: dice.random_range(1..=4) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_means_one_plan_of_a_few_faults() {
        for seed in 0..500 {
            let planned = plan(seed, 8_000);
            assert_eq!(planned, plan(seed, 8_000));
            assert!((1..=FAULTS_MAX + 1).contains(&planned.len()), "seed {seed}");
            assert!(planned.iter().all(|planned| planned.at_ms < 8_000));
            assert!(planned.windows(2).all(|pair| pair[0].at_ms <= pair[1].at_ms));
        }
    }

    #[test]
    fn every_kind_of_fault_comes() {
        let kinds: BTreeSet<String> = (0..500)
            .flat_map(|seed| plan(seed, 8_000))
            .map(|planned| format!("{:?}", planned.fault).split([' ', '{']).next().unwrap().to_owned())
            .collect();
        assert_eq!(kinds.len(), 13, "{kinds:?}");
    }
}
