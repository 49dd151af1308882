//! A PaymentIntent and what may happen to it, without its refunds. Pure: the time is an argument, ids are given.
//!
//! ```text
//! requires_payment_method → requires_confirmation → requires_action → requires_capture → succeeded
//!          └ a refused card leads back here            (3-D Secure)      (manual only)
//! a slow payment method is processing in between, and is decided by itself
//! anything before succeeded → canceled; requires_capture → canceled by itself after seven days
//! ```

use super::error::Refusal;
use serde::Serialize;
use service_kit::money::Currency;
use std::collections::BTreeMap;

/// How long an authorization can be captured, in milliseconds.
pub const AUTHORIZATION_MS: i64 = 7 * 86_400_000;

/// Where a PaymentIntent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresAction,
    Processing,
    RequiresCapture,
    Canceled,
    Succeeded,
}

impl Status {
    /// The provider's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequiresPaymentMethod => "requires_payment_method",
            Self::RequiresConfirmation => "requires_confirmation",
            Self::RequiresAction => "requires_action",
            Self::Processing => "processing",
            Self::RequiresCapture => "requires_capture",
            Self::Canceled => "canceled",
            Self::Succeeded => "succeeded",
        }
    }
    /// The buyer may still act.
    pub fn is_open(self) -> bool {
        matches!(self, Self::RequiresPaymentMethod | Self::RequiresConfirmation | Self::RequiresAction)
    }
}

/// What the shop asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    pub amount: i64,
    pub currency: Currency,
    /// `automatic`, `automatic_async` or `manual`.
    pub capture_method: &'static str,
    pub confirmation_method: &'static str,
    pub payment_method: Option<String>,
    pub customer: Option<String>,
    pub description: Option<String>,
    pub receipt_email: Option<String>,
    pub return_url: Option<String>,
    pub automatic_payment_methods: bool,
    pub metadata: BTreeMap<String, String>,
}

/// Money that was authorized or taken.
#[derive(Debug, Clone)]
pub struct Charge {
    pub id: String,
    pub amount: i64,
    pub captured: bool,
    pub created_ms: i64,
    pub card: Card,
}

/// What a payment method does. The names are the provider's test tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Card {
    /// `pm_card_visa` and every other `pm_card_…`.
    Good,
    /// `pm_card_…chargeDeclined…`: the code and the issuer's reason.
    Declined(&'static str, Option<&'static str>),
    /// `pm_card_authenticationRequired`, `pm_card_threeDSecure2Required`.
    NeedsAction,
    /// `pm_card_refundFail`: a refund succeeds and fails later.
    RefundFails,
    /// `pm_card_pendingRefund`: a refund is pending and succeeds later.
    RefundPending,
}

impl Card {
    /// What this payment method does; None for one that does not exist.
    pub fn of(payment_method: &str) -> Option<Self> {
        let token = payment_method.strip_prefix("pm_card_")?;
        Some(match token {
            _ if token.ends_with("chargeDeclinedInsufficientFunds") => {
                Self::Declined("card_declined", Some("insufficient_funds"))
            }
            _ if token.ends_with("chargeDeclinedExpiredCard") => Self::Declined("expired_card", None),
            _ if token.contains("chargeDeclined") => Self::Declined("card_declined", Some("generic_decline")),
            "authenticationRequired" | "threeDSecure2Required" | "threeDSecureRequired" => Self::NeedsAction,
            "refundFail" => Self::RefundFails,
            "pendingRefund" => Self::RefundPending,
            _ => Self::Good,
        })
    }
}

/// One PaymentIntent.
#[derive(Debug, Clone)]
pub struct Intent {
    pub id: String,
    pub client_secret: String,
    pub asked: Asked,
    pub status: Status,
    pub charge: Option<Charge>,
    /// The charge of a payment that is processing.
    pub processing: Option<Charge>,
    pub last_error: Option<Refusal>,
    pub created_ms: i64,
    pub canceled_ms: Option<i64>,
    pub cancellation_reason: Option<&'static str>,
    /// Ids of its refunds, oldest first.
    pub refunds: Vec<String>,
    /// How often money was taken: anything but 0 or 1 is a double charge.
    pub captures: u32,
}

/// A confirm by the shop or by the buyer.
#[derive(Debug, Clone)]
pub struct Confirm {
    pub card: Card,
    pub charge_id: String,
    /// Take this much more than was asked.
    pub extra: i64,
    /// The buyer has passed 3-D Secure.
    pub authenticated: bool,
    /// Refuse instead of asking the buyer.
    pub error_on_action: bool,
    /// The payment method takes its time.
    pub slow: bool,
}

