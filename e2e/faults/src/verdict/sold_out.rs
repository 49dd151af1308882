//! Refusals: I15.

use super::Check;
use super::spans::{Span, most_in, steps};
use super::stock::GRACE_MS;
use crate::evidence::{Act, Evidence, OrderRow};
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

/// How soon Redis hears of an end while nothing goes wrong, in microseconds.
const TOLD_US: u64 = 3_000_000;
/// How soon it hears of it whatever goes wrong, in microseconds: a lease of the outbox, and what delays it.
const TOLD_AT_LAST_US: u64 = 20_000_000;
/// For how long after a fault its traces may delay it, in microseconds.
const FAULT_GRACE_US: u64 = 12_000_000;

/// When units are for sale again whose order ended at `at` at the latest.
fn told_by(e: &Evidence, at: u64) -> u64 {
    let told = at.saturating_add(TOLD_US);
    let delays = |act: &Act| !matches!(act.what.as_str(), "provider" | "recovered" | "skipped" | "failpoint");
    let delayed =
        e.nemesis.iter().any(|act| delays(act) && act.t0 <= told && act.t1.saturating_add(FAULT_GRACE_US) >= at);
    if delayed { at.saturating_add(TOLD_AT_LAST_US) } else { told }
}

/// When each order ended at the latest: by what a client saw and, unless somebody's clock was moved, by the ledger.
fn ended(e: &Evidence) -> BTreeMap<&str, u64> {
    let is_end = |state: &str| matches!(state, "released" | "refunded");
    let seen = e.history.iter().filter(|op| op.is_ok() && is_end(op.id("state"))).map(|op| (op.arg("order"), op.t1));
    let at_us = |at_ms: i64| {
        let before_us = e.run.end_wall_ms.saturating_sub(at_ms).saturating_mul(1_000);
        e.run.end_us.saturating_sub(u64::try_from(before_us).unwrap_or(0))
    };
    let is_known = !e.acted("clock", "");
    let written = e.ledger.order_event.iter().filter(|event| is_known && is_end(&event.to_state));
    let mut ended = BTreeMap::new();
    for (order, at) in seen.chain(written.map(|event| (event.order_id.as_str(), at_us(event.at_ms)))) {
        let first = ended.entry(order).or_insert(u64::MAX);
        *first = at.min(*first);
    }
    ended
}

/// Units that may have been taken. A request may take units from its start on; they are certainly back a while after the
/// end of its order or, when no order came of it, once the time for its commit is over.
fn may_hold(e: &Evidence) -> Vec<Span> {
    let ended = ended(e);
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
            Some(order) => {
                let until = ended.get(order.id.as_str()).map_or(u64::MAX, |at| told_by(e, *at));
                Span { from: t0, until, units: order.quantity }
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

    #[test]
    fn i15_an_end_that_no_client_saw_is_known_from_the_ledger() {
        let mut e = clean();
        (e.run.end_us, e.run.end_wall_ms) = (50_000_000, 60_000);
        e.history.retain(|op| op.arg("order") != "o2" || op.op == "hold");
        e.history.push(op(5, "hold", 40_000_000, 40_001_000).key("late").quantity(1).fail("sold-out"));
        for event in &mut e.ledger.order_event {
            event.at_ms = if event.order_id == "o2" && event.to_state == "released" { 45_000 } else { 20_000 };
        }
        let act = |what: &str| {
            let detail = String::new();
            Act { what: what.into(), whom: "redis".into(), t0: 36_000_000, t1: 36_500_000, detail }
        };
        assert!(!i15_sold_out_is_true(&e).holds(), "free five seconds before");
        e.nemesis = vec![act("kill")];
        assert!(i15_sold_out_is_true(&e).holds(), "Redis may not have heard of it");
        e.nemesis = vec![act("clock")];
        assert!(i15_sold_out_is_true(&e).holds(), "nobody knows when it was");
    }
}
