//! A request for a protected path, from the pure decision to its effect.
//!
//! Steps and what a crash after each leaves: join (a number in line that nobody holds a ticket for; it is
//! skipped in silence) → claim (a lease that ends by itself; the same ticket gets the same pass again) →
//! forward. Two tabs may do it at once: both get the same pass.

use crate::api::{pass_of_another_browser, store_away};
use crate::ask_page::{Ask, DROP, clean};
use crate::bypass::{self, Bypassed};
use crate::cookie::{self, TICKET_MAX_AGE_S};
use crate::copy::Lang;
use crate::decide::{Asks, Decision, Facts, decide};
use crate::desk::{Asked, Desk, Presented};
use crate::identity::Admitted;
use crate::lease;
use crate::limits::Limited;
use crate::newcomer::{self, Brings, Refused, lang, onward};
use crate::page::{Offers, Waiting};
use crate::people_metric as metric;
use crate::reply::Reply;
use crate::rooms::{Room, View};
use crate::status_json::with_status;
use crate::visit::{Claimed, JoinedNow, Wish};
use metrics::counter;
use queue::board::VisitorState;
use queue::lane::DEMOTED;
use queue::line::CodeUse;
use queue::pass::Pass;
use queue::settings::{OnePlacePer, Refresh, RoomSettings};
use queue::ticket::Ticket;
use service_kit::problem::{Problem, Slug};

/// What happens to the request.
#[derive(Debug)]
pub enum Entry {
    /// It goes on to the upstream, and comes from somebody with a pass.
    Forward(Box<Inside>),
    /// It goes on to the upstream, from nobody in particular.
    Bypass,
    /// It ends here.
    Answer {
        /// With this.
        reply: Reply,
        /// The label in metrics: `queued`, `sold_out`, `limited`, `denied`, `error`.
        outcome: &'static str,
    },
}

/// Somebody who is let in.
#[derive(Debug)]
pub struct Inside {
    /// What the upstream is told.
    pub admitted: Admitted,
    /// The pass.
    pub pass: Pass,
    /// `Set-Cookie` values for the answer.
    pub cookies: Vec<String>,
    /// A longer pass for an app, in the header `Floodgate-Pass` of the answer.
    pub pass_header: Option<String>,
}

/// What a browser's visit has come to before the page is shown.
struct Visit {
    ticket: Option<Ticket>,
    cookies: Vec<String>,
    store_failed: bool,
}

impl Visit {
    fn with(ticket: Option<Ticket>) -> Self {
        Self { ticket, cookies: Vec::new(), store_failed: false }
    }
}

/// Lets a request in, or answers it. What is not asked for with every request of somebody inside is in boxes: the
/// future of a request is made and moved each time, and its size is paid for.
pub async fn enter(desk: &Desk, asked: &Asked<'_>, room: &Room) -> Entry {
    match desk.pass(asked.headers, room, room.settings.load().copied_pass) {
        Presented::Pass { pass, token, by_header } => {
            desk.hot.by_cache.increment(1);
            match lease::is_due(&pass, room.now_ms()) {
                true => Box::pin(lease::carry_on(desk, room, pass, token, by_header)).await,
                false => forward(pass, token.to_owned(), Vec::new()),
            }
        }
        presented => Box::pin(enter_without_pass(desk, asked, room, presented)).await,
    }
}

