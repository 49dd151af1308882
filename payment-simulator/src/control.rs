//! The control port, beside `/healthz` and `/metrics` on the admin address: `/_control/…`, JSON in and out.

use crate::fault::Rule;
use crate::payment::Payment;
use crate::server::Simulator;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::http::StrictJson;
use service_kit::problem::Problem;

/// The furthest that one request may move the clock, in milliseconds: a year.
const ADVANCE_MS_MAX: i64 = 366 * 86_400_000;

/// The routes.
pub fn router(sim: Simulator) -> Router {
    Router::new()
        .route("/_control/ledger", get(ledger))
        .route("/_control/faults", get(list).post(add).delete(clear))
        .route("/_control/clock", post(clock))
        .route("/_control/reset", post(reset))
        .with_state(sim)
}

#[derive(Debug, Serialize)]
struct Entry<'p> {
    tid: &'p str,
    partner_order_id: &'p str,
    amount: i64,
    status: &'static str,
    captured: i64,
    cancelled: i64,
    approvals: u32,
    cancels: Vec<Value>,
    created_ms: i64,
}

impl<'p> From<&'p Payment> for Entry<'p> {
    fn from(payment: &'p Payment) -> Self {
        let cancels = payment.actions.iter().filter(|action| action.kind == "CANCEL");
        Self {
            tid: &payment.tid,
            partner_order_id: &payment.asked.partner_order_id,
            amount: payment.asked.total_amount,
            status: payment.status.name(),
            captured: payment.captured(),
            cancelled: payment.cancelled.total,
            approvals: payment.approvals,
            cancels: cancels
                .map(|action| json!({ "aid": action.aid, "amount": action.amount.total, "payload": action.payload }))
                .collect(),
            created_ms: payment.created_ms,
        }
    }
}

async fn ledger(State(sim): State<Simulator>) -> impl IntoResponse {
    let state = sim.state.lock().await;
    let payments: Vec<Entry<'_>> = state.payments().into_iter().map(Entry::from).collect();
    let totals = json!({
        "payments": payments.len(),
        "captured": payments.iter().map(|p| p.captured).sum::<i64>(),
        "cancelled": payments.iter().map(|p| p.cancelled).sum::<i64>(),
        "approvals": payments.iter().map(|p| u64::from(p.approvals)).sum::<u64>(),
        "approved_twice": payments.iter().filter(|p| p.approvals > 1).count(),
    });
    Json(json!({ "now_ms": state.now_ms(), "totals": totals, "payments": payments }))
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
    sim.state.lock().await.reset();
    StatusCode::NO_CONTENT
}
