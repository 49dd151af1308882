//! Planted faults: each check must fire, and stay silent on a clean sale.

use super::super::history::tests::turn;
use super::*;

fn order(n: u32, state: &str) -> OrderRow {
    OrderRow { id: format!("o{n}"), quantity: 1, amount_minor: 100, state: state.into() }
}
fn payment(n: u32, state: &str) -> PaymentRow {
    PaymentRow { order: format!("o{n}"), state: state.into(), provider_ref: Some(format!("t{n}")) }
}
fn charge(n: u32) -> ProviderRow {
    ProviderRow { tid: format!("t{n}"), approvals: 1, captured: 100, cancelled: 0 }
}

/// Two units, two buyers, one hold that was given back.
fn clean() -> Evidence {
    Evidence {
        stock: 2,
        orders: vec![order(1, "paid"), order(2, "released"), order(3, "paid")],
        payments: vec![payment(1, "captured"), payment(2, "cancelled"), payment(3, "captured")],
        provider: vec![charge(1), ProviderRow { approvals: 0, captured: 0, ..charge(2) }, charge(3)],
        turns: (0..5).map(turn).collect(),
        crowd: CrowdCounts { shoppers: 5, claimed: 3, wanting: 2, ..CrowdCounts::default() },
        ..Evidence::default()
    }
}

#[test]
fn a_clean_sale_passes_every_check() {
    let report = report(clean());
    assert_eq!(report.failed, Vec::<String>::new());
    assert_eq!((report.sold, report.held, report.paid, report.released), (2, 3, 2, 1));
    assert_eq!((report.oversold, report.undersold, report.inversions, report.double_charges), (0, 0, 0, 0));
    let document = serde_json::to_value(&report).unwrap();
    assert_eq!(document["audit"], "clean");
    assert!(document["wait_seconds"]["p99"].is_number() && document["eta_error"]["p50"].is_null());
    assert!(report.table().contains("every check passed"));
}

#[test]
fn a_second_ticket_is_not_a_second_shopper() {
    let mut evidence = clean();
    evidence.turns.push(Turn { shopper: 2, ..turn(9) });
    let report = report(evidence);
    assert_eq!((report.joined, report.called, report.failed.len()), (5, 5, 0));
}

#[test]
fn planted_double_charges_are_found() {
    type Plant = fn(&mut Evidence);
    let cases: &[(&str, Plant)] = &[
        ("approved twice", |e| e.provider[0].approvals = 2),
        ("two payments of one order", |e| {
            e.provider.push(ProviderRow { tid: "t9".into(), ..charge(1) });
            e.payments.push(PaymentRow { provider_ref: Some("t9".into()), ..payment(1, "failed") });
        }),
        ("a charge of a released order", |e| e.provider[1] = charge(2)),
        ("a charge of no order", |e| e.provider.push(charge(7))),
        ("another amount", |e| e.provider[0].captured = 101),
        ("paid without a charge", |e| e.provider[2].captured = 0),
        ("given back but still paid", |e| e.provider[2].cancelled = 100),
    ];
    for (what, plant) in cases {
        let mut evidence = clean();
        plant(&mut evidence);
        let report = report(evidence);
        assert!(report.double_charges > 0 && !report.failed.is_empty(), "{what} was not found");
    }
}

#[test]
fn a_charge_that_was_given_back_is_no_double_charge() {
    let mut evidence = clean();
    evidence.provider[1] = ProviderRow { cancelled: 100, ..charge(2) };
    assert_eq!(report(evidence).double_charges, 0);
}

#[test]
fn planted_sums_are_found() {
    let mut evidence = clean();
    evidence.orders[1].state = "paid".into();
    evidence.provider[1] = charge(2);
    let over = report(evidence);
    assert_eq!((over.oversold, over.failed.len()), (1, 1), "{:?}", over.failed);

    let mut evidence = clean();
    evidence.orders[2].state = "released".into();
    evidence.provider[2] = ProviderRow { approvals: 0, captured: 0, ..charge(3) };
    assert_eq!(report(evidence.clone()).undersold, 1);
    evidence.crowd.wanting = 0;
    let nobody = report(evidence);
    assert!(nobody.undersold == 0 && nobody.failed == vec!["sold 1 of 2".to_owned()], "{:?}", nobody.failed);

    let mut evidence = clean();
    evidence.audit = vec![Finding { check: "c".into(), subject: "s".into(), detail: "d".into() }];
    assert_eq!(report(evidence).failed, vec!["c: s: d".to_owned()]);

    let mut evidence = clean();
    evidence.orders[1].state = "paying".into();
    assert_eq!(report(evidence).failed.len(), 1, "an order without an end");

    let mut evidence = clean();
    evidence.turns[3].number = 1;
    assert!(report(evidence).inversions > 0);

    let mut evidence = clean();
    evidence.crowd.doubled = 1;
    assert_eq!(report(evidence).failed.len(), 1);
}
