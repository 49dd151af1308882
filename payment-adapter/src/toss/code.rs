//! What an error code of Toss Payments means. The HTTP status says nothing: a temporary fault of the card company
//! comes as 400.

use crate::http::{Reply, short};
use crate::provider::{Doubt, Refusal};
use serde::Deserialize;

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Nobody knows what happened: ask.
    Unknown,
    /// The same request runs, or came twice at once: ask later.
    Busy,
    /// The means of payment refuses. Final for this payment.
    Declined,
    /// The time between the shopper's approval and our confirm was over. Final: money moves by a confirm only.
    SessionOver,
    /// The provider knows no such payment.
    Missing,
    /// Our key is refused.
    Key,
    /// A no whose reason is our request, or a code that is not in the contract: by itself it proves nothing.
    Refused,
}

/// The class of a code.
pub(super) fn class(code: &str) -> Class {
    match code {
        "PROVIDER_ERROR"
        | "FAILED_INTERNAL_SYSTEM_PROCESSING"
        | "FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING"
        | "COMMON_ERROR"
        | "FAILED_REFUND_PROCESS"
        | "FAILED_METHOD_HANDLING_CANCEL"
        | "FAILED_PARTIAL_REFUND"
        | "FAILED_BILLING_AUTO_CANCEL"
        | "UNKNOWN_PAYMENT_ERROR"
        | "FAILED_DB_PROCESSING"
        | "ALREADY_PROCESSED_PAYMENT" => Class::Unknown,
        "IDEMPOTENT_REQUEST_PROCESSING" | "FORBIDDEN_CONSECUTIVE_REQUEST" => Class::Busy,
        "REJECT_CARD_PAYMENT"
        | "REJECT_CARD_COMPANY"
        | "REJECT_ACCOUNT_PAYMENT"
        | "NOT_SUPPORTED_CARD_TYPE"
        | "BELOW_MINIMUM_AMOUNT"
        | "INVALID_PASSWORD"
        | "FDS_ERROR"
        | "NOT_AVAILABLE_BANK" => Class::Declined,
        "NOT_FOUND_PAYMENT_SESSION" => Class::SessionOver,
        "NOT_FOUND_PAYMENT" => Class::Missing,
        "INVALID_API_KEY" | "UNAUTHORIZED_KEY" | "INCORRECT_BASIC_AUTH_FORMAT" => Class::Key,
        // A family of the cancel endpoint's own that only looks like the declines.
        "EXCEED_MAX_REFUND_DUE" => Class::Refused,
        _ if code.starts_with("INVALID_CARD_") || code.starts_with("EXCEED_MAX_") => Class::Declined,
        _ => Class::Refused,
    }
}

/// A no in the provider's own form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct No {
    pub(super) class: Class,
    pub(super) status: u16,
    pub(super) why: Refusal,
}

impl No {
    /// Where only an explicit end settles anything, and this is none. `Refused` has the worker ask, and then believe
    /// what the question finds; everything whose outcome is unknown must not look like a refusal.
    pub(super) fn doubt(self) -> Doubt {
        match self.class {
            Class::Unknown => Doubt::Fault(self.status),
            Class::Busy => Doubt::Limited,
            Class::Key => Doubt::Key(self.status),
            Class::Declined | Class::SessionOver | Class::Missing | Class::Refused => Doubt::Refused(self.why),
        }
    }
}

#[derive(Debug, Deserialize)]
struct ErrorBody {
    code: String,
    #[serde(default)]
    message: String,
}