impl Intent {
    /// A new PaymentIntent.
    pub fn new(id: String, client_secret: String, asked: Asked, now_ms: i64) -> Self {
        let given = asked.payment_method.is_some();
        Self {
            id,
            client_secret,
            status: if given { Status::RequiresConfirmation } else { Status::RequiresPaymentMethod },
            asked,
            charge: None,
            processing: None,
            last_error: None,
            created_ms: now_ms,
            canceled_ms: None,
            cancellation_reason: None,
            refunds: Vec::new(),
            captures: 0,
        }
    }
    /// What can be captured.
    pub fn capturable(&self) -> i64 {
        match (&self.charge, self.status) {
            (Some(charge), Status::RequiresCapture) => charge.amount,
            _ => 0,
        }
    }
    /// What was taken.
    pub fn received(&self) -> i64 {
        self.charge.as_ref().filter(|charge| charge.captured).map_or(0, |charge| charge.amount)
    }

    /// Authorizes, takes the money, or asks the buyer.
    ///
    /// # Errors
    /// When the card refuses, or the state is not one for this.
    pub fn confirm(&mut self, how: &Confirm, now_ms: i64) -> Result<(), Refusal> {
        if !self.status.is_open() {
            return Err(self.unexpected("confirm"));
        }
        match how.card {
            Card::Declined(code, decline_code) => return Err(self.refuse(Refusal::card(code, decline_code))),
            Card::NeedsAction if how.error_on_action && !how.authenticated => {
                return Err(self.refuse(Refusal::card("authentication_required", Some("authentication_required"))));
            }
            Card::NeedsAction if !how.authenticated => {
                self.status = Status::RequiresAction;
                return Ok(());
            }
            _ => {}
        }
        let charge = Charge {
            id: how.charge_id.clone(),
            amount: self.asked.amount + how.extra,
            captured: false,
            created_ms: now_ms,
            card: how.card,
        };
        self.last_error = None;
        if how.slow {
            self.status = Status::Processing;
            self.processing = Some(charge);
        } else {
            self.authorize(charge);
        }
        Ok(())
    }
    fn authorize(&mut self, mut charge: Charge) {
        let manual = self.asked.capture_method == "manual";
        charge.captured = !manual;
        self.charge = Some(charge);
        self.status = if manual { Status::RequiresCapture } else { Status::Succeeded };
        self.captures += u32::from(!manual);
    }
    /// A payment that was processing succeeds. Returns whether there was one.
    pub fn process(&mut self) -> bool {
        let Some(charge) = self.processing.take().filter(|_| self.status == Status::Processing) else { return false };
        self.authorize(charge);
        true
    }
    /// The card or the buyer's bank says no; another card may be tried.
    pub fn refuse(&mut self, why: Refusal) -> Refusal {
        self.status = Status::RequiresPaymentMethod;
        self.asked.payment_method = None;
        self.last_error = Some(why.clone());
        why
    }

    /// Takes an authorized amount, or a part of it; the rest is released.
    ///
    /// # Errors
    /// When nothing is authorized, or less.
    pub fn capture(&mut self, amount: Option<i64>, extra: i64) -> Result<(), Refusal> {
        let capturable = self.capturable();
        let amount = amount.unwrap_or(capturable);
        if self.status != Status::RequiresCapture {
            return Err(self.unexpected("capture"));
        }
        if amount > capturable {
            let message = "The amount to capture is greater than the amount that can be captured.";
            return Err(
                Refusal { began: true, ..Refusal::invalid(message, "amount_to_capture") }.with_code("amount_too_large")
            );
        }
        if let Some(charge) = &mut self.charge {
            charge.amount = amount + extra;
            charge.captured = true;
        }
        self.status = Status::Succeeded;
        self.captures += 1;
        Ok(())
    }

