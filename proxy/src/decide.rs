//! The decision about one request for a protected path. Pure: what is known goes in, what to do comes out.
//! Whoever has a verified pass, or is let by by a rule of the operator, does not come here: no [`Decision`] forwards.

use http::{HeaderMap, Method, header};
use queue::board::{Status, VisitorState};
use queue::line::Presence;
use queue::ticket::Ticket;

/// Who asks, as far as it matters for the form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// A browser that opens a page.
    Navigation,
    /// The same with `HEAD`: told about the page, but takes no number.
    Probe,
    /// A browser that sends a form.
    Form,
    /// A program.
    Api,
}

impl Asks {
    /// Reads it from method, `Accept` and `Content-Type`.
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        let has = |name, part: &str| {
            headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).any(|v| v.to_ascii_lowercase().contains(part))
        };
        if !has(header::ACCEPT, "text/html") {
            return Self::Api;
        }
        let form = has(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            || has(header::CONTENT_TYPE, "multipart/form-data");
        match *method {
            Method::GET => Self::Navigation,
            Method::HEAD => Self::Probe,
            Method::POST if form || !headers.contains_key(header::CONTENT_TYPE) => Self::Form,
            _ => Self::Api,
        }
    }
}

/// What is known about the room and this visitor's place in it.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// Who asks.
    pub asks: Asks,
    /// The board is older than it may be: nobody is admitted until the store answers again.
    pub degraded: bool,
    /// The status by the board; `None` when there was never a board.
    pub status: Option<&'f Status>,
    /// What the last heartbeat said about the ticket.
    pub presence: Option<Presence>,
    /// The room gives a new number at the end for a reload, and this is one.
    pub reloads: bool,
    /// The request brings a code or a proof: somebody whose turn is over wants a new number.
    pub brings: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Take a number, then look again.
    Join,
    /// Give the number up and take one at the end.
    Requeue,
    /// It is this visitor's turn, or was: ask the store for the pass.
    Claim,
    /// Show the waiting page in its present state.
    Page,
    /// 303 to the same path: the form is lost, the place in line is not.
    SeeOther,
    /// 429 `wait-in-line` with the status.
    Wait,
    /// 409: sold out or closed.
    Ended,
    /// 503: the store has not answered yet.
    Unavailable,
}

