//! `/deals`.

use super::extract::{Id, idempotency_key};
use crate::app::App;
use crate::new_deal::NewDealBody;
use crate::request::PageRequest;
use crate::view::{DealView, Page};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use service_kit::http::StrictJson;
use service_kit::ids::DealId;
use service_kit::problem::Problem;

/// How long anybody may keep a deal: as old as our own answer may be.
const CACHE: &str = "public, max-age=1";

/// `GET /deals`
pub async fn list(State(app): State<App>, page: PageRequest<DealId>) -> Result<Response, Problem> {
    let page: Page<DealView> = app.list_deals(page).await?;
    Ok(([(header::CACHE_CONTROL, CACHE)], Json(page)).into_response())
}

/// `GET /deals/{deal}`
pub async fn read(State(app): State<App>, Id(deal): Id<DealId>) -> Result<Response, Problem> {
    let deal = app.deal(deal).await?;
    Ok(([(header::CACHE_CONTROL, CACHE)], Json(deal)).into_response())
}

/// `POST /deals`
pub async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<StrictJson<NewDealBody>, Problem>,
) -> Result<Response, Problem> {
    let merchant = app.merchant(&headers).await?;
    let key = idempotency_key(&headers)?;
    let StrictJson(body) = body?;
    Ok(app.create_deal(&merchant, &body, &key).await?.into_response())
}
