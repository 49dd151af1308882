//! Tells Redis what the ledger has decided: held → sold, or units back.
//!
//! Steps: 1. lease events 2. apply each by its order id 3. mark delivered. A crash after 2 applies them again,
//! without effect. While Redis is away or a stock is being filled, the events are given back and come again.
//! Two processes lease different events. Two events of one order may be applied in either order: a release of
//! a unit ends it whatever state it is in, a settle of an ended unit does nothing, and what comes back of a payment waits
//! until that payment has been told.

use crate::app::App;
use crate::fast_stock::Applied;
use crate::metric;
use futures::StreamExt as _;
use ledger::{LedgerError, OutboxEvent, OutboxKind};
use service_kit::clock::now_ms;
use service_kit::ids::RoomId;
use service_kit::shutdown::Shutdown;

/// Time between two looks when no notice comes.
const EVERY_MS: u64 = 500;
/// Pause after Redis or PostgreSQL did not take an event.
const PAUSE_MS: u64 = 250;
/// Events of one round.
const ROUND_MAX: i64 = 200;
/// How long an event belongs to this process.
const LEASE_MS: i64 = 10_000;
/// Events that are applied at once.
const AT_ONCE: usize = 32;

enum Round {
    Idle,
    Full,
    Troubled,
}

/// Runs until shutdown.
pub async fn run(app: App, shutdown: Shutdown) {
    let mut notices = app.parts.ledger.listen(&["floodgate_outbox"]);
    loop {
        let round = deliver(&app).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "could not read the outbox; trying again");
            Round::Troubled
        });
        match round {
            Round::Full => {
                if shutdown.is_requested() {
                    return;
                }
            }
            Round::Troubled => {
                if !shutdown.sleep_ms(PAUSE_MS).await {
                    return;
                }
            }
            Round::Idle => tokio::select! {
                () = shutdown.requested() => return,
                _ = notices.recv() => while notices.try_recv().is_ok() {},
                () = tokio::time::sleep(std::time::Duration::from_millis(EVERY_MS)) => {}
            },
        }
    }
}

async fn deliver(app: &App) -> Result<Round, LedgerError> {
    let events = app.parts.ledger.claim_outbox(ROUND_MAX, LEASE_MS, now_ms()).await?;
    let is_full = i64::try_from(events.len()).unwrap_or(0) >= ROUND_MAX;
    let results: Vec<(i64, bool)> = futures::stream::iter(events)
        .map(async |event| (event.id, apply(app, &event).await))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let (delivered, later): (Vec<_>, Vec<_>) = results.into_iter().partition(|(_, done)| *done);
    let ids = |list: Vec<(i64, bool)>| list.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    if !delivered.is_empty() {
        service_kit::failpoint::around(
            "Q1.before",
            "Q1.after",
            app.parts.ledger.outbox_delivered(&ids(delivered), now_ms()),
        )
        .await?;
    }
    if !later.is_empty() {
        app.parts.ledger.outbox_postponed(&ids(later)).await?;
        return Ok(Round::Troubled);
    }
    Ok(if is_full { Round::Full } else { Round::Idle })
}

/// Whether Redis has heard it.
async fn apply(app: &App, event: &OutboxEvent) -> bool {
    let room = RoomId::of_deal(event.deal);
    let applied = match event.kind {
        OutboxKind::OrderPaid => match app.pass_ended_ms(event.deal).await {
            Ok(pass_ms) => {
                service_kit::failpoint::around(
                    "P6.before",
                    "P6.after",
                    app.parts.fast.settle(&room, event.order, Some(event.lease_number), pass_ms),
                )
                .await
            }
            Err(error) => {
                tracing::warn!(%error, order = %event.order, "could not read the deal of a paid order; trying again");
                return false;
            }
        },
        OutboxKind::OrderReleased => {
            service_kit::failpoint::around("X3.before", "X3.after", app.parts.fast.release(&room, event.order)).await
        }
        OutboxKind::OrderPaidLate => app.parts.fast.move_units(&room, event, false).await,
        OutboxKind::OrderReturned => app.parts.fast.move_units(&room, event, true).await,
    };
    match applied {
        Ok(Applied::Loading) => false,
        Ok(outcome) => {
            if outcome == Applied::Done {
                count(app, event).await;
            }
            true
        }
        Err(error) => {
            tracing::warn!(%error, order = %event.order, "Redis did not hear of an order; telling it again");
            false
        }
    }
}

async fn count(app: &App, event: &OutboxEvent) {
    let outcome = match event.kind {
        OutboxKind::OrderPaid | OutboxKind::OrderPaidLate => "confirmed",
        OutboxKind::OrderReturned => "refunded",
        OutboxKind::OrderReleased => {
            let reason =
                app.parts.ledger.order(event.order).await.ok().flatten().and_then(|o| o.reason).unwrap_or_default();
            let (outcome, label) = match reason.as_str() {
                "cancelled_by_shopper" => ("cancelled", "cancelled"),
                "hold_expired" => ("failed", "expired"),
                _ => ("failed", "payment_failed"),
            };
            metrics::counter!(metric::RELEASED, "deal" => metric::deal_label(event.deal), "reason" => label)
                .increment(1);
            outcome
        }
    };
    metric::order(event.deal, outcome);
    metric::order_lived(outcome, event.created_at_ms.saturating_sub(event.order.made_at_ms()));
}
