//! A draw on a real Redis: the lobby, the freeze, the places, two writers, and people who come too late.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use queue::board::Board;
use queue::draw::{Digest, Phase, TreeBuilder, entrant, verify, verify_leaves};
use queue::drawing::{Drawer, Progress};
use queue::line::{BatchId, JoinRequest, Line, Presence};
use queue::settings::{Mode, RoomSettings};
use service_kit::ids::VisitorId;
use service_kit::keys::{KeyRing, KeysConfig};
use std::sync::Arc;
use support::{members, room};

const T: i64 = 1_700_000_000_000;
const START: i64 = T + 60_000;

fn drawers() -> [Drawer; 2] {
    service_kit::install_crypto_providers();
    let ring = KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("a")] }).unwrap();
    [VisitorId::new(), VisitorId::new()].map(|gate| Drawer { ring: ring.clone(), gate, beacon_key: None })
}

fn draw_room(name: &str) -> RoomSettings {
    RoomSettings { mode: Mode::Draw, lobby_opens_at_ms: T, starts_at_ms: START, rate_per_s: 1_000, ..room(name) }
}

/// `people` newcomers in batches of 64, by two gates in turn: numbers and records.
async fn lobby(line: &Line, room: &RoomSettings, people: u64, now: i64) -> Vec<(u64, Digest)> {
    let gates = [VisitorId::new(), VisitorId::new()];
    let mut numbers = Vec::new();
    for (i, some) in (1..=people).collect::<Vec<_>>().chunks(64).enumerate() {
        let batch = BatchId { gate: gates[i % 2].clone(), number: i as u64 + 1 };
        let request = |_: &u64| JoinRequest { visitor: VisitorId::new(), key: None, lane: 0, code: None, nonce: None };
        let requests: Vec<_> = some.iter().map(request).collect();
        for joined in line.at(now).join_batch(room, &batch, &requests, now).await.unwrap() {
            let joined = joined.unwrap();
            numbers.push((joined.number, entrant(&room.room, &joined.visitor, None)));
        }
    }
    numbers
}

async fn board(line: &Line, room: &RoomSettings, now: i64) -> Board {
    line.at(now).board(Arc::new(room.clone())).await.unwrap()
}

