//! Reads a provider's books beside ours and says what differs. Reads only: what follows from a difference is the
//! business of the caller ([`super::pass`] has it repaired, [`super::proof`] tells it).

use super::compare::{SETTLING_MS, Theirs, Verdict, compare, sums};
use crate::provider::{About, Answer, Doubt, Listed, Outcome, Standing};
use crate::providers::{Account, account_for};
use futures::StreamExt as _;
use ledger::{Booked, DiscrepancyClass, Ledger, LedgerError, ListedAs};
use service_kit::ids::PaymentId;
use std::collections::{BTreeMap, BTreeSet};

/// Pages of a list that are read at once.
const PAGES_MAX: usize = 1_000;
/// Entries of a list that are looked up at once.
const ENTRIES_MAX: usize = 500;
/// Our payments per page.
const PAGE: i64 = 500;

/// What one payment is to us and to the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// At which provider.
    pub provider: &'static str,
    /// Which kind.
    pub class: DiscrepancyClass,
    /// The provider's id of the payment, or ours where it has none.
    pub reference: String,
    /// Ours, if we have it.
    pub payment: Option<PaymentId>,
    /// The figures of both sides.
    pub detail: String,
}

/// The end of a comparison.
#[derive(Debug, Default)]
pub struct Books {
    /// What differs.
    pub differences: Vec<Difference>,
    /// Payments of ours that agree. Whoever could not be compared is not among them.
    pub agreed: BTreeSet<PaymentId>,
    /// Payments of ours from before the time that was asked about, in which the list has a part of what happened to them:
    /// it says nothing about their sums.
    pub partial: BTreeSet<PaymentId>,
    /// Whether the provider's side was read to its end.
    pub is_whole: bool,
}

/// Compares with the lists of `accounts`, which are all of one provider.
///
/// Sums are judged when they are whole, and only then. A payment made before `from_ms` may have its capture outside the list
/// and a refund inside. In a list that was not read to its end, a refund on a page that is missing would explain every
/// difference, also a payment that is ended here or not ours at all: such a list is left alone, until it is read whole.
///
/// # Errors
/// When the ledger does not answer.
pub async fn listed(
    ledger: &Ledger,
    provider: &'static str,
    accounts: &[&Account],
    from_ms: i64,
    now_ms: i64,
) -> Result<Books, LedgerError> {
    let mut entries = Vec::new();
    let mut books = Books { is_whole: true, ..Books::default() };
    for account in accounts {
        let before = entries.len();
        if !read_list(account, from_ms, now_ms, &mut entries).await {
            // The other accounts have other payments: what they say still counts.
            entries.truncate(before);
            books.is_whole = false;
        }
    }
    let mut known: BTreeSet<PaymentId> = BTreeSet::new();
    let sums = sums(&entries);
    let ours = booked(ledger, provider, &sums).await?;
    for ((reference, (theirs, _)), ours) in sums.into_iter().zip(ours) {
        match ours {
            Some(ours) if ours.payment.made_at_ms() < from_ms => {
                books.partial.insert(ours.payment);
            }
            Some(ours) => {
                known.insert(ours.payment);
                match compare(&ours, &theirs, now_ms) {
                    Verdict::NotNow => {}
                    Verdict::Agrees => {
                        books.agreed.insert(ours.payment);
                    }
                    Verdict::Differs(class, detail) => {
                        let payment = Some(ours.payment);
                        books.differences.push(Difference {
                            provider,
                            class,
                            reference: reference.to_owned(),
                            payment,
                            detail,
                        });
                    }
                }
            }
            None if theirs.captured_minor > theirs.refunded_minor => books.differences.push(Difference {
                provider,
                class: DiscrepancyClass::TheirsOnly,
                reference: reference.to_owned(),
                payment: None,
                detail: format!(
                    "captured {} refunded {} {}: no payment of ours",
                    theirs.captured_minor, theirs.refunded_minor, theirs.currency
                ),
            }),
            None => {}
        }
    }
    if books.is_whole {
        missing(ledger, provider, &known, from_ms, now_ms, &mut books.differences).await?;
    }
    Ok(books)
}

/// Our payments that the sums of a list are about, in their order.
async fn booked(
    ledger: &Ledger,
    provider: &str,
    sums: &BTreeMap<&str, (Theirs, &Listed)>,
) -> Result<Vec<Option<Booked>>, LedgerError> {
    let named = sums.iter().map(|(reference, (_, entry))| {
        let plain = ListedAs { payment: None, order: None, reference };
        match &entry.about {
            About::Payment(payment) => ListedAs { payment: Some(payment.0), ..plain },
            About::Order(order) => ListedAs { order: Some(order.0), ..plain },
            About::Reference(named) => ListedAs { reference: named, ..plain },
            About::Nothing => plain,
        }
    });
    let named: Vec<ListedAs<'_>> = named.collect();
    let mut booked = Vec::with_capacity(named.len());
    for some in named.chunks(ENTRIES_MAX) {
        booked.extend(ledger.booked_as(provider, some).await?);
    }
    Ok(booked)
}

