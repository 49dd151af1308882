//! The line: the one door to a room's Redis keys. Every function is one script (a tick is two, and more when very
//! many are called at once); the rules are in [`crate::admission`], the details in `scripts/*.lua`.
//!
//! Every call may be repeated after [`StoreError::Unknown`]: a join by its key, a claim, a leave and a beat by their
//! numbers, a tick by its version.

use crate::admission::{LimitReason, decide};
use crate::board::Board;
use crate::floor::Floors;
use crate::keys::RoomKeys;
use crate::metric;
use crate::reply;
use crate::settings::RoomSettings;
use crate::ticket::NUMBER_MAX;
use serde::Serialize;
use service_kit::ids::VisitorId;
use service_kit::redis::{Redis, Script, StoreError};
use service_kit::script;
use std::sync::Arc;

script!(
    /// Gives a newcomer the next number.
    JOIN,
    "join",
    "scripts/join.lua"
);
script!(
    /// Reads what a tick needs.
    SNAPSHOT,
    "snapshot",
    "scripts/snapshot.lua"
);
script!(
    /// Sweeps and calls.
    CALL,
    "call",
    "scripts/call.lua"
);
script!(
    /// Heartbeats.
    BEAT,
    "beat",
    "scripts/beat.lua"
);
script!(
    /// Turns a call into a lease.
    CLAIM,
    "claim",
    "scripts/claim.lua"
);
script!(
    /// Gives up a place.
    LEAVE,
    "leave",
    "scripts/leave.lua"
);
script!(
    /// Reads the board.
    BOARD,
    "board",
    "scripts/board.lua"
);

/// Most people in one line.
pub const WAITING_MAX: u64 = 5_000_000;
/// Most numbers in one script of heartbeats; [`Line::beat`] splits longer lists.
pub const BEAT_NUMBERS_MAX: usize = 500;
/// Longest join key, in bytes.
pub const JOIN_KEY_BYTES_MAX: usize = 128;
/// How long the spare places of a tick may be used.
pub const SPARE_AGE_MAX_MS: i64 = 1_500;
/// After a loss of the store: how long tickets are collected before anybody is called. Longer than the slowest poll.
pub const REBUILD_HOLD_MS: i64 = 25_000;
/// Numbers left out after a loss, more than other gates can have given out unseen by this one.
const REBUILD_GAP: u64 = 100_000;
/// How long leavers are remembered.
const LEFT_KEPT_MS: i64 = 86_400_000;
/// Most people looked at in one run of the call script: keeps Redis responsive.
const LOOK_MAX: u64 = 512;
/// Most expired entries swept in one run.
const SWEEP_MAX: u64 = 512;
/// Most runs of the call script in one tick.
const RUNS_MAX: usize = 200;
/// Most called numbers on a board; the rest learn it from their heartbeat.
const BOARD_CALLED_MAX: u64 = 20_000;
/// Most rungs of a board's ladder.
const BOARD_RUNGS_MAX: u64 = 1_024;

/// Code of [`StoreError::Refused`] when the line is full.
pub const REFUSED_FULL: &str = "FULL";
/// Code of [`StoreError::Refused`] for a join before the lobby opens.
pub const REFUSED_SCHEDULED: &str = "SCHEDULED";
/// Code of [`StoreError::Refused`] for a join after the end.
pub const REFUSED_CLOSED: &str = "CLOSED";
/// Code of [`StoreError::Refused`] for a join key that is empty, too long or not visible ASCII.
pub const REFUSED_KEY: &str = "KEY";
/// Code of [`StoreError::Refused`] for a number outside 1 to 2^53 − 1.
pub const REFUSED_NUMBER: &str = "NUMBER";

/// The lines of all rooms in one Redis. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Line {
    redis: Redis,
    floors: Floors,
    /// 0 = the store's own clock.
    clock_ms: i64,
}

/// The answer to a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The number.
    pub number: u64,
    /// When it was given, by the store's clock.
    pub joined_ms: i64,
    /// False when this join key had a number already.
    pub created: bool,
    /// Called at once (or meanwhile): claim until then.
    pub called_until_ms: Option<i64>,
    /// To whom the number belongs: on a repeated join the visitor of the first one. This one goes into the ticket,
    /// so that a number never has two visitors.
    pub visitor: VisitorId,
}

/// What a tick did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// People called.
    pub calls: u64,
    /// People passed over because they were silent.
    pub skips: u64,
    /// Calls that nobody claimed in time, found by this tick.
    pub claims_missed: u64,
    /// Why not more were called.
    pub reason: LimitReason,
    /// Another gate's tick came first; this one did nothing (or stopped half-way).
    pub raced: bool,
    /// The store's clock.
    pub now_ms: i64,
}

