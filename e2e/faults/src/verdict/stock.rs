//! Units: I1, I4, I5, I6, I15.

use super::Check;
use crate::evidence::{Evidence, OrderRow};
use crate::history::Op;
use std::collections::{BTreeMap, BTreeSet};

/// How much later than its deadline a hold may end, in ms: the reaper's round, and a restart of its process.
const GRACE_MS: i64 = 5_000;

/// From when until when units are certainly (or possibly) taken, in microseconds.
struct Span {
    from: u64,
    until: u64,
    units: i64,
}

/// The most units that spans hold at one instant, and that instant. One sweep: O(n log n).
fn most(spans: &[Span]) -> (i64, u64) {
    let mut edges: Vec<(u64, bool, i64)> = Vec::with_capacity(spans.len() * 2);
    for span in spans.iter().filter(|span| span.from < span.until) {
        edges.push((span.from, true, span.units));
        edges.push((span.until, false, span.units));
    }
    // Ends before starts at the same instant: touching spans do not overlap.
    edges.sort_unstable_by_key(|(at, is_start, _)| (*at, *is_start));
    let (mut now, mut top) = (0, (0, 0));
    for (at, is_start, units) in edges {
        now += if is_start { units } else { -units };
        if now > top.0 {
            top = (now, at);
        }
    }
    top
}

/// Orders whose units went back at some time, by the history of the ledger.
fn given_back(e: &Evidence) -> BTreeSet<&str> {
    let back = |state: &str| matches!(state, "released" | "refunded" | "partly_refunded");
    e.ledger.order_event.iter().filter(|event| back(&event.to_state)).map(|event| event.order_id.as_str()).collect()
}

/// Holds that were acknowledged, and what is known of their end.
fn must_hold(e: &Evidence) -> Vec<Span> {
    let clock_moved = e.acted("clock", "");
    let back = given_back(e);
    // What may end a hold begins at the earliest with these.
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for op in e.history.iter().filter(|op| matches!(op.op.as_str(), "cancel" | "pay" | "refund")) {
        let end = ends.entry(op.arg("order")).or_insert(u64::MAX);
        *end = (*end).min(op.t0);
    }
    let ttl_us = u64::try_from(e.run.hold_ttl_ms.saturating_mul(1_000)).unwrap_or(0);
    let mut first: BTreeMap<&str, (u64, u64, i64)> = BTreeMap::new();
    for op in e.history.iter().filter(|op| op.op == "hold" && op.is_ok()) {
        let known = first.entry(op.id("order")).or_insert((op.t0, op.t1, op.number("quantity")));
        (known.0, known.1) = (known.0.min(op.t0), known.1.min(op.t1));
    }
    first
        .into_iter()
        .map(|(order, (t0, t1, units))| {
            let until = match back.contains(order) {
                false => u64::MAX,
                true if clock_moved => t1,
                true => ends.get(order).copied().unwrap_or(u64::MAX).min(t0.saturating_add(ttl_us)),
            };
            Span { from: t1, until, units }
        })
        .collect()
}

/// I1: never more held and sold than there is: by what clients were told, by every look, and at the end.
pub fn i1_never_oversold(e: &Evidence) -> Check {
    let mut check = Check::new("I1", "sold + held ≤ stock");
    let spans = must_hold(e);
    let (top, at) = most(&spans);
    check.saw(spans.len(), "acknowledged holds");
    check.must(top <= e.run.stock, || format!("{top} units were promised at {} ms, of {}", at / 1_000, e.run.stock));
    check.saw(e.samples.len(), "looks");
    for sample in &e.samples {
        if let Some([stock, held, sold]) = sample.ledger {
            check.must(held + sold <= stock && held >= 0 && sold >= 0, || {
                format!("PostgreSQL at {} ms: stock {stock}, held {held}, sold {sold}", sample.t / 1_000)
            });
        }
        if let Some([available, held, sold]) = sample.redis {
            check.must(available >= 0 && held >= 0 && sold >= 0 && available + held + sold <= e.run.stock, || {
                format!("Redis at {} ms: available {available}, held {held}, sold {sold}", sample.t / 1_000)
            });
        }
    }
    for deal in &e.ledger.deal {
        check.must(deal.held + deal.sold <= deal.stock && deal.held >= 0 && deal.sold >= 0, || {
            format!("deal {}: stock {}, held {}, sold {}", deal.id, deal.stock, deal.held, deal.sold)
        });
        let taken: i64 = of_deal(e, &deal.id).map(|order| order.held_units + order.sold_units).sum();
        check.must(taken <= deal.stock, || format!("deal {}: its orders have {taken} of {}", deal.id, deal.stock));
    }
    check
}

