#![doc = include_str!("../README.md")]

pub mod client;
pub mod clock_shim;
pub mod collect;
pub mod evidence;
pub mod history;
pub mod house;
pub mod nemesis;
pub mod planted;
pub mod run;
pub mod shopper;
pub mod strike;
pub mod tcp_proxy;
pub mod verdict;
