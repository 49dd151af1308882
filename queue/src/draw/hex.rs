//! Bytes as people and browsers exchange them: lower-case hexadecimal of a fixed length.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// `N` bytes, written as `2 × N` lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex<const N: usize>(pub [u8; N]);

/// 32 bytes: a SHA-256, a seed, an Ed25519 public key.
pub type Digest = Hex<32>;
/// 64 bytes: an Ed25519 signature.
pub type Signature = Hex<64>;

/// The text was not lower-case hexadecimal of the right length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadHex {
    digits: usize,
}

impl fmt::Display for BadHex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} digits 0-9 and a-f", self.digits)
    }
}
impl std::error::Error for BadHex {}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
impl<const N: usize> FromStr for Hex<N> {
    type Err = BadHex;
    fn from_str(text: &str) -> Result<Self, BadHex> {
        let bad = BadHex { digits: 2 * N };
        let mut bytes = [0; N];
        if text.len() != 2 * N {
            return Err(bad);
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(text.as_bytes().as_chunks().0) {
            *byte = digit(*high).ok_or(bad)? << 4 | digit(*low).ok_or(bad)?;
        }
        Ok(Self(bytes))
    }
}
impl<const N: usize> TryFrom<String> for Hex<N> {
    type Error = BadHex;
    fn try_from(text: String) -> Result<Self, BadHex> {
        text.parse()
    }
}
impl<const N: usize> From<Hex<N>> for String {
    fn from(hex: Hex<N>) -> String {
        hex.to_string()
    }
}

/// One spelling only, so that equal bytes are equal text.
fn digit(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_there_and_back() {
        let all: [u8; 32] = std::array::from_fn(|i| (i * 8 + 7) as u8);
        let text = Hex(all).to_string();
        assert!(text.starts_with("070f171f27"), "{text}");
        assert_eq!(text.parse(), Ok(Hex(all)));
        assert_eq!(serde_json::from_str::<Digest>(&serde_json::to_string(&Hex(all)).unwrap()).unwrap(), Hex(all));
        for wrong in
            [text.to_uppercase(), text[1..].to_owned(), format!("{text}0"), text.replace('0', "g"), String::new()]
        {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
