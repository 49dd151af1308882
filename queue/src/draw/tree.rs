//! The entrants as a Merkle tree (RFC 6962 hashing), so that 32 bytes stand for all of them, in their order.
//!
//! Leaves are records of 32 bytes in the order of the numbers: number `n` at byte `32 × (n − 1)`, all zero where nobody
//! is. They can be read in pieces of any size. Of a million entrants only one hash per 256 leaves is kept: a proof
//! needs these and the 256 records around the number.

use super::{Digest, Hex, Nonce};
use serde::{Deserialize, Serialize};
use service_kit::ids::{RoomId, VisitorId};
use sha2::{Digest as _, Sha256};
use std::ops::Range;

/// Size of one record.
pub const LEAF_BYTES: usize = 32;
/// Leaves under one hash that a [`Tree`] keeps.
pub const CHUNK_LEAVES: usize = 256;
/// Longest path of a proof: 2^32 leaves have no longer one.
const PATH_MAX: usize = 32;

/// The record of one entrant: SHA-256 of the lines `floodgate-entrant-1`, room, visitor and, where entrants bring one,
/// nonce, separated by line feeds. It says nothing about the visitor to those who do not know the 128 random bits of
/// the visitor id.
pub fn entrant(room: &RoomId, visitor: &VisitorId, nonce: Option<&Nonce>) -> Digest {
    let mut hash = Sha256::new();
    for part in ["floodgate-entrant-1\n", room.as_str(), "\n", visitor.as_str()] {
        hash.update(part);
    }
    if let Some(nonce) = nonce {
        hash.update("\n");
        hash.update(nonce.as_str());
    }
    Hex(hash.finalize().into())
}

/// Hash of a record; the leading byte keeps leaves and nodes apart.
fn leaf_hash(record: &[u8; LEAF_BYTES]) -> Digest {
    Hex(Sha256::new().chain_update([0]).chain_update(record).finalize().into())
}

fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Hex(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// One level up; the last of an odd number goes up as it is.
fn level_up(nodes: &[Digest]) -> Vec<Digest> {
    let (pairs, odd) = nodes.as_chunks::<2>();
    pairs.iter().map(|[left, right]| node_hash(left, right)).chain(odd.iter().copied()).collect()
}

/// The hash over all `nodes`; of none, the SHA-256 of nothing.
fn fold(mut nodes: Vec<Digest>) -> Digest {
    while nodes.len() > 1 {
        nodes = level_up(&nodes);
    }
    nodes.pop().unwrap_or_else(|| Hex(Sha256::digest([]).into()))
}

/// The neighbours on the way from node `index` to the hash over all `nodes`.
fn path(mut nodes: Vec<Digest>, mut index: usize) -> Vec<Digest> {
    let mut path = Vec::new();
    while nodes.len() > 1 {
        path.extend(nodes.get(index ^ 1));
        nodes = level_up(&nodes);
        index /= 2;
    }
    path
}

/// Why records are no list of entrants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadLeaves {
    /// The last record is not whole.
    Cut,
    /// More records than numbers can be given.
    TooMany,
}

/// Takes records in pieces. 1,000,000 of them cost three million blocks of SHA-256 and 128 KiB.
#[derive(Clone, Debug, Default)]
pub struct TreeBuilder {
    /// The beginning of a record that came in two pieces.
    part: Vec<u8>,
    /// Leaf hashes of the chunk that is not full yet.
    leaves: Vec<Digest>,
    chunks: Vec<Digest>,
}

impl TreeBuilder {
    /// Takes the next bytes, of any number.
    pub fn extend(&mut self, mut bytes: &[u8]) {
        if !self.part.is_empty() {
            let missing = LEAF_BYTES - self.part.len();
            let (head, rest) = bytes.split_at(missing.min(bytes.len()));
            self.part.extend_from_slice(head);
            bytes = rest;
            let Some(record) = self.part.first_chunk().copied() else { return };
            self.part.clear();
            self.push(&record);
        }
        let (records, rest) = bytes.as_chunks();
        records.iter().for_each(|record| self.push(record));
        self.part.extend_from_slice(rest);
    }

    /// Takes one record.
    pub fn push(&mut self, record: &[u8; LEAF_BYTES]) {
        self.leaves.push(leaf_hash(record));
        if self.leaves.len() == CHUNK_LEAVES {
            self.chunks.push(fold(std::mem::take(&mut self.leaves)));
        }
    }

    /// Records so far.
    pub fn count(&self) -> usize {
        self.chunks.len() * CHUNK_LEAVES + self.leaves.len()
    }

