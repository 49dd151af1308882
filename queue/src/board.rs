//! The board: one snapshot of a room, taken once per tick. Every status poll is answered from it, in memory.

pub use crate::eta::Eta;
pub use crate::status::{Chance, Status, VisitorState};

use crate::admission::{LimitReason, Throttle};
use crate::draw::{Draw, Permutation, Phase};
use crate::eta::{self, Pace, Trend};
use crate::ladder::Ladder;
use crate::lane::LANE_SLOTS;
use crate::settings::{AfterStoreLoss, RoomSettings};
use crate::state::{Losses, RoomState, Stock, room_state};
use crate::ticket::Ticket;
use std::collections::HashMap;
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
    /// In line, with a place.
    pub waiting: u64,
    /// In the lobby of a draw, without a place yet.
    pub lobby: u64,
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
    /// What is known about losses of the store.
    pub losses: Losses,
    /// How far the calls are slowed down for the upstream.
    pub throttle: Throttle,
    /// Places of a draw are being written down.
    pub drawing: bool,
    /// The draw, from the opening of its lobby on.
    pub draw: Option<DrawnLobby>,
    /// Units of the deal, if loaded.
    pub stock: Option<Stock>,
    /// Calls per second, measured over the last seconds; `None` = too early to say.
    pub rate_per_s: Option<f64>,
    /// What the last minutes were like.
    pub trend: Trend,
    /// Why the last tick did not call more.
    pub reason: LimitReason,
    /// Running totals of the room.
    pub totals: Totals,
    /// Places by rank.
    pub ladder: Ladder,
    /// Number → claim deadline in ms, sorted by number; at most 20,000.
    pub called_until: Vec<(u64, i64)>,
    /// Number → end of the pass in ms, of leases that ended before their pass; the 20,000 that would last longest.
    pub ended: HashMap<u64, i64>,
}

/// A draw as the store keeps it.
#[derive(Clone, Debug)]
pub struct DrawnLobby {
    /// The published document.
    pub draw: Draw,
    /// Places that are in the line already.
    pub written: u64,
    permutation: Option<Permutation>,
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
    /// Leases that ended without ever a hold.
    pub idle: u64,
    /// Times that the store was doubted.
    pub losses: u64,
    /// People called behind somebody who had come later: must stay 0.
    pub inversions: u64,
}

impl Board {
    /// The state of the room at `now_ms`.
    pub fn state(&self, now_ms: i64) -> RoomState {
        room_state(&self.settings, self.stock, self.losses, now_ms)
    }

    /// Until when `number` may claim, if it was called when the board was taken.
    pub fn called_until(&self, number: u64) -> Option<i64> {
        let i = self.called_until.binary_search_by_key(&number, |&(n, _)| n).ok()?;
        self.called_until.get(i).map(|&(_, until_ms)| until_ms)
    }

    /// When `number` was called, if it is on the board: its deadline tells, and whether a hold has moved that.
    pub fn called_at(&self, number: u64) -> Option<i64> {
        let at_ms = self.called_until(number)? - i64::from(self.settings.claim_window_ms);
        // Nobody is called during a hold, so whoever seems to have been was called before it.
        let before = at_ms < self.losses.hold_until_ms;
        Some(if before { at_ms - self.losses.shift_ms } else { at_ms })
    }

    /// Whether the lease of `number` has ended for good: its pass opens nothing any more.
    pub fn ended(&self, number: u64) -> bool {
        self.ended.contains_key(&number)
    }

    /// Whether a heartbeat of this ticket would only hear "waiting": it stands beyond everybody who was called, in a line
    /// that has lost nothing. `place` 0 = not drawn yet.
    pub fn simply_waits(&self, number: u64, place: u64) -> bool {
        let is_drawn = || self.draw.as_ref().is_some_and(|lobby| lobby.draw.phase != Phase::Committed);
        let waits = if place == 0 { !is_drawn() } else { place > self.frontier };
        waits && number < self.next && self.losses.lost_ms == 0
    }

