//! The JSON API under `/api/v1`: one noun per file, one verb per handler, all work in the use cases.

mod accounts;
mod deals;
mod extract;
mod holds;
mod layers;
mod orders;

pub use extract::TraceId;
pub use layers::wrap;

use crate::app::App;
use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use service_kit::problem::{Problem, Slug};

/// The routes, to be nested under `/api/v1`.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/accounts", post(accounts::sign_up))
        .route("/sessions", post(accounts::sign_in).delete(accounts::sign_out))
        .route("/deals", get(deals::list).post(deals::create))
        .route("/deals/{deal}", get(deals::read))
        .route("/deals/{deal}/holds", post(holds::place))
        .route("/orders", get(orders::list))
        .route("/orders/{order}", get(orders::read))
        .route("/orders/{order}/events", get(orders::events))
        .route("/orders/{order}/payments", post(orders::pay))
        .route("/orders/{order}/cancel", post(orders::cancel))
        .route("/orders/{order}/refunds", post(orders::refund))
        .route("/merchant/orders/{order}/refunds", post(orders::merchant_refund))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

/// The API and the pages, wrapped in what every request gets.
pub fn service(app: &App) -> Router {
    wrap(Router::new().nest("/api/v1", router(app.clone())).merge(crate::pages::router(app.clone())))
}

async fn nothing_here() -> Response {
    Problem::new(Slug::NotFound, "There is no such path in the API.").into_response()
}

async fn wrong_method() -> Response {
    Problem::new(Slug::MethodNotAllowed, "This path exists; the method is not possible here.").into_response()
}
