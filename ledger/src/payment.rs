//! Payments: started by the shopper, carried out by the payment adapter's worker.
//!
//! ```text
//! requested → ready → authorized → confirming → captured | failed
//!      │         │                     ├→ unknown → (query) → captured | failed | expired | cancelled
//!      │         │                     └→ waiting (a deposit is awaited) → captured | expired | cancelled
//!      └─────────┴→ cancelled | expired | failed → captured, when money arrives after all
//! ```
//! Money can move only from `confirming` on, and each call to the provider is written down
//! ([`Ledger::begin_attempt`]) before it is made. A payment found in `confirming` with an expired worker
//! lease is therefore an unknown outcome: the provider is asked, never charged again blindly.

use crate::many::Approval;
use crate::pool::{id, int, money, opt_text, text};
use crate::{Ledger, LedgerError};
use serde::Serialize;
use service_kit::ids::{AccountId, MerchantId, OrderId, PaymentId};
use service_kit::money::Money;
use std::str::FromStr;
use tokio_postgres::Row;

/// Where a payment stands; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "drawn in the module's documentation")]
pub enum PaymentState {
    Requested,
    Ready,
    Authorized,
    Confirming,
    Unknown,
    Waiting,
    Captured,
    Failed,
    Cancelled,
    Expired,
}

impl PaymentState {
    /// All states.
    pub const ALL: [Self; 10] = [
        Self::Requested,
        Self::Ready,
        Self::Authorized,
        Self::Confirming,
        Self::Unknown,
        Self::Waiting,
        Self::Captured,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];
    /// The word in SQL, API and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Ready => "ready",
            Self::Authorized => "authorized",
            Self::Confirming => "confirming",
            Self::Unknown => "unknown",
            Self::Waiting => "waiting",
            Self::Captured => "captured",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
    /// Whether it has ended: only money that arrives after all, or an operator, moves it again.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Captured | Self::Failed | Self::Cancelled | Self::Expired)
    }
}

impl FromStr for PaymentState {
    type Err = LedgerError;
    fn from_str(word: &str) -> Result<Self, LedgerError> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str() == word)
            .ok_or_else(|| LedgerError::Shape(format!("payment state {word}")))
    }
}

/// What the shopper's browser brought back from the provider. A hint: the provider is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Return {
    /// With the code that the confirm call needs (`pg_token` at KakaoPay).
    Approved {
        /// The code.
        code: String,
    },
    /// The shopper turned back.
    Cancelled,
    /// The provider says it failed.
    Failed,
}

/// A payment that the worker has to look at, leased to it.
#[derive(Debug, Clone)]
pub struct PaymentWork {
    /// Id.
    pub id: PaymentId,
    /// Of which order.
    pub order: OrderId,
    /// Whose.
    pub account: AccountId,
    /// Which provider's driver.
    pub provider: String,
    /// The merchant of the deal.
    pub merchant: MerchantId,
    /// Whose account at the provider has it, once a session was opened.
    pub account_of: Option<AccountOf>,
    /// Where it stands.
    pub state: PaymentState,
    /// What is to be paid.
    pub amount: Money,
    /// What is bought, for the provider's page.
    pub item_name: String,
    /// Units, for the provider's page.
    pub quantity: i64,
    /// Part of the return URLs.
    pub return_secret: String,
    /// The provider's id of the payment (tid at KakaoPay).
    pub provider_ref: Option<String>,
    /// The code that the shopper brought back.
    pub approval_code: Option<String>,
    /// `approved`, `cancelled` or `failed`.
    pub returned: Option<String>,
    /// When the provider's session ends, or while a deposit is awaited, when that time ends.
    pub expires_at_ms: Option<i64>,
    /// When the first confirm call was written down, in ms: a provider's idempotency key lives from then on.
    pub confirm_sent_at_ms: Option<i64>,
    /// Whether a payment that has ended is compared with the provider again.
    pub is_recheck: bool,
    /// What was taken so far, in minor units.
    pub captured_minor: i64,
    /// What went back so far, in minor units.
    pub refunded_minor: i64,
    /// What is on its way back, in minor units.
    pub refunding_minor: i64,
    /// How often the worker has had it in this state.
    pub tries: i64,
    /// When it was started.
    pub created_at_ms: i64,
    /// For logs and `traceparent`.
    pub trace_id: String,
}

/// Whose account at the provider a session was opened with. It stays the same for the life of the payment: another account
/// does not know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountOf {
    /// The shop's, which serves every merchant that has none.
    Shop,
    /// The merchant's own.
    Merchant,
}

