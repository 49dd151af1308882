//! The driver against the golden transcripts of Toss Payments' contract, which were written from the provider's
//! documents and know nothing of the simulator: each request must be the written one, each answer must be understood.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod script;

use ledger::{PaymentState, PaymentWork, RefundState, RefundWork};
use payment_adapter::provider::{About, Answer, Doubt, Listed, Outcome, Provider, RefundStanding, Session, Standing};
use payment_adapter::toss::{Toss, TossConfig};
use script::{CHECKOUT_URL, RETURN_URL, Script, doubt, refused, won};
use serde_json::{Value, json};
use service_kit::clock::parse_rfc3339;
use service_kit::ids::{OrderId, RefundId};
use service_kit::money::{Currency, Money};

/// Base64 of `test_sk_top-secret:`, with its colon.
const AUTHORIZATION: &str = "Basic dGVzdF9za190b3Atc2VjcmV0Og==";
const KEY: &str = "tgen_20261121120000abcd1";
const FIRST: &str = "0A1B2C3D4E5F60718293A4B5C6D7E8F9";
const SECOND: &str = "1B2C3D4E5F60718293A4B5C6D7E8F90A";

struct Stage {
    driver: Toss,
    payment: PaymentWork,
    /// Of 10,000 won.
    first: RefundWork,
    /// Of the rest.
    second: RefundWork,
    script: Script,
}

