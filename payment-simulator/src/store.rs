//! The simulator's own ledger: every payment, kept in memory up to a limit and never forgotten before a reset, because
//! it is one of the truths that are compared after a run.

use crate::error::ApiError;
use crate::fault::{Endpoint, Fault, Plan};
use crate::metric;
use crate::payment::Payment;
use crate::wire::ReadyRequest;
use std::collections::HashMap;

/// Everything that changes.
#[derive(Debug, Default)]
pub struct State {
    payments: HashMap<String, Payment>,
    issued: u64,
    /// The faults to come.
    pub plan: Plan,
    clock_ahead_ms: i64,
}

impl State {
    /// The simulated time: this machine's, plus what the control port added.
    pub fn now_ms(&self) -> i64 {
        service_kit::clock::now_ms().saturating_add(self.clock_ahead_ms)
    }
    /// Moves the simulated time forward. Returns the new time.
    pub fn advance(&mut self, ms: i64) -> i64 {
        self.clock_ahead_ms = self.clock_ahead_ms.saturating_add(ms);
        self.now_ms()
    }
    /// Forgets payments, faults and clock.
    pub fn reset(&mut self) {
        let issued = self.issued;
        *self = Self { issued, ..Self::default() };
        metrics::gauge!(metric::PAYMENTS).set(0.0);
    }
    /// The planned fault of the next call.
    pub fn next_fault(&mut self, endpoint: Endpoint) -> Option<Fault> {
        self.plan.next(endpoint)
    }
    /// Adds a payment in `READY`.
    ///
    /// # Errors
    /// When `payments_max` are kept already.
    pub fn add(&mut self, request: ReadyRequest, payments_max: usize) -> Result<&Payment, ApiError> {
        if self.payments.len() >= payments_max {
            return Err(ApiError::full());
        }
        let tid = self.next_id('T');
        let payment = Payment::new(tid.clone(), request, self.now_ms());
        metrics::gauge!(metric::PAYMENTS).increment(1.0);
        Ok(self.payments.entry(tid).or_insert(payment))
    }
    /// The payment with this tid.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&mut self, tid: &str) -> Result<&mut Payment, ApiError> {
        self.payments.get_mut(tid).ok_or_else(ApiError::unknown_tid)
    }
    /// All payments, oldest first.
    pub fn payments(&self) -> Vec<&Payment> {
        let mut all: Vec<&Payment> = self.payments.values().collect();
        all.sort_by(|a, b| a.tid.cmp(&b.tid));
        all
    }
    /// An id of 20 characters that sorts by its making and cannot be guessed from another.
    pub fn next_id(&mut self, kind: char) -> String {
        self.issued += 1;
        format!("{kind}{:07x}{}", self.issued & 0x0fff_ffff, random_hex::<12>())
    }
}

/// `N` random hexadecimal digits (at most 32).
pub fn random_hex<const N: usize>() -> String {
    let mut hex = uuid::Uuid::new_v4().simple().to_string();
    hex.truncate(N);
    hex
}
