//! The HTML pages: shop, checkout, orders, accounts, problems. Server-rendered; every page works with
//! forms and links alone (POST, then redirect, then GET), and one small script makes it live.
//! The router of this module owns the fallback of every path outside `/api/v1`.
//!
//! Read next: [`visit`] (language, session, headers), [`sent`] (what guards a form), then a page.

mod accounts;
mod assets;
mod buy;
mod csrf;
mod deal_facts;
mod deals;
mod format;
mod lang;
mod next;
mod order_facts;
mod orders;
mod problem_text;
mod problems;
mod sent;
mod text;
mod visit;

#[cfg(test)]
mod http_tests;
#[cfg(test)]
mod tests;

use crate::app::App;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

/// What the pages need besides the use cases.
#[derive(Clone)]
struct Shop {
    app: App,
    forms: csrf::Forms,
}

/// All pages.
pub fn router(app: App) -> Router {
    let forms = csrf::Forms::new(app.keys(), &app.config().public_url, app.config().cookie_secure);
    let shop = Shop { app, forms };
    Router::new()
        .route("/", get(deals::list))
        .route("/deals", get(deals::list))
        .route("/deals/{id}", get(deals::show))
        .route("/deals/{id}/buy", get(buy::show).post(buy::place))
        .route("/orders", get(orders::list))
        .route("/orders/{id}", get(orders::show))
        .route("/orders/{id}/pay", post(orders::pay))
        .route("/orders/{id}/cancel", post(orders::cancel))
        .route("/orders/{id}/refund", post(orders::refund))
        .route("/login", get(accounts::login).post(accounts::sign_in))
        .route("/signup", get(accounts::signup).post(accounts::sign_up))
        .route("/logout", post(accounts::sign_out))
        .route("/problems/{slug}", get(problems::show))
        .fallback(problems::not_found)
        .method_not_allowed_fallback(problems::wrong_method)
        .layer(DefaultBodyLimit::max(sent::FORM_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(shop.clone(), problems::catch_panic))
        .with_state(shop)
}
