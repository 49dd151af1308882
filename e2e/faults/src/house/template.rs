//! What every run begins with, made once: a database with its schema, a merchant and accounts; keys; the clock shim.

use crate::clock_shim::Shim;
use anyhow::Context as _;
use service_kit::clock;
use service_kit::ids::AccountId;
use service_kit::keys::KeyRing;
use service_kit::private_store::{PrivatePostgres, ScratchDir};
use std::path::{Path, PathBuf};
use tokio::process::Command;
use tokio_postgres::NoTls;

/// Shoppers of a run.
pub const SHOPPERS: u32 = 60;

/// The beginning of every run.
#[derive(Debug)]
pub struct Template {
    /// The executable under test.
    pub program: PathBuf,
    /// The signing keys, as in `[keys]`.
    pub ring: String,
    /// The merchant's API key.
    pub api_key: String,
    /// An account per shopper.
    pub accounts: Vec<AccountId>,
    /// The clock shim, or why there is none.
    pub shim: Result<Shim, String>,
    scratch: ScratchDir,
}

impl Template {
    /// Makes it.
    ///
    /// # Errors
    /// When the executable or PostgreSQL does not run.
    pub async fn make(program: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(program.is_file(), "{} is not there: `cargo build --workspace`", program.display());
        let scratch = ScratchDir::new()?;
        let postgres = PrivatePostgres::start(&scratch.path().join("pg")).await?;
        let made = Self::fill(program, &scratch, &postgres.url()).await;
        postgres.stop().await;
        let (ring, api_key, accounts) = made?;
        let shim = Shim::build(scratch.path());
        Ok(Self { program: program.to_owned(), ring, api_key, accounts, shim, scratch })
    }

    async fn fill(program: &Path, scratch: &ScratchDir, url: &str) -> anyhow::Result<(String, String, Vec<AccountId>)> {
        let ring = KeyRing::generate("k1");
        let config = scratch.path().join("template.toml");
        std::fs::write(&config, format!("[keys]\nring = [\"{ring}\"]\n[postgres]\nurl = \"{url}\"\n"))?;
        run(program, &["migrate"], &config).await?;
        let merchant = run(program, &["merchant", "create", "--name", "Fault bench", "--json"], &config).await?;
        let merchant: serde_json::Value = serde_json::from_str(&merchant).context("the new merchant")?;
        let api_key = merchant.get("api_key").and_then(serde_json::Value::as_str).context("its key")?.to_owned();
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let driver = tokio::spawn(connection);
        let accounts: Vec<AccountId> = (0..SHOPPERS).map(|_| AccountId::new()).collect();
        for (n, account) in accounts.iter().enumerate() {
            // Nobody signs in with a password: sessions are signed with the ring.
            let sql =
                "INSERT INTO account (id, email, name, password_hash, created_at_ms) VALUES ($1, $2, $3, '-', $4)";
            let (email, name) = (format!("shopper-{n}@bench.invalid"), format!("Shopper {n}"));
            client.execute(sql, &[&account.0, &email, &name, &clock::now_ms()]).await?;
        }
        drop(client);
        let _ = driver.await;
        Ok((ring, api_key, accounts))
    }

    /// Puts the database into `folder`.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub async fn copy_to(&self, folder: &Path) -> anyhow::Result<()> {
        let copied = Command::new("cp").arg("-a").arg(self.scratch.path().join("pg/data")).arg(folder).status().await?;
        anyhow::ensure!(copied.success(), "the database was not copied");
        Ok(())
    }
}

/// Runs a command of the executable and answers what it prints.
///
/// # Errors
/// When it fails; with what it says.
pub async fn run(program: &Path, args: &[&str], config: &Path) -> anyhow::Result<String> {
    let output = Command::new(program).args(args).arg("--config").arg(config).output().await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(
        output.status.success(),
        "floodgate {}: {}{said}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}
