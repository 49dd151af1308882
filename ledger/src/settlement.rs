//! How a payment goes on and ends: attempts written before each call, and settlement in one transaction.

use crate::payment::{AccountOf, AttemptKind, Capture, Ended, PaymentState, Prepared};
use crate::pool::{id, int, text};
use crate::purchase::{self, Actor, Event, Refusal, Room};
use crate::purchase_store::{self, Locked};
use crate::statement::Transaction;
use crate::{Ledger, LedgerError, OrderState};
use serde_json::json;
use service_kit::ids::{AttemptId, DealId, OrderId, PaymentId, RefundId};
use service_kit::money::Money;

impl Ledger {
    /// Writes down that a call is about to be made. For [`AttemptKind::Confirm`] the payment goes to
    /// `confirming` and for [`AttemptKind::Refund`] the refund to `sending`, in the same transaction;
    /// `None` when it had moved on: do not call.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn begin_attempt(
        &self,
        payment: PaymentId,
        kind: AttemptKind,
        refund: Option<RefundId>,
        now_ms: i64,
    ) -> Result<Option<AttemptId>, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        let moved = match (kind, refund) {
            (AttemptKind::Confirm, _) => {
                tx.execute(
                    "UPDATE payment SET state = 'confirming', updated_at_ms = $2, confirm_sent_at_ms = coalesce(confirm_sent_at_ms, $2)
                     WHERE id = $1 AND state = 'authorized'",
                    &[&payment.0, &now_ms],
                )
                .await?
            }
            (AttemptKind::Refund, Some(refund)) => {
                tx.execute(
                    "UPDATE refund SET state = 'sending', updated_at_ms = $2, sent_at_ms = coalesce(sent_at_ms, $2)
                     WHERE id = $1 AND state IN ('requested', 'unknown')",
                    &[&refund.0, &now_ms],
                )
                .await?
            }
            _ => 1,
        };
        if moved == 0 {
            return Ok(None);
        }
        let attempt = AttemptId::new();
        tx.execute(
            "INSERT INTO attempt (id, payment_id, refund_id, kind, started_at_ms) VALUES ($1, $2, $3, $4, $5)",
            &[&attempt.0, &payment.0, &refund.map(|r| r.0), &kind.as_str(), &now_ms],
        )
        .await?;
        tx.commit().await?;
        Ok(Some(attempt))
    }

    /// Writes down what a call answered.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn finish_attempt(
        &self,
        attempt: AttemptId,
        outcome: &str,
        detail: &str,
        now_ms: i64,
    ) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "UPDATE attempt SET finished_at_ms = $2, outcome = $3, detail = left($4, 1000) WHERE id = $1 AND finished_at_ms IS NULL",
                &[&attempt.0, &now_ms, &outcome, &detail],
            )
            .await?;
        Ok(())
    }

    /// The provider's session exists: the shopper may go there. `false` when the payment had ended meanwhile.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn prepared(
        &self,
        payment: PaymentId,
        p: &Prepared,
        account_of: AccountOf,
        now_ms: i64,
    ) -> Result<bool, LedgerError> {
        let moved = self
            .client()
            .await?
            .execute(
                "UPDATE payment SET state = 'ready', provider_ref = $2, redirect_pc = $3, redirect_mobile = $4, redirect_app = $5,
                    expires_at_ms = $6, next_at_ms = $6, lease_until_ms = 0, tries = 0, updated_at_ms = $7, account_of = $8
                 WHERE id = $1 AND state = 'requested'",
                &[
                    &payment.0, &p.provider_ref, &p.redirect_pc, &p.redirect_mobile, &p.redirect_app, &p.expires_at_ms, &now_ms,
                    &account_of.as_str(),
                ],
            )
            .await?;
        Ok(moved == 1)
    }

    /// The provider has the money: payment captured, order paid, units sold, outbox told, in one transaction. For an
    /// order that has ended: the units are taken again if there are any, else a refund begins by itself.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn settle_captured(
        &self,
        payment: PaymentId,
        provider_aid: &str,
        captured: Money,
        actor: Actor,
        now_ms: i64,
    ) -> Result<Capture, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        let locked = lock_of_payment(&tx, payment).await?;
        // Only late money needs to know what is free, and only it may wait for the deal's row.
        let room = match locked.now.state {
            OrderState::Released | OrderState::Quarantined => purchase_store::room(&tx, &locked).await?,
            _ => Room { free_units: 0, allowance_units: 0 },
        };
        let step = match purchase::step(&locked.now, &Event::Captured { money: captured, room }, now_ms) {
            Ok(step) => step,
            Err(Refusal::Already) => {
                looked(&tx, payment).await?;
                tx.commit().await?;
                return Ok(Capture::Already);
            }
            Err(refusal) => return Err(LedgerError::Refused(format!("payment {payment}: captured, but {refusal}"))),
        };
        let detail = json!({ "payment": payment, "reference": provider_aid, "captured": captured.to_string() });
        purchase_store::write(&tx, &locked, &step, actor, Some(detail), now_ms).await?;
        tx.execute("UPDATE payment SET provider_aid = $2 WHERE id = $1", &[&payment.0, &provider_aid]).await?;
        if let Some(part) = step.open_refund {
            let asked = (Actor::Service, "The order had ended when the money came, and nothing was left for it.");
            purchase_store::open_refund(&tx, &locked, RefundId::new(), part, asked, now_ms).await?;
        }
        tx.commit().await?;
        Ok(match step.order {
            OrderState::Quarantined => Capture::Mismatch,
            OrderState::Refunding => Capture::GoesBack,
            _ => Capture::Paid,
        })
    }

    /// The payment ended without money: the order is released and its units go back. `false` when it no longer
    /// stands in `from`, the state that was judged: a shopper may come back with a code while another worker
    /// decides that the time is over, and then the confirm call that follows must not find a released order.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn settle_ended(
        &self,
        payment: PaymentId,
        from: PaymentState,
        how: Ended,
        code: &str,
        message: &str,
        now_ms: i64,
    ) -> Result<bool, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        let locked = lock_of_payment(&tx, payment).await?;
        if locked.now.payment != Some(from) {
            return Ok(false);
        }
        let Ok(step) = purchase::step(&locked.now, &Event::Ended(how), now_ms) else {
            looked(&tx, payment).await?;
            tx.commit().await?;
            return Ok(false);
        };
        let detail = json!({ "payment": payment, "code": code });
        purchase_store::write(&tx, &locked, &step, Actor::Worker, Some(detail), now_ms).await?;
        tx.execute(
            "UPDATE payment SET failure_code = $2, failure_message = left($3, 500) WHERE id = $1",
            &[&payment.0, &code, &message],
        )
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// A figure of the provider is not ours: the order is quarantined until an operator has looked. `false` when it
    /// was before, or when what went back is no longer `refunded_minor`, the sum that was compared.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn quarantine(
        &self,
        payment: PaymentId,
        what: &str,
        refunded_minor: i64,
        actor: Actor,
        now_ms: i64,
    ) -> Result<bool, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        let locked = lock_of_payment(&tx, payment).await?;
        if locked.now.refunded_minor != refunded_minor || locked.now.refund.is_some() {
            return Ok(false);
        }
        let Ok(step) = purchase::step(&locked.now, &Event::FiguresDiffer, now_ms) else {
            looked(&tx, payment).await?;
            tx.commit().await?;
            return Ok(false);
        };
        let detail = json!({ "payment": payment, "difference": what });
        purchase_store::write(&tx, &locked, &step, actor, Some(detail), now_ms).await?;
        looked(&tx, payment).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The provider took the order and waits for the shopper's deposit until `until_ms`; look again at `next_at_ms`.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn mark_waiting(
        &self,
        payment: PaymentId,
        until_ms: i64,
        next_at_ms: i64,
        now_ms: i64,
    ) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "UPDATE payment SET state = 'waiting', expires_at_ms = $2, next_at_ms = $3, lease_until_ms = 0, tries = 0, updated_at_ms = $4
                 WHERE id = $1 AND state IN ('confirming', 'unknown', 'waiting')",
                &[&payment.0, &until_ms, &next_at_ms, &now_ms],
            )
            .await?;
        Ok(())
    }

    /// Sets a payment aside: no worker takes it before an operator has looked.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn park_payment(&self, payment: PaymentId, reason: &str, now_ms: i64) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "UPDATE payment SET parked_reason = left($2, 200), parked_at_ms = $3, lease_until_ms = 0, recheck_at_ms = NULL WHERE id = $1",
                &[&payment.0, &reason, &now_ms],
            )
            .await?;
        Ok(())
    }

    /// An ended payment was compared with the provider and agrees: no further look until something says so.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn recheck_done(&self, payment: PaymentId) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "UPDATE payment SET recheck_at_ms = NULL, lease_until_ms = 0, tries = 0 WHERE id = $1",
                &[&payment.0],
            )
            .await?;
        Ok(())
    }

    /// Has a payment compared with the provider again, not before `at_ms`: an ended one by a look of its own, a live
    /// one by its next step.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn recheck(&self, payment: PaymentId, at_ms: i64) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "UPDATE payment SET next_at_ms = least(next_at_ms, $2),
                    recheck_at_ms = CASE WHEN state IN ('captured', 'failed', 'cancelled', 'expired') THEN $2::bigint ELSE recheck_at_ms END
                 WHERE id = $1",
                &[&payment.0, &at_ms],
            )
            .await?;
        Ok(())
    }

    /// Nobody knows whether money moved: look again at `next_at_ms`.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn mark_unknown(&self, payment: PaymentId, next_at_ms: i64, now_ms: i64) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "UPDATE payment SET state = 'unknown', next_at_ms = $2, lease_until_ms = 0, updated_at_ms = $3
                 WHERE id = $1 AND state IN ('authorized', 'confirming', 'unknown', 'waiting')",
                &[&payment.0, &next_at_ms, &now_ms],
            )
            .await?;
        Ok(())
    }

    /// The provider says that no money moved and the confirm call may be made (again): back to `authorized`.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn confirm_again(&self, payment: PaymentId, next_at_ms: i64, now_ms: i64) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "UPDATE payment SET state = 'authorized', next_at_ms = $2, lease_until_ms = 0, updated_at_ms = $3
                 WHERE id = $1 AND state IN ('confirming', 'unknown') AND approval_code IS NOT NULL",
                &[&payment.0, &next_at_ms, &now_ms],
            )
            .await?;
        Ok(())
    }

    /// Nothing was done: look again at `next_at_ms`, in the same state.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn postpone_payment(&self, payment: PaymentId, next_at_ms: i64) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "UPDATE payment SET next_at_ms = $2::bigint, lease_until_ms = 0,
                    recheck_at_ms = CASE WHEN recheck_at_ms IS NULL THEN NULL ELSE $2::bigint END WHERE id = $1",
                &[&payment.0, &next_at_ms],
            )
            .await?;
        Ok(())
    }

    /// For gauges: per deal, how many payments are not settled and when the oldest of them last moved.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn unsettled_payments(&self) -> Result<Vec<(DealId, PaymentState, i64, i64)>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "SELECT o.deal_id, p.state, count(*) AS n, min(p.updated_at_ms) AS oldest
                 FROM live_payment p, LATERAL (SELECT deal_id FROM orders WHERE orders.id = p.order_id LIMIT 1) o GROUP BY o.deal_id, p.state",
                &[],
            )
            .await?;
        rows.iter()
            .map(|r| Ok((DealId(id(r, "deal_id")?), text(r, "state")?.parse()?, int(r, "n")?, int(r, "oldest")?)))
            .collect()
    }
}

/// Locks the order of a payment. The payment must be the order's latest: an order has one, and only one.
async fn lock_of_payment(tx: &Transaction<'_>, payment: PaymentId) -> Result<Locked, LedgerError> {
    let missing = || LedgerError::Shape(format!("payment {payment} is not in the ledger"));
    let row = tx.query_opt("SELECT order_id FROM payment WHERE id = $1", &[&payment.0]).await?.ok_or_else(missing)?;
    let locked = purchase_store::lock(tx, OrderId(id(&row, "order_id")?)).await?;
    locked.filter(|l| l.payment == Some(payment)).ok_or_else(missing)
}

/// A look at an ended payment is over, whatever it found.
async fn looked(tx: &Transaction<'_>, payment: PaymentId) -> Result<(), LedgerError> {
    tx.execute(
        "UPDATE payment SET recheck_at_ms = NULL, lease_until_ms = 0 WHERE id = $1 AND recheck_at_ms IS NOT NULL",
        &[&payment.0],
    )
    .await?;
    Ok(())
}
