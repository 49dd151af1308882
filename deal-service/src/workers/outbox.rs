//! Tells Redis what the ledger has decided: held → sold, or units back.
//!
//! Steps: 1. lease events 2. apply each by its order id 3. mark delivered. A crash after 2 applies them again,
//! without effect. While Redis does not answer for a deal or its stock is being filled, its events are given back and come
//! again a moment later; meanwhile other deals' events have their turn. A deal without an answer rests: in a cluster one dead
//! master must cost a time-out now and then, not one per event.
//! Two processes lease different events. Two events of one order may be applied in either order: a release of
//! a unit ends it whatever state it is in, a settle of an ended unit does nothing, and what comes back of a payment waits
//! until that payment has been told.

use crate::app::App;
use crate::fast_stock::Applied;
use crate::metric;
use futures::StreamExt as _;
use ledger::{LedgerError, OutboxEvent, OutboxKind};
use service_kit::clock::{monotonic, now_ms};
use service_kit::ids::{DealId, RoomId};
use service_kit::redis::StoreError;
use service_kit::shutdown::Shutdown;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Time between two looks when no notice comes.
const EVERY_MS: u64 = 500;
/// Pause after PostgreSQL did not answer, and time until the next look while events wait for their turn.
const PAUSE_MS: u64 = 250;
/// How long an event waits for a filling: most take less than a second.
const LOADING_MS: i64 = 250;
/// How long an event waits that Redis did not take, and how long a deal rests for which Redis did not answer.
const POSTPONE_MS: u32 = 1_000;
/// An event as old as this is in no hurry: the next filling of its deal knows of it.
const OLD_MS: i64 = 10_000;
/// How long such an event waits.
const OLD_POSTPONE_MS: i64 = 5_000;
/// Events of one round.
const ROUND_MAX: i64 = 200;
/// How long an event belongs to this process.
const LEASE_MS: i64 = 10_000;
/// Events that are applied at once.
const AT_ONCE: usize = 32;

/// Deals for which Redis did not answer, and since when nothing of them is tried.
type Resting = Mutex<HashMap<DealId, Instant>>;

enum Round {
    /// Everything that was due is delivered.
    Idle,
    /// There may be more.
    Full,
    /// Some were postponed.
    Postponed,
    /// PostgreSQL did not answer.
    Troubled,
}

/// What became of telling Redis.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Heard,
    /// The stock is being filled, or PostgreSQL did not say what to tell.
    NotYet,
    Refused,
    /// It cost a time-out, and so would the next event of this deal.
    NoAnswer,
}

impl Told {
    /// How long the event waits for its next turn; `None` when it needs none.
    fn wait_ms(self, age_ms: i64) -> Option<i64> {
        match self {
            Self::Heard => None,
            _ if age_ms >= OLD_MS => Some(OLD_POSTPONE_MS),
            Self::NotYet => Some(LOADING_MS),
            Self::Refused | Self::NoAnswer => Some(POSTPONE_MS.into()),
        }
    }
}

/// Runs until shutdown.
pub async fn run(app: App, shutdown: Shutdown) {
    let mut notices = app.parts.ledger.listen(&["floodgate_outbox"]);
    let resting = Resting::default();
    loop {
        let round = deliver(&app, &resting).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "could not read the outbox; trying again");
            Round::Troubled
        });
        let look_ms = match round {
            // At once: what was not taken stands behind everything else by now.
            Round::Full if shutdown.is_requested() => return,
            Round::Full => continue,
            Round::Troubled => {
                if !shutdown.sleep_ms(PAUSE_MS).await {
                    return;
                }
                continue;
            }
            Round::Postponed => PAUSE_MS,
            Round::Idle => EVERY_MS,
        };
        tokio::select! {
            () = shutdown.requested() => return,
            _ = notices.recv() => while notices.try_recv().is_ok() {},
            () = tokio::time::sleep(Duration::from_millis(look_ms)) => {}
        }
    }
}

