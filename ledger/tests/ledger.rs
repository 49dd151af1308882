//! The final gate and the states of orders on a real PostgreSQL.
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
use service_kit::ids::*;
use service_kit::money::{Currency, Money};
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_batches_never_oversell() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 50, 1).await;
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let ledger = ledger.clone();
        tasks.push(tokio::spawn(async move {
            let mut batch = Vec::new();
            for _ in 0..10 {
                batch.push(hold(deal, account(&ledger).await, 1, "k"));
            }
            ledger.place_holds(&batch, now_ms()).await.unwrap()
        }));
    }
    let mut placed = 0;
    for task in tasks {
        for outcome in task.await.unwrap() {
            match outcome {
                HoldOutcome::Placed(_) => placed += 1,
                HoldOutcome::SoldOut => {}
                other => panic!("{other:?}"),
            }
        }
    }
    let after = ledger.deal(deal).await.unwrap().unwrap();
    assert_eq!((placed, after.held, after.available()), (50, 50, 0));
    assert_eq!(ledger.verify().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_batch_knows_its_own_entries() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 3, 2).await;
    let (a, b) = (account(&ledger).await, account(&ledger).await);
    let again = hold(deal, a, 1, "same");
    let batch = vec![
        hold(deal, a, 1, "same"),
        again,
        hold(deal, a, 2, "same"),
        hold(deal, a, 2, "more"),
        hold(deal, b, 3, "limit"),
        hold(deal, b, 2, "ok"),
        hold(deal, a, 1, "none left"),
        hold(DealId::new(), a, 1, "no such deal"),
    ];
    let outcomes = ledger.place_holds(&batch, now_ms()).await.unwrap();
    use HoldOutcome::*;
    assert!(matches!(&outcomes[0], Placed(o) if o.id == batch[0].order));
    assert!(matches!(&outcomes[1], Existing(o) if o.id == batch[0].order), "same key, same request: the first order");
    assert_eq!(outcomes[2], KeyReused);
    assert_eq!(outcomes[3], PerUserLimit);
    assert_eq!(outcomes[4], SoldOut);
    assert!(matches!(&outcomes[5], Placed(_)));
    assert_eq!(outcomes[6], SoldOut);
    assert_eq!(outcomes[7], WrongEpoch);
    assert_eq!(ledger.verify().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn late_wrong_and_fenced_holds_are_refused() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 5, 5).await;
    let a = account(&ledger).await;
    let now = now_ms();
    let mut late = hold(deal, a, 1, "late");
    late.confirm_by_ms = now - 1;
    let mut cheap = hold(deal, a, 2, "cheap");
    cheap.amount = Money::new(1, Currency::KRW).unwrap();
    assert_eq!(
        ledger.place_holds(&[late, cheap], now).await.unwrap(),
        [HoldOutcome::Expired, HoldOutcome::WrongAmount]
    );
    let before = hold(deal, a, 1, "before the refill");
    let snapshot = ledger.load_deal(deal).await.unwrap().unwrap();
    assert_eq!(snapshot.deal.epoch, 1);
    assert_eq!(ledger.place_holds(&[before], now).await.unwrap(), [HoldOutcome::WrongEpoch]);
    let mut after = hold(deal, a, 1, "after the refill");
    after.epoch = 1;
    assert!(matches!(ledger.place_holds(&[after], now).await.unwrap()[0], HoldOutcome::Placed(_)));
    assert_eq!(ledger.load_deal(deal).await.unwrap().unwrap().bought, [(a, 1)]);
}