impl Stage {
    async fn set(name: &str, change: impl FnOnce(&mut Vec<Value>)) -> Self {
        let mut payment = script::payment("toss");
        payment.provider_ref = Some(payment.order.to_string());
        payment.approval_code = Some(KEY.into());
        let (first, second) = (script::refund(&payment, 0, 10_000), script::refund(&payment, 10_000, 15_800));
        let ours = [
            ("order-7f3a", payment.order.to_string()),
            ("attempt-1", payment.id.to_string()),
            ("refund-1", first.id.to_string()),
            ("refund-2", second.id.to_string()),
        ];
        let script = Script::set("toss", name, AUTHORIZATION, &ours, change).await;
        Self { driver: Toss::new(&config(&script.base_url)).unwrap(), payment, first, second, script }
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

fn config(base_url: &str) -> TossConfig {
    let config = json!({ "base_url": base_url, "secret_key": "test_sk_top-secret", "client_key": "test_ck_open" });
    serde_json::from_value(config).unwrap()
}

fn settled<T: std::fmt::Debug>(answer: Answer<T>) -> T {
    match answer {
        Answer::Settled(settled) => settled,
        Answer::Unknown(doubt) => panic!("{doubt:?}"),
    }
}

fn paid(refunded_minor: i64) -> Standing {
    Standing::Ended(Outcome::Paid { reference: KEY.into(), amount: won(25_800), refunded_minor })
}

fn done(reference: &str) -> Answer<RefundStanding> {
    Answer::Settled(RefundStanding::Done { reference: reference.to_owned() })
}

/// The code of an end without money.
fn ended(standing: Standing) -> (&'static str, String) {
    match standing {
        Standing::Ended(Outcome::Declined(why)) => ("declined", why.code),
        Standing::Ended(Outcome::Expired(why)) => ("expired", why.code),
        Standing::Ended(Outcome::Cancelled(why)) => ("cancelled", why.code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn preparing_calls_nobody_and_leads_to_our_page() {
    let mut stage = Stage::set("paid", Vec::clear).await;
    let Session::Open(session) = settled(stage.driver.prepare(&stage.payment, RETURN_URL, 1_000).await) else {
        panic!()
    };
    assert_eq!((session.provider_ref, session.expires_at_ms), (stage.payment.order.to_string(), 1_801_000));
    assert_eq!((session.redirect_pc.as_str(), session.redirect_mobile.as_str()), (CHECKOUT_URL, CHECKOUT_URL));
    let page = stage.driver.checkout(&stage.payment, "", RETURN_URL).unwrap();
    assert_eq!(page.script_url, "https://js.tosspayments.com/v2/standard");
    assert_eq!(page.data["amount"], json!({ "currency": "KRW", "value": 25_800 }));
    assert_eq!(page.data["orderId"], stage.payment.order.to_string());
    assert_eq!(page.data["successUrl"], format!("{RETURN_URL}/approve"));
    assert!(!page.data.to_string().contains("secret"), "{}", page.data);
    for (minor, currency) in [(100, Currency::USD), (0, Currency::KRW)] {
        stage.payment.amount = Money::new(minor, currency).unwrap();
        let answer = stage.driver.prepare(&stage.payment, RETURN_URL, 0).await;
        assert!(matches!(answer, Answer::Settled(Session::Declined(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn paid_as_written() {
    let mut stage = Stage::set("paid", |_| ()).await;
    let key = stage.payment.approval_code.take();
    assert_eq!(stage.query().await, Standing::Pending, "nothing there");
    assert_eq!(stage.query().await, Standing::Pending, "approved, and not confirmed");
    stage.payment.approval_code = key;
    assert_eq!(stage.confirm().await, paid(0));
    assert_eq!(stage.query().await, paid(0));
    stage.over().await;
}

#[tokio::test]
async fn declined_as_written() {
    let stage = Stage::set("declined", |_| ()).await;
    for _ in 0..2 {
        assert_eq!(ended(stage.confirm().await), ("declined", "REJECT_CARD_PAYMENT".into()));
    }
    assert_eq!(ended(stage.query().await), ("declined", "REJECT_CARD_PAYMENT".into()));
    stage.over().await;
}

#[tokio::test]
async fn a_session_that_is_over_as_written() {
    let stage = Stage::set("session_over", |_| ()).await;
    assert_eq!(ended(stage.confirm().await), ("expired", "NOT_FOUND_PAYMENT_SESSION".into()));
    assert_eq!(ended(stage.query().await), ("expired", "EXPIRED".into()));
    stage.over().await;
}

#[tokio::test]
async fn a_lost_confirm_is_found_by_asking_as_written() {
    let stage = Stage::set("lost_confirm", |_| ()).await;
    assert_eq!(doubt(stage.driver.confirm(&stage.payment).await), "connection");
    assert_eq!(stage.query().await, paid(0));
    assert_eq!(stage.confirm().await, paid(0), "the same key, the same answer");
    assert_eq!(refused(stage.driver.confirm(&stage.payment).await), "ALREADY_PROCESSED_PAYMENT");
    stage.over().await;
}

#[tokio::test]
async fn a_temporary_fault_is_no_refusal_as_written() {
    let stage = Stage::set("temporary", |_| ()).await;
    assert_eq!(doubt(stage.driver.confirm(&stage.payment).await), "fault");
    assert_eq!(doubt(stage.driver.confirm(&stage.payment).await), "limited");
    assert_eq!(stage.query().await, Standing::Pending);
    stage.over().await;
}

/// Every code of the contract at confirm, whatever its HTTP status: which ones settle, and which never do.
#[tokio::test]
async fn only_two_families_of_errors_settle_a_confirm() {
    for (status, code, expected) in [
        (400, "REJECT_CARD_COMPANY", "declined"),
        (403, "REJECT_ACCOUNT_PAYMENT", "declined"),
        (400, "INVALID_CARD_NUMBER", "declined"),
        (400, "NOT_SUPPORTED_CARD_TYPE", "declined"),
        (403, "EXCEED_MAX_AMOUNT", "declined"),
        (400, "BELOW_MINIMUM_AMOUNT", "declined"),
        (403, "INVALID_PASSWORD", "declined"),
        (403, "FDS_ERROR", "declined"),
        (403, "NOT_AVAILABLE_BANK", "declined"),
        (404, "NOT_FOUND_PAYMENT_SESSION", "expired"),
        (409, "IDEMPOTENT_REQUEST_PROCESSING", "limited"),
        (403, "FORBIDDEN_CONSECUTIVE_REQUEST", "limited"),
        (400, "ALREADY_PROCESSED_PAYMENT", "refused"),
        (400, "PROVIDER_ERROR", "fault"),
        (400, "COMMON_ERROR", "fault"),
        (500, "FAILED_INTERNAL_SYSTEM_PROCESSING", "fault"),
        (500, "REJECT_CARD_PAYMENT", "fault"),
        (400, "UNKNOWN_PAYMENT_ERROR", "fault"),
        (404, "NOT_FOUND_PAYMENT", "refused"),
        (400, "INVALID_REQUEST", "refused"),
        (403, "FORBIDDEN_REQUEST", "refused"),
        (400, "INVALID_API_KEY", "key"),
        (401, "UNAUTHORIZED_KEY", "key"),
        (403, "INCORRECT_BASIC_AUTH_FORMAT", "key"),
        (400, "A_CODE_OF_TOMORROW", "refused"),
    ] {
        let change = |steps: &mut Vec<Value>| {
            steps.truncate(1);
            steps[0]["response"] = json!({ "status": status, "body": { "code": code, "message": "m" } });
        };
        let stage = Stage::set("declined", change).await;
        let got = match stage.driver.confirm(&stage.payment).await {
            Answer::Settled(standing) => ended(standing).0,
            Answer::Unknown(doubt) => doubt.name(),
        };
        assert_eq!(got, expected, "{status} {code}");
    }
}

#[tokio::test]
async fn refunded_at_once_as_written() {
    let mut stage = Stage::set("refunded", |_| ()).await;
    assert_eq!(stage.confirm().await, paid(0));
    stage.first.amount = won(25_800);
    assert_eq!(stage.driver.refund(&stage.first).await, done(FIRST));
    assert_eq!(stage.query().await, paid(25_800));
    (stage.second.amount, stage.second.refunded_before_minor) = (won(25_800), 0);
    assert_eq!(refused(stage.driver.refund(&stage.second).await), "ALREADY_CANCELED_PAYMENT");
    stage.over().await;
}

#[tokio::test]
async fn refunded_in_parts_as_written() {
    let stage = Stage::set("partly_refunded", |steps| drop(steps.pop())).await;
    assert_eq!(stage.confirm().await, paid(0));
    assert_eq!(stage.driver.refund(&stage.first).await, done(FIRST));
    assert_eq!(stage.query().await, paid(10_000));
    let mut stale = stage.second.clone();
    (stale.refunded_before_minor, stale.amount) = (0, won(10_000));
    assert_eq!(refused(stage.driver.refund(&stale).await), "NOT_MATCHES_REFUNDABLE_AMOUNT");
    let mut greedy = stage.second.clone();
    greedy.amount = won(15_801);
    assert_eq!(refused(stage.driver.refund(&greedy).await), "NOT_CANCELABLE_AMOUNT");
    assert_eq!(stage.driver.refund(&stage.second).await, done(SECOND));
    assert_eq!(stage.query().await, paid(25_800), "all is back, though the status says: in part");
    stage.over().await;
}

#[tokio::test]
async fn a_lost_cancel_is_found_by_our_id_as_written() {
    let stage = Stage::set("lost_cancel", |_| ()).await;
    assert_eq!(stage.driver.query_refund(&stage.first).await, Answer::Settled(RefundStanding::NotDone));
    assert_eq!(doubt(stage.driver.refund(&stage.first).await), "connection");
    assert_eq!(stage.driver.query_refund(&stage.first).await, done(FIRST));
    assert_eq!(stage.driver.refund(&stage.first).await, done(FIRST), "the same key, the same answer");
    stage.over().await;
}

#[tokio::test]
async fn an_error_that_is_bound_to_a_key_does_not_hold_a_refund_as_written() {
    let mut stage = Stage::set("bound_error", |_| ()).await;
    assert_eq!(doubt(stage.driver.refund(&stage.first).await), "fault");
    stage.first.state = RefundState::Unknown;
    assert_eq!(stage.driver.query_refund(&stage.first).await, Answer::Settled(RefundStanding::NotDone));
    stage.first.tries = 8;
    assert_eq!(doubt(stage.driver.refund(&stage.first).await), "fault");
    stage.first.tries = 9;
    assert_eq!(stage.driver.refund(&stage.first).await, done(FIRST));
    stage.over().await;
}

#[tokio::test]
async fn a_refund_on_its_way_and_one_given_up() {
    for (word, expected) in [
        ("IN_PROGRESS", RefundStanding::Pending),
        (
            "ABORTED",
            RefundStanding::Failed(payment_adapter::provider::Refusal {
                code: "ABORTED".into(),
                message: "The provider gave up on the refund.".into(),
            }),
        ),
    ] {
        let change = |steps: &mut Vec<Value>| {
            steps.drain(..2);
            steps[0]["response"]["body"]["cancels"][0]["cancelStatus"] = json!(word);
        };
        let stage = Stage::set("lost_cancel", change).await;
        assert_eq!(stage.driver.query_refund(&stage.first).await, Answer::Settled(expected));
    }
}

#[tokio::test]
async fn a_sum_that_is_nobodys_refund_is_for_an_operator_and_all_of_it_is_a_refund() {
    let mut stage = Stage::set("lost_cancel", |steps| drop(steps.drain(..2))).await;
    stage.first.id = RefundId::new();
    assert_eq!(doubt(stage.driver.query_refund(&stage.first).await), "refunded");
    let mut stage = Stage::set("partly_refunded", |steps| drop(steps.drain(..6))).await;
    stage.second.id = RefundId::new();
    assert_eq!(stage.driver.query_refund(&stage.second).await, done(SECOND), "all is back, whoever pressed the button");
}

#[tokio::test]
async fn a_deposit_is_awaited_as_written() {
    let stage = Stage::set("deposit", |_| ()).await;
    let until_ms = parse_rfc3339("2026-11-22T14:59:59Z").unwrap();
    assert_eq!(stage.confirm().await, Standing::Waiting { until_ms });
    assert_eq!(stage.query().await, Standing::Waiting { until_ms });
    assert_eq!(stage.query().await, paid(0));
    stage.over().await;
    let stage = Stage::set("deposit_cancelled", |_| ()).await;
    assert_eq!(ended(stage.query().await).0, "cancelled");
}

#[tokio::test]
async fn listed_as_written() {
    let stage = Stage::set("listed", |_| ()).await;
    let day = parse_rfc3339("2026-11-20T15:00:00Z").unwrap();
    let first = settled(stage.driver.list(day, day + 86_400_000, None).await);
    assert_eq!(first.entries.len(), 100);
    assert_eq!(first.entries[0].about, About::Nothing, "another shop of the account");
    let second = settled(stage.driver.list(day, day + 86_400_000, first.next).await);
    let entry = |captured_minor, refunded_minor| Listed {
        reference: KEY.into(),
        about: About::Order(stage.payment.order),
        captured_minor,
        refunded_minor,
        currency: "KRW".into(),
    };
    assert_eq!((second.entries, second.next), (vec![entry(25_800, 0), entry(0, 10_000)], None));
    stage.over().await;
}

/// Whatever the call and the status: an answer about another payment, order, currency or amount settles nothing.
#[tokio::test]
async fn an_answer_about_something_else_never_settles() {
    let figures = |deep: bool| {
        let mut figures = vec![
            ("/paymentKey", json!("tgen_of_another"), "reference"),
            ("/orderId", json!(OrderId::new()), "order"),
            ("/currency", json!("USD"), "currency"),
            ("/currency", json!("krw"), "currency"),
            ("/totalAmount", json!(25_801), "amount"),
            ("/totalAmount", json!(-25_800), "amount"),
            ("/totalAmount", json!(25_800.5), "unreadable"),
            ("/totalAmount", json!("25800"), "unreadable"),
            ("/paymentKey", Value::Null, "unreadable"),
        ];
        if deep {
            figures.extend([("/balanceAmount", json!(25_801), "refunded"), ("/balanceAmount", json!(-1), "refunded")]);
        }
        figures
    };
    // Where each kind of answer stands, and whether its balance is looked at.
    for (name, step, is_confirm, deep) in
        [("paid", 2, true, true), ("paid", 3, false, true), ("deposit", 1, false, false), ("declined", 2, false, false)]
    {
        for (pointer, value, expected) in figures(deep) {
            let spoil = |steps: &mut Vec<Value>| {
                *steps[step]["response"]["body"].pointer_mut(pointer).unwrap() = value.clone();
                steps.drain(..step);
            };
            let stage = Stage::set(name, spoil).await;
            let answer = match is_confirm {
                true => stage.driver.confirm(&stage.payment).await,
                false => stage.driver.query(&stage.payment).await,
            };
            assert_eq!(doubt(answer), expected, "{name} {step} {pointer} {value}");
        }
    }
    for (pointer, value, expected) in [
        ("/status", json!("PARTIAL_CANCELED"), "status"),
        ("/status", json!("CANCELED"), "status"),
        ("/balanceAmount", json!(15_800), "status"),
        ("/status", json!("SOMETHING_NEW"), "unreadable"),
    ] {
        let spoil = |steps: &mut Vec<Value>| {
            *steps[3]["response"]["body"].pointer_mut(pointer).unwrap() = value.clone();
            steps.drain(..3);
        };
        let stage = Stage::set("paid", spoil).await;
        assert_eq!(doubt(stage.driver.query(&stage.payment).await), expected, "{pointer} {value}");
    }
    let spoil = |steps: &mut Vec<Value>| {
        steps[1]["response"]["body"]["virtualAccount"]["dueDate"] = Value::Null;
        steps.drain(..1);
    };
    let stage = Stage::set("deposit", spoil).await;
    assert_eq!(doubt(stage.driver.query(&stage.payment).await), "unreadable");
}

#[tokio::test]
async fn a_refund_about_something_else_never_settles() {
    let refund =
        [("/cancels/0/cancelAmount", json!(10_001), "refunded"), ("/balanceAmount", json!(15_801), "refunded")];
    let both = [
        ("/paymentKey", json!("tgen_of_another"), "reference"),
        ("/orderId", json!(OrderId::new()), "order"),
        ("/currency", json!("JPY"), "currency"),
        ("/totalAmount", json!(10_000), "amount"),
        ("/cancels/0/cancelStatus", json!("SOMETHING_NEW"), "unreadable"),
        ("/cancels/0/cancelStatus", Value::Null, "unreadable"),
    ];
    for (pointer, value, expected) in refund.iter().chain(&both) {
        let spoil = |steps: &mut Vec<Value>| {
            *steps[1]["response"]["body"].pointer_mut(pointer).unwrap() = value.clone();
            steps.drain(..1);
        };
        let stage = Stage::set("partly_refunded", spoil).await;
        assert_eq!(doubt(stage.driver.refund(&stage.first).await), *expected, "cancel {pointer} {value}");
    }
    for (pointer, value, expected) in refund[..1].iter().chain(&both) {
        let spoil = |steps: &mut Vec<Value>| {
            *steps[2]["response"]["body"].pointer_mut(pointer).unwrap() = value.clone();
            steps.drain(..2);
        };
        let stage = Stage::set("lost_cancel", spoil).await;
        assert_eq!(doubt(stage.driver.query_refund(&stage.first).await), *expected, "query {pointer} {value}");
    }
}

#[tokio::test]
async fn the_secret_is_in_no_text() {
    service_kit::install_crypto_providers();
    let cfg = config("http://127.0.0.1:1");
    let driver = Toss::new(&cfg).unwrap();
    let mut payment = script::payment("toss");
    payment.state = PaymentState::Unknown;
    let lost = driver.query(&payment).await;
    for text in [format!("{cfg:?}"), format!("{driver:?}"), format!("{lost:?}")] {
        assert!(!text.contains("top-secret") && !text.contains("dGVzdF9za190b3A"), "{text}");
    }
    assert!(matches!(lost, Answer::Unknown(Doubt::Connection(_))));
}
