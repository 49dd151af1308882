//! Bodies and queries of the API, read strictly: unknown fields are refused, although the provider may ignore them,
//! because a misspelt guard (say, `refundableAmount`) would otherwise be lost without a sound.

use super::cancel::CancelAsked;
use super::code::Refusal;
use super::money::minor_of;
use crate::clock::parse_seoul;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Number;
use service_kit::money::Currency;

/// The most transactions in one answer.
const LIMIT_MAX: usize = 10_000;
/// How many there are when nothing is said.
const LIMIT: usize = 100;

/// Body of `/v1/payments/confirm`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConfirmBody {
    pub payment_key: String,
    pub order_id: String,
    pub amount: Number,
}

impl ConfirmBody {
    /// Refuses what the types let through.
    ///
    /// # Errors
    /// The provider's code.
    pub fn check(&self) -> Result<(), Refusal> {
        chars("paymentKey has 1 to 200 characters", &self.payment_key, 1, 200)?;
        if is_order_id(&self.order_id) { Ok(()) } else { Err(Refusal::request(ORDER_ID)) }
    }
}

/// The rule of an order id.
pub const ORDER_ID: &str = "orderId has 6 to 64 letters, digits, - _ or =";

/// Whether it is one.
pub fn is_order_id(text: &str) -> bool {
    (6..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b))
}

/// Body of `/v1/payments/{paymentKey}/cancel`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CancelBody {
    pub cancel_reason: String,
    pub cancel_amount: Option<Number>,
    pub refundable_amount: Option<Number>,
    pub tax_free_amount: Option<Number>,
    pub tax_exemption_amount: Option<Number>,
    pub currency: Option<String>,
    pub refund_receive_account: Option<AccountBody>,
    pub cancel_request_id: Option<String>,
}

/// Where the money of a virtual account goes back to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AccountBody {
    pub bank: String,
    pub account_number: String,
    pub holder_name: String,
}

impl CancelBody {
    /// The request in minor units of the payment's currency.
    ///
    /// # Errors
    /// The provider's code.
    pub fn check(&self, currency: Currency) -> Result<CancelAsked, Refusal> {
        chars("cancelReason has 1 to 200 characters", &self.cancel_reason, 1, 200)?;
        if let Some(id) = &self.cancel_request_id {
            chars("cancelRequestId has 1 to 64 characters", id, 1, 64)?;
        }
        if self.currency.as_ref().is_some_and(|asked| asked != currency.code()) {
            return Err(Refusal::request("currency is the one of the payment"));
        }
        let minor = |amount: &Option<Number>| match amount {
            None => Ok(None),
            Some(amount) => minor_of(amount, currency).map(Some).ok_or(Refusal::request("an amount is wrong")),
        };
        minor(&self.tax_exemption_amount)?;
        if let Some(account) = &self.refund_receive_account {
            let digits = account.account_number.bytes().all(|b| b.is_ascii_digit());
            if !digits || !(1..=20).contains(&account.account_number.len()) {
                return Err(Refusal::new("INVALID_REFUND_ACCOUNT_NUMBER"));
            }
            if account.bank.is_empty() || account.bank.chars().count() > 20 {
                return Err(Refusal::new("INVALID_BANK"));
            }
            if !(1..=60).contains(&account.holder_name.chars().count()) {
                return Err(Refusal::new("INVALID_REFUND_ACCOUNT_INFO"));
            }
        }
        Ok(CancelAsked {
            reason: self.cancel_reason.clone(),
            amount: minor(&self.cancel_amount)?,
            refundable: minor(&self.refundable_amount)?,
            tax_free: minor(&self.tax_free_amount)?.unwrap_or(0),
            has_account: self.refund_receive_account.is_some(),
            request_id: self.cancel_request_id.clone(),
        })
    }
}

/// Query of `/v1/transactions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub from_ms: i64,
    pub to_ms: i64,
    pub after: Option<String>,
    pub limit: usize,
}