/// The answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// In; the same answer however often it is asked.
    Inside {
        /// End of the lease, by the store's clock.
        lease_until_ms: i64,
    },
    /// Still in line.
    NotYourTurn,
    /// The claim window or the lease is over.
    Missed,
    /// Left by themselves.
    Left,
}

/// Where a ticket stands, as of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// In line (again).
    Waiting,
    /// Called, the claim window runs.
    Called,
    /// Inside, the lease runs.
    Inside,
    /// Over: the claim window was missed twice, or the lease ended.
    Missed,
    /// Left by themselves.
    Left,
}

impl Line {
    /// The lines in this Redis.
    pub fn new(redis: Redis) -> Self {
        Self { redis, floors: Floors::default(), clock_ms: 0 }
    }

    /// The same lines with the store's clock standing at `now_ms` (> 0): for tests and rehearsals, which move time.
    #[must_use]
    pub fn at(&self, now_ms: i64) -> Self {
        Self { clock_ms: now_ms, ..self.clone() }
    }

    /// Gives `visitor` the next number, or the one that `join_key` got before. `now_ms` (the caller's clock) only
    /// decides whether the room takes numbers; order and deadlines come from the store.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with [`REFUSED_FULL`], [`REFUSED_SCHEDULED`], [`REFUSED_CLOSED`] or [`REFUSED_KEY`];
    /// otherwise see [`StoreError`].
    pub async fn join(
        &self,
        settings: &RoomSettings,
        visitor: &VisitorId,
        join_key: &str,
        now_ms: i64,
    ) -> Result<Joined, StoreError> {
        if settings.closed || now_ms >= settings.ends_at_ms {
            metric::joined(&settings.room, "rejected_closed");
            return Err(refused(REFUSED_CLOSED, "the room is closed"));
        }
        if now_ms < settings.lobby_opens_at_ms {
            metric::joined(&settings.room, "rejected_closed");
            return Err(refused(REFUSED_SCHEDULED, "the lobby is not open yet"));
        }
        if !(1..=JOIN_KEY_BYTES_MAX).contains(&join_key.len()) || !join_key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(refused(REFUSED_KEY, "a join key is 1 to 128 visible ASCII characters"));
        }
        let open = !settings.paused && now_ms >= settings.starts_at_ms;
        let keys = RoomKeys::new(&settings.room);
        let args = vec![
            self.clock_ms.to_string(),
            WAITING_MAX.to_string(),
            settings.claim_window_ms.to_string(),
            if open { SPARE_AGE_MAX_MS } else { 0 }.to_string(),
            u8::from(settings.stock_aware).to_string(),
            self.floors.get(&settings.room).to_string(),
            REBUILD_GAP.to_string(),
            REBUILD_HOLD_MS.to_string(),
            join_key.to_owned(),
            visitor.to_string(),
        ];
        let keys = [keys.room(), keys.line(), keys.seen(), keys.called(), keys.joins(), keys.stock()];
        let joined = reply::joined(&self.redis.run(&JOIN, &keys, &args).await?)?;
        self.floors.raise(&settings.room, joined.number.saturating_add(1));
        metric::joined(&settings.room, if joined.created { "new" } else { "existing" });
        if joined.created && joined.called_until_ms.is_some() {
            metric::admitted(&settings.room, 1);
        }
        Ok(joined)
    }

    /// Sweeps what expired and calls the next people: snapshot → [`decide`] → call. Any number of gates may run it at
    /// any time; a tick that another one overtook does nothing.
    ///
    /// # Errors
    /// See [`StoreError`]. After [`StoreError::Unknown`] simply tick again.
    pub async fn tick(&self, settings: &RoomSettings) -> Result<Tick, StoreError> {
        let started = service_kit::clock::monotonic();
        let keys = RoomKeys::new(&settings.room);
        let seen = [keys.room(), keys.line(), keys.silent(), keys.called(), keys.inside(), keys.buying(), keys.stock()];
        let snapshot = reply::snapshot(&self.redis.run(&SNAPSHOT, &seen, &[self.clock_ms.to_string()]).await?)?;
        let decision = decide(settings, &snapshot);
        let touched = all_keys(&keys);
        let mut tick = Tick {
            calls: 0,
            skips: 0,
            claims_missed: 0,
            reason: decision.reason,
            raced: false,
            now_ms: snapshot.now_ms,
        };
        let (mut version, mut directs) = (snapshot.version, snapshot.directs);
        let mut todo = decision.calls.saturating_add(decision.spare);
        for _ in 0..RUNS_MAX {
            let args = [
                self.clock_ms.to_string(),
                version.to_string(),
                todo.to_string(),
                decision.carry_micro.to_string(),
                directs.to_string(),
                snapshot.now_ms.to_string(),
                settings.claim_window_ms.to_string(),
                settings.silence_ms.to_string(),
                LOOK_MAX.to_string(),
                SWEEP_MAX.to_string(),
                LEFT_KEPT_MS.to_string(),
                decision.reason.label().to_owned(),
            ];
            let Some(run) = reply::called(&self.redis.run(&CALL, &touched, &args).await?)? else {
                tick.raced = true;
                break;
            };
            metric::called(&settings.room, &run);
            tick.calls = tick.calls.saturating_add(run.calls);
            tick.skips = tick.skips.saturating_add(run.skips);
            tick.claims_missed = tick.claims_missed.saturating_add(run.claims_missed);
            (version, directs, todo) = (run.version, run.directs, run.rest);
            if todo == 0 {
                break;
            }
        }
        metric::tick_took(started.elapsed());
        Ok(tick)
    }

    /// One snapshot of the room for everybody who waits.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn board(&self, settings: Arc<RoomSettings>) -> Result<Board, StoreError> {
        let keys = RoomKeys::new(&settings.room);
        let keys = [keys.room(), keys.line(), keys.silent(), keys.called(), keys.inside(), keys.buying(), keys.stock()];
        let args = [self.clock_ms.to_string(), BOARD_CALLED_MAX.to_string(), BOARD_RUNGS_MAX.to_string()];
        let reply = self.redis.run(&BOARD, &keys, &args).await?;
        let board = reply::board(&reply, settings)?;
        self.floors.raise(&board.settings.room, board.next);
        Ok(board)
    }

    /// Turns a call into a lease. Repeating it gives the same lease.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn claim(&self, settings: &RoomSettings, number: u64) -> Result<Claim, StoreError> {
        check_number(number)?;
        let keys = RoomKeys::new(&settings.room);
        let keys = [
            keys.room(),
            keys.line(),
            keys.silent(),
            keys.called(),
            keys.inside(),
            keys.buying(),
            keys.missed(),
            keys.left(),
        ];
        let args =
            [self.clock_ms.to_string(), settings.lease_ms.to_string(), REBUILD_HOLD_MS.to_string(), number.to_string()];
        let (claim, fresh) = reply::claim(&self.redis.run(&CLAIM, &keys, &args).await?)?;
        if fresh {
            metric::left(&settings.room, "admitted", 1);
        }
        Ok(claim)
    }

    /// Gives up the place, the call or the lease. False when there was nothing to give up.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn leave(&self, settings: &RoomSettings, number: u64) -> Result<bool, StoreError> {
        check_number(number)?;
        let keys = all_keys(&RoomKeys::new(&settings.room));
        let args = [self.clock_ms.to_string(), REBUILD_HOLD_MS.to_string(), number.to_string()];
        let gone = self.redis.run(&LEAVE, &keys, &args).await?.int()? == 1;
        if gone {
            metric::left(&settings.room, "abandoned", 1);
        }
        Ok(gone)
    }

    /// Heartbeats, and where each number stands, in the same order. Puts back into line who was silent or lost.
    ///
    /// # Errors
    /// See [`StoreError`]; [`REFUSED_NUMBER`] before anything is sent.
    pub async fn beat(&self, settings: &RoomSettings, numbers: &[u64]) -> Result<Vec<Presence>, StoreError> {
        numbers.iter().try_for_each(|n| check_number(*n))?;
        let keys = all_keys(&RoomKeys::new(&settings.room));
        let mut presences = Vec::with_capacity(numbers.len());
        for some in numbers.chunks(BEAT_NUMBERS_MAX) {
            let mut args = vec![self.clock_ms.to_string(), REBUILD_HOLD_MS.to_string()];
            args.extend(some.iter().map(u64::to_string));
            presences.extend(reply::presences(&self.redis.run(&BEAT, &keys, &args).await?, some.len())?);
        }
        if let Some(highest) = numbers.iter().max() {
            self.floors.raise(&settings.room, highest.saturating_add(1));
        }
        Ok(presences)
    }

    /// The scripts, for start-up checks and tests.
    pub fn scripts() -> [&'static Script; 7] {
        [&JOIN, &SNAPSHOT, &CALL, &BEAT, &CLAIM, &LEAVE, &BOARD]
    }
}

/// The order in which `call.lua`, `beat.lua` and `leave.lua` take their keys.
fn all_keys(keys: &RoomKeys) -> [String; 10] {
    [
        keys.room(),
        keys.line(),
        keys.seen(),
        keys.silent(),
        keys.called(),
        keys.inside(),
        keys.buying(),
        keys.missed(),
        keys.returned(),
        keys.left(),
    ]
}

fn check_number(number: u64) -> Result<(), StoreError> {
    if (1..=NUMBER_MAX).contains(&number) { Ok(()) } else { Err(refused(REFUSED_NUMBER, "not a number of this line")) }
}

fn refused(code: &str, detail: &str) -> StoreError {
    StoreError::Refused { code: code.to_owned(), detail: detail.to_owned() }
}
