//! In which state a room is: a pure function of its settings, its stock and the time.

use crate::settings::{AfterStoreLoss, RoomSettings};
use serde::{Deserialize, Serialize};

/// Units of the deal behind a room, as the fast stock in Redis counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    /// Free to take.
    pub available: u64,
    /// Taken by holds that are not paid yet; some may come back.
    pub held: u64,
    /// Paid.
    pub sold: u64,
    /// All of them.
    pub total: u64,
}

/// The state of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomState {
    /// Nobody may take a number yet.
    Scheduled,
    /// People take numbers; nobody is called.
    Lobby,
    /// People are called.
    Open,
    /// The operator stopped the calls.
    Paused,
    /// The store cannot be trusted: nobody is called until tickets have been collected, or the operator says so.
    Hold,
    /// All units are in checkout; some may come back.
    Standby,
    /// All units are sold.
    SoldOut,
    /// Over.
    Closed,
}

/// What is known about losses of the store, as the room's HASH keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Nobody is called before this.
    pub hold_until_ms: i64,
    /// When the last loss was noticed; 0 = never.
    pub lost_ms: i64,
    /// How far the deadlines of those who were called before were moved.
    pub shift_ms: i64,
}

impl Losses {
    /// Whether the room is on hold at `now_ms`.
    pub fn holding(&self, settings: &RoomSettings, now_ms: i64) -> bool {
        let waits_for_operator =
            settings.after_store_loss == AfterStoreLoss::Operator && self.lost_ms > settings.resumed_ms;
        now_ms < self.hold_until_ms || waits_for_operator
    }
}

/// The state of the room at `now_ms`. `stock` is `None` when the room has none or it is not loaded.
///
/// Order of the rules: closed, paused, scheduled, hold, lobby, then the stock.
pub fn room_state(settings: &RoomSettings, stock: Option<Stock>, losses: Losses, now_ms: i64) -> RoomState {
    if settings.closed || now_ms >= settings.ends_at_ms {
        return RoomState::Closed;
    }
    if settings.paused {
        return RoomState::Paused;
    }
    if now_ms < settings.lobby_opens_at_ms {
        return RoomState::Scheduled;
    }
    if losses.holding(settings, now_ms) {
        return RoomState::Hold;
    }
    if now_ms < settings.starts_at_ms {
        return RoomState::Lobby;
    }
    match stock {
        Some(s) if settings.stock_aware && s.available == 0 && s.held == 0 => RoomState::SoldOut,
        Some(s) if settings.stock_aware && s.available == 0 => RoomState::Standby,
        _ => RoomState::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::room;

    fn stock(available: u64, held: u64) -> Option<Stock> {
        Some(Stock { available, held, sold: 0, total: 10 })
    }

    #[test]
    fn the_hours_of_a_room() {
        let room = RoomSettings { lobby_opens_at_ms: 100, starts_at_ms: 200, ends_at_ms: 300, ..room() };
        for (now_ms, state) in [
            (99, RoomState::Scheduled),
            (100, RoomState::Lobby),
            (199, RoomState::Lobby),
            (200, RoomState::Open),
            (299, RoomState::Open),
            (300, RoomState::Closed),
        ] {
            assert_eq!(room_state(&room, None, Losses::default(), now_ms), state, "at {now_ms}");
        }
    }

    #[test]
    fn closed_wins_over_paused_and_paused_over_the_rest() {
        let paused = RoomSettings { paused: true, stock_aware: true, ..room() };
        assert_eq!(room_state(&paused, stock(0, 0), Losses::default(), 0), RoomState::Paused);
        assert_eq!(
            room_state(&RoomSettings { closed: true, ..paused.clone() }, None, Losses::default(), 0),
            RoomState::Closed
        );
    }

    #[test]
    fn stock_decides_only_in_a_room_that_looks_at_it() {
        let aware = RoomSettings { stock_aware: true, ..room() };
        assert_eq!(room_state(&aware, stock(0, 0), Losses::default(), 0), RoomState::SoldOut);
        assert_eq!(room_state(&aware, stock(0, 1), Losses::default(), 0), RoomState::Standby);
        assert_eq!(room_state(&aware, stock(1, 1), Losses::default(), 0), RoomState::Open);
        assert_eq!(room_state(&aware, None, Losses::default(), 0), RoomState::Open);
        assert_eq!(room_state(&room(), stock(0, 0), Losses::default(), 0), RoomState::Open);
        let early = RoomSettings { starts_at_ms: 9, ..aware };
        assert_eq!(room_state(&early, stock(0, 0), Losses::default(), 0), RoomState::Lobby, "a lobby is not sold out");
    }
}
