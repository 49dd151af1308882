//! What entrants throw into a draw: the first nonce of each stays, whatever is repeated, lost or told again, and the
//! root of the draw is made of exactly those. A model in plain Rust knows what each record must be.
//!
//! `FLOODGATE_SEED=17` repeats one run; `FLOODGATE_SEEDS=500` makes more of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use queue::draw::{Digest, Hex, Nonce, TreeBuilder, entrant, verify, verify_leaves};
use queue::drawing::{Drawer, Progress};
use queue::line::{BatchId, JoinRequest, Joined, Line};
use queue::settings::{Beacon, Mode, RoomSettings};
use service_kit::ids::VisitorId;
use service_kit::keys::{KeyRing, KeysConfig};
use service_kit::redis::Redis;
use std::collections::BTreeMap;
use std::sync::Arc;
use support::{Random, room};

const T: i64 = 1_700_000_000_000;
const START: i64 = T + 60_000;
const STEPS: u64 = 40;

fn nonce_room(name: &str) -> RoomSettings {
    let room = RoomSettings { mode: Mode::Draw, beacon: Beacon::Entrants, ..room(name) };
    RoomSettings { lobby_opens_at_ms: T, starts_at_ms: START, ..room }
}

fn drawer() -> Drawer {
    service_kit::install_crypto_providers();
    let ring = KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("a")] }).unwrap();
    Drawer { ring, gate: VisitorId::new(), beacon_key: None }
}

fn nonce(random: &mut Random) -> Nonce {
    const LETTERS: &[u8] = b"abcXYZ019-_";
    let length = 16 + random.below(49);
    let text: String = (0..length).map(|_| LETTERS[random.below(11) as usize] as char).collect();
    text.parse().unwrap()
}

/// Draws, and checks the published root against the records.
async fn draw(line: &Line, settings: &RoomSettings, records: &BTreeMap<u64, Digest>) {
    let start = line.at(START);
    assert_eq!(drawer().advance(&start, settings, None, START).await, Ok(Progress::Done));
    let document = start.board(Arc::new(settings.clone())).await.unwrap().draw.unwrap().draw;
    verify(&document).unwrap();
    let mut leaves = TreeBuilder::default();
    for number in 1..=u64::from(document.count.unwrap()) {
        leaves.push(&records.get(&number).map_or([0; 32], |record| record.0));
    }
    verify_leaves(&document, leaves).unwrap();
}

struct Run {
    random: Random,
    redis: Redis,
    line: Line,
    settings: RoomSettings,
    gates: [(VisitorId, u64); 2],
    /// What each number must say: visitor and nonce of whoever was first.
    model: BTreeMap<u64, (VisitorId, Option<Nonce>)>,
    by_key: BTreeMap<String, u64>,
}

impl Run {
    /// A batch of newcomers, some of them for the second time under another visitor and with another nonce; its reply
    /// may be lost, so that it is sent again.
    async fn join(&mut self) {
        let people: Vec<JoinRequest> = (0..1 + self.random.below(8))
            .map(|_| JoinRequest {
                visitor: VisitorId::new(),
                key: (self.random.below(2) == 0).then(|| format!("k{}", self.random.below(12))),
                lane: 0,
                code: None,
                nonce: (self.random.below(3) > 0).then(|| nonce(&mut self.random)),
            })
            .collect();
        let gate = self.random.below(2) as usize;
        self.gates[gate].1 += 1;
        let batch = BatchId { gate: self.gates[gate].0.clone(), number: self.gates[gate].1 };
        let mut replies = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            replies.push(self.line.at(T).join_batch(&self.settings, &batch, &people, T).await.unwrap());
        }
        for (i, person) in people.iter().enumerate() {
            let first = replies[0][i].clone().unwrap();
            if first.created {
                self.model.insert(first.number, (person.visitor.clone(), person.nonce.clone()));
                if let Some(key) = &person.key {
                    assert_eq!(self.by_key.insert(key.clone(), first.number), None, "{key} got a second number");
                }
            }
            let (visitor, nonce) = self.model[&first.number].clone();
            for reply in &replies {
                let Joined { number, visitor: v, nonce: n, .. } = reply[i].clone().unwrap();
                assert_eq!((number, v, n), (first.number, visitor.clone(), nonce.clone()), "person {i}");
            }
        }
    }

    /// The store loses the room; whoever is there shows the ticket again, once or twice, some of them never.
    async fn lose(&mut self) {
        self.redis.command("FLUSHALL", &[]).await.unwrap();
        self.by_key.clear();
        let random = &mut self.random;
        self.model.retain(|_, _| random.below(5) > 0);
        for _ in 0..1 + random.below(2) {
            self.show_tickets().await;
        }
    }

    async fn show_tickets(&mut self) {
        let tickets: Vec<(u64, u64)> = self.model.keys().map(|number| (*number, 0)).collect();
        self.line.at(T).beat(&self.settings, &tickets).await.unwrap();
        self.line.at(T).record(&self.settings, &self.records()).await.unwrap();
    }

    fn records(&self) -> Vec<(u64, Digest)> {
        let record =
            |(visitor, nonce): &(VisitorId, Option<Nonce>)| entrant(&self.settings.room, visitor, nonce.as_ref());
        self.model.iter().map(|(number, person)| (*number, record(person))).collect()
    }
}

