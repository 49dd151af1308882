//! Draws that a seed repeats.

/// SplitMix64: ten lines whose numbers never change with a library version, so that a seed repeats a run for ever.
#[derive(Debug)]
pub struct SplitMix(pub u64);

impl SplitMix {
    /// A number from 0 up to, not including, 1.
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // 32 bits are exact in a double and more than a fault rate needs.
        f64::from(u32::try_from(z >> 32).unwrap_or(0)) / 4_294_967_296.0
    }
    /// The list in another order, each order as likely as any other.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            // Below 2^32 by far: a list here has at most some thousand members.
            let other = (self.next() * (last + 1) as f64) as usize;
            list.swap(last, other.min(last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_everything_and_repeats_by_its_seed() {
        let shuffled = |seed| {
            let mut list: Vec<u32> = (0..50).collect();
            SplitMix(seed).shuffle(&mut list);
            list
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut sorted = shuffled(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }
}
