//! What operators do with a room: each change is made and written into the room's log in one step, or not at all.
//!
//! The log is a chain (see [`service_kit::chain`]): append-only, each entry with who, when, why, what was and what is.
//! A room's *record* holds what operators said and the end of its log; a change is a compare-and-set on the record, so
//! two operators never overwrite each other unseen. When the store loses its memory, gates write the record back as an
//! entry `restored`; the log then says itself which entries are missing.
//!
//! A log has at most [`LOG_ENTRIES_MAX`] entries in Redis. Nothing is dropped silently: when it is full, changes are
//! refused until an administrator has archived it (`floodgate room log ROOM --archive FILE`), except for the ones that
//! stop a sale, which find [`LOG_RESERVE_ENTRIES`] more.

mod proof;

pub use proof::{Broken, Verified, verify};

use crate::keys::{OVERRIDES, SETTINGS, SETTINGS_VERSION, operations_key, room_log_key};
use crate::overrides::Overrides;
use crate::registry::ROOMS_MAX;
use crate::settings::RoomSettings;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::chain::{Entry, Tail, sha256_hex};
use service_kit::ids::RoomId;
use service_kit::redis::{Redis, Reply, StoreError};
use service_kit::script;

script!(
    /// Changes a room and its log.
    CONTROL,
    "control",
    "scripts/control.lua"
);

/// Most entries of one room's log in Redis.
pub const LOG_ENTRIES_MAX: usize = 10_000;
/// Entries beyond that for what stops a sale and for the archive.
pub const LOG_RESERVE_ENTRIES: usize = 100;
/// Longest reason, in characters.
pub const WHY_CHARS_MAX: usize = 200;
/// Longest operation id, in bytes.
pub const OPERATION_BYTES_MAX: usize = 128;
/// Most entries that one reading returns.
pub const LOG_PAGE_ENTRIES_MAX: usize = 1_000;
/// How often a change is tried again when another operator was faster.
const TRIES_MAX: u32 = 20;
/// The action that gates write after a loss of the store.
pub const RESTORED: &str = "restored";
/// The action that takes entries out of Redis after they were saved elsewhere.
pub const ARCHIVED: &str = "archived";

/// What operators said about a room, and the end of its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steered {
    /// The last entry of the log.
    #[serde(flatten)]
    pub tail: Tail,
    /// When that was, by the store's clock.
    pub at_ms: i64,
    /// What holds now.
    pub set: Overrides,
}

impl Steered {
    /// What holds after `found` was read from the store; `None` when that is nothing new.
    ///
    /// A record with a lower number but a later time was written after the store had lost this one: both count.
    #[must_use]
    pub fn hear(&self, found: &Self) -> Option<Self> {
        if found.tail.seq > self.tail.seq {
            return Some(found.clone());
        }
        (found.tail != self.tail && found.at_ms > self.at_ms).then(|| Self {
            tail: self.tail.clone(),
            at_ms: found.at_ms,
            set: self.set.then(&found.set),
        })
    }
}

/// A command as its author gave it.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// Which room.
    pub room: &'a RoomId,
    /// Who, as configured.
    pub who: &'a str,
    /// Their role.
    pub role: &'a str,
    /// What: `pause`, `rate`, …
    pub action: &'a str,
    /// All that was asked for, as text: a repeat must ask for the same.
    pub asked: &'a str,
    /// Why, 1–200 characters.
    pub why: &'a str,
    /// Made by the caller, 1–128 visible ASCII characters but `"` and `\`; a repeat has no further effect.
    pub operation: &'a str,
    /// It may use the reserve of a full log.
    pub urgent: bool,
}

/// What a command changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What operators say from now on.
    pub set: Overrides,
    /// What it was, for the log.
    pub before: Value,
    /// What it is, for the log.
    pub after: Value,
    /// Entries to take out of the log, from its beginning (archived).
    pub take_out: usize,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// It was carried out; this is its entry.
    Now(String),
    /// It was carried out before, by the same operation id; its entry, empty if that was archived meanwhile.
    Before(String),
}

/// Why a command was not carried out. `R` is the caller's own refusal.
#[derive(Debug, thiserror::Error)]
pub enum ControlError<R> {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operation id stands for something else.
    #[error("this operation id was used for another command")]
    OperationReused,
    /// No room in the log.
    #[error("the log of this room is full")]
    LogFull,
    /// Others kept changing the room.
    #[error("other operators keep changing this room")]
    Contended,
    /// The caller's rule.
    #[error("refused")]
    Refused(R),
}

