//! From the errors of the stores to what the caller reads: whose fault, and whether to repeat.

use ledger::LedgerError;
use service_kit::problem::{Problem, Slug};
use service_kit::redis::StoreError;

/// PostgreSQL did not do it, or nobody knows.
pub fn ledger(error: &LedgerError) -> Problem {
    match error {
        LedgerError::Unavailable(_) | LedgerError::Collision(_) => {
            tracing::warn!(%error, "the ledger did not answer");
            Problem::new(Slug::StoreUnavailable, "Nothing was done. Try again in a moment.").retry_after_s(1)
        }
        LedgerError::Unknown(_) => {
            tracing::warn!(%error, "the ledger's answer was lost");
            unknown_outcome()
        }
        LedgerError::Refused(_) | LedgerError::Config(_) | LedgerError::Shape(_) => Problem::internal(error),
    }
}

/// Redis did not do it, or nobody knows.
pub fn store(error: &StoreError) -> Problem {
    match error {
        StoreError::Unknown(_) => {
            tracing::warn!(%error, "Redis did not answer");
            unknown_outcome()
        }
        // OOM, MISCONF, LOADING, READONLY: the store lives and says no; a bug of ours says BADARG.
        StoreError::Refused { code, .. } if !code.starts_with("BAD") => {
            tracing::warn!(%error, "Redis refused");
            Problem::new(Slug::StoreUnavailable, "Nothing was done. Try again in a moment.").retry_after_s(1)
        }
        StoreError::Refused { .. } | StoreError::Shape(_) | StoreError::Config(_) => Problem::internal(error),
    }
}

/// It may have been done: the same key finds out.
pub fn unknown_outcome() -> Problem {
    Problem::new(
        Slug::StoreUnavailable,
        "It is not known whether this was done. Repeat it with the same Idempotency-Key: it is done at most once.",
    )
    .retry_after_s(2)
}

/// More work is waiting than may.
pub fn busy(what: &str) -> Problem {
    Problem::new(
        Slug::StoreUnavailable,
        format!("Too many {what} are waiting just now; nothing was done. Try again in a moment."),
    )
    .retry_after_s(1)
}

/// There is no such thing, or it is not yours: the answer is the same.
pub fn not_found(what: &str) -> Problem {
    Problem::new(Slug::NotFound, format!("There is no such {what} of yours."))
}

/// The key was used for another request.
pub fn key_reused() -> Problem {
    Problem::new(
        Slug::IdempotencyKeyReused,
        "Use a fresh Idempotency-Key for a new intention; the same one only to repeat exactly the same request.",
    )
}
