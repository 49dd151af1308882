//! One job of a refund: `requested → sending → done | failed`, with `unknown` when no explicit answer came.
//!
//! Undo: none; money that went back stays back. Races: a cancel carries the remaining sum as a guard, so of two cancels
//! of one payment the provider takes one. A refusal alone proves nothing (the repetition of a success is refused too):
//! the provider is asked, and only "nothing went back" makes it a failure.

use super::{Done, Shared, report};
use crate::call::{Call, Called, Line};
use crate::provider::{Answer, Doubt, RefundStanding, Refusal};
use crate::rules;
use ledger::{AttemptKind, LedgerError, RefundState, RefundWork};
use service_kit::clock::monotonic;
use service_kit::planted;

/// After how many tries a refusal counts although an earlier cancel got no answer: by then the earlier one, should it
/// have been slow, has arrived.
const TRIES_BEFORE_FAILURE: i64 = 8;

impl Shared {
    /// One job of a refund. Answers when it is due again.
    pub(super) async fn refund(&self, work: &RefundWork) -> Option<i64> {
        let started = monotonic();
        let first = work.state == RefundState::Requested;
        let kind = if first { "refund" } else { "query_refund" };
        let done = match self.line(&work.provider, work.merchant, work.account_of) {
            None => {
                tracing::error!(
                    provider = work.provider, merchant = %work.merchant, account_of = ?work.account_of,
                    "the account that this refund's payment was made with is not configured"
                );
                self.rest(work, (self.clock)().saturating_add(rules::BACK_OFF_MS_MAX)).await
            }
            Some(line) if first || planted!("refund-sent-again-blindly") => self.send(line, work).await,
            Some(line) => self.ask_then_send(line, work).await,
        };
        report(&work.provider, kind, started, done)
    }

    /// A cancel was sent before, or may have been: ask, and send (again) only when nothing went back.
    async fn ask_then_send(&self, line: &Line, work: &RefundWork) -> Result<Done, LedgerError> {
        match self.ask(line, work).await? {
            Called::MovedOn => Ok(Done::DUPLICATE),
            Called::Resting(again_ms) => self.rest(work, again_ms).await,
            Called::Answered(Answer::Settled(RefundStanding::Done { reference })) => self.done(work, &reference).await,
            Called::Answered(Answer::Settled(RefundStanding::Pending)) => self.pending(work).await,
            Called::Answered(Answer::Settled(RefundStanding::Failed(why))) => self.failed(work, &why).await,
            Called::Answered(Answer::Settled(RefundStanding::NotDone)) => {
                let now_ms = (self.clock)();
                // From `sending` back to where an attempt may begin; nobody else's before a lease is over.
                self.persist(|| self.ledger.refund_unknown(work.id, now_ms.saturating_add(self.lease_ms), now_ms))
                    .await?;
                self.send(line, work).await
            }
            Called::Answered(Answer::Unknown(doubt)) => self.doubtful(work, &doubt).await,
        }
    }

    async fn send(&self, line: &Line, work: &RefundWork) -> Result<Done, LedgerError> {
        let call = Call { kind: "refund", attempt: AttemptKind::Refund, payment: work.payment, refund: Some(work.id) };
        let answer = service_kit::failpoint::around("C2.before", "C2.after", line.provider.refund(work));
        match line.call(&self.book, call, answer, |at| format!("{at:?}"), &*self.clock).await? {
            Called::MovedOn => Ok(Done::DUPLICATE),
            Called::Resting(again_ms) => self.rest(work, again_ms).await,
            Called::Answered(Answer::Settled(RefundStanding::Done { reference })) => self.done(work, &reference).await,
            Called::Answered(Answer::Settled(RefundStanding::Pending)) => self.pending(work).await,
            Called::Answered(Answer::Settled(RefundStanding::Failed(why))) => self.failed(work, &why).await,
            Called::Answered(Answer::Settled(RefundStanding::NotDone)) => {
                self.doubtful(work, &Doubt::Unreadable("a refund call that says: not done".to_owned())).await
            }
            Called::Answered(Answer::Unknown(Doubt::Refused(why))) => self.refused(line, work, why).await,
            Called::Answered(Answer::Unknown(doubt)) => self.doubtful(work, &doubt).await,
        }
    }

    async fn refused(&self, line: &Line, work: &RefundWork, why: Refusal) -> Result<Done, LedgerError> {
        if planted!("refund-sent-again-blindly") {
            return self.failed(work, &why).await;
        }
        match self.ask(line, work).await? {
            Called::Answered(Answer::Settled(RefundStanding::Done { reference })) => self.done(work, &reference).await,
            Called::Answered(Answer::Settled(RefundStanding::NotDone))
                if work.state == RefundState::Requested || work.tries >= TRIES_BEFORE_FAILURE =>
            {
                self.failed(work, &why).await
            }
            _ => self.doubtful(work, &Doubt::Refused(why)).await,
        }
    }

    /// Asks where a refund stands.
    pub(super) async fn ask(&self, line: &Line, work: &RefundWork) -> Result<Called<RefundStanding>, LedgerError> {
        let call =
            Call { kind: "query_refund", attempt: AttemptKind::Query, payment: work.payment, refund: Some(work.id) };
        line.call(&self.book, call, line.provider.query_refund(work), |at| format!("{at:?}"), &*self.clock).await
    }

    async fn done(&self, work: &RefundWork, reference: &str) -> Result<Done, LedgerError> {
        let write = || self.ledger.refund_done(work.id, reference, (self.clock)());
        let done = service_kit::failpoint::around("C3.before", "C3.after", self.persist(write)).await?;
        tracing::info!(reference, amount = %work.amount, "refunded");
        Ok(if done { Done::OK } else { Done::DUPLICATE })
    }

    async fn failed(&self, work: &RefundWork, why: &Refusal) -> Result<Done, LedgerError> {
        tracing::error!(%why, "the provider refuses a refund");
        let write = || self.ledger.refund_failed(work.id, &why.code, &why.message, (self.clock)());
        Ok(if self.persist(write).await? { Done::DECLINED } else { Done::DUPLICATE })
    }

    /// Accepted, and not done yet: asked about from time to time.
    async fn pending(&self, work: &RefundWork) -> Result<Done, LedgerError> {
        let next_at_ms = (self.clock)().saturating_add(rules::BACK_OFF_MS_MAX);
        self.persist(|| self.ledger.refund_unknown(work.id, next_at_ms, (self.clock)())).await?;
        Ok(Done::again(next_at_ms))
    }

    async fn doubtful(&self, work: &RefundWork, doubt: &Doubt) -> Result<Done, LedgerError> {
        // One wrong figure in the answer to a cancel has us ask; one in the provider's own record is for an operator.
        if let Doubt::Mismatch(mismatch) = doubt
            && work.state != RefundState::Requested
        {
            let why = mismatch.to_string();
            tracing::error!(why, "a refund is set aside: an operator must look");
            self.persist(|| self.ledger.park_refund(work.id, &why, (self.clock)())).await?;
            return Ok(Done::DECLINED);
        }
        let next_at_ms = self.after_back_off(work.tries);
        self.persist(|| self.ledger.refund_unknown(work.id, next_at_ms, (self.clock)())).await?;
        Ok(Done::again(next_at_ms))
    }

    async fn rest(&self, work: &RefundWork, next_at_ms: i64) -> Result<Done, LedgerError> {
        self.ledger.postpone_refund(work.id, next_at_ms).await?;
        Ok(Done::again(next_at_ms))
    }
}