/// An entry of the log, without its place in the chain. Field order is what a reader of the raw line sees; `op` is last
/// because the script looks for it there.
#[derive(Serialize)]
struct Said<'a> {
    at_ms: i64,
    room: &'a RoomId,
    who: &'a str,
    role: &'a str,
    action: &'a str,
    before: &'a Value,
    after: &'a Value,
    why: &'a str,
    op: &'a str,
}

/// Carries out a command. `decide` gets what operators said so far and returns the change; it may run several times.
///
/// # Errors
/// See [`ControlError`]. After [`StoreError::Unknown`] it may have happened: repeat with the same operation id.
pub async fn carry_out<R>(
    redis: &Redis,
    command: &Command<'_>,
    now_ms: i64,
    decide: impl Fn(&Overrides) -> Result<Change, R>,
) -> Result<Done, ControlError<R>> {
    let fingerprint = fingerprint(command);
    for _ in 0..TRIES_MAX {
        // A repeat is found before anybody judges it again: a room that is paused already would refuse a second pause.
        if let Some(done) = repeated(redis, command, &fingerprint).await? {
            return Ok(done);
        }
        let (text, record) = read(redis, command.room).await?;
        let before = record.clone().map(|r| r.set).unwrap_or_default();
        let change = decide(&before).map_err(ControlError::Refused)?;
        let tail = match record {
            Some(record) => record.tail,
            None => last(redis, command.room).await?,
        };
        match attempt(redis, command, &fingerprint, &text, tail, &change, now_ms).await {
            Ok(Some(done)) => return Ok(done),
            Ok(None) => {}
            Err(StoreError::Refused { code, .. }) if code == "FULL" => return Err(ControlError::LogFull),
            Err(error) => return Err(error.into()),
        }
    }
    Err(ControlError::Contended)
}

/// One run of the script; `None` when somebody else was faster.
async fn attempt(
    redis: &Redis,
    command: &Command<'_>,
    fingerprint: &str,
    expected: &str,
    mut tail: Tail,
    change: &Change,
    now_ms: i64,
) -> Result<Option<Done>, StoreError> {
    let Command { room, who, role, action, why, operation, .. } = *command;
    let said = Said {
        at_ms: now_ms,
        room,
        who,
        role,
        action,
        before: &change.before,
        after: &change.after,
        why,
        op: operation,
    };
    let entry = tail.append(&said).map_err(|e| StoreError::Config(e.to_string()))?;
    let record = serde_json::to_string(&Steered { tail, at_ms: now_ms, set: change.set.clone() })
        .map_err(|e| StoreError::Config(e.to_string()))?;
    let most = LOG_ENTRIES_MAX + if command.urgent { LOG_RESERVE_ENTRIES } else { 0 };
    let keys = [OVERRIDES.to_owned(), SETTINGS_VERSION.to_owned(), room_log_key(room), operations_key(room)];
    let args = [
        most.to_string(),
        ROOMS_MAX.to_string(),
        change.take_out.to_string(),
        room.to_string(),
        expected.to_owned(),
        record,
        operation.to_owned(),
        fingerprint.to_owned(),
        entry.clone(),
    ];
    let reply = redis.run(&CONTROL, &keys, &args).await?;
    match reply.at(0)?.int()? {
        1 => Ok(Some(Done::Now(entry))),
        // 0: another operator was faster. 2: the same operation id came through between our look and this run; the
        // next round finds and judges it.
        0 | 2 => Ok(None),
        _ => Err(StoreError::Shape("an unknown control code")),
    }
}

async fn repeated<R>(redis: &Redis, command: &Command<'_>, fingerprint: &str) -> Result<Option<Done>, ControlError<R>> {
    let known = redis.command("HGET", &[&operations_key(command.room), command.operation]).await?;
    let Reply::Text(known) = known else { return Ok(None) };
    let (first, seq) = known.split_once(':').ok_or(StoreError::Shape("a fingerprint was expected"))?;
    if first != fingerprint {
        return Err(ControlError::OperationReused);
    }
    let seq: u64 = seq.parse().map_err(|_| StoreError::Shape("a number was expected"))?;
    let entries = log(redis, command.room, seq.saturating_sub(1), 1).await?;
    Ok(Some(Done::Before(entries.into_iter().next().unwrap_or_default())))
}

/// Two requests with one operation id must be the same request by the same person.
fn fingerprint(command: &Command<'_>) -> String {
    let Command { room, who, action, asked, why, .. } = command;
    // A line break cannot be part of any of them but the last.
    sha256_hex(format!("{room}\n{who}\n{action}\n{asked}\n{why}").as_bytes())
}

