//! How the provider says no: `{"error": {type, code, decline_code, message, param, …}}`.

use crate::call::Answer;
use serde_json::{Map, Value, json};

/// The four kinds of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The provider's own.
    Api,
    /// The payment method refuses.
    Card,
    /// The idempotency key belongs to another request.
    Idempotency,
    /// The request.
    Invalid,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Api => "api_error",
            Self::Card => "card_error",
            Self::Idempotency => "idempotency_error",
            Self::Invalid => "invalid_request_error",
        }
    }
}

/// A refusal of one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Kind.
    pub kind: Kind,
    /// The provider's code.
    pub code: Option<&'static str>,
    /// The issuer's reason.
    pub decline_code: Option<&'static str>,
    /// In English.
    pub message: String,
    /// Which parameter.
    pub param: Option<String>,
    /// The PaymentIntent as it is now.
    pub intent: Option<Value>,
    /// Whether the call had begun when it was refused: only then the answer is bound to the idempotency key.
    pub began: bool,
}

impl Refusal {
    fn new(status: u16, kind: Kind, message: &str) -> Self {
        let (message, code) = (message.to_owned(), None);
        Self { status, kind, code, decline_code: None, message, param: None, intent: None, began: false }
    }
    /// A parameter is wrong: nothing has begun.
    pub fn invalid(message: &str, param: &str) -> Self {
        let param = (!param.is_empty()).then(|| param.to_owned());
        Self { param, ..Self::new(400, Kind::Invalid, message) }
    }
    /// A parameter is missing.
    pub fn missing(param: &str) -> Self {
        Self::invalid(&format!("Missing required param: {param}."), param).with_code("parameter_missing")
    }
    /// The object of the address does not exist.
    pub fn not_found(object: &str, id: &str) -> Self {
        Self { status: 404, ..Self::no_such(object, id, "intent") }
    }
    /// An object that a parameter names does not exist.
    pub fn no_such(object: &str, id: &str, param: &str) -> Self {
        Self::invalid(&format!("No such {object}: '{id}'"), param).with_code("resource_missing")
    }
    /// The object is not in a state for this call: the call had begun.
    pub fn state(message: &str) -> Self {
        Self { began: true, ..Self::new(400, Kind::Invalid, message) }.with_code("payment_intent_unexpected_state")
    }
    /// The rule of a refund is broken: the call had begun.
    pub fn refund(message: &str, code: Option<&'static str>) -> Self {
        Self { began: true, code, ..Self::invalid(message, "amount") }
    }
    /// The payment method refuses.
    pub fn card(code: &'static str, decline_code: Option<&'static str>) -> Self {
        let message = "Your card was declined.";
        Self { began: true, decline_code, ..Self::new(402, Kind::Card, message) }.with_code(code)
    }
    /// No key, or one that is not ours.
    pub fn unauthorized() -> Self {
        Self::new(
            401,
            Kind::Invalid,
            "Invalid API Key provided. Use a secret key like sk_test_… as Bearer or Basic user.",
        )
    }
    /// A publishable key where a secret one is needed.
    pub fn publishable() -> Self {
        Self::new(403, Kind::Invalid, "This API call cannot be made with a publishable API key.")
            .with_code("secret_key_required")
    }
    /// Too many requests.
    pub fn limited() -> Self {
        Self::new(429, Kind::Invalid, "Request rate limit exceeded.").with_code("rate_limit")
    }
    /// The answer after a fault of the provider's own.
    pub fn internal() -> Self {
        Self { began: true, ..Self::new(500, Kind::Api, "An unknown error occurred.") }
    }
    /// No more payments are kept.
    pub fn full() -> Self {
        Self::new(503, Kind::Api, "The simulator keeps no more payments; reset it.")
    }
    /// The key belongs to a request with other parameters.
    pub fn other_parameters() -> Self {
        let message =
            "Keys for idempotent requests can only be used with the same parameters they were first used with.";
        Self::new(400, Kind::Idempotency, message)
    }
    /// A request with this key is still running.
    pub fn in_use() -> Self {
        let message = "There is currently another in-progress request using this Idempotency-Key.";
        Self::new(409, Kind::Idempotency, message).with_code("idempotency_key_in_use")
    }
    /// With the provider's code.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }
    /// As an answer.
    pub fn answer(&self) -> Answer {
        let mut error = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                error.insert(name.to_owned(), value);
            }
        };
        put("type", Some(self.kind.name().into()));
        put("code", self.code.map(Into::into));
        put(
            "doc_url",
            self.code.map(|code| format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-")).into()),
        );
        put("decline_code", self.decline_code.map(Into::into));
        put("message", Some(self.message.as_str().into()));
        put("param", self.param.as_deref().map(Into::into));
        put("payment_intent", self.intent.clone());
        let again = matches!(self.status, 409 | 429);
        let answer = Answer::new(self.status, json!({ "error": error }).to_string());
        if self.status >= 500 {
            answer
        } else {
            answer.with("stripe-should-retry", if again { "true" } else { "false" })
        }
    }
}