/// A shopper with two passes who sends the same key for both at the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn one_key_for_two_deals_at_once_is_used_for_one() {
    let ledger = ledger().await;
    let (one, other, shopper) = (deal(&ledger, 99, 99).await, deal(&ledger, 99, 99).await, account(&ledger).await);
    for turn in 0..60 {
        let key = format!("k{turn}");
        let asked = |deal, fingerprint| [NewHold { fingerprint: [fingerprint; 32], ..hold(deal, shopper, 1, &key) }];
        let batches = [asked(one, 1), asked(other, 2)];
        let place = async |batch: &[NewHold]| loop {
            match ledger.place_holds(batch, now_ms()).await {
                Ok(mut outcomes) => return outcomes.remove(0),
                Err(error) => assert!(error.is_safe_to_retry(), "turn {turn}: {error}"),
            }
        };
        let (first, second) = tokio::join!(place(&batches[0]), place(&batches[1]));
        let placed = [&first, &second].iter().filter(|o| matches!(o, HoldOutcome::Placed(_))).count();
        let reused = [&first, &second].iter().filter(|o| matches!(o, HoldOutcome::KeyReused)).count();
        assert_eq!((placed, reused), (1, 1), "turn {turn}: {first:?} {second:?}");
    }
    assert_eq!(ledger.verify().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_runs_out_once_and_never_while_paying() {
    let (ledger, url) = ledger_and_url().await;
    let deal = deal(&ledger, 2, 2).await;
    let a = account(&ledger).await;
    let (expiring, paying) = (held(&ledger, deal, a).await, held(&ledger, deal, a).await);
    let s = start(paying, a);
    ledger.start_payment(&s, now_ms(), &idem("p", 1), saved).await.unwrap();
    let later = now_ms() + 3_600_000;
    assert_eq!(ledger.expire_holds(later, 10).await.unwrap(), [], "a clock that runs ahead ends nothing early");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("UPDATE orders SET hold_expires_at_ms = created_at_ms").await.unwrap();
    let (one, two) = tokio::join!(ledger.expire_holds(later, 10), ledger.expire_holds(later, 10));
    let all: Vec<OrderId> = one.unwrap().into_iter().chain(two.unwrap()).collect();
    assert_eq!(all, [expiring], "once, and not the one that is being paid");
    assert_eq!(ledger.deal(deal).await.unwrap().unwrap().available(), 1);
    assert_eq!(ledger.claim_outbox(10, 1_000, later).await.unwrap().len(), 1);
    assert_eq!(ledger.verify().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_settled_once_and_refunded_once() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 1, 1).await;
    let a = account(&ledger).await;
    let order = held(&ledger, deal, a).await;
    let payment = pay(&ledger, order, a).await;
    let amount = Money::new(1_000, Currency::KRW).unwrap();
    assert_eq!(ledger.settle_captured(payment, "A1", amount, Actor::Worker, now_ms()).await.unwrap(), Capture::Already);
    assert!(
        !ledger
            .settle_ended(payment, PaymentState::Confirming, Ended::Declined, "late", "late failure", now_ms())
            .await
            .unwrap(),
        "a late failure changes nothing"
    );
    assert_eq!(ledger.order(order).await.unwrap().unwrap().state, OrderState::Paid);

    let refund = RequestRefund {
        refund: RefundId::new(),
        order,
        by: RefundBy::Shopper(a),
        amount_minor: None,
        units: None,
        reason: "changed my mind".into(),
    };
    let ahead = now_ms() + 3_600_000;
    assert!(matches!(ledger.request_refund(&refund, ahead, &idem("r", 1), saved).await.unwrap(), Replay::Fresh(_)));
    assert!(matches!(
        ledger.request_refund(&refund, now_ms(), &idem("r", 1), saved).await.unwrap(),
        Replay::Replayed(_)
    ));
    assert!(matches!(ledger.request_refund(&refund, now_ms(), &idem("r", 2), saved).await.unwrap(), Replay::KeyReused));
    let work = ledger.claim_due_refunds("kakaopay", now_ms(), 10, 1_000).await.unwrap();
    assert_eq!(work.len(), 1, "at once, although a clock that is an hour ahead asked for it");
    assert!(ledger.begin_attempt(payment, AttemptKind::Refund, Some(work[0].id), now_ms()).await.unwrap().is_some());
    assert!(ledger.refund_done(work[0].id, "A2", now_ms()).await.unwrap());
    assert!(!ledger.refund_done(work[0].id, "A2", now_ms()).await.unwrap());
    let after = ledger.deal(deal).await.unwrap().unwrap();
    assert_eq!((after.sold, after.available()), (0, 1), "the unit came back once");
    assert_eq!(ledger.verify().await.unwrap(), []);
    held(&ledger, deal, a).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_amount_settles_nothing() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 1, 1).await;
    let a = account(&ledger).await;
    let order = held(&ledger, deal, a).await;
    let s = start(order, a);
    ledger.start_payment(&s, now_ms(), &idem("p", 1), saved).await.unwrap();
    let wrong = Money::new(999, Currency::KRW).unwrap();
    assert_eq!(
        ledger.settle_captured(s.payment, "A", wrong, Actor::Worker, now_ms()).await.unwrap(),
        Capture::Mismatch
    );
    let kept = ledger.order(order).await.unwrap().unwrap();
    assert_eq!((kept.state, kept.reason.as_deref()), (OrderState::Quarantined, Some("figures_differ")));
    assert_eq!(ledger.deal(deal).await.unwrap().unwrap().held, 1, "the unit stays where it is");
    assert!(ledger.claim_due_payments("kakaopay", now_ms() + 1, 9, 1).await.unwrap().is_empty(), "no worker takes it");
    assert_eq!(ledger.verify().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_is_possible_until_money_may_move() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 3, 3).await;
    let a = account(&ledger).await;
    let order = held(&ledger, deal, a).await;
    let stranger = account(&ledger).await;
    let refused = ledger.cancel_order(order, stranger, now_ms(), &idem("c0", 1), saved).await.unwrap();
    assert_eq!(refused, Replay::Refused(CancelRefusal::NotFound));
    assert!(matches!(ledger.cancel_order(order, a, now_ms(), &idem("c1", 1), saved).await.unwrap(), Replay::Fresh(_)));
    assert!(matches!(
        ledger.cancel_order(order, a, now_ms(), &idem("c1", 1), saved).await.unwrap(),
        Replay::Replayed(_)
    ));

    let order = held(&ledger, deal, a).await;
    let s = start(order, a);
    ledger.start_payment(&s, now_ms(), &idem("p", 1), saved).await.unwrap();
    ledger.prepared(s.payment, &session(), AccountOf::Shop, now_ms()).await.unwrap();
    assert_eq!(ledger.record_return(s.payment, "guess", &Return::Cancelled, now_ms()).await.unwrap(), None);
    assert!(matches!(ledger.cancel_order(order, a, now_ms(), &idem("c2", 1), saved).await.unwrap(), Replay::Fresh(_)));
    let late =
        ledger.record_return(s.payment, "s3cret", &Return::Approved { code: "pg".into() }, now_ms()).await.unwrap();
    assert_eq!(late, Some(order), "the shopper still sees the order");
    assert!(
        ledger.begin_attempt(s.payment, AttemptKind::Confirm, None, now_ms()).await.unwrap().is_none(),
        "and nothing is charged"
    );

    let order = held(&ledger, deal, a).await;
    let s = start(order, a);
    ledger.start_payment(&s, now_ms(), &idem("p2", 1), saved).await.unwrap();
    ledger.prepared(s.payment, &session(), AccountOf::Shop, now_ms()).await.unwrap();
    ledger.record_return(s.payment, "s3cret", &Return::Approved { code: "pg".into() }, now_ms()).await.unwrap();
    ledger.begin_attempt(s.payment, AttemptKind::Confirm, None, now_ms()).await.unwrap();
    let refused = ledger.cancel_order(order, a, now_ms(), &idem("c3", 1), saved).await.unwrap();
    assert_eq!(refused, Replay::Refused(CancelRefusal::WrongState(OrderState::Paying)));
    assert_eq!(ledger.verify().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn due_payments_go_to_one_worker_each() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 20, 20).await;
    let a = account(&ledger).await;
    for n in 0..20 {
        let order = held(&ledger, deal, a).await;
        ledger.start_payment(&start(order, a), now_ms(), &idem(&format!("p{n}"), 1), saved).await.unwrap();
    }
    let now = now_ms();
    let (one, two) = tokio::join!(
        ledger.claim_due_payments("kakaopay", now, 15, 5_000),
        ledger.claim_due_payments("kakaopay", now, 15, 5_000)
    );
    let mut ids: Vec<PaymentId> = one.unwrap().into_iter().chain(two.unwrap()).map(|w| w.id).collect();
    ids.sort();
    ids.dedup();
    let rest = ledger.claim_due_payments("kakaopay", now, 50, 5_000).await.unwrap();
    assert_eq!(ids.len() + rest.len(), 20);
    assert!(ledger.claim_due_payments("kakaopay", now, 50, 5_000).await.unwrap().is_empty(), "all leased");
    assert_eq!(
        ledger.claim_due_payments("kakaopay", now + 5_001, 50, 5_000).await.unwrap().len(),
        20,
        "a dead worker's lease runs out"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_at_the_same_moment_has_one_effect() {
    let ledger = ledger().await;
    let deal = deal(&ledger, 1, 1).await;
    let a = account(&ledger).await;
    let order = held(&ledger, deal, a).await;
    let key = idem("twin", 1);
    let (s1, s2) = (start(order, a), start(order, a));
    let (one, two) = tokio::join!(
        ledger.start_payment(&s1, now_ms(), &key, saved),
        ledger.start_payment(&s2, now_ms(), &key, saved)
    );
    let fresh = [one.unwrap(), two.unwrap()].iter().filter(|r| matches!(r, Replay::Fresh(_))).count();
    assert_eq!(fresh, 1);
    assert_eq!(ledger.claim_due_payments("kakaopay", now_ms(), 10, 1).await.unwrap().len(), 1);
}

/// Every pair of states, tried on the database itself, is an edge of purchase.rs or refused; so is every beginning but `held`.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_knows_the_same_edges() {
    let (ledger, url) = ledger_and_url().await;
    let deal = deal(&ledger, 1, 1).await;
    let a = account(&ledger).await;
    let order = held(&ledger, deal, a).await;
    let s = start(order, a);
    ledger.start_payment(&s, now_ms(), &idem("p", 1), saved).await.unwrap();
    let (mut client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    // Only the edges are looked at here: the other constraints of these rows would refuse many pairs, too.
    client
        .batch_execute(
            "ALTER TABLE orders DROP CONSTRAINT orders_units_check; DROP INDEX payment_one_live;
             ALTER TABLE payment DROP CONSTRAINT payment_captured_has_money",
        )
        .await
        .unwrap();
    async fn allows(client: &mut tokio_postgres::Client, table: &str, id: uuid::Uuid, from: &str, to: &str) -> bool {
        let tx = client.transaction().await.unwrap();
        tx.batch_execute("SET LOCAL session_replication_role = replica").await.unwrap();
        tx.execute(&format!("UPDATE {table} SET state = $2 WHERE id = $1"), &[&id, &from]).await.unwrap();
        tx.batch_execute("SET LOCAL session_replication_role = origin").await.unwrap();
        tx.execute(&format!("UPDATE {table} SET state = $2 WHERE id = $1"), &[&id, &to]).await.is_ok()
    }
    for state in OrderState::ALL {
        // Two at once, of which one begins as it should.
        let copies = "INSERT INTO orders (id, deal_id, account_id, lease_number, quantity, held_units, amount_minor, currency, state,
                 idempotency_key, fingerprint, hold_expires_at_ms, created_at_ms, updated_at_ms, trace_id)
             SELECT gen_random_uuid(), deal_id, account_id, lease_number, quantity, held_units, amount_minor, currency, begins,
                 idempotency_key || begins || at, fingerprint, hold_expires_at_ms, created_at_ms, updated_at_ms, trace_id
             FROM orders, unnest(ARRAY['held', $2]) WITH ORDINALITY AS b(begins, at) WHERE id = $1";
        let tx = client.transaction().await.unwrap();
        let got = tx.execute(copies, &[&order.0, &state.as_str()]).await;
        assert_eq!(got.is_ok(), state == OrderState::Held, "an order that begins as {state:?}");
        if got.is_ok() {
            let events =
                "SELECT count(*) FROM order_event e JOIN orders o ON o.id = e.order_id WHERE o.created_at_ms = e.at_ms
                 AND e.from_state IS NULL AND e.to_state = 'held'";
            assert_eq!(tx.query_one(events, &[]).await.unwrap().get::<_, i64>(0), 3, "each has its first step");
        }
    }
    for from in OrderState::ALL {
        for to in OrderState::ALL {
            let expected = from == to || ledger::purchase::ORDER_EDGES.contains(&(from, to));
            let got = allows(&mut client, "orders", order.0, from.as_str(), to.as_str()).await;
            assert_eq!(got, expected, "order {from:?} to {to:?}");
        }
    }
    for from in PaymentState::ALL {
        for to in PaymentState::ALL {
            let expected = from == to || ledger::purchase::PAYMENT_EDGES.contains(&(from, to));
            let got = allows(&mut client, "payment", s.payment.0, from.as_str(), to.as_str()).await;
            assert_eq!(got, expected, "payment {from:?} to {to:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_arrive() {
    let ledger = ledger().await;
    let mut notices = ledger.listen(&["floodgate_order", "floodgate_payment"]);
    assert_eq!(notices.recv().await, Some(Notice::Resync));
    let deal = deal(&ledger, 1, 1).await;
    let a = account(&ledger).await;
    let order = held(&ledger, deal, a).await;
    ledger.start_payment(&start(order, a), now_ms(), &idem("p", 1), saved).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        let notice = tokio::time::timeout(std::time::Duration::from_secs(5), notices.recv()).await.unwrap().unwrap();
        if let Notice::Changed { channel, payload } = notice {
            if channel == "floodgate_order" {
                assert_eq!(payload, order.to_string());
            }
            seen.insert(channel);
        }
    }
}
