//! Append-only records that prove their own order: each line is a JSON object that ends with the SHA-256 of everything
//! before it, and names the hash of the line before. Whoever edits, moves or takes out a line breaks every later one.
//!
//! The hash is over the text as written, so no two programs have to agree on how to write JSON. What a chain cannot show
//! is that somebody rewrote all of it: compare its last hash with one that was noted elsewhere.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// What the first entry of a chain names as the hash before it.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Length of `,"hash":"…"}` with 64 digits.
const TAIL_BYTES: usize = 75;

/// SHA-256 as 64 lower-case hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The end of a chain: where the next entry goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// Number of the last entry; 0 = none yet.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

impl Default for Tail {
    fn default() -> Self {
        Self { seq: 0, hash: GENESIS.to_owned() }
    }
}

/// An entry as it is hashed: its number, what it says, and the hash before it.
#[derive(Serialize)]
struct Link<'a, T> {
    seq: u64,
    #[serde(flatten)]
    body: &'a T,
    prev: &'a str,
}

impl Tail {
    /// Writes `body` (an object) as the next entry; returns its line, without a line break. The tail moves on.
    ///
    /// # Errors
    /// When `body` cannot be written as a JSON object.
    pub fn append<T: Serialize>(&mut self, body: &T) -> Result<String, serde_json::Error> {
        let seq = self.seq.saturating_add(1);
        let mut line = serde_json::to_string(&Link { seq, body, prev: &self.hash })?;
        let hash = sha256_hex(line.as_bytes());
        line.pop();
        line.push_str(",\"hash\":\"");
        line.push_str(&hash);
        line.push_str("\"}");
        *self = Self { seq, hash };
        Ok(line)
    }
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is no entry at all.
    #[error("this is not an entry of a log")]
    Unreadable,
    /// The content and the hash differ.
    #[error("its content does not fit its hash: it was changed after it was written")]
    Altered,
    /// It is sound in itself, but another entry stood before it.
    #[error("it does not follow the entry before it: something was taken out, put in or moved here")]
    Unlinked,
}

/// A line that is sound in itself.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number.
    pub seq: u64,
    /// The hash that it names as the one before.
    pub prev: String,
    /// Its own hash.
    pub hash: String,
    /// All of it.
    pub value: Value,
}

impl Entry {
    /// Reads a line and checks its hash.
    ///
    /// # Errors
    /// [`Fault::Unreadable`] or [`Fault::Altered`].
    pub fn read(line: &str) -> Result<Self, Fault> {
        let cut = line.len().checked_sub(TAIL_BYTES).ok_or(Fault::Unreadable)?;
        let (body, tail) = line.split_at_checked(cut).ok_or(Fault::Unreadable)?;
        let hash = tail.strip_prefix(",\"hash\":\"").and_then(|t| t.strip_suffix("\"}")).ok_or(Fault::Unreadable)?;
        let value: Value = serde_json::from_str(line).map_err(|_| Fault::Unreadable)?;
        let (Some(seq), Some(prev)) =
            (value.get("seq").and_then(Value::as_u64), value.get("prev").and_then(Value::as_str))
        else {
            return Err(Fault::Unreadable);
        };
        if sha256_hex(format!("{body}}}").as_bytes()) != hash {
            return Err(Fault::Altered);
        }
        Ok(Self { seq, prev: prev.to_owned(), hash: hash.to_owned(), value })
    }

    /// Whether it stands directly behind `tail`.
    pub fn follows(&self, tail: &Tail) -> bool {
        self.prev == tail.hash && Some(self.seq) == tail.seq.checked_add(1)
    }

    /// The end of the chain once this entry is part of it.
    pub fn tail(&self) -> Tail {
        Tail { seq: self.seq, hash: self.hash.clone() }
    }

    /// A text field.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.value.get(field).and_then(Value::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: u64) -> Vec<String> {
        let mut tail = Tail::default();
        (0..count).map(|n| tail.append(&serde_json::json!({ "n": n, "text": "줄 \"서기\"" })).unwrap()).collect()
    }

    fn walk(lines: &[String]) -> Result<Tail, (usize, Fault)> {
        let mut tail = Tail::default();
        for (i, line) in lines.iter().enumerate() {
            let entry = Entry::read(line).map_err(|fault| (i, fault))?;
            if !entry.follows(&tail) {
                return Err((i, Fault::Unlinked));
            }
            tail = entry.tail();
        }
        Ok(tail)
    }

    #[test]
    fn a_chain_holds_and_every_kind_of_tampering_breaks_it() {
        let whole = lines(5);
        assert_eq!(walk(&whole).unwrap().seq, 5);
        let mut edited = whole.clone();
        edited[2] = edited[2].replace("\"n\":2", "\"n\":7");
        assert_eq!(walk(&edited), Err((2, Fault::Altered)));
        let mut short = whole.clone();
        short.remove(1);
        assert_eq!(walk(&short), Err((1, Fault::Unlinked)));
        let mut swapped = whole.clone();
        swapped.swap(2, 3);
        assert_eq!(walk(&swapped), Err((2, Fault::Unlinked)));
        let mut twice = whole.clone();
        twice.insert(3, twice[2].clone());
        assert_eq!(walk(&twice), Err((3, Fault::Unlinked)));
        for torn in [
            "",
            "{}",
            "{\"seq\":1}",
            &whole[0][..whole[0].len() - 1],
            "줄줄줄줄줄줄줄줄줄줄줄줄줄줄줄줄줄줄줄줄줄줄줄줄줄줄",
        ] {
            assert_eq!(Entry::read(torn).map(|e| e.seq), Err(Fault::Unreadable), "{torn}");
        }
    }

    #[test]
    fn an_entry_made_again_with_its_own_hash_does_not_fit_the_next() {
        let mut whole = lines(3);
        let mut tail = Entry::read(&whole[0]).unwrap().tail();
        whole[1] = tail.append(&serde_json::json!({ "n": 9 })).unwrap();
        assert_eq!(walk(&whole), Err((2, Fault::Unlinked)));
    }
}
