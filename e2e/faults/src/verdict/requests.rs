//! Requests and their effects: I10, I13, I14.

use super::Check;
use crate::evidence::Evidence;
use crate::history::{Op, Outcome};
use std::collections::{BTreeMap, BTreeSet};

/// Operations that change something at our side.
const MUTATIONS: [&str; 4] = ["hold", "pay", "cancel", "refund"];

fn mutations(e: &Evidence) -> impl Iterator<Item = &Op> {
    e.history.iter().filter(|op| MUTATIONS.contains(&op.op.as_str()))
}

/// Whether it may have had an effect.
fn may_have_happened(op: &Op) -> bool {
    op.outcome != Outcome::Fail
}

/// Clients by account.
fn clients(e: &Evidence) -> BTreeMap<&str, u32> {
    e.run.accounts.iter().map(|(proc, account)| (account.as_str(), *proc)).collect()
}

/// I10: one Idempotency-Key has one effect and one answer.
pub fn i10_one_key_one_effect(e: &Evidence) -> Check {
    let mut check = Check::new("I10", "one key, one effect, the same answer");
    let mut groups: BTreeMap<(u32, &str), Vec<&Op>> = BTreeMap::new();
    for op in mutations(e) {
        if let Some(key) = op.key.as_deref() {
            groups.entry((op.proc, key)).or_default().push(op);
        }
    }
    check.saw(groups.len(), "keys");
    check.saw(groups.values().filter(|ops| ops.len() > 1).count(), "of them repeated");
    for ((proc, key), ops) in &groups {
        let ok: Vec<&&Op> = ops.iter().filter(|op| op.is_ok()).collect();
        let answers: BTreeSet<&str> = ok.iter().map(|op| op.body_digest.as_str()).collect();
        check.must(answers.len() <= 1, || format!("client {proc}, key {key}: {} different answers", answers.len()));
        let asked: BTreeSet<(&str, &str, i64)> =
            ok.iter().map(|op| (op.op.as_str(), op.arg("order"), op.number("quantity"))).collect();
        check.must(asked.len() <= 1, || format!("client {proc}, key {key}: two different requests were accepted"));
    }
    // Effects: as many as there are keys that may have had one, at the most.
    let mut effects: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for order in &e.ledger.orders {
        *effects.entry((format!("{} {}", order.account_id, order.idempotency_key), "hold")).or_default() += 1;
    }
    for ((who, _), count) in &effects {
        check.must(*count == 1, || format!("{who}: {count} orders under one key"));
    }
    for (what, rows) in [
        ("pay", e.ledger.payment.iter().map(|row| row.order_id.as_str()).collect::<Vec<_>>()),
        ("refund", asked_for_by_shoppers(e)),
    ] {
        let mut keys: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for op in e.history.iter().filter(|op| op.op == what && may_have_happened(op)) {
            keys.entry(op.arg("order")).or_default().insert(op.key.as_deref().unwrap_or(""));
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for order in rows {
            *counts.entry(order).or_default() += 1;
        }
        for (order, count) in counts {
            let most = keys.get(order).map_or(0, BTreeSet::len);
            check.must(count <= most, || format!("order {order}: {count} × {what} from {most} keys"));
        }
    }
    check
}

fn asked_for_by_shoppers(e: &Evidence) -> Vec<&str> {
    let shopper = e.ledger.refund.iter().filter(|refund| refund.requested_by == "shopper");
    shopper.map(|refund| refund.order_id.as_str()).collect()
}

/// I13: what was acknowledged is there after everything.
pub fn i13_nothing_acknowledged_is_lost(e: &Evidence) -> Check {
    let mut check = Check::new("I13", "no acknowledged change is lost");
    let orders: BTreeMap<&str, _> = e.ledger.orders.iter().map(|order| (order.id.as_str(), order)).collect();
    let reached: BTreeSet<(&str, &str)> =
        e.ledger.order_event.iter().map(|event| (event.order_id.as_str(), event.to_state.as_str())).collect();
    let paying: BTreeSet<&str> = e.ledger.payment.iter().map(|payment| payment.order_id.as_str()).collect();
    let refunded: BTreeSet<&str> = e.ledger.refund.iter().map(|refund| refund.order_id.as_str()).collect();
    let acknowledged: Vec<&Op> = mutations(e).filter(|op| op.is_ok()).collect();
    check.saw(acknowledged.len(), "acknowledged changes");
    for op in acknowledged {
        let (kept, what) = match op.op.as_str() {
            "hold" => {
                let account = e.run.accounts.get(&op.proc).map_or("", String::as_str);
                let found = orders.get(op.id("order"));
                let kept = found.is_some_and(|o| o.account_id == account && o.quantity == op.number("quantity"));
                (kept, op.id("order"))
            }
            "pay" => (paying.contains(op.arg("order")), op.arg("order")),
            "cancel" => (reached.contains(&(op.arg("order"), "released")), op.arg("order")),
            _ => (refunded.contains(op.arg("order")), op.arg("order")),
        };
        check.must(kept, || {
            format!("client {}: {} of order {what} was answered {} and is gone", op.proc, op.op, op.status)
        });
    }
    // A state that somebody was shown has been.
    let shown: BTreeSet<(&str, &str)> = e
        .history
        .iter()
        .filter(|op| op.op == "look" && op.is_ok() && !op.id("state").is_empty())
        .map(|op| (op.arg("order"), op.id("state")))
        .collect();
    check.saw(shown.len(), "states shown");
    for (order, state) in shown {
        check.must(reached.contains(&(order, state)), || {
            format!("order {order} was shown as {state}, which it never was")
        });
    }
    check
}

/// I14: everything that is there was asked for by an operation that may have happened.
pub fn i14_no_ghosts(e: &Evidence) -> Check {
    let mut check = Check::new("I14", "every effect was asked for");
    let clients = clients(e);
    let asked: BTreeSet<(u32, &str)> = e
        .history
        .iter()
        .filter(|op| op.op == "hold" && may_have_happened(op))
        .map(|op| (op.proc, op.key.as_deref().unwrap_or("")))
        .collect();
    check.saw(e.ledger.orders.len(), "orders");
    for order in &e.ledger.orders {
        let by = clients.get(order.account_id.as_str()).copied().unwrap_or(u32::MAX);
        check.must(asked.contains(&(by, order.idempotency_key.as_str())), || {
            format!("order {} of client {by}: nobody asked with key {}", order.id, order.idempotency_key)
        });
    }
    let about = |what: &str| -> BTreeSet<&str> {
        e.history.iter().filter(|op| op.op == what && may_have_happened(op)).map(|op| op.arg("order")).collect()
    };
    let (paid, cancelled, refunded) = (about("pay"), about("cancel"), about("refund"));
    check.saw(e.ledger.payment.len(), "payments");
    for payment in &e.ledger.payment {
        check.must(paid.contains(payment.order_id.as_str()), || format!("payment {}: nobody asked", payment.id));
    }
    for order in asked_for_by_shoppers(e) {
        check.must(refunded.contains(order), || format!("order {order}: a refund that nobody asked for"));
    }
    for event in &e.ledger.order_event {
        let by_shopper = event.reason.as_deref() == Some("cancelled_by_shopper");
        check.must(!by_shopper || cancelled.contains(event.order_id.as_str()) || event.to_state != "released", || {
            format!("order {}: cancelled, and no shopper asked", event.order_id)
        });
    }
    let known: BTreeSet<&str> = e.ledger.payment.iter().map(|payment| payment.order_id.as_str()).collect();
    check.saw(e.provider.len(), "at the provider");
    for row in &e.provider {
        check.must(known.contains(row.partner_order_id.as_str()), || {
            format!("{}: the provider was asked for {}, which has no payment", row.tid, row.partner_order_id)
        });
    }
    check
}

#[cfg(test)]
mod tests {
    use super::super::sample::{clean, op};
    use super::*;

    #[test]
    fn i10_a_second_effect_or_another_answer_is_found() {
        assert!(i10_one_key_one_effect(&clean()).holds());
        let mut e = clean();
        let mut again = op(1, "hold", 410, 415).key("h-o1").quantity(1).ok("order", "o1");
        e.history.push(again.clone());
        assert!(i10_one_key_one_effect(&e).holds(), "a repetition with the same answer is fine");
        again.body_digest = "other".into();
        e.history.push(again);
        assert!(!i10_one_key_one_effect(&e).holds());
        let mut e = clean();
        let mut second = e.ledger.payment[0].clone();
        (second.id, second.state) = ("p1b".into(), "failed".into());
        e.ledger.payment.push(second);
        assert!(!i10_one_key_one_effect(&e).holds(), "two payments from one key");
        let mut e = clean();
        e.history.push(op(1, "hold", 410, 415).key("h-o1").quantity(7).ok("order", "o1"));
        assert!(!i10_one_key_one_effect(&e).holds(), "same key, other request");
    }

    #[test]
    fn i13_a_lost_order_is_found() {
        assert!(i13_nothing_acknowledged_is_lost(&clean()).holds());
        let mut e = clean();
        e.ledger.orders.remove(0);
        assert!(!i13_nothing_acknowledged_is_lost(&e).holds());
        let mut e = clean();
        e.ledger.order_event.retain(|event| event.to_state != "released");
        assert!(!i13_nothing_acknowledged_is_lost(&e).holds(), "the cancel was answered");
        let mut e = clean();
        e.history.push(op(2, "look", 900, 901).on("o2").ok("state", "paid"));
        assert!(!i13_nothing_acknowledged_is_lost(&e).holds(), "it never was paid");
    }

    #[test]
    fn i14_an_order_that_was_refused_is_found() {
        assert!(i14_no_ghosts(&clean()).holds());
        let mut e = clean();
        for op in e.history.iter_mut().filter(|op| op.op == "hold" && op.proc == 1) {
            op.outcome = Outcome::Fail;
        }
        assert!(!i14_no_ghosts(&e).holds());
        // Nobody knows what became of it: then it may be there.
        for op in e.history.iter_mut().filter(|op| op.op == "hold" && op.proc == 1) {
            op.outcome = Outcome::Info;
        }
        assert!(i14_no_ghosts(&e).holds());
        e.provider[0].partner_order_id = "o9".into();
        assert!(!i14_no_ghosts(&e).holds());
    }
}
