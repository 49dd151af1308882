//! Refunds. Pure. A refund that failed counts no more, and its amount can be refunded again.

use super::error::Refusal;
use super::intent::{Card, Intent};
use serde::Serialize;
use std::collections::BTreeMap;

/// The most refunds of one payment.
pub const REFUNDS_MAX: usize = 100;

/// Where a refund stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    Pending,
    Succeeded,
    Failed,
}

/// One refund.
#[derive(Debug, Clone)]
pub struct Refund {
    pub id: String,
    pub intent: String,
    pub charge: String,
    pub amount: i64,
    pub currency: &'static str,
    pub reason: Option<&'static str>,
    pub metadata: BTreeMap<String, String>,
    pub status: RefundStatus,
    /// What it becomes when it is decided.
    pub ends_as: RefundStatus,
    pub created_ms: i64,
}

impl Refund {
    /// Whether its amount is gone, or on its way.
    pub fn counts(&self) -> bool {
        self.status != RefundStatus::Failed
    }
    /// It is decided. Returns the status before, if it changed.
    pub fn decide(&mut self) -> Option<RefundStatus> {
        let before = self.status;
        self.status = self.ends_as;
        (before != self.status).then_some(before)
    }
}

/// How an accepted refund begins and ends: by the card, unless a fault says otherwise.
pub fn course(card: Card) -> (RefundStatus, RefundStatus) {
    match card {
        Card::RefundFails => (RefundStatus::Succeeded, RefundStatus::Failed),
        Card::RefundPending => (RefundStatus::Pending, RefundStatus::Succeeded),
        _ => (RefundStatus::Succeeded, RefundStatus::Succeeded),
    }
}

/// How much of a payment is refunded by these refunds of it.
pub fn refunded<'r>(refunds: impl Iterator<Item = &'r Refund>) -> i64 {
    refunds.filter(|refund| refund.counts()).map(|refund| refund.amount).sum()
}

/// The amount of a new refund: what was asked, or the whole rest.
///
/// # Errors
/// When nothing was taken, or less is left.
pub fn amount_of(intent: &Intent, already: i64, asked: Option<i64>) -> Result<i64, Refusal> {
    let left = intent.received() - already;
    if intent.received() == 0 {
        let message = "This PaymentIntent does not have a successful charge to refund.";
        return Err(Refusal::refund(message, Some("payment_intent_unexpected_state")));
    }
    if left == 0 {
        return Err(Refusal::refund("The charge has already been refunded.", Some("charge_already_refunded")));
    }
    let amount = asked.unwrap_or(left);
    if amount > left {
        let message = format!("Refund amount ({amount}) is greater than unrefunded amount on charge ({left})");
        return Err(Refusal::refund(&message, None));
    }
    if intent.refunds.len() >= REFUNDS_MAX {
        return Err(Refusal::refund("Too many refunds of one payment.", None));
    }
    Ok(amount)
}

#[cfg(test)]
mod tests {
    use super::super::intent::tests::{intent, with};
    use super::*;

    #[test]
    fn never_more_than_was_taken() {
        let mut paid = intent("automatic");
        assert!(amount_of(&paid, 0, None).is_err(), "nothing was taken");
        paid.confirm(&with("pm_card_visa"), 1).unwrap();
        assert_eq!(amount_of(&paid, 0, None), Ok(12_900));
        assert_eq!(amount_of(&paid, 900, None), Ok(12_000));
        assert_eq!(amount_of(&paid, 900, Some(500)), Ok(500));
        assert!(amount_of(&paid, 900, Some(12_001)).is_err());
        assert_eq!(amount_of(&paid, 12_900, None).unwrap_err().code, Some("charge_already_refunded"));
    }

    #[test]
    fn a_failed_refund_counts_no_more() {
        let (status, ends_as) = course(Card::RefundFails);
        let mut refund = Refund {
            id: "re_1".into(),
            intent: "pi_1".into(),
            charge: "ch_1".into(),
            amount: 900,
            currency: "krw",
            reason: None,
            metadata: BTreeMap::new(),
            status,
            ends_as,
            created_ms: 0,
        };
        assert_eq!(refunded([&refund].into_iter()), 900);
        assert_eq!((refund.decide(), refund.decide()), (Some(RefundStatus::Succeeded), None));
        assert_eq!(refunded([&refund].into_iter()), 0);
    }
}
