//! Every driver with its simulator, which another hand wrote from the same contract: bought, declined, lost, late, given
//! back in parts, compared.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use ledger::*;
use serde_json::json;
use service_kit::clock::now_ms;
use support::{Bench, Bought, PRICE};

const ALL: [&str; 3] = ["kakaopay", "toss", "stripe"];

#[tokio::test]
async fn bought_and_given_back_in_parts_at_every_provider() {
    let bench = Bench::open().await;
    for provider in ALL {
        let bought = bench.buy_with(provider).await;
        bench.pay_at(&bought, provider).await;
        bench.until_order(&bought, OrderState::Paid).await;
        for (amount, state) in [
            (Some(2_900), OrderState::PartlyRefunded),
            (Some(4_000), OrderState::PartlyRefunded),
            (None, OrderState::Refunded),
        ] {
            bench.refund_part(&bought, amount).await;
            bench
                .until(&format!("{provider}: {state:?}"), || async {
                    bench.order(&bought).await.state != OrderState::Refunding
                })
                .await;
            assert_eq!(bench.order(&bought).await.state, state, "{provider} after {amount:?}");
        }
        assert_eq!(bench.order(&bought).await.refunded_minor, PRICE, "{provider}");
    }
    assert_eq!(bench.ledger.verify().await.unwrap(), []);
}

#[tokio::test]
async fn a_decline_gives_the_unit_back_at_every_provider() {
    let bench = Bench::open().await;
    for provider in ALL {
        let bought = bench.buy_with(provider).await;
        bench.until_payment(&bought, "ready").await;
        let back = bench.press_at(&bought, provider, "decline").await;
        assert!(bench.http.get(back).send().await.unwrap().status().as_u16() < 500, "{provider}");
        bench.pass_time(31 * 60_000);
        bench.until_order(&bought, OrderState::Released).await;
        bench.pass_time(-31 * 60_000);
    }
    assert_eq!(bench.ledger.verify().await.unwrap(), []);
}

#[tokio::test]
async fn a_charge_whose_answer_is_lost_is_taken_once_at_every_provider() {
    let bench = Bench::open().await;
    for (provider, endpoint) in [("kakaopay", "approve"), ("toss", "confirm"), ("stripe", "capture")] {
        let bought = bench.buy_with(provider).await;
        bench.until_payment(&bought, "ready").await;
        let back = bench.press_at(&bought, provider, "pay").await;
        let fault = json!({ "provider": provider, "endpoint": endpoint, "fault": "drop-after-effect", "times": 1 });
        bench.control("faults", fault).await;
        bench.http.get(back).send().await.unwrap();
        bench.until_order(&bought, OrderState::Paid).await;
        assert_eq!(bench.attempts(&bought, "confirm").await.len(), 1, "{provider}: never charged again blindly");
    }
    assert_eq!(bench.ledger.verify().await.unwrap(), []);
}

#[tokio::test]
async fn a_return_with_another_amount_or_order_changes_nothing() {
    let bench = Bench::open().await;
    let bought = bench.buy_with("toss").await;
    bench.until_payment(&bought, "ready").await;
    let back = bench.press_at(&bought, "toss", "pay").await;
    let order = bought.order.to_string();
    for wrong in [
        back.replace(&format!("amount={PRICE}"), "amount=1"),
        back.replace(&order, "01a1fd86-9865-70cf-85d0-e8ed17a513ce"),
        back.replace("paymentKey=", "key="),
    ] {
        assert_ne!(wrong, back);
        assert_eq!(bench.http.get(wrong).send().await.unwrap().status(), 404);
        assert_eq!(bench.payment_state(&bought).await, "ready");
    }
    bench.http.get(back).send().await.unwrap();
    bench.until_order(&bought, OrderState::Paid).await;
}

#[tokio::test]
async fn a_deposit_is_awaited_and_its_notice_settles_it() {
    let mut bench = Bench::new(2_000).await;
    bench.set_toss_method("VIRTUAL_ACCOUNT");
    bench.hire();
    let bought = bench.buy_with("toss").await;
    bench.pay_at(&bought, "toss").await;
    bench.until_payment(&bought, "waiting").await;
    assert_eq!(bench.order(&bought).await.state, OrderState::Paying, "the unit stays held");
    bench
        .control("webhooks", json!({ "provider": "toss", "url": format!("{}/payments/webhooks/toss", bench.shop) }))
        .await;
    let row = bench.sql().await.query_one("SELECT approval_code FROM payment", &[]).await.unwrap();
    bench.control("toss/deposit", json!({ "payment": row.get::<_, String>(0) })).await;
    bench.until_order(&bought, OrderState::Paid).await;
    assert_eq!(bench.ledger.verify().await.unwrap(), []);
}

