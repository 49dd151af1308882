//! Many payments in one commit. A crowd that pays at once shares one row, the deal's: settled one by one, each payment
//! waits for the commits of all before it.
//!
//! One transaction, or one statement, per batch; all of it happens or nothing. Locks are taken as everywhere, order →
//! payment → deal, and inside each kind by id, so two batches cannot wait for each other in a circle. Everything may run
//! twice: who had moved on is left alone. Judged by [`purchase::step`] like a single payment; what is not the plain case
//! (money for an order that is being paid) is left to [`Ledger::settle_captured`], which knows every case.

use crate::payment::{AccountOf, AttemptKind, PaymentState, Prepared};
use crate::pool::{id, int};
use crate::purchase::{self, Actor, Event, Room, Step};
use crate::purchase_store::{self, Locked};
use crate::quiet::{self, Wake};
use crate::statement::{self, Transaction};
use crate::{Ledger, LedgerError, OrderState, OutboxKind};
use serde_json::{Value, json};
use service_kit::ids::{AttemptId, OrderId, PaymentId};
use service_kit::money::Money;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Row;

/// A call that is about to be made. A refund's is begun alone, by [`Ledger::begin_attempt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// About which payment.
    pub payment: PaymentId,
    /// Which call.
    pub kind: AttemptKind,
}

/// What a call answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// Of which attempt.
    pub attempt: AttemptId,
    /// One word.
    pub outcome: String,
    /// For people; cut at 1,000 characters.
    pub detail: String,
}

/// A provider's session exists.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Of which payment.
    pub payment: PaymentId,
    /// The session.
    pub session: Prepared,
    /// Whose account opened it.
    pub account_of: AccountOf,
}

/// A shopper came back with the code of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Which.
    pub payment: PaymentId,
    /// Of the return address; with a wrong one nothing changes and nothing is told.
    pub secret: String,
    /// What the confirm call needs.
    pub code: String,
}

/// The provider has the money of a payment.
#[derive(Debug, Clone, PartialEq)]
pub struct Captured {
    /// Which.
    pub payment: PaymentId,
    /// The provider's id of it.
    pub reference: String,
    /// How much.
    pub money: Money,
    /// Who found out.
    pub actor: Actor,
}

