//! Checking a published draw with nothing but the document, and what a check can find.

use super::{Digest, Draw, LEAF_BYTES, Phase, Proof, Published, RULE, TreeBuilder, commitment, permutation, seed};
use crate::settings::Beacon;
use serde::Serialize;
use std::fmt;

/// What is wrong with a draw. The names are stable; scripts may compare them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The document follows another rule than this program knows.
    Rule,
    /// The document lacks what its phase must have.
    Incomplete,
    /// Secret or seed were published before the draw, so somebody could have chosen the entrants by them.
    TooEarly,
    /// The times contradict each other: committed, closed, drawn.
    Times,
    /// The secret is not the one that was committed to.
    Commitment,
    /// The seed does not follow from secret, root and beacon.
    Seed,
    /// The draw has another beacon than it announced, or none.
    BeaconKind,
    /// The beacon's value was signed for another room.
    BeaconRoom,
    /// The beacon's value was signed for another list of entrants.
    BeaconRoot,
    /// The beacon's value was signed before the lobby closed.
    BeaconTime,
    /// The signature of the beacon's value is not that of the announced key.
    BeaconSignature,
    /// The entrants are not as many as the document says.
    Count,
    /// The entrants do not give the root of the document.
    Root,
    /// The last entrant's record is not whole.
    Leaves,
    /// The proof of an entrant does not lead to the root of the document.
    Proof,
    /// The record at that number is not made of this visitor and nonce.
    Record,
    /// The record at that number is empty: the store lost it before the start, and nobody told it again.
    RecordLost,
    /// That number did not take part in the draw.
    Number,
    /// What was published earlier says something else.
    Changed,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rule => "the document follows another rule than this program knows",
            Self::Incomplete => "the document lacks what its phase must have",
            Self::TooEarly => "secret or seed were published before the draw",
            Self::Times => "the times of commitment, closing and draw contradict each other",
            Self::Commitment => "SHA-256 of the secret is not the commitment",
            Self::Seed => "the seed does not follow from secret, root and beacon",
            Self::BeaconKind => "the draw does not have the beacon that it announced",
            Self::BeaconRoom => "the beacon's value was signed for another room",
            Self::BeaconRoot => "the beacon's value was signed for another list of entrants",
            Self::BeaconTime => "the beacon's value was signed before the lobby closed",
            Self::BeaconSignature => "the beacon's signature is not that of the announced key",
            Self::Count => "there are more or fewer entrants than the document says",
            Self::Root => "the entrants do not give the root of the document",
            Self::Leaves => "the last entrant's record is not whole",
            Self::Proof => "the proof does not lead from the entrant to the root",
            Self::Record => "the record at this number is not of this visitor and this nonce",
            Self::RecordLost => "the record at this number is empty: the store had lost it before the start",
            Self::Number => "this number did not take part in the draw",
            Self::Changed => "an earlier copy says something else",
        })
    }
}
impl std::error::Error for Finding {}

/// One thing that a check recomputed, or could not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// The secret is the committed one.
    Commitment,
    /// The seed follows from secret, root and beacon.
    Seed,
    /// The announced third party signed the beacon's value, after the closing by its own clock.
    BeaconSignature,
    /// The third party had seen the list of entrants before it chose the value.
    BeaconAfterRoot,
    /// Every entrant's nonce is in the root.
    BeaconEntrants,
    /// The list of entrants gives the root.
    Root,
    /// One entrant is in the list.
    Proof,
    /// The entrant's record is made of the visitor id and the nonce that somebody knows as their own.
    Record,
    /// An earlier copy says the same.
    Unchanged,
}

/// What a document proves, and what it leaves open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// How far the draw is.
    pub phase: Phase,
    /// Recomputed, and right.
    pub proved: Vec<Fact>,
    /// Part of the promise, but not to be seen from this document alone.
    pub open: Vec<Fact>,
}

