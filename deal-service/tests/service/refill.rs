//! What a filling of the fast stock knows of the past: orders that an operator must decide about, who bought and left, and
//! who may ask for an old order again.

use crate::world::{Run, World, config};
use deal_service::app::App;
use deal_service::workers;
use ledger::{Actor, Decision};
use queue::keys::RoomKeys;
use serde_json::json;
use service_kit::clock::now_ms;
use service_kit::ids::{AccountId, DealId, OrderId, RoomId};
use service_kit::keys::{KeyRing, KeysConfig};
use service_kit::shutdown;

/// Everything in Redis is lost, and the stock is filled anew.
async fn refilled(w: &World, deal: DealId) {
    w.redis.command("FLUSHALL", &["SYNC"]).await.unwrap();
    w.app.fast_stock().fill(&w.ledger, deal, None, "a-filling").await.unwrap();
}

async fn act(w: &World, order: OrderId, who: AccountId, verb: &str) {
    let body = if verb == "payments" { json!({"provider": "kakaopay"}) } else { json!({}) };
    let answer = w.post(&format!("/api/v1/orders/{order}/{verb}"), Some(who), Some(verb), body, None).await;
    assert!(answer.status.is_success(), "{verb}: {} {}", answer.status, answer.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_wait_for_an_operator_are_held_after_a_filling() {
    let w = World::start(Run::Committer).await;
    let deal = w.deal(5, 5).await;
    let shopper = w.person().await;
    let order = w.hold(deal, shopper, "k", 2).await.order();
    act(&w, order, shopper, "payments").await;
    let payment = w.ledger.order(order).await.unwrap().unwrap().payment.unwrap().id;
    assert!(w.ledger.quarantine(payment, "another sum", 0, Actor::Worker, now_ms()).await.unwrap());
    refilled(&w, deal).await;
    w.settled_at(deal, 3, 2, 0).await;
    // The operator ends it, and its units are found.
    let decided = w.ledger.decide(order, Decision::CloseWithoutMoney, "ops", "nothing was taken", now_ms()).await;
    decided.unwrap().unwrap().unwrap();
    w.app.fast_stock().release(&RoomId::of_deal(deal), order).await.unwrap();
    w.settled_at(deal, 5, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_ends_the_pass_although_the_stock_was_filled_anew_in_between() {
    let w = World::start(Run::Committer).await;
    let deal = w.deal_with(5, 5, |d| d.room = json!({ "end_on_purchase": true, "lease_ms": 90_000 })).await;
    let keys = RoomKeys::new(&RoomId::of_deal(deal));
    let shopper = w.person().await;
    let order = w.hold(deal, shopper, "k", 2).await.order();
    act(&w, order, shopper, "payments").await;
    w.capture(order).await;
    // Nobody has told Redis when it forgets everything, and the filling knows no unit of an order that is paid.
    refilled(&w, deal).await;
    w.redis.command("ZADD", &[&keys.inside(), &(now_ms() + 60_000).to_string(), "7"]).await.unwrap();
    let (_stop, flag) = shutdown::channel();
    let ring = KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("b")] }).unwrap();
    let (app, feeds) = App::new(config(), ring, w.redis.clone(), w.ledger.clone(), flag.clone());
    let _workers = workers::start(&app, feeds, &flag);
    w.settled_at(deal, 3, 0, 2).await;
    w.eventually("the pass has ended", async || {
        w.redis.command("ZSCORE", &[&keys.ended(), "7"]).await.unwrap().int().is_ok()
    })
    .await;
    assert_eq!(w.redis.command("EXISTS", &[&keys.inside()]).await.unwrap().int(), Ok(0), "the place is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_key_is_answered_as_before_although_the_stock_was_filled_anew() {
    let w = World::start(Run::Committer).await;
    let deal = w.deal(2, 2).await;
    let shopper = w.person().await;
    let first = w.hold(deal, shopper, "k", 2).await;
    act(&w, first.order(), shopper, "cancel").await;
    refilled(&w, deal).await;
    assert_eq!(w.hold(deal, w.person().await, "k", 2).await.status, 201, "everything is somebody else's now");
    let again = w.hold(deal, shopper, "k", 2).await;
    assert_eq!((again.status.as_u16(), again.order()), (201, first.order()), "the same answer, not sold out");
}
