//! The driver against the golden transcripts of KakaoPay's contract, which were written from the provider's documents
//! and know nothing of the simulator: each request must be the written one, each written answer must be understood.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use ledger::{PaymentState, PaymentWork, RefundState, RefundWork};
use payment_adapter::KakaoPayConfig;
use payment_adapter::kakaopay::KakaoPay;
use payment_adapter::provider::{Answer, Doubt, Outcome, Provider, RefundStanding, Session, Standing};
use serde_json::{Value, json};
use service_kit::ids::*;
use service_kit::money::{Currency, Money};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Mutex;

const RETURN_URL: &str = "https://shop.example/payments/p1/return/s1";
const TID: &str = "T1a2b3c4d5e6f7a8b9c0";
const AID: &str = "A1a2b3c4d5e6f7a8b9c0";

type Script = Arc<Mutex<VecDeque<Value>>>;

/// A provider that expects the written requests in their order and gives the written answers.
async fn play(State(script): State<Script>, request: Request) -> impl IntoResponse {
    let step = script.lock().await.pop_front().expect("a request after the end of the transcript");
    assert_eq!(request.method().as_str(), step["request"]["method"]);
    assert_eq!(request.uri().path(), step["request"]["path"]);
    assert_eq!(request.headers()["authorization"], "SECRET_KEY DEVtop-secret");
    assert!(request.headers()["content-type"].to_str().unwrap().starts_with("application/json"));
    let bytes = axum::body::to_bytes(request.into_body(), 64 * 1024).await.unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(body, step["request"]["body"]);
    let status = StatusCode::from_u16(u16::try_from(step["response"]["status"].as_u64().unwrap()).unwrap()).unwrap();
    (status, Json(step["response"]["body"].clone()))
}

struct Stage {
    driver: KakaoPay,
    payment: PaymentWork,
    refund: RefundWork,
    script: Script,
}

