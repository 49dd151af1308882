//! A regular look over the whole: our books beside each provider's ([`pass`]), what is not settled and since when, and
//! what waits for an operator. Stuck payments stay with the worker, which asks the provider again and again.

pub mod books;
pub mod compare;
pub mod pass;
pub mod proof;

use crate::providers::Account;
use crate::{Config, metric};
use ledger::{DiscrepancyClass, Ledger, LedgerError, PaymentState};
use metrics::gauge;
use service_kit::ids::DealId;
use service_kit::shutdown::Shutdown;
use std::collections::{BTreeMap, BTreeSet};

/// The most deals with a series of their own; the others share `_other`.
const DEALS_MAX: usize = 50;

/// Looks until shutdown.
pub(crate) async fn run(cfg: &Config, ledger: &Ledger, accounts: &[Account], shutdown: &Shutdown) {
    let mut shown = BTreeSet::new();
    loop {
        let look = reconcile_once(ledger, cfg.stuck_after_ms, service_kit::clock::now_ms(), &mut shown);
        if let Err(error) = service_kit::failpoint::around("Q2.before", "Q2.after", look).await {
            tracing::warn!(%error, "the reconciliation could not read the ledger");
        }
        match pass::pass(cfg, ledger, accounts, service_kit::clock::now_ms()).await {
            Ok(_) => gauge!(metric::RECONCILED).set(figure(service_kit::clock::now_ms()) / 1_000.0),
            Err(error) => tracing::warn!(%error, "the books were not compared to the end"),
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
        // `ready` and `waiting` wait for the shopper, who may take the provider's whole time; that is no backlog of ours.
        if !matches!(state, PaymentState::Ready | PaymentState::Waiting) {
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
    for (kind, count) in ledger.waiting_counts().await? {
        gauge!(metric::WAITING_FOR_OPERATOR, "kind" => kind).set(figure(count));
    }
    let open = ledger.open_discrepancies(10_000).await?;
    for class in DiscrepancyClass::ALL {
        let count = open.iter().filter(|d| d.class == class.as_str()).count();
        gauge!(metric::DISCREPANCIES, "class" => class.as_str()).set(figure(i64::try_from(count).unwrap_or(i64::MAX)));
    }
    Ok(stuck.values().sum())
}

#[expect(clippy::cast_precision_loss, reason = "counts and times stay far below 2^53")]
fn figure(value: i64) -> f64 {
    value as f64
}
