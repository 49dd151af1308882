//! What a gate says about a draw: the published document, the page that recomputes a place, and the proof that an
//! entrant's record was in the list.
//!
//! Proofs come from memory: the first one that is asked for makes the gate read the records once (see
//! [`crate::draws`]), 32 bytes per entrant. A proof costs about 500 hashes, however many entered.

use crate::api::{not_found, store_away};
use crate::desk::{Asked, Desk};
use crate::draw_page::draw_page;
use crate::newcomer;
use crate::reply::Reply;
use crate::rooms::Room;
use arc_swap::ArcSwapOption;
use http::header;
use queue::draw::{Nonce, Phase, Proof};
use queue::drawing::Entrants;
use queue::settings::Mode;
use service_kit::ids::VisitorId;
use service_kit::problem::{Problem, Slug};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// How long an answer waits for the list to be read.
const READING_MAX: Duration = Duration::from_secs(2);

/// The entrants of a finished draw, once somebody has asked for a proof.
#[derive(Debug, Default)]
pub struct Proofs {
    is_wanted: AtomicBool,
    entrants: ArcSwapOption<Entrants>,
    came: Notify,
}

impl Proofs {
    /// Whether somebody has asked in vain.
    pub fn is_due(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed) && self.entrants.load().is_none()
    }
    /// Bytes of records.
    pub fn bytes(&self) -> usize {
        self.entrants.load().as_ref().map_or(0, |entrants| entrants.bytes())
    }
    /// From now on proofs are answered.
    pub fn put(&self, entrants: Entrants) {
        self.entrants.store(Some(Arc::new(entrants)));
        self.came.notify_waiters();
    }
    /// The records; notes that they are wanted, and waits a moment for them.
    async fn get(&self) -> Option<Arc<Entrants>> {
        // Before the first look, so that records which come in between are heard.
        let came = self.came.notified();
        if let Some(entrants) = self.entrants.load_full() {
            return Some(entrants);
        }
        self.is_wanted.store(true, Ordering::Relaxed);
        tokio::time::timeout(READING_MAX, came).await.ok()?;
        self.entrants.load_full()
    }
}

/// The published draw, as far as it is.
pub fn draw(room: &Room) -> Result<Reply, Reply> {
    if room.settings.load().mode != Mode::Draw {
        return Err(not_found());
    }
    let seen = room.seen.load_full().ok_or_else(store_away)?;
    let lobby = seen.board.draw.as_ref().ok_or_else(not_found)?;
    let document = serde_json::to_vec(&lobby.draw).map_err(|e| Reply::problem(&Problem::internal(&e)))?;
    Ok(Reply::json(200, document).instead(header::CACHE_CONTROL, "public, max-age=1"))
}

/// The page that recomputes a place; to begin with the visitor's own, if there is a good ticket.
pub fn draw_check(desk: &Desk, asked: &Asked<'_>, room: &Room) -> Result<Reply, Reply> {
    let settings = room.settings.load();
    if settings.mode != Mode::Draw {
        return Err(not_found());
    }
    let number = desk.ticket(asked, room).ok().flatten().map(|ticket| ticket.number);
    Ok(draw_page(newcomer::lang(asked), &settings, number))
}

/// A proof; for the holder of the ticket with what the record was made of.
#[derive(serde::Serialize)]
struct ProofBody<'p> {
    #[serde(flatten)]
    proof: Proof,
    #[serde(skip_serializing_if = "Option::is_none")]
    visitor: Option<&'p VisitorId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'p Nonce>,
}

/// The proof for `?number=`, or for the ticket that comes along.
pub async fn draw_proof(desk: &Desk, asked: &Asked<'_>, room: &Room) -> Result<Reply, Reply> {
    if room.settings.load().mode != Mode::Draw {
        return Err(not_found());
    }
    let (number, ticket) = match asked.path.parameter("number") {
        Some(text) => (text.parse::<u32>().ok().filter(|n| *n > 0), None),
        None => {
            let ticket = desk.ticket(asked, room)?;
            (ticket.as_ref().and_then(|ticket| u32::try_from(ticket.number).ok()), ticket)
        }
    };
    let number = number
        .ok_or_else(|| Reply::problem(&Problem::field("number", "a number of this room; or send the ticket along")))?;
    let seen = room.seen.load_full().ok_or_else(store_away)?;
    let is_drawn = seen.board.draw.as_ref().is_some_and(|lobby| lobby.draw.phase == Phase::Drawn);
    if !is_drawn {
        return Err(Reply::problem(&Problem::new(
            Slug::WrongState,
            "The draw has not been made yet. Ask again when its document says `drawn`.",
        )));
    }
    let entrants = room.proofs.get().await.ok_or_else(|| {
        Reply::problem(
            &Problem::new(Slug::StoreUnavailable, "The gate is reading the list of entrants. Ask again in a moment.")
                .retry_after_s(1),
        )
    })?;
    // A later number stands behind everybody who was drawn, and is in no list.
    let proof = entrants.proof(number).ok_or_else(not_found)?;
    let ticket = ticket.as_ref();
    let body = ProofBody { proof, visitor: ticket.map(|t| &t.visitor), nonce: ticket.and_then(|t| t.nonce.as_ref()) };
    let document = serde_json::to_vec(&body).map_err(|e| Reply::problem(&Problem::internal(&e)))?;
    let reply = Reply::json(200, document);
    // By number the answer is everybody's and never changes.
    Ok(match asked.path.parameter("number") {
        Some(_) => reply.instead(header::CACHE_CONTROL, "public, max-age=3600"),
        None => reply,
    })
}
