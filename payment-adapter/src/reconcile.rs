//! A regular look over the whole: what is not settled, since when, and what is stuck. It changes nothing; stuck
//! payments stay with the worker, which asks the provider again and again, and with the operator, who hears of them.

use crate::{Config, metric};
use ledger::{Ledger, LedgerError, PaymentState};
use metrics::gauge;
use service_kit::ids::DealId;
use service_kit::shutdown::Shutdown;
use std::collections::{BTreeMap, BTreeSet};

/// The most deals with a series of their own; the others share `_other`.
const DEALS_MAX: usize = 50;

/// Looks until shutdown.
pub(crate) async fn run(cfg: &Config, ledger: &Ledger, shutdown: &Shutdown) {
    let mut shown = BTreeSet::new();
    loop {
        if let Err(error) = reconcile_once(ledger, cfg.stuck_after_ms, service_kit::clock::now_ms(), &mut shown).await {
            tracing::warn!(%error, "the reconciliation could not read the ledger");
        }
        if !shutdown.sleep_ms(cfg.reconcile_every_ms).await {
            return;
        }
    }
}

/// Looks once and sets the gauges. `shown` remembers which deals have a series. Answers how many payments are in
/// `confirming` or `unknown` and belong to a deal whose oldest one has been there for longer than the bound.
///
/// # Errors
/// When the ledger does not answer.
pub async fn reconcile_once(
    ledger: &Ledger,
    stuck_after_ms: i64,
    now_ms: i64,
    shown: &mut BTreeSet<DealId>,
) -> Result<i64, LedgerError> {
    let rows = ledger.unsettled_payments().await?;
    let mut pending: BTreeMap<&str, i64> = metric::UNSETTLED.iter().map(|state| (state.as_str(), 0)).collect();
    let mut oldest: BTreeMap<String, i64> = shown.iter().map(|deal| (deal.to_string(), now_ms)).collect();
    let mut stuck: BTreeMap<&str, i64> = BTreeMap::from([("confirming", 0), ("unknown", 0)]);
    for (deal, state, count, oldest_ms) in rows {
        *pending.entry(state.as_str()).or_default() += count;
        if shown.len() < DEALS_MAX {
            shown.insert(deal);
        }
        let label = if shown.contains(&deal) { deal.to_string() } else { "_other".to_owned() };
        let entry = oldest.entry(label).or_insert(now_ms);
        // `ready` waits for the shopper, who may take the provider's whole session; that is no backlog of ours.
        if state != PaymentState::Ready {
            *entry = (*entry).min(oldest_ms);
        }
        let lost = matches!(state, PaymentState::Confirming | PaymentState::Unknown);
        if lost && now_ms.saturating_sub(oldest_ms) > stuck_after_ms {
            *stuck.entry(state.as_str()).or_default() += count;
            tracing::error!(%deal, state = state.as_str(), count, oldest_ms, "payments without a known outcome for too long");
        }
    }
    for (state, count) in pending {
        gauge!(metric::PENDING, "state" => state).set(figure(count));
    }
    for (state, count) in &stuck {
        gauge!(metric::STUCK, "state" => *state).set(figure(*count));
    }
    for (deal, at_ms) in oldest {
        gauge!(metric::OLDEST_PENDING, "deal" => deal).set(figure(at_ms) / 1_000.0);
    }
    gauge!(metric::RECONCILED).set(figure(now_ms) / 1_000.0);
    Ok(stuck.values().sum())
}

#[expect(clippy::cast_precision_loss, reason = "counts and times stay far below 2^53")]
fn figure(value: i64) -> f64 {
    value as f64
}
