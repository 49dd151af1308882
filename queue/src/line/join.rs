//! Joining: a number for each newcomer, in batches, and the record that an entrant of a draw leaves.

use super::{
    BEAT_NUMBERS_MAX, Line, REBUILD_GAP, REBUILD_HOLD_MS, REFUSED_CLOSED, REFUSED_KEY, REFUSED_SCHEDULED, REFUSED_USED,
    check_number, refused,
};
use crate::draw::{self, Digest, Nonce};
use crate::keys::room_keys;
use crate::lane;
use crate::metric;
use crate::reply;
use crate::settings::{Beacon, Mode, RoomSettings};
use service_kit::ids::VisitorId;
use service_kit::redis::StoreError;
use service_kit::script;

script!(
    /// Gives a newcomer the next number.
    JOIN,
    "join",
    "../scripts/join.lua"
);
script!(
    /// Tells records to a store that lost them.
    RECORD,
    "record",
    "../scripts/record.lua"
);

/// Most people in one line.
pub const WAITING_MAX: u64 = 5_000_000;
/// Most people in one script of joins.
pub const JOIN_PEOPLE_MAX: usize = 64;
/// Longest join key, in bytes.
pub const JOIN_KEY_BYTES_MAX: usize = 128;
/// How long the spare places of a tick may be used.
pub const SPARE_AGE_MAX_MS: i64 = 1_500;

/// Somebody who wants a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// To whom the number will belong.
    pub visitor: VisitorId,
    /// The same key always gets the same number: 1 to 128 visible ASCII characters, not beginning with `~`.
    pub key: Option<String>,
    /// The lane, see [`crate::lane`].
    pub lane: u8,
    /// The code that opened it.
    pub code: Option<CodeUse>,
    /// What they throw into a draw; counts where the room's beacon is its entrants.
    pub nonce: Option<Nonce>,
}

/// One use of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeUse {
    /// What it is counted by: 1 to 64 visible ASCII characters.
    pub id: String,
    /// How many people may use it; `None` = any number.
    pub uses_max: Option<u32>,
}

/// The name of one batch of joins: a gate numbers them upwards, sends one at a time per room, and repeats it until it
/// is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchId {
    /// The gate's process, made anew at each start.
    pub gate: VisitorId,
    /// Rising from 1; 0 = everybody in it has a key.
    pub number: u64,
}

/// The answer to a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The number.
    pub number: u64,
    /// The place; 0 = the draw will tell.
    pub place: u64,
    /// When it was given, by the store's clock.
    pub joined_ms: i64,
    /// False when this join key had a number already.
    pub created: bool,
    /// Called at once (or meanwhile): claim until then.
    pub called_until_ms: Option<i64>,
    /// To whom the number belongs: on a repeated join the visitor of the first one. This one goes into the ticket,
    /// so that a number never has two visitors.
    pub visitor: VisitorId,
    /// What is in the record of this number: on a repeated join the nonce of the first one, or none if that had none.
    pub nonce: Option<Nonce>,
}

impl Line {
    /// Gives each of at most [`JOIN_PEOPLE_MAX`] people the next number, or the one that the join key got before, in
    /// one script. `now_ms` (the room's clock) only decides whether the room takes numbers; order and deadlines come
    /// from the store.
    ///
    /// # Errors
    /// Per person [`StoreError::Refused`] with [`REFUSED_FULL`], [`REFUSED_USED`] or [`REFUSED_KEY`]; for all of them
    /// [`REFUSED_SCHEDULED`], [`REFUSED_CLOSED`], and see [`StoreError`]. After [`StoreError::Unknown`] send the same
    /// batch again.
    pub async fn join_batch(
        &self,
        settings: &RoomSettings,
        batch: &BatchId,
        people: &[JoinRequest],
        now_ms: i64,
    ) -> Result<Vec<Result<Joined, StoreError>>, StoreError> {
        if settings.closed || now_ms >= settings.ends_at_ms {
            metric::joined(&settings.room, "rejected_closed", people.len());
            return Err(refused(REFUSED_CLOSED, "the room is closed"));
        }
        if now_ms < settings.lobby_opens_at_ms {
            metric::joined(&settings.room, "rejected_closed", people.len());
            return Err(refused(REFUSED_SCHEDULED, "the lobby is not open yet"));
        }
        if people.is_empty() || people.len() > JOIN_PEOPLE_MAX {
            return Err(refused(REFUSED_KEY, "a batch is 1 to 64 people"));
        }
        let good: Vec<bool> = people.iter().map(JoinRequest::is_well_formed).collect();
        let sent: Vec<&JoinRequest> = people.iter().zip(&good).filter(|(_, good)| **good).map(|(p, _)| p).collect();
        let mut replies =
            if sent.is_empty() { Vec::new() } else { self.send_joins(settings, batch, &sent, now_ms).await? }
                .into_iter();
        let bad = || Err(refused(REFUSED_KEY, "a join key is 1 to 128 visible ASCII characters"));
        Ok(good.iter().map(|good| if *good { replies.next().unwrap_or_else(bad) } else { bad() }).collect())
    }

