//! Where providers tell us that something happened: `POST /payments/webhooks/{provider}`.
//!
//! A notice is a hint. It is written down once and has the payment asked about ([`Ledger::notice_came`]); nothing in it
//! is believed, so a forged one costs a question, at most one a second and payment. It is answered as soon as it is
//! written, well within a provider's patience; everything but 200 makes the provider come again, which is right only
//! where a later try can end otherwise.
//!
//! | answer | when |
//! |---|---|
//! | 200 | written down, now or before; also when it is about no payment of ours |
//! | 400, 413 | no notice of this provider, or too large |
//! | 401 | the signature is missing, another one's, or too old |
//! | 404 | no such provider here, or one that sends none |
//! | 429 | a flood; come again later |
//! | 503 | the store is away, or too many at once; come again soon |

use crate::metric;
use crate::provider::{About, BadNotice, Notice};
use crate::providers::Account;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use ledger::{Ledger, NoticeAbout, NoticeEffect};
use metrics::counter;
use service_kit::problem::{Problem, Slug};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Largest notice, in bytes.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// How long a notice may take to arrive, in milliseconds.
const BODY_TIMEOUT_MS: u64 = 5_000;
/// Notices that may be arriving at once: 32 MiB at the worst.
const ARRIVING_MAX: usize = 128;
/// Notices that are written at once. The worker and the return pages share the store with them.
const WRITING_MAX: usize = 4;
/// How long a notice waits to be written, in milliseconds. Providers wait for ten seconds.
const WRITE_WAIT_MS: u64 = 3_000;

#[derive(Clone)]
struct Desk {
    ledger: Ledger,
    accounts: Arc<[Account]>,
    arriving: Arc<Semaphore>,
    writing: Arc<Semaphore>,
}

/// The routes.
pub fn router(ledger: Ledger, accounts: Arc<[Account]>) -> Router {
    let places = |n| Arc::new(Semaphore::new(n));
    let desk = Desk { ledger, accounts, arriving: places(ARRIVING_MAX), writing: places(WRITING_MAX) };
    Router::new().route("/payments/webhooks/{provider}", post(hear)).with_state(desk)
}

/// Why a notice is not taken, in the words of the metric.
#[derive(Debug)]
enum Refused {
    NoProvider,
    Garbage(&'static str),
    TooLarge,
    Signature(BadNotice),
    Flood,
    Unavailable,
}

impl Refused {
    fn word(&self) -> &'static str {
        match self {
            Self::NoProvider => "unserved",
            Self::Garbage(_) | Self::TooLarge => "garbage",
            Self::Signature(_) => "forged",
            Self::Flood => "flood",
            Self::Unavailable => "unavailable",
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::NoProvider => {
                Problem::new(Slug::NotFound, "No account of such a provider takes notices here. Check the address.")
            }
            Self::Garbage(why) => Problem::new(Slug::BadRequest, why),
            Self::TooLarge => Problem::new(Slug::BodyTooLarge, format!("A notice has at most {BODY_BYTES_MAX} bytes.")),
            Self::Signature(why) => Problem::new(
                Slug::SignatureInvalid,
                format!("Not taken: {why}. Check the secret of this endpoint and both clocks."),
            ),
            Self::Flood => Problem::new(Slug::TooManyRequests, "Too many notices about the same. Send it again later.")
                .retry_after_s(60),
            Self::Unavailable => {
                Problem::new(Slug::StoreUnavailable, "Not written down. Send it again in a few seconds.")
                    .retry_after_s(3)
            }
        }
        .into_response()
    }
}

async fn hear(State(desk): State<Desk>, Path(provider): Path<String>, headers: HeaderMap, body: Body) -> Response {
    // In metrics only names that we know.
    let known = desk.accounts.iter().map(|account| account.provider.name()).find(|name| *name == provider);
    let heard = match known {
        Some(name) => desk.take(name, &headers, body).await,
        None => Err(Refused::NoProvider),
    };
    let word = match &heard {
        Ok(NoticeEffect::Asked) => "asked",
        Ok(NoticeEffect::Repeated) => "repeated",
        Ok(NoticeEffect::Unknown) => "unknown",
        Ok(NoticeEffect::TooMany) => "flood",
        Err(refused) => refused.word(),
    };
    counter!(metric::WEBHOOKS, "provider" => known.unwrap_or("none"), "result" => word).increment(1);
    match heard {
        Ok(NoticeEffect::TooMany) => Refused::Flood.into_response(),
        Ok(_) => StatusCode::OK.into_response(),
        Err(refused) => {
            tracing::warn!(provider = known.unwrap_or("none"), ?refused, "a notice was not taken");
            refused.into_response()
        }
    }
}

impl Desk {
    async fn take(&self, provider: &'static str, headers: &HeaderMap, body: Body) -> Result<NoticeEffect, Refused> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Refused::Garbage("A notice is JSON: Content-Type application/json."));
        }
        let Ok(_place) = self.arriving.try_acquire() else { return Err(Refused::Unavailable) };
        let body = tokio::time::timeout(Duration::from_millis(BODY_TIMEOUT_MS), to_bytes(body, BODY_BYTES_MAX)).await;
        let body = match body {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return Err(Refused::TooLarge),
            Err(_) => return Err(Refused::Garbage("The body did not arrive in time. Send it again.")),
        };
        let now_ms = service_kit::clock::now_ms();
        let notice = self.read(provider, headers, &body, now_ms)?;
        let about = match &notice.about {
            About::Order(id) => NoticeAbout::Order(*id),
            About::Payment(id) => NoticeAbout::Payment(*id),
            About::Reference(text) => NoticeAbout::Reference(text),
            About::Nothing => NoticeAbout::Nothing,
        };
        let wait = Duration::from_millis(WRITE_WAIT_MS);
        let Ok(Ok(_place)) = tokio::time::timeout(wait, self.writing.acquire()).await else {
            return Err(Refused::Unavailable);
        };
        let written = self.ledger.notice_came(provider, &notice.event_id, &notice.kind, about, now_ms);
        let came = service_kit::failpoint::around("P5.before", "P5.after", written).await;
        let effect = came.map_err(|error| {
            tracing::error!(provider, %error, "a notice was not written down");
            Refused::Unavailable
        })?;
        tracing::info!(provider, event = notice.event_id, kind = notice.kind, about = ?notice.about, ?effect, "a notice");
        Ok(effect)
    }

    /// Which account of a provider a notice is for is not said: the one whose signature fits.
    fn read(&self, provider: &str, headers: &HeaderMap, body: &[u8], now_ms: i64) -> Result<Notice, Refused> {
        let mut why = BadNotice::NotTaken;
        for account in self.accounts.iter().filter(|account| account.provider.name() == provider) {
            match account.provider.notice(headers, body, now_ms) {
                Ok(notice) => return Ok(notice),
                // What one account could say for certain beats another account's "not mine".
                Err(BadNotice::Signature) if why != BadNotice::NotTaken => {}
                Err(bad) => why = bad,
            }
        }
        Err(match why {
            BadNotice::NotTaken => Refused::NoProvider,
            BadNotice::Unreadable => Refused::Garbage("This is no notice of this provider."),
            bad @ (BadNotice::Signature | BadNotice::Stale) => Refused::Signature(bad),
        })
    }
}
