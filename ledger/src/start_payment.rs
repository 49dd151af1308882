//! A shopper wants to pay: the order goes on, and the payment is there for the worker.
//!
//! Many do it in the same moment, so the statements go together, in two round trips. Operation id: the idempotency key; a
//! twin waits for the first one's commit and gets its answer.

use crate::idempotency::{self, Idem, Replay, Saved};
use crate::order;
use crate::purchase::{self, Actor, Event, Refusal};
use crate::purchase_store::{self, StepRow};
use crate::quiet::{self, Wake};
use crate::statement;
use crate::{Ledger, LedgerError, Order, OrderState};
use service_kit::ids::{AccountId, OrderId, PaymentId};

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

/// A new payment of an order.
const INSERT: &str = "INSERT INTO payment (id, order_id, provider, merchant_id, state, amount_minor, currency, item_name, quantity,
        account_id, return_secret, next_at_ms, created_at_ms, updated_at_ms, trace_id)
     SELECT $2, o.id, $3, d.merchant_id, 'requested', o.amount_minor, o.currency, d.title, o.quantity, o.account_id, $4, due_now($5), $5, $5, $6
     FROM orders o JOIN deal d ON d.id = o.deal_id WHERE o.id = $1";

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
        let (order, fingerprint) = ([start.order.0], idem.fingerprint.as_slice());
        let looked = tx
            .at_once(&[
                (quiet::KEEP_QUIET, &[]),
                (statement::KEEP_PLANS, &[]),
                (idempotency::RESERVE, &[&idem.actor, &idem.key, &fingerprint, &now_ms]),
                (purchase_store::LOCK, &[&start.order.0]),
                (purchase_store::READ, &[&&order[..]]),
            ])
            .await?;
        let [_, _, reserved, _, found] = looked.as_slice() else { return Err(missing_answer()) };
        if let Some(answer) = idempotency::answered(&tx, idem, reserved).await? {
            return Ok(answer);
        }
        let locked = found.first().map(purchase_store::locked).transpose()?;
        let Some(locked) = locked.filter(|l| l.account == start.account) else {
            return Ok(Replay::Refused(StartRefusal::NotFound));
        };
        let after = match purchase::step(&locked.now, &Event::PaymentRequested, now_ms) {
            Ok(step) => {
                let detail = serde_json::json!({ "payment": start.payment, "provider": start.provider });
                let row = StepRow::of(&locked, &step, Actor::Shopper, Some(detail), now_ms);
                let StartPayment { payment, order, provider, return_secret, trace_id, .. } = start;
                let written = tx
                    .at_once(&[
                        (INSERT, &[&order.0, &payment.0, provider, return_secret, &now_ms, trace_id]),
                        (purchase_store::STEP, &row.params()),
                        (&order::by_id(), &[&order.0]),
                    ])
                    .await?;
                let [_, stepped, after] = written.as_slice() else { return Err(missing_answer()) };
                if !purchase_store::is_done(stepped) {
                    return Err(LedgerError::Collision(format!("order {order} moved on")));
                }
                after.first().map(Order::from_row).transpose()?
            }
            // Another key, the same wish: the payment that runs is the answer.
            Err(Refusal::Already) => order::read(&tx, start.order).await?,
            Err(_) => return Ok(Replay::Refused(StartRefusal::WrongState(locked.now.state))),
        };
        let Some(after) = after else { return Ok(Replay::Refused(StartRefusal::NotFound)) };
        let saved = render(&after);
        idempotency::save(&tx, idem, &saved).await?;
        tx.commit().await?;
        quiet::tell(&client, &[start.order], Wake::Worker).await;
        Ok(Replay::Fresh(saved))
    }
}

fn missing_answer() -> LedgerError {
    LedgerError::Shape("a statement has no answer".to_owned())
}
