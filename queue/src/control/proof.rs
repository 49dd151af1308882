//! Whether a room's log holds: every hash, every link, and nothing missing that is not accounted for.

use super::{ARCHIVED, RESTORED};
use serde_json::Value;
use service_kit::chain::{Entry, Fault, Tail};

/// A log that holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many entries there are.
    pub entries: usize,
    /// The end; compare it with one that was noted elsewhere.
    pub tail: Tail,
    /// First and last number of entries that are missing and accounted for: archived, or lost by the store.
    pub missing: Vec<(u64, u64)>,
}

/// The first entry that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq}: {fault}")]
pub struct Broken {
    /// Its number; where that cannot be read, the number that should stand there.
    pub seq: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// Checks a whole log: every hash, every link, nothing missing that is not accounted for.
///
/// # Errors
/// The first wrong entry.
pub fn verify<'l>(lines: impl IntoIterator<Item = &'l str>) -> Result<Verified, Broken> {
    let mut seen = Verified::default();
    // What stands before the first entry, until an entry `archived` vouches for it.
    let mut unexplained: Option<(Tail, u64)> = None;
    for line in lines {
        let should_be = seen.tail.seq.saturating_add(1);
        let entry = Entry::read(line).map_err(|fault| Broken { seq: should_be, fault })?;
        if !entry.follows(&seen.tail) {
            let jumps = entry.seq > should_be;
            if jumps && entry.text("action") == Some(RESTORED) {
                seen.missing.push((should_be, entry.seq - 1));
            } else if jumps && seen.entries == 0 {
                let before = Tail { seq: entry.seq - 1, hash: entry.prev.clone() };
                seen.missing.push((1, before.seq));
                unexplained = Some((before, entry.seq));
            } else {
                return Err(Broken { seq: entry.seq, fault: Fault::Unlinked });
            }
        }
        if let Some((before, _)) = &unexplained
            && entry.text("action") == Some(ARCHIVED)
            && entry.value.pointer("/after/upto_seq").and_then(Value::as_u64) == Some(before.seq)
            && entry.value.pointer("/after/hash").and_then(Value::as_str) == Some(before.hash.as_str())
        {
            unexplained = None;
        }
        seen.tail = entry.tail();
        seen.entries += 1;
    }
    match unexplained {
        Some((_, seq)) => Err(Broken { seq, fault: Fault::Unlinked }),
        None => Ok(seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn chain(actions: &[&str]) -> Vec<String> {
        let mut tail = Tail::default();
        actions.iter().map(|a| tail.append(&json!({ "action": a })).unwrap()).collect()
    }

    fn check(lines: &[String]) -> Result<Verified, Broken> {
        verify(lines.iter().map(String::as_str))
    }

    #[test]
    fn the_first_wrong_entry_is_named() {
        let whole = chain(&["pause", "rate", "resume", "close"]);
        assert_eq!(check(&whole).map(|v| (v.entries, v.tail.seq, v.missing)), Ok((4, 4, vec![])));
        let mut edited = whole.clone();
        edited[1] = edited[1].replace("rate", "gate");
        assert_eq!(check(&edited), Err(Broken { seq: 2, fault: Fault::Altered }));
        let mut cut = whole.clone();
        cut.remove(2);
        assert_eq!(check(&cut), Err(Broken { seq: 4, fault: Fault::Unlinked }));
        let mut moved = whole.clone();
        moved.swap(0, 1);
        assert_eq!(check(&moved).map_err(|b| b.fault), Err(Fault::Unlinked));
        assert_eq!(check(&whole[1..]), Err(Broken { seq: 2, fault: Fault::Unlinked }), "the beginning is missing");
        assert_eq!(check(&[]).map(|v| v.entries), Ok(0));
    }

    #[test]
    fn what_was_archived_or_lost_is_accounted_for() {
        let mut tail = Tail::default();
        let first = tail.append(&json!({ "action": "pause" })).unwrap();
        let saved = tail.clone();
        let second = tail.append(&json!({ "action": "rate" })).unwrap();
        let note = json!({ "action": ARCHIVED, "after": { "upto_seq": saved.seq, "hash": saved.hash } });
        let third = tail.append(&note).unwrap();
        assert_eq!(check(&[first.clone(), second.clone(), third.clone()]).map(|v| v.missing), Ok(vec![]));
        assert_eq!(check(&[second, third]).map(|v| v.missing), Ok(vec![(1, 1)]));

        let mut elsewhere = Tail { seq: 7, hash: "f".repeat(64) };
        let restored = elsewhere.append(&json!({ "action": RESTORED })).unwrap();
        let next = elsewhere.append(&json!({ "action": "rate" })).unwrap();
        let missing = check(&[first.clone(), restored, next.clone()]).map(|v| v.missing);
        assert_eq!(missing, Ok(vec![(2, 7)]));
        assert!(check(&[first, next]).is_err());
    }
}
