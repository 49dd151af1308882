//! KakaoPay's single payment: `/online/v1/payment/{ready|approve|cancel|order}` and the pages at `/pay/{tid}`.

mod api;
mod book;
mod error;
mod page;
mod payment;
mod wire;

pub use book::Book;
pub use payment::Payment;

use crate::server::Simulator;
use axum::Router;

/// The routes of API and pages.
pub fn router(sim: Simulator) -> Router {
    Router::new().merge(api::router(sim.clone())).merge(page::router(sim))
}
