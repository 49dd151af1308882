//! Where our books and a provider's differ: found by the reconciliation, repaired by the worker or settled by an
//! operator. One open row per provider, class and payment; finding it again changes nothing.

use crate::pool::{id, int, opt_text, text};
use crate::{Ledger, LedgerError};
use serde::Serialize;
use service_kit::ids::PaymentId;

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscrepancyClass {
    /// We have a capture that the provider does not list.
    OursOnly,
    /// The provider has money that we know no payment for.
    TheirsOnly,
    /// Captured or refunded sums differ.
    Amount,
    /// One has ended and the other has not, or otherwise.
    State,
}

impl DiscrepancyClass {
    /// All classes.
    pub const ALL: [Self; 4] = [Self::OursOnly, Self::TheirsOnly, Self::Amount, Self::State];
    /// The word in SQL and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OursOnly => "ours_only",
            Self::TheirsOnly => "theirs_only",
            Self::Amount => "amount",
            Self::State => "state",
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Discrepancy {
    /// Id.
    pub id: uuid::Uuid,
    /// Which provider.
    pub provider: String,
    /// Word of [`DiscrepancyClass`].
    pub class: String,
    /// The provider's id of the payment, or ours when it has none.
    pub reference: String,
    /// Our payment, if there is one.
    pub payment: Option<PaymentId>,
    /// The figures.
    pub detail: String,
    /// When it was found, in ms.
    pub found_at_ms: i64,
}

/// A payment as our books have it, for the comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the columns")]
pub struct Booked {
    pub payment: PaymentId,
    pub order: uuid::Uuid,
    pub provider_ref: Option<String>,
    pub approval_code: Option<String>,
    pub state: String,
    pub captured_minor: i64,
    pub refunded_minor: i64,
    pub refunding_minor: i64,
    pub currency: String,
    pub updated_at_ms: i64,
}

/// What an entry of a provider's list says which payment it is about.
#[derive(Debug, Clone, Copy)]
pub struct ListedAs<'n> {
    /// Our payment's id.
    pub payment: Option<uuid::Uuid>,
    /// Our order's id.
    pub order: Option<uuid::Uuid>,
    /// The provider's id of the payment, or of the shopper's approval.
    pub reference: &'n str,
}

