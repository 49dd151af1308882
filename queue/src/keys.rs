//! Every Redis key of a room is built here. The hash tag `{room}` keeps all of a room's keys in one
//! slot, so a script may touch them together in Redis Cluster too.

use service_kit::ids::RoomId;

/// Settings of all rooms: HASH room → JSON.
pub const SETTINGS: &str = "fg:{rooms}:settings";
/// Counts every change of [`SETTINGS`] and [`OVERRIDES`].
pub const SETTINGS_VERSION: &str = "fg:{rooms}:version";
/// What operators said about rooms: HASH room → record; counted by [`SETTINGS_VERSION`] too.
pub const OVERRIDES: &str = "fg:{rooms}:overrides";

/// LIST of what operators did with a room; beside the list of rooms, because both change in one script.
pub fn room_log_key(room: &RoomId) -> String {
    format!("fg:{{rooms}}:log:{room}")
}

/// HASH of the operation ids in that log.
pub fn operations_key(room: &RoomId) -> String {
    format!("fg:{{rooms}}:operations:{room}")
}

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
        /// ZSET number → number: who waits for a draw.
        lobby;
        /// STRING of bits: number `n` was heard in this slot of time if bit `n` is set. The newest slot.
        heard;
        /// The slot before [`RoomKeys::heard`].
        heard1;
        /// The slot before that.
        heard2;
        /// The oldest slot.
        heard3;
        /// STRING of bits that are being added to [`RoomKeys::heard`]; lives within a script only.
        marks;
        /// STRING of leaves in hexadecimal: the entrant with number `n` of a draw at offset `64 (n − 1)`.
        entrants;
        /// ZSET number → place: skipped or timed out; back in line with the next heartbeat.
        silent;
        /// ZSET number → claim deadline in ms.
        called;
        /// ZSET number → end of the lease in ms: claimed, holds nothing.
        inside;
        /// ZSET number → end of the lease in ms: claimed, has a hold.
        buying;
        /// HASH number → `ms:browser`: when it was claimed and by which browser (16 hex digits), of those inside or buying.
        entered;
        /// ZSET number → end of the pass in ms, of leases that ended before their pass.
        ended;
        /// HASH join key → `number:place:joined_ms:visitor[:nonce]`, and `~gate` → the last batch of that gate.
        joins;
        /// HASH code → how many people used it.
        codes;
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
        /// HASH order → `account|quantity|number|state|key|visitor`.
        units;
        /// HASH account → units.
        bought;
        /// HASH operation → order; `p:number:visitor` → account of a pass, `n:number` → holds of a lease, `e:event` → done.
        ops;
        /// ZSET number → place: who wants a letter when the turn is near.
        mail;
        /// HASH number → mark, tries, language and address of that letter.
        mailto;
        /// ZSET number → end of the lease in ms: letters under way.
        mailing;
        /// SET of numbers whose letter was sent or is not wanted any more.
        mailed;
    }
}

/// Keys of a room in the order in which a script names them: `room_keys!(&room => line called)`.
macro_rules! room_keys {
    ($room:expr => $($name:ident)+) => {{
        let keys = $crate::keys::RoomKeys::new($room);
        [$(keys.$name()),+]
    }};
}
pub(crate) use room_keys;

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
