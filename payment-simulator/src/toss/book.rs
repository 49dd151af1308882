//! All payments of this provider, by key and by order.

use super::payment::{Payment, Status};
use std::collections::HashMap;

/// A minute, in milliseconds.
const MINUTE_MS: i64 = 60_000;
/// How many requests a test key has per minute and endpoint.
const TEST_LIMIT: u32 = 100;

/// How many test keys and endpoints are counted in a minute; more are refused.
const COUNTED_MAX: usize = 10_000;

/// The payments.
#[derive(Debug, Default)]
pub struct Book {
    payments: HashMap<String, Payment>,
    /// In the order of their making.
    keys: Vec<String>,
    orders: HashMap<String, Vec<String>>,
    public_url: String,
    /// Requests of this minute by endpoint and key.
    minute: i64,
    requests: HashMap<(&'static str, String), u32>,
}

impl Book {
    /// An empty one; receipts and pages are under this address.
    pub fn new(public_url: &str) -> Self {
        Self { public_url: public_url.to_owned(), ..Self::default() }
    }
    /// Where receipts and pages are.
    pub fn public_url(&self) -> &str {
        &self.public_url
    }
    /// How many.
    pub fn len(&self) -> usize {
        self.payments.len()
    }
    /// Adds a payment.
    pub fn add(&mut self, payment: Payment) {
        self.keys.push(payment.key.clone());
        self.orders.entry(payment.asked.order_id.clone()).or_default().push(payment.key.clone());
        self.payments.insert(payment.key.clone(), payment);
    }
    /// The payment with this key.
    pub fn find(&self, key: &str) -> Option<&Payment> {
        self.payments.get(key)
    }
    /// The same, to change it.
    pub fn find_mut(&mut self, key: &str) -> Option<&mut Payment> {
        self.payments.get_mut(key)
    }
    /// The payment of an order. An order that was begun several times has several: the latest one that was confirmed
    /// counts, else the latest. (That an order can be charged twice is the shop's mistake, and can be seen here.)
    pub fn of_order(&self, order_id: &str) -> Option<&Payment> {
        let all = || self.orders.get(order_id).into_iter().flatten().rev().filter_map(|key| self.payments.get(key));
        let begun = |p: &&Payment| p.transaction.is_some() || matches!(p.status, Status::InProgress);
        all().find(|p| p.transaction.is_some()).or_else(|| all().find(begun)).or_else(|| all().next())
    }
    /// All payments, oldest first.
    pub fn payments(&self) -> impl Iterator<Item = &Payment> {
        self.keys.iter().filter_map(|key| self.payments.get(key))
    }
    /// Counts a request with a test key. Returns whether it is within the limit.
    pub fn within_test_limit(&mut self, endpoint: &'static str, key: &str, now_ms: i64) -> bool {
        let minute = now_ms.div_euclid(MINUTE_MS);
        if minute != self.minute {
            self.minute = minute;
            self.requests.clear();
        }
        if self.requests.len() >= COUNTED_MAX {
            return false;
        }
        let count = self.requests.entry((endpoint, key.to_owned())).or_insert(0);
        *count = count.saturating_add(1);
        *count <= TEST_LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::super::payment::Method;
    use super::super::payment::tests::{confirmed, ready};
    use super::*;

    #[test]
    fn of_an_order_the_confirmed_payment_counts() {
        let mut book = Book::new("http://sim");
        for (key, payment) in [("a", ready(Method::Card)), ("b", confirmed(Method::Card)), ("c", ready(Method::Card))] {
            book.add(Payment { key: key.into(), ..payment });
        }
        assert_eq!(book.of_order("order-1").unwrap().key, "b");
        assert!(book.of_order("order-2").is_none());
        assert_eq!(book.payments().map(|p| p.key.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn a_test_key_has_a_hundred_requests_a_minute_per_endpoint() {
        let mut book = Book::default();
        let count = |book: &mut Book, endpoint, now_ms| {
            (0..150).filter(|_| book.within_test_limit(endpoint, "test_sk_1", now_ms)).count()
        };
        assert_eq!(count(&mut book, "confirm", 59_999), 100);
        assert_eq!(count(&mut book, "cancel", 59_999), 100);
        assert_eq!(count(&mut book, "confirm", 60_000), 100);
    }
}
