//! `POST /_floodgate/rooms/{room}/mail`: a visitor leaves an address for the letter "your turn is near".
//!
//! The one endpoint of the gate that reads a body: `address=…` as a form, at most [`BODY_BYTES_MAX`] bytes.

use crate::api::{BODY_BYTES_MAX, not_found, store_away, ticket_invalid};
use crate::canonical::CanonicalPath;
use crate::cookie::LANG;
use crate::copy::Lang;
use crate::decide::Asks;
use crate::desk::{Asked, Desk};
use crate::letter::{ADDRESS_CHARS_MAX, is_address};
use crate::limits::Limited;
use crate::newcomer::onward;
use crate::reply::Reply;
use crate::rooms::Room;
use http::{Method, header};
use pingora::proxy::Session;
use queue::board::VisitorState;
use queue::mail;
use service_kit::http::cookie;
use service_kit::problem::{Problem, Slug};
use service_kit::redis::StoreError;
use std::sync::Arc;
use std::time::Duration;

/// Label in metrics.
pub const LABEL: &str = "mail";
/// Added to the page's address after its form was taken.
const DONE: &str = "fg_mail=on";
/// Longest wait for the body.
const BODY_MAX: Duration = Duration::from_secs(10);

/// A request whose head is good.
#[derive(Debug)]
pub struct Wish {
    room: Arc<Room>,
    number: u64,
    lang: Lang,
    /// Where a browser goes afterwards; a program gets 204.
    back: Option<String>,
}

/// The room's name if this is the path of its mailbox.
pub fn room_of(path: &CanonicalPath) -> Option<&str> {
    path.path().strip_prefix("/_floodgate/rooms/")?.strip_suffix("/mail").filter(|room| !room.contains('/'))
}

