//! Toss Payments over HTTP: sessions, confirm, queries, cancels, idempotency, limits, and the buyer's side.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use serde_json::{Value, json};
use support::toss::{SECRET_KEY, confirm, form};
use support::{Shop, answer};

const MINUTE_MS: i64 = 60_000;

fn with(name: &str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    form().into_iter().map(|(n, v)| if n == name { (n, value) } else { (n, v) }).collect()
}

#[tokio::test]
async fn a_payment_from_the_window_to_the_confirm() {
    let shop = Shop::open().await;
    let key = shop.toss_open(&form()).await;
    assert_eq!(shop.toss_get(&format!("payments/{key}")).await.1["status"], "READY");
    let (status, location) = shop.toss_press(&key, "pay").await;
    assert_eq!(status, 303);
    let expected =
        format!("https://shop.example/ok?a=b&paymentType=NORMAL&orderId=order-1&paymentKey={key}&amount=12900");
    assert_eq!(location, expected);
    let (status, done) = shop.toss_post("payments/confirm", &confirm(&key)).await;
    assert_eq!((status, &done["status"], &done["method"]), (200, &json!("DONE"), &json!("카드")));
    assert!(done["approvedAt"].as_str().unwrap().ends_with("+09:00"));
    assert_eq!((&done["totalAmount"], &done["balanceAmount"]), (&json!(12_900), &json!(12_900)));
    assert_eq!(shop.toss_get(&format!("payments/{key}")).await, (200, done.clone()));
    assert_eq!(shop.toss_get("payments/orders/order-1").await, (200, done));
    let (status, again) = shop.toss_post("payments/confirm", &confirm(&key)).await;
    assert_eq!((status, &again["code"]), (400, &json!("ALREADY_PROCESSED_PAYMENT")));
    let entry = shop.entry().await;
    assert_eq!((&entry["provider"], &entry["tid"], &entry["approvals"]), (&json!("toss"), &json!(key), &json!(1)));
}

#[tokio::test]
async fn another_amount_takes_nothing_and_the_payment_stays_confirmable() {
    let shop = Shop::open().await;
    let key = shop.toss_authenticated(&form()).await;
    for wrong in [
        json!({ "paymentKey": key, "orderId": "order-1", "amount": 12_901 }),
        json!({ "paymentKey": key, "orderId": "order-2", "amount": 12_900 }),
        json!({ "paymentKey": key, "orderId": "order-1", "amount": "12900" }),
        json!({ "paymentKey": key, "orderId": "order-1" }),
        json!({ "paymentKey": key, "orderId": "order-1", "amount": 12_900, "mount": 1 }),
    ] {
        let (status, body) = shop.toss_post("payments/confirm", &wrong).await;
        assert_eq!((status, &body["code"]), (400, &json!("INVALID_REQUEST")), "{wrong}");
    }
    assert_eq!(shop.entry().await["captured"], 0);
    assert_eq!(shop.toss_post("payments/confirm", &confirm(&key)).await.0, 200);
    let (status, body) = shop.toss_post("payments/confirm", &confirm("tgen_nothing")).await;
    assert_eq!((status, &body["code"]), (404, &json!("NOT_FOUND_PAYMENT")));
}

#[tokio::test]
async fn sessions_end_after_30_and_10_minutes() {
    let shop = Shop::open().await;
    let window = shop.toss_open(&form()).await;
    shop.advance(20 * MINUTE_MS).await;
    let authenticated = shop.toss_authenticated(&with("order_id", "order-2")).await;
    shop.advance(10 * MINUTE_MS - 1_000).await;
    assert_eq!(shop.toss_get(&format!("payments/{window}")).await.1["status"], "READY");
    assert_eq!(shop.toss_get(&format!("payments/{authenticated}")).await.1["status"], "IN_PROGRESS");
    shop.advance(1_000).await;
    for key in [&window, &authenticated] {
        assert_eq!(shop.toss_get(&format!("payments/{key}")).await.1["status"], "EXPIRED");
    }
    assert_eq!(shop.toss_press(&window, "pay").await.0, 410);
    let body = json!({ "paymentKey": authenticated, "orderId": "order-2", "amount": 12_900 });
    let (status, body) = shop.toss_post("payments/confirm", &body).await;
    assert_eq!((status, &body["code"]), (404, &json!("NOT_FOUND_PAYMENT_SESSION")));
}

