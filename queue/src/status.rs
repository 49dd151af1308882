//! What one visitor is told: a pure function of the board, the ticket and the last heartbeat.

use crate::board::Board;
use crate::eta::Eta;
use crate::ladder::EXACT_RANKS;
use crate::line::Presence;
use crate::pace::next_poll_ms;
use crate::state::RoomState;
use crate::ticket::Ticket;
use serde::Serialize;
use service_kit::ids::RoomId;

/// What a visitor is, as the page and the API say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VisitorState {
    /// The lobby is not open yet.
    Scheduled,
    /// In line before the start.
    Lobby,
    /// In line, the room is open.
    Waiting,
    /// Your turn: claim the pass.
    Called,
    /// Has a pass.
    Inside,
    /// The turn passed for good; take a new number.
    Missed,
    /// In line, the operator stopped the calls.
    Paused,
    /// In line, all units are in checkout and some may come back.
    Standby,
    /// In line, the store cannot be trusted for a while: nobody is called, places are kept.
    Hold,
    /// Nothing left to buy.
    SoldOut,
    /// Over.
    Closed,
}

/// The answer to one status poll.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The room.
    pub room: RoomId,
    /// What the visitor is.
    pub state: VisitorState,
    /// The number on the ticket.
    pub number: Option<u64>,
    /// The place: who has a lower one is called first; `None` before a draw.
    pub place: Option<u64>,
    /// The lane, see [`crate::lane`].
    pub lane: u8,
    /// Whether something may be left to buy at this place; `None` in rooms that do not look at their stock.
    pub chance: Option<Chance>,
    /// People in front.
    pub ahead: Option<u64>,
    /// People behind.
    pub behind: Option<u64>,
    /// How long it may take; `None` = nobody can know.
    pub eta_seconds: Option<Eta>,
    /// When to ask again, in ms; 0 = never, this is final.
    pub next_poll_ms: u64,
    /// The clock that the times here belong to.
    pub now_ms: i64,
    /// When the calls begin.
    pub starts_at_ms: i64,
    /// When a called visitor was called.
    pub called_at_ms: Option<i64>,
    /// Until when a called visitor must claim.
    pub claim_by_ms: Option<i64>,
}

/// How many units there are for the people in front, in three bands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Chance {
    /// More than twice as many units as people up to here.
    Plenty,
    /// About as many.
    Low,
    /// Fewer units than people up to here.
    Unlikely,
}

impl Chance {
    fn of(units: u64, people: u64) -> Self {
        if units > people.saturating_mul(2) {
            Self::Plenty
        } else if units >= people {
            Self::Low
        } else {
            Self::Unlikely
        }
    }
}

/// A called visitor asks again so soon.
const CALLED_POLL_MS: u64 = 1_000;
/// Before a draw, the wait is taken as at least so long for the pacing.
const UNDRAWN_WAIT_MS: u64 = 40_000;
/// A wait that nobody can tell, near the front: taken as so long for the pacing.
const NEAR_WAIT_MS: u64 = 16_000;

impl Board {
    /// The status of one visitor. Never touches Redis. `presence` is the answer to the last heartbeat, if any; the
    /// board and the heartbeat may be a tick apart, so whichever says more wins.
    /// Without a ticket (or with one that was given up) it tells what a newcomer would find.
    pub fn status(&self, ticket: Option<&Ticket>, presence: Option<Presence>, now_ms: i64) -> Status {
        let ticket = ticket.filter(|t| t.room == self.settings.room && presence != Some(Presence::Left));
        let claim_by_ms = ticket.and_then(|t| self.called_until(t.number)).filter(|until_ms| *until_ms > now_ms);
        let state = self.visitor_state(ticket.and(presence), claim_by_ms.is_some(), now_ms);
        let in_line = matches!(
            state,
            VisitorState::Scheduled
                | VisitorState::Lobby
                | VisitorState::Waiting
                | VisitorState::Paused
                | VisitorState::Standby
                | VisitorState::Hold
        );
        let ahead = match state {
            VisitorState::Called | VisitorState::Inside => Some(0),
            _ if in_line => ticket.and_then(|t| self.ahead_of(t)),
            _ => None,
        };
        // Before a draw nobody has a place: half of the lobby is the fairest guess.
        let undrawn = ticket.is_some() && ahead.is_none();
        let newcomer = ahead.unwrap_or(if undrawn { self.crowd() / 2 } else { self.crowd() });
        let eta_seconds = if in_line && !undrawn { self.eta(newcomer, now_ms) } else { None };
        let units = self.stock.filter(|_| self.settings.stock_aware && in_line).map(|s| s.available + s.held);
        Status {
            room: self.settings.room.clone(),
            state,
            number: ticket.map(|t| t.number),
            place: ticket.and_then(|t| self.place_of(t)),
            lane: ticket.map_or(0, Ticket::lane),
            chance: units.map(|units| Chance::of(units, newcomer.saturating_add(self.called + self.inside + 1))),
            ahead,
            behind: ahead.filter(|_| in_line).map(|ahead| self.crowd().saturating_sub(ahead).saturating_sub(1)),
            eta_seconds,
            next_poll_ms: self.poll_ms(state, ticket, newcomer, eta_seconds, now_ms),
            now_ms,
            starts_at_ms: self.settings.starts_at_ms,
            called_at_ms: ticket
                .filter(|_| state == VisitorState::Called && claim_by_ms.is_some())
                .and_then(|t| self.called_at(t.number)),
            claim_by_ms: claim_by_ms.filter(|_| state == VisitorState::Called),
        }
    }

