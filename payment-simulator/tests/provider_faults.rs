//! Faults of Toss and Stripe, by header and by plan: what the merchant sees and what really happened.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use serde_json::{Value, json};
use support::toss::{confirm, form};
use support::{Shop, answer};

async fn toss_confirm(shop: &Shop, key: &str, fault: &str) -> reqwest::Result<(u16, Value)> {
    answer(shop.toss_request("payments/confirm", &confirm(key)).header("floodgate-simulate", fault)).await
}

#[tokio::test]
async fn toss_charges_and_says_nothing_and_the_same_key_tells() {
    let shop = Shop::open().await;
    let key = shop.toss_authenticated(&form()).await;
    let lost = shop.toss_request("payments/confirm", &confirm(&key)).header("idempotency-key", "k");
    let lost = lost.header("floodgate-simulate", "drop-after-effect").send().await;
    assert!(lost.is_err_and(|e| !e.is_timeout()));
    assert_eq!(shop.entry().await["approvals"], 1);
    assert_eq!(shop.toss_keyed("payments/confirm", &confirm(&key), "k").await.1["status"], "DONE");
    assert_eq!(shop.entry().await["approvals"], 1);
}

#[tokio::test]
async fn toss_lies_only_where_it_is_asked_to() {
    let shop = Shop::open().await;
    let key = shop.toss_authenticated(&form()).await;
    let (status, body) = toss_confirm(&shop, &key, "wrong-amount").await.unwrap();
    assert_eq!((status, &body["totalAmount"]), (200, &json!(13_000)));
    let entry = shop.entry().await;
    assert_eq!((&entry["amount"], &entry["captured"]), (&json!(12_900), &json!(13_000)), "really taken");
    for (fault, pointer, told) in [
        ("wrong-amount", "/totalAmount", json!(13_100)),
        ("wrong-currency", "/currency", json!("USD")),
        ("wrong-order", "/orderId", json!("order-1-other")),
    ] {
        shop.control("faults", json!({ "provider": "toss", "endpoint": "query", "fault": fault, "times": 1 })).await;
        assert_eq!(shop.toss_get(&format!("payments/{key}")).await.1.pointer(pointer), Some(&told), "{fault}");
        assert_ne!(shop.toss_get(&format!("payments/{key}")).await.1.pointer(pointer), Some(&told), "only once");
    }
    let cancel =
        shop.toss_request(&format!("payments/{key}/cancel"), &json!({ "cancelReason": "x", "cancelAmount": 900 }));
    let (_, body) = answer(cancel.header("floodgate-simulate", "wrong-amount")).await.unwrap();
    assert_eq!(body["cancels"][0]["cancelAmount"], 1_000);
    assert_eq!(shop.entry().await["cancelled"], 900);
}

#[tokio::test]
async fn toss_declines_limits_and_hides() {
    let shop = Shop::open().await;
    let key = shop.toss_authenticated(&form()).await;
    assert_eq!(toss_confirm(&shop, &key, "limited").await.unwrap().0, 429);
    let (status, body) = toss_confirm(&shop, &key, "decline").await.unwrap();
    assert_eq!((status, &body["code"]), (403, &json!("REJECT_CARD_PAYMENT")));
    assert_eq!(shop.toss_get(&format!("payments/{key}")).await.1["status"], "ABORTED");
    let key = shop.toss_authenticated(&form()).await;
    let (status, body) = toss_confirm(&shop, &key, "error-after-effect").await.unwrap();
    assert_eq!((status, &body["code"]), (500, &json!("FAILED_INTERNAL_SYSTEM_PROCESSING")));
    assert_eq!(shop.toss_get("payments/orders/order-1").await.1["status"], "DONE", "asking tells");
    let cancel = shop.toss_request(&format!("payments/{key}/cancel"), &json!({ "cancelReason": "x" }));
    let (status, body) = answer(cancel.header("floodgate-simulate", "decline")).await.unwrap();
    assert_eq!((status, &body["code"]), (400, &json!("REFUND_REJECTED")));
}

#[tokio::test]
async fn a_toss_refund_is_accepted_and_fails_later() {
    let shop = Shop::open().await;
    let key = shop.toss_done().await;
    let cancel = json!({ "cancelReason": "x", "cancelAmount": 900 });
    let request = shop.toss_request(&format!("payments/{key}/cancel"), &cancel);
    let (status, body) = answer(request.header("floodgate-simulate", "refund-fails-later=30000")).await.unwrap();
    assert_eq!((status, &body["cancels"][0]["cancelStatus"]), (200, &json!("IN_PROGRESS")));
    assert_eq!(body["balanceAmount"], 12_000);
    shop.advance(30_000).await;
    let (_, body) = shop.toss_get(&format!("payments/{key}")).await;
    assert_eq!((&body["status"], &body["balanceAmount"]), (&json!("DONE"), &json!(12_900)));
    assert_eq!(body["cancels"][0]["cancelStatus"], "ABORTED");
    assert_eq!(shop.entry().await["cancelled"], 0);
    let request = shop.toss_request(&format!("payments/{key}/cancel"), &cancel);
    answer(request.header("floodgate-simulate", "refund-pending")).await.unwrap();
    shop.advance(60_000).await;
    assert_eq!(shop.toss_get(&format!("payments/{key}")).await.1["cancels"][1]["cancelStatus"], "DONE");
}

