//! The gate's own endpoints under `/_floodgate/` and `/.well-known/jwks.json`. They read no body.

use crate::canonical::CanonicalPath;
use crate::cookie::{self, TICKET_MAX_AGE_S};
use crate::copy::Lang;
use crate::decide::Asks;
use crate::desk::{Asked, Desk};
use crate::draw_api::{draw, draw_check, draw_proof};
use crate::limits::{Limited, client_address};
use crate::newcomer::{self, Brings, Refused, onward};
use crate::reply::Reply;
use crate::rooms::{Room, View};
use crate::status_json::{status_json, ticket_json, with_status};
use crate::visit::Claimed;
use http::{HeaderMap, Method, header};
use queue::board::VisitorState;
use queue::line::Presence;
use queue::settings::Beacon;
use queue::ticket::Ticket;
use service_kit::problem::{Problem, Slug};
use std::net::IpAddr;

/// Largest body that a client may send along, in bytes. It is not read.
pub const BODY_BYTES_MAX: u64 = 1_024;
/// Longest `Idempotency-Key`, in characters.
const KEY_CHARS_MAX: usize = 64;
/// Prefix of all endpoints.
pub const PREFIX: &str = "/_floodgate/";

/// One endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Tickets,
    Status,
    Board,
    Pass,
    Ticket,
    Leave,
    Custom,
    Draw,
    DrawCheck,
    DrawProof,
}

impl Endpoint {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "tickets" => Self::Tickets,
            "status" => Self::Status,
            "board" => Self::Board,
            "pass" => Self::Pass,
            "ticket" => Self::Ticket,
            "leave" => Self::Leave,
            "custom" => Self::Custom,
            "draw" => Self::Draw,
            "draw/check" => Self::DrawCheck,
            "draw/proof" => Self::DrawProof,
            _ => return None,
        })
    }
    fn methods(self) -> &'static str {
        match self {
            Self::Tickets | Self::Pass | Self::Leave => "POST",
            Self::Status | Self::Board | Self::Custom => "GET, HEAD",
            Self::Draw | Self::DrawCheck | Self::DrawProof => "GET, HEAD",
            Self::Ticket => "DELETE",
        }
    }
    /// The label in metrics.
    fn label(self) -> &'static str {
        match self {
            Self::Tickets => "tickets",
            Self::Status => "status",
            Self::Board => "board",
            Self::Pass => "pass",
            Self::Ticket => "ticket",
            Self::Leave => "leave",
            Self::Custom => "custom",
            Self::Draw => "draw",
            Self::DrawCheck => "draw_check",
            Self::DrawProof => "draw_proof",
        }
    }
}

/// Whether a path belongs to the gate itself.
pub fn is_own(path: &CanonicalPath) -> bool {
    path.path().starts_with(PREFIX) || path.path() == "/_floodgate" || path.path() == "/.well-known/jwks.json"
}

/// Answers a request for one of the gate's own paths whose head was checked, without a session of Pingora's. Also returns
/// the route's label.
pub async fn own(
    desk: &Desk,
    (peer, trusted_proxies): (Option<IpAddr>, usize),
    (method, target, headers): (&Method, &[u8], &HeaderMap),
) -> (&'static str, Reply) {
    let path = match CanonicalPath::parse(target) {
        Ok(path) => path,
        Err(refusal) => return ("none", Reply::problem(&Problem::new(Slug::BadPath, refusal.to_string()))),
    };
    let asked = Asked {
        method,
        path: &path,
        headers,
        asks: Asks::of(method, headers),
        client: client_address(peer, headers, trusted_proxies),
        body_bytes: Asked::body_bytes_of(headers),
    };
    answer(desk, &asked).await
}