async fn enter_without_pass(desk: &Desk, asked: &Asked<'_>, room: &Room, presented: Presented<'_>) -> Entry {
    let settings = room.settings.load_full();
    let is_crawler = desk.door.is_crawler(asked.client);
    if !settings.bypass.is_empty()
        && let Some(bypassed) = bypassed(asked, room, &settings, is_crawler)
    {
        counter!(metric::BYPASSED, "rule" => bypassed.label()).increment(1);
        return Entry::Bypass;
    }
    if is_crawler {
        return answer(newcomer::crawler(desk, asked), "denied");
    }
    if let Presented::OfAnotherBrowser = presented {
        return of_another_browser(desk, asked, room);
    }
    if asked.asks == Asks::Navigation
        && asked.path.parameter(newcomer::CODE) == Some("")
        && let Some(ask) = code_page(&settings)
    {
        let here = onward(&settings, &clean(asked.path));
        return match desk.within_limits(Limited::Poll, asked.client) {
            Ok(()) => answer(desk.door.ask(lang(asked), ask, &here), "queued"),
            Err(reply) => answer(busy(desk, asked, reply), "limited"),
        };
    }
    // A ticket that is not good counts as none: the way to a new one is open anyway.
    let ticket = desk.ticket(asked, room).unwrap_or(None);
    let view = room.view(ticket.as_ref());
    let facts = Facts {
        asks: asked.asks,
        degraded: view.degraded,
        status: view.status.as_ref(),
        presence: view.presence,
        // An address with a parameter of the gate's own is the page's own way: a reload of it, a link, a form's answer.
        reloads: settings.refresh == Refresh::Requeue && asked.path.without_own_parameters().is_none(),
        brings: newcomer::brings_something(asked),
    };
    let decision = decide(facts, ticket.as_ref());
    if let Some(ticket) = &ticket {
        // Opening the page is a sign of life too: without JavaScript it is the only one.
        let _ = room.beat(ticket);
    }
    match decision {
        Decision::Join | Decision::Requeue | Decision::Claim => {}
        _ if view.degraded => desk.hot.fail_closed.increment(1),
        _ => desk.hot.by_cache.increment(1),
    }
    match (decision, ticket) {
        (Decision::Join, ticket) => join(desk, asked, room, Brings { old: ticket.as_ref(), ..Brings::default() }).await,
        (Decision::Requeue, Some(old)) => requeue(desk, asked, room, old).await,
        (Decision::Claim, Some(ticket)) => claim(desk, asked, room, Visit::with(Some(ticket))).await,
        (Decision::Page, Some(ticket)) if asked.asks == Asks::Navigation && !view.degraded => {
            waiting(desk, asked, room, &settings, ticket).await
        }
        (Decision::Page, ticket) => page(desk, asked, room, Visit::with(ticket)),
        (Decision::SeeOther, _) => answer(Reply::see_other(&onward(&settings, &clean(asked.path))), "queued"),
        (Decision::Wait, _) => answer(wait(&view, room), "queued"),
        (Decision::Ended, _) => answer(ended(&view), "sold_out"),
        (Decision::Unavailable | Decision::Claim | Decision::Requeue, _) => answer(store_away(), "error"),
    }
}

fn answer(reply: Reply, outcome: &'static str) -> Entry {
    Entry::Answer { reply, outcome }
}

/// What `?fg_code=` without a code shows: the form, where codes mean something.
fn code_page(settings: &RoomSettings) -> Option<Ask> {
    match (settings.invite_only, settings.lanes.is_empty()) {
        (true, _) => Some(Ask::Invitation),
        (false, false) => Some(Ask::Code),
        (false, true) => None,
    }
}

fn bypassed(
    asked: &Asked<'_>,
    room: &Room,
    settings: &std::sync::Arc<RoomSettings>,
    is_crawler: bool,
) -> Option<Bypassed> {
    let request = bypass::Request {
        method: asked.method,
        path: asked.path,
        headers: asked.headers,
        client: asked.client,
        is_crawler,
    };
    room.people.rules(settings).find(&request)
}

/// Somebody presents another browser's pass in a room that refuses that. A browser may let go of it.
fn of_another_browser(desk: &Desk, asked: &Asked<'_>, room: &Room) -> Entry {
    if asked.asks == Asks::Api {
        return answer(pass_of_another_browser(), "denied");
    }
    let here = clean(asked.path);
    if asked.asks == Asks::Navigation && asked.path.parameter(DROP).is_some() {
        let cleared = [&room.cookies.ticket, &room.cookies.pass].map(|name| cookie::clear(name, desk.cookie_secure));
        return answer(Reply::see_other(&here).cookies(cleared), "denied");
    }
    answer(desk.door.ask(lang(asked), Ask::ForeignPass, &here), "denied")
}

/// Somebody with a pass goes on to the upstream.
pub(crate) fn forward(pass: Pass, token: String, cookies: Vec<String>) -> Entry {
    let admitted =
        Admitted { room: pass.room.to_string(), visitor: pass.visitor.to_string(), lease: pass.number, pass: token };
    Entry::Forward(Box::new(Inside { admitted, pass, cookies, pass_header: None }))
}

/// A reload in a room where that costs the place. The old number is given up first: whoever holds two would gain by it.
async fn requeue(desk: &Desk, asked: &Asked<'_>, room: &Room, old: Ticket) -> Entry {
    if let Err(reply) = desk.within_limits(Limited::Join, asked.client) {
        return answer(busy(desk, asked, reply), "limited");
    }
    if let Err(error) = desk.visits.leave(&desk.rooms, room, &old).await {
        tracing::warn!(room = %room.id, %error, "leave failed");
        desk.hot.fail_closed.increment(1);
        return page(desk, asked, room, Visit { store_failed: true, ..Visit::with(Some(old)) });
    }
    counter!(metric::REQUEUED).increment(1);
    join(desk, asked, room, Brings { old: Some(&old), requeues: true, key: None }).await
}

