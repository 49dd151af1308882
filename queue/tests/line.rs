//! The line as a whole: two gates at once, a lost store, a lost reply, a million polls.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use queue::admission::LimitReason;
use queue::keys::RoomKeys;
use queue::line::{Claim, Line, Presence, REBUILD_HOLD_MS};
use queue::settings::RoomSettings;
use service_kit::clock::now_ms;
use service_kit::ids::VisitorId;
use service_kit::redis::StoreError;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use support::{Random, commands_run, crowd, field, join, members, room, zset};

const T: i64 = 1_700_000_000_000;

#[tokio::test]
async fn two_gates_call_20_000_people_once_each_in_order_and_within_the_rate() {
    const PEOPLE: u64 = 20_000;
    let (server, redis, _) = support::line().await;
    let gates = [Line::new(server.connect(5_000).await), Line::new(server.connect(5_000).await)];
    let room = Arc::new(RoomSettings { rate_per_s: 10_000, inside_max: 1_000_000, ..room("rush") });

    let mut numbers = BTreeSet::new();
    let mut joins = tokio::task::JoinSet::new();
    for lane in 0..16 {
        let (line, room) = (gates[lane % 2].clone(), room.clone());
        joins.spawn(async move {
            let mut mine = Vec::new();
            for i in 0..PEOPLE / 16 {
                let joined = line.join(&room, &VisitorId::new(), &format!("{lane}-{i}"), now_ms()).await.unwrap();
                assert!(joined.created && joined.called_until_ms.is_none());
                mine.push(joined.number);
            }
            assert!(mine.is_sorted(), "later joins of one client have later numbers");
            mine
        });
    }
    while let Some(mine) = joins.join_next().await {
        numbers.extend(mine.unwrap());
    }
    assert_eq!(numbers.len() as u64, PEOPLE);
    assert_eq!((numbers.first(), numbers.last()), (Some(&1), Some(&PEOPLE)));

    let mut tickers = tokio::task::JoinSet::new();
    for (gate, pause_ms) in [(0, 10), (1, 13), (0, 7), (1, 10)] {
        let (line, room) = (gates[gate].clone(), room.clone());
        tickers.spawn(async move {
            let mut ticks = Vec::new();
            while line.board(room.clone()).await.unwrap().waiting > 0 {
                ticks.push(line.tick(&room).await.unwrap());
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            }
            ticks
        });
    }
    let (mut ticks, mut raced) = (Vec::new(), 0);
    while let Some(some) = tickers.join_next().await {
        for tick in some.unwrap() {
            raced += u32::from(tick.raced);
            if !tick.raced || tick.calls > 0 {
                ticks.push((tick.now_ms, tick.calls));
            }
        }
    }
    ticks.sort_unstable();
    println!("{} ticks, {raced} overtaken, over {} ms", ticks.len(), ticks.last().unwrap().0 - ticks[0].0);

    let board = gates[0].board(room.clone()).await.unwrap();
    assert_eq!((board.totals.calls, board.totals.inversions, board.frontier), (PEOPLE, 0, support::place(PEOPLE)));
    assert_eq!(ticks.iter().map(|(_, calls)| calls).sum::<u64>(), PEOPLE);
    // Everybody is called once, and a lower number never later than a higher one.
    let mut called = zset(&redis, &RoomKeys::new(&room.room).called()).await;
    called.sort_unstable();
    assert_eq!(called.iter().map(|(n, _)| *n).collect::<BTreeSet<_>>(), numbers);
    assert!(called.is_sorted_by_key(|(_, until_ms)| *until_ms), "somebody was called before a lower number");
    // The rate: strictly since the first tick; in any later window the part of a budget that an overtaken tick left
    // over may come on top, which is never more than one second's worth.
    let allowed = |ms: i64| ms as u64 * u64::from(room.rate_per_s) / 1_000 + 1;
    for (i, (begin_ms, _)) in ticks.iter().enumerate() {
        let saved = if i == 0 { 0 } else { u64::from(room.rate_per_s) };
        let mut calls = 0;
        for (end_ms, some) in &ticks[i + 1..] {
            calls += some;
            assert!(calls <= allowed(end_ms - begin_ms) + saved, "{calls} calls in {} ms", end_ms - begin_ms);
        }
    }
    assert_eq!(ticks[0].1, 0, "the first tick has no budget");
}

#[tokio::test]
async fn status_polls_cost_redis_nothing() {
    let (_server, redis, line) = support::line().await;
    let settings = Arc::new(room("quiet"));
    crowd(&line, &settings, 300, T).await;
    let board = line.at(T).board(settings.clone()).await.unwrap();
    let before = commands_run(&redis).await;
    assert!(before >= 300);
    for i in 0..20_000_u64 {
        let number = 1 + i % 300;
        let ticket = support::ticket(&settings, number, support::place(number));
        let status = board.status(Some(&ticket), Some(Presence::Waiting), T + i as i64);
        assert_eq!((status.number, status.ahead), (Some(number), Some(number - 1)));
    }
    assert_eq!(commands_run(&redis).await, before);
}

