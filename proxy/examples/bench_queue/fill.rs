//! A house under test: a private Redis, a gate in front of it, and rooms that are full of people. The people join by
//! the same script as everybody, in full batches, straight at the store.

use crate::Options;
use crate::child::Role;
use crate::server::{Server, free_address};
use anyhow::Context as _;
use queue::keys::RoomKeys;
use queue::lane::{LANE_SLOTS, UNIT};
use queue::line::{BatchId, JOIN_PEOPLE_MAX, JoinRequest, Line};
use queue::pass::{Pass, PassSigner};
use queue::registry;
use queue::settings::RoomSettings;
use queue::ticket::{Ticket, TicketSigner};
use serde_json::json;
use service_kit::clock::now_ms;
use service_kit::ids::{DealId, RoomId, VisitorId};
use service_kit::keys::{KeyRing, KeysConfig};
use service_kit::private_store::{PrivateRedis, ScratchDir};
use service_kit::redis::{Redis, RedisConfig};
use std::net::SocketAddr;
use std::time::Duration;

/// Threads of every Pingora here: the gate's default.
pub const THREADS: usize = 2;
/// Longest wait for the gate to see a room as it is, in looks of 50 ms.
const LOOKS_MAX: usize = 600;

#[derive(Debug)]
pub struct House {
    /// How many people wait in its rooms.
    pub waiting: u64,
    pub gate: Server,
    pub redis: Redis,
    /// Processes whose CPU counts: gate and Redis.
    pub pids: Vec<u32>,
    tickets: TicketSigner,
    passes: PassSigner,
    _store: PrivateRedis,
    _directory: ScratchDir,
}

/// One room and how far it is used up.
#[derive(Debug, Clone)]
pub struct Room {
    pub deal: DealId,
    pub settings: RoomSettings,
    /// People whose call was claimed here so far.
    pub claimed: u64,
    /// Redis memory per person, while they joined.
    pub bytes_per_person: f64,
}

impl House {
    /// Starts the store and the gate; no room yet.
    pub async fn start(waiting: u64, origin: SocketAddr) -> anyhow::Result<Self> {
        let directory = ScratchDir::new()?;
        let store = PrivateRedis::start(directory.path()).await?;
        let redis = Redis::connect(&RedisConfig { command_timeout_ms: 20_000, ..store.config() }).await?;
        let keys = KeysConfig { ring: vec![KeyRing::generate("k1")] };
        let ring = KeyRing::new(&keys)?;
        let (listen, admin) = (free_address()?, free_address()?);
        let most = 1_000_000;
        let gate = json!({
            "listen": listen, "admin_listen": admin, "public_url": format!("http://{listen}"), "cookie_secure": false,
            "threads": THREADS,
            "limits": {
                "joins_per_s": most, "joins_burst": most, "claims_per_s": most, "claims_burst": most,
                "polls_per_s": most, "polls_burst": most,
            },
            "upstreams": [{ "name": "shop", "address": origin }],
            "routes": [
                { "path": "/deals/{deal}/buy", "upstream": "shop", "room": "deal" },
                { "path": "/*", "upstream": "shop" },
            ],
        });
        let role = Role::Gate { gate, ring: keys.ring.clone(), redis_url: store.url() };
        let gate = Server::start(&role, listen).await?;
        let pids = vec![gate.pid, store.pid().context("Redis has no process")?];
        let (tickets, passes) = (TicketSigner::new(&ring), PassSigner::new(&ring));
        Ok(Self { waiting, gate, redis, pids, tickets, passes, _store: store, _directory: directory })
    }

