//! What the worker writes about its calls, many jobs in one commit ([`crate::together`]). What a batch could not write,
//! each job writes alone: a repetition has no second effect, so it does not matter what became of the batch.

use crate::call::Call;
use crate::together::{Together, alone};
use ledger::{AttemptKind, Begin, Captured, Finish, Ledger, LedgerError, Opened};
use service_kit::ids::AttemptId;

/// The ledger, for many at once.
pub(crate) struct Book {
    ledger: Ledger,
    begins: Together<Begin, Option<Option<AttemptId>>>,
    finishes: Together<Finish, bool>,
    captures: Together<Captured, bool>,
    sessions: Together<Opened, Option<bool>>,
}

/// What tells the time.
type Clock<'c> = dyn Fn() -> i64 + Send + Sync + 'c;

impl Book {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            begins: Together::default(),
            finishes: Together::default(),
            captures: Together::default(),
            sessions: Together::default(),
        }
    }

    /// Writes down that a call is about to be made; `None` when it must not be made any more.
    pub(crate) async fn begin(&self, call: Call, clock: &Clock<'_>) -> Result<Option<AttemptId>, LedgerError> {
        let Call { payment, attempt: kind, refund, .. } = call;
        if refund.is_none() && kind != AttemptKind::Refund {
            let write = |begins: Vec<Begin>| async move {
                match self.ledger.begin_attempts(&begins, clock()).await {
                    Ok(begun) => begun.into_iter().map(Some).collect(),
                    Err(error) => alone(&error, &begins),
                }
            };
            // After an unknown outcome a confirm that was begun is found so, and is not begun again.
            if let Some(begun) = self.begins.write(Begin { payment, kind }, write).await.flatten() {
                return Ok(begun);
            }
        }
        self.ledger.begin_attempt(payment, kind, refund, clock()).await
    }

    /// Writes down what a call answered.
    pub(crate) async fn finish(
        &self,
        attempt: AttemptId,
        outcome: &str,
        detail: String,
        clock: &Clock<'_>,
    ) -> Result<(), LedgerError> {
        let write = |finishes: Vec<Finish>| async move {
            match self.ledger.finish_attempts(&finishes, clock()).await {
                Ok(()) => vec![true; finishes.len()],
                Err(error) => alone(&error, &finishes),
            }
        };
        let finish = Finish { attempt, outcome: outcome.to_owned(), detail };
        if self.finishes.write(finish.clone(), write).await == Some(true) {
            return Ok(());
        }
        self.ledger.finish_attempt(attempt, &finish.outcome, &finish.detail, clock()).await
    }

    /// The provider's session exists: `false` when the payment had ended meanwhile, `None` when it is to be written alone.
    pub(crate) async fn prepared(&self, opened: Opened, clock: &Clock<'_>) -> Option<bool> {
        let write = |all: Vec<Opened>| async move {
            match self.ledger.prepared_many(&all, clock()).await {
                Ok(open) => open.into_iter().map(Some).collect(),
                Err(error) => alone(&error, &all),
            }
        };
        self.sessions.write(opened, write).await.flatten()
    }

    /// Whether the order is paid now, by this. If not, it is to be settled alone, and then it is said why not.
    pub(crate) async fn captured(&self, captured: Captured, clock: &Clock<'_>) -> bool {
        let write = |all: Vec<Captured>| async move {
            match self.ledger.settle_many(&all, clock()).await {
                Ok(paid) => paid,
                Err(error) => alone(&error, &all),
            }
        };
        self.captures.write(captured, write).await == Some(true)
    }
}
