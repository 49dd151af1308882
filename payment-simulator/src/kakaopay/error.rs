//! How the provider says no: `{error_code, error_message, extras}`.
//!
//! The provider's list of numeric codes is not public. -702 and -780 are recalled from payment logs, the others
//! are made up here; a driver that reads any of them does it wrong and must ask `/order` instead.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A refusal of one API call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// The provider's number.
    pub code: i32,
    /// What was wrong, in English.
    pub message: String,
    /// `method_result_code` and `method_result_message` in `extras`, for refusals by the payment method.
    pub method: Option<(&'static str, &'static str)>,
}

impl ApiError {
    fn new(status: StatusCode, code: i32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), method: None }
    }
    /// The key in `Authorization` is missing or wrong.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, -401, "Authorization must be `SECRET_KEY <key>` with a valid key")
    }
    /// A field is missing, unknown, too long or of the wrong type.
    pub fn parameter(field: &str, rule: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, -2, format!("invalid parameter: {field}: {rule}"))
    }
    /// Too many requests.
    pub fn limited() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, -10, "too many requests")
    }
    /// The answer after a fault of the provider's own.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, -1, "internal error")
    }
    /// The store of this simulator is full.
    pub fn full() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, -9, "the simulator keeps no more payments; reset it")
    }
    /// No payment with this tid at this merchant.
    pub fn unknown_tid() -> Self {
        Self::new(StatusCode::BAD_REQUEST, -721, "no such tid")
    }
    /// The payment is not in a state for this call.
    pub fn wrong_state(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, -722, message)
    }
    /// Approved before.
    pub fn already_done() -> Self {
        Self::new(StatusCode::BAD_REQUEST, -702, "payment is already done")
    }
    /// The payment method refuses.
    pub fn declined() -> Self {
        let mut error = Self::new(StatusCode::BAD_REQUEST, -780, "approval failure");
        error.method = Some(("REJECTED", "the payment method refused"));
        error
    }
    /// The cancel amount does not fit what is left.
    pub fn cancel_amount(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, -710, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({ "error_code": self.code, "error_message": self.message });
        if let (Some((code, message)), Some(body)) = (self.method, body.as_object_mut()) {
            let extras = json!({ "method_result_code": code, "method_result_message": message });
            body.insert("extras".to_owned(), extras);
        }
        (self.status, Json(body)).into_response()
    }
}
