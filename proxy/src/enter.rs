//! A request for a protected path, from the pure decision to its effect.
//!
//! Steps and what a crash after each leaves: join (a number in line that nobody holds a ticket for; it is
//! skipped in silence) → claim (a lease that ends by itself; the same ticket gets the same pass again) →
//! forward. Two tabs may do it at once: both get the same pass.

use crate::api::{store_away, with_status};
use crate::cookie::{self, TICKET_MAX_AGE_S};
use crate::copy::Lang;
use crate::decide::{Asks, Decision, Facts, decide};
use crate::desk::{Asked, Desk};
use crate::identity::Admitted;
use crate::limits::Limited;
use crate::page::Waiting;
use crate::reply::Reply;
use crate::rooms::{Room, View};
use crate::visit::Claimed;
use queue::board::VisitorState;
use queue::pass::Pass;
use queue::ticket::Ticket;
use service_kit::problem::{Problem, Slug};

/// What happens to the request.
#[derive(Debug)]
pub enum Entry {
    /// It goes on to the upstream; `cookies` are added to the answer.
    Forward {
        /// Who enters.
        admitted: Admitted,
        /// `Set-Cookie` values.
        cookies: Vec<String>,
    },
    /// It ends here.
    Answer {
        /// With this.
        reply: Reply,
        /// The label in metrics: `queued`, `sold_out`, `limited`, `denied`, `error`.
        outcome: &'static str,
    },
}

/// What a browser's visit has come to before the page is shown.
struct Visit {
    ticket: Option<Ticket>,
    cookies: Vec<String>,
    store_failed: bool,
}

/// Lets a request in, or answers it.
pub async fn enter(desk: &Desk, asked: &Asked<'_>, room: &Room) -> Entry {
    let pass = desk.pass(asked.headers, room);
    // A ticket that is not good counts as none: the way to a new one is open anyway.
    let ticket = desk.ticket(asked, room).unwrap_or(None);
    let view = room.view(ticket.as_ref());
    let facts =
        Facts { asks: asked.asks, degraded: view.degraded, status: view.status.as_ref(), presence: view.presence };
    let decision = decide(facts, pass.as_ref().map(|(p, _)| p), ticket.as_ref());
    if let (None, Some(ticket)) = (&pass, &ticket) {
        // Opening the page is a sign of life too: without JavaScript it is the only one.
        let _ = room.beat(ticket.number);
    }
    match decision {
        Decision::Join | Decision::Claim => {}
        _ if view.degraded && pass.is_none() => desk.hot.fail_closed.increment(1),
        _ => desk.hot.by_cache.increment(1),
    }
    match (decision, pass) {
        (Decision::Forward, Some((pass, token))) => forward(&pass, token, Vec::new()),
        (Decision::Join, _) => join(desk, asked, room).await,
        (Decision::Claim, _) => match ticket {
            Some(ticket) => {
                claim(desk, asked, room, Visit { ticket: Some(ticket), cookies: Vec::new(), store_failed: false }).await
            }
            None => answer(store_away(), "error"),
        },
        (Decision::Page, _) => page(desk, asked, room, Visit { ticket, cookies: Vec::new(), store_failed: false }),
        (Decision::SeeOther, _) => answer(Reply::see_other(&asked.path.target()), "queued"),
        (Decision::Wait, _) => answer(wait(&view, room), "queued"),
        (Decision::Ended, _) => answer(ended(&view), "sold_out"),
        (Decision::Unavailable, _) | (Decision::Forward, None) => answer(store_away(), "error"),
    }
}

fn answer(reply: Reply, outcome: &'static str) -> Entry {
    Entry::Answer { reply, outcome }
}

fn forward(pass: &Pass, token: String, cookies: Vec<String>) -> Entry {
    let admitted =
        Admitted { room: pass.room.to_string(), visitor: pass.visitor.to_string(), lease: pass.number, pass: token };
    Entry::Forward { admitted, cookies }
}

async fn join(desk: &Desk, asked: &Asked<'_>, room: &Room) -> Entry {
    if let Err(reply) = desk.within_limits(Limited::Join, asked.client) {
        return answer(busy(desk, asked, reply), "limited");
    }
    let mut visit = Visit { ticket: None, cookies: Vec::new(), store_failed: false };
    match desk.visits.join(&desk.rooms, room, None).await {
        Ok(joined) => {
            desk.hot.by_redis.increment(1);
            visit.cookies.push(cookie::set(&room.cookies.ticket, &joined.token, TICKET_MAX_AGE_S, desk.cookie_secure));
            visit.ticket = Some(joined.ticket);
            if joined.called {
                return claim(desk, asked, room, visit).await;
            }
        }
        Err(error) => {
            tracing::warn!(room = %room.id, %error, "join failed");
            desk.hot.fail_closed.increment(1);
            visit.store_failed = true;
        }
    }
    page(desk, asked, room, visit)
}

async fn claim(desk: &Desk, asked: &Asked<'_>, room: &Room, mut visit: Visit) -> Entry {
    if let Err(reply) = desk.within_limits(Limited::Join, asked.client) {
        return answer(busy(desk, asked, reply), "limited");
    }
    let Some(ticket) = &visit.ticket else { return answer(store_away(), "error") };
    match desk.visits.claim(&desk.rooms, room, ticket).await {
        Ok(Claimed::Pass { pass, token }) => {
            desk.hot.by_redis.increment(1);
            visit.cookies.push(desk.pass_cookie(room, &token, pass.expires_at_ms));
            match asked.path.without_own_parameters() {
                // The upstream shall not see the waiting page's parameters.
                Some(clean) => answer(Reply::see_other(&clean).cookies(visit.cookies), "ok"),
                None => forward(&pass, token, visit.cookies),
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
    let reply = desk.pages.waiting(&Waiting {
        lang: chosen.unwrap_or_else(|| Lang::of(asked.headers)),
        path: asked.path,
        settings: &settings,
        status: view.status.as_ref(),
        degraded: view.degraded || visit.store_failed,
        number: visit.ticket.map(|t| t.number),
        now_ms: room.now_ms(),
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
