//! The fast gate: the stock of a deal in Redis, changed only by the scripts in `fast_stock/scripts`.
//!
//! It may be wiped at any moment: the ledger is the truth, the final gate refuses what this one gave
//! away wrongly, and [`fill`] builds it anew. Every script may run twice with one effect; each file's
//! header says by which operation id, who may run beside it, and what a crash leaves behind.

pub mod fill;

use ledger::OutboxEvent;
use queue::keys::RoomKeys;
use service_kit::ids::{AccountId, OrderId, RoomId, VisitorId};
use service_kit::money::Quantity;
use service_kit::redis::{Redis, Reply, StoreError};
use service_kit::script;

script!(
    /// Takes units for a shopper.
    HOLD,
    "hold",
    "fast_stock/scripts/hold.lua"
);
script!(
    /// Gives committed holds their deadlines.
    CONFIRM,
    "confirm",
    "fast_stock/scripts/confirm.lua"
);
script!(
    /// Held to sold.
    SETTLE,
    "settle",
    "fast_stock/scripts/settle.lua"
);
script!(
    /// Units back.
    RELEASE,
    "release",
    "fast_stock/scripts/release.lua"
);
script!(
    /// Free to sold when money came late, sold to free when it went back.
    MOVE_UNITS,
    "move_units",
    "fast_stock/scripts/move_units.lua"
);
script!(
    /// Names overdue holds.
    SWEEP,
    "sweep",
    "fast_stock/scripts/sweep.lua"
);
script!(
    /// Reads the totals.
    AUDIT,
    "audit",
    "fast_stock/scripts/audit.lua"
);

/// Most orders that one confirm names.
pub const CONFIRM_MAX: usize = 1_000;

/// A shopper asks for units.
#[derive(Debug, Clone)]
pub struct HoldAsk<'a> {
    /// The order's id, should it succeed.
    pub order: OrderId,
    /// For whom.
    pub account: AccountId,
    /// The intention's name; with the account it is the operation id.
    pub key: &'a str,
    /// Units.
    pub quantity: Quantity,
    /// The visitor's lease number.
    pub lease: u64,
    /// Whose pass: with the lease number it names one pass, also after a store that lost everything gave the number again.
    pub visitor: &'a VisitorId,
    /// How long the hold may wait for its commit.
    pub confirm_ms: u32,
}

/// What the fast gate said. `known`: the account held here before, so the ledger may remember the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FastReply {
    /// Units are taken (or were, by the same operation): commit this order under this epoch.
    Taken {
        /// The order that has the units.
        order: OrderId,
        /// Epoch of the stock that they came from.
        epoch: i64,
    },
    /// The key belongs to another quantity.
    KeyReused,
    /// There is no stock here now: flushed, or being filled.
    NotLoaded,
    /// Outside the deal's window, by the clock of Redis.
    NotOpen {
        /// See the type.
        known: bool,
    },
    /// The pass has served another account.
    Stranger {
        /// See the type.
        known: bool,
    },
    /// The limit per person.
    PerUserLimit {
        /// See the type.
        known: bool,
    },
    /// Not enough units.
    SoldOut {
        /// See the type.
        known: bool,
    },
}

/// What a settle or release did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was done now.
    Done,
    /// It was done before, or argument and state say that nothing is to be done.
    Before,
    /// The order is not in this filling.
    Unknown,
    /// There is no stock of this room in Redis.
    Absent,
    /// The stock is being filled, or has not heard what comes before this: come again.
    Loading,
}

/// The totals of a room's stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Free units.
    pub available: i64,
    /// Held units.
    pub held: i64,
    /// Sold units.
    pub sold: i64,
    /// All units.
    pub total: i64,
    /// Epoch of the filling.
    pub epoch: i64,
    /// Orders that wait for their commit.
    pub unconfirmed: i64,
}

