//! The buyer's side: a stand-in for the browser's SDK, the same for callers without a browser, and the pay page.

use super::code::Refusal;
use super::money::minor_of;
use super::payment::{Asked, Method, Payment};
use super::{event, wire};
use crate::page::{self, PayPage, Pressed, View};
use crate::server::Simulator;
use crate::store::{Due, random_hex};
use crate::web::{URL_CHARS_MAX, wants_json, web_origin};
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Number, json};
use service_kit::money::{AMOUNT_MINOR_MAX, Currency};

const SDK: &str = include_str!("../../templates/toss_sdk.js");

/// The routes.
pub fn router(sim: Simulator) -> Router {
    Router::new()
        .route("/toss/sdk/v2", get(|| async { page::script(SDK) }))
        .route("/toss/sdk/payments", post(open))
        .route("/toss/pay/{payment}", get(show).post(press))
        .route("/toss/receipt/{payment}", get(receipt))
        .with_state(sim)
}

/// What the SDK sends when a shop asks for a payment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenForm {
    client_key: String,
    method: Method,
    amount: String,
    #[serde(default)]
    currency: Option<String>,
    order_id: String,
    order_name: String,
    success_url: String,
    fail_url: String,
    #[serde(default)]
    customer_key: Option<String>,
}

impl OpenForm {
    fn check(self) -> Result<Asked, Refusal> {
        if !self.client_key.contains("ck_") || self.client_key.len() > 100 {
            return Err(Refusal::new("INVALID_API_KEY"));
        }
        let currency: Currency = self
            .currency
            .as_deref()
            .unwrap_or("KRW")
            .parse()
            .map_err(|_| Refusal::request("currency is KRW, USD, EUR or JPY"))?;
        let amount = serde_json::from_str::<Number>(&self.amount)
            .ok()
            .and_then(|amount| minor_of(&amount, currency))
            .filter(|amount| (1..=AMOUNT_MINOR_MAX).contains(amount))
            .ok_or(Refusal::request("amount is wrong"))?;
        if currency == Currency::KRW && amount < self.method.won_min() {
            return Err(Refusal::new("BELOW_MINIMUM_AMOUNT"));
        }
        if !wire::is_order_id(&self.order_id) {
            return Err(Refusal::request(wire::ORDER_ID));
        }
        if !(1..=100).contains(&self.order_name.chars().count()) || self.order_name.chars().any(char::is_control) {
            return Err(Refusal::request("orderName has 1 to 100 characters"));
        }
        for url in [&self.success_url, &self.fail_url] {
            if url.len() > URL_CHARS_MAX || web_origin(url).is_none() {
                return Err(Refusal::request("successUrl and failUrl are http or https addresses"));
            }
        }
        Ok(Asked {
            method: self.method,
            amount,
            currency,
            order_id: self.order_id,
            order_name: self.order_name,
            customer_key: self.customer_key.filter(|key| !key.is_empty()),
            success_url: self.success_url,
            fail_url: self.fail_url,
        })
    }
}

async fn open(
    State(sim): State<Simulator>,
    headers: HeaderMap,
    form: Result<Form<OpenForm>, FormRejection>,
) -> Response {
    let english = headers.get(header::ACCEPT_LANGUAGE).is_some_and(|value| value.as_bytes().starts_with(b"en"));
    let form = form.map_err(|_| {
        Refusal::request(
            "a form with client_key, method, amount, currency, order_id, order_name, success_url, fail_url",
        )
    });
    let mut response = match form.and_then(|Form(form)| form.check()) {
        Err(refusal) => refusal.answer(english).into_response(),
        Ok(asked) => match begin(&sim, asked).await {
            None => Refusal::new("COMMON_ERROR").answer(english).into_response(),
            Some(key) => {
                let pay_url = format!("{}/toss/pay/{key}", sim.public_url);
                if wants_json(&headers) {
                    Json(json!({ "payment_key": key, "pay_url": pay_url })).into_response()
                } else {
                    page::see_other(pay_url)
                }
            }
        },
    };
    // The SDK runs on the shop's page, which is another origin.
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// The key of a new payment; None when no more are kept.
async fn begin(sim: &Simulator, asked: Asked) -> Option<String> {
    let mut state = sim.lock().await;
    if state.is_full(sim.cfg.payments_max) {
        return None;
    }
    let (key, now_ms) = (state.next_long_id("tgen_"), state.now_ms());
    let payment = Payment::new(key.clone(), format!("ps_{}", random_hex::<32>()), asked, now_ms);
    if let Some(ends_ms) = payment.session_ends_ms() {
        state.at(ends_ms, Due::TossSession(key.clone()));
    }
    state.toss.add(payment);
    Some(key)
}

async fn show(
    State(sim): State<Simulator>,
    Path(key): Path<String>,
    Query(view): Query<View>,
    headers: HeaderMap,
) -> Response {
    let lang = page::lang(view.lang.as_deref(), &headers);
    let words = lang.words();
    let state = sim.lock().await;
    let Some(payment) = state.toss.find(&key) else { return page::missing(lang) };
    if !payment.is_open() {
        return page::ended(lang);
    }
    let asked = &payment.asked;
    let shown = PayPage {
        lang,
        words,
        title: words.toss_title,
        item: &asked.order_name,
        quantity: None,
        amount: page::price(asked.amount, asked.currency),
        order: &asked.order_id,
        until: payment.session_ends_ms().map(page::korean_clock),
        scan: None,
        decline: words.decline,
        action: format!("/toss/pay/{key}?lang={}", lang.tag()),
        other_language: format!("?lang={}", words.other_language_tag),
    };
    page::html(StatusCode::OK, &shown, &page::form_targets(&[&asked.success_url, &asked.fail_url]))
}

async fn press(
    State(sim): State<Simulator>,
    Path(key): Path<String>,
    Query(view): Query<View>,
    headers: HeaderMap,
    form: Result<Form<Pressed>, FormRejection>,
) -> Response {
    let Form(pressed) = match form {
        Ok(form) => form,
        Err(rejection) => return rejection.into_response(),
    };
    let lang = page::lang(view.lang.as_deref(), &headers);
    let mut state = sim.lock().await;
    let now_ms = state.now_ms();
    let Some(payment) = state.toss.find_mut(&key) else { return page::missing(lang) };
    let before = payment.status;
    let Some(next) = payment.press(pressed.action, lang.tag() == "en", now_ms) else { return page::ended(lang) };
    let (status, ends_ms) = (payment.status, payment.session_ends_ms());
    if let Some(ends_ms) = ends_ms.filter(|_| status != before) {
        state.at(ends_ms, Due::TossSession(key.clone()));
    }
    event::tell(&mut state, &key, before, now_ms);
    drop(state);
    if wants_json(&headers) {
        return Json(json!({ "redirect_url": next, "status": status })).into_response();
    }
    page::see_other(next)
}

async fn receipt(
    State(sim): State<Simulator>,
    Path(key): Path<String>,
    Query(view): Query<View>,
    headers: HeaderMap,
) -> Response {
    let lang = page::lang(view.lang.as_deref(), &headers);
    let state = sim.lock().await;
    match state.toss.find(&key).filter(|payment| payment.transaction.is_some()) {
        None => page::missing(lang),
        Some(payment) => {
            let price = page::price(payment.total, payment.asked.currency);
            page::receipt(lang, format!("{} · {price} · {}", payment.asked.order_id, payment.status.name()))
        }
    }
}
