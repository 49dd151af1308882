//! Refunds: whole or in part, one at a time per order. Units come back once, when the provider has given the money back.

use crate::idempotency::{self, Idem, Replay, Saved};
use crate::order::{self, OrderState};
use crate::payment::AccountOf;
use crate::pool::{id, int, money, opt_text, text};
use crate::purchase::{self, Actor, Event, RefundPart, Refusal};
use crate::purchase_store::{self, Locked};
use crate::statement::Transaction;
use crate::{Ledger, LedgerError, Order};
use serde::Serialize;
use serde_json::json;
use service_kit::ids::{AccountId, MerchantId, OrderId, PaymentId, RefundId};
use service_kit::money::Money;
use tokio_postgres::Row;

/// Where a refund stands: `requested → sending → done | failed`, with `unknown` when no answer came. A provider may
/// take a done one back (`done → failed`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "drawn above")]
pub enum RefundState {
    Requested,
    Sending,
    Unknown,
    Done,
    Failed,
}

impl std::str::FromStr for RefundState {
    type Err = LedgerError;
    fn from_str(word: &str) -> Result<Self, LedgerError> {
        match word {
            "requested" => Ok(Self::Requested),
            "sending" => Ok(Self::Sending),
            "unknown" => Ok(Self::Unknown),
            "done" => Ok(Self::Done),
            "failed" => Ok(Self::Failed),
            _ => Err(LedgerError::Shape(format!("refund state {word}"))),
        }
    }
}

/// Somebody wants money back.
#[derive(Debug, Clone)]
pub struct RequestRefund {
    /// Made by the caller.
    pub refund: RefundId,
    /// Of which order.
    pub order: OrderId,
    /// Who asks.
    pub by: RefundBy,
    /// How much, in minor units; `None` = all that is left.
    pub amount_minor: Option<i64>,
    /// Units that come back; `None` = all with all the money, none with a part of it.
    pub units: Option<i64>,
    /// Why, for people.
    pub reason: String,
}

/// Who may ask for a refund of which orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundBy {
    /// The shopper, of own orders, within the deal's time.
    Shopper(AccountId),
    /// The merchant, of orders of own deals.
    Merchant(MerchantId),
    /// An operator, of all.
    Operator,
}

impl RefundBy {
    fn actor(self) -> Actor {
        match self {
            Self::Shopper(_) => Actor::Shopper,
            Self::Merchant(_) => Actor::Merchant,
            Self::Operator => Actor::Operator,
        }
    }
}

/// Why there is no refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundRefusal {
    /// No such order of this caller.
    NotFound,
    /// The order is not paid.
    WrongState(OrderState),
    /// The shopper's own time for it is over.
    TooLate,
    /// More money than is left, or none.
    Amount {
        /// What is left, in minor units.
        left_minor: i64,
    },
    /// More units than the shopper has, or fewer than all with the last of the money.
    Units {
        /// What the shopper has.
        left_units: i64,
    },
}

/// A refund that the worker has to look at, leased to it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the columns")]
pub struct RefundWork {
    pub id: RefundId,
    pub order: OrderId,
    pub payment: PaymentId,
    pub provider: String,
    pub state: RefundState,
    pub merchant: MerchantId,
    /// Whose account at the provider has the payment.
    pub account_of: Option<AccountOf>,
    pub amount: Money,
    /// The captured amount.
    pub captured: Money,
    /// What went back without this refund, in minor units: captured less this is the balance that the provider checks.
    pub refunded_before_minor: i64,
    pub provider_ref: Option<String>,
    /// The code that the shopper brought back (`paymentKey` at Toss).
    pub approval_code: Option<String>,
    /// The provider's id of the capture.
    pub capture_ref: Option<String>,
    /// When the first call was written down, in ms.
    pub sent_at_ms: Option<i64>,
    pub reason: String,
    pub tries: i64,
    pub trace_id: String,
}

