//! Filling the fast stock from the ledger: at the start, after a flush, and when the sums disagree.
//!
//! Steps: 1. `load_begin` closes the room's stock under a token. 2. The ledger's snapshot is read; reading
//! raises the epoch. 3. `load_rows` writes its orders and allowances in portions. 4. `load_finish` opens it.
//! There is no undo. A crash after 1 leaves the room closed to holds until another filling takes over
//! ([`TAKE_OVER_MS`]); a crash after 2 as well, with an epoch that nobody uses.
//! Who may run beside it: holds (refused while it is closed; those taken before are either in the snapshot
//! or refused by the ledger for their old epoch), settle and release (told to come again, so no event falls
//! between snapshot and filling), another filling (only the last token finishes).

use super::{FastStock, keys};
use ledger::{DealSnapshot, Ledger, LedgerError};
use service_kit::ids::{DealId, RoomId};
use service_kit::planted;
use service_kit::redis::{Reply, StoreError};
use service_kit::script;

script!(
    /// Closes a stock for a filling.
    BEGIN,
    "load_begin",
    "scripts/load_begin.lua"
);
script!(
    /// Writes a portion of a filling.
    ROWS,
    "load_rows",
    "scripts/load_rows.lua"
);
script!(
    /// Opens a filled stock.
    FINISH,
    "load_finish",
    "scripts/load_finish.lua"
);

/// After how long an unfinished filling may be taken over.
pub const TAKE_OVER_MS: u32 = 10_000;
/// Rows of one portion: a script of about a millisecond.
const ROWS_MAX: usize = 500;

/// What came of a filling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filled {
    /// The stock is open under this epoch.
    Loaded {
        /// The new epoch.
        epoch: i64,
        /// The server that has it, as in [`Audit::Loaded`](super::Audit::Loaded).
        server: String,
    },
    /// Somebody else fills it, or has.
    Elsewhere,
    /// The ledger has no such deal.
    NoDeal,
}

/// Why a filling stopped half-way. The next one starts from the beginning.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// Redis.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// PostgreSQL.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl FastStock {
    /// Fills the stock of `deal`. `seen_epoch` is the epoch that the caller found wrong, `None` when there
    /// was no stock: if another process has filled it since, nothing is done.
    ///
    /// # Errors
    /// See [`FillError`].
    pub async fn fill(
        &self,
        ledger: &Ledger,
        deal: DealId,
        seen_epoch: Option<i64>,
        token: &str,
    ) -> Result<Filled, FillError> {
        let room = RoomId::of_deal(deal);
        let keys = keys(&room);
        let seen = seen_epoch.map_or_else(String::new, |e| e.to_string());
        let begun = self.redis.run(&BEGIN, &keys, &[token.to_owned(), seen, TAKE_OVER_MS.to_string()]).await?;
        if begun.text()? != "begun" {
            return Ok(Filled::Elsewhere);
        }
        let Some(snapshot) = ledger.load_deal(deal).await? else {
            self.forget(&room).await?;
            return Ok(Filled::NoDeal);
        };
        if !self.write_rows(&keys, &snapshot, token).await? {
            return Ok(Filled::Elsewhere);
        }
        let d = &snapshot.deal;
        let held = if planted!("rebuild-forgets-holds") { 0 } else { d.held };
        let available = d.stock - held - d.sold;
        let args = [d.epoch, available, held, d.sold, d.stock, d.starts_at_ms, d.ends_at_ms, d.per_user_limit];
        let args: Vec<String> = std::iter::once(token.to_owned()).chain(args.iter().map(i64::to_string)).collect();
        let finished = self.redis.run(&FINISH, &keys, &args).await?;
        Ok(match finished.at(0)?.text()?.as_str() {
            "loaded" => Filled::Loaded { epoch: d.epoch, server: finished.at(1)?.text()? },
            _ => Filled::Elsewhere,
        })
    }

    /// Whether all rows were taken; `false` when this filling was overtaken.
    async fn write_rows(&self, keys: &[String], snapshot: &DealSnapshot, token: &str) -> Result<bool, StoreError> {
        let mut portions: Vec<Vec<String>> = Vec::new();
        let holding = if planted!("rebuild-forgets-holds") { &[][..] } else { &snapshot.holding };
        for part in holding.chunks(ROWS_MAX) {
            let mut args = vec![token.to_owned(), "orders".to_owned()];
            args.extend(part.iter().flat_map(|o| {
                [
                    o.order.to_string(),
                    o.account.to_string(),
                    o.quantity.to_string(),
                    o.lease_number.to_string(),
                    o.hold_expires_at_ms.to_string(),
                ]
            }));
            portions.push(args);
        }
        let bought = if planted!("rebuild-forgets-counts") { &[][..] } else { &snapshot.bought };
        for part in bought.chunks(ROWS_MAX) {
            let mut args = vec![token.to_owned(), "bought".to_owned()];
            args.extend(part.iter().flat_map(|(account, units)| [account.to_string(), units.to_string()]));
            portions.push(args);
        }
        for args in portions {
            if self.redis.run(&ROWS, keys, &args).await? != Reply::Text("taken".into()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
