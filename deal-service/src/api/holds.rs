//! `/deals/{deal}/holds`.

use super::TraceId;
use super::extract::{Id, idempotency_key};
use crate::app::App;
use crate::request::HoldRequest;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use service_kit::clock::now_ms;
use service_kit::http::StrictJson;
use service_kit::ids::DealId;
use service_kit::money::Quantity;
use service_kit::problem::Problem;

/// Marks an answer that was given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The body of `POST /deals/{deal}/holds`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldBody {
    quantity: Quantity,
}

/// `POST /deals/{deal}/holds`: the pass first, so that who skips the line learns nothing else here.
pub async fn place(
    State(app): State<App>,
    Id(deal): Id<DealId>,
    TraceId(trace_id): TraceId,
    headers: HeaderMap,
    body: Result<StrictJson<HoldBody>, Problem>,
) -> Result<Response, Problem> {
    app.deal(deal).await?;
    let (lease, visitor) = app.check_pass(deal, &headers, now_ms())?;
    let account = app.sessions().require(&headers, now_ms())?.account;
    let key = idempotency_key(&headers)?;
    let StrictJson(HoldBody { quantity }) = body?;
    // In a task of its own: a shopper who hangs up in between must not leave units between the two gates.
    let request = HoldRequest { account, deal, lease, visitor, quantity, key, trace_id };
    let hold = tokio::spawn(async move { app.place_hold(request).await });
    let (order, is_replay) = hold.await.map_err(|e| Problem::internal(&e))??;
    service_kit::failpoint!("R3.before");
    let location = [(header::LOCATION, format!("/api/v1/orders/{}", order.id))];
    let mut response = (StatusCode::CREATED, location, Json(order)).into_response();
    if is_replay {
        response.headers_mut().insert(REPLAYED, axum::http::HeaderValue::from_static("true"));
    }
    Ok(response)
}
