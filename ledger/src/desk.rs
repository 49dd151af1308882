//! The operator's desk: payments and refunds that were set aside, orders in quarantine, and what may be done with them.

use crate::pool::{id, int, opt_text, text};
use crate::purchase::{Actor, Event, Refusal, Step};
use crate::{Ledger, LedgerError};
use serde::Serialize;
use serde_json::json;
use service_kit::ids::{OrderId, PaymentId, RefundId};

/// Something that waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Its order.
    pub order: OrderId,
    /// Its payment.
    pub payment: Option<PaymentId>,
    /// The refund, when it is one that waits.
    pub refund: Option<RefundId>,
    /// The provider.
    pub provider: Option<String>,
    /// Where the order stands.
    pub order_state: String,
    /// Where the payment or the refund stands.
    pub state: Option<String>,
    /// Why it waits.
    pub reason: Option<String>,
    /// Since when, in ms.
    pub since_ms: i64,
    /// The sum, in minor units.
    pub amount_minor: i64,
    /// Of this currency.
    pub currency: String,
}

/// What an operator decides about an order in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Have the provider asked again.
    AskAgain,
    /// The provider has no money of it, or has given it back by a way that is not ours.
    CloseWithoutMoney,
    /// The provider has this much, in minor units: give it back.
    GiveBack(i64),
}

impl Ledger {
    /// Everything that waits for an operator, oldest first: orders in quarantine, payments and refunds set aside, and
    /// refunds that the provider refused while nothing has followed.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn waiting_for_operator(&self, limit: i64) -> Result<Vec<Waiting>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "SELECT * FROM (
                    SELECT o.id AS order_id, p.id AS payment_id, NULL::uuid AS refund_id, p.provider, o.state AS order_state, p.state,
                        coalesce(o.reason, p.parked_reason) AS reason, o.updated_at_ms AS since_ms, o.amount_minor, o.currency
                    FROM orders o LEFT JOIN payment p ON p.order_id = o.id WHERE o.state = 'quarantined'
                    UNION ALL
                    SELECT o.id, p.id, NULL, p.provider, o.state, p.state, p.parked_reason, p.parked_at_ms, p.amount_minor, p.currency
                    FROM payment p JOIN orders o ON o.id = p.order_id WHERE p.parked_reason IS NOT NULL AND o.state <> 'quarantined'
                    UNION ALL
                    SELECT o.id, p.id, r.id, p.provider, o.state, r.state, coalesce(r.parked_reason, r.failure_code), coalesce(r.parked_at_ms, r.updated_at_ms),
                        r.amount_minor, r.currency
                    FROM refund r JOIN payment p ON p.id = r.payment_id JOIN orders o ON o.id = r.order_id
                    WHERE r.parked_reason IS NOT NULL
                       OR r.state = 'failed' AND o.state IN ('paid', 'partly_refunded') AND o.reason = 'refund_refused'
                 ) w ORDER BY since_ms, order_id LIMIT $1",
                &[&limit],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let payment: Option<uuid::Uuid> = row.get("payment_id");
                let refund: Option<uuid::Uuid> = row.get("refund_id");
                Ok(Waiting {
                    order: OrderId(id(row, "order_id")?),
                    payment: payment.map(PaymentId),
                    refund: refund.map(RefundId),
                    provider: opt_text(row, "provider")?,
                    order_state: text(row, "order_state")?,
                    state: opt_text(row, "state")?,
                    reason: opt_text(row, "reason")?,
                    since_ms: int(row, "since_ms")?,
                    amount_minor: int(row, "amount_minor")?,
                    currency: text(row, "currency")?,
                })
            })
            .collect()
    }

    /// How many things wait for an operator: orders in quarantine, payments set aside, refunds set aside.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn waiting_counts(&self) -> Result<[(&'static str, i64); 3], LedgerError> {
        let row = self
            .client()
            .await?
            .query_one(
                "SELECT (SELECT count(*) FROM orders WHERE state = 'quarantined') AS orders,
                        (SELECT count(*) FROM payment WHERE parked_reason IS NOT NULL) AS payments,
                        (SELECT count(*) FROM refund WHERE parked_reason IS NOT NULL) AS refunds",
                &[],
            )
            .await?;
        Ok([("order", int(&row, "orders")?), ("payment", int(&row, "payments")?), ("refund", int(&row, "refunds")?)])
    }

    /// Gives an order's payment and refund that were set aside back to the worker, which asks the provider first.
    /// Answers how many were.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn resume(&self, order: OrderId, now_ms: i64) -> Result<u64, LedgerError> {
        let client = self.client().await?;
        let payments = client
            .execute(
                "UPDATE payment p SET parked_reason = NULL, parked_at_ms = NULL, next_at_ms = due_now($2), lease_until_ms = 0, tries = 0
                 FROM orders o WHERE p.order_id = $1 AND o.id = p.order_id AND o.state <> 'quarantined' AND p.parked_reason IS NOT NULL",
                &[&order.0, &now_ms],
            )
            .await?;
        let refunds = client
            .execute(
                "UPDATE refund SET parked_reason = NULL, parked_at_ms = NULL, next_at_ms = due_now($2), lease_until_ms = 0, tries = 0
                 WHERE order_id = $1 AND parked_reason IS NOT NULL",
                &[&order.0, &now_ms],
            )
            .await?;
        client.execute("SELECT pg_notify('floodgate_payment', '')", &[]).await?;
        Ok(payments.saturating_add(refunds))
    }

    /// Has an order's payment compared with the provider, whatever its state.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn recheck_order(&self, order: OrderId, now_ms: i64) -> Result<bool, LedgerError> {
        let moved = self
            .client()
            .await?
            .execute(
                "UPDATE payment SET next_at_ms = least(next_at_ms, $2),
                    recheck_at_ms = CASE WHEN state IN ('captured', 'failed', 'cancelled', 'expired') THEN $2 ELSE recheck_at_ms END
                 WHERE order_id = $1",
                &[&order.0, &now_ms],
            )
            .await?;
        Ok(moved > 0)
    }

    /// Carries out an operator's decision about an order in quarantine; `who` and `why` go into its history.
    /// `None` when there is no such order.
    ///
    /// # Errors
    /// See [`LedgerError`]; the inner error says why it cannot be.
    pub async fn decide(
        &self,
        order: OrderId,
        decision: Decision,
        who: &str,
        why: &str,
        now_ms: i64,
    ) -> Result<Option<Result<Step, Refusal>>, LedgerError> {
        let event = match decision {
            Decision::AskAgain => Event::AskAgain,
            Decision::CloseWithoutMoney => Event::CloseWithoutMoney,
            Decision::GiveBack(captured_minor) => Event::GiveBack { captured_minor },
        };
        let detail = json!({ "operator": who, "why": why });
        self.happen(order, &event, Actor::Operator, Some(detail), now_ms).await
    }
}
