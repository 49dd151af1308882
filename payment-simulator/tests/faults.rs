//! Every fault, by header and by plan: what the merchant sees and what really happened.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use serde_json::json;
use std::time::Duration;
use support::{Shop, approve, cancel, ready};

#[tokio::test]
async fn drop_after_effect_charges_and_says_nothing() {
    let shop = Shop::open().await;
    let (tid, token) = shop.authenticated().await;
    let lost = shop.faulty("approve", &approve(&tid, &token), "drop-after-effect").await;
    assert!(lost.is_err_and(|e| e.is_request() && !e.is_timeout()), "the connection closes without an answer");
    let entry = shop.entry().await;
    assert_eq!((&entry["status"], &entry["approvals"]), (&json!("SUCCESS_PAYMENT"), &json!(1)));
    assert_eq!(shop.order(&tid).await["status"], "SUCCESS_PAYMENT", "the next connection works");
}

#[tokio::test]
async fn drop_after_effect_works_on_every_endpoint() {
    let shop = Shop::open().await;
    assert!(shop.faulty("ready", &ready(), "drop-after-effect").await.is_err());
    let tid = shop.ledger().await["payments"][0]["tid"].as_str().unwrap().to_owned();
    assert!(shop.faulty("order", &json!({ "cid": "TC0ONETIME", "tid": tid }), "drop-after-effect").await.is_err());
    let tid = shop.captured().await;
    assert!(shop.faulty("cancel", &cancel(&tid, 12_900, 12_900), "drop-after-effect").await.is_err());
    assert_eq!(shop.ledger().await["totals"]["cancelled"], 12_900);
}

#[tokio::test]
async fn a_delay_comes_after_the_effect_and_a_client_that_gives_up_does_not_stop_it() {
    let shop = Shop::open().await;
    let (tid, token) = shop.authenticated().await;
    let request = shop.request("approve", &approve(&tid, &token)).header("floodgate-simulate", "delay=2000");
    let given_up = request.timeout(Duration::from_millis(200)).send().await;
    assert!(given_up.is_err_and(|e| e.is_timeout()));
    assert_eq!(shop.entry().await["approvals"], 1);
}

#[tokio::test]
async fn a_delay_before_the_effect_leaves_the_payment_open_meanwhile() {
    let shop = Shop::open().await;
    let (tid, token) = shop.authenticated().await;
    let request = shop.request("approve", &approve(&tid, &token)).header("floodgate-simulate", "delay-before=400");
    let call = tokio::spawn(request.send());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(shop.entry().await["approvals"], 0);
    assert_eq!(call.await.unwrap().unwrap().status(), 200);
    assert_eq!(shop.entry().await["approvals"], 1);
}

#[tokio::test]
async fn an_error_after_effect_hides_a_success() {
    let shop = Shop::open().await;
    let (tid, token) = shop.authenticated().await;
    let (status, body) = shop.faulty("approve", &approve(&tid, &token), "error-after-effect").await.unwrap();
    assert_eq!(status, 500);
    assert!(body["error_code"].is_i64());
    assert_eq!(shop.entry().await["captured"], 12_900);
    let (status, _) = shop.faulty("cancel", &cancel(&tid, 12_900, 12_900), "error-after-effect").await.unwrap();
    assert_eq!((status, &shop.entry().await["cancelled"]), (500, &json!(12_900)));
}

#[tokio::test]
async fn a_decline_moves_no_money() {
    let shop = Shop::open().await;
    let (tid, token) = shop.authenticated().await;
    let (status, body) = shop.faulty("approve", &approve(&tid, &token), "decline").await.unwrap();
    assert_eq!(status, 400);
    assert!(body["extras"]["method_result_code"].is_string());
    assert_eq!(shop.order(&tid).await["status"], "FAIL_PAYMENT");
    assert_eq!(shop.call("approve", &approve(&tid, &token)).await.0, 400, "it has ended");
    let tid = shop.captured().await;
    assert_eq!(shop.faulty("cancel", &cancel(&tid, 12_900, 12_900), "decline").await.unwrap().0, 400);
    assert_eq!(shop.order(&tid).await["status"], "SUCCESS_PAYMENT");
    assert_eq!(shop.faulty("ready", &ready(), "decline").await.unwrap().0, 400);
}

