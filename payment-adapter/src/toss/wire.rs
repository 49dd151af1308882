//! The parts of the provider's bodies that are read (API version 2022-11-16). Further fields are ignored: the provider
//! may add some.

use crate::provider::{Doubt, Outcome, RefundStanding, Standing, refusal, same};
use ledger::RefundWork;
use serde::Deserialize;
use service_kit::clock::parse_rfc3339;
use service_kit::ids::{OrderId, RefundId};
use service_kit::money::Money;

/// Longest `cancelReason`, in characters.
const REASON_CHARS_MAX: usize = 200;

/// A payment.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payment {
    pub(super) payment_key: String,
    order_id: String,
    currency: String,
    total_amount: i64,
    balance_amount: i64,
    status: String,
    approved_at: Option<String>,
    failure: Option<Failure>,
    cancels: Option<Vec<Cancel>>,
    virtual_account: Option<VirtualAccount>,
}

/// Why it ended without money.
#[derive(Debug, Deserialize)]
struct Failure {
    code: Option<String>,
    message: Option<String>,
}

/// Money that went back.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cancel {
    transaction_key: String,
    cancel_reason: Option<String>,
    cancel_amount: i64,
    cancel_status: Option<String>,
}

/// Where a deposit is awaited.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VirtualAccount {
    due_date: Option<String>,
}

impl Payment {
    /// Compares everything that must be ours: order, currency, amount, and the provider's key where we know it.
    pub(super) fn check(&self, order: OrderId, amount: Money, key: Option<&str>) -> Result<(), Doubt> {
        same("order", &order.to_string(), &self.order_id)?;
        same("currency", amount.currency().code(), &self.currency)?;
        same("amount", &amount.minor().to_string(), &self.total_amount.to_string())?;
        if let Some(key) = key {
            same("reference", key, &self.payment_key)?;
        }
        Ok(())
    }

    /// What went back so far. The balance is what counts, never the status.
    fn refunded_minor(&self) -> Result<i64, Doubt> {
        if (0..=self.total_amount).contains(&self.balance_amount) {
            return Ok(self.total_amount.saturating_sub(self.balance_amount));
        }
        same("refunded", "a balance within the amount", &self.balance_amount.to_string()).map(|()| 0)
    }

    /// Where a payment stands whose figures were compared.
    pub(super) fn standing(&self, amount: Money) -> Result<Standing, Doubt> {
        let failure = |otherwise: &str| {
            let failure = self.failure.as_ref();
            let code = failure.and_then(|f| f.code.as_deref()).unwrap_or(&self.status);
            let message = failure.and_then(|f| f.message.as_deref()).unwrap_or(otherwise);
            refusal(&crate::http::short(code), &crate::http::short(message))
        };
        Ok(match self.status.as_str() {
            "READY" | "IN_PROGRESS" => Standing::Pending,
            "WAITING_FOR_DEPOSIT" => Standing::Waiting { until_ms: self.due_ms()? },
            "ABORTED" => Standing::Ended(Outcome::Declined(failure("The payment was refused. Nothing was charged."))),
            "EXPIRED" => Standing::Ended(Outcome::Expired(failure("The time to pay was over. Nothing was charged."))),
            // Cancelled before the deposit came: it was never approved.
            "CANCELED" if self.approved_at.is_none() => {
                Standing::Ended(Outcome::Cancelled(failure("The payment was cancelled. Nothing was charged.")))
            }
            "DONE" | "PARTIAL_CANCELED" | "CANCELED" => {
                let refunded_minor = self.refunded_minor()?;
                // Word and sum must tell the same story. After a last part the word stays at "in part".
                let told = match refunded_minor {
                    0 => "DONE",
                    sum if sum == self.total_amount && self.status == "CANCELED" => "CANCELED",
                    _ => "PARTIAL_CANCELED",
                };
                same("status", told, &self.status)?;
                let reference = self.payment_key.clone();
                Standing::Ended(Outcome::Paid { reference, amount, refunded_minor })
            }
            other => return Err(Doubt::Unreadable(format!("status {}", crate::http::short(other)))),
        })
    }

    /// The end of the time to deposit.
    fn due_ms(&self) -> Result<i64, Doubt> {
        let due = self.virtual_account.as_ref().and_then(|account| account.due_date.as_deref());
        due.and_then(time_ms).ok_or_else(|| Doubt::Unreadable("a deposit without a due date".to_owned()))
    }