/// Checks the head.
///
/// # Errors
/// The answer instead: 404 without `[gate.mail]`, 405, 400, 413, 403, 429, 401, 409, 503.
pub fn wish(desk: &Desk, asked: &Asked<'_>, room: &str) -> Result<Wish, Reply> {
    let Some(mail) = &desk.mail else { return Err(not_found()) };
    if *asked.method != Method::POST {
        let problem = Reply::problem(&Problem::new(Slug::MethodNotAllowed, "Use POST."));
        let reply = if *asked.method == Method::OPTIONS { Reply::empty() } else { problem };
        return Err(reply.with(header::ALLOW, "POST"));
    }
    let form = asked.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(|v| {
        v.split(';').next().is_some_and(|m| m.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
    });
    if !form {
        let detail = "Send `address=…` as `Content-Type: application/x-www-form-urlencoded`.";
        return Err(Reply::problem(&Problem::new(Slug::BadRequest, detail)));
    }
    if asked.body_bytes.is_none_or(|n| n > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    desk.same_site(asked.headers)?;
    desk.within_limits(Limited::Claim, asked.client)?;
    let room = desk.room(room)?;
    let ticket = desk.ticket(asked, &room)?.ok_or_else(ticket_invalid)?;
    let status = room.view(Some(&ticket)).status.ok_or_else(store_away)?;
    if matches!(
        status.state,
        VisitorState::SoldOut | VisitorState::Closed | VisitorState::Missed | VisitorState::Inside
    ) {
        return Err(Reply::problem(&Problem::new(Slug::WrongState, "Nobody waits with this ticket any more.")));
    }
    if !mail.may_ask(asked.client) {
        let detail = "Too many addresses from your network. Try again in a minute.";
        return Err(Reply::problem(&Problem::new(Slug::TooManyRequests, detail).retry_after_s(60)));
    }
    // The language that was chosen on the page; the link there sets the cookie.
    let lang = cookie(asked.headers, LANG).and_then(Lang::from_code).unwrap_or_else(|| Lang::of(asked.headers));
    let back = (asked.asks == Asks::Form).then(|| onward(&room.settings.load(), &desk.way_back(asked, &room)));
    Ok(Wish { room, number: ticket.number, lang, back })
}

fn too_large() -> Reply {
    Reply::problem(&Problem::new(Slug::BodyTooLarge, "Send at most 1,024 bytes, with their Content-Length."))
}

impl Wish {
    /// Reads the body and remembers the address.
    pub async fn answer(self, desk: &Desk, session: &mut Session) -> Reply {
        let body = match tokio::time::timeout(BODY_MAX, read_body(session)).await {
            Ok(Ok(body)) => body,
            Ok(Err(reply)) => return reply,
            Err(_) => return Reply::problem(&Problem::new(Slug::BadRequest, "The body did not arrive in time.")),
        };
        let Some(address) = address_of(&body) else {
            let rule = format!("must be an e-mail address of at most {ADDRESS_CHARS_MAX} characters");
            return self.again(Reply::problem(&Problem::field("address", rule)));
        };
        let Some(store) = desk.rooms.store() else { return store_away() };
        match mail::put(&store.redis, &self.room.id, self.number, self.lang.code(), &address).await {
            Ok(true) => self.done(),
            // For a page it makes no difference: the letter comes, or has come.
            Ok(false) if self.back.is_some() => self.done(),
            Ok(false) => Reply::problem(&Problem::new(
                Slug::WrongState,
                "A message for this number is on its way already; there is one per number.",
            )),
            Err(StoreError::Refused { code, .. }) if code == mail::REFUSED_FULL => {
                let detail = "No more addresses are taken here; keep the page open.";
                self.again(Reply::problem(&Problem::new(Slug::TooManyRequests, detail).retry_after_s(600)))
            }
            Err(error) => {
                tracing::warn!(room = %self.room.id, %error, "an address could not be kept");
                store_away()
            }
        }
    }

    fn done(self) -> Reply {
        match self.back {
            Some(back) => Reply::see_other(&format!("{back}{}{DONE}", if back.contains('?') { '&' } else { '?' })),
            None => Reply::empty(),
        }
    }

    /// A browser goes back to the form, a program is told.
    fn again(self, problem: Reply) -> Reply {
        self.back.map_or(problem, |back| Reply::see_other(&back))
    }
}

async fn read_body(session: &mut Session) -> Result<Vec<u8>, Reply> {
    let mut body = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(part)) => body.extend_from_slice(&part),
            Ok(None) => return Ok(body),
            Err(_) => {
                return Err(Reply::problem(&Problem::new(Slug::BadRequest, "The body did not arrive whole.")));
            }
        }
        // The head promised less; a server in front may have changed it.
        if body.len() as u64 > BODY_BYTES_MAX {
            return Err(too_large());
        }
    }
}

/// The address in a form, if it is a good one.
fn address_of(body: &[u8]) -> Option<String> {
    let (_, address) = form_urlencoded::parse(body).find(|(name, _)| name == "address")?;
    // Phones put a blank behind a completed word.
    let address = address.trim();
    is_address(address).then(|| address.to_owned())
}

/// Takes the address of somebody who left the line away at once; the mailer would do it when their turn was near.
pub async fn forget(desk: &Desk, room: &Room, number: u64) {
    if desk.mail.is_none() {
        return;
    }
    if let Some(store) = desk.rooms.store()
        && let Err(error) = mail::finished(&store.redis, &room.id, number).await
    {
        tracing::warn!(room = %room.id, %error, "an address stays until its owner's turn would be near");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_form() {
        for (body, address) in [
            ("address=a%40b.example", Some("a@b.example")),
            ("x=1&address=first%2Btag%40b.example+&y", Some("first+tag@b.example")),
            ("address=a@b.example", Some("a@b.example")),
            ("address=a+b%40c.example", None),
            ("address=a%40b.example%0D%0ABcc%3Ac%40d.example", None),
            ("address=a%4", None),
            ("address=%FF@b.example", None),
            ("address=", None),
            ("other=a@b.example", None),
        ] {
            assert_eq!(address_of(body.as_bytes()).as_deref(), address, "{body}");
        }
    }
}
