//! One payment and what may happen to it, without its cancels. Pure: the time is an argument, ids are given.
//!
//! ```text
//! READY → IN_PROGRESS (the buyer authenticated) → DONE | ABORTED | EXPIRED        READY → EXPIRED
//! virtual account: IN_PROGRESS → WAITING_FOR_DEPOSIT → DONE | CANCELED            DONE → WAITING_FOR_DEPOSIT
//! DONE → CANCELED | PARTIAL_CANCELED
//! ```

use super::cancel::Cancel;
use super::code::Refusal;
use crate::page::Press;
use crate::web::with_query;
use serde::{Deserialize, Serialize};
use service_kit::money::Currency;

/// How long the window waits for the buyer, in milliseconds.
pub const WINDOW_MS: i64 = 30 * 60_000;
/// How long an authenticated payment waits for the confirm, in milliseconds.
pub const CONFIRM_MS: i64 = 10 * 60_000;

/// How the buyer pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Method {
    Card,
    VirtualAccount,
}

impl Method {
    /// The provider's word, which is Korean.
    pub fn name(self) -> &'static str {
        match self {
            Self::Card => "카드",
            Self::VirtualAccount => "가상계좌",
        }
    }
    /// The smallest amount in won.
    pub fn won_min(self) -> i64 {
        match self {
            Self::Card => 100,
            Self::VirtualAccount => 200,
        }
    }
}

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    Ready,
    InProgress,
    WaitingForDeposit,
    Done,
    Canceled,
    PartialCanceled,
    Aborted,
    Expired,
}

impl Status {
    /// The provider's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::InProgress => "IN_PROGRESS",
            Self::WaitingForDeposit => "WAITING_FOR_DEPOSIT",
            Self::Done => "DONE",
            Self::Canceled => "CANCELED",
            Self::PartialCanceled => "PARTIAL_CANCELED",
            Self::Aborted => "ABORTED",
            Self::Expired => "EXPIRED",
        }
    }
}

/// What the window was opened with.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    pub amount: i64,
    pub currency: Currency,
    pub order_id: String,
    pub order_name: String,
    pub customer_key: Option<String>,
    pub success_url: String,
    pub fail_url: String,
}

/// One payment.
#[derive(Debug, Clone)]
pub struct Payment {
    pub key: String,
    pub asked: Asked,
    pub status: Status,
    /// What was asked, and after the confirm what was taken.
    pub total: i64,
    /// What of it is left.
    pub balance: i64,
    pub cancels: Vec<Cancel>,
    /// Proves deposit callbacks.
    pub secret: String,
    pub requested_ms: i64,
    pub authenticated_ms: Option<i64>,
    pub approved_ms: Option<i64>,
    /// The buyer closed the window: the payment stays `READY` until its time is over.
    pub left: bool,
    /// The key of the confirm's transaction.
    pub transaction: Option<String>,
    pub failure: Option<Refusal>,
    /// How often money was taken: anything but 0 or 1 is a double charge.
    pub approvals: u32,
}

/// What a confirm asks for.
#[derive(Debug, Clone, Copy)]
pub struct Confirm<'r> {
    pub order_id: &'r str,
    pub amount: i64,
}

/// How a confirm ends when the request is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The amount that was asked is taken.
    Right,
    /// Another amount is taken.
    WrongAmount,
    /// The card issuer refuses.
    Declined,
}