#[tokio::test]
async fn the_first_nonce_of_everybody_is_in_the_root_whatever_is_repeated_or_lost() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let (_server, redis, _) = support::line().await;
    let seeds = number("FLOODGATE_SEED").map_or(0..number("FLOODGATE_SEEDS").unwrap_or(12), |seed| seed..seed + 1);
    for seed in seeds {
        println!("seed {seed}");
        redis.command("FLUSHALL", &[]).await.unwrap();
        let mut run = Run {
            random: Random(seed),
            line: Line::new(redis.clone()),
            redis: redis.clone(),
            settings: nonce_room(&format!("n-{seed}")),
            gates: [(VisitorId::new(), 0), (VisitorId::new(), 0)],
            model: BTreeMap::new(),
            by_key: BTreeMap::new(),
        };
        for _ in 0..STEPS {
            match run.random.below(12) {
                0 => run.lose().await,
                // Told again where nothing is missing: nothing changes.
                1 => assert_eq!(run.line.at(T).record(&run.settings, &run.records()).await, Ok(0)),
                _ => run.join().await,
            }
        }
        let records: BTreeMap<u64, Digest> = run.records().into_iter().collect();
        draw(&run.line, &run.settings, &records).await;
        // The list is closed: nobody's record is written or changed any more.
        let late = [(1, Hex([9; 32])), (2, Hex([9; 32]))];
        assert_eq!(run.line.at(START).record(&run.settings, &late).await, Ok(0), "seed {seed}");
    }
}

#[tokio::test]
async fn a_nonce_counts_only_in_the_lobby_of_a_draw_that_takes_nonces() {
    let (_server, redis, line) = support::line().await;
    let (mine, visitor) = ("mine-0123456789ab".parse::<Nonce>().unwrap(), VisitorId::new());
    let request = |key: &str| JoinRequest {
        visitor: visitor.clone(),
        key: Some(key.to_owned()),
        lane: 0,
        code: None,
        nonce: Some(mine.clone()),
    };
    let join = async |settings: &RoomSettings, key: &str, now: i64| {
        let batch = BatchId { gate: VisitorId::new(), number: 1 };
        line.at(now).join_batch(settings, &batch, &[request(key)], now).await.unwrap().remove(0).unwrap()
    };
    let takes = nonce_room("takes");
    assert_eq!(join(&takes, "a", T).await.nonce, Some(mine.clone()));
    assert_eq!(join(&takes, "b", START).await.nonce, None, "behind the lobby, in no record");
    assert_eq!(join(&takes, "a", START).await.nonce, Some(mine.clone()), "but who asks again is told");
    for (name, other) in [
        ("off", RoomSettings { beacon: Beacon::Off, ..nonce_room("off") }),
        ("fifo", RoomSettings { mode: Mode::Fifo, beacon: Beacon::Off, ..nonce_room("fifo") }),
    ] {
        assert_eq!(join(&other, "a", T).await.nonce, None, "{name}");
        let joins = queue::keys::RoomKeys::new(&other.room).joins();
        let kept = redis.command("HGET", &[&joins, "a"]).await.unwrap().text().unwrap();
        assert!(!kept.contains(mine.as_str()), "{kept}");
    }
    let off = RoomSettings { beacon: Beacon::Off, ..nonce_room("off") };
    draw(&line, &off, &[(1, entrant(&off.room, &visitor, None))].into()).await;
}
