//! What every answer of the gate needs: rooms, signers, limits, pages. One per process, shared by all requests.

use crate::api::{not_found, store_away, ticket_invalid};
use crate::canonical::CanonicalPath;
use crate::cookie;
use crate::decide::Asks;
use crate::limits::{Limited, Limits};
use crate::mailer::Mail;
use crate::metric::Hot;
use crate::newcomer::Door;
use crate::page::Pages;
use crate::people_metric::COPIED_PASSES;
use crate::reply::Reply;
use crate::rooms::{Knowledge, Room, Rooms};
use crate::streams::Streams;
use crate::visit::Visits;
use bytes::Bytes;
use http::{HeaderMap, Method, header};
use metrics::counter;
use queue::pass::Pass;
use queue::settings::CopiedPass;
use queue::ticket::Ticket;
use service_kit::http::cookie;
use service_kit::problem::{Problem, Slug};
use std::net::IpAddr;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub struct Desk {
    /// The rooms of this gate.
    pub rooms: Arc<Rooms>,
    /// Joins, claims, leaves.
    pub visits: Visits,
    /// Limits per address.
    pub limits: Arc<Limits>,
    /// What newcomers and passes are checked with.
    pub door: Door,
    /// Event streams.
    pub streams: Arc<Streams>,
    /// Letters, if there is a mail server.
    pub mail: Option<Arc<Mail>>,
    /// The pages.
    pub pages: Pages,
    /// The public keys of assertions, as JSON.
    pub jwks: Bytes,
    /// Whether cookies carry `Secure`.
    pub cookie_secure: bool,
    /// `host[:port]` under which shoppers know the gate.
    pub public_host: String,
    /// Metric handles.
    pub hot: Hot,
}

/// A request, as far as the gate's own answers look at it. Its path is canonical already.
#[derive(Debug)]
pub struct Asked<'r> {
    /// The method.
    pub method: &'r Method,
    /// The path.
    pub path: &'r CanonicalPath,
    /// The headers as the client sent them.
    pub headers: &'r HeaderMap,
    /// Who asks, for the form of the answer.
    pub asks: Asks,
    /// The client's address.
    pub client: IpAddr,
    /// Bytes of the body by `Content-Length`; `None` when the length is not told.
    pub body_bytes: Option<u64>,
}

/// What a request presents as a pass.
#[derive(Debug)]
pub enum Presented<'r> {
    /// Nothing that is valid.
    Nothing,
    /// A valid one.
    Pass {
        /// What it says.
        pass: Pass,
        /// The token.
        token: &'r str,
        /// It came in the header, as apps send it, and not in the cookie.
        by_header: bool,
    },
    /// A valid one, but it belongs to another browser and the room refuses that.
    OfAnotherBrowser,
}

impl<'r> Asked<'r> {
    /// Length of the body by the head alone.
    pub fn body_bytes_of(headers: &HeaderMap) -> Option<u64> {
        if headers.contains_key(header::TRANSFER_ENCODING) {
            return None;
        }
        match headers.get(header::CONTENT_LENGTH) {
            None => Some(0),
            Some(value) => value.to_str().ok()?.parse().ok(),
        }
    }
    fn ticket_header(&self) -> Option<&'r str> {
        let bearer = self
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.strip_prefix("Ticket "));
        bearer.or_else(|| self.headers.get("floodgate-ticket").and_then(|v| v.to_str().ok()))
    }
    /// Whether a ticket was sent in a header, on purpose, rather than by cookie.
    pub fn has_ticket_header(&self) -> bool {
        self.ticket_header().is_some()
    }
}

impl Desk {
    /// A known room.
    ///
    /// # Errors
    /// 404 when the list of rooms is fresh, 503 when the room may exist.
    pub fn room(&self, name: &str) -> Result<Arc<Room>, Reply> {
        self.rooms.get(name).ok_or_else(|| match self.rooms.knowledge() {
            Knowledge::Fresh => not_found(),
            Knowledge::Unsure => store_away(),
        })
    }

