//! One comparison of our books with a provider's. What differs is written down and given to the worker, which asks the
//! provider about that payment and repairs, refunds or quarantines by the rules of the purchase; what it cannot
//! repair stays open for an operator.
//!
//! A provider with a list is asked for it, page by page; of one without, every payment that moved in the window is
//! asked about on its own, a bounded number per pass. Two processes at once find the same and write it once.

use super::compare::{SETTLING_MS, Theirs, compare, sums};
use crate::provider::{About, Answer, Listed};
use crate::providers::Account;
use crate::{Config, metric};
use ledger::{Booked, DiscrepancyClass, Ledger, LedgerError};
use metrics::counter;
use service_kit::ids::PaymentId;
use std::collections::{BTreeMap, BTreeSet};

/// Pages of a list that one pass reads.
const PAGES_MAX: usize = 1_000;
/// Our payments per page.
const PAGE: i64 = 500;
/// Payments of a provider without a list that one pass has asked about.
const SINGLE_LOOKS_MAX: usize = 200;

/// Compares every account's books once. Answers how many new differences there are.
///
/// # Errors
/// When the ledger does not answer. A provider that does not answer is left for the next pass.
pub async fn pass(cfg: &Config, ledger: &Ledger, accounts: &[Account], now_ms: i64) -> Result<usize, LedgerError> {
    let from_ms = now_ms.saturating_sub(cfg.reconcile_window_ms);
    let mut by_name: BTreeMap<&'static str, Vec<&Account>> = BTreeMap::new();
    for account in accounts {
        by_name.entry(account.provider.name()).or_default().push(account);
    }
    let mut found = 0;
    for (provider, accounts) in by_name {
        let mut pass = Pass { ledger, provider, from_ms, now_ms, found: 0 };
        if accounts.iter().all(|account| account.provider.lists()) {
            let mut entries = Vec::new();
            let mut whole = true;
            for account in accounts {
                whole &= read_list(account, from_ms, now_ms, &mut entries).await;
            }
            pass.lists(&entries, whole).await?;
        } else {
            pass.singles().await?;
        }
        found += pass.found;
    }
    Ok(found)
}

/// Reads an account's list; `false` when it was not read to its end.
async fn read_list(account: &Account, from_ms: i64, to_ms: i64, entries: &mut Vec<Listed>) -> bool {
    let mut page = None;
    for _ in 0..PAGES_MAX {
        match account.provider.list(from_ms, to_ms, page.take()).await {
            Answer::Settled(listing) => {
                entries.extend(listing.entries);
                match listing.next {
                    Some(next) => page = Some(next),
                    None => return true,
                }
            }
            Answer::Unknown(doubt) => {
                tracing::warn!(provider = account.provider.name(), %doubt, "the provider's list was not read to its end");
                return false;
            }
        }
    }
    tracing::warn!(provider = account.provider.name(), "the provider's list is longer than one pass reads");
    false
}

struct Pass<'a> {
    ledger: &'a Ledger,
    provider: &'static str,
    from_ms: i64,
    now_ms: i64,
    found: usize,
}

