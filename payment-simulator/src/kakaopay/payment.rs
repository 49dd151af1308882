//! One payment and what may happen to it. Pure: the time is an argument, ids are given.
//!
//! ```text
//! READY → OPEN_PAYMENT → AUTH_PASSWORD → SUCCESS_PAYMENT → PART_CANCEL_PAYMENT → CANCEL_PAYMENT
//!    └──────────┴──────→ QUIT_PAYMENT (the shopper left) | FAIL_AUTH_PASSWORD (wrong password)
//!                        AUTH_PASSWORD → FAIL_PAYMENT (the method refused at approve)
//! ```
//! A session past its life keeps its pending status and can no longer be approved. (What the provider reports then is
//! not known; a driver has to decide by its own clock and this silence.)

use super::error::ApiError;
use super::wire::{Amount, ApproveRequest, CancelRequest, Method, ReadyRequest, default_vat};
use crate::page::Press;
use serde::Serialize;

/// The most cancels of one payment.
pub const CANCELS_MAX: usize = 100;

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    Ready,
    OpenPayment,
    AuthPassword,
    SuccessPayment,
    PartCancelPayment,
    CancelPayment,
    FailAuthPassword,
    QuitPayment,
    FailPayment,
}

impl Status {
    /// The shopper may still act.
    pub fn is_pending(self) -> bool {
        matches!(self, Self::Ready | Self::OpenPayment | Self::AuthPassword)
    }
    /// The spelling of the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::OpenPayment => "OPEN_PAYMENT",
            Self::AuthPassword => "AUTH_PASSWORD",
            Self::SuccessPayment => "SUCCESS_PAYMENT",
            Self::PartCancelPayment => "PART_CANCEL_PAYMENT",
            Self::CancelPayment => "CANCEL_PAYMENT",
            Self::FailAuthPassword => "FAIL_AUTH_PASSWORD",
            Self::QuitPayment => "QUIT_PAYMENT",
            Self::FailPayment => "FAIL_PAYMENT",
        }
    }
}

/// Money that moved: the payment or one cancel.
#[derive(Debug, Clone)]
pub struct Action {
    /// The provider's id of it, 20 characters.
    pub aid: String,
    /// `PAYMENT` or `CANCEL`.
    pub kind: &'static str,
    /// How much.
    pub amount: Amount,
    /// When.
    pub at_ms: i64,
    /// What the merchant sent along.
    pub payload: String,
}

/// One payment.
#[derive(Debug, Clone)]
pub struct Payment {
    pub tid: String,
    pub asked: ReadyRequest,
    pub method: Method,
    pub status: Status,
    /// What was asked, and after the approve what was captured.
    pub amount: Amount,
    pub cancelled: Amount,
    pub actions: Vec<Action>,
    /// The secret that the shopper carries back; known once authenticated.
    pub pg_token: Option<String>,
    /// How often an approve succeeded: anything but 0 or 1 is a double charge.
    pub approvals: u32,
    pub created_ms: i64,
    pub approved_ms: Option<i64>,
    pub canceled_ms: Option<i64>,
}

impl Payment {
    /// A new payment in `READY`.
    pub fn new(tid: String, asked: ReadyRequest, now_ms: i64) -> Self {
        Self {
            tid,
            method: asked.payment_method_type.unwrap_or(Method::Money),
            amount: asked.amount(),
            asked,
            status: Status::Ready,
            cancelled: Amount::default(),
            actions: Vec::new(),
            pg_token: None,
            approvals: 0,
            created_ms: now_ms,
            approved_ms: None,
            canceled_ms: None,
        }
    }

    /// Whether the session's life is over.
    pub fn is_expired(&self, now_ms: i64, session_ms: i64) -> bool {
        now_ms.saturating_sub(self.created_ms) >= session_ms
    }

    /// The shopper's browser shows the page.
    pub fn open(&mut self) {
        if self.status == Status::Ready {
            self.status = Status::OpenPayment;
        }
    }

    /// The shopper presses a button. Returns where the browser goes next; None when the payment has ended.
    /// Pressing "pay" again gives the same address.
    pub fn press(&mut self, press: Press, fresh_token: String, now_ms: i64, session_ms: i64) -> Option<String> {
        if !self.status.is_pending() || self.is_expired(now_ms, session_ms) {
            return None;
        }
        match press {
            Press::Pay => {
                self.status = Status::AuthPassword;
                let token = self.pg_token.get_or_insert(fresh_token);
                let separator = if self.asked.approval_url.contains('?') { '&' } else { '?' };
                Some(format!("{}{separator}pg_token={token}", self.asked.approval_url))
            }
            Press::Decline => {
                self.status = Status::FailAuthPassword;
                Some(self.asked.fail_url.clone())
            }
            Press::Cancel => {
                self.status = Status::QuitPayment;
                Some(self.asked.cancel_url.clone())
            }
        }
    }

