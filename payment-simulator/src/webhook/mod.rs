//! Messages to the shop: what is waiting to be sent, and when it is sent again. Plain data; the time is an argument, and
//! [`sender`] does the sending. Everything goes by the simulated clock: moving it forward delivers what is due.

pub mod abuse;
mod seal;
pub mod sender;

pub use seal::Seal;

use crate::Config;
use crate::fault::Provider;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::Notify;

/// The most messages that are remembered; then the oldest is forgotten, sent or not.
pub const WEBHOOKS_MAX: usize = 20_000;
/// How long the shop may take to answer, in milliseconds.
pub const ANSWER_TIMEOUT_MS: u64 = 10_000;
const MINUTE_MS: i64 = 60_000;

/// A message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Who sends it.
    pub provider: Provider,
    /// What happened.
    pub event: String,
    /// The payment that it is about, or empty.
    pub payment: String,
    /// The body.
    pub body: Arc<str>,
    /// `application/json`, unless somebody wants trouble.
    pub content_type: String,
    /// How its headers are made.
    pub seal: Seal,
}

/// Where a message is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To be sent, again perhaps.
    Waiting,
    /// On the wire.
    Sending,
    /// The shop took it.
    Delivered,
    /// All tries are used up.
    GaveUp,
    /// Not sent, as asked.
    Lost,
    /// Nobody said where to.
    NoTarget,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sending => "sending",
            Self::Delivered => "delivered",
            Self::GaveUp => "gave-up",
            Self::Lost => "lost",
            Self::NoTarget => "no-target",
        }
    }
}

