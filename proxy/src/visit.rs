//! Join, claim and leave as both the pages and the API do them: the store is asked, tokens are signed.
//!
//! Races: the same join key always gives the same number, a claim may be repeated, leaving twice is
//! leaving once. A reply that was lost therefore costs nothing but asking again.

use crate::journal::Journal;
use crate::rooms::{Room, Rooms};
use queue::draw::Nonce;
use queue::line::{Claim, CodeUse, JoinRequest, Presence, REFUSED_FULL, REFUSED_USED};
use queue::pass::{Pass, PassSigner};
use queue::state::RoomState;
use queue::ticket::{Ticket, TicketSigner};
use service_kit::ids::VisitorId;
use service_kit::keys::KeyRing;
use service_kit::redis::StoreError;

/// Signs tickets and passes, and talks to the line.
#[derive(Debug)]
pub struct Visits {
    tickets: TicketSigner,
    passes: PassSigner,
    journal: Journal,
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
    /// Not given before: the join key was new.
    pub is_new: bool,
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

/// What somebody brings along who wants a number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// The same key always gets the same number.
    pub key: Option<String>,
    /// The lane, see [`queue::lane`].
    pub lane: u8,
    /// The code that opened it.
    pub code: Option<CodeUse>,
    /// What goes into the record of a draw.
    pub nonce: Option<Nonce>,
}

/// Why there is no number.
#[derive(Debug, thiserror::Error)]
pub enum JoinRefused {
    /// The code was used as often as it may be.
    #[error("the code was used as often as it may be")]
    CodeUsed,
    /// The line has no room for more people.
    #[error("the line has no room for more people")]
    Full,
    /// The store did not answer, or the room does not take numbers now.
    #[error("{0}")]
    Away(String),
}

