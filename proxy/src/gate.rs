//! The gate as Pingora's phases see it. The phases only call: what to do is decided in
//! [`crate::canonical`], [`crate::route`], [`crate::decide`] and [`crate::enter`].

use crate::api;
use crate::assertion::Assertions;
use crate::canonical::CanonicalPath;
use crate::copy::Lang;
use crate::decide::Asks;
use crate::desk::{Asked, Desk};
use crate::enter::{Entry, Inside, enter, unknown_room};
use crate::head;
use crate::health::Trial;
use crate::identity::{self, Admitted};
use crate::lease;
use crate::limits::client_address;
use crate::mailbox;
use crate::metric;
use crate::reply::Reply;
use crate::rooms::Room;
use crate::route::RouteTable;
use crate::stream;
use crate::upstream::Upstream;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use metrics::{counter, histogram};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};
use queue::pass::Pass;
use service_kit::clock::{monotonic, now_ms};
use service_kit::http::trace_id;
use service_kit::problem::{Problem, Slug};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

/// The proxy.
#[derive(Debug)]
pub struct Gate {
    /// What answers need.
    pub desk: Arc<Desk>,
    /// Which path goes where.
    pub table: RouteTable,
    /// The services behind, in the order of the configuration.
    pub upstreams: Arc<Vec<Upstream>>,
    /// How many proxies in front are believed.
    pub trusted_proxies: usize,
    /// What foreign upstreams are told.
    pub assertions: Assertions,
}

/// What is remembered about one request.
#[derive(Debug)]
pub struct Ctx {
    started: Instant,
    route: Arc<str>,
    outcome: Option<&'static str>,
    client: IpAddr,
    asks: Asks,
    upstream: Option<usize>,
    upstream_asked: Option<Instant>,
    /// What this request tells about the upstream of its room.
    trial: Option<Trial>,
    /// Who is let in where.
    inside: Option<(Arc<Room>, Pass)>,
    admitted: Option<Admitted>,
    cookies: Vec<String>,
    /// A longer pass for an app.
    pass_header: Option<String>,
    /// The target without the gate's own parameters, when it has any.
    clean_target: Option<String>,
    /// An event stream: its length says nothing about speed.
    stream: bool,
    /// The socket was taken out of the session: nothing may be read from it any more.
    handed_over: bool,
    counted: bool,
}

/// What the first phase decides.
enum Verdict {
    Forward,
    Answer(Reply),
    /// An event stream begins.
    Stream(stream::Opening),
    /// An address is to be read from the body.
    Mail(mailbox::Wish),
}

impl Gate {
    /// Everything from the raw head to the decision. `Err` is an answer that ends the request early.
    async fn decide(&self, session: &Session, ctx: &mut Ctx) -> Result<Verdict, Reply> {
        let request = session.req_header();
        ctx.client = client_address(
            session.client_addr().and_then(|a| a.as_inet()).map(std::net::SocketAddr::ip),
            &request.headers,
            self.trusted_proxies,
        );
        ctx.asks = Asks::of(&request.method, &request.headers);
        head::check(&request.method, &request.headers).map_err(|bad| bad.reply())?;
        let path = CanonicalPath::parse(request.raw_path())
            .map_err(|refusal| Reply::problem(&Problem::new(Slug::BadPath, refusal.to_string())))?;
        let asked = Asked {
            method: &request.method,
            path: &path,
            headers: &request.headers,
            asks: ctx.asks,
            client: ctx.client,
            body_bytes: Asked::body_bytes_of(&request.headers),
        };
        if let Some(room) = stream::room_of(&path) {
            ctx.route = stream::LABEL.into();
            return stream::open(&self.desk, &asked, room).map(Verdict::Stream);
        }
        if let Some(room) = mailbox::room_of(&path) {
            ctx.route = mailbox::LABEL.into();
            return mailbox::wish(&self.desk, &asked, room).map(Verdict::Mail);
        }
        if api::is_own(&path) {
            let (label, reply) = Box::pin(api::answer(&self.desk, &asked)).await;
            ctx.route = label.into();
            return Ok(Verdict::Answer(reply));
        }
        ctx.clean_target = path.without_own_parameters();
        self.refuse_another_case(&path)?;
        let Some(matched) = self.table.find(&path) else { return Err(api::not_found()) };
        ctx.route = matched.pattern.clone();
        let Some(room) = matched.room else {
            ctx.upstream = Some(matched.upstream);
            return Ok(Verdict::Forward);
        };
        let room = self
            .desk
            .room(room.as_str())
            .map_err(|reply| unknown_room(&self.desk, ctx.asks, &request.headers, reply))?;
        match enter(&self.desk, &asked, &room).await {
            Entry::Forward(inside) => {
                let Inside { admitted, pass, cookies, pass_header } = *inside;
                ctx.upstream = Some(matched.upstream);
                ctx.admitted = Some(admitted);
                ctx.inside = Some((room, pass));
                (ctx.cookies, ctx.pass_header) = (cookies, pass_header);
                Ok(Verdict::Forward)
            }
            Entry::Bypass => {
                ctx.upstream = Some(matched.upstream);
                ctx.outcome = Some("bypass");
                Ok(Verdict::Forward)
            }
            Entry::Answer { reply, outcome } => {
                ctx.outcome = Some(outcome);
                Ok(Verdict::Answer(reply))
            }
        }
    }

