//! Signs of life: who polls is called when the turn comes, who is gone is passed over, and the store hears of all of
//! them at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod common;

use common::{World, client};
use futures::future::join_all;
use queue::keys::RoomKeys;
use queue::line::Line;
use serde_json::Value;
use service_kit::clock::now_ms;
use service_kit::redis::Reply;
use std::collections::BTreeSet;
use std::time::Duration;

/// Much longer than the silence and its slots.
const STARTS_IN_MS: i64 = 6_000;
const SILENCE_MS: u32 = 1_500;
/// Nothing here takes longer unless it is broken.
const ROUNDS_MAX: usize = 200;

async fn status(world: &World, http: &reqwest::Client, ticket: &str) -> Value {
    let asked = http.get(world.room_url("status")).header("floodgate-ticket", ticket);
    asked.send().await.unwrap().json().await.unwrap()
}

async fn join(world: &World, http: &reqwest::Client) -> String {
    let joined: Value = http.post(world.room_url("tickets")).send().await.unwrap().json().await.unwrap();
    joined["ticket"].as_str().unwrap().to_owned()
}

/// How often Redis ran a command.
async fn runs(world: &World, command: &str) -> u64 {
    let stats = world.redis.command("INFO", &["commandstats"]).await.unwrap().text().unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_polls_is_called_and_who_is_gone_is_passed_over() {
    let world = World::start(|room| {
        room.starts_at_ms = now_ms() + STARTS_IN_MS;
        (room.silence_ms, room.rate_per_s) = (SILENCE_MS, 10);
    })
    .await;
    let http = client();
    let tickets: Vec<String> = join_all((0..40).map(|_| join(&world, &http))).await;
    let present: Vec<&String> = tickets.iter().step_by(2).collect();
    let keys = RoomKeys::new(&world.room);
    let mut called = 0;
    for _ in 0..ROUNDS_MAX {
        let states = join_all(present.iter().map(|ticket| status(&world, &http, ticket))).await;
        called = states.iter().filter(|status| status["state"] == "called").count();
        if called == present.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(called, present.len(), "everybody who was heard has a turn");
    let numbers = async |key: String| -> BTreeSet<i64> {
        let all = world.redis.command("ZRANGE", &[&key, "0", "-1"]).await.unwrap();
        all.list().unwrap().iter().map(|number: &Reply| number.int().unwrap()).collect()
    };
    // The last one in line may be looked at by the next tick.
    let mut waits = tickets.len();
    for _ in 0..ROUNDS_MAX {
        waits = numbers(keys.line()).await.len();
        if waits == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(waits, 0);
    assert_eq!(numbers(keys.called()).await.len(), present.len());
    assert_eq!(numbers(keys.silent()).await.len(), tickets.len() - present.len(), "and nobody else");
    let (marks, polls) = (runs(&world, "bitop").await, 20 * u64::try_from(STARTS_IN_MS).unwrap() / 200);
    assert!((5..polls / 4).contains(&marks), "{marks} rounds told of some {polls} polls");
}

/// The store is asked about everybody now and then: a place given up at another gate does not look held for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_given_up_elsewhere_is_noticed() {
    let world = World::start(|room| {
        (room.starts_at_ms, room.lobby_opens_at_ms) = (now_ms() + 3_600_000, 0);
    })
    .await;
    let http = client();
    let tickets: Vec<String> = join_all((0..3).map(|_| join(&world, &http))).await;
    let number = status(&world, &http, &tickets[1]).await["number"].as_u64().unwrap();
    let settings = common::settings(world.deal);
    assert!(Line::new(world.redis.clone()).leave(&settings, number).await.unwrap());
    for round in 0..ROUNDS_MAX {
        let is_told = status(&world, &http, &tickets[1]).await["number"] != number;
        if is_told {
            return;
        }
        assert!(round + 1 < ROUNDS_MAX, "never told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
