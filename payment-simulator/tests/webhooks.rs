//! Webhooks of both providers: what the shop is told, how often, and what abuse on demand does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use serde_json::{Value, json};
use support::Shop;
use support::hook::{Got, Hook};
use support::toss::{confirm, form};

const MINUTE_MS: i64 = 60_000;

async fn listening(provider: &str) -> (Shop, Hook) {
    let (shop, hook) = (Shop::open().await, Hook::open().await);
    let (status, body) = shop.control("webhooks", json!({ "provider": provider, "url": hook.url })).await;
    assert_eq!(status, 200, "{body}");
    (shop, hook)
}

fn kinds(got: &[Got]) -> Vec<String> {
    let mut kinds: Vec<String> = got
        .iter()
        .map(|got| got.body["type"].as_str().or(got.body["eventType"].as_str()).unwrap_or("(flat)").to_owned())
        .collect();
    kinds.sort();
    kinds
}

#[tokio::test]
async fn toss_tells_a_status_and_no_request_waits_for_it() {
    let (shop, hook) = listening("toss").await;
    let key = shop.toss_done().await;
    shop.webhooks().await;
    let got = hook.take().await;
    assert_eq!(kinds(&got), ["PAYMENT_STATUS_CHANGED"]);
    assert_eq!((&got[0].body["data"]["paymentKey"], &got[0].body["data"]["status"]), (&json!(key), &json!("DONE")));
    assert_eq!(got[0].body["createdAt"].as_str().unwrap().len(), "2026-11-21T12:00:00.000000".len());
    assert_eq!(got[0].header("tosspayments-webhook-transmission-retried-count"), "0");
    assert!(!got[0].headers.contains_key("tosspayments-webhook-signature"), "payment events are unsigned");
    shop.toss_cancel(&key, json!({ "cancelReason": "x", "cancelAmount": 900 })).await;
    shop.toss_cancel(&key, json!({ "cancelReason": "x" })).await;
    shop.webhooks().await;
    let balances: Vec<Value> = hook.take().await.iter().map(|got| got.body["data"]["balanceAmount"].clone()).collect();
    assert!(balances.contains(&json!(12_000)) && balances.contains(&json!(0)) && balances.len() == 2, "{balances:?}");
}

