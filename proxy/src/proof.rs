//! Proof of work for newcomers. Pure: the challenge is a signed token, nothing is stored.
//!
//! *Challenge*: `1.<room>.<issued>.<nonce>.<bits>.<key id>.<mac>`. *Solution*: the challenge, a dot, and a counter such
//! that SHA-256 of that whole text begins with `bits` zero bits. Who has no JavaScript presents `<challenge>.wait`
//! instead, not earlier than [`wait_ms`] after the issue. The nonce becomes the join key, so a solution that is used
//! twice gives the same number twice and no list of used ones is needed. The work only opens the door: it never
//! changes a place. It slows crowds down; it does not tell people from machines.

use service_kit::ids::{RoomId, VisitorId};
use service_kit::keys::{KeyRing, Purpose};
use service_kit::token::TextSigner;
use sha2::{Digest as _, Sha256};

/// How long a challenge is good, in ms.
pub const LIFE_MS: i64 = 300_000;
/// Longest solution that is looked at, in bytes.
pub const SOLUTION_BYTES_MAX: usize = 256;
/// What stands in the place of the counter when somebody waited instead.
pub const WAITED: &str = "wait";
/// The wait without JavaScript at [`BITS_USUAL`] bits, in ms.
const WAIT_USUAL_MS: i64 = 15_000;
/// The difficulty that the usual wait belongs to.
const BITS_USUAL: u8 = 14;
/// The shortest and the longest wait, in ms; the longest leaves a minute to present it.
const WAIT_RANGE_MS: (i64, i64) = (5_000, 240_000);

/// How a newcomer earned entry to the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By work.
    Solved,
    /// By waiting.
    Waited,
}

/// A good solution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The challenge's nonce: the join key.
    pub nonce: String,
    /// How.
    pub how: How,
}

/// What is wrong with a solution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotProven {
    /// Not one of our challenges, or over, or not solved.
    Wrong,
    /// Waited, but not long enough: the challenge stays good.
    TooEarly {
        /// The challenge, to go on with.
        challenge: String,
        /// Its leading zero bits.
        bits: u8,
        /// How much longer, in ms.
        remaining_ms: i64,
    },
}

/// How long somebody without JavaScript waits: 15 s at 14 bits, twice as long for every second bit more.
pub fn wait_ms(bits: u8) -> i64 {
    let (shortest, longest) = WAIT_RANGE_MS;
    let steps = f64::from(i16::from(bits) - i16::from(BITS_USUAL)) / 2.0;
    // Bounded below: the conversion cannot wrap.
    ((WAIT_USUAL_MS as f64 * steps.exp2()) as i64).clamp(shortest, longest)
}

/// Makes challenges and checks solutions.
#[derive(Clone)]
pub struct Proofs {
    signer: TextSigner,
}

impl std::fmt::Debug for Proofs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proofs")
    }
}

impl Proofs {
    /// Uses the ring's proof keys.
    pub fn new(ring: &KeyRing) -> Self {
        Self { signer: TextSigner::new(ring, Purpose::Proof) }
    }

    /// A challenge. `nonce` is 128 random bits.
    pub fn challenge(&self, room: &RoomId, bits: u8, nonce: &VisitorId, now_ms: i64) -> String {
        self.signer.sign(&format!("1.{room}.{now_ms}.{nonce}.{bits}"))
    }

    /// Checks what a newcomer presents.
    ///
    /// # Errors
    /// [`NotProven`].
    pub fn check(&self, solution: &str, room: &RoomId, now_ms: i64) -> Result<Proven, NotProven> {
        let (challenge, answer) = Some(solution)
            .filter(|s| s.len() <= SOLUTION_BYTES_MAX)
            .and_then(|s| s.rsplit_once('.'))
            .ok_or(NotProven::Wrong)?;
        let (issued_ms, nonce, bits) = self.read(challenge, room).ok_or(NotProven::Wrong)?;
        let age_ms = now_ms.saturating_sub(issued_ms);
        // A clock that is a little behind the issuer's is no fraud.
        if !(-5_000..LIFE_MS).contains(&age_ms) {
            return Err(NotProven::Wrong);
        }
        let nonce = nonce.to_owned();
        if answer == WAITED {
            let remaining_ms = wait_ms(bits) - age_ms;
            return if remaining_ms <= 0 {
                Ok(Proven { nonce, how: How::Waited })
            } else {
                Err(NotProven::TooEarly { challenge: challenge.to_owned(), bits, remaining_ms })
            };
        }
        let counter = !answer.is_empty() && answer.len() <= 16 && answer.bytes().all(|b| b.is_ascii_digit());
        if counter && zero_bits(&Sha256::digest(solution.as_bytes())) >= u32::from(bits) {
            Ok(Proven { nonce, how: How::Solved })
        } else {
            Err(NotProven::Wrong)
        }
    }

