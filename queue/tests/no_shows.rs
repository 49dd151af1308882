//! People who do not come: the rate of those who really enter finds back to the target, and stays within bounds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use queue::line::{BatchId, Claim, JoinRequest};
use queue::settings::RoomSettings;
use service_kit::ids::VisitorId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use support::{Random, place, room};

const T: i64 = 1_700_000_000_000;
const PEOPLE: u64 = 6_000;

/// Entries per second of the room's clock, for so many seconds; of a hundred people so many are silent and so many
/// wait, but are gone when it is their turn.
async fn entries(room: &RoomSettings, seconds: i64, silent: u64, idle: u64) -> Vec<u64> {
    let (_server, _redis, line) = support::line().await;
    let gate = VisitorId::new();
    for number in 0..PEOPLE / 60 {
        let new = || JoinRequest { visitor: VisitorId::new(), key: None, lane: 0, code: None, nonce: None };
        let people: Vec<_> = (0..60).map(|_| new()).collect();
        line.at(T).join_batch(room, &BatchId { gate: gate.clone(), number: number + 1 }, &people, T).await.unwrap();
    }
    let mut random = Random(9);
    let kind: HashMap<u64, u64> = (1..=PEOPLE).map(|n| (n, random.below(100))).collect();
    let mut present: Vec<(u64, u64)> = (1..=PEOPLE).filter(|n| kind[n] >= silent).map(|n| (n, place(n))).collect();
    let mut claims_at: HashMap<u64, i64> = HashMap::new();
    let mut entered = vec![0; seconds as usize];
    for step in 0..seconds * 5 {
        let now = T + step * 200;
        if step % 50 == 0 {
            line.at(now).beat(room, &present).await.unwrap();
        }
        line.at(now).tick(room).await.unwrap();
        let board = line.at(now).board(Arc::new(room.clone())).await.unwrap();
        let called: HashSet<u64> = board.called_until.iter().map(|(n, _)| *n).collect();
        present.retain(|(n, _)| kind[n] >= silent + idle || !called.contains(n));
        for number in &called {
            if kind[number] >= silent + idle {
                claims_at.entry(*number).or_insert(now + 200 + random.below(3_000) as i64);
            }
        }
        let due: Vec<u64> = claims_at.iter().filter(|(_, at)| **at <= now).map(|(n, _)| *n).collect();
        for number in due {
            claims_at.insert(number, i64::MAX);
            if let Claim::Inside { .. } = line.at(now).claim(room, number, place(number), 0, false).await.unwrap() {
                entered[(step / 5) as usize] += 1;
                // The visit itself is short here.
                assert!(line.at(now).end(room, number, now + 1).await.unwrap());
            }
        }
    }
    entered
}

fn mean(entered: &[u64]) -> f64 {
    entered.iter().sum::<u64>() as f64 / entered.len() as f64
}

#[tokio::test]
async fn with_three_in_ten_missing_the_entries_find_the_target_within_a_minute() {
    let room = RoomSettings { rate_per_s: 20, inside_max: 1_000_000, silence_ms: 15_000, ..room("no-shows") };
    let entered = entries(&room, 120, 15, 15).await;
    let (before, after) = (mean(&entered[5..20]), mean(&entered[60..]));
    println!("before {before:.1}/s, after {after:.1}/s of 20/s");
    assert!(before < 18.5, "the test has no-shows: {before}");
    assert!((19.0..=21.0).contains(&after), "{after}");
}

#[tokio::test]
async fn a_room_whose_people_come_is_called_at_its_rate_exactly() {
    let room = RoomSettings { rate_per_s: 20, inside_max: 1_000_000, silence_ms: 15_000, ..room("all-come") };
    let entered = entries(&room, 90, 0, 0).await;
    let total: u64 = entered.iter().sum();
    assert!(total <= 20 * 90, "{total}");
    assert!(total >= 20 * 86, "the last ones are on their way: {total}");
}

#[tokio::test]
async fn what_is_switched_off_is_not_made_up_for() {
    let room = RoomSettings {
        rate_per_s: 20,
        inside_max: 1_000_000,
        silence_ms: 15_000,
        no_show_percent_max: 100,
        ..room("plain")
    };
    let after = mean(&entries(&room, 90, 0, 30).await[60..]);
    assert!((13.0..=15.0).contains(&after), "{after}");
}
