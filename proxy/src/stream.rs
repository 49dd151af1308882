//! One event stream: `GET /_floodgate/rooms/{room}/events`.
//!
//! Each event is the document of `/status`. It is sent when something changed that the visitor can see, and otherwise at
//! the pace of `next_poll_ms`; each one is a sign of life of the number. After a final state the stream ends.
//!
//! The socket is taken out of Pingora and served by a small task of its own. Pingora keeps a request's whole machinery
//! (its futures, buffers, head, filters) for as long as the request lasts, several times what a stream that is idle may
//! cost; the answer is close-delimited, so nothing of it is needed after the head. `make test` measures the memory.

use crate::api::{not_found, store_away};
use crate::canonical::CanonicalPath;
use crate::copy::Lang;
use crate::desk::{Asked, Desk};
use crate::limits::Limited;
use crate::reply::Reply;
use crate::status_json::status_json;
use crate::streams::{Refused, Seat};
use http::{Method, header};
use pingora::http::ResponseHeader;
use pingora::protocols::TcpKeepalive;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream;
use pingora::proxy::Session;
use queue::ticket::Ticket;
use service_kit::clock::monotonic;
use service_kit::problem::{Problem, Slug};
use std::io::{Cursor, Write as _};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Label in metrics.
pub const LABEL: &str = "events";
/// A client that takes no bytes for so long is gone.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// A stream ends after this time; the browser comes back by itself, to whichever gate has room.
const LIFE_MAX: Duration = Duration::from_secs(3_600);
/// When a browser comes back after its stream broke.
const RETRY_MS: u64 = 2_000;
/// When it comes back after a final state, should it not stop by itself.
const RETRY_FINAL_MS: u64 = 60_000;
/// After a shutdown browsers come back spread over this time, behind [`RETRY_SOON_MS`].
const RETRY_SPREAD_MS: u64 = 3_000;
/// The earliest return after a shutdown.
const RETRY_SOON_MS: u64 = 500;
/// A client that vanished without a word is noticed by the kernel within this time.
const SILENT_PEER_MAX: Duration = Duration::from_secs(20);
/// Id of the event with a final state: a browser that comes back with it is told to stop.
const FINAL_ID: &str = "final";

/// A stream that may begin.
#[derive(Debug)]
pub struct Opening {
    seat: Seat,
    ticket: Option<Ticket>,
    lang: Lang,
}

/// The room's name if this is the path of its streams.
pub fn room_of(path: &CanonicalPath) -> Option<&str> {
    path.path().strip_prefix("/_floodgate/rooms/")?.strip_suffix("/events").filter(|room| !room.contains('/'))
}

/// Decides whether a stream may begin.
///
/// # Errors
/// The answer instead: 405, 413, 401, 404, 429, 503; 204 when there is nothing left to tell.
pub fn open(desk: &Desk, asked: &Asked<'_>, room: &str) -> Result<Opening, Reply> {
    if *asked.method != Method::GET {
        let problem = Reply::problem(&Problem::new(Slug::MethodNotAllowed, "Use GET."));
        let reply = if *asked.method == Method::OPTIONS { Reply::empty() } else { problem };
        return Err(reply.with(header::ALLOW, "GET"));
    }
    if asked.body_bytes != Some(0) {
        return Err(Reply::problem(&Problem::new(Slug::BodyTooLarge, "This endpoint reads no body. Send none.")));
    }
    desk.within_limits(Limited::Poll, asked.client)?;
    let room = desk.room(room).map_err(|reply| if reply.status == 404 { not_found() } else { reply })?;
    let ticket = desk.ticket(asked, &room)?;
    let status = room.view(ticket.as_ref()).status.ok_or_else(store_away)?;
    let knows = asked.headers.get("last-event-id").is_some_and(|id| id == FINAL_ID);
    if knows && status.next_poll_ms == 0 {
        // The one answer after which an EventSource does not come back.
        return Err(Reply::empty());
    }
    let number = ticket.as_ref().map_or(0, |t| t.number);
    let seat = desk.streams.sit(&room, number, asked.client).map_err(|refused| {
        let detail = match refused {
            Refused::Address => "Your network has too many event streams open. Poll the status instead.",
            Refused::Gate => "This gate has no room for another event stream. Poll the status instead.",
        };
        Reply::problem(&Problem::new(Slug::TooManyRequests, detail).retry_after_s(10))
    })?;
    Ok(Opening { seat, ticket, lang: Lang::of(asked.headers) })
}

