//! Orders: reading them, and the shopper's cancel.

use crate::idempotency::{self, Idem, Replay, Saved};
use crate::pool::{id, int, money, opt_text, text};
use crate::{Ledger, LedgerError, NewHold};
use deadpool_postgres::GenericClient;
use serde::Serialize;
use service_kit::ids::{AccountId, DealId, OrderId, PaymentId};
use service_kit::money::Money;
use std::str::FromStr;
use tokio_postgres::Row;

/// Where an order stands.
///
/// `held → paying → paid → refunding → refunded`, `held | paying → released`, `refunding → paid` when the
/// provider refused the refund. The database's trigger allows no other step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// Units are held; the hold runs out.
    Held,
    /// A payment runs; the hold does not run out.
    Paying,
    /// Paid.
    Paid,
    /// Ended without money; the units went back.
    Released,
    /// A refund runs.
    Refunding,
    /// Refunded; the units went back.
    Refunded,
}

impl OrderState {
    /// The word in SQL, API and pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Paying => "paying",
            Self::Paid => "paid",
            Self::Released => "released",
            Self::Refunding => "refunding",
            Self::Refunded => "refunded",
        }
    }
    /// Whether nothing can follow by itself. (`paid` may still be refunded on request.)
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Paid | Self::Released | Self::Refunded)
    }
}

impl FromStr for OrderState {
    type Err = LedgerError;
    fn from_str(word: &str) -> Result<Self, LedgerError> {
        [Self::Held, Self::Paying, Self::Paid, Self::Released, Self::Refunding, Self::Refunded]
            .into_iter()
            .find(|s| s.as_str() == word)
            .ok_or_else(|| LedgerError::Shape(format!("order state {word}")))
    }
}

/// The latest payment of an order, as the shopper sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PaymentView {
    /// Id.
    pub id: PaymentId,
    /// Word of [`PaymentState`](crate::PaymentState).
    pub state: String,
    /// Where to pay on a computer, once known.
    pub redirect_pc: Option<String>,
    /// Where to pay on a phone, once known.
    pub redirect_mobile: Option<String>,
    /// Why it failed, for people.
    pub failure_message: Option<String>,
}

/// An order.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Id.
    pub id: OrderId,
    /// Of which deal.
    pub deal: DealId,
    /// Whose.
    pub account: AccountId,
    /// The shopper's number in the waiting room.
    pub lease_number: i64,
    /// Units.
    pub quantity: i64,
    /// What it costs in all.
    pub amount: Money,
    /// Where it stands.
    pub state: OrderState,
    /// Why it was released or refunded, as a stable word.
    pub reason: Option<String>,
    /// When the hold ends unless a payment has begun.
    pub hold_expires_at_ms: i64,
    /// When it was placed.
    pub created_at_ms: i64,
    /// Last change.
    pub updated_at_ms: i64,
    /// SHA-256 of the request that made it.
    pub fingerprint: Vec<u8>,
    /// Its latest payment.
    pub payment: Option<PaymentView>,
}

/// Why an order cannot be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelRefusal {
    /// No such order of this account.
    NotFound,
    /// Paid, ended, or the provider is being asked for the money just now.
    WrongState(OrderState),
}

const ORDER: &str =
    "SELECT o.*, p.id AS payment_id, p.state AS payment_state, p.redirect_pc, p.redirect_mobile, p.failure_message
    FROM orders o LEFT JOIN LATERAL (
        SELECT * FROM payment WHERE payment.order_id = o.id ORDER BY payment.created_at_ms DESC, payment.id DESC LIMIT 1
    ) p ON true";

impl Order {
    pub(crate) fn from_row(row: &Row) -> Result<Self, LedgerError> {
        let payment: Option<uuid::Uuid> = row.get("payment_id");
        Ok(Self {
            id: OrderId(id(row, "id")?),
            deal: DealId(id(row, "deal_id")?),
            account: AccountId(id(row, "account_id")?),
            lease_number: int(row, "lease_number")?,
            quantity: int(row, "quantity")?,
            amount: money(row, "amount_minor")?,
            state: text(row, "state")?.parse()?,
            reason: opt_text(row, "reason")?,
            hold_expires_at_ms: int(row, "hold_expires_at_ms")?,
            created_at_ms: int(row, "created_at_ms")?,
            updated_at_ms: int(row, "updated_at_ms")?,
            fingerprint: row.get("fingerprint"),
            payment: match payment {
                Some(payment) => Some(PaymentView {
                    id: PaymentId(payment),
                    state: text(row, "payment_state")?,
                    redirect_pc: opt_text(row, "redirect_pc")?,
                    redirect_mobile: opt_text(row, "redirect_mobile")?,
                    failure_message: opt_text(row, "failure_message")?,
                }),
                None => None,
            },
        })
    }

