//! Errors as problem documents (RFC 9457): one shape for every refusal, with stable types.
//!
//! `type` is `/problems/<slug>` and is served as a page by the deal service; the list is [`Slug`].

use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

/// Every kind of refusal. The slug and the status never change once published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is explained by `title`")]
pub enum Slug {
    BadRequest,
    BadPath,
    BodyTooLarge,
    InvalidField,
    IdempotencyKeyMissing,
    IdempotencyKeyReused,
    IdempotencyKeyInFlight,
    NotSignedIn,
    WrongCredentials,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    EmailTaken,
    DealNotOpen,
    SoldOut,
    PerUserLimit,
    WrongState,
    WaitInLine,
    TicketInvalid,
    NotYourTurn,
    TurnMissed,
    RoomClosed,
    InvitationRequired,
    CodeInvalid,
    CodeUsed,
    ProofRequired,
    PassOfAnotherBrowser,
    PassOfAnotherAccount,
    SignatureInvalid,
    TooManyRequests,
    StoreUnavailable,
    UpstreamUnavailable,
    Internal,
}

impl Slug {
    /// All kinds, for the documentation page and its test.
    pub const ALL: &[Slug] = &[
        Slug::BadRequest,
        Slug::BadPath,
        Slug::BodyTooLarge,
        Slug::InvalidField,
        Slug::IdempotencyKeyMissing,
        Slug::IdempotencyKeyReused,
        Slug::IdempotencyKeyInFlight,
        Slug::NotSignedIn,
        Slug::WrongCredentials,
        Slug::Forbidden,
        Slug::NotFound,
        Slug::MethodNotAllowed,
        Slug::EmailTaken,
        Slug::DealNotOpen,
        Slug::SoldOut,
        Slug::PerUserLimit,
        Slug::WrongState,
        Slug::WaitInLine,
        Slug::TicketInvalid,
        Slug::NotYourTurn,
        Slug::TurnMissed,
        Slug::RoomClosed,
        Slug::InvitationRequired,
        Slug::CodeInvalid,
        Slug::CodeUsed,
        Slug::ProofRequired,
        Slug::PassOfAnotherBrowser,
        Slug::PassOfAnotherAccount,
        Slug::SignatureInvalid,
        Slug::TooManyRequests,
        Slug::StoreUnavailable,
        Slug::UpstreamUnavailable,
        Slug::Internal,
    ];

    /// HTTP status, slug and title.
    pub fn facts(self) -> (u16, &'static str, &'static str) {
        match self {
            Slug::BadRequest => (400, "bad-request", "The request could not be read"),
            Slug::BadPath => (400, "bad-path", "The path is not in its one canonical spelling"),
            Slug::BodyTooLarge => (413, "body-too-large", "The body is larger than this endpoint reads"),
            Slug::InvalidField => (422, "invalid-field", "A field has a value that is not allowed"),
            Slug::IdempotencyKeyMissing => {
                (400, "idempotency-key-missing", "This request needs an Idempotency-Key header")
            }
            Slug::IdempotencyKeyReused => {
                (422, "idempotency-key-reused", "This Idempotency-Key was used for a different request")
            }
            Slug::IdempotencyKeyInFlight => {
                (409, "idempotency-key-in-flight", "A request with this Idempotency-Key is still running")
            }
            Slug::NotSignedIn => (401, "not-signed-in", "Sign in first"),
            Slug::WrongCredentials => (401, "wrong-credentials", "E-mail or password is wrong"),
            Slug::Forbidden => (403, "forbidden", "You may not do this"),
            Slug::NotFound => (404, "not-found", "There is nothing here"),
            Slug::MethodNotAllowed => (405, "method-not-allowed", "This method is not possible here"),
            Slug::EmailTaken => (409, "email-taken", "An account with this e-mail exists"),
            Slug::DealNotOpen => (409, "deal-not-open", "The deal is not open now"),
            Slug::SoldOut => (409, "sold-out", "All units are sold or held"),
            Slug::PerUserLimit => (409, "per-user-limit", "The limit per person is reached"),
            Slug::WrongState => (409, "wrong-state", "This is not possible in the present state"),
            Slug::WaitInLine => (429, "wait-in-line", "Please wait in line"),
            Slug::TicketInvalid => (401, "ticket-invalid", "The ticket or pass is not valid here"),
            Slug::NotYourTurn => (409, "not-your-turn", "It is not your turn yet"),
            Slug::TurnMissed => (409, "turn-missed", "The turn was missed"),
            Slug::RoomClosed => (409, "room-closed", "This waiting room is closed"),
            Slug::InvitationRequired => (403, "invitation-required", "This waiting room is for invited people"),
            Slug::CodeInvalid => (403, "code-invalid", "The code is not one of this waiting room"),
            Slug::CodeUsed => (403, "code-used", "The code has been used as often as it may be"),
            Slug::ProofRequired => (403, "proof-required", "Newcomers have to prove some work just now"),
            Slug::PassOfAnotherBrowser => (403, "pass-of-another-browser", "The pass belongs to another browser"),
            Slug::PassOfAnotherAccount => (403, "pass-of-another-account", "The pass has served another account"),
            Slug::SignatureInvalid => (401, "signature-invalid", "The signature is missing or not valid"),
            Slug::TooManyRequests => (429, "too-many-requests", "Too many requests"),
            Slug::StoreUnavailable => (503, "store-unavailable", "A store does not answer just now"),
            Slug::UpstreamUnavailable => (502, "upstream-unavailable", "The shop does not answer just now"),
            Slug::Internal => (500, "internal", "Something went wrong on our side"),
        }
    }
}

