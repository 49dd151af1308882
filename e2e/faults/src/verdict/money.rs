//! Money: I2, I3, I7, I9, I11, I16. Three books are compared: the provider's, our payments, our orders.

use super::Check;
use crate::evidence::{Evidence, OrderRow, PaymentRow, ProviderRow};
use std::collections::{BTreeMap, BTreeSet};

fn orders(e: &Evidence) -> BTreeMap<&str, &OrderRow> {
    e.ledger.orders.iter().map(|order| (order.id.as_str(), order)).collect()
}

fn by_tid(e: &Evidence) -> BTreeMap<&str, &ProviderRow> {
    e.provider.iter().map(|row| (row.tid.as_str(), row)).collect()
}

/// Orders whose figures the provider got wrong because it was told to: they may wait for an operator.
fn wrong_figures(e: &Evidence) -> bool {
    e.nemesis.iter().any(|act| act.what == "provider" && act.detail.contains("wrong-amount"))
}

/// I2: captured money has one order, or went back.
pub fn i2_captures_are_orders_or_refunds(e: &Evidence) -> Check {
    let mut check = Check::new("I2", "captured money is one order or one refund");
    let orders = orders(e);
    let captured: Vec<&ProviderRow> = e.provider.iter().filter(|row| row.captured > 0).collect();
    check.saw(captured.len(), "captures");
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for row in captured {
        let ProviderRow { tid, partner_order_id, captured, cancelled, .. } = row;
        let Some(order) = orders.get(partner_order_id.as_str()) else {
            check.violations.push(format!("{tid}: captured {captured} for {partner_order_id}, which is no order"));
            continue;
        };
        let kept = captured - cancelled;
        if kept > 0
            && let Some(other) = seen.insert(&order.id, tid)
        {
            check.violations.push(format!("order {} was paid twice: {other} and {tid}", order.id));
        }
        let fits = match order.state.as_str() {
            "paid" => *cancelled == 0,
            "partly_refunded" => kept > 0 && *cancelled > 0,
            "refunded" | "released" => kept == 0,
            // Money on its way back: fine while the run is not quiet, which I4 tells.
            "refunding" => true,
            "quarantined" => wrong_figures(e),
            _ => false,
        };
        check.must(fits, || {
            format!("{tid}: captured {captured}, given back {cancelled}, but order {} is {}", order.id, order.state)
        });
        check.must(row.approvals <= 1, || format!("{tid}: charged {} times", row.approvals));
    }
    check
}

/// I3: an order that is paid has its money, once and in full.
pub fn i3_orders_have_their_money(e: &Evidence) -> Check {
    let mut check = Check::new("I3", "a paid order has one equal capture");
    let tids = by_tid(e);
    let mut captures: BTreeMap<&str, Vec<&PaymentRow>> = BTreeMap::new();
    for payment in e.ledger.payment.iter().filter(|payment| payment.state == "captured") {
        captures.entry(&payment.order_id).or_default().push(payment);
    }
    let paid = |state: &str| matches!(state, "paid" | "refunding" | "refunded" | "partly_refunded");
    let paid: Vec<&OrderRow> = e.ledger.orders.iter().filter(|order| paid(&order.state)).collect();
    check.saw(paid.len(), "paid orders");
    for order in paid {
        let found = captures.get(order.id.as_str()).map_or(&[][..], Vec::as_slice);
        let [payment] = found else {
            check.violations.push(format!("order {} is {} with {} captures", order.id, order.state, found.len()));
            continue;
        };
        let ours = (payment.captured_minor, payment.currency.as_str()) == (order.amount_minor, order.currency.as_str());
        check.must(ours, || {
            format!("order {} costs {}, captured were {}", order.id, order.amount_minor, payment.captured_minor)
        });
        let theirs = payment.provider_ref.as_deref().and_then(|tid| tids.get(tid)).map_or(0, |row| row.captured);
        check.must(theirs == order.amount_minor, || {
            format!("order {} costs {}, the provider has captured {theirs}", order.id, order.amount_minor)
        });
    }
    check
}