/// Answers a request for one of the gate's own paths. Also returns the route's label.
pub async fn answer(desk: &Desk, asked: &Asked<'_>) -> (&'static str, Reply) {
    if asked.path.path() == "/.well-known/jwks.json" {
        let reply = match allowed(asked, "GET, HEAD") {
            Ok(()) => Reply::json(200, desk.jwks.clone()).instead(header::CACHE_CONTROL, "public, max-age=300"),
            Err(reply) => reply,
        };
        return ("jwks", reply);
    }
    let parts = asked.path.path().strip_prefix("/_floodgate/rooms/").and_then(|rest| rest.split_once('/'));
    let Some((room, endpoint)) = parts.and_then(|(room, name)| Some((room, Endpoint::of(name)?))) else {
        return ("own", not_found());
    };
    let reply = match handle(desk, asked, room, endpoint).await {
        Ok(reply) | Err(reply) => reply,
    };
    (endpoint.label(), reply)
}

async fn handle(desk: &Desk, asked: &Asked<'_>, room: &str, endpoint: Endpoint) -> Result<Reply, Reply> {
    allowed(asked, endpoint.methods())?;
    if asked.body_bytes.is_none_or(|n| n > BODY_BYTES_MAX) {
        return Err(Reply::problem(&Problem::new(
            Slug::BodyTooLarge,
            "This endpoint reads no body. Send none, with its Content-Length.",
        )));
    }
    if asked.method == Method::POST || asked.method == Method::DELETE {
        desk.same_site(asked.headers)?;
    }
    let limited = match endpoint {
        Endpoint::Status | Endpoint::Board | Endpoint::Custom => Limited::Poll,
        Endpoint::Draw | Endpoint::DrawCheck | Endpoint::DrawProof => Limited::Poll,
        Endpoint::Tickets => Limited::Join,
        Endpoint::Pass | Endpoint::Ticket | Endpoint::Leave => Limited::Claim,
    };
    desk.within_limits(limited, asked.client)?;
    let room = desk.room(room)?;
    match endpoint {
        Endpoint::Status => status(desk, asked, &room),
        Endpoint::Board => board(&room),
        Endpoint::Tickets => tickets(desk, asked, &room).await,
        Endpoint::Pass => pass(desk, asked, &room).await,
        Endpoint::Ticket | Endpoint::Leave => leave(desk, asked, &room, endpoint).await,
        Endpoint::Custom => desk.pages.custom(&room.settings.load()).ok_or_else(not_found),
        Endpoint::Draw => draw(&room),
        Endpoint::DrawCheck => draw_check(desk, asked, &room),
        Endpoint::DrawProof => draw_proof(desk, asked, &room).await,
    }
}

/// The hot path: one HMAC, one look at the board, one JSON document.
fn status(desk: &Desk, asked: &Asked<'_>, room: &Room) -> Result<Reply, Reply> {
    let ticket = desk.ticket(asked, room)?;
    if let Some(ticket) = &ticket
        && !room.beat(ticket)
    {
        desk.hot.heartbeats_dropped.increment(1);
    }
    let view = room.view(ticket.as_ref());
    match (&view.status, view.degraded) {
        (None, _) => desk.hot.status_miss.increment(1),
        (_, true) => desk.hot.status_stale.increment(1),
        (_, false) => desk.hot.status_hit.increment(1),
    }
    let body = status_json(room, &view, Lang::of(asked.headers)).ok_or_else(store_away)?;
    Ok(Reply::json(200, body))
}

fn board(room: &Room) -> Result<Reply, Reply> {
    let seen = room.seen.load_full().ok_or_else(store_away)?;
    Ok(Reply::json(200, seen.public()).instead(header::CACHE_CONTROL, "public, max-age=1"))
}