/// A problem document. `detail` says what to do; `extra` carries fields of the kind (RFC 9457 §3.2).
#[derive(Debug, Clone)]
pub struct Problem {
    /// Which kind.
    pub slug: Slug,
    /// One or two sentences for the caller: what happened and the way out.
    pub detail: String,
    /// Extension members, flattened into the document.
    pub extra: Map<String, Value>,
    /// Seconds for the `Retry-After` header.
    pub retry_after_s: Option<u64>,
}

impl Problem {
    /// A problem of this kind with its detail.
    pub fn new(slug: Slug, detail: impl Into<String>) -> Self {
        Self { slug, detail: detail.into(), extra: Map::new(), retry_after_s: None }
    }
    /// An invalid field, named; `errors: [{field, message}]` as clients of other APIs expect.
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(Slug::InvalidField, format!("`{field}`: {message}"))
            .with("errors", serde_json::json!([{ "field": field, "message": message }]))
    }
    /// Adds an extension member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }
    /// Sets `Retry-After`.
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
    /// Not enough units: the deal service says it, and the gate for it, in the same words.
    pub fn sold_out() -> Self {
        Self::new(
            Slug::SoldOut,
            "There are not that many units left just now. Units that others give back are offered to the line.",
        )
    }
    /// Logs `error` and answers an opaque 500 with an id that the shopper can quote.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        let incident = uuid::Uuid::now_v7().to_string();
        tracing::error!(incident, error = %error, "request failed for a reason of ours");
        Self::new(Slug::Internal, "Nothing was charged by this request. Try again; if it stays, quote the incident.")
            .with("incident", incident)
    }
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.slug.facts().0
    }
    /// The document as JSON bytes (`application/problem+json`).
    pub fn to_json(&self) -> Vec<u8> {
        let (status, slug, title) = self.slug.facts();
        let mut doc = Map::new();
        doc.insert("type".into(), format!("/problems/{slug}").into());
        doc.insert("title".into(), title.into());
        doc.insert("status".into(), status.into());
        doc.insert("detail".into(), self.detail.clone().into());
        for (k, v) in &self.extra {
            doc.insert(k.clone(), v.clone());
        }
        serde_json::to_vec(&doc).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status =
            axum::http::StatusCode::from_u16(self.status()).unwrap_or(axum::http::StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (
            status,
            [
                (axum::http::header::CONTENT_TYPE, "application/problem+json"),
                (axum::http::header::CACHE_CONTROL, "no-store"),
            ],
            self.to_json(),
        )
            .into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(axum::http::header::RETRY_AFTER, axum::http::HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_unique_and_statuses_fit() {
        let mut seen = std::collections::BTreeSet::new();
        for s in Slug::ALL {
            let (status, slug, _) = s.facts();
            assert!(seen.insert(slug), "{slug} twice");
            assert!((400..600).contains(&status));
        }
    }

    #[test]
    fn a_document_has_the_members_of_rfc_9457() {
        let doc: Value = serde_json::from_slice(&Problem::field("quantity", "must be whole").to_json()).unwrap();
        for member in ["type", "title", "status", "detail", "errors"] {
            assert!(doc.get(member).is_some(), "{member} missing");
        }
    }
}
