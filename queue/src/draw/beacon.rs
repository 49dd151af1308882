//! Randomness that the operator does not choose: a value signed by somebody else, or a nonce of each entrant.
//!
//! What each of them is worth is said in `docs/draw.md`. In short: without a beacon, and with the entrants' nonces, an
//! operator who is willing to add entrants of his own at the last moment can try several draws; with a value that
//! somebody else signs after the list is fixed he cannot.

use super::{Digest, Finding, Signature};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use service_kit::ids::RoomId;
use std::{fmt, path::PathBuf, str::FromStr};

/// Where the signed value comes from: `[gate] beacon`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeaconConfig {
    /// A file that holds one [`BeaconFile`] as JSON; it may appear after the lobby has closed.
    pub file: PathBuf,
    /// The Ed25519 key of whoever signs it, 64 hexadecimal digits. Published when the lobby opens.
    pub public_key: Digest,
}

/// Largest beacon file that is read, in bytes.
pub const BEACON_FILE_BYTES_MAX: u64 = 4_096;

/// A value for one draw, signed by a third party after the lobby of the room has closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeaconFile {
    /// The room it is for.
    pub room: RoomId,
    /// The root of the entrants that the signer has seen before choosing the value, if they looked. With it, the
    /// signature proves the order of the two and not only a clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Digest>,
    /// 32 bytes that nobody could know before, e.g. a public lottery's.
    pub value: Digest,
    /// When it was signed, by the signer's clock.
    pub time_ms: i64,
    /// Over [`BeaconFile::message`].
    pub signature: Signature,
}

impl BeaconFile {
    /// What is signed: the lines `floodgate-beacon-1`, room, root or `-`, value, time, separated by line feeds.
    pub fn message(&self) -> String {
        let root = self.root.map_or_else(|| "-".to_owned(), |root| root.to_string());
        format!("floodgate-beacon-1\n{}\n{root}\n{}\n{}", self.room, self.value, self.time_ms)
    }

    /// Whether it is a value for this draw.
    ///
    /// # Errors
    /// Names what does not fit: another room, another list of entrants, a time before the lobby closed, or the
    /// signature.
    pub fn check(&self, public_key: &Digest, room: &RoomId, closed_at_ms: i64, root: &Digest) -> Result<(), Finding> {
        if self.room != *room {
            return Err(Finding::BeaconRoom);
        }
        if self.root.is_some_and(|seen| seen != *root) {
            return Err(Finding::BeaconRoot);
        }
        if self.time_ms < closed_at_ms {
            return Err(Finding::BeaconTime);
        }
        UnparsedPublicKey::new(&ED25519, public_key.0)
            .verify(self.message().as_bytes(), &self.signature.0)
            .map_err(|_| Finding::BeaconSignature)
    }
}

/// What an entrant throws in: 16 to 64 characters of base64url, made by the entrant's browser.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(String);

/// The text was no nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadNonce;

impl fmt::Display for BadNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a nonce is 16 to 64 characters A-Z, a-z, 0-9, - and _")
    }
}
impl std::error::Error for BadNonce {}

impl Nonce {
    /// Its characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for Nonce {
    type Err = BadNonce;
    fn from_str(text: &str) -> Result<Self, BadNonce> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if (16..=64).contains(&text.len()) && plain { Ok(Self(text.to_owned())) } else { Err(BadNonce) }
    }
}
impl TryFrom<String> for Nonce {
    type Error = BadNonce;
    fn try_from(text: String) -> Result<Self, BadNonce> {
        text.parse()
    }
}
impl From<Nonce> for String {
    fn from(nonce: Nonce) -> String {
        nonce.0
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::draw::Hex;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    fn key() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap()
    }

    /// The third party of the tests.
    pub fn public_key() -> Digest {
        Hex(key().public_key().as_ref().try_into().unwrap())
    }

    /// Signs as the third party.
    pub fn signed(room: &str, root: Option<Digest>, time_ms: i64) -> BeaconFile {
        let file =
            BeaconFile { room: room.parse().unwrap(), root, value: Hex([0x5a; 32]), time_ms, signature: Hex([0; 64]) };
        let signature = key().sign(file.message().as_bytes());
        BeaconFile { signature: Hex(signature.as_ref().try_into().unwrap()), ..file }
    }

    #[test]
    fn only_the_third_party_signs_and_only_after_the_lobby() {
        let (room, root) = ("shoes".parse().unwrap(), Hex([8; 32]));
        let check = |file: &BeaconFile| file.check(&public_key(), &room, 1_000, &root);
        for good in [signed("shoes", None, 1_000), signed("shoes", Some(root), 5_000)] {
            assert_eq!(check(&good), Ok(()));
            let other_value = BeaconFile { value: Hex([1; 32]), ..good.clone() };
            assert_eq!(check(&other_value), Err(Finding::BeaconSignature));
            let later = BeaconFile { time_ms: good.time_ms + 1, ..good.clone() };
            assert_eq!(check(&later), Err(Finding::BeaconSignature));
            assert_eq!(good.check(&Hex([9; 32]), &room, 1_000, &root), Err(Finding::BeaconSignature));
        }
        assert_eq!(check(&signed("bags", None, 1_000)), Err(Finding::BeaconRoom));
        assert_eq!(check(&signed("shoes", Some(Hex([7; 32])), 1_000)), Err(Finding::BeaconRoot));
        assert_eq!(check(&signed("shoes", None, 999)), Err(Finding::BeaconTime));
        let unseen = BeaconFile { root: None, ..signed("shoes", Some(root), 1_000) };
        assert_eq!(check(&unseen), Err(Finding::BeaconSignature), "the root cannot be taken out");
    }

    #[test]
    fn the_file_is_json() {
        let file = signed("shoes", Some(Hex([8; 32])), 1_000);
        let text = serde_json::to_string(&file).unwrap();
        assert_eq!(serde_json::from_str::<BeaconFile>(&text).unwrap(), file);
        assert!((text.len() as u64) < BEACON_FILE_BYTES_MAX);
        assert!(serde_json::from_str::<BeaconFile>(&text.replace("time_ms", "time")).is_err());
    }

    #[test]
    fn a_nonce_is_short_and_plain() {
        assert!("abcdefghijklmnop".parse::<Nonce>().is_ok());
        for wrong in ["abcdefghijklmno", &"a".repeat(65), "abcdefghijklmno\n", "abcdefghijklmnoé"] {
            assert!(wrong.parse::<Nonce>().is_err(), "{wrong}");
        }
    }
}
