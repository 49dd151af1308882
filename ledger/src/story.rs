//! The whole story of one order, told in order: every step, every call to the provider, every notice, every word to
//! Redis, and whose hand it was.

use crate::pool::{int, opt_text, text};
use crate::{Ledger, LedgerError};
use serde::Serialize;
use service_kit::ids::OrderId;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoryLine {
    /// When, in ms.
    pub at_ms: i64,
    /// Whose hand: shopper, merchant, operator, service, worker, provider, webhook, reaper, reconciliation.
    pub who: String,
    /// What kind: order, payment, call, refund, webhook, outbox.
    pub kind: String,
    /// In words.
    pub what: String,
    /// Further figures, if any.
    pub detail: Option<String>,
}

const STORY: &str = "SELECT * FROM (
    SELECT at_ms, actor AS who, 'order' AS kind,
        coalesce(from_state || ' → ', '') || to_state || coalesce(' (' || reason || ')', '') AS what, detail::text AS detail, seq AS n
    FROM order_event WHERE order_id = $1
    UNION ALL
    SELECT created_at_ms, 'shopper', 'payment', format('payment %s at %s of %s %s', id, provider, amount_minor, currency), provider_ref, 0
    FROM payment WHERE order_id = $1
    UNION ALL
    SELECT parked_at_ms, 'worker', 'payment', 'set aside: ' || parked_reason, NULL, 0
    FROM payment WHERE order_id = $1 AND parked_at_ms IS NOT NULL
    UNION ALL
    SELECT a.started_at_ms, 'worker', 'call', format('%s: %s', a.kind, coalesce(a.outcome, 'no answer written')),
        concat_ws(' ', a.detail, CASE WHEN a.finished_at_ms IS NOT NULL THEN format('(%s ms)', a.finished_at_ms - a.started_at_ms) END), 0
    FROM attempt a JOIN payment p ON p.id = a.payment_id WHERE p.order_id = $1
    UNION ALL
    SELECT created_at_ms, requested_by, 'refund', format('refund %s of %s %s with %s units: %s', id, amount_minor, currency, units, state),
        concat_ws(' ', nullif(reason, ''), failure_code, failure_message), 0
    FROM refund WHERE order_id = $1
    UNION ALL
    SELECT w.received_at_ms, 'webhook', 'webhook', format('%s from %s', w.kind, w.provider), w.event_id, 0
    FROM webhook w JOIN payment p ON p.id = w.payment_id WHERE p.order_id = $1
    UNION ALL
    SELECT coalesce(delivered_at_ms, created_at_ms), 'service', 'outbox',
        format('%s of %s units %s', kind, quantity, CASE WHEN delivered_at_ms IS NULL THEN 'not yet heard by Redis' ELSE 'heard by Redis' END),
        format('epoch %s', epoch), id
    FROM outbox WHERE order_id = $1
    ) story ORDER BY at_ms, kind = 'outbox', n";

impl Ledger {
    /// All that happened to an order, oldest first; empty when there is no such order.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn story(&self, order: OrderId) -> Result<Vec<StoryLine>, LedgerError> {
        let rows = self.client().await?.query(STORY, &[&order.0]).await?;
        rows.iter()
            .map(|row| {
                Ok(StoryLine {
                    at_ms: int(row, "at_ms")?,
                    who: text(row, "who")?,
                    kind: text(row, "kind")?,
                    what: text(row, "what")?,
                    detail: opt_text(row, "detail")?.filter(|detail| !detail.is_empty()),
                })
            })
            .collect()
    }
}
