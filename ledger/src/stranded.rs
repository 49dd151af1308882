//! Undersell: units that are neither free nor sold nor held for somebody who can still pay, for longer than a bound,
//! with the reason. Nothing here frees a unit: that is the reaper's, the worker's or the operator's, and the reason
//! says whose.

use crate::pool::{id, int, text};
use crate::{Ledger, LedgerError};
use serde::Serialize;
use service_kit::ids::DealId;

/// Units of a deal that are stuck.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stranded {
    /// Which deal.
    pub deal: DealId,
    /// `hold_not_released` (the reaper), `payment_<state>` (the worker or the provider), `quarantined` (the operator).
    pub reason: String,
    /// How many units.
    pub units: i64,
    /// Since when the oldest of them is, in ms.
    pub since_ms: i64,
}

impl Ledger {
    /// Units that have been stuck for longer than `bound_ms`. A payment in `ready` waits for the shopper and a deposit
    /// for its own time: they are stuck only when that time is over.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn stranded(&self, now_ms: i64, bound_ms: i64) -> Result<Vec<Stranded>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "SELECT deal_id, reason, sum(units)::bigint AS units, min(since_ms) AS since_ms FROM (
                    SELECT deal_id, 'hold_not_released' AS reason, held_units AS units, hold_expires_at_ms AS since_ms
                    FROM orders WHERE state = 'held' AND hold_expires_at_ms < $1::bigint - $2::bigint
                    UNION ALL
                    SELECT o.deal_id, 'payment_' || p.state, o.held_units,
                        CASE WHEN p.state IN ('ready', 'waiting') THEN greatest(p.updated_at_ms, coalesce(p.expires_at_ms, 0)) ELSE p.updated_at_ms END
                    FROM live_payment p, LATERAL (SELECT * FROM orders WHERE orders.id = p.order_id LIMIT 1) o WHERE o.state = 'paying'
                    UNION ALL
                    SELECT deal_id, 'quarantined', held_units, updated_at_ms FROM orders WHERE state = 'quarantined' AND held_units > 0
                 ) s WHERE since_ms < $1::bigint - $2::bigint GROUP BY deal_id, reason ORDER BY deal_id, reason",
                &[&now_ms, &bound_ms],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Stranded {
                    deal: DealId(id(row, "deal_id")?),
                    reason: text(row, "reason")?,
                    units: int(row, "units")?,
                    since_ms: int(row, "since_ms")?,
                })
            })
            .collect()
    }
}
