//! From the scripts' replies to our types. Anything that does not fit is [`StoreError::Shape`]: script and program differ.

use crate::admission::{LimitReason, Snapshot, Throttle};
use crate::board::{Board, DrawnLobby, Totals};
use crate::eta::{self, Sample, Trend};
use crate::ladder::Ladder;
use crate::line::{Claim, Joined, Presence};
use crate::rate::{self, Second};
use crate::settings::{Mode, RoomSettings};
use crate::state::{Losses, Stock};
use crate::trust::Witness;
use service_kit::redis::{Reply, StoreError};
use std::collections::HashMap;
use std::sync::Arc;

/// What one run of `call.lua` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Called {
    /// For the next run of the same tick.
    pub version: i64,
    pub calls: u64,
    pub skips: u64,
    /// Allowed, but the bound on people looked at stopped the run.
    pub rest: u64,
    pub directs: u64,
    pub inversions: u64,
    pub claims_missed: u64,
    pub dropped: u64,
    pub leases_ended: u64,
}

/// Script integers that count something.
fn count(reply: &Reply) -> Result<u64, StoreError> {
    u64::try_from(reply.int()?).map_err(|_| StoreError::Shape("a count was negative"))
}

/// A deadline; 0 = none.
fn deadline(reply: &Reply) -> Result<Option<i64>, StoreError> {
    Ok(Some(reply.int()?).filter(|ms| *ms > 0))
}

/// One person of a batch: the number, or the word for why there is none.
pub fn joined(reply: &Reply) -> Result<Result<Joined, String>, StoreError> {
    if let Reply::Text(word) = reply {
        return Ok(Err(word.clone()));
    }
    Ok(Ok(Joined {
        number: count(reply.at(0)?)?,
        place: count(reply.at(1)?)?,
        joined_ms: reply.at(2)?.int()?,
        created: reply.at(3)?.int()? == 1,
        called_until_ms: deadline(reply.at(4)?)?,
        visitor: reply.at(5)?.text()?.parse().map_err(|_| StoreError::Shape("a visitor was expected"))?,
        nonce: match reply.list()?.get(6) {
            None => None,
            Some(nonce) => Some(nonce.text()?.parse().map_err(|_| StoreError::Shape("a nonce was expected"))?),
        },
    }))
}

fn stock(reply: &Reply) -> Result<Option<Stock>, StoreError> {
    let part = |i| match reply.at(i)? {
        Reply::Nil => Ok(None),
        units => count(units).map(Some),
    };
    let Some(available) = part(0)? else { return Ok(None) };
    Ok(Some(Stock {
        available,
        held: part(1)?.unwrap_or(0),
        sold: part(2)?.unwrap_or(0),
        total: part(3)?.unwrap_or(0),
    }))
}

/// The fields of a room's HASH.
struct Fields(HashMap<String, String>);

impl Fields {
    fn new(reply: &Reply) -> Result<Self, StoreError> {
        let mut fields = HashMap::new();
        for (name, value) in pairs(reply)? {
            fields.insert(name.text()?, value.text()?);
        }
        Ok(Self(fields))
    }
    /// A counter; 0 = absent.
    fn count(&self, name: &str) -> u64 {
        self.0.get(name).and_then(|v| v.parse().ok()).unwrap_or(0)
    }
    /// A moment or a difference in ms; 0 = absent.
    fn ms(&self, name: &str) -> i64 {
        self.0.get(name).and_then(|v| v.parse().ok()).unwrap_or(0)
    }
    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
    fn ring(&self) -> Vec<Second> {
        (0..rate::RING_S).filter_map(|i| rate::parse_entry(self.0.get(&format!("r{i}"))?)).collect()
    }
    fn samples(&self) -> Vec<Sample> {
        (0..eta::SLOTS).filter_map(|i| Sample::parse(self.0.get(&format!("s{i}"))?)).collect()
    }
    fn losses(&self) -> Losses {
        Losses { hold_until_ms: self.ms("hold_until_ms"), lost_ms: self.ms("lost_ms"), shift_ms: self.ms("shift_ms") }
    }
    fn drawing(&self) -> bool {
        self.count("drawn_to") < self.count("draw_count")
    }
    fn throttle(&self) -> Throttle {
        let full = Throttle::default();
        let milli = self.0.get("throttle_milli").and_then(|v| v.parse().ok()).unwrap_or(full.milli);
        Throttle { milli, changed_ms: self.ms("throttle_ms"), bad_ms: self.ms("slow_ms") }
    }
}