    /// Refuses what another site makes a browser send: a foreign form could otherwise replace somebody's
    /// ticket by a new one at the end of the line. Programs send neither header.
    ///
    /// # Errors
    /// 403.
    pub fn same_site(&self, headers: &HeaderMap) -> Result<(), Reply> {
        let text = |name: header::HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or(""));
        let foreign = text(header::HeaderName::from_static("sec-fetch-site"))
            .is_some_and(|v| v != "same-origin" && v != "none")
            || text(header::ORIGIN).is_some_and(|origin| {
                let host = origin.split_once("://").map_or("", |(_, host)| host);
                host.is_empty() || (Some(host) != text(header::HOST) && host != self.public_host)
            });
        if foreign {
            return Err(Reply::problem(&Problem::new(
                Slug::Forbidden,
                "Another site sent this request. Do it on this site's own page.",
            )));
        }
        Ok(())
    }

    /// Takes one from the client's budget.
    ///
    /// # Errors
    /// 429 with `Retry-After`.
    pub fn within_limits(&self, what: Limited, client: IpAddr) -> Result<(), Reply> {
        self.limits.check(what, client).map_err(|seconds| {
            match what {
                Limited::Join => self.hot.limited_join.increment(1),
                Limited::Claim => self.hot.limited_claim.increment(1),
                Limited::Code => self.hot.limited_code.increment(1),
                Limited::Poll => self.hot.limited_poll.increment(1),
            }
            let problem = Problem::new(
                Slug::TooManyRequests,
                "Too many requests from your network. Your place is kept; slow down.",
            );
            Reply::problem(&problem.retry_after_s(seconds))
        })
    }

    /// The ticket of a request: from the header, else from the cookie. `None` when there is none.
    ///
    /// # Errors
    /// 401 for a ticket that is not ours, altered, or of another room.
    pub fn ticket(&self, asked: &Asked<'_>, room: &Room) -> Result<Option<Ticket>, Reply> {
        match asked.ticket_header().or_else(|| cookie(asked.headers, &room.cookies.ticket)) {
            None | Some("") => Ok(None),
            Some(token) => self.visits.ticket(token, room).map(Some).ok_or_else(ticket_invalid),
        }
    }

    /// The pass of a request: from the header, else from the cookie.
    pub fn pass<'r>(&self, headers: &'r HeaderMap, room: &Room, policy: CopiedPass) -> Presented<'r> {
        let header = headers.get("floodgate-pass").and_then(|v| v.to_str().ok());
        let cookie = cookie(headers, &room.cookies.pass).filter(|c| !c.is_empty());
        let found = [(header, true), (cookie, false)].into_iter().find_map(|(token, by_header)| {
            let token = token?;
            let pass = self.visits.pass(token, room)?;
            Some(Presented::Pass { pass, token, by_header })
        });
        match (&found, header.or(cookie)) {
            (Some(_), _) => self.hot.pass_valid.increment(1),
            (None, Some(_)) => self.hot.pass_invalid.increment(1),
            (None, None) => self.hot.pass_missing.increment(1),
        }
        match found {
            Some(Presented::Pass { pass, .. }) if !self.accepts(headers, room, &pass, policy) => {
                Presented::OfAnotherBrowser
            }
            Some(found) => found,
            None => Presented::Nothing,
        }
    }

    /// Whether this browser may use the pass: the one that claimed it, or any where the room only warns.
    pub fn accepts(&self, headers: &HeaderMap, room: &Room, pass: &Pass, policy: CopiedPass) -> bool {
        self.door.browsers.same(pass.browser, headers) || !self.is_refused(room, pass, policy)
    }

    /// A pass of another browser: counted each time, logged once.
    fn is_refused(&self, room: &Room, pass: &Pass, policy: CopiedPass) -> bool {
        let (policy, is_refused) = match policy {
            CopiedPass::Warn => ("warn", false),
            CopiedPass::Refuse => ("refuse", true),
        };
        counter!(COPIED_PASSES, "policy" => policy).increment(1);
        if room.people.copied.first(pass.number) {
            tracing::warn!(room = %room.id, lease = pass.number, visitor = %pass.visitor, policy, "a pass is used in (or its ticket claims from) another browser than its own");
        }
        is_refused
    }

    /// `Set-Cookie` for a pass; the cookie ends with the lease.
    pub fn pass_cookie(&self, room: &Room, token: &str, expires_at_ms: i64) -> String {
        let seconds = u64::try_from(expires_at_ms.saturating_sub(room.now_ms()) / 1_000).unwrap_or(0);
        cookie::set(&room.cookies.pass, token, seconds, self.cookie_secure)
    }

    /// Where a form sends a browser back to: the path it came from if that is a canonical path of this
    /// site, else the room's entrance. Only a path is ever taken over, never a host.
    pub fn way_back(&self, asked: &Asked<'_>, room: &Room) -> String {
        let referer = asked.headers.get(header::REFERER).and_then(|v| v.to_str().ok());
        let host = asked.headers.get(header::HOST).and_then(|v| v.to_str().ok());
        referer
            .and_then(|r| r.split_once("://"))
            .and_then(|(_, rest)| rest.strip_prefix(host?))
            .and_then(|target| CanonicalPath::parse(target.as_bytes()).ok())
            .filter(|path| !crate::api::is_own(path))
            .map(|path| path.without_own_parameters().unwrap_or_else(|| path.target()))
            .unwrap_or_else(|| room.settings.load().enter_path.clone())
    }
}