#[tokio::test]
async fn toss_tries_eight_times_with_one_transmission_id() {
    let (shop, hook) = listening("toss").await;
    hook.answer(503);
    shop.toss_done().await;
    shop.webhooks().await;
    for minutes in [1, 4, 16, 64, 256, 1_024, 4_096, 100_000] {
        shop.advance(minutes * MINUTE_MS).await;
    }
    let got = hook.take().await;
    let counts: Vec<&str> = got.iter().map(|g| g.header("tosspayments-webhook-transmission-retried-count")).collect();
    assert_eq!(counts, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    assert!(
        got.iter().all(|g| g.header("tosspayments-webhook-transmission-id")
            == got[0].header("tosspayments-webhook-transmission-id"))
    );
    assert_eq!(shop.webhooks().await[0]["state"], "gave-up");
    // One jump of four days makes all tries as well.
    shop.toss_done().await;
    shop.advance(4 * 86_400_000).await;
    assert_eq!(hook.take().await.len(), 8);
}

#[tokio::test]
async fn toss_proves_deposits_by_the_secret_and_expires_sessions() {
    let (shop, hook) = listening("toss").await;
    let form: Vec<(&str, &str)> =
        form().into_iter().map(|(n, v)| if n == "method" { (n, "VIRTUAL_ACCOUNT") } else { (n, v) }).collect();
    let key = shop.toss_authenticated(&form).await;
    let (_, payment) = shop.toss_post("payments/confirm", &confirm(&key)).await;
    shop.webhooks().await;
    hook.take().await;
    shop.control("toss/deposit", json!({ "payment": key })).await;
    shop.webhooks().await;
    let got = hook.take().await;
    assert_eq!(kinds(&got), ["(flat)", "PAYMENT_STATUS_CHANGED"]);
    let flat = got.iter().find(|got| got.body["eventType"].is_null()).unwrap();
    assert_eq!((&flat.body["secret"], &flat.body["status"]), (&payment["secret"], &json!("DONE")));
    assert!(flat.body["paymentKey"].is_null() && flat.body["createdAt"].as_str().unwrap().ends_with("+09:00"));
    shop.control("toss/deposit", json!({ "payment": key, "error": true })).await;
    shop.webhooks().await;
    let got = hook.take().await;
    assert_eq!((got.len(), &got[0].body["status"]), (1, &json!("WAITING_FOR_DEPOSIT")));
    let open = shop.toss_open(&support::toss::form()).await;
    shop.advance(30 * MINUTE_MS).await;
    let got = hook.take().await;
    assert_eq!((&got[0].body["data"]["paymentKey"], &got[0].body["data"]["status"]), (&json!(open), &json!("EXPIRED")));
}

#[tokio::test]
async fn the_third_envelope_is_signed() {
    let (shop, hook) = listening("toss").await;
    let (status, _) = shop.control("webhooks/send", json!({ "provider": "toss", "event": "payout.changed" })).await;
    assert_eq!(status, 200);
    shop.webhooks().await;
    let got = hook.take().await;
    assert!(got[0].header("tosspayments-webhook-signature").starts_with("v1:"));
    for member in ["eventType", "createdAt", "version", "eventId", "entityType", "entityBody"] {
        assert!(!got[0].body[member].is_null(), "{member}");
    }
}

#[tokio::test]
async fn stripe_tells_every_step_signed() {
    let (shop, hook) = listening("stripe").await;
    let pi = shop.stripe_paid().await;
    shop.stripe_post("refunds", &[("payment_intent", &pi), ("amount", "900")]).await;
    shop.stripe_intent(&[("confirm", "true"), ("payment_method", "pm_card_authenticationRequired")]).await;
    shop.webhooks().await;
    let got = hook.take().await;
    let expected = [
        "charge.refunded",
        "payment_intent.created",
        "payment_intent.created",
        "payment_intent.requires_action",
        "payment_intent.succeeded",
        "refund.created",
    ];
    assert_eq!(kinds(&got), expected);
    for got in &got {
        let signature = got.header("stripe-signature");
        assert!(signature.starts_with("t=") && signature.contains(",v1="), "{signature}");
        assert_eq!((&got.body["object"], &got.body["pending_webhooks"]), (&json!("event"), &json!(1)));
        assert!(got.body["request"]["id"].as_str().unwrap().starts_with("req_"));
    }
    hook.answer(500);
    shop.stripe_paid().await;
    shop.advance(86_400_000).await;
    assert_eq!(hook.take().await.len(), 6, "two events, three tries each");
}

#[tokio::test]
async fn ten_duplicates_shuffled_late_forged_replayed_and_huge() {
    let (shop, hook) = listening("stripe").await;
    let pi = shop.stripe_paid().await;
    shop.stripe_post("refunds", &[("payment_intent", &pi), ("amount", "900")]).await;
    shop.webhooks().await;
    let genuine = hook.take().await;
    assert_eq!(genuine.len(), 4);
    let send = |more: Value| {
        let mut body = json!({ "provider": "stripe", "payment": pi });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        shop.control("webhooks/send", body)
    };
    assert_eq!(send(json!({ "times": 10, "shuffle": true, "seed": 7 })).await.1["queued"], 40);
    shop.webhooks().await;
    let got = hook.take().await;
    let mut ids: Vec<&str> = got.iter().filter_map(|g| g.body["id"].as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((got.len(), ids.len()), (40, 4), "the same events");
    // Four days late.
    send(json!({ "event": "payment_intent.succeeded", "delay_ms": 4 * 86_400_000_i64 })).await;
    assert!(shop.webhooks().await.iter().any(|webhook| webhook["state"] == "waiting"));
    assert!(hook.take().await.is_empty());
    shop.advance(4 * 86_400_000).await;
    assert_eq!(kinds(&hook.take().await), ["payment_intent.succeeded"]);
    // A forgery claims what the genuine one claims, but no shared secret signed it.
    let open = shop.stripe_intent(&[]).await;
    shop.webhooks().await;
    hook.take().await;
    let forge = json!({ "provider": "stripe", "payment": open["id"], "forge": true, "times": 3 });
    assert_eq!(shop.control("webhooks/send", forge).await.0, 200);
    shop.webhooks().await;
    let got = hook.take().await;
    assert_eq!((got.len(), &got[0].body["data"]["object"]["status"]), (3, &json!("succeeded")));
    assert_eq!(
        shop.stripe_get(&format!("payment_intents/{}", open["id"].as_str().unwrap())).await.1["status"],
        "requires_payment_method"
    );
    // A replay has the old signature, byte for byte.
    send(json!({ "event": "refund.created", "replay": true })).await;
    shop.webhooks().await;
    let replayed = &hook.take().await[0];
    let original = genuine.iter().find(|got| got.body["type"] == "refund.created").unwrap();
    assert_eq!(
        (replayed.header("stripe-signature"), &replayed.text),
        (original.header("stripe-signature"), &original.text)
    );
    send(json!({ "event": "refund.created", "huge": true, "content_type": "text/plain" })).await;
    shop.webhooks().await;
    let huge = &hook.take().await[0];
    assert!(huge.text.len() > 2 * 1024 * 1024 && huge.header("content-type") == "text/plain");
    for bad in [json!({ "times": 0 }), json!({ "event": "nothing.like.it" }), json!({ "colour": "red" })] {
        assert_eq!(send(bad.clone()).await.0, 422, "{bad}");
    }
}

#[tokio::test]
async fn a_webhook_may_come_before_the_answer_or_never() {
    let (shop, hook) = listening("toss").await;
    let key = shop.toss_authenticated(&form()).await;
    let slow = shop.toss_request("payments/confirm", &confirm(&key)).header("floodgate-simulate", "delay=60000");
    let call = tokio::spawn(slow.send());
    loop {
        if shop.webhooks().await.iter().any(|webhook| webhook["state"] == "delivered") {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(!call.is_finished(), "the answer is still on its way");
    assert_eq!(hook.take().await[0].body["data"]["status"], "DONE");
    call.abort();
    shop.control("webhooks", json!({ "provider": "toss", "lose": 1 })).await;
    shop.toss_done().await;
    assert_eq!(shop.webhooks().await.last().unwrap()["state"], "lost");
    assert!(hook.take().await.is_empty());
}

#[tokio::test]
async fn webhooks_stay_on_this_machine_and_survive_a_reset() {
    let (shop, hook) = listening("toss").await;
    for url in ["http://198.51.100.7/hook", "ftp://127.0.0.1/", "nonsense"] {
        assert_eq!(shop.control("webhooks", json!({ "provider": "toss", "url": url })).await.0, 422, "{url}");
    }
    assert_eq!(shop.control("webhooks", json!({ "provider": "kakaopay", "url": hook.url })).await.0, 422);
    shop.toss_done().await;
    shop.webhooks().await;
    hook.take().await;
    shop.control("reset", json!({})).await;
    assert!(shop.webhooks().await.is_empty());
    assert_eq!(shop.ledger().await["totals"]["payments"], 0);
    shop.toss_done().await;
    shop.webhooks().await;
    assert_eq!(hook.take().await.len(), 1, "the address outlives a reset");
}
