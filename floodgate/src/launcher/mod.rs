//! One-command start without containers: a private Redis, a private PostgreSQL and every role as
//! children of this process.
//!
//! Order: directories → ports → keys and configuration → stores → schema →
//! roles → ready. Stop is the reverse. Undo: whatever fails on the way, the children that were
//! started are stopped, and the kernel kills them if this process is killed (see [`parent`]).

pub mod child;
pub mod config_file;
pub mod house;
pub mod layout;
pub mod parent;
pub mod ports;
pub mod probe;
pub mod state;
pub mod supervisor;
pub mod up;

/// Names of the children, in the order in which they start. Stopping goes backwards.
pub const NAMES: &[&str] = &["redis", "postgres", "payment-simulator", "payment-adapter", "deal-service", "proxy"];
