//! What a room is told: its hours, its rate, its limits. Parsed once, checked once, then only read.

use serde::{Deserialize, Serialize};
use service_kit::config::{ConfigError, require};
use service_kit::ids::RoomId;

/// The end of a room that never ends: the last millisecond of the year 9999.
pub const NEVER_ENDS_MS: i64 = 253_402_300_799_999;
/// Longest notice, in characters.
pub const NOTICE_CHARS_MAX: usize = 500;
/// Longest title, in characters.
pub const TITLE_CHARS_MAX: usize = 200;
/// Longest enter path, in bytes.
pub const ENTER_PATH_BYTES_MAX: usize = 200;

/// How places are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// In order of arrival: the place is the number.
    #[default]
    Fifo,
}

/// One room. All times are milliseconds since the Unix epoch, all `_ms` without `_at` are durations.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RoomSettings {
    /// Its name, part of every key and token.
    pub room: RoomId,
    /// What people read above the line.
    pub title: String,
    /// How places are given.
    #[serde(default)]
    pub mode: Mode,
    /// From here on people may take a number.
    #[serde(default)]
    pub lobby_opens_at_ms: i64,
    /// From here on people are called.
    #[serde(default)]
    pub starts_at_ms: i64,
    /// From here on the room is closed.
    #[serde(default = "never_ends")]
    pub ends_at_ms: i64,
    /// People called per second at most, 1 to 100,000.
    pub rate_per_s: u32,
    /// People called, inside or buying at once at most, 1 to 1,000,000.
    pub inside_max: u32,
    /// How long a call waits to be claimed.
    #[serde(default = "default_claim_window_ms")]
    pub claim_window_ms: u32,
    /// How long a claimed pass lasts.
    #[serde(default = "default_lease_ms")]
    pub lease_ms: u32,
    /// Silent for longer means skipped when called; the place is kept.
    #[serde(default = "default_silence_ms")]
    pub silence_ms: u32,
    /// Call only as many as may still find something to buy.
    #[serde(default)]
    pub stock_aware: bool,
    /// People per hundred available units that may look at them at once, 100 to 1,000.
    #[serde(default = "default_overbooking_percent")]
    pub overbooking_percent: u32,
    /// The operator stopped the calls; everybody keeps the place.
    #[serde(default)]
    pub paused: bool,
    /// The operator ended the sale.
    #[serde(default)]
    pub closed: bool,
    /// A message of the operator, plain text.
    #[serde(default)]
    pub notice: Option<String>,
    /// Where the called go, e.g. `/deals/…/buy`.
    #[serde(default = "default_enter_path")]
    pub enter_path: String,
    /// The protected paths ignore letter case (for upstreams that do).
    #[serde(default)]
    pub case_insensitive: bool,
}

fn never_ends() -> i64 {
    NEVER_ENDS_MS
}
fn default_claim_window_ms() -> u32 {
    60_000
}
fn default_lease_ms() -> u32 {
    600_000
}
fn default_silence_ms() -> u32 {
    60_000
}
fn default_overbooking_percent() -> u32 {
    150
}
fn default_enter_path() -> String {
    "/".to_owned()
}

impl RoomSettings {
    /// Checks what the types let through.
    ///
    /// # Errors
    /// Names the first field that is out of bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let plain = |text: &str| text.chars().all(|c| !c.is_control() || c == '\n');
        require(
            (1..=TITLE_CHARS_MAX).contains(&self.title.chars().count()) && plain(&self.title),
            "title",
            "1 to 200 characters of plain text",
        )?;
        require(self.lobby_opens_at_ms >= 0, "lobby_opens_at_ms", "not before 1970")?;
        require(self.lobby_opens_at_ms <= self.starts_at_ms, "lobby_opens_at_ms", "not after starts_at_ms")?;
        require(self.starts_at_ms < self.ends_at_ms, "ends_at_ms", "after starts_at_ms")?;
        require(self.ends_at_ms <= NEVER_ENDS_MS, "ends_at_ms", "not after the year 9999")?;
        require((1..=100_000).contains(&self.rate_per_s), "rate_per_s", "1 to 100000")?;
        require((1..=1_000_000).contains(&self.inside_max), "inside_max", "1 to 1000000")?;
        require((1_000..=3_600_000).contains(&self.claim_window_ms), "claim_window_ms", "1000 to 3600000")?;
        require((1_000..=86_400_000).contains(&self.lease_ms), "lease_ms", "1000 to 86400000")?;
        require((1_000..=3_600_000).contains(&self.silence_ms), "silence_ms", "1000 to 3600000")?;
        require((100..=1_000).contains(&self.overbooking_percent), "overbooking_percent", "100 to 1000")?;
        if let Some(notice) = &self.notice {
            require(
                notice.chars().count() <= NOTICE_CHARS_MAX && plain(notice),
                "notice",
                "at most 500 characters of plain text",
            )?;
        }
        // Where the called go is put into a Location header: only a path of this very site.
        let path = self.enter_path.as_str();
        let own = path.starts_with('/')
            && !path.starts_with("//")
            && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
        require(own && path.len() <= ENTER_PATH_BYTES_MAX, "enter_path", "a path of this site, at most 200 bytes")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn room() -> RoomSettings {
        serde_json::from_str(r#"{"room":"shoes","title":"Shoes","rate_per_s":10,"inside_max":100}"#).unwrap()
    }

    #[test]
    fn four_fields_make_a_room_and_the_rest_has_defaults() {
        let room = room();
        assert!(room.validate().is_ok());
        assert_eq!(
            (room.claim_window_ms, room.lease_ms, room.silence_ms, room.overbooking_percent),
            (60_000, 600_000, 60_000, 150)
        );
        let again: RoomSettings = serde_json::from_str(&serde_json::to_string(&room).unwrap()).unwrap();
        assert_eq!(again, room);
        assert!(
            serde_json::from_str::<RoomSettings>(r#"{"room":"a","title":"A","rate_per_s":1,"inside_max":1,"ratio":2}"#)
                .is_err()
        );
    }

    #[test]
    fn every_bound_is_named() {
        type Change = fn(&mut RoomSettings);
        let cases: &[(&str, Change)] = &[
            ("title", |r| r.title.clear()),
            ("title", |r| r.title = "a\u{1b}[0m".into()),
            ("lobby_opens_at_ms", |r| r.lobby_opens_at_ms = 1),
            ("lobby_opens_at_ms", |r| r.lobby_opens_at_ms = -1),
            ("ends_at_ms", |r| r.ends_at_ms = 0),
            ("ends_at_ms", |r| r.ends_at_ms = i64::MAX),
            ("rate_per_s", |r| r.rate_per_s = 0),
            ("rate_per_s", |r| r.rate_per_s = 100_001),
            ("inside_max", |r| r.inside_max = 0),
            ("claim_window_ms", |r| r.claim_window_ms = 999),
            ("lease_ms", |r| r.lease_ms = 0),
            ("silence_ms", |r| r.silence_ms = 0),
            ("overbooking_percent", |r| r.overbooking_percent = 99),
            ("notice", |r| r.notice = Some("x".repeat(501))),
            ("enter_path", |r| r.enter_path = "https://elsewhere.example/".into()),
            ("enter_path", |r| r.enter_path = "//elsewhere.example".into()),
            ("enter_path", |r| r.enter_path = "/\\elsewhere.example".into()),
            ("enter_path", |r| r.enter_path = "/a\r\nset-cookie:b".into()),
        ];
        for (field, change) in cases {
            let mut room = room();
            change(&mut room);
            let error = room.validate().unwrap_err().to_string();
            assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
        }
    }
}
