//! The board: one snapshot of a room, taken once per tick. Every status poll is answered from it, in memory.

pub use crate::eta::Eta;
pub use crate::status::{Status, VisitorState};

use crate::admission::LimitReason;
use crate::eta::{self, Pace};
use crate::ladder::Ladder;
use crate::settings::RoomSettings;
use crate::state::{RoomState, Stock, room_state};
use std::sync::Arc;

/// One snapshot of a room.
#[derive(Clone, Debug)]
pub struct Board {
    /// The settings it was taken with.
    pub settings: Arc<RoomSettings>,
    /// The store's clock when it was taken.
    pub taken_ms: i64,
    /// The store's clock at the last tick that took effect; 0 = none yet.
    pub last_tick_ms: i64,
    /// In line.
    pub waiting: u64,
    /// Skipped or timed out, not back yet.
    pub silent: u64,
    /// Called, not claimed yet.
    pub called: u64,
    /// Inside without a hold.
    pub inside: u64,
    /// Inside with a hold.
    pub buying: u64,
    /// Highest place called so far.
    pub frontier: u64,
    /// The number that the next newcomer gets.
    pub next: u64,
    /// Units of the deal, if loaded.
    pub stock: Option<Stock>,
    /// Calls per second, measured over the last seconds; `None` = too early to say.
    pub rate_per_s: Option<f64>,
    /// Why the last tick did not call more.
    pub reason: LimitReason,
    /// Running totals of the room.
    pub totals: Totals,
    /// Places by rank.
    pub ladder: Ladder,
    /// Number → claim deadline in ms, sorted by number; at most 20,000.
    pub called_until: Vec<(u64, i64)>,
}

/// Counters of a room since its first number (or since the store was lost).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Calls, direct entries included.
    pub calls: u64,
    /// Calls that were claimed.
    pub claims: u64,
    /// Calls that nobody claimed in time.
    pub misses: u64,
    /// People skipped because they were silent.
    pub skips: u64,
    /// People who left by themselves.
    pub leaves: u64,
    /// People called behind somebody who had come later: must stay 0.
    pub inversions: u64,
}

impl Board {
    /// The state of the room at `now_ms`.
    pub fn state(&self, now_ms: i64) -> RoomState {
        room_state(&self.settings, self.stock, now_ms)
    }

    /// Until when `number` may claim, if it was called when the board was taken.
    pub fn called_until(&self, number: u64) -> Option<i64> {
        let i = self.called_until.binary_search_by_key(&number, |&(n, _)| n).ok()?;
        self.called_until.get(i).map(|&(_, until_ms)| until_ms)
    }

    /// People in front of `number`. Numbers given after the board was taken stand behind everybody on it.
    pub fn ahead_of(&self, number: u64) -> u64 {
        match number.checked_sub(self.next) {
            Some(newer) => self.waiting.saturating_add(newer),
            None => self.ladder.ahead_of(number),
        }
    }

    /// The wait of somebody with `ahead` people in front, if the room is in a state that allows a guess.
    pub fn eta(&self, ahead: u64, now_ms: i64) -> Option<Eta> {
        let (start_in_ms, reason) = match self.state(now_ms) {
            RoomState::Scheduled | RoomState::Lobby => (self.settings.starts_at_ms - now_ms, LimitReason::NotOpen),
            RoomState::Open => (self.hold_left_ms(), self.reason),
            RoomState::Paused | RoomState::Standby | RoomState::SoldOut | RoomState::Closed => return None,
        };
        let target_per_s = f64::from(self.settings.rate_per_s);
        eta::estimate(ahead, start_in_ms, Pace { target_per_s, measured_per_s: self.rate_per_s, reason })
    }

    /// While tickets are collected after a loss, nobody knows more than the length of that collection.
    fn hold_left_ms(&self) -> i64 {
        if self.reason == LimitReason::Rebuilding { crate::line::REBUILD_HOLD_MS } else { 0 }
    }

    /// What everybody may read, without a ticket; good for a second.
    pub fn public(&self, now_ms: i64) -> serde_json::Value {
        let s = &self.settings;
        serde_json::json!({
            "room": s.room,
            "title": s.title,
            "state": self.state(now_ms),
            "notice": s.notice,
            "now_ms": now_ms,
            "taken_ms": self.taken_ms,
            "lobby_opens_at_ms": s.lobby_opens_at_ms,
            "starts_at_ms": s.starts_at_ms,
            "ends_at_ms": s.ends_at_ms,
            "waiting": self.waiting,
            "called": self.called,
            "inside": self.inside + self.buying,
            "frontier": self.frontier,
            "next": self.next,
            "rate_per_s": { "target": s.rate_per_s, "measured": self.rate_per_s },
            "limit_reason": self.reason,
            "eta_seconds": self.eta(self.waiting, now_ms),
            "stock": self.stock.filter(|_| s.stock_aware),
        })
    }
}
