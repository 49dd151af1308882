//! Writes what [`purchase::step`] decides. Rows: `orders`, `payment`, `refund`, `deal`, `allowance`, `outbox`, and
//! through triggers `order_event`.
//!
//! Locks are taken in one order, order → payment → deal → allowance, and the deal's last of all that wait: its row
//! is the one that all shoppers of a sale share. A crash before the commit leaves nothing; after it, everything.

use crate::pool::{id, int, money, opt_text, text};
use crate::purchase::{self, Actor, Event, Purchase, RefundPart, Refusal, Room, Step};
use crate::statement::Transaction;
use crate::{Ledger, LedgerError, OrderState, PaymentState};
use serde_json::Value;
use service_kit::ids::{AccountId, DealId, OrderId, PaymentId, RefundId};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// An order under its lock.
pub(crate) struct Locked {
    pub(crate) order: OrderId,
    pub(crate) deal: DealId,
    pub(crate) account: AccountId,
    /// Its latest payment.
    pub(crate) payment: Option<PaymentId>,
    /// Its running refund.
    pub(crate) refund: Option<RefundId>,
    /// For rows that follow.
    pub(crate) trace_id: String,
    pub(crate) now: Purchase,
}

/// Locks an order and reads it with its payment and its running refund.
pub(crate) async fn lock(tx: &Transaction<'_>, order: OrderId) -> Result<Option<Locked>, LedgerError> {
    let ids = [order.0];
    let rows = tx.at_once(&[(LOCK, &[&order.0]), (READ, &[&&ids[..]])]).await?;
    rows.last().and_then(|rows| rows.first()).map(locked).transpose()
}

/// Locks an order. First the lock, then [`READ`]: a statement that has waited still sees other tables as they were before.
pub(crate) const LOCK: &str = "SELECT 1 FROM orders WHERE id = $1 FOR UPDATE";

/// Reads orders that are locked, each with its payment and its running refund.
pub(crate) const READ: &str = "SELECT o.*, d.shopper_refund_ms, p.id AS payment_id, p.state AS payment_state,
        coalesce(p.captured_minor, 0) AS captured_minor, coalesce(p.refunded_minor, 0) AS refunded_minor,
        r.id AS refund_id, r.amount_minor AS refund_minor, r.units AS refund_units
     FROM orders o JOIN deal d ON d.id = o.deal_id
     LEFT JOIN LATERAL (SELECT * FROM payment WHERE payment.order_id = o.id
        ORDER BY payment.created_at_ms DESC, payment.id DESC LIMIT 1) p ON true
     LEFT JOIN LATERAL (SELECT * FROM refund
        WHERE refund.order_id = o.id AND refund.state IN ('requested', 'sending', 'unknown') LIMIT 1) r ON true
     WHERE o.id = ANY($1)";

/// As [`READ`].
pub(crate) async fn read(tx: &Transaction<'_>, orders: &[uuid::Uuid]) -> Result<Vec<Locked>, LedgerError> {
    tx.query(READ, &[&orders]).await?.iter().map(locked).collect()
}

/// A row of [`READ`].
pub(crate) fn locked(row: &Row) -> Result<Locked, LedgerError> {
    let payment: Option<uuid::Uuid> = row.get("payment_id");
    let refund: Option<uuid::Uuid> = row.get("refund_id");
    let payment_state = opt_text(row, "payment_state")?.map(|word| word.parse::<PaymentState>()).transpose()?;
    Ok(Locked {
        order: OrderId(id(row, "id")?),
        deal: DealId(id(row, "deal_id")?),
        account: AccountId(id(row, "account_id")?),
        payment: payment.map(PaymentId),
        refund: refund.map(RefundId),
        trace_id: text(row, "trace_id")?,
        now: Purchase {
            state: text(row, "state")?.parse()?,
            reason: opt_text(row, "reason")?,
            payment: payment_state,
            quantity: int(row, "quantity")?,
            held_units: int(row, "held_units")?,
            sold_units: int(row, "sold_units")?,
            amount: money(row, "amount_minor")?,
            captured_minor: int(row, "captured_minor")?,
            refunded_minor: int(row, "refunded_minor")?,
            refund: match refund {
                Some(_) => {
                    Some(RefundPart { amount_minor: int(row, "refund_minor")?, units: int(row, "refund_units")? })
                }
                None => None,
            },
            hold_expires_at_ms: int(row, "hold_expires_at_ms")?,
            paid_at_ms: row.try_get("paid_at_ms").map_err(|e| LedgerError::Shape(e.to_string()))?,
            shopper_refund_ms: int(row, "shopper_refund_ms")?,
        },
    })
}

/// What is free besides this order. Locks the deal: only for money that comes late.
pub(crate) async fn room(tx: &Transaction<'_>, locked: &Locked) -> Result<Room, LedgerError> {
    let deal = tx
        .query_one(
            "SELECT stock - held - sold AS free, per_user_limit FROM deal WHERE id = $1 FOR UPDATE",
            &[&locked.deal.0],
        )
        .await?;
    let allowance = tx
        .query_opt(
            "SELECT unit_limit - units AS room FROM allowance WHERE deal_id = $1 AND account_id = $2",
            &[&locked.deal.0, &locked.account.0],
        )
        .await?;
    let allowance_units = match allowance {
        Some(row) => int(&row, "room")?,
        None => int(&deal, "per_user_limit")?,
    };
    Ok(Room { free_units: int(&deal, "free")?, allowance_units })
}

