//! Bugs that were found in other waiting rooms, and the rules that keep them out of this one.

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
use queue::line::{
    Claim, Presence, REBUILD_HOLD_MS, REFUSED_CLOSED, REFUSED_KEY, REFUSED_NUMBER, REFUSED_SCHEDULED, SPARE_AGE_MAX_MS,
};
use queue::settings::RoomSettings;
use service_kit::ids::VisitorId;
use service_kit::redis::StoreError;
use std::sync::Arc;
use support::{crowd, field, join, members, room};

const T: i64 = 1_700_000_000_000;

fn code<V: std::fmt::Debug>(result: Result<V, StoreError>) -> String {
    match result {
        Err(StoreError::Refused { code, .. }) => code,
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn newcomers_never_pass_people_in_line() {
    let (_server, redis, line) = support::line().await;
    let room = RoomSettings { inside_max: 2, ..room("jump") };
    crowd(&line, &room, 3, T).await;
    line.at(T).tick(&room).await.unwrap();
    assert_eq!(line.at(T + 1_000).tick(&room).await.unwrap().calls, 2);
    for number in [1, 2] {
        support::claim(&line.at(T + 1_000), &room, number).await.unwrap();
    }
    // Two places become free; the third person waits. A newcomer must not take one.
    for number in [1, 2] {
        line.at(T + 1_000).leave(&room, number).await.unwrap();
    }
    assert_eq!(join(&line, &room, "late", T + 1_001).await.called_until_ms, None);
    line.at(T + 1_100).tick(&room).await.unwrap();
    assert_eq!(members(&redis, &RoomKeys::new(&room.room).called()).await, [3]);
}

#[tokio::test]
async fn absent_people_in_front_do_not_stall_the_line() {
    let (_server, redis, line) = support::line().await;
    let room = RoomSettings { silence_ms: 10_000, starts_at_ms: T + 20_000, ..room("stall") };
    crowd(&line, &room, 3_000, T).await;
    for i in 0..20 {
        line.at(T + i * 1_000).tick(&room).await.unwrap();
    }
    let alive: Vec<u64> = (2_991..=3_000).collect();
    support::beat(&line.at(T + 20_000), &room, &alive).await.unwrap();
    let tick = line.at(T + 20_000).tick(&room).await.unwrap();
    assert_eq!((tick.calls, tick.skips), (10, 2_990), "nobody's own poll is needed, and 2,990 absentees cost nothing");
    // They lost nothing: the first one who comes back is called first, before people who came later.
    join(&line, &room, "late", T + 20_000).await;
    assert_eq!(support::beat(&line.at(T + 20_050), &room, &[7]).await, Ok(vec![Presence::Waiting]));
    line.at(T + 20_100).tick(&room).await.unwrap();
    let keys = RoomKeys::new(&room.room);
    assert!(members(&redis, &keys.called()).await.contains(&7));
    assert_eq!(members(&redis, &keys.line()).await, [3_001]);
    assert_eq!(field(&redis, &keys.room(), "inversions").await, 0, "a return from silence is no inversion");
}

#[tokio::test]
async fn people_of_one_millisecond_keep_their_order() {
    let (_server, redis, line) = support::line().await;
    let room = RoomSettings { rate_per_s: 5, ..room("ties") };
    crowd(&line, &room, 120, T).await;
    let mut called = Vec::new();
    for i in 0..24 {
        support::beat(&line.at(T + i * 1_000), &room, &(1..=120).collect::<Vec<_>>()).await.unwrap();
        line.at(T + i * 1_000).tick(&room).await.unwrap();
        called = members(&redis, &RoomKeys::new(&room.room).called()).await;
        called.sort_unstable();
        assert_eq!(called, (1..=i as u64 * 5).collect::<Vec<_>>(), "9 comes before 10, whatever the bytes say");
    }
    assert_eq!(called.len(), 115);
}

#[tokio::test]
async fn an_idle_hour_banks_no_credit() {
    let (_server, _redis, line) = support::line().await;
    let room = room("bank");
    line.at(T).tick(&room).await.unwrap();
    let hour = T + 3_600_000;
    crowd(&line, &room, 100, hour).await;
    assert_eq!(line.at(hour).tick(&room).await.unwrap().calls, 10, "one second's worth, not 36,000");
    assert_eq!(line.at(hour).tick(&room).await.unwrap().calls, 0);
}

#[tokio::test]
async fn spare_places_end_with_their_tick() {
    let (_server, _redis, line) = support::line().await;
    let room = RoomSettings { rate_per_s: 2, ..room("spare") };
    line.at(T).tick(&room).await.unwrap();
    line.at(T + 1_000).tick(&room).await.unwrap();
    let mut entered = Vec::new();
    for i in 0..4 {
        entered.push(join(&line, &room, &format!("a{i}"), T + 1_100).await.called_until_ms.is_some());
    }
    assert_eq!(entered, [true, true, false, false], "two places were left over");
    let (_server, _redis, line) = support::line().await;
    line.at(T).tick(&room).await.unwrap();
    line.at(T + 1_000).tick(&room).await.unwrap();
    let late = join(&line, &room, "late", T + 1_000 + SPARE_AGE_MAX_MS).await;
    assert_eq!(late.called_until_ms, None, "no gate ticks any more: the room must not stay open");
}

#[tokio::test]
async fn a_spare_place_needs_stock_a_running_room_and_a_start() {
    for (name, change) in [("no-stock", 0), ("was-paused", 1), ("was-closed", 2)] {
        let (_server, redis, line) = support::line().await;
        let settings = RoomSettings { stock_aware: true, ..room(name) };
        let keys = RoomKeys::new(&settings.room);
        redis
            .command("HSET", &[&keys.stock(), "available", "5", "held", "0", "sold", "0", "total", "5"])
            .await
            .unwrap();
        line.at(T).tick(&settings).await.unwrap();
        line.at(T + 1_000).tick(&settings).await.unwrap();
        assert!(join(&line, &settings, "first", T + 1_001).await.called_until_ms.is_some());
        let now = match change {
            0 => {
                redis.command("HSET", &[&keys.stock(), "available", "0"]).await.unwrap();
                join(&line, &settings, "second", T + 1_002).await
            }
            1 => join(&line, &RoomSettings { paused: true, ..settings }, "second", T + 1_002).await,
            _ => {
                let closed = RoomSettings { closed: true, ..settings };
                let refusal = line.at(T + 1_002).join(&closed, &VisitorId::new(), "second", T + 1_002).await;
                assert_eq!(code(refusal), REFUSED_CLOSED);
                continue;
            }
        };
        assert_eq!(now.called_until_ms, None, "{name}");
    }
}

#[tokio::test]
async fn direct_entries_since_the_snapshot_count_against_the_decision() {
    // The script is given a decision that was made before somebody entered directly.
    let (_server, redis, line) = support::line().await;
    let room = RoomSettings { inside_max: 3, rate_per_s: 100, ..room("stale") };
    let keys = RoomKeys::new(&room.room);
    line.at(T).tick(&room).await.unwrap();
    line.at(T + 1_000).tick(&room).await.unwrap();
    for i in 0..3 {
        assert!(join(&line, &room, &format!("d{i}"), T + 1_001).await.called_until_ms.is_some());
    }
    for i in 0..5 {
        assert!(join(&line, &room, &format!("w{i}"), T + 1_001).await.called_until_ms.is_none());
    }
    let version = field(&redis, &keys.room(), "version").await.to_string();
    let keys = [
        keys.room(),
        keys.line(),
        keys.silent(),
        keys.called(),
        keys.inside(),
        keys.buying(),
        keys.missed(),
        keys.returned(),
        keys.left(),
        keys.entered(),
        keys.ended(),
        keys.heard(),
        keys.heard1(),
        keys.heard2(),
        keys.heard3(),
    ];
    let now = (T + 1_002).to_string();
    let args =
        [&now, &version, "3", "0", "0", &now, "60000", "60000", "512", "512", "86400000", "target", "1000", "0", "0"]
            .map(str::to_owned);
    let call = queue::line::Line::scripts().into_iter().find(|script| script.name == "call").unwrap();
    let reply = redis.run(call, &keys, &args).await.unwrap();
    assert_eq!(reply.at(2).unwrap().int(), Ok(0), "all three places were taken meanwhile");
}

#[tokio::test]
async fn repeated_and_refused_joins_advance_nothing() {
    let (_server, redis, line) = support::line().await;
    let room = RoomSettings { lobby_opens_at_ms: T, starts_at_ms: T + 1, ends_at_ms: T + 10_000, ..room("counter") };
    let visitor = VisitorId::new();
    for (key, now, refusal) in [
        ("early", T - 1, REFUSED_SCHEDULED),
        ("late", T + 10_000, REFUSED_CLOSED),
        ("", T, REFUSED_KEY),
        ("two words", T, REFUSED_KEY),
        ("line\nbreak", T, REFUSED_KEY),
        (&"x".repeat(129), T, REFUSED_KEY),
    ] {
        assert_eq!(code(line.at(T).join(&room, &visitor, key, now).await), refusal, "{key:?}");
    }
    for _ in 0..5 {
        assert_eq!(join(&line, &room, "same", T).await.number, 1);
    }
    assert_eq!(field(&redis, &RoomKeys::new(&room.room).room(), "next").await, 2);
    assert_eq!(code(support::claim(&line, &room, 0).await), REFUSED_NUMBER);
    assert_eq!(code(support::beat(&line, &room, &[1, u64::MAX]).await), REFUSED_NUMBER);
}

#[tokio::test]
async fn a_reload_never_moves_anybody() {
    let (_server, redis, line) = support::line().await;
    let room = room("reload");
    crowd(&line, &room, 5, T).await;
    for i in 0..20 {
        join(&line, &room, "k2", T + i * 1_000).await;
        support::beat(&line.at(T + i * 1_000), &room, &[2, 2, 4]).await.unwrap();
    }
    assert_eq!(members(&redis, &RoomKeys::new(&room.room).line()).await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn the_called_who_do_not_come_free_their_place_and_are_forgiven_once() {
    let (_server, redis, line) = support::line().await;
    let room = RoomSettings { inside_max: 1, claim_window_ms: 5_000, ..room("absent") };
    let keys = RoomKeys::new(&room.room);
    crowd(&line, &room, 3, T).await;
    line.at(T).tick(&room).await.unwrap();
    line.at(T + 1_000).tick(&room).await.unwrap();
    assert_eq!(members(&redis, &keys.called()).await, [1]);
    assert_eq!(line.at(T + 2_000).tick(&room).await.unwrap().reason, LimitReason::InsideCap);
    // Number 1 sleeps through the window; at its very end the place is free, and a late claim is late.
    assert_eq!(support::claim(&line.at(T + 6_000), &room, 1).await, Ok(Claim::Missed));
    let tick = line.at(T + 6_000).tick(&room).await.unwrap();
    assert_eq!((tick.calls, tick.claims_missed), (1, 1));
    assert_eq!(members(&redis, &keys.called()).await, [2]);
    // Back once: first in line again.
    assert_eq!(support::beat(&line.at(T + 6_500), &room, &[1]).await, Ok(vec![Presence::Waiting]));
    line.at(T + 6_600).leave(&room, 2).await.unwrap();
    line.at(T + 7_000).tick(&room).await.unwrap();
    assert_eq!(members(&redis, &keys.called()).await, [1]);
    // A second miss is final, swept by a tick or found by the heartbeat.
    assert_eq!(support::beat(&line.at(T + 12_000), &room, &[1]).await, Ok(vec![Presence::Missed]));
    assert_eq!(support::beat(&line.at(T + 12_001), &room, &[1]).await, Ok(vec![Presence::Missed]));
    assert_eq!(support::claim(&line.at(T + 12_001), &room, 1).await, Ok(Claim::Missed));
    line.at(T + 13_000).tick(&room).await.unwrap();
    assert_eq!(members(&redis, &keys.called()).await, [3]);
    assert_eq!(field(&redis, &keys.room(), "inversions").await, 0);
}

#[tokio::test]
async fn the_grace_of_the_silent_is_time_and_not_distance() {
    let (_server, _redis, line) = support::line().await;
    let slow = RoomSettings { rate_per_s: 1, inside_max: 100_000, ..room("grace") };
    crowd(&line, &slow, 2_000, T).await;
    // 59 s of silence are inside the 60 s, however fast the line moves.
    let fast = RoomSettings { rate_per_s: 2_000, ..slow };
    line.at(T + 58_000).tick(&fast).await.unwrap();
    let tick = line.at(T + 59_000).tick(&fast).await.unwrap();
    assert_eq!((tick.calls, tick.skips), (2_000, 0));
}

#[tokio::test]
async fn a_claim_repeated_is_one_claim_with_one_lease() {
    let (_server, redis, line) = support::line().await;
    let room = room("repeat");
    crowd(&line, &room, 1, T).await;
    line.at(T).tick(&room).await.unwrap();
    line.at(T + 1_000).tick(&room).await.unwrap();
    let first = support::claim(&line.at(T + 2_000), &room, 1).await;
    assert_eq!(first, Ok(Claim::Inside { lease_until_ms: T + 602_000, browser: 0 }));
    for i in 1..10 {
        assert_eq!(support::claim(&line.at(T + 2_000 + i * 60_000), &room, 1).await, first, "the lease never grows");
    }
    assert_eq!(field(&redis, &RoomKeys::new(&room.room).room(), "claims").await, 1);
    assert_eq!(support::claim(&line.at(T + 602_000), &room, 1).await, Ok(Claim::Missed));
    assert_eq!(support::beat(&line.at(T + 602_000), &room, &[1]).await, Ok(vec![Presence::Missed]));
}

#[tokio::test]
async fn nothing_a_client_does_or_leaves_undone_opens_the_gate() {
    let (_server, redis, line) = support::line().await;
    let room = RoomSettings { starts_at_ms: T + 1_000_000, ..room("airplane") };
    crowd(&line, &room, 3, T).await;
    for i in 0..50 {
        let now = T + i * 19_000;
        line.at(now).tick(&room).await.unwrap();
        assert_eq!(support::claim(&line.at(now), &room, 1).await, Ok(Claim::NotYourTurn));
        // Silence for many minutes, then a heartbeat, then a re-join.
        if i % 20 == 19 {
            assert_eq!(support::beat(&line.at(now), &room, &[1]).await, Ok(vec![Presence::Waiting]));
            assert_eq!(join(&line, &room, "k1", now).await.called_until_ms, None);
        }
    }
    assert_eq!(members(&redis, &RoomKeys::new(&room.room).line()).await, [1, 2, 3]);
}

#[tokio::test]
async fn a_leaver_is_not_put_back_by_a_late_heartbeat() {
    let (_server, redis, line) = support::line().await;
    let settings = room("leaver");
    crowd(&line, &settings, 3, T).await;
    assert_eq!(line.at(T).leave(&settings, 2).await, Ok(true));
    assert_eq!(line.at(T).leave(&settings, 2).await, Ok(false));
    assert_eq!(support::beat(&line.at(T + 1), &settings, &[1, 2]).await, Ok(vec![Presence::Waiting, Presence::Left]));
    assert_eq!(support::claim(&line.at(T + 1), &settings, 2).await, Ok(Claim::Left));
    assert_eq!(members(&redis, &RoomKeys::new(&settings.room).line()).await, [1, 3]);
    let board = line.at(T + 1).board(Arc::new(settings)).await.unwrap();
    let third = support::ticket(&board.settings, 3, support::place(3));
    assert_eq!((board.ahead_of(&third), board.totals.leaves), (Some(1), 1));
}

#[tokio::test]
async fn a_clock_that_jumps_neither_stalls_nor_floods_the_line() {
    let (_server, _redis, line) = support::line().await;
    let hour = 3_600_000;
    for (name, by) in [("back", -hour), ("forward", hour)] {
        let room = RoomSettings { lease_ms: 60_000, ..room(name) };
        crowd(&line, &room, 100, T).await;
        line.at(T).tick(&room).await.unwrap();
        assert_eq!(line.at(T + 1_000).tick(&room).await.unwrap().calls, 10);
        let lease = support::claim(&line.at(T + 1_500), &room, 1).await.unwrap();
        assert_eq!(lease, Claim::Inside { lease_until_ms: T + 61_500, browser: 0 });
        // One second later by a clock that nobody sets; the store says an hour more, or less.
        let stepped = |ms: i64| line.at_stepped(T + ms + by, T + ms);
        assert_eq!(stepped(2_000).tick(&room).await.unwrap().reason, LimitReason::Store, "{name}");
        let board = stepped(2_000).board(Arc::new(room.clone())).await.unwrap();
        assert_eq!((board.taken_ms, board.inside, board.called, board.waiting), (T + 2_000, 1, 9, 90), "{name}");
        let held = T + 2_000 + REBUILD_HOLD_MS;
        assert_eq!(
            stepped(3_000).claim(&room, 2, support::place(2), 0, false).await,
            Ok(Claim::NotYourTurn),
            "no pass"
        );
        assert_eq!(support::claim(&stepped(3_000), &room, 1).await.unwrap(), lease, "the pass in hand is as it was");
        let everybody: Vec<u64> = (11..=100).collect();
        support::beat(&stepped(held - T), &room, &everybody).await.unwrap();
        assert_eq!(stepped(held - T).tick(&room).await.unwrap().calls, 10, "{name}: it goes on by itself");
        let called = stepped(held - T).board(Arc::new(room.clone())).await.unwrap().called_until;
        assert_eq!(
            called.iter().map(|(n, _)| *n).collect::<Vec<_>>(),
            (2..=20).collect::<Vec<_>>(),
            "in the same order"
        );
    }
}
