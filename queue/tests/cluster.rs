//! Redis Cluster of three masters: rooms on all of them, one master dies and comes back, a slot moves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use queue::keys::RoomKeys;
use queue::line::{Claim, Line};
use queue::pass::{Pass, PassSigner};
use queue::registry;
use queue::settings::RoomSettings;
use service_kit::ids::VisitorId;
use service_kit::keys::{KeyRing, KeysConfig};
use service_kit::private_cluster::{MASTERS, PrivateCluster};
use service_kit::private_store::ScratchDir;
use service_kit::redis::{Redis, RedisConfig, StoreError};
use std::sync::Arc;
use support::{join, members, room};

const T: i64 = 1_700_000_000_000;

struct World {
    cluster: PrivateCluster,
    redis: Redis,
    line: Line,
    /// The room at `i` lives on master `i`.
    rooms: Vec<Arc<RoomSettings>>,
    _directory: ScratchDir,
}

async fn world() -> World {
    service_kit::install_crypto_providers();
    let directory = ScratchDir::new().unwrap();
    let cluster = PrivateCluster::start(directory.path()).await.unwrap();
    let config = RedisConfig { command_timeout_ms: 1_000, ..cluster.config() };
    let redis = Redis::connect(&config).await.unwrap();
    let mut rooms = Vec::new();
    for i in 0.. {
        let candidate = room(&format!("shoes-{i}"));
        let owner = cluster.owner_of(&RoomKeys::new(&candidate.room).line()).await.unwrap();
        if owner == rooms.len() {
            rooms.push(Arc::new(RoomSettings { rate_per_s: 2, ..candidate }));
        }
        if rooms.len() == MASTERS {
            break;
        }
    }
    World { cluster, line: Line::new(redis.clone()), redis, rooms, _directory: directory }
}

/// Ticks, joins, and looks, in the order of a gate; `second` moves the store's clock.
async fn serve(line: &Line, room: &Arc<RoomSettings>, second: i64) -> Result<u64, StoreError> {
    let now = T + second * 1_000;
    let at = line.at(now);
    at.tick(room).await?;
    let joined = at.join(room, &VisitorId::new(), &format!("k{second}"), now).await?;
    let board = at.board(room.clone()).await?;
    assert_eq!(board.next, joined.number + 1);
    Ok(joined.number)
}

#[tokio::test]
async fn a_dead_master_stops_only_its_rooms_and_they_come_back() {
    let World { mut cluster, redis, line, rooms, _directory } = world().await;
    for room in &rooms {
        registry::publish(&redis, room).await.unwrap();
    }
    assert_eq!(registry::fetch(&redis, 0).await.unwrap().unwrap().rooms().len(), MASTERS);
    let mut passes = Vec::new();
    let ring = KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("a")] }).unwrap();
    let signer = PassSigner::new(&ring);
    for room in &rooms {
        for second in 0..4 {
            assert_eq!(serve(&line, room, second).await, Ok(second as u64 + 1));
        }
        let Claim::Inside { lease_until_ms, .. } = support::claim(&line.at(T + 3_000), room, 1).await.unwrap() else {
            panic!("the first of {} may enter", room.room)
        };
        passes.push((room.room.clone(), lease_until_ms));
    }

    let dead = 1;
    cluster.kill(dead).await.unwrap();
    for (i, room) in rooms.iter().enumerate() {
        for second in 4..8 {
            let served = serve(&line, room, second).await;
            if i == dead {
                assert!(matches!(served, Err(StoreError::Unknown(_))), "{served:?}");
            } else {
                assert_eq!(served, Ok(second as u64 + 1), "{} needs no other master", room.room);
            }
        }
    }
    // Passes are signatures: they need no master at all.
    for (room, lease_until_ms) in &passes {
        let pass = Pass {
            room: room.clone(),
            visitor: VisitorId::new(),
            number: 1,
            browser: 0,
            issued_ms: T,
            expires_at_ms: *lease_until_ms,
        };
        let token = signer.issue(&pass).unwrap();
        assert!(signer.verify(&token, room, T + 10_000).is_ok());
    }

    cluster.start_again(dead).await.unwrap();
    // The connection comes back by itself; what was acknowledged before the crash is there.
    let mut served = Err(StoreError::Unknown("not asked yet".into()));
    for _ in 0..30 {
        served = serve(&line, &rooms[dead], 8).await;
        if served.is_ok() {
            break;
        }
    }
    assert!(served.clone().is_ok_and(|number| number >= 5), "no number is given twice: {served:?}");
    assert_eq!(
        support::claim(&line.at(T + 9_000), &rooms[dead], 1).await,
        Ok(Claim::Inside { lease_until_ms: passes[dead].1, browser: 0 }),
        "the lease of before"
    );
}

