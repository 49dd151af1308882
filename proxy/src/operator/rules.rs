//! What each command means: a pure function of what operators said so far, what is published, and the time.

use queue::control::{ARCHIVED, Change};
use queue::notice::Notice;
use queue::overrides::{Overrides, difference};
use queue::settings::{Mode, NEVER_ENDS_MS, RoomSettings};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use service_kit::config::ConfigError;
use service_kit::http::parse;
use service_kit::operator::Role;
use service_kit::problem::{Problem, Slug};

/// Longest extension by one command, in milliseconds: 30 days.
const EXTEND_MS_MAX: i64 = 30 * 86_400_000;

/// All commands, for metrics and documentation.
pub const ACTIONS: [&str; 10] =
    ["pause", "resume", "rate", "cap", "notice", "close", "reopen", "schedule", "extend", ARCHIVED];

/// A command with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Stop the calls.
    Pause,
    /// Call again; also ends a hold after a loss of the store.
    Resume,
    /// People called per second; `None` = as published.
    Rate(Option<u32>),
    /// People inside at once; `None` = as published.
    Cap(Option<u32>),
    /// The message to the people in line; `None` = no message.
    Notice(Option<Notice>),
    /// End the room.
    Close,
    /// Take that back.
    Reopen,
    /// The hours; `None` = as they are.
    Schedule {
        /// When people may take numbers.
        lobby_opens_at_ms: Option<i64>,
        /// When people are called.
        starts_at_ms: Option<i64>,
        /// When it ends.
        ends_at_ms: Option<i64>,
    },
    /// A later end, by so many milliseconds.
    Extend(i64),
    /// Entries up to a number were saved elsewhere.
    Archive {
        /// That number.
        upto_seq: u64,
        /// The hash of that entry.
        hash: String,
    },
}

