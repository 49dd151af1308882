//! The draw: people who come before the start are put in an order that nobody chose and everybody can recompute.
//!
//! 1. When the lobby opens, the SHA-256 of a secret is published ([`commitment`]).
//! 2. When it closes, the number of entrants and the root of the tree over them are ([`Tree`]).
//! 3. Then `seed = HMAC-SHA256(secret, root ‖ beacon)`, and number `n` gets the place `prp(seed, n − 1, count) + 1`
//!    ([`Permutation`]).
//! 4. The secret is published, and [`verify`] recomputes the rest.
//!
//! All of it is pure; `docs/draw.md` says what it proves and what it cannot.

mod beacon;
mod check;
mod hex;
mod permutation;
mod tree;

pub use beacon::{BEACON_FILE_BYTES_MAX, BadNonce, BeaconConfig, BeaconFile, Nonce};
pub use check::{
    Fact, Finding, Verified, verify, verify_leaves, verify_place, verify_proof, verify_record, verify_unchanged,
};
pub use hex::{BadHex, Digest, Hex, Signature};
pub use permutation::{Permutation, prp, unprp};
pub use tree::{BadLeaves, CHUNK_LEAVES, LEAF_BYTES, Proof, Tree, TreeBuilder, entrant};

use crate::settings::Beacon;
use serde::{Deserialize, Serialize};
use service_kit::ids::RoomId;
use service_kit::keys::{KeyRing, Purpose, hmac_sha256};
use sha2::{Digest as _, Sha256};

/// The rule of a draw; it changes with every change of what is hashed or permuted.
pub const RULE: &str = "floodgate-draw-1";
/// Largest published document that is worth reading, in bytes.
pub const DRAW_BYTES_MAX: usize = 65_536;

/// How far a draw is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The lobby is open; the secret is committed to.
    Committed,
    /// The list of entrants is fixed.
    Closed,
    /// Everybody of the lobby has a place.
    Drawn,
}

/// The beacon as published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// What kind.
    pub kind: Beacon,
    /// Who signs it, announced when the lobby opens; only with a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<Digest>,
    /// The signed value, from the draw on; only with a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<BeaconFile>,
}

/// The published document of one draw. Fields are absent until their phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draw {
    /// [`RULE`].
    pub rule: String,
    /// The room.
    pub room: RoomId,
    /// How far it is.
    pub phase: Phase,
    /// When the lobby was to open; the secret was made for this moment.
    pub lobby_opens_at_ms: i64,
    /// SHA-256 of the secret.
    pub commitment: Digest,
    /// When the above was first published.
    pub committed_at_ms: i64,
    /// Randomness that the operator does not choose.
    pub beacon: Published,
    /// From [`Phase::Closed`]: when the list of entrants was fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at_ms: Option<i64>,
    /// From [`Phase::Closed`]: entrants, those who left included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// From [`Phase::Closed`]: the root over the entrants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Digest>,
    /// From [`Phase::Drawn`]: when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawn_at_ms: Option<i64>,
    /// From [`Phase::Drawn`]: the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Digest>,
    /// From [`Phase::Drawn`]: the key of the permutation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Digest>,
}

impl Draw {
    /// The document at the opening of the lobby. `public_key` belongs to a beacon in a file, and only to that.
    pub fn committed(
        room: RoomId,
        lobby_opens_at_ms: i64,
        commitment: Digest,
        kind: Beacon,
        public_key: Option<Digest>,
        now_ms: i64,
    ) -> Self {
        Self {
            rule: RULE.to_owned(),
            room,
            phase: Phase::Committed,
            lobby_opens_at_ms,
            commitment,
            committed_at_ms: now_ms,
            beacon: Published { kind, public_key, signed: None },
            closed_at_ms: None,
            count: None,
            root: None,
            drawn_at_ms: None,
            secret: None,
            seed: None,
        }
    }

    /// The document once the list of entrants is fixed.
    pub fn close(&self, now_ms: i64, entrants: &Tree) -> Self {
        Self {
            phase: Phase::Closed,
            closed_at_ms: Some(now_ms),
            count: Some(entrants.count()),
            root: Some(entrants.root()),
            ..self.clone()
        }
    }