impl Window {
    /// Reads a query string.
    ///
    /// # Errors
    /// The provider's code.
    pub fn read(query: &str) -> Result<Self, Refusal> {
        let (mut from_ms, mut to_ms, mut after, mut limit) = (None, None, None, LIMIT);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "startDate" => from_ms = parse_seoul(&value),
                "endDate" => to_ms = parse_seoul(&value),
                "startingAfter" => after = Some(value.into_owned()),
                "limit" => {
                    let wanted = value.parse().ok().filter(|n| (1..=LIMIT_MAX).contains(n));
                    limit = wanted.ok_or(Refusal::request("limit is from 1 to 10000"))?;
                }
                _ => return Err(Refusal::request("startDate, endDate, startingAfter and limit are known")),
            }
        }
        match (from_ms, to_ms) {
            (Some(from_ms), Some(to_ms)) if from_ms <= to_ms => Ok(Self { from_ms, to_ms, after, limit }),
            _ => Err(Refusal::request("startDate and endDate are needed, in order, e.g. 2026-11-21T00:00:00")),
        }
    }
}

/// Reads a JSON body.
///
/// # Errors
/// When it is not one of this kind.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|_| Refusal::request("the body is not JSON with the fields of this call"))
}

fn chars(rule: &'static str, text: &str, min: usize, max: usize) -> Result<(), Refusal> {
    if (min..=max).contains(&text.chars().count()) { Ok(()) } else { Err(Refusal::request(rule)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn order_ids() {
        for good in ["order-1", "A_-=09", &"x".repeat(64)] {
            assert!(is_order_id(good), "{good}");
        }
        for bad in ["short", "order 1", "주문-번호", &"x".repeat(65)] {
            assert!(!is_order_id(bad), "{bad}");
        }
    }

    #[test]
    fn a_cancel_is_read_in_the_currency_of_its_payment() {
        let body = |value: serde_json::Value| read::<CancelBody>(value.to_string().as_bytes());
        let good = body(json!({ "cancelReason": "x", "cancelAmount": 900, "refundableAmount": 12_900 })).unwrap();
        let asked = good.check(Currency::KRW).unwrap();
        assert_eq!((asked.amount, asked.refundable, asked.tax_free), (Some(900), Some(12_900), 0));
        for (bad, code) in [
            (json!({ "cancelReason": "" }), "INVALID_REQUEST"),
            (json!({ "cancelReason": "가".repeat(201) }), "INVALID_REQUEST"),
            (json!({ "cancelReason": "x", "cancelAmount": 0.5 }), "INVALID_REQUEST"),
            (json!({ "cancelReason": "x", "currency": "USD" }), "INVALID_REQUEST"),
            (
                json!({ "cancelReason": "x", "refundReceiveAccount": { "bank": "20", "accountNumber": "12-3", "holderName": "a" } }),
                "INVALID_REFUND_ACCOUNT_NUMBER",
            ),
        ] {
            assert_eq!(body(bad.clone()).unwrap().check(Currency::KRW).unwrap_err().code, code, "{bad}");
        }
        assert!(body(json!({ "cancelReason": "x", "refundableamount": 1 })).is_err(), "an unknown field");
        assert!(body(json!({ "cancelReason": "x", "cancelAmount": "900" })).is_err(), "an amount is a number");
    }

    #[test]
    fn a_window_has_both_ends() {
        let window = Window::read("startDate=2026-11-21T00:00:00&endDate=2026-11-22&limit=5&startingAfter=t").unwrap();
        assert_eq!((window.to_ms - window.from_ms, window.limit, window.after.as_deref()), (86_400_000, 5, Some("t")));
        for bad in [
            "",
            "startDate=2026-11-21",
            "startDate=2026-11-22&endDate=2026-11-21",
            "startDate=2026-11-21&endDate=2026-11-22&limit=0",
            "page=1",
        ] {
            assert!(Window::read(bad).is_err(), "{bad}");
        }
    }
}
