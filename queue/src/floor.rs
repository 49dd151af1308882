//! The highest `next` that this process has seen per room. A store that answers with less has lost
//! numbers that were given out already; the join script then leaves a gap instead of giving them twice.

use arc_swap::ArcSwap;
use service_kit::ids::RoomId;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One floor per room; as many as there are rooms. Clones share the memory.
#[derive(Clone, Debug, Default)]
pub struct Floors {
    rooms: Arc<ArcSwap<HashMap<RoomId, Arc<AtomicU64>>>>,
}

impl Floors {
    /// Remembers that `next` was seen in `room`.
    pub fn raise(&self, room: &RoomId, next: u64) {
        if let Some(floor) = self.rooms.load().get(room) {
            floor.fetch_max(next, Ordering::Relaxed);
            return;
        }
        let fresh = Arc::new(AtomicU64::new(0));
        self.rooms.rcu(|rooms| {
            let mut rooms = HashMap::clone(rooms);
            rooms.entry(room.clone()).or_insert_with(|| fresh.clone());
            rooms
        });
        if let Some(floor) = self.rooms.load().get(room) {
            floor.fetch_max(next, Ordering::Relaxed);
        }
    }

    /// The highest `next` seen; 0 = none yet.
    pub fn get(&self, room: &RoomId) -> u64 {
        self.rooms.load().get(room).map_or(0, |floor| floor.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_only_rise_and_are_shared() {
        let floors = Floors::default();
        let (a, b): (RoomId, RoomId) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(floors.get(&a), 0);
        floors.raise(&a, 7);
        floors.clone().raise(&a, 3);
        floors.raise(&b, 1);
        assert_eq!((floors.get(&a), floors.get(&b)), (7, 1));
    }
}
