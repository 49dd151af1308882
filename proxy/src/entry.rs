//! The entry into the lobby of a draw that takes something from each entrant: what is thrown in, and what makes one entry
//! of a browser's tries.
//!
//! The page that asks ([`crate::nonce_page`]) leaves a random key as a cookie, and the key is the join key: a second tab,
//! a reload after a lost answer, and a page that was opened again find the number, and the nonce, of the first try. A
//! nonce in the address counts only together with that cookie, because a link of somebody else could carry one.

use crate::cookie::{self, ENTRY_MAX_AGE_S};
use crate::decide::Asks;
use crate::desk::{Asked, Desk};
use crate::newcomer;
use crate::nonce_page::{NONCE, Wanted};
use crate::rooms::Room;
use queue::draw::Nonce;
use queue::settings::RoomSettings;
use queue::ticket::Ticket;
use service_kit::ids::VisitorId;

/// The header in which a program sends what it throws in.
const NONCE_HEADER: &str = "floodgate-nonce";

/// What an entrant throws into the draw, and the key of the entry. A program may leave the nonce out; a browser is asked
/// first. Who follows an own number (a reload in a room where that costs the place) throws the same in again.
///
/// # Errors
/// What to ask for.
pub fn nonce(
    asked: &Asked<'_>,
    room: &Room,
    settings: &RoomSettings,
    successor: Option<&Ticket>,
) -> Result<(Option<Nonce>, Option<VisitorId>), Wanted> {
    if !settings.takes_nonces(room.now_ms()) {
        return Ok((None, None));
    }
    if let Some(value) = asked.headers.get(NONCE_HEADER) {
        let nonce = value.to_str().ok().and_then(|text| text.parse().ok());
        return nonce.map(|nonce| (Some(nonce), None)).ok_or(Wanted::Well);
    }
    if let Some(old) = successor {
        return Ok((old.nonce.clone(), None));
    }
    if asked.asks == Asks::Api {
        return Ok((None, None));
    }
    match (asked.path.parameter(NONCE), key(asked, room)) {
        (None, _) => Err(Wanted::First),
        (Some(_), None) => Err(Wanted::Cookie),
        (Some(""), key) => Ok((None, key)),
        (Some(text), key) => text.parse().map(|nonce| (Some(nonce), key)).map_err(|_| Wanted::Well),
    }
}

/// The key that the asking page left in this browser.
fn key(asked: &Asked<'_>, room: &Room) -> Option<VisitorId> {
    service_kit::http::cookie(asked.headers, &room.cookies.entry)?.parse().ok()
}

/// The cookie of the asking page: the key that is there, or a new one.
pub fn cookie(desk: &Desk, asked: &Asked<'_>, room: &Room) -> String {
    let key = key(asked, room).unwrap_or_else(VisitorId::new);
    cookie::set(&room.cookies.entry, key.as_str(), ENTRY_MAX_AGE_S, desk.cookie_secure)
}

/// Whether anything that was brought stands in the address: it shall not stay there.
pub fn is_spelled_out(asked: &Asked<'_>) -> bool {
    newcomer::brings_something(asked) || asked.path.parameter(NONCE).is_some()
}
