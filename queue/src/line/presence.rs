//! Being there: heartbeats, the marks of those who simply wait, and giving up a place.

use super::{BEAT_NUMBERS_MAX, Line, REBUILD_HOLD_MS, check_number};
use crate::keys::room_keys;
use crate::marks::Marks;
use crate::metric;
use crate::reply;
use crate::settings::RoomSettings;
use crate::ticket::PLACE_MAX;
use serde::Serialize;
use service_kit::redis::StoreError;
use service_kit::script;

script!(
    /// Heartbeats.
    BEAT,
    "beat",
    "../scripts/beat.lua"
);
script!(
    /// Heartbeats that ask nothing.
    MARK,
    "mark",
    "../scripts/mark.lua"
);
script!(
    /// Gives up a place.
    LEAVE,
    "leave",
    "../scripts/leave.lua"
);

/// Most blocks of bits in one script of marks; [`Line::mark`] splits longer lists.
const MARK_BLOCKS_MAX: usize = 500;

/// Where a ticket stands, as of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// In line (again).
    Waiting,
    /// Called, the claim window runs.
    Called,
    /// Inside, the lease runs.
    Inside,
    /// Over: the claim window was missed twice, or the lease ended.
    Missed,
    /// Left by themselves.
    Left,
}

impl Line {
    /// Heartbeats of `(number, place)`, and where each stands, in the same order. Puts back into line who was silent or
    /// lost. A place of 0 is one that a draw will tell.
    ///
    /// # Errors
    /// See [`StoreError`]; [`REFUSED_NUMBER`] before anything is sent.
    pub async fn beat(&self, settings: &RoomSettings, tickets: &[(u64, u64)]) -> Result<Vec<Presence>, StoreError> {
        tickets.iter().try_for_each(|(number, _)| check_number(*number))?;
        let keys = room_keys!(&settings.room => room line lobby heard silent called inside buying missed returned left);
        let mut presences = Vec::with_capacity(tickets.len());
        for some in tickets.chunks(BEAT_NUMBERS_MAX) {
            let mut args = vec![self.clock_ms.to_string(), REBUILD_HOLD_MS.to_string()];
            args.extend(
                some.iter().flat_map(|(number, place)| [number.to_string(), place.min(&PLACE_MAX).to_string()]),
            );
            presences.extend(reply::presences(&self.redis.run(&BEAT, &keys, &args).await?, some.len())?);
        }
        let (next, place) = tickets.iter().fold((0, 0), |(n, p), (number, place)| (n.max(number + 1), p.max(*place)));
        self.memory.of(&settings.room).raise(next, place);
        Ok(presences)
    }

    /// Notes that these people were heard: those who simply wait, see [`Board::simply_waits`].
    ///
    /// # Errors
    /// See [`StoreError`]; repeat.
    pub async fn mark(&self, settings: &RoomSettings, marks: &Marks) -> Result<(), StoreError> {
        let keys = room_keys!(&settings.room => heard marks);
        let blocks: Vec<(u64, &[u8])> = marks.blocks().collect();
        for some in blocks.chunks(MARK_BLOCKS_MAX) {
            let args: Vec<Vec<u8>> =
                some.iter().flat_map(|(offset, bits)| [offset.to_string().into_bytes(), bits.to_vec()]).collect();
            self.redis.run(&MARK, &keys, &args).await?;
        }
        self.memory.of(&settings.room).raise(0, marks.place_max());
        Ok(())
    }

    /// Gives up the place, the call or the lease. False when there was nothing to give up.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn leave(&self, settings: &RoomSettings, number: u64) -> Result<bool, StoreError> {
        check_number(number)?;
        let keys = room_keys!(&settings.room => room line lobby silent called inside buying missed returned left entered ended);
        let args = [
            self.clock_ms.to_string(),
            REBUILD_HOLD_MS.to_string(),
            settings.lease_max_ms.to_string(),
            number.to_string(),
        ];
        let gone = self.redis.run(&LEAVE, &keys, &args).await?.int()? == 1;
        if gone {
            metric::left(&settings.room, "abandoned", 1);
        }
        Ok(gone)
    }
}
