//! Writing what was concluded. Every write here may be repeated with one effect, so a short trouble of the store is
//! waited out: the provider's answer is in our hands only once.

use super::reversed::Reversed;
use super::{Done, Shared};
use crate::call::Line;
use crate::metric;
use crate::provider::Refusal;
use crate::rules::{self, Conclusion};
use ledger::{Actor, Capture, Captured, Ended, LedgerError, PaymentState, PaymentWork};
use metrics::counter;
use service_kit::money::Money;
use std::time::Duration;

/// How often a write is tried.
const WRITES_MAX: u32 = 5;
/// First wait between two tries in milliseconds; doubled each time.
const WRITE_WAIT_MS: u64 = 100;

impl Shared {
    /// Carries out a conclusion about a payment that was judged in the state `judged`.
    pub(super) async fn settle(
        &self,
        line: &Line,
        work: &PaymentWork,
        judged: PaymentState,
        conclusion: Conclusion,
    ) -> Result<Done, LedgerError> {
        match conclusion {
            Conclusion::Captured { reference, amount, refunded_minor } => {
                match self.reversed(line, work, refunded_minor).await? {
                    Reversed::Later(next_at_ms) => self.postpone(work, next_at_ms).await,
                    // Judged are our books as they stand now.
                    Reversed::Known(ours_minor) => {
                        let work = PaymentWork { refunded_minor: ours_minor, ..work.clone() };
                        self.captured(line, &work, &reference, amount, refunded_minor).await
                    }
                }
            }
            Conclusion::End { how, why } => self.ended(line, work, judged, how, &why).await,
            Conclusion::ConfirmAgain => {
                // Half of the tries were queries. The first repetition is at once, so that a crash costs no time.
                let pause_ms = if work.tries <= 2 { 0 } else { rules::back_off_ms(work.tries / 2, rand::random()) };
                let next_at_ms = (self.clock)().saturating_add(pause_ms);
                self.persist(|| self.ledger.confirm_again(work.id, next_at_ms, (self.clock)())).await?;
                Ok(Done::again(next_at_ms))
            }
            Conclusion::Deposit { until_ms, next_at_ms } => {
                let write = || self.ledger.mark_waiting(work.id, until_ms, next_at_ms, (self.clock)());
                self.persist(write).await?;
                Ok(Done::again(next_at_ms))
            }
            Conclusion::Agrees => {
                self.persist(|| self.ledger.recheck_done(work.id)).await?;
                Ok(Done::DUPLICATE)
            }
            Conclusion::Differs => {
                self.quarantine(line, work, "the provider's figures are not the order's").await?;
                Ok(Done::DECLINED)
            }
            Conclusion::Park(why) => {
                tracing::error!(why, "a payment is set aside: an operator must look");
                self.persist(|| self.ledger.park_payment(work.id, why, (self.clock)())).await?;
                Ok(Done::DECLINED)
            }
            Conclusion::WaitUntil(next_at_ms) => self.postpone(work, next_at_ms).await,
            Conclusion::Retry if judged == PaymentState::Ready || work.is_recheck => {
                self.postpone(work, self.after_back_off(work.tries)).await
            }
            Conclusion::Retry => {
                let next_at_ms = self.after_back_off(work.tries);
                self.persist(|| self.ledger.mark_unknown(work.id, next_at_ms, (self.clock)())).await?;
                Ok(Done::again(next_at_ms))
            }
        }
    }

