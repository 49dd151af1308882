//! Whom to call now, and why not more: a pure function of one snapshot of the room.
use crate::settings::RoomSettings;
use crate::state::{RoomState, Stock, room_state};
use serde::Serialize;

/// What the tick saw, all at one moment of the store's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The store's clock.
    pub now_ms: i64,
    /// Changes with every tick that took effect.
    pub version: i64,
    /// The clock of the last tick that took effect; 0 = none yet.
    pub last_tick_ms: i64,
    /// Budget kept from the last tick, in millionths of a person.
    pub carry_micro: i64,
    /// Nobody is called before this: the line is being rebuilt after a loss of the store.
    pub hold_until_ms: i64,
    /// People let in directly so far; lets the call script subtract those since this snapshot.
    pub directs: u64,
    /// In line.
    pub waiting: u64,
    /// Skipped or timed out, not back yet.
    pub silent: u64,
    /// Called, the claim window still runs.
    pub called: u64,
    /// Inside without a hold, the lease still runs.
    pub inside: u64,
    /// Inside with a hold, the lease still runs.
    pub buying: u64,
    /// Units of the deal, if they are loaded.
    pub stock: Option<Stock>,
}

/// Why not more people were called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitReason {
    /// The rate of the room.
    Target,
    /// As many inside as the room takes.
    InsideCap,
    /// As many as may still find something to buy.
    Stock,
    /// The operator stopped the calls.
    Paused,
    /// Before the start or after the end.
    NotOpen,
    /// Everybody was called.
    NobodyWaits,
    /// The store lost its memory; tickets are being collected before anybody is called.
    Rebuilding,
}

/// What to do in this tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// People in line to call now.
    pub calls: u64,
    /// People who may still enter directly until the next tick, if nobody waits.
    pub spare: u64,
    /// Fraction of a person to keep, in millionths.
    pub carry_micro: i64,
    /// Why not more.
    pub reason: LimitReason,
}

/// Longest time that one tick may make up for: no credit is banked for a longer silence of the gates.
pub const TICK_MAX_MS: i64 = 1_000;
const MICRO: i64 = 1_000_000;

/// Decides one tick.
///
/// `calls + spare` is the smallest of three budgets: the rate since the last tick, the free places inside, and
/// the people that the stock still justifies. The part that finds nobody in line is `spare`: newcomers may use
/// it until the next tick, then it is gone.
pub fn decide(settings: &RoomSettings, snapshot: &Snapshot) -> Decision {
    let nobody = |reason| Decision { calls: 0, spare: 0, carry_micro: 0, reason };
    match room_state(settings, snapshot.stock, snapshot.now_ms) {
        RoomState::Paused => return nobody(LimitReason::Paused),
        RoomState::Scheduled | RoomState::Lobby | RoomState::Closed => return nobody(LimitReason::NotOpen),
        RoomState::Standby | RoomState::SoldOut => return nobody(LimitReason::Stock),
        RoomState::Open => {}
    }
    if snapshot.now_ms < snapshot.hold_until_ms {
        return nobody(LimitReason::Rebuilding);
    }
    let (budget, carry_micro) = rate_budget(settings, snapshot);
    let active = snapshot.called.saturating_add(snapshot.inside).saturating_add(snapshot.buying);
    let cap = u64::from(settings.inside_max).saturating_sub(active);
    let stock = stock_budget(settings, snapshot);
    let allowed = budget.min(cap).min(stock);
    let calls = allowed.min(snapshot.waiting);
    // A budget of less than one person is no limit of its own: look at what would stop the next one.
    let wanted = budget.max(1);
    let reason = if snapshot.waiting == 0 {
        LimitReason::NobodyWaits
    } else if stock < wanted && stock <= cap {
        LimitReason::Stock
    } else if cap < wanted {
        LimitReason::InsideCap
    } else if snapshot.waiting < budget {
        LimitReason::NobodyWaits
    } else {
        LimitReason::Target
    };
    Decision { calls, spare: allowed - calls, carry_micro, reason }
}

/// Whole people that the rate allows since the last tick, and the fraction to keep.
fn rate_budget(settings: &RoomSettings, snapshot: &Snapshot) -> (u64, i64) {
    let per_second_micro = i64::from(settings.rate_per_s) * MICRO;
    // No last tick, or a clock that went back: time passed, but nobody can say how much.
    let known = snapshot.last_tick_ms > 0;
    let elapsed_ms =
        if known { snapshot.now_ms.saturating_sub(snapshot.last_tick_ms).clamp(0, TICK_MAX_MS) } else { 0 };
    let earned = elapsed_ms.saturating_mul(per_second_micro / 1_000).saturating_add(snapshot.carry_micro.max(0));
    let micro = earned.min(per_second_micro.saturating_add(MICRO - 1));
    (u64::try_from(micro / MICRO).unwrap_or(0), micro % MICRO)
}

/// How many more may look at the stock: one unit each, times the overbooking.
fn stock_budget(settings: &RoomSettings, snapshot: &Snapshot) -> u64 {
    if !settings.stock_aware {
        return u64::MAX;
    }
    // Not loaded: nobody is called to a shelf that may be empty.
    let available = snapshot.stock.map_or(0, |s| s.available);
    let people = available.saturating_mul(u64::from(settings.overbooking_percent)).div_ceil(100);
    people.saturating_sub(snapshot.called.saturating_add(snapshot.inside))
}

