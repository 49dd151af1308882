//! `/v1/payments/…` and `/v1/transactions`: check the key, meet the fault, recall the idempotency key, make the effect.
//!
//! An answer is bound to its key whatever it says: errors are replayed too, also when the body was corrected, because
//! the body is not part of the match. Two calls for one payment are decided by who takes the lock first.

use super::cancel::{CancelHow, CancelStatus};
use super::code::Refusal;
use super::money::minor_of;
use super::payment::{Confirm, How};
use super::wire::{CancelBody, ConfirmBody, Window, read};
use super::{body, event};
use crate::call::{Answer, Done, carry_out};
use crate::fault::{Endpoint, Fault, Provider};
use crate::idempotency::Recall;
use crate::metric;
use crate::server::Simulator;
use crate::store::{Due, State, random_hex};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State as Shared};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Longest idempotency key, in characters.
const KEY_CHARS_MAX: usize = 300;

/// The routes.
pub fn router(sim: Simulator) -> Router {
    Router::new()
        .route("/v1/payments/confirm", post(confirm))
        .route("/v1/payments/{payment}", get(by_key))
        .route("/v1/payments/orders/{order}", get(by_order))
        .route("/v1/payments/{payment}/cancel", post(cancel))
        .route("/v1/transactions", get(transactions))
        .with_state(sim)
}

async fn confirm(Shared(sim): Shared<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    let call = Call::Confirm { body, test_code: text(&headers, "tosspayments-test-code").map(str::to_owned) };
    answer(&sim, Endpoint::TossConfirm, "/v1/payments/confirm", &headers, call).await
}

async fn cancel(
    Shared(sim): Shared<Simulator>,
    Path(payment): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = format!("/v1/payments/{payment}/cancel");
    answer(&sim, Endpoint::TossCancel, &path, &headers, Call::Cancel { payment, body }).await
}

async fn by_key(Shared(sim): Shared<Simulator>, Path(payment): Path<String>, headers: HeaderMap) -> Response {
    answer(&sim, Endpoint::TossQuery, "", &headers, Call::ByKey(payment)).await
}

async fn by_order(Shared(sim): Shared<Simulator>, Path(order): Path<String>, headers: HeaderMap) -> Response {
    answer(&sim, Endpoint::TossQuery, "", &headers, Call::ByOrder(order)).await
}

async fn transactions(Shared(sim): Shared<Simulator>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let call = Call::Transactions(query.unwrap_or_default());
    answer(&sim, Endpoint::TossTransactions, "", &headers, call).await
}

/// One call, read as far as the address goes.
#[derive(Debug)]
enum Call {
    Confirm { body: Bytes, test_code: Option<String> },
    Cancel { payment: String, body: Bytes },
    ByKey(String),
    ByOrder(String),
    Transactions(String),
}

async fn answer(sim: &Simulator, endpoint: Endpoint, path: &str, headers: &HeaderMap, call: Call) -> Response {
    let english = text(headers, "accept-language").is_some_and(|languages| languages.starts_with("en"));
    let response = match admit(sim, endpoint, headers).await {
        Err(refusal) => refusal.answer(english).into_response(),
        Ok((api_key, fault)) => run(sim, path, headers, call, english, &api_key, fault).await,
    };
    metric::count(endpoint, response.status());
    response
}

/// The key and the fault of a call that may go on.
async fn admit(sim: &Simulator, endpoint: Endpoint, headers: &HeaderMap) -> Result<(String, Option<Fault>), Refusal> {
    let key = api_key(text(headers, "authorization"), sim.cfg.toss_secret_key.as_deref())?;
    if sim.cfg.toss_test_limit && key.starts_with("test_") {
        let mut state = sim.lock().await;
        let now_ms = state.now_ms();
        if !state.toss.within_test_limit(endpoint.name(), &key, now_ms) {
            return Err(Refusal::new("TOO_MANY_REQUESTS"));
        }
    }
    let why = "Floodgate-Simulate names no fault that means something here";
    match sim.fault(headers, endpoint).await.map_err(|_| Refusal::request(why))? {
        Some(Fault::Limited) => Err(Refusal::new("TOO_MANY_REQUESTS")),
        fault => Ok((key, fault)),
    }
}

