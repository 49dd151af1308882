//! What a visitor is told, as JSON: by polls, event streams, tickets and problem documents.

use crate::copy::Lang;
use crate::rooms::{Room, View};
use queue::board::Status;
use queue::draw::Nonce;
use queue::lane::DEMOTED;
use queue::ticket::Ticket;
use serde::ser::{Serialize, SerializeStruct as _, Serializer};
use service_kit::problem::Problem;

/// The status with what the gate adds, in one flat document.
struct StatusBody<'s> {
    status: &'s Status,
    notice: Option<&'s str>,
    /// For who stands in the last lane: why, and what to do about it.
    demoted: Option<&'static str>,
    degraded: bool,
    enter_path: &'s str,
}

/// Field by field: `#[serde(flatten)]` takes several times as long, and polls are most of what a gate does. A test
/// compares with it.
impl Serialize for StatusBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Status {
            room,
            state,
            number,
            place,
            lane,
            chance,
            ahead,
            behind,
            eta_seconds,
            next_poll_ms,
            now_ms,
            starts_at_ms,
            called_at_ms,
            claim_by_ms,
        } = self.status;
        let mut document = serializer.serialize_struct("Status", 18)?;
        document.serialize_field("room", room.as_str())?;
        document.serialize_field("state", state)?;
        document.serialize_field("number", number)?;
        document.serialize_field("place", place)?;
        document.serialize_field("lane", lane)?;
        document.serialize_field("chance", chance)?;
        document.serialize_field("ahead", ahead)?;
        document.serialize_field("behind", behind)?;
        document.serialize_field("eta_seconds", eta_seconds)?;
        document.serialize_field("next_poll_ms", next_poll_ms)?;
        document.serialize_field("now_ms", now_ms)?;
        document.serialize_field("starts_at_ms", starts_at_ms)?;
        document.serialize_field("called_at_ms", called_at_ms)?;
        document.serialize_field("claim_by_ms", claim_by_ms)?;
        if let Some(notice) = self.notice {
            document.serialize_field("notice", notice)?;
        }
        if let Some(demoted) = self.demoted {
            document.serialize_field("demoted", demoted)?;
        }
        document.serialize_field("degraded", &self.degraded)?;
        document.serialize_field("enter_path", self.enter_path)?;
        document.end()
    }
}

/// Nobody is put behind without being told.
fn demoted(status: &Status) -> Option<&'static str> {
    (status.lane == DEMOTED).then_some(
        "Very many numbers were taken from your network at once, so this one stands in the last lane. If you are one person: leave, and join again from another network or with a code, or write to the shop with your number.",
    )
}

impl<'s> StatusBody<'s> {
    fn of(view: &'s View, enter_path: &'s str) -> Option<Self> {
        let status = view.status.as_ref()?;
        Some(Self { status, notice: None, demoted: demoted(status), degraded: view.degraded, enter_path })
    }
}

/// By `/status` and by event streams; `None` when there was never a board.
pub fn status_json(room: &Room, view: &View, lang: Lang) -> Option<Vec<u8>> {
    let settings = room.settings.load();
    let notice = settings.notice.as_ref().map(|n| n.text(lang.code()));
    let mut body = Vec::with_capacity(512);
    let document = StatusBody { notice, ..StatusBody::of(view, &settings.enter_path)? };
    serde_json::to_writer(&mut body, &document).ok()?;
    Some(body)
}

/// A ticket and where it stands.
pub fn ticket_json(room: &Room, ticket: &Ticket, token: &str, view: &View) -> serde_json::Result<Vec<u8>> {
    #[derive(serde::Serialize)]
    struct TicketBody<'t> {
        ticket: &'t str,
        /// What is in the record of a draw, so that whoever sent it sees that it arrived.
        #[serde(skip_serializing_if = "Option::is_none")]
        nonce: Option<&'t Nonce>,
        status: Option<StatusBody<'t>>,
    }
    let settings = room.settings.load();
    let status = StatusBody::of(view, &settings.enter_path);
    serde_json::to_vec(&TicketBody { ticket: token, nonce: ticket.nonce.as_ref(), status })
}

/// Puts the members of the status into a problem document.
pub fn with_status(mut problem: Problem, view: &View, enter_path: &str) -> Problem {
    let Some(body) = StatusBody::of(view, enter_path) else { return problem.with("degraded", true) };
    if let Ok(serde_json::Value::Object(members)) = serde_json::to_value(&body) {
        for (name, value) in members {
            if name != "enter_path" || !enter_path.is_empty() {
                problem.extra.insert(name, value);
            }
        }
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;
    use queue::board::{Chance, Eta, VisitorState};

    #[test]
    fn field_by_field_is_what_flatten_would_write() {
        #[derive(serde::Serialize)]
        struct Flat<'s> {
            #[serde(flatten)]
            status: &'s Status,
            #[serde(skip_serializing_if = "Option::is_none")]
            notice: Option<&'s str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            demoted: Option<&'static str>,
            degraded: bool,
            enter_path: &'s str,
        }
        let bare = Status {
            room: "shoes".parse().unwrap(),
            state: VisitorState::Waiting,
            number: None,
            place: None,
            lane: 0,
            chance: None,
            ahead: None,
            behind: None,
            eta_seconds: None,
            next_poll_ms: 5,
            now_ms: 6,
            starts_at_ms: -7,
            called_at_ms: None,
            claim_by_ms: None,
        };
        let full = Status {
            number: Some(1),
            place: Some(2),
            lane: DEMOTED,
            chance: Some(Chance::Low),
            ahead: Some(3),
            behind: Some(4),
            eta_seconds: Some(Eta { low: 8, high: 9 }),
            called_at_ms: Some(10),
            claim_by_ms: Some(11),
            ..bare.clone()
        };
        for (status, notice) in [(&bare, None), (&full, Some("\"now\"\n한"))] {
            let (demoted, degraded, enter_path) = (demoted(status), notice.is_some(), "/a\"b");
            let ours = StatusBody { status, notice, demoted, degraded, enter_path };
            let flat = Flat { status, notice, demoted, degraded, enter_path };
            assert_eq!(serde_json::to_string(&ours).unwrap(), serde_json::to_string(&flat).unwrap());
        }
    }
}