/// Recomputes everything that the document alone allows.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(draw: &Draw) -> Result<Verified, Finding> {
    if draw.rule != RULE {
        return Err(Finding::Rule);
    }
    let mut found = Verified { phase: draw.phase, proved: Vec::new(), open: Vec::new() };
    if (draw.beacon.kind == Beacon::File) != draw.beacon.public_key.is_some() {
        return Err(Finding::BeaconKind);
    }
    if draw.phase != Phase::Drawn {
        if draw.secret.is_some() || draw.seed.is_some() || draw.drawn_at_ms.is_some() {
            return Err(Finding::TooEarly);
        }
        found.open.extend([Fact::Commitment, Fact::Seed]);
    }
    if draw.phase == Phase::Committed {
        let closed = draw.closed_at_ms.is_some() || draw.count.is_some() || draw.root.is_some();
        return if closed { Err(Finding::Incomplete) } else { Ok(found) };
    }
    let (Some(closed_at_ms), Some(_), Some(root)) = (draw.closed_at_ms, draw.count, draw.root) else {
        return Err(Finding::Incomplete);
    };
    if closed_at_ms < draw.committed_at_ms {
        return Err(Finding::Times);
    }
    found.open.extend([Fact::Root, Fact::Unchanged]);
    if draw.phase == Phase::Closed {
        return Ok(found);
    }
    let (Some(drawn_at_ms), Some(secret), Some(published)) = (draw.drawn_at_ms, draw.secret, draw.seed) else {
        return Err(Finding::Incomplete);
    };
    if drawn_at_ms < closed_at_ms {
        return Err(Finding::Times);
    }
    if commitment(&secret) != draw.commitment {
        return Err(Finding::Commitment);
    }
    found.proved.push(Fact::Commitment);
    let Published { kind, public_key, signed } = &draw.beacon;
    let beacon = match (kind, public_key, signed) {
        (Beacon::Off, None, None) => None,
        (Beacon::Entrants, None, None) => {
            found.proved.push(Fact::BeaconEntrants);
            Some(root)
        }
        (Beacon::File, Some(key), Some(file)) => {
            file.check(key, &draw.room, closed_at_ms, &root)?;
            found.proved.push(Fact::BeaconSignature);
            let seen = if file.root.is_some() { &mut found.proved } else { &mut found.open };
            seen.push(Fact::BeaconAfterRoot);
            Some(file.value)
        }
        _ => return Err(Finding::BeaconKind),
    };
    if seed(&secret, &root, beacon.as_ref()) != published {
        return Err(Finding::Seed);
    }
    found.proved.push(Fact::Seed);
    Ok(found)
}

/// The place of `number` among those of the lobby, from 1. Checks nothing else: [`verify`] first.
///
/// # Errors
/// Before the draw, and for a number that did not take part.
pub fn verify_place(draw: &Draw, number: u32) -> Result<u32, Finding> {
    let (Some(count), Some(seed)) = (draw.count, draw.seed) else { return Err(Finding::Incomplete) };
    let index = number.checked_sub(1).ok_or(Finding::Number)?;
    // Below the count, so one more fits.
    permutation::prp(&seed, index, count).map(|place| place + 1).ok_or(Finding::Number)
}

/// Whether the records give count and root of the document.
///
/// # Errors
/// When they do not, or the lobby is not closed yet.
pub fn verify_leaves(draw: &Draw, leaves: TreeBuilder) -> Result<(), Finding> {
    let (Some(count), Some(root)) = (draw.count, draw.root) else { return Err(Finding::Incomplete) };
    let tree = leaves.finish().map_err(|_| Finding::Leaves)?;
    match (tree.count() == count, tree.root() == root) {
        (false, _) => Err(Finding::Count),
        (true, false) => Err(Finding::Root),
        (true, true) => Ok(()),
    }
}

