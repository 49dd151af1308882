//! (long: one function per script) The line: the one door to a room's Redis keys. Every function is one script (a tick is two, and more when very
//! many are called at once); the rules are in [`crate::admission`], the details in `scripts/*.lua`.
//!
//! Every call may be repeated after [`StoreError::Unknown`]: a join by its key, a claim, a leave and a beat by their
//! numbers, a tick by its version.

use crate::admission::{Health, LimitReason, decide};
use crate::board::Board;
use crate::draw::{self, Digest, Nonce};
use crate::keys::room_keys;
use crate::lane;
use crate::marks::Marks;
use crate::memory::{Memory, RoomMemory};
use crate::metric;
use crate::registry;
use crate::reply;
use crate::settings::{Beacon, Mode, RoomSettings};
use crate::ticket::{NUMBER_MAX, PLACE_MAX};
use crate::trust::{Doubt, Remembered, doubts};
use serde::Serialize;
use service_kit::ids::VisitorId;
use service_kit::redis::{Redis, Script, StoreError};
use service_kit::script;
use std::sync::Arc;
use std::time::Instant;

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
    /// Heartbeats that ask nothing.
    MARK,
    "mark",
    "scripts/mark.lua"
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
    /// Carries a lease on.
    RENEW,
    "renew",
    "scripts/renew.lua"
);
script!(
    /// Ends a lease and its pass.
    END,
    "end",
    "scripts/end.lua"
);
script!(
    /// Writes down a doubt.
    HOLD,
    "hold",
    "scripts/hold.lua"
);
script!(
    /// Tells passes to a store that lost them.
    READMIT,
    "readmit",
    "scripts/readmit.lua"
);
script!(
    /// Tells records to a store that lost them.
    RECORD,
    "record",
    "scripts/record.lua"
);
script!(
    /// Reads the board.
    BOARD,
    "board",
    "scripts/board.lua"
);

/// Most people in one line.
pub const WAITING_MAX: u64 = 5_000_000;
/// Most people in one script of joins.
pub const JOIN_PEOPLE_MAX: usize = 64;
/// Most numbers in one script of heartbeats; [`Line::beat`] splits longer lists.
pub const BEAT_NUMBERS_MAX: usize = 500;
/// Most blocks of bits in one script of marks; [`Line::mark`] splits longer lists.
const MARK_BLOCKS_MAX: usize = 500;
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

/// Somebody who wants a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// To whom the number will belong.
    pub visitor: VisitorId,
    /// The same key always gets the same number: 1 to 128 visible ASCII characters, not beginning with `~`.
    pub key: Option<String>,
    /// The lane, see [`crate::lane`].
    pub lane: u8,
    /// The code that opened it.
    pub code: Option<CodeUse>,
    /// What they throw into a draw; counts where the room's beacon is its entrants.
    pub nonce: Option<Nonce>,
}

/// One use of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeUse {
    /// What it is counted by: 1 to 64 visible ASCII characters.
    pub id: String,
    /// How many people may use it; `None` = any number.
    pub uses_max: Option<u32>,
}

/// The name of one batch of joins: a gate numbers them upwards, sends one at a time per room, and repeats it until it
/// is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchId {
    /// The gate's process, made anew at each start.
    pub gate: VisitorId,
    /// Rising from 1; 0 = everybody in it has a key.
    pub number: u64,
}

/// The answer to a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The number.
    pub number: u64,
    /// The place; 0 = the draw will tell.
    pub place: u64,
    /// When it was given, by the store's clock.
    pub joined_ms: i64,
    /// False when this join key had a number already.
    pub created: bool,
    /// Called at once (or meanwhile): claim until then.
    pub called_until_ms: Option<i64>,
    /// To whom the number belongs: on a repeated join the visitor of the first one. This one goes into the ticket,
    /// so that a number never has two visitors.
    pub visitor: VisitorId,
    /// What is in the record of this number: on a repeated join the nonce of the first one, or none if that had none.
    pub nonce: Option<Nonce>,
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
        /// The browser that claimed first, as a hash; 0 = unknown. A repeat from another one is a copied ticket.
        browser: u64,
    },
    /// Still in line.
    NotYourTurn,
    /// The claim window or the lease is over.
    Missed,
    /// Left by themselves.
    Left,
}

