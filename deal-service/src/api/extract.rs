//! What handlers take out of a request before they begin.

use crate::app::App;
use crate::request::{IdempotencyKey, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, PageRequest};
use crate::session::Session;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use service_kit::clock::now_ms;
use service_kit::problem::{Problem, Slug};
use std::str::FromStr;

/// The request's trace id, 32 hex digits; put into every request by the outermost layer.
#[derive(Debug, Clone)]
pub struct TraceId(pub String);

impl<S: Sync> FromRequestParts<S> for TraceId {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self(service_kit::http::new_trace_id())))
    }
}

impl FromRequestParts<App> for Session {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        app.sessions().require(&parts.headers, now_ms())
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        idempotency_key(&parts.headers)
    }
}

/// The one `Idempotency-Key` of a request.
pub fn idempotency_key(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let first = values.next().map(|v| v.to_str().unwrap_or("\u{fffd}")).unwrap_or_default();
    if values.next().is_some() {
        return Err(Problem::field("Idempotency-Key", "is sent once"));
    }
    IdempotencyKey::new(first)
}

/// An id in the path; anything that is not an id is simply not there.
pub struct Id<T>(pub T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let missing = || Problem::new(Slug::NotFound, "There is nothing under this id.");
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| missing())?;
        text.parse().map(Id).map_err(|_| missing())
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    limit: Option<String>,
    starting_after: Option<String>,
}

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for PageRequest<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(query) = Query::<PageQuery>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::new(Slug::BadRequest, "The query takes `limit` and `starting_after`, each once."))?;
        let limit = match query.limit {
            None => PAGE_LIMIT_DEFAULT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|n| (1..=PAGE_LIMIT_MAX).contains(n))
                .ok_or_else(|| Problem::field("limit", format!("must be 1 to {PAGE_LIMIT_MAX}")))?,
        };
        let starting_after = match query.starting_after {
            None => None,
            Some(text) => Some(
                text.parse().map_err(|_| Problem::field("starting_after", "must be the last id of the page before"))?,
            ),
        };
        Ok(Self { limit, starting_after })
    }
}
