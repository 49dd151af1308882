//! Stripe: PaymentIntents, refunds and events, a stand-in for the browser's SDK, and the pay page.

mod api;
mod body;
mod book;
mod calls;
mod error;
mod event;
mod form;
mod intent;
mod list;
mod page;
mod refund;

pub use book::{Book, ledger};
pub use event::{authorization_over, forged, processed, refund_decided};

use crate::server::Simulator;
use axum::Router;

/// How long an answer stays bound to its idempotency key, in milliseconds: 24 hours from the first use.
pub const KEY_LIFE_MS: i64 = 86_400_000;

/// The routes of API, SDK and pages.
pub fn router(sim: Simulator) -> Router {
    Router::new().merge(api::router(sim.clone())).merge(page::router(sim))
}
