//! All PaymentIntents, refunds and events of this provider.

use super::intent::Intent;
use super::refund::{Refund, refunded};
use crate::control::Entry;
use crate::fault::Provider;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};

/// The most events that are kept; then the oldest is forgotten.
pub const EVENTS_MAX: usize = 20_000;

/// Something that happened, as it is listed and sent.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: String,
    pub kind: String,
    pub created_ms: i64,
    pub json: Value,
}

/// What is kept.
#[derive(Debug, Default)]
pub struct Book {
    intents: HashMap<String, Intent>,
    /// In the order of their making.
    intent_ids: Vec<String>,
    refunds: HashMap<String, Refund>,
    refund_ids: Vec<String>,
    charges: HashMap<String, String>,
    /// Oldest first.
    pub events: VecDeque<Event>,
    public_url: String,
}

impl Book {
    /// An empty one; pay pages are under this address.
    pub fn new(public_url: &str) -> Self {
        Self { public_url: public_url.to_owned(), ..Self::default() }
    }
    /// Where pay pages are.
    pub fn public_url(&self) -> &str {
        &self.public_url
    }
    /// How many PaymentIntents.
    pub fn len(&self) -> usize {
        self.intents.len()
    }
    /// Adds a PaymentIntent.
    pub fn add(&mut self, intent: Intent) {
        self.intent_ids.push(intent.id.clone());
        self.intents.insert(intent.id.clone(), intent);
    }
    /// Adds a refund of a PaymentIntent that is here.
    pub fn add_refund(&mut self, refund: Refund) {
        if let Some(intent) = self.intents.get_mut(&refund.intent) {
            intent.refunds.push(refund.id.clone());
        }
        self.refund_ids.push(refund.id.clone());
        self.refunds.insert(refund.id.clone(), refund);
    }
    /// Notes which PaymentIntent a charge is of.
    pub fn note_charge(&mut self, charge: &str, intent: &str) {
        self.charges.insert(charge.to_owned(), intent.to_owned());
    }
    /// The PaymentIntent of a charge.
    pub fn intent_of(&self, charge: &str) -> Option<&str> {
        self.charges.get(charge).map(String::as_str)
    }
    /// The PaymentIntent with this id.
    pub fn find(&self, id: &str) -> Option<&Intent> {
        self.intents.get(id)
    }
    /// The same, to change it.
    pub fn find_mut(&mut self, id: &str) -> Option<&mut Intent> {
        self.intents.get_mut(id)
    }
    /// The refund with this id.
    pub fn refund(&self, id: &str) -> Option<&Refund> {
        self.refunds.get(id)
    }
    /// The same, to change it.
    pub fn refund_mut(&mut self, id: &str) -> Option<&mut Refund> {
        self.refunds.get_mut(id)
    }
    /// The refunds of a PaymentIntent, oldest first.
    pub fn refunds_of<'b>(&'b self, intent: &'b Intent) -> impl Iterator<Item = &'b Refund> {
        intent.refunds.iter().filter_map(|id| self.refunds.get(id))
    }
    /// How much of a PaymentIntent is refunded.
    pub fn refunded(&self, intent: &Intent) -> i64 {
        refunded(self.refunds_of(intent))
    }
    /// All PaymentIntents, newest first.
    pub fn newest_intents(&self) -> impl Iterator<Item = &Intent> {
        self.intent_ids.iter().rev().filter_map(|id| self.intents.get(id))
    }
    /// All refunds, newest first.
    pub fn newest_refunds(&self) -> impl Iterator<Item = &Refund> {
        self.refund_ids.iter().rev().filter_map(|id| self.refunds.get(id))
    }
    /// Keeps an event.
    pub fn record(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// The entries of the ledger dump, oldest first.
pub fn ledger(book: &Book) -> Vec<Entry> {
    book.intent_ids.iter().filter_map(|id| book.intents.get(id)).map(|intent| entry(book, intent)).collect()
}

fn entry(book: &Book, intent: &Intent) -> Entry {
    let metadata = &intent.asked.metadata;
    // The shop's own id of the order has no field of its own here; shops put it into the metadata.
    let order = ["order_id", "order", "orderId"].iter().find_map(|name| metadata.get(*name));
    let cancel = |refund: &Refund| json!({ "aid": refund.id, "amount": refund.amount, "payload": refund.metadata, "status": refund.status });
    Entry {
        provider: Provider::Stripe,
        tid: intent.id.clone(),
        partner_order_id: order.or_else(|| metadata.values().next()).cloned().unwrap_or_default(),
        amount: intent.asked.amount,
        currency: intent.asked.currency.code(),
        status: intent.status.name(),
        captured: intent.received(),
        cancelled: book.refunded(intent),
        approvals: intent.captures,
        cancels: book.refunds_of(intent).map(cancel).collect(),
        created_ms: intent.created_ms,
    }
}