/// I7: nobody is charged for a hold that has ended, and nothing is released after a capture.
pub fn i7_no_capture_on_released(e: &Evidence) -> Check {
    let mut check = Check::new("I7", "no capture starts on a released hold, no release after a capture");
    let mut released: BTreeMap<&str, i64> = BTreeMap::new();
    let mut paid: BTreeSet<&str> = BTreeSet::new();
    let mut events: Vec<_> = e.ledger.order_event.iter().collect();
    events.sort_by_key(|event| event.seq);
    check.saw(events.len(), "steps");
    for event in events {
        match event.to_state.as_str() {
            "paid" => {
                paid.insert(&event.order_id);
            }
            "released" => {
                released.entry(&event.order_id).or_insert(event.at_ms);
                // An operator may close a quarantined order; nobody else may release what was paid.
                let by_operator = event.from_state.as_deref() == Some("quarantined");
                check.must(!paid.contains(event.order_id.as_str()) || by_operator, || {
                    format!("order {} was released after it was paid", event.order_id)
                });
            }
            _ => {}
        }
    }
    if e.acted("clock", "") {
        check.not_judged.push("the start of each capture: a process had another time".into());
        return check;
    }
    let order_of: BTreeMap<&str, &str> =
        e.ledger.payment.iter().map(|payment| (payment.id.as_str(), payment.order_id.as_str())).collect();
    let confirms: Vec<_> = e.ledger.attempt.iter().filter(|attempt| attempt.kind == "confirm").collect();
    check.saw(confirms.len(), "captures begun");
    for attempt in confirms {
        let order = order_of.get(attempt.payment_id.as_str()).copied().unwrap_or("");
        let since = released.get(order).map_or(0, |at_ms| attempt.started_at_ms - at_ms);
        check.must(since <= 0, || format!("order {order}: a capture began {since} ms after its release"));
    }
    check
}

/// I9: amounts are what was ordered, and never negative.
pub fn i9_amounts(e: &Evidence) -> Check {
    let mut check = Check::new("I9", "total = price × quantity, nothing below zero");
    check.saw(e.ledger.orders.len(), "orders");
    let price: BTreeMap<&str, i64> = e.ledger.deal.iter().map(|deal| (deal.id.as_str(), deal.price_minor)).collect();
    for order in &e.ledger.orders {
        let total = price.get(order.deal_id.as_str()).and_then(|price| price.checked_mul(order.quantity));
        check.must(total == Some(order.amount_minor) && order.amount_minor >= 0, || {
            format!("order {}: {} for {} units", order.id, order.amount_minor, order.quantity)
        });
    }
    check.saw(e.ledger.payment.len(), "payments");
    let amounts: BTreeMap<&str, i64> =
        e.ledger.orders.iter().map(|order| (order.id.as_str(), order.amount_minor)).collect();
    for payment in &e.ledger.payment {
        let PaymentRow { id, order_id, amount_minor, captured_minor, refunding_minor, refunded_minor, .. } = payment;
        let asked = amounts.get(order_id.as_str()) == Some(amount_minor);
        let signs = [captured_minor, refunding_minor, refunded_minor].iter().all(|minor| **minor >= 0);
        check.must(asked && signs, || {
            format!("payment {id}: {amount_minor} asked, {captured_minor}, {refunding_minor}, {refunded_minor}")
        });
    }
    check
}

/// I11: the provider's book and ours are the same set.
pub fn i11_provider_agrees(e: &Evidence) -> Check {
    let mut check = Check::new("I11", "the provider's ledger is ours");
    let tids = by_tid(e);
    let excused = |order: &str| {
        wrong_figures(e) && e.ledger.orders.iter().any(|row| row.id == order && row.state == "quarantined")
    };
    let mut ours: BTreeMap<&str, &PaymentRow> = BTreeMap::new();
    check.saw(e.ledger.payment.len(), "payments");
    for payment in &e.ledger.payment {
        let Some(tid) = payment.provider_ref.as_deref() else { continue };
        ours.insert(tid, payment);
        let Some(theirs) = tids.get(tid) else {
            check.violations.push(format!("payment {}: the provider does not know {tid}", payment.id));
            continue;
        };
        let same = (theirs.captured, theirs.cancelled) == (payment.captured_minor, payment.refunded_minor);
        check.must(same || excused(&payment.order_id), || {
            format!(
                "payment {} is {}: captured {} and back {}; the provider is {}: {} and {}",
                payment.id,
                payment.state,
                payment.captured_minor,
                payment.refunded_minor,
                theirs.status,
                theirs.captured,
                theirs.cancelled
            )
        });
    }
    check.saw(e.provider.len(), "at the provider");
    for row in e.provider.iter().filter(|row| row.captured > 0) {
        let known = ours.contains_key(row.tid.as_str());
        check.must(known || excused(&row.partner_order_id), || {
            format!("{}: captured, and we know nothing of it", row.tid)
        });
    }
    check
}

