//! Codes that open a lane, and invitations. Pure.
//!
//! Two kinds. *Words* are chosen by the merchant and stand in the room's settings. *Signed codes* are made by
//! `floodgate room codes`, one per person, and need no list: `XXXX-XXXX-XXXX-XXXX-XXXX-XXXX` is 15 bytes in
//! Crockford's base32 (no letter that looks like a digit): serial (4) · uses (2) · MAC (9). The MAC covers the room and
//! the *name* of the lane, so a code opens nothing else, whatever order lanes get later; an invitation to an invite-only
//! room has the empty name. How often a code was used is counted by the store, under [`Code::id`].

use queue::lane::Lane;
use service_kit::ids::RoomId;
use service_kit::keys::{DerivedKey, KeyRing, Purpose, hmac_sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

/// Longest code that is looked at, in characters: a signed one with its dashes and a few slips.
pub const CODE_CHARS_MAX: usize = 40;
const BYTES: usize = 15;
const MAC_BYTES: usize = 9;
/// Crockford's alphabet: without I, L, O and U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A code that is good in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Under which its uses are counted.
    pub id: String,
    /// The lane it opens; 0 = an invitation without a lane.
    pub lane: u8,
    /// How many people may use it; `None` = any number.
    pub uses_max: Option<u32>,
}

/// Why a code opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the code is not one of this room")]
pub struct WrongCode;

/// Makes and checks signed codes.
#[derive(Clone)]
pub struct Codes {
    keys: Vec<DerivedKey>,
}

impl std::fmt::Debug for Codes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Codes")
    }
}

impl Codes {
    /// Uses the ring's invitation keys.
    pub fn new(ring: &KeyRing) -> Self {
        Self { keys: ring.derive(Purpose::Invitation) }
    }

    /// The code with this serial for a lane of a room, for `uses` people; the empty lane is a plain invitation.
    pub fn sign(&self, room: &RoomId, lane: &str, serial: u32, uses: u16) -> String {
        let mut bytes = [0_u8; BYTES];
        let (head, tail) = bytes.split_at_mut(BYTES - MAC_BYTES);
        head.copy_from_slice(&head_of(serial, uses));
        if let Some(key) = self.keys.first() {
            tail.copy_from_slice(&mac(key, room, lane, serial, uses));
        }
        encode(bytes)
    }

    /// The signed code behind a text, if we made it for this room and one of its lanes.
    ///
    /// # Errors
    /// For anything else.
    pub fn signed(&self, text: &str, room: &RoomId, lanes: &[Lane]) -> Result<Code, WrongCode> {
        let bytes = decode(text).ok_or(WrongCode)?;
        let [s0, s1, s2, s3, u0, u1, given @ ..] = bytes;
        let (serial, uses) = (u32::from_be_bytes([s0, s1, s2, s3]), u16::from_be_bytes([u0, u1]));
        // Every name and key is tried, so that the time tells nothing.
        let (mut found, mut lane) = (Choice::from(0), 0_u8);
        let names = std::iter::once("").chain(lanes.iter().map(|l| l.name.as_str()));
        for (i, name) in (0_u8..).zip(names) {
            for key in &self.keys {
                let good = mac(key, room, name, serial, uses).ct_eq(&given);
                lane.conditional_assign(&i, good);
                found |= good;
            }
        }
        if bool::from(found) && uses > 0 {
            Ok(Code { id: format!("s:{serial:08x}:{lane}"), lane, uses_max: Some(uses.into()) })
        } else {
            Err(WrongCode)
        }
    }
}

/// The chosen word behind a text, whatever its case.
///
/// # Errors
/// When no lane of the room has it.
pub fn word(text: &str, lanes: &[Lane]) -> Result<Code, WrongCode> {
    let given = text.trim().to_ascii_uppercase();
    let mut found = None;
    for (lane, settings) in (1_u8..).zip(lanes) {
        for code in &settings.codes {
            let word = code.code.to_ascii_uppercase();
            // The lengths may differ in time, the letters not; and all words are looked at.
            if bool::from(word.as_bytes().ct_eq(given.as_bytes())) {
                found = Some(Code { id: format!("w:{word}"), lane, uses_max: code.uses_max });
            }
        }
    }
    found.ok_or(WrongCode)
}

fn head_of(serial: u32, uses: u16) -> [u8; BYTES - MAC_BYTES] {
    let ([s0, s1, s2, s3], [u0, u1]) = (serial.to_be_bytes(), uses.to_be_bytes());
    [s0, s1, s2, s3, u0, u1]
}

fn mac(key: &DerivedKey, room: &RoomId, lane: &str, serial: u32, uses: u16) -> [u8; MAC_BYTES] {
    // Neither a room nor a lane contains `/`, so no two pairs read the same.
    let full =
        hmac_sha256(&key.secret, &[room.as_str().as_bytes(), b"/", lane.as_bytes(), b"/", &head_of(serial, uses)]);
    let mut short = [0; MAC_BYTES];
    short.iter_mut().zip(full).for_each(|(to, from)| *to = from);
    short
}

/// Six groups of four characters; 15 bytes are exactly 24 characters.
fn encode(bytes: [u8; BYTES]) -> String {
    let number = bytes.iter().fold(0_u128, |n, b| n << 8 | u128::from(*b));
    let mut text = String::with_capacity(29);
    for i in (0..24_u32).rev() {
        let digit = usize::try_from(number >> (i * 5) & 31).unwrap_or(0);
        text.push(ALPHABET.get(digit).map_or('0', |c| char::from(*c)));
        if i % 4 == 0 && i > 0 {
            text.push('-');
        }
    }
    text
}

