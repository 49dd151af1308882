//! From the scripts' replies to our types. Anything that does not fit is [`StoreError::Shape`]: script and program differ.

use crate::admission::{LimitReason, Snapshot};
use crate::board::{Board, Totals};
use crate::ladder::Ladder;
use crate::line::{Claim, Joined, Presence};
use crate::rate;
use crate::settings::RoomSettings;
use crate::state::Stock;
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

pub fn joined(reply: &Reply) -> Result<Joined, StoreError> {
    Ok(Joined {
        number: count(reply.at(0)?)?,
        joined_ms: reply.at(1)?.int()?,
        created: reply.at(2)?.int()? == 1,
        called_until_ms: deadline(reply.at(3)?)?,
        visitor: reply.at(4)?.text()?.parse().map_err(|_| StoreError::Shape("a visitor was expected"))?,
    })
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

pub fn snapshot(reply: &Reply) -> Result<Snapshot, StoreError> {
    Ok(Snapshot {
        now_ms: reply.at(0)?.int()?,
        version: reply.at(1)?.int()?,
        last_tick_ms: reply.at(2)?.int()?,
        carry_micro: reply.at(3)?.int()?,
        hold_until_ms: reply.at(4)?.int()?,
        directs: count(reply.at(5)?)?,
        waiting: count(reply.at(6)?)?,
        silent: count(reply.at(7)?)?,
        called: count(reply.at(8)?)?,
        inside: count(reply.at(9)?)?,
        buying: count(reply.at(10)?)?,
        stock: stock(reply.at(11)?)?,
    })
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

/// The claim, and whether it was this call that made it.
pub fn claim(reply: &Reply) -> Result<(Claim, bool), StoreError> {
    let fresh = reply.at(2)?.int()? == 1;
    let claim = match reply.at(0)?.int()? {
        0 => Claim::Inside { lease_until_ms: reply.at(1)?.int()? },
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
    let mut fields = HashMap::new();
    for (name, value) in pairs(reply.at(1)?)? {
        fields.insert(name.text()?, value.text()?);
    }
    let field = |name: &str| fields.get(name).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
    let ring: Vec<_> = (0..rate::RING_S).filter_map(|i| rate::parse_entry(fields.get(&format!("r{i}"))?)).collect();
    let waiting = count(reply.at(2)?)?;
    let rungs = pairs(reply.at(9)?)?
        .map(|(rank, place)| Ok((count(rank)?, count(place)?)))
        .collect::<Result<Vec<_>, StoreError>>()?;
    let mut called_until = pairs(reply.at(8)?)?
        .map(|(number, until)| Ok((count(number)?, until.int()?)))
        .collect::<Result<Vec<_>, StoreError>>()?;
    called_until.sort_unstable();
    Ok(Board {
        taken_ms,
        waiting,
        silent: count(reply.at(3)?)?,
        called: count(reply.at(4)?)?,
        inside: count(reply.at(5)?)?,
        buying: count(reply.at(6)?)?,
        frontier: field("frontier"),
        next: field("next").max(1),
        last_tick_ms: i64::try_from(field("last_tick_ms")).unwrap_or(0),
        stock: stock(reply.at(7)?)?,
        rate_per_s: rate::measure(&ring, settings.starts_at_ms, taken_ms),
        reason: fields.get("reason").and_then(|r| LimitReason::from_label(r)).unwrap_or(LimitReason::NotOpen),
        totals: Totals {
            calls: field("calls"),
            claims: field("claims"),
            misses: field("misses"),
            skips: field("skips"),
            leaves: field("leaves"),
            inversions: field("inversions"),
        },
        ladder: Ladder::new(rungs, waiting),
        called_until,
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
        assert!(snapshot(&ints(&[1, 2])).is_err());
        assert!(called(&ints(&[1, 5])).is_err());
        assert_eq!(called(&ints(&[0])), Ok(None));
        assert!(joined(&ints(&[1, 1, 1, 0, 5])).is_err(), "a number is no visitor");
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
