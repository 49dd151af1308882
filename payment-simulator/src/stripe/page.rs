//! The buyer's side: a stand-in for the browser's SDK, and the pay page that plays the card form and 3-D Secure.

use super::calls::{self, Setting};
use super::event::Origin;
use super::intent::{Intent, Status};
use crate::page::{self, PayPage, Press, Pressed};
use crate::server::Simulator;
use crate::web::{URL_CHARS_MAX, wants_json, web_origin, with_query};
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

const SDK: &str = include_str!("../../templates/stripe_sdk.js");

/// The routes.
pub fn router(sim: Simulator) -> Router {
    Router::new()
        .route("/stripe/sdk/v3", get(|| async { page::script(SDK) }))
        .route("/stripe/pay/{intent}", get(show).post(press))
        .with_state(sim)
}

/// What the browser brings along.
#[derive(Debug, Deserialize)]
struct View {
    #[serde(default)]
    client_secret: String,
    return_url: Option<String>,
    lang: Option<String>,
}

impl View {
    /// Where the browser goes back to: the address that it brought, else the PaymentIntent's.
    fn return_url(&self, intent: &Intent) -> Option<String> {
        let url = self.return_url.clone().or_else(|| intent.asked.return_url.clone())?;
        (url.len() <= URL_CHARS_MAX && web_origin(&url).is_some()).then_some(url)
    }
    /// This address in another language.
    fn query(&self, lang: &str) -> String {
        let mut pairs = vec![("client_secret", self.client_secret.as_str()), ("lang", lang)];
        pairs.extend(self.return_url.as_deref().map(|url| ("return_url", url)));
        with_query("", &pairs)
    }
}

async fn show(
    State(sim): State<Simulator>,
    Path(id): Path<String>,
    Query(view): Query<View>,
    headers: HeaderMap,
) -> Response {
    let lang = page::lang(view.lang.as_deref(), &headers);
    let words = lang.words();
    let state = sim.lock().await;
    let Some(intent) = state.stripe.find(&id).filter(|intent| intent.client_secret == view.client_secret) else {
        return page::missing(lang);
    };
    let Some(return_url) = view.return_url(intent) else { return page::missing(lang) };
    if !intent.status.is_open() {
        return page::ended(lang);
    }
    let asked = &intent.asked;
    let order = asked.metadata.values().next().map_or("", String::as_str);
    let shown = PayPage {
        lang,
        words,
        title: words.stripe_title,
        item: asked.description.as_deref().unwrap_or("-"),
        quantity: None,
        amount: page::price(asked.amount, asked.currency),
        order,
        until: None,
        scan: None,
        decline: words.decline,
        action: format!("/stripe/pay/{id}{}", view.query(lang.tag())),
        other_language: view.query(words.other_language_tag),
    };
    page::html(StatusCode::OK, &shown, &page::form_targets(&[&return_url]))
}

async fn press(
    State(sim): State<Simulator>,
    Path(id): Path<String>,
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
    let Some(intent) = state.stripe.find(&id).filter(|intent| intent.client_secret == view.client_secret) else {
        return page::missing(lang);
    };
    let Some(return_url) = view.return_url(intent) else { return page::missing(lang) };
    if !intent.status.is_open() {
        return page::ended(lang);
    }
    let (now_ms, payments_max) = (state.now_ms(), sim.cfg.payments_max);
    let setting = Setting { fault: None, origin: Origin::default(), payments_max, now_ms };
    match pressed.action {
        // A refusal is in the status, and in what the browser is told.
        Press::Pay => drop(calls::pay(&mut state, &id, &setting)),
        Press::Decline => calls::decline(&mut state, &id, &setting),
        // The buyer leaves: nothing is decided.
        Press::Cancel => {}
    }
    let Some(status) = state.stripe.find(&id).map(|intent| intent.status) else { return page::missing(lang) };
    drop(state);
    let outcome = if matches!(status, Status::Succeeded | Status::RequiresCapture) { "succeeded" } else { "failed" };
    let query = [
        ("payment_intent", id.as_str()),
        ("payment_intent_client_secret", view.client_secret.as_str()),
        ("redirect_status", outcome),
    ];
    let next = with_query(&return_url, &query);
    if wants_json(&headers) {
        return Json(json!({ "redirect_url": next, "status": status })).into_response();
    }
    page::see_other(next)
}