#[tokio::test]
async fn a_stripe_refund_is_accepted_and_fails_later() {
    let shop = Shop::open().await;
    let pi = shop.stripe_paid().await;
    let refund = [("payment_intent", pi.as_str()), ("amount", "900")];
    for (fault, ends, left) in [("refund-fails-later=30000", "failed", 0), ("refund-pending=30000", "succeeded", 900)] {
        let (_, body) =
            answer(shop.stripe_request("refunds", &refund).header("floodgate-simulate", fault)).await.unwrap();
        assert_eq!((&body["status"], &body["pending_reason"]), (&json!("pending"), &json!("processing")), "{fault}");
        shop.advance(30_000).await;
        let (_, body) = shop.stripe_get(&format!("refunds/{}", body["id"].as_str().unwrap())).await;
        assert_eq!(body["status"], ends, "{fault}");
        assert_eq!(shop.entry().await["cancelled"], left);
    }
    // The provider's own test card: succeeded first.
    let intent = shop.stripe_intent(&[("confirm", "true"), ("payment_method", "pm_card_refundFail")]).await;
    let (_, body) = shop.stripe_post("refunds", &[("payment_intent", intent["id"].as_str().unwrap())]).await;
    assert_eq!(body["status"], "succeeded");
    shop.advance(60_000).await;
    let (_, body) = shop.stripe_get(&format!("refunds/{}", body["id"].as_str().unwrap())).await;
    assert_eq!((&body["status"], body["failure_reason"].is_string()), (&json!("failed"), true));
    let (_, events) = shop.stripe_get("events?type=refund.failed").await;
    assert_eq!(events["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_stripe_payment_may_take_its_time() {
    let shop = Shop::open().await;
    let intent = shop.stripe_intent(&[("capture_method", "manual"), ("payment_method", "pm_card_visa")]).await;
    let pi = intent["id"].as_str().unwrap();
    let confirm = shop.stripe_request(&format!("payment_intents/{pi}/confirm"), &[]);
    let (status, body) = answer(confirm.header("floodgate-simulate", "processing=30000")).await.unwrap();
    assert_eq!((status, &body["status"], &body["latest_charge"]), (200, &json!("processing"), &json!(null)));
    assert_eq!(shop.stripe_post(&format!("payment_intents/{pi}/cancel"), &[]).await.0, 400);
    shop.advance(30_000).await;
    assert_eq!(shop.stripe_get(&format!("payment_intents/{pi}")).await.1["status"], "requires_capture");
    let (_, events) = shop.stripe_get("events?limit=2").await;
    let kinds: Vec<&str> =
        events["data"].as_array().unwrap().iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, ["payment_intent.amount_capturable_updated", "payment_intent.processing"]);
}

#[tokio::test]
async fn stripe_lies_declines_and_drops() {
    let shop = Shop::open().await;
    let intent = shop.stripe_intent(&[("capture_method", "manual"), ("payment_method", "pm_card_visa")]).await;
    let pi = intent["id"].as_str().unwrap();
    let post = |path: &str, fault: &'static str| {
        answer(shop.stripe_request(&format!("payment_intents/{pi}{path}"), &[]).header("floodgate-simulate", fault))
    };
    let (status, body) = post("/confirm", "decline").await.unwrap();
    assert_eq!((status, &body["error"]["code"]), (402, &json!("card_declined")));
    shop.stripe_post(&format!("payment_intents/{pi}/confirm"), &[("payment_method", "pm_card_visa")]).await;
    assert!(post("/capture", "drop-after-effect").await.is_err());
    assert_eq!(shop.entry().await["captured"], 12_900);
    for (fault, pointer, told) in [
        ("wrong-amount", "/amount", json!(13_000)),
        ("wrong-currency", "/currency", json!("usd")),
        ("wrong-order", "/metadata/order_id", json!("order-1-other")),
    ] {
        shop.control("faults", json!({ "provider": "stripe", "endpoint": "query", "fault": fault, "times": 1 })).await;
        assert_eq!(shop.stripe_get(&format!("payment_intents/{pi}")).await.1.pointer(pointer), Some(&told), "{fault}");
    }
    let intent = shop.stripe_intent(&[("payment_method", "pm_card_visa")]).await;
    let path = format!("payment_intents/{}/confirm", intent["id"].as_str().unwrap());
    let (_, body) = answer(shop.stripe_request(&path, &[]).header("floodgate-simulate", "wrong-amount")).await.unwrap();
    assert_eq!((&body["amount"], &body["amount_received"]), (&json!(12_900), &json!(13_000)), "really taken");
}

#[tokio::test]
async fn a_fault_that_means_nothing_there_is_refused() {
    let shop = Shop::open().await;
    for bad in [
        json!({ "provider": "toss", "endpoint": "approve", "fault": "decline", "times": 1 }),
        json!({ "provider": "toss", "endpoint": "transactions", "fault": "decline", "times": 1 }),
        json!({ "provider": "stripe", "endpoint": "events", "fault": "wrong-amount", "times": 1 }),
        json!({ "endpoint": "approve", "fault": "wrong-currency", "times": 1 }),
        json!({ "provider": "paypal", "endpoint": "confirm", "fault": "decline", "times": 1 }),
    ] {
        assert_eq!(shop.control("faults", bad.clone()).await.0, 422, "{bad}");
    }
    let key = shop.toss_authenticated(&form()).await;
    assert_eq!(toss_confirm(&shop, &key, "refund-pending").await.unwrap().0, 400);
    assert_eq!(shop.entry().await["captured"], 0);
}
