//! Whom to call now, and why not more: a pure function of one snapshot of the room.

use crate::settings::RoomSettings;
use crate::state::{Losses, RoomState, Stock, room_state};
use serde::Serialize;

/// What the tick saw, all at one moment of the store's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The room's clock: the store's, carried on steadily when that one is stepped.
    pub now_ms: i64,
    /// Changes with every tick that took effect.
    pub version: i64,
    /// The clock of the last tick that took effect; 0 = none yet.
    pub last_tick_ms: i64,
    /// Budget kept from the last tick, in millionths of a person.
    pub carry_micro: i64,
    /// What is known about losses of the store.
    pub losses: Losses,
    /// People let in directly so far; lets the call script subtract those since this snapshot.
    pub directs: u64,
    /// In line, with a place: whoever waits for a draw does not count.
    pub waiting: u64,
    /// A draw is not finished: nobody enters directly.
    pub drawing: bool,
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
    /// Calls per hundred claims, as measured; 100 = everybody comes.
    pub calls_per_hundred_claims: u64,
    /// Leases taken so far.
    pub claims: u64,
    /// Leases that ended without ever a hold.
    pub idle: u64,
    /// How far the calls are slowed down for the upstream.
    pub throttle: Throttle,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            now_ms: 0,
            version: 0,
            last_tick_ms: 0,
            carry_micro: 0,
            losses: Losses::default(),
            directs: 0,
            waiting: 0,
            drawing: false,
            silent: 0,
            called: 0,
            inside: 0,
            buying: 0,
            stock: None,
            calls_per_hundred_claims: 100,
            claims: 0,
            idle: 0,
            throttle: Throttle::default(),
        }
    }
}

/// How the upstream behind a room does, as one gate sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Too few answers to say.
    #[default]
    Unknown,
    /// Within the room's limits.
    Good,
    /// Slower, or with more errors, than the room's limits.
    Bad,
}

/// How far the calls are slowed down for the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// The rate's thousandths that are used; 1,000 = all of it.
    pub milli: u32,
    /// When that was last changed.
    pub changed_ms: i64,
    /// When a gate last saw the upstream in trouble.
    pub bad_ms: i64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { milli: FULL_MILLI, changed_ms: 0, bad_ms: 0 }
    }
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
    /// The rate, lowered because the upstream is slow or failing.
    UpstreamSlow,
    /// The operator stopped the calls.
    Paused,
    /// The store cannot be trusted; tickets are being collected before anybody is called.
    Store,
    /// Before the start or after the end.
    NotOpen,
    /// Everybody was called.
    NobodyWaits,
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
    /// How far the calls are slowed down from now on.
    pub throttle: Throttle,
    /// Why not more.
    pub reason: LimitReason,
}

/// Longest time that one tick may make up for: no credit is banked for a longer silence of the gates.
pub const TICK_MAX_MS: i64 = 1_000;
const MICRO: i64 = 1_000_000;
const FULL_MILLI: u32 = 1_000;
/// The rate is changed for the upstream at most so often.
const THROTTLE_EVERY_MS: i64 = 1_000;
/// After trouble the rate stays for so long before it rises again.
const CALM_MS: i64 = 3_000;
/// What remains of the rate when the upstream is in trouble, in percent.
const BACK_OFF_PERCENT: u32 = 70;
/// What the rate gains per second when it is not, in thousandths of the room's rate.
const RECOVER_MILLI: u32 = 50;
/// The lowest thousandth: below it the floor of the room counts anyway.
const THROTTLE_MIN_MILLI: u32 = 1;
/// The measured conversion counts as much as so many people before it moves the overbooking by half.
const CONVERSION_PRIOR_PEOPLE: u64 = 20;

/// Decides one tick. `health` is what the deciding gate sees of the upstream.
///
/// `calls + spare` is the smallest of three budgets: the rate since the last tick, the free places inside, and
/// the people that the stock still justifies. The part that finds nobody in line is `spare`: newcomers may use
/// it until the next tick, then it is gone.
pub fn decide(settings: &RoomSettings, snapshot: &Snapshot, health: Health) -> Decision {
    let throttle = adapt(settings, snapshot.throttle, health, snapshot.now_ms);
    let nobody = |reason| Decision { calls: 0, spare: 0, carry_micro: 0, throttle, reason };
    match room_state(settings, snapshot.stock, snapshot.losses, snapshot.now_ms) {
        RoomState::Paused => return nobody(LimitReason::Paused),
        RoomState::Scheduled | RoomState::Lobby | RoomState::Closed => return nobody(LimitReason::NotOpen),
        RoomState::Standby | RoomState::SoldOut => return nobody(LimitReason::Stock),
        RoomState::Hold => return nobody(LimitReason::Store),
        RoomState::Open => {}
    }
    let (budget, carry_micro) = rate_budget(settings, snapshot, throttle);
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
    } else if throttle.milli < FULL_MILLI {
        LimitReason::UpstreamSlow
    } else {
        LimitReason::Target
    };
    let spare = if snapshot.drawing { 0 } else { allowed - calls };
    Decision { calls, spare, carry_micro, throttle, reason }
}

