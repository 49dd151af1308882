//! A hold of a deal that has nothing left, answered by the gate.
//!
//! Promise: somebody hears "sold out" here only if a look at the stock that began after the whole request had arrived
//! said so, and the deal service would have said the same. The board, which is a moment old, only tells when to look. One
//! look answers for all who wait for it. Everything that is not the plain case (another body, no session, a pass that is
//! due for renewal, somebody who held before, a store that does not answer) goes to the deal service untouched.
//! Crash: nothing was changed; the client asks again.

use crate::canonical::CanonicalPath;
use crate::desk::{Desk, Presented};
use crate::lease;
use crate::metric;
use crate::reply::Reply;
use crate::rooms::{Room, Rooms};
use crate::route::RouteTable;
use http::{HeaderMap, header};
use queue::losers::{HoldWish, LOOK_PEOPLE_MAX, losers};
use serde::Deserialize;
use service_kit::clock::now_ms;
use service_kit::ids::is_idempotency_key;
use service_kit::money::Quantity;
use service_kit::problem::Problem;
use service_kit::shutdown::Shutdown;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Most holds of a room that wait for a look.
pub const LOOKS_MAX: usize = 16_384;
/// Longest body of a hold that is read here, in bytes.
pub const BODY_BYTES_MAX: usize = 64;
/// Longest wait for a look; then the deal service is asked.
const LOOK_TIMEOUT: Duration = Duration::from_millis(250);

/// A hold that waits for a look; true is the answer "sold out".
#[derive(Debug)]
pub struct Asking {
    wish: HoldWish,
    reply: oneshot::Sender<bool>,
}

/// The body of a hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    quantity: Quantity,
}

/// A `POST` with a whole body, as far as this module looks at it.
#[derive(Debug)]
pub struct Hold<'r> {
    /// The target as it came.
    pub target: &'r [u8],
    /// The headers; their head was checked.
    pub headers: &'r HeaderMap,
    /// The body.
    pub body: &'r [u8],
}

/// "Sold out" with the label of the route, or `None`: let the deal service answer.
pub async fn answer(desk: &Desk, table: &RouteTable, hold: &Hold<'_>) -> Option<(Arc<str>, Reply)> {
    let path = CanonicalPath::parse(hold.target).ok()?;
    let matched = table.find(&path).filter(|matched| matched.holds)?;
    let room = desk.rooms.get(matched.room.as_ref()?.as_str())?;
    let Body { quantity } = serde_json::from_slice(hold.body).ok()?;
    if !seems_too_few(&room, quantity) {
        return None;
    }
    let wish = wish(desk, &room, hold.headers, quantity)?;
    let (reply, answer) = oneshot::channel();
    room.looks.try_send(Asking { wish, reply }).ok()?;
    answer.await.unwrap_or(false).then(|| (matched.pattern.clone(), Reply::problem(&Problem::sold_out())))
}

/// Whether it is worth looking.
fn seems_too_few(room: &Room, quantity: Quantity) -> bool {
    let wanted = u64::try_from(quantity.get()).unwrap_or(u64::MAX);
    room.seen.load().as_ref().and_then(|seen| seen.board.stock).is_some_and(|stock| stock.available < wanted)
}

fn wish(desk: &Desk, room: &Room, headers: &HeaderMap, quantity: Quantity) -> Option<HoldWish> {
    let mut keys = headers.get_all("idempotency-key").iter().map(|key| key.to_str().ok());
    let (Some(Some(key)), None) = (keys.next(), keys.next()) else { return None };
    let is_json = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if !is_json || !is_idempotency_key(key) {
        return None;
    }
    let Presented::Pass { pass, .. } = desk.pass(headers, room, room.settings.load().copied_pass) else { return None };
    if lease::is_due(&pass, room.now_ms()) {
        return None;
    }
    let account = desk.door.sessions.account(headers, now_ms())?.parse().ok()?;
    Some(HoldWish { account, key: key.to_owned(), quantity, pass: (pass.number, pass.visitor) })
}

/// Looks for those who ask, many at once, until the room is gone.
pub async fn keep_looks(rooms: Arc<Rooms>, room: Arc<Room>, mut asking: mpsc::Receiver<Asking>, stop: Shutdown) {
    let mut batch: Vec<Asking> = Vec::with_capacity(LOOK_PEOPLE_MAX);
    loop {
        tokio::select! {
            received = asking.recv_many(&mut batch, LOOK_PEOPLE_MAX) => if received == 0 { return },
            () = stop.requested() => return,
        }
        let (wishes, replies): (Vec<HoldWish>, Vec<_>) = batch.drain(..).map(|a| (a.wish, a.reply)).unzip();
        let Some(store) = rooms.store() else { continue };
        // Everybody in the batch had asked before this call begins: that is the promise.
        match tokio::time::timeout(LOOK_TIMEOUT, losers(&store.redis, &room.id, &wishes)).await {
            Ok(Ok(answers)) => {
                metric::looked(&answers);
                for (reply, loses) in replies.into_iter().zip(answers) {
                    // A receiver that is gone has hung up.
                    let _ = reply.send(loses);
                }
            }
            Ok(Err(error)) => tracing::debug!(room = %room.id, %error, "a look at the stock failed"),
            Err(_) => tracing::debug!(room = %room.id, "a look at the stock took too long"),
        }
    }
}