#[tokio::test]
async fn everybody_of_the_lobby_gets_the_place_that_the_published_draw_says() {
    const PEOPLE: u64 = 5_000;
    let (_server, redis, line) = support::line().await;
    let settings = draw_room("drawn");
    let [one, two] = drawers();
    assert_eq!(one.advance(&line.at(T), &settings, None, T - 1).await, Ok(Progress::None), "before the lobby opens");
    assert_eq!(one.advance(&line.at(T), &settings, None, T).await, Ok(Progress::Committed));
    let committed = board(&line, &settings, T).await.draw.unwrap().draw;
    assert_eq!((committed.phase, committed.secret), (Phase::Committed, None));
    let entrants = lobby(&line, &settings, PEOPLE, T).await;
    assert!(entrants.iter().map(|(number, _)| *number).eq(1..=PEOPLE));
    let before = board(&line, &settings, T).await;
    assert_eq!((before.lobby, before.waiting, before.crowd()), (PEOPLE, 0, PEOPLE));
    let undrawn = support::ticket(&settings, 17, 0);
    assert_eq!(before.status(Some(&undrawn), None, T).ahead, None, "nobody has a place yet");

    // Nobody is called before the places are written, whatever the clock says.
    assert!(line.at(START).leave(&settings, 4_000).await.unwrap());
    line.at(START).tick(&settings).await.unwrap();
    assert_eq!(line.at(START + 1_000).tick(&settings).await.unwrap().calls, 0);
    // Somebody who comes a moment after the start stands behind the whole lobby.
    let late = support::join(&line, &settings, "late", START + 1_001).await;
    assert_eq!((late.number, late.place), (PEOPLE + 1, 8 * (PEOPLE + 1)));

    // Two gates at once: one of them writes, the result is the same.
    let stores = [line.at(START + 1_002), line.at(START + 1_002)];
    let (a, b) = tokio::join!(
        one.advance(&stores[0], &settings, None, START + 1_002),
        two.advance(&stores[1], &settings, None, START + 1_002)
    );
    assert!([a.clone().unwrap(), b.clone().unwrap()].contains(&Progress::Done), "{a:?} {b:?}");
    let after = board(&line, &settings, START + 1_003).await;
    assert_eq!((after.lobby, after.waiting, after.drawing), (0, PEOPLE, false), "one had left, one came late");
    let document = &after.draw.as_ref().unwrap().draw;
    assert_eq!(verify(document).unwrap().phase, Phase::Drawn);
    assert_eq!((document.commitment, document.count), (committed.commitment, Some(PEOPLE as u32)));
    let mut leaves = TreeBuilder::default();
    entrants.iter().for_each(|(_, record)| leaves.push(&record.0));
    verify_leaves(document, leaves).unwrap();

    let order = members(&redis, &queue::keys::RoomKeys::new(&settings.room).line()).await;
    let mut expected: Vec<(u64, u64)> = (1..=PEOPLE + 1)
        .filter(|n| *n != 4_000)
        .map(|n| (after.place_of(&support::ticket(&settings, n, if n > PEOPLE { 8 * n } else { 0 })).unwrap(), n))
        .collect();
    expected.sort_unstable();
    assert_eq!(order, expected.iter().map(|(_, n)| *n).collect::<Vec<_>>());
    assert_eq!(order.last(), Some(&(PEOPLE + 1)), "who came late is last");
    assert_ne!(order[..20], (1..=20).collect::<Vec<_>>()[..], "not in the order of arrival");

    // They are called in that order, and everybody can find the place from the ticket alone.
    let tickets: Vec<(u64, u64)> = expected.iter().map(|(place, n)| (*n, *place)).collect();
    line.at(START + 2_000).beat(&settings, &tickets).await.unwrap();
    line.at(START + 2_000).tick(&settings).await.unwrap();
    line.at(START + 2_500).tick(&settings).await.unwrap();
    let mut called: Vec<u64> =
        board(&line, &settings, START + 2_501).await.called_until.iter().map(|(n, _)| *n).collect();
    let mut first: Vec<u64> = order[..called.len()].to_vec();
    called.sort_unstable();
    first.sort_unstable();
    assert!(called.len() >= 400, "{}", called.len());
    assert_eq!(called, first);
    let rank = order.iter().position(|n| *n == 17).unwrap() as u64;
    if rank >= called.len() as u64 {
        let status = board(&line, &settings, START + 2_501).await.status(Some(&undrawn), None, START + 2_501);
        assert!(status.ahead.unwrap().abs_diff(rank - called.len() as u64) * 50 <= rank, "{status:?}");
    }
}

#[tokio::test]
async fn a_writer_that_stops_half_way_is_followed_and_people_are_called_meanwhile() {
    const PEOPLE: u64 = 3_000;
    let (_server, redis, line) = support::line().await;
    let settings = draw_room("half");
    let [one, two] = drawers();
    one.advance(&line.at(T), &settings, None, T).await.unwrap();
    lobby(&line, &settings, PEOPLE, START - 1_000).await;
    line.at(START).tick(&settings).await.unwrap();
    // The first writer gets as far as the first thousand places.
    let room_key = queue::keys::RoomKeys::new(&settings.room).room();
    redis.command("HSET", &[&room_key, "drawn_to", "0"]).await.unwrap();
    one.advance(&line.at(START), &settings, None, START).await.unwrap();
    let whole = board(&line, &settings, START).await;
    let permutation = whole.draw.as_ref().unwrap().draw.permutation().unwrap();
    // As if it had died there: the rest is in the lobby again.
    let keys = queue::keys::RoomKeys::new(&settings.room);
    for place in 1_000..PEOPLE as u32 {
        let number = (permutation.unprp(place).unwrap() + 1).to_string();
        redis.command("ZREM", &[&keys.line(), &number]).await.unwrap();
        redis.command("ZADD", &[&keys.lobby(), &number, &number]).await.unwrap();
    }
    redis.command("HSET", &[&room_key, "drawn_to", "1000"]).await.unwrap();
    let late = support::join(&line, &settings, "late", START + 10).await;

    let tick = line.at(START + 1_000).tick(&settings).await.unwrap();
    assert_eq!(tick.calls, 1_000, "those whose places are written are called");
    let called = board(&line, &settings, START + 1_000).await.called_until;
    assert!(!called.iter().any(|(n, _)| *n == late.number), "nobody from behind while places are missing");
    assert_eq!(line.at(START + 2_000).tick(&settings).await.unwrap().calls, 0);

    assert_eq!(two.advance(&line.at(START + 2_000), &settings, None, START + 2_000).await, Ok(Progress::Elsewhere));
    let later = START + 6_000;
    assert_eq!(two.advance(&line.at(later), &settings, None, later).await, Ok(Progress::Done), "its turn is over");
    let order = members(&redis, &keys.line()).await;
    let rest: Vec<u64> = (1_000..PEOPLE as u32).map(|p| u64::from(permutation.unprp(p).unwrap()) + 1).collect();
    assert_eq!(order, [rest, vec![late.number]].concat());
}

