//! The simulator against the golden transcripts of `contract/kakaopay`, which were written from the provider's
//! documents. Values that differ from run to run are named by the transcript (`varies`); everything else must be equal.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use support::{KEY, Shop};

fn read(name: &str) -> Value {
    let path = format!("{}/contract/kakaopay/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Replaces every example text in `value` by what this run has in its place.
fn translate(value: &Value, real: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => real.get(text).cloned().unwrap_or_else(|| text.clone()).into(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), translate(v, real))).collect(),
        Value::Array(list) => list.iter().map(|v| translate(v, real)).collect(),
        other => other.clone(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Number(n) if n.is_i64() => "integer",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        _ => "something else",
    }
}

async fn replay(name: &str) {
    let shop = Shop::open().await;
    let mut real: BTreeMap<String, String> = BTreeMap::new();
    for (n, step) in read(name)["steps"].as_array().unwrap().iter().enumerate() {
        let at = format!("{name}, step {n}");
        if let Some(action) = step["shopper"].as_str() {
            let tid = real.get("T1a2b3c4d5e6f7a8b9c0").unwrap().clone();
            let (status, location) = shop.press(&tid, action).await;
            assert_eq!(status, 303, "{at}");
            let expected = step["location"].as_str().unwrap();
            match (expected.split_once("pg_token="), location.split_once("pg_token=")) {
                (Some((url, example)), Some((real_url, token))) => {
                    assert_eq!(url, real_url, "{at}");
                    assert_eq!(example.len(), token.len(), "{at}");
                    real.insert(example.to_owned(), token.to_owned());
                }
                _ => assert_eq!(location, expected, "{at}"),
            }
            continue;
        }
        let url = format!("{}{}", shop.base, step["request"]["path"].as_str().unwrap());
        let mut request = shop
            .http
            .post(url)
            .header("authorization", format!("SECRET_KEY {KEY}"))
            .json(&translate(&step["request"]["body"], &real));
        if let Some(fault) = step["fault"].as_str() {
            request = request.header("floodgate-simulate", fault);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), step["response"]["status"], "{at}");
        let mut got: Value = response.json().await.unwrap();
        let mut expected = step["response"]["body"].clone();
        for pointer in step["varies"].as_array().unwrap() {
            let pointer = pointer.as_str().unwrap();
            let example = expected.pointer_mut(pointer).unwrap();
            let value = got.pointer_mut(pointer).unwrap_or_else(|| panic!("{at}: {pointer} is missing"));
            assert_eq!(kind(example), kind(value), "{at}: {pointer}");
            if let (Value::String(example), Value::String(value)) = (&*example, &*value) {
                let fixed_length = !pointer.contains("url")
                    && !pointer.contains("scheme")
                    && !pointer.contains("message")
                    && !pointer.contains("code");
                assert!(!fixed_length || example.len() == value.len(), "{at}: {pointer} {value}");
                real.insert(example.clone(), value.clone());
            }
            *value = Value::Null;
            *example = Value::Null;
        }
        assert_eq!(got, translate(&expected, &real), "{at}");
    }
}

#[tokio::test]
async fn every_golden_transcript_is_answered_as_written() {
    for name in ["paid", "refunded", "partly_refunded", "quit", "wrong_password", "declined", "approved_twice"] {
        replay(name).await;
    }
}

#[tokio::test]
async fn every_answer_has_the_fields_of_the_table_and_no_others() {
    let table = read("fields");
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
