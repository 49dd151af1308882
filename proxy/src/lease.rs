//! The lease of somebody inside: activity carries it on, and the upstream may end it.
//!
//! Races: many requests of one page ask for a longer lease at once: one does. A renewal and an end: the end wins, its
//! number is refused from then on. Crash: a lease that nobody carries on ends by itself.

use crate::cookie;
use crate::desk::Desk;
use crate::enter::{Entry, forward};
use crate::people_metric as metric;
use crate::rooms::Room;
use metrics::counter;
use queue::pass::Pass;
use std::time::Duration;

/// Longest wait for the store to carry a lease on. The request goes on without it.
const RENEWAL_TIMEOUT: Duration = Duration::from_millis(300);
/// Longest wait for the store to end a lease, while the visitor waits for the answer.
const END_TIMEOUT: Duration = Duration::from_millis(1_000);

/// Whether half of a pass's life is over, so that the next request carries the lease on.
pub fn is_due(pass: &Pass, now_ms: i64) -> bool {
    now_ms.saturating_sub(pass.issued_ms) > half_life_ms(pass)
}

fn half_life_ms(pass: &Pass) -> i64 {
    pass.expires_at_ms.saturating_sub(pass.issued_ms) / 2
}

/// Forwards somebody whose lease [`is_due`]: the first such request carries it on.
pub async fn carry_on(desk: &Desk, room: &Room, pass: Pass, token: &str, by_header: bool) -> Entry {
    let now_ms = room.now_ms();
    if !room.people.renewals.due(pass.number, now_ms, now_ms.saturating_add(half_life_ms(&pass))) {
        return forward(pass, token.to_owned(), Vec::new());
    }
    let count = |result: &'static str| counter!(metric::RENEWALS, "result" => result).increment(1);
    match tokio::time::timeout(RENEWAL_TIMEOUT, desk.visits.renew(&desk.rooms, room, &pass)).await {
        Ok(Ok(Some((longer, token)))) => {
            count("renewed");
            let cookies =
                if by_header { Vec::new() } else { vec![desk.pass_cookie(room, &token, longer.expires_at_ms)] };
            let entry = forward(longer, token.clone(), cookies);
            match entry {
                Entry::Forward(mut inside) if by_header => {
                    inside.pass_header = Some(token);
                    Entry::Forward(inside)
                }
                other => other,
            }
        }
        Ok(Ok(None)) => {
            count("kept");
            forward(pass, token.to_owned(), Vec::new())
        }
        // The pass in hand is good: a store that does not answer is no reason to stop anybody.
        Ok(Err(_)) | Err(_) => {
            count("failed");
            forward(pass, token.to_owned(), Vec::new())
        }
    }
}

/// The upstream says that the visitor is done: the lease ends for good. Returns the cookies that take ticket and pass
/// away. A store that does not answer is told nothing: the lease then ends by itself, and this gate refuses the pass.
pub async fn end_session(desk: &Desk, room: &Room, pass: Pass) -> Vec<String> {
    // Another request may have carried the lease on: the longest pass that can be about has to be over first.
    let longest_ms = room.now_ms().saturating_add(i64::from(room.settings.load().lease_ms));
    let pass = Pass { expires_at_ms: pass.expires_at_ms.max(longest_ms), ..pass };
    room.people.ended.learn([(&pass.number, &pass.expires_at_ms)], room.now_ms());
    let result = match tokio::time::timeout(END_TIMEOUT, desk.visits.end(&desk.rooms, room, &pass)).await {
        Ok(Ok(())) => "ended",
        Ok(Err(error)) => {
            tracing::warn!(room = %room.id, lease = pass.number, %error, "a session could not be ended in the store");
            "failed"
        }
        Err(_) => "failed",
    };
    counter!(metric::SESSIONS_ENDED, "result" => result).increment(1);
    [&room.cookies.ticket, &room.cookies.pass].map(|name| cookie::clear(name, desk.cookie_secure)).into()
}
