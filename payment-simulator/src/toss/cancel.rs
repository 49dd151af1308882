//! Giving money back. Pure.
//!
//! One cancel of the whole ends as `CANCELED`; a partial cancel followed by one of the whole rest stays
//! `PARTIAL_CANCELED` with nothing left: "fully refunded" is `balance == 0`, never the status.

use super::code::Refusal;
use super::payment::{Method, Payment, Status};

/// The most cancels of one payment.
pub const CANCELS_MAX: usize = 100;

/// Where a cancel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelStatus {
    /// Accepted, not decided.
    InProgress,
    /// The money is back.
    Done,
    /// It failed; the money is not back.
    Aborted,
}

impl CancelStatus {
    /// The provider's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Done => "DONE",
            Self::Aborted => "ABORTED",
        }
    }
}

/// One cancel.
#[derive(Debug, Clone)]
pub struct Cancel {
    pub transaction: String,
    pub reason: String,
    pub amount: i64,
    pub tax_free: i64,
    /// What was left after it.
    pub refundable: i64,
    pub at_ms: i64,
    pub status: CancelStatus,
    /// What it becomes when it is decided.
    pub ends_as: CancelStatus,
    pub request_id: Option<String>,
}

/// What a cancel asks for. Amounts in minor units.
#[derive(Debug, Clone, Default)]
pub struct CancelAsked {
    pub reason: String,
    /// None: the whole rest.
    pub amount: Option<i64>,
    pub refundable: Option<i64>,
    pub tax_free: i64,
    pub has_account: bool,
    pub request_id: Option<String>,
}

/// How an accepted cancel ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelHow {
    /// At once.
    Done,
    /// Later, by [`Payment::decide_cancel`].
    Later(CancelStatus),
}

impl Payment {
    /// Gives money back.
    ///
    /// # Errors
    /// The provider's code.
    pub fn cancel(
        &mut self,
        asked: &CancelAsked,
        how: CancelHow,
        transaction: String,
        now_ms: i64,
    ) -> Result<(), Refusal> {
        let waiting = self.status == Status::WaitingForDeposit;
        match self.status {
            Status::Done | Status::PartialCanceled | Status::WaitingForDeposit => {}
            Status::Canceled => return Err(Refusal::new("ALREADY_CANCELED_PAYMENT")),
            _ => return Err(Refusal::new("NOT_CANCELABLE_PAYMENT")),
        }
        if self.balance == 0 {
            return Err(Refusal::new("NOT_CANCELABLE_AMOUNT"));
        }
        if asked.refundable.is_some_and(|expected| expected != self.balance) {
            return Err(Refusal::new("NOT_MATCHES_REFUNDABLE_AMOUNT"));
        }
        let amount = asked.amount.unwrap_or(self.balance);
        if amount > self.balance {
            return Err(Refusal::new("NOT_CANCELABLE_AMOUNT"));
        }
        if amount == 0 || asked.tax_free > amount {
            return Err(Refusal::request("cancelAmount is above 0, taxFreeAmount at most cancelAmount"));
        }
        if waiting && amount != self.balance {
            return Err(Refusal::new("NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT"));
        }
        if self.asked.method == Method::VirtualAccount && !waiting && !asked.has_account {
            return Err(Refusal::new("INVALID_REFUND_ACCOUNT_INFO"));
        }
        if self.cancels.len() >= CANCELS_MAX {
            return Err(Refusal::new("EXCEED_CANCEL_LIMIT"));
        }
        let (status, ends_as) = match how {
            CancelHow::Done => (CancelStatus::Done, CancelStatus::Done),
            CancelHow::Later(ends_as) => (CancelStatus::InProgress, ends_as),
        };
        self.balance -= amount;
        self.cancels.push(Cancel {
            transaction,
            reason: asked.reason.clone(),
            amount,
            tax_free: asked.tax_free,
            refundable: self.balance,
            at_ms: now_ms,
            status,
            ends_as,
            request_id: asked.request_id.clone(),
        });
        self.settle_status();
        Ok(())
    }

    /// A cancel in progress is decided. Returns whether anything changed.
    pub fn decide_cancel(&mut self, transaction: &str) -> bool {
        let waiting = |c: &&mut Cancel| c.transaction == transaction && c.status == CancelStatus::InProgress;
        let Some(cancel) = self.cancels.iter_mut().find(waiting) else { return false };
        cancel.status = cancel.ends_as;
        if cancel.status == CancelStatus::Aborted {
            self.balance += cancel.amount;
            self.settle_status();
        }
        true
    }

