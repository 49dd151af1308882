//! The visitors' journal: what happened to whom, as one line of JSON per tick and room, in files that prove their own
//! order (see [`service_kit::chain`]). With it an operator can show one visitor's way through the line, months later.
//!
//! Requests never wait for it: [`Journal::note`] puts an event into a bounded queue, and a thread writes. When the
//! queue is full the event is counted and a `gap` entry says how many are missing: never silent.
//!
//! **What a crash loses.** The thread writes every [`TICK_MS`] and asks the disk to keep it (`fdatasync`) before it
//! goes on: a killed gate or a power cut loses at most that tick, and may leave a torn last line, which the next start
//! leaves as it is and [`read`] tells apart from tampering. After a failed write (a full disk) it goes on in a new file.
//!
//! **Files.** `<gate>.<index>.ndjson`, one per start and one more whenever one reaches [`FILE_BYTES_MAX`]. Each begins
//! with an entry `opened` that carries the hash of the last entry of the file before. Nothing is ever deleted here.

pub mod evidence;
mod files;
pub mod read;
mod writer;

use crate::metric;
use metrics::counter;
use queue::board::Board;
use queue::ticket::Ticket;
use serde::{Deserialize, Serialize};
use service_kit::config::ConfigError;
use service_kit::ids::{RoomId, VisitorId};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Most events that wait to be written.
pub const QUEUE_EVENTS_MAX: usize = 65_536;
/// Time between two writes.
pub const TICK_MS: u64 = 200;
/// Most events in one line.
pub const LINE_EVENTS_MAX: usize = 5_000;
/// A file that has reached this size is followed by a new one.
pub const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Longest wait for the last lines at the end of the process.
const CLOSE_MS: u64 = 2_000;

/// A join as it stands in the journal: number, place (0 = a draw will tell), visitor, when, and the ends of the promised
/// wait in ms (0 = nothing was promised).
pub type JoinRow = (u64, u64, VisitorId, i64, i64, i64);

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Somebody got a number.
    Joined(RoomId, JoinRow),
    /// Somebody claimed the call: number, end of the lease in ms.
    Claimed(RoomId, (u64, i64)),
    /// Somebody gave the place, the call or the lease up.
    Left(RoomId, u64),
    /// A lease was ended for good.
    Ended(RoomId, u64),
    /// The line was called on, as the board showed it.
    Called(RoomId, Calls),
    /// An operator's entry in the room's log, as it stands there.
    Said(RoomId, String),
}

/// How far the line was called on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// The highest place called before.
    pub from: u64,
    /// The highest place called now.
    pub to: u64,
    /// Calls meanwhile, direct entries and returned people included.
    pub count: u64,
}

impl Calls {
    /// From one board to the next. The first board of a gate tells what was called before it.
    pub fn between(before: Option<&Board>, now: &Board) -> Self {
        let (from, calls) = before.map_or((0, now.totals.calls), |b| (b.frontier, b.totals.calls));
        // A store that lost its memory counts from the beginning again.
        Self { from: from.min(now.frontier), to: now.frontier, count: now.totals.calls.saturating_sub(calls) }
    }
}

/// What goes to the thread.
enum Message {
    Event(Event),
    Close(SyncSender<()>),
}

#[derive(Debug)]
struct Inner {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

/// The handle that everybody notes events with. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    inner: Option<Arc<Inner>>,
}

impl Journal {
    /// A journal that keeps nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// Opens the journal of `gate` in `dir` (made if needed, for its owner only) and starts the thread.
    ///
    /// # Errors
    /// Names `gate.journal_dir`: the directory cannot be used, or another gate of that name writes there.
    pub fn open(dir: &Path, gate: &str) -> Result<Self, ConfigError> {
        let dropped = Arc::new(AtomicU64::new(0));
        let (queue, events) = sync_channel(QUEUE_EVENTS_MAX);
        let refused = |e: std::io::Error| ConfigError(format!("`gate.journal_dir`: {}: {e}", dir.display()));
        let files = files::Files::open(dir, gate, FILE_BYTES_MAX, service_kit::clock::now_ms()).map_err(refused)?;
        let writer = writer::Writer::new(files, dropped.clone());
        std::thread::Builder::new().name("journal".into()).spawn(move || writer.run(&events)).map_err(refused)?;
        Ok(Self { inner: Some(Arc::new(Inner { queue, dropped })) })
    }

    /// Notes an event. Never waits; what finds no place is counted.
    pub fn note(&self, event: Event) {
        let Some(inner) = &self.inner else { return };
        match inner.queue.try_send(Message::Event(event)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                inner.dropped.fetch_add(1, Ordering::Relaxed);
                counter!(metric::JOURNAL_DROPPED).increment(1);
            }
        }
    }

    /// Notes a join.
    pub fn joined(&self, ticket: &Ticket) {
        if self.inner.is_none() {
            return;
        }
        let Ticket { room, number, place, visitor, joined_ms, promise_low_ms, promise_high_ms, nonce: _ } = ticket;
        let row = (*number, *place, visitor.clone(), *joined_ms, *promise_low_ms, *promise_high_ms);
        self.note(Event::Joined(room.clone(), row));
    }

    /// Notes a claim.
    pub fn claimed(&self, room: &RoomId, number: u64, lease_until_ms: i64) {
        self.note(Event::Claimed(room.clone(), (number, lease_until_ms)));
    }

    /// Notes that somebody left.
    pub fn left(&self, room: &RoomId, number: u64) {
        self.note(Event::Left(room.clone(), number));
    }

    /// Notes the end of a lease.
    pub fn ended(&self, room: &RoomId, number: u64) {
        self.note(Event::Ended(room.clone(), number));
    }

    /// Notes how far the line was called on between two boards, if it was.
    pub fn called(&self, room: &RoomId, calls: Calls) {
        if calls.count > 0 || calls.to != calls.from {
            self.note(Event::Called(room.clone(), calls));
        }
    }

    /// Whether anything is kept.
    pub fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// Writes what waits and closes the file. Blocks, for two seconds at most.
    pub fn close(&self) {
        let Some(inner) = &self.inner else { return };
        let (done, finished) = sync_channel(1);
        let mut message = Message::Close(done);
        // The thread empties the queue within a tick, unless the disk hangs.
        for _ in 0..CLOSE_MS / TICK_MS {
            match inner.queue.try_send(message) {
                Ok(()) => {
                    let _ = finished.recv_timeout(Duration::from_millis(CLOSE_MS));
                    return;
                }
                Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(back)) => message = back,
            }
            std::thread::sleep(Duration::from_millis(TICK_MS));
        }
    }
}

#[cfg(test)]
mod tests;
