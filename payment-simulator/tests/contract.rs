//! What the API refuses, and what its calls do to a payment.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use serde_json::{Value, json};
use support::{KEY, Shop, approve, cancel, ready, with};

fn table() -> Value {
    serde_json::from_str(&std::fs::read_to_string("contract/kakaopay/fields.json").unwrap()).unwrap()
}

fn is_refusal(body: &Value) -> bool {
    body["error_code"].is_i64() && body["error_message"].is_string()
}

/// Bad values of a field by its rule in the table.
fn bad_values(rule: &Value) -> Vec<Value> {
    let mut bad = Vec::new();
    match rule["type"].as_str().unwrap() {
        "string" => {
            bad.push(json!(7));
            if let Some(max) = rule["chars_max"].as_u64() {
                bad.push(json!("가".repeat(max as usize + 1)));
            }
            if let Some(exact) = rule["chars"].as_u64() {
                bad.push(json!("x".repeat(exact as usize + 1)));
                bad.push(json!("x".repeat(exact as usize - 1)));
            }
            if rule["one_of"].is_array() {
                bad.push(json!("CASH"));
            }
        }
        "integer" => {
            bad.extend([json!("100"), json!(1.5), json!(-1), json!(9_223_372_036_854_775_807_i64), json!(1e30)]);
            if let Some(max) = rule["max"].as_i64() {
                bad.push(json!(max + 1));
            }
        }
        "array" => bad.push(json!("x")),
        _ => {}
    }
    if rule["required"] == true {
        bad.push(Value::Null);
    }
    bad
}

#[tokio::test]
async fn each_field_of_the_table_is_refused_when_missing_or_wrong() {
    let shop = Shop::open().await;
    let tid = shop.captured().await;
    let before = shop.ledger().await["payments"].clone();
    let good = [
        ("ready", ready()),
        ("approve", approve(&tid, "token")),
        ("cancel", cancel(&tid, 12_900, 12_900)),
        ("order", json!({ "cid": "TC0ONETIME", "tid": tid })),
    ];
    let mut tried = 0;
    for (endpoint, body) in good {
        let rules = table()["endpoints"][endpoint]["request"].as_object().unwrap().clone();
        for (field, rule) in &rules {
            let mut bodies: Vec<Value> =
                bad_values(rule).into_iter().map(|bad| with(body.clone(), field, bad)).collect();
            if rule["required"] == true {
                let mut without = body.clone();
                without.as_object_mut().unwrap().remove(field);
                bodies.push(without);
            }
            for bad in bodies {
                let (status, answer) = shop.call(endpoint, &bad).await;
                assert_eq!(status, 400, "{endpoint}.{field}: {bad}");
                assert!(is_refusal(&answer), "{endpoint}.{field}: {answer}");
                tried += 1;
            }
        }
        let (status, _) = shop.call(endpoint, &with(body, "partner_oder_id", json!("x"))).await;
        assert_eq!(status, 400, "{endpoint}: an unknown field");
    }
    assert!(tried > 80, "{tried}");
    assert_eq!(shop.ledger().await["payments"], before, "a refused request changes nothing");
}

#[tokio::test]
async fn values_that_do_not_fit_each_other_are_refused() {
    let shop = Shop::open().await;
    for (field, value) in [
        ("cid", json!("TC0OTHERCO")),
        ("quantity", json!(0)),
        ("total_amount", json!(0)),
        ("tax_free_amount", json!(12_901)),
        ("vat_amount", json!(12_901)),
        ("item_name", json!("")),
        ("item_name", json!("a\nb")),
        ("approval_url", json!("/approve")),
        ("cancel_url", json!("javascript:alert(1)")),
        ("fail_url", json!("http://user:password@shop.example/")),
    ] {
        let (status, answer) = shop.call("ready", &with(ready(), field, value.clone())).await;
        assert_eq!(status, 400, "{field} = {value}: {answer}");
        assert!(answer["error_message"].as_str().unwrap().contains(field), "{answer}");
    }
}

