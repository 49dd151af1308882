//! Toss Payments: `/v1/payments/…` and `/v1/transactions`, a stand-in for the browser's SDK, and the pay page.

mod api;
mod body;
mod book;
mod cancel;
mod code;
pub mod event;
mod money;
mod page;
mod payment;
mod wire;

pub use book::Book;
pub use cancel::Cancel;
pub use event::{cancel_decided, session_over};
pub use payment::Payment;

use crate::server::Simulator;
use axum::Router;

/// How long an answer stays bound to its idempotency key, in milliseconds: 15 days from the first use.
pub const KEY_LIFE_MS: i64 = 15 * 86_400_000;
/// The merchant's id.
const MID: &str = "tosssimul";

/// The routes of API, SDK and pages.
pub fn router(sim: Simulator) -> Router {
    Router::new().merge(api::router(sim.clone())).merge(page::router(sim))
}