    /// The refund of our id, if this payment has one. Its amount must be ours.
    pub(super) fn our_refund(&self, work: &RefundWork) -> Result<Option<RefundStanding>, Doubt> {
        let tag = tag(work.id);
        let ours = || {
            let cancels = self.cancels.iter().flatten();
            cancels.filter(|cancel| cancel.cancel_reason.as_deref().is_some_and(|reason| reason.ends_with(&tag)))
        };
        // Of an aborted one and its repetition the one that counts.
        let rank = |cancel: &&Cancel| match cancel.cancel_status.as_deref() {
            Some("DONE") => 2,
            Some("ABORTED") => 0,
            _ => 1,
        };
        let Some(cancel) = ours().max_by_key(rank) else { return Ok(None) };
        same("refunded", &work.amount.minor().to_string(), &cancel.cancel_amount.to_string())?;
        Ok(Some(match cancel.cancel_status.as_deref() {
            Some("DONE") => RefundStanding::Done { reference: cancel.transaction_key.clone() },
            Some("IN_PROGRESS") => RefundStanding::Pending,
            Some("ABORTED") => RefundStanding::Failed(refusal("ABORTED", "The provider gave up on the refund.")),
            other => return Err(Doubt::Unreadable(format!("cancelStatus {other:?}"))),
        }))
    }

    /// Where a refund stands that carries no id of ours, by the balance.
    pub(super) fn refund_by_balance(&self, work: &RefundWork) -> Result<RefundStanding, Doubt> {
        let refunded_minor = self.refunded_minor()?;
        if refunded_minor == work.refunded_before_minor {
            return Ok(RefundStanding::NotDone);
        }
        // When all is given back, the shopper has it, whoever pressed the button; less than that is not ours to judge.
        same("refunded", &work.captured.minor().to_string(), &refunded_minor.to_string())?;
        match self.cancels.iter().flatten().next_back() {
            Some(cancel) => Ok(RefundStanding::Done { reference: cancel.transaction_key.clone() }),
            None => Err(Doubt::Unreadable("cancelled without an entry in cancels".to_owned())),
        }
    }

    /// After a refund of ours exactly its amount must be gone.
    pub(super) fn balance_fits(&self, work: &RefundWork) -> Result<(), Doubt> {
        let sum = work.refunded_before_minor.saturating_add(work.amount.minor());
        same("refunded", &sum.to_string(), &self.refunded_minor()?.to_string())
    }
}

/// How a refund of ours is found again: its transaction key is unknown when the answer was lost.
fn tag(refund: RefundId) -> String {
    format!("[refund {refund}]")
}

/// `cancelReason`: the reason for people, cut to what fits, and our refund's id at the end.
pub(super) fn cancel_reason(reason: &str, refund: RefundId) -> String {
    let tag = tag(refund);
    let room = REASON_CHARS_MAX.saturating_sub(tag.chars().count() + 1);
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(room).collect();
    format!("{reason} {tag}")
}

/// A time of the provider: with a zone, or in Korean time without one.
fn time_ms(text: &str) -> Option<i64> {
    parse_rfc3339(text).or_else(|| parse_rfc3339(&format!("{text}+09:00")))
}

/// An entry of the list of transactions.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Transaction {
    pub(super) transaction_key: String,
    pub(super) payment_key: String,
    pub(super) order_id: String,
    pub(super) currency: String,
    pub(super) amount: i64,
    pub(super) status: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_carries_our_id_within_its_length() {
        let refund = RefundId::new();
        let long = cancel_reason(&"환".repeat(500), refund);
        assert_eq!(long.chars().count(), REASON_CHARS_MAX);
        assert!(long.ends_with(&format!(" [refund {refund}]")));
        assert_eq!(cancel_reason("a\nb", refund), format!("ab [refund {refund}]"));
    }

    #[test]
    fn times_come_with_a_zone_and_without() {
        let expected = parse_rfc3339("2026-11-22T14:59:59Z");
        assert!(expected.is_some());
        assert_eq!(time_ms("2026-11-22T23:59:59+09:00"), expected);
        assert_eq!(time_ms("2026-11-22T23:59:59.000000"), expected);
        assert_eq!(time_ms("soon"), None);
    }
}
