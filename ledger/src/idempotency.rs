//! The same answer to the same request: stored with the effect, in one transaction.

use crate::LedgerError;
use crate::statement::Transaction;
use tokio_postgres::Row;

/// The caller's name for one request.
#[derive(Debug, Clone)]
pub struct Idem {
    /// Whose key it is, e.g. `account:<id>`; two people may use the same key.
    pub actor: String,
    /// The `Idempotency-Key` header.
    pub key: String,
    /// SHA-256 over method, path and body: the same key must mean the same request.
    pub fingerprint: [u8; 32],
}

/// An answer as it was sent, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// HTTP status.
    pub status: u16,
    /// Body bytes.
    pub body: Vec<u8>,
}

/// What came of a request with an idempotency key. `R` says why it was refused; a refusal is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay<R> {
    /// Done now; the answer is stored.
    Fresh(Saved),
    /// Done before; the stored answer.
    Replayed(Saved),
    /// The key was used for a different request. Nothing was done.
    KeyReused,
    /// Refused. Nothing was done.
    Refused(R),
}

/// Reserves a key (actor, key, fingerprint, now) inside the transaction; a row when it is new. A twin that runs at the same
/// moment waits here for our commit.
pub(crate) const RESERVE: &str = "INSERT INTO idempotency (actor, key, fingerprint, status, body, created_at_ms)
    VALUES ($1, $2, $3, 0, '', $4) ON CONFLICT (actor, key) DO NOTHING RETURNING 1";

/// Looks the key up and, when it is new, reserves it inside the transaction: a twin that runs at
/// the same moment waits here for our commit and then finds the stored answer.
pub(crate) async fn find<R>(tx: &Transaction<'_>, idem: &Idem, now_ms: i64) -> Result<Option<Replay<R>>, LedgerError> {
    let reserved = tx.query(RESERVE, &[&idem.actor, &idem.key, &idem.fingerprint.as_slice(), &now_ms]).await?;
    answered(tx, idem, &reserved).await
}

/// What a key that was not new answers; `reserved` are the rows of [`RESERVE`].
pub(crate) async fn answered<R>(
    tx: &Transaction<'_>,
    idem: &Idem,
    reserved: &[Row],
) -> Result<Option<Replay<R>>, LedgerError> {
    if !reserved.is_empty() || service_kit::planted!("key-is-ignored") {
        return Ok(None);
    }
    let row = tx
        .query_one(
            "SELECT fingerprint, status, body FROM idempotency WHERE actor = $1 AND key = $2",
            &[&idem.actor, &idem.key],
        )
        .await?;
    let fingerprint: &[u8] = row.get(0);
    if fingerprint != idem.fingerprint {
        return Ok(Some(Replay::KeyReused));
    }
    let status: i32 = row.get(1);
    Ok(Some(Replay::Replayed(Saved { status: u16::try_from(status).unwrap_or(500), body: row.get(2) })))
}

/// Stores the answer under the reserved key.
pub(crate) async fn save(tx: &Transaction<'_>, idem: &Idem, saved: &Saved) -> Result<(), LedgerError> {
    tx.execute(
        "UPDATE idempotency SET status = $3, body = $4 WHERE actor = $1 AND key = $2",
        &[&idem.actor, &idem.key, &i32::from(saved.status), &saved.body],
    )
    .await?;
    Ok(())
}
