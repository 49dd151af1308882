//! Join, claim and leave as both the pages and the API do them: the store is asked, tokens are signed.
//!
//! Races: the same join key always gives the same number, a claim may be repeated, leaving twice is
//! leaving once. A reply that was lost therefore costs nothing but asking again.

use crate::rooms::{Room, Rooms};
use queue::line::{Claim, Presence};
use queue::pass::{Pass, PassSigner};
use queue::ticket::{Ticket, TicketSigner};
use service_kit::ids::VisitorId;
use service_kit::keys::KeyRing;
use service_kit::redis::StoreError;

/// Signs tickets and passes, and talks to the line.
#[derive(Debug)]
pub struct Visits {
    tickets: TicketSigner,
    passes: PassSigner,
}

/// A fresh (or repeated) join.
#[derive(Debug)]
pub struct JoinedNow {
    /// The ticket.
    pub ticket: Ticket,
    /// Signed, for cookie and JSON.
    pub token: String,
    /// Called at once: nobody waits.
    pub called: bool,
}

/// What became of a claim.
#[derive(Debug)]
pub enum Claimed {
    /// In.
    Pass {
        /// The pass.
        pass: Pass,
        /// Signed.
        token: String,
    },
    /// Still in line.
    NotYourTurn,
    /// The turn or the lease is over.
    Missed,
    /// Left before.
    Left,
}

/// The store did not answer; nobody was admitted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreAway(String);

impl From<StoreError> for StoreAway {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

impl Visits {
    /// Signers from the key ring.
    pub fn new(ring: &KeyRing) -> Self {
        Self { tickets: TicketSigner::new(ring), passes: PassSigner::new(ring) }
    }
    /// The ticket behind a token of this room.
    pub fn ticket(&self, token: &str, room: &Room) -> Option<Ticket> {
        self.tickets.verify(token, &room.id).ok()
    }
    /// The token of a ticket.
    pub fn token(&self, ticket: &Ticket) -> String {
        self.tickets.issue(ticket)
    }
    /// The pass behind a token of this room that is not over.
    pub fn pass(&self, token: &str, room: &Room) -> Option<Pass> {
        self.passes.verify(token, &room.id, room.now_ms()).ok()
    }

    /// Takes a number. `key` makes a repeated call give the same one.
    ///
    /// # Errors
    /// [`StoreAway`]: it may have happened; the same key finds the same number.
    pub async fn join(&self, rooms: &Rooms, room: &Room, key: Option<&str>) -> Result<JoinedNow, StoreAway> {
        let store = rooms.store().ok_or_else(|| StoreAway("not connected yet".into()))?;
        let visitor = VisitorId::new();
        let join_key = match key {
            Some(key) => format!("api:{key}"),
            None => format!("web:{visitor}"),
        };
        let settings = room.settings.load_full();
        let joined = store.line.join(&settings, &visitor, &join_key, room.now_ms()).await?;
        room.wake.notify_one();
        let mut ticket = Ticket {
            room: room.id.clone(),
            number: joined.number,
            visitor: joined.visitor,
            joined_ms: joined.joined_ms,
            promise_ms: 0,
        };
        let called = joined.called_until_ms.is_some();
        if called {
            // The board is older than this call: until the next heartbeat, this is what is known.
            room.presences.put_all([(ticket.number, Presence::Called)]);
        } else {
            let promised = room.view(Some(&ticket)).status.and_then(|s| s.eta_seconds).map_or(0, |eta| eta.high);
            ticket.promise_ms = i64::try_from(promised.saturating_mul(1_000)).unwrap_or(0);
        }
        let token = self.tickets.issue(&ticket);
        Ok(JoinedNow { ticket, token, called })
    }

    /// Claims the pass.
    ///
    /// # Errors
    /// [`StoreAway`]: asking again gives the same answer.
    pub async fn claim(&self, rooms: &Rooms, room: &Room, ticket: &Ticket) -> Result<Claimed, StoreAway> {
        let store = rooms.store().ok_or_else(|| StoreAway("not connected yet".into()))?;
        let settings = room.settings.load_full();
        let claim = store.line.claim(&settings, ticket.number).await?;
        room.wake.notify_one();
        let (claimed, presence) = match claim {
            Claim::Inside { lease_until_ms } => {
                if room.presences.get(ticket.number) != Some(Presence::Inside)
                    && let Some(seen) = room.seen.load().as_ref()
                {
                    queue::metric::record_turn(&seen.board, ticket);
                }
                let pass = Pass {
                    room: room.id.clone(),
                    visitor: ticket.visitor.clone(),
                    number: ticket.number,
                    expires_at_ms: lease_until_ms,
                };
                let token = self.passes.issue(&pass, room.now_ms()).map_err(|e| StoreAway(e.to_string()))?;
                (Claimed::Pass { pass, token }, Presence::Inside)
            }
            Claim::NotYourTurn => (Claimed::NotYourTurn, Presence::Waiting),
            Claim::Missed => (Claimed::Missed, Presence::Missed),
            Claim::Left => (Claimed::Left, Presence::Left),
        };
        room.presences.put_all([(ticket.number, presence)]);
        Ok(claimed)
    }

    /// Gives the place up.
    ///
    /// # Errors
    /// [`StoreAway`]: leaving again is harmless.
    pub async fn leave(&self, rooms: &Rooms, room: &Room, ticket: &Ticket) -> Result<(), StoreAway> {
        let store = rooms.store().ok_or_else(|| StoreAway("not connected yet".into()))?;
        let settings = room.settings.load_full();
        store.line.leave(&settings, ticket.number).await?;
        room.presences.put_all([(ticket.number, Presence::Left)]);
        Ok(())
    }
}
