//! `POST /online/v1/payment/{ready|approve|cancel|order}`: check the key, meet the fault, make the effect, answer.
//!
//! The effect is made under one lock and is complete before a fault of the "after effect" kind begins, so a client
//! that gives up never stops half of it. Two calls for one payment are decided by who takes the lock first.

use super::error::ApiError;
use super::payment::{Action, Approve, Payment, wrong};
use super::wire::{Amount, ApproveRequest, CancelRequest, OrderRequest, ReadyRequest};
use crate::accept::Hangup;
use crate::clock::seoul;
use crate::fault::{Endpoint, Fault};
use crate::metric;
use crate::server::Simulator;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The routes.
pub fn router(sim: Simulator) -> Router {
    let endpoint = |endpoint: Endpoint| {
        post(move |State(sim): State<Simulator>, headers: HeaderMap, body: Bytes| async move {
            let response = answer(&sim, endpoint, &headers, &body).await;
            metric::count(endpoint, response.status());
            response
        })
    };
    Router::new()
        .route("/online/v1/payment/ready", endpoint(Endpoint::KakaoReady))
        .route("/online/v1/payment/approve", endpoint(Endpoint::KakaoApprove))
        .route("/online/v1/payment/cancel", endpoint(Endpoint::KakaoCancel))
        .route("/online/v1/payment/order", endpoint(Endpoint::KakaoOrder))
        .with_state(sim)
}

async fn answer(sim: &Simulator, endpoint: Endpoint, headers: &HeaderMap, body: &[u8]) -> Response {
    if !authorized(sim, headers) {
        return ApiError::unauthorized().into_response();
    }
    let fault = match sim.fault(headers, endpoint).await {
        Ok(fault) => fault,
        Err(e) => return ApiError::parameter("Floodgate-Simulate", &e.to_string()).into_response(),
    };
    match fault {
        Some(Fault::Limited) => return ApiError::limited().into_response(),
        Some(Fault::DelayBefore(ms)) => tokio::time::sleep(Duration::from_millis(ms)).await,
        _ => {}
    }
    let result = match endpoint {
        Endpoint::KakaoReady => ready(sim, headers, body, fault).await,
        Endpoint::KakaoApprove => approve(sim, headers, body, fault).await,
        Endpoint::KakaoCancel => cancel(sim, headers, body, fault).await,
        _ => order(sim, headers, body, fault).await,
    };
    let response = match result {
        Ok(answer) => Json(answer).into_response(),
        Err(refusal) => refusal.into_response(),
    };
    match fault {
        Some(Fault::DropAfterEffect) => Hangup::response(),
        Some(Fault::ErrorAfterEffect) => ApiError::internal().into_response(),
        Some(Fault::Delay(ms)) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            response
        }
        _ => response,
    }
}

fn authorized(sim: &Simulator, headers: &HeaderMap) -> bool {
    let key = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("SECRET_KEY "));
    match (key, &sim.cfg.secret_key) {
        (Some(key), Some(secret)) => key == secret,
        (Some(key), None) => key.starts_with("DEV"),
        (None, _) => false,
    }
}

fn read<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, ApiError> {
    let json = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.split(';').next().is_some_and(|m| m.trim().eq_ignore_ascii_case("application/json"))
    });
    if !json {
        return Err(ApiError::parameter("Content-Type", "application/json"));
    }
    service_kit::http::parse(body).map_err(|problem| ApiError {
        status: StatusCode::BAD_REQUEST,
        code: -2,
        message: format!("invalid parameter: {}", problem.detail),
        method: None,
    })
}

fn check_cid(sim: &Simulator, cid: &str) -> Result<(), ApiError> {
    if cid == sim.cfg.cid { Ok(()) } else { Err(ApiError::parameter("cid", "not a merchant code of this key")) }
}

async fn ready(sim: &Simulator, headers: &HeaderMap, body: &[u8], fault: Option<Fault>) -> Result<Value, ApiError> {
    let request: ReadyRequest = read(headers, body)?;
    check_cid(sim, &request.cid)?;
    request.check()?;
    if fault == Some(Fault::Decline) {
        return Err(ApiError::declined());
    }
    let mut state = sim.state.lock().await;
    if state.is_full(sim.cfg.payments_max) {
        return Err(ApiError::full());
    }
    let (tid, now_ms) = (state.next_id('T'), state.now_ms());
    let payment = state.kakaopay.add(Payment::new(tid, request, now_ms));
    let page = format!("{}/pay/{}", sim.public_url, payment.tid);
    Ok(json!({
        "tid": payment.tid,
        "next_redirect_app_url": format!("{page}?on=app"),
        "next_redirect_mobile_url": format!("{page}?on=phone"),
        "next_redirect_pc_url": page,
        "android_app_scheme": format!("kakaotalk://kakaopay/pg?url={page}"),
        "ios_app_scheme": format!("kakaotalk://kakaopay/pg?url={page}"),
        "created_at": seoul(payment.created_ms),
    }))
}