async fn tickets(desk: &Desk, asked: &Asked<'_>, room: &Room) -> Result<Reply, Reply> {
    let page = asked.asks == Asks::Form;
    let held = match desk.ticket(asked, room) {
        // An old cookie is no reason to refuse somebody a new place; a header was sent on purpose.
        Err(reply) if asked.has_ticket_header() => return Err(reply),
        Err(_) => None,
        Ok(ticket) => ticket,
    };
    let view = room.view(held.as_ref());
    if let Some(ticket) = held.as_ref().filter(|_| !is_over(&view)) {
        let _ = room.beat(ticket);
        return if page {
            Ok(Reply::see_other(&onward(&room.settings.load(), &desk.way_back(asked, room))))
        } else {
            ticket_reply(200, room, ticket, &desk.visits.token(ticket), &view)
        };
    }
    match may_join(&view) {
        // The page says why not.
        Err(reply) if page && reply.status != 503 => return Ok(Reply::see_other(&desk.way_back(asked, room))),
        answer => answer?,
    }
    if desk.door.is_crawler(asked.client) {
        return Err(newcomer::crawler(desk, asked));
    }
    let settings = room.settings.load_full();
    let brings = Brings { key: idempotency_key(asked)?, old: held.as_ref(), requeues: false };
    let refused =
        |why: Refused| if page { why.page(desk, asked, room, &desk.way_back(asked, room)) } else { why.problem() };
    let welcome = newcomer::check(desk, asked, room, &settings, brings).map_err(refused)?;
    let joined = newcomer::join(desk, asked, room, welcome).await.map_err(refused)?;
    desk.hot.by_redis.increment(1);
    let reply = if page {
        Reply::see_other(&onward(&settings, &desk.way_back(asked, room)))
    } else {
        ticket_reply(201, room, &joined.ticket, &joined.token, &room.view(Some(&joined.ticket)))?
    };
    Ok(reply.cookies([cookie::set(&room.cookies.ticket, &joined.token, TICKET_MAX_AGE_S, desk.cookie_secure)]))
}

fn ticket_reply(status: u16, room: &Room, ticket: &Ticket, token: &str, view: &View) -> Result<Reply, Reply> {
    let document = ticket_json(room, ticket, token, view).map_err(|e| Reply::problem(&Problem::internal(&e)))?;
    Ok(Reply::json(status, document))
}

/// Whether a ticket is used up, so that a new one may be taken.
fn is_over(view: &View) -> bool {
    view.presence == Some(Presence::Left) || view.status.as_ref().is_some_and(|s| s.state == VisitorState::Missed)
}

/// Whether the room takes newcomers now.
fn may_join(view: &View) -> Result<(), Reply> {
    let status = view.status.as_ref().filter(|_| !view.degraded).ok_or_else(store_away)?;
    let refused = match status.state {
        VisitorState::SoldOut => Problem::new(Slug::SoldOut, "All units are sold. Nothing was charged."),
        VisitorState::Closed => Problem::new(Slug::RoomClosed, "This sale is over."),
        VisitorState::Scheduled => {
            Problem::new(Slug::RoomClosed, "The waiting room is not open yet. Try again when its lobby opens.")
                .retry_after_s(status.next_poll_ms.div_ceil(1_000).max(1))
        }
        _ => return Ok(()),
    };
    Err(Reply::problem(&with_status(refused, view, "")))
}

async fn pass(desk: &Desk, asked: &Asked<'_>, room: &Room) -> Result<Reply, Reply> {
    let ticket = desk.ticket(asked, room)?.ok_or_else(ticket_invalid)?;
    let claimed =
        desk.visits.claim(&desk.rooms, room, &ticket, desk.door.browsers.fingerprint(asked.headers)).await.map_err(
            |e| {
                tracing::warn!(room = %room.id, error = %e, "claim failed");
                desk.hot.fail_closed.increment(1);
                store_away()
            },
        )?;
    desk.hot.by_redis.increment(1);
    let page = asked.asks == Asks::Form;
    let (expires_at_ms, token) = match claimed {
        Claimed::Pass { pass, token } => {
            if !desk.accepts(asked.headers, room, &pass, room.settings.load().copied_pass) {
                let here = desk.way_back(asked, room);
                // The page there says what has happened, and how to go on.
                return if page { Ok(Reply::see_other(&here)) } else { Err(pass_of_another_browser()) };
            }
            (pass.expires_at_ms, token)
        }
        _ if page => return Ok(Reply::see_other(&onward(&room.settings.load(), &desk.way_back(asked, room)))),
        Claimed::NotYourTurn => {
            let problem = Problem::new(Slug::NotYourTurn, "Ask again when the status says `called`.");
            return Err(Reply::problem(&with_status(problem, &room.view(Some(&ticket)), "")));
        }
        Claimed::Missed => {
            return Err(Reply::problem(&Problem::new(
                Slug::TurnMissed,
                "The turn or the lease is over. Take a new ticket.",
            )));
        }
        Claimed::Left => {
            return Err(Reply::problem(&Problem::new(Slug::TurnMissed, "You left the line. Take a new ticket.")));
        }
    };
    let cookie = desk.pass_cookie(room, &token, expires_at_ms);
    let enter_path = room.settings.load().enter_path.clone();
    if page {
        return Ok(Reply::see_other(&desk.way_back(asked, room)).cookies([cookie]));
    }
    let document = serde_json::json!({ "pass": token, "expires_at_ms": expires_at_ms, "enter_path": enter_path });
    Ok(Reply::json(200, document.to_string()).cookies([cookie]))
}

