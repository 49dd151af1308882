//! What every payment provider can do for us, and how far its answers may be believed.
//!
//! The default is [`Answer::Unknown`]: only an answer that says explicitly what happened, about the payment that was
//! asked about, settles anything. A lost connection, a 5xx, a refusal whose reason cannot be known, or a figure that
//! does not fit is a doubt, and a doubt is resolved by asking ([`Provider::query`]), never by guessing.

use async_trait::async_trait;
use axum::http::HeaderMap;
use ledger::{PaymentWork, Prepared, RefundWork};
use service_kit::ids::{OrderId, PaymentId};
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
    /// The provider has taken the money.
    Paid {
        /// Its id of the capture.
        reference: String,
        /// How much.
        amount: Money,
        /// How much of it went back since, in minor units.
        refunded_minor: i64,
    },
    /// It said no.
    Declined(Refusal),
    /// The shopper left.
    Cancelled(Refusal),
    /// The session's time was over, and no money can move any more.
    Expired(Refusal),
}

/// Where a payment stands at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has ended.
    Ended(Outcome),
    /// No money moved so far, and the shopper or we may still act.
    Pending,
    /// Taken on, and the provider waits for the shopper's deposit.
    Waiting {
        /// Until then, in ms.
        until_ms: i64,
    },
}

/// Where a refund stands at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundStanding {
    /// The money is back.
    Done {
        /// The provider's id of the refund.
        reference: String,
    },
    /// Accepted, not done yet.
    Pending,
    /// Nothing went back so far, and the call may be made.
    NotDone,
    /// It was accepted and has failed since: nothing went back, and the same refund will not be tried again.
    Failed(Refusal),
}

/// What the shopper's browser brought back with a success. Nothing of it is believed: it is compared, and the
/// provider is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// What the confirm call needs (`pg_token` at KakaoPay, `paymentKey` at Toss).
    pub code: String,
    /// The order's id, when the address says one.
    pub order: Option<String>,
    /// The amount in minor units, when the address says one.
    pub amount_minor: Option<i64>,
    /// The provider's id of the payment, when the address says one.
    pub provider_ref: Option<String>,
}

/// A notice of a provider (a webhook). A hint and nothing more: it has us ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The same for a repetition of the same notice.
    pub event_id: String,
    /// The provider's word for what happened; for people.
    pub kind: String,
    /// Which payment.
    pub about: About,
}

/// How a notice or a listing names a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// By our order's id.
    Order(OrderId),
    /// By our payment's id.
    Payment(PaymentId),
    /// By the provider's id of the payment.
    Reference(String),
    /// By nothing that we know.
    Nothing,
}

/// Why a notice is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadNotice {
    /// This provider sends none.
    #[error("this provider sends no webhooks")]
    NotTaken,
    /// The signature is missing or not the provider's.
    #[error("the signature is not the provider's")]
    Signature,
    /// Signed too long ago.
    #[error("the signature is too old")]
    Stale,
    /// No notice at all.
    #[error("this is no notice of the provider")]
    Unreadable,
}

/// One payment in the provider's own list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The provider's id of the payment.
    pub reference: String,
    /// Ours, as far as the provider knows it.
    pub about: About,
    /// Taken, in minor units of `currency`.
    pub captured_minor: i64,
    /// Gone back of it, in minor units.
    pub refunded_minor: i64,
    /// As the provider writes it, in capitals.
    pub currency: String,
}

/// A page of the provider's list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Payments of which money was taken, in the provider's order. One payment may come in several entries (a capture
    /// and its refunds); the sums are added up by [`Listed::reference`].
    pub entries: Vec<Listed>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// A page on which the shopper pays, for providers whose own page is a script in ours.
///
/// The code finds in the page: `#checkout` (the data), `#pay` (a button), `#method` (an empty box), `#trouble` (a
/// hidden line for people). It may rely on `data.text` for its words.
#[derive(Debug, Clone)]
pub struct CheckoutPage {
    /// The address of the provider's script.
    pub script_url: String,
    /// The code that starts it, without anything that came from outside but through [`CheckoutPage::data`].
    pub start: &'static str,
    /// What the code reads, as JSON (`document.getElementById('checkout').textContent`).
    pub data: serde_json::Value,
    /// Further origins that the page may talk to or show in frames.
    pub origins: Vec<String>,
}