#[derive(Debug)]
struct Delivery {
    message: Message,
    /// Sent again when the shop does not take it.
    retried: bool,
    due_ms: i64,
    tries: u32,
    way: Way,
    last: String,
    /// The headers of the latest try, to replay them.
    headers: Vec<(&'static str, String)>,
    /// Headers of an earlier message instead of fresh ones.
    replayed: bool,
}

/// One try, ready for the wire.
#[derive(Debug)]
pub struct Job {
    /// Which message.
    pub id: u64,
    /// Where to.
    pub url: String,
    /// The message.
    pub message: Message,
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
}

/// All messages.
#[derive(Debug)]
pub struct Queue {
    /// Rung when something may have become due.
    pub wake: Arc<Notify>,
    /// Rung after each try, and when one is not made.
    pub tried: Arc<Notify>,
    deliveries: BTreeMap<u64, Delivery>,
    due: BTreeSet<(i64, u64)>,
    sending: usize,
    issued: u64,
    forgotten: u64,
    targets: BTreeMap<Provider, String>,
    lose: BTreeMap<Provider, u32>,
    secrets: BTreeMap<Provider, String>,
}

impl Queue {
    /// With the addresses and secrets of the configuration.
    pub fn new(cfg: &Config) -> Self {
        let targets = [(Provider::Toss, &cfg.toss_webhook_url), (Provider::Stripe, &cfg.stripe_webhook_url)];
        let secrets = [(Provider::Toss, &cfg.toss_webhook_secret), (Provider::Stripe, &cfg.stripe_webhook_secret)];
        Self {
            wake: Arc::default(),
            tried: Arc::default(),
            deliveries: BTreeMap::new(),
            due: BTreeSet::new(),
            sending: 0,
            issued: 0,
            forgotten: 0,
            targets: targets.into_iter().filter(|t| !t.1.is_empty()).map(|(p, url)| (p, url.clone())).collect(),
            lose: BTreeMap::new(),
            secrets: secrets.into_iter().map(|(p, secret)| (p, secret.clone())).collect(),
        }
    }
    /// Takes over what outlives a reset: addresses, the bells, and the numbers, so that a late answer to a message from
    /// before finds nothing.
    pub fn inherit(&mut self, before: &Self) {
        self.targets.clone_from(&before.targets);
        self.wake = before.wake.clone();
        self.tried = before.tried.clone();
        self.issued = before.issued;
        self.sending = before.sending;
    }
    /// The secret that this provider shares with the shop.
    pub fn secret(&self, provider: Provider) -> &str {
        self.secrets.get(&provider).map_or("", String::as_str)
    }
    /// Where this provider's messages go.
    pub fn target(&self, provider: Provider) -> Option<&str> {
        self.targets.get(&provider).map(String::as_str)
    }
    /// Sends this provider's messages elsewhere from now on; empty means nowhere.
    pub fn set_target(&mut self, provider: Provider, url: &str) {
        if url.is_empty() {
            self.targets.remove(&provider);
        } else {
            self.targets.insert(provider, url.to_owned());
        }
    }
    /// Loses the next `n` messages of this provider.
    pub fn lose_next(&mut self, provider: Provider, n: u32) {
        self.lose.insert(provider, n);
    }
    /// A message that is due now.
    pub fn push(&mut self, message: Message, now_ms: i64) {
        let left = self.lose.get_mut(&message.provider).filter(|left| **left > 0);
        let way = match (left, self.targets.contains_key(&message.provider)) {
            (Some(left), _) => {
                *left -= 1;
                Way::Lost
            }
            (None, false) => Way::NoTarget,
            (None, true) => Way::Waiting,
        };
        self.put(message, now_ms, way, true, Vec::new());
    }
    /// A message that somebody asked for: due then, tried once; with `headers`, those and no fresh ones.
    pub fn push_once(&mut self, message: Message, due_ms: i64, headers: Vec<(&'static str, String)>) {
        let way = if self.targets.contains_key(&message.provider) { Way::Waiting } else { Way::NoTarget };
        self.put(message, due_ms, way, false, headers);
    }
    fn put(&mut self, message: Message, due_ms: i64, way: Way, retried: bool, headers: Vec<(&'static str, String)>) {
        while self.deliveries.len() >= WEBHOOKS_MAX {
            if let Some((id, oldest)) = self.deliveries.pop_first() {
                self.due.remove(&(oldest.due_ms, id));
                self.forgotten += 1;
            }
        }
        self.issued += 1;
        let replayed = !headers.is_empty();
        let last = String::new();
        let delivery = Delivery { message, retried, due_ms, tries: 0, way, last, headers, replayed };
        self.deliveries.insert(self.issued, delivery);
        if way == Way::Waiting {
            self.due.insert((due_ms, self.issued));
            self.wake.notify_one();
        }
    }
    /// When the next message is due.
    pub fn next_due_ms(&self) -> Option<i64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }
    /// Whether nothing is due and nothing is on the wire.
    pub fn is_idle(&self, now_ms: i64) -> bool {
        self.sending == 0 && self.next_due_ms().is_none_or(|due_ms| due_ms > now_ms)
    }
    /// The next try that is due.
    pub fn take_due(&mut self, now_ms: i64) -> Option<Job> {
        while self.next_due_ms()? <= now_ms {
            let (_, id) = self.due.pop_first()?;
            let Some(delivery) = self.deliveries.get_mut(&id) else { continue };
            let Some(url) = self.targets.get(&delivery.message.provider).cloned() else {
                delivery.way = Way::NoTarget;
                self.tried.notify_waiters();
                continue;
            };
            if !delivery.replayed {
                delivery.headers = delivery.message.seal.headers(&delivery.message.body, delivery.tries, now_ms);
            }
            delivery.way = Way::Sending;
            delivery.tries += 1;
            self.sending += 1;
            return Some(Job { id, url, message: delivery.message.clone(), headers: delivery.headers.clone() });
        }
        None
    }
    /// A try ended: with an HTTP status, or with a reason why there is none. Returns whether the shop took it.
    pub fn finish(&mut self, id: u64, outcome: Result<u16, String>) -> bool {
        self.sending = self.sending.saturating_sub(1);
        self.tried.notify_waiters();
        let Some(delivery) = self.deliveries.get_mut(&id) else { return false };
        let provider = delivery.message.provider;
        let taken = match &outcome {
            Ok(status) if provider == Provider::Toss => *status == 200,
            Ok(status) => (200..300).contains(status),
            Err(_) => false,
        };
        delivery.last = outcome.map_or_else(|why| why, |status| status.to_string());
        let wait_ms = if delivery.retried { retry_after_ms(provider, delivery.tries) } else { None };
        match (taken, wait_ms) {
            (true, _) => delivery.way = Way::Delivered,
            (false, None) => delivery.way = Way::GaveUp,
            (false, Some(wait_ms)) => {
                // From the time that was due, not from now: a jump of the clock over several tries makes all of them.
                delivery.due_ms = delivery.due_ms.saturating_add(wait_ms);
                delivery.way = Way::Waiting;
                self.due.insert((delivery.due_ms, id));
                self.wake.notify_one();
            }
        }
        taken
    }
    /// What is known of every message, oldest first.
    pub fn view(&self) -> Value {
        let list: Vec<Value> = self.deliveries.iter().map(|(id, delivery)| show(*id, delivery)).collect();
        let targets: serde_json::Map<String, Value> =
            self.targets.iter().map(|(provider, url)| (provider.name().to_owned(), url.as_str().into())).collect();
        json!({ "targets": targets, "webhooks": list, "forgotten": self.forgotten })
    }
    /// The messages about a payment so far, oldest first, with the headers that they last had.
    pub fn about(&self, provider: Provider, payment: &str) -> Vec<(Message, Vec<(&'static str, String)>)> {
        let ours = |d: &&Delivery| d.retried && d.message.provider == provider && d.message.payment == payment;
        self.deliveries.values().filter(ours).map(|d| (d.message.clone(), d.headers.clone())).collect()
    }
}

fn show(id: u64, delivery: &Delivery) -> Value {
    json!({
        "id": id,
        "provider": delivery.message.provider,
        "event": delivery.message.event,
        "payment": delivery.message.payment,
        "state": delivery.way.name(),
        "tries": delivery.tries,
        "due_ms": delivery.due_ms,
        "last": delivery.last,
    })
}

/// How long after a failed try the next one follows; none after the last.
///
/// Toss: seven more, 1, 4, 16, … 4096 minutes apart. Stripe: three tries in all in the sandbox, "over hours"; one and
/// three hours are an assumption.
pub fn retry_after_ms(provider: Provider, tries: u32) -> Option<i64> {
    match (provider, tries) {
        (Provider::Toss, 1..=7) => Some(4_i64.pow(tries - 1) * MINUTE_MS),
        (Provider::Stripe, 1) => Some(60 * MINUTE_MS),
        (Provider::Stripe, 2) => Some(180 * MINUTE_MS),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