#[tokio::test]
async fn limited_has_no_effect() {
    let shop = Shop::open().await;
    let (tid, token) = shop.authenticated().await;
    assert_eq!(shop.faulty("approve", &approve(&tid, &token), "limited").await.unwrap().0, 429);
    assert_eq!(shop.entry().await["approvals"], 0);
    assert_eq!(shop.call("approve", &approve(&tid, &token)).await.0, 200);
}

#[tokio::test]
async fn a_wrong_amount_is_really_captured_and_order_tells_it() {
    let shop = Shop::open().await;
    let (tid, token) = shop.authenticated().await;
    let (status, body) = shop.faulty("approve", &approve(&tid, &token), "wrong-amount").await.unwrap();
    assert_eq!((status, &body["amount"]["total"]), (200, &json!(13_000)));
    assert_eq!(shop.order(&tid).await["amount"]["total"], 13_000);
    let entry = shop.entry().await;
    assert_eq!((&entry["amount"], &entry["captured"]), (&json!(12_900), &json!(13_000)));
}

#[tokio::test]
async fn a_wrong_amount_in_order_or_cancel_is_only_said() {
    let shop = Shop::open().await;
    let tid = shop.captured().await;
    let order = json!({ "cid": "TC0ONETIME", "tid": tid });
    assert_eq!(shop.faulty("order", &order, "wrong-amount").await.unwrap().1["amount"]["total"], 13_000);
    let said = shop.faulty("cancel", &cancel(&tid, 900, 12_900), "wrong-amount").await.unwrap().1;
    assert_eq!(said["approved_cancel_amount"]["total"], 1_000);
    assert_eq!(shop.entry().await["cancelled"], 900);
}

#[tokio::test]
async fn planned_faults_meet_the_next_calls_of_their_endpoint() {
    let shop = Shop::open().await;
    let (status, body) = shop.control("faults", json!({ "endpoint": "ready", "fault": "limited", "times": 2 })).await;
    assert_eq!((status, body["faults"].as_array().unwrap().len()), (200, 1));
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(shop.call("ready", &ready()).await.0);
    }
    assert_eq!(statuses, [429, 429, 200]);
    shop.control("faults", json!([{ "endpoint": "ready", "fault": "limited", "probability": 0.5, "seed": 1 }])).await;
    let mut run = Vec::new();
    for _ in 0..20 {
        run.push(shop.call("ready", &ready()).await.0);
    }
    assert!(run.contains(&200) && run.contains(&429), "{run:?}");
    shop.http.delete(format!("{}/_control/faults", shop.control)).send().await.unwrap();
    assert_eq!(shop.call("ready", &ready()).await.0, 200);
}

#[tokio::test]
async fn a_request_without_the_key_uses_up_no_planned_fault() {
    let shop = Shop::open().await;
    shop.control("faults", json!({ "endpoint": "ready", "fault": "limited", "times": 1 })).await;
    shop.http.post(format!("{}/online/v1/payment/ready", shop.base)).json(&ready()).send().await.unwrap();
    assert_eq!(shop.call("ready", &ready()).await.0, 429);
}

#[tokio::test]
async fn bad_faults_are_refused_without_an_effect() {
    let shop = Shop::open().await;
    assert_eq!(shop.faulty("ready", &ready(), "explode").await.unwrap().0, 400);
    assert_eq!(shop.ledger().await["totals"]["payments"], 0);
    for bad in [
        json!({ "endpoint": "refund", "fault": "decline", "times": 1 }),
        json!({ "endpoint": "ready", "fault": "explode", "times": 1 }),
        json!({ "endpoint": "ready", "fault": "decline" }),
        json!({ "endpoint": "ready", "fault": "decline", "times": 1, "color": 1 }),
        json!("decline"),
    ] {
        let (status, _) = shop.control("faults", bad.clone()).await;
        assert_eq!(status, 422, "{bad}");
    }
    for bad in [json!({ "advance_ms": -1 }), json!({ "advance_ms": i64::MAX }), json!({})] {
        assert_eq!(shop.control("clock", bad.clone()).await.0, 422, "{bad}");
    }
}