async fn join(desk: &Desk, asked: &Asked<'_>, room: &Room, brings: Brings<'_>) -> Entry {
    if let Err(reply) = desk.within_limits(Limited::Join, asked.client) {
        return answer(busy(desk, asked, reply), "limited");
    }
    let settings = room.settings.load_full();
    let welcome = match newcomer::check(desk, asked, room, &settings, brings) {
        Ok(welcome) => welcome,
        Err(refused) => return refuse(desk, asked, room, &refused, None),
    };
    match newcomer::join(desk, asked, room, welcome).await {
        Ok(joined) => {
            desk.hot.by_redis.increment(1);
            placed(desk, asked, room, &settings, joined).await
        }
        Err(refused) => refuse(desk, asked, room, &refused, None),
    }
}

/// Somebody got a number just now.
async fn placed(desk: &Desk, asked: &Asked<'_>, room: &Room, settings: &RoomSettings, joined: JoinedNow) -> Entry {
    let ticket = cookie::set(&room.cookies.ticket, &joined.token, TICKET_MAX_AGE_S, desk.cookie_secure);
    let visit = Visit { cookies: vec![ticket], ..Visit::with(Some(joined.ticket)) };
    if joined.called {
        return claim(desk, asked, room, visit).await;
    }
    if crate::entry::is_spelled_out(asked) {
        // What was brought is used: it shall not stay in the address, where a reload or a friend would bring it again.
        let on = onward(settings, &clean(asked.path));
        return answer(Reply::see_other(&on).cookies(visit.cookies), "queued");
    }
    page(desk, asked, room, visit)
}

/// Somebody without a number is told why; whoever has one keeps it and sees the page.
fn refuse(desk: &Desk, asked: &Asked<'_>, room: &Room, refused: &Refused, ticket: Option<Ticket>) -> Entry {
    if let Err(reply) = desk.within_limits(Limited::Poll, asked.client) {
        return answer(busy(desk, asked, reply), "limited");
    }
    if *refused == Refused::Away {
        desk.hot.fail_closed.increment(1);
        return page(desk, asked, room, Visit { store_failed: true, ..Visit::with(ticket) });
    }
    answer(refused.page(desk, asked, room, &clean(asked.path)), refused.outcome())
}

/// The page for somebody in line; who brings a code for another lane changes over. Where each person has one place, a
/// code counts when the number is taken.
async fn waiting(desk: &Desk, asked: &Asked<'_>, room: &Room, settings: &RoomSettings, ticket: Ticket) -> Entry {
    let in_line = room.view(Some(&ticket)).status.is_some_and(|s| s.ahead.is_some());
    if !in_line || settings.one_place_per == OnePlacePer::Person || asked.path.parameter(newcomer::CODE).is_none() {
        return page(desk, asked, room, Visit::with(Some(ticket)));
    }
    let code = match newcomer::code(desk, asked, room, settings) {
        // A word that anybody may know does not undo a demotion.
        Ok(Some(code)) if ticket.lane() == DEMOTED && code.uses_max.is_none() => {
            return page(desk, asked, room, Visit::with(Some(ticket)));
        }
        Ok(Some(code)) if code.lane != 0 && code.lane != ticket.lane() => code,
        Ok(_) => return page(desk, asked, room, Visit::with(Some(ticket))),
        Err(refused) => return refuse(desk, asked, room, &refused, Some(ticket)),
    };
    if let Err(reply) = desk.within_limits(Limited::Join, asked.client) {
        return answer(busy(desk, asked, reply), "limited");
    }
    let wish = Wish {
        // The one successor of this number: sent twice, it is one change.
        key: Some(newcomer::successor_key(&ticket)),
        lane: code.lane,
        code: code.uses_max.map(|n| CodeUse { id: code.id, uses_max: Some(n) }),
        nonce: ticket.nonce.clone(),
    };
    match newcomer::join(desk, asked, room, newcomer::Welcome { wish, person: None }).await {
        Ok(joined) => {
            desk.hot.by_redis.increment(1);
            // The new number is safe, so the old one may go; if that fails it is skipped in silence later.
            if let Err(error) = desk.visits.leave(&desk.rooms, room, &ticket).await {
                tracing::warn!(room = %room.id, %error, "leave failed");
            }
            placed(desk, asked, room, settings, joined).await
        }
        Err(refused) => refuse(desk, asked, room, &refused, Some(ticket)),
    }
}

