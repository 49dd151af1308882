//! Units: I1, I4, I5, I6.

use super::Check;
use super::spans::{Span, most};
use crate::evidence::{Act, Evidence, OrderRow};
use std::collections::{BTreeMap, BTreeSet};

/// How much later than its deadline a hold may end, in ms: the reaper's round, and a restart of its process.
pub const GRACE_MS: i64 = 5_000;

/// How long Redis may offer more than the ledger has, in microseconds: two looks are never of one instant.
const LASTING_US: u64 = 1_500_000;
/// What Redis offered for so long before a fault is not explained by it, in microseconds.
const STANDING_US: u64 = 500_000;
/// How soon an empty Redis is filled, in microseconds.
const EMPTY_GRACE_US: u64 = 3_000_000;
/// How soon after any other fault the two stores agree again, in microseconds: a lease of the outbox, or a divergence
/// that is believed.
const FAULT_GRACE_US: u64 = 12_000_000;

/// Orders whose units went back at some time, by the history of the ledger.
fn given_back(e: &Evidence) -> BTreeSet<&str> {
    let back = |state: &str| matches!(state, "released" | "refunded" | "partly_refunded");
    e.ledger.order_event.iter().filter(|event| back(&event.to_state)).map(|event| event.order_id.as_str()).collect()
}

/// Holds that were acknowledged, by client, and what is known of their end.
fn must_hold(e: &Evidence) -> Vec<(u32, Span)> {
    let clock_moved = e.acted("clock", "");
    let back = given_back(e);
    // What may end a hold begins at the earliest with these.
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for op in e.history.iter().filter(|op| matches!(op.op.as_str(), "cancel" | "pay" | "refund")) {
        let end = ends.entry(op.arg("order")).or_insert(u64::MAX);
        *end = (*end).min(op.t0);
    }
    let ttl_us = u64::try_from(e.run.hold_ttl_ms.saturating_mul(1_000)).unwrap_or(0);
    let mut first: BTreeMap<&str, (u64, u64, i64, u32)> = BTreeMap::new();
    for op in e.history.iter().filter(|op| op.op == "hold" && op.is_ok()) {
        let known = first.entry(op.id("order")).or_insert((op.t0, op.t1, op.number("quantity"), op.proc));
        (known.0, known.1) = (known.0.min(op.t0), known.1.min(op.t1));
    }
    first
        .into_iter()
        .map(|(order, (t0, t1, units, proc))| {
            let until = match back.contains(order) {
                false => u64::MAX,
                true if clock_moved => t1,
                true => ends.get(order).copied().unwrap_or(u64::MAX).min(t0.saturating_add(ttl_us)),
            };
            (proc, Span { from: t1, until, units })
        })
        .collect()
}