/// What stands in Redis for a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audit {
    /// Nothing.
    Absent,
    /// A filling that is not finished.
    Loading,
    /// A stock.
    Loaded {
        /// Its totals.
        totals: Totals,
        /// The server that has it, by the name that it gives itself when it starts.
        server: String,
    },
}

/// A hold whose deadline is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    /// Its order.
    pub order: OrderId,
    /// Whether the ledger has confirmed it.
    pub is_confirmed: bool,
}

/// The stock of all rooms. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FastStock {
    pub(crate) redis: Redis,
}

/// The keys of every script, in their one order.
pub(crate) fn keys(room: &RoomId) -> [String; 10] {
    let k = RoomKeys::new(room);
    [k.stock(), k.holds(), k.units(), k.bought(), k.ops(), k.inside(), k.buying(), k.room(), k.entered(), k.ended()]
}

impl FastStock {
    /// Over this Redis.
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }

    /// Takes units, or says why not. A lost reply is asked for once more: the operation id makes it safe.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] when Redis is silent: the units may be taken; the same call finds them again.
    pub async fn hold(&self, room: &RoomId, ask: &HoldAsk<'_>) -> Result<FastReply, StoreError> {
        let args = [
            ask.order.to_string(),
            ask.account.to_string(),
            ask.key.to_owned(),
            ask.quantity.get().to_string(),
            ask.lease.to_string(),
            ask.confirm_ms.to_string(),
            ask.visitor.to_string(),
        ];
        let reply = match self.redis.run(&HOLD, &keys(room), &args).await {
            Err(StoreError::Unknown(_)) => self.redis.run(&HOLD, &keys(room), &args).await?,
            other => other?,
        };
        let known = || reply.at(1).and_then(Reply::int).map(|n| n == 1);
        Ok(match reply.at(0)?.text()?.as_str() {
            "held" | "again" => FastReply::Taken { order: order_id(reply.at(1)?)?, epoch: reply.at(2)?.int()? },
            "reused" => FastReply::KeyReused,
            "not_loaded" => FastReply::NotLoaded,
            "not_open" => FastReply::NotOpen { known: known()? },
            "stranger" => FastReply::Stranger { known: known()? },
            "limit" => FastReply::PerUserLimit { known: known()? },
            "sold_out" => FastReply::SoldOut { known: known()? },
            _ => return Err(StoreError::Shape("hold answered something new")),
        })
    }

    /// Gives committed holds their real deadlines. At most [`CONFIRM_MAX`] at once.
    ///
    /// # Errors
    /// See [`StoreError`]; repeat, or leave it to the sweeper.
    pub async fn confirm(&self, room: &RoomId, holds: &[(OrderId, i64)]) -> Result<(), StoreError> {
        for part in holds.chunks(CONFIRM_MAX) {
            let args: Vec<String> = part.iter().flat_map(|(order, at)| [order.to_string(), at.to_string()]).collect();
            self.redis.run(&CONFIRM, &keys(room), &args).await?;
        }
        Ok(())
    }

    /// Turns held units into sold ones, once per order, and frees the place inside. With `pass_ms` (how long a pass may
    /// still last) the visitor's pass is over too.
    ///
    /// # Errors
    /// See [`StoreError`]; repeat.
    pub async fn settle(
        &self,
        room: &RoomId,
        order: OrderId,
        lease_number: Option<i64>,
        pass_ms: Option<u32>,
    ) -> Result<Applied, StoreError> {
        let args = [order.to_string(), pass_ms.unwrap_or(0).to_string(), lease_number.unwrap_or(0).to_string()];
        applied(&self.redis.run(&SETTLE, &keys(room), &args).await?)
    }

    /// Moves units of an order after its hold has ended, once per event: free to sold (`is_back` false) or sold to free.
    ///
    /// # Errors
    /// See [`StoreError`]; repeat.
    pub async fn move_units(&self, room: &RoomId, event: &OutboxEvent, is_back: bool) -> Result<Applied, StoreError> {
        let args = [
            event.id.to_string(),
            event.epoch.to_string(),
            event.order.to_string(),
            event.account.to_string(),
            event.quantity.to_string(),
            if is_back { "returned" } else { "paid_late" }.to_owned(),
        ];
        applied(&self.redis.run(&MOVE_UNITS, &keys(room), &args).await?)
    }

    /// Gives units back, once per order, whether they were held or sold.
    ///
    /// # Errors
    /// See [`StoreError`]; repeat.
    pub async fn release(&self, room: &RoomId, order: OrderId) -> Result<Applied, StoreError> {
        applied(&self.redis.run(&RELEASE, &keys(room), &[order.to_string(), "any".to_owned()]).await?)
    }

    /// Gives the units of a hold back that the ledger refused; not if it was confirmed, or offered again, meanwhile.
    ///
    /// # Errors
    /// See [`StoreError`]; repeat, or leave it to the sweeper.
    pub async fn release_refused(&self, room: &RoomId, order: OrderId) -> Result<Applied, StoreError> {
        applied(&self.redis.run(&RELEASE, &keys(room), &[order.to_string(), "refused".to_owned()]).await?)
    }

    /// Gives the units of an overdue hold back that the ledger does not know; not if it was confirmed, or offered again,
    /// meanwhile.
    ///
    /// # Errors
    /// See [`StoreError`]; repeat.
    pub async fn release_overdue(&self, room: &RoomId, order: OrderId) -> Result<Applied, StoreError> {
        applied(&self.redis.run(&RELEASE, &keys(room), &[order.to_string(), "overdue".to_owned()]).await?)
    }

    /// Holds that are overdue by more than `grace_ms`, at most `limit` (up to 1000).
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn overdue(&self, room: &RoomId, grace_ms: u32, limit: u32) -> Result<Vec<Overdue>, StoreError> {
        let reply = self.redis.run(&SWEEP, &keys(room), &[grace_ms.to_string(), limit.to_string()]).await?;
        reply
            .list()?
            .chunks(2)
            .map(|pair| match pair {
                [order, state] => Ok(Overdue { order: order_id(order)?, is_confirmed: state.text()? == "h" }),
                _ => Err(StoreError::Shape("sweep answers in pairs")),
            })
            .collect()
    }

    /// The totals at one instant.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn audit(&self, room: &RoomId) -> Result<Audit, StoreError> {
        let reply = self.redis.run::<&str>(&AUDIT, &keys(room), &[]).await?;
        let int = |i: usize| reply.at(i).and_then(Reply::int);
        Ok(match reply.at(0)?.text()?.as_str() {
            "absent" => Audit::Absent,
            "loading" => Audit::Loading,
            "loaded" => Audit::Loaded {
                totals: Totals {
                    available: int(1)?,
                    held: int(2)?,
                    sold: int(3)?,
                    total: int(4)?,
                    epoch: int(5)?,
                    unconfirmed: int(6)?,
                },
                server: reply.at(9)?.text()?,
            },
            _ => return Err(StoreError::Shape("audit answered something new")),
        })
    }

    /// Deletes a room's stock, long after its deal has ended. The waiting room's own keys stay.
    ///
    /// # Errors
    /// See [`StoreError`]; repeat.
    pub async fn forget(&self, room: &RoomId) -> Result<(), StoreError> {
        let [stock, holds, units, bought, ops, ..] = keys(room);
        self.redis.command("UNLINK", &[&stock, &holds, &units, &bought, &ops]).await.map(|_| ())
    }
}

fn order_id(reply: &Reply) -> Result<OrderId, StoreError> {
    reply.text()?.parse().map_err(|_| StoreError::Shape("an order id was expected"))
}

fn applied(reply: &Reply) -> Result<Applied, StoreError> {
    Ok(match reply.text()?.as_str() {
        "done" => Applied::Done,
        "already" | "confirmed" => Applied::Before,
        "unknown" => Applied::Unknown,
        "absent" => Applied::Absent,
        "loading" => Applied::Loading,
        _ => return Err(StoreError::Shape("a script answered something new")),
    })
}
