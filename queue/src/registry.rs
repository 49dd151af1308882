//! The list of rooms: published by whoever owns a room, steered by operators, read by every gate. Settings, overrides
//! and version change together.

use crate::control::{self, Steered};
use crate::keys::{OVERRIDES, SETTINGS, SETTINGS_VERSION, operations_key, room_log_key};
use crate::settings::RoomSettings;
use service_kit::ids::RoomId;
use service_kit::redis::{Redis, Reply, StoreError};
use service_kit::script;
use std::collections::BTreeMap;

script!(
    /// Adds or changes a room.
    PUBLISH,
    "publish",
    "scripts/publish.lua"
);
script!(
    /// Removes a room.
    RETRACT,
    "retract",
    "scripts/retract.lua"
);
script!(
    /// Reads the list of rooms.
    ROOMS,
    "rooms",
    "scripts/rooms.lua"
);

/// Most rooms in one Redis.
pub const ROOMS_MAX: usize = 1_000;
/// How long the log of a room that was taken back stays, in seconds: 90 days.
pub const LOG_KEPT_S: u32 = 90 * 86_400;
/// A list that was made anew starts at the clock in microseconds, so its version is at least this far from the old one.
const VERSION_JUMP: i64 = 100_000;
/// After a loss of the list its owners have so long to publish again before a room that is missing counts as gone.
const REPUBLISH_MS: i64 = 60_000;

/// The list as one look found it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// Its version; 0 = the store has no list (nothing was published yet, or it was lost).
    pub version: i64,
    /// The rooms as their owners published them, by name; `None` with version 0.
    pub published: Option<Vec<RoomSettings>>,
    /// What operators said, for published rooms and for those of a gate's configuration.
    pub steered: BTreeMap<RoomId, Steered>,
}

impl Listing {
    /// The published rooms with what operators said about them.
    pub fn rooms(&self) -> Vec<RoomSettings> {
        self.published.iter().flatten().map(|room| steer(room, &self.steered)).collect()
    }
}

fn steer(room: &RoomSettings, steered: &BTreeMap<RoomId, Steered>) -> RoomSettings {
    steered.get(&room.room).map_or_else(|| room.clone(), |s| s.set.apply(room))
}

/// Adds a room or changes its settings. Publishing what is there already changes nothing, and nothing here touches
/// what operators said.
///
/// # Errors
/// [`StoreError::Config`] when the settings are not valid; [`StoreError::Refused`] `FULL` beyond [`ROOMS_MAX`];
/// otherwise see [`StoreError`].
pub async fn publish(redis: &Redis, settings: &RoomSettings) -> Result<(), StoreError> {
    settings.validate().map_err(|e| StoreError::Config(e.0))?;
    let json = serde_json::to_string(settings).map_err(|e| StoreError::Config(e.to_string()))?;
    let keys = [SETTINGS.to_owned(), SETTINGS_VERSION.to_owned()];
    redis.run(&PUBLISH, &keys, &[ROOMS_MAX.to_string(), settings.room.to_string(), json]).await?;
    Ok(())
}

/// Removes a room from the list with what operators said; its line stays, its log for [`LOG_KEPT_S`]. Removing it
/// again changes nothing.
///
/// # Errors
/// See [`StoreError`].
pub async fn retract(redis: &Redis, room: &RoomId) -> Result<(), StoreError> {
    let [settings, version, overrides] = [SETTINGS, SETTINGS_VERSION, OVERRIDES].map(str::to_owned);
    let keys = [settings, version, overrides, room_log_key(room), operations_key(room)];
    redis.run(&RETRACT, &keys, &[room.to_string(), LOG_KEPT_S.to_string()]).await?;
    Ok(())
}

/// The list, if its version differs from `known_version` (0 = know nothing yet). A list that the store does not have
/// is reported every time.
///
/// A room that this program cannot read is left out and logged.
///
/// # Errors
/// See [`StoreError`].
pub async fn fetch(redis: &Redis, known_version: i64) -> Result<Option<Listing>, StoreError> {
    let keys = [SETTINGS, SETTINGS_VERSION, OVERRIDES].map(str::to_owned);
    let reply = redis.run(&ROOMS, &keys, &[known_version.to_string()]).await?;
    let version = reply.at(0)?.int()?;
    let Ok(records) = reply.at(1) else { return Ok(None) };
    let steered = steered(records)?;
    let published = match reply.at(2) {
        Ok(list) => Some(published(list)?),
        Err(_) => None,
    };
    Ok(Some(Listing { version, published, steered }))
}