fn of_deal<'e>(e: &'e Evidence, deal: &'e str) -> impl Iterator<Item = &'e OrderRow> {
    e.ledger.orders.iter().filter(move |order| order.deal_id == deal)
}

/// I4: every hold ends, and in time.
pub fn i4_reservations_end(e: &Evidence) -> Check {
    let mut check = Check::new("I4", "a hold ends as paid or released, in time");
    check.saw(e.ledger.orders.len(), "orders");
    for order in &e.ledger.orders {
        let overdue = e.run.end_wall_ms > order.hold_expires_at_ms.saturating_add(GRACE_MS);
        check.must(!(order.state == "held" && overdue), || {
            let late = e.run.end_wall_ms.saturating_sub(order.hold_expires_at_ms);
            format!("order {} is held {late} ms after its deadline", order.id)
        });
        let ahead_ms = order.hold_expires_at_ms.saturating_sub(e.run.end_wall_ms);
        check.must(!(order.state == "held" && ahead_ms > e.run.hold_ttl_ms), || {
            format!("order {} is held for {ahead_ms} ms more; a hold lasts {} ms", order.id, e.run.hold_ttl_ms)
        });
        check.must(!(order.state == "paying" && e.run.quiet_us.is_none()), || {
            format!("order {} is still being paid when everything should be quiet", order.id)
        });
        check.must(!(order.state == "refunding" && e.run.quiet_us.is_none()), || {
            format!("order {} is still being refunded when everything should be quiet", order.id)
        });
    }
    // When exactly a hold ended is told by the clocks of processes, and late by any time that they did not run.
    let disturbed = |act: &crate::evidence::Act| {
        matches!(act.what.as_str(), "clock" | "kill" | "exit" | "pause" | "proxy" | "disk_full" | "clients" | "redis")
    };
    if e.nemesis.iter().any(disturbed) {
        check.not_judged.push("the moment of each expiry: a process was stopped, cut off or had another time".into());
        return check;
    }
    let deadline: BTreeMap<&str, i64> =
        e.ledger.orders.iter().map(|order| (order.id.as_str(), order.hold_expires_at_ms)).collect();
    let expired = |reason: &Option<String>| reason.as_deref() == Some("hold_expired");
    for event in e.ledger.order_event.iter().filter(|event| expired(&event.reason) && event.to_state == "released") {
        let late = event.at_ms.saturating_sub(deadline.get(event.order_id.as_str()).copied().unwrap_or(event.at_ms));
        check.must((-1_000..=GRACE_MS).contains(&late), || {
            format!("order {} expired {late} ms after its deadline", event.order_id)
        });
    }
    check
}

/// I5: what was released can be sold again: both stores say the same, and the sums fit.
pub fn i5_released_stock_is_free(e: &Evidence) -> Check {
    let mut check = Check::new("I5", "free = stock − held − sold, in both stores");
    check.saw(e.ledger.deal.len(), "deals");
    for deal in &e.ledger.deal {
        let sum = |units: fn(&OrderRow) -> i64| of_deal(e, &deal.id).map(units).sum::<i64>();
        let (held, sold) = (sum(|order| order.held_units), sum(|order| order.sold_units));
        check.must((held, sold) == (deal.held, deal.sold), || {
            format!("deal {}: held {} sold {}, its orders {held} and {sold}", deal.id, deal.held, deal.sold)
        });
        if deal.id != e.run.deal {
            continue;
        }
        let Some(redis) = &e.redis else {
            check.not_judged.push("Redis: it has no stock of this deal".into());
            continue;
        };
        let figures = ["available", "held", "sold"].map(|name| redis.figure(name).unwrap_or(i64::MIN));
        let truth = [deal.stock - deal.held - deal.sold, deal.held, deal.sold];
        check.must(figures == truth, || format!("available, held, sold: Redis {figures:?}, PostgreSQL {truth:?}"));
    }
    check
}

/// I6: nobody has more than allowed.
pub fn i6_limit_per_person(e: &Evidence) -> Check {
    let mut check = Check::new("I6", "nobody has more than the limit");
    let mut units: BTreeMap<&str, i64> = BTreeMap::new();
    for order in of_deal(e, &e.run.deal) {
        *units.entry(&order.account_id).or_default() += order.held_units + order.sold_units;
    }
    check.saw(units.len(), "accounts");
    for (account, has) in &units {
        check.must(*has <= e.run.per_user_limit, || {
            format!("account {account} has {has} of at most {}", e.run.per_user_limit)
        });
    }
    for row in &e.ledger.allowance {
        let has = units.get(row.account_id.as_str()).copied().unwrap_or(0);
        check.must(row.units == has, || format!("account {}: allowance {}, orders {has}", row.account_id, row.units));
    }
    for (account, told) in e.redis.iter().flat_map(|redis| &redis.bought) {
        let has = units.get(account.as_str()).copied().unwrap_or(0);
        check.must(told.parse() == Ok(has), || format!("account {account}: Redis says {told}, orders {has}"));
    }
    check
}

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
    let from_holds = asked.into_iter().map(|((proc, key), (t0, t1, quantity))| {
        let account = e.run.accounts.get(&proc).map_or("", String::as_str);
        match orders.get(&(account, key)) {
            // A release reaches Redis a moment after the ledger: until then the units are not for sale.
            Some(order) => {
                let back = seen_back.get(order.id.as_str()).copied().unwrap_or(u64::MAX);
                Span { from: t0, until: back.saturating_add(settle_us), units: order.quantity }
            }
            None => Span { from: t0, until: t1.saturating_add(settle_us), units: quantity },
        }
    });
    from_holds.collect()
}