    fn refuse_another_case(&self, path: &CanonicalPath) -> Result<(), Reply> {
        if !self.desk.rooms.any_ignores_case() {
            return Ok(());
        }
        let ignores = |room: &service_kit::ids::RoomId| {
            self.desk.rooms.get(room.as_str()).is_some_and(|r| r.settings.load().case_insensitive)
        };
        if self.table.guarded_in_another_case(path, ignores) {
            return Err(Reply::problem(&Problem::new(Slug::BadPath, "This path is written in another letter case.")));
        }
        Ok(())
    }

    fn upstream_error(e: &Error) -> &'static str {
        match e.etype() {
            ErrorType::ConnectTimedout
            | ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError => "connect",
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => "timeout",
            _ => "reset",
        }
    }

    /// The answer when the upstream failed before its response began.
    fn failed(&self, session: &Session, ctx: &Ctx, e: &Error) -> Option<Reply> {
        match (e.etype(), e.esource()) {
            (ErrorType::HTTPStatus(code), _) => {
                Some(Reply::problem_as(*code, &Problem::new(Slug::BadRequest, "The request was refused.")))
            }
            (ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed, ErrorSource::Downstream) => {
                None
            }
            (_, ErrorSource::Downstream) => Some(Reply::problem(&Problem::new(
                Slug::BadRequest,
                "The request did not arrive whole. Send it again.",
            ))),
            (_, ErrorSource::Internal | ErrorSource::Unset) => Some(Reply::problem(&Problem::internal(e))),
            (_, ErrorSource::Upstream) => {
                counter!(metric::UPSTREAM_ERRORS, "reason" => Self::upstream_error(e)).increment(1);
                Some(match ctx.asks {
                    Asks::Api => Reply::problem(
                        &Problem::new(
                            Slug::UpstreamUnavailable,
                            "The service behind the gate does not answer. Try again.",
                        )
                        .retry_after_s(1),
                    ),
                    _ => self.desk.pages.upstream_away(Lang::of(&session.req_header().headers)),
                })
            }
        }
    }
}

