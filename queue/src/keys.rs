//! Every Redis key of a room is built here. The hash tag `{room}` keeps all of a room's keys in one
//! slot, so a script may touch them together in Redis Cluster too.

use service_kit::ids::RoomId;

/// Settings of all rooms: HASH room → JSON.
pub const SETTINGS: &str = "fg:{rooms}:settings";
/// Counts every change of [`SETTINGS`].
pub const SETTINGS_VERSION: &str = "fg:{rooms}:version";

/// The keys of one room and of the deal behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomKeys {
    prefix: String,
}

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> String {
            format!("{}{}", self.prefix, stringify!($name))
        }
    )*};
}

impl RoomKeys {
    /// The keys of `room`.
    pub fn new(room: &RoomId) -> Self {
        Self { prefix: format!("fg:{{{room}}}:") }
    }
    keys! {
        /// HASH of the room's counters: `next`, `frontier`, `version`, `last_tick_ms`, `carry_micro`, `spare`, …
        room;
        /// ZSET number → place: who waits.
        line;
        /// ZSET number → last heartbeat in ms, of those in line.
        seen;
        /// ZSET number → place: skipped or timed out; back in line with the next heartbeat.
        silent;
        /// ZSET number → claim deadline in ms.
        called;
        /// ZSET number → end of the lease in ms: claimed, holds nothing.
        inside;
        /// ZSET number → end of the lease in ms: claimed, has a hold.
        buying;
        /// HASH join key → `number:joined_ms:visitor`.
        joins;
        /// ZSET number → when it left, in ms.
        left;
        /// HASH number → calls missed so far.
        missed;
        /// SET of numbers that came back from silence and may be called below the frontier.
        returned;
        /// HASH of the deal's stock: `available`, `held`, `sold`, `total`, …
        stock;
        /// ZSET order → deadline in ms.
        holds;
        /// HASH order → `account|quantity|number|state`.
        units;
        /// HASH account → units.
        bought;
        /// HASH operation id → reply.
        ops;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_room_share_one_hash_tag() {
        let keys = RoomKeys::new(&"deal-1".parse().unwrap());
        assert_eq!(keys.line(), "fg:{deal-1}:line");
        for key in [
            keys.room(),
            keys.stock(),
            keys.holds(),
            keys.units(),
            keys.bought(),
            keys.ops(),
            keys.inside(),
            keys.buying(),
        ] {
            assert!(key.starts_with("fg:{deal-1}:"), "{key}");
        }
    }
}