impl Stage {
    /// Sets a transcript up, its example ids replaced by ours; `change` may spoil the steps.
    async fn set(name: &str, change: impl FnOnce(&mut Vec<Value>)) -> Self {
        service_kit::install_crypto_providers();
        let (payment, refund) = works();
        let path = format!("{}/../payment-simulator/contract/kakaopay/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path)
            .unwrap()
            .replace("order-7f3a", &payment.order.to_string())
            .replace("shopper-21", &payment.account.to_string())
            .replace("attempt-1", &payment.id.to_string())
            .replace("refund-1", &refund.id.to_string());
        let transcript: Value = serde_json::from_str(&text).unwrap();
        let mut steps: Vec<Value> = transcript["steps"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|step| step.get("request").is_some())
            .cloned()
            .collect();
        change(&mut steps);
        let script: Script = Arc::new(Mutex::new(steps.into()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(play).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let cfg: KakaoPayConfig =
            serde_json::from_value(json!({ "base_url": base_url, "secret_key": "DEVtop-secret", "cid": "TC0ONETIME" }))
                .unwrap();
        Self { driver: KakaoPay::new(&cfg).unwrap(), payment, refund, script }
    }
    async fn prepare(&mut self) {
        let answer = self.driver.prepare(&self.payment, RETURN_URL, 1_000).await;
        let Answer::Settled(Session::Open(session)) = answer else { panic!("{answer:?}") };
        assert_eq!((session.provider_ref.as_str(), session.expires_at_ms), (TID, 901_000));
        assert_eq!(session.redirect_pc, "https://online-pay.example/pc/1");
        assert_eq!(session.redirect_mobile, "https://online-pay.example/mobile/1");
        assert_eq!(session.redirect_app, "https://online-pay.example/app/1");
    }
    async fn query(&self) -> Standing {
        let answer = self.driver.query(&self.payment).await;
        let Answer::Settled(standing) = answer else { panic!("{answer:?}") };
        standing
    }
    async fn is_paid(&self, answer: Answer<Outcome>) {
        assert_eq!(answer, Answer::Settled(paid()));
    }
    async fn over(self) {
        assert!(self.script.lock().await.is_empty(), "the transcript goes on");
    }
}

fn paid() -> Outcome {
    Outcome::Paid { reference: AID.into(), amount: Money::new(25_800, Currency::KRW).unwrap() }
}

fn works() -> (PaymentWork, RefundWork) {
    let amount = Money::new(25_800, Currency::KRW).unwrap();
    let payment = PaymentWork {
        id: PaymentId::new(),
        order: OrderId::new(),
        account: AccountId::new(),
        provider: "kakaopay".into(),
        state: PaymentState::Authorized,
        amount,
        item_name: "제주 감귤 5kg".into(),
        quantity: 2,
        return_secret: "s1".into(),
        provider_ref: Some(TID.into()),
        approval_code: Some("f0e1d2c3b4a5968778f0".into()),
        returned: Some("approved".into()),
        expires_at_ms: None,
        tries: 1,
        created_at_ms: 0,
        trace_id: "t".into(),
    };
    let refund = RefundWork {
        id: RefundId::new(),
        order: payment.order,
        payment: payment.id,
        provider: "kakaopay".into(),
        state: RefundState::Requested,
        amount,
        captured: amount,
        provider_ref: Some(TID.into()),
        reason: "changed my mind".into(),
        tries: 1,
        trace_id: "t".into(),
    };
    (payment, refund)
}

fn is_refused<T: std::fmt::Debug>(answer: &Answer<T>) -> bool {
    matches!(answer, Answer::Unknown(Doubt::Refused(why)) if why.code == "-780")
}

#[tokio::test]
async fn paid_as_written() {
    let mut stage = Stage::set("paid", |_| ()).await;
    stage.prepare().await;
    assert_eq!(stage.query().await, Standing::Pending);
    assert_eq!(stage.query().await, Standing::Pending);
    stage.is_paid(stage.driver.confirm(&stage.payment).await).await;
    assert_eq!(stage.query().await, Standing::Ended(paid()));
    stage.over().await;
}

#[tokio::test]
async fn refunded_as_written() {
    let mut stage = Stage::set("refunded", |_| ()).await;
    stage.prepare().await;
    stage.is_paid(stage.driver.confirm(&stage.payment).await).await;
    let reference = "A2b3c4d5e6f7a8b9c0d1".to_owned();
    assert_eq!(stage.driver.refund(&stage.refund).await, Answer::Settled(reference.clone()));
    assert_eq!(stage.driver.query_refund(&stage.refund).await, Answer::Settled(RefundStanding::Done { reference }));
    assert!(is_refused(&stage.driver.refund(&stage.refund).await));
    stage.over().await;
}

#[tokio::test]
async fn the_ways_to_end_without_money_as_written() {
    for (name, status) in
        [("quit", "QUIT_PAYMENT"), ("wrong_password", "FAIL_AUTH_PASSWORD"), ("declined", "FAIL_PAYMENT")]
    {
        let mut stage = Stage::set(name, |_| ()).await;
        stage.prepare().await;
        let refused = stage.driver.confirm(&stage.payment).await;
        assert!(is_refused(&refused), "a refusal alone settles nothing: {refused:?}");
        match stage.query().await {
            Standing::Ended(Outcome::Cancelled(why)) if name == "quit" => assert_eq!(why.code, status),
            Standing::Ended(Outcome::Declined(why)) if name != "quit" => assert_eq!(why.code, status),
            other => panic!("{name}: {other:?}"),
        }
        stage.over().await;
    }
}

#[tokio::test]
async fn approved_twice_as_written() {
    let mut stage = Stage::set("approved_twice", |_| ()).await;
    stage.prepare().await;
    stage.is_paid(stage.driver.confirm(&stage.payment).await).await;
    assert!(is_refused(&stage.driver.confirm(&stage.payment).await));
    assert_eq!(stage.query().await, Standing::Ended(paid()), "order decides");
    stage.over().await;
}

#[tokio::test]
async fn not_refunded_yet_as_written() {
    let stage = Stage::set("paid", |steps| drop(steps.drain(..4))).await;
    assert_eq!(stage.driver.query_refund(&stage.refund).await, Answer::Settled(RefundStanding::NotDone));
}

/// The field of the mismatch, or the name of another doubt.
fn doubt<T: std::fmt::Debug>(answer: Answer<T>) -> &'static str {
    match answer {
        Answer::Unknown(Doubt::Mismatch(mismatch)) => mismatch.field,
        Answer::Unknown(doubt) => doubt.name(),
        Answer::Settled(settled) => panic!("settled as {settled:?}"),
    }
}

#[tokio::test]
async fn an_answer_about_something_else_never_settles() {
    for (pointer, value, expected) in [
        ("/tid", json!("T0000000000000000000"), "tid"),
        ("/partner_order_id", json!("another order"), "partner_order_id"),
        ("/amount/total", json!(25_801), "amount"),
        ("/amount/total", json!("25800"), "unreadable"),
        ("/aid", Value::Null, "unreadable"),
    ] {
        let spoil = |steps: &mut Vec<Value>| {
            *steps[3]["response"]["body"].pointer_mut(pointer).unwrap() = value.clone();
            steps.drain(..3);
        };
        let stage = Stage::set("paid", spoil).await;
        assert_eq!(doubt(stage.driver.confirm(&stage.payment).await), expected, "approve {pointer}");
    }
    for (pointer, value, expected) in [
        ("/tid", json!("T0000000000000000000"), "tid"),
        ("/partner_order_id", json!("another order"), "partner_order_id"),
        ("/amount/total", json!(258), "amount"),
        ("/status", json!("PART_CANCEL_PAYMENT"), "status"),
        ("/status", json!("SOMETHING_NEW"), "unreadable"),
        ("/payment_action_details", json!([]), "unreadable"),
    ] {
        let spoil = |steps: &mut Vec<Value>| {
            *steps[4]["response"]["body"].pointer_mut(pointer).unwrap() = value.clone();
            steps.drain(..4);
        };
        let stage = Stage::set("paid", spoil).await;
        assert_eq!(doubt(stage.driver.query(&stage.payment).await), expected, "order {pointer}");
    }
    for (pointer, value, expected) in [
        ("/tid", json!("T0000000000000000000"), "tid"),
        ("/approved_cancel_amount/total", json!(1), "canceled_amount"),
        ("/canceled_amount/total", json!(51_600), "canceled_amount"),
    ] {
        let spoil = |steps: &mut Vec<Value>| {
            *steps[2]["response"]["body"].pointer_mut(pointer).unwrap() = value.clone();
            steps.drain(..2);
        };
        let stage = Stage::set("refunded", spoil).await;
        assert_eq!(doubt(stage.driver.refund(&stage.refund).await), expected, "cancel {pointer}");
    }
}

#[tokio::test]
async fn a_link_that_is_no_web_address_is_not_shown_to_anybody() {
    let spoil =
        |steps: &mut Vec<Value>| steps[0]["response"]["body"]["next_redirect_pc_url"] = json!("javascript:alert(1)");
    let stage = Stage::set("paid", spoil).await;
    assert_eq!(doubt(stage.driver.prepare(&stage.payment, RETURN_URL, 0).await), "unreadable");
}

#[tokio::test]
async fn money_that_the_provider_does_not_take_is_declined_without_a_call() {
    let mut stage = Stage::set("paid", Vec::clear).await;
    for (minor, currency) in [(100, Currency::USD), (0, Currency::KRW)] {
        stage.payment.amount = Money::new(minor, currency).unwrap();
        let answer = stage.driver.prepare(&stage.payment, RETURN_URL, 0).await;
        assert!(matches!(answer, Answer::Settled(Session::Declined(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn the_secret_is_in_no_text() {
    service_kit::install_crypto_providers();
    let cfg: KakaoPayConfig = serde_json::from_value(
        json!({ "base_url": "http://127.0.0.1:1", "secret_key": "DEVtop-secret", "cid": "TC0ONETIME" }),
    )
    .unwrap();
    let driver = KakaoPay::new(&cfg).unwrap();
    let lost = driver.query(&works().0).await;
    for text in [format!("{cfg:?}"), format!("{driver:?}"), format!("{lost:?}")] {
        assert!(!text.contains("top-secret"), "{text}");
    }
    assert_eq!(doubt(lost), "connection");
}