async fn approve(sim: &Simulator, headers: &HeaderMap, body: &[u8], fault: Option<Fault>) -> Result<Value, ApiError> {
    let request: ApproveRequest = read(headers, body)?;
    check_cid(sim, &request.cid)?;
    request.check()?;
    let how = match fault {
        Some(Fault::Decline) => Approve::Declined,
        Some(Fault::WrongAmount) => Approve::WrongAmount,
        _ => Approve::Right,
    };
    let mut state = sim.state.lock().await;
    let now_ms = state.now_ms();
    let aid = state.next_id('A');
    let payment = state.kakaopay.get(&request.tid)?;
    payment.approve(&request, how, aid.clone(), now_ms, sim.cfg.session_ms)?;
    let mut answer = common(payment);
    answer.insert("aid".to_owned(), aid.into());
    answer.insert("payload".to_owned(), request.payload.unwrap_or_default().into());
    Ok(answer.into())
}

async fn cancel(sim: &Simulator, headers: &HeaderMap, body: &[u8], fault: Option<Fault>) -> Result<Value, ApiError> {
    let request: CancelRequest = read(headers, body)?;
    check_cid(sim, &request.cid)?;
    request.check()?;
    let mut state = sim.state.lock().await;
    let now_ms = state.now_ms();
    let aid = state.next_id('A');
    let payment = state.kakaopay.get(&request.tid)?;
    if fault == Some(Fault::Decline) {
        return Err(ApiError::declined());
    }
    let mut part = payment.cancel(&request, aid.clone(), now_ms)?;
    if fault == Some(Fault::WrongAmount) {
        part.total = wrong(part.total);
    }
    let mut answer = common(payment);
    answer.insert("aid".to_owned(), aid.into());
    answer.insert("status".to_owned(), json!(payment.status));
    answer.insert("approved_cancel_amount".to_owned(), json!(part));
    answer.insert("canceled_amount".to_owned(), json!(payment.cancelled));
    answer.insert("cancel_available_amount".to_owned(), json!(payment.available()));
    answer.insert("payload".to_owned(), request.payload.unwrap_or_default().into());
    Ok(answer.into())
}

async fn order(sim: &Simulator, headers: &HeaderMap, body: &[u8], fault: Option<Fault>) -> Result<Value, ApiError> {
    let request: OrderRequest = read(headers, body)?;
    check_cid(sim, &request.cid)?;
    request.check()?;
    if fault == Some(Fault::Decline) {
        return Err(ApiError::declined());
    }
    let mut state = sim.state.lock().await;
    let payment = state.kakaopay.get(&request.tid)?;
    let mut answer = common(payment);
    answer.insert("status".to_owned(), json!(payment.status));
    answer.insert("canceled_amount".to_owned(), json!(payment.cancelled));
    answer.insert("cancel_available_amount".to_owned(), json!(payment.available()));
    let actions: Vec<Value> = payment.actions.iter().map(|action| detail(payment, action)).collect();
    answer.insert("payment_action_details".to_owned(), actions.into());
    if fault == Some(Fault::WrongAmount) {
        let amount = Amount { total: wrong(payment.amount.total), ..payment.amount };
        answer.insert("amount".to_owned(), json!(amount));
    }
    Ok(answer.into())
}

/// The members that every answer about a payment has.
fn common(payment: &Payment) -> Map<String, Value> {
    let mut answer = Map::new();
    let mut put = |name: &str, value: Value| answer.insert(name.to_owned(), value);
    put("tid", payment.tid.as_str().into());
    put("cid", payment.asked.cid.as_str().into());
    put("partner_order_id", payment.asked.partner_order_id.as_str().into());
    put("partner_user_id", payment.asked.partner_user_id.as_str().into());
    put("payment_method_type", json!(payment.method));
    put("amount", json!(payment.amount));
    put("item_name", payment.asked.item_name.as_str().into());
    if let Some(code) = &payment.asked.item_code {
        put("item_code", code.as_str().into());
    }
    put("quantity", payment.asked.quantity.into());
    put("created_at", seoul(payment.created_ms).into());
    if let Some(ms) = payment.approved_ms {
        put("approved_at", seoul(ms).into());
    }
    if let Some(ms) = payment.canceled_ms {
        put("canceled_at", seoul(ms).into());
    }
    answer
}

fn detail(payment: &Payment, action: &Action) -> Value {
    json!({
        "aid": action.aid,
        "payment_action_type": action.kind,
        "payment_method_type": payment.method,
        "amount": action.amount.total,
        "point_amount": action.amount.point,
        "discount_amount": action.amount.discount,
        "approved_at": seoul(action.at_ms),
        "payload": action.payload,
    })
}
