//! Merchants and their API keys. Only hashes of keys are stored.

use crate::pool::{id, text};
use crate::{Ledger, LedgerError};
use service_kit::ids::MerchantId;

/// A merchant.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the columns")]
pub struct Merchant {
    pub id: MerchantId,
    pub name: String,
}

impl Ledger {
    /// Makes a merchant.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn create_merchant(&self, merchant: MerchantId, name: &str, now_ms: i64) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "INSERT INTO merchant (id, name, created_at_ms) VALUES ($1, $2, $3)",
                &[&merchant.0, &name, &now_ms],
            )
            .await?;
        Ok(())
    }

    /// Adds an API key by its SHA-256. `prefix` is what people recognise it by, e.g. `sk_live_ab12`.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn create_api_key(
        &self,
        merchant: MerchantId,
        hash: &[u8; 32],
        prefix: &str,
        now_ms: i64,
    ) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "INSERT INTO api_key (hash, merchant_id, prefix, created_at_ms) VALUES ($1, $2, $3, $4)",
                &[&hash.as_slice(), &merchant.0, &prefix, &now_ms],
            )
            .await?;
        Ok(())
    }

    /// The merchant whose key has this SHA-256 and is not revoked.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn merchant_by_key_hash(&self, hash: &[u8; 32]) -> Result<Option<Merchant>, LedgerError> {
        let row = self
            .client()
            .await?
            .query_opt(
                "SELECT m.id, m.name FROM api_key k JOIN merchant m ON m.id = k.merchant_id
                 WHERE k.hash = $1 AND k.revoked_at_ms IS NULL",
                &[&hash.as_slice()],
            )
            .await?;
        row.map(|r| Ok(Merchant { id: MerchantId(id(&r, "id")?), name: text(&r, "name")? })).transpose()
    }
}
