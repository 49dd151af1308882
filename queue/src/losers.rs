//! Who would hear "sold out": a look at the stock for many people at once, which changes nothing.
//!
//! It knows only the plain case (see the script). Whoever is not a plain loser is the deal service's to answer, and so is
//! everybody whose look got no reply.

use crate::keys::room_keys;
use service_kit::ids::{AccountId, RoomId, VisitorId, is_idempotency_key};
use service_kit::money::Quantity;
use service_kit::redis::{Redis, StoreError};
use service_kit::script;

script!(
    /// Looks, for many.
    LOSERS,
    "losers",
    "scripts/losers.lua"
);

/// Most people in one look.
pub const LOOK_PEOPLE_MAX: usize = 64;

/// Somebody inside who asks for units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldWish {
    /// Who is signed in.
    pub account: AccountId,
    /// The intention's name, a well-formed idempotency key.
    pub key: String,
    /// Units.
    pub quantity: Quantity,
    /// Number and visitor of the pass.
    pub pass: (u64, VisitorId),
}

/// For each of at most [`LOOK_PEOPLE_MAX`] people whether a hold that ran now would say "sold out" and nothing else.
///
/// # Errors
/// See [`StoreError`]; `BADARG` when there are too many people or a key is not well-formed.
pub async fn losers(redis: &Redis, room: &RoomId, wishes: &[HoldWish]) -> Result<Vec<bool>, StoreError> {
    let is_wrong = wishes.len() > LOOK_PEOPLE_MAX || wishes.iter().any(|wish| !is_idempotency_key(&wish.key));
    if is_wrong {
        return Err(StoreError::Refused { code: "BADARG".into(), detail: "wishes".into() });
    }
    let mut args = Vec::with_capacity(4 * wishes.len());
    for HoldWish { account, key, quantity, pass: (number, visitor) } in wishes {
        let account = account.to_string();
        args.push(format!("{account}:{key}"));
        args.push(account);
        args.push(quantity.get().to_string());
        args.push(format!("p:{number}:{visitor}"));
    }
    let answer = redis.run(&LOSERS, &room_keys!(room => stock bought ops), &args).await?.text()?;
    if answer.len() != wishes.len() {
        return Err(StoreError::Shape("a look answers once per person"));
    }
    Ok(answer.bytes().map(|loses| loses == b'1').collect())
}
