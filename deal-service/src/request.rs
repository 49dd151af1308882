//! What a request carries, parsed: idempotency keys, pages of lists, and the inputs of the use cases.
//! The constructors are the only way in, for the API and for the pages alike.

use service_kit::ids::{AccountId, DealId, OrderId, VisitorId, is_idempotency_key};
use service_kit::money::Quantity;
use service_kit::problem::{Problem, Slug};

/// Most entries on one page of a list.
pub const PAGE_LIMIT_MAX: u32 = 100;
/// Entries on a page when nothing is said.
pub const PAGE_LIMIT_DEFAULT: u32 = 10;

/// The caller's name for one intention: 1–64 characters of `A-Z a-z 0-9 _ - : .`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// # Errors
    /// `idempotency-key-missing` for an empty key, `invalid-field` for a key of another shape.
    pub fn new(text: &str) -> Result<Self, Problem> {
        if text.is_empty() {
            return Err(Problem::new(
                Slug::IdempotencyKeyMissing,
                "Send a fresh `Idempotency-Key` with each new intention, and the same one when you repeat it.",
            ));
        }
        if is_idempotency_key(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Problem::field("Idempotency-Key", "has 1 to 64 characters of A-Z a-z 0-9 _ - : ."))
        }
    }
    /// A fresh random key, for forms that carry one in a hidden field.
    pub fn random() -> Self {
        Self(VisitorId::new().as_str().to_owned())
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageRequest<Id> {
    /// Entries, 1 to [`PAGE_LIMIT_MAX`].
    pub limit: u32,
    /// The last id of the page before.
    pub starting_after: Option<Id>,
}

impl<Id> PageRequest<Id> {
    /// The first page of `limit` entries, brought into bounds.
    pub fn first(limit: u32) -> Self {
        Self { limit: limit.clamp(1, PAGE_LIMIT_MAX), starting_after: None }
    }
}

/// A shopper wants units of a deal.
#[derive(Debug, Clone)]
pub struct HoldRequest {
    /// Who, from the session.
    pub account: AccountId,
    /// Of which deal.
    pub deal: DealId,
    /// The lease number of the pass that [`crate::app::App::check_pass`] verified.
    pub lease: u64,
    /// Its visitor.
    pub visitor: VisitorId,
    /// How many units.
    pub quantity: Quantity,
    /// The intention's name.
    pub key: IdempotencyKey,
    /// 32 hex digits, kept with the order.
    pub trace_id: String,
}

/// A shopper acts on an order: pays, cancels, wants the money back.
#[derive(Debug, Clone)]
pub struct OrderAction {
    /// Who, from the session; any other account's order is not found.
    pub account: AccountId,
    /// Which order.
    pub order: OrderId,
    /// The intention's name.
    pub key: IdempotencyKey,
    /// 32 hex digits, kept with the payment.
    pub trace_id: String,
}

/// A new account, as typed.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignUp {
    /// E-mail; compared in lower case.
    pub email: String,
    /// 8–64 characters with a letter, a digit and another character.
    pub password: String,
    /// 1–80 characters.
    pub name: String,
}

/// A log-in, as typed.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// E-mail.
    pub email: String,
    /// Password.
    pub password: String,
}

/// SHA-256 over the parts of a request: the same idempotency key must mean the same request.
/// Each part goes in with its length, so that no two requests share a text.
pub fn fingerprint(parts: &[&str]) -> [u8; 32] {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// The saved or fresh answer of an idempotent call, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Vec<u8>,
    /// Whether this is the answer to an earlier request with the same key.
    pub replayed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotency_keys_are_plain_and_short() {
        assert!(IdempotencyKey::new("a-B_9:.").is_ok());
        assert!(IdempotencyKey::new(&"k".repeat(64)).is_ok());
        assert_eq!(IdempotencyKey::new("").unwrap_err().slug, Slug::IdempotencyKeyMissing);
        for bad in [" ", "a b", "a|b", "é", "a\nb", &"k".repeat(65)] {
            assert_eq!(IdempotencyKey::new(bad).unwrap_err().slug, Slug::InvalidField, "{bad:?}");
        }
        assert!(IdempotencyKey::new(IdempotencyKey::random().as_str()).is_ok());
    }
}
