//! One comparison of our books with a provider's. What differs is written down and given to the worker, which asks the
//! provider about that payment and repairs, refunds or quarantines by the rules of the purchase; what it cannot
//! repair stays open for an operator.
//!
//! A provider with a list is asked for it, page by page; of one without, every payment that moved in the window is
//! asked about on its own, a bounded number per pass. So is a payment from before the window of which a list has a part,
//! once and no more: it stays in the list for as long as the window, and nothing of it is written here. Two processes at
//! once find the same and write it once.

use super::books::{self, Books, Difference};
use crate::providers::Account;
use crate::{Config, metric};
use ledger::{Ledger, LedgerError};
use metrics::counter;
use std::collections::BTreeMap;

/// Payments of a provider that one pass has asked about one by one, at most.
const SINGLE_LOOKS_MAX: i64 = 200;

/// Compares every account's books once. Answers how many new differences there are.
///
/// # Errors
/// When the ledger does not answer. A provider that does not answer is left for the next pass.
pub async fn pass(cfg: &Config, ledger: &Ledger, accounts: &[Account], now_ms: i64) -> Result<usize, LedgerError> {
    let from_ms = now_ms.saturating_sub(cfg.reconcile_window_ms);
    let mut found = 0;
    for (provider, accounts) in by_provider(accounts) {
        if accounts.iter().all(|account| account.provider.lists()) {
            let books = books::listed(ledger, provider, &accounts, from_ms, now_ms).await?;
            found += repair(ledger, provider, &books, now_ms).await?;
            if !books.partial.is_empty() {
                let partial: Vec<_> = books.partial.iter().copied().collect();
                ledger.recheck_once(&partial, from_ms, SINGLE_LOOKS_MAX, now_ms).await?;
            }
        } else {
            // The worker asks about each that moved.
            ledger.recheck_moved(provider, from_ms, SINGLE_LOOKS_MAX, now_ms).await?;
        }
    }
    Ok(found)
}

/// The accounts by the provider that they are at.
pub fn by_provider(accounts: &[Account]) -> BTreeMap<&'static str, Vec<&Account>> {
    let mut by_name: BTreeMap<&'static str, Vec<&Account>> = BTreeMap::new();
    for account in accounts {
        by_name.entry(account.provider.name()).or_default().push(account);
    }
    by_name
}

/// Writes the differences down, has the worker ask about them, and closes those of payments that agree again.
async fn repair(ledger: &Ledger, provider: &str, books: &Books, now_ms: i64) -> Result<usize, LedgerError> {
    let mut found = 0;
    for difference in &books.differences {
        found += usize::from(write(ledger, difference, now_ms).await?);
        if let Some(payment) = difference.payment {
            ledger.recheck(payment, now_ms).await?;
        }
    }
    for open in ledger.open_discrepancies(10_000).await? {
        let again = open.payment.is_some_and(|payment| books.agreed.contains(&payment));
        if again && open.provider == provider {
            ledger.close_discrepancy(open.id, true, "reconciliation", now_ms).await?;
            tracing::info!(provider, reference = open.reference, "our books and the provider's agree again");
        }
    }
    Ok(found)
}

/// Whether the difference is new.
async fn write(ledger: &Ledger, found: &Difference, now_ms: i64) -> Result<bool, LedgerError> {
    let Difference { provider, class, reference, payment, detail } = found;
    let is_new = ledger.found_discrepancy(provider, *class, reference, *payment, detail, now_ms).await?;
    if is_new {
        counter!(metric::DISCREPANCIES_FOUND, "provider" => *provider, "class" => class.as_str()).increment(1);
        tracing::error!(provider, class = class.as_str(), reference, detail, "our books and the provider's differ");
    }
    Ok(is_new)
}