/// A pass that somebody has just shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassInUse {
    /// The number that it was given for.
    pub number: u64,
    /// When it ends.
    pub expires_at_ms: i64,
    /// The browser that claimed it, as a hash; 0 = unknown.
    pub browser: u64,
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

    /// Gives each of at most [`JOIN_PEOPLE_MAX`] people the next number, or the one that the join key got before, in
    /// one script. `now_ms` (the room's clock) only decides whether the room takes numbers; order and deadlines come
    /// from the store.
    ///
    /// # Errors
    /// Per person [`StoreError::Refused`] with [`REFUSED_FULL`], [`REFUSED_USED`] or [`REFUSED_KEY`]; for all of them
    /// [`REFUSED_SCHEDULED`], [`REFUSED_CLOSED`], and see [`StoreError`]. After [`StoreError::Unknown`] send the same
    /// batch again.
    pub async fn join_batch(
        &self,
        settings: &RoomSettings,
        batch: &BatchId,
        people: &[JoinRequest],
        now_ms: i64,
    ) -> Result<Vec<Result<Joined, StoreError>>, StoreError> {
        if settings.closed || now_ms >= settings.ends_at_ms {
            metric::joined(&settings.room, "rejected_closed", people.len());
            return Err(refused(REFUSED_CLOSED, "the room is closed"));
        }
        if now_ms < settings.lobby_opens_at_ms {
            metric::joined(&settings.room, "rejected_closed", people.len());
            return Err(refused(REFUSED_SCHEDULED, "the lobby is not open yet"));
        }
        if people.is_empty() || people.len() > JOIN_PEOPLE_MAX {
            return Err(refused(REFUSED_KEY, "a batch is 1 to 64 people"));
        }
        let good: Vec<bool> = people.iter().map(JoinRequest::is_well_formed).collect();
        let sent: Vec<&JoinRequest> = people.iter().zip(&good).filter(|(_, good)| **good).map(|(p, _)| p).collect();
        let mut replies =
            if sent.is_empty() { Vec::new() } else { self.send_joins(settings, batch, &sent, now_ms).await? }
                .into_iter();
        let bad = || Err(refused(REFUSED_KEY, "a join key is 1 to 128 visible ASCII characters"));
        Ok(good.iter().map(|good| if *good { replies.next().unwrap_or_else(bad) } else { bad() }).collect())
    }

    async fn send_joins(
        &self,
        settings: &RoomSettings,
        batch: &BatchId,
        people: &[&JoinRequest],
        now_ms: i64,
    ) -> Result<Vec<Result<Joined, StoreError>>, StoreError> {
        let open = !settings.paused && now_ms >= settings.starts_at_ms;
        let draw = settings.mode == Mode::Draw;
        let memory = self.remembered(settings);
        let mut args = vec![
            self.clock_ms.to_string(),
            WAITING_MAX.to_string(),
            settings.claim_window_ms.to_string(),
            if open { SPARE_AGE_MAX_MS } else { 0 }.to_string(),
            u8::from(settings.stock_aware).to_string(),
            memory.next().to_string(),
            memory.place().to_string(),
            REBUILD_GAP.to_string(),
            REBUILD_HOLD_MS.to_string(),
            if draw { settings.starts_at_ms.max(1) } else { 0 }.to_string(),
            batch.gate.to_string(),
            batch.number.to_string(),
        ];
        for person in people {
            let (code, uses_max) = person.code.as_ref().map_or(("", 0), |c| (c.id.as_str(), c.uses_max.unwrap_or(0)));
            args.extend([
                person.key.clone().unwrap_or_default(),
                person.visitor.to_string(),
                person.lane.to_string(),
                if draw { 0 } else { lane::cost(&settings.lanes, person.lane) }.to_string(),
                code.to_owned(),
                uses_max.to_string(),
                if draw { person.record(settings) } else { String::new() },
            ]);
        }
        let keys = room_keys!(&settings.room => room line lobby heard called joins codes entrants stock);
        let reply =
            service_kit::failpoint::around("J1.before", "J1.after", self.redis.run(&JOIN, &keys, &args)).await?;
        let mut answers = Vec::with_capacity(people.len());
        for answer in reply.list()? {
            answers.push(match reply::joined(answer)? {
                Ok(joined) => {
                    memory.raise(joined.number.saturating_add(1), joined.place);
                    Ok(joined)
                }
                Err(word) if word == REFUSED_USED => {
                    Err(refused(REFUSED_USED, "the code was used as often as it may be"))
                }
                Err(word) => Err(refused(&word, "the line has no room for more people")),
            });
        }
        if answers.len() != people.len() {
            return Err(StoreError::Shape("one answer per person was expected"));
        }
        let new = answers.iter().flatten().filter(|j| j.created).count();
        metric::joined(&settings.room, "new", new);
        metric::joined(&settings.room, "existing", answers.iter().flatten().count() - new);
        let directs = answers.iter().flatten().filter(|j| j.created && j.called_until_ms.is_some()).count();
        if directs > 0 {
            metric::admitted(&settings.room, u64::try_from(directs).unwrap_or(0));
        }
        Ok(answers)
    }

    /// One newcomer with a key, in the main lane: a batch of its own.
    ///
    /// # Errors
    /// As [`Line::join_batch`].
    pub async fn join(
        &self,
        settings: &RoomSettings,
        visitor: &VisitorId,
        join_key: &str,
        now_ms: i64,
    ) -> Result<Joined, StoreError> {
        let person =
            JoinRequest { visitor: visitor.clone(), key: Some(join_key.to_owned()), lane: 0, code: None, nonce: None };
        let batch = BatchId { gate: visitor.clone(), number: 0 };
        let mut answers = self.join_batch(settings, &batch, &[person], now_ms).await?;
        answers.pop().unwrap_or(Err(StoreError::Shape("one answer per person was expected")))
    }

    /// Sweeps what expired and calls the next people: snapshot → [`decide`] → call. Any number of gates may run it at
    /// any time; a tick that another one overtook does nothing. A store that is doubted is put on hold instead.
    ///
    /// # Errors
    /// See [`StoreError`]. After [`StoreError::Unknown`] simply tick again.
    pub async fn tick(&self, settings: &RoomSettings) -> Result<Tick, StoreError> {
        self.tick_knowing(settings, Health::Unknown).await
    }

    /// As [`Line::tick`], by a gate that sees how the upstream does.
    ///
    /// # Errors
    /// As [`Line::tick`]; [`REFUSED_LIST`] until the list of rooms is back, tick again.
    pub async fn tick_knowing(&self, settings: &RoomSettings, health: Health) -> Result<Tick, StoreError> {
        let started = service_kit::clock::monotonic();
        let seen = room_keys!(&settings.room => room line lobby silent called inside buying stock);
        let memory = self.remembered(settings);
        // Before the snapshot is taken: what is learnt while it is on its way must not count against it.
        let (next, trusted_ms) = (memory.next(), memory.trusted_ms());
        let generation = memory.generation().map(|g| g.to_string()).unwrap_or_default();
        let reply = self.redis.run(&SNAPSHOT, &seen, &[self.clock_ms.to_string()]).await?;
        let (snapshot, witness) = reply::snapshot(&reply, settings)?;
        let expected_ms = memory.expected_ms(self.steady_ms());
        let remembered = Remembered { generation, expected_ms, trusted_ms, next };
        let found = doubts(&witness, &remembered);
        let mut tick = Tick {
            calls: 0,
            skips: 0,
            claims_missed: 0,
            reason: LimitReason::Store,
            raced: false,
            now_ms: snapshot.now_ms,
        };
        if witness.generation.is_empty() && trusted_ms == 0 {
            self.check_listed(settings).await?;
        }
        let is_new = witness.generation.is_empty() || witness.known_run_id.is_empty();
        if !found.is_empty() || is_new {
            tick.raced = !self.write_doubt(settings, snapshot.version, &witness.run_id, &found).await?;
            if !found.is_empty() || tick.raced {
                return Ok(tick);
            }
        }
        memory.set_clock(snapshot.now_ms, self.steady_ms());
        memory.raise(witness.next, 0);
        if !is_new {
            memory.set_generation(&witness.generation);
        }
        let decision = decide(settings, &snapshot, health);
        tick.reason = decision.reason;
        let touched = room_keys!(
            &settings.room => room line silent called inside buying missed returned left entered ended
            heard heard1 heard2 heard3
        );
        let (mut version, mut directs) = (snapshot.version + i64::from(is_new), snapshot.directs);
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
                decision.throttle.milli.to_string(),
                decision.throttle.changed_ms.max(0).to_string(),
                decision.throttle.bad_ms.max(0).to_string(),
            ];
            let call = service_kit::failpoint::around("A1.before", "A1.after", self.redis.run(&CALL, &touched, &args));
            let Some(run) = reply::called(&call.await?)? else {
                tick.raced = true;
                break;
            };
            metric::called(&settings.room, &run);
            tick.calls += run.calls;
            tick.skips += run.skips;
            tick.claims_missed += run.claims_missed;
            if run.rest == 0 {
                break;
            }
            (version, directs, todo) = (run.version, run.directs, run.rest);
        }
        metric::tick_took(started.elapsed());
        Ok(tick)
    }

    /// A deal's room begins only while the list has it, with what its owner knows of numbers given before. A gate that
    /// has never trusted this store may have read the list just before all was lost, and would take the loss for a room
    /// that is new.
    async fn check_listed(&self, settings: &RoomSettings) -> Result<(), StoreError> {
        if settings.room.deal().is_none() {
            return Ok(());
        }
        let listing = registry::fetch(&self.redis, 0).await?.unwrap_or_default();
        let listed = listing.published.iter().flatten().find(|listed| listed.room == settings.room);
        if listed.is_some_and(|listed| listed.numbers_from <= settings.numbers_from) {
            return Ok(());
        }
        Err(refused(REFUSED_LIST, "the store lost the list of rooms; it is not back yet"))
    }

    /// Puts the room on hold for every doubt; without one only notes which server it is. False when somebody was faster.
    async fn write_doubt(
        &self,
        settings: &RoomSettings,
        version: i64,
        run_id: &str,
        found: &[Doubt],
    ) -> Result<bool, StoreError> {
        let by_ms = found.iter().find_map(|d| if let Doubt::Clock { by_ms } = d { Some(*by_ms) } else { None });
        let memory = self.remembered(settings);
        let why = found.first().map_or("new", |d| d.label());
        let args = [
            self.clock_ms.to_string(),
            version.to_string(),
            if found.is_empty() { 0 } else { REBUILD_HOLD_MS }.to_string(),
            memory.next().to_string(),
            memory.place().to_string(),
            REBUILD_GAP.to_string(),
            by_ms.unwrap_or(0).to_string(),
            if run_id.is_empty() { "unknown" } else { run_id }.to_owned(),
            VisitorId::new().to_string(),
            why.to_owned(),
        ];
        let written = self.redis.run(&HOLD, &room_keys!(&settings.room => room called), &args).await?.int()? == 1;
        if written && !found.is_empty() {
            tracing::warn!(room = %settings.room, why, "the store is doubted; nobody is called until tickets have been collected");
            metric::doubted(&settings.room, why);
        }
        Ok(written)
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

    /// Turns a call into a lease, for a browser with this fingerprint (0 = unknown). Repeating it gives the same lease,
    /// and the browser that was first. `held` = the room is on hold: nobody gets in.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn claim(
        &self,
        settings: &RoomSettings,
        number: u64,
        place: u64,
        browser: u64,
        held: bool,
    ) -> Result<Claim, StoreError> {
        check_number(number)?;
        let keys = room_keys!(&settings.room => room line lobby silent called inside buying missed left entered ended);
        let args = [
            self.clock_ms.to_string(),
            settings.lease_ms.to_string(),
            REBUILD_HOLD_MS.to_string(),
            settings.claim_window_ms.to_string(),
            u8::from(held).to_string(),
            number.to_string(),
            place.min(PLACE_MAX).to_string(),
            hex(browser),
        ];
        let claim = service_kit::failpoint::around("A3.before", "A3.after", self.redis.run(&CLAIM, &keys, &args));
        let (claim, fresh) = reply::claim(&claim.await?)?;
        if fresh {
            metric::left(&settings.room, "admitted", 1);
        }
        Ok(claim)
    }

    /// Carries a lease on after activity, by `lease_ms` from now but never beyond `lease_max_ms` since it began. The end
    /// of the lease, or `None` when there is none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn renew(&self, settings: &RoomSettings, number: u64) -> Result<Option<i64>, StoreError> {
        check_number(number)?;
        let keys = room_keys!(&settings.room => room inside buying entered);
        let args = [
            self.clock_ms.to_string(),
            settings.lease_ms.to_string(),
            settings.lease_max_ms.to_string(),
            number.to_string(),
        ];
        Ok(Some(self.redis.run(&RENEW, &keys, &args).await?.int()?).filter(|until_ms| *until_ms > 0))
    }

    /// Ends a lease for good; its pass, which would last until `expires_at_ms`, opens nothing any more. False when there
    /// was no lease.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn end(&self, settings: &RoomSettings, number: u64, expires_at_ms: i64) -> Result<bool, StoreError> {
        check_number(number)?;
        let keys = room_keys!(&settings.room => room inside buying entered ended);
        let args = [self.clock_ms.to_string(), expires_at_ms.max(0).to_string(), number.to_string()];
        Ok(self.redis.run(&END, &keys, &args).await?.int()? == 1)
    }

    /// Gives up the place, the call or the lease. False when there was nothing to give up.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn leave(&self, settings: &RoomSettings, number: u64) -> Result<bool, StoreError> {
        check_number(number)?;
        let keys = room_keys!(&settings.room => room line lobby silent called inside buying missed returned left entered ended);
        let args = [
            self.clock_ms.to_string(),
            REBUILD_HOLD_MS.to_string(),
            settings.lease_max_ms.to_string(),
            number.to_string(),
        ];
        let gone = self.redis.run(&LEAVE, &keys, &args).await?.int()? == 1;
        if gone {
            metric::left(&settings.room, "abandoned", 1);
        }
        Ok(gone)
    }

    /// Heartbeats of `(number, place)`, and where each stands, in the same order. Puts back into line who was silent or
    /// lost. A place of 0 is one that a draw will tell.
    ///
    /// # Errors
    /// See [`StoreError`]; [`REFUSED_NUMBER`] before anything is sent.
    pub async fn beat(&self, settings: &RoomSettings, tickets: &[(u64, u64)]) -> Result<Vec<Presence>, StoreError> {
        tickets.iter().try_for_each(|(number, _)| check_number(*number))?;
        let keys = room_keys!(&settings.room => room line lobby heard silent called inside buying missed returned left);
        let mut presences = Vec::with_capacity(tickets.len());
        for some in tickets.chunks(BEAT_NUMBERS_MAX) {
            let mut args = vec![self.clock_ms.to_string(), REBUILD_HOLD_MS.to_string()];
            args.extend(
                some.iter().flat_map(|(number, place)| [number.to_string(), place.min(&PLACE_MAX).to_string()]),
            );
            presences.extend(reply::presences(&self.redis.run(&BEAT, &keys, &args).await?, some.len())?);
        }
        let (next, place) = tickets.iter().fold((0, 0), |(n, p), (number, place)| (n.max(number + 1), p.max(*place)));
        self.memory.of(&settings.room).raise(next, place);
        Ok(presences)
    }

    /// Notes that these people were heard: those who simply wait, see [`Board::simply_waits`].
    ///
    /// # Errors
    /// See [`StoreError`]; repeat.
    pub async fn mark(&self, settings: &RoomSettings, marks: &Marks) -> Result<(), StoreError> {
        let keys = room_keys!(&settings.room => heard marks);
        let blocks: Vec<(u64, &[u8])> = marks.blocks().collect();
        for some in blocks.chunks(MARK_BLOCKS_MAX) {
            let args: Vec<Vec<u8>> =
                some.iter().flat_map(|(offset, bits)| [offset.to_string().into_bytes(), bits.to_vec()]).collect();
            self.redis.run(&MARK, &keys, &args).await?;
        }
        self.memory.of(&settings.room).raise(0, marks.place_max());
        Ok(())
    }

    /// Tells a store that may have lost them which passes are in use. How many leases it did not know.
    ///
    /// # Errors
    /// See [`StoreError`]; [`REFUSED_NUMBER`] before anything is sent.
    pub async fn readmit(&self, settings: &RoomSettings, passes: &[PassInUse]) -> Result<u64, StoreError> {
        passes.iter().try_for_each(|pass| check_number(pass.number))?;
        let keys = room_keys!(&settings.room => room line lobby silent called inside buying ended entered);
        let mut written = 0;
        for some in passes.chunks(BEAT_NUMBERS_MAX) {
            let mut args = vec![self.clock_ms.to_string()];
            args.extend(
                some.iter().flat_map(|pass| {
                    [pass.number.to_string(), pass.expires_at_ms.max(0).to_string(), hex(pass.browser)]
                }),
            );
            written += u64::try_from(self.redis.run(&READMIT, &keys, &args).await?.int()?).unwrap_or(0);
        }
        Ok(written)
    }

    /// Tells a store that may have lost them the records of entrants whose lobby is open (see [`draw::entrant`]), each by
    /// its number. A record that is there stays as it is. How many were written.
    ///
    /// # Errors
    /// See [`StoreError`]; [`REFUSED_NUMBER`] before anything is sent.
    pub async fn record(&self, settings: &RoomSettings, records: &[(u64, Digest)]) -> Result<u64, StoreError> {
        records.iter().try_for_each(|(number, _)| check_number(*number))?;
        let keys = room_keys!(&settings.room => room entrants);
        let mut written = 0;
        for some in records.chunks(BEAT_NUMBERS_MAX) {
            let args: Vec<String> =
                some.iter().flat_map(|(number, leaf)| [number.to_string(), leaf.to_string()]).collect();
            written += u64::try_from(self.redis.run(&RECORD, &keys, &args).await?.int()?).unwrap_or(0);
        }
        Ok(written)
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
        [&JOIN, &SNAPSHOT, &CALL, &BEAT, &MARK, &CLAIM, &LEAVE, &BOARD, &RENEW, &END, &HOLD, &READMIT, &RECORD]
    }
}