async fn run(
    sim: &Simulator,
    path: &str,
    headers: &HeaderMap,
    call: Call,
    english: bool,
    api_key: &str,
    fault: Option<Fault>,
) -> Response {
    let internal = Refusal::new("FAILED_INTERNAL_SYSTEM_PROCESSING").answer(english);
    let posted = matches!(call, Call::Confirm { .. } | Call::Cancel { .. });
    let mut key = None;
    if let Some(value) = headers.get("idempotency-key").filter(|_| posted) {
        let Some(given) = value.to_str().ok().filter(|k| (1..=KEY_CHARS_MAX).contains(&k.chars().count())) else {
            return Refusal::new("INVALID_IDEMPOTENCY_KEY").answer(english).into_response();
        };
        let whole = format!("{api_key}\nPOST {path}\n{given}");
        let mut state = sim.lock().await;
        let now_ms = state.now_ms();
        let recall = state.memory(Provider::Toss).map(|memory| memory.begin(&whole, "", now_ms));
        drop(state);
        match recall {
            Some(Recall::Replay(first)) => {
                let replay = move |_: &mut State| Done { answer: first, keep: false };
                return carry_out(sim, None, fault, internal, replay).await;
            }
            Some(Recall::Running) => {
                return Refusal::new("IDEMPOTENT_REQUEST_PROCESSING").answer(english).into_response();
            }
            Some(Recall::Full | Recall::Mismatch) => {
                return Refusal::new("COMMON_ERROR").answer(english).into_response();
            }
            Some(Recall::Fresh) | None => key = Some((Provider::Toss, whole)),
        }
    }
    let test_key = api_key.starts_with("test_");
    carry_out(sim, key, fault, internal, move |state| {
        let result = effect(state, &call, test_key, fault);
        // "Still running" is said again and again, but it is no answer of the request itself.
        let keep = !matches!(&result, Err(refusal) if refusal.code == "IDEMPOTENT_REQUEST_PROCESSING");
        let answer = match result {
            Ok(value) => Answer::new(200, value.to_string()),
            Err(refusal) => refusal.answer(english),
        };
        Done { answer, keep }
    })
    .await
}

fn effect(state: &mut State, call: &Call, test_key: bool, fault: Option<Fault>) -> Result<Value, Refusal> {
    match call {
        Call::Confirm { body, test_code } => {
            if let Some(code) = test_code.as_ref().filter(|_| test_key) {
                return Err(Refusal::find(code).unwrap_or(Refusal::request("TossPayments-Test-Code is no known code")));
            }
            confirm_payment(state, &read(body)?, fault)
        }
        Call::Cancel { payment, body } => cancel_payment(state, payment, body, fault),
        Call::ByKey(key) => {
            let payment = state.toss.find(key).ok_or(Refusal::new("NOT_FOUND_PAYMENT"))?;
            Ok(told(state, &payment.key, fault, false))
        }
        Call::ByOrder(order) => {
            let payment = state.toss.of_order(order).ok_or(Refusal::new("NOT_FOUND_PAYMENT"))?;
            Ok(told(state, &payment.key, fault, false))
        }
        Call::Transactions(query) => Ok(list(state, &Window::read(query)?)),
    }
}

fn confirm_payment(state: &mut State, asked: &ConfirmBody, fault: Option<Fault>) -> Result<Value, Refusal> {
    asked.check()?;
    let how = match fault {
        Some(Fault::Decline) => How::Declined,
        Some(Fault::WrongAmount) => How::WrongAmount,
        _ => How::Right,
    };
    let now_ms = state.now_ms();
    let key = asked.payment_key.as_str();
    let payment = state.toss.find_mut(key).ok_or(Refusal::new("NOT_FOUND_PAYMENT"))?;
    let amount = minor_of(&asked.amount, payment.asked.currency).ok_or(Refusal::request("amount is wrong"))?;
    let before = payment.status;
    let request = Confirm { order_id: &asked.order_id, amount };
    let result = payment.confirm(request, how, random_hex::<32>().to_uppercase(), now_ms);
    event::tell(state, key, before, now_ms);
    result?;
    // The amount that was taken is the truth already; only the other lies are told on top of it.
    Ok(told(state, key, fault.filter(|fault| *fault != Fault::WrongAmount), false))
}