fn published(list: &Reply) -> Result<Vec<RoomSettings>, StoreError> {
    let mut rooms = Vec::new();
    for [name, json] in list.list()?.as_chunks::<2>().0 {
        let name = name.text()?;
        match serde_json::from_str::<RoomSettings>(&json.text()?) {
            Ok(room) if room.room.as_str() == name && room.validate().is_ok() => rooms.push(room),
            Ok(_) => tracing::warn!(room = name, "room settings in the store are not valid; the room is left out"),
            Err(e) => {
                tracing::warn!(room = name, error = %e, "room settings in the store cannot be read; the room is left out")
            }
        }
    }
    rooms.sort_by(|a, b| a.room.cmp(&b.room));
    Ok(rooms)
}

fn steered(records: &Reply) -> Result<BTreeMap<RoomId, Steered>, StoreError> {
    let mut found = BTreeMap::new();
    for [name, json] in records.list()?.as_chunks::<2>().0 {
        let name = name.text()?;
        match (name.parse(), serde_json::from_str(&json.text()?)) {
            (Ok(room), Ok(record)) => drop(found.insert(room, record)),
            _ => tracing::warn!(room = name, "overrides in the store cannot be read; what was known before stays"),
        }
    }
    Ok(found)
}

/// What a gate remembers of the list, so that a store that lost its memory neither takes rooms away nor lets a paused
/// one run.
#[derive(Debug)]
pub struct Known {
    fixed: Vec<RoomSettings>,
    version: i64,
    published: Vec<RoomSettings>,
    steered: BTreeMap<RoomId, Steered>,
    /// Rooms that are missing stay until then: the list was lost, and is being published again.
    keep_until_ms: i64,
}

/// What a look at the list means.
#[derive(Debug, Default, PartialEq)]
pub struct News {
    /// Some room is new, different or gone.
    pub changed: bool,
    /// Rooms about which an operator said something since the last look.
    pub spoken: Vec<RoomId>,
    /// Records that the store lost and this gate still has.
    pub lost: Vec<(RoomId, Steered)>,
}

impl Known {
    /// Nothing but the rooms of the configuration.
    pub fn new(fixed: Vec<RoomSettings>) -> Self {
        Self { fixed, version: 0, published: Vec::new(), steered: BTreeMap::new(), keep_until_ms: 0 }
    }

    /// The version to ask with. When missing rooms need not stay any longer, everything is asked for once more: what
    /// was taken off the list meanwhile made no later version.
    pub fn version(&self, now_ms: i64) -> i64 {
        if self.keep_until_ms > 0 && now_ms >= self.keep_until_ms { 0 } else { self.version }
    }

    /// What operators said last about `room`.
    pub fn steered(&self, room: &RoomId) -> Option<&Steered> {
        self.steered.get(room)
    }

    /// All rooms with what operators said. The configuration comes first: nobody can publish over a static room.
    pub fn rooms(&self) -> Vec<RoomSettings> {
        let ours = |room: &RoomSettings| self.fixed.iter().any(|f| f.room == room.room);
        let published = self.published.iter().filter(|room| !ours(room));
        self.fixed.iter().chain(published).map(|room| steer(room, &self.steered)).collect()
    }

    /// Takes in what a look found. `now_ms` is this machine's clock; only spans of it matter.
    pub fn take(&mut self, listing: Listing, now_ms: i64) -> News {
        let before = (self.published.clone(), self.steered.clone());
        let jumped = listing.version < self.version || listing.version.saturating_sub(self.version) >= VERSION_JUMP;
        if listing.version == 0 || (self.version > 0 && jumped) {
            self.keep_until_ms = now_ms.saturating_add(REPUBLISH_MS);
        } else if now_ms >= self.keep_until_ms {
            self.keep_until_ms = 0;
        }
        self.version = listing.version;
        if let Some(mut published) = listing.published {
            if now_ms < self.keep_until_ms {
                let missing = self.published.iter().filter(|old| !published.iter().any(|new| new.room == old.room));
                published.extend(missing.cloned().collect::<Vec<_>>());
            }
            self.published = published;
        }
        // What was said about a room that is nobody's is of no use here; once it is published the list is read again.
        let listed = |room: &RoomId| self.fixed.iter().chain(&self.published).any(|r| r.room == *room);
        self.steered.retain(|room, _| listed(room));
        let mut news = News::default();
        for (room, record) in listing.steered.iter().filter(|(room, _)| listed(room)) {
            let newer = match self.steered.get(room) {
                None => Some(record.clone()),
                Some(known) => known.hear(record),
            };
            if let Some(newer) = newer {
                self.steered.insert(room.clone(), newer);
                news.spoken.push(room.clone());
            }
        }
        let in_store =
            |room: &RoomId, known: &Steered| listing.steered.get(room).is_some_and(|r| r.tail.seq >= known.tail.seq);
        news.lost = self.steered.iter().filter(|(r, k)| !in_store(r, k)).map(|(r, k)| (r.clone(), k.clone())).collect();
        news.changed = before != (self.published.clone(), self.steered.clone());
        news
    }
}