#[tokio::test]
async fn both_ends_of_a_full_refund() {
    let shop = Shop::open().await;
    let whole = shop.toss_done().await;
    let (_, body) = shop.toss_cancel(&whole, json!({ "cancelReason": "x" })).await;
    assert_eq!((&body["status"], &body["balanceAmount"]), (&json!("CANCELED"), &json!(0)));
    let (status, body) = shop.toss_cancel(&whole, json!({ "cancelReason": "x" })).await;
    assert_eq!((status, &body["code"]), (400, &json!("ALREADY_CANCELED_PAYMENT")));

    let parts = shop.toss_done().await;
    let first = json!({ "cancelReason": "x", "cancelAmount": 900, "refundableAmount": 12_900 });
    let (_, body) = shop.toss_cancel(&parts, first.clone()).await;
    assert_eq!((&body["status"], &body["balanceAmount"]), (&json!("PARTIAL_CANCELED"), &json!(12_000)));
    assert_eq!(body["cancels"][0]["refundableAmount"], 12_000);
    assert_eq!(body["lastTransactionKey"], body["cancels"][0]["transactionKey"]);
    let (status, body) = shop.toss_cancel(&parts, first).await;
    assert_eq!((status, &body["code"]), (400, &json!("NOT_MATCHES_REFUNDABLE_AMOUNT")));
    let (status, body) = shop.toss_cancel(&parts, json!({ "cancelReason": "x", "cancelAmount": 12_001 })).await;
    assert_eq!((status, &body["code"]), (403, &json!("NOT_CANCELABLE_AMOUNT")));
    let (_, body) = shop.toss_cancel(&parts, json!({ "cancelReason": "rest" })).await;
    assert_eq!((&body["status"], &body["balanceAmount"]), (&json!("PARTIAL_CANCELED"), &json!(0)));
    let (status, body) = shop.toss_cancel(&parts, json!({ "cancelReason": "x", "cancelAmount": 1 })).await;
    assert_eq!((status, &body["code"]), (403, &json!("NOT_CANCELABLE_AMOUNT")));
}

#[tokio::test]
async fn a_key_binds_the_first_answer_whatever_the_body() {
    let shop = Shop::open().await;
    let key = shop.toss_authenticated(&form()).await;
    let wrong = json!({ "paymentKey": key, "orderId": "order-1", "amount": 1 });
    let refused = shop.toss_keyed("payments/confirm", &wrong, "key-1").await;
    assert_eq!((refused.0, &refused.1["code"]), (400, &json!("INVALID_REQUEST")));
    assert_eq!(shop.toss_keyed("payments/confirm", &confirm(&key), "key-1").await, refused, "although corrected");
    let done = shop.toss_keyed("payments/confirm", &confirm(&key), "key-2").await;
    assert_eq!(done.0, 200);
    shop.advance(15 * 86_400_000 - 60_000).await;
    let cancelled = shop.toss_cancel(&key, json!({ "cancelReason": "x" })).await;
    assert_eq!(cancelled.0, 200);
    assert_eq!(shop.toss_keyed("payments/confirm", &confirm(&key), "key-2").await, done, "byte for byte");
    // The same key at another address is another key.
    let other = shop.toss_keyed(&format!("payments/{key}/cancel"), &json!({ "cancelReason": "x" }), "key-2").await;
    assert_eq!(other.1["code"], "ALREADY_CANCELED_PAYMENT");
    shop.advance(61_000).await;
    let late = shop.toss_keyed("payments/confirm", &confirm(&key), "key-2").await;
    assert_eq!(late.1["code"], "ALREADY_PROCESSED_PAYMENT", "15 days are over");
    let long = "k".repeat(301);
    let (status, body) = shop.toss_keyed("payments/confirm", &confirm(&key), &long).await;
    assert_eq!((status, &body["code"]), (400, &json!("INVALID_IDEMPOTENCY_KEY")));
}