fn cancel_payment(state: &mut State, key: &str, bytes: &[u8], fault: Option<Fault>) -> Result<Value, Refusal> {
    let request: CancelBody = read(bytes)?;
    let now_ms = state.now_ms();
    let payment = state.toss.find_mut(key).ok_or(Refusal::new("NOT_FOUND_PAYMENT"))?;
    let asked = request.check(payment.asked.currency)?;
    if fault == Some(Fault::Decline) {
        return Err(Refusal::new("REFUND_REJECTED"));
    }
    let (how, later_ms) = match fault {
        Some(Fault::RefundFailsLater(ms)) => (CancelHow::Later(CancelStatus::Aborted), Some(ms)),
        Some(Fault::RefundPending(ms)) => (CancelHow::Later(CancelStatus::Done), Some(ms)),
        _ => (CancelHow::Done, None),
    };
    let transaction = random_hex::<32>().to_uppercase();
    payment.cancel(&asked, how, transaction.clone(), now_ms)?;
    if let Some(ms) = later_ms {
        state.at(now_ms.saturating_add(ms), Due::TossCancel(key.to_owned(), transaction));
    }
    event::announce(state, key, now_ms);
    Ok(told(state, key, fault, true))
}

/// The Payment object, with the lie that was asked for.
fn told(state: &State, key: &str, fault: Option<Fault>, cancelling: bool) -> Value {
    let Some(payment) = state.toss.find(key) else { return Value::Null };
    let mut object = body::payment(payment, state.toss.public_url());
    body::falsify(&mut object, payment, fault, cancelling);
    object
}

fn list(state: &State, window: &Window) -> Value {
    let mut lines: Vec<body::Line> = state
        .toss
        .payments()
        .flat_map(|payment| body::lines(payment, state.toss.public_url()))
        .filter(|line| (window.from_ms..=window.to_ms).contains(&line.at_ms))
        .collect();
    lines.sort_by(|a, b| (a.at_ms, &a.key).cmp(&(b.at_ms, &b.key)));
    let begin = match &window.after {
        None => 0,
        Some(key) => lines.iter().position(|line| line.key == *key).map_or(lines.len(), |at| at + 1),
    };
    json!(lines.into_iter().skip(begin).take(window.limit).map(|line| line.json).collect::<Vec<_>>())
}

/// The secret key of an `Authorization` header: Basic, the key as user, and the colon.
///
/// # Errors
/// The provider's code.
fn api_key(authorization: Option<&str>, only: Option<&str>) -> Result<String, Refusal> {
    let value = authorization.ok_or(Refusal::new("UNAUTHORIZED_KEY"))?;
    let decoded = value.strip_prefix("Basic ").and_then(|coded| STANDARD.decode(coded.trim()).ok());
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let format = Refusal::new("INCORRECT_BASIC_AUTH_FORMAT");
    let (key, password) = text.as_deref().and_then(|text| text.split_once(':')).ok_or(format)?;
    if !password.is_empty() {
        return Err(format);
    }
    if key.contains("ck_") {
        return Err(Refusal::new("INVALID_API_KEY"));
    }
    let secret = ["test_sk_", "test_gsk_", "live_sk_", "live_gsk_"].iter().any(|kind| key.starts_with(kind));
    if only.map_or(secret, |only| only == key) { Ok(key.to_owned()) } else { Err(Refusal::new("UNAUTHORIZED_KEY")) }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colon_is_mandatory() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert_eq!(api_key(Some(&basic("test_sk_1:")), None).unwrap(), "test_sk_1");
        for (header, only, code) in [
            (None, None, "UNAUTHORIZED_KEY"),
            (Some(basic("test_sk_1")), None, "INCORRECT_BASIC_AUTH_FORMAT"),
            (Some(basic("test_sk_1:password")), None, "INCORRECT_BASIC_AUTH_FORMAT"),
            (Some("Bearer test_sk_1".to_owned()), None, "INCORRECT_BASIC_AUTH_FORMAT"),
            (Some("Basic ???".to_owned()), None, "INCORRECT_BASIC_AUTH_FORMAT"),
            (Some(basic("\u{feff}test_sk_1:")), None, "UNAUTHORIZED_KEY"),
            (Some(basic("test_ck_1:")), None, "INVALID_API_KEY"),
            (Some(basic("sk_test_1:")), None, "UNAUTHORIZED_KEY"),
            (Some(basic("test_sk_1:")), Some("test_sk_2"), "UNAUTHORIZED_KEY"),
        ] {
            assert_eq!(api_key(header.as_deref(), only).unwrap_err().code, code, "{header:?}");
        }
    }
}
