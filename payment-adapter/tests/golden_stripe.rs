//! The driver against the golden transcripts of Stripe's contract, which were written from the provider's documents
//! and know nothing of the simulator: each request must be the written one, each written answer must be understood.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod script;

use ledger::{PaymentState, PaymentWork, RefundWork};
use payment_adapter::provider::{About, Answer, Doubt, Listed, Outcome, Provider, RefundStanding, Session, Standing};
use payment_adapter::stripe::{Stripe, StripeConfig};
use script::{CHECKOUT_URL, RETURN_URL, Script, doubt, refused, won};
use serde_json::{Value, json};
use service_kit::ids::{OrderId, PaymentId, RefundId};
use service_kit::money::{Currency, Money};

const INTENT: &str = "pi_3QabcDEF0123456789";
const CLIENT_SECRET: &str = "pi_3QabcDEF0123456789_secret_xyzXYZ123";

struct Stage {
    driver: Stripe,
    payment: PaymentWork,
    /// Of 10,000 won.
    first: RefundWork,
    /// Of the rest.
    second: RefundWork,
    script: Script,
}

impl Stage {
    async fn set(name: &str, change: impl FnOnce(&mut Vec<Value>)) -> Self {
        let mut payment = script::payment("stripe");
        payment.provider_ref = Some(INTENT.into());
        payment.approval_code = Some(INTENT.into());
        let (first, second) = (script::refund(&payment, 0, 10_000), script::refund(&payment, 10_000, 15_800));
        let ours = [
            ("order-7f3a", payment.order.to_string()),
            ("attempt-1", payment.id.to_string()),
            ("refund-1", first.id.to_string()),
            ("refund-2", second.id.to_string()),
        ];
        let script = Script::set("stripe", name, "Bearer sk_test_top", &ours, change).await;
        Self { driver: Stripe::new(&config(&script.base_url)).unwrap(), payment, first, second, script }
    }
    async fn prepare(&self) {
        let Session::Open(session) = settled(self.driver.prepare(&self.payment, RETURN_URL, 1_000).await) else {
            panic!()
        };
        assert_eq!((session.provider_ref.as_str(), session.expires_at_ms), (INTENT, 1_801_000));
        assert_eq!((session.redirect_pc.as_str(), session.redirect_mobile.as_str()), (CHECKOUT_URL, CHECKOUT_URL));
        assert_eq!(session.redirect_app, CLIENT_SECRET, "kept for the page");
    }
    async fn query(&self) -> Standing {
        settled(self.driver.query(&self.payment).await)
    }
    async fn confirm(&self) -> Standing {
        settled(self.driver.confirm(&self.payment).await)
    }
    async fn over(self) {
        self.script.is_over().await;
    }
}

fn config(base_url: &str) -> StripeConfig {
    let config = json!({ "base_url": base_url, "secret_key": "sk_test_top", "publishable_key": "pk_test_open",
        "webhook_secret": "whsec_hidden" });
    serde_json::from_value(config).unwrap()
}

fn settled<T: std::fmt::Debug>(answer: Answer<T>) -> T {
    match answer {
        Answer::Settled(settled) => settled,
        Answer::Unknown(doubt) => panic!("{doubt:?}"),
    }
}

fn paid(refunded_minor: i64) -> Standing {
    Standing::Ended(Outcome::Paid { reference: INTENT.into(), amount: won(25_800), refunded_minor })
}

fn done(reference: &str) -> Answer<RefundStanding> {
    Answer::Settled(RefundStanding::Done { reference: reference.to_owned() })
}

#[tokio::test]
async fn paid_as_written() {
    let stage = Stage::set("paid", |_| ()).await;
    stage.prepare().await;
    assert_eq!(stage.query().await, Standing::Pending);
    assert_eq!(stage.query().await, Standing::Pending, "reserved, and not taken");
    assert_eq!(stage.confirm().await, paid(0));
    assert_eq!(stage.query().await, paid(0));
    stage.over().await;
}

#[tokio::test]
async fn the_page_has_the_public_key_and_this_sessions_secret_only() {
    let stage = Stage::set("paid", Vec::clear).await;
    let page = stage.driver.checkout(&stage.payment, CLIENT_SECRET, RETURN_URL).unwrap();
    assert_eq!(page.data["publishableKey"], "pk_test_open");
    assert_eq!(page.data["clientSecret"], CLIENT_SECRET);
    assert_eq!(page.data["returnUrl"], CHECKOUT_URL);
    let text = page.data.to_string();
    assert!(!text.contains("sk_test") && !text.contains("whsec"), "{text}");
    for other in ["", "pi_other_secret_x", "sk_test_top", "pi_3QabcDEF0123456789"] {
        assert!(stage.driver.checkout(&stage.payment, other, RETURN_URL).is_none(), "{other}");
    }
}