/// The snapshot for a decision, and what the store says about itself.
pub fn snapshot(reply: &Reply, settings: &RoomSettings) -> Result<(Snapshot, Witness), StoreError> {
    let now_ms = reply.at(0)?.int()?;
    let fields = Fields::new(reply.at(1)?)?;
    let snapshot = Snapshot {
        now_ms,
        version: fields.ms("version"),
        last_tick_ms: fields.ms("last_tick_ms"),
        carry_micro: fields.ms("carry_micro"),
        losses: fields.losses(),
        directs: fields.count("directs"),
        waiting: count(reply.at(3)?)?,
        drawing: settings.mode == Mode::Draw && (fields.drawing() || fields.text("draw_count").is_empty()),
        silent: count(reply.at(5)?)?,
        called: count(reply.at(6)?)?,
        inside: count(reply.at(7)?)?,
        buying: count(reply.at(8)?)?,
        stock: stock(reply.at(9)?)?,
        calls_per_hundred_claims: rate::calls_per_hundred_claims(&fields.ring(), settings.claim_window_ms, now_ms),
        claims: fields.count("claims"),
        idle: fields.count("idle"),
        throttle: fields.throttle(),
    };
    let witness = Witness {
        run_id: reply.at(2)?.text()?,
        known_run_id: fields.text("run_id").to_owned(),
        generation: fields.text("generation").to_owned(),
        now_ms,
        last_tick_ms: snapshot.last_tick_ms,
        lost_ms: snapshot.losses.lost_ms,
        next: fields.count("next").max(1),
    };
    Ok((snapshot, witness))
}

/// `None` when another tick came first.
pub fn called(reply: &Reply) -> Result<Option<Called>, StoreError> {
    if reply.at(0)?.int()? == 0 {
        return Ok(None);
    }
    Ok(Some(Called {
        version: reply.at(1)?.int()?,
        calls: count(reply.at(2)?)?,
        skips: count(reply.at(3)?)?,
        rest: count(reply.at(4)?)?,
        directs: count(reply.at(5)?)?,
        inversions: count(reply.at(6)?)?,
        claims_missed: count(reply.at(7)?)?,
        dropped: count(reply.at(8)?)?,
        leases_ended: count(reply.at(9)?)?,
    }))
}

/// A browser as scripts keep it; 0 where they know none.
fn fingerprint(text: &str) -> Result<u64, StoreError> {
    if text.is_empty() {
        return Ok(0);
    }
    u64::from_str_radix(text, 16).map_err(|_| StoreError::Shape("a fingerprint is hexadecimal"))
}

/// The claim, and whether it was this call that made it.
pub fn claim(reply: &Reply) -> Result<(Claim, bool), StoreError> {
    let fresh = reply.at(2)?.int()? == 1;
    let claim = match reply.at(0)?.int()? {
        0 => Claim::Inside { lease_until_ms: reply.at(1)?.int()?, browser: fingerprint(&reply.at(3)?.text()?)? },
        1 => Claim::NotYourTurn,
        2 => Claim::Missed,
        3 => Claim::Left,
        _ => return Err(StoreError::Shape("an unknown claim code")),
    };
    Ok((claim, fresh))
}

pub fn presences(reply: &Reply, expected: usize) -> Result<Vec<Presence>, StoreError> {
    let codes = reply.ints()?;
    if codes.len() != expected {
        return Err(StoreError::Shape("one answer per number was expected"));
    }
    codes
        .into_iter()
        .map(|code| match code {
            0 => Ok(Presence::Waiting),
            1 => Ok(Presence::Called),
            2 => Ok(Presence::Inside),
            3 => Ok(Presence::Missed),
            4 => Ok(Presence::Left),
            _ => Err(StoreError::Shape("an unknown presence code")),
        })
        .collect()
}

