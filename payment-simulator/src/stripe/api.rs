//! `/v1/payment_intents`, `/v1/refunds`, `/v1/events`: check the key, meet the fault, recall the idempotency key, make
//! the effect.
//!
//! An answer is bound to its key once the call has begun, a 500 too; refused parameters are not bound. The same key
//! with other parameters is an `idempotency_error`, and a 409 while the first request runs.

use super::calls::{Call, Setting, effect};
use super::error::Refusal;
use super::event::Origin;
use super::form::Params;
use crate::call::{Answer, Done, carry_out};
use crate::fault::{Endpoint, Fault, Provider};
use crate::idempotency::Recall;
use crate::metric;
use crate::server::Simulator;
use crate::store::{State, random_hex};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State as Shared};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Longest idempotency key, in characters.
const KEY_CHARS_MAX: usize = 255;

/// The routes.
pub fn router(sim: Simulator) -> Router {
    let posted = |endpoint, call: fn(String) -> Call| {
        post(
            move |Shared(sim): Shared<Simulator>, path: Option<Path<String>>, headers: HeaderMap, body: Bytes| async move {
                let call = call(path.map(|Path(id)| id).unwrap_or_default());
                answer(&sim, endpoint, call, &headers, Some(&body), &body).await
            },
        )
    };
    let got = |endpoint, call: fn(String) -> Call| {
        get(
            move |Shared(sim): Shared<Simulator>,
                  path: Option<Path<String>>,
                  RawQuery(query): RawQuery,
                  headers: HeaderMap| async move {
                let call = call(path.map(|Path(id)| id).unwrap_or_default());
                answer(&sim, endpoint, call, &headers, None, query.unwrap_or_default().as_bytes()).await
            },
        )
    };
    Router::new()
        .route(
            "/v1/payment_intents",
            posted(Endpoint::StripeCreate, |_| Call::Create).merge(got(Endpoint::StripeList, |_| Call::List)),
        )
        .route("/v1/payment_intents/{id}", got(Endpoint::StripeQuery, Call::Query))
        .route("/v1/payment_intents/{id}/confirm", posted(Endpoint::StripeConfirm, Call::Confirm))
        .route("/v1/payment_intents/{id}/capture", posted(Endpoint::StripeCapture, Call::Capture))
        .route("/v1/payment_intents/{id}/cancel", posted(Endpoint::StripeCancel, Call::Cancel))
        .route(
            "/v1/refunds",
            posted(Endpoint::StripeRefund, |_| Call::Refund)
                .merge(got(Endpoint::StripeRefundList, |_| Call::RefundList)),
        )
        .route("/v1/refunds/{id}", got(Endpoint::StripeRefundQuery, Call::RefundQuery))
        .route("/v1/events", got(Endpoint::StripeEvents, |_| Call::Events))
        .route("/v1/events/{id}", got(Endpoint::StripeEvents, Call::Event))
        .with_state(sim)
}

