//! Money that comes late, goes back in parts, or does not fit: the store's side of the purchase, on a real PostgreSQL.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use ledger::purchase::Refusal;
use ledger::*;
use service_kit::clock::now_ms;
use service_kit::ids::*;
use service_kit::money::{Currency, Money};
use support::*;

fn won(minor: i64) -> Money {
    Money::new(minor, Currency::KRW).unwrap()
}

/// An order whose payment ended without money.
async fn ended(ledger: &Ledger, deal: DealId, a: AccountId, how: Ended) -> (OrderId, PaymentId) {
    let order = held(ledger, deal, a).await;
    let s = start(order, a);
    ledger.start_payment(&s, now_ms(), &idem(&s.payment.to_string(), 1), saved).await.unwrap();
    assert!(ledger.settle_ended(s.payment, PaymentState::Requested, how, "code", "message", now_ms()).await.unwrap());
    (order, s.payment)
}

async fn state(ledger: &Ledger, order: OrderId) -> OrderState {
    ledger.order(order).await.unwrap().unwrap().state
}

async fn units(ledger: &Ledger, deal: DealId) -> (i64, i64, i64) {
    let deal = ledger.deal(deal).await.unwrap().unwrap();
    (deal.available(), deal.held, deal.sold)
}

async fn clean(ledger: &Ledger) {
    assert_eq!(ledger.verify().await.unwrap(), []);
}

async fn ask(
    ledger: &Ledger,
    order: OrderId,
    by: RefundBy,
    amount_minor: Option<i64>,
    units: Option<i64>,
) -> Replay<RefundRefusal> {
    let request = RequestRefund { refund: RefundId::new(), order, by, amount_minor, units, reason: "why".into() };
    ledger.request_refund(&request, now_ms(), &idem(&request.refund.to_string(), 1), saved).await.unwrap()
}

/// The one refund that is due, sent and answered.
async fn give_back(ledger: &Ledger) -> RefundWork {
    let work = ledger.claim_due_refunds("kakaopay", now_ms(), 10, 1_000).await.unwrap();
    assert_eq!(work.len(), 1);
    let work = work.into_iter().next().unwrap();
    assert!(ledger.begin_attempt(work.payment, AttemptKind::Refund, Some(work.id), now_ms()).await.unwrap().is_some());
    assert!(ledger.refund_done(work.id, "R", now_ms()).await.unwrap());
    work
}

