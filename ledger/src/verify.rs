//! The proof: every sum of the ledger recomputed from its rows. No finding means that stock and money agree.

use crate::pool::text;
use crate::statement::Transaction;
use crate::{Ledger, LedgerError, audit};
use serde::Serialize;

/// One disagreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which rule, e.g. `held_equals_orders`.
    pub check: String,
    /// The row that breaks it, e.g. `deal 0190…`.
    pub subject: String,
    /// The figures.
    pub detail: String,
}

/// The names of all checks.
pub const CHECK_NAMES: [&str; 15] = [
    "never_oversold",
    "held_equals_orders",
    "sold_equals_orders",
    "allowance_equals_orders",
    "pass_serves_one_account",
    "paid_order_has_one_equal_capture",
    "capture_has_paid_order",
    "refunds_equal_money_back",
    "refund_within_capture",
    "refunded_order_has_its_money_back",
    "refunding_order_has_one_open_refund",
    "paying_order_has_live_payment",
    "history_matches_state",
    "history_is_one_line",
    "audit_chain",
];

/// Each query answers `(subject, detail)` for every row that breaks its rule.
const CHECKS: &[(&str, &str)] = &[
    (
        "never_oversold",
        "SELECT 'deal ' || id AS subject, format('stock %s, held %s, sold %s', stock, held, sold) AS detail
         FROM deal WHERE held + sold > stock OR held < 0 OR sold < 0",
    ),
    (
        "held_equals_orders",
        "SELECT 'deal ' || d.id AS subject, format('held %s, orders hold %s', d.held, coalesce(s.n, 0)) AS detail
         FROM deal d LEFT JOIN (SELECT deal_id, sum(held_units)::bigint AS n FROM orders GROUP BY deal_id) s
         ON s.deal_id = d.id WHERE d.held <> coalesce(s.n, 0)",
    ),
    (
        "sold_equals_orders",
        "SELECT 'deal ' || d.id AS subject, format('sold %s, orders bought %s', d.sold, coalesce(s.n, 0)) AS detail
         FROM deal d LEFT JOIN (SELECT deal_id, sum(sold_units)::bigint AS n FROM orders GROUP BY deal_id) s
         ON s.deal_id = d.id WHERE d.sold <> coalesce(s.n, 0)",
    ),
    (
        "allowance_equals_orders",
        "SELECT 'deal ' || coalesce(a.deal_id, s.deal_id) || ' account ' || coalesce(a.account_id, s.account_id) AS subject,
                format('allowance %s, orders %s', coalesce(a.units, 0), coalesce(s.n, 0)) AS detail
         FROM allowance a FULL JOIN (
            SELECT deal_id, account_id, sum(held_units + sold_units)::bigint AS n FROM orders GROUP BY deal_id, account_id) s
         ON s.deal_id = a.deal_id AND s.account_id = a.account_id WHERE coalesce(a.units, 0) <> coalesce(s.n, 0)",
    ),
    (
        "pass_serves_one_account",
        "SELECT 'order ' || o.id AS subject, format('no pass for place %s in the line serves its account', o.lease_number) AS detail
         FROM orders o WHERE NOT EXISTS (SELECT 1 FROM pass_holder h
            WHERE h.deal_id = o.deal_id AND h.lease_number = o.lease_number AND h.account_id = o.account_id)",
    ),
    (
        "paid_order_has_one_equal_capture",
        "SELECT 'order ' || o.id AS subject, format('%s captures of %s %s', count(p.id), o.amount_minor, o.currency) AS detail
         FROM orders o LEFT JOIN payment p ON p.order_id = o.id AND p.state = 'captured' AND p.currency = o.currency
              AND (p.captured_minor = o.amount_minor OR o.state IN ('refunding', 'refunded'))
         WHERE o.state IN ('paid', 'refunding', 'partly_refunded', 'refunded') GROUP BY o.id HAVING count(p.id) <> 1",
    ),
    (
        "capture_has_paid_order",
        "SELECT 'payment ' || p.id AS subject, format('captured, but the order is %s', o.state) AS detail
         FROM payment p JOIN orders o ON o.id = p.order_id WHERE p.state = 'captured'
           AND o.state NOT IN ('paid', 'refunding', 'partly_refunded', 'refunded', 'quarantined')",
    ),
    (
        "refunds_equal_money_back",
        "SELECT 'payment ' || p.id AS subject, format('back %s, on its way %s; refunds done %s, open %s',
                p.refunded_minor, p.refunding_minor, coalesce(r.done, 0), coalesce(r.open, 0)) AS detail
         FROM payment p LEFT JOIN (SELECT payment_id, sum(amount_minor) FILTER (WHERE state = 'done')::bigint AS done,
                sum(amount_minor) FILTER (WHERE state IN ('requested', 'sending', 'unknown'))::bigint AS open
            FROM refund GROUP BY payment_id) r ON r.payment_id = p.id
         WHERE p.refunded_minor <> coalesce(r.done, 0) OR p.refunding_minor <> coalesce(r.open, 0)",
    ),
    (
        "refund_within_capture",
        "SELECT 'payment ' || id AS subject, format('%s back and %s on its way of %s', refunded_minor, refunding_minor, captured_minor) AS detail
         FROM payment WHERE refunded_minor + refunding_minor > captured_minor",
    ),
    (
        "refunded_order_has_its_money_back",
        "SELECT 'order ' || o.id AS subject, format('%s, but %s of %s is back', o.state, p.refunded_minor, p.captured_minor) AS detail
         FROM orders o JOIN payment p ON p.order_id = o.id AND p.state = 'captured'
         WHERE o.reason IS DISTINCT FROM 'settled_by_operator'
           AND (o.state = 'refunded' AND p.refunded_minor <> p.captured_minor
             OR o.state = 'partly_refunded' AND p.refunded_minor NOT BETWEEN 1 AND p.captured_minor - 1
             OR o.state = 'paid' AND p.refunded_minor <> 0)",
    ),
    (
        "refunding_order_has_one_open_refund",
        "SELECT 'order ' || o.id AS subject, format('%s open refunds, order %s', count(r.id), o.state) AS detail
         FROM orders o LEFT JOIN refund r ON r.order_id = o.id AND r.state IN ('requested', 'sending', 'unknown')
         GROUP BY o.id HAVING count(r.id) <> CASE WHEN o.state = 'refunding' THEN 1 ELSE 0 END",
    ),
    (
        "paying_order_has_live_payment",
        "SELECT 'order ' || o.id AS subject, 'paying without a live payment' AS detail FROM orders o
         WHERE o.state = 'paying' AND NOT EXISTS (SELECT 1 FROM payment p WHERE p.order_id = o.id
            AND p.state IN ('requested', 'ready', 'authorized', 'confirming', 'unknown', 'waiting'))",
    ),
    (
        "history_matches_state",
        "SELECT 'order ' || o.id AS subject, format('state %s, last event %s', o.state, e.to_state) AS detail
         FROM orders o LEFT JOIN LATERAL (SELECT to_state FROM order_event WHERE order_id = o.id ORDER BY seq DESC LIMIT 1) e ON true
         WHERE e.to_state IS DISTINCT FROM o.state",
    ),
    (
        "history_is_one_line",
        "SELECT 'order ' || order_id AS subject, format('event %s leaves %s, but the one before it came to %s', seq, from_state, before) AS detail
         FROM (SELECT order_id, seq, from_state, lag(to_state) OVER (PARTITION BY order_id ORDER BY seq) AS before FROM order_event) e
         WHERE from_state IS DISTINCT FROM before",
    ),
];

impl Ledger {
    /// Runs every check on one snapshot of the database.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn verify(&self) -> Result<Vec<Finding>, LedgerError> {
        let mut client = self.client().await?;
        let snapshot = client.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
        let tx = Transaction::from(snapshot.read_only(true).start().await?);
        // All rows are read, however many there are and however long it takes; only the caller knows when to give up.
        tx.batch_execute(
            "SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on;
             SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0",
        )
        .await?;
        let mut findings = Vec::new();
        for (check, sql) in CHECKS {
            for row in tx.query(sql, &[]).await? {
                findings.push(Finding {
                    check: (*check).to_owned(),
                    subject: text(&row, "subject")?,
                    detail: text(&row, "detail")?,
                });
            }
        }
        findings.extend(audit::check(&tx).await?);
        Ok(findings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_named() {
        let names: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).chain(["audit_chain"]).collect();
        assert_eq!(names, CHECK_NAMES);
    }
}