#[tokio::test]
async fn a_room_moves_to_another_master_while_people_join() {
    let World { cluster, redis, line, rooms, _directory } = world().await;
    let room = rooms[0].clone();
    for i in 0..50 {
        join(&line, &room, &format!("before-{i}"), T).await;
    }
    let joins = tokio::spawn({
        let (line, room) = (line.clone(), room.clone());
        async move {
            let mut numbers = Vec::new();
            for i in 0..200 {
                // While keys are on their way a script is refused for a moment; the key makes asking again safe.
                for _ in 0..100 {
                    match line.at(T).join(&room, &VisitorId::new(), &format!("k-{i}"), T).await {
                        Ok(joined) => {
                            numbers.push(joined.number);
                            break;
                        }
                        Err(StoreError::Refused { code, .. }) if code == "TRYAGAIN" => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            numbers
        }
    });
    cluster.move_slot_of(&RoomKeys::new(&room.room).line(), 2).await.unwrap();
    assert_eq!(joins.await.unwrap(), (51..=250).collect::<Vec<u64>>());
    assert_eq!(members(&redis, &RoomKeys::new(&room.room).line()).await, (1..=250).collect::<Vec<u64>>());
    // A gate that starts now finds the room in its new place.
    let late = Redis::connect(&cluster.config()).await.unwrap();
    assert_eq!(join(&Line::new(late), &room, "late", T).await.number, 251);
}

#[tokio::test]
async fn commands_without_a_key_reach_every_master_and_forgotten_scripts_are_sent_again() {
    let World { cluster: _cluster, redis, line, rooms, _directory } = world().await;
    for round in 0..3 {
        for room in &rooms {
            assert_eq!(join(&line, room, &format!("k{round}"), T).await.number, round + 1);
        }
        redis.command("SCRIPT", &["FLUSH"]).await.unwrap();
    }
    let keys = redis.command("DBSIZE", &[]).await.unwrap().int().unwrap();
    assert!(keys >= 3 * MASTERS as i64, "{keys} keys on all masters together");
    let info = redis.command("INFO", &["server"]).await.unwrap().text().unwrap();
    assert_eq!(info.matches("redis_mode:cluster").count(), MASTERS);
    redis.command("FLUSHALL", &["SYNC"]).await.unwrap();
    assert_eq!(redis.command("DBSIZE", &[]).await.unwrap().int(), Ok(0));
}

#[tokio::test]
async fn a_cluster_that_is_away_is_a_lost_reply_and_a_wrong_address_a_wrong_setting() {
    service_kit::install_crypto_providers();
    let away = RedisConfig { url: "redis-cluster://127.0.0.1:1".into(), connections: 1, command_timeout_ms: 100 };
    assert!(matches!(Redis::connect(&away).await, Err(StoreError::Unknown(_))));
    let wrong = RedisConfig { url: "redis-cluster:/".into(), ..away };
    assert!(matches!(Redis::connect(&wrong).await, Err(StoreError::Config(text)) if text.contains("redis.url")));
}