/// Writes a step.
pub(crate) async fn write(
    tx: &Transaction<'_>,
    locked: &Locked,
    step: &Step,
    actor: Actor,
    detail: Option<Value>,
    now_ms: i64,
) -> Result<(), LedgerError> {
    let moved_on = || LedgerError::Collision(format!("order {} moved on", locked.order));
    // A new payment is inserted by its caller, as `requested`.
    if let (Some(payment), Some(to)) = (locked.payment, step.payment) {
        let from = locked.now.payment.map_or("", PaymentState::as_str);
        let moved = tx
            .execute(
                "UPDATE payment SET state = $2, captured_minor = $3, updated_at_ms = $4, lease_until_ms = 0, recheck_at_ms = NULL,
                    parked_reason = NULL, parked_at_ms = NULL
                 WHERE id = $1 AND state = $5",
                &[&payment.0, &to.as_str(), &step.captured_minor, &now_ms, &from],
            )
            .await?;
        if moved == 0 {
            return Err(moved_on());
        }
    }
    if let Some(payment) = locked.payment {
        if step.order == OrderState::Quarantined {
            tx.execute(
                "UPDATE payment SET parked_reason = $2, parked_at_ms = $3, lease_until_ms = 0 WHERE id = $1",
                &[&payment.0, &step.reason.unwrap_or("quarantined"), &now_ms],
            )
            .await?;
        } else if locked.now.state == OrderState::Quarantined {
            tx.execute(
                "UPDATE payment SET parked_reason = NULL, parked_at_ms = NULL, next_at_ms = due_now($2), lease_until_ms = 0, tries = 0 WHERE id = $1",
                &[&payment.0, &now_ms],
            )
            .await?;
        }
    }
    let rows = tx.query(STEP, &StepRow::of(locked, step, actor, detail, now_ms).params()).await?;
    if is_done(&rows) { Ok(()) } else { Err(moved_on()) }
}

/// One step of an order; the parameters are those of a [`StepRow`].
pub(crate) const STEP: &str = "SELECT purchase_step($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// Whether [`STEP`] found the order where it was expected.
pub(crate) fn is_done(rows: &[Row]) -> bool {
    rows.first().is_some_and(|row| row.get(0))
}

/// What [`STEP`] writes.
pub(crate) struct StepRow {
    order: uuid::Uuid,
    from: &'static str,
    to: &'static str,
    units: (i64, i64),
    reason: Option<&'static str>,
    actor: &'static str,
    detail: Option<Value>,
    kind: Option<&'static str>,
    outbox_units: Option<i64>,
    now_ms: i64,
}

impl StepRow {
    pub(crate) fn of(locked: &Locked, step: &Step, actor: Actor, detail: Option<Value>, now_ms: i64) -> Self {
        Self {
            order: locked.order.0,
            from: locked.now.state.as_str(),
            to: step.order.as_str(),
            units: (step.held_units, step.sold_units),
            reason: step.reason,
            actor: actor.as_str(),
            detail,
            kind: step.outbox.map(|(kind, _)| kind.as_str()),
            outbox_units: step.outbox.map(|(_, units)| units),
            now_ms,
        }
    }

    pub(crate) fn params(&self) -> [&(dyn ToSql + Sync); 11] {
        let (held, sold) = &self.units;
        let Self { order, from, to, reason, actor, detail, kind, outbox_units, now_ms, .. } = self;
        [order, from, to, held, sold, reason, actor, detail, kind, outbox_units, now_ms]
    }
}

/// Opens the refund that a step asks for.
pub(crate) async fn open_refund(
    tx: &Transaction<'_>,
    locked: &Locked,
    refund: RefundId,
    part: RefundPart,
    asked: (Actor, &str),
    now_ms: i64,
) -> Result<(), LedgerError> {
    let (by, reason) = asked;
    let payment = locked.payment.ok_or_else(|| LedgerError::Shape("a refund without a payment".into()))?;
    tx.execute(
        "UPDATE payment SET refunding_minor = refunding_minor + $2 WHERE id = $1",
        &[&payment.0, &part.amount_minor],
    )
    .await?;
    tx.execute(
        "INSERT INTO refund (id, order_id, payment_id, amount_minor, currency, units, reason, requested_by, state, next_at_ms,
            created_at_ms, updated_at_ms, trace_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'requested', due_now($9), $9, $9, $10)",
        &[
            &refund.0,
            &locked.order.0,
            &payment.0,
            &part.amount_minor,
            &locked.now.amount.currency().code(),
            &part.units,
            &reason,
            &by.as_str(),
            &now_ms,
            &locked.trace_id,
        ],
    )
    .await?;
    Ok(())
}

impl Ledger {
    /// Lets an event happen to an order, once. `detail` goes into its history.
    ///
    /// # Errors
    /// See [`LedgerError`]; the inner error says why the event has no effect.
    pub async fn happen(
        &self,
        order: OrderId,
        event: &Event,
        actor: Actor,
        detail: Option<Value>,
        now_ms: i64,
    ) -> Result<Option<Result<Step, Refusal>>, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        let Some(locked) = lock(&tx, order).await? else { return Ok(None) };
        let step = match purchase::step(&locked.now, event, now_ms) {
            Ok(step) => step,
            Err(refusal) => return Ok(Some(Err(refusal))),
        };
        write(&tx, &locked, &step, actor, detail, now_ms).await?;
        if let Some(part) = step.open_refund {
            let why = step.reason.unwrap_or_default();
            open_refund(&tx, &locked, RefundId::new(), part, (actor, why), now_ms).await?;
        }
        tx.commit().await?;
        Ok(Some(Ok(step)))
    }
}
