//! Notices of Stripe: signed with HMAC-SHA256 over the time and the body as it came, byte by byte.
//!
//! `Stripe-Signature: t=<unix seconds>,v1=<hex>[,v1=<hex>…]`. While a secret is being changed Stripe signs with both, and
//! we know both: one pair that fits is enough. A replay within the tolerance has no second effect, because the event's
//! id is written down with the first one.

use crate::provider::{About, BadNotice, Notice};
use axum::http::HeaderMap;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;

/// How far the signature's time may be from ours, in milliseconds.
const TOLERANCE_MS: i64 = 300_000;
/// Longest header that is looked at, in bytes.
const HEADER_BYTES_MAX: usize = 2_048;
/// Signatures of one header that are tried.
const SIGNATURES_MAX: usize = 8;
/// Longest id and type of an event, in bytes.
const WORD_BYTES_MAX: usize = 100;

#[derive(Debug, Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    object: Value,
}

/// Reads a notice that was signed with one of `secrets`.
pub(super) fn read(secrets: &[&[u8]], headers: &HeaderMap, body: &[u8], now_ms: i64) -> Result<Notice, BadNotice> {
    let header = headers.get("stripe-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let signed_at_s = signed_at(secrets, header, body).ok_or(BadNotice::Signature)?;
    if now_ms.saturating_sub(signed_at_s.saturating_mul(1_000)).saturating_abs() > TOLERANCE_MS {
        return Err(BadNotice::Stale);
    }
    let event: Event = serde_json::from_slice(body).map_err(|_| BadNotice::Unreadable)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let is_word = |text: &str| (1..=WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain);
    if !is_word(&event.id) || !is_word(&event.kind) {
        return Err(BadNotice::Unreadable);
    }
    Ok(Notice { event_id: event.id, kind: event.kind, about: about(&event.data.object) })
}

/// The time of a signature that is the provider's.
fn signed_at(secrets: &[&[u8]], header: &str, body: &[u8]) -> Option<i64> {
    if header.len() > HEADER_BYTES_MAX {
        return None;
    }
    let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
    let mut times = parts().filter(|(name, _)| *name == "t").map(|(_, value)| value);
    let (time, None) = (times.next()?, times.next()) else { return None };
    let at_s: i64 = time.parse().ok()?;
    let given: Vec<[u8; 32]> =
        parts().filter(|(name, _)| *name == "v1").take(SIGNATURES_MAX).filter_map(|(_, hex)| bytes(hex)).collect();
    let fits = secrets.iter().any(|secret| {
        given.iter().any(|given| {
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return false };
            mac.update(time.as_bytes());
            mac.update(b".");
            mac.update(body);
            // In constant time.
            mac.verify_slice(given).is_ok()
        })
    });
    fits.then_some(at_s)
}

