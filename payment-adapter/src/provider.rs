//! What every payment provider can do for us, and how far its answers may be believed.
//!
//! The default is [`Answer::Unknown`]: only an answer that says explicitly what happened, about the payment that was
//! asked about, settles anything. A lost connection, a 5xx, a refusal whose reason cannot be known, or a figure that
//! does not fit is a doubt, and a doubt is resolved by asking ([`Provider::query`]), never by guessing.

use async_trait::async_trait;
use ledger::{PaymentWork, Prepared, RefundWork};
use service_kit::money::Money;

/// A provider's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// It said explicitly what happened.
    Settled(T),
    /// It did not.
    Unknown(Doubt),
}

/// Why an answer settles nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection failed or was closed before an answer.
    #[error("no connection, or it was lost: {0}")]
    Connection(String),
    /// Too many calls.
    #[error("the provider asks for fewer calls")]
    Limited,
    /// Our key is refused: nothing can be done before an operator acts.
    #[error("the provider refuses our key (HTTP {0})")]
    Key(u16),
    /// The provider failed.
    #[error("the provider failed (HTTP {0})")]
    Fault(u16),
    /// A well-formed refusal. By itself it proves nothing: a repetition of what succeeded is refused as well.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The answer could not be read.
    #[error("unreadable answer: {0}")]
    Unreadable(String),
    /// The answer is about something else than what was asked. Never settled; an operator must look.
    #[error("{0}")]
    Mismatch(Mismatch),
}

impl Doubt {
    /// The word in metrics and in the attempt's row.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connection(_) => "connection",
            Self::Limited => "limited",
            Self::Key(_) => "key",
            Self::Fault(_) => "fault",
            Self::Refused(_) => "refused",
            Self::Unreadable(_) => "unreadable",
            Self::Mismatch(_) => "mismatch",
        }
    }
    /// Whether it speaks against the provider's health, so that calling less would help both sides.
    pub fn is_sickness(&self) -> bool {
        matches!(self, Self::Timeout | Self::Connection(_) | Self::Limited | Self::Fault(_))
    }
}

/// The provider's own words for a no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// Its code.
    pub code: String,
    /// Its message, cut to a sane length.
    pub message: String,
}

/// A figure of an answer that differs from ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {got}, expected {expected}")]
pub struct Mismatch {
    /// Which figure, e.g. `amount.total`.
    pub field: &'static str,
    /// Ours.
    pub expected: String,
    /// The provider's.
    pub got: String,
}

/// The end of [`Provider::prepare`].
#[derive(Debug, Clone)]
pub enum Session {
    /// The shopper can go there.
    Open(Prepared),
    /// The provider will not take this payment.
    Declined(Refusal),
}

/// The end of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The provider has the money.
    Paid {
        /// Its id of the capture.
        reference: String,
        /// How much.
        amount: Money,
    },
    /// It said no.
    Declined(Refusal),
    /// The shopper left, or the money went back already.
    Cancelled(Refusal),
}

/// Where a payment stands at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has ended.
    Ended(Outcome),
    /// No money moved so far, and the shopper or we may still act.
    Pending,
}

/// Where a refund stands at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundStanding {
    /// The money is back.
    Done {
        /// The provider's id of the refund.
        reference: String,
    },
    /// Nothing went back so far.
    NotDone,
}

/// A provider's driver. Every call is bounded in time by the driver and may be repeated:
/// `prepare` opens another session, `confirm` and `refund` take effect at most once per payment or refund.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Its name in the ledger and in metrics.
    fn name(&self) -> &'static str;
    /// Opens a session that the shopper can be sent to. `return_url` gets `/approve`, `/cancel` or `/fail` appended.
    async fn prepare(&self, work: &PaymentWork, return_url: &str, now_ms: i64) -> Answer<Session>;
    /// Takes the money.
    async fn confirm(&self, work: &PaymentWork) -> Answer<Outcome>;
    /// Asks where a payment stands.
    async fn query(&self, work: &PaymentWork) -> Answer<Standing>;
    /// Gives the money back. Answers the provider's id of the refund.
    async fn refund(&self, work: &RefundWork) -> Answer<String>;
    /// Asks where a refund stands.
    async fn query_refund(&self, work: &RefundWork) -> Answer<RefundStanding>;
}