#[tokio::test]
async fn only_the_right_key_is_let_in() {
    let shop = Shop::open().await;
    let url = format!("{}/online/v1/payment/ready", shop.base);
    for key in [
        None,
        Some(KEY),
        Some("SECRET_KEY"),
        Some("SECRET_KEY wrong"),
        Some("SECRET_KEY DEVtest2"),
        Some("Bearer DEVtest"),
        Some("secret_key DEVtest"),
    ] {
        let mut request = shop.http.post(&url).json(&ready());
        if let Some(key) = key {
            request = request.header("authorization", key);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401, "{key:?}");
        assert!(is_refusal(&response.json().await.unwrap()));
    }
    assert_eq!(shop.ledger().await["totals"]["payments"], 0);
}

#[tokio::test]
async fn odd_bodies_are_refused() {
    let shop = Shop::open().await;
    let url = format!("{}/online/v1/payment/ready", shop.base);
    let send = |kind: &'static str, body: Vec<u8>| {
        shop.http
            .post(&url)
            .header("authorization", format!("SECRET_KEY {KEY}"))
            .header("content-type", kind)
            .body(body)
            .send()
    };
    let good = serde_json::to_vec(&ready()).unwrap();
    for (kind, body, status) in [
        ("text/plain", good.clone(), 400),
        ("application/x-www-form-urlencoded", b"cid=TC0ONETIME".to_vec(), 400),
        ("application/json", b"{".to_vec(), 400),
        ("application/json", b"[]".to_vec(), 400),
        ("application/json", vec![0xff; 10], 400),
        ("application/json", [good.clone(), b"}".to_vec()].concat(), 400),
        ("application/json", vec![b' '; 70_000], 413),
        ("application/json; charset=utf-8", good, 200),
    ] {
        let text = String::from_utf8_lossy(&body).chars().take(30).collect::<String>();
        assert_eq!(send(kind, body).await.unwrap().status(), status, "{kind} {text}");
    }
    let get = shop.http.get(&url).send().await.unwrap();
    assert_eq!(get.status(), 405);
}

#[tokio::test]
async fn approve_needs_the_same_ids_the_token_and_the_amount() {
    let shop = Shop::open().await;
    let tid = shop.ready().await;
    assert_eq!(shop.call("approve", &approve(&tid, "early")).await.0, 400, "nobody authenticated");
    let token = shop.press(&tid, "pay").await.1.split_once("pg_token=").unwrap().1.to_owned();
    assert_eq!(shop.press(&tid, "pay").await.1.split_once("pg_token=").unwrap().1, token, "pressed twice, one token");
    let right = approve(&tid, &token);
    for (field, value) in [
        ("tid", json!("T0000000000000000000")),
        ("partner_order_id", json!("order-2")),
        ("partner_user_id", json!("shopper-2")),
        ("pg_token", json!("00000000000000000000")),
        ("total_amount", json!(12_901)),
    ] {
        assert_eq!(shop.call("approve", &with(right.clone(), field, value)).await.0, 400, "{field}");
        assert_eq!(shop.order(&tid).await["status"], "AUTH_PASSWORD", "{field}");
    }
    assert_eq!(shop.call("approve", &right).await.0, 200);
    assert_eq!(shop.call("approve", &right).await.0, 400, "a second approve is an error");
    let entry = shop.entry().await;
    assert_eq!((&entry["approvals"], &entry["captured"]), (&json!(1), &json!(12_900)));
}

#[tokio::test]
async fn ten_approves_at_once_capture_once() {
    let shop = Shop::open().await;
    let (tid, token) = shop.authenticated().await;
    let body = approve(&tid, &token);
    let calls = (0..10).map(|_| {
        let request = shop.request("approve", &body);
        tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
    });
    let mut statuses = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        statuses.push(call.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400, 400, 400, 400, 400, 400, 400, 400, 400]);
    assert_eq!(shop.entry().await["approvals"], 1);
}

