//! The driver against the golden transcripts of KakaoPay's contract, which were written from the provider's documents
//! and know nothing of the simulator: each request must be the written one, each written answer must be understood.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod script;

use ledger::{PaymentWork, RefundState, RefundWork};
use payment_adapter::kakaopay::{KakaoPay, KakaoPayConfig};
use payment_adapter::provider::{Answer, Outcome, Provider, RefundStanding, Session, Standing};
use script::{RETURN_URL, Script, doubt, refused, won};
use serde_json::{Value, json};
use service_kit::money::{Currency, Money};

const TID: &str = "T1a2b3c4d5e6f7a8b9c0";
const AID: &str = "A1a2b3c4d5e6f7a8b9c0";

struct Stage {
    driver: KakaoPay,
    payment: PaymentWork,
    /// Of everything.
    refund: RefundWork,
    /// Another one.
    second: RefundWork,
    script: Script,
}

impl Stage {
    async fn set(name: &str, change: impl FnOnce(&mut Vec<Value>)) -> Self {
        let (payment, refund) = works();
        let second = script::refund(&payment, 10_000, 15_800);
        let ours = [
            ("order-7f3a", payment.order.to_string()),
            ("shopper-21", payment.account.to_string()),
            ("attempt-1", payment.id.to_string()),
            ("refund-1", refund.id.to_string()),
            ("refund-2", second.id.to_string()),
        ];
        let script = Script::set("kakaopay", name, "SECRET_KEY DEVtop-secret", &ours, change).await;
        let driver = KakaoPay::new(&config(&script.base_url)).unwrap();
        Self { driver, payment, refund, second, script }
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
    fn is_paid(&self, answer: Answer<Standing>) {
        assert_eq!(answer, Answer::Settled(paid(0)));
    }
    async fn over(self) {
        self.script.is_over().await;
    }
}

fn config(base_url: &str) -> KakaoPayConfig {
    let config = json!({ "base_url": base_url, "secret_key": "DEVtop-secret", "cid": "TC0ONETIME" });
    serde_json::from_value(config).unwrap()
}

fn paid(refunded_minor: i64) -> Standing {
    Standing::Ended(Outcome::Paid { reference: AID.into(), amount: won(25_800), refunded_minor })
}

fn done(reference: &str) -> Answer<RefundStanding> {
    Answer::Settled(RefundStanding::Done { reference: reference.to_owned() })
}

fn works() -> (PaymentWork, RefundWork) {
    let mut payment = script::payment("kakaopay");
    payment.provider_ref = Some(TID.into());
    payment.approval_code = Some("f0e1d2c3b4a5968778f0".into());
    let refund = script::refund(&payment, 0, 25_800);
    (payment, refund)
}

fn is_refused<T: std::fmt::Debug>(answer: Answer<T>) {
    assert_eq!(refused(answer), "-780");
}

#[tokio::test]
async fn paid_as_written() {
    let mut stage = Stage::set("paid", |_| ()).await;
    stage.prepare().await;
    assert_eq!(stage.query().await, Standing::Pending);
    assert_eq!(stage.query().await, Standing::Pending);
    stage.is_paid(stage.driver.confirm(&stage.payment).await);
    assert_eq!(stage.query().await, paid(0));
    stage.over().await;
}

#[tokio::test]
async fn refunded_as_written() {
    let mut stage = Stage::set("refunded", |_| ()).await;
    stage.prepare().await;
    stage.is_paid(stage.driver.confirm(&stage.payment).await);
    assert_eq!(stage.driver.refund(&stage.refund).await, done("A2b3c4d5e6f7a8b9c0d1"));
    assert_eq!(stage.driver.query_refund(&stage.refund).await, done("A2b3c4d5e6f7a8b9c0d1"));
    is_refused(stage.driver.refund(&stage.refund).await);
    stage.over().await;
}

#[tokio::test]
async fn the_ways_to_end_without_money_as_written() {
    for (name, status) in
        [("quit", "QUIT_PAYMENT"), ("wrong_password", "FAIL_AUTH_PASSWORD"), ("declined", "FAIL_PAYMENT")]
    {
        let mut stage = Stage::set(name, |_| ()).await;
        stage.prepare().await;
        // A refusal alone settles nothing.
        is_refused(stage.driver.confirm(&stage.payment).await);
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
    stage.is_paid(stage.driver.confirm(&stage.payment).await);
    is_refused(stage.driver.confirm(&stage.payment).await);
    assert_eq!(stage.query().await, paid(0), "order decides");
    stage.over().await;
}

#[tokio::test]
async fn not_refunded_yet_as_written() {
    let stage = Stage::set("paid", |steps| drop(steps.drain(..4))).await;
    assert_eq!(stage.driver.query_refund(&stage.refund).await, Answer::Settled(RefundStanding::NotDone));
}

#[tokio::test]
async fn refunded_in_parts_as_written() {
    let mut stage = Stage::set("partly_refunded", |_| ()).await;
    stage.prepare().await;
    stage.is_paid(stage.driver.confirm(&stage.payment).await);
    stage.refund.amount = won(10_000);
    assert_eq!(stage.driver.refund(&stage.refund).await, done("A2b3c4d5e6f7a8b9c0d1"));
    // Two that the balance forbids: one that knows of no refund before it, and one of a won too many.
    let mut stale = stage.second.clone();
    (stale.refunded_before_minor, stale.amount) = (0, won(10_000));
    is_refused(stage.driver.refund(&stale).await);
    let mut greedy = stage.second.clone();
    greedy.amount = won(15_801);
    is_refused(stage.driver.refund(&greedy).await);
    assert_eq!(stage.driver.refund(&stage.second).await, done("A3c4d5e6f7a8b9c0d1e2"));
    stage.over().await;
}

#[tokio::test]
async fn a_part_after_a_part_whose_answer_was_lost_as_written() {
    let mut stage = Stage::set("partly_refunded_lost", |_| ()).await;
    stage.second.amount = won(5_000);
    stage.second.state = RefundState::Unknown;
    assert_eq!(stage.driver.query_refund(&stage.second).await, Answer::Settled(RefundStanding::NotDone));
    assert_eq!(doubt(stage.driver.refund(&stage.second).await), "connection");
    assert_eq!(stage.query().await, paid(15_000));
    assert_eq!(stage.driver.query_refund(&stage.second).await, done("A3c4d5e6f7a8b9c0d1e2"));
    stage.over().await;
}

#[tokio::test]
async fn a_sum_that_is_nobodys_refund_is_for_an_operator() {
    let stage = Stage::set("partly_refunded_lost", |steps| drop(steps.drain(..3))).await;
    let mut other = stage.second.clone();
    other.id = service_kit::ids::RefundId::new();
    assert_eq!(doubt(stage.driver.query_refund(&other).await), "canceled_amount");
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
        ("/status", json!("CANCEL_PAYMENT"), "status"),
        ("/canceled_amount/total", json!(10_000), "status"),
        ("/canceled_amount/total", json!(-1), "status"),
        ("/canceled_amount/total", json!(25_801), "status"),
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
    let cfg = config("http://127.0.0.1:1");
    let driver = KakaoPay::new(&cfg).unwrap();
    let lost = driver.query(&works().0).await;
    for text in [format!("{cfg:?}"), format!("{driver:?}"), format!("{lost:?}")] {
        assert!(!text.contains("top-secret"), "{text}");
    }
    assert_eq!(doubt(lost), "connection");
}