/// A provider's driver. Every call is bounded in time by the driver and may be repeated:
/// `prepare` opens another session or the same again, `confirm` and `refund` take effect at most once per payment or
/// refund.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Its name in the ledger, in the API and in metrics.
    fn name(&self) -> &'static str;
    /// How many calls may run at once.
    fn concurrency(&self) -> usize;
    /// How long the same idempotency key may be sent again after its first use, in ms; `None` when the provider has
    /// no keys and repetition is safe by other means.
    fn key_life_ms(&self) -> Option<i64> {
        None
    }
    /// Opens a session that the shopper can be sent to. `return_url` gets `/approve`, `/cancel` or `/fail` appended.
    async fn prepare(&self, work: &PaymentWork, return_url: &str, now_ms: i64) -> Answer<Session>;
    /// The page on which the shopper pays, when it is one of ours with the provider's script in it. `session` is what
    /// [`Provider::prepare`] put into [`Prepared::redirect_app`] for it: showing a page calls nobody, so a crowd of
    /// shoppers cannot take the worker's calls away.
    fn checkout(&self, _work: &PaymentWork, _session: &str, _return_url: &str) -> Option<CheckoutPage> {
        None
    }
    /// Reads the query of `…/approve`. `None` when it is not what the provider sends.
    fn claims(&self, query: &str) -> Option<Claims>;
    /// Takes the money.
    async fn confirm(&self, work: &PaymentWork) -> Answer<Standing>;
    /// Asks where a payment stands.
    async fn query(&self, work: &PaymentWork) -> Answer<Standing>;
    /// Tells the provider that a session will not be used. Only for payments that were never confirmed; best effort.
    async fn abandon(&self, _work: &PaymentWork) {}
    /// Gives money back.
    async fn refund(&self, work: &RefundWork) -> Answer<RefundStanding>;
    /// Asks where a refund stands.
    async fn query_refund(&self, work: &RefundWork) -> Answer<RefundStanding>;
    /// Reads a notice. The body is what came, byte by byte.
    ///
    /// # Errors
    /// [`BadNotice`]: nothing is written.
    fn notice(&self, _headers: &HeaderMap, _body: &[u8], _now_ms: i64) -> Result<Notice, BadNotice> {
        Err(BadNotice::NotTaken)
    }
    /// Whether [`Provider::list`] can be asked.
    fn lists(&self) -> bool {
        false
    }
    /// The payments of which money moved between two instants (ms), page by page.
    async fn list(&self, _from_ms: i64, _to_ms: i64, _page: Option<String>) -> Answer<Listing> {
        Answer::Settled(Listing::default())
    }
}

/// Turns a driver's `Result` into a provider's word.
pub(crate) fn answer<T>(result: Result<T, Doubt>) -> Answer<T> {
    match result {
        Ok(settled) => Answer::Settled(settled),
        Err(doubt) => Answer::Unknown(doubt),
    }
}

/// A refusal in our words.
pub(crate) fn refusal(code: &str, message: &str) -> Refusal {
    Refusal { code: code.to_owned(), message: message.to_owned() }
}

/// Compares a figure of an answer with ours.
pub(crate) fn same(field: &'static str, expected: &str, got: &str) -> Result<(), Doubt> {
    if expected == got {
        return Ok(());
    }
    let got = got.chars().take(100).collect();
    Err(Doubt::Mismatch(Mismatch { field, expected: expected.to_owned(), got }))
}

/// Some answers are not documented to carry the figure; when one does, it must be ours.
pub(crate) fn same_if_said(field: &'static str, expected: &str, got: Option<&str>) -> Result<(), Doubt> {
    got.map_or(Ok(()), |got| same(field, expected, got))
}

/// The address of our own page for a payment, from its return address.
pub(crate) fn checkout_url(return_url: &str) -> Result<String, Doubt> {
    let (shop, secret) = return_url
        .rsplit_once("/return/")
        .ok_or_else(|| Doubt::Unreadable("the return address is not one of ours".to_owned()))?;
    Ok(format!("{shop}/checkout/{secret}"))
}

/// The one value of `name` in a query; `None` when it is missing, said twice, longer than `bytes_max`, or not of the
/// plain alphabet that ids and numbers are written in. It is sent on to the provider, also inside addresses.
pub(crate) fn plain(query: &str, name: &str, bytes_max: usize) -> Option<String> {
    let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
    let (_, value) = values.next()?;
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let is_plain = (1..=bytes_max).contains(&value.len()) && value.bytes().all(ok) && values.next().is_none();
    is_plain.then(|| value.into_owned())
}

/// What the ledger must know of a payment for this call.
pub(crate) fn known<'w>(value: Option<&'w str>, name: &str) -> Result<&'w str, Doubt> {
    value.ok_or_else(|| Doubt::Unreadable(format!("the ledger has no {name} for this payment")))
}
