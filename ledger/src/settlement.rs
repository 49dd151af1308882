//! How a payment goes on and ends: attempts written before each call, and settlement in one transaction.

use crate::payment::{AttemptKind, Capture, Ended, PaymentState, Prepared};
use crate::pool::{id, int, money, text};
use crate::{Ledger, LedgerError};
use service_kit::ids::{AttemptId, DealId, PaymentId, RefundId};
use service_kit::money::Money;
use tokio_postgres::Row;

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
                    "UPDATE payment SET state = 'confirming', updated_at_ms = $2 WHERE id = $1 AND state = 'authorized'",
                    &[&payment.0, &now_ms],
                )
                .await?
            }
            (AttemptKind::Refund, Some(refund)) => {
                tx.execute(
                    "UPDATE refund SET state = 'sending', updated_at_ms = $2 WHERE id = $1 AND state IN ('requested', 'unknown')",
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
    pub async fn prepared(&self, payment: PaymentId, p: &Prepared, now_ms: i64) -> Result<bool, LedgerError> {
        let moved = self
            .client()
            .await?
            .execute(
                "UPDATE payment SET state = 'ready', provider_ref = $2, redirect_pc = $3, redirect_mobile = $4, redirect_app = $5,
                    expires_at_ms = $6, next_at_ms = $6, lease_until_ms = 0, tries = 0, updated_at_ms = $7
                 WHERE id = $1 AND state = 'requested'",
                &[&payment.0, &p.provider_ref, &p.redirect_pc, &p.redirect_mobile, &p.redirect_app, &p.expires_at_ms, &now_ms],
            )
            .await?;
        Ok(moved == 1)
    }

    /// The provider has the money: payment captured, order paid, units sold, outbox told, in one transaction.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn settle_captured(
        &self,
        payment: PaymentId,
        provider_aid: &str,
        captured: Money,
        now_ms: i64,
    ) -> Result<Capture, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        let row = lock_with_order(&tx, payment).await?;
        let state: PaymentState = text(&row, "state")?.parse()?;
        if money(&row, "amount_minor")? != captured {
            return Ok(Capture::Mismatch);
        }
        if state == PaymentState::Captured {
            return Ok(Capture::Already);
        }
        // The trigger refuses this for a payment that ended otherwise: such money is never lost silently.
        tx.execute(
            "UPDATE payment SET state = 'captured', provider_aid = $2, updated_at_ms = $3 WHERE id = $1",
            &[&payment.0, &provider_aid, &now_ms],
        )
        .await?;
        tx.execute(
            "UPDATE orders SET state = 'paid', updated_at_ms = $2 WHERE id = $1",
            &[&id(&row, "order_id")?, &now_ms],
        )
        .await?;
        tx.execute(
            "UPDATE deal SET held = held - $2, sold = sold + $2 WHERE id = $1",
            &[&id(&row, "deal_id")?, &int(&row, "order_quantity")?],
        )
        .await?;
        tx.execute(
            "INSERT INTO outbox (kind, order_id, deal_id, account_id, lease_number, quantity, created_at_ms)
             SELECT 'order_paid', id, deal_id, account_id, lease_number, quantity, $2 FROM orders WHERE id = $1",
            &[&id(&row, "order_id")?, &now_ms],
        )
        .await?;
        tx.commit().await?;
        Ok(Capture::Paid)
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
        let (state, reason) = how.words();
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        let row = lock_with_order(&tx, payment).await?;
        let moved = tx
            .execute(
                "UPDATE payment SET state = $2, failure_code = $3, failure_message = left($4, 500), updated_at_ms = $5
                 WHERE id = $1 AND state = $6 AND state IN ('requested', 'ready', 'authorized', 'confirming', 'unknown')",
                &[&payment.0, &state, &code, &message, &now_ms, &from.as_str()],
            )
            .await?;
        if moved == 0 {
            return Ok(false);
        }
        tx.query_one("SELECT release_order($1, ARRAY['paying'], $2, $3)", &[&id(&row, "order_id")?, &reason, &now_ms])
            .await?;
        tx.commit().await?;
        Ok(true)
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
                 WHERE id = $1 AND state IN ('authorized', 'confirming', 'unknown')",
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
            .execute("UPDATE payment SET next_at_ms = $2, lease_until_ms = 0 WHERE id = $1", &[&payment.0, &next_at_ms])
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
                 FROM payment p JOIN orders o ON o.id = p.order_id
                 WHERE p.state IN ('requested', 'ready', 'authorized', 'confirming', 'unknown') GROUP BY o.deal_id, p.state",
                &[],
            )
            .await?;
        rows.iter()
            .map(|r| Ok((DealId(id(r, "deal_id")?), text(r, "state")?.parse()?, int(r, "n")?, int(r, "oldest")?)))
            .collect()
    }
}

/// Locks deal, order and payment, in that order, and reads what settling needs.
async fn lock_with_order(tx: &deadpool_postgres::Transaction<'_>, payment: PaymentId) -> Result<Row, LedgerError> {
    tx.execute(
        "SELECT 1 FROM deal WHERE id = (SELECT o.deal_id FROM payment p JOIN orders o ON o.id = p.order_id WHERE p.id = $1) FOR UPDATE",
        &[&payment.0],
    )
    .await?;
    tx.execute(
        "SELECT 1 FROM orders WHERE id = (SELECT order_id FROM payment WHERE id = $1) FOR UPDATE",
        &[&payment.0],
    )
    .await?;
    let row = tx
        .query_opt(
            "SELECT p.*, o.deal_id, o.quantity AS order_quantity FROM payment p JOIN orders o ON o.id = p.order_id
             WHERE p.id = $1 FOR UPDATE OF p",
            &[&payment.0],
        )
        .await?;
    row.ok_or_else(|| LedgerError::Shape(format!("payment {payment} is not in the ledger")))
}