#[async_trait]
impl ProxyHttp for Gate {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx {
            started: monotonic(),
            route: "none".into(),
            outcome: None,
            client: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            asks: Asks::Api,
            upstream: None,
            upstream_asked: None,
            trial: None,
            inside: None,
            admitted: None,
            cookies: Vec::new(),
            pass_header: None,
            clean_target: None,
            stream: false,
            handed_over: false,
            counted: false,
        }
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> pingora::Result<bool> {
        self.desk.hot.inflight.increment(1.0);
        ctx.counted = true;
        let reply = match self.decide(session, ctx).await {
            Ok(Verdict::Forward) => return Ok(false),
            Ok(Verdict::Stream(opening)) => {
                opening.begin(session).await?;
                ctx.handed_over = true;
                return Ok(true);
            }
            Ok(Verdict::Mail(wish)) => wish.answer(&self.desk, session).await,
            Ok(Verdict::Answer(reply)) | Err(reply) => reply,
        };
        let head_only = session.req_header().method == Method::HEAD;
        reply.send(session, head_only).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _session: &mut Session, ctx: &mut Ctx) -> pingora::Result<Box<HttpPeer>> {
        let now = monotonic();
        ctx.trial = ctx.inside.as_ref().map(|(room, _)| room.health.begin(&room.settings.load(), now));
        ctx.upstream
            .and_then(|i| self.upstreams.get(i))
            .and_then(Upstream::peer)
            .map(Box::new)
            .ok_or_else(|| Error::new_up(ErrorType::ConnectNoRoute))
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> pingora::Result<()> {
        ctx.upstream_asked = Some(monotonic());
        let is_foreign = ctx.upstream.and_then(|i| self.upstreams.get(i)).is_some_and(Upstream::is_foreign);
        let assertion = match &ctx.admitted {
            Some(admitted) if is_foreign => Some(
                self.assertions
                    .mint(admitted, now_ms())
                    .map_err(|e| Error::because(ErrorType::InternalError, "mint an assertion", e))?,
            ),
            _ => None,
        };
        if let Some(target) = &ctx.clean_target {
            request.set_raw_path(target.as_bytes())?;
        }
        let trace_id = trace_id(&request.headers);
        identity::apply(request, ctx.client, &trace_id, ctx.admitted.as_ref(), assertion.as_deref())
    }

    /// An empty last chunk must not reach an HTTP/1 upstream as a chunk: it would be read as the end of
    /// the body twice, and poison the connection (cloudflare/pingora#935).
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        _ctx: &mut Ctx,
    ) -> pingora::Result<()> {
        if end && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> pingora::Result<()> {
        if let Some(asked) = ctx.upstream_asked.take() {
            histogram!(metric::UPSTREAM_DURATION, "route" => ctx.route.clone()).record(asked.elapsed().as_secs_f64());
        }
        if response.status.is_server_error() {
            counter!(metric::UPSTREAM_ERRORS, "reason" => "5xx").increment(1);
        }
        ctx.stream =
            response.headers.get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"text/event-stream"));
        // An event stream is dropped here: it says nothing about how the upstream does.
        if !response.status.is_informational()
            && let Some(trial) = ctx.trial.take().filter(|_| !ctx.stream)
        {
            trial.answered(response.status.is_server_error(), monotonic());
        }
        if identity::take_commands(response)
            && let Some((room, pass)) = ctx.inside.take()
        {
            ctx.pass_header = None;
            ctx.cookies = lease::end_session(&self.desk, &room, pass).await;
        }
        if let Some(pass) = ctx.pass_header.take() {
            response.insert_header("Floodgate-Pass", pass)?;
            response.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
        }
        if !ctx.cookies.is_empty() {
            for cookie in ctx.cookies.drain(..) {
                response.append_header(header::SET_COOKIE, cookie)?;
            }
            // A cache that stored this answer would hand one visitor's pass to everybody.
            response.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
        }
        Ok(())
    }

    /// A client that leaves is no error of ours: counted, not logged, or the end of a sale floods the log.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, error: &Error) -> bool {
        let theirs = *error.esource() == ErrorSource::Downstream;
        if theirs {
            counter!(metric::CLIENT_ABORTS).increment(1);
        }
        theirs
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Ctx) -> FailToProxy {
        if let Some(trial) = ctx.trial.take().filter(|_| *e.esource() == ErrorSource::Upstream) {
            trial.answered(true, monotonic());
        }
        let mut error_code = 0;
        if session.response_written().is_none()
            && let Some(reply) = self.failed(session, ctx, e)
        {
            error_code = reply.status;
            // The cookies of a claim that succeeded must arrive, or the pass would be lost with the answer.
            let reply = reply.cookies(std::mem::take(&mut ctx.cookies));
            let head_only = session.req_header().method == Method::HEAD;
            if reply.send(session, head_only).await.is_err() {
                error_code = 0;
            }
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _e: Option<&Error>, ctx: &mut Ctx) {
        if !ctx.counted {
            return;
        }
        self.desk.hot.inflight.decrement(1.0);
        if ctx.handed_over {
            counter!(metric::REQUESTS, "route" => stream::LABEL, "method" => "GET", "code_class" => "2xx", "outcome" => "queued")
                .increment(1);
            return;
        }
        let status = session.response_written().map_or(0, |r| r.status.as_u16());
        let started = (!ctx.stream).then_some(ctx.started);
        metric::finished(
            &self.desk.hot,
            ctx.route.clone().into(),
            &session.req_header().method,
            status,
            ctx.outcome,
            started,
        );
    }
}
