//! Many payments in one commit: the same rows as one by one, and nothing that one by one would refuse.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(missing_docs, reason = "tests are named after what they prove")]

mod support;

use ledger::*;
use service_kit::clock::now_ms;
use service_kit::ids::*;
use service_kit::money::{Currency, Money};
use support::*;

/// Payments of one deal, each of another order, that the shoppers have come back from.
async fn authorized(ledger: &Ledger, deal: DealId, n: usize) -> Vec<(OrderId, PaymentId)> {
    let account = account(ledger).await;
    let mut all = Vec::new();
    for _ in 0..n {
        let order = held(ledger, deal, account).await;
        let s = start(order, account);
        ledger.start_payment(&s, now_ms(), &idem(&s.payment.to_string(), 1), saved).await.unwrap();
        all.push((order, s.payment));
    }
    let sessions: Vec<_> = all.iter().map(|(_, payment)| opened(*payment)).collect();
    assert_eq!(ledger.prepared_many(&sessions, now_ms()).await.unwrap(), vec![true; n]);
    assert_eq!(ledger.prepared_many(&sessions, now_ms()).await.unwrap(), vec![false; n], "they had moved on");
    let back: Vec<_> = all.iter().map(|(_, payment)| approval(*payment, "s3cret")).collect();
    let orders: Vec<_> = all.iter().map(|(order, _)| Some(*order)).collect();
    assert_eq!(ledger.record_approvals(&back, now_ms()).await.unwrap(), orders);
    all
}

fn approval(payment: PaymentId, secret: &str) -> Approval {
    Approval { payment, secret: secret.into(), code: "pg".into() }
}

fn confirm(payment: PaymentId) -> Begin {
    Begin { payment, kind: AttemptKind::Confirm }
}

fn captured(payment: PaymentId, minor: i64) -> Captured {
    let money = Money::new(minor, Currency::KRW).unwrap();
    Captured { payment, reference: "A1".into(), money, actor: Actor::Worker }
}

async fn state(ledger: &Ledger, order: OrderId) -> OrderState {
    ledger.order(order).await.unwrap().unwrap().state
}