#[tokio::test]
async fn a_twin_that_still_runs_is_a_409() {
    let shop = Shop::open().await;
    let key = shop.toss_authenticated(&form()).await;
    let first = shop.toss_request("payments/confirm", &confirm(&key)).header("idempotency-key", "twin");
    // The client gives up; the provider goes on.
    let lost =
        first.header("floodgate-simulate", "delay=700").timeout(std::time::Duration::from_millis(150)).send().await;
    assert!(lost.is_err_and(|e| e.is_timeout()));
    let (status, body) = shop.toss_keyed("payments/confirm", &confirm(&key), "twin").await;
    assert_eq!((status, &body["code"]), (409, &json!("IDEMPOTENT_REQUEST_PROCESSING")));
    let done = loop {
        let (status, body) = shop.toss_keyed("payments/confirm", &confirm(&key), "twin").await;
        if status != 409 {
            break (status, body);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!((done.0, &done.1["status"]), (200, &json!("DONE")));
    assert_eq!(shop.entry().await["approvals"], 1);
}

#[tokio::test]
async fn a_test_code_forces_its_error_with_a_test_key_only() {
    let shop = Shop::open().await;
    let key = shop.toss_authenticated(&form()).await;
    let forced = |secret: &'static str, code: &'static str, idem: &'static str| {
        let request = shop.http.post(format!("{}/v1/payments/confirm", shop.base)).basic_auth(secret, Some(""));
        answer(request.json(&confirm(&key)).header("tosspayments-test-code", code).header("idempotency-key", idem))
    };
    let (status, body) = forced(SECRET_KEY, "REJECT_CARD_PAYMENT", "k1").await.unwrap();
    assert_eq!((status, &body["code"]), (403, &json!("REJECT_CARD_PAYMENT")));
    for _ in 0..2 {
        let (status, body) = forced(SECRET_KEY, "IDEMPOTENT_REQUEST_PROCESSING", "k2").await.unwrap();
        assert_eq!((status, &body["code"]), (409, &json!("IDEMPOTENT_REQUEST_PROCESSING")));
    }
    assert_eq!(shop.entry().await["captured"], 0);
    let (status, body) = forced("live_sk_test", "REJECT_CARD_PAYMENT", "k3").await.unwrap();
    assert_eq!((status, &body["status"]), (200, &json!("DONE")), "a live key ignores it");
}

#[tokio::test]
async fn messages_are_korean_or_english() {
    let shop = Shop::open().await;
    let ask = |language: &'static str| {
        let request = shop.http.get(format!("{}/v1/payments/none", shop.base)).basic_auth(SECRET_KEY, Some(""));
        answer(request.header("accept-language", language))
    };
    let (_, korean) = ask("ko-KR").await.unwrap();
    let (_, english) = ask("en-US").await.unwrap();
    assert_eq!(korean["code"], english["code"]);
    assert!(!korean["message"].as_str().unwrap().is_ascii() && english["message"].as_str().unwrap().is_ascii());
}

#[tokio::test]
async fn the_limit_of_test_keys_is_off_until_it_is_wanted() {
    let mut cfg = support::config();
    cfg.toss_test_limit = true;
    for (shop, limits) in [(Shop::open().await, false), (Shop::with(cfg).await, true)] {
        let mut refused = 0;
        for _ in 0..250 {
            refused += usize::from(shop.toss_get("payments/none").await.0 == 429);
        }
        // A new minute may begin in between, which has a hundred of its own.
        let expected = if limits { 50..=150 } else { 0..=0 };
        assert!(expected.contains(&refused), "{refused}");
    }
}

#[tokio::test]
async fn transactions_are_listed_page_by_page() {
    let shop = Shop::open().await;
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(shop.toss_done().await);
    }
    shop.toss_cancel(&keys[1], json!({ "cancelReason": "x", "cancelAmount": 900 })).await;
    let window = "startDate=2020-01-01T00:00:00&endDate=2099-01-01T00:00:00";
    let (status, all) = shop.toss_get(&format!("transactions?{window}")).await;
    let all = all.as_array().unwrap().clone();
    assert_eq!((status, all.len()), (200, 4));
    let of_cancel: Vec<&Value> = all.iter().filter(|line| line["status"] == "PARTIAL_CANCELED").collect();
    assert_eq!(
        (of_cancel.len(), &of_cancel[0]["amount"], &of_cancel[0]["paymentKey"]),
        (1, &json!(900), &json!(keys[1]))
    );
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let (_, page) = shop.toss_get(&format!("transactions?{window}&limit=3{after}")).await;
        let page = page.as_array().unwrap().clone();
        let Some(last) = page.last() else { break };
        after = format!("&startingAfter={}", last["transactionKey"].as_str().unwrap());
        paged.extend(page);
    }
    assert_eq!(paged, all);
    assert_eq!(shop.toss_get("transactions?startDate=2020-01-01").await.0, 400);
    let (_, none) = shop.toss_get("transactions?startDate=2020-01-01&endDate=2020-02-01").await;
    assert_eq!(none, json!([]));
}

