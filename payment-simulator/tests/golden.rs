//! The simulator against the golden transcripts of `contract/<provider>`, which were written from the provider's
//! documents. Values that differ from run to run are named by the transcript (`varies`); everything else must be equal.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use serde_json::{Value, json};
use std::path::PathBuf;
use support::Shop;
use support::golden::{kind, replay};

fn folder(provider: &str) -> PathBuf {
    PathBuf::from("contract").join(provider)
}

fn read(path: PathBuf) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Replays every transcript of a provider that begins at its beginning; those that say that they begin in the middle are
/// the drivers' alone. Other files of the folder, like the table of fields, have no steps. Answers how many there were.
async fn replay_all(provider: &'static str) -> usize {
    let mut names: Vec<String> = std::fs::read_dir(folder(provider))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".json"))
        .collect();
    names.sort();
    let (mut replayed, mut failed) = (0, Vec::new());
    for name in names {
        let transcript = read(folder(provider).join(&name));
        if transcript["steps"].is_array() && transcript["begins"].is_null() {
            replayed += 1;
            // Each by itself, so that one difference does not hide the others.
            if tokio::spawn(async move { replay(provider, &name, &transcript).await }).await.is_err() {
                failed.push(replayed);
            }
        }
    }
    assert!(failed.is_empty(), "{} of {replayed} transcripts of {provider} are answered otherwise", failed.len());
    replayed
}

#[tokio::test]
async fn every_golden_transcript_is_answered_as_written() {
    assert!(replay_all("kakaopay").await >= 7);
}

#[tokio::test]
async fn a_transcript_of_toss_can_be_replayed() {
    let transcript = json!({ "steps": [
        { "shopper": "pay", "location": "https://shop.example/ok?paymentType=NORMAL&orderId=order-77&paymentKey=tgen_20261121ABCD&amount=25800" },
        {
            "request": { "method": "POST", "path": "/v1/payments/confirm", "headers": { "Idempotency-Key": "attempt-1" },
                "body": { "paymentKey": "tgen_20261121ABCD", "orderId": "order-77", "amount": 25_800 } },
            "response": { "status": 200, "body": { "paymentKey": "tgen_20261121ABCD", "status": "DONE", "balanceAmount": 25_800, "approvedAt": "2026-11-21T12:00:00+09:00" } },
            "varies": ["/approvedAt"],
        },
        {
            "request": { "method": "POST", "path": "/v1/payments/tgen_20261121ABCD/cancel", "body": { "cancelReason": "x", "cancelAmount": 800 } },
            "response": { "status": 200, "body": { "status": "PARTIAL_CANCELED", "cancels": [{ "cancelAmount": 800, "cancelStatus": "DONE" }] } },
        },
        { "advance_ms": 1_000 },
        {
            "request": { "method": "GET", "path": "/v1/payments/orders/order-77" },
            "response": { "status": 200, "body": { "paymentKey": "tgen_20261121ABCD", "balanceAmount": 25_000 } },
        },
    ] });
    replay("toss", "inline", &transcript).await;
}

#[tokio::test]
async fn a_transcript_of_stripe_can_be_replayed() {
    let transcript = json!({ "steps": [
        {
            "request": { "method": "POST", "path": "/v1/payment_intents", "headers": { "Idempotency-Key": "attempt-1" },
                "body": { "amount": 25_800, "currency": "krw", "capture_method": "manual", "metadata": { "order_id": "order-77" } } },
            "response": { "status": 200, "headers": { "Request-Id": "req_1" },
                "body": { "id": "pi_3QexampleA", "client_secret": "pi_3QexampleA_secret_B", "status": "requires_payment_method", "metadata": { "order_id": "order-77" } } },
            "varies": ["/id", "/client_secret"],
        },
        { "shopper": "pay", "location": "https://shop.example/back?payment_intent=pi_3QexampleA&payment_intent_client_secret=pi_3QexampleA_secret_B&redirect_status=succeeded" },
        {
            "request": { "method": "POST", "path": "/v1/payment_intents/pi_3QexampleA/capture", "form": "amount_to_capture=25000" },
            "response": { "status": 200, "body": { "status": "succeeded", "amount_received": 25_000 } },
        },
        {
            "request": { "method": "GET", "path": "/v1/payment_intents/pi_3QexampleA" },
            "response": { "status": 200, "body": { "id": "pi_3QexampleA", "amount": 25_800 } },
        },
    ] });
    replay("stripe", "inline", &transcript).await;
}

#[tokio::test]
async fn every_answer_has_the_fields_of_the_table_and_no_others() {
    let table = read(folder("kakaopay").join("fields.json"));
    let shop = Shop::open().await;
    let (tid, token) = shop.authenticated().await;
    let answers = [
        ("ready", shop.call("ready", &support::ready()).await.1),
        ("approve", shop.call("approve", &support::approve(&tid, &token)).await.1),
        ("order", shop.order(&tid).await),
        ("cancel", shop.call("cancel", &support::cancel(&tid, 12_900, 12_900)).await.1),
    ];
    for (endpoint, answer) in answers {
        let fields = table["endpoints"][endpoint]["response"].as_object().unwrap();
        for (name, rule) in fields {
            let required = rule["required"] == true;
            assert!(!required || answer.get(name).is_some(), "{endpoint}: {name} is missing in {answer}");
        }
        for (name, value) in answer.as_object().unwrap() {
            let rule = fields.get(name).unwrap_or_else(|| panic!("{endpoint}: {name} is not in the table"));
            match rule["type"].as_str().unwrap() {
                "amount" => {
                    let parts: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
                    let mut expected: Vec<&str> =
                        table["amount"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                    expected.sort_unstable();
                    let mut parts = parts;
                    parts.sort_unstable();
                    assert_eq!(parts, expected, "{endpoint}: {name}");
                }
                "actions" => assert!(value.is_array(), "{endpoint}: {name}"),
                "any" => {}
                other => assert_eq!(kind(value), other, "{endpoint}: {name}"),
            }
            if let Some(chars) = rule["chars"].as_u64() {
                assert_eq!(value.as_str().unwrap().len() as u64, chars, "{endpoint}: {name}");
            }
        }
    }
}
