//! Publishes a waiting room for every deal, and takes it back long after the deal's end.
//!
//! Only what the deal and its merchant say is written again; what else was published about the room stays. What
//! an operator says lies over it (see [`queue::overrides`]) and is not touched here. A deal that cannot be published does
//! not stand in the way of the others.

use super::{DEALS_AT_ONCE, deals_in_play};
use crate::app::App;
use crate::deal_room::room_of;
use futures::StreamExt as _;
use ledger::Deal;
use queue::registry;
use queue::settings::RoomSettings;
use queue::ticket::NUMBER_MAX;
use service_kit::clock::now_ms;
use service_kit::ids::{DealId, RoomId};
use service_kit::redis::StoreError;
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
    let deals = deals_in_play(app).await?;
    // Known version 0 = the whole list: after a flush it is empty whatever we knew.
    let listing = registry::fetch(&app.parts.redis, 0).await?.unwrap_or_default();
    // As operators steer them: a room with a later end stays for longer.
    let steered = listing.rooms();
    let listed: HashMap<RoomId, RoomSettings> =
        listing.published.into_iter().flatten().map(|r| (r.room.clone(), r)).collect();
    // First: what is taken back makes room for others.
    let over_ms = now_ms().saturating_sub(app.parts.config.keep_room_ms);
    let in_play: HashSet<RoomId> = deals.iter().map(|d| RoomId::of_deal(d.id)).collect();
    let over = steered.into_iter().filter(|room| room.ends_at_ms < over_ms).map(|room| room.room);
    let over: Vec<RoomId> = over.filter(|room| room.deal().is_some() && !in_play.contains(room)).collect();
    for room in take_back(app, over).await {
        published.remove(&room);
    }
    let mut left_out = 0_u64;
    for deal in &deals {
        let room = RoomId::of_deal(deal.id);
        let present = listed.get(&room);
        // The list is full: only what is in it can still be published.
        if left_out > 0 && present.is_none() {
            left_out += 1;
            continue;
        }
        match publish_one(app, deal, &room, present, published.contains(&room)).await {
            // Only now: a room whose first try failed is new, and must not begin with a hold.
            Ok(()) => {
                published.insert(room);
            }
            Err(Unpublished::Full) => left_out = 1,
            Err(Unpublished::Wrong(why)) => tracing::error!(%why, %room, "a deal's room cannot be published"),
            Err(Unpublished::Away(error)) => return Err(error),
        }
    }
    if left_out > 0 {
        tracing::warn!(
            left_out,
            most = registry::ROOMS_MAX,
            "there are as many rooms as there may be; these deals have none"
        );
    }
    Ok(())
}

/// Why a deal's room was not published.
enum Unpublished {
    /// There are as many rooms as there may be.
    Full,
    /// This deal's room breaks a rule; other deals' need not.
    Wrong(String),
    /// A store does not answer.
    Away(anyhow::Error),
}

async fn publish_one(
    app: &App,
    deal: &Deal,
    room: &RoomId,
    present: Option<&RoomSettings>,
    was_published: bool,
) -> Result<(), Unpublished> {
    let mut wanted = room_of(deal, present, &app.parts.config)
        .map_err(|error| Unpublished::Wrong(format!("its wishes are of a later release: {error}")))?;
    if present.is_none() {
        wanted.numbers_from = numbers_from(app, deal.id, was_published).await.map_err(Unpublished::Away)?;
    }
    if present == Some(&wanted) {
        return Ok(());
    }
    match registry::publish(&app.parts.redis, &wanted).await {
        Ok(()) => {
            tracing::info!(%room, "published a room");
            Ok(())
        }
        Err(StoreError::Refused { code, .. }) if code == "FULL" => Err(Unpublished::Full),
        Err(error @ StoreError::Config(_)) => Err(Unpublished::Wrong(error.to_string())),
        Err(error) => Err(Unpublished::Away(error.into())),
    }
}

/// Takes back rooms whose deals ended long ago, and names those that are gone now. A room leaves the list after its stock is
/// forgotten: whatever fails between the two is found here again.
async fn take_back(app: &App, over: Vec<RoomId>) -> Vec<RoomId> {
    futures::stream::iter(over)
        .map(async |room| {
            let done = async {
                app.parts.fast.forget(&room).await?;
                registry::retract(&app.parts.redis, &room).await
            };
            match done.await {
                Ok(()) => {
                    tracing::info!(%room, "took a room back; its deal ended long ago");
                    Some(room)
                }
                Err(error) => {
                    tracing::warn!(%error, %room, "could not take a room back; trying again");
                    None
                }
            }
        })
        .buffer_unordered(DEALS_AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// Of a room that is not in the list: which numbers must not be given (again). The ledger has those that held units; and a
/// room that was in the list has given some in any case. For a gate that was lost together with the store.
async fn numbers_from(app: &App, deal: DealId, was_published: bool) -> anyhow::Result<u64> {
    let highest = u64::try_from(app.parts.ledger.highest_lease(deal).await?).unwrap_or(0);
    let known = highest.max(u64::from(was_published));
    Ok(if known == 0 { 0 } else { (known + 1).min(NUMBER_MAX) })
}
