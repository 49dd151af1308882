//! The final gate: winners of the fast gate become orders, many in one commit.

use crate::pool::{id, int, text};
use crate::purchase::{Actor, Event};
use crate::statement::Client;
use crate::{Ledger, LedgerError, Order};
use service_kit::ids::{AccountId, DealId, OrderId, VisitorId};
use service_kit::money::Money;
use tokio_postgres::Row;

/// A winner of the fast gate.
#[derive(Debug, Clone)]
pub struct NewHold {
    /// The order's id, made before the fast gate.
    pub order: OrderId,
    /// Which deal.
    pub deal: DealId,
    /// For whom.
    pub account: AccountId,
    /// The shopper's number in the waiting room.
    pub lease_number: i64,
    /// The visitor of the pass; with the number it names one pass.
    pub visitor: VisitorId,
    /// Units.
    pub quantity: i64,
    /// Price × quantity, compared with the deal's price again in SQL.
    pub amount: Money,
    /// The shopper's `Idempotency-Key`.
    pub idempotency_key: String,
    /// SHA-256 of the request.
    pub fingerprint: [u8; 32],
    /// When the hold ends unless a payment has begun.
    pub hold_expires_at_ms: i64,
    /// After this instant the fast gate may have given the units away: too late to commit.
    pub confirm_by_ms: i64,
    /// Epoch of the fast stock that the units were taken from.
    pub epoch: i64,
    /// For logs.
    pub trace_id: String,
}

/// What the final gate said. Everything but `Placed` and `Existing` means: give the units back.
#[derive(Debug, Clone, PartialEq)]
pub enum HoldOutcome {
    /// The order exists now.
    Placed(Order),
    /// The order existed before (same key, same request); its id may differ from the one offered.
    Existing(Order),
    /// The key was used for another request.
    KeyReused,
    /// Not enough units.
    SoldOut,
    /// The pass has served another account.
    Stranger,
    /// The person's limit is reached.
    PerUserLimit,
    /// Outside the deal's time.
    NotOpen,
    /// The fast stock was filled anew in between, or the deal is unknown.
    WrongEpoch,
    /// It came too late.
    Expired,
    /// Price or currency differ from the deal's.
    WrongAmount,
}

/// What `place_holds` said, in the order of `holds`.
async fn outcomes(
    client: &Client,
    holds: &[NewHold],
    rows: &[Row],
    now_ms: i64,
) -> Result<Vec<HoldOutcome>, LedgerError> {
    // A deal that does not exist gives no row.
    let mut outcomes = vec![HoldOutcome::WrongEpoch; holds.len()];
    for row in rows {
        let index = usize::try_from(int(row, "n")? - 1).map_err(|e| LedgerError::Shape(e.to_string()))?;
        let (Some(hold), Some(slot)) = (holds.get(index), outcomes.get_mut(index)) else {
            return Err(LedgerError::Shape("place_holds answered for an entry that was not asked".into()));
        };
        *slot = match text(row, "outcome")?.as_str() {
            "placed" => HoldOutcome::Placed(Order::placed(hold, now_ms)),
            "existing" => {
                let found = OrderId(id(row, "existing")?);
                let order = crate::order::read(client, found).await?;
                HoldOutcome::Existing(order.ok_or_else(|| LedgerError::Shape("the existing order is gone".into()))?)
            }
            "key_reused" => HoldOutcome::KeyReused,
            "sold_out" => HoldOutcome::SoldOut,
            "stranger" => HoldOutcome::Stranger,
            "per_user_limit" => HoldOutcome::PerUserLimit,
            "not_open" => HoldOutcome::NotOpen,
            "wrong_epoch" => HoldOutcome::WrongEpoch,
            "expired" => HoldOutcome::Expired,
            "wrong_amount" => HoldOutcome::WrongAmount,
            other => return Err(LedgerError::Shape(format!("place_holds answered {other}"))),
        };
    }
    Ok(outcomes)
}

impl Ledger {
    /// Commits `holds` in one statement, which is one transaction and one round trip, and answers in the same order.
    ///
    /// # Errors
    /// On [`LedgerError::Unknown`] it may have been committed: ask for the orders by their ids.
    /// On every other error nothing was.
    pub async fn place_holds(&self, holds: &[NewHold], now_ms: i64) -> Result<Vec<HoldOutcome>, LedgerError> {
        fn each<'h, T>(holds: &'h [NewHold], of: impl Fn(&'h NewHold) -> T) -> Vec<T> {
            holds.iter().map(of).collect()
        }
        let [ids, deals, accounts] =
            [each(holds, |h| h.order.0), each(holds, |h| h.deal.0), each(holds, |h| h.account.0)];
        let [leases, quantities] = [each(holds, |h| h.lease_number), each(holds, |h| h.quantity)];
        let [amounts, epochs] = [each(holds, |h| h.amount.minor()), each(holds, |h| h.epoch)];
        let [ends, confirm_bys] = [each(holds, |h| h.hold_expires_at_ms), each(holds, |h| h.confirm_by_ms)];
        let visitors = each(holds, |h| h.visitor.as_str());
        let currencies = each(holds, |h| h.amount.currency().code());
        let keys = each(holds, |h| h.idempotency_key.as_str());
        let fingerprints = each(holds, |h| h.fingerprint.as_slice());
        let traces = each(holds, |h| h.trace_id.as_str());
        let client = self.client().await?;
        // The rows are complete when the server is ready for the next query, which is after the commit.
        let rows = client
            .query(
                "SELECT n, outcome, existing FROM place_holds(ARRAY(
                     SELECT (ord, id, account, lease, visitor, quantity, amount, currency, key, fingerprint, expires, confirm_by,
                             epoch, trace, deal)::hold_entry
                     FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::text[],
                                 $9::bytea[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[], $14::uuid[])
                          WITH ORDINALITY AS e(id, account, lease, visitor, quantity, amount, currency, key, fingerprint, expires,
                                               confirm_by, epoch, trace, deal, ord)), $15)",
                &[
                    &ids, &accounts, &leases, &visitors, &quantities, &amounts, &currencies, &keys, &fingerprints, &ends,
                    &confirm_bys, &epochs, &traces, &deals, &now_ms,
                ],
            )
            .await?;
        // They are committed by now: whoever cannot read the answer must ask again, not give up.
        outcomes(&client, holds, &rows, now_ms).await.map_err(|e| LedgerError::Unknown(e.to_string()))
    }

    /// Releases up to `limit` holds whose time is over and answers their ids. Several processes may do it at once. A process
    /// whose clock runs ahead ends none early: it is over by the database's clock, too.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn expire_holds(&self, now_ms: i64, limit: i64) -> Result<Vec<OrderId>, LedgerError> {
        let client = self.client().await?;
        let due = client
            .query(
                "SELECT id FROM orders WHERE state = 'held' AND hold_expires_at_ms <= (SELECT due_now($1)) ORDER BY hold_expires_at_ms LIMIT $2",
                &[&now_ms, &limit],
            )
            .await?;
        drop(client);
        let mut released = Vec::new();
        for row in &due {
            let order = OrderId(id(row, "id")?);
            // A payment that began in between keeps the units.
            if let Some(Ok(_)) = self.happen(order, &Event::HoldExpired, Actor::Reaper, None, now_ms).await? {
                released.push(order);
            }
        }
        Ok(released)
    }
}
