//! The keepers: background tasks that talk to Redis so that requests need not.
//!
//! One task follows the registry; one task per room runs its tick, takes its board and sends its
//! heartbeats. Races: any number of gates run ticks of the same room, the script lets one of them
//! through. Crash: a gate keeps nothing that the others or a restart would miss; heartbeats in the
//! buffer are lost, which costs nobody a place. When Redis is away, boards stay as they are and turn
//! stale; when it returns, everything goes on by itself.

use crate::joiner::keep_joins;
use crate::journal::{Calls, Journal};
use crate::loser::keep_looks;
use crate::metric;
use crate::rooms::{Ends, Room, Rooms, Seen};
use crate::steering::Steering;
use metrics::gauge;
use queue::draw::Digest;
use queue::line::{Line, PassInUse};
use queue::settings::RoomSettings;
use service_kit::clock::monotonic;
use service_kit::redis::{Redis, RedisConfig};
use service_kit::shutdown::{Shutdown, Trigger, channel};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Time between two looks at the registry: what an operator says holds on every gate within a second.
const REGISTRY_MS: u64 = 250;
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

/// What requests leave for the next round, and where it is written down what the round did.
struct Inbox {
    beats: mpsc::Receiver<(u64, u64)>,
    readmits: mpsc::Receiver<(u64, PassInUse)>,
    records: mpsc::Receiver<(u64, Digest)>,
    journal: Journal,
}

/// Connects (unless `first` is a connection already), then follows the registry until shutdown. `steering` knows the
/// rooms of the configuration.
pub async fn keep_rooms(
    rooms: Arc<Rooms>,
    mut steering: Steering,
    journal: Journal,
    redis: RedisConfig,
    first: Option<Redis>,
    stop: Shutdown,
) {
    let mut keepers = Keepers { running: HashMap::new(), journal };
    update(&rooms, &mut keepers, &steering.rooms());
    let connected = match first {
        Some(store) => Some(store),
        None => connect(&redis, &stop).await,
    };
    if let Some(store) = connected {
        follow(&rooms, &mut keepers, &mut steering, &store, &stop).await;
    }
    for keeper in keepers.running.values() {
        keeper.stop();
    }
}