impl Ledger {
    /// Writes a difference down; answers whether it is new.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn found_discrepancy(
        &self,
        provider: &str,
        class: DiscrepancyClass,
        reference: &str,
        payment: Option<PaymentId>,
        detail: &str,
        now_ms: i64,
    ) -> Result<bool, LedgerError> {
        let written = self
            .client()
            .await?
            .execute(
                "INSERT INTO discrepancy (id, provider, class, reference, payment_id, detail, state, found_at_ms)
                 VALUES ($1, $2, $3, $4, $5, left($6, 1000), 'open', $7)
                 ON CONFLICT (provider, class, reference) WHERE state = 'open' DO NOTHING",
                &[
                    &uuid::Uuid::now_v7(),
                    &provider,
                    &class.as_str(),
                    &reference,
                    &payment.map(|p| p.0),
                    &detail,
                    &now_ms,
                ],
            )
            .await?;
        Ok(written == 1)
    }

    /// Open differences, oldest first.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn open_discrepancies(&self, limit: i64) -> Result<Vec<Discrepancy>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query("SELECT * FROM discrepancy WHERE state = 'open' ORDER BY found_at_ms, id LIMIT $1", &[&limit])
            .await?;
        rows.iter()
            .map(|row| {
                let payment: Option<uuid::Uuid> = row.get("payment_id");
                Ok(Discrepancy {
                    id: id(row, "id")?,
                    provider: text(row, "provider")?,
                    class: text(row, "class")?,
                    reference: text(row, "reference")?,
                    payment: payment.map(PaymentId),
                    detail: text(row, "detail")?,
                    found_at_ms: int(row, "found_at_ms")?,
                })
            })
            .collect()
    }

    /// Closes a difference: `repaired` when both sides agree again, `dismissed` when an operator says so. `false` when
    /// it is not open.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn close_discrepancy(
        &self,
        discrepancy: uuid::Uuid,
        repaired: bool,
        who: &str,
        now_ms: i64,
    ) -> Result<bool, LedgerError> {
        let state = if repaired { "repaired" } else { "dismissed" };
        let closed = self
            .client()
            .await?
            .execute(
                "UPDATE discrepancy SET state = $2, resolved_at_ms = $3, resolved_by = $4 WHERE id = $1 AND state = 'open'",
                &[&discrepancy, &state, &now_ms, &who],
            )
            .await?;
        Ok(closed == 1)
    }

    /// Payments of a provider that have a session and moved since `since_ms`, for the comparison, in the order in which they
    /// moved. `after` is the last one of the page before; what moves meanwhile comes later, perhaps again.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn booked(
        &self,
        provider: &str,
        since_ms: i64,
        after: Option<&Booked>,
        limit: i64,
    ) -> Result<Vec<Booked>, LedgerError> {
        let (moved_ms, id) = after.map_or((since_ms, uuid::Uuid::nil()), |b| (b.updated_at_ms, b.payment.0));
        let rows = self
            .client()
            .await?
            .query(
                "SELECT * FROM payment WHERE provider = $1 AND (updated_at_ms, id) > ($2, $3) AND coalesce(provider_ref, '') <> ''
                 ORDER BY updated_at_ms, id LIMIT $4",
                &[&provider, &moved_ms, &id, &limit],
            )
            .await?;
        rows.iter().map(booked_row).collect()
    }

    /// The payments that entries of a provider's list are about, in their order; `None` where it is none of ours. One round
    /// trip, whatever their number.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn booked_as(&self, provider: &str, named: &[ListedAs<'_>]) -> Result<Vec<Option<Booked>>, LedgerError> {
        let payments: Vec<_> = named.iter().map(|entry| entry.payment).collect();
        let orders: Vec<_> = named.iter().map(|entry| entry.order).collect();
        let references: Vec<&str> = named.iter().map(|entry| entry.reference).collect();
        let rows = self
            .client()
            .await?
            .query(
                "SELECT e.n, p.* FROM unnest($2::uuid[], $3::uuid[], $4::text[]) WITH ORDINALITY AS e(payment, in_order, reference, n),
                 LATERAL (
                    SELECT * FROM (
                        SELECT * FROM payment WHERE id = e.payment
                        UNION ALL SELECT * FROM payment WHERE order_id = e.in_order
                        UNION ALL SELECT * FROM payment WHERE provider_ref = e.reference
                        UNION ALL SELECT * FROM payment WHERE approval_code = e.reference) named
                    WHERE provider = $1 ORDER BY created_at_ms DESC LIMIT 1) p",
                &[&provider, &payments, &orders, &references],
            )
            .await?;
        let mut booked = vec![None; named.len()];
        for row in &rows {
            let index = usize::try_from(int(row, "n")? - 1).map_err(|e| LedgerError::Shape(e.to_string()))?;
            let slot = booked.get_mut(index).ok_or_else(|| LedgerError::Shape("an entry that was not asked".into()))?;
            *slot = Some(booked_row(row)?);
        }
        Ok(booked)
    }

    /// Has up to `limit` payments of a provider compared with it again that have moved since `since_ms` and since they were
    /// last compared, those first that have waited longest; what moved within the last 10 s is left for later. Answers how
    /// many.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn recheck_moved(
        &self,
        provider: &str,
        since_ms: i64,
        limit: i64,
        now_ms: i64,
    ) -> Result<u64, LedgerError> {
        let moved = self
            .client()
            .await?
            .execute(
                "UPDATE payment SET recheck_at_ms = $4, compared_at_ms = $4
                 WHERE id = ANY(ARRAY(
                    SELECT id FROM payment
                    WHERE updated_at_ms >= $2 AND updated_at_ms < $4::bigint - 10000 AND compared_at_ms <= updated_at_ms
                      AND provider = $1 AND coalesce(provider_ref, '') <> '' AND refunding_minor = 0 AND recheck_at_ms IS NULL
                      AND state IN ('captured', 'failed', 'cancelled', 'expired')
                    ORDER BY updated_at_ms, id LIMIT $3 FOR UPDATE SKIP LOCKED))",
                &[&provider, &since_ms, &limit, &now_ms],
            )
            .await?;
        Ok(moved)
    }

    /// Has up to `limit` of these payments compared with their provider by a look of the worker's own, each once since it moved
    /// and once since `since_ms`, however often this is said; what moved within the last 10 s is left for later. Answers how
    /// many.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn recheck_once(
        &self,
        payments: &[PaymentId],
        since_ms: i64,
        limit: i64,
        now_ms: i64,
    ) -> Result<u64, LedgerError> {
        let ids: Vec<_> = payments.iter().map(|payment| payment.0).collect();
        let moved = self
            .client()
            .await?
            .execute(
                // The time as a sum, which no index has: these are found by their keys.
                "UPDATE payment SET recheck_at_ms = $4, compared_at_ms = $4
                 WHERE id = ANY(ARRAY(
                    SELECT id FROM payment
                    WHERE id = ANY($1) AND compared_at_ms <= greatest(updated_at_ms, $2::bigint)
                      AND updated_at_ms + 10000 < $4::bigint AND refunding_minor = 0 AND recheck_at_ms IS NULL
                      AND state IN ('captured', 'failed', 'cancelled', 'expired')
                    ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED))",
                &[&ids, &since_ms, &limit, &now_ms],
            )
            .await?;
        Ok(moved)
    }
}

fn booked_row(row: &tokio_postgres::Row) -> Result<Booked, LedgerError> {
    Ok(Booked {
        payment: PaymentId(id(row, "id")?),
        order: id(row, "order_id")?,
        provider_ref: opt_text(row, "provider_ref")?,
        approval_code: opt_text(row, "approval_code")?,
        state: text(row, "state")?,
        captured_minor: int(row, "captured_minor")?,
        refunded_minor: int(row, "refunded_minor")?,
        refunding_minor: int(row, "refunding_minor")?,
        currency: text(row, "currency")?,
        updated_at_ms: int(row, "updated_at_ms")?,
    })
}