/// What a [`RefundWork`] is made of: a refund `r` and its payment `p`, whose sum has a done refund in it.
const WORK: &str =
    "SELECT r.id, r.order_id, r.payment_id, r.state, r.amount_minor, r.currency, r.reason, r.tries, r.trace_id,
        r.sent_at_ms, p.provider, p.merchant_id, p.account_of, p.provider_ref, p.approval_code, p.provider_aid, p.captured_minor,
        p.refunded_minor - CASE WHEN r.state = 'done' THEN r.amount_minor ELSE 0 END AS refunded_before_minor";

impl RefundWork {
    /// A row of [`WORK`].
    fn from_row(row: &Row) -> Result<Self, LedgerError> {
        Ok(Self {
            id: RefundId(id(row, "id")?),
            order: OrderId(id(row, "order_id")?),
            payment: PaymentId(id(row, "payment_id")?),
            provider: text(row, "provider")?,
            merchant: MerchantId(id(row, "merchant_id")?),
            account_of: AccountOf::of(row)?,
            state: text(row, "state")?.parse()?,
            amount: money(row, "amount_minor")?,
            captured: money(row, "captured_minor")?,
            refunded_before_minor: int(row, "refunded_before_minor")?,
            provider_ref: opt_text(row, "provider_ref")?,
            approval_code: opt_text(row, "approval_code")?,
            capture_ref: opt_text(row, "provider_aid")?,
            sent_at_ms: row.try_get("sent_at_ms").map_err(|e| LedgerError::Shape(e.to_string()))?,
            reason: text(row, "reason")?,
            tries: int(row, "tries")?,
            trace_id: text(row, "trace_id")?,
        })
    }
}

