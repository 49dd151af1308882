//! Payments: started by the shopper, carried out by the payment adapter's worker.
//!
//! ```text
//! requested → ready → authorized → confirming → captured | failed
//!      │         │                     └→ unknown → (query) → captured | failed | expired | cancelled
//!      └─────────┴→ cancelled | expired | failed
//! ```
//! Money can move only from `confirming` on, and each call to the provider is written down
//! ([`Ledger::begin_attempt`]) before it is made. A payment found in `confirming` with an expired worker
//! lease is therefore an unknown outcome: the provider is asked, never charged again blindly.

use crate::idempotency::{self, Idem, Replay, Saved};
use crate::order::{self, OrderState};
use crate::pool::{id, int, money, opt_text, text};
use crate::{Ledger, LedgerError, Order};
use serde::Serialize;
use service_kit::ids::{AccountId, OrderId, PaymentId};
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
    Captured,
    Failed,
    Cancelled,
    Expired,
}

impl PaymentState {
    /// All states.
    pub const ALL: [Self; 9] = [
        Self::Requested,
        Self::Ready,
        Self::Authorized,
        Self::Confirming,
        Self::Unknown,
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
            Self::Captured => "captured",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
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

/// The shopper wants to pay.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the columns")]
pub struct StartPayment {
    pub payment: PaymentId,
    pub order: OrderId,
    pub account: AccountId,
    pub provider: String,
    /// 128 random bits in the return URLs: nobody else can report a return.
    pub return_secret: String,
    pub trace_id: String,
}

/// Why no payment can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartRefusal {
    /// No such order of this account.
    NotFound,
    /// The order is not held, or its hold is over.
    WrongState(OrderState),
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
    /// When the provider's session ends.
    pub expires_at_ms: Option<i64>,
    /// How often the worker has had it in this state.
    pub tries: i64,
    /// When it was started.
    pub created_at_ms: i64,
    /// For logs and `traceparent`.
    pub trace_id: String,
}

/// The provider's session.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the columns")]
pub struct Prepared {
    pub provider_ref: String,
    pub redirect_pc: String,
    pub redirect_mobile: String,
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
    pub(crate) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Declined => ("failed", "payment_declined"),
            Self::Cancelled => ("cancelled", "payment_cancelled"),
            Self::Expired => ("expired", "payment_expired"),
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
    /// The provider's amount differs from ours: nothing was changed, an operator must look.
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
    fn from_row(row: &Row) -> Result<Self, LedgerError> {
        Ok(Self {
            id: PaymentId(id(row, "id")?),
            order: OrderId(id(row, "order_id")?),
            account: AccountId(id(row, "account_id")?),
            provider: text(row, "provider")?,
            state: text(row, "state")?.parse()?,
            amount: money(row, "amount_minor")?,
            item_name: text(row, "item_name")?,
            quantity: int(row, "quantity")?,
            return_secret: text(row, "return_secret")?,
            provider_ref: opt_text(row, "provider_ref")?,
            approval_code: opt_text(row, "approval_code")?,
            returned: opt_text(row, "returned")?,
            expires_at_ms: row.try_get("expires_at_ms").map_err(|e| LedgerError::Shape(e.to_string()))?,
            tries: int(row, "tries")?,
            created_at_ms: int(row, "created_at_ms")?,
            trace_id: text(row, "trace_id")?,
        })
    }
}

impl Ledger {
    /// Begins a payment: the order goes from held to paying in the same transaction, so its hold
    /// cannot run out any more. A second call while a payment is live answers with the same order.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn start_payment(
        &self,
        start: &StartPayment,
        now_ms: i64,
        idem: &Idem,
        render: impl FnOnce(&Order) -> Saved,
    ) -> Result<Replay<StartRefusal>, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        if let Some(answer) = idempotency::find(&tx, idem, now_ms).await? {
            return Ok(answer);
        }
        tx.execute("SELECT 1 FROM orders WHERE id = $1 FOR UPDATE", &[&start.order.0]).await?;
        let Some(found) = order::read(&tx, start.order).await?.filter(|o| o.account == start.account) else {
            return Ok(Replay::Refused(StartRefusal::NotFound));
        };
        match found.state {
            // Another key, the same wish: the payment that runs is the answer.
            OrderState::Paying => {}
            OrderState::Held if found.hold_expires_at_ms > now_ms => {
                tx.execute(
                    "UPDATE orders SET state = 'paying', updated_at_ms = $2 WHERE id = $1",
                    &[&start.order.0, &now_ms],
                )
                .await?;
                tx.execute(
                    "INSERT INTO payment (id, order_id, provider, state, amount_minor, currency, item_name, quantity, account_id,
                        return_secret, next_at_ms, created_at_ms, updated_at_ms, trace_id)
                     SELECT $2, o.id, $3, 'requested', o.amount_minor, o.currency, d.title, o.quantity, o.account_id, $4, $5, $5, $5, $6
                     FROM orders o JOIN deal d ON d.id = o.deal_id WHERE o.id = $1",
                    &[&start.order.0, &start.payment.0, &start.provider, &start.return_secret, &now_ms, &start.trace_id],
                )
                .await?;
            }
            state => return Ok(Replay::Refused(StartRefusal::WrongState(state))),
        }
        let after = order::read(&tx, start.order).await?.unwrap_or(found);
        let saved = render(&after);
        idempotency::save(&tx, idem, &saved).await?;
        tx.commit().await?;
        Ok(Replay::Fresh(saved))
    }

    /// Leases up to `limit` payments that are due to a worker. A payment comes up when it is new, when
    /// the shopper came back, when its time is over, or when an earlier worker's lease ran out.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn claim_due_payments(
        &self,
        now_ms: i64,
        limit: i64,
        lease_ms: i64,
    ) -> Result<Vec<PaymentWork>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "UPDATE payment SET lease_until_ms = $1 + $3, tries = tries + 1
                 WHERE id IN (
                    SELECT id FROM payment
                    WHERE state IN ('requested', 'ready', 'authorized', 'confirming', 'unknown')
                      AND next_at_ms <= $1 AND lease_until_ms <= $1
                    ORDER BY next_at_ms LIMIT $2 FOR UPDATE SKIP LOCKED)
                 RETURNING *",
                &[&now_ms, &limit, &lease_ms],
            )
            .await?;
        rows.iter().map(PaymentWork::from_row).collect()
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
        let client = self.client().await?;
        let row = client
            .query_opt("SELECT order_id FROM payment WHERE id = $1 AND return_secret = $2", &[&payment.0, &secret])
            .await?;
        let Some(row) = row else { return Ok(None) };
        match what {
            Return::Approved { code } => {
                client
                    .execute(
                        "UPDATE payment SET state = 'authorized', approval_code = $2, returned = 'approved', next_at_ms = $3, lease_until_ms = 0,
                            tries = 0, updated_at_ms = $3 WHERE id = $1 AND state = 'ready'",
                        &[&payment.0, code, &now_ms],
                    )
                    .await?
            }
            Return::Cancelled | Return::Failed => {
                let word = if *what == Return::Cancelled { "cancelled" } else { "failed" };
                client
                    .execute(
                        "UPDATE payment SET returned = $2, next_at_ms = $3, lease_until_ms = 0, updated_at_ms = $3
                         WHERE id = $1 AND state = 'ready' AND returned IS NULL",
                        &[&payment.0, &word, &now_ms],
                    )
                    .await?
            }
        };
        Ok(Some(OrderId(id(&row, "order_id")?)))
    }
}