    /// Adds empty records up to `count`: a store that keeps bytes up to the last entrant only.
    pub fn pad_to(&mut self, count: u32) {
        if !self.part.is_empty() {
            let missing = LEAF_BYTES - self.part.len();
            self.extend(&vec![0; missing]);
        }
        while self.count() < usize::try_from(count).unwrap_or(usize::MAX) {
            self.push(&[0; LEAF_BYTES]);
        }
    }

    /// The tree over all records.
    ///
    /// # Errors
    /// When the last record is not whole, or there are more than 2^32 − 1.
    pub fn finish(mut self) -> Result<Tree, BadLeaves> {
        if !self.part.is_empty() {
            return Err(BadLeaves::Cut);
        }
        let count = u32::try_from(self.count()).map_err(|_| BadLeaves::TooMany)?;
        if !self.leaves.is_empty() {
            self.chunks.push(fold(self.leaves));
        }
        let mut levels = vec![self.chunks];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            levels.push(level_up(below));
        }
        Ok(Tree { count, levels })
    }
}

/// The tree over all records of a draw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    count: u32,
    /// From the hashes of the chunks up to the root.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// Records in it.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The hash over all records.
    pub fn root(&self) -> Digest {
        self.levels.last().and_then(|level| level.first().copied()).unwrap_or_else(|| fold(Vec::new()))
    }

    /// Which bytes of the records a proof for `number` needs; `None` when there is no such number.
    pub fn chunk_of(&self, number: u32) -> Option<Range<usize>> {
        let index = number.checked_sub(1).filter(|_| number <= self.count)?;
        let first = usize::try_from(index).ok()? / CHUNK_LEAVES * CHUNK_LEAVES;
        let end = (first + CHUNK_LEAVES).min(usize::try_from(self.count).ok()?);
        Some(first * LEAF_BYTES..end * LEAF_BYTES)
    }

    /// That the record of `number` is under the root. `chunk` = the bytes of [`Tree::chunk_of`]; empty records at its
    /// end may be left out. `None` when there is no such number, or when the bytes are not those of this tree.
    pub fn proof(&self, number: u32, chunk: &[u8]) -> Option<Proof> {
        let range = self.chunk_of(number)?;
        let mut bytes = chunk.to_vec();
        if bytes.len() > range.len() {
            return None;
        }
        bytes.resize(range.len(), 0);
        let records = bytes.as_chunks().0;
        let index = usize::try_from(number - 1).ok()?;
        let (above, within) = (index / CHUNK_LEAVES, index % CHUNK_LEAVES);
        let leaf = Hex(*records.get(within)?);
        let leaves: Vec<Digest> = records.iter().map(leaf_hash).collect();
        if self.levels.first()?.get(above) != Some(&fold(leaves.clone())) {
            return None;
        }
        let up = self.levels.iter().enumerate().filter_map(|(height, level)| level.get(above >> height ^ 1));
        let path = path(leaves, within).into_iter().chain(up.copied()).collect();
        Some(Proof { number, count: self.count, leaf, path })
    }
}

/// That one entrant is under the root, at this number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The number, from 1.
    pub number: u32,
    /// Numbers in the draw.
    pub count: u32,
    /// The entrant's record, see [`entrant`].
    pub leaf: Digest,
    /// The neighbours, from the leaf up.
    pub path: Vec<Digest>,
}

impl Proof {
    /// Whether the record is at its number under `root`, of a tree with this count (RFC 9162, 2.1.3.2).
    pub fn verify(&self, root: &Digest) -> bool {
        if self.number == 0 || self.number > self.count || self.path.len() > PATH_MAX {
            return false;
        }
        let (mut index, mut last) = (self.number - 1, self.count - 1);
        let mut hash = leaf_hash(&self.leaf.0);
        for neighbour in &self.path {
            if last == 0 {
                return false;
            }
            if index % 2 == 1 || index == last {
                hash = node_hash(neighbour, &hash);
                // The last of an odd number went up without a neighbour.
                let alone = if index % 2 == 0 { index.trailing_zeros().min(u32::BITS - 1) } else { 0 };
                (index, last) = (index >> alone, last >> alone);
            } else {
                hash = node_hash(&hash, neighbour);
            }
            (index, last) = (index >> 1, last >> 1);
        }
        last == 0 && hash == *root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: usize) -> [u8; 32] {
        Sha256::digest(n.to_be_bytes()).into()
    }

    fn records(count: usize) -> Vec<u8> {
        (0..count).flat_map(record).collect()
    }

    fn tree(bytes: &[u8]) -> Tree {
        let mut builder = TreeBuilder::default();
        builder.extend(bytes);
        builder.finish().unwrap()
    }

