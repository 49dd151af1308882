//! `floodgate rebuild`: fills the fast stock in Redis anew from the ledger, deal by deal, and proves that both agree.
//!
//! Each filling raises the deal's epoch: what was held from the old stock and is not in the ledger is refused there.
//! The sale of that deal pauses for the moments of the filling. Safe to run at any time, and to repeat.

use crate::cli::ConfigArgs;
use crate::commands::verify;
use crate::output;
use crate::settings::{Settings, section};
use anyhow::Context as _;
use clap::Args;
use deal_service::fast_stock::fill::Filled;
use deal_service::fast_stock::{Audit, FastStock};
use ledger::{Deal, Ledger};
use serde::Serialize;
use service_kit::clock::now_ms;
use service_kit::ids::{DealId, RoomId, VisitorId};
use service_kit::redis::Redis;
use std::process::ExitCode;

/// Deals that ended longer ago than this have no fast stock any more, in ms.
const ENDED_MS: i64 = 3_600_000;
/// Deals that are read from the ledger at once.
const PAGE_DEALS: i64 = 1_000;

/// Options of `rebuild`.
#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// Configuration file and where to look without one.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Only this deal [default: all that are on sale]
    #[arg(long, value_name = "ID")]
    pub deal: Option<DealId>,
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Serialize)]
struct Rebuilt {
    deal: DealId,
    epoch: Option<i64>,
    stock: i64,
    held: i64,
    sold: i64,
    agrees: bool,
}

/// Rebuilds and proves.
///
/// # Errors
/// When the configuration is wrong or a store does not answer. What was rebuilt until then is good.
pub async fn run(args: RebuildArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(&args.config)?;
    let ledger = Ledger::connect(&section(settings.postgres, "postgres")?).await?;
    let redis = Redis::connect(&section(settings.redis, "redis")?).await?;
    let fast = FastStock::new(redis.clone());
    let deals = match args.deal {
        Some(id) => vec![ledger.deal(id).await?.with_context(|| format!("there is no deal {id}"))?],
        None => ledger.open_deals(now_ms(), ENDED_MS, PAGE_DEALS).await?,
    };
    let mut all_agree = true;
    let mut rebuilt = Vec::new();
    for (n, deal) in deals.iter().enumerate() {
        if output::may_rewrite() && !args.json {
            output::status(&format!("rebuilding deal {} of {}", n + 1, deals.len()));
        }
        let result = rebuild(&ledger, &redis, &fast, deal).await?;
        all_agree &= result.agrees;
        rebuilt.push(result);
    }
    if args.json {
        output::data(&serde_json::to_string(&rebuilt)?);
    } else {
        output::note("");
        for r in &rebuilt {
            let (epoch, proof) = (
                r.epoch.map_or_else(|| "filled elsewhere".to_owned(), |epoch| format!("epoch {epoch}")),
                if r.agrees { "Redis agrees with the ledger" } else { "Redis does NOT agree: see floodgate verify" },
            );
            output::data(&format!(
                "deal {}: {epoch}, stock {}, held {}, sold {}: {proof}",
                r.deal, r.stock, r.held, r.sold
            ));
        }
        if rebuilt.is_empty() {
            output::data("no deal is on sale: nothing to rebuild");
        }
    }
    Ok(if all_agree { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn rebuild(ledger: &Ledger, redis: &Redis, fast: &FastStock, deal: &Deal) -> anyhow::Result<Rebuilt> {
    let room = RoomId::of_deal(deal.id);
    let seen = match fast.audit(&room).await? {
        Audit::Loaded { totals, .. } => Some(totals.epoch),
        Audit::Absent | Audit::Loading => None,
    };
    let filled = fast.fill(ledger, deal.id, seen, VisitorId::new().as_str()).await?;
    let epoch = match filled {
        Filled::Loaded { epoch, .. } => Some(epoch),
        Filled::Elsewhere | Filled::NoDeal => None,
    };
    let finding = verify::compare(ledger, redis, deal).await?;
    let now = ledger.deal(deal.id).await?.unwrap_or_else(|| deal.clone());
    Ok(Rebuilt { deal: deal.id, epoch, stock: now.stock, held: now.held, sold: now.sold, agrees: finding.is_none() })
}