async fn claim(desk: &Desk, asked: &Asked<'_>, room: &Room, mut visit: Visit) -> Entry {
    if let Err(reply) = desk.within_limits(Limited::Claim, asked.client) {
        return answer(busy(desk, asked, reply).cookies(visit.cookies), "limited");
    }
    let Some(ticket) = &visit.ticket else { return answer(store_away(), "error") };
    let browser = desk.door.browsers.fingerprint(asked.headers);
    match desk.visits.claim(&desk.rooms, room, ticket, browser).await {
        // A copy of the ticket: the lease runs in another browser.
        Ok(Claimed::Pass { pass, .. })
            if !desk.accepts(asked.headers, room, &pass, room.settings.load().copied_pass) =>
        {
            desk.hot.by_redis.increment(1);
            of_another_browser(desk, asked, room)
        }
        Ok(Claimed::Pass { pass, token }) => {
            desk.hot.by_redis.increment(1);
            visit.cookies.push(desk.pass_cookie(room, &token, pass.expires_at_ms));
            match asked.path.without_own_parameters() {
                // The upstream shall not see the waiting page's parameters.
                Some(clean) => answer(Reply::see_other(&clean).cookies(visit.cookies), "ok"),
                None => forward(pass, token, visit.cookies),
            }
        }
        // The page then says what the claim has just taught; somebody who had left takes a new number there.
        Ok(Claimed::NotYourTurn | Claimed::Missed | Claimed::Left) => {
            desk.hot.by_redis.increment(1);
            page(desk, asked, room, visit)
        }
        Err(error) => {
            tracing::warn!(room = %room.id, %error, "claim failed");
            desk.hot.fail_closed.increment(1);
            visit.store_failed = true;
            page(desk, asked, room, visit)
        }
    }
}

fn page(desk: &Desk, asked: &Asked<'_>, room: &Room, visit: Visit) -> Entry {
    if let Err(reply) = desk.within_limits(Limited::Poll, asked.client) {
        return answer(busy(desk, asked, reply).cookies(visit.cookies), "limited");
    }
    let view = room.view(visit.ticket.as_ref());
    let chosen = asked.path.parameter(cookie::LANG).and_then(Lang::from_code);
    let settings = room.settings.load();
    let seen = room.seen.load();
    let draw = seen.as_ref().and_then(|seen| seen.board.draw.as_ref());
    let commitment = draw.map(|lobby| lobby.draw.commitment.to_string());
    let reply = desk.pages.waiting(&Waiting {
        lang: chosen.unwrap_or_else(|| Lang::of(asked.headers)),
        path: asked.path,
        settings: &settings,
        status: view.status.as_ref(),
        degraded: view.degraded || visit.store_failed,
        number: visit.ticket.map(|t| t.number),
        now_ms: room.now_ms(),
        gzip: crate::splice::accepts_gzip(asked.headers),
        offers: Offers {
            mail: desk.mail.is_some(),
            entrants: seen.as_ref().map_or(0, |seen| seen.board.crowd()),
            commitment: commitment.as_deref(),
        },
    });
    let language = chosen.map(|lang| cookie::set(cookie::LANG, lang.code(), 365 * 86_400, desk.cookie_secure));
    let outcome = match view.status.as_ref().map(|s| s.state) {
        Some(VisitorState::SoldOut | VisitorState::Closed) => "sold_out",
        _ => "queued",
    };
    answer(reply.cookies(visit.cookies).cookies(language), outcome)
}

/// 429 for programs that have no pass.
fn wait(view: &View, room: &Room) -> Reply {
    let seconds = view.status.as_ref().map_or(1, |s| s.next_poll_ms.div_ceil(1_000).max(1));
    let problem = Problem::new(
        Slug::WaitInLine,
        "Join the line, poll its status, claim the pass when called, then send this request again.",
    )
    .with("join", format!("/_floodgate/rooms/{}/tickets", room.id))
    .retry_after_s(seconds);
    Reply::problem(&with_status(problem, view, &room.settings.load().enter_path))
}

/// 409 for programs when there is nothing left to wait for.
fn ended(view: &View) -> Reply {
    let sold_out = view.status.as_ref().is_some_and(|s| s.state == VisitorState::SoldOut);
    let problem = if sold_out {
        Problem::new(Slug::SoldOut, "All units are sold. Nothing was charged.")
    } else {
        Problem::new(Slug::RoomClosed, "This sale is over.")
    };
    Reply::problem(&with_status(problem, view, ""))
}

/// A limit was hit: a page for a browser, the problem document for a program.
fn busy(desk: &Desk, asked: &Asked<'_>, problem: Reply) -> Reply {
    match asked.asks {
        Asks::Api => problem,
        Asks::Navigation | Asks::Probe | Asks::Form => {
            let retry_after = problem.header(&http::header::RETRY_AFTER).unwrap_or("1").to_owned();
            desk.pages.busy(Lang::of(asked.headers)).with(http::header::RETRY_AFTER, &retry_after)
        }
    }
}

/// The answer when a room may exist but the store has not told yet.
pub fn unknown_room(desk: &Desk, asks: Asks, headers: &http::HeaderMap, reply: Reply) -> Reply {
    match asks {
        Asks::Navigation | Asks::Probe if reply.status == 503 => {
            desk.pages.store_away(Lang::of(headers)).with(http::header::RETRY_AFTER, "2")
        }
        _ => reply,
    }
}