    /// The status by the cancels that count: one of the whole, or parts.
    fn settle_status(&mut self) {
        let mut counting = self.cancels.iter().filter(|cancel| cancel.status != CancelStatus::Aborted);
        self.status = match (counting.next(), counting.next()) {
            (None, _) if self.approvals == 0 => Status::WaitingForDeposit,
            (None, _) => Status::Done,
            (Some(only), None) if only.amount == self.total => Status::Canceled,
            _ => Status::PartialCanceled,
        };
    }

    /// The sum that went back or is on its way back, in minor units. Nothing before a deposit.
    pub fn cancelled(&self) -> i64 {
        if self.approvals > 0 { self.total - self.balance } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::payment::tests::{confirmed, ready};
    use super::*;

    fn part(amount: i64) -> CancelAsked {
        CancelAsked { reason: "changed my mind".into(), amount: Some(amount), ..CancelAsked::default() }
    }
    fn try_cancel(payment: &mut Payment, asked: &CancelAsked) -> Result<(), &'static str> {
        payment.cancel(asked, CancelHow::Done, "t".into(), 2).map_err(|refusal| refusal.code)
    }

    #[test]
    fn the_two_ends_of_a_full_refund() {
        let mut whole = confirmed(Method::Card);
        assert_eq!(try_cancel(&mut whole, &part(12_900)), Ok(()));
        assert_eq!((whole.status, whole.balance), (Status::Canceled, 0));
        assert_eq!(try_cancel(&mut whole, &part(1)), Err("ALREADY_CANCELED_PAYMENT"));

        let mut parts = confirmed(Method::Card);
        assert_eq!(try_cancel(&mut parts, &part(900)), Ok(()));
        assert_eq!((parts.status, parts.balance), (Status::PartialCanceled, 12_000));
        assert_eq!(try_cancel(&mut parts, &CancelAsked { amount: None, ..part(0) }), Ok(()));
        assert_eq!((parts.status, parts.balance, parts.cancelled()), (Status::PartialCanceled, 0, 12_900));
        assert_eq!(try_cancel(&mut parts, &part(1)), Err("NOT_CANCELABLE_AMOUNT"));
    }

    #[test]
    fn the_guard_stops_a_repetition() {
        let mut payment = confirmed(Method::Card);
        let asked = CancelAsked { refundable: Some(12_900), ..part(900) };
        assert_eq!(try_cancel(&mut payment, &asked), Ok(()));
        assert_eq!(try_cancel(&mut payment, &asked), Err("NOT_MATCHES_REFUNDABLE_AMOUNT"));
        assert_eq!(try_cancel(&mut payment, &part(12_001)), Err("NOT_CANCELABLE_AMOUNT"));
        assert_eq!(try_cancel(&mut payment, &part(0)), Err("INVALID_REQUEST"));
        assert_eq!(payment.balance, 12_000);
        assert_eq!(try_cancel(&mut ready(Method::Card), &part(1)), Err("NOT_CANCELABLE_PAYMENT"));
    }

    #[test]
    fn a_refund_that_fails_later_gives_the_balance_back() {
        for (ends_as, status, balance) in
            [(CancelStatus::Aborted, Status::Done, 12_900), (CancelStatus::Done, Status::PartialCanceled, 12_000)]
        {
            let mut payment = confirmed(Method::Card);
            payment.cancel(&part(900), CancelHow::Later(ends_as), "t-1".into(), 2).unwrap();
            assert_eq!((payment.balance, payment.cancels[0].status), (12_000, CancelStatus::InProgress));
            assert!(payment.decide_cancel("t-1") && !payment.decide_cancel("t-1"));
            assert_eq!((payment.status, payment.balance), (status, balance));
        }
    }

    #[test]
    fn a_virtual_account_is_refunded_to_a_bank_account() {
        let mut waiting = confirmed(Method::VirtualAccount);
        assert_eq!(try_cancel(&mut waiting, &part(900)), Err("NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT"));
        assert_eq!(try_cancel(&mut waiting, &part(12_900)), Ok(()));
        assert_eq!((waiting.status, waiting.cancelled()), (Status::Canceled, 0), "no money had come");
        let mut paid = confirmed(Method::VirtualAccount);
        paid.deposit(5);
        assert_eq!(try_cancel(&mut paid, &part(900)), Err("INVALID_REFUND_ACCOUNT_INFO"));
        assert_eq!(try_cancel(&mut paid, &CancelAsked { has_account: true, ..part(900) }), Ok(()));
        assert_eq!(paid.cancelled(), 900);
    }
}
