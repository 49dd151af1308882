//! A provider that plays a golden transcript: it expects the written requests in their order, header by header and
//! byte by byte, and gives the written answers. It knows nothing of the simulators.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ledger::{AccountOf, PaymentState, PaymentWork, RefundState, RefundWork};
use payment_adapter::provider::{Answer, Doubt};
use serde_json::{Map, Value};
use service_kit::ids::*;
use service_kit::money::{Currency, Money};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Mutex;

pub const RETURN_URL: &str = "https://shop.example/payments/p1/return/s1";
pub const CHECKOUT_URL: &str = "https://shop.example/payments/p1/checkout/s1";

/// The steps that are still to come.
#[derive(Clone)]
pub struct Script {
    steps: Arc<Mutex<VecDeque<Value>>>,
    authorization: &'static str,
    pub base_url: String,
}

impl Script {
    /// Sets a transcript up, its example ids replaced by ours; `change` may spoil the steps. Only its calls are kept.
    pub async fn set(
        provider: &str,
        name: &str,
        authorization: &'static str,
        ours: &[(&str, String)],
        change: impl FnOnce(&mut Vec<Value>),
    ) -> Self {
        service_kit::install_crypto_providers();
        let path = format!("../payment-simulator/contract/{provider}/{name}.json");
        let mut text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        for (example, real) in ours {
            text = text.replace(example, real);
        }
        let transcript: Value = serde_json::from_str(&text).unwrap();
        let steps = transcript["steps"].as_array().unwrap().iter();
        let mut steps: Vec<Value> = steps.filter(|step| step.get("request").is_some()).cloned().collect();
        change(&mut steps);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let script = Self { steps: Arc::new(Mutex::new(steps.into())), authorization, base_url };
        let router = axum::Router::new().fallback(play).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        script
    }
    pub async fn is_over(&self) {
        assert!(self.steps.lock().await.is_empty(), "the transcript goes on");
    }
    pub async fn left(&self) -> usize {
        self.steps.lock().await.len()
    }
}

async fn play(State(script): State<Script>, request: Request) -> Response {
    let step = script.steps.lock().await.pop_front().expect("a request after the end of the transcript");
    let (parts, body) = request.into_parts();
    assert_eq!(parts.method.as_str(), step["request"]["method"]);
    assert_eq!(parts.uri.path_and_query().unwrap().as_str(), step["request"]["path"]);
    assert_eq!(parts.headers["authorization"], script.authorization);
    let key = parts.headers.get("idempotency-key").map(|value| value.to_str().unwrap());
    assert_eq!(key, step["request"]["headers"]["Idempotency-Key"].as_str(), "{step}");
    let content = parts.headers.get("content-type").map_or("", |value| value.to_str().unwrap());
    let bytes = axum::body::to_bytes(body, 64 * 1024).await.unwrap();
    if let Some(form) = step["request"].get("form") {
        assert_eq!(content, "application/x-www-form-urlencoded");
        let fields: Map<String, Value> =
            form_urlencoded::parse(&bytes).map(|(k, v)| (k.into_owned(), v.into_owned().into())).collect();
        assert_eq!(&Value::Object(fields), form);
    } else if let Some(expected) = step["request"].get("body") {
        assert!(content.starts_with("application/json"));
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(&body, expected);
    } else {
        assert!(bytes.is_empty());
    }
    let Some(status) = step["response"]["status"].as_u64() else { return cut_off() };
    let status = StatusCode::from_u16(u16::try_from(status).unwrap()).unwrap();
    (status, axum::Json(step["response"]["body"].clone())).into_response()
}

/// An answer that breaks off after its first byte: the effect has happened, and nobody can tell.
fn cut_off() -> Response {
    let broken = std::io::Error::other("cut");
    let parts = [Ok(Bytes::from_static(b"{")), Err(broken)];
    Response::new(Body::from_stream(futures::stream::iter(parts)))
}

/// Our payment in the transcripts: 25,800 won.
pub fn payment(provider: &str) -> PaymentWork {
    PaymentWork {
        id: PaymentId::new(),
        order: OrderId::new(),
        account: AccountId::new(),
        provider: provider.into(),
        merchant: MerchantId::new(),
        account_of: Some(AccountOf::Shop),
        state: PaymentState::Authorized,
        amount: won(25_800),
        item_name: "제주 감귤 5kg".into(),
        quantity: 2,
        return_secret: "s1".into(),
        provider_ref: None,
        approval_code: None,
        returned: Some("approved".into()),
        expires_at_ms: None,
        confirm_sent_at_ms: None,
        is_recheck: false,
        captured_minor: 0,
        refunding_minor: 0,
        refunded_minor: 0,
        tries: 1,
        created_at_ms: 0,
        trace_id: "t".into(),
    }
}

/// A refund of `minor` won of it, after `before_minor` went back.
pub fn refund(payment: &PaymentWork, before_minor: i64, minor: i64) -> RefundWork {
    RefundWork {
        id: RefundId::new(),
        order: payment.order,
        payment: payment.id,
        provider: payment.provider.clone(),
        state: RefundState::Requested,
        merchant: payment.merchant,
        account_of: payment.account_of,
        amount: won(minor),
        captured: payment.amount,
        refunded_before_minor: before_minor,
        provider_ref: payment.provider_ref.clone(),
        approval_code: payment.approval_code.clone(),
        capture_ref: None,
        sent_at_ms: None,
        reason: "changed my mind".into(),
        tries: 1,
        trace_id: "t".into(),
    }
}

pub fn won(minor: i64) -> Money {
    Money::new(minor, Currency::KRW).unwrap()
}

/// The field of the mismatch, or the name of another doubt.
pub fn doubt<T: std::fmt::Debug>(answer: Answer<T>) -> &'static str {
    match answer {
        Answer::Unknown(Doubt::Mismatch(mismatch)) => mismatch.field,
        Answer::Unknown(doubt) => doubt.name(),
        Answer::Settled(settled) => panic!("settled as {settled:?}"),
    }
}

/// The code of the refusal.
pub fn refused<T: std::fmt::Debug>(answer: Answer<T>) -> String {
    match answer {
        Answer::Unknown(Doubt::Refused(why)) => why.code,
        other => panic!("{other:?}"),
    }
}
