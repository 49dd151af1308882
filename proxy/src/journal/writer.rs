//! The thread that writes the journal: collects what happened in a tick, groups it by room, appends.

use super::files::Files;
use super::{Calls, Event, JoinRow, LINE_EVENTS_MAX, Message, TICK_MS};
use crate::metric;
use metrics::counter;
use serde::Serialize;
use service_kit::clock::{monotonic, now_ms};
use service_kit::ids::RoomId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

/// One line: what happened in one room.
#[derive(Debug, Serialize)]
struct Tick {
    room: RoomId,
    joins: Vec<JoinRow>,
    claims: Vec<(u64, i64)>,
    leaves: Vec<u64>,
    ended: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<Calls>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    said: Vec<String>,
    #[serde(skip)]
    events: usize,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Line {
    Tick(Tick),
    Gap { gap: u64 },
    Closed { closed: bool },
}

impl Tick {
    fn new(room: RoomId) -> Self {
        let (joins, claims, leaves, ended) = Default::default();
        Self { room, joins, claims, leaves, ended, calls: None, said: Vec::new(), events: 0 }
    }

    fn add(&mut self, event: Event) {
        self.events += 1;
        match event {
            Event::Joined(_, row) => self.joins.push(row),
            Event::Claimed(_, claim) => self.claims.push(claim),
            Event::Left(_, number) => self.leaves.push(number),
            Event::Ended(_, number) => self.ended.push(number),
            Event::Said(_, entry) => self.said.push(entry),
            Event::Called(_, calls) => {
                let before = self.calls.unwrap_or(Calls { from: calls.from, to: calls.from, count: 0 });
                let count = before.count.saturating_add(calls.count);
                self.calls = Some(Calls { from: before.from, to: calls.to, count });
            }
        }
    }
}

fn room_of(event: &Event) -> &RoomId {
    match event {
        Event::Joined(room, _)
        | Event::Claimed(room, _)
        | Event::Left(room, _)
        | Event::Ended(room, _)
        | Event::Called(room, _)
        | Event::Said(room, _) => room,
    }
}

/// What was noted since the last write.
#[derive(Debug, Default)]
struct Collected {
    open: BTreeMap<RoomId, Tick>,
    lines: Vec<Line>,
    events: u64,
}

impl Collected {
    fn add(&mut self, event: Event) {
        self.events += 1;
        let room = room_of(&event).clone();
        let tick = self.open.entry(room.clone()).or_insert_with(|| Tick::new(room.clone()));
        tick.add(event);
        if tick.events >= LINE_EVENTS_MAX
            && let Some(full) = self.open.remove(&room)
        {
            self.lines.push(Line::Tick(full));
        }
    }

    fn take(&mut self) -> (Vec<Line>, u64) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.extend(std::mem::take(&mut self.open).into_values().map(Line::Tick));
        (lines, std::mem::take(&mut self.events))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Writer {
    files: Files,
    /// Events that found no place in the queue and are not in a `gap` entry yet.
    dropped: Arc<AtomicU64>,
    broken: bool,
}

impl Writer {
    pub fn new(files: Files, dropped: Arc<AtomicU64>) -> Self {
        Self { files, dropped, broken: false }
    }

    /// Runs until told to close, or until nobody can note anything any more.
    pub fn run(mut self, events: &Receiver<Message>) {
        let tick = Duration::from_millis(TICK_MS);
        let mut collected = Collected::default();
        let mut next = monotonic() + tick;
        loop {
            match events.recv_timeout(next.saturating_duration_since(monotonic())) {
                Ok(Message::Event(event)) => {
                    collected.add(event);
                    if monotonic() < next {
                        continue;
                    }
                }
                Ok(Message::Close(done)) => return self.close(collected, Some(&done)),
                Err(RecvTimeoutError::Disconnected) => return self.close(collected, None),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.write(&mut collected, now_ms());
            next = monotonic() + tick;
        }
    }

    /// Writes what was collected. What cannot be written is counted as missing.
    fn write(&mut self, collected: &mut Collected, now_ms: i64) {
        let (mut lines, events) = collected.take();
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            lines.push(Line::Gap { gap: dropped });
        }
        if lines.is_empty() {
            return;
        }
        let written = self.files.rotate(now_ms, self.broken).and_then(|()| self.files.append(now_ms, &lines));
        let was_broken = std::mem::replace(&mut self.broken, written.is_err());
        match written {
            Ok(()) => counter!(metric::JOURNAL_LINES).increment(u64::try_from(lines.len()).unwrap_or(0)),
            Err(error) => {
                self.dropped.fetch_add(dropped.saturating_add(events), Ordering::Relaxed);
                counter!(metric::JOURNAL_DROPPED).increment(events);
                if !was_broken {
                    tracing::error!(%error, "the journal cannot be written; what is missing is counted");
                }
            }
        }
    }

    fn close(mut self, mut collected: Collected, done: Option<&SyncSender<()>>) {
        let now_ms = now_ms();
        self.write(&mut collected, now_ms);
        if !self.broken
            && let Err(error) = self.files.append(now_ms, &[Line::Closed { closed: true }])
        {
            tracing::error!(%error, "the journal could not be closed");
        }
        // The other side may have stopped waiting.
        if let Some(done) = done {
            let _ = done.try_send(());
        }
    }
}