impl Ledger {
    /// Asks for a refund of a paid order: the order goes to `refunding` in the same transaction.
    /// A second call while a refund runs, or after the last one, answers with the order as it is.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn request_refund(
        &self,
        request: &RequestRefund,
        now_ms: i64,
        idem: &Idem,
        render: impl FnOnce(&Order) -> Saved,
    ) -> Result<Replay<RefundRefusal>, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        if let Some(answer) = idempotency::find(&tx, idem, now_ms).await? {
            return Ok(answer);
        }
        let Some(locked) = purchase_store::lock(&tx, request.order).await? else {
            return Ok(Replay::Refused(RefundRefusal::NotFound));
        };
        let may = match request.by {
            RefundBy::Shopper(account) => locked.account == account,
            RefundBy::Merchant(merchant) => tx
                .query_opt("SELECT 1 FROM deal WHERE id = $1 AND merchant_id = $2", &[&locked.deal.0, &merchant.0])
                .await?
                .is_some(),
            RefundBy::Operator => true,
        };
        if !may {
            return Ok(Replay::Refused(RefundRefusal::NotFound));
        }
        let by = request.by.actor();
        let event = Event::RefundRequested { by, amount_minor: request.amount_minor, units: request.units };
        match purchase::step(&locked.now, &event, now_ms) {
            Ok(step) => {
                let part = step.open_refund.unwrap_or(RefundPart { amount_minor: 0, units: 0 });
                let detail =
                    json!({ "refund": request.refund, "amount_minor": part.amount_minor, "units": part.units });
                purchase_store::write(&tx, &locked, &step, by, Some(detail), now_ms).await?;
                let asked = (by, request.reason.as_str());
                purchase_store::open_refund(&tx, &locked, request.refund, part, asked, now_ms).await?;
            }
            Err(Refusal::Already) => {}
            Err(refusal) => {
                return Ok(Replay::Refused(match refusal {
                    Refusal::TooLate => RefundRefusal::TooLate,
                    Refusal::Amount { left_minor } => RefundRefusal::Amount { left_minor },
                    Refusal::Units { left_units } => RefundRefusal::Units { left_units },
                    Refusal::Already | Refusal::NotNow(_) => RefundRefusal::WrongState(locked.now.state),
                }));
            }
        }
        let Some(after) = order::read(&tx, request.order).await? else {
            return Ok(Replay::Refused(RefundRefusal::NotFound));
        };
        let saved = render(&after);
        idempotency::save(&tx, idem, &saved).await?;
        tx.commit().await?;
        Ok(Replay::Fresh(saved))
    }

    /// Leases up to `limit` refunds of a provider that are due to a worker. What is parked waits for an operator. A lease that
    /// ends more than two leases from now is by a clock that was wrong, and counts as over.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn claim_due_refunds(
        &self,
        provider: &str,
        now_ms: i64,
        limit: i64,
        lease_ms: i64,
    ) -> Result<Vec<RefundWork>, LedgerError> {
        let rows = self
            .client()
            .await?
            // The provider by the payment's key: a join that was planned while the table was empty reads all of a provider's.
            .query(
                &format!(
                    "WITH due AS (
                        UPDATE refund SET lease_until_ms = $1 + $3, tries = tries + 1
                        WHERE id IN (SELECT r.id FROM refund r
                                     WHERE r.state IN ('requested', 'sending', 'unknown') AND r.parked_reason IS NULL
                                     AND r.next_at_ms <= $1 AND (r.lease_until_ms <= $1 OR r.lease_until_ms > $1 + $3 + $3)
                                     AND (SELECT p.provider FROM payment p WHERE p.id = r.payment_id) = $4
                                     ORDER BY r.next_at_ms LIMIT $2 FOR UPDATE OF r SKIP LOCKED)
                        RETURNING *)
                     {WORK} FROM due r JOIN payment p ON p.id = r.payment_id"
                ),
                &[&now_ms, &limit, &lease_ms, &provider],
            )
            .await?;
        rows.iter().map(RefundWork::from_row).collect()
    }

    /// Up to `limit` done refunds of a payment, the newest first, without taking them; for a question that changes nothing.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn done_refunds(&self, payment: PaymentId, limit: i64) -> Result<Vec<RefundWork>, LedgerError> {
        let sql = format!(
            "{WORK} FROM refund r JOIN payment p ON p.id = r.payment_id
             WHERE r.payment_id = $1 AND r.state = 'done' ORDER BY r.created_at_ms DESC, r.id DESC LIMIT $2"
        );
        let rows = self.client().await?.query(&sql, &[&payment.0, &limit]).await?;
        rows.iter().map(RefundWork::from_row).collect()
    }

    /// The money is back: the order is refunded, wholly or in part, its units are free again, the outbox is told, in
    /// one transaction. `false` when it was done before.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn refund_done(&self, refund: RefundId, provider_ref: &str, now_ms: i64) -> Result<bool, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        let locked = lock_of_refund(&tx, refund).await?;
        if locked.refund != Some(refund) {
            return Ok(false);
        }
        let step = purchase::step(&locked.now, &Event::RefundDone, now_ms)
            .map_err(|refusal| LedgerError::Refused(format!("refund {refund} is done, but {refusal}")))?;
        end_refund(&tx, refund, "done", Some(provider_ref), None, now_ms).await?;
        let detail = json!({ "refund": refund, "reference": provider_ref });
        purchase_store::write(&tx, &locked, &step, Actor::Worker, Some(detail), now_ms).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The provider refused: the order stands as before the request, or, when it had nothing to go back to, is
    /// quarantined. `false` when the refund had ended before.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn refund_failed(
        &self,
        refund: RefundId,
        code: &str,
        message: &str,
        now_ms: i64,
    ) -> Result<bool, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        let locked = lock_of_refund(&tx, refund).await?;
        if locked.refund != Some(refund) {
            return Ok(false);
        }
        let step = purchase::step(&locked.now, &Event::RefundRefused, now_ms)
            .map_err(|refusal| LedgerError::Refused(format!("refund {refund} is refused, but {refusal}")))?;
        end_refund(&tx, refund, "failed", None, Some((code, message)), now_ms).await?;
        let detail = json!({ "refund": refund, "code": code });
        purchase_store::write(&tx, &locked, &step, Actor::Worker, Some(detail), now_ms).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The provider took back a refund that was done: the shopper has neither money nor goods, and the order is
    /// quarantined; one that is in quarantine already stays there, and only its sums follow. `false` when that is known.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn refund_reversed(
        &self,
        refund: RefundId,
        code: &str,
        message: &str,
        now_ms: i64,
    ) -> Result<bool, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        let locked = lock_of_refund(&tx, refund).await?;
        let row = tx
            .query_opt(
                "SELECT amount_minor, units FROM refund WHERE id = $1 AND state = 'done' FOR UPDATE",
                &[&refund.0],
            )
            .await?;
        let Some(row) = row else { return Ok(false) };
        let part = RefundPart { amount_minor: int(&row, "amount_minor")?, units: int(&row, "units")? };
        let step = purchase::step(&locked.now, &Event::RefundReversed(part), now_ms);
        end_refund(&tx, refund, "failed", None, Some((code, message)), now_ms).await?;
        match step {
            Ok(step) => {
                let detail = json!({ "refund": refund, "code": code });
                purchase_store::write(&tx, &locked, &step, Actor::Worker, Some(detail), now_ms).await?;
            }
            Err(Refusal::Already) => {}
            Err(refusal) => {
                return Err(LedgerError::Refused(format!("refund {refund} was taken back, but {refusal}")));
            }
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Sets a refund aside: no worker takes it before an operator has looked.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn park_refund(&self, refund: RefundId, reason: &str, now_ms: i64) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "UPDATE refund SET parked_reason = left($2, 200), parked_at_ms = $3, lease_until_ms = 0 WHERE id = $1",
                &[&refund.0, &reason, &now_ms],
            )
            .await?;
        Ok(())
    }

    /// Nobody knows whether the money went back: look again at `next_at_ms`.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn refund_unknown(&self, refund: RefundId, next_at_ms: i64, now_ms: i64) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "UPDATE refund SET state = 'unknown', next_at_ms = $2, lease_until_ms = 0, updated_at_ms = $3
                 WHERE id = $1 AND state IN ('requested', 'sending', 'unknown')",
                &[&refund.0, &next_at_ms, &now_ms],
            )
            .await?;
        Ok(())
    }

    /// Nothing was sent: look again at `next_at_ms`, in the same state.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn postpone_refund(&self, refund: RefundId, next_at_ms: i64) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute("UPDATE refund SET next_at_ms = $2, lease_until_ms = 0 WHERE id = $1", &[&refund.0, &next_at_ms])
            .await?;
        Ok(())
    }
}

