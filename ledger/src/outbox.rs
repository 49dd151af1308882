//! What Redis and the pages must hear: written with the change, delivered at least once. New events go first, in order of
//! writing; those that were not taken stand behind one another, so that nobody waits for a store that does not answer.

use crate::pool::{id, int, text};
use crate::{Ledger, LedgerError};
use service_kit::ids::{AccountId, DealId, OrderId};

/// What happened to the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxKind {
    /// Held units are sold.
    OrderPaid,
    /// Held units are free again.
    OrderReleased,
    /// Free units are sold at once: the money came after the hold had ended.
    OrderPaidLate,
    /// Sold units are free again, all of an order or some.
    OrderReturned,
}

impl OutboxKind {
    /// The word in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrderPaid => "order_paid",
            Self::OrderReleased => "order_released",
            Self::OrderPaidLate => "order_paid_late",
            Self::OrderReturned => "order_returned",
        }
    }
}

/// One event. Applying it twice must have one effect; the order's id is the operation id.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the columns")]
pub struct OutboxEvent {
    pub id: i64,
    pub kind: OutboxKind,
    pub order: OrderId,
    pub deal: DealId,
    pub account: AccountId,
    pub lease_number: i64,
    pub quantity: i64,
    /// Epoch of the deal at the commit: a filling of the fast stock under a later epoch knows of the event already.
    pub epoch: i64,
    pub created_at_ms: i64,
}

impl Ledger {
    /// Leases up to `limit` undelivered events for `lease_ms`: those that nobody has tried yet, then those whose lease ended
    /// first. What is not marked delivered comes again. A lease that ends more than two leases from now is by a clock that was
    /// wrong, and counts as over. Neither lease nor mark waits for the disk: what a crash of the server forgets comes again,
    /// too, and has no second effect.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn claim_outbox(&self, limit: i64, lease_ms: i64, now_ms: i64) -> Result<Vec<OutboxEvent>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "WITH fresh AS (
                    SELECT id FROM outbox WHERE delivered_at_ms IS NULL AND lease_until_ms = 0
                    ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED),
                 again AS (
                    SELECT id FROM outbox WHERE delivered_at_ms IS NULL AND lease_until_ms > 0
                      AND (lease_until_ms <= $2 OR lease_until_ms > $2 + $3 + $3)
                    ORDER BY lease_until_ms, id LIMIT $1 - (SELECT count(*) FROM fresh) FOR UPDATE SKIP LOCKED),
                 due AS (
                    UPDATE outbox SET lease_until_ms = $2 + $3
                    WHERE (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL
                      AND id = ANY(ARRAY(SELECT id FROM fresh UNION ALL SELECT id FROM again))
                    RETURNING *)
                 SELECT * FROM due ORDER BY id",
                &[&limit, &now_ms, &lease_ms],
            )
            .await?;
        rows.iter()
            .map(|r| {
                Ok(OutboxEvent {
                    id: int(r, "id")?,
                    kind: match text(r, "kind")?.as_str() {
                        "order_paid" => OutboxKind::OrderPaid,
                        "order_released" => OutboxKind::OrderReleased,
                        "order_paid_late" => OutboxKind::OrderPaidLate,
                        // The word before partial refunds existed.
                        "order_returned" | "order_refunded" => OutboxKind::OrderReturned,
                        other => return Err(LedgerError::Shape(format!("outbox kind {other}"))),
                    },
                    order: OrderId(id(r, "order_id")?),
                    deal: DealId(id(r, "deal_id")?),
                    account: AccountId(id(r, "account_id")?),
                    lease_number: int(r, "lease_number")?,
                    quantity: int(r, "quantity")?,
                    epoch: int(r, "epoch")?,
                    created_at_ms: int(r, "created_at_ms")?,
                })
            })
            .collect()
    }

    /// Marks events as delivered.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn outbox_delivered(&self, events: &[i64], now_ms: i64) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "UPDATE outbox SET delivered_at_ms = $2
                 WHERE (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL AND id = ANY($1) AND delivered_at_ms IS NULL",
                &[&events, &now_ms],
            )
            .await?;
        Ok(())
    }

    /// Gives leased events back that were not taken: they come again after `wait_ms` (at least 1, at most a lease), and others
    /// have their turn meanwhile.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn outbox_postponed(&self, events: &[i64], wait_ms: i64, now_ms: i64) -> Result<(), LedgerError> {
        let until_ms = now_ms.saturating_add(wait_ms.max(1));
        self.client()
            .await?
            .execute(
                "UPDATE outbox SET lease_until_ms = $2
                 WHERE (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL AND id = ANY($1) AND delivered_at_ms IS NULL",
                &[&events, &until_ms],
            )
            .await?;
        Ok(())
    }

    /// For gauges: how many events wait and since when the oldest does.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn outbox_backlog(&self) -> Result<(i64, Option<i64>), LedgerError> {
        let row = self
            .client()
            .await?
            .query_one(
                "SELECT count(*) AS n, min(created_at_ms) AS oldest FROM outbox WHERE delivered_at_ms IS NULL",
                &[],
            )
            .await?;
        Ok((int(&row, "n")?, row.get("oldest")))
    }
}
