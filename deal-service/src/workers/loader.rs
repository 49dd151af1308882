//! Keeps the fast stock equal to the ledger: fills it when it is missing, and anew when the sums disagree.
//!
//! While holds and payments are under way the two differ for moments, so only a disagreement that stands still
//! for [`STABLE_MS`] with nothing unconfirmed is believed; or one that the ledger itself has proved by refusing a
//! hold (a *suspect*), at most once per [`SUSPECT_PAUSE_MS`]. A stock on another server than before (Redis was started
//! again, or a replica took over) may be any old copy, whose sums can even agree for a while: it is filled anew at once.
//! A filling raises the deal's epoch, so holds that were taken from the old stock are refused by the ledger. With
//! `rebuild = "operator"` a stock that was filled before is closed instead and waits for `floodgate rebuild` (a restart
//! alone closes nothing); a filling that somebody began is finished all the same. See [`crate::fast_stock::fill`].

use super::{DEALS_AT_ONCE, deals_in_play};
use crate::app::App;
use crate::config::Rebuild;
use crate::fast_stock::fill::Filled;
use crate::fast_stock::{Audit, Totals};
use crate::metric;
use futures::StreamExt as _;
use ledger::Deal;
use service_kit::clock::now_ms;
use service_kit::ids::{DealId, RoomId, VisitorId};
use service_kit::shutdown::Shutdown;
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;

/// Time between two looks at all deals.
const EVERY_MS: u64 = 1_000;
/// How long a disagreement must stand still before it is believed.
const STABLE_MS: i64 = 5_000;
/// Shortest time between two fillings on suspicion.
const SUSPECT_PAUSE_MS: i64 = 2_000;
/// Shortest time between two looks at one suspect: a storm of hints costs ten queries per second.
const LOOK_PAUSE_MS: i64 = 100;

/// `(available, held, sold)`.
type Sums = (i64, i64, i64);

#[derive(Default)]
struct Memory {
    /// Since when Redis and the ledger disagree in exactly this way.
    differs: Option<(i64, Sums, Sums)>,
    /// The server that had the stock when it was last believed, and its epoch.
    believed: Option<(String, i64)>,
    filled_at_ms: i64,
    looked_at_ms: i64,
    /// It was said that this deal waits for an operator.
    awaits_operator: bool,
}

struct Loader {
    app: App,
    /// Names this process's fillings; they run one after the other.
    token: String,
    memory: HashMap<DealId, Memory>,
}

/// Runs until shutdown.
pub async fn run(app: App, mut suspects: mpsc::Receiver<DealId>, shutdown: Shutdown) {
    let mut loader = Loader { app, token: VisitorId::new().as_str().to_owned(), memory: HashMap::new() };
    loop {
        loader.look_at_all().await;
        let next = tokio::time::Instant::now() + Duration::from_millis(EVERY_MS);
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep_until(next) => break,
                Some(deal) = suspects.recv() => loader.look_at_suspect(deal).await,
            }
        }
    }
}

