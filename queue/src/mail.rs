//! Who wants a letter when the turn is near: addresses per room in Redis, leased to whichever gate sends them.
//!
//! A letter is sent once; when a gate dies between sending and saying so it is sent once more, with the same message
//! id, rather than never. An address is taken away when its letter was sent, its owner left the line, or the room ended.

use crate::admission::LimitReason;
use crate::board::Board;
use crate::keys::RoomKeys;
use crate::settings::Mode;
use crate::state::RoomState;
use service_kit::ids::RoomId;
use service_kit::redis::{Redis, StoreError};
use service_kit::script;

script!(
    /// Remembers an address.
    PUT,
    "mail_put",
    "scripts/mail_put.lua"
);
script!(
    /// Leases letters.
    TAKE,
    "mail_take",
    "scripts/mail_take.lua"
);
script!(
    /// Reports on a letter.
    DONE,
    "mail_done",
    "scripts/mail_done.lua"
);

/// Most addresses of one room.
pub const ADDRESSES_MAX: u64 = 500_000;
/// An address is kept so long at most, whatever happens.
pub const KEPT_MS: u64 = 14 * 86_400_000;
/// Most tries of one letter.
pub const TRIES_MAX: u64 = 5;
/// Most letters in one lease.
pub const LETTERS_MAX: u64 = 100;
/// Most numbers that one run of the script looks at.
const LOOK_MAX: u64 = 500;
/// Before the start, people are told so early.
const START_NOTICE_MS: i64 = 300_000;

/// Code of [`StoreError::Refused`] when a room has [`ADDRESSES_MAX`] addresses.
pub const REFUSED_FULL: &str = "FULL";

/// Who is near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Near {
    /// So many people at the front of the line.
    People(u32),
    /// Everybody who is expected to be called within so many seconds.
    Seconds(u32),
}

/// One letter to send.
#[derive(Clone, PartialEq, Eq)]
pub struct Letter {
    /// Whose turn is near.
    pub number: u64,
    /// How often it was taken, this time included.
    pub tries: u64,
    /// In which language: two letters.
    pub language: String,
    /// To whom.
    pub address: String,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Letter({})", self.number)
    }
}

/// How many people at the front of the line are near now; 0 = nobody.
pub fn near_people(near: Near, board: &Board, now_ms: i64) -> u64 {
    let settings = &board.settings;
    let starts_in_ms = settings.starts_at_ms.saturating_sub(now_ms);
    let wait_ms = match board.state(now_ms) {
        RoomState::Open => 0,
        // A drawn order does not exist before the start.
        RoomState::Lobby if settings.mode == Mode::Fifo && starts_in_ms <= START_NOTICE_MS => starts_in_ms,
        _ => return 0,
    };
    match near {
        Near::People(people) => u64::from(people),
        Near::Seconds(seconds) => {
            let left_s = i64::from(seconds).saturating_sub(wait_ms / 1_000).max(0);
            let target_per_s = f64::from(settings.rate_per_s);
            let rate_per_s = match board.reason {
                LimitReason::Target | LimitReason::NotOpen | LimitReason::NobodyWaits => target_per_s,
                _ => board.rate_per_s.unwrap_or(target_per_s),
            };
            // At least the very next: with a rate near 0 nobody could say when anybody is called.
            ((left_s as f64 * rate_per_s) as u64).max(u64::from(left_s > 0))
        }
    }
}

/// Remembers where the holder of `number` wants to be told. False when that letter was sent already.
///
/// # Errors
/// [`StoreError::Refused`] with [`REFUSED_FULL`]; otherwise see [`StoreError`].
pub async fn put(redis: &Redis, room: &RoomId, number: u64, language: &str, address: &str) -> Result<bool, StoreError> {
    let keys = RoomKeys::new(room);
    let keys = [keys.mail(), keys.mailto(), keys.mailing(), keys.mailed(), keys.line(), keys.silent()];
    let args =
        [number.to_string(), language.to_owned(), address.to_owned(), ADDRESSES_MAX.to_string(), KEPT_MS.to_string()];
    Ok(redis.run(&PUT, &keys, &args).await?.int()? == 1)
}

/// Leases up to [`LETTERS_MAX`] letters to the `near` people at the front for `lease_ms`, and letters whose lease ran
/// out. The flag says that there may be more.
///
/// # Errors
/// See [`StoreError`].
pub async fn take(
    redis: &Redis,
    room: &RoomId,
    near: u64,
    lease_ms: u64,
    now_ms: i64,
) -> Result<(Vec<Letter>, bool), StoreError> {
    let keys = RoomKeys::new(room);
    let keys = [
        keys.mail(),
        keys.mailto(),
        keys.mailing(),
        keys.mailed(),
        keys.line(),
        keys.silent(),
        keys.called(),
        keys.lobby(),
    ];
    let args = [u64::try_from(now_ms).unwrap_or(0), near, lease_ms, LETTERS_MAX, LOOK_MAX, TRIES_MAX, KEPT_MS]
        .map(|n| n.to_string());
    let reply = redis.run(&TAKE, &keys, &args).await?;
    let more = reply.at(0)?.int()? == 1;
    let letters = reply.at(1)?.list()?.as_chunks::<4>().0.iter().map(|[number, tries, language, address]| {
        let count = |n: i64| u64::try_from(n).map_err(|_| StoreError::Shape("a number was expected"));
        Ok(Letter {
            number: count(number.int()?)?,
            tries: count(tries.int()?)?,
            language: language.text()?,
            address: address.text()?,
        })
    });
    Ok((letters.collect::<Result<_, StoreError>>()?, more))
}

/// The letter of `number` was sent, cannot be sent, or is not wanted any more: its address is forgotten.
///
/// # Errors
/// See [`StoreError`].
pub async fn finished(redis: &Redis, room: &RoomId, number: u64) -> Result<(), StoreError> {
    report(redis, room, number, 0, 0).await
}

/// The letter of `number` surely did not go out: it is leased again after `again_in_ms` (> 0).
///
/// # Errors
/// See [`StoreError`].
pub async fn failed(
    redis: &Redis,
    room: &RoomId,
    number: u64,
    again_in_ms: u64,
    now_ms: i64,
) -> Result<(), StoreError> {
    report(redis, room, number, again_in_ms.max(1), now_ms).await
}

async fn report(redis: &Redis, room: &RoomId, number: u64, again_in_ms: u64, now_ms: i64) -> Result<(), StoreError> {
    let keys = RoomKeys::new(room);
    let keys = [keys.mail(), keys.mailto(), keys.mailing(), keys.mailed()];
    let args = [u64::try_from(now_ms).unwrap_or(0), number, again_in_ms, KEPT_MS].map(|n| n.to_string());
    redis.run(&DONE, &keys, &args).await.map(drop)
}

/// Forgets every address of a room that is over. Forgetting again changes nothing.
///
/// # Errors
/// See [`StoreError`].
pub async fn forget_room(redis: &Redis, room: &RoomId) -> Result<(), StoreError> {
    let keys = RoomKeys::new(room);
    let keys = [keys.mail(), keys.mailto(), keys.mailing(), keys.mailed()];
    redis.command("DEL", &keys.each_ref().map(String::as_str)).await.map(drop)
}
