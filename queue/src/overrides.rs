//! What operators said about a room. It lies over the published settings, so that neither side undoes the other: the
//! owner of a deal may publish again at any time, and the operator keeps the last word.

use crate::notice::Notice;
use crate::settings::RoomSettings;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use service_kit::config::ConfigError;

/// Every field is optional: what is `None` is as published. All times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Overrides {
    /// Calls are stopped (or go on, whatever was published).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// The room is over (or is not).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<bool>,
    /// People called per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<u32>,
    /// People inside at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside_max: Option<u32>,
    /// The message to the people in line; `Some(None)` (JSON `null`) takes away a published one.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub notice: Option<Option<Notice>>,
    /// From here on people may take a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lobby_opens_at_ms: Option<i64>,
    /// From here on people are called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts_at_ms: Option<i64>,
    /// From here on the room is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at_ms: Option<i64>,
    /// When an operator last said "go on": ends a hold after a loss of the store that happened before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed_ms: Option<i64>,
}

/// Keeps `null` apart from absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Notice>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// One part of the overrides that stands or falls as a whole.
type Part = fn(&Overrides, &mut RoomSettings);

fn switches(from: &Overrides, to: &mut RoomSettings) {
    to.paused = from.paused.unwrap_or(to.paused);
    to.closed = from.closed.unwrap_or(to.closed);
    to.resumed_ms = from.resumed_ms.unwrap_or(to.resumed_ms).max(to.resumed_ms);
}

fn rate(from: &Overrides, to: &mut RoomSettings) {
    if let Some(rate_per_s) = from.rate_per_s {
        to.rate_per_s = rate_per_s;
        // An operator who wants less than the floor means it.
        to.rate_floor_per_s = to.rate_floor_per_s.min(rate_per_s.max(1));
    }
}

fn cap(from: &Overrides, to: &mut RoomSettings) {
    to.inside_max = from.inside_max.unwrap_or(to.inside_max);
}

fn notice(from: &Overrides, to: &mut RoomSettings) {
    if let Some(notice) = &from.notice {
        to.notice.clone_from(notice);
    }
}

fn hours(from: &Overrides, to: &mut RoomSettings) {
    to.lobby_opens_at_ms = from.lobby_opens_at_ms.unwrap_or(to.lobby_opens_at_ms);
    to.starts_at_ms = from.starts_at_ms.unwrap_or(to.starts_at_ms);
    to.ends_at_ms = from.ends_at_ms.unwrap_or(to.ends_at_ms);
}

const PARTS: [Part; 5] = [switches, rate, cap, notice, hours];

impl Overrides {
    /// The settings with everything that operators said.
    ///
    /// A part that no longer fits what is published (hours that the owner moved meanwhile) is left out; a pause or an
    /// end always counts.
    pub fn apply(&self, published: &RoomSettings) -> RoomSettings {
        let mut settings = published.clone();
        for part in PARTS {
            let mut with = settings.clone();
            part(self, &mut with);
            if with.validate().is_ok() {
                settings = with;
            }
        }
        settings
    }

    /// The same, for a change that is about to be made: nothing is left out.
    ///
    /// # Errors
    /// Names the first field that is out of bounds; nothing is to be changed then.
    pub fn checked(&self, published: &RoomSettings) -> Result<RoomSettings, ConfigError> {
        let mut settings = published.clone();
        PARTS.iter().for_each(|part| part(self, &mut settings));
        settings.validate().map(|()| settings)
    }

    /// `newer` laid over these: what it does not mention stays.
    #[must_use]
    pub fn then(&self, newer: &Self) -> Self {
        Self {
            paused: newer.paused.or(self.paused),
            closed: newer.closed.or(self.closed),
            rate_per_s: newer.rate_per_s.or(self.rate_per_s),
            inside_max: newer.inside_max.or(self.inside_max),
            notice: newer.notice.clone().or_else(|| self.notice.clone()),
            lobby_opens_at_ms: newer.lobby_opens_at_ms.or(self.lobby_opens_at_ms),
            starts_at_ms: newer.starts_at_ms.or(self.starts_at_ms),
            ends_at_ms: newer.ends_at_ms.or(self.ends_at_ms),
            resumed_ms: newer.resumed_ms.max(self.resumed_ms),
        }
    }
}

