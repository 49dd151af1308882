//! The verdict of a demo: figures and checks. Pure; fed with rows of PostgreSQL, the provider's
//! own ledger and the crowd's history, never with a service's counters.

use super::history::{Inversion, Turn, inversions, percentile, promise_errors};
use ledger::Finding;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Waits shorter than this say nothing about a promise.
const PROMISE_LEAST_MS: i64 = 2_000;

/// One order, as PostgreSQL has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    /// Id.
    pub id: String,
    /// Units.
    pub quantity: i64,
    /// Money, in minor units.
    pub amount_minor: i64,
    /// State.
    pub state: String,
}

/// One payment, as PostgreSQL has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRow {
    /// Its order.
    pub order: String,
    /// State.
    pub state: String,
    /// The provider's name for it.
    pub provider_ref: Option<String>,
}

/// One payment, as the provider has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderRow {
    /// The provider's name for it.
    pub tid: String,
    /// How often an approve succeeded.
    pub approvals: i64,
    /// Money taken, in minor units.
    pub captured: i64,
    /// Money given back, in minor units.
    pub cancelled: i64,
}

/// What the crowd reports about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrowdCounts {
    /// Synthetic shoppers.
    pub shoppers: u64,
    /// Tickets that were claimed.
    pub claimed: u64,
    /// Shoppers who wanted a unit to the end and got none.
    pub wanting: u64,
    /// Repeated requests (same key) that were answered with another order.
    pub doubled: u64,
    /// Shoppers who saw something that the interface does not promise; the first few in words.
    pub surprises: Vec<String>,
}

/// Everything that the verdict is made from.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Units for sale.
    pub stock: i64,
    /// All orders of the deal.
    pub orders: Vec<OrderRow>,
    /// All payments of these orders.
    pub payments: Vec<PaymentRow>,
    /// All payments at the provider.
    pub provider: Vec<ProviderRow>,
    /// The crowd's tickets.
    pub turns: Vec<Turn>,
    /// The crowd's counts.
    pub crowd: CrowdCounts,
    /// What the audit of the sums found.
    pub audit: Vec<Finding>,
    /// How long the sale took, from the opening to the last shopper.
    pub seconds: f64,
    /// Seed of the behaviour.
    pub seed: u64,
}

/// A distribution by two of its percentiles; `null` without values.
#[derive(Debug, Clone, Serialize)]
pub struct Waits {
    /// Median.
    pub p50: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
}

/// As [`Waits`], with the 90th percentile.
#[derive(Debug, Clone, Serialize)]
pub struct Errors {
    /// Median.
    pub p50: Option<f64>,
    /// 90th percentile.
    pub p90: Option<f64>,
}

/// The sums: clean, or what is wrong.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Audit {
    /// The word `clean`.
    Clean(&'static str),
    /// The findings.
    Findings(Vec<Finding>),
}

/// The report, as `--json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub shoppers: u64,
    pub joined: usize,
    pub called: usize,
    pub claimed: u64,
    pub held: usize,
    pub paid: usize,
    pub released: usize,
    pub stock: i64,
    pub sold: i64,
    pub oversold: i64,
    pub undersold: i64,
    pub inversions: usize,
    pub double_charges: usize,
    pub audit: Audit,
    pub wait_seconds: Waits,
    pub eta_error: Errors,
    pub seconds: f64,
    pub seed: u64,
    /// The checks that failed, in words; empty = exit code 0.
    pub failed: Vec<String>,
}

/// Draws the verdict.
pub fn report(evidence: Evidence) -> Report {
    let Evidence { stock, orders, payments, provider, turns, crowd, audit, seconds, seed } = evidence;
    let in_state = |state: &str| orders.iter().filter(|order| order.state == state).count();
    let sold: i64 = orders.iter().filter(|order| order.state == "paid").map(|order| order.quantity).sum();
    let undersold = if crowd.wanting > 0 { (stock - sold).max(0) } else { 0 };
    let overtaken = inversions(&turns);
    let charges = charge_faults(&orders, &payments, &provider);
    let waits: Vec<f64> = turns.iter().filter_map(|turn| turn.waited_ms).map(|ms| ms as f64 / 1_000.0).collect();
    let errors = promise_errors(&turns, PROMISE_LEAST_MS);

    let mut failed = Vec::new();
    if sold != stock {
        failed.push(format!("sold {sold} of {stock}"));
    }
    if undersold > 0 {
        failed.push(format!("{undersold} units were left while {} shoppers still wanted one", crowd.wanting));
    }
    let open = orders.iter().filter(|order| !matches!(order.state.as_str(), "paid" | "released" | "refunded")).count();
    if open > 0 {
        failed.push(format!("{open} orders have not come to an end"));
    }
    failed.extend(overtaken.iter().take(3).map(describe));
    failed.extend(charges.iter().take(3).cloned());
    if crowd.doubled > 0 {
        failed.push(format!("{} repeated requests made a second order", crowd.doubled));
    }
    failed.extend(crowd.surprises.iter().take(3).cloned());
    failed.extend(audit.iter().take(3).map(|f| format!("{}: {}: {}", f.check, f.subject, f.detail)));

    Report {
        shoppers: crowd.shoppers,
        joined: people(turns.iter()),
        called: people(turns.iter().filter(|turn| turn.called_at_ms.is_some())),
        claimed: crowd.claimed,
        held: orders.len(),
        paid: in_state("paid"),
        released: in_state("released"),
        stock,
        sold,
        oversold: (sold - stock).max(0),
        undersold,
        inversions: overtaken.len(),
        double_charges: charges.len(),
        audit: if audit.is_empty() { Audit::Clean("clean") } else { Audit::Findings(audit) },
        wait_seconds: Waits { p50: rounded(percentile(&waits, 0.5)), p99: rounded(percentile(&waits, 0.99)) },
        eta_error: Errors { p50: rounded(percentile(&errors, 0.5)), p90: rounded(percentile(&errors, 0.9)) },
        seconds: (seconds * 10.0).round() / 10.0,
        seed,
        failed,
    }
}