impl Ledger {
    /// As [`Self::begin_attempt`], for many calls at once; answers in the same order. Of two confirm calls of one payment
    /// one may be made.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn begin_attempts(&self, begins: &[Begin], now_ms: i64) -> Result<Vec<Option<AttemptId>>, LedgerError> {
        let confirms: Vec<bool> = begins.iter().map(|begin| begin.kind == AttemptKind::Confirm).collect();
        let attempts: Vec<AttemptId> = begins.iter().map(|_| AttemptId::new()).collect();
        let mut seen = BTreeSet::new();
        // The second of two confirms is not even offered.
        let offered: Vec<usize> = (0..begins.len())
            .filter(|n| match (begins.get(*n), confirms.get(*n)) {
                (Some(begin), Some(true)) => seen.insert(begin.payment.0),
                (begin, _) => begin.is_some(),
            })
            .collect();
        let pick = |n: &usize| Some((attempts.get(*n)?.0, *begins.get(*n)?));
        let (ids, calls): (Vec<uuid::Uuid>, Vec<Begin>) = offered.iter().filter_map(pick).unzip();
        let payments: Vec<_> = calls.iter().map(|call| call.payment.0).collect();
        let kinds: Vec<&str> = calls.iter().map(|call| call.kind.as_str()).collect();
        let client = self.client().await?;
        let rows = client
            .query(
                "WITH asked AS (SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS a(attempt, payment, kind)),
                 locked AS (
                    SELECT id FROM payment
                    WHERE (SELECT set_config('floodgate.quiet', 'on', true)) IS NOT NULL
                      AND id IN (SELECT payment FROM asked WHERE kind = 'confirm') AND state = 'authorized' ORDER BY id FOR UPDATE),
                 moved AS (
                    UPDATE payment SET state = 'confirming', updated_at_ms = $4, confirm_sent_at_ms = coalesce(confirm_sent_at_ms, $4)
                    FROM locked WHERE payment.id = locked.id RETURNING payment.id, payment.order_id),
                 begun AS (
                    INSERT INTO attempt (id, payment_id, kind, started_at_ms)
                    SELECT attempt, payment, kind, $4 FROM asked WHERE kind <> 'confirm' OR payment IN (SELECT id FROM moved)
                    RETURNING id, payment_id)
                 SELECT begun.id, moved.order_id FROM begun LEFT JOIN moved ON moved.id = begun.payment_id",
                &[&ids, &payments, &kinds, &now_ms],
            )
            .await?;
        let begun: Result<BTreeSet<_>, _> = rows.iter().map(|row| id(row, "id")).collect();
        let begun = begun?;
        // The worker itself is the only one who could be woken.
        let orders: Vec<OrderId> =
            rows.iter().filter_map(|row| row.get::<_, Option<uuid::Uuid>>("order_id").map(OrderId)).collect();
        quiet::tell(&client, &orders, Wake::Nobody).await;
        Ok(attempts.into_iter().map(|attempt| begun.contains(&attempt.0).then_some(attempt)).collect())
    }

    /// As [`Self::finish_attempt`], for many at once, and without waiting for the disk: an end that a crash of the server
    /// forgets says less than we know, and what follows from the answer is written by a commit of its own.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn finish_attempts(&self, finishes: &[Finish], now_ms: i64) -> Result<(), LedgerError> {
        let ids: Vec<_> = finishes.iter().map(|finish| finish.attempt.0).collect();
        let outcomes: Vec<&str> = finishes.iter().map(|finish| finish.outcome.as_str()).collect();
        let details: Vec<&str> = finishes.iter().map(|finish| finish.detail.as_str()).collect();
        self.client()
            .await?
            .execute(
                "UPDATE attempt SET finished_at_ms = $4, outcome = f.outcome, detail = left(f.detail, 1000)
                 FROM unnest($1::uuid[], $2::text[], $3::text[]) AS f(id, outcome, detail)
                 WHERE (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL AND attempt.id = ANY($1) AND attempt.id = f.id
                    AND attempt.finished_at_ms IS NULL",
                &[&ids, &outcomes, &details, &now_ms],
            )
            .await?;
        Ok(())
    }

    /// As [`Self::prepared`], for many at once; answers in the same order whether the payment was still to be opened.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn prepared_many(&self, all: &[Opened], now_ms: i64) -> Result<Vec<bool>, LedgerError> {
        let ids: Vec<_> = all.iter().map(|opened| opened.payment.0).collect();
        let accounts: Vec<&str> = all.iter().map(|opened| opened.account_of.as_str()).collect();
        let column = |of: fn(&Prepared) -> &str| all.iter().map(|opened| of(&opened.session)).collect::<Vec<&str>>();
        let [references, pcs] = [column(|p| &p.provider_ref), column(|p| &p.redirect_pc)];
        let [mobiles, apps] = [column(|p| &p.redirect_mobile), column(|p| &p.redirect_app)];
        let ends: Vec<i64> = all.iter().map(|opened| opened.session.expires_at_ms).collect();
        let client = self.client().await?;
        let rows = client
            .query(
                "WITH locked AS (
                    SELECT id FROM payment
                    WHERE (SELECT set_config('floodgate.quiet', 'on', true)) IS NOT NULL
                      AND id = ANY($1) ORDER BY id FOR UPDATE)
                 UPDATE payment SET state = 'ready', provider_ref = p.reference, redirect_pc = p.pc, redirect_mobile = p.mobile,
                    redirect_app = p.app, expires_at_ms = p.ends, next_at_ms = p.ends, lease_until_ms = 0, tries = 0, updated_at_ms = $7,
                    account_of = p.account_of
                 FROM locked JOIN unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $9::text[])
                    AS p(id, reference, pc, mobile, app, ends, account_of) ON p.id = locked.id
                 WHERE payment.id = locked.id AND payment.state = $8 RETURNING payment.id, payment.order_id",
                &[&ids, &references, &pcs, &mobiles, &apps, &ends, &now_ms, &PaymentState::Requested.as_str(), &accounts],
            )
            .await?;
        let moved: Result<BTreeSet<_>, _> = rows.iter().map(|row| id(row, "id")).collect();
        let mut moved = moved?;
        // Due again at its end, or when the shopper is back: nobody to wake.
        quiet::tell(&client, &orders_of(&rows)?, Wake::Nobody).await;
        Ok(ids.iter().map(|id| moved.remove(id)).collect())
    }

    /// As [`Self::record_return`] of approved payments, for many at once; answers in the same order.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn record_approvals(&self, all: &[Approval], now_ms: i64) -> Result<Vec<Option<OrderId>>, LedgerError> {
        let ids: Vec<_> = all.iter().map(|approval| approval.payment.0).collect();
        let secrets: Vec<&str> = all.iter().map(|approval| approval.secret.as_str()).collect();
        let codes: Vec<&str> = all.iter().map(|approval| approval.code.as_str()).collect();
        let from = if service_kit::planted!("dead-payment-revived") { ["ready", "cancelled"] } else { ["ready"; 2] };
        let client = self.client().await?;
        let rows = client
            .query(
                "WITH came AS (SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS c(id, secret, code, n)),
                 locked AS (
                    SELECT p.id FROM payment p JOIN came ON came.id = p.id AND came.secret = p.return_secret
                    WHERE (SELECT set_config('floodgate.quiet', 'on', true)) IS NOT NULL AND p.id = ANY($1) AND p.state = ANY($5)
                    ORDER BY p.id FOR UPDATE OF p),
                 moved AS (
                    UPDATE payment SET state = 'authorized', approval_code = came.code, returned = 'approved', next_at_ms = due_now($4),
                        lease_until_ms = 0, tries = 0, updated_at_ms = $4
                    FROM locked JOIN came ON came.id = locked.id
                    WHERE payment.id = locked.id AND payment.return_secret = came.secret)
                 SELECT came.n, p.order_id FROM came JOIN payment p ON p.id = came.id AND p.return_secret = came.secret
                 WHERE p.id = ANY($1)",
                &[&ids, &secrets, &codes, &now_ms, &from.as_slice()],
            )
            .await?;
        let found: Result<BTreeMap<i64, OrderId>, LedgerError> =
            rows.iter().map(|row| Ok((int(row, "n")?, OrderId(id(row, "order_id")?)))).collect();
        let found = found?;
        quiet::tell(&client, &orders_of(&rows)?, Wake::Worker).await;
        Ok((1..).zip(all).map(|(n, _)| found.get(&n).copied()).collect())
    }

    /// As [`Self::settle_captured`], for many at once; answers in the same order whether the order is paid now. `false`:
    /// nothing was done about this one, it is no plain case (or was settled before) and is to be settled alone.
    ///
    /// # Errors
    /// See [`LedgerError`]. Nothing was done, or nobody knows; every entry may be given again.
    pub async fn settle_many(&self, all: &[Captured], now_ms: i64) -> Result<Vec<bool>, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        tx.at_once(&[(quiet::KEEP_QUIET, &[]), (statement::KEEP_PLANS, &[])]).await?;
        let locked = lock_of_payments(&tx, all).await?;
        let mut plain: BTreeMap<PaymentId, (&Captured, &Locked, Step)> = BTreeMap::new();
        for captured in all {
            let Some(found) = locked.get(&captured.payment) else { continue };
            // Not asked for in the plain case, and nothing else is taken here.
            let room = Room { free_units: 0, allowance_units: 0 };
            let event = Event::Captured { money: captured.money, room };
            match purchase::step(&found.now, &event, now_ms) {
                Ok(step) if is_plain(found, &step) => plain.entry(captured.payment).or_insert((captured, found, step)),
                _ => continue,
            };
        }
        if plain.is_empty() {
            return Ok(vec![false; all.len()]);
        }
        write(&tx, plain.values(), now_ms).await?;
        tx.commit().await?;
        let orders: Vec<OrderId> = plain.values().map(|(_, locked, _)| locked.order).collect();
        quiet::tell(&client, &orders, Wake::Outbox).await;
        let mut paid: BTreeSet<PaymentId> = plain.into_keys().collect();
        // The same payment twice in a batch: the second is "settled before", which the single way says.
        Ok(all.iter().map(|captured| paid.remove(&captured.payment)).collect())
    }
}

