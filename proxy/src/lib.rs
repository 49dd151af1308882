#![doc = include_str!("../README.md")]

pub mod api;
pub mod assertion;
pub mod canonical;
pub mod config;
pub mod cookie;
pub mod copy;
pub mod decide;
pub mod desk;
pub mod enter;
pub mod gate;
pub mod head;
pub mod identity;
pub mod keeper;
pub mod limits;
pub mod metric;
pub mod page;
pub mod presence;
pub mod reply;
pub mod rooms;
pub mod route;
mod serve;
pub mod upstream;
pub mod visit;

pub use config::Config;
pub use metric::HISTOGRAMS;
pub use serve::{run, run_until};
