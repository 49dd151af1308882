//! Exports what can only be measured by looking: deals, pools, queues. Reads, never writes.

use super::deals_in_play;
use crate::app::App;
use crate::metric;
use ledger::Deal;
use metrics::gauge;
use service_kit::clock::now_ms;
use service_kit::shutdown::Shutdown;

/// Time between two looks.
const EVERY_MS: u64 = 1_000;
const PHASES: [&str; 6] = ["scheduled", "prequeue", "open", "sold_out", "closed", "settled"];

/// Runs until shutdown.
pub async fn run(app: App, shutdown: Shutdown) {
    loop {
        process(&app);
        if let Err(error) = stores(&app).await {
            tracing::warn!(%error, "could not read the gauges; trying again");
        }
        if !shutdown.sleep_ms(EVERY_MS).await {
            return;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn process(app: &App) {
    let (in_use, waiting) = app.parts.ledger.pool_usage();
    gauge!(metric::POOL, "state" => "in_use").set(in_use as f64);
    gauge!(metric::POOL, "state" => "waiting").set(waiting as f64);
    gauge!(metric::HOLD_QUEUE).set(app.parts.gate.waiting() as f64);
    gauge!(metric::HOLD_QUEUE_LIMIT).set(app.parts.config.hold_queue_max as f64);
    let (streams, streams_max) = app.parts.hub.streams();
    gauge!(metric::STREAMS).set(streams as f64);
    gauge!(metric::STREAMS_LIMIT).set(streams_max as f64);
}

async fn stores(app: &App) -> Result<(), ledger::LedgerError> {
    let (pending, oldest_ms) = app.parts.ledger.outbox_backlog().await?;
    #[expect(clippy::cast_precision_loss, reason = "counts and seconds far below 2^52")]
    {
        gauge!(metric::OUTBOX_PENDING).set(pending as f64);
        gauge!(metric::OUTBOX_OLDEST).set(oldest_ms.unwrap_or(0) as f64 / 1_000.0);
    }
    let now = now_ms();
    for deal in deals_in_play(app).await? {
        show(app, &deal, now);
    }
    Ok(())
}

fn show(app: &App, deal: &Deal, now: i64) {
    let phase = phase(deal, now);
    for name in PHASES {
        metric::deal_gauge(metric::PHASE, deal.id, Some(("phase", name)), i64::from(name == phase));
    }
    metric::deal_gauge(metric::STARTS, deal.id, None, deal.starts_at_ms / 1_000);
    metric::deal_gauge(metric::ENDS, deal.id, None, deal.ends_at_ms / 1_000);
    for (state, units) in
        [("registered", deal.stock), ("available", deal.available()), ("reserved", deal.held), ("sold", deal.sold)]
    {
        metric::deal_gauge(metric::STOCK, deal.id, Some(("state", state)), units);
    }
    metric::deal_gauge(metric::OVERSOLD, deal.id, None, (deal.held + deal.sold - deal.stock).max(0));
    if metric::has_label(deal.id) {
        gauge!(metric::INFO, "deal" => metric::deal_label(deal.id), "merchant" => deal.merchant.to_string(), "provider" => app.providers_for(deal.price.currency()).join(",")).set(1.0);
    }
}

fn phase(deal: &Deal, now: i64) -> &'static str {
    if now < deal.created_at_ms {
        "scheduled"
    } else if now < deal.starts_at_ms {
        "prequeue" // the lobby opens when the deal is made
    } else if now < deal.ends_at_ms {
        if deal.available() <= 0 { "sold_out" } else { "open" }
    } else if deal.held > 0 {
        "closed"
    } else {
        "settled"
    }
}
