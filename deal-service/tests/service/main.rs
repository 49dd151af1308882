//! The deal service on a private Redis and a private PostgreSQL, through its real listener.
#![allow(missing_docs, reason = "tests are named after what they prove")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing helper fails its test"
)]

mod bad_input;
mod bursts;
mod faults;
mod holds;
mod model;
mod neighbours;
mod orders;
mod refill;
mod refunds;
mod scripts;
mod shop;
mod stories;
mod world;