    async fn captured(
        &self,
        line: &Line,
        work: &PaymentWork,
        reference: &str,
        amount: Money,
        refunded_minor: i64,
    ) -> Result<Done, LedgerError> {
        let actor = if work.is_recheck { Actor::Reconciliation } else { Actor::Worker };
        let write = || self.ledger.settle_captured(work.id, reference, amount, actor, (self.clock)());
        let settled = async {
            // With all others that come just now, if this is the plain case; else alone.
            let captured = Captured { payment: work.id, reference: reference.to_owned(), money: amount, actor };
            if self.book.captured(captured, &*self.clock).await { Ok(Capture::Paid) } else { self.persist(write).await }
        };
        let capture = match service_kit::failpoint::around("P3.after", "P4.after", settled).await {
            Err(LedgerError::Refused(why)) => {
                self.alarm(line, &why);
                return Err(LedgerError::Refused(why));
            }
            result => result?,
        };
        if refunded_minor != work.refunded_minor && capture != Capture::Mismatch {
            // Somebody gave money back at the provider, or less is back there than our refunds: not ours to explain away.
            self.quarantine(line, work, "the provider has given back another sum than we have").await?;
            return Ok(Done::DECLINED);
        }
        match capture {
            Capture::Paid | Capture::GoesBack => {
                let minor = u64::try_from(amount.minor()).unwrap_or(0);
                counter!(metric::CAPTURED, "currency" => amount.currency().code()).increment(minor);
                tracing::info!(reference, %amount, goes_back = capture == Capture::GoesBack, "captured");
                Ok(Done::OK)
            }
            Capture::Already => Ok(Done::DUPLICATE),
            Capture::Mismatch => {
                self.alarm(line, "the captured amount is not the order's");
                Ok(Done::DECLINED)
            }
        }
    }

    /// Quarantines the order, with an alarm when it was not before.
    async fn quarantine(&self, line: &Line, work: &PaymentWork, what: &str) -> Result<(), LedgerError> {
        let actor = if work.is_recheck { Actor::Reconciliation } else { Actor::Worker };
        if self.persist(|| self.ledger.quarantine(work.id, what, work.refunded_minor, actor, (self.clock)())).await? {
            self.alarm(line, what);
        }
        Ok(())
    }

    /// Ends a payment that no session was ever opened for: there is nothing at any provider.
    pub(super) async fn end_unopened(
        &self,
        work: &PaymentWork,
        how: Ended,
        why: &Refusal,
    ) -> Result<Done, LedgerError> {
        let end =
            || self.ledger.settle_ended(work.id, PaymentState::Requested, how, &why.code, &why.message, (self.clock)());
        Ok(if self.persist(end).await? { Done::DECLINED } else { Done::DUPLICATE })
    }

    async fn ended(
        &self,
        line: &Line,
        work: &PaymentWork,
        judged: PaymentState,
        how: Ended,
        why: &Refusal,
    ) -> Result<Done, LedgerError> {
        let moved = self
            .persist(|| self.ledger.settle_ended(work.id, judged, how, &why.code, &why.message, (self.clock)()))
            .await?;
        if !moved {
            return Ok(Done::DUPLICATE);
        }
        // No money was taken: a reservation on the shopper's card need not stay either.
        if judged != PaymentState::Requested {
            line.provider.abandon(work).await;
        }
        tracing::info!(?how, %why, "ended without money");
        Ok(Done::DECLINED)
    }

    /// Money at the provider that does not fit the ledger: an operator must look.
    pub(super) fn alarm(&self, line: &Line, why: &str) {
        counter!(metric::MISMATCHES, "provider" => line.provider.name(), "field" => "ledger").increment(1);
        tracing::error!(why, "money at the provider does not fit the ledger: an operator must look");
    }

    /// Writes, and tries again while the store does not answer. Only for writes that may be repeated.
    pub(super) async fn persist<T, F>(&self, mut write: impl FnMut() -> F) -> Result<T, LedgerError>
    where
        F: Future<Output = Result<T, LedgerError>>,
    {
        let mut tried = 1;
        loop {
            match write().await {
                Err(error)
                    if tried < WRITES_MAX && (error.is_safe_to_retry() || matches!(error, LedgerError::Unknown(_))) =>
                {
                    tracing::warn!(%error, tried, "the store did not take a settlement; trying again");
                    tokio::time::sleep(Duration::from_millis(WRITE_WAIT_MS << tried)).await;
                    tried += 1;
                }
                result => return result,
            }
        }
    }
}
