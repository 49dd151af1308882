//! Leases: a call becomes one, activity carries it on, an end ends it, and a store that lost it is told of it again.

use super::{BEAT_NUMBERS_MAX, Line, REBUILD_HOLD_MS, check_number};
use crate::keys::room_keys;
use crate::metric;
use crate::reply;
use crate::settings::RoomSettings;
use crate::ticket::PLACE_MAX;
use service_kit::redis::StoreError;
use service_kit::script;

script!(
    /// Turns a call into a lease.
    CLAIM,
    "claim",
    "../scripts/claim.lua"
);
script!(
    /// Carries a lease on.
    RENEW,
    "renew",
    "../scripts/renew.lua"
);
script!(
    /// Ends a lease and its pass.
    END,
    "end",
    "../scripts/end.lua"
);
script!(
    /// Tells passes to a store that lost them.
    READMIT,
    "readmit",
    "../scripts/readmit.lua"
);

/// The answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// In; the same answer however often it is asked.
    Inside {
        /// End of the lease, by the store's clock.
        lease_until_ms: i64,
        /// The browser that claimed first, as a hash; 0 = unknown. A repeat from another one is a copied ticket.
        browser: u64,
    },
    /// Still in line.
    NotYourTurn,
    /// The claim window or the lease is over.
    Missed,
    /// Left by themselves.
    Left,
}

/// A pass that somebody has just shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassInUse {
    /// The number that it was given for.
    pub number: u64,
    /// When it ends.
    pub expires_at_ms: i64,
    /// The browser that claimed it, as a hash; 0 = unknown.
    pub browser: u64,
}

impl Line {
    /// Turns a call into a lease, for a browser with this fingerprint (0 = unknown). Repeating it gives the same lease,
    /// and the browser that was first. `held` = the room is on hold: nobody gets in.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn claim(
        &self,
        settings: &RoomSettings,
        number: u64,
        place: u64,
        browser: u64,
        held: bool,
    ) -> Result<Claim, StoreError> {
        check_number(number)?;
        let keys = room_keys!(&settings.room => room line lobby silent called inside buying missed left entered ended);
        let args = [
            self.clock_ms.to_string(),
            settings.lease_ms.to_string(),
            REBUILD_HOLD_MS.to_string(),
            settings.claim_window_ms.to_string(),
            u8::from(held).to_string(),
            number.to_string(),
            place.min(PLACE_MAX).to_string(),
            hex(browser),
        ];
        let claim = service_kit::failpoint::around("A3.before", "A3.after", self.redis.run(&CLAIM, &keys, &args));
        let (claim, fresh) = reply::claim(&claim.await?)?;
        if fresh {
            metric::left(&settings.room, "admitted", 1);
        }
        Ok(claim)
    }

    /// Carries a lease on after activity, by `lease_ms` from now but never beyond `lease_max_ms` since it began. The end
    /// of the lease, or `None` when there is none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn renew(&self, settings: &RoomSettings, number: u64) -> Result<Option<i64>, StoreError> {
        check_number(number)?;
        let keys = room_keys!(&settings.room => room inside buying entered);
        let args = [
            self.clock_ms.to_string(),
            settings.lease_ms.to_string(),
            settings.lease_max_ms.to_string(),
            number.to_string(),
        ];
        Ok(Some(self.redis.run(&RENEW, &keys, &args).await?.int()?).filter(|until_ms| *until_ms > 0))
    }

    /// Ends a lease for good; its pass, which would last until `expires_at_ms`, opens nothing any more. False when there
    /// was no lease.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn end(&self, settings: &RoomSettings, number: u64, expires_at_ms: i64) -> Result<bool, StoreError> {
        check_number(number)?;
        let keys = room_keys!(&settings.room => room inside buying entered ended);
        let args = [self.clock_ms.to_string(), expires_at_ms.max(0).to_string(), number.to_string()];
        Ok(self.redis.run(&END, &keys, &args).await?.int()? == 1)
    }

    /// Tells a store that may have lost them which passes are in use. How many leases it did not know.
    ///
    /// # Errors
    /// See [`StoreError`]; [`REFUSED_NUMBER`] before anything is sent.
    pub async fn readmit(&self, settings: &RoomSettings, passes: &[PassInUse]) -> Result<u64, StoreError> {
        passes.iter().try_for_each(|pass| check_number(pass.number))?;
        let keys = room_keys!(&settings.room => room line lobby silent called inside buying ended entered);
        let mut written = 0;
        for some in passes.chunks(BEAT_NUMBERS_MAX) {
            let mut args = vec![self.clock_ms.to_string()];
            args.extend(
                some.iter().flat_map(|pass| {
                    [pass.number.to_string(), pass.expires_at_ms.max(0).to_string(), hex(pass.browser)]
                }),
            );
            written += u64::try_from(self.redis.run(&READMIT, &keys, &args).await?.int()?).unwrap_or(0);
        }
        Ok(written)
    }
}

/// A fingerprint as the scripts keep it.
fn hex(browser: u64) -> String {
    format!("{browser:016x}")
}