    /// Everybody who waits, with or without a place.
    pub fn crowd(&self) -> u64 {
        self.waiting.saturating_add(self.lobby)
    }

    /// The place of a ticket: its own, or the one that the draw gave it; `None` before the draw.
    pub fn place_of(&self, ticket: &Ticket) -> Option<u64> {
        if ticket.place > 0 {
            return Some(ticket.place);
        }
        let rank = self.draw.as_ref()?.rank(ticket.number)?;
        rank.checked_mul(LANE_SLOTS)
    }

    /// People in front of a ticket. Numbers given after the board was taken stand behind everybody on it, and behind
    /// each other, unless their lane says otherwise. `None` before a draw.
    pub fn ahead_of(&self, ticket: &Ticket) -> Option<u64> {
        let ahead = self.ladder.ahead_of(self.place_of(ticket)?);
        let newer = ticket.number.checked_sub(self.next).filter(|_| ahead == self.waiting);
        Some(ahead.saturating_add(newer.unwrap_or(0)))
    }

    /// The wait of somebody with `ahead` people in front, if the room is in a state that allows a guess.
    pub fn eta(&self, ahead: u64, now_ms: i64) -> Option<Eta> {
        let (start_in_ms, reason) = match self.state(now_ms) {
            RoomState::Scheduled | RoomState::Lobby => (self.settings.starts_at_ms - now_ms, LimitReason::NotOpen),
            RoomState::Open => (0, self.reason),
            RoomState::Hold => (self.hold_left_ms(now_ms)?, LimitReason::Store),
            RoomState::Paused | RoomState::Standby | RoomState::SoldOut | RoomState::Closed => return None,
        };
        let active = self.called.saturating_add(self.inside).saturating_add(self.buying);
        let pace = Pace {
            target_per_s: f64::from(self.settings.rate_per_s),
            measured_per_s: self.rate_per_s,
            reason,
            trend: self.trend,
            inside: Some(eta::Inside { active, max: u64::from(self.settings.inside_max) }),
        };
        eta::estimate(ahead, start_in_ms, pace)
    }

    /// How long tickets are collected yet; `None` when the operator decides.
    fn hold_left_ms(&self, now_ms: i64) -> Option<i64> {
        (self.settings.after_store_loss == AfterStoreLoss::Resume).then(|| self.losses.hold_until_ms - now_ms)
    }

    /// What everybody may read, without a ticket; good for a second.
    pub fn public(&self, now_ms: i64) -> serde_json::Value {
        let s = &self.settings;
        serde_json::json!({
            "room": s.room,
            "title": s.title,
            "state": self.state(now_ms),
            "notice": s.notice,
            "mode": s.mode,
            "now_ms": now_ms,
            "taken_ms": self.taken_ms,
            "lobby_opens_at_ms": s.lobby_opens_at_ms,
            "starts_at_ms": s.starts_at_ms,
            "ends_at_ms": s.ends_at_ms,
            "waiting": self.crowd(),
            "called": self.called,
            "inside": self.inside + self.buying,
            "frontier": self.frontier,
            "next": self.next,
            "rate_per_s": { "target": s.rate_per_s, "measured": self.rate_per_s, "used_percent": self.throttle.milli / 10 },
            "inside_max": s.inside_max,
            "limit_reason": self.reason,
            "eta_seconds": self.eta(self.crowd(), now_ms),
            "stock": self.stock.filter(|_| s.stock_aware),
        })
    }
}

impl DrawnLobby {
    /// From the document and how many places are written.
    pub fn new(draw: Draw, written: u64) -> Self {
        Self { permutation: draw.permutation(), draw, written }
    }

    /// The drawn rank of a number, from 1; `None` before the draw and for numbers that took no part.
    pub fn rank(&self, number: u64) -> Option<u64> {
        let index = u32::try_from(number.checked_sub(1)?).ok()?;
        Some(u64::from(self.permutation.as_ref()?.prp(index)?) + 1)
    }
}
