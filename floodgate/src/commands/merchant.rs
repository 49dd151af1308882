//! `floodgate merchant create`: a merchant and its API key. The key is shown once; the ledger
//! keeps only its SHA-256, which is enough because the key itself is 256 random bits.

use crate::cli::MerchantArgs;
use crate::output;
use crate::settings::{Settings, section};
use anyhow::Context as _;
use base64::Engine as _;
use ledger::Ledger;
use serde::Serialize;
use service_kit::clock;
use service_kit::ids::MerchantId;
use sha2::{Digest as _, Sha256};
use std::process::ExitCode;

/// Longest name, in characters.
const NAME_CHARS_MAX: usize = 120;
/// How much of a key is stored in clear, so that a person can tell keys apart.
const PREFIX_CHARS: usize = 12;

/// A merchant that was just created.
#[derive(Debug, Clone, Serialize)]
pub struct NewMerchant {
    /// Its id.
    pub id: MerchantId,
    /// Its name.
    pub name: String,
    /// `sk_live_` and 43 characters; not stored anywhere.
    pub api_key: String,
}

/// Creates a merchant in the database of the configuration and prints its key.
///
/// # Errors
/// When the configuration or the name is wrong, or the database does not answer.
pub async fn create(args: MerchantArgs) -> anyhow::Result<ExitCode> {
    let postgres = section(Settings::load(&args.config)?.postgres, "postgres")?;
    let merchant = insert(&Ledger::connect(&postgres).await?, &args.name).await?;
    if args.json {
        output::data(&serde_json::to_string(&merchant)?);
    } else {
        output::data(&merchant.api_key);
        output::note(&format!(
            "{} is merchant {}. The key is shown only once: keep it now.",
            merchant.name, merchant.id
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Creates a merchant and a key for it.
///
/// # Errors
/// When the name is empty or too long, or the ledger does not answer.
pub async fn insert(ledger: &Ledger, name: &str) -> anyhow::Result<NewMerchant> {
    let name = name.trim();
    anyhow::ensure!(
        (1..=NAME_CHARS_MAX).contains(&name.chars().count()),
        "--name has 1 to {NAME_CHARS_MAX} characters"
    );
    let id = MerchantId::new();
    let api_key = new_api_key();
    let hash: [u8; 32] = Sha256::digest(api_key.as_bytes()).into();
    let prefix: String = api_key.chars().take(PREFIX_CHARS).collect();
    let now_ms = clock::now_ms();
    ledger.create_merchant(id, name, now_ms).await.context("create the merchant")?;
    ledger.create_api_key(id, &hash, &prefix, now_ms).await.context("create the key")?;
    Ok(NewMerchant { id, name: name.to_owned(), api_key })
}

fn new_api_key() -> String {
    let secret: [u8; 32] = rand::random();
    format!("sk_live_{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_256_bits_and_differ() {
        let (a, b) = (new_api_key(), new_api_key());
        assert_eq!(a.strip_prefix("sk_live_").map(str::len), Some(43));
        assert_ne!(a, b);
    }
}
