//! Typed ids: no bare `Uuid` or `String` crosses a module. The constructor is the only way in.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// The text was not a valid id of this kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind} id")]
pub struct BadId {
    /// Which kind was expected, e.g. `order`.
    pub kind: &'static str,
}

macro_rules! id_kinds {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh id; version 7, so that ids sort by time of creation.
            #[expect(clippy::new_without_default, reason = "a default id would hide that it is a new one")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
            /// When it was made, in ms since 1970: the first 48 bits of a version 7 UUID.
            pub fn made_at_ms(self) -> i64 {
                i64::try_from(self.0.as_u128() >> 80).unwrap_or(0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                // Only the hyphenated lower-case form: one spelling per id.
                match Uuid::try_parse(text) {
                    Ok(id) if id.to_string() == text => Ok(Self(id)),
                    _ => Err(BadId { kind: $kind }),
                }
            }
        }
    )*};
}

id_kinds! {
    /// A shopper's account.
    AccountId = "account";
    /// A merchant.
    MerchantId = "merchant";
    /// A deal.
    DealId = "deal";
    /// An order; a hold is an order in its first state, so they share the id.
    OrderId = "order";
    /// One payment of an order.
    PaymentId = "payment";
    /// One call to a provider, written before it is made.
    AttemptId = "attempt";
    /// One refund.
    RefundId = "refund";
}

/// The name of a waiting room: 1–63 characters of `a-z`, `0-9` and `-`, not starting with `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoomId(String);

impl RoomId {
    /// The room in front of a deal: `deal-<id>`.
    pub fn of_deal(deal: DealId) -> Self {
        Self(format!("deal-{deal}"))
    }
    /// The deal behind this room, if it is the room of one.
    pub fn deal(&self) -> Option<DealId> {
        self.0.strip_prefix("deal-")?.parse().ok()
    }
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for RoomId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let ok = matches!(text.len(), 1..=63)
            && !text.starts_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if ok { Ok(Self(text.to_owned())) } else { Err(BadId { kind: "room" }) }
    }
}
impl TryFrom<String> for RoomId {
    type Error = BadId;
    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}
impl From<RoomId> for String {
    fn from(id: RoomId) -> String {
        id.0
    }
}

/// Who stands in line: 128 random bits as 22 characters of base64url, made by the gate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VisitorId(String);

impl VisitorId {
    /// A fresh random visitor.
    #[expect(clippy::new_without_default, reason = "a default id would hide that it is a new one")]
    pub fn new() -> Self {
        use base64::Engine as _;
        Self(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()))
    }
    /// The 22 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for VisitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for VisitorId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let ok = text.len() == 22 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if ok { Ok(Self(text.to_owned())) } else { Err(BadId { kind: "visitor" }) }
    }
}
impl TryFrom<String> for VisitorId {
    type Error = BadId;
    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}
impl From<VisitorId> for String {
    fn from(id: VisitorId) -> String {
        id.0
    }
}

/// Longest `Idempotency-Key` of a hold, an order, a payment or a refund, in characters.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 64;

/// Whether a text may be such a key: one to [`IDEMPOTENCY_KEY_CHARS_MAX`] of `A-Z a-z 0-9 _ - : .`
pub fn is_idempotency_key(text: &str) -> bool {
    (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b':' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_when_it_was_made() {
        let before = crate::clock::now_ms();
        let made = OrderId::new().made_at_ms();
        assert!((before - 1..=crate::clock::now_ms() + 1).contains(&made), "{made} is not about {before}");
    }

    #[test]
    fn one_spelling_per_id() {
        let id = OrderId::new();
        assert_eq!(id.to_string().parse::<OrderId>(), Ok(id));
        assert!(id.to_string().to_uppercase().parse::<OrderId>().is_err());
        assert!(id.0.simple().to_string().parse::<OrderId>().is_err());
    }

    #[test]
    fn room_names_are_plain() {
        for bad in ["", "-a", "A", "a_b", "a/b", "a b", "{a}", &"a".repeat(64)] {
            assert!(bad.parse::<RoomId>().is_err(), "{bad:?} must be refused");
        }
        let deal = DealId::new();
        assert_eq!(RoomId::of_deal(deal).deal(), Some(deal));
        assert!(RoomId::of_deal(deal).as_str().parse::<RoomId>().is_ok());
    }

    #[test]
    fn visitors_are_22_url_safe_characters() {
        assert!(VisitorId::new().as_str().parse::<VisitorId>().is_ok());
        assert!("short".parse::<VisitorId>().is_err());
        assert!("aaaaaaaaaaaaaaaaaaaaa.".parse::<VisitorId>().is_err());
    }
}
