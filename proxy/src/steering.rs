//! The list of rooms as this gate follows it: what owners publish, with what operators say on top.

use crate::journal::{Event, Journal};
use crate::rooms::Rooms;
use queue::control;
use queue::registry::{self, Known};
use queue::settings::RoomSettings;
use service_kit::clock::now_ms;
use service_kit::ids::RoomId;
use service_kit::redis::{Redis, StoreError};
use std::collections::BTreeMap;

/// At the first look at a room so many of its latest log entries are copied into the journal.
const COPIED_FIRST: u64 = 100;

/// See the module.
#[derive(Debug)]
pub struct Steering {
    known: Known,
    journal: Journal,
    /// Room → number of the last log entry that is in the journal.
    copied: BTreeMap<RoomId, u64>,
}

impl Steering {
    /// Starts with the rooms of the configuration.
    pub fn new(fixed: Vec<RoomSettings>, journal: Journal) -> Self {
        Self { known: Known::new(fixed), journal, copied: BTreeMap::new() }
    }

    /// All rooms as they are to be run now.
    pub fn rooms(&self) -> Vec<RoomSettings> {
        self.known.rooms()
    }

    /// Looks at the list once; whether anything about the rooms changed. Writes back what the store has lost.
    ///
    /// # Errors
    /// See [`StoreError`]: everything stays as it was.
    pub async fn look(&mut self, rooms: &Rooms, store: &Redis) -> Result<bool, StoreError> {
        let at_ms = now_ms();
        let Some(listing) = registry::fetch(store, self.known.version(at_ms)).await? else { return Ok(false) };
        let news = self.known.take(listing, at_ms);
        registry::restore(store, &news.lost, |room| rooms.get(room.as_str()).map_or_else(now_ms, |r| r.now_ms())).await;
        if self.journal.is_on() {
            for room in &news.spoken {
                if let Err(error) = self.copy(store, room).await {
                    tracing::warn!(%room, %error, "an operator's entry could not be copied into the journal");
                }
            }
        }
        Ok(news.changed)
    }

    /// Copies new entries of a room's log into the journal, so that they outlive the store.
    async fn copy(&mut self, store: &Redis, room: &RoomId) -> Result<(), StoreError> {
        let last = self.known.steered(room).map_or(0, |steered| steered.tail.seq);
        let after = self.copied.get(room).copied().unwrap_or(last.saturating_sub(COPIED_FIRST));
        // A log that begins again after a loss has lower numbers.
        let after = if after > last { 0 } else { after };
        for line in control::log(store, room, after, control::LOG_PAGE_ENTRIES_MAX).await? {
            self.journal.note(Event::Said(room.clone(), line));
        }
        self.copied.insert(room.clone(), last);
        Ok(())
    }
}
