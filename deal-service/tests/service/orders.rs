//! Orders through HTTP: pay, cancel, refund, watch.

use crate::world::{Run, World};
use futures::StreamExt as _;
use queue::keys::RoomKeys;
use serde_json::{Value, json};
use service_kit::clock::now_ms;
use service_kit::ids::{AccountId, OrderId, RoomId};
use std::time::Duration;

async fn act(w: &World, order: OrderId, who: AccountId, verb: &str, key: &str) -> crate::world::Answer {
    let body = if verb == "payments" { json!({"provider": "kakaopay"}) } else { json!({}) };
    w.post(&format!("/api/v1/orders/{order}/{verb}"), Some(who), Some(key), body, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_and_its_refund() {
    let w = World::start(Run::All).await;
    let deal = w.deal(5, 5).await;
    let shopper = w.person().await;
    let hold = w.hold(deal, shopper, "k", 2).await;
    let order = hold.order();
    assert_eq!(hold.headers["location"], format!("/api/v1/orders/{order}"));
    assert_eq!(hold.json()["amount"], json!({"minor": 25_800, "currency": "KRW"}));
    let paying = act(&w, order, shopper, "payments", "p").await;
    assert_eq!((paying.status.as_u16(), paying.json()["payment"]["state"].as_str()), (202, Some("requested")));
    let again = act(&w, order, shopper, "payments", "p").await;
    assert_eq!((again.bytes, again.headers["idempotency-replayed"].to_str().unwrap()), (paying.bytes, "true"));
    assert_eq!(
        act(&w, order, shopper, "cancel", "p").await.slug(),
        "idempotency-key-reused",
        "a key means one request"
    );
    w.capture(order).await;
    w.settled_at(deal, 3, 0, 2).await;
    assert_eq!(act(&w, order, shopper, "cancel", "c").await.slug(), "wrong-state");
    let refunding = act(&w, order, shopper, "refunds", "r").await;
    assert_eq!((refunding.status.as_u16(), refunding.json()["state"].as_str()), (202, Some("refunding")));
    let work = w.ledger.claim_due_refunds("kakaopay", now_ms(), 10, 1_000).await.unwrap();
    assert!(w.ledger.refund_done(work[0].id, "R1", now_ms()).await.unwrap());
    w.settled_at(deal, 5, 0, 0).await;
    assert_eq!(w.get(&format!("/api/v1/orders/{order}"), Some(shopper)).await.json()["state"], "refunded");
    assert_eq!(w.hold(deal, shopper, "k2", 5).await.status, 201, "the limit is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_ends_the_pass_only_where_the_deal_says_so() {
    let w = World::start(Run::All).await;
    for ends in [false, true] {
        let deal = w.deal_with(5, 5, |d| d.room = json!({ "end_on_purchase": ends, "lease_ms": 90_000 })).await;
        let keys = RoomKeys::new(&RoomId::of_deal(deal));
        let shopper = w.person().await;
        // Every pass of this test is for number 7.
        let until = (now_ms() + 60_000).to_string();
        w.redis.command("ZADD", &[&keys.inside(), &until, "7"]).await.unwrap();
        w.redis.command("HSET", &[&keys.entered(), "7", "1:00"]).await.unwrap();
        let order = w.hold(deal, shopper, "k", 2).await.order();
        act(&w, order, shopper, "payments", "p").await;
        w.capture(order).await;
        w.settled_at(deal, 3, 0, 2).await;
        for key in [keys.inside(), keys.buying(), keys.entered()] {
            assert_eq!(w.redis.command("EXISTS", &[&key]).await.unwrap().int(), Ok(0), "{key}: the place is free");
        }
        let ended = w.redis.command("ZSCORE", &[&keys.ended(), "7"]).await.unwrap();
        match ended.int() {
            Ok(until_ms) => {
                let rest_ms = until_ms - now_ms();
                assert!(ends && (30_000..=90_000).contains(&rest_ms), "until any pass is over: {rest_ms} ms");
            }
            Err(_) => assert!(!ends, "the pass did not end"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_gives_back_once() {
    let w = World::start(Run::All).await;
    let deal = w.deal(5, 5).await;
    let shopper = w.person().await;
    let order = w.hold(deal, shopper, "k", 2).await.order();
    let first = act(&w, order, shopper, "cancel", "c").await;
    assert_eq!((first.status.as_u16(), first.json()["state"].as_str()), (200, Some("released")));
    assert_eq!(act(&w, order, shopper, "cancel", "c").await.bytes, first.bytes);
    assert_eq!(act(&w, order, shopper, "cancel", "c2").await.slug(), "wrong-state");
    assert_eq!(act(&w, order, shopper, "payments", "p").await.slug(), "wrong-state");
    w.settled_at(deal, 5, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_pay_at_the_same_moment() {
    let w = std::sync::Arc::new(World::start(Run::All).await);
    let deal = w.deal(40, 40).await;
    let shopper = w.person().await;
    for i in 0..12 {
        let order = w.hold(deal, shopper, &format!("k{i}"), 1).await.order();
        let (a, b) = (w.clone(), w.clone());
        let pay =
            tokio::spawn(async move { act(&a, order, shopper, "payments", &format!("p{i}")).await.status.as_u16() });
        let cancel =
            tokio::spawn(async move { act(&b, order, shopper, "cancel", &format!("c{i}")).await.status.as_u16() });
        let (pay, cancel) = (pay.await.unwrap(), cancel.await.unwrap());
        let state =
            w.get(&format!("/api/v1/orders/{order}"), Some(shopper)).await.json()["state"].as_str().unwrap().to_owned();
        // Until the provider is asked for money, a cancel also ends a payment that has just begun.
        assert_eq!((cancel, state.as_str()), (200, "released"), "pay answered {pay}");
    }
    w.settled_at(deal, 40, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    let w = World::start(Run::Committer).await;
    let deal = w.deal(30, 30).await;
    let shopper = w.person().await;
    let mut made = Vec::new();
    for i in 0..5 {
        made.push(w.hold(deal, shopper, &format!("k{i}"), 1).await.order().to_string());
    }
    made.reverse();
    let ids = |page: &Value| {
        page["data"].as_array().unwrap().iter().map(|o| o["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = w.get("/api/v1/orders?limit=3", Some(shopper)).await.json();
    assert_eq!((ids(&first), first["has_more"].as_bool()), (made[..3].to_vec(), Some(true)));
    let rest = w.get(&format!("/api/v1/orders?limit=3&starting_after={}", made[2]), Some(shopper)).await.json();
    assert_eq!((ids(&rest), rest["has_more"].as_bool()), (made[3..].to_vec(), Some(false)));
}

/// Reads events until the stream ends or `max` orders have come.
async fn watch(w: &World, order: OrderId, who: AccountId) -> tokio::task::JoinHandle<Vec<String>> {
    let response =
        w.http.get(format!("{}/api/v1/orders/{order}/events", w.url)).bearer_auth(w.token(who)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    tokio::spawn(async move {
        let mut text = String::new();
        let mut stream = response.bytes_stream();
        while let Some(Ok(bytes)) = stream.next().await {
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        text.lines()
            .filter_map(|l| l.strip_prefix("data: "))
            .map(|d| serde_json::from_str::<Value>(d).unwrap()["state"].as_str().unwrap().to_owned())
            .collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_order_tells_each_step_and_ends() {
    let w = World::start(Run::All).await;
    let deal = w.deal(5, 5).await;
    let shopper = w.person().await;
    let order = w.hold(deal, shopper, "k", 1).await.order();
    let (one, two) = (watch(&w, order, shopper).await, watch(&w, order, shopper).await);
    let third = w.get(&format!("/api/v1/orders/{order}/events"), Some(shopper)).await;
    assert_eq!((third.status.as_u16(), third.slug().as_str()), (429, "too-many-requests"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    act(&w, order, shopper, "payments", "p").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    w.capture(order).await;
    for stream in [one, two] {
        let states = tokio::time::timeout(Duration::from_secs(5), stream).await.expect("the stream ends").unwrap();
        assert_eq!(states, ["held", "paying", "paid"]);
    }
    let states = tokio::time::timeout(Duration::from_secs(5), watch(&w, order, shopper).await).await.unwrap().unwrap();
    assert_eq!(states, ["paid"], "places are free again, and a settled order is told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn live_pages_end_at_shutdown() {
    let w = World::start(Run::All).await;
    let deal = w.deal(5, 5).await;
    let shopper = w.person().await;
    let order = w.hold(deal, shopper, "k", 1).await.order();
    let stream = watch(&w, order, shopper).await;
    w.stop.stop();
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), stream).await.expect("the stream ends").unwrap(), ["held"]);
}