/// What an operator can change in a room, as JSON: for the log and for the answer to a command.
pub fn steerable(settings: &RoomSettings) -> Map<String, Value> {
    let fields = [
        ("paused", settings.paused.into()),
        ("closed", settings.closed.into()),
        ("rate_per_s", settings.rate_per_s.into()),
        ("inside_max", settings.inside_max.into()),
        ("notice", serde_json::to_value(&settings.notice).unwrap_or(Value::Null)),
        ("lobby_opens_at_ms", settings.lobby_opens_at_ms.into()),
        ("starts_at_ms", settings.starts_at_ms.into()),
        ("ends_at_ms", settings.ends_at_ms.into()),
        ("resumed_ms", settings.resumed_ms.into()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The steerable fields that differ: as they were, and as they are.
pub fn difference(before: &RoomSettings, after: &RoomSettings) -> (Value, Value) {
    let (mut was, mut is) = (steerable(before), steerable(after));
    let same: Vec<String> =
        was.iter().filter(|(name, value)| is.get(*name) == Some(*value)).map(|(n, _)| n.clone()).collect();
    for name in same {
        was.remove(&name);
        is.remove(&name);
    }
    (was.into(), is.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::room;
    use serde_json::json;

    fn read(value: Value) -> Overrides {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_not_said_is_as_published() {
        let published = RoomSettings { notice: Some(Notice::One("hello".into())), paused: true, ..room() };
        assert_eq!(Overrides::default().apply(&published), published);
        let steered = read(json!({"paused": false, "rate_per_s": 3, "notice": null, "ends_at_ms": 9_000}));
        let after = steered.apply(&published);
        assert_eq!((after.paused, after.rate_per_s, after.notice, after.ends_at_ms), (false, 3, None, 9_000));
        assert_eq!((after.inside_max, after.closed), (published.inside_max, false));
    }

    #[test]
    fn json_keeps_null_apart_from_absent() {
        for text in [r#"{}"#, r#"{"notice":null}"#, r#"{"paused":true,"notice":{"ko":"곧"},"resumed_ms":7}"#] {
            let read: Overrides = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        assert!(serde_json::from_str::<Overrides>(r#"{"title":"x"}"#).is_err());
    }

    #[test]
    fn a_refusal_names_the_field() {
        for (change, field) in [
            (json!({"rate_per_s": 0}), "rate_per_s"),
            (json!({"rate_per_s": 100_001}), "rate_per_s"),
            (json!({"inside_max": 0}), "inside_max"),
            (json!({"notice": ""}), "notice"),
            (json!({"ends_at_ms": 0}), "ends_at_ms"),
            (json!({"lobby_opens_at_ms": 5}), "lobby_opens_at_ms"),
        ] {
            let refused = read(change.clone()).checked(&room()).unwrap_err();
            assert!(refused.0.contains(field), "{change}: {refused}");
        }
        assert_eq!(
            read(json!({"rate_per_s": 2}))
                .checked(&RoomSettings { rate_floor_per_s: 5, ..room() })
                .unwrap()
                .rate_floor_per_s,
            2
        );
    }

    #[test]
    fn hours_that_no_longer_fit_are_left_out_and_a_pause_is_not() {
        let steered = read(json!({"paused": true, "rate_per_s": 4, "ends_at_ms": 1_000}));
        let moved = RoomSettings { starts_at_ms: 2_000, ends_at_ms: 3_000, ..room() };
        let after = steered.apply(&moved);
        assert_eq!((after.paused, after.rate_per_s, after.ends_at_ms), (true, 4, 3_000));
        assert!(after.validate().is_ok());
    }

    #[test]
    fn newer_words_lie_over_older_ones() {
        let older = read(json!({"paused": true, "rate_per_s": 4, "resumed_ms": 9}));
        let newer = read(json!({"paused": false, "notice": null, "resumed_ms": 5}));
        assert_eq!(
            older.then(&newer),
            read(json!({"paused": false, "rate_per_s": 4, "notice": null, "resumed_ms": 9}))
        );
    }

    #[test]
    fn the_log_shows_what_changed_and_nothing_else() {
        let after = RoomSettings { paused: true, rate_per_s: 1, title: "Other".into(), ..room() };
        let (was, is) = difference(&room(), &after);
        assert_eq!((was, is), (json!({"paused": false, "rate_per_s": 10}), json!({"paused": true, "rate_per_s": 1})));
    }
}