async fn deliver(app: &App, resting: &Resting) -> Result<Round, LedgerError> {
    let started_ms = now_ms();
    resting.lock().await.retain(|_, since| since.elapsed() < Duration::from_millis(POSTPONE_MS.into()));
    let events = app.parts.ledger.claim_outbox(ROUND_MAX, LEASE_MS, started_ms).await?;
    let is_full = i64::try_from(events.len()).unwrap_or(0) >= ROUND_MAX;
    let results: Vec<(i64, Option<i64>)> = futures::stream::iter(events)
        .map(async |event| {
            let told = tell(app, resting, &event).await;
            (event.id, told.wait_ms(started_ms.saturating_sub(event.created_at_ms)))
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut delivered = Vec::new();
    // By how long they wait.
    let mut postponed: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (id, wait_ms) in results {
        match wait_ms {
            None => delivered.push(id),
            Some(wait_ms) => postponed.entry(wait_ms).or_default().push(id),
        }
    }
    if !delivered.is_empty() {
        service_kit::failpoint::around(
            "Q1.before",
            "Q1.after",
            app.parts.ledger.outbox_delivered(&delivered, now_ms()),
        )
        .await?;
    }
    for (wait_ms, ids) in &postponed {
        app.parts.ledger.outbox_postponed(ids, *wait_ms, now_ms()).await?;
    }
    Ok(match is_full {
        true => Round::Full,
        false if postponed.is_empty() => Round::Idle,
        false => Round::Postponed,
    })
}

/// Tells Redis of one event, unless its deal rests.
async fn tell(app: &App, resting: &Resting, event: &OutboxEvent) -> Told {
    if resting.lock().await.contains_key(&event.deal) {
        return Told::NoAnswer;
    }
    let told = apply(app, event).await;
    if told == Told::NoAnswer {
        resting.lock().await.insert(event.deal, monotonic());
    }
    told
}

async fn apply(app: &App, event: &OutboxEvent) -> Told {
    let room = RoomId::of_deal(event.deal);
    let applied = match event.kind {
        OutboxKind::OrderPaid => match app.pass_ended_ms(event.deal).await {
            Ok(pass_ms) => {
                service_kit::failpoint::around(
                    "P6.before",
                    "P6.after",
                    app.parts.fast.settle(&room, event.order, Some(event.lease_number), pass_ms),
                )
                .await
            }
            Err(error) => {
                tracing::warn!(%error, order = %event.order, "could not read the deal of a paid order; trying again");
                return Told::NotYet;
            }
        },
        OutboxKind::OrderReleased => {
            service_kit::failpoint::around("X3.before", "X3.after", app.parts.fast.release(&room, event.order)).await
        }
        OutboxKind::OrderPaidLate => app.parts.fast.move_units(&room, event, false).await,
        OutboxKind::OrderReturned => app.parts.fast.move_units(&room, event, true).await,
    };
    match applied {
        Ok(Applied::Loading) => Told::NotYet,
        Ok(outcome) => {
            if outcome == Applied::Done {
                count(app, event).await;
            }
            Told::Heard
        }
        Err(error) => {
            tracing::warn!(%error, order = %event.order, "Redis did not hear of an order; telling it again");
            if matches!(error, StoreError::Unknown(_)) { Told::NoAnswer } else { Told::Refused }
        }
    }
}

async fn count(app: &App, event: &OutboxEvent) {
    let outcome = match event.kind {
        OutboxKind::OrderPaid | OutboxKind::OrderPaidLate => "confirmed",
        OutboxKind::OrderReturned => "refunded",
        OutboxKind::OrderReleased => {
            let reason =
                app.parts.ledger.order(event.order).await.ok().flatten().and_then(|o| o.reason).unwrap_or_default();
            let (outcome, label) = match reason.as_str() {
                "cancelled_by_shopper" => ("cancelled", "cancelled"),
                "hold_expired" => ("failed", "expired"),
                _ => ("failed", "payment_failed"),
            };
            metrics::counter!(metric::RELEASED, "deal" => metric::deal_label(event.deal), "reason" => label)
                .increment(1);
            outcome
        }
    };
    metric::order(event.deal, outcome);
    metric::order_lived(outcome, event.created_at_ms.saturating_sub(event.order.made_at_ms()));
}
