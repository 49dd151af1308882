//! How the provider says no: `{"code", "message"}`, and the HTTP status that goes with each code. A driver decides by
//! the code; several statuses are misleading (a temporary `PROVIDER_ERROR` is a 400), and that is the provider's own.

use crate::call::Answer;
use serde_json::json;

/// Longest message, in characters.
const MESSAGE_CHARS_MAX: usize = 510;

/// Code, status, Korean and English message. The Korean messages are ours; only the codes are the provider's.
const CODES: &[(&str, u16, &str, &str)] = &[
    // unknown outcome
    ("IDEMPOTENT_REQUEST_PROCESSING", 409, "이전 요청이 아직 처리 중입니다.", "The earlier request is still running."),
    ("ALREADY_PROCESSED_PAYMENT", 400, "이미 처리된 결제입니다.", "This payment was processed before."),
    ("FORBIDDEN_CONSECUTIVE_REQUEST", 403, "반복된 요청은 허용되지 않습니다.", "Requests came too close together."),
    ("PROVIDER_ERROR", 400, "일시적인 오류가 발생했습니다.", "A temporary error at the payment method."),
    ("FAILED_INTERNAL_SYSTEM_PROCESSING", 500, "내부 시스템 처리에 실패했습니다.", "Internal processing failed."),
    ("FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING", 500, "결제 처리에 실패했습니다.", "Internal processing failed."),
    ("COMMON_ERROR", 500, "일시적인 오류가 발생했습니다.", "A temporary error."),
    ("FAILED_REFUND_PROCESS", 500, "환불 처리에 실패했습니다.", "The refund was not processed."),
    ("FAILED_METHOD_HANDLING_CANCEL", 500, "취소 중 결제 수단에서 오류가 났습니다.", "The payment method failed."),
    ("FAILED_PARTIAL_REFUND", 500, "부분 환불에 실패했습니다.", "The partial refund failed."),
    ("FAILED_BILLING_AUTO_CANCEL", 500, "자동 취소에 실패했습니다.", "The automatic cancel failed."),
    ("UNKNOWN_PAYMENT_ERROR", 500, "알 수 없는 결제 오류입니다.", "An unknown payment error."),
    ("FAILED_DB_PROCESSING", 500, "데이터베이스 오류입니다.", "A database error."),
    // declined
    ("REJECT_CARD_PAYMENT", 403, "카드 결제가 거절되었습니다.", "The card payment was refused."),
    ("REJECT_CARD_COMPANY", 403, "카드사에서 결제를 거절했습니다.", "The card issuer refused."),
    ("REJECT_ACCOUNT_PAYMENT", 403, "계좌 결제가 거절되었습니다.", "The account payment was refused."),
    ("INVALID_CARD_NUMBER", 400, "카드 번호가 올바르지 않습니다.", "The card number is wrong."),
    ("INVALID_CARD_EXPIRATION", 400, "카드 유효기간이 올바르지 않습니다.", "The expiry date is wrong."),
    ("INVALID_CARD_INSTALLMENT_PLAN", 400, "할부 개월이 올바르지 않습니다.", "The instalment plan is wrong."),
    ("INVALID_CARD_LOST_OR_STOLEN", 400, "분실 또는 도난 카드입니다.", "The card was reported lost."),
    ("NOT_SUPPORTED_CARD_TYPE", 400, "지원하지 않는 카드입니다.", "This kind of card is not supported."),
    ("EXCEED_MAX_DAILY_PAYMENT_COUNT", 400, "하루 결제 횟수를 넘었습니다.", "Too many payments today."),
    ("EXCEED_MAX_PAYMENT_AMOUNT", 400, "하루 결제 금액을 넘었습니다.", "The daily amount is used up."),
    ("EXCEED_MAX_AUTH_COUNT", 403, "인증 횟수를 넘었습니다.", "Too many authentications."),
    ("EXCEED_MAX_AMOUNT", 403, "거래 한도를 넘었습니다.", "The amount is above the limit."),
    (
        "BELOW_MINIMUM_AMOUNT",
        400,
        "최소 결제 금액보다 작습니다.",
        "Below the smallest amount (card 100, account 200 won).",
    ),
    ("INVALID_PASSWORD", 403, "비밀번호가 틀렸습니다.", "The password is wrong."),
    ("FDS_ERROR", 403, "위험 거래로 판단되어 거절되었습니다.", "Refused as a risk."),
    ("NOT_AVAILABLE_BANK", 403, "은행 점검 시간입니다.", "The bank is not available now."),
    // expired, missing
    (
        "NOT_FOUND_PAYMENT_SESSION",
        404,
        "결제 시간이 지나 결제 정보가 없습니다.",
        "The session of this payment is over.",
    ),
    ("NOT_FOUND_PAYMENT", 404, "존재하지 않는 결제입니다.", "There is no such payment."),
    // our fault
    ("INVALID_REQUEST", 400, "잘못된 요청입니다.", "The request is wrong."),
    ("INVALID_IDEMPOTENCY_KEY", 400, "멱등키가 올바르지 않습니다.", "The idempotency key has 1 to 300 characters."),
    ("INVALID_API_KEY", 400, "잘못된 시크릿 키입니다.", "This is not a secret key."),
    ("UNAUTHORIZED_KEY", 401, "인증되지 않은 키입니다.", "The key is missing or not known."),
    (
        "INCORRECT_BASIC_AUTH_FORMAT",
        403,
        "시크릿 키 뒤에 ':'을 붙여 base64로 보내세요.",
        "Send base64 of the key and ':'.",
    ),
    ("FORBIDDEN_REQUEST", 403, "허용되지 않은 요청입니다.", "The request is not allowed."),
    ("TOO_MANY_REQUESTS", 429, "요청이 너무 많습니다.", "Too many requests."),
    // cancel
    ("ALREADY_CANCELED_PAYMENT", 400, "이미 취소된 결제입니다.", "This payment was cancelled before."),
    ("ALREADY_REFUND_PAYMENT", 400, "이미 환불된 결제입니다.", "This payment was refunded before."),
    ("INVALID_REFUND_ACCOUNT_INFO", 400, "환불 계좌 정보가 필요합니다.", "The refund account is missing or wrong."),
    (
        "INVALID_REFUND_ACCOUNT_NUMBER",
        400,
        "환불 계좌번호가 올바르지 않습니다.",
        "The account number has up to 20 digits.",
    ),
    ("EXCEED_CANCEL_AMOUNT_DISCOUNT_AMOUNT", 400, "할인 금액보다 적게 취소할 수 없습니다.", "Below the discount."),
    ("INVALID_BANK", 400, "은행 코드가 올바르지 않습니다.", "There is no such bank."),
    ("NOT_MATCHES_REFUNDABLE_AMOUNT", 400, "잔액이 일치하지 않습니다.", "refundableAmount is not what is left."),
    ("REFUND_REJECTED", 400, "환불이 거절되었습니다.", "The refund was refused."),
    ("FORBIDDEN_BANK_REFUND_REQUEST", 400, "지금은 환불할 수 없는 은행입니다.", "The bank takes no refunds now."),
    ("NOT_CANCELABLE_AMOUNT", 403, "취소할 수 없는 금액입니다.", "More than what is left."),
    ("NOT_CANCELABLE_PAYMENT", 403, "취소할 수 없는 결제입니다.", "This payment cannot be cancelled."),
    ("EXCEED_MAX_REFUND_DUE", 403, "환불 가능한 기간이 지났습니다.", "It is too late for a refund."),
    (
        "NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT",
        403,
        "입금 대기 중에는 부분 취소할 수 없습니다.",
        "Before the deposit only the whole can be cancelled.",
    ),
    ("NOT_ALLOWED_PARTIAL_REFUND", 403, "부분 취소할 수 없는 결제입니다.", "Only the whole can be cancelled."),
    ("NOT_CANCELABLE_PAYMENT_FOR_DORMANT_USER", 403, "휴면 회원의 결제입니다.", "The buyer's account is dormant."),
    ("EXCEED_CANCEL_LIMIT", 403, "취소 한도를 넘었습니다.", "Too many cancels."),
    // the window
    ("PAY_PROCESS_CANCELED", 400, "사용자가 결제를 취소했습니다.", "The buyer cancelled the payment."),
    ("PAY_PROCESS_ABORTED", 400, "결제 진행 중 중단되었습니다.", "The payment was aborted."),
];

