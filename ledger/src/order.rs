//! Orders: reading them, and the shopper's cancel.

use crate::idempotency::{self, Idem, Replay, Saved};
use crate::pool::{id, int, money, opt_text, text};
use crate::purchase::{self, Actor, Event};
use crate::statement::Reads;
use crate::{Ledger, LedgerError, NewHold, purchase_store};
use serde::Serialize;
use service_kit::ids::{AccountId, DealId, OrderId, PaymentId};
use service_kit::money::Money;
use std::str::FromStr;
use tokio_postgres::Row;

/// Where an order stands.
///
/// `held → paying → paid → refunding → refunded`, `held | paying → released`; the rest stands in
/// [`purchase`](crate::purchase). The database's trigger allows no other step.
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
    /// Some of the money went back; more may follow.
    PartlyRefunded,
    /// All of the money went back, and the units with it.
    Refunded,
    /// Money and order do not fit, and only an operator can say what happens. The units stay where they are.
    Quarantined,
}

impl OrderState {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Held,
        Self::Paying,
        Self::Paid,
        Self::Released,
        Self::Refunding,
        Self::PartlyRefunded,
        Self::Refunded,
        Self::Quarantined,
    ];
    /// The word in SQL, API and pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Paying => "paying",
            Self::Paid => "paid",
            Self::Released => "released",
            Self::Refunding => "refunding",
            Self::PartlyRefunded => "partly_refunded",
            Self::Refunded => "refunded",
            Self::Quarantined => "quarantined",
        }
    }
    /// Whether nothing can follow by itself. (`paid` may still be refunded on request.)
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Paid | Self::Released | Self::PartlyRefunded | Self::Refunded)
    }
}

impl FromStr for OrderState {
    type Err = LedgerError;
    fn from_str(word: &str) -> Result<Self, LedgerError> {
        Self::ALL
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
    /// Which provider.
    pub provider: String,
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
    /// Units that are the shopper's now.
    pub sold_units: i64,
    /// When it was paid, in ms.
    pub paid_at_ms: Option<i64>,
    /// What went back so far, in minor units of the order's currency.
    pub refunded_minor: i64,
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

const ORDER: &str = "SELECT o.*, p.id AS payment_id, p.provider AS payment_provider, p.state AS payment_state,
        coalesce(p.refunded_minor, 0) AS refunded_minor, p.redirect_pc, p.redirect_mobile, p.failure_message
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
            sold_units: int(row, "sold_units")?,
            paid_at_ms: row.try_get("paid_at_ms").map_err(|e| LedgerError::Shape(e.to_string()))?,
            refunded_minor: int(row, "refunded_minor")?,
            payment: match payment {
                Some(payment) => Some(PaymentView {
                    id: PaymentId(payment),
                    provider: text(row, "payment_provider")?,
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
            sold_units: 0,
            paid_at_ms: None,
            refunded_minor: 0,
            payment: None,
        }
    }
}

pub(crate) async fn read(client: &impl Reads, order: OrderId) -> Result<Option<Order>, LedgerError> {
    let row = client.read_opt(&by_id(), &[&order.0]).await?;
    row.as_ref().map(Order::from_row).transpose()
}

/// One order by its id.
pub(crate) fn by_id() -> String {
    format!("{ORDER} WHERE o.id = $1")
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
                &format!("{ORDER} WHERE o.account_id = $1 AND o.id < $2 ORDER BY o.id DESC LIMIT $3"),
                &[&account.0, &after.map_or(uuid::Uuid::max(), |o| o.0), &limit],
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
        let Some(locked) = purchase_store::lock(&tx, order).await?.filter(|l| l.account == account) else {
            return Ok(Replay::Refused(CancelRefusal::NotFound));
        };
        match purchase::step(&locked.now, &Event::CancelRequested, now_ms) {
            Ok(step) => purchase_store::write(&tx, &locked, &step, Actor::Shopper, None, now_ms).await?,
            Err(_) => return Ok(Replay::Refused(CancelRefusal::WrongState(locked.now.state))),
        }
        let Some(after) = read(&tx, order).await? else { return Ok(Replay::Refused(CancelRefusal::NotFound)) };
        let saved = render(&after);
        idempotency::save(&tx, idem, &saved).await?;
        if service_kit::planted!("cancel-is-not-committed") {
            return Ok(Replay::Fresh(saved));
        }
        tx.commit().await?;
        Ok(Replay::Fresh(saved))
    }
}
