//! The live proof: every sum that `floodgate verify` checks, as gauges that must be 0, and units that are stuck. Reads
//! only, on one snapshot; the larger the ledger, the seldomer.

use super::deals_in_play;
use crate::app::App;
use crate::metric;
use ledger::{LedgerError, Stranded};
use metrics::gauge;
use service_kit::clock::{monotonic, now_ms};
use service_kit::shutdown::Shutdown;
use std::collections::BTreeMap;

/// Shortest time between two proofs.
const EVERY_MS: u64 = 10_000;
/// A proof may take this share of the time: one part in twenty.
const REST_FACTOR: u32 = 20;
/// How long units may be in nobody's hands before they count as stranded.
const STRANDED_AFTER_MS: i64 = 60_000;
/// Reasons for which units are stuck.
const REASONS: [&str; 8] = [
    "hold_not_released",
    "payment_requested",
    "payment_ready",
    "payment_authorized",
    "payment_confirming",
    "payment_unknown",
    "payment_waiting",
    "quarantined",
];

/// Runs until shutdown.
pub async fn run(app: App, shutdown: Shutdown) {
    loop {
        let started = monotonic();
        if let Err(error) = prove(&app).await {
            tracing::warn!(%error, "the sums could not be read; trying again");
        }
        let rest = started.elapsed().saturating_mul(REST_FACTOR).as_millis();
        if !shutdown.sleep_ms(u64::try_from(rest).unwrap_or(u64::MAX).max(EVERY_MS)).await {
            return;
        }
    }
}

async fn prove(app: &App) -> Result<(), LedgerError> {
    let ledger = &app.parts.ledger;
    let findings = ledger.verify().await?;
    let mut counts: BTreeMap<&str, u32> = ledger::CHECK_NAMES.iter().map(|name| (*name, 0)).collect();
    for finding in &findings {
        *counts.entry(&finding.check).or_default() += 1;
        tracing::error!(
            check = finding.check,
            subject = finding.subject,
            detail = finding.detail,
            "a sum does not hold"
        );
    }
    for (check, count) in counts {
        gauge!(metric::FINDINGS, "check" => check.to_owned()).set(f64::from(count));
    }
    let now = now_ms();
    let stranded = ledger.stranded(now, STRANDED_AFTER_MS).await?;
    for deal in deals_in_play(app).await? {
        for reason in REASONS {
            let units = stranded.iter().filter(|s| s.deal == deal.id && s.reason == reason).map(|s| s.units).sum();
            metric::deal_gauge(metric::STRANDED, deal.id, Some(("reason", reason)), units);
        }
    }
    for Stranded { deal, reason, units, since_ms } in stranded {
        tracing::warn!(%deal, reason, units, stuck_for_ms = now.saturating_sub(since_ms), "units are stuck");
    }
    Ok(())
}
