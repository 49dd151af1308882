//! Publishes a waiting room for every deal, and takes it back long after the deal's end.
//!
//! Only what the deal and its merchant say is written again; what else was published about the room stays. What
//! an operator says lies over it (see [`queue::overrides`]) and is not touched here.

use super::deals_in_play;
use crate::app::App;
use crate::deal_room::room_of;
use queue::registry;
use queue::settings::RoomSettings;
use queue::ticket::NUMBER_MAX;
use service_kit::clock::now_ms;
use service_kit::ids::{DealId, RoomId};
use service_kit::shutdown::Shutdown;
use std::collections::{HashMap, HashSet};

/// Time between two looks.
const EVERY_MS: u64 = 1_000;

/// Runs until shutdown.
pub async fn run(app: App, shutdown: Shutdown) {
    let mut published = HashSet::new();
    loop {
        if let Err(error) = publish(&app, &mut published).await {
            tracing::warn!(error = %format!("{error:#}"), "could not publish rooms; trying again");
        }
        if !shutdown.sleep_ms(EVERY_MS).await {
            return;
        }
    }
}

async fn publish(app: &App, published: &mut HashSet<RoomId>) -> anyhow::Result<()> {
    let (redis, config) = (&app.parts.redis, &app.parts.config);
    let deals = deals_in_play(app).await?;
    // Known version 0 = the whole list: after a flush it is empty whatever we knew.
    let listing = registry::fetch(redis, 0).await?.unwrap_or_default();
    // As operators steer them: a room with a later end stays for longer.
    let steered = listing.rooms();
    let listed: HashMap<RoomId, RoomSettings> =
        listing.published.into_iter().flatten().map(|r| (r.room.clone(), r)).collect();
    for deal in &deals {
        let room = RoomId::of_deal(deal.id);
        let mut wanted = match room_of(deal, listed.get(&room), config) {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::error!(%error, %room, "a deal's wishes for its room are of a later release; it is not published");
                continue;
            }
        };
        if !listed.contains_key(&room) {
            wanted.numbers_from = numbers_from(app, deal.id, published.contains(&room)).await?;
        }
        if listed.get(&room) != Some(&wanted) {
            registry::publish(redis, &wanted).await?;
            tracing::info!(%room, "published a room");
        }
        // Only now: a room whose first try failed is new, and must not begin with a hold.
        published.insert(room);
    }
    let over_ms = now_ms().saturating_sub(config.keep_room_ms);
    for RoomSettings { room, ends_at_ms, .. } in steered {
        if room.deal().is_some() && ends_at_ms < over_ms && !deals.iter().any(|d| RoomId::of_deal(d.id) == room) {
            registry::retract(redis, &room).await?;
            app.parts.fast.forget(&room).await?;
            published.remove(&room);
            tracing::info!(%room, "took a room back; its deal ended long ago");
        }
    }
    Ok(())
}

/// Of a room that is not in the list: which numbers must not be given (again). The ledger has those that held units; and a
/// room that was in the list has given some in any case. For a gate that was lost together with the store.
async fn numbers_from(app: &App, deal: DealId, was_published: bool) -> anyhow::Result<u64> {
    let highest = u64::try_from(app.parts.ledger.highest_lease(deal).await?).unwrap_or(0);
    let known = highest.max(u64::from(was_published));
    Ok(if known == 0 { 0 } else { (known + 1).min(NUMBER_MAX) })
}