/// Writes records back that the store lost, at the store's time of each room. Any number of gates may do so at once: one
/// of them succeeds.
pub async fn restore(redis: &Redis, lost: &[(RoomId, Steered)], now_ms: impl Fn(&RoomId) -> i64) {
    for (room, record) in lost {
        match control::restore(redis, room, record, now_ms(room)).await {
            Ok(true) => tracing::warn!(%room, "the store had lost what operators said; it has it again"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%room, %error, "what operators said could not be written back; trying again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overrides::Overrides;
    use service_kit::chain::Tail;

    fn room(name: &str) -> RoomSettings {
        RoomSettings::new(name.parse().unwrap(), name.to_owned(), 10, 100)
    }

    fn said(seq: u64, at_ms: i64, paused: bool) -> Steered {
        Steered {
            tail: Tail { seq, hash: format!("{seq:064}") },
            at_ms,
            set: Overrides { paused: Some(paused), ..Overrides::default() },
        }
    }

    fn listing(version: i64, rooms: &[&str], steered: &[(&str, Steered)]) -> Listing {
        Listing {
            version,
            published: (version > 0).then(|| rooms.iter().map(|r| room(r)).collect()),
            steered: steered.iter().map(|(r, s)| (r.parse().unwrap(), s.clone())).collect(),
        }
    }

    fn names(known: &Known) -> Vec<String> {
        known.rooms().iter().map(|r| format!("{}{}", r.room, if r.paused { " paused" } else { "" })).collect()
    }

    #[test]
    fn operators_steer_published_and_static_rooms() {
        let mut known = Known::new(vec![room("drop")]);
        assert_eq!(names(&known), ["drop"]);
        let news =
            known.take(listing(5, &["a", "drop"], &[("drop", said(1, 10, true)), ("gone", said(1, 10, true))]), 0);
        assert_eq!((news.changed, news.spoken, news.lost), (true, vec!["drop".parse().unwrap()], Vec::new()));
        assert_eq!(names(&known), ["drop paused", "a"], "a static room cannot be published over");
        assert!(!known.take(listing(5, &["a", "drop"], &[("drop", said(1, 10, true))]), 0).changed);
        known.take(listing(6, &[], &[("drop", said(2, 20, false))]), 0);
        assert_eq!(names(&known), ["drop"]);
    }

    #[test]
    fn a_lost_list_keeps_rooms_and_pauses_while_it_is_published_again() {
        let mut known = Known::new(Vec::new());
        known.take(listing(1_000_000, &["a", "b"], &[("a", said(3, 10, true)), ("b", said(1, 10, true))]), 0);
        let news = known.take(listing(0, &[], &[]), 100);
        assert_eq!(
            (names(&known), news.lost.len(), news.changed),
            (vec!["a paused".to_owned(), "b paused".to_owned()], 2, false)
        );
        // One owner comes back first, under a version that is far away; the next change is a small step.
        known.take(listing(9_000_000, &["b"], &[]), 200);
        let news = known.take(listing(9_000_001, &["b"], &[("b", said(2, 10, true))]), 300);
        assert_eq!(names(&known), ["b paused", "a paused"]);
        assert_eq!(news.lost.len(), 1);
        // A minute later a room that nobody published is gone: everything is asked for again, once.
        assert_eq!((known.version(301), known.version(100_000)), (9_000_001, 0));
        let news = known.take(listing(9_000_001, &["b"], &[("b", said(2, 10, true))]), 100_000);
        assert_eq!((names(&known), news.changed), (vec!["b paused".to_owned()], true));
        assert_eq!(known.version(100_001), 9_000_001);
    }

    #[test]
    fn an_older_copy_of_the_store_does_not_take_an_operators_word_back() {
        let mut known = Known::new(vec![room("drop")]);
        known.take(listing(0, &[], &[("drop", said(7, 70, true))]), 0);
        let news = known.take(listing(0, &[], &[("drop", said(4, 40, false))]), 10);
        assert_eq!(names(&known), ["drop paused"]);
        assert_eq!(news.lost, [("drop".parse().unwrap(), said(7, 70, true))]);
        // What was said after the loss, before anybody wrote back, is newer although its number is lower.
        let mut after = said(1, 90, false);
        after.set = Overrides { rate_per_s: Some(3), ..Overrides::default() };
        let news = known.take(listing(0, &[], &[("drop", after)]), 20);
        assert_eq!((names(&known), known.rooms()[0].rate_per_s), (vec!["drop paused".to_owned()], 3));
        assert_eq!((news.spoken.len(), news.lost.len()), (1, 1), "both words are written back together");
    }
}