/// What somebody does at the provider's own console is found and told, whatever the provider offers for it.
#[tokio::test]
async fn the_comparison_finds_what_only_the_provider_knows() {
    let bench = Bench::open().await;
    let cfg = bench.config();
    let accounts = cfg.accounts().unwrap();
    for provider in ALL {
        // Taken at the provider, and expired here: late money.
        let bought = bench.buy_with(provider).await;
        bench.pay_at(&bought, provider).await;
        bench.until_order(&bought, OrderState::Paid).await;
        let sql = bench.sql().await;
        sql.batch_execute(&format!(
            "SET session_replication_role = replica;
             UPDATE payment SET state = 'expired', captured_minor = 0, updated_at_ms = {4} WHERE id = '{0}';
             UPDATE orders SET state = 'released', reason = 'payment_expired', sold_units = 0 WHERE id = '{1}';
             UPDATE deal SET sold = sold - 1 WHERE id = '{2}';
             UPDATE allowance SET units = units - 1 WHERE deal_id = '{2}' AND account_id = '{3}';
             SET session_replication_role = origin",
            bought.payment,
            bought.order,
            bench.deal,
            bought.account,
            now_ms() - 60_000
        ))
        .await
        .unwrap();
        let found = payment_adapter::reconcile_books(&cfg, &bench.ledger, &accounts, now_ms() + 2_000).await.unwrap();
        // KakaoPay has no list: the worker asks about each payment, and what it hears is repaired without a note.
        if provider != "kakaopay" {
            assert!(found >= 1, "{provider}");
            let open = bench.ledger.open_discrepancies(10).await.unwrap();
            let is_ours = |d: &ledger::Discrepancy| d.class == "state" && d.payment == Some(bought.payment);
            assert!(open.iter().any(is_ours), "{provider}: {open:?}");
        }
        bench.until_order(&bought, OrderState::Paid).await;
        // Compared again, both agree, and the difference is closed.
        payment_adapter::reconcile_books(&cfg, &bench.ledger, &accounts, now_ms() + 60_000).await.unwrap();
        let open = bench.ledger.open_discrepancies(10).await.unwrap();
        assert!(open.iter().all(|d| d.payment != Some(bought.payment)), "{provider}: {open:?}");
    }
}

/// What `floodgate verify --providers` asks: reads both sides, writes nothing.
#[tokio::test]
async fn the_providers_books_prove_ours() {
    let bench = Bench::open().await;
    let accounts = bench.config().accounts().unwrap();
    let mut all = Vec::new();
    for provider in ALL {
        let bought = bench.buy_with(provider).await;
        bench.pay_at(&bought, provider).await;
        bench.until_order(&bought, OrderState::Paid).await;
        all.push(bought);
    }
    // Later, so that nothing counts as moving.
    let later_ms = now_ms() + 60_000;
    let proof = payment_adapter::prove(&bench.ledger, &accounts, 0, later_ms).await.unwrap();
    assert_eq!((proof.differences, proof.agreed, proof.unread), (vec![], 3, vec![]));

    let sql = bench.sql().await;
    let tamper = |change: &str, bought: &support::Bought| {
        format!(
            "SET session_replication_role = replica; UPDATE payment SET {change}, updated_at_ms = 1 WHERE id = '{}';
             SET session_replication_role = origin",
            bought.payment
        )
    };
    sql.batch_execute(&tamper("captured_minor = captured_minor - 1", &all[0])).await.unwrap();
    sql.batch_execute(&tamper("state = 'expired', captured_minor = 0", &all[1])).await.unwrap();
    sql.batch_execute(&tamper("refunded_minor = 100", &all[2])).await.unwrap();
    let proof = payment_adapter::prove(&bench.ledger, &accounts, 0, later_ms).await.unwrap();
    let mut seen: Vec<_> = proof.differences.iter().map(|d| (d.provider, d.class.as_str(), d.payment)).collect();
    seen.sort();
    let expected = [
        ("kakaopay", "amount", Some(all[0].payment)),
        ("stripe", "amount", Some(all[2].payment)),
        ("toss", "state", Some(all[1].payment)),
    ];
    assert_eq!((seen, proof.agreed), (expected.to_vec(), 0));
    assert_eq!(bench.ledger.open_discrepancies(10).await.unwrap(), [], "a proof writes nothing");
}

/// How often the provider was asked where these payments stand.
async fn queries(bench: &Bench, all: &[Bought]) -> usize {
    let mut count = 0;
    for bought in all {
        count += bench.attempts(bought, "query").await.len();
    }
    count
}