#[tokio::test]
async fn the_window_checks_what_it_is_opened_with() {
    let shop = Shop::open().await;
    for (field, value, code) in [
        ("client_key", "test_sk_test", "INVALID_API_KEY"),
        ("amount", "99", "BELOW_MINIMUM_AMOUNT"),
        ("amount", "1.5", "INVALID_REQUEST"),
        ("currency", "XYZ", "INVALID_REQUEST"),
        ("order_id", "short", "INVALID_REQUEST"),
        ("success_url", "javascript:alert(1)", "INVALID_REQUEST"),
        ("method", "GOLD", "INVALID_REQUEST"),
    ] {
        let request = shop.http.post(format!("{}/toss/sdk/payments", shop.base)).form(&with(field, value));
        let (status, body) = answer(request).await.unwrap();
        assert_eq!((status, &body["code"]), (400, &json!(code)), "{field}={value}");
    }
    let request = shop.http.post(format!("{}/toss/sdk/payments", shop.base)).form(&form());
    let response = request.send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.headers()["access-control-allow-origin"].to_str().unwrap()),
        (303, "*")
    );
    let page = response.headers()["location"].to_str().unwrap().to_owned();
    let response = shop.http.get(&page).header("accept-language", "en").send().await.unwrap();
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    let body = response.text().await.unwrap();
    assert!(body.contains("Toss Payments") && body.contains("&#60;5kg&#62;") && !body.contains("<script"), "{body}");
    assert!(policy.contains("form-action 'self' https://shop.example;"), "{policy}");
    let script = shop.http.get(format!("{}/toss/sdk/v2", shop.base)).send().await.unwrap();
    assert!(script.headers()["content-type"].to_str().unwrap().starts_with("text/javascript"));
    assert!(script.text().await.unwrap().contains("requestPayment"));
}

#[tokio::test]
async fn a_virtual_account_waits_for_its_deposit() {
    let shop = Shop::open().await;
    let key = shop.toss_authenticated(&with("method", "VIRTUAL_ACCOUNT")).await;
    let (_, body) = shop.toss_post("payments/confirm", &confirm(&key)).await;
    assert_eq!((&body["status"], &body["method"]), (&json!("WAITING_FOR_DEPOSIT"), &json!("가상계좌")));
    assert_eq!(shop.entry().await["captured"], 0);
    assert_eq!(shop.control("toss/deposit", json!({ "payment": key, "error": true })).await.0, 422);
    assert_eq!(shop.control("toss/deposit", json!({ "payment": key })).await.1["status"], "DONE");
    assert_eq!(shop.entry().await["captured"], 12_900);
    let (_, body) = shop.control("toss/deposit", json!({ "payment": key, "error": true })).await;
    assert_eq!(body["status"], "WAITING_FOR_DEPOSIT");
    assert_eq!(shop.entry().await["captured"], 0);
    shop.control("toss/deposit", json!({ "payment": key })).await;
    let (status, body) = shop.toss_cancel(&key, json!({ "cancelReason": "x" })).await;
    assert_eq!((status, &body["code"]), (400, &json!("INVALID_REFUND_ACCOUNT_INFO")));
    let account = json!({ "bank": "20", "accountNumber": "1234567890", "holderName": "구매자" });
    let (status, body) = shop.toss_cancel(&key, json!({ "cancelReason": "x", "refundReceiveAccount": account })).await;
    assert_eq!((status, &body["status"]), (200, &json!("CANCELED")));
}

#[tokio::test]
async fn dollars_have_cents_outside_and_are_whole_inside() {
    let shop = Shop::open().await;
    let mut form = with("currency", "USD");
    form.iter_mut().find(|(name, _)| *name == "amount").unwrap().1 = "12.34";
    let key = shop.toss_authenticated(&form).await;
    let body = json!({ "paymentKey": key, "orderId": "order-1", "amount": 12.34 });
    let (status, body) = shop.toss_post("payments/confirm", &body).await;
    assert_eq!((status, &body["totalAmount"], &body["currency"]), (200, &json!(12.34), &json!("USD")));
    let ledger = shop.ledger().await;
    assert_eq!(ledger["payments"][0]["captured"], 1_234);
    assert_eq!(
        (&ledger["totals"]["captured"], &ledger["totals"]["by_currency"]["USD"]["captured"]),
        (&json!(0), &json!(1_234))
    );
}
