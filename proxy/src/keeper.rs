//! The keepers: background tasks that talk to Redis so that requests need not.
//!
//! One task follows the registry; one task per room runs its tick, takes its board and sends its
//! heartbeats. Races: any number of gates run ticks of the same room, the script lets one of them
//! through. Crash: a gate keeps nothing that the others or a restart would miss; heartbeats in the
//! buffer are lost, which costs nobody a place. When Redis is away, boards stay as they are and turn
//! stale; when it returns, everything goes on by itself.

use crate::metric;
use crate::rooms::{Beats, Room, Rooms, Seen};
use metrics::gauge;
use queue::registry;
use queue::settings::RoomSettings;
use service_kit::clock::monotonic;
use service_kit::redis::{Redis, RedisConfig};
use service_kit::shutdown::{Shutdown, Trigger, channel};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Time between two looks at the registry.
const REGISTRY_MS: u64 = 500;
/// Time between two rounds of a busy room.
const BUSY_MS: u64 = 200;
/// Time between two rounds of an idle room: nobody waits, nobody is called.
const IDLE_MS: u64 = 1_000;
/// A room that was woken stays busy for this long.
const AWAKE_FOR: Duration = Duration::from_secs(5);
/// Most heartbeats in one script.
const BEATS_PER_SCRIPT: usize = 500;
/// Most heartbeats in one round; the rest waits for the next.
const BEATS_PER_ROUND: usize = 20_000;

/// Connects (unless `first` is a connection already), then follows the registry until shutdown. `fixed` are the
/// rooms of the configuration.
pub async fn keep_rooms(
    rooms: Arc<Rooms>,
    fixed: Vec<RoomSettings>,
    redis: RedisConfig,
    first: Option<Redis>,
    stop: Shutdown,
) {
    let mut keepers: HashMap<String, Trigger> = HashMap::new();
    update(&rooms, &mut keepers, &fixed, &[], false);
    let connected = match first {
        Some(store) => Some(store),
        None => connect(&redis, &stop).await,
    };
    if let Some(store) = connected {
        follow(&rooms, &mut keepers, &fixed, &store, &stop).await;
    }
    for keeper in keepers.values() {
        keeper.stop();
    }
}

async fn follow(
    rooms: &Arc<Rooms>,
    keepers: &mut HashMap<String, Trigger>,
    fixed: &[RoomSettings],
    store: &Redis,
    stop: &Shutdown,
) {
    rooms.connected(store.clone());
    // 0 = know nothing yet.
    let mut version = 0;
    loop {
        match registry::fetch(store, version).await {
            Ok(answer) => {
                rooms.answered();
                if let Some((new_version, published)) = answer {
                    // A version that went back means that the store lost its memory: rooms that are
                    // missing now will be published again, so they are kept meanwhile.
                    update(rooms, keepers, fixed, &published, new_version < version);
                    version = new_version;
                }
            }
            Err(error) => tracing::warn!(%error, "the list of rooms cannot be read"),
        }
        let stale = rooms.all().values().filter(|r| r.seen.load().as_ref().is_none_or(|s| s.is_stale())).count();
        gauge!(metric::STALE_ROOMS).set(stale as f64);
        if !stop.sleep_ms(REGISTRY_MS).await {
            return;
        }
    }
}

async fn connect(settings: &RedisConfig, stop: &Shutdown) -> Option<Redis> {
    loop {
        match Redis::connect(settings).await {
            Ok(redis) => return Some(redis),
            Err(error) => tracing::warn!(%error, "Redis cannot be reached; trying again"),
        }
        if !stop.sleep_ms(IDLE_MS).await {
            return None;
        }
    }
}

/// Brings the set of rooms and their keepers in line with `fixed` and `published`.
fn update(
    rooms: &Arc<Rooms>,
    keepers: &mut HashMap<String, Trigger>,
    fixed: &[RoomSettings],
    published: &[RoomSettings],
    keep_missing: bool,
) {
    let before = rooms.all();
    let mut after: HashMap<String, Arc<Room>> = HashMap::new();
    // The configuration comes first: nobody can publish over a static room.
    for settings in fixed.iter().chain(published) {
        let name = settings.room.to_string();
        if after.contains_key(&name) {
            continue;
        }
        let room = match before.get(&name) {
            Some(room) => {
                room.settings.store(Arc::new(settings.clone()));
                room.wake.notify_one();
                room.clone()
            }
            None => {
                let (room, beats) = Room::new(settings.clone());
                let (trigger, stop) = channel();
                tokio::spawn(keep_room(rooms.clone(), room.clone(), beats, stop));
                keepers.insert(name.clone(), trigger);
                tracing::info!(room = %room.id, "room opened on this gate");
                room
            }
        };
        after.insert(name, room);
    }
    for (name, room) in before.iter() {
        if after.contains_key(name) {
            continue;
        }
        if keep_missing {
            after.insert(name.clone(), room.clone());
        } else if let Some(trigger) = keepers.remove(name) {
            trigger.stop();
            tracing::info!(room = %room.id, "room is gone from the registry");
        }
    }
    gauge!(metric::ROOMS).set(after.len() as f64);
    rooms.replace(after);
}

/// Runs one room until it is gone.
async fn keep_room(rooms: Arc<Rooms>, room: Arc<Room>, mut beats: Beats, stop: Shutdown) {
    let mut awake_until = monotonic() + AWAKE_FOR;
    while !stop.is_requested() {
        if rooms.store().is_some() {
            let idle = round(&rooms, &room, &mut beats).await;
            if !idle {
                awake_until = monotonic() + AWAKE_FOR;
            }
        }
        if monotonic() < awake_until {
            tokio::time::sleep(Duration::from_millis(BUSY_MS)).await;
        } else {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(IDLE_MS)) => {}
                () = room.wake.notified() => awake_until = monotonic() + AWAKE_FOR,
                () = stop.requested() => {}
            }
        }
    }
}

/// One round: tick, board, heartbeats. Returns whether the room is idle. An error ends the round; the
/// next one tries again, and the board shows its age meanwhile.
async fn round(rooms: &Rooms, room: &Room, beats: &mut Beats) -> bool {
    let Some(store) = rooms.store() else { return true };
    let settings = room.settings.load_full();
    if let Err(error) = store.line.tick(&settings).await {
        tracing::warn!(room = %room.id, %error, "tick failed");
        return false;
    }
    let board = match store.line.board(settings.clone()).await {
        Ok(board) => board,
        Err(error) => {
            tracing::warn!(room = %room.id, %error, "board failed");
            return false;
        }
    };
    queue::metric::record_board(&board);
    let idle = board.waiting == 0 && board.called == 0;
    room.seen.store(Some(Arc::new(Seen::new(board))));
    let sent = send_beats(&store.line, &settings, room, beats).await;
    idle && !sent
}

async fn send_beats(line: &queue::line::Line, settings: &RoomSettings, room: &Room, beats: &mut Beats) -> bool {
    let mut numbers: HashSet<u64> = HashSet::new();
    while numbers.len() < BEATS_PER_ROUND {
        match beats.try_recv() {
            Ok(number) => drop(numbers.insert(number)),
            Err(_) => break,
        }
    }
    let numbers: Vec<u64> = numbers.into_iter().collect();
    for chunk in numbers.chunks(BEATS_PER_SCRIPT) {
        match line.beat(settings, chunk).await {
            Ok(presences) => room.presences.put_all(chunk.iter().copied().zip(presences)),
            Err(error) => {
                tracing::warn!(room = %room.id, %error, "heartbeats failed");
                break;
            }
        }
    }
    !numbers.is_empty()
}
