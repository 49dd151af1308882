//! The list of rooms: version and settings move together, and a lost list opens nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use queue::keys::SETTINGS;
use queue::registry::{Listing, fetch, publish, retract};
use queue::settings::RoomSettings;
use service_kit::redis::StoreError;
use support::room;

#[tokio::test]
async fn a_gate_learns_of_every_change_once() {
    let (_server, redis, _) = support::line().await;
    assert_eq!(fetch(&redis, 0).await, Ok(Some(Listing::default())), "nothing was published yet");
    publish(&redis, &room("a")).await.unwrap();
    publish(&redis, &room("b")).await.unwrap();
    let first = fetch(&redis, 0).await.unwrap().unwrap();
    let version = first.version;
    assert_eq!(first.rooms(), [room("a"), room("b")]);
    publish(&redis, &room("b")).await.unwrap();
    assert_eq!(fetch(&redis, version).await, Ok(None), "the same settings again are no change");

    let paused = RoomSettings { paused: true, ..room("b") };
    publish(&redis, &paused).await.unwrap();
    retract(&redis, &room("a").room).await.unwrap();
    let listing = fetch(&redis, version).await.unwrap().unwrap();
    let after = listing.version;
    assert_eq!((after, listing.rooms()), (version + 2, vec![paused.clone()]));
    retract(&redis, &room("a").room).await.unwrap();
    assert_eq!(fetch(&redis, after).await, Ok(None), "retracting twice is one change");
    retract(&redis, &paused.room).await.unwrap();
    let empty = Listing { version: after + 1, published: Some(Vec::new()), ..Listing::default() };
    assert_eq!(fetch(&redis, after).await, Ok(Some(empty)));
}

#[tokio::test]
async fn a_lost_list_is_not_an_empty_list() {
    let (_server, redis, _) = support::line().await;
    publish(&redis, &room("a")).await.unwrap();
    let version = fetch(&redis, 0).await.unwrap().unwrap().version;
    redis.command("FLUSHALL", &[]).await.unwrap();
    let lost = fetch(&redis, version).await.unwrap().unwrap();
    assert_eq!((lost.version, lost.published), (0, None), "no list, which is not a list without rooms");
    publish(&redis, &room("a")).await.unwrap();
    let again = fetch(&redis, version).await.unwrap().expect("a version that no gate remembers");
    assert!(again.version != version && again.rooms() == [room("a")]);
}

#[tokio::test]
async fn bad_settings_go_neither_in_nor_out() {
    let (_server, redis, _) = support::line().await;
    let bad = RoomSettings { rate_per_s: 0, ..room("a") };
    assert!(matches!(publish(&redis, &bad).await, Err(StoreError::Config(text)) if text.contains("rate_per_s")));
    publish(&redis, &room("a")).await.unwrap();
    let other = serde_json::to_string(&room("other")).unwrap();
    let invalid = serde_json::to_string(&RoomSettings { inside_max: 0, ..room("c") }).unwrap();
    redis
        .command("HSET", &[SETTINGS, "b", "{\"from\":\"the future\"}", "mismatch", &other, "c", &invalid])
        .await
        .unwrap();
    assert_eq!(fetch(&redis, 0).await.unwrap().unwrap().rooms(), [room("a")]);
}
