//! The drawn order: a keyed permutation of `0..count` that everybody can recompute from the seed.
//!
//! `b` = half the bits of `count − 1`, rounded up. A balanced Feistel network over `2b` bits, four rounds:
//! `L, R ← R, L ⊕ F(round, R)` with `F` = the first four bytes, big-endian, of HMAC-SHA256(seed, the round as one byte ‖
//! `R` as four bytes, big-endian), cut to its low `b` bits. A result that is not below `count` goes in again. One
//! entrant or none: nothing moves. So a place costs no memory, and a million of them no list.

use super::Digest;
use sha2::block_api::compress256;

/// The initial state of SHA-256 (FIPS 180-4, 5.3.3).
const IV: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
/// Rounds of the network.
const ROUNDS: u8 = 4;

/// The permutation of one draw. The key's part of HMAC is computed once: a round costs two blocks of SHA-256.
#[derive(Clone, Debug)]
pub struct Permutation {
    inner: [u32; 8],
    outer: [u32; 8],
    half_bits: u32,
    count: u32,
}

impl Permutation {
    /// The permutation of `count` entrants under `seed`.
    pub fn new(seed: &Digest, count: u32) -> Self {
        let keyed = |pad: u8| {
            let mut block = [pad; 64];
            for (byte, key) in block.iter_mut().zip(seed.0) {
                *byte ^= key;
            }
            let mut state = IV;
            compress256(&mut state, &[block]);
            state
        };
        let bits = u32::BITS - count.saturating_sub(1).leading_zeros();
        Self { inner: keyed(0x36), outer: keyed(0x5c), half_bits: bits.div_ceil(2), count }
    }

    /// How many are permuted.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Where `index` goes, both from 0; `None` when it is not below the count.
    pub fn prp(&self, index: u32) -> Option<u32> {
        self.walk(index, |value| {
            let (mut left, mut right) = self.halves(value);
            for round in 0..ROUNDS {
                (left, right) = (right, left ^ self.mixed(round, right));
            }
            self.joined(left, right)
        })
    }

    /// What went to `position`, both from 0; `None` when it is not below the count.
    pub fn unprp(&self, position: u32) -> Option<u32> {
        self.walk(position, |value| {
            let (mut left, mut right) = self.halves(value);
            for round in (0..ROUNDS).rev() {
                (left, right) = (right ^ self.mixed(round, left), left);
            }
            self.joined(left, right)
        })
    }

    /// Steps until the value is below the count. Ends, because a permutation of the larger range comes back to where
    /// it began, which is below it; that range is less than four times as large.
    fn walk(&self, from: u32, step: impl Fn(u32) -> u32) -> Option<u32> {
        if from >= self.count || self.count <= 1 {
            return (from < self.count).then_some(from);
        }
        let mut value = step(from);
        while value >= self.count {
            value = step(value);
        }
        Some(value)
    }

    /// The low `half_bits` bits; there are at most 16.
    fn mask(&self) -> u32 {
        (1 << self.half_bits) - 1
    }

    fn halves(&self, value: u32) -> (u32, u32) {
        (value >> self.half_bits, value & self.mask())
    }

    fn joined(&self, left: u32, right: u32) -> u32 {
        left << self.half_bits | right
    }

    /// `F`: HMAC of five bytes, from the two states that already hold the key.
    fn mixed(&self, round: u8, half: u32) -> u32 {
        let mut block = [0; 64];
        block[0] = round;
        block[1..5].copy_from_slice(&half.to_be_bytes());
        block[5] = 0x80;
        block[56..].copy_from_slice(&((64_u64 + 5) * 8).to_be_bytes());
        let mut inner = self.inner;
        compress256(&mut inner, &[block]);

        let mut block = [0; 64];
        for (bytes, word) in block.as_chunks_mut::<4>().0.iter_mut().zip(inner) {
            *bytes = word.to_be_bytes();
        }
        block[32] = 0x80;
        block[56..].copy_from_slice(&((64_u64 + 32) * 8).to_be_bytes());
        let mut outer = self.outer;
        compress256(&mut outer, &[block]);
        outer[0] & self.mask()
    }
}

/// Where `index` goes under `seed` among `count`; for one look. Many: [`Permutation`].
pub fn prp(seed: &Digest, index: u32, count: u32) -> Option<u32> {
    Permutation::new(seed, count).prp(index)
}

/// What went to `position` under `seed` among `count`; for one look. Many: [`Permutation`].
pub fn unprp(seed: &Digest, position: u32, count: u32) -> Option<u32> {
    Permutation::new(seed, count).unprp(position)
}

#[cfg(test)]
mod tests {
    use super::super::Hex;
    use super::*;
    use service_kit::keys::hmac_sha256;

    /// Seeds that a test can name by a number.
    fn seed(n: u64) -> Digest {
        Hex(hmac_sha256(&[7; 32], &[&n.to_be_bytes()]))
    }

