//! The objects as JSON.

use super::error::Refusal;
use super::intent::{Charge, Intent, Status};
use super::refund::{Refund, RefundStatus};
use crate::clock::unix_s;
use crate::fault::Fault;
use serde_json::{Value, json};
use service_kit::money::Currency;

/// The version of the objects.
pub const VERSION: &str = "2024-06-20";

/// `krw`.
pub fn code(currency: Currency) -> &'static str {
    match currency {
        Currency::KRW => "krw",
        Currency::USD => "usd",
        Currency::EUR => "eur",
        Currency::JPY => "jpy",
    }
}

/// A PaymentIntent; its charge as an id, or whole when `expanded` (then with the sum of its refunds).
pub fn intent(intent: &Intent, public_url: &str, expanded: Option<i64>) -> Value {
    let asked = &intent.asked;
    let charge = intent.charge.as_ref().map(|c| match expanded {
        Some(refunded) => charge(intent, c, refunded),
        None => c.id.as_str().into(),
    });
    json!({
        "id": intent.id,
        "object": "payment_intent",
        "amount": asked.amount,
        "amount_capturable": intent.capturable(),
        "amount_received": intent.received(),
        "application": null,
        "application_fee_amount": null,
        "automatic_payment_methods": asked.automatic_payment_methods.then(|| json!({ "allow_redirects": "always", "enabled": true })),
        "canceled_at": intent.canceled_ms.map(unix_s),
        "cancellation_reason": intent.cancellation_reason,
        "capture_method": asked.capture_method,
        "client_secret": intent.client_secret,
        "confirmation_method": asked.confirmation_method,
        "created": unix_s(intent.created_ms),
        "currency": code(asked.currency),
        "customer": asked.customer,
        "description": asked.description,
        "last_payment_error": intent.last_error.as_ref().map(last_error),
        "latest_charge": charge,
        "livemode": false,
        "metadata": asked.metadata,
        "next_action": next_action(intent, public_url),
        "on_behalf_of": null,
        "payment_method": asked.payment_method,
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "processing": null,
        "receipt_email": asked.receipt_email,
        "review": null,
        "setup_future_usage": null,
        "shipping": null,
        "statement_descriptor": null,
        "statement_descriptor_suffix": null,
        "status": intent.status,
        "transfer_data": null,
        "transfer_group": null,
    })
}

fn last_error(refusal: &Refusal) -> Value {
    json!({
        "type": "card_error",
        "code": refusal.code,
        "decline_code": refusal.decline_code,
        "message": refusal.message,
    })
}

fn next_action(intent: &Intent, public_url: &str) -> Option<Value> {
    let asks = intent.status == Status::RequiresAction;
    asks.then(|| match &intent.asked.return_url {
        Some(return_url) => {
            let page = format!("{public_url}/stripe/pay/{}", intent.id);
            let url =
                crate::web::with_query(&page, &[("client_secret", &intent.client_secret), ("return_url", return_url)]);
            json!({ "type": "redirect_to_url", "redirect_to_url": { "url": url, "return_url": return_url } })
        }
        None => json!({ "type": "use_stripe_sdk", "use_stripe_sdk": {} }),
    })
}

/// A Charge.
pub fn charge(intent: &Intent, charge: &Charge, refunded: i64) -> Value {
    json!({
        "id": charge.id,
        "object": "charge",
        "amount": charge.amount,
        "amount_captured": if charge.captured { charge.amount } else { 0 },
        "amount_refunded": refunded,
        "captured": charge.captured,
        "created": unix_s(charge.created_ms),
        "currency": code(intent.asked.currency),
        "customer": intent.asked.customer,
        "description": intent.asked.description,
        "disputed": false,
        "failure_code": null,
        "failure_message": null,
        "livemode": false,
        "metadata": intent.asked.metadata,
        "paid": true,
        "payment_intent": intent.id,
        "payment_method": intent.asked.payment_method,
        "refunded": charge.captured && refunded == charge.amount,
        "status": "succeeded",
    })
}

/// A Refund.
pub fn refund(refund: &Refund) -> Value {
    json!({
        "id": refund.id,
        "object": "refund",
        "amount": refund.amount,
        "balance_transaction": null,
        "charge": refund.charge,
        "created": unix_s(refund.created_ms),
        "currency": refund.currency,
        "failure_reason": (refund.status == RefundStatus::Failed).then_some("expired_or_canceled_card"),
        "metadata": refund.metadata,
        "payment_intent": refund.intent,
        "pending_reason": (refund.status == RefundStatus::Pending).then_some("processing"),
        "reason": refund.reason,
        "receipt_number": null,
        "source_transfer_reversal": null,
        "status": refund.status,
        "transfer_reversal": null,
    })
}

/// A page of a list.
pub fn list(url: &str, data: Vec<Value>, has_more: bool) -> Value {
    json!({ "object": "list", "url": url, "has_more": has_more, "data": data })
}

/// Says something else than the truth about amount, currency or order (all metadata: the provider does not know which
/// of it is the shop's order).
pub fn falsify(object: &mut Value, fault: Option<Fault>) {
    match fault {
        Some(Fault::WrongAmount) => {
            for member in ["amount", "amount_received"] {
                if let Some(value) = object.get_mut(member)
                    && let Some(amount) = value.as_i64().filter(|amount| *amount > 0)
                {
                    *value = (amount + 100).into();
                }
            }
        }
        Some(Fault::WrongCurrency) => {
            if let Some(value) = object.get_mut("currency") {
                *value = if *value == "usd" { "krw" } else { "usd" }.into();
            }
        }
        Some(Fault::WrongOrder) => {
            for value in
                object.get_mut("metadata").and_then(Value::as_object_mut).into_iter().flat_map(|m| m.values_mut())
            {
                *value = format!("{}-other", value.as_str().unwrap_or_default()).into();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::intent::tests::{intent as fresh, with};
    use super::*;

    #[test]
    fn the_object_follows_the_payment() {
        let mut paid = fresh("automatic");
        let before = intent(&paid, "http://sim", None);
        assert_eq!((&before["status"], &before["latest_charge"]), (&json!("requires_payment_method"), &json!(null)));
        paid.confirm(&with("pm_card_visa"), 1).unwrap();
        let after = intent(&paid, "http://sim", None);
        assert_eq!((&after["status"], &after["amount_received"]), (&json!("succeeded"), &json!(12_900)));
        assert_eq!(after["latest_charge"], "ch_1");
        let whole = intent(&paid, "http://sim", Some(900));
        assert_eq!(whole["latest_charge"]["amount_refunded"], 900);
    }

    #[test]
    fn a_lie_is_told_where_it_was_asked() {
        let truth = intent(&fresh("automatic"), "http://sim", None);
        for (fault, pointer, told) in [
            (Fault::WrongAmount, "/amount", json!(13_000)),
            (Fault::WrongCurrency, "/currency", json!("usd")),
            (Fault::WrongOrder, "/metadata/order_id", json!("order-1-other")),
        ] {
            let mut object = truth.clone();
            falsify(&mut object, Some(fault));
            assert_eq!(object.pointer(pointer), Some(&told));
        }
    }
}
