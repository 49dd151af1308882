//! `/_control/webhooks`: where they go, what became of them, and abuse on demand; and the deposit of a virtual account,
//! which no API of the provider makes.

use crate::fault::Provider;
use crate::server::Simulator;
use crate::store::State;
use crate::webhook::abuse::{SENDS_MAX, Send};
use crate::webhook::{Message, WEBHOOKS_MAX};
use crate::{stripe, toss};
use axum::Json;
use axum::extract::{Query, State as Shared};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::http::StrictJson;
use service_kit::problem::Problem;
use std::time::Duration;

/// Longest wait for an idle queue, in milliseconds.
const WAIT_MS_MAX: u64 = 60_000;
/// The most bodies of a huge message: their bytes are kept until they are sent.
const HUGE_SENDS_MAX: usize = 20;

/// A message and the headers that it goes with; empty: fresh ones.
type Sealed = (Message, Vec<(&'static str, String)>);

/// Query of the list.
#[derive(Debug, Deserialize)]
pub struct Wait {
    #[serde(default)]
    wait_ms: u64,
}

/// The list, once nothing is due and nothing is on the wire, or after `wait_ms`.
pub async fn list(Shared(sim): Shared<Simulator>, Query(wait): Query<Wait>) -> Json<Value> {
    let tried = sim.state.lock().await.webhooks.tried.clone();
    let idle = async {
        loop {
            let next = tried.notified();
            {
                let state = sim.lock().await;
                if state.webhooks.is_idle(state.now_ms()) {
                    return;
                }
            }
            next.await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(wait.wait_ms.min(WAIT_MS_MAX)), idle).await;
    Json(sim.lock().await.webhooks.view())
}

/// Body of `POST /_control/webhooks`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    provider: Provider,
    url: Option<String>,
    lose: Option<u32>,
}

/// Another address from now on, or the next n messages lost.
///
/// # Errors
/// When the provider has no webhooks or the address is not allowed.
pub async fn target(
    Shared(sim): Shared<Simulator>,
    StrictJson(body): StrictJson<Target>,
) -> Result<Json<Value>, Problem> {
    if body.provider == Provider::Kakaopay {
        return Err(Problem::field("provider", "toss or stripe: KakaoPay sends no webhooks"));
    }
    if let Some(url) = &body.url {
        sim.cfg.webhook_target(url).map_err(|rule| Problem::field("url", rule))?;
    }
    let mut state = sim.lock().await;
    if let Some(url) = &body.url {
        state.webhooks.set_target(body.provider, url);
    }
    if let Some(n) = body.lose {
        state.webhooks.lose_next(body.provider, n);
    }
    let url = state.webhooks.target(body.provider).unwrap_or_default().to_owned();
    Ok(Json(json!({ "provider": body.provider, "url": url })))
}

/// Sends messages again, wrong, late or never meant.
///
/// # Errors
/// When a field is wrong, there is no such payment, or nothing is known to send.
pub async fn send(Shared(sim): Shared<Simulator>, StrictJson(asked): StrictJson<Send>) -> Result<Json<Value>, Problem> {
    asked.check().map_err(|(field, rule)| Problem::field(field, rule))?;
    if asked.huge && asked.times > HUGE_SENDS_MAX {
        return Err(Problem::field("times", format!("at most {HUGE_SENDS_MAX} huge ones")));
    }
    let mut state = sim.lock().await;
    let now_ms = state.now_ms();
    let base =
        if asked.forge { vec![(forge(&state, &asked, now_ms)?, Vec::new())] } else { known(&state, &asked, now_ms)? };
    let list = asked.spread(base);
    if list.is_empty() {
        return Err(Problem::field("event", "nothing of this event was sent for this payment so far"));
    }
    let due_ms = now_ms.saturating_add(asked.delay_ms);
    let count = list.len();
    for (message, headers) in list {
        state.webhooks.push_once(message, due_ms, if asked.replay { headers } else { Vec::new() });
    }
    Ok(Json(json!({ "queued": count, "due_ms": due_ms, "sends_max": SENDS_MAX, "remembered_max": WEBHOOKS_MAX })))
}

/// What was sent about the payment so far, or an event that is about no payment.
fn known(state: &State, asked: &Send, now_ms: i64) -> Result<Vec<Sealed>, Problem> {
    if asked.provider == Provider::Toss
        && let Some(event) = asked.event.as_deref().filter(|event| toss::event::is_entity_event(event))
    {
        let secret = state.webhooks.secret(Provider::Toss);
        let envelope = toss::event::entity_envelope(event, now_ms);
        return Ok(vec![(toss::event::message(event, &asked.payment, &envelope, Some(secret)), Vec::new())]);
    }
    exists(state, asked)?;
    Ok(state.webhooks.about(asked.provider, &asked.payment))
}

fn forge(state: &State, asked: &Send, now_ms: i64) -> Result<Message, Problem> {
    exists(state, asked)?;
    let event = asked.event.as_deref();
    let forged = match asked.provider {
        Provider::Toss => state
            .toss
            .find(&asked.payment)
            .map(|payment| toss::event::forged(payment, event, state.toss.public_url(), now_ms)),
        Provider::Stripe => stripe::forged(state, &asked.payment, event, now_ms),
        Provider::Kakaopay => None,
    };
    forged.ok_or_else(|| Problem::field("payment", "no such payment"))
}

fn exists(state: &State, asked: &Send) -> Result<(), Problem> {
    let known = match asked.provider {
        Provider::Toss => state.toss.find(&asked.payment).is_some(),
        Provider::Stripe => state.stripe.find(&asked.payment).is_some(),
        Provider::Kakaopay => false,
    };
    if known { Ok(()) } else { Err(Problem::field("payment", "no such payment")) }
}

/// Body of `POST /_control/toss/deposit`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deposit {
    payment: String,
    #[serde(default)]
    error: bool,
}

/// The buyer pays into a virtual account, or the bank takes it back.
///
/// # Errors
/// When the payment does not wait for that.
pub async fn deposit(
    Shared(sim): Shared<Simulator>,
    StrictJson(body): StrictJson<Deposit>,
) -> Result<Json<Value>, Problem> {
    let mut state = sim.lock().await;
    let now_ms = state.now_ms();
    if !toss::event::deposit(&mut state, &body.payment, body.error, now_ms) {
        return Err(Problem::field("payment", "no virtual account that waits for this"));
    }
    let status = state.toss.find(&body.payment).map(|payment| payment.status);
    Ok(Json(json!({ "payment": body.payment, "status": status })))
}
