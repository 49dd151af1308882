//! Notices of Toss Payments. Payment events carry no signature, so they are hints that have us ask; nothing in them is
//! believed, not even a deposit's `secret`. They come up to four days late, in any order, and more than once: the
//! transmission's id is the same for a repetition.
//!
//! | envelope | form | what names the payment |
//! |---|---|---|
//! | events of a payment | `{eventType, createdAt, data}` | `data.orderId` |
//! | deposit, flat | `{createdAt, secret, status, transactionKey, orderId}` | `orderId` |
//! | others | `{eventType, createdAt, version, eventId, entityType, entityBody}` | nothing of ours |

use crate::provider::{About, BadNotice, Notice};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

/// The header with the id of a transmission, the same in its repetitions.
const TRANSMISSION: &str = "tosspayments-webhook-transmission-id";
/// Longest id that is taken, in bytes.
const ID_BYTES_MAX: usize = 200;
/// Longest word for what happened, in bytes.
const KIND_BYTES_MAX: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    event_type: Option<String>,
    created_at: Option<String>,
    data: Option<Value>,
    entity_body: Option<Value>,
    order_id: Option<String>,
    secret: Option<String>,
    status: Option<String>,
}

/// Reads a notice.
pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Notice, BadNotice> {
    let id = headers.get(TRANSMISSION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !(1..=ID_BYTES_MAX).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(BadNotice::Unreadable);
    }
    let value: Value = serde_json::from_slice(body).map_err(|_| BadNotice::Unreadable)?;
    if !value.is_object() {
        return Err(BadNotice::Unreadable);
    }
    let envelope: Envelope = serde_json::from_value(value).map_err(|_| BadNotice::Unreadable)?;
    // All three have it, in two different forms; nothing depends on when.
    if envelope.created_at.is_none() {
        return Err(BadNotice::Unreadable);
    }
    let (kind, about) = match (&envelope.event_type, &envelope.data, &envelope.entity_body) {
        (Some(kind), Some(data), _) => (kind.as_str(), order(data.get("orderId").and_then(Value::as_str))),
        (Some(kind), None, Some(_)) => (kind.as_str(), About::Nothing),
        (None, None, None) if envelope.secret.is_some() && envelope.status.is_some() => {
            ("DEPOSIT_CALLBACK", order(Some(envelope.order_id.as_deref().ok_or(BadNotice::Unreadable)?)))
        }
        _ => return Err(BadNotice::Unreadable),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if !(1..=KIND_BYTES_MAX).contains(&kind.len()) || !kind.bytes().all(plain) {
        return Err(BadNotice::Unreadable);
    }
    Ok(Notice { event_id: id.to_owned(), kind: kind.to_owned(), about })
}

/// The provider serves other shops of the same account as well: an order id that is none of ours is no error.
fn order(id: Option<&str>) -> About {
    id.and_then(|id| id.parse().ok()).map_or(About::Nothing, About::Order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use serde_json::json;
    use service_kit::ids::OrderId;

    fn heard(id: Option<&str>, body: &Value) -> Result<Notice, BadNotice> {
        let mut headers = HeaderMap::new();
        if let Some(id) = id {
            headers.insert(TRANSMISSION, HeaderValue::from_str(id).unwrap());
        }
        read(&headers, body.to_string().as_bytes())
    }

    #[test]
    fn the_three_envelopes_are_told_apart() {
        let order = OrderId::new();
        let event = json!({ "eventType": "PAYMENT_STATUS_CHANGED", "createdAt": "2026-11-21T12:00:00.000000",
            "data": { "orderId": order, "status": "DONE" } });
        let expected =
            Notice { event_id: "t1".into(), kind: "PAYMENT_STATUS_CHANGED".into(), about: About::Order(order) };
        assert_eq!(heard(Some("t1"), &event), Ok(expected));
        let deposit = json!({ "createdAt": "2026-11-21T12:00:00+09:00", "secret": "ps_1", "status": "DONE",
            "transactionKey": "k", "orderId": order });
        let expected = Notice { event_id: "t2".into(), kind: "DEPOSIT_CALLBACK".into(), about: About::Order(order) };
        assert_eq!(heard(Some("t2"), &deposit), Ok(expected));
        let payout = json!({ "eventType": "payout.changed", "createdAt": "2026-11-21T12:00:00+09:00", "version": "2022-11-16",
            "eventId": "e", "entityType": "payout", "entityBody": {} });
        assert_eq!(heard(Some("t3"), &payout).map(|n| n.about), Ok(About::Nothing));
        let foreign = json!({ "eventType": "X", "createdAt": "c", "data": { "orderId": "another-shop" } });
        assert_eq!(heard(Some("t4"), &foreign).map(|n| n.about), Ok(About::Nothing));
    }

    #[test]
    fn what_is_no_notice_is_not_taken() {
        let good = json!({ "eventType": "X", "createdAt": "c", "data": {} });
        assert!(heard(Some("t"), &good).is_ok());
        assert_eq!(heard(None, &good), Err(BadNotice::Unreadable), "no transmission id");
        assert_eq!(heard(Some(&"t".repeat(201)), &good), Err(BadNotice::Unreadable));
        for bad in [
            json!([]),
            json!({}),
            json!({ "eventType": "X", "data": {} }),
            json!({ "eventType": "X", "createdAt": "c" }),
            json!({ "eventType": "a b", "createdAt": "c", "data": {} }),
            json!({ "eventType": "x".repeat(65), "createdAt": "c", "data": {} }),
            json!({ "createdAt": "c", "secret": "s", "status": "DONE" }),
            json!({ "createdAt": "c", "orderId": OrderId::new() }),
        ] {
            assert_eq!(heard(Some("t"), &bad), Err(BadNotice::Unreadable), "{bad}");
        }
    }
}
