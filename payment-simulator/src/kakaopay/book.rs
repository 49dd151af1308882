//! All payments of this provider: kept in memory up to a limit and never forgotten before a reset, because they are
//! one of the truths that are compared after a run.

use super::error::ApiError;
use super::payment::Payment;
use std::collections::HashMap;

/// The payments by tid.
#[derive(Debug, Default)]
pub struct Book {
    payments: HashMap<String, Payment>,
}

impl Book {
    /// How many.
    pub fn len(&self) -> usize {
        self.payments.len()
    }
    /// Adds a payment.
    pub fn add(&mut self, payment: Payment) -> &Payment {
        self.payments.entry(payment.tid.clone()).or_insert(payment)
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
}
