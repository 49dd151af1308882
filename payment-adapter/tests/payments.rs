//! Payments from the shop's row to their end: the real worker, PostgreSQL and simulator, without and with faults.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use ledger::{Ended, OrderState, PaymentState, Return};
use service_kit::clock::now_ms;
use support::{Bench, PRICE, SECRET};

#[tokio::test]
async fn a_shopper_pays() {
    let bench = Bench::open().await;
    let bought = bench.buy_and_pay().await;
    bench.until_order(&bought, OrderState::Paid).await;
    assert_eq!(bench.attempts(&bought, "prepare").await, [Some("settled".to_owned())]);
    assert_eq!(bench.attempts(&bought, "confirm").await, [Some("settled".to_owned())]);
    assert!(bench.attempts(&bought, "query").await.is_empty());
    bench.audit().await;
}

#[tokio::test]
async fn a_decline_releases_the_order() {
    let bench = Bench::open().await;
    bench.fault("approve", "decline", 1).await;
    let bought = bench.buy_and_pay().await;
    bench.until_order(&bought, OrderState::Released).await;
    let order = bench.order(&bought).await;
    assert_eq!((order.reason.as_deref(), order.payment.unwrap().state.as_str()), (Some("payment_declined"), "failed"));
    bench.audit().await;
}

#[tokio::test]
async fn turning_back_and_a_wrong_password_release_the_order() {
    let bench = Bench::open().await;
    for (action, reason, state) in
        [("cancel", "payment_cancelled", "cancelled"), ("decline", "payment_declined", "failed")]
    {
        let bought = bench.buy().await;
        bench.until_payment(&bought, "ready").await;
        bench.go_back(&bought, action).await;
        bench.until_order(&bought, OrderState::Released).await;
        let order = bench.order(&bought).await;
        assert_eq!((order.reason.as_deref(), order.payment.unwrap().state.as_str()), (Some(reason), state));
    }
    bench.audit().await;
}

#[tokio::test]
async fn a_session_that_nobody_used_expires() {
    let bench = Bench::open().await;
    let bought = bench.buy().await;
    bench.until_payment(&bought, "ready").await;
    bench.pass_time_at_provider(15 * 60_000).await;
    bench.pass_time(15 * 60_000);
    bench.until_order(&bought, OrderState::Released).await;
    assert_eq!(bench.order(&bought).await.reason.as_deref(), Some("payment_expired"));
    assert_eq!(bench.attempts(&bought, "query").await, [Some("settled".to_owned())], "asked first");
    bench.audit().await;
}

#[tokio::test]
async fn a_session_that_the_provider_forgot_expires_all_the_same() {
    let bench = Bench::open().await;
    let bought = bench.buy().await;
    bench.until_payment(&bought, "ready").await;
    bench.control("reset", serde_json::json!({})).await;
    bench.pass_time(15 * 60_000);
    bench.until_order(&bought, OrderState::Released).await;
    assert_eq!(bench.order(&bought).await.reason.as_deref(), Some("payment_expired"));
}

#[tokio::test]
async fn a_lost_approve_answer_is_captured_once_and_settled_by_asking() {
    let bench = Bench::open().await;
    bench.fault("approve", "drop-after-effect", 1).await;
    let bought = bench.buy_and_pay().await;
    bench.until_order(&bought, OrderState::Paid).await;
    assert_eq!(bench.attempts(&bought, "confirm").await, [Some("connection".to_owned())]);
    assert_eq!(bench.attempts(&bought, "query").await, [Some("settled".to_owned())]);
    bench.audit().await;
}

#[tokio::test]
async fn an_approve_answer_beyond_the_time_out_is_settled_by_asking() {
    let mut bench = Bench::new(300).await;
    bench.hire();
    bench.fault("approve", "delay=1500", 1).await;
    let bought = bench.buy_and_pay().await;
    bench.until_order(&bought, OrderState::Paid).await;
    assert_eq!(bench.attempts(&bought, "confirm").await, [Some("timeout".to_owned())]);
    bench.audit().await;
}

#[tokio::test]
async fn an_approve_that_takes_effect_late_does_not_charge_twice() {
    let mut bench = Bench::new(300).await;
    bench.hire();
    // The first approve sleeps at the provider while the query says "not approved" and a second one is made.
    bench.fault("approve", "delay-before=900", 1).await;
    let bought = bench.buy_and_pay().await;
    bench.until_order(&bought, OrderState::Paid).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_000)).await;
    assert!(bench.attempts(&bought, "confirm").await.len() >= 2);
    bench.audit().await;
}

#[tokio::test]
async fn a_500_after_the_effect_is_settled_by_asking() {
    let bench = Bench::open().await;
    bench.fault("approve", "error-after-effect", 1).await;
    bench.fault("order", "error-after-effect", 2).await;
    let bought = bench.buy_and_pay().await;
    bench.until_order(&bought, OrderState::Paid).await;
    assert_eq!(bench.attempts(&bought, "confirm").await, [Some("fault".to_owned())]);
    assert_eq!(bench.attempts(&bought, "query").await.len(), 3);
    bench.audit().await;
}