/// A refusal of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The provider's code.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
    /// The message in Korean.
    pub ko: &'static str,
    /// The message in English.
    pub en: &'static str,
}

impl Refusal {
    /// The refusal with this code, if the provider has it.
    pub fn find(code: &str) -> Option<Self> {
        CODES.iter().find(|row| row.0 == code).map(|&(code, status, ko, en)| Self { code, status, ko, en })
    }
    /// The refusal with this code; one that is in no table is the provider's own mistake.
    pub fn new(code: &'static str) -> Self {
        Self::find(code).unwrap_or(Self { code, status: 500, ko: code, en: code })
    }
    /// The request is wrong, and this is why (in English: a developer reads it).
    pub fn request(why: &'static str) -> Self {
        Self { ko: why, en: why, ..Self::new("INVALID_REQUEST") }
    }
    /// The message in the client's language.
    pub fn message(self, english: bool) -> &'static str {
        if english { self.en } else { self.ko }
    }
    /// As an answer.
    pub fn answer(self, english: bool) -> Answer {
        let message: String = self.message(english).chars().take(MESSAGE_CHARS_MAX).collect();
        Answer::new(self.status, json!({ "code": self.code, "message": message }).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once_with_an_error_status() {
        for (n, row) in CODES.iter().enumerate() {
            assert!((400..=500).contains(&row.1), "{}", row.0);
            assert!(CODES[n + 1..].iter().all(|other| other.0 != row.0), "{}", row.0);
        }
    }
}