async fn leave(desk: &Desk, asked: &Asked<'_>, room: &Room, endpoint: Endpoint) -> Result<Reply, Reply> {
    let cleared = [
        cookie::clear(&room.cookies.ticket, desk.cookie_secure),
        cookie::clear(&room.cookies.pass, desk.cookie_secure),
    ];
    // The next number is another entry.
    let entry = (room.settings.load().beacon == Beacon::Entrants)
        .then(|| cookie::clear(&room.cookies.entry, desk.cookie_secure));
    let page = endpoint == Endpoint::Leave && asked.asks == Asks::Form;
    match desk.ticket(asked, room) {
        Ok(Some(ticket)) => {
            desk.visits.leave(&desk.rooms, room, &ticket).await.map_err(|e| {
                tracing::warn!(room = %room.id, error = %e, "leave failed");
                store_away()
            })?;
            crate::mailbox::forget(desk, room, ticket.number).await;
        }
        Ok(None) if !page => return Err(ticket_invalid()),
        Err(reply) if !page => return Err(reply),
        // Nothing to give back: for a browser the answer is the same.
        Ok(None) | Err(_) => {}
    }
    let reply = if page { desk.pages.left(Lang::of(asked.headers), &room.id) } else { Reply::empty() };
    Ok(reply.cookies(cleared).cookies(entry))
}

fn idempotency_key<'a>(asked: &'a Asked<'_>) -> Result<Option<&'a str>, Reply> {
    let Some(value) = asked.headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().unwrap_or("");
    let plain = (1..=KEY_CHARS_MAX).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if plain {
        Ok(Some(key))
    } else {
        Err(Reply::problem(&Problem::field("Idempotency-Key", "must be 1–64 characters of A-Z, a-z, 0-9, `-` and `_`")))
    }
}

fn allowed(asked: &Asked<'_>, methods: &str) -> Result<(), Reply> {
    if methods.split(", ").any(|m| m == asked.method.as_str()) {
        return Ok(());
    }
    let reply = Reply::problem(&Problem::new(Slug::MethodNotAllowed, format!("Use {methods}.")));
    // RFC 9110 §9.3.7: OPTIONS asks exactly for this header.
    Err(if *asked.method == Method::OPTIONS { Reply::empty() } else { reply }.with(header::ALLOW, methods))
}

/// 401 for a missing, forged, altered or foreign ticket: always the same words.
pub fn ticket_invalid() -> Reply {
    Reply::problem(&Problem::new(
        Slug::TicketInvalid,
        "Take a ticket with POST /_floodgate/rooms/{room}/tickets and send it along.",
    ))
}

/// 403: a pass, or the ticket behind it, of another browser.
pub fn pass_of_another_browser() -> Reply {
    Reply::problem(&Problem::new(
        Slug::PassOfAnotherBrowser,
        "A pass works in the browser that claimed it. Send the request without pass and ticket to take a number of your own.",
    ))
}

/// 503: nobody is admitted without the store.
pub fn store_away() -> Reply {
    Reply::problem(
        &Problem::new(Slug::StoreUnavailable, "The connection to the store is lost. Places are kept; try again.")
            .retry_after_s(2),
    )
}

/// 404.
pub fn not_found() -> Reply {
    Reply::problem(&Problem::new(Slug::NotFound, "No route or room has this address."))
}