    /// Gives up a payment that was not taken.
    ///
    /// # Errors
    /// When it was taken, or given up before.
    pub fn cancel(&mut self, reason: Option<&'static str>, now_ms: i64) -> Result<(), Refusal> {
        if !(self.status.is_open() || self.status == Status::RequiresCapture) {
            return Err(self.unexpected("cancel"));
        }
        self.status = Status::Canceled;
        self.canceled_ms = Some(now_ms);
        self.cancellation_reason = reason;
        Ok(())
    }
    /// An authorization that nobody captured ends.
    pub fn expire(&mut self, now_ms: i64) -> bool {
        self.status == Status::RequiresCapture && self.cancel(Some("automatic"), now_ms).is_ok()
    }
    fn unexpected(&self, verb: &str) -> Refusal {
        let status = self.status.name();
        Refusal::state(&format!("You cannot {verb} this PaymentIntent because it has a status of {status}."))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A PaymentIntent of 12,900 won.
    pub fn intent(capture_method: &'static str) -> Intent {
        let asked = Asked {
            amount: 12_900,
            currency: Currency::KRW,
            capture_method,
            confirmation_method: "automatic",
            payment_method: None,
            customer: None,
            description: None,
            receipt_email: None,
            return_url: None,
            automatic_payment_methods: true,
            metadata: BTreeMap::from([("order_id".to_owned(), "order-1".to_owned())]),
        };
        Intent::new("pi_1".into(), "pi_1_secret_x".into(), asked, 0)
    }
    /// A confirm with a card.
    pub fn with(card: &str) -> Confirm {
        let card = Card::of(card).unwrap();
        Confirm { card, charge_id: "ch_1".into(), extra: 0, authenticated: false, error_on_action: false, slow: false }
    }

    #[test]
    fn automatic_takes_and_manual_waits_for_the_capture() {
        let mut automatic = intent("automatic");
        automatic.confirm(&with("pm_card_visa"), 1).unwrap();
        assert_eq!((automatic.status, automatic.received(), automatic.captures), (Status::Succeeded, 12_900, 1));
        assert!(automatic.confirm(&with("pm_card_visa"), 2).is_err() && automatic.cancel(None, 2).is_err());
        let mut manual = intent("manual");
        manual.confirm(&with("pm_card_visa"), 1).unwrap();
        assert_eq!((manual.status, manual.capturable(), manual.received()), (Status::RequiresCapture, 12_900, 0));
        assert_eq!(manual.capture(Some(12_901), 0).unwrap_err().code, Some("amount_too_large"));
        manual.capture(Some(900), 0).unwrap();
        assert_eq!((manual.status, manual.capturable(), manual.received()), (Status::Succeeded, 0, 900));
        let again = manual.capture(None, 0).unwrap_err();
        assert_eq!((again.code, again.began), (Some("payment_intent_unexpected_state"), true));
    }

    #[test]
    fn a_refused_card_may_be_replaced() {
        let mut intent = intent("automatic");
        let refusal = intent.confirm(&with("pm_card_visa_chargeDeclinedInsufficientFunds"), 1).unwrap_err();
        assert_eq!((refusal.status, refusal.decline_code), (402, Some("insufficient_funds")));
        assert_eq!((intent.status, intent.received()), (Status::RequiresPaymentMethod, 0));
        assert!(intent.last_error.is_some());
        intent.confirm(&with("pm_card_visa"), 2).unwrap();
        assert_eq!((intent.status, intent.last_error), (Status::Succeeded, None));
    }

    #[test]
    fn three_d_secure_asks_the_buyer() {
        let mut asked = intent("automatic");
        asked.confirm(&with("pm_card_authenticationRequired"), 1).unwrap();
        assert_eq!((asked.status, asked.captures), (Status::RequiresAction, 0));
        asked.confirm(&Confirm { authenticated: true, ..with("pm_card_authenticationRequired") }, 2).unwrap();
        assert_eq!(asked.status, Status::Succeeded);
        let refusal = intent("automatic")
            .confirm(&Confirm { error_on_action: true, ..with("pm_card_authenticationRequired") }, 1)
            .unwrap_err();
        assert_eq!(refusal.code, Some("authentication_required"));
    }

    #[test]
    fn a_slow_payment_is_decided_by_itself() {
        let mut slow = intent("automatic");
        assert!(!slow.process());
        slow.confirm(&Confirm { slow: true, ..with("pm_card_visa") }, 1).unwrap();
        assert_eq!((slow.status, slow.received(), slow.captures), (Status::Processing, 0, 0));
        assert!(slow.confirm(&with("pm_card_visa"), 2).is_err() && slow.cancel(None, 2).is_err());
        assert!(slow.process() && !slow.process());
        assert_eq!((slow.status, slow.received(), slow.captures), (Status::Succeeded, 12_900, 1));
    }

    #[test]
    fn an_authorization_ends_by_itself_and_nothing_else_does() {
        let mut manual = intent("manual");
        assert!(!manual.expire(5));
        manual.confirm(&with("pm_card_visa"), 1).unwrap();
        assert!(manual.expire(5));
        assert_eq!((manual.status, manual.cancellation_reason), (Status::Canceled, Some("automatic")));
        assert_eq!((manual.capturable(), manual.received(), manual.captures), (0, 0, 0));
        assert_eq!(Card::of("tok_visa"), None);
    }
}