impl JoinRequest {
    fn is_well_formed(&self) -> bool {
        let visible =
            |text: &str, max: usize| (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        self.key.as_ref().is_none_or(|k| visible(k, JOIN_KEY_BYTES_MAX) && !k.starts_with('~'))
            && self.code.as_ref().is_none_or(|c| visible(&c.id, 64))
            && u64::from(self.lane) < lane::LANE_SLOTS
    }

    /// What the script writes down about an entrant of a draw: the leaf and, behind a colon, the nonce that is in it.
    fn record(&self, settings: &RoomSettings) -> String {
        let nonce = self.nonce.as_ref().filter(|_| settings.beacon == Beacon::Entrants);
        let leaf = draw::entrant(&settings.room, &self.visitor, nonce);
        nonce.map_or_else(|| leaf.to_string(), |nonce| format!("{leaf}:{nonce}"))
    }
}

fn check_number(number: u64) -> Result<(), StoreError> {
    if (1..=NUMBER_MAX).contains(&number) { Ok(()) } else { Err(refused(REFUSED_NUMBER, "not a number of this line")) }
}

/// A fingerprint as the scripts keep it.
fn hex(browser: u64) -> String {
    format!("{browser:016x}")
}

fn refused(code: &str, detail: &str) -> StoreError {
    StoreError::Refused { code: code.to_owned(), detail: detail.to_owned() }
}
