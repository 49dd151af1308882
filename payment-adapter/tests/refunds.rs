//! Refunds: given back once, whatever happens to the answers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use ledger::{Decision, OrderState};
use service_kit::clock::now_ms;
use support::{Bench, Bought, PRICE, SECRET};

async fn paid(bench: &Bench) -> Bought {
    let bought = bench.buy_and_pay().await;
    bench.until_order(&bought, OrderState::Paid).await;
    bought
}

async fn cancels(bench: &Bench) -> usize {
    bench.provider_ledger().await["payments"][0]["cancels"].as_array().unwrap().len()
}

#[tokio::test]
async fn the_money_goes_back() {
    let bench = Bench::open().await;
    let bought = paid(&bench).await;
    bench.refund(&bought).await;
    bench.until_order(&bought, OrderState::Refunded).await;
    assert_eq!(bench.provider_ledger().await["totals"]["cancelled"], PRICE);
    assert_eq!(bench.attempts(&bought, "refund").await, [Some("settled".to_owned())]);
    bench.audit().await;
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_asking() {
    let bench = Bench::open().await;
    let bought = paid(&bench).await;
    bench.fault("cancel", "drop-after-effect", 1).await;
    bench.refund(&bought).await;
    bench.until_order(&bought, OrderState::Refunded).await;
    assert_eq!(cancels(&bench).await, 1);
    assert_eq!(bench.attempts(&bought, "refund").await, [Some("connection".to_owned())]);
    bench.audit().await;
}

#[tokio::test]
async fn a_cancel_that_never_arrived_is_sent_again() {
    let bench = Bench::open().await;
    let bought = paid(&bench).await;
    bench.fault("cancel", "limited", 2).await;
    bench.refund(&bought).await;
    bench.until_order(&bought, OrderState::Refunded).await;
    assert_eq!((cancels(&bench).await, bench.attempts(&bought, "refund").await.len()), (1, 3));
    bench.audit().await;
}

#[tokio::test]
async fn a_cancel_that_takes_effect_late_gives_back_once() {
    let mut bench = Bench::new(300).await;
    bench.hire();
    let bought = paid(&bench).await;
    bench.fault("cancel", "delay-before=900", 1).await;
    bench.refund(&bought).await;
    bench.until_order(&bought, OrderState::Refunded).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_000)).await;
    assert_eq!(cancels(&bench).await, 1);
    bench.audit().await;
}

#[tokio::test]
async fn a_wrong_amount_in_the_answer_is_not_believed_and_the_query_decides() {
    let bench = Bench::open().await;
    let bought = paid(&bench).await;
    bench.fault("cancel", "wrong-amount", 1).await;
    bench.refund(&bought).await;
    let sql = "SELECT count(*) FROM refund WHERE state = 'unknown'";
    let doubted = || async { bench.sql().await.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 1 };
    bench.until("the answer is doubted", doubted).await;
    bench.pass_time(31_000);
    bench.until_order(&bought, OrderState::Refunded).await;
    assert_eq!(bench.attempts(&bought, "refund").await, [Some("mismatch".to_owned())]);
    bench.audit().await;
}

#[tokio::test]
async fn a_refused_refund_leaves_the_order_paid() {
    let bench = Bench::open().await;
    let bought = paid(&bench).await;
    bench.fault("cancel", "decline", 1).await;
    bench.refund(&bought).await;
    bench
        .until("paid again", || async { bench.order(&bought).await.reason.as_deref() == Some("refund_refused") })
        .await;
    assert_eq!(bench.order(&bought).await.state, OrderState::Paid);
    bench.audit().await;
    bench.refund(&bought).await;
    bench.until_order(&bought, OrderState::Refunded).await;
    bench.audit().await;
}

#[tokio::test]
async fn a_worker_killed_in_a_refund_gives_back_once() {
    let mut bench = Bench::open().await;
    let bought = paid(&bench).await;
    bench.fault("cancel", "delay=1500", 1).await;
    bench.refund(&bought).await;
    bench.until("the effect at the provider", || async { cancels(&bench).await == 1 }).await;
    bench.kill_workers().await;
    assert_eq!(bench.order(&bought).await.state, OrderState::Refunding);
    assert_eq!(bench.attempts(&bought, "refund").await, [None], "an attempt without an end");
    bench.hire();
    bench.pass_time(10_000);
    bench.until_order(&bought, OrderState::Refunded).await;
    assert_eq!(cancels(&bench).await, 1);
    bench.audit().await;
}

/// Stripe says "succeeded", and a minute later "failed": the shopper's bank has sent the money back.
#[tokio::test]
async fn a_refund_that_the_provider_takes_back_can_be_given_again() {
    let bench = Bench::open().await;
    let bought = bench.buy_with("stripe").await;
    bench.until_payment(&bought, "ready").await;
    let row = bench.sql().await.query_one("SELECT provider_ref FROM payment", &[]).await.unwrap();
    let intent: String = row.get(0);
    // The provider's own test card for this.
    let confirm = bench.http.post(format!("{}/v1/payment_intents/{intent}/confirm", bench.provider));
    let confirm = confirm.bearer_auth("sk_test_x").form(&[("payment_method", "pm_card_refundFail")]);
    assert_eq!(confirm.send().await.unwrap().status(), 200);
    let back = format!("{}/payments/{}/return/{SECRET}/approve", bench.shop, bought.payment);
    let back = format!("{back}?payment_intent={intent}&redirect_status=succeeded");
    assert_eq!(bench.http.get(back).send().await.unwrap().status(), 303);
    bench.until_order(&bought, OrderState::Paid).await;
    bench.refund(&bought).await;
    bench.until_order(&bought, OrderState::Refunded).await;

    bench.pass_time_at_provider(61_000).await;
    bench.pass_time(61_000);
    let (cfg, later_ms) = (bench.config(), now_ms() + 60_000);
    let accounts = cfg.accounts().unwrap();
    let look = async |at_ms| payment_adapter::reconcile_books(&cfg, &bench.ledger, &accounts, at_ms).await.unwrap();
    assert_eq!(look(later_ms).await, 1);
    bench.until_order(&bought, OrderState::Quarantined).await;
    assert_eq!(bench.order(&bought).await.reason.as_deref(), Some("refund_reversed"));
    let asked = bench.attempts(&bought, "query").await;
    assert_eq!(asked, vec![Some("settled".to_owned()); 2], "where the payment stands, and where its refund");
    let sql = "SELECT state, failure_code IS NOT NULL FROM refund";
    let row = bench.sql().await.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, String>(0).as_str(), row.get::<_, bool>(1)), ("failed", true));
    assert_eq!(bench.order(&bought).await.refunded_minor, 0);
    // Both sides have the same again, and nothing more is found.
    assert_eq!(look(later_ms + 60_000).await, 0);
    assert_eq!(bench.ledger.open_discrepancies(10).await.unwrap(), []);
    assert_eq!(bench.ledger.verify().await.unwrap(), []);

    let decided = bench.ledger.decide(bought.order, Decision::GiveBack(PRICE), "kim", "once more", now_ms()).await;
    assert_eq!(decided.unwrap().unwrap().unwrap().order, OrderState::Refunding);
    bench.until_order(&bought, OrderState::Refunded).await;
    assert_eq!(bench.order(&bought).await.refunded_minor, PRICE);
    assert_eq!(bench.ledger.verify().await.unwrap(), []);
}
