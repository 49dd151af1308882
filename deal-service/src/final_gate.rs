//! The final gate: winners of the fast gate wait here for the commit that makes them orders.
//!
//! What it does: a bounded queue feeds one committer. While one commit runs the next batch gathers, so
//! there is no artificial delay and a spike still costs few commits. Only after the commit the shopper hears yes.
//! Steps of one hold, each with its undo: 1. units taken in Redis (undo: release, or the sweeper after the
//! unconfirmed deadline) 2. queued (full: refused at once, released) 3. committed by `ledger.place_holds`
//! (refused: released) 4. answered 5. confirmed in Redis with the real deadline (lost: the sweeper does it).
//! An unknown outcome is asked for by committing the same entries again: they are found by account and key,
//! and the deal's lock makes a commit that is still running finish first. Still unknown: the shopper repeats
//! the request with the same key, and the sweeper looks after the units.
//! Races: the same entry twice, in one batch or in two processes, gives one order. The confirm of a batch and
//! the release of a refused entry concern different orders. A crash after 3 leaves a committed order whose hold
//! is unconfirmed: the sweeper finds it in the ledger.

use crate::fast_stock::FastStock;
use crate::metric;
use ledger::{HoldOutcome, Ledger, LedgerError, NewHold, OrderState};
use service_kit::clock::{monotonic, now_ms};
use service_kit::ids::{OrderId, RoomId};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// How often an unknown outcome is asked for.
const ASK_TRIES_MAX: u32 = 4;
/// First pause between two tries; it doubles.
const ASK_PAUSE_MS: u64 = 50;
/// Batches whose aftermath in Redis may run at once.
const AFTERMATHS_MAX: usize = 16;

/// Why a hold has no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateError {
    /// More holds wait than may. Nothing was written.
    Full,
    /// The ledger does not answer. Nothing was written.
    NotDone,
    /// The ledger refused the entry itself, which our own checks should have done. Nothing was written.
    Broken(String),
    /// Nobody knows. The same key finds out.
    Unknown,
}

/// What to do with a hold: commit it, or only ask whether its key is known.
struct Entry {
    hold: NewHold,
    is_question: bool,
    reply: oneshot::Sender<Result<HoldOutcome, GateError>>,
}

/// The entrance of the queue. Cheap to clone.
#[derive(Clone)]
pub struct FinalGate {
    queue: mpsc::Sender<Entry>,
}

/// The exit of the queue, for [`run`].
pub struct Queue {
    entries: mpsc::Receiver<Entry>,
}

impl FinalGate {
    /// A gate in which at most `queue_max` holds wait.
    pub fn new(queue_max: usize) -> (Self, Queue) {
        let (tx, rx) = mpsc::channel(queue_max);
        (Self { queue: tx }, Queue { entries: rx })
    }

    /// Waits for the commit of this hold. When it is refused its units are back in Redis already.
    ///
    /// # Errors
    /// See [`GateError`]. After [`GateError::Full`] the caller releases the units.
    pub async fn commit(&self, hold: NewHold) -> Result<HoldOutcome, GateError> {
        self.offer(hold, false).await
    }

    /// Asks the ledger for an earlier order under this key without taking anything: an epoch that never
    /// was makes the ledger refuse everything but a replay.
    ///
    /// # Errors
    /// See [`GateError`].
    pub async fn ask(&self, hold: NewHold) -> Result<HoldOutcome, GateError> {
        self.offer(NewHold { epoch: -1, ..hold }, true).await
    }

    async fn offer(&self, hold: NewHold, is_question: bool) -> Result<HoldOutcome, GateError> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Entry { hold, is_question, reply }).map_err(|_| GateError::Full)?;
        answer.await.unwrap_or(Err(GateError::Unknown))
    }

    /// How many wait now.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

/// Commits what waits until every [`FinalGate`] is gone.
pub async fn run(mut queue: Queue, ledger: Ledger, fast: FastStock, batch_max: usize) {
    let aftermaths = Arc::new(Semaphore::new(AFTERMATHS_MAX));
    let mut batch = Vec::with_capacity(batch_max);
    while queue.entries.recv_many(&mut batch, batch_max).await > 0 {
        let holds: Vec<NewHold> = batch.iter().map(|e| e.hold.clone()).collect();
        let outcomes = commit(&ledger, &holds).await;
        let mut aftermath = Aftermath::default();
        for (entry, outcome) in batch.drain(..).zip(outcomes) {
            aftermath.add(entry, outcome);
        }
        let Ok(permit) = aftermaths.clone().acquire_owned().await else { return };
        let fast = fast.clone();
        tokio::spawn(async move {
            aftermath.settle(&fast).await;
            drop(permit);
        });
    }
}