#[tokio::test]
async fn a_session_lives_fifteen_minutes_on_the_simulated_clock() {
    let shop = Shop::open().await;
    let (tid, token) = shop.authenticated().await;
    let fresh = shop.ready().await;
    shop.control("clock", json!({ "advance_ms": 14 * 60_000 + 50_000 })).await;
    assert_eq!(shop.press(&fresh, "pay").await.0, 303);
    shop.control("clock", json!({ "advance_ms": 10_000 })).await;
    assert_eq!(shop.call("approve", &approve(&tid, &token)).await.0, 400);
    assert_eq!(shop.press(&fresh, "pay").await.0, 410);
    assert_eq!(shop.order(&tid).await["status"], "AUTH_PASSWORD", "the status stays pending");
    assert_eq!(shop.ledger().await["totals"]["captured"], 0);
}

#[tokio::test]
async fn cancel_gives_back_what_is_left_and_never_more() {
    let shop = Shop::open().await;
    let (tid, _) = shop.authenticated().await;
    assert_eq!(shop.call("cancel", &cancel(&tid, 12_900, 12_900)).await.0, 400, "nothing was captured");
    let tid = shop.captured().await;
    for (amount, available) in [(12_901, 12_900), (12_900, 12_899), (12_900, 0), (1, 12_901)] {
        assert_eq!(shop.call("cancel", &cancel(&tid, amount, available)).await.0, 400, "{amount} of {available}");
    }
    assert_eq!(shop.call("cancel", &with(cancel(&tid, 100, 12_900), "cancel_tax_free_amount", json!(1))).await.0, 400);
    let (status, answer) = shop.call("cancel", &cancel(&tid, 900, 12_900)).await;
    assert_eq!((status, &answer["status"]), (200, &json!("PART_CANCEL_PAYMENT")));
    assert_eq!(answer["cancel_available_amount"]["total"], 12_000);
    assert_eq!(shop.call("cancel", &cancel(&tid, 900, 12_900)).await.0, 400, "the guard stops a repetition");
    let (status, answer) = shop.call("cancel", &cancel(&tid, 12_000, 12_000)).await;
    assert_eq!((status, &answer["status"]), (200, &json!("CANCEL_PAYMENT")));
    assert_eq!(
        answer["cancel_available_amount"],
        json!({ "total": 0, "tax_free": 0, "vat": 0, "point": 0, "discount": 0, "green_deposit": 0 })
    );
    assert_eq!(shop.call("cancel", &cancel(&tid, 1, 0)).await.0, 400);
    let details = shop.order(&tid).await["payment_action_details"].clone();
    let kinds: Vec<&str> =
        details.as_array().unwrap().iter().filter_map(|d| d["payment_action_type"].as_str()).collect();
    assert_eq!(kinds, ["PAYMENT", "CANCEL", "CANCEL"]);
}

#[tokio::test]
async fn a_green_deposit_forbids_a_partial_cancel() {
    let shop = Shop::open().await;
    let (_, answer) = shop.call("ready", &with(ready(), "green_deposit", json!(300))).await;
    let tid = answer["tid"].as_str().unwrap().to_owned();
    let token = shop.press(&tid, "pay").await.1.split_once("pg_token=").unwrap().1.to_owned();
    assert_eq!(shop.call("approve", &approve(&tid, &token)).await.0, 200);
    assert_eq!(shop.call("cancel", &cancel(&tid, 900, 12_900)).await.0, 400);
    assert_eq!(shop.call("cancel", &cancel(&tid, 12_900, 12_900)).await.0, 200);
}

#[tokio::test]
async fn a_full_simulator_refuses_and_forgets_nothing() {
    let mut cfg = support::config();
    cfg.payments_max = 2;
    let shop = Shop::with(cfg).await;
    let first = shop.ready().await;
    shop.ready().await;
    assert_eq!(shop.call("ready", &ready()).await.0, 503);
    assert_eq!(shop.order(&first).await["status"], "READY");
    shop.control("reset", json!({})).await;
    shop.ready().await;
}
