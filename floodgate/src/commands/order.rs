//! `floodgate order ORDER`: the whole story of one order, in order, with every hand that touched it.

use crate::cli::ConfigArgs;
use crate::output;
use crate::settings::{Settings, section};
use clap::Args;
use ledger::Ledger;
use service_kit::ids::OrderId;
use std::process::ExitCode;
use time::OffsetDateTime;
use time::macros::format_description;

/// Options of `order`.
#[derive(Debug, Args)]
pub struct OrderArgs {
    /// Configuration file and where to look without one.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The order's id
    pub order: OrderId,
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
}

/// Prints the story.
///
/// # Errors
/// When the configuration is wrong, the ledger does not answer, or there is no such order.
pub async fn run(args: OrderArgs) -> anyhow::Result<ExitCode> {
    let ledger = Ledger::connect(&section(Settings::load(&args.config)?.postgres, "postgres")?).await?;
    let story = ledger.story(args.order).await?;
    anyhow::ensure!(!story.is_empty(), "there is no order {}", args.order);
    if args.json {
        output::data(&serde_json::to_string(&story)?);
        return Ok(ExitCode::SUCCESS);
    }
    for line in story {
        let detail = line.detail.map(|detail| format!("  {detail}")).unwrap_or_default();
        output::data(&format!("{}  {:<14} {:<8} {}{detail}", at(line.at_ms), line.who, line.kind, line.what));
    }
    Ok(ExitCode::SUCCESS)
}

/// UTC with milliseconds.
fn at(ms: i64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|moment| moment.format(&format).ok())
        .unwrap_or_else(|| ms.to_string())
}