impl Loader {
    async fn look_at_all(&mut self) {
        let deals = match deals_in_play(&self.app).await {
            Ok(deals) => deals,
            Err(error) => {
                tracing::warn!(%error, "could not read the deals; trying again");
                return;
            }
        };
        metric::deals_on_sale(&deals.iter().map(|d| d.id).collect::<Vec<_>>());
        let in_play: HashSet<DealId> = deals.iter().map(|d| d.id).collect();
        self.memory.retain(|id, _| in_play.contains(id));
        // Read ahead, judged one by one as the answers come. An answer may have waited for a filling before it: what was
        // filled meanwhile has another epoch, and is left alone.
        let fast = self.app.parts.fast.clone();
        let mut audits = pin!(
            futures::stream::iter(deals)
                .map(async |deal| {
                    let audit = fast.audit(&RoomId::of_deal(deal.id)).await;
                    (deal, audit)
                })
                .buffer_unordered(DEALS_AT_ONCE)
        );
        while let Some((deal, audit)) = audits.next().await {
            let looked = match audit {
                Ok(audit) => self.look(&deal, audit, false).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = looked {
                tracing::warn!(error = %format!("{error:#}"), deal = %deal.id, "could not compare or fill a stock; trying again");
            }
        }
    }

    async fn look_at_suspect(&mut self, deal: DealId) {
        let now = now_ms();
        if let Some(memory) = self.memory.get(&deal)
            && (now.saturating_sub(memory.filled_at_ms) < SUSPECT_PAUSE_MS
                || now.saturating_sub(memory.looked_at_ms) < LOOK_PAUSE_MS)
        {
            return;
        }
        let result = async {
            let Some(deal) = self.app.parts.ledger.deal(deal).await? else { return Ok(()) };
            // Also when Redis does not answer: a storm of hints must not become a storm of time-outs.
            self.memory.entry(deal.id).or_default().looked_at_ms = now;
            let audit = self.app.parts.fast.audit(&RoomId::of_deal(deal.id)).await?;
            self.look(&deal, audit, true).await
        };
        if let Err(error) = result.await {
            tracing::warn!(error = %format!("{error:#}"), %deal, "could not look at a suspect stock");
        }
    }

    async fn look(&mut self, deal: &Deal, audit: Audit, is_suspect: bool) -> anyhow::Result<()> {
        let room = RoomId::of_deal(deal.id);
        self.memory.entry(deal.id).or_default().looked_at_ms = now_ms();
        let is_loaded = matches!(audit, Audit::Loaded { .. });
        metric::deal_gauge(metric::PREWARM, deal.id, None, i64::from(is_loaded));
        let is_over = now_ms() >= deal.ends_at_ms;
        match audit {
            Audit::Absent if is_over => Ok(()),
            Audit::Absent if self.waits_for_operator(deal) => {
                self.await_operator(deal, "missing");
                Ok(())
            }
            Audit::Absent | Audit::Loading => self.fill(deal, None, "missing").await,
            Audit::Loaded { totals, server } => match self.judge(deal, totals, &server, is_suspect) {
                Some(reason) if !is_over && self.waits_for_operator(deal) => {
                    self.app.parts.fast.forget(&room).await?;
                    self.await_operator(deal, reason);
                    Ok(())
                }
                Some(reason) if !is_over => self.fill(deal, Some(totals), reason).await,
                _ => {
                    self.memory.entry(deal.id).or_default().awaits_operator = false;
                    metric::deal_gauge(metric::REBUILD_WAITING, deal.id, None, 0);
                    Ok(())
                }
            },
        }
    }

    /// Why the stock must be filled anew, if it must.
    fn judge(&mut self, deal: &Deal, totals: Totals, server: &str, is_suspect: bool) -> Option<&'static str> {
        let redis: Sums = (totals.available, totals.held, totals.sold);
        let truth: Sums = (deal.available(), deal.held, deal.sold);
        metric::deal_gauge(metric::DIVERGENCE, deal.id, None, redis.0 - truth.0);
        let by_itself = self.app.parts.config.rebuild == Rebuild::Automatic;
        let memory = self.memory.entry(deal.id).or_default();
        let is_other = |(before, epoch): &(String, i64)| before != server && totals.epoch <= *epoch;
        // Where an operator decides, a restart alone does not close the sale.
        if by_itself && memory.believed.as_ref().is_some_and(is_other) {
            return Some("restarted");
        }
        memory.believed = Some((server.to_owned(), totals.epoch));
        if redis == truth && totals.epoch == deal.epoch {
            memory.differs = None;
            return None;
        }
        // Holds under another epoch are refused one by one: nothing can be sold until it is filled anew.
        if totals.epoch < deal.epoch {
            return Some("divergence");
        }
        if is_suspect && redis.0 > truth.0 {
            return Some("refused");
        }
        let now = now_ms();
        match memory.differs {
            Some((since_ms, r, t)) if (r, t) == (redis, truth) && totals.unconfirmed == 0 => {
                (now.saturating_sub(since_ms) > STABLE_MS).then_some("divergence")
            }
            _ => {
                memory.differs = Some((now, redis, truth));
                None
            }
        }
    }

    /// Epoch 0 means that the deal was never filled: nothing is lost.
    fn waits_for_operator(&self, deal: &Deal) -> bool {
        self.app.parts.config.rebuild == Rebuild::Operator && deal.epoch > 0
    }

    /// Without a stock every hold is refused: the deal sells nothing until `floodgate rebuild` has run.
    fn await_operator(&mut self, deal: &Deal, reason: &'static str) {
        metric::deal_gauge(metric::REBUILD_WAITING, deal.id, None, 1);
        if !std::mem::replace(&mut self.memory.entry(deal.id).or_default().awaits_operator, true) {
            tracing::error!(deal = %deal.id, reason, "the fast stock of this deal waits for an operator: run floodgate rebuild");
        }
    }

    async fn fill(&mut self, deal: &Deal, seen: Option<Totals>, reason: &'static str) -> anyhow::Result<()> {
        let filled =
            self.app.parts.fast.fill(&self.app.parts.ledger, deal.id, seen.map(|t| t.epoch), &self.token).await?;
        let memory = self.memory.entry(deal.id).or_default();
        memory.differs = None;
        if let Filled::Loaded { epoch, server } = filled {
            memory.filled_at_ms = now_ms();
            memory.believed = Some((server, epoch));
            metrics::counter!(metric::FILLS, "reason" => reason).increment(1);
            metric::deal_gauge(metric::PREWARM, deal.id, None, 1);
            tracing::info!(deal = %deal.id, epoch, reason, redis = ?seen, available = deal.available(), held = deal.held, sold = deal.sold, "filled the fast stock from the ledger");
        }
        Ok(())
    }
}
