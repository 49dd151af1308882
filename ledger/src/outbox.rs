//! What Redis and the pages must hear: written with the change, delivered at least once, in order of writing.

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
    /// Sold units are free again.
    OrderRefunded,
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
    pub created_at_ms: i64,
}

impl Ledger {
    /// Leases up to `limit` undelivered events for `lease_ms`; what is not marked delivered comes again.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn claim_outbox(&self, limit: i64, lease_ms: i64, now_ms: i64) -> Result<Vec<OutboxEvent>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "WITH due AS (
                    UPDATE outbox SET lease_until_ms = $2 + $3
                    WHERE id IN (SELECT id FROM outbox WHERE delivered_at_ms IS NULL AND lease_until_ms <= $2
                                 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
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
                        "order_refunded" => OutboxKind::OrderRefunded,
                        other => return Err(LedgerError::Shape(format!("outbox kind {other}"))),
                    },
                    order: OrderId(id(r, "order_id")?),
                    deal: DealId(id(r, "deal_id")?),
                    account: AccountId(id(r, "account_id")?),
                    lease_number: int(r, "lease_number")?,
                    quantity: int(r, "quantity")?,
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
                "UPDATE outbox SET delivered_at_ms = $2 WHERE id = ANY($1) AND delivered_at_ms IS NULL",
                &[&events, &now_ms],
            )
            .await?;
        Ok(())
    }

    /// Gives leased events back at once, after a store failed.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn outbox_postponed(&self, events: &[i64]) -> Result<(), LedgerError> {
        self.client().await?.execute("UPDATE outbox SET lease_until_ms = 0 WHERE id = ANY($1)", &[&events]).await?;
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