/// Captures of ours that the provider does not list.
async fn missing(
    ledger: &Ledger,
    provider: &'static str,
    listed: &BTreeSet<PaymentId>,
    from_ms: i64,
    now_ms: i64,
    differences: &mut Vec<Difference>,
) -> Result<(), LedgerError> {
    let mut pages = Pages::new(ledger, provider, from_ms);
    while let Some(page) = pages.next().await? {
        for ours in page {
            let settled = now_ms.saturating_sub(ours.updated_at_ms) >= SETTLING_MS;
            let inside = ours.payment.made_at_ms() >= from_ms;
            if ours.state == "captured" && settled && inside && !listed.contains(&ours.payment) {
                differences.push(ours_only(provider, &ours, "not listed"));
            }
        }
    }
    Ok(())
}

/// Compares by asking about every payment of ours since `from_ms`, one by one, as many at once as the provider bears.
/// What only the provider has is not seen this way.
///
/// # Errors
/// When the ledger does not answer.
pub async fn asked(
    ledger: &Ledger,
    provider: &'static str,
    accounts: &[Account],
    from_ms: i64,
    now_ms: i64,
) -> Result<Books, LedgerError> {
    let at_once = accounts.iter().filter(|a| a.provider.name() == provider).map(|a| a.provider.concurrency()).min();
    let mut books = Books { is_whole: true, ..Books::default() };
    let mut pages = Pages::new(ledger, provider, from_ms);
    while let Some(page) = pages.next().await? {
        let looks = futures::stream::iter(page.into_iter().map(|ours| async move {
            let theirs = ask(ledger, accounts, &ours).await?;
            Ok::<_, LedgerError>((ours, theirs))
        }));
        let mut looks = std::pin::pin!(looks.buffer_unordered(at_once.unwrap_or(1).max(1)));
        while let Some(look) = looks.next().await {
            let (ours, theirs) = look?;
            match theirs {
                Ok(theirs) => match compare(&ours, &theirs, now_ms) {
                    Verdict::NotNow => {}
                    Verdict::Agrees => {
                        books.agreed.insert(ours.payment);
                    }
                    Verdict::Differs(..) if theirs.captured_minor == 0 => {
                        books.differences.push(ours_only(provider, &ours, "nothing taken"));
                    }
                    Verdict::Differs(class, detail) => {
                        books.differences.push(difference(provider, class, &ours, detail));
                    }
                },
                Err(Doubt::Mismatch(what)) => {
                    books.differences.push(difference(provider, DiscrepancyClass::Amount, &ours, what.to_string()));
                }
                Err(doubt) => {
                    tracing::warn!(provider, payment = %ours.payment, %doubt, "the provider did not say where this payment stands");
                    books.is_whole = false;
                }
            }
        }
    }
    Ok(books)
}

/// What the provider has of one payment of ours.
async fn ask(ledger: &Ledger, accounts: &[Account], ours: &Booked) -> Result<Result<Theirs, Doubt>, LedgerError> {
    let Some(work) = ledger.payment_work(ours.payment).await? else {
        return Err(LedgerError::Shape("a payment is gone".into()));
    };
    let Some(account) = account_for(accounts, &work) else {
        return Ok(Err(Doubt::Unreadable("the account that it was made with is not configured".into())));
    };
    Ok(match account.provider.query(&work).await {
        Answer::Unknown(doubt) => Err(doubt),
        Answer::Settled(Standing::Ended(Outcome::Paid { amount, refunded_minor, .. })) => {
            Ok(Theirs { captured_minor: amount.minor(), refunded_minor, currency: amount.currency().code().to_owned() })
        }
        Answer::Settled(_) => Ok(Theirs { currency: ours.currency.clone(), ..Theirs::default() }),
    })
}

fn ours_only(provider: &'static str, ours: &Booked, theirs: &str) -> Difference {
    let detail = format!("ours: captured {} {}; theirs: {theirs}", ours.captured_minor, ours.currency);
    difference(provider, DiscrepancyClass::OursOnly, ours, detail)
}

fn difference(provider: &'static str, class: DiscrepancyClass, ours: &Booked, detail: String) -> Difference {
    let reference = ours.provider_ref.clone().unwrap_or_else(|| ours.payment.to_string());
    Difference { provider, class, reference, payment: Some(ours.payment), detail }
}

/// Our payments at a provider since an instant, page by page.
struct Pages<'a> {
    ledger: &'a Ledger,
    provider: &'a str,
    from_ms: i64,
    after: Option<Booked>,
    is_over: bool,
}

impl<'a> Pages<'a> {
    /// From the first one on.
    fn new(ledger: &'a Ledger, provider: &'a str, from_ms: i64) -> Self {
        Self { ledger, provider, from_ms, after: None, is_over: false }
    }

    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// When the ledger does not answer.
    async fn next(&mut self) -> Result<Option<Vec<Booked>>, LedgerError> {
        if self.is_over {
            return Ok(None);
        }
        let page = self.ledger.booked(self.provider, self.from_ms, self.after.as_ref(), PAGE).await?;
        self.after = page.last().cloned();
        self.is_over = i64::try_from(page.len()).is_ok_and(|n| n < PAGE);
        Ok(Some(page))
    }
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