impl LimitReason {
    /// All of them, for metrics and parsing.
    pub const ALL: [Self; 7] =
        [Self::Target, Self::InsideCap, Self::Stock, Self::Paused, Self::NotOpen, Self::NobodyWaits, Self::Rebuilding];

    /// Its name in metrics, in the store and in the API.
    pub fn label(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::InsideCap => "inside_cap",
            Self::Stock => "stock",
            Self::Paused => "paused",
            Self::NotOpen => "not_open",
            Self::NobodyWaits => "nobody_waits",
            Self::Rebuilding => "rebuilding",
        }
    }
    /// The reason of that name.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.label() == label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::room;

    fn after(ms: i64) -> Snapshot {
        Snapshot { now_ms: 1_000_000 + ms, last_tick_ms: 1_000_000, waiting: 1_000_000, ..Snapshot::default() }
    }
    fn units(available: u64) -> Option<Stock> {
        Some(Stock { available, held: 1, sold: 0, total: 1_000 })
    }

    #[test]
    fn the_rate_is_exact_over_any_window_of_ticks() {
        for (rate, step_ms) in
            [(1, 200), (3, 7), (7, 333), (10, 1), (33, 200), (999, 999), (100_000, 1_000), (50, 1_000)]
        {
            let room = RoomSettings { rate_per_s: rate, inside_max: 1_000_000, ..room() };
            let (mut snapshot, mut calls, mut elapsed_ms) = (after(0), 0, 0);
            for _ in 0..2_000 {
                snapshot.now_ms += step_ms;
                elapsed_ms += step_ms;
                let decision = decide(&room, &snapshot);
                calls += decision.calls;
                snapshot.carry_micro = decision.carry_micro;
                snapshot.last_tick_ms = snapshot.now_ms;
                assert_eq!(calls, elapsed_ms as u64 * u64::from(rate) / 1_000, "rate {rate}, step {step_ms} ms");
            }
        }
    }

    // waiting-rooms.md 1.4 #5
    #[test]
    fn banked_credit_is_never_spent() {
        for ms in [1_000, 60_000, 86_400_000] {
            let decision = decide(&room(), &after(ms));
            assert_eq!((decision.calls, decision.spare), (10, 0), "after {ms} ms");
        }
        let rich = Snapshot { carry_micro: 500 * MICRO, ..after(200) };
        assert_eq!(decide(&room(), &rich).calls, 10, "a kept budget is never more than a second's worth");
        let alone = Snapshot { waiting: 0, ..after(60_000) };
        let decision = decide(&room(), &alone);
        assert_eq!((decision.calls, decision.spare, decision.reason), (0, 10, LimitReason::NobodyWaits));
        assert_eq!(decision.carry_micro, 0, "what nobody used is not carried on");
    }

    #[test]
    fn a_first_tick_or_a_clock_that_went_back_earns_nothing() {
        assert_eq!(decide(&room(), &Snapshot { last_tick_ms: 0, ..after(500) }).calls, 0);
        assert_eq!(decide(&room(), &after(-3_600_000)).calls, 0);
    }

    #[test]
    fn the_room_takes_only_as_many_as_fit() {
        let full = Snapshot { called: 50, inside: 30, buying: 17, ..after(1_000) };
        let decision = decide(&room(), &full);
        assert_eq!((decision.calls, decision.reason), (3, LimitReason::InsideCap));
        let over = Snapshot { called: 200, ..full };
        assert_eq!(decide(&room(), &over).calls, 0);
    }

    #[test]
    fn stock_bounds_those_who_may_still_take_it() {
        let aware = RoomSettings { stock_aware: true, ..room() };
        for (available, called, inside, buying, calls, reason) in [
            (3, 0, 0, 90, 5, LimitReason::Stock), // ceil(4.5); those with a hold do not count
            (3, 3, 2, 0, 0, LimitReason::Stock),
            (100, 0, 0, 0, 10, LimitReason::Target),
            (0, 0, 0, 0, 0, LimitReason::Stock),
        ] {
            let snapshot = Snapshot { stock: units(available), called, inside, buying, ..after(1_000) };
            let decision = decide(&aware, &snapshot);
            assert_eq!((decision.calls, decision.reason), (calls, reason), "{available} units, {called}+{inside}");
        }
        let unloaded = decide(&aware, &after(1_000));
        assert_eq!((unloaded.calls, unloaded.spare, unloaded.reason), (0, 0, LimitReason::Stock));
    }

    #[test]
    fn a_room_that_is_not_open_calls_nobody_and_lets_nobody_in_directly() {
        let early = RoomSettings { starts_at_ms: 2_000_000, ..room() };
        let closed = RoomSettings { closed: true, ..room() };
        let paused = RoomSettings { paused: true, ..room() };
        for (room, reason) in
            [(early, LimitReason::NotOpen), (closed, LimitReason::NotOpen), (paused, LimitReason::Paused)]
        {
            let decision = decide(&room, &Snapshot { carry_micro: 999_999, ..after(1_000) });
            assert_eq!((decision.calls, decision.spare, decision.carry_micro, decision.reason), (0, 0, 0, reason));
        }
        let holding = Snapshot { hold_until_ms: 1_001_001, ..after(1_000) };
        assert_eq!(decide(&room(), &holding).reason, LimitReason::Rebuilding);
    }

    #[test]
    fn labels_are_unique() {
        for reason in LimitReason::ALL {
            assert_eq!(LimitReason::from_label(reason.label()), Some(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.label());
        }
    }
}
