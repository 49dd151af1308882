//! What heartbeats have said about tickets, kept for the next poll. Only what differs from "in line"
//! is remembered, in two generations, so memory stays bounded however many people wait.

use queue::line::Presence;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Most entries per generation.
const GENERATION_MAX: usize = 50_000;

/// Number → presence, where it is not [`Presence::Waiting`].
#[derive(Debug, Default)]
pub struct Presences {
    inner: RwLock<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<u64, Presence>,
    old: HashMap<u64, Presence>,
}

impl Presences {
    /// What is known about a number.
    pub fn get(&self, number: u64) -> Option<Presence> {
        // A panic elsewhere cannot leave a map half changed in a way that matters: read on.
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.young.get(&number).or_else(|| inner.old.get(&number)).copied()
    }
    /// Remembers the results of a batch of heartbeats.
    pub fn put_all(&self, results: impl IntoIterator<Item = (u64, Presence)>) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for (number, presence) in results {
            inner.old.remove(&number);
            if presence == Presence::Waiting {
                inner.young.remove(&number);
            } else {
                inner.young.insert(number, presence);
            }
        }
        if inner.young.len() > GENERATION_MAX {
            inner.old = std::mem::take(&mut inner.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_memory_is_bounded() {
        let presences = Presences::default();
        presences.put_all([(1, Presence::Missed), (2, Presence::Waiting)]);
        assert_eq!((presences.get(1), presences.get(2)), (Some(Presence::Missed), None));
        presences.put_all([(1, Presence::Waiting)]);
        assert_eq!(presences.get(1), None);
        for batch in 0..400_u64 {
            presences.put_all((0..500).map(|i| (batch * 500 + i, Presence::Inside)));
        }
        let inner = presences.inner.read().unwrap();
        assert!(inner.young.len() + inner.old.len() <= 2 * (GENERATION_MAX + 500));
    }
}
