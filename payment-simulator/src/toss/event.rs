//! What the shop is told, in three envelopes; and what happens by itself when its time comes.
//!
//! (a) `{eventType, createdAt, data}` for payments and cancels, unsigned · (b) `{createdAt, secret, status,
//! transactionKey, orderId}` for deposits, proven by the secret · (c) `{eventType, createdAt, version, eventId,
//! entityType, entityBody}` for payouts, the only signed ones.

use super::body;
use super::payment::{Method, Payment, Status};
use crate::clock::{seoul_micros, seoul_with_zone};
use crate::fault::Provider;
use crate::store::{State, random_hex};
use crate::webhook::{Message, Seal};
use serde_json::{Value, json};

/// The event of a status.
pub const STATUS_CHANGED: &str = "PAYMENT_STATUS_CHANGED";
/// The event of a deposit; the envelope itself does not say its name.
pub const DEPOSIT: &str = "DEPOSIT_CALLBACK";
/// The event of a cancel that was decided later.
pub const CANCEL_CHANGED: &str = "CANCEL_STATUS_CHANGED";

/// Whether the shop hears of a status by the envelope (a).
pub fn is_told(status: Status) -> bool {
    matches!(status, Status::Done | Status::Canceled | Status::PartialCanceled | Status::Aborted | Status::Expired)
}

/// Envelope (a).
pub fn envelope(event: &str, data: Value, now_ms: i64) -> Value {
    json!({ "eventType": event, "createdAt": seoul_micros(now_ms), "data": data })
}

/// Envelope (b): where the deposit of a virtual account stands.
pub fn deposit_envelope(payment: &Payment, now_ms: i64) -> Value {
    json!({
        "createdAt": seoul_with_zone(now_ms),
        "secret": payment.secret,
        "status": payment.status,
        "transactionKey": payment.transaction,
        "orderId": payment.asked.order_id,
    })
}

/// Envelope (c).
pub fn entity_envelope(event: &str, now_ms: i64) -> Value {
    let entity = event.split('.').next().unwrap_or(event);
    json!({
        "eventType": event,
        "createdAt": seoul_with_zone(now_ms),
        "version": "2022-11-16",
        "eventId": random_hex::<32>(),
        "entityType": entity,
        "entityBody": { "id": format!("{entity}-{}", random_hex::<8>()), "status": "COMPLETED" },
    })
}

/// Whether this event comes in the envelope (c), with a signature.
pub fn is_entity_event(event: &str) -> bool {
    matches!(event, "payout.changed" | "seller.changed")
}

/// A message of an envelope.
pub fn message(event: &str, payment: &str, envelope: &Value, secret: Option<&str>) -> Message {
    Message {
        provider: Provider::Toss,
        event: event.to_owned(),
        payment: payment.to_owned(),
        body: envelope.to_string().into(),
        content_type: "application/json".to_owned(),
        seal: Seal::Toss { transmission_id: random_hex::<32>(), secret: secret.map(str::to_owned) },
    }
}

/// Tells the shop where a payment stands, if its status is another one than `before`.
pub fn tell(state: &mut State, key: &str, before: Status, now_ms: i64) {
    if state.toss.find(key).is_some_and(|payment| payment.status != before) {
        announce(state, key, now_ms);
    }
}

/// Tells the shop where a payment stands: by (a) for the statuses that have an event, and for virtual accounts by (b).
pub fn announce(state: &mut State, key: &str, now_ms: i64) {
    let Some(payment) = state.toss.find(key) else { return };
    let account = payment.asked.method == Method::VirtualAccount && payment.transaction.is_some();
    let deposit = account.then(|| message(DEPOSIT, key, &deposit_envelope(payment, now_ms), None));
    let changed = is_told(payment.status).then(|| {
        let data = body::payment(payment, state.toss.public_url());
        message(STATUS_CHANGED, key, &envelope(STATUS_CHANGED, data, now_ms), None)
    });
    for message in [deposit, changed].into_iter().flatten() {
        state.webhooks.push(message, now_ms);
    }
}

/// The buyer pays into a virtual account, or with `error` the bank takes the deposit back. Returns whether that was
/// possible.
pub fn deposit(state: &mut State, key: &str, error: bool, now_ms: i64) -> bool {
    let Some(payment) = state.toss.find_mut(key) else { return false };
    let moved = if error { payment.deposit_failed() } else { payment.deposit(now_ms) };
    if moved {
        announce(state, key, now_ms);
    }
    moved
}

/// A step of a session may be over.
pub fn session_over(state: &mut State, key: &str, now_ms: i64) {
    let Some(payment) = state.toss.find_mut(key) else { return };
    let before = payment.status;
    payment.expire(now_ms);
    tell(state, key, before, now_ms);
}

/// A cancel in progress is decided.
pub fn cancel_decided(state: &mut State, key: &str, transaction: &str, now_ms: i64) {
    let Some(payment) = state.toss.find_mut(key) else { return };
    if !payment.decide_cancel(transaction) {
        return;
    }
    let Some(cancel) = payment.cancels.iter().find(|cancel| cancel.transaction == transaction) else { return };
    let data = body::one_cancel(payment, cancel);
    let message = message(CANCEL_CHANGED, key, &envelope(CANCEL_CHANGED, data, now_ms), None);
    state.webhooks.push(message, now_ms);
}

/// The message of somebody who wants this payment to look paid: nothing in it is true.
pub fn forged(payment: &Payment, event: Option<&str>, public_url: &str, now_ms: i64) -> Message {
    let mut lie = payment.clone();
    lie.status = Status::Done;
    lie.secret = "forged".to_owned();
    lie.approved_ms = Some(now_ms);
    lie.transaction.get_or_insert_with(|| "forged".to_owned());
    let event = event.unwrap_or(STATUS_CHANGED);
    let body = if event == DEPOSIT {
        deposit_envelope(&lie, now_ms)
    } else {
        envelope(event, body::payment(&lie, public_url), now_ms)
    };
    let mut message = message(event, &payment.key, &body, None);
    message.seal = message.seal.forged();
    message
}

#[cfg(test)]
mod tests {
    use super::super::payment::tests::confirmed;
    use super::*;

    #[test]
    fn the_three_envelopes() {
        let payment = confirmed(Method::VirtualAccount);
        let a = envelope(STATUS_CHANGED, json!({}), 0);
        assert_eq!(
            (a["eventType"].as_str(), a["createdAt"].as_str()),
            (Some(STATUS_CHANGED), Some("1970-01-01T09:00:00.000000"))
        );
        let b = deposit_envelope(&payment, 0);
        let mut members: Vec<&String> = b.as_object().unwrap().keys().collect();
        members.sort();
        assert_eq!(members, ["createdAt", "orderId", "secret", "status", "transactionKey"]);
        assert_eq!((b["secret"].as_str(), b["createdAt"].as_str()), (Some("ps_1"), Some("1970-01-01T09:00:00+09:00")));
        let c = entity_envelope("payout.changed", 0);
        assert_eq!((&c["entityType"], &c["version"]), (&json!("payout"), &json!("2022-11-16")));
    }

    #[test]
    fn a_forgery_says_paid_and_cannot_prove_it() {
        let payment = confirmed(Method::VirtualAccount);
        let deposit: Value = serde_json::from_str(&forged(&payment, Some(DEPOSIT), "http://sim", 0).body).unwrap();
        assert_eq!(deposit["status"], "DONE");
        assert_ne!(deposit["secret"], payment.secret.as_str());
        let changed: Value = serde_json::from_str(&forged(&payment, None, "http://sim", 0).body).unwrap();
        assert_eq!(changed["data"]["status"], "DONE");
    }
}
