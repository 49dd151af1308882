//! The verdict: one pure function per invariant over the collected evidence. No server, no clock, no randomness:
//! the same evidence gives the same verdict for ever.
//!
//! "Unknown" stays unknown: an operation without an answer may have happened at any time after its start, so it
//! counts for neither side where that would accuse somebody. What the evidence cannot show is *not judged*, and the
//! line says why.

mod access;
mod ledger;
mod money;
mod operation;
mod requests;
#[cfg(test)]
mod sample;
mod sold_out;
mod spans;
mod stock;

use crate::evidence::Evidence;
use serde::Serialize;

/// How many violations of one invariant are printed.
const SHOWN_MAX: usize = 5;

/// What became of one invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `I1` … `O4`.
    pub id: &'static str,
    /// What must hold.
    pub what: &'static str,
    /// How much was looked at, e.g. `34 orders, 212 instants`.
    pub looked_at: Vec<(u64, &'static str)>,
    /// What does not hold.
    pub violations: Vec<String>,
    /// Why it, or a part of it, was not judged.
    pub not_judged: Vec<String>,
}

impl Check {
    /// A check that has not looked at anything yet.
    fn new(id: &'static str, what: &'static str) -> Self {
        Self { id, what, looked_at: Vec::new(), violations: Vec::new(), not_judged: Vec::new() }
    }
    /// A check that this evidence cannot make.
    fn skipped(id: &'static str, what: &'static str, why: &str) -> Self {
        Self { not_judged: vec![why.to_owned()], ..Self::new(id, what) }
    }
    /// Notes how much was looked at.
    fn saw(&mut self, count: usize, what: &'static str) {
        self.looked_at.push((u64::try_from(count).unwrap_or(u64::MAX), what));
    }
    /// Notes a violation unless `holds`.
    fn must(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(otherwise());
        }
    }
    /// Whether nothing speaks against it.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
    /// Whether it was judged at least in part.
    pub fn is_judged(&self) -> bool {
        !self.looked_at.is_empty()
    }
}

/// The whole verdict.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The seed that repeats the run.
    pub seed: u64,
    /// One entry per invariant.
    pub checks: Vec<Check>,
    /// What `floodgate verify` found, which is judged like an invariant.
    pub verify: Check,
}

impl Verdict {
    /// Whether everything that was judged holds.
    pub fn holds(&self) -> bool {
        self.checks.iter().chain([&self.verify]).all(Check::holds)
    }

    /// One line per invariant, and the first violations below it.
    pub fn table(&self) -> String {
        self.checks.iter().chain([&self.verify]).map(line).collect()
    }
}

fn line(check: &Check) -> String {
    let result = match (check.is_judged(), check.holds()) {
        (_, false) => "FAIL",
        (true, true) => "ok",
        (false, true) => "-",
    };
    let mut counts: Vec<String> = check.looked_at.iter().map(|(count, what)| format!("{count} {what}")).collect();
    if check.is_judged() || !check.holds() {
        counts.push(format!("{} violations", check.violations.len()));
    }
    let mut text = format!("{:<7} {result:<4} {}: {}", check.id, check.what, counts.join(", "));
    for why in &check.not_judged {
        text.push_str(&format!("{}not judged: {why}", if text.ends_with(": ") { "" } else { "; " }));
    }
    text.push('\n');
    for violation in check.violations.iter().take(SHOWN_MAX) {
        text.push_str(&format!("          {violation}\n"));
    }
    if check.violations.len() > SHOWN_MAX {
        text.push_str(&format!("          … and {} more\n", check.violations.len() - SHOWN_MAX));
    }
    text
}

/// Judges everything.
pub fn judge(evidence: &Evidence) -> Verdict {
    let checks = vec![
        stock::i1_never_oversold(evidence),
        money::i2_captures_are_orders_or_refunds(evidence),
        money::i3_orders_have_their_money(evidence),
        stock::i4_reservations_end(evidence),
        stock::i5_released_stock_is_free(evidence),
        stock::i6_limit_per_person(evidence),
        money::i7_no_capture_on_released(evidence),
        Check::skipped("I8", "points and holds add up", "the product has no points yet"),
        money::i9_amounts(evidence),
        requests::i10_one_key_one_effect(evidence),
        money::i11_provider_agrees(evidence),
        ledger::i12_outbox_delivered(evidence),
        requests::i13_nothing_acknowledged_is_lost(evidence),
        requests::i14_no_ghosts(evidence),
        sold_out::i15_sold_out_is_true(evidence),
        money::i16_refunds_within_captures(evidence),
        ledger::i17_only_known_steps(evidence),
        access::s1_a_pass_serves_one_person(evidence),
        access::s2_no_way_round_the_line(evidence),
        operation::o1_resources_return(evidence),
        operation::o2_counters_agree(evidence),
        operation::o3_series_are_bounded(evidence),
        operation::o4_recovery_in_time(evidence),
    ];
    Verdict { seed: evidence.run.seed, checks, verify: ledger::verify_is_clean(evidence) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_run_holds_and_every_invariant_has_its_line() {
        let verdict = judge(&sample::clean());
        assert!(verdict.holds(), "{}", verdict.table());
        let ids: Vec<&str> = verdict.checks.iter().map(|check| check.id).collect();
        let wanted: Vec<String> = (1..=17)
            .map(|n| format!("I{n}"))
            .chain(["S1", "S2"].map(str::to_owned))
            .chain((1..=4).map(|n| format!("O{n}")))
            .collect();
        assert_eq!(ids, wanted);
        assert_eq!(verdict.table().lines().count(), ids.len() + 1);
        for check in &verdict.checks {
            assert!(check.is_judged() || !check.not_judged.is_empty(), "{} says nothing", check.id);
        }
    }
}
