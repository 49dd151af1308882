//! The parts of the provider's bodies that are read. Further fields are ignored: the provider may add some. Amounts are
//! in minor units, currencies in small letters.

use crate::http::short;
use crate::provider::{Doubt, Outcome, RefundStanding, Standing, refusal, same};
use ledger::{PaymentWork, RefundWork};
use serde::Deserialize;
use service_kit::ids::RefundId;
use service_kit::money::Money;
use std::collections::BTreeMap;

/// A PaymentIntent.
#[derive(Debug, Deserialize)]
pub(super) struct Intent {
    pub(super) id: String,
    amount: i64,
    #[serde(default)]
    pub(super) amount_received: i64,
    pub(super) currency: String,
    status: String,
    pub(super) capture_method: Option<String>,
    pub(super) client_secret: Option<String>,
    cancellation_reason: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
}

impl Intent {
    /// One of the words that we gave it.
    pub(super) fn ours(&self, name: &str) -> Option<&str> {
        self.metadata.as_ref()?.get(name).map(String::as_str)
    }

    /// Compares everything that must be ours: id, payment, order, currency, amount.
    pub(super) fn check(&self, work: &PaymentWork, id: Option<&str>) -> Result<(), Doubt> {
        let said = |name: &str| self.ours(name).unwrap_or_default();
        same("reference", id.unwrap_or(&self.id), &self.id)?;
        same("payment", &work.id.to_string(), said("payment"))?;
        same("order", &work.order.to_string(), said("order"))?;
        same("currency", work.amount.currency().code(), &self.currency.to_ascii_uppercase())?;
        same("amount", &work.amount.minor().to_string(), &self.amount.to_string())
    }

    /// Where a payment stands whose figures were compared.
    pub(super) fn standing(&self, work: &PaymentWork, refunded_minor: i64) -> Result<Standing, Doubt> {
        let received = if self.status == "succeeded" { work.taken().minor() } else { 0 };
        same("amount", &received.to_string(), &self.amount_received.to_string())?;
        Ok(match self.status.as_str() {
            "requires_payment_method"
            | "requires_confirmation"
            | "requires_action"
            | "processing"
            | "requires_capture" => Standing::Pending,
            "succeeded" => {
                Standing::Ended(Outcome::Paid { reference: self.id.clone(), amount: work.taken(), refunded_minor })
            }
            // Cancelled there before a capture: what was reserved is free again.
            "canceled" => {
                let reason = short(self.cancellation_reason.as_deref().unwrap_or("canceled"));
                Standing::Ended(match reason.as_str() {
                    "automatic" | "expired" => {
                        Outcome::Expired(refusal(&reason, "The time to pay was over. Nothing was charged."))
                    }
                    _ => Outcome::Cancelled(refusal(&reason, "The payment was cancelled. Nothing was charged.")),
                })
            }
            other => return Err(Doubt::Unreadable(format!("status {}", short(other)))),
        })
    }
}

/// A refund.
#[derive(Debug, Deserialize)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) payment_intent: Option<String>,
    status: Option<String>,
    failure_reason: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
}

impl Refund {
    /// Compares what every refund of this payment must say.
    pub(super) fn check(&self, intent: &str, captured: Money) -> Result<(), Doubt> {
        same("reference", intent, self.payment_intent.as_deref().unwrap_or_default())?;
        same("currency", captured.currency().code(), &self.currency.to_ascii_uppercase())?;
        if (0..=captured.minor()).contains(&self.amount) {
            return Ok(());
        }
        same("refunded", "an amount within the captured one", &self.amount.to_string())
    }
    /// Our refund's id, if it carries one.
    pub(super) fn our_id(&self) -> Option<&str> {
        self.metadata.as_ref()?.get("refund").map(String::as_str)
    }
    /// Whether the money is back.
    pub(super) fn is_gone(&self) -> bool {
        self.status.as_deref() == Some("succeeded")
    }
    /// Where a refund of ours stands. Only an explicit word is an end.
    pub(super) fn standing(&self, work: &RefundWork) -> Result<RefundStanding, Doubt> {
        same("refunded", &work.amount.minor().to_string(), &self.amount.to_string())?;
        Ok(match self.status.as_deref() {
            Some("succeeded") => RefundStanding::Done { reference: self.id.clone() },
            None | Some("pending" | "requires_action") => RefundStanding::Pending,
            Some(ended @ ("failed" | "canceled")) => {
                let reason = short(self.failure_reason.as_deref().unwrap_or(ended));
                RefundStanding::Failed(refusal(&reason, "The provider could not give the money back."))
            }
            Some(other) => return Err(Doubt::Unreadable(format!("refund status {}", short(other)))),
        })
    }
}

/// The refunds of one payment, newest first.
pub(super) struct Refunds(pub(super) Vec<Refund>);

impl Refunds {
    /// The sum of what is back.
    pub(super) fn gone_minor(&self) -> i64 {
        self.0.iter().filter(|refund| refund.is_gone()).fold(0, |sum, refund| sum.saturating_add(refund.amount))
    }
    /// The refund of our id; of a failed one and its repetition the one that counts.
    pub(super) fn ours(&self, id: RefundId) -> Option<&Refund> {
        let id = id.to_string();
        let rank = |refund: &&Refund| match refund.status.as_deref() {
            Some("succeeded") => 2,
            Some("failed" | "canceled") => 0,
            _ => 1,
        };
        self.0.iter().filter(|refund| refund.our_id() == Some(&id)).max_by_key(rank)
    }
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
    pub(super) has_more: bool,
}

impl<T> Page<T> {
    /// Where the next page of `list` begins.
    pub(super) fn cursor(&self, list: &str, id: impl Fn(&T) -> &String) -> Option<String> {
        self.data.last().filter(|_| self.has_more).map(|last| format!("{list}:{}", id(last)))
    }
}
