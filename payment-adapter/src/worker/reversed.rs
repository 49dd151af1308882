//! Refunds that a provider reported as done and took back later: the shopper's bank sent the money back.
//!
//! Steps: ask about the payment's done refunds, one by one → each explicit "failed" is taken back in our books too, and the
//! order is quarantined, in one transaction. Undo: none; an operator gives the money back anew. Races: of two workers one
//! writes each, also when a lease has run out. A crash leaves the sums apart, and the next comparison goes on.

use super::Shared;
use crate::call::{Called, Line};
use crate::provider::{Answer, RefundStanding};
use ledger::{LedgerError, PaymentWork};

/// Refunds that one look asks about, the newest first.
const ASKED_MAX: i64 = 10;

/// What a look for refunds that were taken back came to.
pub(super) enum Reversed {
    /// This much is back by our books now, in minor units.
    Known(i64),
    /// The provider cannot say it just now: look again then.
    Later(i64),
}

impl Shared {
    /// By the provider `refunded_minor` is back. If that is less than we have, asks about our refunds until they explain it.
    pub(super) async fn reversed(
        &self,
        line: &Line,
        work: &PaymentWork,
        refunded_minor: i64,
    ) -> Result<Reversed, LedgerError> {
        let mut ours_minor = work.refunded_minor;
        if ours_minor <= refunded_minor {
            return Ok(Reversed::Known(ours_minor));
        }
        for refund in self.ledger.done_refunds(work.id, ASKED_MAX).await? {
            match self.ask(line, &refund).await? {
                Called::Answered(Answer::Settled(RefundStanding::Failed(why))) => {
                    let write = || self.ledger.refund_reversed(refund.id, &why.code, &why.message, (self.clock)());
                    if self.persist(write).await? {
                        ours_minor = ours_minor.saturating_sub(refund.amount.minor());
                        tracing::error!(refund = %refund.id, amount = %refund.amount, %why, "a refund was taken back");
                        self.alarm(line, "the provider took a refund back");
                    }
                }
                Called::Resting(again_ms) => return Ok(Reversed::Later(again_ms)),
                Called::Answered(Answer::Unknown(doubt)) if doubt.is_sickness() => {
                    return Ok(Reversed::Later(self.after_back_off(work.tries)));
                }
                // It stands by the refund, or says nothing explicit about it: the sums decide.
                Called::MovedOn | Called::Answered(_) => {}
            }
            if ours_minor <= refunded_minor {
                break;
            }
        }
        Ok(Reversed::Known(ours_minor))
    }
}
