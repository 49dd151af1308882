//! Writing what was concluded. Every write here may be repeated with one effect, so a short trouble of the store is
//! waited out: the provider's answer is in our hands only once.

use super::{Done, Shared};
use crate::call::Line;
use crate::metric;
use crate::provider::Refusal;
use crate::rules::{self, Conclusion};
use ledger::{Capture, Ended, LedgerError, PaymentState, PaymentWork};
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
            Conclusion::Captured { reference, amount } => self.captured(line, work, &reference, amount).await,
            Conclusion::End { how, why } => self.ended(work, judged, how, &why).await,
            Conclusion::ConfirmAgain => {
                // Half of the tries were queries. The first repetition is at once, so that a crash costs no time.
                let pause_ms = if work.tries <= 2 { 0 } else { rules::back_off_ms(work.tries / 2, rand::random()) };
                let next_at_ms = (self.clock)().saturating_add(pause_ms);
                self.persist(|| self.ledger.confirm_again(work.id, next_at_ms, (self.clock)())).await?;
                Ok(Done::again(next_at_ms))
            }
            Conclusion::WaitUntil(next_at_ms) => self.postpone(work, next_at_ms).await,
            Conclusion::Retry if judged == PaymentState::Ready => {
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
    ) -> Result<Done, LedgerError> {
        let written = self.persist(|| self.ledger.settle_captured(work.id, reference, amount, (self.clock)())).await;
        match written {
            Ok(Capture::Paid) => {
                let minor = u64::try_from(amount.minor()).unwrap_or(0);
                counter!(metric::CAPTURED, "currency" => amount.currency().code()).increment(minor);
                tracing::info!(reference, %amount, "captured");
                Ok(Done::OK)
            }
            Ok(Capture::Already) => Ok(Done::DUPLICATE),
            Ok(Capture::Mismatch) => {
                self.alarm(line, "the captured amount is not the order's");
                let next_at_ms = (self.clock)().saturating_add(rules::BACK_OFF_MS_MAX);
                self.persist(|| self.ledger.mark_unknown(work.id, next_at_ms, (self.clock)())).await?;
                Ok(Done::again(next_at_ms))
            }
            Err(LedgerError::Refused(why)) => {
                self.alarm(line, &why);
                Err(LedgerError::Refused(why))
            }
            Err(error) => Err(error),
        }
    }

    async fn ended(
        &self,
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
        tracing::info!(?how, %why, "ended without money");
        Ok(Done::DECLINED)
    }

    /// Money at the provider that the ledger does not take: an operator must look.
    fn alarm(&self, line: &Line, why: &str) {
        counter!(metric::MISMATCHES, "provider" => line.provider.name(), "field" => "ledger").increment(1);
        tracing::error!(why, "the provider has money that the ledger refuses: an operator must look");
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
