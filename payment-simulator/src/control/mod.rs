//! The control port, beside `/healthz` and `/metrics` on the admin address: `/_control/…`, JSON in and out.

mod ledger;
mod webhooks;

pub use ledger::Entry;

use crate::fault::Rule;
use crate::server::Simulator;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::http::StrictJson;
use service_kit::problem::Problem;

/// The furthest that one request may move the clock, in milliseconds: a year.
const ADVANCE_MS_MAX: i64 = 366 * 86_400_000;

/// The routes.
pub fn router(sim: Simulator) -> Router {
    Router::new()
        .route("/_control/ledger", get(ledger::dump))
        .route("/_control/faults", get(list).post(add).delete(clear))
        .route("/_control/webhooks", get(webhooks::list).post(webhooks::target))
        .route("/_control/webhooks/send", post(webhooks::send))
        .route("/_control/toss/deposit", post(webhooks::deposit))
        .route("/_control/clock", post(clock))
        .route("/_control/reset", post(reset))
        .with_state(sim)
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Rules {
    Many(Vec<Rule>),
    One(Rule),
}

async fn list(State(sim): State<Simulator>) -> Json<Value> {
    Json(json!({ "faults": sim.state.lock().await.plan.rules() }))
}

async fn add(State(sim): State<Simulator>, StrictJson(rules): StrictJson<Rules>) -> Result<Json<Value>, Problem> {
    let rules = match rules {
        Rules::Many(rules) => rules,
        Rules::One(rule) => vec![rule],
    };
    let mut state = sim.state.lock().await;
    state.plan.add(rules).map_err(|rule| Problem::field("faults", rule))?;
    Ok(Json(json!({ "faults": state.plan.rules() })))
}

async fn clear(State(sim): State<Simulator>) -> StatusCode {
    sim.state.lock().await.plan.clear();
    StatusCode::NO_CONTENT
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_ms: i64,
}

async fn clock(State(sim): State<Simulator>, StrictJson(body): StrictJson<Advance>) -> Result<Json<Value>, Problem> {
    if !(0..=ADVANCE_MS_MAX).contains(&body.advance_ms) {
        return Err(Problem::field("advance_ms", format!("from 0 to {ADVANCE_MS_MAX} milliseconds")));
    }
    Ok(Json(json!({ "now_ms": sim.state.lock().await.advance(body.advance_ms) })))
}

async fn reset(State(sim): State<Simulator>) -> StatusCode {
    sim.state.lock().await.reset(&sim.cfg, &sim.public_url);
    StatusCode::NO_CONTENT
}