/// A field that must be there and may be `null`.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    why: String,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateBody {
    #[serde(deserialize_with = "nullable")]
    rate_per_s: Option<u32>,
    why: String,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CapBody {
    #[serde(deserialize_with = "nullable")]
    inside_max: Option<u32>,
    why: String,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoticeBody {
    #[serde(deserialize_with = "nullable")]
    notice: Option<Notice>,
    why: String,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleBody {
    lobby_opens_at_ms: Option<i64>,
    starts_at_ms: Option<i64>,
    ends_at_ms: Option<i64>,
    why: String,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExtendBody {
    by_ms: i64,
    why: String,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArchiveBody {
    upto_seq: u64,
    hash: String,
    why: String,
}

/// The command of a request with its reason. `action` is the end of the path.
///
/// # Errors
/// 404 for an unknown action, 400 or 422 naming the field for a body that is not its own.
pub fn read(action: &str, body: &[u8]) -> Result<(Ask, String), Problem> {
    let (ask, why) = match action {
        "pause" => (Ask::Pause, parse::<Plain>(body)?.why),
        "resume" => (Ask::Resume, parse::<Plain>(body)?.why),
        "close" => (Ask::Close, parse::<Plain>(body)?.why),
        "reopen" => (Ask::Reopen, parse::<Plain>(body)?.why),
        "rate" => {
            let RateBody { rate_per_s, why } = parse(body)?;
            (Ask::Rate(rate_per_s), why)
        }
        "cap" => {
            let CapBody { inside_max, why } = parse(body)?;
            (Ask::Cap(inside_max), why)
        }
        "notice" => {
            let NoticeBody { notice, why } = parse(body)?;
            (Ask::Notice(notice), why)
        }
        "schedule" => {
            let ScheduleBody { lobby_opens_at_ms, starts_at_ms, ends_at_ms, why } = parse(body)?;
            if lobby_opens_at_ms.or(starts_at_ms).or(ends_at_ms).is_none() {
                return Err(Problem::field(
                    "starts_at_ms",
                    "give at least one of lobby_opens_at_ms, starts_at_ms, ends_at_ms",
                ));
            }
            (Ask::Schedule { lobby_opens_at_ms, starts_at_ms, ends_at_ms }, why)
        }
        "extend" => {
            let ExtendBody { by_ms, why } = parse(body)?;
            if !(1..=EXTEND_MS_MAX).contains(&by_ms) {
                return Err(Problem::field("by_ms", "1 millisecond to 30 days"));
            }
            (Ask::Extend(by_ms), why)
        }
        "archive" => {
            let ArchiveBody { upto_seq, hash, why } = parse(body)?;
            (Ask::Archive { upto_seq, hash }, why)
        }
        _ => {
            return Err(Problem::new(
                Slug::NotFound,
                format!("There is no command of this name. There are {}.", ACTIONS.join(", ")),
            ));
        }
    };
    let chars = why.chars().count();
    let max = queue::control::WHY_CHARS_MAX;
    if why.trim().is_empty() || chars > max || why.chars().any(char::is_control) {
        return Err(Problem::field("why", format!("1 to {max} characters on one line: others will read it")));
    }
    Ok((ask, why))
}

impl Ask {
    /// Its name in the log and in metrics.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Rate(_) => "rate",
            Self::Cap(_) => "cap",
            Self::Notice(_) => "notice",
            Self::Close => "close",
            Self::Reopen => "reopen",
            Self::Schedule { .. } => "schedule",
            Self::Extend(_) => "extend",
            Self::Archive { .. } => ARCHIVED,
        }
    }

    /// Who may. A closed room sends everybody home, so that takes an administrator, and so does what leaves the log.
    pub fn role(&self) -> Role {
        match self {
            Self::Close | Self::Reopen | Self::Archive { .. } => Role::Admin,
            _ => Role::Operator,
        }
    }

    /// Whether it may use the reserve of a full log: what stops a sale must never fail for that.
    pub fn is_urgent(&self) -> bool {
        matches!(self, Self::Pause | Self::Close | Self::Archive { .. })
    }
}

/// What is known about the room when a command comes.
#[derive(Clone, Copy, Debug)]
pub struct Present<'a> {
    /// The room as published.
    pub published: &'a RoomSettings,
    /// It is on hold, or nobody can say.
    pub may_be_held: bool,
    /// The store's clock.
    pub now_ms: i64,
    /// For an archive: how many entries of the log are up to the number that was saved.
    pub archived: usize,
}

/// What the command changes.
///
/// # Errors
/// 409 when the room is not in a state for it, 422 when the result is not allowed, naming the field.
pub fn change(ask: &Ask, said: &Overrides, present: Present<'_>) -> Result<Change, Problem> {
    let Present { published, may_be_held, now_ms, archived } = present;
    let current = said.apply(published);
    let mut set = said.clone();
    let not_now = |text: &str| Err(Problem::new(Slug::WrongState, text));
    match ask {
        Ask::Pause if current.paused => return not_now("The room is paused already."),
        Ask::Pause => set.paused = Some(true),
        Ask::Resume if !current.paused && !may_be_held => {
            return not_now("The room is neither paused nor on hold: there is nothing to resume.");
        }
        Ask::Resume => {
            set.paused = Some(false);
            set.resumed_ms = Some(now_ms);
        }
        Ask::Rate(rate_per_s) => set.rate_per_s = *rate_per_s,
        Ask::Cap(inside_max) => set.inside_max = *inside_max,
        Ask::Notice(notice) => set.notice = Some(notice.clone()),
        Ask::Close if current.closed => return not_now("The room is closed already."),
        Ask::Close => set.closed = Some(true),
        Ask::Reopen if now_ms >= current.ends_at_ms => {
            return not_now("The room's hours are over: give it a later end first (extend).");
        }
        Ask::Reopen if !current.closed => return not_now("The room is not closed."),
        Ask::Reopen => set.closed = Some(false),
        Ask::Schedule { lobby_opens_at_ms, starts_at_ms, .. }
            if current.mode == Mode::Draw
                && now_ms >= current.starts_at_ms
                && lobby_opens_at_ms.or(*starts_at_ms).is_some() =>
        {
            return not_now("The draw was held when the room started: its beginning cannot be moved any more.");
        }
        Ask::Schedule { lobby_opens_at_ms, starts_at_ms, ends_at_ms } => {
            set.lobby_opens_at_ms = lobby_opens_at_ms.or(set.lobby_opens_at_ms);
            set.starts_at_ms = starts_at_ms.or(set.starts_at_ms);
            set.ends_at_ms = ends_at_ms.or(set.ends_at_ms);
        }
        Ask::Extend(_) if current.ends_at_ms >= NEVER_ENDS_MS => return not_now("The room has no end to move."),
        // A room that is over already is extended from now on, not from an end that has passed.
        Ask::Extend(by_ms) => set.ends_at_ms = Some(current.ends_at_ms.max(now_ms).saturating_add(*by_ms)),
        Ask::Archive { upto_seq, hash } => {
            let after = json!({ "upto_seq": upto_seq, "hash": hash });
            return Ok(Change { set, before: json!({}), after, take_out: archived });
        }
    }
    let next = set.checked(published).map_err(|error| refused(&error))?;
    let (before, after) = difference(&current, &next);
    Ok(Change { set, before, after, take_out: 0 })
}

/// The problem for settings that are out of bounds; the field stands between backquotes.
fn refused(error: &ConfigError) -> Problem {
    let mut parts = error.0.splitn(3, '`');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(field), Some(rule)) => Problem::field(field, rule.trim_start_matches([':', ' '])),
        _ => Problem::new(Slug::InvalidField, error.0.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> RoomSettings {
        RoomSettings { ends_at_ms: 100_000, ..RoomSettings::new("drop".parse().unwrap(), "Drop".into(), 10, 100) }
    }

    fn at(published: &RoomSettings, now_ms: i64) -> Present<'_> {
        Present { published, may_be_held: false, now_ms, archived: 0 }
    }

    fn ask(action: &str, body: &str) -> Result<Ask, Problem> {
        read(action, body.as_bytes()).map(|(ask, _)| ask)
    }

    #[test]
    fn commands_change_what_they_name_and_say_what_was() {
        let room = room();
        let run = |said: &Overrides, action: &str, body: &str| {
            change(&ask(action, body).unwrap(), said, at(&room, 50_000)).unwrap()
        };
        let none = Overrides::default();
        let paused = run(&none, "pause", r#"{"why":"x"}"#);
        assert_eq!((paused.before, paused.after), (json!({"paused": false}), json!({"paused": true})));
        let resumed = run(&paused.set, "resume", r#"{"why":"x"}"#);
        assert_eq!((resumed.set.paused, resumed.set.resumed_ms), (Some(false), Some(50_000)));
        let rate = run(&none, "rate", r#"{"rate_per_s":3,"why":"x"}"#);
        assert_eq!(rate.after, json!({"rate_per_s": 3}));
        assert_eq!(run(&rate.set, "rate", r#"{"rate_per_s":null,"why":"x"}"#).after, json!({"rate_per_s": 10}));
        assert_eq!(run(&none, "cap", r#"{"inside_max":7,"why":"x"}"#).set.inside_max, Some(7));
        let notice = run(&none, "notice", r#"{"notice":{"ko":"곧"},"why":"x"}"#);
        assert_eq!(notice.after, json!({"notice": {"ko": "곧"}}));
        assert_eq!(run(&notice.set, "notice", r#"{"notice":null,"why":"x"}"#).set.notice, Some(None));
        assert_eq!(run(&none, "extend", r#"{"by_ms":5000,"why":"x"}"#).set.ends_at_ms, Some(105_000));
        let closed = run(&none, "close", r#"{"why":"x"}"#);
        assert_eq!(run(&closed.set, "reopen", r#"{"why":"x"}"#).set.closed, Some(false));
        let hours = run(&none, "schedule", r#"{"starts_at_ms":60000,"why":"x"}"#);
        assert_eq!((hours.set.starts_at_ms, hours.set.ends_at_ms), (Some(60_000), None));
    }

    #[test]
    fn an_end_that_has_passed_is_moved_from_now_on() {
        let room = room();
        let later = change(&Ask::Extend(5_000), &Overrides::default(), at(&room, 400_000)).unwrap();
        assert_eq!(later.set.ends_at_ms, Some(405_000));
    }

    #[test]
    fn what_does_not_fit_the_present_state_is_409() {
        let room = room();
        let never = RoomSettings { ends_at_ms: NEVER_ENDS_MS, ..room.clone() };
        let paused = Overrides { paused: Some(true), ..Overrides::default() };
        let closed = Overrides { closed: Some(true), ..Overrides::default() };
        let none = Overrides::default();
        let draw = RoomSettings { mode: Mode::Draw, starts_at_ms: 40_000, ..room.clone() };
        let move_start = Ask::Schedule { lobby_opens_at_ms: None, starts_at_ms: Some(60_000), ends_at_ms: None };
        for (ask, said, room, now_ms) in [
            (Ask::Pause, &paused, &room, 50_000),
            (Ask::Resume, &none, &room, 50_000),
            (Ask::Close, &closed, &room, 50_000),
            (Ask::Reopen, &none, &room, 50_000),
            (Ask::Reopen, &closed, &room, 100_000),
            (Ask::Extend(1), &none, &never, 50_000),
            (move_start.clone(), &none, &draw, 50_000),
        ] {
            assert_eq!(change(&ask, said, at(room, now_ms)).unwrap_err().slug, Slug::WrongState, "{ask:?}");
        }
        assert!(change(&move_start, &none, at(&draw, 30_000)).is_ok());
        let held = Present { may_be_held: true, ..at(&room, 50_000) };
        assert_eq!(change(&Ask::Resume, &none, held).unwrap().set.resumed_ms, Some(50_000));
    }

    #[test]
    fn bad_bodies_and_bad_results_name_the_field() {
        for (action, body, field) in [
            ("pause", r#"{}"#, "why"),
            ("pause", r#"{"why":""}"#, "why"),
            ("pause", r#"{"why":" "}"#, "why"),
            ("pause", r#"{"why":"a\nb"}"#, "why"),
            ("pause", r#"{"why":"x","rate_per_s":1}"#, "rate_per_s"),
            ("rate", r#"{"why":"x"}"#, "rate_per_s"),
            ("rate", r#"{"rate_per_s":-1,"why":"x"}"#, "rate_per_s"),
            ("rate", r#"{"rate_per_s":1.5,"why":"x"}"#, "rate_per_s"),
            ("notice", r#"{"notice":{"de":"x"},"why":"x"}"#, "notice"),
            ("schedule", r#"{"why":"x"}"#, "starts_at_ms"),
            ("extend", r#"{"by_ms":0,"why":"x"}"#, "by_ms"),
        ] {
            let problem = ask(action, body).unwrap_err();
            assert_eq!(problem.slug, Slug::InvalidField, "{action} {body}: {}", problem.detail);
            assert!(problem.detail.contains(field), "{action} {body}: {}", problem.detail);
        }
        assert_eq!(ask("explode", "{}").unwrap_err().slug, Slug::NotFound);
        assert_eq!(ask("pause", "{").unwrap_err().slug, Slug::BadRequest);
        let long = format!(r#"{{"why":"{}"}}"#, "줄".repeat(201));
        assert_eq!(ask("pause", &long).unwrap_err().slug, Slug::InvalidField);
        assert!(ask("pause", &long.replacen('줄', "", 1)).is_ok());
        let room = room();
        let too_fast = change(&Ask::Rate(Some(0)), &Overrides::default(), at(&room, 0)).unwrap_err();
        assert!(too_fast.detail.starts_with("`rate_per_s`: 1 to"), "{}", too_fast.detail);
        let backwards = Ask::Schedule { lobby_opens_at_ms: None, starts_at_ms: None, ends_at_ms: Some(0) };
        assert!(change(&backwards, &Overrides::default(), at(&room, 0)).unwrap_err().detail.contains("ends_at_ms"));
    }
}
