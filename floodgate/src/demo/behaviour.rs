//! How one synthetic shopper behaves: drawn from the seed, so that a run can be repeated.

use super::plan::Plan;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// What a shopper does once the gate calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Wants a unit, and pays.
    Buys,
    /// Is not there when called.
    NeverClaims,
    /// Holds a unit, then gives it back.
    Cancels,
    /// Types a wrong password at the provider.
    Declines,
    /// Leaves the provider's page, then cancels the order.
    Abandons,
}

/// A shopper's character.
#[derive(Debug)]
pub struct Behaviour {
    /// What happens when called.
    pub habit: Habit,
    /// Stops polling for this long, once.
    pub silent_ms: Option<u64>,
    /// Sends each hold twice at once.
    pub double_clicks: bool,
    /// Loads the page again at every other poll.
    pub refreshes: bool,
    /// When it arrives, relative to the opening; negative = into the lobby.
    pub arrives_ms: i64,
    /// Everything else that is left to chance.
    pub dice: StdRng,
}

impl Behaviour {
    /// The character of shopper `n`.
    pub fn new(plan: &Plan, n: u32) -> Self {
        let mut dice = StdRng::seed_from_u64(plan.seed ^ u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let habit = match dice.random_range(0..100) {
            0..5 => Habit::NeverClaims,
            5..10 => Habit::Cancels,
            10..13 => Habit::Declines,
            13..15 => Habit::Abandons,
            _ => Habit::Buys,
        };
        let silent_ms = dice.random_ratio(2, 100).then(|| dice.random_range(2_000..5_000));
        let double_clicks = dice.random_ratio(10, 100);
        let refreshes = dice.random_ratio(5, 100);
        // Most wait in the lobby; the rest storm the door in the first second.
        let arrives_ms = if dice.random_ratio(4, 5) {
            -i64::from(dice.random_range(0..plan.opens_in_ms.max(1)))
        } else {
            dice.random_range(0..1_000)
        };
        Self { habit, silent_ms, double_clicks, refreshes, arrives_ms, dice }
    }

    /// `ms`, up to a tenth more: a crowd must not move in step.
    pub fn jitter(&mut self, ms: u64) -> u64 {
        ms.saturating_add(self.dice.random_range(0..=ms / 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_a_crowd_and_most_of_it_buys() {
        let plan = Plan {
            shoppers: 1_000,
            stock: 10,
            opens_in_ms: 3_000,
            rate_per_s: 10,
            inside_max: 10,
            sale_ms: 60_000,
            seed: 7,
        };
        let crowd = |seed| (0..1_000).map(|n| Behaviour::new(&Plan { seed, ..plan }, n).habit).collect::<Vec<_>>();
        assert_eq!(crowd(7), crowd(7));
        assert_ne!(crowd(7), crowd(8));
        let buyers = crowd(7).iter().filter(|habit| **habit == Habit::Buys).count();
        assert!((800..900).contains(&buyers), "{buyers}");
    }
}