#[tokio::test]
async fn a_limited_approve_is_made_again_after_asking() {
    let bench = Bench::open().await;
    bench.fault("approve", "limited", 1).await;
    let bought = bench.buy_and_pay().await;
    bench.until_order(&bought, OrderState::Paid).await;
    let said = |word: &str| Some(word.to_owned());
    assert_eq!(bench.attempts(&bought, "confirm").await, [said("limited"), said("settled")]);
    bench.audit().await;
}

#[tokio::test]
async fn a_wrong_amount_never_settles_and_raises_the_alarm() {
    let bench = Bench::open().await;
    bench.fault("approve", "wrong-amount", 1).await;
    let bought = bench.buy_and_pay().await;
    bench.until_order(&bought, OrderState::Quarantined).await;
    bench.pass_time(3_600_000);
    assert_eq!(bench.payment_state(&bought).await, "unknown");
    assert_eq!(bench.order(&bought).await.reason.as_deref(), Some("figures_differ"));
    assert_eq!(bench.ledger.deal(bench.deal).await.unwrap().unwrap().held, 1, "the unit stays held");
    assert_eq!(bench.attempts(&bought, "query").await.len(), 1, "asked once; then an operator's");
    assert!(bench.attempts(&bought, "query").await.iter().flatten().all(|outcome| outcome == "mismatch"));
    let alarm = r#"floodgate_payment_mismatches_total{provider="kakaopay",field="amount"}"#;
    let text = support::metrics().render();
    assert!(text.lines().any(|line| line.starts_with(alarm) && !line.ends_with(" 0")), "{text}");
    assert!(bench.ledger.verify().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lost_session_is_opened_again() {
    let bench = Bench::open().await;
    bench.fault("ready", "drop-after-effect", 1).await;
    let bought = bench.buy_and_pay().await;
    bench.until_order(&bought, OrderState::Paid).await;
    assert_eq!(bench.provider_ledger().await["totals"]["payments"], 2, "the lost one stays unused");
    bench.audit().await;
}

#[tokio::test]
async fn a_session_that_the_provider_refuses_releases_the_order() {
    let bench = Bench::open().await;
    bench.fault("ready", "decline", 1).await;
    let bought = bench.buy().await;
    bench.until_order(&bought, OrderState::Released).await;
    assert_eq!(bench.order(&bought).await.reason.as_deref(), Some("payment_declined"));
}

#[tokio::test]
async fn a_provider_that_is_away_too_long_releases_the_order() {
    let mut bench = Bench::new(2_000).await;
    bench.point_driver_at("http://127.0.0.1:1");
    bench.hire();
    let bought = bench.buy().await;
    bench.until("a try", || async { !bench.attempts(&bought, "prepare").await.is_empty() }).await;
    assert_eq!(bench.payment_state(&bought).await, "requested");
    bench.pass_time(121_000);
    bench.until_order(&bought, OrderState::Released).await;
    bench.audit().await;
}

#[tokio::test]
async fn a_sick_provider_is_left_alone_and_used_again_when_it_is_well() {
    let bench = Bench::open().await;
    bench.fault("ready", "limited", 8).await;
    let mut all = Vec::new();
    for _ in 0..10 {
        all.push(bench.buy().await);
    }
    for bought in &all {
        bench.until_payment(bought, "ready").await;
        bench.go_back(bought, "pay").await;
    }
    for bought in &all {
        bench.until_order(bought, OrderState::Paid).await;
    }
    bench.audit().await;
}

#[tokio::test]
async fn a_code_that_arrives_while_the_time_is_judged_over_wins() {
    let mut bench = Bench::open().await;
    let bought = bench.buy().await;
    bench.until_payment(&bought, "ready").await;
    let address = bench.press(&bought, "pay").await;
    let code = address.split_once("pg_token=").unwrap().1.to_owned();
    bench.kill_workers().await;
    // One worker judged the payment in `ready`; before it writes, the shopper is back.
    bench.ledger.record_return(bought.payment, SECRET, &Return::Approved { code }, now_ms()).await.unwrap().unwrap();
    let ended = bench
        .ledger
        .settle_ended(bought.payment, PaymentState::Ready, Ended::Expired, "x", "x", now_ms())
        .await
        .unwrap();
    assert!(!ended, "the judgement is out of date");
    bench.hire();
    bench.until_order(&bought, OrderState::Paid).await;
    bench.audit().await;
}

#[tokio::test]
async fn what_the_reconciliation_sees() {
    let bench = Bench::new(2_000).await;
    let bought = bench.buy().await;
    let mut shown = std::collections::BTreeSet::new();
    let look = async |at_ms, shown: &mut _| {
        payment_adapter::reconcile_once(&bench.ledger, 60_000, at_ms, shown).await.unwrap()
    };
    assert_eq!(look(now_ms() + 3_600_000, &mut shown).await, 0, "a payment that never asked for money is not stuck");
    bench
        .sql()
        .await
        .batch_execute(
            "SET session_replication_role = replica; UPDATE payment SET state = 'unknown'; SET session_replication_role = origin",
        )
        .await
        .unwrap();
    assert_eq!(look(now_ms(), &mut shown).await, 0);
    assert_eq!(look(now_ms() + 61_000, &mut shown).await, 1);
    assert!(shown.contains(&bench.deal));
    assert_eq!(PRICE, bench.order(&bought).await.amount.minor());
}