/// The orders that rows name.
fn orders_of(rows: &[Row]) -> Result<Vec<OrderId>, LedgerError> {
    rows.iter().map(|row| Ok(OrderId(id(row, "order_id")?))).collect()
}

/// Money for an order that is being paid, of the sum that was asked for.
fn is_plain(locked: &Locked, step: &Step) -> bool {
    locked.now.state == OrderState::Paying
        && step.order == OrderState::Paid
        && step.payment == Some(PaymentState::Captured)
        && step.open_refund.is_none()
        && step.reason.is_none()
        && matches!(step.outbox, Some((OutboxKind::OrderPaid, _)))
        // So nobody's allowance moves.
        && step.held_units.checked_add(step.sold_units) == locked.now.held_units.checked_add(locked.now.sold_units)
}

/// Locks the orders of payments, by id, and reads them. A payment that is not its order's latest is left out.
async fn lock_of_payments(tx: &Transaction<'_>, all: &[Captured]) -> Result<BTreeMap<PaymentId, Locked>, LedgerError> {
    let payments: Vec<_> = all.iter().map(|captured| captured.payment.0).collect();
    let rows = tx
        .query(
            "SELECT id FROM orders WHERE id IN (SELECT order_id FROM payment WHERE id = ANY($1)) ORDER BY id FOR UPDATE",
            &[&payments],
        )
        .await?;
    let orders: Result<Vec<_>, _> = rows.iter().map(|row| id(row, "id")).collect();
    let read = purchase_store::read(tx, &orders?).await?;
    Ok(read.into_iter().filter_map(|locked| Some((locked.payment?, locked))).collect())
}

