//! A form that was sent. Taking this argument is what checks origin and token: a handler that
//! changes something cannot get at its fields without them.

use super::Shop;
use super::visit::{Refusal, Visit};
use crate::request::IdempotencyKey;
use axum::extract::{Form, FromRequest, FromRequestParts as _, Request};
use axum::response::IntoResponse as _;
use service_kit::problem::{Problem, Slug};

/// Most bytes of a form.
pub const FORM_BYTES_MAX: usize = 16 * 1_024;

/// The fields of a form, each at most once.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// A field's value; empty when it was not sent.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }
    /// # Errors
    /// When the hidden key is missing or of another shape.
    pub fn key(&self) -> Result<IdempotencyKey, Problem> {
        IdempotencyKey::new(self.get("key"))
    }
    fn has_a_name_twice(&self) -> bool {
        self.0.iter().enumerate().any(|(i, (name, _))| self.0.iter().skip(i + 1).any(|(other, _)| other == name))
    }
}

/// A form of ours, sent by the visitor it was drawn for.
pub struct Sent {
    /// The request.
    pub visit: Visit,
    /// What was entered.
    pub fields: Fields,
}

impl FromRequest<Shop> for Sent {
    type Rejection = Refusal;
    async fn from_request(request: Request, shop: &Shop) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let Ok(visit) = Visit::from_request_parts(&mut parts, shop).await;
        let fields = match Form::<Vec<(String, String)>>::from_request(Request::from_parts(parts, body), shop).await {
            Ok(Form(fields)) => Fields(fields),
            Err(rejection) => {
                let large = rejection.into_response().status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE;
                let slug = if large { Slug::BodyTooLarge } else { Slug::BadRequest };
                return Err(visit.refuse(&Problem::new(slug, "")));
            }
        };
        if fields.has_a_name_twice() {
            return Err(visit.refuse(&Problem::new(Slug::BadRequest, "")));
        }
        if !visit.form_ok(fields.get("csrf")) {
            return Err(visit.refuse(&Problem::new(Slug::Forbidden, "").with("stale_form", true)));
        }
        Ok(Self { visit, fields })
    }
}