#[tokio::test]
async fn a_flushed_store_is_rebuilt_from_the_tickets_in_the_same_order() {
    let (_server, redis, line) = support::line().await;
    let room = RoomSettings { rate_per_s: 100, ..room("amnesia") };
    crowd(&line, &room, 1_200, T).await;
    let mut tickets: Vec<u64> = (1..=1_200).collect();
    Random(7).shuffle(&mut tickets);
    redis.command("FLUSHALL", &[]).await.unwrap();

    // A newcomer of the first second must not get a number that somebody holds.
    let newcomer = join(&line, &room, "after", T + 1_000).await;
    assert!(newcomer.number > 1_200, "number {} was given twice", newcomer.number);
    for (i, some) in tickets.chunks(100).enumerate() {
        let now = T + 2_000 + i as i64 * 1_000;
        let presences = support::beat(&line.at(now), &room, some).await.unwrap();
        assert!(presences.iter().all(|p| *p == Presence::Waiting));
        let tick = line.at(now).tick(&room).await.unwrap();
        assert_eq!((tick.calls, tick.reason), (0, LimitReason::Store), "nobody is called while tickets are collected");
    }
    let keys = RoomKeys::new(&room.room);
    let expected: Vec<u64> = (1..=1_200).chain([newcomer.number]).collect();
    assert_eq!(members(&redis, &keys.line()).await, expected);

    let mut now = T + 1_000 + REBUILD_HOLD_MS - 500;
    line.at(now).tick(&room).await.unwrap();
    let mut order = Vec::new();
    while order.len() < 300 {
        now += 500;
        support::beat(&line.at(now), &room, &tickets).await.unwrap();
        line.at(now).tick(&room).await.unwrap();
        order = members(&redis, &keys.called()).await;
        order.sort_unstable();
        assert_eq!(order, (1..=order.len() as u64).collect::<Vec<_>>());
    }
    assert_eq!(field(&redis, &keys.room(), "inversions").await, 0);
}

#[tokio::test]
async fn a_ticket_of_a_lost_store_is_evidence_even_for_a_gate_that_remembers_nothing() {
    let (_server, redis, line) = support::line().await;
    let room = room("restart");
    assert_eq!(support::claim(&line.at(T), &room, 40).await, Ok(Claim::NotYourTurn));
    assert!(!line.at(T).leave(&room, 50).await.unwrap());
    let forgetful = Line::new(redis.clone());
    assert!(join(&forgetful, &room, "new", T).await.number > 50, "numbers 40 and 50 are taken");
    assert_eq!(line.at(T).tick(&room).await.unwrap().reason, LimitReason::Store);
    assert_eq!(support::beat(&line.at(T), &room, &[40, 50]).await, Ok(vec![Presence::Waiting, Presence::Left]));
    // Late tickets with ever higher numbers do not hold the room again and again.
    support::beat(&line.at(T + 24_000), &room, &[900_000]).await.unwrap();
    assert_ne!(line.at(T + REBUILD_HOLD_MS).tick(&room).await.unwrap().reason, LimitReason::Store);
}

#[tokio::test]
async fn a_join_whose_reply_was_lost_keeps_its_number() {
    let (server, redis, line) = support::line().await;
    let room = room("lost-reply");
    crowd(&line, &room, 3, T).await;
    let hasty = Line::new(server.connect(100).await);
    // The server runs the join after the client gave up waiting.
    redis.command("CLIENT", &["PAUSE", "400", "ALL"]).await.unwrap();
    let visitor = VisitorId::new();
    let lost = hasty.at(T).join(&room, &visitor, "mine", T).await;
    assert!(matches!(lost, Err(StoreError::Unknown(_))), "{lost:?}");
    let again = line.at(T + 5_000).join(&room, &VisitorId::new(), "mine", T).await.unwrap();
    assert_eq!((again.number, again.joined_ms, again.created, &again.visitor), (4, T, false, &visitor));
    assert_eq!(field(&redis, &RoomKeys::new(&room.room).room(), "next").await, 5);
}

#[tokio::test]
async fn a_key_joined_from_fifty_tabs_at_once_is_one_number_of_one_visitor() {
    let (_server, redis, line) = support::line().await;
    let room = Arc::new(room("tabs"));
    let mut tabs = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (line, room) = (line.clone(), room.clone());
        tabs.spawn(async move { line.join(&room, &VisitorId::new(), "one", now_ms()).await.unwrap() });
    }
    let all = tabs.join_all().await;
    assert_eq!(all.iter().filter(|j| j.created).count(), 1);
    assert!(all.iter().all(|j| j.number == 1 && j.visitor == all[0].visitor && j.joined_ms == all[0].joined_ms));
    assert_eq!(members(&redis, &RoomKeys::new(&room.room).line()).await, [1]);
}

#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let (_server, redis, line) = support::line().await;
    let settings = Arc::new(room("flushed"));
    for i in 0..5 {
        redis.command("SCRIPT", &["FLUSH"]).await.unwrap();
        assert_eq!(join(&line, &settings, &format!("k{i}"), T).await.number, i + 1);
        line.tick(&settings).await.unwrap();
        line.board(settings.clone()).await.unwrap();
    }
}

#[tokio::test]
async fn one_tick_calls_many_in_bounded_runs_and_leaves_the_rest_as_spare() {
    let (_server, redis, line) = support::line().await;
    let room = RoomSettings { rate_per_s: 100_000, inside_max: 1_000_000, ..room("many") };
    crowd(&line, &room, 3_000, T).await;
    line.at(T).tick(&room).await.unwrap();
    let tick = line.at(T + 50).tick(&room).await.unwrap();
    assert_eq!((tick.calls, tick.raced), (3_000, false));
    let keys = RoomKeys::new(&room.room);
    assert_eq!(field(&redis, &keys.room(), "spare").await, 2_000);
    let direct = join(&line, &room, "direct", T + 60).await;
    assert_eq!((direct.number, direct.called_until_ms), (3_001, Some(T + 60_060)));
    assert_eq!(
        support::claim(&line.at(T + 61), &room, 3_001).await,
        Ok(Claim::Inside { lease_until_ms: T + 600_061, browser: 0 })
    );
    assert_eq!(field(&redis, &keys.room(), "inversions").await, 0);
}