    /// Moves the money.
    ///
    /// # Errors
    /// When anything in the request differs from `ready`, the token is wrong, or the payment is not waiting for this.
    pub fn approve(
        &mut self,
        request: &ApproveRequest,
        how: Approve,
        aid: String,
        now_ms: i64,
        session_ms: i64,
    ) -> Result<(), ApiError> {
        let same = request.partner_order_id == self.asked.partner_order_id
            && request.partner_user_id == self.asked.partner_user_id;
        if !same {
            return Err(ApiError::parameter("partner_order_id, partner_user_id", "as in ready"));
        }
        if request.total_amount.is_some_and(|total| total != self.asked.total_amount) {
            return Err(ApiError::parameter("total_amount", "as in ready"));
        }
        if self.approvals > 0 {
            return Err(ApiError::already_done());
        }
        if self.status != Status::AuthPassword {
            return Err(ApiError::wrong_state("the shopper has not authenticated this payment, or it has ended"));
        }
        if self.pg_token.as_deref() != Some(request.pg_token.as_str()) {
            return Err(ApiError::parameter("pg_token", "not the token of this payment"));
        }
        if self.is_expired(now_ms, session_ms) {
            return Err(ApiError::wrong_state("the session of this payment is over"));
        }
        if how == Approve::Declined {
            self.status = Status::FailPayment;
            return Err(ApiError::declined());
        }
        if how == Approve::WrongAmount {
            self.amount.total = wrong(self.amount.total);
            self.amount.vat = default_vat(self.amount.total, self.amount.tax_free).max(0);
        }
        self.status = Status::SuccessPayment;
        self.approvals += 1;
        self.approved_ms = Some(now_ms);
        let payload = request.payload.clone().unwrap_or_default();
        self.actions.push(Action { aid, kind: "PAYMENT", amount: self.amount, at_ms: now_ms, payload });
        Ok(())
    }

    /// Gives money back. Returns how much, by its parts.
    ///
    /// # Errors
    /// When nothing was captured, less is left, or `cancel_available_amount` is not what is left.
    pub fn cancel(&mut self, request: &CancelRequest, aid: String, now_ms: i64) -> Result<Amount, ApiError> {
        if !matches!(self.status, Status::SuccessPayment | Status::PartCancelPayment) {
            return Err(ApiError::wrong_state("there is nothing to cancel in this payment"));
        }
        let left = self.available();
        if request.cancel_available_amount.is_some_and(|expected| expected != left.total) {
            return Err(ApiError::cancel_amount("cancel_available_amount is not what is left"));
        }
        if request.cancel_amount > left.total || request.cancel_tax_free_amount > left.tax_free {
            return Err(ApiError::cancel_amount("more than what is left"));
        }
        if request.cancel_amount != self.amount.total && self.amount.green_deposit > 0 {
            return Err(ApiError::cancel_amount("a payment with a green deposit is cancelled as a whole"));
        }
        if self.actions.len() > CANCELS_MAX {
            return Err(ApiError::cancel_amount("too many cancels of one payment"));
        }
        let whole_rest = request.cancel_amount == left.total;
        let vat = match request.cancel_vat_amount {
            Some(vat) if vat > left.vat => return Err(ApiError::cancel_amount("more value added tax than is left")),
            Some(vat) => vat,
            None if whole_rest => left.vat,
            None => default_vat(request.cancel_amount, request.cancel_tax_free_amount).min(left.vat),
        };
        let part = Amount {
            total: request.cancel_amount,
            tax_free: request.cancel_tax_free_amount,
            vat,
            green_deposit: if whole_rest { left.green_deposit } else { 0 },
            ..Amount::default()
        };
        self.cancelled = self.cancelled.plus(part);
        self.status = if whole_rest { Status::CancelPayment } else { Status::PartCancelPayment };
        self.canceled_ms = Some(now_ms);
        let payload = request.payload.clone().unwrap_or_default();
        self.actions.push(Action { aid, kind: "CANCEL", amount: part, at_ms: now_ms, payload });
        Ok(part)
    }

    /// What is left to cancel: nothing before the approve.
    pub fn available(&self) -> Amount {
        if self.approvals > 0 { self.amount.less(self.cancelled) } else { Amount::default() }
    }

    /// The sum that was captured, in won.
    pub fn captured(&self) -> i64 {
        if self.approvals > 0 { self.amount.total } else { 0 }
    }
}

/// How an approve ends when the request is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approve {
    /// The amount that was asked is captured.
    Right,
    /// Another amount is captured.
    WrongAmount,
    /// The payment method refuses.
    Declined,
}

/// Another amount than this one.
pub fn wrong(total: i64) -> i64 {
    total + 100
}