impl AccountOf {
    /// The word in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shop => "shop",
            Self::Merchant => "merchant",
        }
    }

    /// Of a row of `payment`; `None` before a session is open, and for payments of releases that did not write it down.
    pub(crate) fn of(row: &Row) -> Result<Option<Self>, LedgerError> {
        match opt_text(row, "account_of")?.as_deref() {
            None => Ok(None),
            Some("shop") => Ok(Some(Self::Shop)),
            Some("merchant") => Ok(Some(Self::Merchant)),
            Some(other) => Err(LedgerError::Shape(format!("account of {other}"))),
        }
    }
}

/// The provider's session.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the columns")]
pub struct Prepared {
    pub provider_ref: String,
    pub redirect_pc: String,
    pub redirect_mobile: String,
    /// For an app; for a provider whose page is one of ours, what that page needs of the session (Stripe's client
    /// secret). Never shown elsewhere.
    pub redirect_app: String,
    pub expires_at_ms: i64,
}

/// How a payment ended without money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The provider said no.
    Declined,
    /// The shopper turned back.
    Cancelled,
    /// Its time was over.
    Expired,
}

impl Ended {
    /// The payment's last state, and the order's reason.
    pub(crate) fn step(self) -> (PaymentState, &'static str) {
        match self {
            Self::Declined => (PaymentState::Failed, "payment_declined"),
            Self::Cancelled => (PaymentState::Cancelled, "payment_cancelled"),
            Self::Expired => (PaymentState::Expired, "payment_expired"),
        }
    }
}

/// What came of a captured payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// The order is paid now.
    Paid,
    /// It was settled before.
    Already,
    /// The order had ended and there was nothing left for it: the money goes back by itself.
    GoesBack,
    /// The provider's amount differs from ours: the order is quarantined, an operator must look.
    Mismatch,
}

/// Which call to the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the provider trait's calls")]
pub enum AttemptKind {
    Prepare,
    Confirm,
    Query,
    Refund,
}

impl AttemptKind {
    /// The word in SQL and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Confirm => "confirm",
            Self::Query => "query",
            Self::Refund => "refund",
        }
    }
}

impl PaymentWork {
    /// What the provider must say that it took: what was booked, if anything was (an operator may have booked another sum than
    /// the order's, to give it back), else the order's amount.
    pub fn taken(&self) -> Money {
        match Money::new(self.captured_minor, self.amount.currency()) {
            Ok(booked) if self.captured_minor > 0 => booked,
            _ => self.amount,
        }
    }

    fn from_row(row: &Row) -> Result<Self, LedgerError> {
        let state: PaymentState = text(row, "state")?.parse()?;
        Ok(Self {
            id: PaymentId(id(row, "id")?),
            order: OrderId(id(row, "order_id")?),
            account: AccountId(id(row, "account_id")?),
            provider: text(row, "provider")?,
            merchant: MerchantId(id(row, "merchant_id")?),
            account_of: AccountOf::of(row)?,
            state,
            amount: money(row, "amount_minor")?,
            item_name: text(row, "item_name")?,
            quantity: int(row, "quantity")?,
            return_secret: text(row, "return_secret")?,
            provider_ref: opt_text(row, "provider_ref")?,
            approval_code: opt_text(row, "approval_code")?,
            returned: opt_text(row, "returned")?,
            expires_at_ms: row.try_get("expires_at_ms").map_err(|e| LedgerError::Shape(e.to_string()))?,
            confirm_sent_at_ms: row.try_get("confirm_sent_at_ms").map_err(|e| LedgerError::Shape(e.to_string()))?,
            is_recheck: state.is_settled(),
            captured_minor: int(row, "captured_minor")?,
            refunded_minor: int(row, "refunded_minor")?,
            refunding_minor: int(row, "refunding_minor")?,
            tries: int(row, "tries")?,
            created_at_ms: int(row, "created_at_ms")?,
            trace_id: text(row, "trace_id")?,
        })
    }
}

