//! What a room is told: its hours, its rate, its limits. Parsed once, checked once, then only read.

use crate::bypass::{self, Bypass};
use crate::lane::{self, Lane};
use crate::notice::Notice;
use crate::theme::Theme;
use crate::ticket::NUMBER_MAX;
use serde::{Deserialize, Serialize};
use service_kit::config::{ConfigError, require};
use service_kit::ids::RoomId;

/// The end of a room that never ends: the last millisecond of the year 9999.
pub const NEVER_ENDS_MS: i64 = 253_402_300_799_999;
/// Longest title, in characters.
pub const TITLE_CHARS_MAX: usize = 200;
/// Longest enter path, in bytes.
pub const ENTER_PATH_BYTES_MAX: usize = 200;

/// How places are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// In order of arrival.
    #[default]
    Fifo,
    /// Those who come before the start are put in a drawn order that everybody can check; the others stand behind them.
    Draw,
}

/// Where a draw takes randomness from that the operator does not choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beacon {
    /// From nowhere but the committed secret and the list of entrants.
    #[default]
    Off,
    /// From a signed file that somebody else writes after the lobby has closed (`[gate] beacon`).
    File,
    /// From a random value that each entrant throws in with the join.
    Entrants,
}

/// What a reload of the page does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refresh {
    /// The place stays.
    #[default]
    Keep,
    /// A new number at the end.
    Requeue,
}

/// Who has one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnePlacePer {
    /// Each browser or app.
    #[default]
    Visitor,
    /// Each signed-in person; who is not signed in is asked to sign in first.
    Person,
}

/// What happens to a pass that is used from another browser than the one that claimed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopiedPass {
    /// It is counted and logged.
    #[default]
    Warn,
    /// It is refused there.
    Refuse,
}

/// When newcomers have to prove some work before they get a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofOfWork {
    /// Never.
    #[default]
    Off,
    /// While joins come faster than `attack_joins_per_s`.
    UnderAttack,
    /// Always.
    Always,
}