/// The record of a room with its text as stored, or empty text.
async fn read(redis: &Redis, room: &RoomId) -> Result<(String, Option<Steered>), StoreError> {
    match redis.command("HGET", &[OVERRIDES, room.as_str()]).await? {
        Reply::Nil => Ok((String::new(), None)),
        reply => {
            let text = reply.text()?;
            let record =
                serde_json::from_str(&text).map_err(|_| StoreError::Shape("a record that can be read was expected"))?;
            Ok((text, Some(record)))
        }
    }
}

/// What operators said about a room, if anything.
///
/// # Errors
/// See [`StoreError`].
pub async fn steered(redis: &Redis, room: &RoomId) -> Result<Option<Steered>, StoreError> {
    read(redis, room).await.map(|(_, record)| record)
}

/// A room as its owner published it, if it is published.
///
/// # Errors
/// See [`StoreError`].
pub async fn published(redis: &Redis, room: &RoomId) -> Result<Option<RoomSettings>, StoreError> {
    match redis.command("HGET", &[SETTINGS, room.as_str()]).await? {
        Reply::Nil => Ok(None),
        reply => Ok(serde_json::from_str(&reply.text()?).ok()),
    }
}

/// The end of a log without a record (the room was taken back and published again).
async fn last(redis: &Redis, room: &RoomId) -> Result<Tail, StoreError> {
    match redis.command("LINDEX", &[&room_log_key(room), "-1"]).await? {
        Reply::Nil => Ok(Tail::default()),
        reply => {
            let entry = Entry::read(&reply.text()?).map_err(|_| StoreError::Shape("an entry of a log was expected"))?;
            Ok(entry.tail())
        }
    }
}

/// Lines of a room's log with numbers above `after_seq`, oldest first, at most `limit`.
///
/// # Errors
/// See [`StoreError`].
pub async fn log(redis: &Redis, room: &RoomId, after_seq: u64, limit: usize) -> Result<Vec<String>, StoreError> {
    let key = room_log_key(room);
    let newest = redis.command("LINDEX", &[&key, "-1"]).await?;
    let Reply::Text(newest) = newest else { return Ok(Vec::new()) };
    let newest = seq_of(&newest);
    // Numbers grow by one, except over a loss of the store: so the entry is at this index or behind it.
    let from = i64::try_from(newest.saturating_sub(after_seq)).unwrap_or(i64::MAX);
    if from == 0 {
        return Ok(Vec::new());
    }
    let mut lines = Vec::new();
    let mut start = -from;
    let length = redis.command("LLEN", &[&key]).await?.int()?;
    start = start.max(-length);
    while start < 0 && lines.len() < limit {
        let want = i64::try_from(limit - lines.len()).unwrap_or(i64::MAX);
        let stop = start.saturating_add(want - 1).min(-1);
        let page = redis.command("LRANGE", &[&key, &start.to_string(), &stop.to_string()]).await?;
        for line in page.list()? {
            let line = line.text()?;
            if seq_of(&line) > after_seq {
                lines.push(line);
            }
        }
        start = stop + 1;
    }
    Ok(lines)
}

/// The number at the beginning of a line; 0 for what is no entry.
fn seq_of(line: &str) -> u64 {
    let digits = line.strip_prefix("{\"seq\":").and_then(|rest| rest.split(',').next());
    digits.and_then(|d| d.parse().ok()).unwrap_or(0)
}

/// Writes back a record that the store lost. False when somebody did, or said something newer, already.
///
/// # Errors
/// See [`StoreError`].
pub async fn restore(redis: &Redis, room: &RoomId, record: &Steered, now_ms: i64) -> Result<bool, StoreError> {
    let (text, found) = read(redis, room).await?;
    if found.as_ref().is_some_and(|f| f.tail.seq >= record.tail.seq) {
        return Ok(false);
    }
    let set = found.as_ref().and_then(|f| record.hear(f)).map_or_else(|| record.set.clone(), |merged| merged.set);
    let value = |set: &Overrides| serde_json::to_value(set).unwrap_or(Value::Null);
    let change =
        Change { before: found.as_ref().map_or(Value::Null, |f| value(&f.set)), after: value(&set), set, take_out: 0 };
    let operation = format!("restore:{}:{}", record.tail.hash, found.map_or(0, |f| f.tail.seq));
    let command = Command {
        room,
        who: "gate",
        role: "system",
        action: RESTORED,
        asked: "",
        why: "The store had lost what operators said; a gate remembered it.",
        operation: &operation,
        urgent: true,
    };
    let done = attempt(redis, &command, &fingerprint(&command), &text, record.tail.clone(), &change, now_ms).await?;
    Ok(done.is_some())
}