/// I1: never more held and sold than there is: by what clients were told, by every look, and at the end.
pub fn i1_never_oversold(e: &Evidence) -> Check {
    let mut check = Check::new("I1", "sold + held ≤ stock");
    let spans = must_hold(e);
    let (top, at) = most(spans.iter().map(|(_, span)| span));
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
    for (from, until, units) in lasting_offers(e) {
        check.violations.push(format!(
            "Redis offered {units} units that the ledger does not have, from {} to {} ms",
            from / 1_000,
            until / 1_000
        ));
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

/// Times in which Redis offers more than the ledger has, for longer than two looks can be apart, and with no fault near
/// that explains it. The ledger hears of every hold after Redis and of every end before it, so that is never right.
fn lasting_offers(e: &Evidence) -> Vec<(u64, u64, i64)> {
    let mut found = Vec::new();
    // From when, the least, and for how long.
    let mut since: Option<(u64, i64, u64)> = None;
    for sample in &e.samples {
        let over = match (sample.ledger, sample.redis) {
            (Some([stock, held, sold]), Some([available, ..])) => available - (stock - held - sold),
            _ => 0,
        };
        let stands = since.is_some_and(|(_, _, seen)| seen >= STANDING_US);
        if over <= 0 || !stands && sample.t < explained_until(e, sample.t) {
            since = None;
            continue;
        }
        let (from, least) = since.map_or((sample.t, over), |(from, least, _)| (from, least.min(over)));
        let lasted_us = sample.t.saturating_sub(from);
        since = Some((from, least, lasted_us));
        if lasted_us >= LASTING_US {
            found.push((from, sample.t, least));
            since = None;
        }
    }
    found
}

/// Until when a fault before `t` explains that Redis knows less than the ledger. What was before a loss of everything
/// explains nothing after it: then Redis was filled anew.
fn explained_until(e: &Evidence, t: u64) -> u64 {
    let is_loss =
        |act: &Act| act.what == "redis" && (act.detail.contains("FLUSHALL") || act.detail.contains("nothing"));
    let lost = e.nemesis.iter().filter(|act| is_loss(act) && act.t1 <= t).map(|act| act.t1).max().unwrap_or(0);
    let near = e.nemesis.iter().filter(|act| act.t0 <= t && act.t1 >= lost).filter_map(|act| {
        let store = ["redis", "postgres", "deal-service", "shop"].iter().any(|whom| act.whom.contains(whom));
        let grace_us = match act.what.as_str() {
            _ if is_loss(act) => EMPTY_GRACE_US,
            "recovered" | "skipped" | "failpoint" => return None,
            _ if store => FAULT_GRACE_US,
            _ => return None,
        };
        Some(act.t1.saturating_add(grace_us))
    });
    near.max().unwrap_or(0)
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
    // At every instant, too: what was too much may be given back later.
    let spans = must_hold(e);
    let clients: BTreeSet<u32> = spans.iter().map(|(proc, _)| *proc).collect();
    for proc in clients {
        let (top, at) = most(spans.iter().filter(|(by, _)| *by == proc).map(|(_, span)| span));
        check.must(top <= e.run.per_user_limit, || {
            format!("client {proc} had {top} at {} ms, of at most {}", at / 1_000, e.run.per_user_limit)
        });
    }
    for (account, has) in &units {
        check.must(*has <= e.run.per_user_limit, || {
            format!("account {account} has {has} of at most {}", e.run.per_user_limit)
        });
    }
    for row in &e.ledger.allowance {
        let has = units.get(row.account_id.as_str()).copied().unwrap_or(0);
        check.must(row.units == has, || format!("account {}: allowance {}, orders {has}", row.account_id, row.units));
    }
    if let Some(redis) = &e.redis {
        for (account, has) in units.iter().filter(|(_, has)| **has > 0) {
            check.must(redis.bought.contains_key(*account), || {
                format!("account {account} has {has}, and Redis has no count of it")
            });
        }
    }
    for (account, told) in e.redis.iter().flat_map(|redis| &redis.bought) {
        let has = units.get(account.as_str()).copied().unwrap_or(0);
        check.must(told.parse() == Ok(has), || format!("account {account}: Redis says {told}, orders {has}"));
    }
    check
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
    fn i1_an_offer_of_units_that_are_gone_is_found() {
        let looks = |e: &mut Evidence, count: u64| {
            let look = |n| crate::evidence::Sample { t: n * 200_000, ledger: Some([2, 1, 1]), redis: Some([1, 0, 1]) };
            e.samples = (0..count).map(look).collect();
        };
        let mut e = clean();
        e.nemesis.clear();
        looks(&mut e, 5);
        assert!(i1_never_oversold(&e).holds(), "two looks are never of one instant");
        looks(&mut e, 12);
        assert!(!i1_never_oversold(&e).holds());
        let detail = "FLUSHALL: Ok".to_owned();
        e.nemesis.push(crate::evidence::Act { what: "redis".into(), whom: "redis".into(), t0: 0, t1: 500, detail });
        assert!(i1_never_oversold(&e).holds(), "an empty Redis has a moment to be filled");
        looks(&mut e, 30);
        assert!(!i1_never_oversold(&e).holds(), "not more than a moment");
        let kill = |t0| crate::evidence::Act {
            what: "kill".into(),
            whom: "deal-service".into(),
            t0,
            t1: t0 + 500,
            detail: String::new(),
        };
        e.nemesis.push(kill(3_100_000));
        assert!(i1_never_oversold(&e).holds(), "a fault explains what is seen for the first time with it");
        e.nemesis = vec![kill(1_000_000)];
        assert!(!i1_never_oversold(&e).holds(), "and not what stood before");
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
        let mut e = clean();
        e.redis.as_mut().unwrap().bought.clear();
        assert!(!i6_limit_per_person(&e).holds(), "a count that Redis has lost");
        let mut e = clean();
        e.history.push(op(9, "hold", 100, 200).key("k").quantity(1).ok("order", "x1"));
        e.history.push(op(9, "hold", 250, 300).key("k-more").quantity(1).ok("order", "x2"));
        assert!(!i6_limit_per_person(&e).holds(), "two of one, for a while");
    }
}
