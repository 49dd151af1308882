//! Lets the whole crowd loose and collects what it saw.

use super::behaviour::Behaviour;
use super::history::Turn;
use super::plan::Plan;
use super::report::CrowdCounts;
use super::scene::Scene;
use super::shopper::{Outcome, Shopper};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::sync::Arc;

/// Surprises that are kept in words.
const SURPRISES_MAX: usize = 10;

/// What the crowd saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// All tickets.
    pub turns: Vec<Turn>,
    /// Counts.
    pub counts: CrowdCounts,
}

/// Runs every shopper to its end.
pub async fn run(scene: Arc<Scene>, plan: Plan) -> Seen {
    let shoppers: FuturesUnordered<_> = (0..plan.shoppers)
        .map(|n| tokio::spawn(Box::pin(Shopper::new(n, Behaviour::new(&plan, n), scene.clone()).live())))
        .collect();
    let mut seen = Seen {
        counts: CrowdCounts { shoppers: u64::from(plan.shoppers), ..CrowdCounts::default() },
        ..Seen::default()
    };
    seen.counts.claimed = 0;
    let mut all = shoppers;
    while let Some(joined) = all.next().await {
        let Ok(diary) = joined else {
            seen.counts.surprises.push("a shopper's task ended with a panic".to_owned());
            continue;
        };
        seen.turns.extend(diary.turns);
        seen.counts.claimed = seen.counts.claimed.saturating_add(diary.claims);
        seen.counts.doubled = seen.counts.doubled.saturating_add(diary.doubled);
        if matches!(diary.outcome, Outcome::TurnedAway | Outcome::TimeIsUp) {
            seen.counts.wanting = seen.counts.wanting.saturating_add(1);
        }
        let room = SURPRISES_MAX.saturating_sub(seen.counts.surprises.len());
        seen.counts.surprises.extend(diary.surprises.into_iter().take(room));
    }
    seen
}