async fn answer(
    sim: &Simulator,
    endpoint: Endpoint,
    call: Call,
    headers: &HeaderMap,
    body: Option<&[u8]>,
    encoded: &[u8],
) -> Response {
    let request = format!("req_{}", random_hex::<14>());
    let key = body.and_then(|_| headers.get("idempotency-key")).map(|key| key.to_str().unwrap_or_default().to_owned());
    let mut response = match admit(sim, endpoint, headers, body, encoded, key.as_deref()).await {
        Err(refusal) => refusal.answer().into_response(),
        Ok((api_key, params, fault)) => {
            let origin = Origin { request: Some(request.clone()), key: key.clone() };
            run(sim, call, params, fault, origin, &api_key).await
        }
    };
    metric::count(endpoint, response.status());
    for (name, value) in [("request-id", Some(request)), ("idempotency-key", key)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// The key, the parameters and the fault of a call that may go on.
async fn admit(
    sim: &Simulator,
    endpoint: Endpoint,
    headers: &HeaderMap,
    body: Option<&[u8]>,
    encoded: &[u8],
    key: Option<&str>,
) -> Result<(String, Params, Option<Fault>), Refusal> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let api_key = api_key(text("authorization"), sim.cfg.stripe_secret_key.as_deref())?;
    if key.is_some_and(|key| !(1..=KEY_CHARS_MAX).contains(&key.chars().count())) {
        return Err(Refusal::invalid("Idempotency-Key has 1 to 255 characters.", ""));
    }
    let form = || text("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    if body.is_some_and(|body| !body.is_empty()) && !form() {
        return Err(Refusal::invalid("Send parameters as application/x-www-form-urlencoded.", ""));
    }
    let params = Params::read(encoded)?;
    let fault = sim.fault(headers, endpoint).await;
    match fault.map_err(|_| Refusal::invalid("Floodgate-Simulate names no fault that means something here.", ""))? {
        Some(Fault::Limited) => Err(Refusal::limited()),
        fault => Ok((api_key, params, fault)),
    }
}

async fn run(
    sim: &Simulator,
    call: Call,
    params: Params,
    fault: Option<Fault>,
    origin: Origin,
    api_key: &str,
) -> Response {
    let internal = Refusal::internal().answer();
    let mut kept = None;
    if let Some(key) = &origin.key {
        let whole = format!("{api_key}\n{key}");
        let same = format!("{call:?}\n{}", params.fingerprint());
        let mut state = sim.lock().await;
        let now_ms = state.now_ms();
        let recall = state.memory(Provider::Stripe).map(|memory| memory.begin(&whole, &same, now_ms));
        drop(state);
        match recall {
            Some(Recall::Replay(first)) => {
                let answer = first.with("idempotent-replayed", "true");
                let replay = move |_: &mut State| Done { answer, keep: false };
                return carry_out(sim, None, fault, internal, replay).await;
            }
            Some(Recall::Running) => return Refusal::in_use().answer().into_response(),
            Some(Recall::Mismatch) => return Refusal::other_parameters().answer().into_response(),
            Some(Recall::Full) => return Refusal::full().answer().into_response(),
            Some(Recall::Fresh) | None => kept = Some((Provider::Stripe, whole)),
        }
    }
    let payments_max = sim.cfg.payments_max;
    carry_out(sim, kept, fault, internal, move |state| {
        let now_ms = state.now_ms();
        match effect(state, &call, params, &Setting { fault, origin, payments_max, now_ms }) {
            Ok(object) => Done { answer: Answer::new(200, object.to_string()), keep: true },
            Err(refusal) => Done { answer: refusal.answer(), keep: refusal.began },
        }
    })
    .await
}

/// The secret key of an `Authorization` header: Bearer, or the user of Basic.
///
/// # Errors
/// When there is none, or it is another kind of key.
fn api_key(authorization: Option<&str>, only: Option<&str>) -> Result<String, Refusal> {
    let value = authorization.ok_or_else(Refusal::unauthorized)?;
    let key = match value.split_once(' ') {
        Some(("Bearer", key)) => key.trim().to_owned(),
        Some(("Basic", coded)) => {
            let decoded = STANDARD.decode(coded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let text = decoded.ok_or_else(Refusal::unauthorized)?;
            text.split_once(':').map_or(text.as_str(), |(user, _)| user).to_owned()
        }
        _ => return Err(Refusal::unauthorized()),
    };
    if key.starts_with("pk_") {
        return Err(Refusal::publishable());
    }
    let secret =
        ["sk_test_", "rk_test_"].iter().any(|kind| key.strip_prefix(kind).is_some_and(|rest| !rest.is_empty()));
    if only.map_or(secret, |only| only == key) { Ok(key) } else { Err(Refusal::unauthorized()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_key_by_bearer_or_basic() {
        let basic = format!("Basic {}", STANDARD.encode("sk_test_1:"));
        for good in ["Bearer sk_test_1", "Bearer rk_test_1", &basic] {
            assert!(api_key(Some(good), None).is_ok(), "{good}");
        }
        for (bad, status) in [
            (None, 401),
            (Some("Bearer sk_live_1"), 401),
            (Some("Bearer sk_test_"), 401),
            (Some("sk_test_1"), 401),
            (Some("Bearer pk_test_1"), 403),
        ] {
            assert_eq!(api_key(bad, None).unwrap_err().status, status, "{bad:?}");
        }
        assert!(api_key(Some("Bearer sk_test_2"), Some("sk_test_1")).is_err());
    }
}