impl Pass<'_> {
    async fn lists(&mut self, entries: &[Listed], whole: bool) -> Result<(), LedgerError> {
        let mut listed: BTreeSet<PaymentId> = BTreeSet::new();
        let mut agreed: BTreeSet<PaymentId> = BTreeSet::new();
        for (reference, (theirs, entry)) in sums(entries) {
            let (payment, order, named) = match &entry.about {
                About::Payment(payment) => (Some(payment.0), None, None),
                About::Order(order) => (None, Some(order.0), None),
                About::Reference(named) => (None, None, Some(named.as_str())),
                About::Nothing => (None, None, Some(reference)),
            };
            match self.ledger.booked_as(self.provider, payment, order, named.or(Some(reference))).await? {
                Some(ours) => {
                    listed.insert(ours.payment);
                    if self.look(&ours, reference, &theirs).await? {
                        agreed.insert(ours.payment);
                    }
                }
                None if theirs.captured_minor > theirs.refunded_minor => {
                    let detail = format!(
                        "captured {} refunded {} {}: no payment of ours",
                        theirs.captured_minor, theirs.refunded_minor, theirs.currency
                    );
                    self.write(DiscrepancyClass::TheirsOnly, reference, None, &detail).await?;
                }
                None => {}
            }
        }
        if whole {
            self.missing(&listed).await?;
        }
        self.close(&agreed).await
    }

    /// Compares one payment; `true` when both sides agree.
    async fn look(&mut self, ours: &Booked, reference: &str, theirs: &Theirs) -> Result<bool, LedgerError> {
        let Some((class, detail)) = compare(ours, theirs, self.now_ms) else { return Ok(true) };
        self.write(class, reference, Some(ours.payment), &detail).await?;
        self.ledger.recheck(ours.payment, self.now_ms).await?;
        Ok(false)
    }

    /// Captures of ours that the provider does not list.
    async fn missing(&mut self, listed: &BTreeSet<PaymentId>) -> Result<(), LedgerError> {
        let mut after = None;
        loop {
            let page = self.ledger.booked(self.provider, self.from_ms, after, PAGE).await?;
            for ours in &page {
                let settled = self.now_ms.saturating_sub(ours.updated_at_ms) >= SETTLING_MS;
                let inside = ours.payment.made_at_ms() >= self.from_ms;
                if ours.state == "captured" && settled && inside && !listed.contains(&ours.payment) {
                    let reference = ours.provider_ref.clone().unwrap_or_else(|| ours.payment.to_string());
                    let detail =
                        format!("ours: captured {} {}; theirs: not listed", ours.captured_minor, ours.currency);
                    self.write(DiscrepancyClass::OursOnly, &reference, Some(ours.payment), &detail).await?;
                    self.ledger.recheck(ours.payment, self.now_ms).await?;
                }
            }
            after = page.last().map(|ours| ours.payment);
            if i64::try_from(page.len()).is_ok_and(|n| n < PAGE) {
                return Ok(());
            }
        }
    }

    /// A provider without a list: the worker asks about each payment that moved.
    async fn singles(&mut self) -> Result<(), LedgerError> {
        let mut looked = 0;
        let mut after = None;
        while looked < SINGLE_LOOKS_MAX {
            let page = self.ledger.booked(self.provider, self.from_ms, after, PAGE).await?;
            for ours in page.iter().filter(|ours| ours.state != "ready" && ours.refunding_minor == 0) {
                if looked < SINGLE_LOOKS_MAX && self.ledger.recheck_if_older(ours.payment, self.now_ms).await? {
                    looked += 1;
                }
            }
            after = page.last().map(|ours| ours.payment);
            if i64::try_from(page.len()).is_ok_and(|n| n < PAGE) {
                break;
            }
        }
        Ok(())
    }

    async fn write(
        &mut self,
        class: DiscrepancyClass,
        reference: &str,
        payment: Option<PaymentId>,
        detail: &str,
    ) -> Result<(), LedgerError> {
        if self.ledger.found_discrepancy(self.provider, class, reference, payment, detail, self.now_ms).await? {
            self.found += 1;
            counter!(metric::DISCREPANCIES_FOUND, "provider" => self.provider, "class" => class.as_str()).increment(1);
            tracing::error!(
                provider = self.provider,
                class = class.as_str(),
                reference,
                detail,
                "our books and the provider's differ"
            );
        }
        Ok(())
    }

    /// Closes differences of payments that agree again.
    async fn close(&self, agreed: &BTreeSet<PaymentId>) -> Result<(), LedgerError> {
        for open in self.ledger.open_discrepancies(10_000).await? {
            let again = open.payment.is_some_and(|payment| agreed.contains(&payment));
            if again && open.provider == self.provider {
                self.ledger.close_discrepancy(open.id, true, "reconciliation", self.now_ms).await?;
                tracing::info!(
                    provider = self.provider,
                    reference = open.reference,
                    "our books and the provider's agree again"
                );
            }
        }
        Ok(())
    }
}
