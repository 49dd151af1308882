//! The audit chain: every step of every order, in one chain of hashes. Whoever changes, moves or takes out a step, in
//! `order_event` or here, breaks the chain at that entry.
//!
//! The steps are written by triggers with the effect itself. One *sealer* puts them into the chain a moment later, so
//! that orders do not wait for each other's place in it; a step that is not sealed after [`SEALED_WITHIN_MS`] is a
//! finding. Two sealers: the second finds the advisory lock taken and leaves. Killed before its commit: nothing
//! happened.

use crate::pool::{id, int, opt_text, text};
use crate::statement::Transaction;
use crate::{Finding, Ledger, LedgerError};
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use service_kit::chain::{Entry, Tail};
use service_kit::ids::OrderId;
use std::pin::pin;
use tokio_postgres::Row;

/// Steps of one sealing.
pub const SEAL_MAX: i64 = 1_000;
/// How long a step may stand outside the chain before that is a finding, in ms.
pub const SEALED_WITHIN_MS: i64 = 60_000;
/// Findings of the chain that are listed; one is enough to know that it is broken, and where.
const FINDINGS_MAX: usize = 20;

/// What an entry says: the step, field by field.
fn body(event: &Row) -> Result<Value, LedgerError> {
    Ok(json!({
        "order": OrderId(id(event, "order_id")?),
        "event": int(event, "seq")?,
        "from": opt_text(event, "from_state")?,
        "to": text(event, "to_state")?,
        "reason": opt_text(event, "reason")?,
        "at_ms": int(event, "at_ms")?,
        "actor": text(event, "actor")?,
        "detail": event.try_get::<_, Option<Value>>("detail").map_err(|e| LedgerError::Shape(e.to_string()))?,
    }))
}

async fn tail(tx: &Transaction<'_>) -> Result<Tail, LedgerError> {
    let row = tx.query_opt("SELECT line FROM audit ORDER BY seq DESC LIMIT 1", &[]).await?;
    let Some(row) = row else { return Ok(Tail::default()) };
    let entry = Entry::read(&text(&row, "line")?).map_err(|fault| LedgerError::Refused(format!("audit: {fault}")))?;
    Ok(entry.tail())
}

impl Ledger {
    /// Puts up to [`SEAL_MAX`] steps into the chain; answers how many. 0 also when another process seals just now.
    ///
    /// # Errors
    /// See [`LedgerError`]; [`LedgerError::Refused`] when the end of the chain was tampered with.
    pub async fn seal(&self) -> Result<i64, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        if !tx.query_one("SELECT pg_try_advisory_xact_lock(4602)", &[]).await?.get::<_, bool>(0) {
            return Ok(0);
        }
        if service_kit::planted!("step-left-out-of-the-chain") {
            let first = "seq = (SELECT min(seq) FROM order_event WHERE NOT sealed)";
            tx.execute(&format!("UPDATE order_event SET sealed = true WHERE {first}"), &[]).await?;
        }
        let events = tx.query("SELECT * FROM order_event WHERE NOT sealed ORDER BY seq LIMIT $1", &[&SEAL_MAX]).await?;
        if events.is_empty() {
            return Ok(0);
        }
        let mut tail = tail(&tx).await?;
        let (mut seqs, mut orders, mut ids, mut lines) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for event in &events {
            lines.push(tail.append(&body(event)?).map_err(|e| LedgerError::Shape(e.to_string()))?);
            seqs.push(i64::try_from(tail.seq).unwrap_or(i64::MAX));
            orders.push(id(event, "order_id")?);
            ids.push(int(event, "seq")?);
        }
        tx.execute(
            "INSERT INTO audit (seq, order_id, event, line) SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::text[])",
            &[&seqs, &orders, &ids, &lines],
        )
        .await?;
        tx.execute("UPDATE order_event SET sealed = true WHERE NOT sealed AND seq = ANY($1)", &[&ids]).await?;
        tx.commit().await?;
        Ok(i64::try_from(events.len()).unwrap_or(i64::MAX))
    }

    /// The end of the chain: note it elsewhere, and later nobody can have written the whole chain anew unseen.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn audit_tail(&self) -> Result<Tail, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        tail(&tx).await
    }
}

/// Walks the whole chain beside the steps it is about; names the first entries that are wrong.
pub(crate) async fn check(tx: &Transaction<'_>) -> Result<Vec<Finding>, LedgerError> {
    let mut findings = Vec::new();
    let mut find = |subject: String, detail: String| {
        findings.push(Finding { check: "audit_chain".to_owned(), subject, detail });
        findings.len() < FINDINGS_MAX
    };
    let no_params: [i64; 0] = [];
    let rows = tx
        .query_raw(
            "SELECT a.seq AS place, a.order_id AS named, a.event, a.line, e.* FROM audit a
             LEFT JOIN order_event e ON e.seq = a.event AND e.order_id = a.order_id ORDER BY a.seq",
            no_params,
        )
        .await?;
    let mut rows = pin!(rows);
    let mut end = Tail::default();
    while let Some(row) = rows.try_next().await? {
        let subject = format!("entry {} (order {})", int(&row, "place")?, id(&row, "named")?);
        let fault = match Entry::read(&text(&row, "line")?) {
            Err(fault) => Some(fault.to_string()),
            Ok(entry) => {
                let follows = entry.follows(&end);
                end = entry.tail();
                if !follows {
                    Some("another entry stood before it: something was taken out, put in or moved".to_owned())
                } else if row.try_get::<_, Option<i64>>("seq").ok().flatten().is_none() {
                    Some("the step that it is about is gone".to_owned())
                } else if !says(&entry, &body(&row)?) {
                    Some("the step was changed after it was sealed".to_owned())
                } else {
                    None
                }
            }
        };
        if let Some(fault) = fault
            && !find(subject, fault)
        {
            return Ok(findings);
        }
    }
    let left_out = tx
        .query_opt(
            "SELECT order_id, seq FROM order_event e WHERE sealed AND NOT EXISTS (SELECT 1 FROM audit a WHERE a.event = e.seq)
             ORDER BY seq LIMIT 1",
            &[],
        )
        .await?;
    if let Some(row) = left_out
        && !find(
            format!("order {}", id(&row, "order_id")?),
            format!("step {} counts as sealed and is not part of the chain: it was left out", int(&row, "seq")?),
        )
    {
        return Ok(findings);
    }
    let late = tx
        .query_opt(
            "SELECT order_id, seq FROM order_event WHERE NOT sealed
                AND at_ms < (extract(epoch FROM now()) * 1000)::bigint - $1 ORDER BY seq LIMIT 1",
            &[&SEALED_WITHIN_MS],
        )
        .await?;
    if let Some(row) = late {
        let subject = format!("order {}", id(&row, "order_id")?);
        find(subject, format!("step {} is not part of the chain: is deal-service running?", int(&row, "seq")?));
    }
    Ok(findings)
}

/// Whether an entry says all that `body` says.
fn says(entry: &Entry, body: &Value) -> bool {
    body.as_object().is_some_and(|fields| fields.iter().all(|(name, value)| entry.value.get(name) == Some(value)))
}