    /// The 42 vectors of smoketurner's waiting room, an independent implementation: seed, count, (index, position).
    #[test]
    fn the_42_known_vectors() {
        let rising = Hex(std::array::from_fn(|i| i as u8));
        let ab = Hex([0xab; 32]);
        type Row<'a> = (&'a Digest, u32, &'a [(u32, u32)]);
        let table: &[Row<'_>] = &[
            (&rising, 2, &[(0, 0), (1, 1)]),
            (&rising, 3, &[(0, 0), (1, 2), (2, 1)]),
            (&rising, 7, &[(0, 2), (3, 3), (6, 6)]),
            (&rising, 16, &[(0, 2), (1, 11), (15, 7)]),
            (&rising, 17, &[(0, 12), (8, 16), (16, 6)]),
            (&rising, 1_000, &[(0, 906), (1, 322), (500, 323), (999, 629)]),
            (&rising, 1_000_000, &[(0, 890_568), (12_345, 541_088), (999_999, 2_522)]),
            (&ab, 2, &[(0, 0), (1, 1)]),
            (&ab, 3, &[(0, 0), (1, 2), (2, 1)]),
            (&ab, 7, &[(0, 3), (3, 5), (6, 2)]),
            (&ab, 16, &[(0, 3), (1, 6), (15, 9)]),
            (&ab, 17, &[(0, 11), (8, 16), (16, 12)]),
            (&ab, 1_000, &[(0, 266), (1, 89), (500, 909), (999, 288)]),
            (&ab, 1_000_000, &[(0, 289_008), (12_345, 803_746), (999_999, 450_580)]),
        ];
        let mut vectors = 0;
        for (seed, count, pairs) in table {
            for (index, position) in *pairs {
                assert_eq!(prp(seed, *index, *count), Some(*position), "{index} of {count}");
                assert_eq!(unprp(seed, *position, *count), Some(*index), "{position} of {count}");
                vectors += 1;
            }
        }
        assert_eq!(vectors, 42);
    }

    #[test]
    fn a_round_is_hmac() {
        for n in 0..50 {
            let permutation = Permutation::new(&seed(n), u32::MAX);
            let (round, half) = (n as u8 % 4, n as u32 * 1_311);
            let mac = hmac_sha256(&seed(n).0, &[&[round], &half.to_be_bytes()]);
            let first = u32::from_be_bytes(mac[..4].try_into().unwrap());
            assert_eq!(permutation.mixed(round, half), first & 0xffff);
        }
    }

    #[test]
    fn every_place_is_taken_once_and_the_way_back_leads_home() {
        for count in (0..=300).chain([1_000, 1_023, 1_024, 1_025, 4_097]) {
            let permutation = Permutation::new(&seed(u64::from(count)), count);
            let mut taken = vec![false; count as usize];
            for index in 0..count {
                let place = permutation.prp(index).unwrap();
                assert!(!std::mem::replace(&mut taken[place as usize], true), "{place} twice of {count}");
                assert_eq!(permutation.unprp(place), Some(index), "{count}");
            }
            for outside in [count, count.saturating_add(1), u32::MAX] {
                assert_eq!((permutation.prp(outside), permutation.unprp(outside)), (None, None));
            }
        }
        assert_eq!((prp(&seed(1), 0, 1), prp(&seed(1), 0, 0), prp(&seed(1), 1, 1)), (Some(0), None, None));
    }

    #[test]
    fn the_largest_draw_fits() {
        let permutation = Permutation::new(&seed(3), u32::MAX);
        for index in [0, 1, 65_535, 65_536, u32::MAX - 1] {
            assert_eq!(permutation.unprp(permutation.prp(index).unwrap()), Some(index));
        }
    }

    /// Pearson's statistic of a table in which each row and each column has the same sum, as a distance from what
    /// chance gives, in standard deviations.
    fn surprise(table: &[Vec<u64>]) -> f64 {
        let cells = table.len() as f64;
        let mean = table[0].iter().sum::<u64>() as f64 / cells;
        let chi: f64 = table.iter().flatten().map(|&n| (n as f64 - mean).powi(2) / mean).sum();
        // Sums of rows and columns are fixed, so a cell varies a little less than a free one.
        let freedom = (cells - 1.0).powi(2);
        (chi * (cells - 1.0) / cells - freedom) / (2.0 * freedom).sqrt()
    }

    #[test]
    fn over_100_000_draws_every_entrant_gets_every_rank_equally_often() {
        let mut table = vec![vec![0; 16]; 16];
        for draw in 0..100_000 {
            let permutation = Permutation::new(&seed(draw), 16);
            for entrant in 0..16 {
                table[entrant as usize][permutation.prp(entrant).unwrap() as usize] += 1;
            }
        }
        let found = surprise(&table);
        assert!(found.abs() < 4.0, "{found} standard deviations");
        // The measure itself: a favour for one entrant, one time in twenty, is seen.
        let moved = table[15][7] / 20;
        (table[15][7], table[15][0]) = (table[15][7] - moved, table[15][0] + moved);
        (table[3][7], table[3][0]) = (table[3][7] + moved, table[3][0] - moved);
        assert!(surprise(&table) > found + 1.0);
    }

    #[test]
    fn in_a_large_lobby_early_and_late_arrivals_share_all_ranks() {
        let mut table = vec![vec![0; 10]; 10];
        for draw in 0..1_000 {
            let permutation = Permutation::new(&seed(draw), 1_000);
            for index in 0..1_000 {
                table[index as usize / 100][permutation.prp(index).unwrap() as usize / 100] += 1;
            }
        }
        assert!(surprise(&table).abs() < 4.0, "{table:?}");
    }

    /// A property of this permutation, not of chance: four rounds on a few bits are a little uneven where the count
    /// is no power of four. Kept as a test so that the figure in `docs/draw.md` stays true.
    #[test]
    fn a_handful_of_entrants_is_drawn_within_ten_percent_of_even() {
        for count in [5_u32, 10, 20] {
            let mut first = vec![0_u32; count as usize];
            let draws = 20_000 * count;
            for draw in 0..draws {
                first[unprp(&seed(u64::from(draw)), 0, count).unwrap() as usize] += 1;
            }
            for (entrant, times) in first.iter().enumerate() {
                let share = f64::from(*times) / f64::from(draws / count);
                assert!((0.90..1.10).contains(&share), "entrant {entrant} of {count} is first {share} times as often");
            }
        }
    }
}
