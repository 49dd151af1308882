//! Signs of life of people who simply wait: one bit each until the next round takes them all to the store at once.
//! Nothing is lost when a round fails, and a crash costs nobody a place.

use queue::marks::Marks;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// Of these signs one in so many asks the store where its ticket stands: it finds who left by another gate, and what a
/// store has lost unnoticed.
const ASK_EVERY: u64 = 16;

/// What has been heard since the last round.
#[derive(Debug, Default)]
pub struct Signs {
    // A panic elsewhere cannot leave a set of bits half changed in a way that matters.
    marks: RwLock<Marks>,
    heard: AtomicU64,
}

impl Signs {
    /// Notes somebody who simply waits. False when it is this one's turn to ask instead.
    pub fn note(&self, number: u64, place: u64) -> bool {
        if self.heard.fetch_add(1, Ordering::Relaxed).is_multiple_of(ASK_EVERY) {
            return false;
        }
        self.marks.write().unwrap_or_else(PoisonError::into_inner).insert(number, place);
        true
    }

    /// Takes what has been noted.
    pub fn take(&self) -> Marks {
        std::mem::take(&mut *self.marks.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives back what could not be told.
    pub fn give_back(&self, marks: Marks) {
        self.marks.write().unwrap_or_else(PoisonError::into_inner).merge(marks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_sixteen_asks_and_what_was_not_told_is_kept() {
        let signs = Signs::default();
        let asked: Vec<u64> = (0..40).filter(|number| !signs.note(*number, number * 8)).collect();
        assert_eq!(asked, [0, 16, 32]);
        let round = signs.take();
        assert!(signs.take().is_empty());
        signs.note(40, 400);
        signs.give_back(round);
        let all = signs.take();
        assert_eq!((all.is_empty(), all.place_max()), (false, 400));
    }
}
