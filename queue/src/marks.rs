//! Who was heard, one bit per number: what a gate has to say of people who simply wait (`scripts/mark.lua`).
//!
//! A heartbeat on its own costs the store some 4 µs of Lua; a round of marks costs it one OR over as many bits as there
//! are numbers, whoever was heard. A mark asks nothing, so it is for tickets whose answer is known:
//! [`crate::board::Board::simply_waits`].

use std::collections::BTreeMap;

/// Bytes of one block of bits; the store gets only blocks in which somebody was heard.
pub const BLOCK_BYTES: usize = 1_024;
const BLOCK_BITS: u64 = BLOCK_BYTES as u64 * 8;

/// Marks on their way to the store.
#[derive(Debug, Default)]
pub struct Marks {
    /// By number ÷ bits of a block.
    blocks: BTreeMap<u64, Box<[u8; BLOCK_BYTES]>>,
    place_max: u64,
}

impl Marks {
    /// Somebody with this number and place was heard.
    pub fn insert(&mut self, number: u64, place: u64) {
        let block = self.blocks.entry(number / BLOCK_BITS).or_insert_with(|| Box::new([0; BLOCK_BYTES]));
        let bit = number % BLOCK_BITS;
        // As Redis counts bits: the highest of a byte is the first.
        if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|i| block.get_mut(i)) {
            *byte |= 0x80 >> (bit % 8);
        }
        self.place_max = self.place_max.max(place);
    }

    /// Takes what another round could not deliver.
    pub fn merge(&mut self, other: Self) {
        for (at, bits) in other.blocks {
            match self.blocks.get_mut(&at) {
                Some(block) => block.iter_mut().zip(bits.iter()).for_each(|(byte, more)| *byte |= more),
                None => drop(self.blocks.insert(at, bits)),
            }
        }
        self.place_max = self.place_max.max(other.place_max);
    }

    /// Whether nobody was heard.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The highest place among those who were heard; 0 = none.
    pub fn place_max(&self) -> u64 {
        self.place_max
    }

    /// The blocks: offset in bytes and bits, the lowest first.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.blocks.iter().map(|(at, bits)| (at * BLOCK_BYTES as u64, bits.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(marks: &Marks) -> Vec<u64> {
        let bits = |(offset, bytes): (u64, &[u8])| {
            let at = |i: u64| offset * 8 + i;
            let is_set = |i: &u64| bytes[(i / 8) as usize] & (0x80 >> (i % 8)) != 0;
            (0..BLOCK_BITS).filter(is_set).map(at).collect::<Vec<_>>()
        };
        marks.blocks().flat_map(bits).collect()
    }

    #[test]
    fn each_number_is_one_bit_and_merging_forgets_nobody() {
        let mut marks = Marks::default();
        assert!(marks.is_empty());
        for number in [1, 7, 8, 8_191, 8_192, 134_217_727, 8] {
            marks.insert(number, number * 8);
        }
        assert_eq!(set(&marks), [1, 7, 8, 8_191, 8_192, 134_217_727]);
        assert_eq!(marks.blocks().map(|(offset, _)| offset).collect::<Vec<_>>(), [0, 1_024, 16_776_192]);
        assert_eq!(marks.place_max(), 134_217_727 * 8);
        let mut later = Marks::default();
        later.insert(2, 5);
        later.insert(100_000, 16);
        later.merge(marks);
        assert_eq!(set(&later), [1, 2, 7, 8, 8_191, 8_192, 100_000, 134_217_727]);
        assert_eq!(later.place_max(), 134_217_727 * 8);
    }
}
