#![doc = include_str!("../README.md")]

mod accounts;
pub mod api;
pub mod app;
mod catalogue;
pub mod config;
pub mod deal_room;
mod deals;
pub mod events;
pub mod fast_stock;
pub mod final_gate;
mod holds;
pub mod metric;
pub mod new_deal;
pub mod orders;
pub mod pages;
pub mod password;
mod refusal;
pub mod request;
mod role;
pub mod session;
mod suspects;
pub mod view;
pub mod workers;

pub use config::Config;
pub use metric::HISTOGRAMS;
pub use role::run;
