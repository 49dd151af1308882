//! `floodgate migrate`: brings the PostgreSQL schema up to date. Running it again does nothing.

use crate::cli::ConfigArgs;
use crate::output;
use crate::settings::{Settings, section};
use ledger::Ledger;
use std::process::ExitCode;

/// Migrates the database of `[postgres]`.
///
/// # Errors
/// When the configuration is wrong, the database does not answer, or a migration fails.
pub async fn run(args: ConfigArgs) -> anyhow::Result<ExitCode> {
    let postgres = section(Settings::load(&args)?.postgres, "postgres")?;
    Ledger::connect(&postgres).await?.migrate().await?;
    output::note("the schema is up to date");
    Ok(ExitCode::SUCCESS)
}