impl Payment {
    /// A new payment in `READY`.
    pub fn new(key: String, secret: String, asked: Asked, now_ms: i64) -> Self {
        Self {
            key,
            status: Status::Ready,
            total: asked.amount,
            balance: asked.amount,
            asked,
            cancels: Vec::new(),
            secret,
            requested_ms: now_ms,
            authenticated_ms: None,
            approved_ms: None,
            left: false,
            transaction: None,
            failure: None,
            approvals: 0,
        }
    }
    /// Whether the window still waits for the buyer.
    pub fn is_open(&self) -> bool {
        !self.left && matches!(self.status, Status::Ready | Status::InProgress)
    }
    /// When the present step of the session is over; none when there is no session.
    pub fn session_ends_ms(&self) -> Option<i64> {
        match (self.status, self.authenticated_ms) {
            (Status::Ready, _) => Some(self.requested_ms.saturating_add(WINDOW_MS)),
            (Status::InProgress, Some(at_ms)) => Some(at_ms.saturating_add(CONFIRM_MS)),
            _ => None,
        }
    }
    /// Ends a session whose time is over.
    pub fn expire(&mut self, now_ms: i64) {
        if self.session_ends_ms().is_some_and(|ends_ms| ends_ms <= now_ms) {
            self.status = Status::Expired;
        }
    }
    /// The buyer presses a button. Returns where the browser goes next; None when the payment has ended.
    /// Pressing "pay" again gives the same address.
    pub fn press(&mut self, press: Press, english: bool, now_ms: i64) -> Option<String> {
        if !self.is_open() {
            return None;
        }
        let failed = |refusal: Refusal| {
            let message = refusal.message(english);
            let query = [("code", refusal.code), ("message", message), ("orderId", &self.asked.order_id)];
            with_query(&self.asked.fail_url, &query)
        };
        Some(match press {
            Press::Pay => {
                self.status = Status::InProgress;
                self.authenticated_ms.get_or_insert(now_ms);
                let amount = super::money::number_of(self.asked.amount, self.asked.currency).to_string();
                let query = [
                    ("paymentType", "NORMAL"),
                    ("orderId", &self.asked.order_id),
                    ("paymentKey", &self.key),
                    ("amount", &amount),
                ];
                with_query(&self.asked.success_url, &query)
            }
            Press::Decline => {
                let refusal = Refusal::new("REJECT_CARD_COMPANY");
                let next = failed(refusal);
                self.abort(refusal);
                next
            }
            Press::Cancel => {
                let next = failed(Refusal::new("PAY_PROCESS_CANCELED"));
                self.left = true;
                next
            }
        })
    }
    fn abort(&mut self, why: Refusal) {
        self.status = Status::Aborted;
        self.failure = Some(why);
    }

    /// Takes the money, or hands out a virtual account.
    ///
    /// # Errors
    /// The provider's code.
    pub fn confirm(&mut self, asked: Confirm<'_>, how: How, transaction: String, now_ms: i64) -> Result<(), Refusal> {
        match self.status {
            Status::InProgress => {}
            Status::Ready | Status::Expired => return Err(Refusal::new("NOT_FOUND_PAYMENT_SESSION")),
            _ => return Err(Refusal::new("ALREADY_PROCESSED_PAYMENT")),
        }
        if asked.order_id != self.asked.order_id {
            return Err(Refusal::request("orderId is not the one of this payment"));
        }
        if asked.amount != self.asked.amount {
            return Err(Refusal::request("amount is not the one of this payment"));
        }
        match (self.asked.method, how) {
            (_, How::Declined) => {
                let refusal = Refusal::new("REJECT_CARD_PAYMENT");
                self.abort(refusal);
                return Err(refusal);
            }
            (Method::Card, How::WrongAmount) => {
                self.total = wrong(self.total);
                self.balance = self.total;
            }
            _ => {}
        }
        self.transaction = Some(transaction);
        match self.asked.method {
            Method::Card => self.take(now_ms),
            Method::VirtualAccount => self.status = Status::WaitingForDeposit,
        }
        Ok(())
    }
    fn take(&mut self, now_ms: i64) {
        self.status = Status::Done;
        self.approved_ms = Some(now_ms);
        self.approvals += 1;
    }

    /// The buyer pays into the virtual account. Returns whether that was possible.
    pub fn deposit(&mut self, now_ms: i64) -> bool {
        let waits = self.status == Status::WaitingForDeposit;
        if waits {
            self.take(now_ms);
        }
        waits
    }
    /// The bank takes the deposit back. Returns whether that was possible.
    pub fn deposit_failed(&mut self) -> bool {
        let paid = self.asked.method == Method::VirtualAccount && self.status == Status::Done;
        if paid {
            self.status = Status::WaitingForDeposit;
            self.approved_ms = None;
            self.approvals = self.approvals.saturating_sub(1);
        }
        paid
    }
    /// The sum that was taken, in minor units.
    pub fn captured(&self) -> i64 {
        if self.approvals > 0 { self.total } else { 0 }
    }
}