impl From<StoreError> for JoinRefused {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Refused { code, .. } if code == REFUSED_USED => Self::CodeUsed,
            StoreError::Refused { code, .. } if code == REFUSED_FULL => Self::Full,
            _ => Self::Away(error.to_string()),
        }
    }
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
    pub fn new(ring: &KeyRing, journal: Journal) -> Self {
        Self { tickets: TicketSigner::new(ring), passes: PassSigner::new(ring), journal }
    }
    /// The ticket behind a token of this room.
    pub fn ticket(&self, token: &str, room: &Room) -> Option<Ticket> {
        self.tickets.verify(token, &room.id).ok()
    }
    /// The token of a ticket.
    pub fn token(&self, ticket: &Ticket) -> String {
        self.tickets.issue(ticket)
    }
    /// The pass behind a token of this room that is not over and whose lease was not ended.
    pub fn pass(&self, token: &str, room: &Room) -> Option<Pass> {
        self.passes.verify(token, &room.id, room.now_ms()).ok().filter(|pass| room.in_use(pass))
    }

    /// Takes a number.
    ///
    /// # Errors
    /// [`JoinRefused::Away`]: it may have happened; the same key finds the same number.
    pub async fn join(&self, room: &Room, wish: Wish) -> Result<JoinedNow, JoinRefused> {
        let visitor = VisitorId::new();
        let request = JoinRequest { visitor, key: wish.key, lane: wish.lane, code: wish.code, nonce: wish.nonce };
        let joined = room.join(request).await?;
        service_kit::failpoint!("J2.before");
        let mut ticket = Ticket {
            room: room.id.clone(),
            number: joined.number,
            place: joined.place,
            visitor: joined.visitor,
            joined_ms: joined.joined_ms,
            promise_low_ms: 0,
            promise_high_ms: 0,
            nonce: joined.nonce,
        };
        let called = joined.called_until_ms.is_some();
        if called {
            // The board is older than this call: until the next heartbeat, this is what is known.
            room.presences.put_all([(ticket.number, Presence::Called)]);
        } else if let Some(eta) = room.view(Some(&ticket)).status.and_then(|s| s.eta_seconds) {
            let ms = |seconds: u64| i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(0);
            (ticket.promise_low_ms, ticket.promise_high_ms) = (ms(eta.low), ms(eta.high));
        }
        let token = self.tickets.issue(&ticket);
        self.journal.joined(&ticket);
        Ok(JoinedNow { ticket, token, called, is_new: joined.created })
    }

    /// Claims the pass, for a browser with this fingerprint (0 = unknown). A pass that was claimed before keeps the
    /// browser of the first claim: the caller must check it (see [`crate::desk::Desk::accepts`]).
    ///
    /// # Errors
    /// [`StoreAway`]: asking again gives the same answer.
    pub async fn claim(&self, rooms: &Rooms, room: &Room, ticket: &Ticket, browser: u64) -> Result<Claimed, StoreAway> {
        let store = rooms.store().ok_or_else(|| StoreAway("not connected yet".into()))?;
        let settings = room.settings.load_full();
        // Without a board nobody knows whether the room is on hold.
        let seen = room.seen.load_full().ok_or_else(|| StoreAway("the room has not been seen yet".into()))?;
        let place = seen.board.place_of(ticket).unwrap_or(ticket.place);
        let held = seen.board.state(seen.now_ms()) == RoomState::Hold;
        let claim = store.line.claim(&settings, ticket.number, place, browser, held).await?;
        room.wake.notify_one();
        let (claimed, presence) = match claim {
            Claim::Inside { lease_until_ms, browser: first } => {
                self.journal.claimed(&room.id, ticket.number, lease_until_ms);
                if room.presences.get(ticket.number) != Some(Presence::Inside) {
                    queue::metric::record_turn(&seen.board, ticket);
                }
                let browser = if first == 0 { browser } else { first };
                (self.pass_for(room, ticket.number, &ticket.visitor, browser, lease_until_ms)?, Presence::Inside)
            }
            Claim::NotYourTurn => (Claimed::NotYourTurn, Presence::Waiting),
            Claim::Missed => (Claimed::Missed, Presence::Missed),
            Claim::Left => (Claimed::Left, Presence::Left),
        };
        service_kit::failpoint!("A2.after");
        room.presences.put_all([(ticket.number, presence)]);
        Ok(claimed)
    }

    fn pass_for(
        &self,
        room: &Room,
        number: u64,
        visitor: &VisitorId,
        browser: u64,
        expires_at_ms: i64,
    ) -> Result<Claimed, StoreAway> {
        let pass = Pass {
            room: room.id.clone(),
            visitor: visitor.clone(),
            number,
            browser,
            issued_ms: room.now_ms(),
            expires_at_ms,
        };
        let token = self.passes.issue(&pass).map_err(|e| StoreAway(e.to_string()))?;
        Ok(Claimed::Pass { pass, token })
    }

    /// Carries a lease on after activity: the longer pass, or `None` when the lease is over or cannot be longer.
    ///
    /// # Errors
    /// [`StoreAway`]: the pass in hand stays good.
    pub async fn renew(&self, rooms: &Rooms, room: &Room, pass: &Pass) -> Result<Option<(Pass, String)>, StoreAway> {
        let store = rooms.store().ok_or_else(|| StoreAway("not connected yet".into()))?;
        let settings = room.settings.load_full();
        let until_ms = store.line.renew(&settings, pass.number).await?;
        let Some(until_ms) = until_ms.filter(|ms| *ms > pass.expires_at_ms) else { return Ok(None) };
        match self.pass_for(room, pass.number, &pass.visitor, pass.browser, until_ms)? {
            Claimed::Pass { pass, token } => Ok(Some((pass, token))),
            _ => Ok(None),
        }
    }

    /// Ends a lease for good; its pass opens nothing any more.
    ///
    /// # Errors
    /// [`StoreAway`]: ending again is harmless.
    pub async fn end(&self, rooms: &Rooms, room: &Room, pass: &Pass) -> Result<(), StoreAway> {
        let store = rooms.store().ok_or_else(|| StoreAway("not connected yet".into()))?;
        let settings = room.settings.load_full();
        store.line.end(&settings, pass.number, pass.expires_at_ms).await?;
        self.journal.ended(&room.id, pass.number);
        room.wake.notify_one();
        Ok(())
    }

    /// Gives the place up.
    ///
    /// # Errors
    /// [`StoreAway`]: leaving again is harmless.
    pub async fn leave(&self, rooms: &Rooms, room: &Room, ticket: &Ticket) -> Result<(), StoreAway> {
        let store = rooms.store().ok_or_else(|| StoreAway("not connected yet".into()))?;
        let settings = room.settings.load_full();
        store.line.leave(&settings, ticket.number).await?;
        self.journal.left(&room.id, ticket.number);
        room.presences.put_all([(ticket.number, Presence::Left)]);
        Ok(())
    }
}