#[tokio::test]
async fn only_a_success_of_this_kind_is_taken() {
    let stage = Stage::set("paid", Vec::clear).await;
    let claims =
        stage.driver.claims("payment_intent=pi_1&payment_intent_client_secret=x&redirect_status=succeeded").unwrap();
    assert_eq!((claims.code.as_str(), claims.provider_ref.as_deref()), ("pi_1", Some("pi_1")));
    for bad in [
        "",
        "payment_intent=pi_1",
        "redirect_status=succeeded",
        "payment_intent=pi_1&redirect_status=failed",
        "payment_intent=pi-1&redirect_status=succeeded",
        "payment_intent=pi%2F1&redirect_status=succeeded",
        "payment_intent=pi_1&payment_intent=pi_2&redirect_status=succeeded",
    ] {
        assert_eq!(stage.driver.claims(bad), None, "{bad}");
    }
}

#[tokio::test]
async fn declined_as_written() {
    let stage = Stage::set("declined", |_| ()).await;
    stage.prepare().await;
    assert_eq!(refused(stage.driver.confirm(&stage.payment).await), "payment_intent_unexpected_state");
    assert_eq!(stage.query().await, Standing::Pending, "another card may still come");
    assert_eq!(refused(stage.driver.confirm(&stage.payment).await), "insufficient_funds");
    stage.over().await;
}

#[tokio::test]
async fn a_lost_capture_is_found_by_asking_as_written() {
    let stage = Stage::set("lost_capture", |_| ()).await;
    stage.prepare().await;
    assert_eq!(doubt(stage.driver.confirm(&stage.payment).await), "connection");
    assert_eq!(stage.query().await, paid(0));
    assert_eq!(stage.confirm().await, paid(0), "the same key, the same answer");
    stage.over().await;
}

#[tokio::test]
async fn abandoned_as_written() {
    let stage = Stage::set("abandoned", |_| ()).await;
    stage.prepare().await;
    stage.driver.abandon(&stage.payment).await;
    assert!(matches!(stage.query().await, Standing::Ended(Outcome::Cancelled(why)) if why.code == "abandoned"));
    assert!(matches!(stage.query().await, Standing::Ended(Outcome::Expired(why)) if why.code == "automatic"));
    stage.over().await;
}

#[tokio::test]
async fn refunded_at_once_as_written() {
    let mut stage = Stage::set("refunded", |_| ()).await;
    stage.prepare().await;
    assert_eq!(stage.confirm().await, paid(0));
    stage.first.amount = won(25_800);
    assert_eq!(stage.driver.query_refund(&stage.first).await, Answer::Settled(RefundStanding::NotDone));
    assert_eq!(stage.driver.refund(&stage.first).await, done("re_1"));
    assert_eq!(stage.driver.query_refund(&stage.first).await, done("re_1"));
    assert_eq!(stage.query().await, paid(25_800));
    stage.second.amount = won(1);
    assert_eq!(refused(stage.driver.refund(&stage.second).await), "charge_already_refunded");
    stage.over().await;
}

#[tokio::test]
async fn refunded_in_parts_as_written() {
    let stage = Stage::set("partly_refunded", |_| ()).await;
    assert_eq!(stage.driver.refund(&stage.first).await, done("re_1"));
    assert_eq!(stage.driver.refund(&stage.second).await, Answer::Settled(RefundStanding::Pending));
    assert_eq!(stage.driver.query_refund(&stage.second).await, Answer::Settled(RefundStanding::Pending));
    assert_eq!(stage.driver.query_refund(&stage.second).await, done("re_2"));
    assert_eq!(stage.query().await, paid(25_800), "over two pages");
    stage.over().await;
}

#[tokio::test]
async fn a_lost_refund_is_found_by_our_id_as_written() {
    let stage = Stage::set("lost_refund", |_| ()).await;
    assert_eq!(stage.driver.query_refund(&stage.first).await, Answer::Settled(RefundStanding::NotDone));
    assert_eq!(doubt(stage.driver.refund(&stage.first).await), "connection");
    assert_eq!(stage.driver.query_refund(&stage.first).await, done("re_1"));
    stage.over().await;
}

#[tokio::test]
async fn a_refund_that_fails_later_as_written() {
    let stage = Stage::set("refund_failed", |_| ()).await;
    assert_eq!(stage.driver.refund(&stage.first).await, Answer::Settled(RefundStanding::Pending));
    let answer = stage.driver.query_refund(&stage.first).await;
    assert!(
        matches!(&answer, Answer::Settled(RefundStanding::Failed(why)) if why.code == "expired_or_canceled_card"),
        "{answer:?}"
    );
    assert_eq!(stage.query().await, paid(0));
    stage.over().await;
}