    /// RFC 6962, 2.1, word for word.
    fn merkle_tree_hash(records: &[[u8; 32]]) -> [u8; 32] {
        match records {
            [] => Sha256::digest([]).into(),
            [one] => Sha256::digest([&[0][..], one].concat()).into(),
            many => {
                let k = many.len().next_power_of_two() / 2;
                let (left, right) = many.split_at(k);
                Sha256::digest([&[1][..], &merkle_tree_hash(left), &merkle_tree_hash(right)].concat()).into()
            }
        }
    }

    #[test]
    fn the_root_is_that_of_rfc_6962() {
        for count in (0..=70).chain([255, 256, 257, 511, 512, 513, 700, 1_025]) {
            let bytes = records(count);
            let root = tree(&bytes).root();
            assert_eq!(root.0, merkle_tree_hash(bytes.as_chunks().0), "{count}");
        }
        // The known hash of the empty tree.
        assert!(tree(&[]).root().to_string().starts_with("e3b0c44298fc1c14"));
    }

    #[test]
    fn pieces_of_any_size_make_the_same_tree() {
        let bytes = records(600);
        for size in [1, 7, 31, 32, 33, 8_192, 10_000] {
            let mut builder = TreeBuilder::default();
            bytes.chunks(size).for_each(|piece| builder.extend(piece));
            assert_eq!(builder.finish().unwrap(), tree(&bytes), "{size}");
        }
        let mut cut = TreeBuilder::default();
        cut.extend(&bytes[..100]);
        assert_eq!(cut.clone().finish(), Err(BadLeaves::Cut));
        cut.pad_to(5);
        let padded = [&bytes[..100], &[0; 60][..]].concat();
        assert_eq!(cut.finish().unwrap(), tree(&padded));
    }

    #[test]
    fn every_number_has_a_proof_and_it_proves_nothing_else() {
        for count in (1..=70).chain([255, 256, 257, 511, 513, 700]) {
            let bytes = records(count);
            let tree = tree(&bytes);
            for number in 1..=count as u32 {
                let proof = tree.proof(number, &bytes[tree.chunk_of(number).unwrap()]).unwrap();
                assert!(proof.verify(&tree.root()), "{number} of {count}");
                assert_eq!(proof.leaf.0, record(number as usize - 1));
                let wrong = [
                    Proof { leaf: Hex([9; 32]), ..proof.clone() },
                    Proof { number: number + 1, ..proof.clone() },
                    Proof { number: number - 1, ..proof.clone() },
                    Proof { path: [&proof.path[..], &[Hex([1; 32])]].concat(), ..proof.clone() },
                    Proof { path: proof.path.iter().skip(1).copied().collect(), ..proof.clone() },
                ];
                // With one entrant there is no path to shorten.
                for wrong in wrong.iter().take(if count == 1 { 4 } else { 5 }) {
                    assert!(!wrong.verify(&tree.root()), "{number} of {count}: {wrong:?}");
                }
            }
            assert_eq!(tree.chunk_of(0), None);
            assert_eq!(tree.proof(count as u32 + 1, &bytes), None);
        }
    }

    #[test]
    fn a_proof_needs_the_records_of_its_tree() {
        let mut bytes = records(300);
        bytes.extend([0; 64]);
        let tree = tree(&bytes);
        assert_eq!((tree.chunk_of(256), tree.chunk_of(257)), (Some(0..8_192), Some(8_192..302 * 32)));
        let short = tree.proof(301, &bytes[8_192..300 * 32]).unwrap();
        assert!(short.verify(&tree.root()) && short.leaf == Hex([0; 32]), "empty records at the end may be left out");
        assert_eq!(tree.proof(7, &bytes[8_192..]), None, "the wrong chunk");
        bytes[3] ^= 1;
        assert_eq!(tree.proof(7, &bytes[..8_192]), None, "a changed record");
    }

    #[test]
    fn an_entrant_can_be_recomputed_with_sha256sum() {
        // printf 'floodgate-entrant-1\nshoes\nAAAAAAAAAAAAAAAAAAAAAA\nsalt-salt-salt-salt' | sha256sum
        let (room, visitor): (RoomId, VisitorId) = ("shoes".parse().unwrap(), "A".repeat(22).parse().unwrap());
        let nonce: Nonce = "salt-salt-salt-salt".parse().unwrap();
        let lines = "floodgate-entrant-1\nshoes\nAAAAAAAAAAAAAAAAAAAAAA";
        assert_eq!(entrant(&room, &visitor, None).0, <[u8; 32]>::from(Sha256::digest(lines)));
        let with = entrant(&room, &visitor, Some(&nonce));
        assert_eq!(with.0, <[u8; 32]>::from(Sha256::digest(format!("{lines}\n{nonce}"))));
        assert_ne!(with, entrant(&"bags".parse().unwrap(), &visitor, Some(&nonce)));
    }
}
