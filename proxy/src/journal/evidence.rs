//! One visitor's way through the line, put together from journals: what a shop shows somebody who asks why it took so
//! long, or whether anybody was preferred.

use super::read::{self, Report};
use super::{Calls, JoinRow};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::chain::Entry;
use service_kit::ids::{RoomId, VisitorId};
use std::collections::BTreeMap;
use std::path::Path;

/// Where something is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The gate that wrote it.
    pub gate: String,
    /// The number of its entry.
    pub seq: u64,
    /// When, by that gate's clock.
    pub at_ms: i64,
}

/// Everything about one number of a room.
#[derive(Clone, Debug, Serialize)]
pub struct Evidence {
    /// The room.
    pub room: RoomId,
    /// The number.
    pub number: u64,
    /// Who holds it: a random name that the gate made.
    pub visitor: Option<VisitorId>,
    /// The place; `None` when a draw gave it later.
    pub place: Option<u64>,
    /// When the number was given, by the store's clock.
    pub joined_ms: Option<i64>,
    /// The ends of the wait promised then, in ms.
    pub promise_ms: Option<(i64, i64)>,
    /// The entry of the join.
    pub joined: Option<Source>,
    /// When the calls reached the place: the first board of any gate that shows it.
    pub reached: Option<Source>,
    /// When the call was claimed.
    pub claimed: Option<Source>,
    /// The end of the lease at that moment, in ms.
    pub lease_until_ms: Option<i64>,
    /// When the visitor left.
    pub left: Option<Source>,
    /// When the lease was ended for good.
    pub ended: Option<Source>,
    /// What operators did with the room from the join on, as it stands in the room's log.
    pub operators: Vec<Value>,
    /// The journals that this comes from, and whether their chains hold.
    pub journals: Vec<Report>,
}

#[derive(Deserialize)]
struct Row {
    at_ms: i64,
    gate: String,
}

/// A field of an entry, if it is there and has this form.
fn field<T: DeserializeOwned>(entry: &Entry, name: &str) -> Option<T> {
    T::deserialize(entry.value.get(name)?).ok()
}

/// Searches all journals of a directory.
///
/// # Errors
/// When the directory or a file cannot be read.
pub fn of(dir: &Path, room: &RoomId, number: u64) -> std::io::Result<Evidence> {
    let mut found = Evidence {
        room: room.clone(),
        number,
        visitor: None,
        place: None,
        joined_ms: None,
        promise_ms: None,
        joined: None,
        reached: None,
        claimed: None,
        lease_until_ms: None,
        left: None,
        ended: None,
        operators: Vec::new(),
        journals: Vec::new(),
    };
    let mut calls: Vec<(Calls, Source)> = Vec::new();
    // By number and hash: several gates copy the same entry.
    let mut said: BTreeMap<(u64, String), Value> = BTreeMap::new();
    found.journals = read::journals(dir, |entry| {
        if entry.text("room") != Some(room.as_str()) {
            return;
        }
        let Ok(Row { at_ms, gate }) = Row::deserialize(&entry.value) else { return };
        let source = Source { gate, seq: entry.seq, at_ms };
        found.take(entry, number, &source);
        if let Some(step) = field::<Calls>(entry, "calls") {
            calls.push((step, source));
        }
        for line in field::<Vec<String>>(entry, "said").unwrap_or_default() {
            if let Ok(entry) = Entry::read(&line) {
                said.insert((entry.seq, entry.hash), entry.value);
            }
        }
    })?;
    if let Some(place) = found.place {
        let reached = calls.into_iter().filter(|(step, _)| step.from < place && place <= step.to);
        found.reached = reached.map(|(_, source)| source).min_by_key(|source| source.at_ms);
    }
    let from_ms = found.joined_ms.unwrap_or(i64::MAX);
    let until_ms = [&found.left, &found.ended].into_iter().flatten().map(|s| s.at_ms).min().unwrap_or(i64::MAX);
    found.operators = said
        .into_values()
        .filter(|entry| entry.get("at_ms").and_then(Value::as_i64).is_some_and(|ms| (from_ms..=until_ms).contains(&ms)))
        .collect();
    Ok(found)
}

impl Evidence {
    /// Whether every chain behind it holds.
    pub fn holds(&self) -> bool {
        self.journals.iter().all(|report| report.broken.is_none())
    }

    fn take(&mut self, entry: &Entry, number: u64, source: &Source) {
        let joins = field::<Vec<JoinRow>>(entry, "joins").unwrap_or_default();
        // A repeated join gives the same number again; the first entry is the join.
        if let Some((_, place, visitor, joined_ms, low, high)) = joins.into_iter().find(|row| row.0 == number)
            && self.joined.as_ref().is_none_or(|known| source.at_ms < known.at_ms)
        {
            self.place = (place > 0).then_some(place);
            self.visitor = Some(visitor);
            self.joined_ms = Some(joined_ms);
            self.promise_ms = (high > 0).then_some((low, high));
            self.joined = Some(source.clone());
        }
        let claims = field::<Vec<(u64, i64)>>(entry, "claims").unwrap_or_default();
        if let Some((_, until_ms)) = claims.into_iter().find(|row| row.0 == number)
            && earlier(&mut self.claimed, source)
        {
            self.lease_until_ms = Some(until_ms);
        }
        for (name, slot) in [("leaves", &mut self.left), ("ended", &mut self.ended)] {
            if field::<Vec<u64>>(entry, name).is_some_and(|numbers| numbers.contains(&number)) {
                earlier(slot, source);
            }
        }
    }
}

/// Keeps the first of two sources; whether that is the new one.
fn earlier(slot: &mut Option<Source>, source: &Source) -> bool {
    let first = slot.as_ref().is_none_or(|known| source.at_ms < known.at_ms);
    if first {
        *slot = Some(source.clone());
    }
    first
}