#[tokio::test]
async fn an_empty_lobby_and_a_lost_heartbeat_are_no_trouble() {
    let (_server, _redis, line) = support::line().await;
    let settings = draw_room("empty");
    let [one, _] = drawers();
    one.advance(&line.at(T), &settings, None, T).await.unwrap();
    line.at(START).tick(&settings).await.unwrap();
    assert_eq!(one.advance(&line.at(START), &settings, None, START).await, Ok(Progress::Done));
    line.at(START + 500).tick(&settings).await.unwrap();
    let first = support::join(&line, &settings, "first", START + 600).await;
    assert!(first.called_until_ms.is_some(), "nobody waits: straight in");
    // A lobby ticket that the store has forgotten goes back into the lobby while it is open.
    let other = draw_room("forgotten");
    one.advance(&line.at(T), &other, None, T).await.unwrap();
    assert_eq!(line.at(T).beat(&other, &[(7, 0)]).await.unwrap(), [Presence::Waiting]);
    assert_eq!(board(&line, &other, T).await.lobby, 1);
}

/// `FLOODGATE_DRAW_PEOPLE=1000000` measures a large one; the time is printed, not judged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_lobby_is_called_while_its_places_are_written() {
    let people = std::env::var("FLOODGATE_DRAW_PEOPLE").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000_u64);
    let (_server, redis, line) = support::line().await;
    let settings = RoomSettings { inside_max: 1_000_000, silence_ms: 3_600_000, ..draw_room("large") };
    let [one, _] = drawers();
    one.advance(&line.at(T), &settings, None, T).await.unwrap();
    let before = memory(&redis).await;
    assert_eq!(lobby(&line, &settings, people, START - 1_000).await.len() as u64, people);
    println!("{} bytes of Redis per person in the lobby", (memory(&redis).await - before) / people as i64);
    line.at(START).tick(&settings).await.unwrap();

    let started = service_kit::clock::monotonic();
    let drawing = tokio::spawn({
        let (line, settings) = (line.at(START), settings.clone());
        async move { one.advance(&line, &settings, None, START).await }
    });
    let mut now = START;
    let mut first = None;
    while first.is_none() || !drawing.is_finished() {
        now += 200;
        let tick = line.at(now).tick(&settings).await.unwrap();
        if tick.calls > 0 && first.is_none() {
            first = Some(started.elapsed());
        }
    }
    assert_eq!(drawing.await.unwrap(), Ok(Progress::Done));
    println!("{people} people: first call after {:?}, all places after {:?}", first.unwrap(), started.elapsed());
    let board = board(&line, &settings, now).await;
    assert_eq!((board.totals.inversions, board.lobby), (0, 0));
    assert_eq!(board.totals.calls + board.waiting, people);
}

async fn memory(redis: &service_kit::redis::Redis) -> i64 {
    let info = redis.command("INFO", &["memory"]).await.unwrap().text().unwrap();
    info.lines().find_map(|l| l.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap()
}
