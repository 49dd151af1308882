//! What the scripts must do, in plain Rust.

use deal_service::fast_stock::{Applied, FastReply};
use service_kit::ids::{AccountId, OrderId, VisitorId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum State {
    Unconfirmed,
    Held,
    Sold,
}

#[derive(Debug, Clone)]
pub struct Unit {
    pub account: AccountId,
    pub key: String,
    pub quantity: i64,
    pub lease: u64,
    pub pass: String,
    pub state: State,
    /// Of two offers to the ledger the other may succeed.
    pub is_offered_again: bool,
}

#[derive(Debug)]
pub struct Model {
    pub available: i64,
    pub held: i64,
    pub sold: i64,
    pub limit: i64,
    pub units: BTreeMap<OrderId, Unit>,
    pub ops: BTreeMap<(AccountId, String), OrderId>,
    pub bought: BTreeMap<AccountId, i64>,
    /// By number and visitor.
    pub holders: BTreeMap<String, AccountId>,
    pub inside: BTreeSet<u64>,
    pub buying: BTreeSet<u64>,
    pub ended: BTreeSet<u64>,
    /// Orders without a unit here that were sold late: whose, and how many units.
    pub late: BTreeMap<OrderId, (AccountId, i64)>,
    /// Events that moved units.
    pub events: BTreeSet<i64>,
}

impl Model {
    pub fn hold(
        &mut self,
        order: OrderId,
        account: AccountId,
        key: &str,
        quantity: i64,
        (lease, visitor): (u64, &VisitorId),
        epoch: i64,
    ) -> FastReply {
        let op = (account, key.to_owned());
        if let Some((prior, unit)) = self.ops.get(&op).and_then(|prior| Some((prior, self.units.get_mut(prior)?))) {
            // A sold order may have given some back; whether it once was as many, the ledger knows.
            return if unit.quantity == quantity || unit.state == State::Sold {
                unit.is_offered_again |= unit.state == State::Unconfirmed;
                FastReply::Taken { order: *prior, epoch }
            } else {
                FastReply::KeyReused
            };
        }
        let known = self.bought.contains_key(&account);
        let has = self.bought.get(&account).copied().unwrap_or(0);
        let pass = format!("{lease}:{visitor}");
        if self.holders.get(&pass).is_some_and(|first| *first != account) {
            return FastReply::Stranger { known };
        }
        if has + quantity > self.limit {
            return FastReply::PerUserLimit { known };
        }
        if quantity > self.available {
            return FastReply::SoldOut { known };
        }
        self.available -= quantity;
        self.held += quantity;
        self.bought.insert(account, has + quantity);
        self.ops.insert(op, order);
        self.holders.entry(pass.clone()).or_insert(account);
        self.units.insert(
            order,
            Unit {
                account,
                key: key.to_owned(),
                quantity,
                lease,
                pass,
                state: State::Unconfirmed,
                is_offered_again: false,
            },
        );
        if self.inside.remove(&lease) {
            self.buying.insert(lease);
        }
        FastReply::Taken { order, epoch }
    }

    pub fn confirm(&mut self, order: OrderId) {
        if let Some(unit) = self.units.get_mut(&order)
            && unit.state == State::Unconfirmed
        {
            unit.state = State::Held;
        }
    }

    pub fn settle(&mut self, order: OrderId, number: Option<i64>, ends_pass: bool) -> Applied {
        let Some(unit) = self.units.get_mut(&order) else {
            if let Some(number) = number {
                self.leave(number.try_into().unwrap(), ends_pass);
            }
            return Applied::Unknown;
        };
        if unit.state == State::Sold {
            return Applied::Before;
        }
        unit.state = State::Sold;
        self.held -= unit.quantity;
        self.sold += unit.quantity;
        let lease = unit.lease;
        self.leave(lease, ends_pass);
        Applied::Done
    }

    fn leave(&mut self, lease: u64, ends_pass: bool) {
        self.inside.remove(&lease);
        self.buying.remove(&lease);
        if ends_pass {
            self.ended.insert(lease);
        }
    }

    /// Money came after the hold had ended.
    pub fn paid_late(&mut self, event: i64, order: OrderId, account: AccountId, quantity: i64) -> Applied {
        if !self.events.insert(event) {
            return Applied::Before;
        }
        self.available -= quantity;
        self.sold += quantity;
        *self.bought.entry(account).or_default() += quantity;
        self.late.insert(order, (account, quantity));
        Applied::Done
    }

    /// Money went back: not before the payment has been told.
    pub fn returned(&mut self, event: i64, order: OrderId, account: AccountId, quantity: i64) -> Applied {
        if self.events.contains(&event) {
            return Applied::Before;
        }
        if quantity > self.sold || self.units.get(&order).is_some_and(|unit| unit.state != State::Sold) {
            return Applied::Loading;
        }
        self.events.insert(event);
        self.available += quantity;
        self.sold -= quantity;
        *self.bought.get_mut(&account).unwrap() -= quantity;
        if let Some(unit) = self.units.get_mut(&order) {
            unit.quantity -= quantity;
        }
        self.units.retain(|_, unit| unit.quantity > 0);
        if let Some((_, rest)) = self.late.get_mut(&order) {
            *rest -= quantity;
        }
        self.late.retain(|_, (_, rest)| *rest > 0);
        Applied::Done
    }

    /// `is_refused`: only what was offered once; what is overdue the script alone can tell.
    pub fn release(&mut self, order: OrderId, is_refused: bool) -> Applied {
        let Some(unit) = self.units.get(&order).cloned() else { return Applied::Unknown };
        if is_refused && (unit.state != State::Unconfirmed || unit.is_offered_again) {
            return Applied::Before;
        }
        self.units.remove(&order);
        self.ops.remove(&(unit.account, unit.key));
        *self.bought.get_mut(&unit.account).unwrap() -= unit.quantity;
        self.available += unit.quantity;
        if unit.state == State::Sold {
            self.sold -= unit.quantity;
            return Applied::Done;
        }
        self.held -= unit.quantity;
        let holds_more = self.units.values().any(|u| u.lease == unit.lease && u.state != State::Sold);
        if unit.state == State::Unconfirmed {
            self.holders.remove(&unit.pass);
        }
        if !holds_more && self.buying.remove(&unit.lease) {
            self.inside.insert(unit.lease);
        }
        Applied::Done
    }
}