/// Locks the order of a refund.
async fn lock_of_refund(tx: &Transaction<'_>, refund: RefundId) -> Result<Locked, LedgerError> {
    let missing = || LedgerError::Shape(format!("refund {refund} is not in the ledger"));
    let row = tx.query_opt("SELECT order_id FROM refund WHERE id = $1", &[&refund.0]).await?.ok_or_else(missing)?;
    purchase_store::lock(tx, OrderId(id(&row, "order_id")?)).await?.ok_or_else(missing)
}

/// Ends a refund and moves its money between "on its way" and "back". That is a move of the payment: until it has settled
/// it is not compared, and then it is compared once more.
async fn end_refund(
    tx: &Transaction<'_>,
    refund: RefundId,
    state: &str,
    provider_ref: Option<&str>,
    failure: Option<(&str, &str)>,
    now_ms: i64,
) -> Result<(), LedgerError> {
    let (code, message) = failure.unzip();
    let was_done = tx.query_one("SELECT state = 'done' AS was_done FROM refund WHERE id = $1", &[&refund.0]).await?;
    let was_done: bool = was_done.get("was_done");
    tx.execute(
        "UPDATE refund SET state = $2, provider_ref = coalesce($3, provider_ref), failure_code = $4, failure_message = left($5, 500),
            updated_at_ms = $6, parked_reason = NULL, parked_at_ms = NULL WHERE id = $1",
        &[&refund.0, &state, &provider_ref, &code, &message, &now_ms],
    )
    .await?;
    if service_kit::planted!("refund-is-not-booked") {
        return Ok(());
    }
    tx.execute(
        "UPDATE payment p SET refunding_minor = p.refunding_minor - CASE WHEN $2 THEN 0 ELSE r.amount_minor END,
            refunded_minor = p.refunded_minor + CASE WHEN $3 = 'done' THEN r.amount_minor WHEN $2 THEN -r.amount_minor ELSE 0 END,
            updated_at_ms = $4
         FROM refund r WHERE r.id = $1 AND p.id = r.payment_id",
        &[&refund.0, &was_done, &state, &now_ms],
    )
    .await?;
    Ok(())
}
