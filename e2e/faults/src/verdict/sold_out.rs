//! Refusals: I15.

use super::Check;
use super::spans::{Span, most_in, steps};
use super::stock::GRACE_MS;
use crate::evidence::{Evidence, OrderRow};
use crate::history::Op;
use std::collections::{BTreeMap, BTreeSet};

/// I15: who was told "sold out" was told the truth: at some instant of the request there may have been too few units.
pub fn i15_sold_out_is_true(e: &Evidence) -> Check {
    let mut check = Check::new("I15", "no false sold out");
    let refused: Vec<&Op> = e.history.iter().filter(|op| op.op == "hold" && op.id("problem") == "sold-out").collect();
    check.saw(refused.len(), "refusals");
    let spans = may_hold(e);
    let curve = steps(&spans);
    for op in refused {
        let most = most_in(&curve, op.t0, op.t1);
        check.must(most + op.number("quantity") > e.run.stock, || {
            format!(
                "client {} was told sold out for {} at {}–{} ms, when at most {most} of {} could be taken",
                op.proc,
                op.number("quantity"),
                op.t0 / 1_000,
                op.t1 / 1_000,
                e.run.stock
            )
        });
    }
    check
}

/// Units that may have been taken. A request may take units from its start on; they are certainly back once a client
/// has seen it, or, when no order came of it, once the time for its commit is over.
fn may_hold(e: &Evidence) -> Vec<Span> {
    let mut seen_back: BTreeMap<&str, u64> = BTreeMap::new();
    for op in e.history.iter().filter(|op| op.is_ok() && matches!(op.id("state"), "released" | "refunded")) {
        let at = seen_back.entry(op.arg("order")).or_insert(u64::MAX);
        *at = (*at).min(op.t1);
    }
    let orders: BTreeMap<(&str, &str), &OrderRow> = e
        .ledger
        .orders
        .iter()
        .map(|order| ((order.account_id.as_str(), order.idempotency_key.as_str()), order))
        .collect();
    let settle_us = u64::try_from(e.run.confirm_ms.saturating_add(GRACE_MS).saturating_mul(1_000)).unwrap_or(0);
    let mut asked: BTreeMap<(u32, &str), (u64, u64, i64)> = BTreeMap::new();
    // Who was only ever told "sold out" took nothing: such requests must not excuse each other, or themselves.
    let in_vain = |op: &Op| op.is_fail() && op.id("problem") == "sold-out";
    for op in e.history.iter().filter(|op| op.op == "hold" && !in_vain(op)) {
        let key = op.key.as_deref().unwrap_or("");
        let span = asked.entry((op.proc, key)).or_insert((op.t0, op.t1, op.number("quantity")));
        (span.0, span.1) = (span.0.min(op.t0), span.1.max(op.t1));
    }
    // "You have enough" is said before anything is taken, or after it was given back.
    let limited: BTreeSet<(u32, &str)> = e
        .history
        .iter()
        .filter(|op| op.op == "hold" && op.is_fail() && op.id("problem") == "per-user-limit")
        .map(|op| (op.proc, op.key.as_deref().unwrap_or("")))
        .collect();
    let from_holds = asked.into_iter().map(|((proc, key), (t0, t1, quantity))| {
        let account = e.run.accounts.get(&proc).map_or("", String::as_str);
        match orders.get(&(account, key)) {
            // A release reaches Redis a moment after the ledger: until then the units are not for sale.
            Some(order) => {
                let back = seen_back.get(order.id.as_str()).copied().unwrap_or(u64::MAX);
                Span { from: t0, until: back.saturating_add(settle_us), units: order.quantity }
            }
            None if limited.contains(&(proc, key)) => Span { from: t0, until: t1, units: quantity },
            None => Span { from: t0, until: t1.saturating_add(settle_us), units: quantity },
        }
    });
    from_holds.collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{clean, op};
    use super::*;

    #[test]
    fn i15_sold_out_with_free_units_is_found() {
        let mut e = clean();
        let refused = op(5, "hold", 40_000_000, 40_001_000).key("late").quantity(1).fail("sold-out");
        e.history.push(refused.clone());
        assert!(!i15_sold_out_is_true(&e).holds(), "one of two is taken");
        // A request without an answer may have had the other one.
        e.history.push(op(6, "hold", 39_000_000, 39_050_000).key("lost").quantity(1).info());
        assert!(i15_sold_out_is_true(&e).holds());
        // Not if it began after the refusal.
        let mut e = clean();
        e.history.push(refused);
        e.history.push(op(6, "hold", 50_000_000, 50_050_000).key("lost").quantity(1).info());
        assert!(!i15_sold_out_is_true(&e).holds());
    }
}
