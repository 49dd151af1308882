//! Publishes a waiting room for every deal, and takes it back long after the deal's end.
//!
//! What an operator has changed in a room (pace, pause, notice) stays: only what the deal itself says is written
//! again. After a flush the rooms are published as they were last seen here.

use super::deals_in_play;
use crate::app::App;
use crate::config::Config;
use ledger::Deal;
use queue::registry;
use queue::settings::{Mode, RoomSettings};
use service_kit::clock::now_ms;
use service_kit::ids::RoomId;
use service_kit::shutdown::Shutdown;
use std::collections::HashMap;

/// Time between two looks.
const EVERY_MS: u64 = 1_000;

/// Runs until shutdown.
pub async fn run(app: App, shutdown: Shutdown) {
    let mut seen: HashMap<RoomId, RoomSettings> = HashMap::new();
    loop {
        if let Err(error) = publish(&app, &mut seen).await {
            tracing::warn!(error = %format!("{error:#}"), "could not publish rooms; trying again");
        }
        if !shutdown.sleep_ms(EVERY_MS).await {
            return;
        }
    }
}

async fn publish(app: &App, seen: &mut HashMap<RoomId, RoomSettings>) -> anyhow::Result<()> {
    let (redis, config) = (&app.parts.redis, &app.parts.config);
    let deals = deals_in_play(app).await?;
    // Known version 0 = the whole list: after a flush it is empty whatever we knew.
    let rooms = registry::fetch(redis, 0).await?.map(|(_, rooms)| rooms).unwrap_or_default();
    let listed: HashMap<RoomId, RoomSettings> = rooms.into_iter().map(|r| (r.room.clone(), r)).collect();
    for deal in &deals {
        let room = RoomId::of_deal(deal.id);
        let wanted = match listed.get(&room).or_else(|| seen.get(&room)) {
            Some(present) => with_deal(present.clone(), deal),
            None => room_of(deal, config),
        };
        if listed.get(&room) != Some(&wanted) {
            registry::publish(redis, &wanted).await?;
            tracing::info!(%room, "published a room");
        }
        seen.insert(room, wanted);
    }
    let over_ms = now_ms().saturating_sub(config.keep_room_ms);
    for (room, settings) in listed {
        if room.deal().is_some()
            && settings.ends_at_ms < over_ms
            && !deals.iter().any(|d| RoomId::of_deal(d.id) == room)
        {
            registry::retract(redis, &room).await?;
            app.parts.fast.forget(&room).await?;
            tracing::info!(%room, "took a room back; its deal ended long ago");
        }
    }
    seen.retain(|room, _| deals.iter().any(|d| RoomId::of_deal(d.id) == *room));
    Ok(())
}

/// A new room for a deal.
fn room_of(deal: &Deal, config: &Config) -> RoomSettings {
    let small = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    let room = RoomSettings {
        room: RoomId::of_deal(deal.id),
        title: String::new(),
        mode: Mode::Fifo,
        lobby_opens_at_ms: 0,
        starts_at_ms: 0,
        ends_at_ms: 0,
        rate_per_s: small(deal.admission_rate_per_s),
        inside_max: small(deal.admission_cap),
        claim_window_ms: config.claim_window_ms,
        lease_ms: config.lease_ms,
        silence_ms: 60_000,
        stock_aware: true,
        overbooking_percent: config.overbooking_percent,
        paused: false,
        closed: false,
        notice: None,
        enter_path: String::new(),
        case_insensitive: false,
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
