//! Publishes a waiting room for every deal, and takes it back long after the deal's end.
//!
//! Only what the deal itself says is written again; what else was published about the room (its theme, say) stays. What
//! an operator says lies over it (see [`queue::overrides`]) and is not touched here.

use super::deals_in_play;
use crate::app::App;
use crate::config::Config;
use ledger::Deal;
use queue::registry;
use queue::settings::RoomSettings;
use service_kit::clock::now_ms;
use service_kit::ids::RoomId;
use service_kit::shutdown::Shutdown;
use std::collections::HashMap;

/// Time between two looks.
const EVERY_MS: u64 = 1_000;

/// Runs until shutdown.
pub async fn run(app: App, shutdown: Shutdown) {
    loop {
        if let Err(error) = publish(&app).await {
            tracing::warn!(error = %format!("{error:#}"), "could not publish rooms; trying again");
        }
        if !shutdown.sleep_ms(EVERY_MS).await {
            return;
        }
    }
}

async fn publish(app: &App) -> anyhow::Result<()> {
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
        let wanted = match listed.get(&room) {
            Some(present) => with_deal(present.clone(), deal),
            None => room_of(deal, config),
        };
        if listed.get(&room) != Some(&wanted) {
            registry::publish(redis, &wanted).await?;
            tracing::info!(%room, "published a room");
        }
    }
    let over_ms = now_ms().saturating_sub(config.keep_room_ms);
    for RoomSettings { room, ends_at_ms, .. } in steered {
        if room.deal().is_some() && ends_at_ms < over_ms && !deals.iter().any(|d| RoomId::of_deal(d.id) == room) {
            registry::retract(redis, &room).await?;
            app.parts.fast.forget(&room).await?;
            tracing::info!(%room, "took a room back; its deal ended long ago");
        }
    }
    Ok(())
}

/// A new room for a deal.
fn room_of(deal: &Deal, config: &Config) -> RoomSettings {
    let small = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    let rate_per_s = small(deal.admission_rate_per_s);
    let inside_max = small(deal.admission_cap);
    let room = RoomSettings {
        claim_window_ms: config.claim_window_ms,
        lease_ms: config.lease_ms,
        lease_max_ms: config.lease_ms.max(RoomSettings::LEASE_MAX_MS),
        stock_aware: true,
        overbooking_percent: config.overbooking_percent,
        overbooking_percent_max: config.overbooking_percent.max(RoomSettings::OVERBOOKING_PERCENT_MAX),
        ..RoomSettings::new(RoomId::of_deal(deal.id), deal.title.clone(), rate_per_s, inside_max)
    };
    with_deal(room, deal)
}

/// The room with what its deal says.
fn with_deal(room: RoomSettings, deal: &Deal) -> RoomSettings {
    RoomSettings {
        title: deal.title.clone(),
        lobby_opens_at_ms: deal.created_at_ms.min(deal.starts_at_ms),
        starts_at_ms: deal.starts_at_ms,
        ends_at_ms: deal.ends_at_ms,
        enter_path: format!("/deals/{}/buy", deal.id),
        ..room
    }
}
