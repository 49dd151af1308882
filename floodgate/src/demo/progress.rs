//! How far the crowd is: counted by the shoppers themselves, shown while the sale runs.

use std::sync::atomic::{AtomicU64, Ordering};

/// One counter that many shoppers raise.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The crowd's counters. Each only grows.
#[derive(Debug, Default)]
pub struct Progress {
    /// Tickets taken.
    pub joined: Count,
    /// Calls seen.
    pub called: Count,
    /// Passes claimed.
    pub claimed: Count,
    /// Orders made.
    pub held: Count,
    /// Orders paid.
    pub paid: Count,
    /// Shoppers who are done, one way or the other.
    pub done: Count,
}
