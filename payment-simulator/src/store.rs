//! Everything that changes: each provider's payments, the faults to come, the webhooks, the simulated time, and what is
//! due at which time.

use crate::fault::{Endpoint, Fault, Plan, Provider};
use crate::idempotency::Memory;
use crate::webhook::Queue;
use crate::{Config, kakaopay, metric, stripe, toss};
use std::collections::BTreeSet;

/// How many idempotency keys a provider keeps for each payment that the simulator keeps.
const KEYS_PER_PAYMENT: usize = 8;

/// Something that happens by itself when its time comes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// A step of this Toss payment's session may be over.
    TossSession(String),
    /// A cancel (its transaction key) of this Toss payment is decided.
    TossCancel(String, String),
    /// This PaymentIntent, which is processing, is decided.
    StripePayment(String),
    /// The authorization of this PaymentIntent is too old to be captured.
    StripeAuthorization(String),
    /// This refund is decided.
    StripeRefund(String),
}

/// Everything that changes.
#[derive(Debug)]
pub struct State {
    /// KakaoPay's payments.
    pub kakaopay: kakaopay::Book,
    /// Toss' payments.
    pub toss: toss::Book,
    /// Stripe's PaymentIntents, refunds and events.
    pub stripe: stripe::Book,
    /// The faults to come.
    pub plan: Plan,
    /// Messages to the shop.
    pub webhooks: Queue,
    toss_keys: Memory,
    stripe_keys: Memory,
    agenda: BTreeSet<(i64, Due)>,
    clock_ahead_ms: i64,
    issued: u64,
}

impl State {
    /// Nothing has happened yet.
    pub fn new(cfg: &Config, public_url: &str) -> Self {
        let keys_max = cfg.payments_max.saturating_mul(KEYS_PER_PAYMENT);
        Self {
            kakaopay: kakaopay::Book::default(),
            toss: toss::Book::new(public_url),
            stripe: stripe::Book::new(public_url),
            plan: Plan::default(),
            webhooks: Queue::new(cfg),
            toss_keys: Memory::new(toss::KEY_LIFE_MS, keys_max),
            stripe_keys: Memory::new(stripe::KEY_LIFE_MS, keys_max),
            agenda: BTreeSet::new(),
            clock_ahead_ms: 0,
            issued: 0,
        }
    }
    /// The simulated time: this machine's, plus what the control port added.
    pub fn now_ms(&self) -> i64 {
        service_kit::clock::now_ms().saturating_add(self.clock_ahead_ms)
    }
    /// Moves the simulated time forward, and lets happen what is due by then. Returns the new time.
    pub fn advance(&mut self, ms: i64) -> i64 {
        self.clock_ahead_ms = self.clock_ahead_ms.saturating_add(ms);
        self.settle();
        self.webhooks.wake.notify_one();
        self.now_ms()
    }
    /// Forgets payments, faults, webhooks, keys and clock. Ids go on, and webhooks keep their addresses.
    pub fn reset(&mut self, cfg: &Config, public_url: &str) {
        let mut fresh = Self { issued: self.issued, ..Self::new(cfg, public_url) };
        fresh.webhooks.inherit(&self.webhooks);
        *self = fresh;
        metrics::gauge!(metric::PAYMENTS).set(0.0);
    }
    /// Whether no more payments are kept; counts the one that is about to be added otherwise.
    pub fn is_full(&self, payments_max: usize) -> bool {
        let kept = self.kakaopay.len() + self.toss.len() + self.stripe.len();
        if kept < payments_max {
            metrics::gauge!(metric::PAYMENTS).increment(1.0);
        }
        kept >= payments_max
    }
    /// The planned fault of the next call.
    pub fn next_fault(&mut self, endpoint: Endpoint) -> Option<Fault> {
        self.plan.next(endpoint)
    }
    /// The idempotency keys of a provider that has such keys.
    pub fn memory(&mut self, provider: Provider) -> Option<&mut Memory> {
        match provider {
            Provider::Kakaopay => None,
            Provider::Toss => Some(&mut self.toss_keys),
            Provider::Stripe => Some(&mut self.stripe_keys),
        }
    }
    /// An id of 20 characters that sorts by its making and cannot be guessed from another.
    pub fn next_id(&mut self, kind: char) -> String {
        self.issued += 1;
        format!("{kind}{:07x}{}", self.issued & 0x0fff_ffff, random_hex::<12>())
    }
    /// An id like `pi_0000000a91d0…`: the prefix and 24 characters.
    pub fn next_long_id(&mut self, prefix: &str) -> String {
        self.issued += 1;
        format!("{prefix}{:08x}{}", self.issued & 0xffff_ffff, random_hex::<16>())
    }
    /// Lets `what` happen at `due_ms`.
    pub fn at(&mut self, due_ms: i64, what: Due) {
        self.agenda.insert((due_ms, what));
        self.webhooks.wake.notify_one();
    }
    /// When the next thing is due.
    pub fn next_due_ms(&self) -> Option<i64> {
        self.agenda.first().map(|(due_ms, _)| *due_ms)
    }
    /// Lets happen what is due, each at its own time.
    pub fn settle(&mut self) {
        let now_ms = self.now_ms();
        while self.next_due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            let Some((due_ms, what)) = self.agenda.pop_first() else { return };
            match what {
                Due::TossSession(payment) => toss::session_over(self, &payment, due_ms),
                Due::TossCancel(payment, transaction) => toss::cancel_decided(self, &payment, &transaction, due_ms),
                Due::StripePayment(intent) => stripe::processed(self, &intent, due_ms),
                Due::StripeAuthorization(intent) => stripe::authorization_over(self, &intent, due_ms),
                Due::StripeRefund(refund) => stripe::refund_decided(self, &refund, due_ms),
            }
        }
    }
}

/// `N` random hexadecimal digits (at most 32).
pub fn random_hex<const N: usize>() -> String {
    let mut hex = uuid::Uuid::new_v4().simple().to_string();
    hex.truncate(N);
    hex
}
