//! A room whose upstream becomes slow: the admission slows down, says why, and recovers by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod common;

use axum::Router;
use axum::extract::State;
use common::{World, client};
use futures::future::join_all;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Well above the room's limit.
const SLOW: Duration = Duration::from_millis(1_200);
const LIMIT_MS: u32 = 400;
/// The room recovers within seconds; far more than that means that it does not.
const ROUNDS_MAX: usize = 1_200;

async fn shop(State(slow): State<Arc<AtomicBool>>) -> &'static str {
    if slow.load(Ordering::Relaxed) {
        tokio::time::sleep(SLOW).await;
    }
    "shop"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upstream_slows_the_admission_and_recovers_by_itself() {
    let slow = Arc::new(AtomicBool::new(false));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app = Router::new().fallback(shop).with_state(slow.clone());
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let world = World::start_with(
        |room| {
            (room.rate_per_s, room.inside_max, room.upstream_slow_ms, room.rate_floor_per_s) =
                (20, 100_000, LIMIT_MS, 1);
        },
        |config| config["upstreams"][0]["address"] = address.clone().into(),
    )
    .await;
    let http = client();
    let join = async || -> Value { http.post(world.room_url("tickets")).send().await.unwrap().json().await.unwrap() };
    let first = join().await["ticket"].as_str().unwrap().to_owned();
    let mut pass = None;
    for _ in 0..ROUNDS_MAX {
        let claimed = http.post(world.room_url("pass")).header("floodgate-ticket", &first).send().await.unwrap();
        if claimed.status() == 200 {
            pass = claimed.json::<Value>().await.unwrap()["pass"].as_str().map(str::to_owned);
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let pass = pass.expect("a pass");
    // A line that stays long enough for the rate to be what limits.
    join_all((0..2_000).map(|_| join())).await;

    // Somebody inside shops along until the board says what is expected.
    let until = async |expected: &str, what: &dyn Fn(&Value) -> bool| {
        let mut board = Value::Null;
        for _ in 0..ROUNDS_MAX {
            let visits = (0..4).map(|_| http.get(world.buy_url()).header("floodgate-pass", &pass).send());
            for visit in join_all(visits).await {
                assert_eq!(visit.unwrap().text().await.unwrap(), "shop", "who is inside is never stopped");
            }
            board = http.get(world.room_url("board")).send().await.unwrap().json().await.unwrap();
            if what(&board) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("never {expected}: {board:#}");
    };
    let used = |board: &Value| board["rate_per_s"]["used_percent"].as_u64().unwrap();
    until("at the target", &|board| board["limit_reason"] == "target" && used(board) == 100).await;
    slow.store(true, Ordering::Relaxed);
    let lowest = AtomicU64::new(100);
    until("slowed down", &|board| {
        lowest.store(used(board), Ordering::Relaxed);
        board["limit_reason"] == "upstream_slow" && used(board) < 100
    })
    .await;
    slow.store(false, Ordering::Relaxed);
    // It goes on falling until the slow answers are out of sight; the whole way back is a test of the pure rule.
    until("faster again", &|board| {
        let before = lowest.fetch_min(used(board), Ordering::Relaxed);
        used(board) >= before + 15
    })
    .await;
    server.abort();
}