    fn visitor_state(&self, presence: Option<Presence>, on_board: bool, now_ms: i64) -> VisitorState {
        let room = self.state(now_ms);
        match (presence, room) {
            // Inside is about the pass, which outlives the room: people in checkout finish.
            (Some(Presence::Inside), _) => VisitorState::Inside,
            (_, RoomState::SoldOut) => VisitorState::SoldOut,
            (_, RoomState::Closed) => VisitorState::Closed,
            (Some(Presence::Missed), _) => VisitorState::Missed,
            // Nobody gets in while the store is doubted; the call is kept.
            (_, RoomState::Hold) => VisitorState::Hold,
            (Some(Presence::Called), _) => VisitorState::Called,
            _ if on_board => VisitorState::Called,
            (_, RoomState::Scheduled) => VisitorState::Scheduled,
            (_, RoomState::Lobby) => VisitorState::Lobby,
            (_, RoomState::Open) => VisitorState::Waiting,
            (_, RoomState::Paused) => VisitorState::Paused,
            (_, RoomState::Standby) => VisitorState::Standby,
        }
    }

    fn poll_ms(&self, state: VisitorState, ticket: Option<&Ticket>, ahead: u64, eta: Option<Eta>, now_ms: i64) -> u64 {
        let until = |ms: i64| u64::try_from(ms.saturating_sub(now_ms)).unwrap_or(0);
        let wait_ms = match state {
            VisitorState::SoldOut | VisitorState::Closed | VisitorState::Missed => return 0,
            VisitorState::Called => return CALLED_POLL_MS,
            VisitorState::Inside => Some(u64::MAX),
            VisitorState::Scheduled => Some(until(self.settings.lobby_opens_at_ms)),
            // A whole lobby waits for one moment: nobody needs the drawn place in the same second.
            VisitorState::Lobby if eta.is_none() => Some(until(self.settings.starts_at_ms).max(UNDRAWN_WAIT_MS)),
            _ => match eta {
                Some(eta) => Some(eta.low.saturating_mul(1_000)),
                None => (ahead < EXACT_RANKS).then_some(NEAR_WAIT_MS),
            },
        };
        next_poll_ms(&self.settings, wait_ms, ticket.map_or(0, |t| t.number), now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{LimitReason, Throttle};
    use crate::board::{DrawnLobby, Totals};
    use crate::ladder::Ladder;
    use crate::settings::{RoomSettings, tests::room};
    use crate::state::{Losses, Stock};
    use std::sync::Arc;

    /// 30 in line (numbers 71 to 100, places 8 times that), 61 to 70 called until 5,000.
    fn board(settings: RoomSettings) -> Board {
        Board {
            settings: Arc::new(settings),
            taken_ms: 1_000,
            last_tick_ms: 1_000,
            waiting: 30,
            lobby: 0,
            silent: 0,
            called: 10,
            inside: 0,
            buying: 0,
            frontier: 560,
            next: 101,
            losses: Losses::default(),
            throttle: Throttle::default(),
            drawing: false,
            draw: None,
            stock: None,
            rate_per_s: Some(10.0),
            trend: crate::eta::Trend::default(),
            reason: LimitReason::Target,
            totals: Totals::default(),
            ladder: Ladder::new((0..30).map(|r| (r, 8 * (71 + r))), 30),
            called_until: (61..=70).map(|n| (n, 5_000)).collect(),
            ended: [(60, 9_000)].into(),
        }
    }

    fn ticket(number: u64) -> Ticket {
        Ticket {
            room: "shoes".parse().unwrap(),
            number,
            place: 8 * number,
            visitor: service_kit::ids::VisitorId::new(),
            joined_ms: 0,
            promise_low_ms: 0,
            promise_high_ms: 0,
            nonce: None,
        }
    }

    #[test]
    fn place_ahead_and_behind() {
        let board = board(room());
        for (number, ahead, behind) in [(71, 0, 29), (80, 9, 20), (100, 29, 0), (101, 30, 0), (105, 34, 0)] {
            let status = board.status(Some(&ticket(number)), Some(Presence::Waiting), 2_000);
            assert_eq!(status.state, VisitorState::Waiting);
            assert_eq!((status.number, status.ahead, status.behind), (Some(number), Some(ahead), Some(behind)));
            assert_eq!((status.place, status.lane), (Some(8 * number), 0));
            assert!(status.eta_seconds.is_some());
        }
    }

    #[test]
    fn the_called_learn_it_from_the_board_or_from_their_heartbeat() {
        let board = board(room());
        let called = board.status(Some(&ticket(65)), Some(Presence::Waiting), 2_000);
        assert_eq!(
            (called.state, called.ahead, called.claim_by_ms, called.next_poll_ms),
            (VisitorState::Called, Some(0), Some(5_000), 1_000)
        );
        let fresh = board.status(Some(&ticket(71)), Some(Presence::Called), 2_000);
        assert_eq!((fresh.state, fresh.claim_by_ms), (VisitorState::Called, None));
        let over = board.status(Some(&ticket(65)), Some(Presence::Missed), 5_000);
        assert_eq!((over.state, over.next_poll_ms, over.ahead), (VisitorState::Missed, 0, None));
        let claimed = board.status(Some(&ticket(65)), Some(Presence::Inside), 2_000);
        assert_eq!((claimed.state, claimed.claim_by_ms, claimed.ahead), (VisitorState::Inside, None, Some(0)));
        let paused = self::board(RoomSettings { paused: true, ..room() });
        assert_eq!(paused.status(Some(&ticket(65)), None, 2_000).state, VisitorState::Called, "a call is a promise");
    }

    #[test]
    fn final_states_stop_the_polling_and_promise_nothing() {
        let sold_out = Some(Stock { available: 0, held: 0, sold: 9, total: 9 });
        let standby = Some(Stock { available: 0, held: 2, sold: 7, total: 9 });
        let aware = RoomSettings { stock_aware: true, ..room() };
        let cases = [
            (Board { stock: sold_out, ..board(aware.clone()) }, VisitorState::SoldOut, true),
            (board(RoomSettings { closed: true, ..room() }), VisitorState::Closed, true),
            (Board { stock: standby, ..board(aware) }, VisitorState::Standby, false),
            (board(RoomSettings { paused: true, ..room() }), VisitorState::Paused, false),
        ];
        for (board, state, is_final) in cases {
            for presence in [None, Some(Presence::Waiting)] {
                let status = board.status(Some(&ticket(80)), presence, 2_000);
                assert_eq!((status.state, status.eta_seconds), (state, None));
                assert_eq!(status.next_poll_ms == 0, is_final, "{state:?}");
            }
        }
    }

    #[test]
    fn before_the_start_the_wait_includes_the_start() {
        let lobby = board(RoomSettings { lobby_opens_at_ms: 10_000, starts_at_ms: 110_000, ..room() });
        let early = lobby.status(None, None, 2_000);
        assert_eq!((early.state, early.place, early.ahead), (VisitorState::Scheduled, None, None));
        assert!((850..=1_150).contains(&early.next_poll_ms), "the lobby opens in 8 s: {}", early.next_poll_ms);
        let status = lobby.status(Some(&ticket(80)), None, 10_000);
        assert_eq!(status.state, VisitorState::Lobby);
        assert_eq!(status.eta_seconds, Some(Eta { low: 60, high: 120 }));
        assert!(status.next_poll_ms > 5_000);
    }

    #[test]
    fn a_ticket_of_another_room_or_one_given_up_is_no_ticket() {
        let board = board(room());
        let foreign = Ticket { room: "bags".parse().unwrap(), ..ticket(65) };
        for (ticket, presence) in [(foreign, None), (ticket(65), Some(Presence::Left))] {
            let status = board.status(Some(&ticket), presence, 2_000);
            assert_eq!((status.state, status.place, status.ahead), (VisitorState::Waiting, None, None));
        }
    }

    #[test]
    fn the_names_in_json() {
        let json = serde_json::to_value(board(room()).status(Some(&ticket(80)), None, 2_000)).unwrap();
        for field in [
            "room",
            "state",
            "number",
            "place",
            "lane",
            "chance",
            "ahead",
            "behind",
            "eta_seconds",
            "next_poll_ms",
            "now_ms",
            "starts_at_ms",
            "called_at_ms",
            "claim_by_ms",
        ] {
            assert!(json.get(field).is_some(), "{field}");
        }
        assert_eq!(json["state"], "waiting");
        let public = board(room()).public(2_000);
        assert_eq!(
            (&public["state"], &public["waiting"], &public["limit_reason"]),
            (&"open".into(), &30.into(), &"target".into())
        );
    }

    #[test]
    fn a_doubted_store_calls_nobody_and_keeps_every_place() {
        let held = Board { losses: Losses { hold_until_ms: 9_000, lost_ms: 1, shift_ms: 0 }, ..board(room()) };
        for (number, presence) in [(80, None), (65, None), (65, Some(Presence::Called))] {
            assert_eq!(held.status(Some(&ticket(number)), presence, 2_000).state, VisitorState::Hold);
        }
        assert_eq!(held.status(Some(&ticket(65)), Some(Presence::Inside), 2_000).state, VisitorState::Inside);
        assert_eq!(held.status(Some(&ticket(80)), None, 9_000).state, VisitorState::Waiting, "it goes on by itself");
        let by_hand = RoomSettings { after_store_loss: crate::settings::AfterStoreLoss::Operator, ..room() };
        let waits = Board { settings: Arc::new(by_hand.clone()), ..held.clone() };
        assert_eq!(waits.status(Some(&ticket(80)), None, 9_000).state, VisitorState::Hold);
        let resumed = Board { settings: Arc::new(RoomSettings { resumed_ms: 1, ..by_hand }), ..held };
        assert_eq!(resumed.status(Some(&ticket(80)), None, 9_000).state, VisitorState::Waiting);
    }

    #[test]
    fn a_hold_moves_deadlines_and_not_the_moment_of_the_call() {
        let mut held = board(RoomSettings { claim_window_ms: 1_000, ..room() });
        held.losses = Losses { hold_until_ms: 30_000, lost_ms: 5_000, shift_ms: 25_000 };
        held.called_until = vec![(61, 30_500), (62, 32_000)];
        let called_at = |number| held.status(Some(&ticket(number)), None, 30_100).called_at_ms;
        assert_eq!((called_at(61), called_at(62), called_at(80)), (Some(4_500), Some(31_000), None));
    }

    #[test]
    fn a_draw_tells_the_place_of_tickets_that_had_none() {
        let undrawn = Ticket { place: 0, ..ticket(80) };
        let settings = RoomSettings { mode: crate::settings::Mode::Draw, starts_at_ms: 60_000, ..room() };
        let lobby =
            Board { lobby: 500, waiting: 0, ladder: Ladder::default(), called_until: vec![], ..board(settings) };
        let before = lobby.status(Some(&undrawn), None, 2_000);
        assert_eq!(
            (before.state, before.place, before.ahead, before.eta_seconds),
            (VisitorState::Lobby, None, None, None)
        );
        let seed = std::array::from_fn(|i| i as u8);
        let empty = crate::draw::Hex([0; 32]);
        let document = crate::draw::Draw {
            phase: crate::draw::Phase::Drawn,
            count: Some(1_000),
            seed: Some(crate::draw::Hex(seed)),
            ..crate::draw::Draw::committed("shoes".parse().unwrap(), 0, empty, Default::default(), None, 0)
        };
        let drawn = Board { draw: Some(DrawnLobby::new(document, 1_000)), ..lobby };
        // The published vector: with this seed index 0 of 1,000 comes to 906, 999 to 629.
        assert_eq!(drawn.place_of(&Ticket { number: 1, ..undrawn.clone() }), Some(8 * 907));
        assert_eq!(drawn.place_of(&Ticket { number: 1_000, ..undrawn.clone() }), Some(8 * 630));
        assert_eq!(drawn.place_of(&Ticket { number: 1_001, ..undrawn }), None);
    }

    #[test]
    fn the_chance_is_told_in_three_bands() {
        let aware = RoomSettings { stock_aware: true, ..room() };
        let chance = |available, number| {
            let stock = Some(Stock { available, held: 0, sold: 0, total: 100 });
            Board { stock, ..board(aware.clone()) }.status(Some(&ticket(number)), None, 2_000).chance
        };
        // 10 are called and not in yet.
        assert_eq!(chance(100, 71), Some(Chance::Plenty));
        assert_eq!(chance(15, 71), Some(Chance::Low));
        assert_eq!(chance(15, 100), Some(Chance::Unlikely));
        assert_eq!(board(room()).status(Some(&ticket(71)), None, 2_000).chance, None);
    }
}
