//! How it runs: O1–O4.

use super::Check;
use crate::evidence::{Act, Evidence, Usage};
use std::collections::BTreeMap;

/// Descriptors and connections above the level before the crowd that a pool may keep open.
const FDS_SLACK: i64 = 48;
/// Threads that a runtime may have started meanwhile and not ended yet.
const THREADS_SLACK: i64 = 16;
/// Memory that warm pools and allocators keep after seconds of work, in KiB. A leak shows in long runs.
const RSS_SLACK_KIB: i64 = 64 * 1_024;
/// Most series of one metric at one role.
const SERIES_MAX: usize = 1_000;
/// How soon the sale goes on after Redis has lost everything, in ms.
const SALE_GOES_ON_MS: u64 = 30_000;
/// The counter of holds by result.
const RESERVATIONS: &str = "floodgate_deal_reservations_total";

/// O1: what a storm opened is closed again.
pub fn o1_resources_return(e: &Evidence) -> Check {
    let mut check = Check::new("O1", "descriptors, threads, memory, connections return");
    let before: BTreeMap<&str, &Usage> = e.usage_before.iter().map(|usage| (usage.whom.as_str(), usage)).collect();
    let mut compared = 0;
    for after in &e.usage_after {
        let Some(before) = before.get(after.whom.as_str()) else { continue };
        compared += 1;
        for (what, was, is, slack) in [
            ("descriptors or connections", before.fds, after.fds, FDS_SLACK),
            ("threads", before.threads, after.threads, THREADS_SLACK),
            ("KiB", before.rss_kib, after.rss_kib, RSS_SLACK_KIB),
        ] {
            let most = was.saturating_add(was / 20).saturating_add(slack);
            check.must(is <= most, || format!("{}: {was} {what} before, {is} after (at most {most})", after.whom));
        }
    }
    check.saw(compared, "processes");
    check
}

/// The sum of a counter over its series that carry `label`.
fn counter(metrics: &str, name: &str, label: &str) -> f64 {
    let series = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// O2: what Prometheus counts is what happened.
pub fn o2_counters_agree(e: &Evidence) -> Check {
    const WHAT: &str = "counters equal the history's counts";
    let Some(metrics) = e.metrics.get("deal-service") else {
        return Check::skipped("O2", WHAT, "the deal service did not show its metrics");
    };
    if e.acted("exit", "deal-service") || e.acted("kill", "deal-service") {
        return Check::skipped("O2", WHAT, "the deal service was started again and counts from zero");
    }
    let mut check = Check::new("O2", WHAT);
    let acknowledged =
        e.history.iter().filter(|op| op.op == "hold" && op.is_ok() && op.id("replayed").is_empty()).count();
    let counted = counter(metrics, RESERVATIONS, "result=\"ok\"");
    check.saw(acknowledged, "new holds acknowledged");
    // An order that was committed while its answer was unknown counts as a repetition: no more than the orders.
    let (least, most) = (figure(acknowledged), figure(e.ledger.orders.len()));
    check.must((least..=most.max(least)).contains(&counted), || {
        format!("{RESERVATIONS} ok is {counted}; {least} were acknowledged and {most} orders exist")
    });
    check
}

#[expect(clippy::cast_precision_loss, reason = "counts of one run are small")]
fn figure(count: usize) -> f64 {
    count as f64
}

/// O3: no metric has a series per visitor.
pub fn o3_series_are_bounded(e: &Evidence) -> Check {
    let mut check = Check::new("O3", "labels come from closed sets");
    let mut total = 0;
    for (role, metrics) in &e.metrics {
        let mut series: BTreeMap<&str, usize> = BTreeMap::new();
        for line in metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let name = line.split(['{', ' ']).next().unwrap_or(line);
            *series.entry(name).or_default() += 1;
            total += 1;
            // The ids of this run's shoppers and orders must not be anywhere.
            let named =
                e.ledger.orders.iter().find(|order| line.contains(&order.id) || line.contains(&order.account_id));
            check.must(named.is_none(), || format!("{role}: a series names an order or a person: {line}"));
        }
        for (name, count) in series {
            check.must(count <= SERIES_MAX, || format!("{role}: {count} series of {name}"));
        }
    }
    check.saw(total, "series");
    check
}

/// How long each may take to be back, in ms.
fn promise_ms(whom: &str) -> u64 {
    match whom {
        "proxy" => 2_000,
        "redis" => 10_000,
        "postgres" => 15_000,
        _ => 5_000,
    }
}