/// The outcomes of `holds`, in their order.
async fn commit(ledger: &Ledger, holds: &[NewHold]) -> Vec<Result<HoldOutcome, GateError>> {
    let started = monotonic();
    #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
    metrics::histogram!(metric::COMMIT_HOLDS).record(holds.len() as f64);
    let result = commit_known(ledger, holds).await;
    metrics::histogram!(metric::COMMIT_DURATION).record(started.elapsed().as_secs_f64());
    match result {
        Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
        // One impossible entry must not take the others down with it.
        Err(GateError::Broken(why)) if holds.len() > 1 => {
            tracing::error!(%why, entries = holds.len(), "the ledger refused a batch; committing one by one");
            let mut outcomes = Vec::with_capacity(holds.len());
            for hold in holds {
                let one = commit_known(ledger, std::slice::from_ref(hold)).await;
                outcomes.push(one.and_then(|mut o| o.pop().ok_or(GateError::Unknown)));
            }
            outcomes
        }
        Err(error) => vec![Err(error); holds.len()],
    }
}

/// Commits, and asks again while the outcome is unknown.
async fn commit_known(ledger: &Ledger, holds: &[NewHold]) -> Result<Vec<HoldOutcome>, GateError> {
    let mut is_unknown = false;
    let mut pause_ms = ASK_PAUSE_MS;
    for _ in 0..ASK_TRIES_MAX {
        match service_kit::failpoint::around("R2.before", "R2.after", ledger.place_holds(holds, now_ms())).await {
            Ok(outcomes) => return Ok(outcomes),
            Err(LedgerError::Unknown(why)) => {
                tracing::warn!(%why, entries = holds.len(), "the outcome of a commit is unknown; asking");
                is_unknown = true;
            }
            Err(error) if error.is_safe_to_retry() => {
                tracing::warn!(%error, entries = holds.len(), "a commit did not happen; trying again")
            }
            // After an unknown try a refusal says nothing about that try.
            Err(error) => {
                return Err(if is_unknown { GateError::Unknown } else { GateError::Broken(error.to_string()) });
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
        pause_ms *= 2;
    }
    Err(if is_unknown { GateError::Unknown } else { GateError::NotDone })
}

/// What Redis must hear after a batch, and who waits for that.
#[derive(Default)]
struct Aftermath {
    confirm: HashMap<RoomId, Vec<(OrderId, i64)>>,
    refused: Vec<(Entry, Result<HoldOutcome, GateError>)>,
}

impl Aftermath {
    fn add(&mut self, entry: Entry, outcome: Result<HoldOutcome, GateError>) {
        let offered = entry.hold.order;
        match &outcome {
            Ok(HoldOutcome::Placed(order) | HoldOutcome::Existing(order)) if order.id == offered => {
                if order.state == OrderState::Held {
                    let room = RoomId::of_deal(order.deal);
                    self.confirm.entry(room).or_default().push((order.id, order.hold_expires_at_ms));
                }
                let _ = entry.reply.send(outcome);
            }
            Err(GateError::Unknown) => drop(entry.reply.send(outcome)),
            _ if entry.is_question => drop(entry.reply.send(outcome)),
            _ => self.refused.push((entry, outcome)),
        }
    }

    /// Releases what was refused, then answers; confirms what was placed.
    async fn settle(self, fast: &FastStock) {
        for (entry, outcome) in self.refused {
            let room = RoomId::of_deal(entry.hold.deal);
            if let Err(error) = fast.release_refused(&room, entry.hold.order).await {
                tracing::warn!(%error, order = %entry.hold.order, "could not give units back; the sweeper will");
            }
            let _ = entry.reply.send(outcome);
        }
        for (room, holds) in self.confirm {
            if let Err(error) = fast.confirm(&room, &holds).await {
                tracing::warn!(%error, %room, holds = holds.len(), "could not confirm holds; the sweeper will");
            }
        }
    }
}