async fn confirming(ledger: &Ledger, deal: DealId, n: usize) -> Vec<(OrderId, PaymentId)> {
    let all = authorized(ledger, deal, n).await;
    let begins: Vec<_> = all.iter().map(|(_, payment)| confirm(*payment)).collect();
    let begun = ledger.begin_attempts(&begins, now_ms()).await.unwrap();
    assert!(begun.iter().all(Option::is_some));
    let finishes: Vec<_> = begun
        .into_iter()
        .flatten()
        .map(|attempt| Finish { attempt, outcome: "settled".into(), detail: "ü".repeat(2_000) })
        .collect();
    ledger.finish_attempts(&finishes, now_ms()).await.unwrap();
    ledger.finish_attempts(&finishes, now_ms() + 1).await.unwrap();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_writes_what_one_by_one_would_write() {
    let ledger = ledger().await;
    let (one, many) = (deal(&ledger, 10, 10).await, deal(&ledger, 10, 10).await);
    for (_, payment) in confirming(&ledger, one, 3).await {
        let amount = Money::new(1_000, Currency::KRW).unwrap();
        let capture = ledger.settle_captured(payment, "A1", amount, Actor::Worker, now_ms()).await.unwrap();
        assert_eq!(capture, Capture::Paid);
    }
    let batch: Vec<_> = confirming(&ledger, many, 3).await.iter().map(|(_, p)| captured(*p, 1_000)).collect();
    assert_eq!(ledger.settle_many(&batch, now_ms()).await.unwrap(), [true, true, true]);
    // Again: settled before, and nothing happens twice.
    assert_eq!(ledger.settle_many(&batch, now_ms()).await.unwrap(), [false, false, false]);
    let [one_deal, many_deal] = [ledger.deal(one).await.unwrap().unwrap(), ledger.deal(many).await.unwrap().unwrap()];
    assert_eq!((many_deal.held, many_deal.sold), (one_deal.held, one_deal.sold));
    assert_eq!((many_deal.held, many_deal.sold), (0, 3));
    let told = ledger.claim_outbox(100, 1_000, now_ms()).await.unwrap();
    let of = |deal| {
        let mut seen: Vec<_> =
            told.iter().filter(|e| e.deal == deal).map(|e| (e.kind, e.quantity, e.epoch, e.lease_number)).collect();
        seen.sort_by_key(|(_, quantity, ..)| *quantity);
        seen
    };
    assert_eq!(of(many), of(one));
    assert_eq!(of(many).len(), 3);
    assert_eq!(ledger.verify().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_plain_case_is_left_alone_and_the_rest_is_settled() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 10, 10).await;
    let all = confirming(&ledger, deal, 3).await;
    let [(good, first), (other_sum, second), (ended, third)] = all[..] else { panic!("three") };
    let from = PaymentState::Confirming;
    assert!(ledger.settle_ended(third, from, Ended::Declined, "no", "no", now_ms()).await.unwrap());
    let unknown = PaymentId::new();
    let batch = [
        captured(second, 999),
        captured(first, 1_000),
        captured(first, 1_000),
        captured(third, 1_000),
        captured(unknown, 1_000),
    ];
    assert_eq!(ledger.settle_many(&batch, now_ms()).await.unwrap(), [false, true, false, false, false]);
    assert_eq!(state(&ledger, good).await, OrderState::Paid);
    assert_eq!(state(&ledger, other_sum).await, OrderState::Paying, "another sum is for the single way to judge");
    assert_eq!(state(&ledger, ended).await, OrderState::Released, "and so is late money");
    assert_eq!(ledger.verify().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_confirms_of_one_payment_one_is_begun() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 10, 10).await;
    let [(_, first), (_, second)] = authorized(&ledger, deal, 2).await[..] else { panic!("two") };
    let query = Begin { payment: first, kind: AttemptKind::Query };
    let batch = [confirm(first), confirm(first), confirm(second), query, query];
    let begun = ledger.begin_attempts(&batch, now_ms()).await.unwrap();
    assert_eq!(begun.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, true, true]);
    let again = ledger.begin_attempts(&batch[..3], now_ms()).await.unwrap();
    assert_eq!(again, [None, None, None], "the payments are being confirmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_meet_do_not_lose_and_do_not_double() {
    let ledger = ledger().await;
    let deals = [deal(&ledger, 40, 40).await, deal(&ledger, 40, 40).await];
    let mut all = confirming(&ledger, deals[0], 20).await;
    all.extend(confirming(&ledger, deals[1], 20).await);
    let batch: Vec<_> = all.iter().map(|(_, payment)| captured(*payment, 1_000)).collect();
    let backwards: Vec<_> = batch.iter().rev().cloned().collect();
    for _ in 0..2 {
        let (one, two) = tokio::join!(ledger.settle_many(&batch, now_ms()), ledger.settle_many(&backwards, now_ms()));
        for paid in [one, two] {
            assert!(paid.is_ok() || paid.as_ref().is_err_and(LedgerError::is_safe_to_retry), "{paid:?}");
        }
    }
    for deal in deals {
        let deal = ledger.deal(deal).await.unwrap().unwrap();
        assert_eq!((deal.held, deal.sold), (0, 20));
    }
    assert_eq!(ledger.verify().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_return_with_a_wrong_secret_changes_and_tells_nothing() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 10, 10).await;
    let account = account(&ledger).await;
    let order = held(&ledger, deal, account).await;
    let s = start(order, account);
    ledger.start_payment(&s, now_ms(), &idem("p", 1), saved).await.unwrap();
    ledger.prepared(s.payment, &session(), AccountOf::Shop, now_ms()).await.unwrap();
    let batch = [approval(s.payment, "guess"), approval(PaymentId::new(), "s3cret")];
    assert_eq!(ledger.record_approvals(&batch, now_ms()).await.unwrap(), [None, None]);
    let seen = ledger.order(order).await.unwrap().unwrap().payment.unwrap();
    assert_eq!(seen.state, "ready");
    let batch = [approval(s.payment, "guess"), approval(s.payment, "s3cret")];
    assert_eq!(ledger.record_approvals(&batch, now_ms()).await.unwrap(), [None, Some(order)]);
}
