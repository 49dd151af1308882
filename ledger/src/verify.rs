//! The proof: every sum of the ledger recomputed from its rows. No finding means that stock and money agree.

use crate::pool::text;
use crate::{Ledger, LedgerError};
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
         FROM deal d LEFT JOIN (SELECT deal_id, sum(quantity)::bigint AS n FROM orders WHERE state IN ('held', 'paying') GROUP BY deal_id) s
         ON s.deal_id = d.id WHERE d.held <> coalesce(s.n, 0)",
    ),
    (
        "sold_equals_orders",
        "SELECT 'deal ' || d.id AS subject, format('sold %s, orders bought %s', d.sold, coalesce(s.n, 0)) AS detail
         FROM deal d LEFT JOIN (SELECT deal_id, sum(quantity)::bigint AS n FROM orders WHERE state IN ('paid', 'refunding') GROUP BY deal_id) s
         ON s.deal_id = d.id WHERE d.sold <> coalesce(s.n, 0)",
    ),
    (
        "allowance_equals_orders",
        "SELECT 'deal ' || coalesce(a.deal_id, s.deal_id) || ' account ' || coalesce(a.account_id, s.account_id) AS subject,
                format('allowance %s, orders %s', coalesce(a.units, 0), coalesce(s.n, 0)) AS detail
         FROM allowance a FULL JOIN (
            SELECT deal_id, account_id, sum(quantity)::bigint AS n FROM orders
            WHERE state IN ('held', 'paying', 'paid', 'refunding') GROUP BY deal_id, account_id) s
         ON s.deal_id = a.deal_id AND s.account_id = a.account_id WHERE coalesce(a.units, 0) <> coalesce(s.n, 0)",
    ),
    (
        "paid_order_has_one_equal_capture",
        "SELECT 'order ' || o.id AS subject, format('%s captures of %s %s', count(p.id), o.amount_minor, o.currency) AS detail
         FROM orders o LEFT JOIN payment p ON p.order_id = o.id AND p.state = 'captured'
              AND p.amount_minor = o.amount_minor AND p.currency = o.currency
         WHERE o.state IN ('paid', 'refunding', 'refunded') GROUP BY o.id HAVING count(p.id) <> 1",
    ),
    (
        "capture_has_paid_order",
        "SELECT 'payment ' || p.id AS subject, format('captured, but the order is %s', o.state) AS detail
         FROM payment p JOIN orders o ON o.id = p.order_id
         WHERE p.state = 'captured' AND o.state NOT IN ('paid', 'refunding', 'refunded')",
    ),
    (
        "refunded_order_has_one_refund",
        "SELECT 'order ' || o.id AS subject, format('%s refunds done, order %s', count(r.id), o.state) AS detail
         FROM orders o LEFT JOIN refund r ON r.order_id = o.id AND r.state = 'done'
         GROUP BY o.id HAVING count(r.id) <> CASE WHEN o.state = 'refunded' THEN 1 ELSE 0 END",
    ),
    (
        "refund_within_capture",
        "SELECT 'refund ' || r.id AS subject, format('%s of %s', r.amount_minor, p.amount_minor) AS detail
         FROM refund r JOIN payment p ON p.id = r.payment_id WHERE r.amount_minor > p.amount_minor OR r.currency <> p.currency",
    ),
    (
        "paying_order_has_live_payment",
        "SELECT 'order ' || o.id AS subject, 'paying without a live payment' AS detail FROM orders o
         WHERE o.state = 'paying' AND NOT EXISTS (SELECT 1 FROM payment p WHERE p.order_id = o.id
            AND p.state IN ('requested', 'ready', 'authorized', 'confirming', 'unknown'))",
    ),
    (
        "history_matches_state",
        "SELECT 'order ' || o.id AS subject, format('state %s, last event %s', o.state, e.to_state) AS detail
         FROM orders o LEFT JOIN LATERAL (SELECT to_state FROM order_event WHERE order_id = o.id ORDER BY seq DESC LIMIT 1) e ON true
         WHERE e.to_state IS DISTINCT FROM o.state",
    ),
];

impl Ledger {
    /// Runs every check on one snapshot of the database.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn verify(&self) -> Result<Vec<Finding>, LedgerError> {
        let mut client = self.client().await?;
        let tx = client
            .build_transaction()
            .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let mut findings = Vec::new();
        for (check, sql) in CHECKS {
            for row in tx.query(*sql, &[]).await? {
                findings.push(Finding {
                    check: (*check).to_owned(),
                    subject: text(&row, "subject")?,
                    detail: text(&row, "detail")?,
                });
            }
        }
        Ok(findings)
    }
}
