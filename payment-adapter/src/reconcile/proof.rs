//! The proof beside the provider's own books, for `floodgate verify --providers`. Writes nothing anywhere.

use super::books::{self, Difference};
use super::pass::by_provider;
use crate::providers::Account;
use ledger::{Ledger, LedgerError};

/// What the providers' books said.
#[derive(Debug, Default)]
pub struct Proof {
    /// What differs.
    pub differences: Vec<Difference>,
    /// Payments of ours that agree; those that move just now are not counted.
    pub agreed: usize,
    /// Providers that were not read to their end: nothing is proved about the rest of their books.
    pub unread: Vec<&'static str>,
}

/// Compares all books since `from_ms`: a provider with a list by its list, one without by asking about each payment of ours.
/// A list proves nothing about payments from before `from_ms`, of which it has a part at most.
///
/// # Errors
/// When the ledger does not answer.
pub async fn prove(ledger: &Ledger, accounts: &[Account], from_ms: i64, now_ms: i64) -> Result<Proof, LedgerError> {
    let mut proof = Proof::default();
    for (provider, of_it) in by_provider(accounts) {
        let books = if of_it.iter().all(|account| account.provider.lists()) {
            books::listed(ledger, provider, &of_it, from_ms, now_ms).await?
        } else {
            books::asked(ledger, provider, accounts, from_ms, now_ms).await?
        };
        proof.agreed += books.agreed.len();
        proof.differences.extend(books.differences);
        if !books.is_whole {
            proof.unread.push(provider);
        }
    }
    Ok(proof)
}
