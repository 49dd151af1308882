//! What this process remembers of each room, to notice a store that does not: the highest number and place it has seen,
//! the room's generation, and the clock. A store that answers with less has lost something.

use arc_swap::{ArcSwap, ArcSwapOption};
use service_kit::ids::RoomId;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An expectation of the clock that is older than this is no evidence.
pub const CLOCK_AGE_MAX_MS: i64 = 10_000;

/// The memory of all rooms; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    rooms: Arc<ArcSwap<HashMap<RoomId, Arc<RoomMemory>>>>,
}

/// What is remembered of one room.
#[derive(Debug, Default)]
pub struct RoomMemory {
    next: AtomicU64,
    place: AtomicU64,
    generation: ArcSwapOption<String>,
    /// What the room's clock showed, and the steady clock beside it, both in ms.
    clock: ArcSwapOption<(i64, i64)>,
}

impl Memory {
    /// The memory of one room.
    pub fn of(&self, room: &RoomId) -> Arc<RoomMemory> {
        if let Some(memory) = self.rooms.load().get(room) {
            return memory.clone();
        }
        let fresh = Arc::new(RoomMemory::default());
        self.rooms.rcu(|rooms| {
            let mut rooms = HashMap::clone(rooms);
            rooms.entry(room.clone()).or_insert_with(|| fresh.clone());
            rooms
        });
        self.rooms.load().get(room).cloned().unwrap_or(fresh)
    }
}

impl RoomMemory {
    /// Remembers that a number up to `next − 1` and a place up to `place` were given.
    pub fn raise(&self, next: u64, place: u64) {
        self.next.fetch_max(next, Ordering::Relaxed);
        self.place.fetch_max(place, Ordering::Relaxed);
    }
    /// The highest `next` seen; 0 = none yet.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }
    /// The highest place seen; 0 = none yet.
    pub fn place(&self) -> u64 {
        self.place.load(Ordering::Relaxed)
    }
    /// The generation of the room's keys as first seen; `None` = not seen yet.
    pub fn generation(&self) -> Option<Arc<String>> {
        self.generation.load_full()
    }
    /// Remembers the generation.
    pub fn set_generation(&self, generation: &str) {
        if self.generation.load().as_ref().is_none_or(|g| g.as_str() != generation) {
            self.generation.store(Some(Arc::new(generation.to_owned())));
        }
    }
    /// Remembers what the room's clock showed when the steady clock stood at `steady_ms`.
    pub fn set_clock(&self, now_ms: i64, steady_ms: i64) {
        self.clock.store(Some(Arc::new((now_ms, steady_ms))));
    }
    /// What the room's clock showed when the store was last trusted; 0 = never.
    pub fn trusted_ms(&self) -> i64 {
        self.clock.load().as_ref().map_or(0, |clock| clock.0)
    }
    /// What the room's clock should show when the steady clock stands at `steady_ms`; `None` when it was read too long
    /// ago.
    pub fn expected_ms(&self, steady_ms: i64) -> Option<i64> {
        let (then_ms, steady_then_ms) = *self.clock.load_full()?;
        let age_ms = steady_ms.saturating_sub(steady_then_ms);
        (0..=CLOCK_AGE_MAX_MS).contains(&age_ms).then(|| then_ms.saturating_add(age_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_only_rise_and_are_shared() {
        let memory = Memory::default();
        let (a, b): (RoomId, RoomId) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!((memory.of(&a).next(), memory.of(&a).place()), (0, 0));
        memory.of(&a).raise(7, 70);
        memory.clone().of(&a).raise(3, 30);
        memory.of(&b).raise(1, 0);
        assert_eq!((memory.of(&a).next(), memory.of(&a).place(), memory.of(&b).next()), (7, 70, 1));
    }

    #[test]
    fn the_clock_goes_on_without_the_store() {
        let memory = Memory::default().of(&"a".parse().unwrap());
        assert_eq!((memory.expected_ms(100), memory.trusted_ms()), (None, 0));
        memory.set_clock(5_000, 100);
        assert_eq!((memory.expected_ms(300), memory.trusted_ms()), (Some(5_200), 5_000));
        assert_eq!((memory.expected_ms(10_101), memory.expected_ms(99)), (None, None));
    }
}
