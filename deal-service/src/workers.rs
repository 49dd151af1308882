//! What runs beside the requests. Every worker may run in several processes at once; each stops at shutdown,
//! and none holds anything that another process would miss.

mod gauges;
mod loader;
mod outbox;
mod proof;
mod reaper;
mod rooms;
mod sealer;
mod sweeper;

use crate::app::{App, Feeds};
use crate::{events, final_gate};
use ledger::{Deal, LedgerError};
use service_kit::clock::now_ms;
use service_kit::shutdown::Shutdown;
use tokio::task::JoinSet;

/// Deals that are read from the ledger at once.
const PAGE_DEALS: i64 = 1_000;
/// Deals whose keys in Redis are looked at in the same moment: one master that does not answer costs its deals their time,
/// and the others' hardly any.
const DEALS_AT_ONCE: usize = 32;

/// Starts all workers. The committer of the final gate runs until the set is dropped, so that requests
/// of the drain still get their answers; the others stop at shutdown.
pub fn start(app: &App, feeds: Feeds, shutdown: &Shutdown) -> JoinSet<()> {
    let mut set = JoinSet::new();
    let parts = &app.parts;
    set.spawn(final_gate::run(feeds.holds, parts.ledger.clone(), parts.fast.clone(), parts.config.batch_max));
    set.spawn(events::run(app.clone(), parts.ledger.clone(), shutdown.clone()));
    set.spawn(loader::run(app.clone(), feeds.suspects, shutdown.clone()));
    set.spawn(rooms::run(app.clone(), shutdown.clone()));
    set.spawn(reaper::run(app.clone(), shutdown.clone()));
    set.spawn(outbox::run(app.clone(), shutdown.clone()));
    set.spawn(sweeper::run(app.clone(), shutdown.clone()));
    set.spawn(sealer::run(app.clone(), shutdown.clone()));
    set.spawn(proof::run(app.clone(), shutdown.clone()));
    set.spawn(gauges::run(app.clone(), shutdown.clone()));
    set
}

/// Deals that are on sale, will be, or ended so recently that something of them may still move: all of them, by their start.
async fn deals_in_play(app: &App) -> Result<Vec<Deal>, LedgerError> {
    app.parts.ledger.open_deals(now_ms(), app.parts.config.keep_room_ms, PAGE_DEALS).await
}