    /// A room in which `people` wait and nobody but the first is called.
    pub async fn room(&self, people: u64) -> anyhow::Result<Room> {
        let deal = DealId::new();
        let name = RoomId::of_deal(deal);
        let settings = RoomSettings {
            // Nobody turns silent and no call or lease ends while this runs.
            silence_ms: 3_600_000,
            claim_window_ms: 3_600_000,
            lease_ms: 86_400_000,
            lease_max_ms: 86_400_000,
            attack_joins_per_s: 1_000_000,
            enter_path: format!("/deals/{deal}/buy"),
            ..RoomSettings::new(name, "Shoes".into(), 1, 1)
        };
        let before = self.used_memory().await?;
        let line = Line::new(self.redis.clone());
        let gate = VisitorId::new();
        let mut joined = 0;
        for number in 1.. {
            let left = usize::try_from(people - joined)?.min(JOIN_PEOPLE_MAX);
            if left == 0 {
                break;
            }
            let newcomer = |_| JoinRequest { visitor: VisitorId::new(), key: None, lane: 0, code: None, nonce: None };
            let batch: Vec<JoinRequest> = (0..left).map(newcomer).collect();
            for person in line.join_batch(&settings, &BatchId { gate: gate.clone(), number }, &batch, now_ms()).await? {
                person?;
            }
            joined += left as u64;
        }
        let after = self.used_memory().await?;
        let room = Room { deal, settings, claimed: 0, bytes_per_person: (after - before) / people as f64 };
        registry::publish(&self.redis, &room.settings).await?;
        self.until_seen(&room, people.saturating_sub(1)).await?;
        Ok(room)
    }

    /// Waits until the gate's board of a room shows at least so many people in line.
    pub async fn until_seen(&self, room: &Room, waiting: u64) -> anyhow::Result<()> {
        let path = format!("/_floodgate/rooms/{}/board", room.settings.room);
        let seen = |body: &str| serde_json::from_str::<serde_json::Value>(body).ok()?.get("waiting")?.as_u64();
        self.gate.until(&path, |status, body| status == 200 && seen(body) >= Some(waiting)).await?;
        Ok(())
    }

    /// Calls the next `people` and waits until they are called.
    pub async fn call(&self, room: &mut Room, people: u64) -> anyhow::Result<()> {
        room.settings.rate_per_s = 100_000;
        room.settings.inside_max = u32::try_from(room.claimed + people)?;
        registry::publish(&self.redis, &room.settings).await?;
        let called = RoomKeys::new(&room.settings.room).called();
        for _ in 0..LOOKS_MAX {
            if self.redis.command("ZCARD", &[&called]).await?.int()? >= i64::try_from(people)? {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("{people} people were not called in time")
    }

    /// Takes a room off the gate and deletes it.
    pub async fn drop_room(&self, room: &Room) -> anyhow::Result<()> {
        registry::retract(&self.redis, &room.settings.room).await?;
        let keys = RoomKeys::new(&room.settings.room);
        let all = [
            keys.room(),
            keys.line(),
            keys.heard(),
            keys.heard1(),
            keys.heard2(),
            keys.heard3(),
            keys.called(),
            keys.inside(),
            keys.joins(),
        ];
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.redis.command("UNLINK", &all).await?;
        Ok(())
    }

    /// The header line of a ticket with this number.
    pub fn ticket(&self, room: &Room, number: u64) -> String {
        let ticket = Ticket {
            room: room.settings.room.clone(),
            number,
            place: number * UNIT * LANE_SLOTS,
            visitor: VisitorId::new(),
            joined_ms: now_ms(),
            promise_low_ms: 0,
            promise_high_ms: 0,
            nonce: None,
        };
        format!("authorization: Ticket {}\r\n", self.tickets.issue(&ticket))
    }

    /// The header line of a pass with this number.
    pub fn pass(&self, room: &Room, number: u64) -> anyhow::Result<String> {
        let now = now_ms();
        let pass = Pass {
            room: room.settings.room.clone(),
            visitor: VisitorId::new(),
            number,
            browser: 0,
            issued_ms: now,
            expires_at_ms: now + 3_600_000,
        };
        Ok(format!("floodgate-pass: {}\r\n", self.passes.issue(&pass)?))
    }

    async fn used_memory(&self) -> anyhow::Result<f64> {
        let info = self.redis.command("INFO", &["memory"]).await?.text()?;
        let bytes = info.lines().find_map(|l| l.strip_prefix("used_memory:")).context("no used_memory")?;
        Ok(bytes.trim().parse()?)
    }
}

/// The two houses of a run.
pub async fn both(options: &Options, origin: SocketAddr) -> anyhow::Result<[House; 2]> {
    Ok([House::start(options.few, origin).await?, House::start(options.many, origin).await?])
}
