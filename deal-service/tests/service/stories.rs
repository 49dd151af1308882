//! What went wrong in other shops and had no test of that kind here yet (`docs/known-failures.md` lists them all).

use crate::world::{Answer, Run, World};
use ledger::NewHold;
use serde_json::json;
use service_kit::clock::now_ms;
use service_kit::ids::{AccountId, OrderId, VisitorId};
use service_kit::money::{Currency, Money};

async fn act(w: &World, order: OrderId, who: AccountId, verb: &str, key: &str) -> Answer {
    let body = if verb == "payments" { json!({ "provider": "kakaopay" }) } else { json!({}) };
    w.post(&format!("/api/v1/orders/{order}/{verb}"), Some(who), Some(key), body, None).await
}

async fn bought(w: &World, deal: service_kit::ids::DealId, who: AccountId, quantity: i64) -> OrderId {
    let order = w.hold(deal, who, "hold", quantity).await.order();
    assert_eq!(act(w, order, who, "payments", "pay").await.status, 202);
    w.capture(order).await;
    order
}

/// What the worker does with the one due refund.
async fn give_back(w: &World) {
    let work = w.ledger.claim_due_refunds("kakaopay", now_ms(), 10, 1_000).await.unwrap();
    assert_eq!(work.len(), 1);
    assert!(w.ledger.refund_done(work[0].id, "R", now_ms()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_for_too_many_closes_the_sale_for_nobody() {
    let w = World::start(Run::All).await;
    let deal = w.deal(3, 5).await;
    for n in 0..5 {
        assert_eq!(w.hold(deal, w.person().await, &format!("too-many-{n}"), 4).await.slug(), "sold-out");
    }
    assert_eq!(w.hold(deal, w.person().await, "k", 3).await.status, 201, "three were there all the time");
    w.settled_at(deal, 0, 3, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holding_everything_and_turning_back_leaves_everything_on_sale() {
    let w = World::start(Run::All).await;
    let deal = w.deal(4, 4).await;
    let shopper = w.person().await;
    for round in 0..3 {
        let order = w.hold(deal, shopper, &format!("all-{round}"), 4).await.order();
        assert_eq!(act(&w, order, shopper, "cancel", &format!("back-{round}")).await.status, 200);
        w.settled_at(deal, 4, 0, 0).await;
    }
    assert_eq!(w.hold(deal, w.person().await, "k", 4).await.status, 201, "and for anybody else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_lasts_as_long_as_the_merchant_said_whatever_its_state() {
    let w = World::start(Run::All).await;
    let deal = w.deal_with(5, 5, |new| new.hold_ttl_ms = 123_456).await;
    let shopper = w.person().await;
    let before = now_ms();
    let order = w.hold(deal, shopper, "k", 1).await.order();
    let held = w.ledger.order(order).await.unwrap().unwrap();
    assert!((before + 123_456..=now_ms() + 123_456).contains(&held.hold_expires_at_ms));
    assert_eq!(act(&w, order, shopper, "payments", "p").await.status, 202);
    let paying = w.ledger.order(order).await.unwrap().unwrap();
    assert_eq!(paying.hold_expires_at_ms, held.hold_expires_at_ms);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_and_then_a_cancel_bring_the_units_back_once() {
    let w = World::start(Run::All).await;
    let deal = w.deal(5, 5).await;
    let shopper = w.person().await;
    let order = bought(&w, deal, shopper, 2).await;
    w.settled_at(deal, 3, 0, 2).await;
    assert_eq!(act(&w, order, shopper, "refunds", "r").await.status, 202);
    assert_eq!(act(&w, order, shopper, "cancel", "while").await.slug(), "wrong-state");
    give_back(&w).await;
    w.settled_at(deal, 5, 0, 0).await;
    assert_eq!(act(&w, order, shopper, "cancel", "after").await.slug(), "wrong-state");
    let again = act(&w, order, shopper, "refunds", "again").await;
    assert_eq!(again.json()["state"], "refunded", "told where it stands");
    assert!(
        w.ledger.claim_due_refunds("kakaopay", now_ms(), 10, 1_000).await.unwrap().is_empty(),
        "and nothing more is sent"
    );
    w.settled_at(deal, 5, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sold_out_deal_sells_again_when_a_refund_brings_its_unit_back() {
    let w = World::start(Run::All).await;
    let deal = w.deal(1, 1).await;
    let (first, second) = (w.person().await, w.person().await);
    let order = bought(&w, deal, first, 1).await;
    w.settled_at(deal, 0, 0, 1).await;
    assert_eq!(w.hold(deal, second, "early", 1).await.slug(), "sold-out");
    let refunding = act(&w, order, first, "refunds", "r").await;
    assert_eq!(
        (refunding.status.as_u16(), refunding.json()["state"].as_str()),
        (202, Some("refunding")),
        "not done yet, and it says so"
    );
    assert_eq!(w.hold(deal, second, "meanwhile", 1).await.slug(), "sold-out", "the money is not back yet");
    give_back(&w).await;
    w.settled_at(deal, 1, 0, 0).await;
    assert_eq!(w.hold(deal, second, "late", 1).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_an_order_is_given_once() {
    let w = World::start(Run::Committer).await;
    let deal = w.deal(5, 5).await;
    let (one, other) = (w.person().await, w.person().await);
    let order = w.hold(deal, one, "k", 1).await.order();
    let now = now_ms();
    let same_id = NewHold {
        order,
        deal,
        account: other,
        lease_number: 1,
        visitor: VisitorId::new(),
        quantity: 1,
        amount: Money::new(12_900, Currency::KRW).unwrap(),
        idempotency_key: "k2".into(),
        fingerprint: [0; 32],
        hold_expires_at_ms: now + 60_000,
        confirm_by_ms: now + 10_000,
        epoch: w.truth(deal).await.epoch,
        trace_id: "t".into(),
    };
    assert!(w.ledger.place_holds(&[same_id], now).await.is_err());
    assert_eq!(w.ledger.order(order).await.unwrap().unwrap().account, one);
    w.settled_at(deal, 4, 1, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_ordered_never_changes() {
    let w = World::start(Run::Committer).await;
    let (deal, elsewhere) = (w.deal(5, 5).await, w.deal(5, 5).await);
    let order = w.hold(deal, w.person().await, "k", 2).await.order();
    let other = w.person().await;
    let (client, connection) = tokio_postgres::connect(&w.pg_url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    for change in [
        "quantity = 1".to_owned(),
        "amount_minor = 1".to_owned(),
        "currency = 'USD'".to_owned(),
        format!("account_id = '{other}'"),
        format!("deal_id = '{elsewhere}'"),
    ] {
        let refused =
            client.batch_execute(&format!("UPDATE orders SET {change} WHERE id = '{order}'")).await.unwrap_err();
        assert!(refused.as_db_error().unwrap().message().contains("never changes"), "{change}: {refused:?}");
    }
    w.settled_at(deal, 3, 2, 0).await;
}
