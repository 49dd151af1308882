//! Joins of one room, many in one script: requests that arrive while a batch is under way make up the next one.
//!
//! One task per room sends one batch at a time. A batch whose reply was lost is sent again under the same name and
//! finds the numbers it got. Crash: nobody holds a ticket for what was joined last; such numbers are skipped in silence.

use crate::rooms::{Room, Rooms};
use queue::line::{BatchId, JOIN_PEOPLE_MAX, JoinRequest, Joined};
use service_kit::ids::VisitorId;
use service_kit::redis::StoreError;
use service_kit::shutdown::Shutdown;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Most joins of a room that wait for their batch.
pub const JOINS_MAX: usize = 16_384;
/// A batch is sent so often before its people are told that the store does not answer.
const TRIES_MAX: usize = 3;

/// Joins wait so long for the room's first snapshot.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// Somebody who wants a number, and where the answer goes.
#[derive(Debug)]
pub struct Wanted {
    /// Who.
    pub request: JoinRequest,
    /// The answer.
    pub reply: oneshot::Sender<Result<Joined, StoreError>>,
}

/// Sends batches until the room is gone.
pub async fn keep_joins(rooms: Arc<Rooms>, room: Arc<Room>, mut joins: mpsc::Receiver<Wanted>, stop: Shutdown) {
    let mut batch = BatchId { gate: VisitorId::new(), number: 0 };
    let mut wanted: Vec<Wanted> = Vec::with_capacity(JOIN_PEOPLE_MAX);
    loop {
        tokio::select! {
            received = joins.recv_many(&mut wanted, JOIN_PEOPLE_MAX) => if received == 0 { return },
            () = stop.requested() => return,
        }
        // Who has hung up needs no number.
        wanted.retain(|w| !w.reply.is_closed());
        if wanted.is_empty() {
            continue;
        }
        batch.number += 1;
        send(&rooms, &room, &batch, &mut wanted).await;
        room.wake.notify_one();
    }
}

async fn send(rooms: &Rooms, room: &Room, batch: &BatchId, wanted: &mut Vec<Wanted>) {
    let (people, replies): (Vec<JoinRequest>, Vec<_>) = wanted.drain(..).map(|w| (w.request, w.reply)).unzip();
    let mut last = StoreError::Unknown("not connected yet".to_owned());
    // The first tick leaves a gap in the numbers if another store answers than the one that gave the last of them. Until
    // then a gate that has just started would give them again.
    if let Some(store) = rooms.store()
        && tokio::time::timeout(LOOK_MAX, room.looked.wait()).await.is_ok()
    {
        for _ in 0..TRIES_MAX {
            let settings = room.settings.load_full();
            match store.line.join_batch(&settings, batch, &people, room.now_ms()).await {
                Ok(answers) => {
                    for (reply, answer) in replies.into_iter().zip(answers) {
                        // A receiver that is gone: nobody holds a ticket, the number is skipped in silence.
                        drop(reply.send(answer));
                    }
                    return;
                }
                Err(error @ StoreError::Unknown(_)) => last = error,
                Err(error) => {
                    last = error;
                    break;
                }
            }
        }
    }
    for reply in replies {
        drop(reply.send(Err(last.clone())));
    }
}