/// How many shoppers these tickets belong to: who missed a turn may have taken another ticket.
fn people<'t>(turns: impl Iterator<Item = &'t Turn>) -> usize {
    turns.map(|turn| turn.shopper).collect::<BTreeSet<_>>().len()
}

fn rounded(value: Option<f64>) -> Option<f64> {
    value.map(|v| (v * 1_000.0).round() / 1_000.0)
}

fn describe(inversion: &Inversion) -> String {
    let (who, whom) = inversion.numbers;
    format!("{}: number {who} against number {whom}", inversion.rule)
}

/// Money that moved without exactly one paid order behind it, or the other way round.
fn charge_faults(orders: &[OrderRow], payments: &[PaymentRow], provider: &[ProviderRow]) -> Vec<String> {
    let order_of: BTreeMap<&str, &str> = payments
        .iter()
        .filter_map(|payment| Some((payment.provider_ref.as_deref()?, payment.order.as_str())))
        .collect();
    let paid: BTreeMap<&str, i64> = orders
        .iter()
        .filter(|order| order.state == "paid")
        .map(|order| (order.id.as_str(), order.amount_minor))
        .collect();
    let mut kept: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    let mut faults = Vec::new();
    for row in provider {
        if row.approvals > 1 {
            faults.push(format!("payment {} was approved {} times", row.tid, row.approvals));
        }
        let net = row.captured - row.cancelled;
        if net == 0 {
            continue;
        }
        match order_of.get(row.tid.as_str()) {
            Some(order) => kept.entry(order).or_default().push(net),
            None => faults.push(format!("payment {} took {net} and belongs to no order", row.tid)),
        }
    }
    for (order, charges) in &kept {
        match (paid.get(order), charges.as_slice()) {
            (Some(amount), [charge]) if amount == charge => {}
            (Some(amount), charges) => faults.push(format!("order {order} costs {amount} and was charged {charges:?}")),
            (None, charges) => faults.push(format!("order {order} is not paid and was charged {charges:?}")),
        }
    }
    faults.extend(
        paid.keys()
            .filter(|order| !kept.contains_key(*order))
            .map(|order| format!("order {order} is paid and was never charged")),
    );
    let (taken, due): (i64, i64) = (provider.iter().map(|row| row.captured - row.cancelled).sum(), paid.values().sum());
    if taken != due && faults.is_empty() {
        faults.push(format!("the provider kept {taken}, the paid orders come to {due}"));
    }
    faults
}

impl Report {
    /// The report for people.
    pub fn table(&self) -> String {
        let audit = match &self.audit {
            Audit::Clean(word) => (*word).to_owned(),
            Audit::Findings(findings) => format!("{} findings", findings.len()),
        };
        let or_dash = |value: Option<f64>, unit: &str| value.map_or_else(|| "-".to_owned(), |v| format!("{v}{unit}"));
        let percent = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{:.0} %", v * 100.0));
        let rows = [
            ("shoppers", self.shoppers.to_string()),
            ("joined", self.joined.to_string()),
            ("called", self.called.to_string()),
            ("claimed", self.claimed.to_string()),
            ("held", self.held.to_string()),
            ("paid", self.paid.to_string()),
            ("released", self.released.to_string()),
            ("sold", format!("{} of {}", self.sold, self.stock)),
            ("oversold", self.oversold.to_string()),
            ("undersold", self.undersold.to_string()),
            ("inversions", self.inversions.to_string()),
            ("double charges", self.double_charges.to_string()),
            ("audit", audit),
            (
                "wait p50, p99",
                format!("{}, {}", or_dash(self.wait_seconds.p50, " s"), or_dash(self.wait_seconds.p99, " s")),
            ),
            ("promise off by p50, p90", format!("{}, {}", percent(self.eta_error.p50), percent(self.eta_error.p90))),
            ("took", format!("{} s", self.seconds)),
            ("seed", self.seed.to_string()),
        ];
        let mut lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:<24} {value}")).collect();
        lines.push(if self.failed.is_empty() {
            "verdict                  every check passed".into()
        } else {
            "verdict                  FAILED".into()
        });
        lines.extend(self.failed.iter().map(|why| format!("  - {why}")));
        lines.join("\n")
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