async fn follow(rooms: &Arc<Rooms>, keepers: &mut Keepers, steering: &mut Steering, store: &Redis, stop: &Shutdown) {
    rooms.connected(store.clone());
    loop {
        match steering.look(rooms, store).await {
            Ok(changed) => {
                rooms.answered();
                if changed {
                    update(rooms, keepers, &steering.rooms());
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

/// The tasks that run, by room, and what they write into.
struct Keepers {
    running: HashMap<String, Trigger>,
    journal: Journal,
}

/// Brings the set of rooms and their keepers in line with `wanted`.
fn update(rooms: &Arc<Rooms>, keepers: &mut Keepers, wanted: &[RoomSettings]) {
    let before = rooms.all();
    let mut after: HashMap<String, Arc<Room>> = HashMap::new();
    for settings in wanted {
        let name = settings.room.to_string();
        let room = match before.get(&name) {
            Some(room) => {
                if **room.settings.load() != *settings {
                    room.settings.store(Arc::new(settings.clone()));
                    room.wake.notify_one();
                }
                room.clone()
            }
            None => {
                let (room, ends) = Room::new(settings.clone());
                let (trigger, stop) = channel();
                let Ends { beats, joins, readmits, records, looks } = ends;
                tokio::spawn(keep_joins(rooms.clone(), room.clone(), joins, stop.clone()));
                tokio::spawn(keep_looks(rooms.clone(), room.clone(), looks, stop.clone()));
                let inbox = Inbox { beats, readmits, records, journal: keepers.journal.clone() };
                tokio::spawn(keep_room(rooms.clone(), room.clone(), inbox, stop));
                keepers.running.insert(name.clone(), trigger);
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
        if let Some(trigger) = keepers.running.remove(name) {
            trigger.stop();
            tracing::info!(room = %room.id, "room is gone from the registry");
        }
    }
    gauge!(metric::ROOMS).set(after.len() as f64);
    rooms.replace(after);
}

/// Runs one room until it is gone.
async fn keep_room(rooms: Arc<Rooms>, room: Arc<Room>, mut inbox: Inbox, stop: Shutdown) {
    let mut awake_until = monotonic() + AWAKE_FOR;
    while !stop.is_requested() {
        if rooms.store().is_some() {
            let idle = round(&rooms, &room, &mut inbox).await;
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
async fn round(rooms: &Rooms, room: &Room, inbox: &mut Inbox) -> bool {
    let Some(store) = rooms.store() else { return true };
    let settings = room.settings.load_full();
    let health = room.health.verdict(&settings, monotonic());
    if let Err(error) = store.line.tick_knowing(&settings, health).await {
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
    let idle = board.crowd() == 0 && board.called == 0;
    inbox.journal.called(&room.id, Calls::between(room.seen.load().as_ref().map(|seen| &seen.board), &board));
    room.people.ended.learn(&board.ended, board.taken_ms);
    room.seen.store(Some(Arc::new(Seen::new(board))));
    let _ = room.looked.set(());
    let sent = send_beats(&store.line, &settings, room, &mut inbox.beats).await
        | send_marks(&store.line, &settings, room).await;
    send_readmits(&store.line, &settings, room, &mut inbox.readmits).await;
    // After the heartbeats: they teach the store the numbers that it lost.
    send_records(&store.line, &settings, room, &mut inbox.records).await;
    idle && !sent
}

async fn send_beats(line: &Line, settings: &RoomSettings, room: &Room, beats: &mut mpsc::Receiver<(u64, u64)>) -> bool {
    let tickets: Vec<(u64, u64)> = drain(beats).into_iter().collect();
    for chunk in tickets.chunks(BEATS_PER_SCRIPT) {
        match line.beat(settings, chunk).await {
            Ok(presences) => room.presences.put_all(chunk.iter().map(|(number, _)| *number).zip(presences)),
            Err(error) => {
                tracing::warn!(room = %room.id, %error, "heartbeats failed");
                break;
            }
        }
    }
    !tickets.is_empty()
}

/// What could not be told now is told with the next round.
async fn send_marks(line: &Line, settings: &RoomSettings, room: &Room) -> bool {
    let marks = room.signs.take();
    if marks.is_empty() {
        return false;
    }
    if let Err(error) = line.mark(settings, &marks).await {
        tracing::warn!(room = %room.id, %error, "signs of life could not be told to the store; trying again");
        room.signs.give_back(marks);
    }
    true
}

/// While the store is doubted: tells it which passes are in use.
async fn send_readmits(
    line: &Line,
    settings: &RoomSettings,
    room: &Room,
    readmits: &mut mpsc::Receiver<(u64, PassInUse)>,
) {
    let passes: Vec<PassInUse> = drain(readmits).into_values().collect();
    if passes.is_empty() {
        return;
    }
    match line.readmit(settings, &passes).await {
        Ok(0) => {}
        Ok(people) => tracing::warn!(room = %room.id, people, "the store had forgotten leases whose passes are in use"),
        Err(error) => tracing::warn!(room = %room.id, %error, "passes in use could not be told to the store"),
    }
}

/// After a loss: tells the store the records of entrants who are still in the lobby.
async fn send_records(line: &Line, settings: &RoomSettings, room: &Room, records: &mut mpsc::Receiver<(u64, Digest)>) {
    let records: Vec<(u64, Digest)> = drain(records).into_iter().collect();
    if records.is_empty() {
        return;
    }
    match line.record(settings, &records).await {
        Ok(0) => {}
        Ok(people) => tracing::warn!(room = %room.id, people, "the store had lost records of a draw's entrants"),
        Err(error) => tracing::warn!(room = %room.id, %error, "records of entrants could not be told to the store"),
    }
}

/// Takes what waits, each number once, the last word counts.
fn drain<T>(waiting: &mut mpsc::Receiver<(u64, T)>) -> HashMap<u64, T> {
    let mut taken = HashMap::new();
    while taken.len() < BEATS_PER_ROUND {
        match waiting.try_recv() {
            Ok((number, what)) => drop(taken.insert(number, what)),
            Err(_) => break,
        }
    }
    taken
}