/// A 2xx, or the provider's no.
pub(super) fn said(reply: Reply) -> Result<Result<Reply, No>, Doubt> {
    let status = reply.status;
    if status == 200 {
        return Ok(Ok(reply));
    }
    let body: ErrorBody =
        reply.read().map_err(|_| Doubt::Unreadable(format!("HTTP {status} without code and message")))?;
    let why = Refusal { code: short(&body.code), message: short(&body.message) };
    Ok(Err(No { class: class(&body.code), status, why }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The contract's tables, code by code.
    #[test]
    fn every_code_of_the_contract_has_its_class() {
        let table: &[(Class, &str)] = &[
            (
                Class::Unknown,
                "ALREADY_PROCESSED_PAYMENT PROVIDER_ERROR FAILED_INTERNAL_SYSTEM_PROCESSING \
                 FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING COMMON_ERROR FAILED_REFUND_PROCESS \
                 FAILED_METHOD_HANDLING_CANCEL FAILED_PARTIAL_REFUND FAILED_BILLING_AUTO_CANCEL UNKNOWN_PAYMENT_ERROR \
                 FAILED_DB_PROCESSING",
            ),
            (Class::Busy, "IDEMPOTENT_REQUEST_PROCESSING FORBIDDEN_CONSECUTIVE_REQUEST"),
            (
                Class::Declined,
                "REJECT_CARD_PAYMENT REJECT_CARD_COMPANY REJECT_ACCOUNT_PAYMENT INVALID_CARD_NUMBER \
                 INVALID_CARD_EXPIRATION INVALID_CARD_LOST_OR_STOLEN NOT_SUPPORTED_CARD_TYPE EXCEED_MAX_AMOUNT \
                 EXCEED_MAX_DAILY_PAYMENT_COUNT BELOW_MINIMUM_AMOUNT INVALID_PASSWORD FDS_ERROR NOT_AVAILABLE_BANK",
            ),
            (Class::SessionOver, "NOT_FOUND_PAYMENT_SESSION"),
            (Class::Missing, "NOT_FOUND_PAYMENT"),
            (Class::Key, "INVALID_API_KEY UNAUTHORIZED_KEY INCORRECT_BASIC_AUTH_FORMAT"),
            (
                Class::Refused,
                "INVALID_REQUEST FORBIDDEN_REQUEST ALREADY_CANCELED_PAYMENT ALREADY_REFUND_PAYMENT \
                 INVALID_REFUND_ACCOUNT_INFO INVALID_REFUND_ACCOUNT_NUMBER EXCEED_CANCEL_AMOUNT_DISCOUNT_AMOUNT \
                 INVALID_BANK NOT_MATCHES_REFUNDABLE_AMOUNT REFUND_REJECTED FORBIDDEN_BANK_REFUND_REQUEST \
                 NOT_CANCELABLE_AMOUNT NOT_CANCELABLE_PAYMENT EXCEED_MAX_REFUND_DUE \
                 NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT NOT_ALLOWED_PARTIAL_REFUND \
                 NOT_CANCELABLE_PAYMENT_FOR_DORMANT_USER EXCEED_CANCEL_LIMIT INVALID_IDEMPOTENCY_KEY SOMETHING_NEW",
            ),
        ];
        for (expected, codes) in table {
            for code in codes.split_whitespace() {
                assert_eq!(class(code), *expected, "{code}");
            }
        }
    }

    #[test]
    fn what_is_unknown_never_looks_like_a_refusal() {
        let doubt =
            |class| No { class, status: 400, why: Refusal { code: "X".into(), message: String::new() } }.doubt();
        for class in [Class::Unknown, Class::Busy, Class::Key] {
            assert!(!matches!(doubt(class), Doubt::Refused(_)), "{class:?}");
        }
        assert!(matches!(doubt(Class::Missing), Doubt::Refused(_)));
    }

    #[test]
    fn a_no_needs_the_providers_own_form() {
        let reply = |status, body| said(Reply { status, body });
        assert!(
            matches!(reply(404, json!({ "code": "NOT_FOUND_PAYMENT", "message": "x" })), Ok(Err(no)) if no.class == Class::Missing)
        );
        assert!(matches!(reply(200, json!({})), Ok(Ok(_))));
        for (status, body) in [(400, json!({})), (404, json!({ "error": "x" })), (201, json!({}))] {
            assert!(matches!(reply(status, body), Err(Doubt::Unreadable(_))), "{status}");
        }
    }
}