/// Whether an entrant's proof leads to the root of the document.
///
/// # Errors
/// When it does not, or the lobby is not closed yet.
pub fn verify_proof(draw: &Draw, proof: &Proof) -> Result<(), Finding> {
    let (Some(count), Some(root)) = (draw.count, draw.root) else { return Err(Finding::Incomplete) };
    if proof.count == count && proof.verify(&root) { Ok(()) } else { Err(Finding::Proof) }
}

/// Whether the record of a proof is the one that somebody recomputed from their own visitor id and nonce.
///
/// # Errors
/// When it is another one, or empty.
pub fn verify_record(proof: &Proof, record: &Digest) -> Result<(), Finding> {
    match proof.leaf == *record {
        true => Ok(()),
        false if proof.leaf.0 == [0; LEAF_BYTES] => Err(Finding::RecordLost),
        false => Err(Finding::Record),
    }
}

/// Whether a copy that somebody kept from an earlier phase agrees: the same commitment, beacon and key, and, if the
/// lobby was closed then, the same entrants.
///
/// # Errors
/// When anything that must stay was changed.
pub fn verify_unchanged(earlier: &Draw, draw: &Draw) -> Result<(), Finding> {
    let kept = |d: &Draw| (d.rule.clone(), d.room.clone(), d.lobby_opens_at_ms, d.commitment, d.committed_at_ms);
    let list = |d: &Draw| (d.closed_at_ms, d.count, d.root);
    let result = |d: &Draw| (d.drawn_at_ms, d.secret, d.seed, d.beacon.signed.clone());
    let beacon = |d: &Draw| (d.beacon.kind, d.beacon.public_key);
    let same = kept(earlier) == kept(draw)
        && beacon(earlier) == beacon(draw)
        && earlier.phase <= draw.phase
        && (earlier.phase == Phase::Committed || list(earlier) == list(draw))
        && (earlier.phase != Phase::Drawn || result(earlier) == result(draw));
    if same { Ok(()) } else { Err(Finding::Changed) }
}

#[cfg(test)]
mod tests {
    use super::super::beacon::tests::{public_key, signed};
    use super::super::{Hex, Tree, entrant};
    use super::*;
    use service_kit::ids::{RoomId, VisitorId};

    fn room() -> RoomId {
        "shoes".parse().unwrap()
    }