/// Reads what people type: any case, with or without dashes and spaces, O for 0, I and L for 1.
fn decode(text: &str) -> Option<[u8; BYTES]> {
    if text.len() > CODE_CHARS_MAX {
        return None;
    }
    let (mut number, mut digits) = (0_u128, 0);
    for byte in text.bytes() {
        let letter = match byte.to_ascii_uppercase() {
            b'-' | b' ' | b'+' => continue,
            b'O' => b'0',
            b'I' | b'L' => b'1',
            other => other,
        };
        let digit = ALPHABET.iter().position(|c| *c == letter)?;
        (number, digits) = (number << 5 | u128::try_from(digit).ok()?, digits + 1);
        if digits > 24 {
            return None;
        }
    }
    let [_, bytes @ ..] = number.to_be_bytes();
    (digits == 24).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use queue::lane;
    use service_kit::keys::KeysConfig;

    fn ring(ids: &[&str]) -> (KeyRing, Vec<String>) {
        let ring: Vec<String> = ids.iter().map(|id| KeyRing::generate(id)).collect();
        (KeyRing::new(&KeysConfig { ring: ring.clone() }).unwrap(), ring)
    }
    fn lanes(names: &[&str]) -> Vec<Lane> {
        names.iter().map(|n| Lane { name: (*n).into(), share_percent: 10, codes: vec![] }).collect()
    }

    #[test]
    fn a_signed_code_opens_its_lane_in_its_room() {
        let codes = Codes::new(&ring(&["a"]).0);
        let (hall, other): (RoomId, RoomId) = ("hall".parse().unwrap(), "other".parse().unwrap());
        let lanes = lanes(&["vip", "press"]);
        let press = codes.sign(&hall, "press", 7, 3);
        assert_eq!((press.len(), press.matches('-').count()), (29, 5), "{press}");
        let code = codes.signed(&press, &hall, &lanes).unwrap();
        assert_eq!((code.lane, code.uses_max), (2, Some(3)));
        assert_eq!(codes.signed(&press, &other, &lanes), Err(WrongCode));
        assert_eq!(codes.signed(&press, &hall, &lanes[..1]), Err(WrongCode), "the lane is gone");
        // The name counts, not the position.
        assert_eq!(codes.signed(&press, &hall, &[lanes[1].clone(), lanes[0].clone()]).unwrap().lane, 1);
        let invitation = codes.sign(&hall, "", 7, 1);
        assert_eq!(codes.signed(&invitation, &hall, &lanes).unwrap().lane, 0);
        assert_eq!(codes.signed(&codes.sign(&hall, "vip", 7, 0), &hall, &lanes), Err(WrongCode), "for nobody");
    }

    #[test]
    fn typing_is_forgiven_and_forging_is_not() {
        let (ring, entries) = ring(&["a"]);
        let codes = Codes::new(&ring);
        let hall: RoomId = "hall".parse().unwrap();
        for serial in [0, 1, 0x0011_0000, u32::MAX] {
            let code = codes.sign(&hall, "", serial, 1);
            let good = codes.signed(&code, &hall, &[]).unwrap();
            for typed in [
                code.to_lowercase(),
                code.replace('-', ""),
                code.replace('-', " "),
                code.replace('0', "O").replace('1', "l"),
                format!(" {code} "),
            ] {
                assert_eq!(codes.signed(&typed, &hall, &[]), Ok(good.clone()), "{typed}");
            }
            let mut forged = 0;
            for (i, c) in code.char_indices().filter(|(_, c)| *c != '-') {
                for other in ALPHABET.iter().map(|b| char::from(*b)).filter(|o| *o != c) {
                    let mut text = code.clone();
                    text.replace_range(i..=i, &other.to_string());
                    assert_eq!(codes.signed(&text, &hall, &[]), Err(WrongCode), "{text}");
                    forged += 1;
                }
            }
            assert_eq!(forged, 24 * 31);
        }
        for text in ["", "-", "U", &"0".repeat(23), &"0".repeat(25), &"0".repeat(24), "한국", &"-".repeat(41)] {
            assert_eq!(codes.signed(text, &hall, &[]), Err(WrongCode), "{text}");
        }
        // A ring that has been rotated still knows the old codes; a stranger's does not.
        let old = codes.sign(&hall, "", 1, 1);
        let rotated = KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("b"), entries[0].clone()] }).unwrap();
        assert!(Codes::new(&rotated).signed(&old, &hall, &[]).is_ok());
        assert!(Codes::new(&self::ring(&["a"]).0).signed(&old, &hall, &[]).is_err());
    }

    #[test]
    fn a_word_is_found_in_any_case() {
        let mut lanes = lanes(&["vip", "press"]);
        lanes[1].codes = vec![
            lane::Code { code: "Spring-24".into(), uses_max: Some(5) },
            lane::Code { code: "PRESS".into(), uses_max: None },
        ];
        let found = word(" spring-24 ", &lanes).unwrap();
        assert_eq!((found.id.as_str(), found.lane, found.uses_max), ("w:SPRING-24", 2, Some(5)));
        assert_eq!(word("press", &lanes).unwrap().uses_max, None);
        for wrong in ["", "spring", "spring-244", "spring24", "sprınG-24"] {
            assert_eq!(word(wrong, &lanes), Err(WrongCode), "{wrong}");
        }
    }
}
