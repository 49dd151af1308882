//! In front of Pingora's proxy: the shortest way from the socket to the answers that are asked for most.
//!
//! Status polls, joins and claims are never forwarded, so nothing of the proxy's machinery is needed for them, nor for a
//! hold of a deal that has nothing left ([`crate::loser`]). Who asks, what is allowed and what the answer is comes from the
//! same functions as in [`crate::gate`], in the same order. Only the plainest requests are answered here: a head without a
//! body, or with the few bytes of a hold, that came whole and alone, on a connection that stays. Every other byte goes on
//! to Pingora, which reads it as if it had come there first; so nothing that two parsers could read in two ways is ever
//! decided here, and nothing that is decided here is ever forwarded.

use crate::api;
use crate::desk::Desk;
use crate::gate::Gate;
use crate::head;
use crate::loser::{self, Hold};
use crate::metric;
use crate::route::RouteTable;
use async_trait::async_trait;
use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::date::get_cached_date;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use service_kit::clock::monotonic;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Requests per client connection, so that no connection lives for ever.
pub const REQUESTS_PER_CONNECTION: u32 = 10_000;
/// A connection on which nobody says anything is closed after so long, as by Pingora.
const IDLE_S: u64 = 60;
/// A client that takes no bytes for so long is gone.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// A longer head goes to Pingora.
const HEAD_BYTES_MAX: usize = 4_096;
/// A head with more headers goes to Pingora.
const HEADERS_MAX: usize = 40;

/// The service's application: answers, or hands over.
pub struct Front {
    /// Pingora's proxy around the gate.
    pub proxy: Arc<HttpProxy<Gate>>,
    /// What answers need.
    pub desk: Arc<Desk>,
    /// Which path goes where.
    pub table: RouteTable,
    /// How many proxies in front are believed.
    pub trusted_proxies: usize,
}

/// A request that may be answered here.
#[derive(Debug)]
struct Plain<'b> {
    method: Method,
    target: &'b [u8],
    headers: HeaderMap,
    /// Of a hold; every other plain request has none.
    body: &'b [u8],
}

impl<'b> Plain<'b> {
    /// The request, if these bytes are exactly one and it is a plain one.
    fn of(bytes: &'b [u8]) -> Option<Self> {
        let method = match bytes {
            [b'G', b'E', b'T', ..] => Method::GET,
            [b'P', b'O', b'S', b'T', ..] => Method::POST,
            _ => return None,
        };
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        if bytes.len() >= HEAD_BYTES_MAX {
            return None;
        }
        let Ok(httparse::Status::Complete(head)) = request.parse(bytes) else { return None };
        let body = bytes.get(head..).filter(|body| body.len() <= loser::BODY_BYTES_MAX)?;
        let target = request.path.filter(|_| request.version == Some(1) && request.method == Some(method.as_str()))?;
        match target.strip_prefix("/_floodgate/rooms/").and_then(|rest| rest.split_once('/')) {
            Some((_, "status" | "tickets" | "pass" | "board")) if body.is_empty() => {}
            None if method == Method::POST && !body.is_empty() => {}
            _ => return None,
        }
        let mut headers = HeaderMap::with_capacity(request.headers.len());
        for field in request.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
            let is_plain = match name {
                header::CONTENT_LENGTH => field.value == HeaderValue::from(body.len()).as_bytes(),
                header::CONNECTION => field.value.eq_ignore_ascii_case(b"keep-alive"),
                header::TRANSFER_ENCODING | header::UPGRADE | header::EXPECT | header::TE | header::TRAILER => false,
                _ => true,
            };
            if !is_plain {
                return None;
            }
            headers.append(name, HeaderValue::from_bytes(field.value).ok()?);
        }
        // What the gate would refuse may be what Pingora refuses first.
        head::check(&method, &headers).ok()?;
        // A body without its length, or with two, is Pingora's to judge.
        if !body.is_empty() && headers.get_all(header::CONTENT_LENGTH).iter().count() != 1 {
            return None;
        }
        Some(Self { method, target: target.as_bytes(), headers, body })
    }
}

impl Front {
    /// The answer as it goes over the wire; nothing where Pingora has to go on.
    async fn answer(&self, plain: &Plain<'_>, peer: Option<IpAddr>, wire: &mut Vec<u8>) {
        let started = monotonic();
        let Plain { method, target, headers, body } = plain;
        self.desk.hot.inflight.increment(1.0);
        let answered = if body.is_empty() {
            let (route, reply) = api::own(&self.desk, (peer, self.trusted_proxies), (method, target, headers)).await;
            Some((route.into(), reply, None))
        } else {
            let lost = loser::answer(&self.desk, &self.table, &Hold { target, headers, body }).await;
            lost.map(|(route, reply)| (route.into(), reply, Some("sold_out")))
        };
        self.desk.hot.inflight.decrement(1.0);
        if let Some((route, reply, outcome)) = answered {
            reply.write(wire, &get_cached_date());
            metric::finished(&self.desk.hot, route, method, reply.status, outcome, Some(started));
        }
    }
}