/// I16: never more back than came, each refund once.
pub fn i16_refunds_within_captures(e: &Evidence) -> Check {
    let mut check = Check::new("I16", "refunds within captures, once");
    check.saw(e.ledger.refund.len(), "refunds");
    let mut done: BTreeMap<&str, i64> = BTreeMap::new();
    for refund in e.ledger.refund.iter().filter(|refund| refund.state == "done") {
        *done.entry(&refund.payment_id).or_default() += refund.amount_minor;
    }
    for payment in &e.ledger.payment {
        let PaymentRow { id, captured_minor, refunding_minor, refunded_minor, .. } = payment;
        check.must(refunding_minor + refunded_minor <= *captured_minor, || {
            format!("payment {id}: captured {captured_minor}, going back {refunding_minor}, back {refunded_minor}")
        });
        let sum = done.get(id.as_str()).copied().unwrap_or(0);
        check.must(sum == *refunded_minor, || format!("payment {id}: back {refunded_minor}, its refunds sum to {sum}"));
    }
    for row in &e.provider {
        check.must(row.cancelled <= row.captured.max(row.amount) && row.cancelled >= 0, || {
            format!("{}: given back {} of {}", row.tid, row.cancelled, row.captured)
        });
    }
    check
}

#[cfg(test)]
mod tests {
    use super::super::sample::clean;
    use super::*;
    use crate::evidence::{AttemptRow, EventRow};

    #[test]
    fn i2_money_without_an_order_is_found() {
        assert!(i2_captures_are_orders_or_refunds(&clean()).holds());
        let mut e = clean();
        e.ledger.orders[0].state = "released".into();
        assert!(!i2_captures_are_orders_or_refunds(&e).holds());
        let mut e = clean();
        let mut twice = e.provider[0].clone();
        twice.tid = "t-again".into();
        e.provider.push(twice);
        assert!(!i2_captures_are_orders_or_refunds(&e).holds());
        let mut e = clean();
        e.ledger.orders[0].state = "quarantined".into();
        assert!(!i2_captures_are_orders_or_refunds(&e).holds(), "nothing had wrong figures");
    }

    #[test]
    fn i3_an_order_without_its_money_is_found() {
        assert!(i3_orders_have_their_money(&clean()).holds());
        let mut e = clean();
        e.provider[0].captured = 99;
        assert!(!i3_orders_have_their_money(&e).holds());
        let mut e = clean();
        e.ledger.payment.remove(0);
        assert!(!i3_orders_have_their_money(&e).holds());
    }

    #[test]
    fn i7_a_charge_after_the_release_is_found() {
        assert!(i7_no_capture_on_released(&clean()).holds());
        let mut e = clean();
        e.ledger.payment[0].order_id = "o2".into();
        e.ledger.attempt.push(AttemptRow { payment_id: "p1".into(), kind: "confirm".into(), started_at_ms: 99_999 });
        assert!(!i7_no_capture_on_released(&e).holds());
        let mut e = clean();
        let late = EventRow { order_id: "o1".into(), seq: 99, to_state: "released".into(), ..EventRow::default() };
        e.ledger.order_event.push(late);
        assert!(!i7_no_capture_on_released(&e).holds());
    }

    #[test]
    fn i9_a_wrong_total_is_found() {
        assert!(i9_amounts(&clean()).holds());
        let mut e = clean();
        e.ledger.orders[0].amount_minor = 1;
        assert!(!i9_amounts(&e).holds());
    }

    #[test]
    fn i11_books_that_differ_are_found() {
        assert!(i11_provider_agrees(&clean()).holds());
        let mut e = clean();
        e.provider[1].cancelled = 0;
        assert!(!i11_provider_agrees(&e).holds());
        let mut e = clean();
        e.ledger.payment.remove(0);
        assert!(!i11_provider_agrees(&e).holds());
    }

    #[test]
    fn i16_a_refund_too_many_is_found() {
        assert!(i16_refunds_within_captures(&clean()).holds());
        let mut e = clean();
        e.ledger.payment[1].refunded_minor = 200;
        assert!(!i16_refunds_within_captures(&e).holds());
        let mut e = clean();
        e.ledger.refund.push(e.ledger.refund[0].clone());
        assert!(!i16_refunds_within_captures(&e).holds());
    }
}