/// 64 hexadecimal digits.
fn bytes(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

/// Which payment: a PaymentIntent says ours; a charge, a refund or a dispute says the PaymentIntent.
fn about(object: &Value) -> About {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    if text("object") == Some("payment_intent") {
        let ours = object.pointer("/metadata/payment").and_then(Value::as_str).and_then(|id| id.parse().ok());
        return match (ours, text("id")) {
            (Some(payment), _) => About::Payment(payment),
            (None, Some(id)) => reference(id),
            (None, None) => About::Nothing,
        };
    }
    text("payment_intent").map_or(About::Nothing, reference)
}

fn reference(id: &str) -> About {
    super::plain_id(id).map_or(About::Nothing, |id| About::Reference(id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use serde_json::json;
    use service_kit::ids::PaymentId;

    const NOW_S: i64 = 1_795_000_000;

    fn sign(secret: &[u8], at_s: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        mac.update(format!("{at_s}.").as_bytes());
        mac.update(body);
        mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect()
    }

    fn heard(secrets: &[&[u8]], header: &str, body: &[u8]) -> Result<Notice, BadNotice> {
        let mut headers = HeaderMap::new();
        headers.insert("stripe-signature", HeaderValue::from_str(header).unwrap());
        read(secrets, &headers, body, NOW_S * 1_000)
    }

    fn event(object: &Value) -> Vec<u8> {
        json!({ "id": "evt_1", "object": "event", "type": "payment_intent.succeeded", "data": { "object": object } })
            .to_string()
            .into_bytes()
    }

    /// The example of the provider's documents does not exist offline: computed with another program (openssl).
    #[test]
    fn a_known_signature_fits() {
        let body = br#"{"id":"evt_1"}"#;
        let known = "t=1795000000,v1=9768205fbb644a6a645cdd13f225c6791ed91580e4d16c14b9a8e73cd4ba4393";
        let at = signed_at(&[b"whsec_test"], known, body);
        assert_eq!(at, Some(1_795_000_000));
    }

    #[test]
    fn one_pair_that_fits_is_enough() {
        let body = event(&json!({ "object": "payment_intent", "id": "pi_1" }));
        let (old, new) = (sign(b"old", NOW_S, &body), sign(b"new", NOW_S, &body));
        for header in
            [format!("t={NOW_S},v1={new}"), format!("t={NOW_S},v1={old},v1={new},v0=x"), format!("v1={old}, t={NOW_S}")]
        {
            assert!(heard(&[b"new", b"old"], &header, &body).is_ok(), "{header}");
        }
        assert_eq!(heard(&[b"third"], &format!("t={NOW_S},v1={new}"), &body), Err(BadNotice::Signature));
    }

    #[test]
    fn everything_else_is_refused() {
        let body = event(&json!({}));
        let good = sign(b"s", NOW_S, &body);
        for header in [
            String::new(),
            format!("v1={good}"),
            format!("t={NOW_S}"),
            format!("t={NOW_S},v1="),
            format!("t={NOW_S},v0={good}"),
            format!("t={},v1={good}", NOW_S + 1),
            format!("t={NOW_S},t={NOW_S},v1={good}"),
            format!("t=x,v1={good}"),
            format!("t={NOW_S},v1={}", good.replace(|c: char| c.is_ascii_digit(), "g")),
            format!("t={NOW_S},v1={},v1={good}", "0".repeat(HEADER_BYTES_MAX)),
        ] {
            assert_eq!(heard(&[b"s"], &header, &body), Err(BadNotice::Signature), "{header}");
        }
        let mut other = body.clone();
        other.push(b' ');
        assert_eq!(heard(&[b"s"], &format!("t={NOW_S},v1={good}"), &other), Err(BadNotice::Signature), "another body");
        let no_event = br#"{"id":"evt_1"}"#;
        let header = format!("t={NOW_S},v1={}", sign(b"s", NOW_S, no_event));
        assert_eq!(heard(&[b"s"], &header, no_event), Err(BadNotice::Unreadable));
    }

    #[test]
    fn an_old_signature_is_stale_and_one_at_the_edge_is_not() {
        let body = event(&json!({}));
        for (at_s, expected) in [(NOW_S - 300, true), (NOW_S + 300, true), (NOW_S - 301, false), (NOW_S + 301, false)] {
            let header = format!("t={at_s},v1={}", sign(b"s", at_s, &body));
            assert_eq!(heard(&[b"s"], &header, &body).is_ok(), expected, "{at_s}");
        }
        let header = format!("t=0,v1={}", sign(b"s", 0, &body));
        assert_eq!(heard(&[b"s"], &header, &body), Err(BadNotice::Stale));
    }

    #[test]
    fn each_object_names_its_payment() {
        let payment = PaymentId::new();
        for (object, expected) in [
            (
                json!({ "object": "payment_intent", "id": "pi_1", "metadata": { "payment": payment } }),
                About::Payment(payment),
            ),
            (
                json!({ "object": "payment_intent", "id": "pi_1", "metadata": { "payment": "x" } }),
                About::Reference("pi_1".into()),
            ),
            (json!({ "object": "refund", "id": "re_1", "payment_intent": "pi_1" }), About::Reference("pi_1".into())),
            (json!({ "object": "charge", "id": "ch_1", "payment_intent": null }), About::Nothing),
            (json!({ "object": "charge", "id": "ch_1", "payment_intent": "pi/../x" }), About::Nothing),
            (json!("x"), About::Nothing),
        ] {
            assert_eq!(about(&object), expected, "{object}");
        }
    }
}