impl Opening {
    /// Sends the head and takes the socket over. The session is empty afterwards: nothing may be read from it.
    ///
    /// # Errors
    /// When the client is gone; the session is whole then.
    pub async fn begin(self, session: &mut Session) -> pingora::Result<()> {
        let mut head = ResponseHeader::build(200, Some(6))?;
        head.insert_header(header::CONTENT_TYPE, "text/event-stream")?;
        head.insert_header(header::CACHE_CONTROL, "no-store")?;
        head.insert_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")?;
        // nginx would collect events until its buffer is full.
        head.insert_header("x-accel-buffering", "no")?;
        session.set_keepalive(None);
        session.write_response_header(Box::new(head), false).await?;
        if let Some(mut wire) = take_wire(session) {
            // Without it a vanished client is noticed later; that is no reason to refuse the stream.
            let _ = wire.set_keepalive(&TcpKeepalive {
                idle: SILENT_PEER_MAX / 2,
                interval: SILENT_PEER_MAX / 4,
                count: 2,
                user_timeout: SILENT_PEER_MAX,
            });
            tokio::spawn(self.run(wire));
        }
        Ok(())
    }

    async fn run(self, mut wire: Box<Stream>) {
        let ends = monotonic() + LIFE_MAX;
        let mut retry_ms = Some(RETRY_MS);
        while !self.seat.is_over() && monotonic() < ends {
            let Some((event, next_ms)) = self.event(retry_ms.take()) else { break };
            if !send(&mut wire, event).await {
                return;
            }
            self.seat.sent();
            if next_ms == 0 {
                return finish(&mut wire).await;
            }
            let mut probe = [0_u8; 1];
            tokio::select! {
                () = self.seat.woken() => {}
                () = tokio::time::sleep(Duration::from_millis(next_ms)) => {}
                // A stream reads nothing: a byte is as much an end as a closed connection.
                _ = wire.read(&mut probe) => return,
            }
        }
        let back_ms = RETRY_SOON_MS + self.seat.id().wrapping_mul(997) % RETRY_SPREAD_MS;
        if send(&mut wire, format!("retry: {back_ms}\n\n").into_bytes()).await {
            finish(&mut wire).await;
        }
    }

    /// The next event and how long it holds; 0 = for good. Being told is a sign of life.
    fn event(&self, retry_ms: Option<u64>) -> Option<(Vec<u8>, u64)> {
        let room = self.seat.room();
        if let Some(ticket) = &self.ticket {
            // A full buffer costs one sign of life; the next event gives another.
            let _ = room.beat(ticket);
        }
        let view = room.view(self.ticket.as_ref());
        let next_ms = view.status.as_ref()?.next_poll_ms;
        let mut event = b"event: status\n".to_vec();
        if next_ms == 0 {
            write!(event, "id: {FINAL_ID}\nretry: {RETRY_FINAL_MS}\n").ok()?;
        } else if let Some(retry_ms) = retry_ms {
            writeln!(event, "retry: {retry_ms}").ok()?;
        }
        event.extend_from_slice(b"data: ");
        event.extend_from_slice(&status_json(room, &view, self.lang)?);
        event.extend_from_slice(b"\n\n");
        Some((event, next_ms))
    }
}

/// Takes the socket out of the session and leaves an empty one in its place, which Pingora then finishes and frees.
fn take_wire(session: &mut Session) -> Option<Box<Stream>> {
    let nobody = ServerSession::new_http1(Box::new(Cursor::new(Vec::new())));
    match std::mem::replace(session.downstream_session.as_mut(), nobody) {
        ServerSession::H1(h1) => h1.into_inner().into_any().downcast().ok(),
        _ => None,
    }
}

/// Whether the client took it.
async fn send(wire: &mut Stream, bytes: Vec<u8>) -> bool {
    let sent = tokio::time::timeout(WRITE_MAX, async {
        wire.write_all(&bytes).await?;
        wire.flush().await
    });
    matches!(sent.await, Ok(Ok(())))
}

async fn finish(wire: &mut Stream) {
    // The other side may be gone already; then there is nothing to end.
    let _ = wire.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_path_of_a_room_is_a_stream() {
        let room = |path: &str| room_of(&CanonicalPath::parse(path.as_bytes()).unwrap()).map(str::to_owned);
        assert_eq!(room("/_floodgate/rooms/shoes/events").as_deref(), Some("shoes"));
        for other in [
            "/_floodgate/rooms/shoes/status",
            "/_floodgate/rooms/a/b/events",
            "/deals/events",
            "/_floodgate/rooms/events",
        ] {
            assert_eq!(room(other), None, "{other}");
        }
    }
}
