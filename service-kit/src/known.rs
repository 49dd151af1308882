//! A memory of tokens whose signature was checked here already: somebody who is signed in or inside sends the same one
//! with every request. It says nothing about time: what ends is compared with the clock each time.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Parts of the memory, so that threads seldom meet.
const SHELVES: usize = 16;
/// Most tokens per part and generation: some 10 MB in all.
const PER_SHELF_MAX: usize = 512;

/// Token → what it says. Two generations per shelf, so memory stays bounded.
pub struct Known<T> {
    shelves: [RwLock<Shelf<T>>; SHELVES],
}

type Shelf<T> = [HashMap<String, T>; 2];

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { shelves: std::array::from_fn(|_| RwLock::new([HashMap::new(), HashMap::new()])) }
    }
}

impl<T: Clone> Known<T> {
    fn shelf(&self, token: &str) -> Option<&RwLock<Shelf<T>>> {
        // The last characters belong to the signature: as good as random.
        let last = token.bytes().next_back().unwrap_or(0);
        self.shelves.get(usize::from(last) % SHELVES)
    }

    /// What this token says, if it was checked before.
    pub fn get(&self, token: &str) -> Option<T> {
        let shelf = self.shelf(token)?.read().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &*shelf;
        young.get(token).or_else(|| old.get(token)).cloned()
    }

    /// Keeps what a token says whose signature is good.
    pub fn put(&self, token: &str, says: &T) {
        let Some(shelf) = self.shelf(token) else { return };
        // A panic elsewhere cannot leave a map half changed in a way that matters.
        let mut shelf = shelf.write().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *shelf;
        if young.len() >= PER_SHELF_MAX {
            *old = std::mem::take(young);
        }
        young.insert(token.to_owned(), says.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_found_and_memory_is_bounded() {
        let known = Known::default();
        known.put("a.b.c", &7);
        assert_eq!((known.get("a.b.c"), known.get("a.b.d")), (Some(7), None));
        for n in 0..100_000 {
            known.put(&format!("token-{n}"), &n);
        }
        assert_eq!(known.get("a.b.c"), None, "the oldest are forgotten");
        assert_eq!(known.get("token-99999"), Some(99_999));
        let kept: usize = known.shelves.iter().map(|s| s.read().unwrap().iter().map(HashMap::len).sum::<usize>()).sum();
        assert!(kept <= 2 * SHELVES * PER_SHELF_MAX, "{kept}");
    }
}
