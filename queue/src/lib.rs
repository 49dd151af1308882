#![doc = include_str!("../README.md")]

pub mod admission;
pub mod board;
pub mod eta;
mod floor;
pub mod keys;
pub mod ladder;
pub mod line;
pub mod metric;
mod pace;
pub mod pass;
mod rate;
pub mod registry;
mod reply;
pub mod settings;
pub mod state;
mod status;
pub mod ticket;
