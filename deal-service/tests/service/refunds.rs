//! Providers to choose from, and refunds by shopper and merchant, whole and in part, through HTTP; and how Redis hears.

use crate::world::{Answer, Run, World};
use ledger::{Actor, Ended, PaymentState};
use serde_json::{Value, json};
use service_kit::clock::now_ms;
use service_kit::ids::{DealId, MerchantId, OrderId};
use service_kit::money::{Currency, Money};
use sha2::{Digest as _, Sha256};

/// A merchant's API key.
async fn key_of(w: &World, merchant: MerchantId) -> String {
    let key = format!("sk_live_{merchant}");
    let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    w.ledger.create_api_key(merchant, &hash, "sk_live_test", now_ms()).await.unwrap();
    key
}

async fn merchant_refund(w: &World, order: OrderId, key: &str, idem: &str, body: Value) -> (u16, Value) {
    let answer = w
        .http
        .post(format!("{}/api/v1/merchant/orders/{order}/refunds", w.url))
        .bearer_auth(key)
        .header("idempotency-key", idem)
        .json(&body)
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// What the worker does with the one due refund.
async fn give_back(w: &World) {
    let work = w.ledger.claim_due_refunds("kakaopay", now_ms(), 10, 1_000).await.unwrap();
    assert_eq!(work.len(), 1);
    assert!(w.ledger.refund_done(work[0].id, "R", now_ms()).await.unwrap());
}

async fn bought(w: &World, deal: DealId, quantity: i64) -> (OrderId, service_kit::ids::AccountId) {
    let shopper = w.person().await;
    let order = w.hold(deal, shopper, "k", quantity).await.order();
    assert_eq!(pay(w, order, shopper, "kakaopay", "p").await.status, 202);
    w.capture(order).await;
    (order, shopper)
}

async fn pay(w: &World, order: OrderId, who: service_kit::ids::AccountId, provider: &str, key: &str) -> Answer {
    w.post(&format!("/api/v1/orders/{order}/payments"), Some(who), Some(key), json!({ "provider": provider }), None)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shopper_chooses_among_the_shops_providers_for_this_currency() {
    let w = World::start(Run::All).await;
    let won = w.deal(5, 5).await;
    let dollars = w.deal_with(5, 5, |new| new.price = Money::new(1_290, Currency::USD).unwrap()).await;
    let shopper = w.person().await;
    let order = w.hold(dollars, shopper, "k", 1).await.order();
    for wrong in ["kakaopay", "toss", "paypal", "", "KAKAOPAY"] {
        let answer = pay(&w, order, shopper, wrong, wrong).await;
        assert!(answer.status == 400 || answer.status == 422, "{wrong}");
    }
    assert_eq!(pay(&w, order, shopper, "stripe", "s").await.status, 202);
    let order = w.hold(won, shopper, "k2", 1).await.order();
    assert_eq!(pay(&w, order, shopper, "toss", "t").await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_gives_money_back_in_parts_and_redis_hears_of_each_unit_once() {
    let w = World::start(Run::All).await;
    let deal = w.deal(5, 5).await;
    let (order, shopper) = bought(&w, deal, 3).await;
    w.settled_at(deal, 2, 0, 3).await;
    let key = key_of(&w, w.merchant).await;
    let stranger = MerchantId::new();
    w.ledger.create_merchant(stranger, "Another", now_ms()).await.unwrap();
    let other = key_of(&w, stranger).await;
    for (who, status) in [(other.as_str(), 404), ("sk_live_nobody", 401)] {
        assert_eq!(merchant_refund(&w, order, who, "a", json!({})).await.0, status, "{who}");
    }
    for bad in [
        json!({"amount_minor": 0}),
        json!({"amount_minor": 38_701}),
        json!({"amount_minor": -1}),
        json!({"amount_minor": 1, "units": 4}),
        json!({"units": 1}),
        json!({"amount": 1}),
        json!({"amount_minor": "1"}),
    ] {
        let (status, problem) = merchant_refund(&w, order, &key, "bad", bad.clone()).await;
        assert!((400..500).contains(&status) && status != 404, "{bad}: {status} {problem}");
    }
    let part = json!({ "amount_minor": 12_900, "units": 1, "reason": "one was broken" });
    let (status, first) = merchant_refund(&w, order, &key, "b", part.clone()).await;
    assert_eq!((status, first["state"].as_str()), (202, Some("refunding")));
    assert_eq!(merchant_refund(&w, order, &key, "b", part).await.1, first, "the same answer to the same request");
    give_back(&w).await;
    w.settled_at(deal, 3, 0, 2).await;
    let now = w.get(&format!("/api/v1/orders/{order}"), Some(shopper)).await.json();
    assert_eq!((now["state"].as_str(), now["refunded_minor"].as_i64()), (Some("partly_refunded"), Some(12_900)));
    let (status, _) = merchant_refund(&w, order, &key, "c", json!({})).await;
    assert_eq!(status, 202);
    give_back(&w).await;
    w.settled_at(deal, 5, 0, 0).await;
    assert_eq!(w.hold(deal, shopper, "again", 5).await.status, 201, "the limit is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shopper_gives_one_of_two_back_for_what_it_cost() {
    let w = World::start(Run::All).await;
    let deal = w.deal(5, 5).await;
    let (order, shopper) = bought(&w, deal, 2).await;
    let ask = async |body: Value, key: &str| {
        w.post(&format!("/api/v1/orders/{order}/refunds"), Some(shopper), Some(key), body, None).await
    };
    assert!(ask(json!({"amount_minor": 25_800}), "a").await.status.is_client_error(), "sums are the merchant's");
    for units in [0, -1, 3] {
        assert!(ask(json!({ "units": units }), "b").await.status.is_client_error());
    }
    assert_eq!(ask(json!({"units": 1}), "c").await.status, 202);
    give_back(&w).await;
    w.settled_at(deal, 4, 0, 1).await;
    assert_eq!(ask(json!({"units": 1}), "d").await.status, 202);
    give_back(&w).await;
    w.settled_at(deal, 5, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_hears_of_late_money_and_of_returns_after_a_refill_once() {
    let w = World::start(Run::All).await;
    let deal = w.deal(3, 3).await;
    let (kept, _) = bought(&w, deal, 1).await;
    let shopper = w.person().await;
    let order = w.hold(deal, shopper, "k", 1).await.order();
    pay(&w, order, shopper, "kakaopay", "p").await;
    let payment = w.ledger.order(order).await.unwrap().unwrap().payment.unwrap().id;
    let ended = w.ledger.settle_ended(payment, PaymentState::Requested, Ended::Expired, "x", "x", now_ms());
    assert!(ended.await.unwrap());
    w.settled_at(deal, 2, 0, 1).await;
    let price = Money::new(12_900, Currency::KRW).unwrap();
    w.ledger.settle_captured(payment, "A", price, Actor::Webhook, now_ms()).await.unwrap();
    w.settled_at(deal, 1, 0, 2).await;
    // Everything in Redis is lost; the filling knows of all that the ledger had decided until then.
    let _: Result<_, _> = w.redis.command("FLUSHALL", &[]).await;
    w.settled_at(deal, 1, 0, 2).await;
    let key = key_of(&w, w.merchant).await;
    for (n, order) in [order, kept].into_iter().enumerate() {
        assert_eq!(merchant_refund(&w, order, &key, &format!("r{n}"), json!({})).await.0, 202);
        give_back(&w).await;
    }
    w.settled_at(deal, 3, 0, 0).await;
}
