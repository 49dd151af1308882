//! Events: kept for `GET /v1/events` and sent as signed webhooks; and what happens by itself when its time comes.

use super::body;
use super::book::Event;
use super::intent::{AUTHORIZATION_MS, Intent, Status};
use super::refund::RefundStatus;
use crate::clock::unix_s;
use crate::fault::Provider;
use crate::store::{Due, State};
use crate::webhook::{Message, Seal};
use serde_json::{Map, Value, json};

/// The request that made something happen; none when it happened by itself.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// `req_…`.
    pub request: Option<String>,
    /// Its idempotency key.
    pub key: Option<String>,
}

/// Something happened to an object of this PaymentIntent.
pub fn emit(
    state: &mut State,
    kind: &str,
    object: Value,
    previous: Option<Value>,
    intent: &str,
    origin: &Origin,
    now_ms: i64,
) {
    let id = state.next_long_id("evt_");
    let waiting = u8::from(state.webhooks.target(Provider::Stripe).is_some());
    let json = event_object(&id, kind, object, previous, origin, waiting, now_ms);
    let message = message(kind, intent, &json, state.webhooks.secret(Provider::Stripe));
    state.stripe.record(Event { id, kind: kind.to_owned(), created_ms: now_ms, json });
    state.webhooks.push(message, now_ms);
}

fn event_object(
    id: &str,
    kind: &str,
    object: Value,
    previous: Option<Value>,
    origin: &Origin,
    waiting: u8,
    now_ms: i64,
) -> Value {
    let mut data = Map::new();
    data.insert("object".to_owned(), object);
    if let Some(previous) = previous {
        data.insert("previous_attributes".to_owned(), previous);
    }
    json!({
        "id": id,
        "object": "event",
        "api_version": body::VERSION,
        "created": unix_s(now_ms),
        "data": data,
        "livemode": false,
        "pending_webhooks": waiting,
        "request": { "id": origin.request, "idempotency_key": origin.key },
        "type": kind,
    })
}

fn message(kind: &str, intent: &str, event: &Value, secret: &str) -> Message {
    Message {
        provider: Provider::Stripe,
        event: kind.to_owned(),
        payment: intent.to_owned(),
        body: event.to_string().into(),
        content_type: "application/json; charset=utf-8".to_owned(),
        seal: Seal::Stripe { secret: secret.to_owned() },
    }
}

/// Something happened to a PaymentIntent.
pub fn emit_intent(state: &mut State, kind: &str, id: &str, origin: &Origin, now_ms: i64) {
    let Some(intent) = state.stripe.find(id) else { return };
    let object = body::intent(intent, state.stripe.public_url(), None);
    emit(state, kind, object, None, id, origin, now_ms);
}

/// The event of what a PaymentIntent became.
pub fn kind_of(status: Status) -> &'static str {
    match status {
        Status::RequiresPaymentMethod => "payment_intent.payment_failed",
        Status::RequiresConfirmation => "payment_intent.created",
        Status::RequiresAction => "payment_intent.requires_action",
        Status::Processing => "payment_intent.processing",
        Status::RequiresCapture => "payment_intent.amount_capturable_updated",
        Status::Canceled => "payment_intent.canceled",
        Status::Succeeded => "payment_intent.succeeded",
    }
}

/// A PaymentIntent became something else.
pub fn emit_status(state: &mut State, id: &str, origin: &Origin, now_ms: i64) {
    if let Some(status) = state.stripe.find(id).map(|intent| intent.status) {
        emit_intent(state, kind_of(status), id, origin, now_ms);
    }
}

/// Something happened to a refund; `charge.refunded` comes with it when its money is back.
pub fn emit_refund(
    state: &mut State,
    kind: &str,
    id: &str,
    before: Option<RefundStatus>,
    origin: &Origin,
    now_ms: i64,
) {
    let Some(refund) = state.stripe.refund(id) else { return };
    let (object, intent) = (body::refund(refund), refund.intent.clone());
    let back = refund.status == RefundStatus::Succeeded;
    let previous = before.map(|status| json!({ "status": status }));
    emit(state, kind, object, previous, &intent, origin, now_ms);
    if back {
        emit_charge_refunded(state, &intent, origin, now_ms);
    }
}

fn emit_charge_refunded(state: &mut State, id: &str, origin: &Origin, now_ms: i64) {
    let Some(intent) = state.stripe.find(id) else { return };
    let Some(charge) = &intent.charge else { return };
    let object = body::charge(intent, charge, state.stripe.refunded(intent));
    emit(state, "charge.refunded", object, None, id, origin, now_ms);
}

/// A payment that was processing is decided.
pub fn processed(state: &mut State, id: &str, now_ms: i64) {
    if state.stripe.find_mut(id).is_some_and(Intent::process) {
        emit_status(state, id, &Origin::default(), now_ms);
        watch_authorization(state, id, now_ms);
    }
}

/// An authorization is given up when nobody captures it in time.
pub fn watch_authorization(state: &mut State, id: &str, now_ms: i64) {
    if state.stripe.find(id).is_some_and(|intent| intent.status == Status::RequiresCapture) {
        state.at(now_ms.saturating_add(AUTHORIZATION_MS), Due::StripeAuthorization(id.to_owned()));
    }
}

/// An authorization is too old to be captured.
pub fn authorization_over(state: &mut State, id: &str, now_ms: i64) {
    if state.stripe.find_mut(id).is_some_and(|intent| intent.expire(now_ms)) {
        emit_status(state, id, &Origin::default(), now_ms);
    }
}

/// A refund is decided.
pub fn refund_decided(state: &mut State, id: &str, now_ms: i64) {
    let Some(refund) = state.stripe.refund_mut(id) else { return };
    let Some(before) = refund.decide() else { return };
    let failed = refund.status == RefundStatus::Failed;
    let nobody = Origin::default();
    emit_refund(state, "refund.updated", id, Some(before), &nobody, now_ms);
    if failed {
        emit_refund(state, "refund.failed", id, None, &nobody, now_ms);
    }
}

/// The message of somebody who wants this payment to look paid, signed with another secret.
pub fn forged(state: &State, id: &str, kind: Option<&str>, now_ms: i64) -> Option<Message> {
    let mut lie: Intent = state.stripe.find(id)?.clone();
    lie.status = Status::Succeeded;
    let kind = kind.unwrap_or("payment_intent.succeeded");
    let mut object = body::intent(&lie, state.stripe.public_url(), None);
    if let Some(received) = object.get_mut("amount_received") {
        *received = lie.asked.amount.into();
    }
    let event_id = format!("evt_forged{}", crate::store::random_hex::<16>());
    let event = event_object(&event_id, kind, object, None, &Origin::default(), 1, now_ms);
    let mut message = message(kind, id, &event, state.webhooks.secret(Provider::Stripe));
    message.seal = message.seal.forged();
    Some(message)
}