#[tokio::test(flavor = "multi_thread")]
async fn late_money_takes_the_unit_that_is_still_there() {
    let ledger = ledger().await;
    let (deal, a) = (deal(&ledger, 1, 1).await, account(&ledger).await);
    let (order, payment) = ended(&ledger, deal, a, Ended::Expired).await;
    assert_eq!(units(&ledger, deal).await, (1, 0, 0));
    let late = ledger.settle_captured(payment, "A", won(1_000), Actor::Webhook, now_ms()).await.unwrap();
    assert_eq!((late, state(&ledger, order).await), (Capture::Paid, OrderState::Paid));
    assert_eq!(units(&ledger, deal).await, (0, 0, 1));
    let events = ledger.claim_outbox(10, 1_000, now_ms()).await.unwrap();
    let last = events.last().unwrap();
    assert_eq!((last.kind, last.quantity), (OutboxKind::OrderPaidLate, 1));
    assert_eq!(
        ledger.settle_captured(payment, "A", won(1_000), Actor::Worker, now_ms()).await.unwrap(),
        Capture::Already
    );
    clean(&ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_money_for_a_unit_that_is_gone_goes_back_by_itself() {
    let ledger = ledger().await;
    let (deal, a, b) = (deal(&ledger, 1, 1).await, account(&ledger).await, account(&ledger).await);
    let (order, payment) = ended(&ledger, deal, a, Ended::Expired).await;
    let other = held(&ledger, deal, b).await;
    pay(&ledger, other, b).await;
    let late = ledger.settle_captured(payment, "A", won(1_000), Actor::Worker, now_ms()).await.unwrap();
    assert_eq!((late, state(&ledger, order).await), (Capture::GoesBack, OrderState::Refunding));
    clean(&ledger).await;
    assert_eq!(give_back(&ledger).await.amount, won(1_000));
    assert_eq!(state(&ledger, order).await, OrderState::Refunded);
    assert_eq!(units(&ledger, deal).await, (0, 0, 1), "the other one's unit stays");
    clean(&ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_money_and_the_last_unit_go_to_one_of_two() {
    let ledger = ledger().await;
    for _ in 0..20 {
        let (deal, a, b) = (deal(&ledger, 1, 1).await, account(&ledger).await, account(&ledger).await);
        let (_, payment) = ended(&ledger, deal, a, Ended::Expired).await;
        let hold = [hold(deal, b, 1, "k")];
        let (late, held) = tokio::join!(
            ledger.settle_captured(payment, "A", won(1_000), Actor::Worker, now_ms()),
            ledger.place_holds(&hold, now_ms())
        );
        let (late, held) = (late.unwrap(), held.unwrap().remove(0));
        match late {
            Capture::Paid => assert_eq!(held, HoldOutcome::SoldOut),
            Capture::GoesBack => assert!(matches!(held, HoldOutcome::Placed(_))),
            other => panic!("{other:?}"),
        }
    }
    clean(&ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_goes_back_in_parts_and_never_more_than_came() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 5, 5).await;
    let a = account(&ledger).await;
    let order = held(&ledger, deal, a).await;
    pay(&ledger, order, a).await;
    let merchant = ledger.deal(deal).await.unwrap().unwrap().merchant;
    let by = RefundBy::Merchant(merchant);
    assert_eq!(
        ask(&ledger, order, RefundBy::Merchant(MerchantId::new()), None, None).await,
        Replay::Refused(RefundRefusal::NotFound)
    );
    assert_eq!(
        ask(&ledger, order, by, Some(1_001), None).await,
        Replay::Refused(RefundRefusal::Amount { left_minor: 1_000 })
    );
    assert!(matches!(ask(&ledger, order, by, Some(300), None).await, Replay::Fresh(_)));
    assert!(
        matches!(ask(&ledger, order, by, Some(900), None).await, Replay::Fresh(_)),
        "one at a time: the running one is the answer"
    );
    clean(&ledger).await;
    let first = give_back(&ledger).await;
    assert_eq!((first.amount, first.refunded_before_minor), (won(300), 0));
    assert_eq!(state(&ledger, order).await, OrderState::PartlyRefunded);
    assert_eq!(units(&ledger, deal).await, (4, 0, 1), "money alone brings no unit back");
    assert_eq!(
        ask(&ledger, order, by, Some(701), None).await,
        Replay::Refused(RefundRefusal::Amount { left_minor: 700 })
    );
    assert!(matches!(ask(&ledger, order, RefundBy::Shopper(a), None, None).await, Replay::Fresh(_)));
    let second = give_back(&ledger).await;
    assert_eq!((second.amount, second.refunded_before_minor), (won(700), 300));
    assert_eq!((state(&ledger, order).await, units(&ledger, deal).await), (OrderState::Refunded, (5, 0, 0)));
    clean(&ledger).await;

    let returned: Vec<i64> = ledger
        .claim_outbox(100, 1_000, now_ms())
        .await
        .unwrap()
        .iter()
        .filter(|e| e.kind == OutboxKind::OrderReturned)
        .map(|e| e.quantity)
        .collect();
    assert_eq!(returned, [1], "Redis hears of the unit once");
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_refunds_at_once_give_the_money_back_once() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 1, 1).await;
    let a = account(&ledger).await;
    let order = held(&ledger, deal, a).await;
    pay(&ledger, order, a).await;
    let burst: Vec<_> = (0..30)
        .map(|_| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ask(&ledger, order, RefundBy::Shopper(a), None, None).await })
        })
        .collect();
    for asked in burst {
        assert!(matches!(asked.await.unwrap(), Replay::Fresh(_)));
    }
    give_back(&ledger).await;
    assert!(ledger.claim_due_refunds("kakaopay", now_ms(), 10, 1_000).await.unwrap().is_empty());
    clean(&ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_the_provider_takes_back_is_for_an_operator() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 1, 1).await;
    let a = account(&ledger).await;
    let order = held(&ledger, deal, a).await;
    pay(&ledger, order, a).await;
    ask(&ledger, order, RefundBy::Shopper(a), None, None).await;
    let refund = give_back(&ledger).await.id;
    assert!(ledger.refund_reversed(refund, "lost", "the bank sent it back", now_ms()).await.unwrap());
    assert!(!ledger.refund_reversed(refund, "lost", "again", now_ms()).await.unwrap());
    assert_eq!(state(&ledger, order).await, OrderState::Quarantined);
    assert_eq!(units(&ledger, deal).await, (1, 0, 0), "nobody takes the unit from the next one");
    clean(&ledger).await;
    let waiting = ledger.waiting_for_operator(10).await.unwrap();
    assert_eq!((waiting.len(), waiting[0].order, waiting[0].reason.as_deref()), (1, order, Some("refund_reversed")));
    let again =
        ledger.decide(order, Decision::GiveBack(1_000), "kim", "once more", now_ms()).await.unwrap().unwrap().unwrap();
    assert_eq!(again.order, OrderState::Refunding);
    give_back(&ledger).await;
    assert_eq!(state(&ledger, order).await, OrderState::Refunded);
    clean(&ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_refunds_of_one_payment_are_taken_back() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 1, 1).await;
    let a = account(&ledger).await;
    let order = held(&ledger, deal, a).await;
    let payment = pay(&ledger, order, a).await;
    for amount_minor in [300, 200] {
        ask(&ledger, order, RefundBy::Operator, Some(amount_minor), None).await;
        give_back(&ledger).await;
    }
    let done = ledger.done_refunds(payment, 10).await.unwrap();
    let figures: Vec<_> = done.iter().map(|r| (r.amount, r.refunded_before_minor, r.captured)).collect();
    assert_eq!(
        figures,
        [(won(200), 300, won(1_000)), (won(300), 200, won(1_000))],
        "newest first, and the others' sum"
    );
    assert_eq!(ledger.done_refunds(payment, 1).await.unwrap().len(), 1);
    for (refund, left_minor) in done.iter().zip([300, 0]) {
        assert!(ledger.refund_reversed(refund.id, "lost", "the bank sent it back", now_ms()).await.unwrap());
        let order = ledger.order(order).await.unwrap().unwrap();
        assert_eq!((order.state, order.refunded_minor), (OrderState::Quarantined, left_minor));
        clean(&ledger).await;
    }
    assert!(ledger.done_refunds(payment, 10).await.unwrap().is_empty());
    let decided = ledger.decide(order, Decision::GiveBack(1_000), "kim", "once more", now_ms()).await;
    assert_eq!(decided.unwrap().unwrap().unwrap().order, OrderState::Refunding);
    assert_eq!(give_back(&ledger).await.amount, won(1_000));
    assert_eq!((state(&ledger, order).await, units(&ledger, deal).await), (OrderState::Refunded, (1, 0, 0)));
    clean(&ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_a_quarantine_in_each_way() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 10, 10).await;
    let a = account(&ledger).await;
    let mut orders = Vec::new();
    for n in 0..3 {
        let order = held(&ledger, deal, a).await;
        let s = start(order, a);
        ledger.start_payment(&s, now_ms(), &idem(&format!("p{n}"), 1), saved).await.unwrap();
        assert!(ledger.prepared(s.payment, &session(), AccountOf::Shop, now_ms()).await.unwrap());
        let back = Return::Approved { code: "pg".into() };
        ledger.record_return(s.payment, "s3cret", &back, now_ms()).await.unwrap();
        ledger.begin_attempt(s.payment, AttemptKind::Confirm, None, now_ms()).await.unwrap().unwrap();
        let wrong = ledger.settle_captured(s.payment, "A", won(999), Actor::Worker, now_ms()).await.unwrap();
        assert_eq!((wrong, state(&ledger, order).await), (Capture::Mismatch, OrderState::Quarantined));
        orders.push((order, s.payment));
    }
    assert_eq!(ledger.waiting_counts().await.unwrap(), [("order", 3), ("payment", 3), ("refund", 0)]);
    assert_eq!(units(&ledger, deal).await, (7, 3, 0));
    assert!(
        ledger.claim_due_payments("kakaopay", now_ms() + 60_000, 10, 1).await.unwrap().is_empty(),
        "no worker takes them"
    );
    assert!(ledger.decide(OrderId::new(), Decision::AskAgain, "kim", "?", now_ms()).await.unwrap().is_none());

    let decide =
        async |order, decision| ledger.decide(order, decision, "kim", "looked", now_ms()).await.unwrap().unwrap();
    assert_eq!(decide(orders[0].0, Decision::AskAgain).await.unwrap().order, OrderState::Paying);
    assert_eq!(ledger.claim_due_payments("kakaopay", now_ms() + 1, 10, 1).await.unwrap().len(), 1, "asked again");
    let right = ledger.settle_captured(orders[0].1, "A", won(1_000), Actor::Worker, now_ms()).await.unwrap();
    assert_eq!(right, Capture::Paid);

    assert_eq!(decide(orders[1].0, Decision::CloseWithoutMoney).await.unwrap().order, OrderState::Released);
    assert_eq!(decide(orders[2].0, Decision::GiveBack(999)).await.unwrap().order, OrderState::Refunding);
    assert_eq!(give_back(&ledger).await.amount, won(999), "what the provider has, not what it should have");
    assert_eq!(state(&ledger, orders[2].0).await, OrderState::Refunded);
    assert_eq!(units(&ledger, deal).await, (9, 0, 1));
    assert_eq!(decide(orders[2].0, Decision::AskAgain).await, Err(Refusal::NotNow(OrderState::Refunded)));
    clean(&ledger).await;

    ledger.seal().await.unwrap();
    clean(&ledger).await;
    let story = ledger.story(orders[2].0).await.unwrap();
    let hands: Vec<(&str, &str)> = story.iter().map(|line| (line.who.as_str(), line.what.as_str())).collect();
    assert!(hands.contains(&("operator", "quarantined → refunding (given_back_by_operator)")), "{hands:?}");
    assert!(hands.contains(&("worker", "paying → quarantined (figures_differ)")), "{hands:?}");
    assert!(story.windows(2).all(|pair| pair[0].at_ms <= pair[1].at_ms));
    assert!(ledger.story(OrderId::new()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shopper_has_the_deals_time_for_a_refund() {
    let (ledger, url) = ledger_and_url().await;
    let deal = deal(&ledger, 1, 1).await;
    let a = account(&ledger).await;
    let order = held(&ledger, deal, a).await;
    pay(&ledger, order, a).await;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("UPDATE deal SET shopper_refund_ms = 0").await.unwrap();
    assert_eq!(ask(&ledger, order, RefundBy::Shopper(a), None, None).await, Replay::Refused(RefundRefusal::TooLate));
    assert!(matches!(ask(&ledger, order, RefundBy::Operator, None, None).await, Replay::Fresh(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn stuck_units_are_named_with_their_reason() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 10, 10).await;
    let a = account(&ledger).await;
    held(&ledger, deal, a).await;
    let paying = held(&ledger, deal, a).await;
    ledger.start_payment(&start(paying, a), now_ms(), &idem("p", 1), saved).await.unwrap();
    assert_eq!(ledger.stranded(now_ms(), 60_000).await.unwrap(), []);
    let later = now_ms() + 60_000 + 60_001;
    let found: Vec<(String, i64)> =
        ledger.stranded(later, 60_000).await.unwrap().into_iter().map(|s| (s.reason, s.units)).collect();
    assert_eq!(found, [("hold_not_released".to_owned(), 1), ("payment_requested".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_written_once_until_it_is_settled() {
    let ledger = ledger().await;
    let found = async || {
        ledger.found_discrepancy("toss", DiscrepancyClass::TheirsOnly, "ref", None, "figures", now_ms()).await.unwrap()
    };
    assert!(found().await);
    assert!(!found().await);
    let open = ledger.open_discrepancies(10).await.unwrap();
    assert_eq!((open.len(), open[0].class.as_str(), open[0].reference.as_str()), (1, "theirs_only", "ref"));
    assert!(ledger.close_discrepancy(open[0].id, false, "kim", now_ms()).await.unwrap());
    assert!(!ledger.close_discrepancy(open[0].id, true, "kim", now_ms()).await.unwrap());
    assert!(found().await, "it came back: that is news");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moved_is_compared_again_once_and_the_oldest_first() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 5, 5).await;
    let a = account(&ledger).await;
    let began_ms = now_ms();
    let mut paid = Vec::new();
    for _ in 0..3 {
        let order = held(&ledger, deal, a).await;
        paid.push(pay(&ledger, order, a).await);
    }
    held(&ledger, deal, a).await;
    let later = now_ms() + 10_001;
    let again = async |limit, now_ms| ledger.recheck_moved("kakaopay", began_ms, limit, now_ms).await.unwrap();
    assert_eq!(again(9, now_ms()).await, 0, "they may still move");
    assert_eq!(ledger.recheck_moved("toss", began_ms, 9, later).await.unwrap(), 0, "another provider's");
    assert_eq!(ledger.recheck_moved("kakaopay", later, 9, later).await.unwrap(), 0, "before the window");
    assert_eq!(again(2, later).await, 2);
    let mut due = Vec::new();
    for work in ledger.claim_due_payments("kakaopay", later, 9, 1).await.unwrap() {
        assert!(work.is_recheck);
        ledger.recheck_done(work.id).await.unwrap();
        due.push(work.id);
    }
    due.sort();
    let mut oldest = paid[..2].to_vec();
    oldest.sort();
    assert_eq!(due, oldest);
    assert_eq!((again(2, later).await, again(2, later).await), (1, 0), "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_refund_is_a_move() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 1, 1).await;
    let a = account(&ledger).await;
    let began_ms = now_ms();
    let order = held(&ledger, deal, a).await;
    let payment = pay(&ledger, order, a).await;
    let compared_ms = now_ms() + 20_000;
    assert_eq!(ledger.recheck_moved("kakaopay", began_ms, 9, compared_ms).await.unwrap(), 1);
    ledger.recheck_done(payment).await.unwrap();
    ask(&ledger, order, RefundBy::Operator, None, None).await;
    let work = ledger.claim_due_refunds("kakaopay", now_ms(), 10, 1_000).await.unwrap().remove(0);
    let ended_ms = compared_ms + 1;
    assert!(ledger.refund_done(work.id, "R", ended_ms).await.unwrap());
    let again = async |now_ms| ledger.recheck_moved("kakaopay", began_ms, 9, now_ms).await.unwrap();
    assert_eq!((again(ended_ms + 10_000).await, again(ended_ms + 10_001).await), (0, 1), "once it has settled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_is_named_again_and_again_is_compared_once() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 1, 1).await;
    let a = account(&ledger).await;
    let order = held(&ledger, deal, a).await;
    let payment = pay(&ledger, order, a).await;
    let (since_ms, now_ms) = (now_ms() + 60_000, now_ms() + 120_000);
    let named = async |since_ms, now_ms| {
        let named = ledger.recheck_once(&[payment, PaymentId::new()], since_ms, 9, now_ms).await.unwrap();
        ledger.recheck_done(payment).await.unwrap();
        named
    };
    assert_eq!(named(since_ms, now_ms - 115_000).await, 0, "it may still move");
    assert_eq!(named(since_ms, now_ms).await, 1);
    assert_eq!(named(since_ms + 1_000, now_ms + 1_000).await, 0);
    assert_eq!(named(now_ms - 1, now_ms + 59_999).await, 0, "compared since then");
    assert_eq!(named(now_ms, now_ms + 60_000).await, 1, "a window later");
}

/// A worker whose clock ran an hour ahead died with its leases: nobody waits for that hour.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_by_a_clock_that_ran_ahead_counts_as_over() {
    const LEASE_MS: i64 = 5_000;
    let ledger = ledger().await;
    let (deal, a) = (deal(&ledger, 2, 2).await, account(&ledger).await);
    let paid = held(&ledger, deal, a).await;
    let payment = pay(&ledger, paid, a).await;
    let ahead_ms = now_ms() + 3_600_000;
    let payments = async |now_ms| ledger.claim_due_payments("kakaopay", now_ms, 9, LEASE_MS).await.unwrap().len();
    let refunds = async |now_ms| ledger.claim_due_refunds("kakaopay", now_ms, 9, LEASE_MS).await.unwrap().len();

    ledger.recheck(payment, now_ms()).await.unwrap();
    assert_eq!((payments(ahead_ms).await, payments(ahead_ms).await), (1, 0), "by the same clock it holds");
    assert_eq!((payments(now_ms()).await, payments(now_ms()).await), (1, 0), "a comparison");
    ledger.recheck_done(payment).await.unwrap();
    let paying = held(&ledger, deal, a).await;
    ledger.start_payment(&start(paying, a), now_ms(), &idem("paying", 1), saved).await.unwrap();
    assert_eq!((payments(ahead_ms).await, payments(now_ms()).await, payments(now_ms()).await), (1, 1, 0), "a payment");
    ask(&ledger, paid, RefundBy::Operator, None, None).await;
    assert_eq!((refunds(ahead_ms).await, refunds(now_ms()).await, refunds(now_ms()).await), (1, 1, 0), "a refund");
}