async fn write<'p>(
    tx: &Transaction<'_>,
    plain: impl Iterator<Item = &'p (&'p Captured, &'p Locked, Step)> + Clone,
    now_ms: i64,
) -> Result<(), LedgerError> {
    let count = plain.clone().count() as u64;
    let moved_on = || LedgerError::Collision("an order or a payment of a batch moved on".to_owned());
    let payments: Vec<_> = plain.clone().map(|(captured, ..)| captured.payment.0).collect();
    let orders: Vec<_> = plain.clone().map(|(_, locked, _)| locked.order.0).collect();
    let from = |(_, locked, _): &(&Captured, &Locked, Step)| locked.now.payment.map_or("", PaymentState::as_str);
    let from: Vec<&str> = plain.clone().map(from).collect();
    let minors: Vec<i64> = plain.clone().map(|(.., step)| step.captured_minor).collect();
    let references: Vec<&str> = plain.clone().map(|(captured, ..)| captured.reference.as_str()).collect();
    let moved = tx
        .execute(
            "WITH locked AS (SELECT id FROM payment WHERE id = ANY($1) ORDER BY id FOR UPDATE)
             UPDATE payment SET state = 'captured', captured_minor = c.minor, provider_aid = c.reference, updated_at_ms = $5,
                lease_until_ms = 0, recheck_at_ms = NULL, parked_reason = NULL, parked_at_ms = NULL
             FROM locked JOIN unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[]) AS c(id, state, minor, reference) ON c.id = locked.id
             WHERE payment.id = ANY($1) AND payment.id = locked.id AND payment.state = c.state",
            &[&payments, &from, &minors, &references, &now_ms],
        )
        .await?;
    if moved != count {
        return Err(moved_on());
    }
    let sold: Vec<i64> = plain.clone().map(|(.., step)| step.sold_units).collect();
    let actors: Vec<&str> = plain.clone().map(|(captured, ..)| captured.actor.as_str()).collect();
    let states: Vec<&str> = plain.clone().map(|(_, locked, _)| locked.now.state.as_str()).collect();
    let detail = |(captured, ..): &(&Captured, &Locked, Step)| {
        let Captured { payment, reference, money, .. } = *captured;
        json!({ "payment": payment, "reference": reference, "captured": money.to_string() })
    };
    let details: Vec<Value> = plain.clone().map(detail).collect();
    let moved = tx
        .execute(
            "UPDATE orders SET state = 'paid', held_units = 0, sold_units = s.sold, step_actor = s.actor, step_detail = s.detail,
                updated_at_ms = $5, paid_at_ms = coalesce(paid_at_ms, $5)
             FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::jsonb[], $6::text[]) AS s(id, sold, actor, detail, state)
             WHERE orders.id = ANY($1) AND orders.id = s.id AND orders.state = s.state",
            &[&orders, &sold, &actors, &details, &now_ms, &states],
        )
        .await?;
    if moved != count {
        return Err(moved_on());
    }
    // The deals last, each written once, however many were paid: everybody waits for these rows.
    let told = tx
        .execute(
            "WITH of AS (
                SELECT o.id, o.deal_id, o.account_id, o.lease_number, o.sold_units, s.held FROM orders o
                JOIN unnest($1::uuid[], $2::bigint[]) AS s(id, held) ON s.id = o.id WHERE o.id = ANY($1)),
             locked AS (SELECT id FROM deal WHERE id IN (SELECT deal_id FROM of) ORDER BY id FOR UPDATE),
             moved AS (
                UPDATE deal SET held = deal.held - sums.held, sold = deal.sold + sums.sold
                FROM locked JOIN (SELECT deal_id, sum(held)::bigint AS held, sum(sold_units)::bigint AS sold FROM of GROUP BY deal_id) sums
                    ON sums.deal_id = locked.id
                WHERE deal.id = locked.id RETURNING deal.id, deal.epoch)
             INSERT INTO outbox (kind, order_id, deal_id, account_id, lease_number, quantity, epoch, created_at_ms)
             SELECT 'order_paid', of.id, of.deal_id, of.account_id, of.lease_number, of.sold_units, moved.epoch, $3
             FROM of JOIN moved ON moved.id = of.deal_id ORDER BY of.id",
            &[&orders, &plain.map(|(_, locked, _)| locked.now.held_units).collect::<Vec<i64>>(), &now_ms],
        )
        .await?;
    if told == count { Ok(()) } else { Err(moved_on()) }
}