/// A flat list as pairs.
fn pairs(reply: &Reply) -> Result<impl Iterator<Item = (&Reply, &Reply)>, StoreError> {
    Ok(reply.list()?.as_chunks::<2>().0.iter().map(|[a, b]| (a, b)))
}

pub fn board(reply: &Reply, settings: Arc<RoomSettings>) -> Result<Board, StoreError> {
    let taken_ms = reply.at(0)?.int()?;
    let fields = Fields::new(reply.at(1)?)?;
    let in_line = count(reply.at(2)?)?;
    let rungs = pairs(reply.at(10)?)?
        .map(|(rank, place)| Ok((count(rank)?, count(place)?)))
        .collect::<Result<Vec<_>, StoreError>>()?;
    let mut called_until = pairs(reply.at(9)?)?
        .map(|(number, until)| Ok((count(number)?, until.int()?)))
        .collect::<Result<Vec<_>, StoreError>>()?;
    called_until.sort_unstable();
    let ended = pairs(reply.at(11)?)?
        .map(|(number, until)| Ok((count(number)?, until.int()?)))
        .collect::<Result<_, StoreError>>()?;
    let draw = match fields.text("draw") {
        "" => None,
        text => Some(DrawnLobby::new(crate::drawing::parse(text)?, fields.count("drawn_to"))),
    };
    Ok(Board {
        taken_ms,
        waiting: in_line,
        lobby: count(reply.at(3)?)?,
        silent: count(reply.at(4)?)?,
        called: count(reply.at(5)?)?,
        inside: count(reply.at(6)?)?,
        buying: count(reply.at(7)?)?,
        frontier: fields.count("frontier"),
        next: fields.count("next").max(1),
        last_tick_ms: fields.ms("last_tick_ms"),
        losses: fields.losses(),
        throttle: fields.throttle(),
        drawing: fields.drawing(),
        draw,
        stock: stock(reply.at(8)?)?,
        rate_per_s: rate::measure(&fields.ring(), settings.starts_at_ms, taken_ms),
        trend: Trend::new(&fields.samples(), settings.starts_at_ms, taken_ms),
        reason: LimitReason::from_label(fields.text("reason")).unwrap_or(LimitReason::NotOpen),
        totals: Totals {
            calls: fields.count("calls"),
            claims: fields.count("claims"),
            misses: fields.count("misses"),
            skips: fields.count("skips"),
            leaves: fields.count("leaves"),
            idle: fields.count("idle"),
            losses: fields.count("losses"),
            inversions: fields.count("inversions"),
        },
        ladder: Ladder::new(rungs, in_line),
        called_until,
        ended,
        settings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(values: &[i64]) -> Reply {
        Reply::List(values.iter().map(|n| Reply::Int(*n)).collect())
    }

    #[test]
    fn a_reply_of_another_version_is_an_error_and_not_a_guess() {
        assert!(claim(&ints(&[9, 0, 0])).is_err());
        assert!(claim(&ints(&[0])).is_err());
        assert!(presences(&ints(&[0, 1]), 3).is_err());
        assert!(presences(&ints(&[7]), 1).is_err());
        assert!(snapshot(&ints(&[1, 2]), &crate::settings::tests::room()).is_err());
        assert!(called(&ints(&[1, 5])).is_err());
        assert_eq!(called(&ints(&[0])), Ok(None));
        assert!(joined(&ints(&[1, 8, 1, 1, 0, 5])).is_err(), "a number is no visitor");
        assert_eq!(joined(&Reply::Text("FULL".into())), Ok(Err("FULL".into())));
    }

    #[test]
    fn stock_that_is_not_loaded_is_none() {
        let none = Reply::List(vec![Reply::Nil, Reply::Nil, Reply::Nil, Reply::Nil]);
        assert_eq!(stock(&none), Ok(None));
        let some = Reply::List(vec![Reply::Text("3".into()), Reply::Text("2".into()), Reply::Nil, Reply::Int(5)]);
        assert_eq!(stock(&some), Ok(Some(Stock { available: 3, held: 2, sold: 0, total: 5 })));
        assert!(stock(&ints(&[-1, 0, 0, 0])).is_err());
    }
}