    /// When it was issued, its nonce and its bits.
    fn read<'c>(&self, challenge: &'c str, room: &RoomId) -> Option<(i64, &'c str, u8)> {
        let body = self.signer.verify(challenge).ok()?;
        let mut parts = body.split('.');
        if parts.next()? != "1" || parts.next()? != room.as_str() {
            return None;
        }
        let found = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(found)
    }
}

/// Leading zero bits.
fn zero_bits(hash: &[u8]) -> u32 {
    let mut bits = 0;
    for byte in hash {
        bits += byte.leading_zeros();
        if *byte != 0 {
            break;
        }
    }
    bits
}

/// Finds the counter, as the page does. For tests and for apps written in Rust.
pub fn solve(challenge: &str, bits: u8) -> String {
    let mut counter = 0_u64;
    loop {
        let solution = format!("{challenge}.{counter}");
        if zero_bits(&Sha256::digest(solution.as_bytes())) >= u32::from(bits) {
            return solution;
        }
        counter += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_kit::keys::KeysConfig;

    fn proofs() -> Proofs {
        Proofs::new(&KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("a")] }).unwrap())
    }
    fn hall() -> RoomId {
        "hall".parse().unwrap()
    }

    #[test]
    fn work_is_accepted_for_five_minutes_in_its_room() {
        let (proofs, nonce) = (proofs(), VisitorId::new());
        let challenge = proofs.challenge(&hall(), 10, &nonce, 1_000);
        let solution = solve(&challenge, 10);
        let proven = Ok(Proven { nonce: nonce.to_string(), how: How::Solved });
        assert_eq!(proofs.check(&solution, &hall(), 1_000), proven);
        assert_eq!(proofs.check(&solution, &hall(), 1_000), proven, "twice: the same nonce, so the same number");
        assert_eq!(proofs.check(&solution, &hall(), 1_000 + LIFE_MS - 1), proven);
        assert_eq!(proofs.check(&solution, &hall(), 1_000 + LIFE_MS), Err(NotProven::Wrong));
        assert_eq!(proofs.check(&solution, &hall(), -10_000), Err(NotProven::Wrong), "from the future");
        assert_eq!(proofs.check(&solution, &"other".parse().unwrap(), 1_000), Err(NotProven::Wrong));
        assert_eq!(self::proofs().check(&solution, &hall(), 1_000), Err(NotProven::Wrong), "another ring");
    }

    #[test]
    fn nothing_else_is_work() {
        let proofs = proofs();
        let challenge = proofs.challenge(&hall(), 12, &VisitorId::new(), 0);
        let solution = solve(&challenge, 12);
        let counter: u64 = solution.rsplit_once('.').unwrap().1.parse().unwrap();
        let easier = challenge.replacen(".12.", ".8.", 1);
        assert_ne!(easier, challenge);
        let mut wrong = vec![
            String::new(),
            challenge.clone(),
            format!("{challenge}."),
            format!("{challenge}.-1"),
            format!("{challenge}.{counter} "),
            format!("{challenge}.1e3"),
            format!("{challenge}.WAIT"),
            solve(&easier, 8),
            format!("{easier}.wait"),
            "x".repeat(SOLUTION_BYTES_MAX + 1),
        ];
        wrong.extend((0..counter).map(|n| format!("{challenge}.{n}")));
        for i in 0..challenge.len() {
            let mut bytes = solution.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            wrong.push(String::from_utf8(bytes).unwrap());
        }
        for text in wrong {
            assert_eq!(proofs.check(&text, &hall(), 0), Err(NotProven::Wrong), "{text}");
        }
    }

    #[test]
    fn who_has_no_javascript_waits() {
        let (proofs, nonce) = (proofs(), VisitorId::new());
        let challenge = proofs.challenge(&hall(), 14, &nonce, 0);
        let waited = format!("{challenge}.{WAITED}");
        assert_eq!(
            proofs.check(&waited, &hall(), 14_000),
            Err(NotProven::TooEarly { challenge: challenge.clone(), bits: 14, remaining_ms: 1_000 })
        );
        assert_eq!(proofs.check(&waited, &hall(), 15_000), Ok(Proven { nonce: nonce.to_string(), how: How::Waited }));
        assert_eq!(proofs.check(&waited, &hall(), LIFE_MS), Err(NotProven::Wrong));
        assert_eq!([8, 14, 16, 22].map(wait_ms), [5_000, 15_000, 30_000, 240_000]);
    }

    #[test]
    fn bits_are_counted_from_the_left() {
        assert_eq!(zero_bits(&[0, 0, 0x1f, 0]), 19);
        assert_eq!(zero_bits(&[0x80]), 0);
        assert_eq!(zero_bits(&[0; 32]), 256);
    }
}