#[tokio::test]
async fn a_sum_that_is_nobodys_refund_is_for_an_operator_and_all_of_it_is_a_refund() {
    let mut stage = Stage::set("lost_refund", |steps| drop(steps.drain(..2))).await;
    stage.first.id = RefundId::new();
    assert_eq!(doubt(stage.driver.query_refund(&stage.first).await), "refunded");
    let mut stage = Stage::set("partly_refunded", |steps| drop(steps.drain(..5))).await;
    stage.second.id = RefundId::new();
    assert_eq!(stage.driver.query_refund(&stage.second).await, done("re_2"), "whoever pressed the button");
}

#[tokio::test]
async fn listed_as_written() {
    let stage = Stage::set("listed", |_| ()).await;
    let from_ms = 1_795_000_000_123;
    let (mut next, mut entries) = (None, Vec::new());
    for page in 0..3 {
        let listing = settled(stage.driver.list(from_ms, from_ms + 86_400_000, next).await);
        entries.extend(listing.entries);
        next = listing.next;
        assert_eq!(next.is_some(), page < 2, "{next:?}");
    }
    let entry = |reference: &str, about, captured_minor, refunded_minor| Listed {
        reference: reference.into(),
        about,
        captured_minor,
        refunded_minor,
        currency: "KRW".into(),
    };
    let expected = vec![
        entry(INTENT, About::Payment(stage.payment.id), 25_800, 0),
        entry("pi_other", About::Reference("pi_other".into()), 500, 0),
        entry(INTENT, About::Reference(INTENT.into()), 0, 10_000),
    ];
    assert_eq!(entries, expected);
    stage.over().await;
}

#[tokio::test]
async fn minor_units_go_out_as_they_are() {
    for (minor, currency, word) in [(1_290, Currency::USD, "usd"), (1_290, Currency::JPY, "jpy")] {
        let change = |steps: &mut Vec<Value>| {
            steps.truncate(1);
            steps[0]["request"]["form"]["amount"] = json!(minor.to_string());
            steps[0]["request"]["form"]["currency"] = json!(word);
            steps[0]["response"]["body"]["amount"] = json!(minor);
            steps[0]["response"]["body"]["currency"] = json!(word);
        };
        let mut stage = Stage::set("paid", change).await;
        stage.payment.amount = Money::new(minor, currency).unwrap();
        stage.prepare().await;
        stage.over().await;
    }
    let mut stage = Stage::set("paid", Vec::clear).await;
    stage.payment.amount = Money::new(0, Currency::USD).unwrap();
    let answer = stage.driver.prepare(&stage.payment, RETURN_URL, 0).await;
    assert!(matches!(answer, Answer::Settled(Session::Declined(_))), "{answer:?}");
}

/// Every kind of error at each call: none of them settles a payment, and only a refusal to create ends one.
#[tokio::test]
async fn no_error_settles_a_capture() {
    for (status, body, expected) in [
        (400, json!({ "error": { "type": "invalid_request_error" } }), "refused"),
        (400, json!({ "error": { "type": "idempotency_error" } }), "refused"),
        (402, json!({ "error": { "type": "card_error", "code": "card_declined" } }), "refused"),
        (404, json!({ "error": { "type": "invalid_request_error", "code": "resource_missing" } }), "refused"),
        (409, json!({ "error": { "type": "invalid_request_error", "code": "idempotency_key_in_use" } }), "limited"),
        (400, json!({ "error": { "type": "api_error" } }), "fault"),
        (500, json!({ "error": { "type": "card_error" } }), "fault"),
        (401, json!({ "error": { "type": "invalid_request_error" } }), "key"),
        (403, json!({ "error": { "type": "invalid_request_error" } }), "key"),
        (429, json!({ "error": { "type": "invalid_request_error", "code": "rate_limit" } }), "limited"),
        (400, json!({ "error": { "type": "something_new" } }), "unreadable"),
        (400, json!({ "message": "x" }), "unreadable"),
    ] {
        let change = |steps: &mut Vec<Value>| {
            steps.drain(..3);
            steps[0]["response"] = json!({ "status": status, "body": body });
        };
        let stage = Stage::set("paid", change).await;
        assert_eq!(doubt(stage.driver.confirm(&stage.payment).await), expected, "{status} {body}");
    }
    let change = |steps: &mut Vec<Value>| {
        steps[0]["response"] = json!({ "status": 400, "body": { "error": { "type": "invalid_request_error", "code": "amount_too_small" } } });
    };
    let stage = Stage::set("paid", change).await;
    let answer = stage.driver.prepare(&stage.payment, RETURN_URL, 0).await;
    assert!(matches!(&answer, Answer::Settled(Session::Declined(why)) if why.code == "amount_too_small"), "{answer:?}");
}