/// Slows down by a third at once when the upstream is in trouble, and recovers in small steps: the control that TCP
/// uses for the same question (additive increase, multiplicative decrease; Chiu and Jain 1989).
pub fn adapt(settings: &RoomSettings, throttle: Throttle, health: Health, now_ms: i64) -> Throttle {
    if settings.upstream_slow_ms == 0 && settings.upstream_errors_percent == 0 {
        return Throttle::default();
    }
    let may_change = now_ms.saturating_sub(throttle.changed_ms) >= THROTTLE_EVERY_MS;
    if health == Health::Bad {
        let slower = (throttle.milli * BACK_OFF_PERCENT / 100).max(THROTTLE_MIN_MILLI);
        return match may_change {
            true => Throttle { milli: slower, changed_ms: now_ms, bad_ms: now_ms },
            false => Throttle { bad_ms: now_ms, ..throttle },
        };
    }
    let calm = now_ms.saturating_sub(throttle.bad_ms) >= CALM_MS;
    if throttle.milli < FULL_MILLI && calm && may_change {
        let faster = throttle.milli.saturating_add(RECOVER_MILLI).min(FULL_MILLI);
        return Throttle { milli: faster, changed_ms: now_ms, ..throttle };
    }
    throttle
}

/// Millionths of a person per second: the room's rate, slowed down for the upstream but not below the floor, and raised
/// for those who will not come.
fn per_second_micro(settings: &RoomSettings, snapshot: &Snapshot, throttle: Throttle) -> i64 {
    let slowed = i64::from(settings.rate_per_s) * MICRO / 1_000 * i64::from(throttle.milli);
    let floor = i64::from(settings.rate_floor_per_s.min(settings.rate_per_s)) * MICRO;
    let percent = snapshot.calls_per_hundred_claims.clamp(100, u64::from(settings.no_show_percent_max.max(100)));
    slowed.max(floor) / 100 * i64::try_from(percent).unwrap_or(100)
}

/// Whole people that the rate allows since the last tick, and the fraction to keep.
fn rate_budget(settings: &RoomSettings, snapshot: &Snapshot, throttle: Throttle) -> (u64, i64) {
    let per_second_micro = per_second_micro(settings, snapshot, throttle);
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
    let people = available.saturating_mul(overbooking_percent(settings, snapshot)).div_ceil(100);
    people.saturating_sub(snapshot.called.saturating_add(snapshot.inside))
}

/// People per hundred units: how many of those who had a lease took no unit, smoothed towards the configured value while
/// few have decided, and bounded.
pub fn overbooking_percent(settings: &RoomSettings, snapshot: &Snapshot) -> u64 {
    let configured = u64::from(settings.overbooking_percent.max(1));
    let decided = snapshot.claims.saturating_sub(snapshot.inside);
    let holders = decided.saturating_sub(snapshot.idle);
    let prior_holders = CONVERSION_PRIOR_PEOPLE * 10_000 / configured;
    let measured = decided.saturating_add(CONVERSION_PRIOR_PEOPLE).saturating_mul(10_000)
        / holders.saturating_mul(100).saturating_add(prior_holders).max(1);
    measured.clamp(100, u64::from(settings.overbooking_percent_max.max(settings.overbooking_percent)))
}

