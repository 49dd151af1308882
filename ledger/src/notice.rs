//! Notices of payment providers (webhooks). A notice is a hint: it is written down once, and has the payment asked
//! about sooner. It never says what a payment's state is.

use crate::pool::text;
use crate::{Ledger, LedgerError};
use service_kit::ids::{OrderId, PaymentId};

/// How a notice names a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeAbout<'n> {
    /// By our order's id.
    Order(OrderId),
    /// By our payment's id.
    Payment(PaymentId),
    /// By the provider's id of the payment.
    Reference(&'n str),
    /// By nothing that we know.
    Nothing,
}

/// What a notice did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeEffect {
    /// The payment will be asked about.
    Asked,
    /// It came before: no effect.
    Repeated,
    /// No payment of ours: written down, no effect.
    Unknown,
    /// Too many notices about this payment, or about none: not written down, no effect. It may come again.
    TooMany,
}

/// Least time between the last call about a payment and a question that a notice asks for, in ms. A flood of notices
/// causes one question in this time at most.
const QUESTION_GAP_MS: i64 = 1_000;
/// Most notices that are kept about one payment. A provider sends a few dozen with all repetitions; some are unsigned.
const PER_PAYMENT_MAX: i64 = 1_000;
/// Most notices about no payment of ours that are kept in a minute.
const UNKNOWN_PER_MINUTE_MAX: i64 = 600;
/// How long a notice about no payment of ours is kept for a look at it, in ms; that it came before makes no difference.
/// Each new one takes up to two older ones with it, so a day's are the most there are.
const UNKNOWN_KEPT_MS: i64 = 24 * 60 * 60 * 1_000;

/// One statement, so one transaction. Races: of two deliveries at once the second waits for the first one's row and
/// does nothing; a worker's lease is not touched, so a payment that is being settled is only looked at again after
/// that; a refund that is being settled is left alone. A crash leaves all of it or nothing.
///
/// `$1` provider, `$2` event id, `$3` kind, `$4` now, `$5` `$6` `$7` the payment by order, payment, reference.
const CAME: &str = "
WITH named AS MATERIALIZED (
    SELECT id, provider, created_at_ms FROM payment WHERE order_id = $5::uuid
    UNION ALL SELECT id, provider, created_at_ms FROM payment WHERE id = $6::uuid
    UNION ALL SELECT id, provider, created_at_ms FROM payment WHERE provider = $1::text AND provider_ref = $7::text),
found AS (SELECT id FROM named WHERE provider = $1::text ORDER BY created_at_ms DESC, id DESC LIMIT 1),
room AS (
    SELECT CASE WHEN EXISTS (SELECT 1 FROM found)
        THEN (SELECT count(*) FROM (SELECT 1 FROM webhook WHERE payment_id = (SELECT id FROM found) LIMIT $8::bigint) w) < $8::bigint
        ELSE (SELECT count(*) FROM (SELECT 1 FROM webhook WHERE payment_id IS NULL AND received_at_ms > $4::bigint - 60000 LIMIT $9::bigint) w) < $9::bigint
        END AS is_left),
fresh AS (
    INSERT INTO webhook (provider, event_id, payment_id, kind, received_at_ms)
    SELECT $1::text, $2::text, (SELECT id FROM found), $3::text, $4::bigint FROM room WHERE is_left
    ON CONFLICT DO NOTHING RETURNING payment_id),
forgotten AS (
    DELETE FROM webhook WHERE (provider, event_id) IN (
        SELECT provider, event_id FROM webhook
        WHERE payment_id IS NULL AND received_at_ms < $4::bigint - $11::bigint
          AND EXISTS (SELECT 1 FROM fresh WHERE payment_id IS NULL)
        ORDER BY received_at_ms LIMIT 2 FOR UPDATE SKIP LOCKED)),
due AS (
    SELECT f.payment_id, greatest($4::bigint, (SELECT max(a.started_at_ms) + $10::bigint FROM attempt a WHERE a.payment_id = f.payment_id)) AS at_ms
    FROM fresh f WHERE f.payment_id IS NOT NULL),
live AS (
    UPDATE payment p SET next_at_ms = due.at_ms FROM due
    WHERE p.id = due.payment_id AND p.next_at_ms > due.at_ms
      AND p.state IN ('requested', 'ready', 'authorized', 'confirming', 'unknown', 'waiting')
    RETURNING p.id),
ended AS (
    UPDATE payment p SET recheck_at_ms = due.at_ms FROM due
    WHERE p.id = due.payment_id AND (p.recheck_at_ms IS NULL OR p.recheck_at_ms > due.at_ms)
      AND p.state IN ('captured', 'failed', 'cancelled', 'expired')
    RETURNING p.id),
open_refund AS (
    UPDATE refund SET next_at_ms = due.at_ms FROM due
    WHERE refund.id IN (SELECT r.id FROM refund r JOIN due d ON d.payment_id = r.payment_id
                        WHERE r.state = 'unknown' AND r.next_at_ms > d.at_ms FOR UPDATE OF r SKIP LOCKED)
    RETURNING refund.id)
SELECT CASE WHEN EXISTS (SELECT 1 FROM fresh WHERE payment_id IS NOT NULL) THEN 'asked'
            WHEN EXISTS (SELECT 1 FROM fresh) THEN 'unknown'
            WHEN EXISTS (SELECT 1 FROM webhook WHERE provider = $1::text AND event_id = $2::text) THEN 'repeated'
            WHEN (SELECT is_left FROM room) THEN 'repeated'
            ELSE 'too_many' END AS effect,
       (SELECT count(pg_notify('floodgate_payment', '')) FROM (SELECT 1 FROM live UNION ALL SELECT 1 FROM open_refund) w) AS woken";

impl Ledger {
    /// Writes a notice down and has its payment asked about, in one transaction; a repetition has no effect.
    ///
    /// A live payment is due at once; an ended one is compared with the provider again; a refund whose end is not known
    /// is asked about. All of them not sooner than [`QUESTION_GAP_MS`] after the last call about the payment.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn notice_came(
        &self,
        provider: &str,
        event_id: &str,
        kind: &str,
        about: NoticeAbout<'_>,
        now_ms: i64,
    ) -> Result<NoticeEffect, LedgerError> {
        let (mut order, mut payment, mut reference) = (None, None, None);
        match about {
            NoticeAbout::Order(id) => order = Some(id.0),
            NoticeAbout::Payment(id) => payment = Some(id.0),
            NoticeAbout::Reference(text) => reference = Some(text),
            NoticeAbout::Nothing => {}
        }
        let row = self
            .client()
            .await?
            .query_one(
                CAME,
                &[
                    &provider,
                    &event_id,
                    &kind,
                    &now_ms,
                    &order,
                    &payment,
                    &reference,
                    &PER_PAYMENT_MAX,
                    &UNKNOWN_PER_MINUTE_MAX,
                    &QUESTION_GAP_MS,
                    &UNKNOWN_KEPT_MS,
                ],
            )
            .await?;
        match text(&row, "effect")?.as_str() {
            "asked" => Ok(NoticeEffect::Asked),
            "unknown" => Ok(NoticeEffect::Unknown),
            "repeated" => Ok(NoticeEffect::Repeated),
            "too_many" => Ok(NoticeEffect::TooMany),
            other => Err(LedgerError::Shape(format!("effect {other}"))),
        }
    }
}
