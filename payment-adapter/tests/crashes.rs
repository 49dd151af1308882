//! Workers that die or double: each payment is captured once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use ledger::{AttemptKind, OrderState, PaymentState};
use service_kit::clock::now_ms;
use support::Bench;

#[tokio::test]
async fn a_worker_killed_between_effect_and_answer_leaves_one_capture() {
    let mut bench = Bench::open().await;
    bench.fault("approve", "delay=1500", 1).await;
    let bought = bench.buy_and_pay().await;
    bench
        .until("the effect at the provider", || async { bench.provider_ledger().await["totals"]["approvals"] == 1 })
        .await;
    bench.kill_workers().await;
    assert_eq!(bench.payment_state(&bought).await, "confirming");
    assert_eq!(bench.attempts(&bought, "confirm").await, [None], "an attempt without an end");
    bench.hire();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(bench.payment_state(&bought).await, "confirming", "nobody touches it while the lease runs");
    bench.pass_time(10_000);
    bench.until_order(&bought, OrderState::Paid).await;
    assert_eq!(bench.attempts(&bought, "confirm").await.len(), 1, "asked, not confirmed again");
    bench.audit().await;
}

#[tokio::test]
async fn a_worker_killed_between_attempt_and_call_is_followed_by_a_question_and_one_confirm() {
    let mut bench = Bench::open().await;
    let bought = bench.buy().await;
    bench.until_payment(&bought, "ready").await;
    bench.kill_workers().await;
    bench.go_back(&bought, "pay").await;
    let work = bench.ledger.claim_due_payments("kakaopay", now_ms(), 1, 9_000).await.unwrap().remove(0);
    assert_eq!(work.state, PaymentState::Authorized);
    bench.ledger.begin_attempt(work.id, AttemptKind::Confirm, None, now_ms()).await.unwrap().unwrap();
    // … and dies here. Nothing was sent.
    bench.hire();
    bench.pass_time(10_000);
    bench.until_order(&bought, OrderState::Paid).await;
    assert_eq!(bench.attempts(&bought, "query").await, [Some("settled".to_owned())], "asked first");
    assert_eq!(bench.attempts(&bought, "confirm").await, [None, Some("settled".to_owned())]);
    bench.audit().await;
}

#[tokio::test]
async fn a_worker_killed_in_prepare_leaves_a_session_that_nobody_uses() {
    let mut bench = Bench::open().await;
    bench.fault("ready", "delay=1500", 1).await;
    let bought = bench.buy().await;
    bench.until("a session", || async { bench.provider_ledger().await["totals"]["payments"] == 1 }).await;
    bench.kill_workers().await;
    bench.hire();
    bench.pass_time(10_000);
    bench.until_payment(&bought, "ready").await;
    bench.go_back(&bought, "pay").await;
    bench.until_order(&bought, OrderState::Paid).await;
    bench.audit().await;
}

#[tokio::test]
async fn two_workers_at_once_handle_each_payment_once() {
    let mut bench = Bench::new(2_000).await;
    bench.hire();
    bench.hire();
    let mut all = Vec::new();
    for _ in 0..30 {
        all.push(bench.buy().await);
    }
    for bought in &all {
        bench.until_payment(bought, "ready").await;
        bench.go_back(bought, "pay").await;
    }
    for bought in &all {
        bench.until_order(bought, OrderState::Paid).await;
        assert_eq!(bench.attempts(bought, "prepare").await.len(), 1);
        assert_eq!(bench.attempts(bought, "confirm").await.len(), 1);
    }
    bench.audit().await;
}

#[tokio::test]
async fn killed_again_and_again_under_random_faults_it_still_adds_up() {
    let mut bench = Bench::new(400).await;
    for (endpoint, fault, seed) in [
        ("ready", "drop-after-effect", 1),
        ("approve", "drop-after-effect", 2),
        ("approve", "delay=700", 3),
        ("approve", "decline", 4),
        ("approve", "error-after-effect", 5),
        ("order", "limited", 6),
        ("order", "drop-after-effect", 7),
    ] {
        let rule = serde_json::json!({ "endpoint": endpoint, "fault": fault, "probability": 0.1, "seed": seed });
        bench.control("faults", rule).await;
    }
    bench.hire();
    let mut all = Vec::new();
    for _ in 0..24 {
        all.push(bench.buy().await);
    }
    // The workers' clock runs faster than the provider's, so that leases and back-offs of the killed cost the test little.
    for bought in &all {
        let moved = || async {
            bench.pass_time(60);
            bench.payment_state(bought).await != "requested"
        };
        bench.until("ready or ended", moved).await;
        if bench.payment_state(bought).await == "ready" {
            bench.go_back(bought, "pay").await;
        }
        bench.kill_workers().await;
        bench.pass_time(3_000);
        bench.hire();
    }
    for bought in &all {
        let settled = || async {
            bench.pass_time(60);
            bench.order(bought).await.state != OrderState::Paying
        };
        bench.until("settled", settled).await;
    }
    bench.audit().await;
}