    /// The order that [`Ledger::place_holds`] has just written.
    pub(crate) fn placed(hold: &NewHold, now_ms: i64) -> Self {
        Self {
            id: hold.order,
            deal: hold.deal,
            account: hold.account,
            lease_number: hold.lease_number,
            quantity: hold.quantity,
            amount: hold.amount,
            state: OrderState::Held,
            reason: None,
            hold_expires_at_ms: hold.hold_expires_at_ms,
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
            fingerprint: hold.fingerprint.to_vec(),
            payment: None,
        }
    }
}

pub(crate) async fn read(client: &impl GenericClient, order: OrderId) -> Result<Option<Order>, LedgerError> {
    let row = client.query_opt(&format!("{ORDER} WHERE o.id = $1"), &[&order.0]).await?;
    row.as_ref().map(Order::from_row).transpose()
}

impl Ledger {
    /// One order.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn order(&self, order: OrderId) -> Result<Option<Order>, LedgerError> {
        read(&self.client().await?, order).await
    }

    /// Orders of an account, newest first, those after `after` in that order.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn orders_of(
        &self,
        account: AccountId,
        after: Option<OrderId>,
        limit: i64,
    ) -> Result<Vec<Order>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                &format!(
                    "{ORDER} WHERE o.account_id = $1 AND ($2::uuid IS NULL OR o.id < $2) ORDER BY o.id DESC LIMIT $3"
                ),
                &[&account.0, &after.map(|o| o.0), &limit],
            )
            .await?;
        rows.iter().map(Order::from_row).collect()
    }

    /// The states of those orders that exist.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn order_states(&self, orders: &[OrderId]) -> Result<Vec<(OrderId, OrderState)>, LedgerError> {
        let ids: Vec<uuid::Uuid> = orders.iter().map(|o| o.0).collect();
        let rows = self.client().await?.query("SELECT id, state FROM orders WHERE id = ANY($1)", &[&ids]).await?;
        rows.iter().map(|r| Ok((OrderId(id(r, "id")?), text(r, "state")?.parse()?))).collect()
    }

    /// Cancels an order that is held, or whose payment has not yet asked for money.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn cancel_order(
        &self,
        order: OrderId,
        account: AccountId,
        now_ms: i64,
        idem: &Idem,
        render: impl FnOnce(&Order) -> Saved,
    ) -> Result<Replay<CancelRefusal>, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        if let Some(answer) = idempotency::find(&tx, idem, now_ms).await? {
            return Ok(answer);
        }
        // The deal first, then the order: the one order of locks.
        tx.execute("SELECT 1 FROM deal WHERE id = (SELECT deal_id FROM orders WHERE id = $1) FOR UPDATE", &[&order.0])
            .await?;
        tx.execute("SELECT 1 FROM orders WHERE id = $1 FOR UPDATE", &[&order.0]).await?;
        let Some(found) = read(&tx, order).await?.filter(|o| o.account == account) else {
            return Ok(Replay::Refused(CancelRefusal::NotFound));
        };
        if found.state == OrderState::Paying {
            // Money moves only by our own confirm call: before it, ending the payment is safe.
            let ended = tx
                .execute(
                    "UPDATE payment SET state = 'cancelled', failure_code = 'cancelled_by_shopper', updated_at_ms = $2
                     WHERE order_id = $1 AND state IN ('requested', 'ready')",
                    &[&order.0, &now_ms],
                )
                .await?;
            if ended == 0 {
                return Ok(Replay::Refused(CancelRefusal::WrongState(found.state)));
            }
        }
        let released: bool = tx
            .query_one(
                "SELECT release_order($1, ARRAY['held', 'paying'], 'cancelled_by_shopper', $2)",
                &[&order.0, &now_ms],
            )
            .await?
            .get(0);
        if !released {
            return Ok(Replay::Refused(CancelRefusal::WrongState(found.state)));
        }
        let after = read(&tx, order).await?.unwrap_or(found);
        let saved = render(&after);
        idempotency::save(&tx, idem, &saved).await?;
        tx.commit().await?;
        Ok(Replay::Fresh(saved))
    }
}