/// Decides for somebody without a pass. `ticket` is a verified one only.
pub fn decide(facts: Facts<'_>, ticket: Option<&Ticket>) -> Decision {
    let Some(status) = facts.status else {
        return match facts.asks {
            Asks::Api => Decision::Unavailable,
            Asks::Form => Decision::SeeOther,
            Asks::Navigation | Asks::Probe => Decision::Page,
        };
    };
    let ended = matches!(status.state, VisitorState::SoldOut | VisitorState::Closed);
    match facts.asks {
        Asks::Api if ended => Decision::Ended,
        Asks::Api => Decision::Wait,
        Asks::Form => Decision::SeeOther,
        Asks::Probe => Decision::Page,
        Asks::Navigation if facts.degraded => Decision::Page,
        Asks::Navigation => match (ticket, status.state) {
            // Even after the end somebody inside may finish: the lease decides.
            (Some(_), VisitorState::Called | VisitorState::Inside) => Decision::Claim,
            (_, VisitorState::SoldOut | VisitorState::Closed | VisitorState::Scheduled) => Decision::Page,
            (None, _) => Decision::Join,
            (Some(_), _) if facts.presence == Some(Presence::Left) => Decision::Join,
            (Some(_), VisitorState::Missed) if facts.brings => Decision::Join,
            (Some(_), VisitorState::Waiting | VisitorState::Lobby | VisitorState::Paused | VisitorState::Standby)
                if facts.reloads =>
            {
                Decision::Requeue
            }
            (Some(_), _) => Decision::Page,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use service_kit::ids::VisitorId;

    const STATES: [VisitorState; 11] = [
        VisitorState::Scheduled,
        VisitorState::Lobby,
        VisitorState::Waiting,
        VisitorState::Called,
        VisitorState::Inside,
        VisitorState::Missed,
        VisitorState::Paused,
        VisitorState::Standby,
        VisitorState::Hold,
        VisitorState::SoldOut,
        VisitorState::Closed,
    ];
    const ASKS: [Asks; 4] = [Asks::Navigation, Asks::Probe, Asks::Form, Asks::Api];

    fn status(state: VisitorState) -> Status {
        Status {
            room: "hall".parse().unwrap(),
            state,
            number: None,
            place: None,
            lane: 0,
            chance: None,
            ahead: None,
            behind: None,
            eta_seconds: None,
            next_poll_ms: 1_000,
            now_ms: 0,
            starts_at_ms: 0,
            called_at_ms: None,
            claim_by_ms: None,
        }
    }
    fn ticket() -> Ticket {
        Ticket {
            room: "hall".parse().unwrap(),
            number: 1,
            place: 8,
            visitor: VisitorId::new(),
            joined_ms: 0,
            promise_low_ms: 0,
            promise_high_ms: 0,
            nonce: None,
        }
    }

    proptest! {
        #[test]
        fn nothing_is_promised_while_the_store_is_away(
            asks in 0..4_usize, state in 0..12_usize, degraded: bool, with_ticket: bool, left: bool, reloads: bool, brings: bool) {
            let status = STATES.get(state).map(|s| status(*s));
            let presence = left.then_some(Presence::Left);
            let facts = Facts { asks: ASKS[asks], degraded, status: status.as_ref(), presence, reloads, brings };
            let ticket = ticket();
            let decision = decide(facts, with_ticket.then_some(&ticket));
            prop_assert!(decision != Decision::Claim || with_ticket);
            if degraded || status.is_none() {
                prop_assert!(!matches!(decision, Decision::Join | Decision::Claim | Decision::Requeue), "{:?} while the store is away", decision);
            }
            if decision == Decision::Requeue {
                prop_assert!(reloads && with_ticket && facts.asks == Asks::Navigation);
            }
            if facts.asks == Asks::Api {
                prop_assert!(!matches!(decision, Decision::Page | Decision::SeeOther), "a program got a page");
            }
        }
    }

    #[test]
    fn a_browser_is_led_through_the_room() {
        let ticket = ticket();
        let with = |state, ticket: Option<&Ticket>, presence, reloads, brings| {
            let status = status(state);
            let facts =
                Facts { asks: Asks::Navigation, degraded: false, status: Some(&status), presence, reloads, brings };
            decide(facts, ticket)
        };
        let go = |state, ticket, presence| with(state, ticket, presence, false, false);
        assert_eq!(with(VisitorState::Waiting, Some(&ticket), None, true, false), Decision::Requeue);
        assert_eq!(with(VisitorState::Called, Some(&ticket), None, true, false), Decision::Claim);
        assert_eq!(with(VisitorState::Missed, Some(&ticket), None, true, false), Decision::Page);
        assert_eq!(with(VisitorState::Missed, Some(&ticket), None, false, true), Decision::Join);
        assert_eq!(with(VisitorState::Waiting, Some(&ticket), None, false, true), Decision::Page);
        assert_eq!(go(VisitorState::Waiting, None, None), Decision::Join);
        assert_eq!(go(VisitorState::Lobby, None, None), Decision::Join);
        assert_eq!(go(VisitorState::Scheduled, None, None), Decision::Page);
        assert_eq!(go(VisitorState::Waiting, Some(&ticket), None), Decision::Page);
        assert_eq!(go(VisitorState::Called, Some(&ticket), None), Decision::Claim);
        assert_eq!(go(VisitorState::Inside, Some(&ticket), None), Decision::Claim);
        assert_eq!(go(VisitorState::Missed, Some(&ticket), None), Decision::Page);
        assert_eq!(go(VisitorState::Waiting, Some(&ticket), Some(Presence::Left)), Decision::Join);
        assert_eq!(go(VisitorState::SoldOut, None, None), Decision::Page);
        assert_eq!(go(VisitorState::SoldOut, Some(&ticket), Some(Presence::Left)), Decision::Page);
    }

    #[test]
    fn who_asks() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            pairs
                .iter()
                .map(|(n, v)| (http::HeaderName::from_static(n), http::HeaderValue::from_static(v)))
                .collect::<HeaderMap>()
        };
        let html = ("accept", "text/html,application/xhtml+xml");
        assert_eq!(Asks::of(&Method::GET, &headers(&[html])), Asks::Navigation);
        assert_eq!(Asks::of(&Method::HEAD, &headers(&[html])), Asks::Probe);
        assert_eq!(Asks::of(&Method::GET, &headers(&[("accept", "*/*")])), Asks::Api);
        assert_eq!(
            Asks::of(&Method::POST, &headers(&[html, ("content-type", "application/x-www-form-urlencoded")])),
            Asks::Form
        );
        assert_eq!(Asks::of(&Method::POST, &headers(&[html, ("content-type", "application/json")])), Asks::Api);
        assert_eq!(Asks::of(&Method::DELETE, &headers(&[html])), Asks::Api);
    }
}
