//! `/orders`.

use super::TraceId;
use super::extract::{Id, idempotency_key};
use super::holds::REPLAYED;
use crate::app::App;
use crate::events::Live;
use crate::orders::RefundAsk;
use crate::request::{Answer, IdempotencyKey, OrderAction, PageRequest};
use crate::session::Session;
use crate::view::{OrderView, Page};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use service_kit::http::StrictJson;
use service_kit::ids::OrderId;
use service_kit::problem::Problem;
use std::convert::Infallible;

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], self.body)
                .into_response();
        if self.replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// The body of `POST /orders/{order}/payments`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayBody {
    provider: String,
}

fn private(body: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// `GET /orders`
pub async fn list(State(app): State<App>, session: Session, page: PageRequest<OrderId>) -> Result<Response, Problem> {
    let page: Page<OrderView> = app.orders(session.account, page).await?;
    Ok(private(Json(page)))
}

/// `GET /orders/{order}`
pub async fn read(State(app): State<App>, session: Session, Id(order): Id<OrderId>) -> Result<Response, Problem> {
    Ok(private(Json(app.order(session.account, order).await?)))
}

/// `GET /orders/{order}/events`
pub async fn events(State(app): State<App>, session: Session, Id(order): Id<OrderId>) -> Result<Response, Problem> {
    let events = app.order_events(session.account, order).await?.map(|live| {
        Ok::<_, Infallible>(match live {
            Live::Order(order) => match Event::default().event("order").json_data(&*order) {
                Ok(event) => event,
                Err(_) => Event::default().comment("an order that does not serialise"),
            },
            Live::Heartbeat => Event::default().comment("heartbeat"),
        })
    });
    let mut response = Sse::new(events).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// `POST /orders/{order}/payments`
pub async fn pay(
    State(app): State<App>,
    Session { account }: Session,
    Id(order): Id<OrderId>,
    key: IdempotencyKey,
    TraceId(trace_id): TraceId,
    StrictJson(body): StrictJson<PayBody>,
) -> Result<Answer, Problem> {
    app.start_payment(OrderAction { account, order, key, trace_id }, &body.provider).await
}

/// `POST /orders/{order}/cancel`
pub async fn cancel(
    State(app): State<App>,
    Session { account }: Session,
    Id(order): Id<OrderId>,
    key: IdempotencyKey,
    TraceId(trace_id): TraceId,
) -> Result<Answer, Problem> {
    app.cancel_order(OrderAction { account, order, key, trace_id }).await
}

/// `POST /orders/{order}/refunds`
pub async fn refund(
    State(app): State<App>,
    Session { account }: Session,
    Id(order): Id<OrderId>,
    key: IdempotencyKey,
    TraceId(trace_id): TraceId,
    StrictJson(ask): StrictJson<RefundAsk>,
) -> Result<Answer, Problem> {
    app.request_refund(OrderAction { account, order, key, trace_id }, ask).await
}

/// `POST /merchant/orders/{order}/refunds`
pub async fn merchant_refund(
    State(app): State<App>,
    headers: HeaderMap,
    Id(order): Id<OrderId>,
    body: Result<StrictJson<RefundAsk>, Problem>,
) -> Result<Answer, Problem> {
    let merchant = app.merchant(&headers).await?;
    let key = idempotency_key(&headers)?;
    let StrictJson(ask) = body?;
    app.merchant_refund(merchant.id, order, &key, ask).await
}