    /// The records of 300 entrants, two of which left before the lobby closed.
    fn leaves() -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in 1_u32..=300 {
            let visitor: VisitorId = format!("{number:022}").parse().unwrap();
            let record = if number % 150 == 0 { [0; LEAF_BYTES] } else { entrant(&room(), &visitor, None).0 };
            bytes.extend(record);
        }
        bytes
    }

    fn tree() -> Tree {
        let mut builder = TreeBuilder::default();
        builder.extend(&leaves());
        builder.finish().unwrap()
    }

    const SECRET: Digest = Hex([0x11; 32]);

    fn phases(kind: Beacon) -> [Draw; 3] {
        let key = (kind == Beacon::File).then(public_key);
        let committed = Draw::committed(room(), 900, commitment(&SECRET), kind, key, 1_000);
        let closed = committed.close(2_000, &tree());
        let file = (kind == Beacon::File).then(|| signed("shoes", Some(tree().root()), 2_500));
        let drawn = closed.draw(SECRET, file, 3_000).unwrap();
        [committed, closed, drawn]
    }

    #[test]
    fn an_honest_draw_is_verified_in_every_phase() {
        for (kind, beacon) in [
            (Beacon::Off, &[][..]),
            (Beacon::Entrants, &[Fact::BeaconEntrants]),
            (Beacon::File, &[Fact::BeaconSignature, Fact::BeaconAfterRoot]),
        ] {
            let [committed, closed, drawn] = phases(kind);
            assert_eq!(verify(&committed).unwrap().proved, []);
            assert_eq!(verify(&closed).unwrap().open, [Fact::Commitment, Fact::Seed, Fact::Root, Fact::Unchanged]);
            let proved = [&[Fact::Commitment], beacon, &[Fact::Seed]].concat();
            assert_eq!(verify(&drawn).unwrap().proved, proved, "{kind:?}");
            let mut places: Vec<u32> = (1..=300).map(|number| verify_place(&drawn, number).unwrap()).collect();
            places.sort_unstable();
            assert!(places.into_iter().eq(1..=300));
            for number in [0, 301] {
                assert_eq!(verify_place(&drawn, number), Err(Finding::Number));
            }
            assert_eq!(verify_place(&closed, 1), Err(Finding::Incomplete));
            for (earlier, later) in [(&committed, &closed), (&committed, &drawn), (&closed, &drawn), (&drawn, &drawn)] {
                assert_eq!(verify_unchanged(earlier, later), Ok(()));
            }
            let text = serde_json::to_string_pretty(&drawn).unwrap();
            assert_eq!(serde_json::from_str::<Draw>(&text).unwrap(), drawn, "{text}");
        }
    }

    #[test]
    fn entrants_and_proofs_are_checked_against_the_root() {
        let [committed, closed, drawn] = phases(Beacon::Off);
        let check = |draw: &Draw, bytes: &[u8]| {
            let mut builder = TreeBuilder::default();
            builder.extend(bytes);
            verify_leaves(draw, builder)
        };
        let mut bytes = leaves();
        assert_eq!((check(&closed, &bytes), check(&drawn, &bytes)), (Ok(()), Ok(())));
        assert_eq!(check(&committed, &bytes), Err(Finding::Incomplete));
        assert_eq!(check(&drawn, &bytes[32..]), Err(Finding::Count));
        assert_eq!(check(&drawn, &bytes[1..]), Err(Finding::Leaves));
        bytes[77] ^= 1;
        assert_eq!(check(&drawn, &bytes), Err(Finding::Root));

        let proof = tree().proof(7, &leaves()[..8_192]).unwrap();
        assert_eq!(verify_proof(&drawn, &proof), Ok(()));
        assert_eq!(verify_proof(&drawn, &Proof { number: 8, ..proof.clone() }), Err(Finding::Proof));
        assert_eq!(verify_proof(&drawn, &Proof { count: 299, ..proof.clone() }), Err(Finding::Proof));
        assert_eq!(verify_proof(&committed, &proof), Err(Finding::Incomplete));
    }

    #[test]
    fn whatever_is_changed_afterwards_is_found() {
        type Change = fn(&mut Draw);
        let other = || Hex([0x99; 32]);
        let cases: &[(Finding, Change)] = &[
            (Finding::Rule, |d| d.rule = "floodgate-draw-2".into()),
            (Finding::Commitment, |d| d.secret = Some(Hex([0x99; 32]))),
            (Finding::Commitment, |d| d.commitment = Hex([0x99; 32])),
            (Finding::Seed, |d| d.seed = Some(Hex([0x99; 32]))),
            (Finding::Incomplete, |d| d.seed = None),
            (Finding::Incomplete, |d| d.secret = None),
            (Finding::Incomplete, |d| d.count = None),
            (Finding::Incomplete, |d| d.root = None),
            (Finding::TooEarly, |d| d.phase = Phase::Closed),
            (Finding::TooEarly, |d| d.phase = Phase::Committed),
            (Finding::Times, |d| d.closed_at_ms = Some(999)),
            (Finding::Times, |d| d.drawn_at_ms = Some(1_999)),
            (Finding::BeaconKind, |d| d.beacon.public_key = d.beacon.public_key.xor(Some(Hex([0x99; 32])))),
        ];
        for kind in [Beacon::Off, Beacon::Entrants, Beacon::File] {
            let [_, _, honest] = phases(kind);
            for (finding, change) in cases {
                let mut draw = honest.clone();
                change(&mut draw);
                assert_eq!(verify(&draw), Err(*finding), "{kind:?}: {draw:?}");
            }
            // A changed list of entrants: found by the seed, or by the third party's signature where it saw the list.
            let rooted = Draw { root: Some(other()), ..honest.clone() };
            let finding = if kind == Beacon::File { Finding::BeaconRoot } else { Finding::Seed };
            assert_eq!(verify(&rooted), Err(finding));
            // A changed count moves people but no hash of the document: the list and every proof show it.
            let fewer = Draw { count: Some(299), ..honest.clone() };
            let mut builder = TreeBuilder::default();
            builder.extend(&leaves());
            assert_eq!(verify_leaves(&fewer, builder), Err(Finding::Count));
            assert_eq!(verify_proof(&fewer, &tree().proof(7, &leaves()[..8_192]).unwrap()), Err(Finding::Proof));
            assert_eq!(verify_unchanged(&phases(kind)[1], &fewer), Err(Finding::Changed));
        }
    }

    #[test]
    fn a_beacon_cannot_be_exchanged_or_left_out() {
        let [committed, closed, honest] = phases(Beacon::File);
        let with = |signed| Draw { beacon: Published { signed, ..honest.beacon.clone() }, ..honest.clone() };
        assert_eq!(verify(&with(None)), Err(Finding::BeaconKind));
        assert_eq!(verify(&with(Some(signed("bags", None, 2_500)))), Err(Finding::BeaconRoom));
        assert_eq!(verify(&with(Some(signed("shoes", None, 1_999)))), Err(Finding::BeaconTime));
        assert_eq!(
            verify(&with(Some(signed("shoes", None, 2_500)))).unwrap().open,
            [Fact::Root, Fact::Unchanged, Fact::BeaconAfterRoot]
        );
        let mut value = signed("shoes", None, 2_500);
        value.value = Hex([0; 32]);
        assert_eq!(verify(&with(Some(value))), Err(Finding::BeaconSignature));
        let off = Published { kind: Beacon::Off, public_key: None, signed: None };
        assert_eq!(verify(&Draw { beacon: off.clone(), ..honest.clone() }), Err(Finding::Seed));
        for earlier in [committed, closed.clone()] {
            assert_eq!(
                verify_unchanged(&earlier, &Draw { beacon: off.clone(), ..honest.clone() }),
                Err(Finding::Changed)
            );
        }
        assert_eq!(closed.draw(SECRET, None, 3_000), Err(Finding::BeaconKind));
        assert_eq!(closed.draw(SECRET, Some(signed("shoes", None, 1_999)), 3_000), Err(Finding::BeaconTime));
        assert_eq!(closed.draw(Hex([1; 32]), Some(signed("shoes", None, 2_500)), 3_000), Err(Finding::Commitment));
    }

    #[test]
    fn the_order_of_arrival_decides_nothing() {
        // The whole way, from visitors to ranks: the first, a middle and the last of a lobby of 64, over 3,000 draws
        // with other entrants each time. Each of them must be in each eighth of the ranks equally often.
        let mut eighths = [[0_u32; 8]; 3];
        for lobby in 0_u32..3_000 {
            let mut builder = TreeBuilder::default();
            for number in 1..=64 {
                let visitor: VisitorId = format!("{:022}", lobby * 64 + number).parse().unwrap();
                builder.push(&entrant(&room(), &visitor, None).0);
            }
            let committed = Draw::committed(room(), 0, commitment(&SECRET), Beacon::Off, None, 0);
            let drawn = committed.close(1, &builder.finish().unwrap()).draw(SECRET, None, 2).unwrap();
            for (row, number) in eighths.iter_mut().zip([1, 32, 64]) {
                row[(verify_place(&drawn, number).unwrap() - 1) as usize / 8] += 1;
            }
        }
        for (row, who) in eighths.iter().zip(["first", "middle", "last"]) {
            let chi: f64 = row.iter().map(|&n| (f64::from(n) - 375.0).powi(2) / 375.0).sum();
            // Seven degrees of freedom: one honest run in a thousand is above 24.3.
            assert!(chi < 24.3, "the {who} to arrive: {row:?}, chi-square {chi}");
        }
    }
}
