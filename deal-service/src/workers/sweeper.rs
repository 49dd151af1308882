//! Looks after holds in Redis whose deadline is over: unconfirmed ones whose commit was lost on the way,
//! and confirmed ones whose end Redis has not heard of.
//!
//! Steps: 1. which holds are overdue? 2. what does the ledger say? 3. release, settle or a new deadline.
//! The ledger refuses to commit a hold after its own deadline, which is earlier than ours by [`GRACE_MS`]:
//! an order that is absent then stays absent. Runs twice without harm; a crash leaves the rest for the next round.
//! Against an offer or a commit that slips in between 2 and 3: only units that are still unconfirmed and overdue are
//! released as absent, and what would be given away twice is refused by the ledger.

use super::{DEALS_AT_ONCE, deals_in_play};
use crate::app::App;
use crate::fast_stock::Overdue;
use futures::StreamExt as _;
use ledger::{Deal, OrderState};
use service_kit::clock::now_ms;
use service_kit::ids::{OrderId, RoomId};
use service_kit::shutdown::Shutdown;
use std::collections::HashMap;

/// Time between two looks.
const EVERY_MS: u64 = 1_000;
/// How long after its deadline a hold is looked at.
const GRACE_MS: u32 = 2_000;
/// Holds of one look at one deal.
const ROUND_MAX: u32 = 200;
/// When to look again at an order that is still on its way.
const AGAIN_MS: i64 = 5_000;

/// Runs until shutdown.
pub async fn run(app: App, shutdown: Shutdown) {
    while shutdown.sleep_ms(EVERY_MS).await {
        match deals_in_play(&app).await {
            Ok(deals) => sweep_all(&app, deals).await,
            Err(error) => tracing::warn!(%error, "could not read the deals; trying again"),
        }
    }
}

async fn sweep_all(app: &App, deals: Vec<Deal>) {
    futures::stream::iter(deals)
        .for_each_concurrent(DEALS_AT_ONCE, async |deal| {
            if let Err(error) = sweep(app, &RoomId::of_deal(deal.id)).await {
                tracing::warn!(%error, deal = %deal.id, "could not look after overdue holds; trying again");
            }
        })
        .await;
}

async fn sweep(app: &App, room: &RoomId) -> anyhow::Result<()> {
    let overdue = app.parts.fast.overdue(room, GRACE_MS, ROUND_MAX).await?;
    if overdue.is_empty() || service_kit::planted!("sweeper-sleeps") {
        return Ok(());
    }
    let orders: Vec<OrderId> = overdue.iter().map(|o| o.order).collect();
    let states: HashMap<OrderId, OrderState> = app.parts.ledger.order_states(&orders).await?.into_iter().collect();
    let mut again = Vec::new();
    for hold in overdue {
        resolve(app, room, hold, states.get(&hold.order).copied(), &mut again).await?;
    }
    app.parts.fast.confirm(room, &again).await?;
    Ok(())
}

async fn resolve(
    app: &App,
    room: &RoomId,
    hold: Overdue,
    state: Option<OrderState>,
    again: &mut Vec<(OrderId, i64)>,
) -> anyhow::Result<()> {
    let (fast, order) = (&app.parts.fast, hold.order);
    match state {
        None if hold.is_confirmed => {
            tracing::error!(%order, %room, "Redis holds units for an order that the ledger does not know; giving them back");
            fast.release(room, order).await?;
        }
        None => {
            tracing::info!(%order, %room, "a hold was never committed; giving its units back");
            fast.release_overdue(room, order).await?;
        }
        Some(OrderState::Released) => {
            fast.release(room, order).await?;
        }
        // The outbox says it, too; of a refunded order it goes on to say how many units come back.
        Some(OrderState::Paid | OrderState::Refunding | OrderState::PartlyRefunded | OrderState::Refunded) => {
            let pass_ms = match room.deal() {
                Some(deal) => app.pass_ended_ms(deal).await?,
                None => None,
            };
            // It has a unit here, which knows the number.
            fast.settle(room, order, None, pass_ms).await?;
        }
        Some(OrderState::Held) => {
            let ends_at_ms = app.parts.ledger.order(order).await?.map_or(0, |o| o.hold_expires_at_ms);
            again.push((order, ends_at_ms.max(now_ms().saturating_add(AGAIN_MS))));
        }
        // A quarantined order keeps its units until an operator has decided.
        Some(OrderState::Paying | OrderState::Quarantined) => again.push((order, now_ms().saturating_add(AGAIN_MS))),
    }
    Ok(())
}
