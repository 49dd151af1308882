//! The ladder: places found at a few ranks of the line, so that any position is a binary search in
//! memory. Exact for the first 64, within 2 % behind them.

/// Ranks 0 to 63 each have a rung.
pub const EXACT_RANKS: u64 = 64;

/// Rungs, `(rank, place)`, rising in both; the last one is the end of the line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ladder {
    rungs: Vec<(u64, u64)>,
    total: u64,
}

impl Ladder {
    /// From rungs that rise in rank and in place; others are dropped. `total` = people in line.
    pub fn new(rungs: impl IntoIterator<Item = (u64, u64)>, total: u64) -> Self {
        let mut kept: Vec<(u64, u64)> = Vec::new();
        for (rank, place) in rungs {
            if rank < total && kept.last().is_none_or(|&(r, p)| rank > r && place > p) {
                kept.push((rank, place));
            }
        }
        Self { rungs: kept, total }
    }

    /// People in line.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many in line have a lower place.
    pub fn ahead_of(&self, place: u64) -> u64 {
        let upper = self.rungs.partition_point(|&(_, p)| p < place);
        let Some(&(rank_high, place_high)) = self.rungs.get(upper) else { return self.total };
        if place_high == place {
            return rank_high;
        }
        let Some(&(rank_low, place_low)) = upper.checked_sub(1).and_then(|i| self.rungs.get(i)) else {
            return rank_high;
        };
        // The rung below is in front of this place, so the answer lies in rank_low + 1 ..= rank_high.
        let (people, places) = (rank_high - rank_low - 1, place_high - place_low);
        let share = u128::from(place - place_low) * u128::from(people) / u128::from(places.max(1));
        rank_low.saturating_add(1).saturating_add(u64::try_from(share).unwrap_or(people)).min(rank_high)
    }
}

/// The rank of the rung after `rank`: one further among the first, then 2 % further.
/// `board.lua` walks the same ranks.
pub fn next_rank(rank: u64) -> u64 {
    if rank + 1 < EXACT_RANKS { rank + 1 } else { (rank + 1).max(rank + rank / 50) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::mix;

    fn climb(places: &[u64]) -> Ladder {
        let total = places.len() as u64;
        let ranks = std::iter::successors(Some(0), |&r| Some(next_rank(r)))
            .take_while(|&r| r < total)
            .chain(total.checked_sub(1));
        Ladder::new(ranks.map(|r| (r, places[r as usize])).collect::<Vec<_>>(), total)
    }

    #[test]
    fn exact_in_front_and_within_two_percent_behind() {
        for seed in 0..200_u64 {
            // Lines with holes of very different sizes, as leavers and silent people make them.
            let mut place = 0;
            let gap_max = 1 + mix(seed, 0) % 200;
            let length = mix(seed, 1) % 20_000;
            let places: Vec<u64> = (0..length)
                .map(|i| {
                    place += if mix(seed, i).is_multiple_of(100) {
                        mix(i, seed) % 50_000 + 1
                    } else {
                        mix(i, seed) % gap_max + 1
                    };
                    place
                })
                .collect();
            let ladder = climb(&places);
            let probes = places.iter().copied().step_by(7).chain((0..500).map(|i| mix(seed + 9, i) % (place + 100)));
            for probe in probes {
                let truth = places.partition_point(|&p| p < probe) as u64;
                let found = ladder.ahead_of(probe);
                if truth < EXACT_RANKS {
                    assert_eq!(found, truth, "seed {seed}, place {probe}");
                }
                assert!(found.abs_diff(truth) * 50 <= truth, "seed {seed}, place {probe}: {found} for {truth}");
            }
        }
    }

    #[test]
    fn a_million_need_few_rungs() {
        let ranks = std::iter::successors(Some(0), |&r| Some(next_rank(r))).take_while(|&r| r < 5_000_000).count();
        assert!(ranks < 700, "{ranks} rungs");
    }

    #[test]
    fn an_empty_line_and_rungs_out_of_order() {
        assert_eq!(Ladder::default().ahead_of(7), 0);
        let ladder = Ladder::new([(0, 10), (1, 5), (5, 90), (1, 20)], 3);
        assert_eq!(ladder.ahead_of(10), 0);
        assert_eq!(ladder.ahead_of(21), 3, "behind the last known rung counts as the end");
    }
}
