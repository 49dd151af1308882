//! The ticket: a signed receipt for one number of one room. It is checked on every poll, without any store.

use crate::draw::Nonce;
use crate::lane::LANE_SLOTS;
use service_kit::ids::{RoomId, VisitorId};
use service_kit::keys::{KeyRing, Purpose};
use service_kit::token::{BadToken, TextSigner};

/// Highest number: four bytes of heartbeat per number fill the longest string that Redis keeps (512 MB).
pub const NUMBER_MAX: u64 = (1 << 27) - 1;
/// Highest place: the largest integer that Lua and JavaScript keep exactly.
pub const PLACE_MAX: u64 = (1 << 53) - 1;

/// What a visitor holds while waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The room that gave it.
    pub room: RoomId,
    /// The number, from 1: names this person in the room.
    pub number: u64,
    /// The place: who has a lower one is called first. 0 = taken before a draw, which will tell.
    pub place: u64,
    /// Who it was given to.
    pub visitor: VisitorId,
    /// When, by the store's clock.
    pub joined_ms: i64,
    /// The lower end of the wait promised at that moment, in milliseconds.
    pub promise_low_ms: i64,
    /// The upper end; 0 = nothing was promised.
    pub promise_high_ms: i64,
    /// What its holder threw into the draw: the receipt for it, and what rebuilds the record after a loss of the store.
    pub nonce: Option<Nonce>,
}

/// Signs and checks tickets: `2.<room>.<number>.<place>.<visitor>.<joined>.<low>.<high>[.<nonce>].<key id>.<mac>`.
#[derive(Clone)]
pub struct TicketSigner {
    signer: TextSigner,
}

impl Ticket {
    /// The lane that it stands in.
    pub fn lane(&self) -> u8 {
        u8::try_from(self.place % LANE_SLOTS).unwrap_or(0)
    }
}

impl std::fmt::Debug for TicketSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketSigner")
    }
}

impl TicketSigner {
    /// Uses the ring's ticket keys.
    pub fn new(ring: &KeyRing) -> Self {
        Self { signer: TextSigner::new(ring, Purpose::Ticket) }
    }

    /// The token, safe in a cookie and in a header.
    pub fn issue(&self, ticket: &Ticket) -> String {
        let Ticket { room, number, place, visitor, joined_ms, promise_low_ms, promise_high_ms, nonce } = ticket;
        let (dot, nonce) = nonce.as_ref().map_or(("", ""), |nonce| (".", nonce.as_str()));
        self.signer.sign(&format!(
            "2.{room}.{number}.{place}.{visitor}.{joined_ms}.{promise_low_ms}.{promise_high_ms}{dot}{nonce}"
        ))
    }

    /// The ticket, if we gave it for `room`.
    ///
    /// # Errors
    /// For anything else.
    pub fn verify(&self, token: &str, room: &RoomId) -> Result<Ticket, BadToken> {
        let body = self.signer.verify(token)?;
        let mut parts = body.split('.');
        let mut next = || parts.next().ok_or(BadToken);
        if next()? != "2" || next()? != room.as_str() {
            return Err(BadToken);
        }
        let number = next()?.parse().map_err(|_| BadToken)?;
        let place = next()?.parse().map_err(|_| BadToken)?;
        let visitor = next()?.parse().map_err(|_| BadToken)?;
        let joined_ms = next()?.parse().map_err(|_| BadToken)?;
        let promise_low_ms = next()?.parse().map_err(|_| BadToken)?;
        let promise_high_ms = next()?.parse().map_err(|_| BadToken)?;
        let nonce = parts.next().map(|text| text.parse().map_err(|_| BadToken)).transpose()?;
        if parts.next().is_some() || !(1..=NUMBER_MAX).contains(&number) || place > PLACE_MAX {
            return Err(BadToken);
        }
        Ok(Ticket { room: room.clone(), number, place, visitor, joined_ms, promise_low_ms, promise_high_ms, nonce })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_kit::keys::KeysConfig;

    #[test]
    fn a_ticket_is_good_for_its_own_room_only() {
        let ring = KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("a")] }).unwrap();
        let signer = TicketSigner::new(&ring);
        let (room, other): (RoomId, RoomId) = ("shoes".parse().unwrap(), "bags".parse().unwrap());
        let ticket = Ticket {
            room: room.clone(),
            number: 17,
            place: 17_003,
            visitor: VisitorId::new(),
            joined_ms: 5,
            promise_low_ms: 0,
            promise_high_ms: 60_000,
            nonce: None,
        };
        let token = signer.issue(&ticket);
        assert!(token.len() < 160, "{} bytes", token.len());
        assert_eq!(ticket.lane(), 3);
        assert_eq!(signer.verify(&token, &room), Ok(ticket.clone()));
        assert_eq!(signer.verify(&token, &other), Err(BadToken));
        let text = TextSigner::new(&ring, Purpose::Ticket);
        for body in ["2.shoes.0", "1.shoes.17", "2.shoes.17.17.short.5.0.0"] {
            assert!(signer.verify(&text.sign(body), &room).is_err(), "{body}");
        }
        let nonce = Some("n_-3456789012345".parse().unwrap());
        let thrown = Ticket { nonce, ..ticket.clone() };
        assert_eq!(signer.verify(&signer.issue(&thrown), &room), Ok(thrown));
        for more in ["", ".", ".short", ".n_-3456789012345.n_-3456789012345"] {
            let body = format!("2.shoes.17.17.{}.5.0.0{more}", VisitorId::new());
            assert_eq!(signer.verify(&text.sign(&body), &room).is_ok(), more.is_empty(), "{more}");
        }
        let zero = Ticket { number: 0, ..ticket.clone() };
        assert!(signer.verify(&signer.issue(&zero), &room).is_err());
        let huge = Ticket { number: NUMBER_MAX + 1, ..ticket };
        assert!(signer.verify(&signer.issue(&huge), &room).is_err());
    }
}
