//! Refunds: of the whole order. Units come back once, when the provider has given the money back.

use crate::idempotency::{self, Idem, Replay, Saved};
use crate::order::{self, OrderState};
use crate::pool::{id, int, money, opt_text, text};
use crate::{Ledger, LedgerError, Order};
use serde::Serialize;
use service_kit::ids::{AccountId, OrderId, PaymentId, RefundId};
use service_kit::money::Money;

/// Where a refund stands: `requested → sending → done | failed`, with `unknown` when no answer came.
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

/// The shopper wants the money back.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the columns")]
pub struct RequestRefund {
    pub refund: RefundId,
    pub order: OrderId,
    pub account: AccountId,
    pub reason: String,
    pub trace_id: String,
}

/// Why there is no refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundRefusal {
    /// No such order of this account.
    NotFound,
    /// The order is not paid.
    WrongState(OrderState),
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
    pub amount: Money,
    /// The captured amount, for the provider's optimistic check of the remaining balance.
    pub captured: Money,
    pub provider_ref: Option<String>,
    pub reason: String,
    pub tries: i64,
    pub trace_id: String,
}

impl Ledger {
    /// Asks for a refund of a paid order: the order goes to `refunding` in the same transaction.
    /// A second call while a refund runs, or after it, answers with the order as it is.
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
        tx.execute("SELECT 1 FROM orders WHERE id = $1 FOR UPDATE", &[&request.order.0]).await?;
        let Some(found) = order::read(&tx, request.order).await?.filter(|o| o.account == request.account) else {
            return Ok(Replay::Refused(RefundRefusal::NotFound));
        };
        match found.state {
            OrderState::Refunding | OrderState::Refunded => {}
            OrderState::Paid => {
                tx.execute(
                    "UPDATE orders SET state = 'refunding', reason = 'refund_requested', updated_at_ms = $2 WHERE id = $1",
                    &[&request.order.0, &now_ms],
                )
                .await?;
                tx.execute(
                    "INSERT INTO refund (id, order_id, payment_id, amount_minor, currency, reason, state, next_at_ms, created_at_ms, updated_at_ms, trace_id)
                     SELECT $2, order_id, id, amount_minor, currency, $3, 'requested', $4, $4, $4, $5
                     FROM payment WHERE order_id = $1 AND state = 'captured'",
                    &[&request.order.0, &request.refund.0, &request.reason, &now_ms, &request.trace_id],
                )
                .await?;
            }
            state => return Ok(Replay::Refused(RefundRefusal::WrongState(state))),
        }
        let after = order::read(&tx, request.order).await?.unwrap_or(found);
        let saved = render(&after);
        idempotency::save(&tx, idem, &saved).await?;
        tx.commit().await?;
        Ok(Replay::Fresh(saved))
    }

    /// Leases up to `limit` refunds that are due to a worker.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn claim_due_refunds(
        &self,
        now_ms: i64,
        limit: i64,
        lease_ms: i64,
    ) -> Result<Vec<RefundWork>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "WITH due AS (
                    UPDATE refund SET lease_until_ms = $1 + $3, tries = tries + 1
                    WHERE id IN (SELECT id FROM refund WHERE state IN ('requested', 'sending', 'unknown')
                                 AND next_at_ms <= $1 AND lease_until_ms <= $1
                                 ORDER BY next_at_ms LIMIT $2 FOR UPDATE SKIP LOCKED)
                    RETURNING *)
                 SELECT due.id, due.order_id, due.payment_id, due.state, due.amount_minor, due.currency, due.reason, due.tries, due.trace_id,
                        p.provider, p.provider_ref, p.amount_minor AS captured_minor
                 FROM due JOIN payment p ON p.id = due.payment_id",
                &[&now_ms, &limit, &lease_ms],
            )
            .await?;
        rows.iter()
            .map(|r| {
                Ok(RefundWork {
                    id: RefundId(id(r, "id")?),
                    order: OrderId(id(r, "order_id")?),
                    payment: PaymentId(id(r, "payment_id")?),
                    provider: text(r, "provider")?,
                    state: text(r, "state")?.parse()?,
                    amount: money(r, "amount_minor")?,
                    captured: money(r, "captured_minor")?,
                    provider_ref: opt_text(r, "provider_ref")?,
                    reason: text(r, "reason")?,
                    tries: int(r, "tries")?,
                    trace_id: text(r, "trace_id")?,
                })
            })
            .collect()
    }

    /// The money is back: order refunded, units free again, outbox told, in one transaction.
    /// `false` when it was done before.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn refund_done(&self, refund: RefundId, provider_ref: &str, now_ms: i64) -> Result<bool, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        tx.execute(
            "SELECT 1 FROM deal WHERE id = (SELECT o.deal_id FROM refund r JOIN orders o ON o.id = r.order_id WHERE r.id = $1) FOR UPDATE",
            &[&refund.0],
        )
        .await?;
        let moved = tx
            .execute(
                "UPDATE refund SET state = 'done', provider_ref = $2, updated_at_ms = $3 WHERE id = $1 AND state IN ('requested', 'sending', 'unknown')",
                &[&refund.0, &provider_ref, &now_ms],
            )
            .await?;
        if moved == 0 {
            return Ok(false);
        }
        let row = tx
            .query_one(
                "UPDATE orders SET state = 'refunded', updated_at_ms = $2 WHERE id = (SELECT order_id FROM refund WHERE id = $1)
                 RETURNING id, deal_id, account_id, lease_number, quantity",
                &[&refund.0, &now_ms],
            )
            .await?;
        let (deal, account, quantity) = (id(&row, "deal_id")?, id(&row, "account_id")?, int(&row, "quantity")?);
        tx.execute("UPDATE deal SET sold = sold - $2 WHERE id = $1", &[&deal, &quantity]).await?;
        tx.execute(
            "UPDATE allowance SET units = units - $3 WHERE deal_id = $1 AND account_id = $2",
            &[&deal, &account, &quantity],
        )
        .await?;
        tx.execute(
            "INSERT INTO outbox (kind, order_id, deal_id, account_id, lease_number, quantity, created_at_ms)
             VALUES ('order_refunded', $1, $2, $3, $4, $5, $6)",
            &[&id(&row, "id")?, &deal, &account, &int(&row, "lease_number")?, &quantity, &now_ms],
        )
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The provider refused: the order is paid again.
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
        let moved = tx
            .execute(
                "UPDATE refund SET state = 'failed', failure_code = $2, failure_message = left($3, 500), updated_at_ms = $4
                 WHERE id = $1 AND state IN ('requested', 'sending', 'unknown')",
                &[&refund.0, &code, &message, &now_ms],
            )
            .await?;
        if moved == 0 {
            return Ok(false);
        }
        tx.execute(
            "UPDATE orders SET state = 'paid', reason = 'refund_refused', updated_at_ms = $2
             WHERE id = (SELECT order_id FROM refund WHERE id = $1)",
            &[&refund.0, &now_ms],
        )
        .await?;
        tx.commit().await?;
        Ok(true)
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
