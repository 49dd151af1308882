//! The draws of this gate's rooms: looks at the boards, and brings a draw on when its time has come. The rules are in
//! `queue::draw`, the steps and their crashes in `queue::drawing`; any number of gates may do this.

use crate::rooms::{Room, Rooms};
use queue::board::Board;
use queue::draw::{BEACON_FILE_BYTES_MAX, BeaconConfig, BeaconFile, Phase};
use queue::drawing::{Drawer, Entrants, Progress};
use queue::settings::{Beacon, Mode};
use service_kit::shutdown::Shutdown;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Time between two looks at the boards.
const LOOK_MS: u64 = 100;
/// Most bytes of entrants' records that a gate keeps for proofs, of all rooms: eight millions of entrants.
const RECORDS_BYTES_MAX: usize = 256 << 20;

/// Runs until shutdown.
pub async fn keep_draws(rooms: Arc<Rooms>, drawer: Arc<Drawer>, beacon: Option<BeaconConfig>, stop: Shutdown) {
    let mut running: HashMap<String, JoinHandle<()>> = HashMap::new();
    loop {
        for (name, room) in rooms.all().iter().filter(|(_, room)| is_due(room)) {
            if running.get(name).is_none_or(JoinHandle::is_finished) {
                let task = advance(rooms.clone(), room.clone(), drawer.clone(), beacon.clone());
                running.insert(name.clone(), tokio::spawn(task));
            }
        }
        for (name, room) in rooms.all().iter().filter(|(_, room)| room.proofs.is_due()) {
            if running.get(name).is_none_or(JoinHandle::is_finished) {
                let left: usize = rooms.all().values().map(|room| room.proofs.bytes()).sum();
                let bytes_max = RECORDS_BYTES_MAX.saturating_sub(left);
                running.insert(name.clone(), tokio::spawn(read_entrants(rooms.clone(), room.clone(), bytes_max)));
            }
        }
        running.retain(|_, task| !task.is_finished());
        if !stop.sleep_ms(LOOK_MS).await {
            return;
        }
    }
}

/// Whether the draw of a room can go on.
fn is_due(room: &Room) -> bool {
    room.settings.load().mode == Mode::Draw
        && room.seen.load().as_ref().is_some_and(|seen| is_due_at(&seen.board, seen.now_ms()))
}

fn is_due_at(board: &Board, now_ms: i64) -> bool {
    let settings = &board.settings;
    let Some(lobby) = &board.draw else { return now_ms >= settings.lobby_opens_at_ms };
    let finished = lobby.draw.phase == Phase::Drawn && lobby.draw.count.is_some_and(|n| lobby.written >= u64::from(n));
    now_ms >= settings.starts_at_ms && !finished
}

async fn advance(rooms: Arc<Rooms>, room: Arc<Room>, drawer: Arc<Drawer>, beacon: Option<BeaconConfig>) {
    let Some(store) = rooms.store() else { return };
    let settings = room.settings.load_full();
    let signed = match (settings.beacon, &beacon) {
        (Beacon::File, Some(config)) => read_beacon(config, &room).await,
        _ => None,
    };
    match drawer.advance(&store.line, &settings, signed, room.now_ms()).await {
        Ok(Progress::Done) => tracing::info!(room = %room.id, "the draw is done; its places are in the line"),
        Ok(Progress::AwaitsBeacon) => {
            tracing::warn!(room = %room.id, "the draw waits for a value in `gate.beacon.file`; nobody is called before");
        }
        Ok(Progress::None | Progress::Committed | Progress::Elsewhere) => {}
        Err(error) => tracing::error!(room = %room.id, %error, "the draw cannot go on; it is tried again"),
    }
    room.wake.notify_one();
}

/// The list of a finished draw, for proofs: read once per gate and room, when somebody asks.
async fn read_entrants(rooms: Arc<Rooms>, room: Arc<Room>, bytes_max: usize) {
    let (Some(store), Some(seen)) = (rooms.store(), room.seen.load_full()) else { return };
    let Some(lobby) = &seen.board.draw else { return };
    match Entrants::read(&store.line, &room.id, &lobby.draw, bytes_max).await {
        Ok(Some(entrants)) => room.proofs.put(entrants),
        Ok(None) => tracing::warn!(room = %room.id, "this gate has no memory left for the entrants of one more draw"),
        Err(error) => tracing::warn!(room = %room.id, %error, "the entrants of a draw cannot be read; trying again"),
    }
}

/// The signed value for this room, if it is there yet.
async fn read_beacon(config: &BeaconConfig, room: &Room) -> Option<BeaconFile> {
    let size = tokio::fs::metadata(&config.file).await.ok()?.len();
    if size > BEACON_FILE_BYTES_MAX {
        tracing::warn!(size, "`gate.beacon.file` is larger than 4,096 bytes and is not read");
        return None;
    }
    let text = tokio::fs::read_to_string(&config.file).await.ok()?;
    match serde_json::from_str::<BeaconFile>(&text) {
        Ok(value) => Some(value).filter(|v| v.room == room.id),
        Err(error) => {
            tracing::warn!(%error, "`gate.beacon.file` cannot be read");
            None
        }
    }
}