impl Ledger {
    /// Leases up to `limit` payments of a provider that are due to a worker. A payment comes up when it is new, when
    /// the shopper came back, when its time is over, when an earlier worker's lease ran out, or, after its end, when
    /// it is to be compared with the provider again. What is parked waits for an operator. A lease that ends more than two
    /// leases from now is by a clock that was wrong, and counts as over.
    ///
    /// A lease does not wait for the disk: whatever is done under it does, and takes the lease along. A server that
    /// crashes before that has forgotten a lease under which nothing happened.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn claim_due_payments(
        &self,
        provider: &str,
        now_ms: i64,
        limit: i64,
        lease_ms: i64,
    ) -> Result<Vec<PaymentWork>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "WITH due AS (
                    SELECT id FROM payment
                    WHERE provider = $4 AND parked_reason IS NULL AND next_at_ms <= $1 AND (lease_until_ms <= $1 OR lease_until_ms > $1 + $3 + $3)
                      AND state IN ('requested', 'ready', 'authorized', 'confirming', 'unknown', 'waiting')
                    ORDER BY next_at_ms LIMIT $2 FOR UPDATE SKIP LOCKED),
                 again AS (
                    SELECT id FROM payment
                    WHERE provider = $4 AND recheck_at_ms <= $1 AND (lease_until_ms <= $1 OR lease_until_ms > $1 + $3 + $3)
                      AND state IN ('captured', 'failed', 'cancelled', 'expired')
                    ORDER BY recheck_at_ms LIMIT greatest($2 / 4, 1) FOR UPDATE SKIP LOCKED)
                 UPDATE payment SET lease_until_ms = $1 + $3, tries = tries + 1
                 WHERE (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL AND id IN (SELECT id FROM due UNION ALL SELECT id FROM again LIMIT $2)
                 RETURNING *",
                &[&now_ms, &limit, &lease_ms, &provider],
            )
            .await?;
        rows.iter().map(PaymentWork::from_row).collect()
    }

    /// A payment for the page on which the shopper pays, with what that page needs of the provider's session
    /// ([`Prepared::redirect_app`]). `None` when the secret is wrong or the payment is unknown.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn payment_for_checkout(
        &self,
        payment: PaymentId,
        secret: &str,
    ) -> Result<Option<(PaymentWork, String)>, LedgerError> {
        let sql = "SELECT * FROM payment WHERE id = $1 AND return_secret = $2";
        let row = self.client().await?.query_opt(sql, &[&payment.0, &secret]).await?;
        let Some(row) = row else { return Ok(None) };
        let session = opt_text(&row, "redirect_app")?.unwrap_or_default();
        Ok(Some((PaymentWork::from_row(&row)?, session)))
    }

    /// A payment whose return address somebody knows. `None` when the secret is wrong or there is no such payment.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn payment_by_secret(
        &self,
        payment: PaymentId,
        secret: &str,
    ) -> Result<Option<PaymentWork>, LedgerError> {
        let row = self
            .client()
            .await?
            .query_opt("SELECT * FROM payment WHERE id = $1 AND return_secret = $2", &[&payment.0, &secret])
            .await?;
        row.as_ref().map(PaymentWork::from_row).transpose()
    }

    /// One payment as the worker sees it, without taking it; for a look that changes nothing.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn payment_work(&self, payment: PaymentId) -> Result<Option<PaymentWork>, LedgerError> {
        let row = self.client().await?.query_opt("SELECT * FROM payment WHERE id = $1", &[&payment.0]).await?;
        row.as_ref().map(PaymentWork::from_row).transpose()
    }

    /// Records what the shopper's browser brought back. `None` when the secret is wrong or the payment is
    /// unknown; the order otherwise, also when the payment had moved on already.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn record_return(
        &self,
        payment: PaymentId,
        secret: &str,
        what: &Return,
        now_ms: i64,
    ) -> Result<Option<OrderId>, LedgerError> {
        let word = match what {
            Return::Approved { code } => {
                let approval = Approval { payment, secret: secret.to_owned(), code: code.clone() };
                return Ok(self.record_approvals(&[approval], now_ms).await?.pop().flatten());
            }
            Return::Cancelled => "cancelled",
            Return::Failed => "failed",
        };
        let client = self.client().await?;
        let moved = client
            .query_opt(
                "UPDATE payment SET returned = $2, next_at_ms = due_now($3), lease_until_ms = 0, updated_at_ms = $3
                 WHERE id = $1 AND return_secret = $4 AND state = 'ready' AND returned IS NULL RETURNING order_id",
                &[&payment.0, &word, &now_ms, &secret],
            )
            .await?;
        let row = match moved {
            Some(row) => Some(row),
            // It had moved on, or the secret is wrong.
            None => {
                let sql = "SELECT order_id FROM payment WHERE id = $1 AND return_secret = $2";
                client.query_opt(sql, &[&payment.0, &secret]).await?
            }
        };
        row.map(|row| Ok(OrderId(id(&row, "order_id")?))).transpose()
    }
}
