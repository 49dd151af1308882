//! What the shopper sees: a page with a QR code and three buttons, and the address behind the buttons,
//! `POST /pay/{tid}` with `action=pay|decline|cancel`, that a synthetic crowd can use as well.

use crate::page::{self, PayPage, Pressed, View};
use crate::server::Simulator;
use crate::store::random_hex;
use crate::web::wants_json;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use service_kit::money::Currency;

/// The routes.
pub fn router(sim: Simulator) -> Router {
    Router::new().route("/pay/{tid}", get(show).post(press)).route("/pay/{tid}/qr.svg", get(qr)).with_state(sim)
}

async fn show(
    State(sim): State<Simulator>,
    Path(tid): Path<String>,
    Query(view): Query<View>,
    headers: HeaderMap,
) -> Response {
    let lang = page::lang(view.lang.as_deref(), &headers);
    let words = lang.words();
    let mut state = sim.state.lock().await;
    let now_ms = state.now_ms();
    let Ok(payment) = state.kakaopay.get(&tid) else { return page::missing(lang) };
    if !payment.status.is_pending() || payment.is_expired(now_ms, sim.cfg.session_ms) {
        return page::ended(lang);
    }
    payment.open();
    let asked = &payment.asked;
    let other = words.other_language_tag;
    let shown = PayPage {
        lang,
        words,
        title: words.kakaopay_title,
        item: &asked.item_name,
        quantity: Some(asked.quantity),
        amount: page::price(payment.amount.total, Currency::KRW),
        order: &asked.partner_order_id,
        until: Some(page::korean_clock(payment.created_ms.saturating_add(sim.cfg.session_ms))),
        scan: view.on.is_none().then(|| (format!("/pay/{tid}/qr.svg"), phone_url(&sim, &tid))),
        decline: words.wrong_password,
        action: format!("/pay/{tid}?lang={}", lang.tag()),
        other_language: format!("?lang={other}{}", if view.on.is_some() { "&on=phone" } else { "" }),
    };
    let targets = page::form_targets(&[&asked.approval_url, &asked.cancel_url, &asked.fail_url]);
    page::html(StatusCode::OK, &shown, &targets)
}

async fn press(
    State(sim): State<Simulator>,
    Path(tid): Path<String>,
    Query(view): Query<View>,
    headers: HeaderMap,
    form: Result<Form<Pressed>, FormRejection>,
) -> Response {
    let Form(pressed) = match form {
        Ok(form) => form,
        Err(rejection) => return rejection.into_response(),
    };
    let lang = page::lang(view.lang.as_deref(), &headers);
    let mut state = sim.state.lock().await;
    let now_ms = state.now_ms();
    let Ok(payment) = state.kakaopay.get(&tid) else { return page::missing(lang) };
    let Some(next) = payment.press(pressed.action, random_hex::<20>(), now_ms, sim.cfg.session_ms) else {
        return page::ended(lang);
    };
    if wants_json(&headers) {
        return Json(json!({ "redirect_url": next, "status": payment.status })).into_response();
    }
    page::see_other(next)
}

async fn qr(State(sim): State<Simulator>, Path(tid): Path<String>) -> Response {
    if sim.state.lock().await.kakaopay.get(&tid).is_err() {
        return StatusCode::NOT_FOUND.into_response();
    }
    page::qr(&phone_url(&sim, &tid))
}

fn phone_url(sim: &Simulator, tid: &str) -> String {
    format!("{}/pay/{tid}?on=phone", sim.public_url)
}