/// Another amount than this one.
pub fn wrong(minor: i64) -> i64 {
    minor + 100
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A payment of 12,900 won that was requested at 0.
    pub fn ready(method: Method) -> Payment {
        let asked = Asked {
            method,
            amount: 12_900,
            currency: Currency::KRW,
            order_id: "order-1".into(),
            order_name: "귤".into(),
            customer_key: None,
            success_url: "http://shop.example/ok?a=b".into(),
            fail_url: "http://shop.example/no".into(),
        };
        Payment::new("tgen_1".into(), "ps_1".into(), asked, 0)
    }
    /// The same after its confirm.
    pub fn confirmed(method: Method) -> Payment {
        let mut payment = ready(method);
        payment.press(Press::Pay, true, 0).unwrap();
        payment.confirm(CONFIRM, How::Right, "t-0".into(), 1).unwrap();
        payment
    }
    const CONFIRM: Confirm<'static> = Confirm { order_id: "order-1", amount: 12_900 };

    #[test]
    fn both_timers_end_in_expired() {
        for (authenticated, last_ms) in [(false, WINDOW_MS), (true, CONFIRM_MS)] {
            let mut payment = ready(Method::Card);
            if authenticated {
                payment.press(Press::Pay, true, 0).unwrap();
            }
            let before = payment.status;
            payment.expire(last_ms - 1);
            assert_eq!(payment.status, before);
            payment.expire(last_ms);
            assert_eq!(payment.status, Status::Expired);
            let refusal = payment.confirm(CONFIRM, How::Right, "t".into(), last_ms).unwrap_err();
            assert_eq!((refusal.code, refusal.status), ("NOT_FOUND_PAYMENT_SESSION", 404));
        }
        let mut done = confirmed(Method::Card);
        done.expire(i64::MAX);
        assert_eq!(done.status, Status::Done);
    }

    #[test]
    fn another_amount_or_order_takes_nothing() {
        let mut payment = ready(Method::Card);
        payment.press(Press::Pay, true, 0).unwrap();
        for wrong in [Confirm { amount: 12_901, ..CONFIRM }, Confirm { order_id: "order-2", ..CONFIRM }] {
            assert_eq!(payment.confirm(wrong, How::Right, "t".into(), 1).unwrap_err().code, "INVALID_REQUEST");
        }
        assert_eq!((payment.status, payment.captured()), (Status::InProgress, 0));
        payment.confirm(CONFIRM, How::Right, "t".into(), 1).unwrap();
        assert_eq!((payment.status, payment.captured(), payment.approvals), (Status::Done, 12_900, 1));
        let again = payment.confirm(CONFIRM, How::Right, "t".into(), 2).unwrap_err();
        assert_eq!((again.code, payment.approvals), ("ALREADY_PROCESSED_PAYMENT", 1));
    }

    #[test]
    fn each_button_has_its_address() {
        let pressed = |press| {
            let mut payment = ready(Method::Card);
            let next = payment.press(press, true, 0).unwrap();
            (next, payment)
        };
        let (next, mut payment) = pressed(Press::Pay);
        assert_eq!(
            next,
            "http://shop.example/ok?a=b&paymentType=NORMAL&orderId=order-1&paymentKey=tgen_1&amount=12900"
        );
        assert_eq!(payment.press(Press::Pay, true, 5), Some(next), "again is the same");
        assert_eq!(payment.authenticated_ms, Some(0));
        let (next, mut payment) = pressed(Press::Decline);
        assert!(next.starts_with("http://shop.example/no?code=REJECT_CARD_COMPANY&message="), "{next}");
        assert!(next.ends_with("&orderId=order-1"), "{next}");
        assert_eq!((payment.status, payment.press(Press::Pay, true, 0)), (Status::Aborted, None));
        let (next, mut payment) = pressed(Press::Cancel);
        assert!(next.contains("code=PAY_PROCESS_CANCELED"), "{next}");
        assert_eq!((payment.status, payment.press(Press::Pay, true, 0)), (Status::Ready, None));
    }

    #[test]
    fn a_virtual_account_waits_is_paid_and_may_fall_back() {
        let mut payment = confirmed(Method::VirtualAccount);
        assert_eq!((payment.status, payment.captured()), (Status::WaitingForDeposit, 0));
        assert!(!payment.deposit_failed());
        assert!(payment.deposit(5) && !payment.deposit(6));
        assert_eq!((payment.status, payment.captured(), payment.approved_ms), (Status::Done, 12_900, Some(5)));
        assert!(payment.deposit_failed());
        assert_eq!((payment.status, payment.captured()), (Status::WaitingForDeposit, 0));
        assert!(!confirmed(Method::Card).deposit_failed());
    }

    #[test]
    fn a_decline_ends_the_payment() {
        let mut payment = ready(Method::Card);
        payment.press(Press::Pay, true, 0).unwrap();
        let refusal = payment.confirm(CONFIRM, How::Declined, "t".into(), 1).unwrap_err();
        assert_eq!((refusal.code, payment.status), ("REJECT_CARD_PAYMENT", Status::Aborted));
        assert_eq!(payment.failure, Some(refusal));
    }
}