/// A list has the refund of an earlier payment and not its capture. The payment is asked about by itself, and once.
#[tokio::test]
async fn a_refund_of_an_earlier_payment_is_no_difference() {
    let bench = Bench::open().await;
    let mut cfg = bench.config();
    cfg.reconcile_window_ms = 60_000;
    let accounts = cfg.accounts().unwrap();
    let mut all = Vec::new();
    for provider in ["toss", "stripe"] {
        let bought = bench.buy_with(provider).await;
        bench.pay_at(&bought, provider).await;
        bench.until_order(&bought, OrderState::Paid).await;
        all.push(bought);
    }
    bench.pass_time_at_provider(120_000).await;
    for bought in &all {
        bench.refund(bought).await;
        bench.until_order(bought, OrderState::Refunded).await;
    }
    let later_ms = now_ms() + 150_000;
    let proof = payment_adapter::prove(&bench.ledger, &accounts, later_ms - 60_000, later_ms).await.unwrap();
    assert_eq!((proof.differences, proof.agreed, proof.unread), (vec![], 0, vec![]));

    bench.pass_time(150_000);
    let before = queries(&bench, &all).await;
    for look in 0..3 {
        let at_ms = later_ms + 1_000 * look;
        assert_eq!(payment_adapter::reconcile_books(&cfg, &bench.ledger, &accounts, at_ms).await.unwrap(), 0);
        let waits = "SELECT count(*) FROM payment WHERE recheck_at_ms IS NOT NULL";
        let nobody_waits = || async { bench.sql().await.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 };
        bench.until("the worker has asked", nobody_waits).await;
        assert_eq!(queries(&bench, &all).await, before + all.len(), "look {look}");
    }
    assert_eq!(bench.ledger.open_discrepancies(10).await.unwrap(), []);
    for bought in &all {
        assert_eq!(bench.order(bought).await.state, OrderState::Refunded);
    }
}

/// The page that could not be read has the refund.
#[tokio::test]
async fn a_list_that_is_not_whole_proves_no_difference() {
    let bench = Bench::open().await;
    let accounts = bench.config().accounts().unwrap();
    let bought = bench.buy_with("stripe").await;
    bench.pay_at(&bought, "stripe").await;
    bench.until_order(&bought, OrderState::Paid).await;
    bench.refund(&bought).await;
    bench.until_order(&bought, OrderState::Refunded).await;
    let fault = json!({ "provider": "stripe", "endpoint": "refund-list", "fault": "limited", "times": 1 });
    bench.control("faults", fault).await;
    for (agreed, unread) in [(0, vec!["stripe"]), (1, vec![])] {
        let proof = payment_adapter::prove(&bench.ledger, &accounts, 0, now_ms() + 60_000).await.unwrap();
        assert_eq!((proof.differences, proof.agreed, proof.unread), (vec![], agreed, unread));
    }
}

/// A payment that moved a moment ago is not compared: that settles no difference.
#[tokio::test]
async fn a_difference_is_closed_by_agreement_and_nothing_else() {
    let bench = Bench::open().await;
    let cfg = bench.config();
    let accounts = cfg.accounts().unwrap();
    let bought = bench.buy_with("stripe").await;
    bench.pay_at(&bought, "stripe").await;
    bench.until_order(&bought, OrderState::Paid).await;
    let (class, payment) = (DiscrepancyClass::Amount, Some(bought.payment));
    assert!(bench.ledger.found_discrepancy("stripe", class, "pi", payment, "figures", now_ms()).await.unwrap());
    let row = bench.sql().await.query_one("SELECT updated_at_ms FROM payment", &[]).await.unwrap();
    let moved_ms: i64 = row.get(0);
    for (at_ms, open, agreed) in [(moved_ms + 9_999, 1, 0), (moved_ms + 10_000, 0, 1)] {
        let proof = payment_adapter::prove(&bench.ledger, &accounts, 0, at_ms).await.unwrap();
        assert_eq!((proof.differences, proof.agreed), (vec![], agreed));
        payment_adapter::reconcile_books(&cfg, &bench.ledger, &accounts, at_ms).await.unwrap();
        assert_eq!(bench.ledger.open_discrepancies(10).await.unwrap().len(), open);
    }
}

/// A shopper with two tabs, or a script: two windows of the provider for one order, both authenticated.
#[tokio::test]
async fn two_payment_keys_for_one_order_are_charged_once() {
    let bench = Bench::open().await;
    let bought = bench.buy_with("toss").await;
    bench.until_payment(&bought, "ready").await;
    let first = bench.press_at(&bought, "toss", "pay").await;
    let second = bench.press_at(&bought, "toss", "pay").await;
    assert_ne!(first, second, "each window has a key of its own");
    for back in [&first, &second, &first] {
        assert!(bench.http.get(back).send().await.unwrap().status().as_u16() < 500);
    }
    bench.until_order(&bought, OrderState::Paid).await;
    assert!(bench.http.get(&second).send().await.unwrap().status().as_u16() < 500);
    // Nobody has work left, and one of the two windows was charged.
    bench.pass_time(3_600_000);
    let theirs = bench.provider_ledger().await;
    assert_eq!((&theirs["totals"]["approvals"], &theirs["totals"]["captured"]), (&json!(1), &json!(PRICE)), "{theirs}");
    assert_eq!(bench.attempts(&bought, "confirm").await.len(), 1);
    bench.audit().await;
}