#[async_trait]
impl ServerApp for Front {
    async fn process_new(self: &Arc<Self>, mut wire: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let digest = wire.get_socket_digest();
        let peer = digest.and_then(|d| d.peer_addr()?.as_inet().map(SocketAddr::ip));
        let (mut read, mut answer) = (BytesMut::new(), Vec::new());
        let (mut settings, mut left) = (None::<HttpPersistentSettings>, REQUESTS_PER_CONNECTION);
        let mut stop = shutdown.clone();
        // Both are made once per connection, not once per request: waiting for them again costs nothing.
        let mut stopped = pin!(stop.wait_for(|stops| *stops));
        let (mut idle, mut last) = (pin!(tokio::time::sleep(Duration::from_secs(IDLE_S))), monotonic());
        loop {
            read.reserve(HEAD_BYTES_MAX);
            tokio::select! {
                biased;
                n = wire.read_buf(&mut read) => if !n.is_ok_and(|n| n > 0) { return None },
                () = &mut idle => {
                    let ends = last + Duration::from_secs(IDLE_S);
                    if ends <= monotonic() {
                        return None;
                    }
                    idle.as_mut().reset(ends.into());
                    continue;
                }
                _ = &mut stopped => return None,
            }
            last = monotonic();
            let goes_on = left > 0 && !*shutdown.borrow();
            answer.clear();
            if let Some(plain) = Plain::of(&read).filter(|_| goes_on) {
                self.answer(&plain, peer, &mut answer).await;
            }
            if !answer.is_empty() {
                let sent = tokio::time::timeout(WRITE_MAX, async {
                    wire.write_all(&answer).await?;
                    wire.flush().await
                });
                if !matches!(sent.await, Ok(Ok(()))) {
                    return None;
                }
                read.clear();
            } else {
                let mut session = ServerSession::new_http1(wire);
                match settings.take() {
                    Some(settings) => settings.apply_to_session(&mut session),
                    None => session.set_keepalive(goes_on.then_some(IDLE_S)),
                }
                session.set_keepalive_reuses_remaining(Some(left));
                session.set_pipelined_prefix(std::mem::take(&mut read));
                (wire, settings) = self.proxy.process_new_http(session, shutdown).await?.consume();
            }
            left = left.saturating_sub(1);
        }
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(head: &str) -> bool {
        Plain::of(head.as_bytes()).is_some()
    }

    #[test]
    fn only_the_plainest_requests_are_answered_here() {
        let head = |first: &str, more: &str| format!("{first} HTTP/1.1\r\nHost: a\r\n{more}\r\n");
        let poll = "GET /_floodgate/rooms/shoes/status";
        assert!(plain(&head(poll, "")));
        assert!(plain(&head(poll, "Connection: Keep-Alive\r\nContent-Length: 0\r\nCookie: a=b\r\n")));
        assert!(plain(&head("POST /_floodgate/rooms/shoes/tickets", "Content-Length: 0\r\n")));
        for more in [
            "Content-Length: 1\r\n",
            "Content-Length: 0, 0\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Connection: close\r\n",
            "Connection: keep-alive, cookie\r\n",
            "Upgrade: websocket\r\n",
            "Expect: 100-continue\r\n",
            "Host: again\r\n",
            " folded: a\r\n",
            "bad name: a\r\n",
        ] {
            assert!(!plain(&head(poll, more)), "{more}");
        }
        for first in [
            "HEAD /_floodgate/rooms/shoes/status",
            "GET  /_floodgate/rooms/shoes/status",
            "GETS /_floodgate/rooms/shoes/status",
            "GET /_floodgate/rooms/shoes/status?a",
            "GET /_floodgate/rooms/shoes/status/",
            "GET /_floodgate/rooms/shoes/events",
            "GET /_floodgate/rooms/shoes/a/status",
            "GET http://a/_floodgate/rooms/shoes/status",
            "GET /deals/status",
        ] {
            assert!(!plain(&head(first, "")), "{first}");
        }
        let whole = head(poll, "");
        assert!(!plain(&whole.replace("1.1", "1.0")) && !plain(&format!("{whole}G")));
        assert!(!plain(&format!("\r\n{whole}")), "an empty line in front is Pingora's to judge");
        assert!((0..whole.len()).all(|cut| !plain(&whole[..cut])), "a part of a head is not a head");
        assert!(!plain(&head(poll, &"a: b\r\n".repeat(HEADERS_MAX))));
        assert!(!plain(&head(poll, &format!("a: {}\r\n", "b".repeat(HEAD_BYTES_MAX)))));
    }
}