    /// The document with the draw made. `signed` belongs to a beacon in a file, and only to that.
    ///
    /// # Errors
    /// When [`verify`] would find something: another secret, a beacon that does not fit, a phase that was left out.
    pub fn draw(&self, secret: Digest, signed: Option<BeaconFile>, now_ms: i64) -> Result<Self, Finding> {
        let root = self.root.ok_or(Finding::Incomplete)?;
        let beacon = match self.beacon.kind {
            Beacon::Off => None,
            Beacon::Entrants => Some(root),
            Beacon::File => Some(signed.as_ref().ok_or(Finding::BeaconKind)?.value),
        };
        let drawn = Self {
            phase: Phase::Drawn,
            drawn_at_ms: Some(now_ms),
            seed: Some(seed(&secret, &root, beacon.as_ref())),
            secret: Some(secret),
            beacon: Published { signed, ..self.beacon.clone() },
            ..self.clone()
        };
        verify(&drawn).map(|_| drawn)
    }

    /// The drawn order; `None` before the draw.
    pub fn permutation(&self) -> Option<Permutation> {
        Some(Permutation::new(&self.seed?, self.count?))
    }
}

/// What is published of a secret before the draw.
pub fn commitment(secret: &Digest) -> Digest {
    Hex(Sha256::digest(secret.0).into())
}

/// The secret of a draw, from the newest key of the ring: every gate computes the same one and none has to store it.
/// It belongs to the room and to the moment at which its lobby opens; a second draw with both the same would have a
/// secret that is already public.
pub fn secret(ring: &KeyRing, room: &RoomId, lobby_opens_at_ms: i64) -> Option<Digest> {
    secrets(ring, room, lobby_opens_at_ms).next()
}

/// The secret behind a published commitment, with whichever key of the ring it was made; `None` when that key is gone.
pub fn reveal(ring: &KeyRing, room: &RoomId, lobby_opens_at_ms: i64, published: &Digest) -> Option<Digest> {
    secrets(ring, room, lobby_opens_at_ms).find(|secret| commitment(secret) == *published)
}

fn secrets(ring: &KeyRing, room: &RoomId, lobby_opens_at_ms: i64) -> impl Iterator<Item = Digest> {
    let message = [room.as_str().as_bytes(), b"\n", &lobby_opens_at_ms.to_be_bytes()].concat();
    ring.derive(Purpose::Draw).into_iter().map(move |key| Hex(hmac_sha256(&key.secret, &[&message])))
}

/// The key of the permutation: HMAC-SHA256(secret, root ‖ beacon). With the entrants' nonces the beacon is the root
/// again, because every leaf contains its entrant's nonce.
pub fn seed(secret: &Digest, root: &Digest, beacon: Option<&Digest>) -> Digest {
    let beacon = beacon.map_or(&[][..], |value| &value.0);
    Hex(hmac_sha256(&secret.0, &[&root.0, beacon]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_kit::keys::KeysConfig;

    #[test]
    fn a_secret_belongs_to_its_room_its_lobby_and_its_key() {
        let entries = [KeyRing::generate("a"), KeyRing::generate("b")];
        let ring =
            |keys: &[&String]| KeyRing::new(&KeysConfig { ring: keys.iter().map(|k| (*k).clone()).collect() }).unwrap();
        let (shoes, shoes1) = ("shoes".parse().unwrap(), "shoes1".parse().unwrap());
        let old = ring(&[&entries[0]]);
        let one = secret(&old, &shoes, 5).unwrap();
        assert_eq!(secret(&old, &shoes, 5), Some(one));
        for other in [secret(&old, &shoes1, 5), secret(&old, &shoes, 6)] {
            assert!(other.is_some() && other != Some(one));
        }
        let published = commitment(&one);
        let rotated = ring(&[&entries[1], &entries[0]]);
        assert_ne!(secret(&rotated, &shoes, 5), Some(one));
        assert_eq!(reveal(&rotated, &shoes, 5, &published), Some(one), "a new key does not end an open lobby");
        assert_eq!(reveal(&ring(&[&entries[1]]), &shoes, 5, &published), None);
        assert_eq!(reveal(&old, &shoes1, 5, &published), None);
    }

    #[test]
    fn the_seed_hangs_on_everything() {
        let [a, b, c] = [Hex([1; 32]), Hex([2; 32]), Hex([3; 32])];
        let seeds = [
            seed(&a, &b, None),
            seed(&b, &b, None),
            seed(&a, &a, None),
            seed(&a, &b, Some(&c)),
            seed(&a, &b, Some(&b)),
        ];
        for (i, one) in seeds.iter().enumerate() {
            assert!(!seeds[i + 1..].contains(one));
        }
    }
}
