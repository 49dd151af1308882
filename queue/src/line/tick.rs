//! A tick: sweeps what expired and calls the next people, or puts the room on hold when the store is doubted.

use super::{Line, REBUILD_GAP, REBUILD_HOLD_MS, REFUSED_LIST, refused};
use crate::admission::{Health, LimitReason, decide};
use crate::keys::room_keys;
use crate::metric;
use crate::registry;
use crate::reply;
use crate::settings::RoomSettings;
use crate::trust::{Doubt, Remembered, doubts};
use service_kit::ids::VisitorId;
use service_kit::redis::StoreError;
use service_kit::script;

script!(
    /// Reads what a tick needs.
    SNAPSHOT,
    "snapshot",
    "../scripts/snapshot.lua"
);
script!(
    /// Sweeps and calls.
    CALL,
    "call",
    "../scripts/call.lua"
);
script!(
    /// Writes down a doubt.
    HOLD,
    "hold",
    "../scripts/hold.lua"
);

/// How long leavers are remembered.
const LEFT_KEPT_MS: i64 = 86_400_000;
/// Most people looked at in one run of the call script: keeps Redis responsive.
const LOOK_MAX: u64 = 512;
/// Most expired entries swept in one run.
const SWEEP_MAX: u64 = 512;
/// Most runs of the call script in one tick.
const RUNS_MAX: usize = 200;

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

impl Line {
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
}
