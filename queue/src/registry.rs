//! The list of rooms: published by whoever owns a room, read by every gate. Settings and version change together.

use crate::keys::{SETTINGS, SETTINGS_VERSION};
use crate::settings::RoomSettings;
use service_kit::ids::RoomId;
use service_kit::redis::{Redis, StoreError};
use service_kit::script;

script!(
    /// Adds or changes a room.
    PUBLISH,
    "publish",
    "scripts/publish.lua"
);
script!(
    /// Removes a room.
    RETRACT,
    "retract",
    "scripts/retract.lua"
);
script!(
    /// Reads the list of rooms.
    ROOMS,
    "rooms",
    "scripts/rooms.lua"
);

/// Most rooms in one Redis.
pub const ROOMS_MAX: usize = 1_000;

fn keys() -> [String; 2] {
    [SETTINGS.to_owned(), SETTINGS_VERSION.to_owned()]
}

/// Adds a room or changes its settings. Publishing what is there already changes nothing.
///
/// # Errors
/// [`StoreError::Config`] when the settings are not valid; [`StoreError::Refused`] `FULL` beyond [`ROOMS_MAX`];
/// otherwise see [`StoreError`].
pub async fn publish(redis: &Redis, settings: &RoomSettings) -> Result<(), StoreError> {
    settings.validate().map_err(|e| StoreError::Config(e.0))?;
    let json = serde_json::to_string(settings).map_err(|e| StoreError::Config(e.to_string()))?;
    redis.run(&PUBLISH, &keys(), &[ROOMS_MAX.to_string(), settings.room.to_string(), json]).await?;
    Ok(())
}

/// Removes a room from the list; its line stays. Removing it again changes nothing.
///
/// # Errors
/// See [`StoreError`].
pub async fn retract(redis: &Redis, room: &RoomId) -> Result<(), StoreError> {
    redis.run(&RETRACT, &keys(), &[room.to_string()]).await?;
    Ok(())
}

/// All rooms with the version of the list, if it differs from `known_version` (0 = know nothing yet).
///
/// `None` also when the store has no list at all: a gate keeps the rooms it knows rather than opening them all,
/// until somebody publishes again. A room that this program cannot read is left out and logged.
///
/// # Errors
/// See [`StoreError`].
pub async fn fetch(redis: &Redis, known_version: i64) -> Result<Option<(i64, Vec<RoomSettings>)>, StoreError> {
    let reply = redis.run(&ROOMS, &keys(), &[known_version.to_string()]).await?;
    let version = reply.at(0)?.int()?;
    let Ok(list) = reply.at(1) else { return Ok(None) };
    let mut rooms = Vec::new();
    for [name, json] in list.list()?.as_chunks::<2>().0 {
        let name = name.text()?;
        match serde_json::from_str::<RoomSettings>(&json.text()?) {
            Ok(room) if room.room.as_str() == name && room.validate().is_ok() => rooms.push(room),
            Ok(_) => tracing::warn!(room = name, "room settings in the store are not valid; the room is left out"),
            Err(e) => {
                tracing::warn!(room = name, error = %e, "room settings in the store cannot be read; the room is left out")
            }
        }
    }
    rooms.sort_by(|a, b| a.room.cmp(&b.room));
    Ok(Some((version, rooms)))
}