/// After Redis has lost everything the sale goes on: somebody of those who waited is let in within the promise, counted
/// from the last doubt that the gate could have of the store.
fn sale_goes_on(e: &Evidence, check: &mut Check) {
    let lost = |act: &&Act| act.what == "redis" && (act.detail.contains("FLUSHALL") || act.detail.contains("nothing"));
    let Some(loss) = e.nemesis.iter().filter(lost).max_by_key(|act| act.t1) else { return };
    let of_the_line = |act: &&Act| {
        let whom = ["redis", "proxy"].iter().any(|whom| act.whom.contains(whom));
        whom && !matches!(act.what.as_str(), "recovered" | "skipped" | "failpoint")
    };
    let calm = e.nemesis.iter().filter(of_the_line).map(|act| act.t1).max().unwrap_or(loss.t1).max(loss.t1);
    let until = calm.saturating_add(SALE_GOES_ON_MS.saturating_mul(1_000));
    let let_in = |op: &&crate::history::Op| op.op == "claim" && op.is_ok();
    let went: std::collections::BTreeSet<u32> =
        e.history.iter().filter(let_in).filter(|op| op.t1 <= loss.t1).map(|op| op.proc).collect();
    let waits = |op: &crate::history::Op| op.op == "join" && op.is_ok() && op.t1 < loss.t0 && !went.contains(&op.proc);
    if e.run.healed_us < until || !e.history.iter().any(waits) {
        check.not_judged.push("whether the sale went on: nobody waited, or the run ended too early".into());
        return;
    }
    check.saw(1, "losses of Redis");
    let went_on = e.history.iter().filter(let_in).any(|op| op.t1 > loss.t1 && op.t1 <= until);
    check.must(went_on, || format!("nobody was let in within {SALE_GOES_ON_MS} ms after Redis was lost"));
}

/// O4: who was killed is back within the promise, unless something else was in the way.
pub fn o4_recovery_in_time(e: &Evidence) -> Check {
    let mut check = Check::new("O4", "back within the promise");
    let back: Vec<&Act> = e.nemesis.iter().filter(|act| act.what == "recovered").collect();
    let (mut judged, mut disturbed) = (0, 0_u32);
    for act in back {
        let other = |fault: &&Act| {
            !matches!(fault.what.as_str(), "recovered" | "exit") && fault.t0 < act.t1 && fault.t1 > act.t0
        };
        if e.nemesis.iter().any(|fault| other(&fault)) {
            disturbed += 1;
            continue;
        }
        judged += 1;
        let (took_ms, most_ms) = (act.t1.saturating_sub(act.t0) / 1_000, promise_ms(&act.whom));
        check.must(took_ms <= most_ms, || format!("{} took {took_ms} ms, promised are {most_ms}", act.whom));
    }
    check.saw(judged, "starts");
    sale_goes_on(e, &mut check);
    if disturbed > 0 {
        check.not_judged.push(format!("{disturbed} starts while another fault was on"));
    }
    check
}

#[cfg(test)]
mod tests {
    use super::super::sample::clean;
    use super::*;

    #[test]
    fn o1_a_leak_is_found() {
        assert!(o1_resources_return(&clean()).holds());
        let mut e = clean();
        e.usage_after[0].fds = 500;
        assert!(!o1_resources_return(&e).holds());
    }

    #[test]
    fn o2_a_wrong_counter_is_found_and_a_restart_excuses_it() {
        assert!(o2_counters_agree(&clean()).holds());
        let mut e = clean();
        e.metrics.insert("deal-service".into(), format!("{RESERVATIONS}{{result=\"ok\"}} 2\n"));
        assert!(!o2_counters_agree(&e).holds());
        let kill = Act { what: "kill".into(), whom: "deal-service".into(), t0: 0, t1: 0, detail: String::new() };
        e.nemesis.push(kill);
        let check = o2_counters_agree(&e);
        assert!(check.holds() && !check.is_judged());
    }

    #[test]
    fn o3_a_series_per_person_is_found() {
        assert!(o3_series_are_bounded(&clean()).holds());
        let mut e = clean();
        e.metrics.insert("proxy".into(), "polls{account=\"a1\"} 1\n".into());
        assert!(!o3_series_are_bounded(&e).holds());
        let many: String = (0..=SERIES_MAX).map(|n| format!("polls{{n=\"{n}\"}} 1\n")).collect();
        let mut e = clean();
        e.metrics.insert("proxy".into(), many);
        assert!(!o3_series_are_bounded(&e).holds());
    }

    #[test]
    fn o4_a_sale_that_stands_still_is_found() {
        let mut e = clean();
        e.history.push(super::super::sample::op(9, "join", 600, 700));
        let detail = "FLUSHALL: Ok".to_owned();
        e.nemesis.push(Act { what: "redis".into(), whom: "redis".into(), t0: 1_000, t1: 2_000, detail });
        e.run.healed_us = 40_000_000;
        assert!(!o4_recovery_in_time(&e).holds());
        e.history.push(super::super::sample::op(9, "claim", 26_000_000, 26_001_000));
        assert!(o4_recovery_in_time(&e).holds());
    }

    #[test]
    fn o4_a_slow_start_is_found_and_a_second_fault_excuses_it() {
        assert!(o4_recovery_in_time(&clean()).holds());
        let mut e = clean();
        e.nemesis[0].t1 += 2_000_000;
        assert!(!o4_recovery_in_time(&e).holds());
        let other = Act { what: "kill".into(), whom: "redis".into(), t0: 0, t1: 50, detail: String::new() };
        e.nemesis.push(other);
        assert!(o4_recovery_in_time(&e).holds());
    }
}