impl LimitReason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::Target,
        Self::InsideCap,
        Self::Stock,
        Self::UpstreamSlow,
        Self::Paused,
        Self::Store,
        Self::NotOpen,
        Self::NobodyWaits,
    ];

    /// Its name in metrics, in the store and in the API.
    pub fn label(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::InsideCap => "inside_cap",
            Self::Stock => "stock",
            Self::UpstreamSlow => "upstream_slow",
            Self::Paused => "paused",
            Self::Store => "store",
            Self::NotOpen => "not_open",
            Self::NobodyWaits => "nobody_waits",
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
                let decision = decide(&room, &snapshot, Health::Unknown);
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
            let decision = decide(&room(), &after(ms), Health::Unknown);
            assert_eq!((decision.calls, decision.spare), (10, 0), "after {ms} ms");
        }
        let rich = Snapshot { carry_micro: 500 * MICRO, ..after(200) };
        assert_eq!(
            decide(&room(), &rich, Health::Unknown).calls,
            10,
            "a kept budget is never more than a second's worth"
        );
        let alone = Snapshot { waiting: 0, ..after(60_000) };
        let decision = decide(&room(), &alone, Health::Unknown);
        assert_eq!((decision.calls, decision.spare, decision.reason), (0, 10, LimitReason::NobodyWaits));
        assert_eq!(decision.carry_micro, 0, "what nobody used is not carried on");
    }

    #[test]
    fn a_first_tick_or_a_clock_that_went_back_earns_nothing() {
        assert_eq!(decide(&room(), &Snapshot { last_tick_ms: 0, ..after(500) }, Health::Unknown).calls, 0);
        assert_eq!(decide(&room(), &after(-3_600_000), Health::Unknown).calls, 0);
    }

    #[test]
    fn the_room_takes_only_as_many_as_fit() {
        let full = Snapshot { called: 50, inside: 30, buying: 17, ..after(1_000) };
        let decision = decide(&room(), &full, Health::Unknown);
        assert_eq!((decision.calls, decision.reason), (3, LimitReason::InsideCap));
        let over = Snapshot { called: 200, ..full };
        assert_eq!(decide(&room(), &over, Health::Unknown).calls, 0);
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
            let decision = decide(&aware, &snapshot, Health::Unknown);
            assert_eq!((decision.calls, decision.reason), (calls, reason), "{available} units, {called}+{inside}");
        }
        let unloaded = decide(&aware, &after(1_000), Health::Unknown);
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
            let decision = decide(&room, &Snapshot { carry_micro: 999_999, ..after(1_000) }, Health::Unknown);
            assert_eq!((decision.calls, decision.spare, decision.carry_micro, decision.reason), (0, 0, 0, reason));
        }
        let holding = Snapshot { losses: Losses { hold_until_ms: 1_001_001, ..Losses::default() }, ..after(1_000) };
        assert_eq!(decide(&room(), &holding, Health::Unknown).reason, LimitReason::Store);
    }

    #[test]
    fn labels_are_unique() {
        for reason in LimitReason::ALL {
            assert_eq!(LimitReason::from_label(reason.label()), Some(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.label());
        }
    }

    #[test]
    fn no_shows_are_made_up_for_within_bounds() {
        let calls = |percent, max| {
            let room = RoomSettings { no_show_percent_max: max, ..room() };
            decide(&room, &Snapshot { calls_per_hundred_claims: percent, ..after(1_000) }, Health::Unknown).calls
        };
        assert_eq!((calls(100, 200), calls(143, 200), calls(900, 200), calls(900, 100)), (10, 14, 20, 10));
    }

    #[test]
    fn overbooking_follows_the_conversion_within_bounds() {
        let aware = RoomSettings { stock_aware: true, ..room() };
        let percent =
            |claims, inside, idle| overbooking_percent(&aware, &Snapshot { claims, inside, idle, ..after(0) });
        assert_eq!(percent(0, 0, 0), 150, "nothing measured yet: as configured");
        assert_eq!(percent(50, 50, 0), 150, "who is still inside has not decided");
        assert_eq!(percent(10_000, 0, 0), 100, "everybody buys: one person per unit");
        assert!((195..=200).contains(&percent(10_000, 0, 5_000)), "{}", percent(10_000, 0, 5_000));
        assert_eq!(percent(10_000, 0, 9_000), 300, "bounded");
    }

    #[test]
    fn a_slow_upstream_slows_the_calls_down_to_the_floor_and_no_further() {
        let room = RoomSettings { upstream_slow_ms: 500, rate_floor_per_s: 2, ..room() };
        let mut snapshot = after(0);
        let mut calls = Vec::new();
        for second in 1..=60 {
            snapshot.now_ms = 1_000_000 + second * 1_000;
            let decision = decide(&room, &snapshot, if second <= 20 { Health::Bad } else { Health::Good });
            calls.push(decision.calls);
            if second == 10 {
                assert_eq!(decision.reason, LimitReason::UpstreamSlow);
            }
            snapshot = Snapshot {
                last_tick_ms: snapshot.now_ms,
                carry_micro: decision.carry_micro,
                throttle: decision.throttle,
                ..snapshot
            };
        }
        assert_eq!(calls[0], 7, "at once");
        assert!(calls[8..20].iter().all(|n| *n == 2), "{calls:?}");
        assert_eq!(calls[59], 10, "recovers by itself: {calls:?}");
        assert!(calls[22..].windows(2).all(|w| w[1] + 1 >= w[0]), "{calls:?}");
        let deaf = decide(&crate::settings::tests::room(), &after(1_000), Health::Bad);
        assert_eq!((deaf.calls, deaf.reason), (10, LimitReason::Target), "a room without limits does not look");
    }

    #[test]
    fn nobody_enters_directly_while_places_are_drawn() {
        let decision = decide(&room(), &Snapshot { drawing: true, waiting: 3, ..after(1_000) }, Health::Unknown);
        assert_eq!((decision.calls, decision.spare), (3, 0));
    }
}