/// Whatever the call and the status: an answer about another payment, order, currency or amount settles nothing.
#[tokio::test]
async fn an_answer_about_something_else_never_settles() {
    let figures = [
        ("/metadata/payment", json!(PaymentId::new()), "payment"),
        ("/metadata/order", json!(OrderId::new()), "order"),
        ("/metadata", json!({}), "payment"),
        ("/metadata", Value::Null, "payment"),
        ("/currency", json!("usd"), "currency"),
        ("/amount", json!(25_801), "amount"),
        ("/amount", json!("25800"), "unreadable"),
        ("/amount_received", json!(25_799), "amount"),
        ("/status", json!("something_new"), "amount"),
    ];
    let id = ("/id", json!("pi_other"), "reference");
    let manual = ("/capture_method", json!("automatic"), "capture_method");
    let secret = ("/client_secret", json!("pi_other_secret_x"), "unreadable");
    // Step and call: 0 prepare, 1 and 2 query before the money, 3 capture, 4 query after it.
    for step in 0..5 {
        let extra = if step == 0 { vec![&manual, &secret] } else { vec![&id] };
        for (pointer, value, expected) in figures.iter().chain(extra) {
            // Only the end of a payment is believed by its received amount and its status.
            if step == 0 && matches!(*pointer, "/amount_received" | "/status") {
                continue;
            }
            let expected = if *pointer == "/status" && step < 3 { "unreadable" } else { expected };
            let spoil = |steps: &mut Vec<Value>| {
                *steps[step]["response"]["body"].pointer_mut(pointer).unwrap() = value.clone();
                steps.drain(..step);
            };
            let stage = Stage::set("paid", spoil).await;
            let got = match step {
                0 => doubt(stage.driver.prepare(&stage.payment, RETURN_URL, 0).await.map_debug()),
                3 => doubt(stage.driver.confirm(&stage.payment).await),
                _ => doubt(stage.driver.query(&stage.payment).await),
            };
            assert_eq!(got, expected, "step {step}, {pointer} {value}");
        }
    }
}

trait MapDebug {
    fn map_debug(self) -> Answer<String>;
}
impl MapDebug for Answer<Session> {
    fn map_debug(self) -> Answer<String> {
        match self {
            Answer::Settled(session) => Answer::Settled(format!("{session:?}")),
            Answer::Unknown(doubt) => Answer::Unknown(doubt),
        }
    }
}

#[tokio::test]
async fn a_refund_about_something_else_never_settles() {
    for (pointer, value, expected) in [
        ("/payment_intent", json!("pi_other"), "reference"),
        ("/payment_intent", Value::Null, "reference"),
        ("/metadata/refund", json!(RefundId::new()), "reference"),
        ("/currency", json!("usd"), "currency"),
        ("/amount", json!(9_999), "refunded"),
        ("/amount", json!(25_801), "refunded"),
        ("/amount", json!(-1), "refunded"),
        ("/status", json!("something_new"), "unreadable"),
    ] {
        let spoil =
            |steps: &mut Vec<Value>| *steps[0]["response"]["body"].pointer_mut(pointer).unwrap() = value.clone();
        let stage = Stage::set("partly_refunded", spoil).await;
        assert_eq!(doubt(stage.driver.refund(&stage.first).await), expected, "refund {pointer} {value}");
        let spoil = |steps: &mut Vec<Value>| {
            *steps[2]["response"]["body"]["data"][0].pointer_mut(pointer).unwrap() = value.clone();
            steps.drain(..2);
        };
        let stage = Stage::set("lost_refund", spoil).await;
        let expected = if pointer == "/metadata/refund" { "refunded" } else { expected };
        assert_eq!(doubt(stage.driver.query_refund(&stage.first).await), expected, "list {pointer} {value}");
    }
}

#[tokio::test]
async fn the_secret_is_in_no_text() {
    service_kit::install_crypto_providers();
    let cfg = config("http://127.0.0.1:1");
    let driver = Stripe::new(&cfg).unwrap();
    let mut payment = script::payment("stripe");
    (payment.state, payment.provider_ref) = (PaymentState::Unknown, Some(INTENT.into()));
    let lost = driver.query(&payment).await;
    for text in [format!("{cfg:?}"), format!("{driver:?}"), format!("{lost:?}")] {
        assert!(!text.contains("sk_test_top") && !text.contains("whsec_hidden"), "{text}");
    }
    assert!(matches!(lost, Answer::Unknown(Doubt::Connection(_))));
}
