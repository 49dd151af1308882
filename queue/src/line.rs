//! The line: the one door to a room's Redis keys. Every function is one script (a tick is two, and more when very
//! many are called at once); the rules are in [`crate::admission`], the details in `scripts/*.lua`.
//!
//! | file | what it does |
//! |---|---|
//! | `line/join.rs` | gives numbers |
//! | `line/presence.rs` | heartbeats, marks, leaving |
//! | `line/tick.rs` | sweeps and calls; doubts the store |
//! | `line/lease.rs` | claims, renews, ends, tells again |
//!
//! Every call may be repeated after [`StoreError::Unknown`]: a join by its key, a claim, a leave and a beat by their
//! numbers, a tick by its version.

mod join;
mod lease;
mod presence;
mod tick;

pub use join::{
    BatchId, CodeUse, JOIN_KEY_BYTES_MAX, JOIN_PEOPLE_MAX, JoinRequest, Joined, SPARE_AGE_MAX_MS, WAITING_MAX,
};
pub use lease::{Claim, PassInUse};
pub use presence::Presence;
pub use tick::Tick;

use crate::board::Board;
use crate::keys::room_keys;
use crate::lane;
use crate::memory::{Memory, RoomMemory};
use crate::reply;
use crate::settings::RoomSettings;
use crate::ticket::NUMBER_MAX;
use service_kit::redis::{Redis, Script, StoreError};
use service_kit::script;
use std::sync::Arc;
use std::time::Instant;

script!(
    /// Reads the board.
    BOARD,
    "board",
    "scripts/board.lua"
);
/// Most numbers in one script of heartbeats; [`Line::beat`] splits longer lists.
pub const BEAT_NUMBERS_MAX: usize = 500;
/// After a loss of the store: how long tickets are collected before anybody is called. Longer than the slowest poll.
pub const REBUILD_HOLD_MS: i64 = 25_000;
/// Numbers left out after a loss, more than other gates can have given out unseen by this one.
const REBUILD_GAP: u64 = 100_000;
/// Most called numbers on a board; the rest learn it from their heartbeat.
const BOARD_CALLED_MAX: u64 = 20_000;
/// Most rungs of a board's ladder.
const BOARD_RUNGS_MAX: u64 = 1_024;

/// Code of [`StoreError::Refused`] when the line is full.
pub const REFUSED_FULL: &str = "FULL";
/// Code of [`StoreError::Refused`] when a code was used as often as it may be.
pub const REFUSED_USED: &str = "USED";
/// Code of [`StoreError::Refused`] for a join before the lobby opens.
pub const REFUSED_SCHEDULED: &str = "SCHEDULED";
/// Code of [`StoreError::Refused`] for a join after the end.
pub const REFUSED_CLOSED: &str = "CLOSED";
/// Code of [`StoreError::Refused`] for a join key that is empty, too long or not visible ASCII.
pub const REFUSED_KEY: &str = "KEY";
/// Code of [`StoreError::Refused`] for a number outside 1 to 2^27 − 1.
pub const REFUSED_NUMBER: &str = "NUMBER";
/// Code of [`StoreError::Refused`] for a deal's room that the store does not know and its list of rooms does not have.
pub const REFUSED_LIST: &str = "LIST";

/// The lines of all rooms in one Redis. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Line {
    redis: Redis,
    memory: Memory,
    /// 0 = the store's own clock.
    clock_ms: i64,
    /// A clock that nobody sets; `None` = this machine's monotonic one.
    steady_ms: Option<i64>,
    started: Instant,
}

impl Line {
    /// The lines in this Redis.
    pub fn new(redis: Redis) -> Self {
        Self {
            redis,
            memory: Memory::default(),
            clock_ms: 0,
            steady_ms: None,
            started: service_kit::clock::monotonic(),
        }
    }

    /// The same lines with the store's clock standing at `now_ms` (> 0): for tests and rehearsals, which move time.
    #[must_use]
    pub fn at(&self, now_ms: i64) -> Self {
        self.at_stepped(now_ms, now_ms)
    }

    /// As [`Line::at`], while a clock that nobody sets stands at `steady_ms`: for tests that step the store's clock.
    #[must_use]
    pub fn at_stepped(&self, now_ms: i64, steady_ms: i64) -> Self {
        Self { clock_ms: now_ms, steady_ms: Some(steady_ms), ..self.clone() }
    }

    /// The same lines behind another connection: what this process remembers stays.
    #[must_use]
    pub fn on(&self, redis: Redis) -> Self {
        Self { redis, ..self.clone() }
    }

    fn steady_ms(&self) -> i64 {
        self.steady_ms.unwrap_or_else(|| i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    /// One snapshot for everybody who polls.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn board(&self, settings: Arc<RoomSettings>) -> Result<Board, StoreError> {
        let keys = room_keys!(&settings.room => room line lobby silent called inside buying ended stock);
        let args = [self.clock_ms.to_string(), BOARD_CALLED_MAX.to_string(), BOARD_RUNGS_MAX.to_string()];
        let reply = self.redis.run(&BOARD, &keys, &args).await?;
        let board = reply::board(&reply, settings)?;
        self.memory.of(&board.settings.room).raise(board.next, board.frontier);
        Ok(board)
    }

    /// What this process remembers of a room, and what its settings say that others do.
    fn remembered(&self, settings: &RoomSettings) -> Arc<RoomMemory> {
        let memory = self.memory.of(&settings.room);
        memory.raise(settings.numbers_from, settings.numbers_from.saturating_mul(lane::UNIT * lane::LANE_SLOTS));
        memory
    }

    /// The clock of [`Line::at`]; 0 = the store's own.
    pub(crate) fn clock_ms(&self) -> i64 {
        self.clock_ms
    }

    /// The connection, for the draw's scripts.
    pub(crate) fn redis(&self) -> &Redis {
        &self.redis
    }

    /// The scripts, for start-up checks and tests.
    pub fn scripts() -> [&'static Script; 13] {
        [
            &join::JOIN,
            &join::RECORD,
            &presence::BEAT,
            &presence::MARK,
            &presence::LEAVE,
            &tick::SNAPSHOT,
            &tick::CALL,
            &tick::HOLD,
            &lease::CLAIM,
            &lease::RENEW,
            &lease::END,
            &lease::READMIT,
            &BOARD,
        ]
    }
}

fn check_number(number: u64) -> Result<(), StoreError> {
    if (1..=NUMBER_MAX).contains(&number) { Ok(()) } else { Err(refused(REFUSED_NUMBER, "not a number of this line")) }
}

fn refused(code: &str, detail: &str) -> StoreError {
    StoreError::Refused { code: code.to_owned(), detail: detail.to_owned() }
}