    async fn send_joins(
        &self,
        settings: &RoomSettings,
        batch: &BatchId,
        people: &[&JoinRequest],
        now_ms: i64,
    ) -> Result<Vec<Result<Joined, StoreError>>, StoreError> {
        let open = !settings.paused && now_ms >= settings.starts_at_ms;
        let draw = settings.mode == Mode::Draw;
        let memory = self.remembered(settings);
        let mut args = vec![
            self.clock_ms.to_string(),
            WAITING_MAX.to_string(),
            settings.claim_window_ms.to_string(),
            if open { SPARE_AGE_MAX_MS } else { 0 }.to_string(),
            u8::from(settings.stock_aware).to_string(),
            memory.next().to_string(),
            memory.place().to_string(),
            REBUILD_GAP.to_string(),
            REBUILD_HOLD_MS.to_string(),
            if draw { settings.starts_at_ms.max(1) } else { 0 }.to_string(),
            batch.gate.to_string(),
            batch.number.to_string(),
        ];
        for person in people {
            let (code, uses_max) = person.code.as_ref().map_or(("", 0), |c| (c.id.as_str(), c.uses_max.unwrap_or(0)));
            args.extend([
                person.key.clone().unwrap_or_default(),
                person.visitor.to_string(),
                person.lane.to_string(),
                if draw { 0 } else { lane::cost(&settings.lanes, person.lane) }.to_string(),
                code.to_owned(),
                uses_max.to_string(),
                if draw { person.record(settings) } else { String::new() },
            ]);
        }
        let keys = room_keys!(&settings.room => room line lobby heard called joins codes entrants stock);
        let reply =
            service_kit::failpoint::around("J1.before", "J1.after", self.redis.run(&JOIN, &keys, &args)).await?;
        let mut answers = Vec::with_capacity(people.len());
        for answer in reply.list()? {
            answers.push(match reply::joined(answer)? {
                Ok(joined) => {
                    memory.raise(joined.number.saturating_add(1), joined.place);
                    Ok(joined)
                }
                Err(word) if word == REFUSED_USED => {
                    Err(refused(REFUSED_USED, "the code was used as often as it may be"))
                }
                Err(word) => Err(refused(&word, "the line has no room for more people")),
            });
        }
        if answers.len() != people.len() {
            return Err(StoreError::Shape("one answer per person was expected"));
        }
        let new = answers.iter().flatten().filter(|j| j.created).count();
        metric::joined(&settings.room, "new", new);
        metric::joined(&settings.room, "existing", answers.iter().flatten().count() - new);
        let directs = answers.iter().flatten().filter(|j| j.created && j.called_until_ms.is_some()).count();
        if directs > 0 {
            metric::admitted(&settings.room, u64::try_from(directs).unwrap_or(0));
        }
        Ok(answers)
    }

    /// One newcomer with a key, in the main lane: a batch of its own.
    ///
    /// # Errors
    /// As [`Line::join_batch`].
    pub async fn join(
        &self,
        settings: &RoomSettings,
        visitor: &VisitorId,
        join_key: &str,
        now_ms: i64,
    ) -> Result<Joined, StoreError> {
        let person =
            JoinRequest { visitor: visitor.clone(), key: Some(join_key.to_owned()), lane: 0, code: None, nonce: None };
        let batch = BatchId { gate: visitor.clone(), number: 0 };
        let mut answers = self.join_batch(settings, &batch, &[person], now_ms).await?;
        answers.pop().unwrap_or(Err(StoreError::Shape("one answer per person was expected")))
    }

    /// Tells a store that may have lost them the records of entrants whose lobby is open (see [`draw::entrant`]), each by
    /// its number. A record that is there stays as it is. How many were written.
    ///
    /// # Errors
    /// See [`StoreError`]; [`REFUSED_NUMBER`] before anything is sent.
    pub async fn record(&self, settings: &RoomSettings, records: &[(u64, Digest)]) -> Result<u64, StoreError> {
        records.iter().try_for_each(|(number, _)| check_number(*number))?;
        let keys = room_keys!(&settings.room => room entrants);
        let mut written = 0;
        for some in records.chunks(BEAT_NUMBERS_MAX) {
            let args: Vec<String> =
                some.iter().flat_map(|(number, leaf)| [number.to_string(), leaf.to_string()]).collect();
            written += u64::try_from(self.redis.run(&RECORD, &keys, &args).await?.int()?).unwrap_or(0);
        }
        Ok(written)
    }
}

impl JoinRequest {
    fn is_well_formed(&self) -> bool {
        let visible =
            |text: &str, max: usize| (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        self.key.as_ref().is_none_or(|k| visible(k, JOIN_KEY_BYTES_MAX) && !k.starts_with('~'))
            && self.code.as_ref().is_none_or(|c| visible(&c.id, 64))
            && u64::from(self.lane) < lane::LANE_SLOTS
    }

    /// What the script writes down about an entrant of a draw: the leaf and, behind a colon, the nonce that is in it.
    fn record(&self, settings: &RoomSettings) -> String {
        let nonce = self.nonce.as_ref().filter(|_| settings.beacon == Beacon::Entrants);
        let leaf = draw::entrant(&settings.room, &self.visitor, nonce);
        nonce.map_or_else(|| leaf.to_string(), |nonce| format!("{leaf}:{nonce}"))
    }
}
