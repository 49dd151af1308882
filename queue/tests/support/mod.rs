//! A private Redis per test, and small helpers to look into it.
#![allow(dead_code, reason = "each test file uses its own part of the helper")]

use queue::line::{Claim, Joined, Line, Presence};
use queue::settings::RoomSettings;
use queue::ticket::Ticket;
use service_kit::ids::VisitorId;
use service_kit::private_cluster::PrivateCluster;
use service_kit::private_store::{PrivateRedis, ScratchDir};
use service_kit::redis::{Redis, RedisConfig, Reply, StoreError};

/// A private Redis in a directory of its own; both end when it is dropped. With `FLOODGATE_TEST_REDIS=cluster` in the
/// environment it is a cluster of three masters (`make test-cluster`).
pub struct TestRedis {
    server: Server,
    _directory: ScratchDir,
}

enum Server {
    One(PrivateRedis),
    Cluster(PrivateCluster),
}

impl TestRedis {
    pub async fn start() -> Self {
        let directory = ScratchDir::new().expect("a directory for the test");
        let cluster = std::env::var("FLOODGATE_TEST_REDIS").is_ok_and(|kind| kind == "cluster");
        let server = if cluster {
            Server::Cluster(PrivateCluster::start(directory.path()).await.expect("a private cluster"))
        } else {
            Server::One(PrivateRedis::start(directory.path()).await.expect("a private Redis"))
        };
        Self { server, _directory: directory }
    }

    pub async fn connect(&self, command_timeout_ms: u64) -> Redis {
        service_kit::install_crypto_providers();
        let config = match &self.server {
            Server::One(server) => server.config(),
            Server::Cluster(cluster) => cluster.config(),
        };
        let config = RedisConfig { command_timeout_ms, ..config };
        Redis::connect(&config).await.expect("the private Redis answers")
    }
}

/// A Redis, a door to it and a line.
pub async fn line() -> (TestRedis, Redis, Line) {
    let server = TestRedis::start().await;
    let redis = server.connect(5_000).await;
    let line = Line::new(redis.clone());
    (server, redis, line)
}

/// A room that is open from the beginning of time.
pub fn room(name: &str) -> RoomSettings {
    let json = format!(r#"{{"room":"{name}","title":"Shoes","rate_per_s":10,"inside_max":1000}}"#);
    serde_json::from_str(&json).expect("valid settings")
}

/// One newcomer with a key and a visitor of their own.
pub async fn join(line: &Line, room: &RoomSettings, key: &str, now_ms: i64) -> Joined {
    line.at(now_ms).join(room, &VisitorId::new(), key, now_ms).await.expect("a join")
}

/// `people` newcomers, keys `k1`, `k2`, …
pub async fn crowd(line: &Line, room: &RoomSettings, people: u64, now_ms: i64) {
    for i in 1..=people {
        join(line, room, &format!("k{i}"), now_ms).await;
    }
}

/// The ticket of a number at a place.
pub fn ticket(room: &RoomSettings, number: u64, place: u64) -> Ticket {
    let visitor = VisitorId::new();
    Ticket {
        room: room.room.clone(),
        number,
        place,
        visitor,
        joined_ms: 0,
        promise_low_ms: 0,
        promise_high_ms: 0,
        nonce: None,
    }
}

/// The place of the n-th who came to a room with one lane.
pub fn place(number: u64) -> u64 {
    number.saturating_mul(queue::lane::UNIT * queue::lane::LANE_SLOTS)
}

/// Heartbeats of people of a room with one lane.
pub async fn beat(line: &Line, room: &RoomSettings, numbers: &[u64]) -> Result<Vec<Presence>, StoreError> {
    let tickets: Vec<_> = numbers.iter().map(|n| (*n, place(*n))).collect();
    line.beat(room, &tickets).await
}

/// A claim of somebody in a room with one lane.
pub async fn claim(line: &Line, room: &RoomSettings, number: u64) -> Result<Claim, StoreError> {
    line.claim(room, number, place(number), 0, false).await
}

/// Members of a ZSET with their scores, by score.
pub async fn zset(redis: &Redis, key: &str) -> Vec<(u64, i64)> {
    let reply = redis.command("ZRANGE", &[key, "0", "-1", "WITHSCORES"]).await.expect("ZRANGE");
    let flat = reply.list().expect("a list").iter().map(|r| r.int().expect("a number")).collect::<Vec<_>>();
    flat.chunks(2).map(|pair| (u64::try_from(pair[0]).expect("a number"), pair[1])).collect()
}

/// Members of a ZSET, by score.
pub async fn members(redis: &Redis, key: &str) -> Vec<u64> {
    zset(redis, key).await.into_iter().map(|(number, _)| number).collect()
}

/// One field of a HASH as a number; 0 = absent.
pub async fn field(redis: &Redis, key: &str, field: &str) -> i64 {
    match redis.command("HGET", &[key, field]).await.expect("HGET") {
        Reply::Nil => 0,
        value => value.int().expect("a number"),
    }
}

/// How many commands this Redis has run, from `INFO commandstats`, its own queries left out.
pub async fn commands_run(redis: &Redis) -> i64 {
    let info = redis.command("INFO", &["commandstats"]).await.expect("INFO").text().expect("text");
    info.lines()
        .filter(|l| !l.starts_with("cmdstat_info") && !l.starts_with("cmdstat_ping"))
        .filter_map(|l| l.split_once("calls=")?.1.split(',').next()?.parse::<i64>().ok())
        .sum()
}

/// A small random number generator (splitmix64) whose seed is printed by whoever fails.
pub struct Random(pub u64);

impl Random {
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, bound: u64) -> u64 {
        self.any() % bound.max(1)
    }
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let other = self.below(i as u64 + 1) as usize;
            items.swap(i, other);
        }
    }
}