/// The number of units over time: `(from, units)`, by time.
fn steps(spans: &[Span]) -> Vec<(u64, i64)> {
    let mut edges: BTreeMap<u64, i64> = BTreeMap::new();
    for span in spans {
        *edges.entry(span.from).or_default() += span.units;
        // The end counts as taken: in doubt for the accused.
        *edges.entry(span.until.saturating_add(1)).or_default() -= span.units;
    }
    let mut now = 0;
    edges
        .into_iter()
        .map(|(at, change)| {
            now += change;
            (at, now)
        })
        .collect()
}

/// The most units at any instant from `t0` to `t1`.
fn most_in(curve: &[(u64, i64)], t0: u64, t1: u64) -> i64 {
    let from = curve.partition_point(|(at, _)| *at <= t0).saturating_sub(1);
    let until = curve.partition_point(|(at, _)| *at <= t1);
    let inside = curve.get(from..until).unwrap_or(&[]);
    inside.iter().filter(|(at, _)| *at <= t1).map(|(_, units)| *units).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{clean, op};
    use super::*;

    #[test]
    fn i1_more_promises_than_units_are_found() {
        assert!(i1_never_oversold(&clean()).holds());
        let mut e = clean();
        // Two more holds are acknowledged and never given back: 1 + 2 × 1 of 2.
        for (proc, order) in [(8, "x1"), (9, "x2")] {
            e.history.push(op(proc, "hold", 100, 200).key("k").quantity(1).ok("order", order));
        }
        assert!(!i1_never_oversold(&e).holds());
        // One of them was cancelled before the other began.
        e.history.push(op(8, "cancel", 50, 60).on("x1"));
        e.ledger.order_event.push(crate::evidence::EventRow {
            order_id: "x1".into(),
            to_state: "released".into(),
            ..Default::default()
        });
        assert!(i1_never_oversold(&e).holds());
        e.samples.push(crate::evidence::Sample { t: 1, ledger: Some([2, 2, 1]), redis: None });
        assert!(!i1_never_oversold(&e).holds(), "a look counts too");
    }

    #[test]
    fn i4_a_forgotten_hold_is_found() {
        assert!(i4_reservations_end(&clean()).holds());
        let mut e = clean();
        e.ledger.orders[0].state = "held".into();
        e.run.end_wall_ms = e.ledger.orders[0].hold_expires_at_ms + GRACE_MS + 1;
        assert!(!i4_reservations_end(&e).holds());
    }

    #[test]
    fn i5_a_stranded_unit_is_found() {
        assert!(i5_released_stock_is_free(&clean()).holds());
        let mut e = clean();
        e.redis.as_mut().unwrap().stock.insert("available".into(), "0".into());
        assert!(!i5_released_stock_is_free(&e).holds());
        let mut e = clean();
        e.ledger.deal[0].held = 1;
        assert!(!i5_released_stock_is_free(&e).holds());
    }

    #[test]
    fn i6_a_greedy_account_is_found() {
        assert!(i6_limit_per_person(&clean()).holds());
        let mut e = clean();
        e.run.per_user_limit = 0;
        assert!(!i6_limit_per_person(&e).holds());
        let mut e = clean();
        e.ledger.allowance[0].units = 5;
        assert!(!i6_limit_per_person(&e).holds());
    }

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
    fn the_sweep_finds_the_top() {
        let span = |from, until, units| Span { from, until, units };
        assert_eq!(most(&[span(0, 10, 1), span(10, 20, 1), span(5, 6, 3)]), (4, 5));
        assert_eq!(most(&[]), (0, 0));
        let curve = steps(&[span(10, 20, 2), span(15, 30, 1)]);
        assert_eq!(
            [most_in(&curve, 0, 9), most_in(&curve, 0, 10), most_in(&curve, 18, 50), most_in(&curve, 25, 26)],
            [0, 2, 3, 1]
        );
    }
}
