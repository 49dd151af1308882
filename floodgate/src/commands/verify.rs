//! `floodgate verify`: every sum of the ledger recomputed, the fast stock in Redis compared with it, and on request the
//! books of the payment providers. Reads only.
//!
//! Redis follows the ledger through the outbox, so during a sale the two differ for moments. A
//! difference counts only when the ledger stood still around the reading and the difference is
//! still there after several looks.

use crate::cli::VerifyArgs;
use crate::output;
use crate::settings::{Settings, section};
use anyhow::Context as _;
use ledger::{Deal, Finding, Ledger};
use queue::keys::RoomKeys;
use service_kit::clock::now_ms;
use service_kit::ids::RoomId;
use service_kit::redis::{Redis, Reply};
use std::process::ExitCode;
use std::time::Duration;

/// How often Redis is compared before a difference is believed.
const LOOKS: u32 = 20;
/// Between two looks.
const LOOK_MS: u64 = 250;
/// Deals read per page.
const PAGE: i64 = 100;

/// Runs all checks and prints the findings.
///
/// # Errors
/// When the configuration is wrong or a store does not answer.
pub async fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(&args.config)?;
    let ledger = Ledger::connect(&section(settings.postgres, "postgres")?).await?;
    let redis = match &settings.redis {
        Some(config) => Some(Redis::connect(config).await?),
        None => None,
    };
    let mut findings = audit(&ledger, redis.as_ref()).await?;
    let providers = match args.providers {
        true => Some(books(&ledger, &section(settings.payment_adapter, "payment_adapter")?, args.hours).await?),
        false => None,
    };
    findings.extend(providers.iter().flat_map(books_findings));
    if args.json {
        let providers = providers.map(|p| serde_json::json!({ "agreed": p.agreed, "unread": p.unread }));
        let document = serde_json::json!({
            "clean": findings.is_empty(), "redis_compared": redis.is_some(), "providers": providers, "findings": findings,
        });
        output::data(&document.to_string());
    } else if findings.is_empty() {
        let redis = if redis.is_some() { ", and so does Redis" } else { " (no [redis] to compare)" };
        let books =
            providers.map_or_else(String::new, |p| format!("; {} payments are the same at the providers", p.agreed));
        output::data(&format!("clean: the ledger's sums agree{redis}{books}"));
    } else {
        for Finding { check, subject, detail } in &findings {
            output::data(&format!("{check}: {subject}: {detail}"));
        }
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares with the providers' books.
async fn books(
    ledger: &Ledger,
    config: &payment_adapter::Config,
    hours: u32,
) -> anyhow::Result<payment_adapter::Proof> {
    config.validate()?;
    let now_ms = now_ms();
    let from_ms = now_ms.saturating_sub(i64::from(hours) * 3_600_000);
    output::status("asking the payment providers");
    Ok(payment_adapter::prove(ledger, &config.accounts()?, from_ms, now_ms).await?)
}

/// A provider that was not read to its end is a finding: nothing is proved about the rest.
fn books_findings(proof: &payment_adapter::Proof) -> Vec<Finding> {
    let differ = proof.differences.iter().map(|d| Finding {
        check: format!("provider_books_{}", d.class.as_str()),
        subject: d.payment.map_or_else(|| format!("{} {}", d.provider, d.reference), |p| format!("payment {p}")),
        detail: format!("{} {}: {}", d.provider, d.reference, d.detail),
    });
    let unread = proof.unread.iter().map(|provider| Finding {
        check: "provider_books_unread".to_owned(),
        subject: (*provider).to_owned(),
        detail: "the provider did not answer for all of it: run it again".to_owned(),
    });
    differ.chain(unread).collect()
}

/// All findings: the ledger's own, and where Redis disagrees with it.
///
/// # Errors
/// When a store does not answer.
pub async fn audit(ledger: &Ledger, redis: Option<&Redis>) -> anyhow::Result<Vec<Finding>> {
    let mut findings = ledger.verify().await.context("check the ledger")?;
    if let Some(redis) = redis {
        let mut after = None;
        loop {
            let page = ledger.list_deals(after, PAGE).await?;
            for deal in &page {
                findings.extend(compare(ledger, redis, deal).await?);
            }
            after = page.last().map(|deal| deal.id);
            if i64::try_from(page.len()).is_ok_and(|n| n < PAGE) {
                break;
            }
        }
    }
    Ok(findings)
}

/// Units as one store sees them: total, available, held, sold.
type Units = [i64; 4];

/// Compares one deal's fast stock with the ledger, again and again until they agree or stay apart.
///
/// # Errors
/// When a store does not answer.
pub async fn compare(ledger: &Ledger, redis: &Redis, deal: &Deal) -> anyhow::Result<Option<Finding>> {
    let keys = RoomKeys::new(&RoomId::of_deal(deal.id));
    let mut last = None;
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
        let Some(before) = ledger.deal(deal.id).await? else { return Ok(None) };
        let Some(fast) = fast_units(redis, &keys.stock()).await? else { return Ok(None) };
        let Some(truth) = ledger.deal(deal.id).await? else { return Ok(None) };
        if units(&before) != units(&truth) {
            continue; // it moved while we looked
        }
        match difference(&truth, fast) {
            None => return Ok(None),
            some => last = some,
        }
    }
    Ok(last)
}

fn units(deal: &Deal) -> Units {
    [deal.stock, deal.available(), deal.held, deal.sold]
}

/// The fast stock; `None` when Redis has none for this deal (long over, or not loaded yet).
async fn fast_units(redis: &Redis, key: &str) -> anyhow::Result<Option<Units>> {
    let reply = redis.command("HMGET", &[key, "total", "available", "held", "sold"]).await?;
    let mut units: Units = [0; 4];
    for (slot, value) in units.iter_mut().zip(reply.list()?) {
        match value {
            Reply::Nil => return Ok(None),
            value => *slot = value.int()?,
        }
    }
    Ok(Some(units))
}

fn difference(deal: &Deal, fast: Units) -> Option<Finding> {
    let truth = units(deal);
    (truth != fast).then(|| Finding {
        check: "redis_equals_ledger".to_owned(),
        subject: format!("deal {}", deal.id),
        detail: format!("total, available, held, sold: Redis {fast:?}, ledger {truth:?}"),
    })
}