/// How a room goes on after its store could not be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterStoreLoss {
    /// By itself, once tickets have been collected.
    #[default]
    Resume,
    /// When the operator resumes it.
    Operator,
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
    /// How long a claimed pass lasts without activity.
    #[serde(default = "default_lease_ms")]
    pub lease_ms: u32,
    /// How long a pass lasts at most, however active its owner is; at least `lease_ms`.
    #[serde(default = "default_lease_max_ms")]
    pub lease_max_ms: u32,
    /// Silent for longer means skipped when called; the place is kept.
    #[serde(default = "default_silence_ms")]
    pub silence_ms: u32,
    /// Call only as many as may still find something to buy.
    #[serde(default)]
    pub stock_aware: bool,
    /// People per hundred available units that may look at them at once, 100 to 1,000; until the conversion is measured.
    #[serde(default = "default_overbooking_percent")]
    pub overbooking_percent: u32,
    /// The most that a measured conversion may raise the above to, `overbooking_percent` to 1,000.
    #[serde(default = "default_overbooking_percent_max")]
    pub overbooking_percent_max: u32,
    /// Calls per hundred wanted entries at most, 100 to 300, to make up for people who do not claim; 100 = off.
    #[serde(default = "default_no_show_percent_max")]
    pub no_show_percent_max: u32,
    /// Slower answers of the upstream (of one in twenty) slow the calls down, in ms; 0 = never.
    #[serde(default)]
    pub upstream_slow_ms: u32,
    /// More failed answers of the upstream than this slow the calls down, in percent; 0 = never.
    #[serde(default)]
    pub upstream_errors_percent: u8,
    /// People called per second at least, however slow the upstream is, 1 to `rate_per_s`.
    #[serde(default = "default_rate_floor_per_s")]
    pub rate_floor_per_s: u32,
    /// What a reload does.
    #[serde(default)]
    pub refresh: Refresh,
    /// Who has one place.
    #[serde(default)]
    pub one_place_per: OnePlacePer,
    /// Where people sign in, for rooms with one place per person.
    #[serde(default = "default_sign_in_path")]
    pub sign_in_path: String,
    /// A pass seen in two browsers.
    #[serde(default)]
    pub copied_pass: CopiedPass,
    /// When newcomers must prove work.
    #[serde(default)]
    pub proof_of_work: ProofOfWork,
    /// Leading zero bits of the proof, 8 to 22; each doubles the work.
    #[serde(default = "default_proof_bits")]
    pub proof_bits: u8,
    /// Joins per second and gate above which the room is under attack.
    #[serde(default = "default_attack_joins_per_s")]
    pub attack_joins_per_s: u32,
    /// Lanes beside the main one.
    #[serde(default)]
    pub lanes: Vec<Lane>,
    /// Only people with a code or an invitation get a number.
    #[serde(default)]
    pub invite_only: bool,
    /// Requests that the room does not stop.
    #[serde(default)]
    pub bypass: Vec<Bypass>,
    /// What the draw's randomness comes from.
    #[serde(default)]
    pub beacon: Beacon,
    /// How the room goes on after the store could not be trusted.
    #[serde(default)]
    pub after_store_loss: AfterStoreLoss,
    /// What the waiting page looks like.
    #[serde(default)]
    pub theme: Theme,
    /// When the operator last said that the store can be trusted again (see `after_store_loss`); 0 = never.
    #[serde(default)]
    pub resumed_ms: i64,
    /// Numbers below this were given, as somebody beside the store knows: one that gives them again has lost something.
    #[serde(default)]
    pub numbers_from: u64,
    /// The operator stopped the calls; everybody keeps the place.
    #[serde(default)]
    pub paused: bool,
    /// The operator ended the sale.
    #[serde(default)]
    pub closed: bool,
    /// A message of the operator.
    #[serde(default)]
    pub notice: Option<Notice>,
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
fn default_lease_max_ms() -> u32 {
    RoomSettings::LEASE_MAX_MS
}
fn default_overbooking_percent_max() -> u32 {
    RoomSettings::OVERBOOKING_PERCENT_MAX
}
fn default_no_show_percent_max() -> u32 {
    200
}
fn default_rate_floor_per_s() -> u32 {
    1
}
fn default_sign_in_path() -> String {
    "/login".to_owned()
}
fn default_proof_bits() -> u8 {
    14
}
fn default_attack_joins_per_s() -> u32 {
    2_000
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
    /// The default of `lease_max_ms`.
    pub const LEASE_MAX_MS: u32 = 3_600_000;
    /// The default of `overbooking_percent_max`.
    pub const OVERBOOKING_PERCENT_MAX: u32 = 300;

    /// A room with the four fields that have no default; everything else as documented.
    pub fn new(room: RoomId, title: String, rate_per_s: u32, inside_max: u32) -> Self {
        Self {
            room,
            title,
            mode: Mode::default(),
            lobby_opens_at_ms: 0,
            starts_at_ms: 0,
            ends_at_ms: never_ends(),
            rate_per_s,
            inside_max,
            claim_window_ms: default_claim_window_ms(),
            lease_ms: default_lease_ms(),
            lease_max_ms: default_lease_max_ms(),
            silence_ms: default_silence_ms(),
            stock_aware: false,
            overbooking_percent: default_overbooking_percent(),
            overbooking_percent_max: default_overbooking_percent_max(),
            no_show_percent_max: default_no_show_percent_max(),
            upstream_slow_ms: 0,
            upstream_errors_percent: 0,
            rate_floor_per_s: default_rate_floor_per_s(),
            refresh: Refresh::default(),
            one_place_per: OnePlacePer::default(),
            sign_in_path: default_sign_in_path(),
            copied_pass: CopiedPass::default(),
            proof_of_work: ProofOfWork::default(),
            proof_bits: default_proof_bits(),
            attack_joins_per_s: default_attack_joins_per_s(),
            lanes: Vec::new(),
            invite_only: false,
            bypass: Vec::new(),
            beacon: Beacon::default(),
            after_store_loss: AfterStoreLoss::default(),
            theme: Theme::default(),
            resumed_ms: 0,
            numbers_from: 0,
            paused: false,
            closed: false,
            notice: None,
            enter_path: default_enter_path(),
            case_insensitive: false,
        }
    }

    /// Whether who comes at `now_ms` may throw a nonce into the draw.
    pub fn takes_nonces(&self, now_ms: i64) -> bool {
        self.beacon == Beacon::Entrants && self.mode == Mode::Draw && now_ms < self.starts_at_ms
    }

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
        require(
            (self.overbooking_percent..=1_000).contains(&self.overbooking_percent_max),
            "overbooking_percent_max",
            "overbooking_percent to 1000",
        )?;
        require((self.lease_ms..=86_400_000).contains(&self.lease_max_ms), "lease_max_ms", "lease_ms to 86400000")?;
        require(self.numbers_from <= NUMBER_MAX, "numbers_from", "0 to 134217727")?;
        require((100..=300).contains(&self.no_show_percent_max), "no_show_percent_max", "100 to 300")?;
        require(self.upstream_slow_ms <= 60_000, "upstream_slow_ms", "0 to 60000")?;
        require(self.upstream_errors_percent <= 100, "upstream_errors_percent", "0 to 100")?;
        require((1..=self.rate_per_s).contains(&self.rate_floor_per_s), "rate_floor_per_s", "1 to rate_per_s")?;
        require((8..=22).contains(&self.proof_bits), "proof_bits", "8 to 22")?;
        require((1..=1_000_000).contains(&self.attack_joins_per_s), "attack_joins_per_s", "1 to 1000000")?;
        require(
            self.mode == Mode::Fifo || self.lanes.is_empty(),
            "lanes",
            "only in rooms with mode = \"fifo\": a draw knows no lanes",
        )?;
        require(
            self.mode == Mode::Draw || self.beacon != Beacon::Entrants,
            "beacon",
            "`entrants` only in rooms with mode = \"draw\": who throws something in must be drawn",
        )?;
        lane::validate(&self.lanes)?;
        bypass::validate(&self.bypass)?;
        self.theme.validate()?;
        if let Some(notice) = &self.notice {
            notice.validate()?;
        }
        // Where the called go is put into a Location header: only a path of this very site.
        for (path, field) in [(&self.enter_path, "enter_path"), (&self.sign_in_path, "sign_in_path")] {
            let own = path.starts_with('/')
                && !path.starts_with("//")
                && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
            require(own && path.len() <= ENTER_PATH_BYTES_MAX, field, "a path of this site, at most 200 bytes")?;
        }
        Ok(())
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
        assert_eq!(room, RoomSettings::new("shoes".parse().unwrap(), "Shoes".into(), 10, 100));
        assert!(
            serde_json::from_str::<RoomSettings>(r#"{"room":"a","title":"A","rate_per_s":1,"inside_max":1,"ratio":2}"#)
                .is_err()
        );
    }

    #[test]
    fn nonces_are_for_the_lobby_of_a_draw() {
        let draw = RoomSettings { mode: Mode::Draw, beacon: Beacon::Entrants, starts_at_ms: 9, ..room() };
        assert!(draw.validate().is_ok() && draw.takes_nonces(8) && !draw.takes_nonces(9));
        let off = RoomSettings { beacon: Beacon::Off, ..draw.clone() };
        assert!(!off.takes_nonces(8) && !RoomSettings { mode: Mode::Fifo, ..draw }.takes_nonces(8));
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
            ("overbooking_percent_max", |r| r.overbooking_percent_max = 149),
            ("lease_max_ms", |r| r.lease_max_ms = 599_999),
            ("no_show_percent_max", |r| r.no_show_percent_max = 301),
            ("rate_floor_per_s", |r| r.rate_floor_per_s = 11),
            ("proof_bits", |r| r.proof_bits = 23),
            ("lanes", |r| {
                r.mode = Mode::Draw;
                r.lanes = vec![Lane { name: "vip".into(), share_percent: 10, codes: vec![] }];
            }),
            ("beacon", |r| r.beacon = Beacon::Entrants),
            ("sign_in_path", |r| r.sign_in_path = "//elsewhere.example".into()),
            ("notice", |r| r.notice = Some(Notice::One("x".repeat(501)))),
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
