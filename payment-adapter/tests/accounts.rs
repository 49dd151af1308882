//! Whose account a payment is made with, whatever the configuration says later; and what an operator decided stands.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use ledger::*;
use service_kit::clock::now_ms;
use service_kit::ids::MerchantId;
use support::{Bench, PRICE};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

async fn merchant(bench: &Bench) -> MerchantId {
    bench.ledger.deal(bench.deal).await.unwrap().unwrap().merchant
}

#[tokio::test]
async fn a_payment_stays_with_the_shops_account_when_the_merchant_gets_one() {
    let mut bench = Bench::open().await;
    let bought = bench.buy().await;
    bench.until_payment(&bought, "ready").await;
    bench.kill_workers().await;
    bench.give_account(merchant(&bench).await, NOWHERE);
    bench.hire();
    bench.go_back(&bought, "pay").await;
    bench.until_order(&bought, OrderState::Paid).await;
    bench.refund(&bought).await;
    bench.until_order(&bought, OrderState::Refunded).await;
    // What begins now goes to the merchant's own, which nobody answers for.
    let next = bench.buy().await;
    bench.until("a try", || async { !bench.attempts(&next, "prepare").await.is_empty() }).await;
    assert_eq!(bench.payment_state(&next).await, "requested");
    bench.audit().await;
}

#[tokio::test]
async fn a_payment_is_asked_about_nowhere_else_when_the_merchants_account_is_gone() {
    let mut bench = Bench::new(2_000).await;
    let shops = bench.provider.clone();
    bench.give_account(merchant(&bench).await, &shops);
    bench.hire();
    let bought = bench.buy().await;
    bench.until_payment(&bought, "ready").await;
    bench.kill_workers().await;
    bench.take_accounts();
    bench.hire();
    bench.go_back(&bought, "pay").await;
    bench.until("the payment to be put off", || async { bench.due_later(&bought).await }).await;
    assert_eq!(bench.payment_state(&bought).await, "authorized");
    assert_eq!(bench.attempts(&bought, "confirm").await, [], "the shop's account was not asked");
    // The account is back.
    bench.kill_workers().await;
    bench.give_account(merchant(&bench).await, &shops);
    bench.pass_time(31_000);
    bench.hire();
    bench.until_order(&bought, OrderState::Paid).await;
    bench.audit().await;
}

#[tokio::test]
async fn whose_account_it_is_is_written_once() {
    let bench = Bench::open().await;
    let bought = bench.buy().await;
    bench.until_payment(&bought, "ready").await;
    let change = "UPDATE payment SET account_of = 'merchant' WHERE id = $1";
    let refused = bench.sql().await.execute(change, &[&bought.payment.0]).await.unwrap_err();
    assert!(refused.as_db_error().unwrap().message().contains("never changes"), "{refused:?}");
}

#[tokio::test]
async fn a_payment_that_no_account_takes_ends_and_frees_its_units() {
    let mut bench = Bench::new(2_000).await;
    // Another merchant has the only account there.
    bench.give_toss_only_to(MerchantId::new());
    bench.hire();
    let bought = bench.buy_with("toss").await;
    bench.until("the payment to be put off", || async { bench.due_later(&bought).await }).await;
    assert_eq!(bench.payment_state(&bought).await, "requested");
    bench.pass_time(121_000);
    bench.until_order(&bought, OrderState::Released).await;
    assert_eq!(bench.order(&bought).await.reason.as_deref(), Some("payment_declined"));
    bench.audit().await;
}

/// The provider took another sum than the order's: the operator gives that sum back, and a later look finds nothing new.
#[tokio::test]
async fn money_that_an_operator_gave_back_is_no_news() {
    let bench = Bench::open().await;
    bench.fault("approve", "wrong-amount", 1).await;
    let bought = bench.buy_and_pay().await;
    bench.until_order(&bought, OrderState::Quarantined).await;
    let theirs = bench.provider_ledger().await["payments"][0]["captured"].as_i64().unwrap();
    assert_ne!(theirs, PRICE);
    decide(&bench, &bought, Decision::GiveBack(theirs)).await;
    bench.until_order(&bought, OrderState::Refunded).await;
    look_again(&bench, &bought).await;
    assert_eq!(bench.order(&bought).await.state, OrderState::Refunded);
    assert_eq!(bench.ledger.verify().await.unwrap(), []);
}

/// The operator knows that the figures differ, and ended the order all the same.
#[tokio::test]
async fn an_order_that_an_operator_closed_stays_closed() {
    let bench = Bench::open().await;
    bench.fault("approve", "wrong-amount", 1).await;
    let bought = bench.buy_and_pay().await;
    bench.until_order(&bought, OrderState::Quarantined).await;
    decide(&bench, &bought, Decision::CloseWithoutMoney).await;
    look_again(&bench, &bought).await;
    assert_eq!(bench.order(&bought).await.state, OrderState::Released);
    assert_eq!(bench.ledger.verify().await.unwrap(), []);
}

async fn decide(bench: &Bench, bought: &support::Bought, decision: Decision) {
    let decided = bench.ledger.decide(bought.order, decision, "ops", "the provider says so", now_ms()).await;
    decided.unwrap().expect("it is there").expect("it may be");
}

/// Has the ended payment compared with the provider, and waits until that is done.
async fn look_again(bench: &Bench, bought: &support::Bought) {
    let asked = bench.attempts(bought, "query").await.len();
    bench.ledger.recheck(bought.payment, now_ms()).await.unwrap();
    let over = "SELECT recheck_at_ms IS NULL FROM payment WHERE id = $1";
    let is_over = || async { bench.sql().await.query_one(over, &[&bought.payment.0]).await.unwrap().get::<_, bool>(0) };
    bench.until("the look", is_over).await;
    assert!(bench.attempts(bought, "query").await.len() > asked, "the provider was asked");
}
