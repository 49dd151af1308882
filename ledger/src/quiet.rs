//! Notices of the busiest writes, sent after their commit instead of with it.
//!
//! A commit that carries a NOTIFY holds a lock of the whole server while its log goes to the disk, so it would make all
//! others wait. These writes keep quiet (`floodgate.quiet`, see the migration) and tell in a transaction of their own
//! that changes nothing and waits for no disk. A crash in between loses the notice, not the write: the worker and the
//! outbox look by themselves, at least once a second, and an order's page looks again with its next heartbeat.

use crate::statement::Client;
use service_kit::ids::OrderId;

/// For a transaction that keeps quiet: its first statement.
pub(crate) const KEEP_QUIET: &str = "SELECT set_config('floodgate.quiet', 'on', true)";

/// Whom to wake besides the orders' pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Nobody.
    Nobody,
    /// The payment worker.
    Worker,
    /// Whoever delivers the outbox.
    Outbox,
}

/// Tells the pages of these orders, and whom else it concerns. What cannot be told is found by looking.
pub(crate) async fn tell(client: &Client, orders: &[OrderId], wake: Wake) {
    if orders.is_empty() {
        return;
    }
    let ids: Vec<_> = orders.iter().map(|order| order.0).collect();
    let channel = match wake {
        Wake::Nobody => None,
        Wake::Worker => Some("floodgate_payment"),
        Wake::Outbox => Some("floodgate_outbox"),
    };
    let told = client
        .query(
            "SELECT set_config('synchronous_commit', 'off', true), CASE WHEN $2::text IS NOT NULL THEN pg_notify($2, '')::text END,
                (SELECT count(pg_notify('floodgate_order', o::text)::text) FROM unnest($1::uuid[]) AS o)",
            &[&ids, &channel],
        )
        .await;
    if let Err(error) = told {
        tracing::warn!(%error, orders = orders.len(), "a notice was not sent; it is found by looking");
    }
}
