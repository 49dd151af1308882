//! Which master of a Redis Cluster owns a key, and what a redirection says. Pure.

use super::{Reply, StoreError};

/// Slots of a cluster, fixed by its protocol.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a key: CRC16 (XMODEM) of the part between the first `{` and the next `}`, or of all of it when there
/// is no such part or it is empty.
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(tag, _)| tag);
    crc16(if tag.is_empty() { key.as_bytes() } else { tag.as_bytes() }) % SLOTS
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    })
}

/// Some slots and the `host:port` of the master that owns them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub first: u16,
    pub last: u16,
    pub master: String,
}

/// Reads the reply of `CLUSTER SLOTS`, sorted by slot. `asked` is the host that answered: a node that does not know
/// its own name leaves it empty or says `?`.
///
/// # Errors
/// [`StoreError::Shape`] for another shape, or when no slot has an owner.
pub(super) fn parse_slots(reply: &Reply, asked: &str) -> Result<Vec<Range>, StoreError> {
    let mut ranges = Vec::new();
    for entry in reply.list()? {
        let slot = |i| {
            let slot = u16::try_from(entry.at(i)?.int()?).ok().filter(|s| *s < SLOTS);
            slot.ok_or(StoreError::Shape("a slot of a cluster is 0 to 16,383"))
        };
        let (first, last, master) = (slot(0)?, slot(1)?, entry.at(2)?);
        let host = match master.at(0)? {
            Reply::Text(host) if !host.is_empty() && host != "?" => host.clone(),
            _ => asked.to_owned(),
        };
        ranges.push(Range { first, last, master: format!("{host}:{}", master.at(1)?.int()?) });
    }
    ranges.sort_by_key(|r| r.first);
    if ranges.is_empty() { Err(StoreError::Shape("a cluster whose slots have no owner")) } else { Ok(ranges) }
}

/// A refusal that says: not here, or not now. The command did not run, so it may be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Redirection {
    /// The slot has moved for good to this `host:port`.
    Moved(String),
    /// The key may be at this `host:port` already; the map stays.
    Ask(String),
    /// Keys of one script are on their way from one master to another.
    TryAgain,
    /// This node is no master any more, or its cluster has no owner for the slot.
    Renew,
}

impl Redirection {
    /// Reads a refusal of the node at `asked`.
    pub(super) fn of(error: &StoreError, asked: &str) -> Option<Self> {
        let StoreError::Refused { code, detail } = error else { return None };
        let target = || {
            let address = detail.split_ascii_whitespace().nth(1)?;
            let (host, port) = address.rsplit_once(':')?;
            port.parse::<u16>().ok()?;
            let known = asked.rsplit_once(':').map_or(asked, |(host, _)| host);
            Some(format!("{}:{port}", if host.is_empty() { known } else { host }))
        };
        match code.as_str() {
            "MOVED" => target().map(Self::Moved),
            "ASK" => target().map(Self::Ask),
            "TRYAGAIN" => Some(Self::TryAgain),
            "READONLY" | "CLUSTERDOWN" => Some(Self::Renew),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_as_redis_computes_them() {
        // CRC16/XMODEM of "123456789" is 0x31C3 (cluster specification, appendix A).
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of("123456789"), 0x31C3 % SLOTS);
        assert_eq!(slot_of("fg:{deal-1}:line"), slot_of("deal-1"));
        assert_eq!(slot_of("fg:{rooms}:settings"), slot_of("fg:{rooms}:version"));
        assert_eq!(slot_of("foo{{bar}}zap"), slot_of("{bar"));
        assert_eq!(slot_of("foo{bar}{zap}"), slot_of("bar"));
        assert_ne!(slot_of("foo{}{bar}"), slot_of("bar"), "an empty tag is no tag");
        assert_eq!(slot_of("foo"), 12_182);
    }

    fn text(text: &str) -> Reply {
        Reply::Text(text.into())
    }

    #[test]
    fn the_map_of_slots() {
        let node = |host: Reply, port| Reply::List(vec![host, Reply::Int(port), text("id")]);
        let entry =
            |first, last, nodes: Vec<Reply>| Reply::List([vec![Reply::Int(first), Reply::Int(last)], nodes].concat());
        let reply = Reply::List(vec![
            entry(5_461, 16_383, vec![node(text(""), 2), node(text("10.0.0.9"), 9)]),
            entry(0, 5_460, vec![node(text("10.0.0.1"), 1)]),
        ]);
        let ranges = parse_slots(&reply, "h").unwrap();
        assert_eq!(ranges[0], Range { first: 0, last: 5_460, master: "10.0.0.1:1".into() });
        assert_eq!(ranges[1].master, "h:2", "a node without a name is the one that was asked; replicas are left out");
        for bad in [Reply::Nil, Reply::List(vec![]), Reply::List(vec![entry(0, 16_384, vec![node(text("h"), 1)])])] {
            assert!(parse_slots(&bad, "h").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn redirections() {
        let of = |code: &str, detail: &str| {
            Redirection::of(&StoreError::Refused { code: code.into(), detail: detail.into() }, "asked:1")
        };
        assert_eq!(of("MOVED", "3999 127.0.0.1:6381"), Some(Redirection::Moved("127.0.0.1:6381".into())));
        assert_eq!(of("MOVED", "3999 :6381"), Some(Redirection::Moved("asked:6381".into())));
        assert_eq!(of("ASK", "3999 ::1:6381"), Some(Redirection::Ask("::1:6381".into())));
        assert_eq!(of("TRYAGAIN", "Multiple keys request"), Some(Redirection::TryAgain));
        assert_eq!(of("CLUSTERDOWN", "Hash slot not served"), Some(Redirection::Renew));
        for (code, detail) in [("MOVED", ""), ("MOVED", "3999 nowhere"), ("ERR", "1 a:1"), ("OOM", "")] {
            assert_eq!(of(code, detail), None, "{code} {detail}");
        }
        assert_eq!(Redirection::of(&StoreError::Unknown("late".into()), "asked:1"), None);
    }
}
