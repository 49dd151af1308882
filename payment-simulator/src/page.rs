//! What the shopper sees: a page with a QR code and three buttons that works without scripts, and the address behind
//! the buttons, `POST /pay/{tid}` with `action=pay|decline|cancel`, that a synthetic crowd can use as well.

use crate::payment::{Payment, Press};
use crate::server::Simulator;
use crate::store::random_hex;
use crate::text::{Lang, Words};
use crate::wire::web_origin;
use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use qrcode::QrCode;
use qrcode::render::svg;
use serde::Deserialize;
use serde_json::json;

const STYLE: &str = include_str!("../templates/pay.css");

/// The routes.
pub fn router(sim: Simulator) -> Router {
    Router::new()
        .route("/pay/{tid}", get(show).post(press))
        .route("/pay/{tid}/qr.svg", get(qr))
        .route("/pay.css", get(|| async { ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE) }))
        .with_state(sim)
}

#[derive(Debug, Template)]
#[template(path = "pay.html")]
struct PayPage<'p> {
    lang: Lang,
    words: &'static Words,
    payment: &'p Payment,
    amount: String,
    phone_url: String,
    until: String,
    on: Option<&'p str>,
}

#[derive(Debug, Template)]
#[template(path = "notice.html")]
struct NoticePage {
    lang: Lang,
    words: &'static Words,
    title: &'static str,
    text: &'static str,
}

#[derive(Debug, Deserialize)]
struct View {
    lang: Option<String>,
    on: Option<String>,
}

async fn show(
    State(sim): State<Simulator>,
    Path(tid): Path<String>,
    Query(view): Query<View>,
    headers: HeaderMap,
) -> Response {
    let lang = lang(view.lang.as_deref(), &headers);
    let mut state = sim.state.lock().await;
    let now_ms = state.now_ms();
    let Ok(payment) = state.get(&tid) else { return missing(lang) };
    if !payment.status.is_pending() || payment.is_expired(now_ms, sim.cfg.session_ms) {
        return ended(lang);
    }
    payment.open();
    let until_ms = payment.created_ms.saturating_add(sim.cfg.session_ms).saturating_add(9 * 3_600_000);
    let page = PayPage {
        lang,
        words: lang.words(),
        amount: won(payment.amount.total),
        phone_url: phone_url(&sim, &tid),
        until: service_kit::clock::rfc3339(until_ms).chars().skip(11).take(5).collect(),
        on: view.on.as_deref(),
        payment,
    };
    html(StatusCode::OK, &page, &form_targets(payment))
}

#[derive(Debug, Deserialize)]
struct Pressed {
    action: Press,
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
    let lang = lang(view.lang.as_deref(), &headers);
    let mut state = sim.state.lock().await;
    let now_ms = state.now_ms();
    let Ok(payment) = state.get(&tid) else { return missing(lang) };
    let Some(next) = payment.press(pressed.action, random_hex::<20>(), now_ms, sim.cfg.session_ms) else {
        return ended(lang);
    };
    let wants_json = headers.get(header::ACCEPT).is_some_and(|accept| accept == "application/json");
    if wants_json {
        return Json(json!({ "redirect_url": next, "status": payment.status })).into_response();
    }
    (StatusCode::SEE_OTHER, [(header::LOCATION, next), (header::CACHE_CONTROL, "no-store".to_owned())]).into_response()
}

async fn qr(State(sim): State<Simulator>, Path(tid): Path<String>) -> Response {
    if sim.state.lock().await.get(&tid).is_err() {
        return StatusCode::NOT_FOUND.into_response();
    }
    match QrCode::new(phone_url(&sim, &tid)) {
        Ok(code) => {
            let image = code.render::<svg::Color<'_>>().min_dimensions(240, 240).build();
            ([(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "no-store")], image).into_response()
        }
        // Only an address beyond what a QR code holds; the page shows it as text as well.
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

fn phone_url(sim: &Simulator, tid: &str) -> String {
    format!("{}/pay/{tid}?on=phone", sim.public_url)
}

fn lang(asked: Option<&str>, headers: &HeaderMap) -> Lang {
    Lang::choose(asked, headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()))
}

fn missing(lang: Lang) -> Response {
    let words = lang.words();
    let page = NoticePage { lang, words, title: words.missing_title, text: words.missing };
    html(StatusCode::NOT_FOUND, &page, "'none'")
}

fn ended(lang: Lang) -> Response {
    let words = lang.words();
    let page = NoticePage { lang, words, title: words.ended_title, text: words.ended };
    html(StatusCode::GONE, &page, "'none'")
}

/// Where the forms may lead: here, and by the redirect that follows to the shop. Browsers check the redirect too.
fn form_targets(payment: &Payment) -> String {
    let mut targets = vec!["'self'".to_owned()];
    for url in [&payment.asked.approval_url, &payment.asked.cancel_url, &payment.asked.fail_url] {
        targets.extend(web_origin(url).filter(|origin| !targets.contains(origin)));
    }
    targets.join(" ")
}

fn html(status: StatusCode, page: &impl Template, form_action: &str) -> Response {
    let Ok(body) = page.render() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action {form_action}; base-uri 'none'; frame-ancestors 'none'"
    );
    let mut response = (status, Html(body)).into_response();
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// `₩12,900`.
fn won(total: i64) -> String {
    format!("₩{}", service_kit::money::grouped(total.unsigned_abs()))
}
