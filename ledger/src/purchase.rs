//! The purchase: what may happen to an order and its payment, and what follows. Pure: no clock, no store. (One long file: the
//! tables of edges, the events and the one function that judges them belong side by side.)
//!
//! Every event goes through here, whoever brings it: the API, the worker, a webhook, the reaper, the reconciliation,
//! an operator. [`step`] judges the order as it stands under its lock; `crate::purchase_store` writes what it says.
//! The database refuses every edge that is not in [`ORDER_EDGES`] and [`PAYMENT_EDGES`], whatever the code does.
//! The picture is in `docs/purchase.md`.
//!
//! Three rules above all:
//! 1. Money that arrives is never refused. It buys what was ordered, or it goes back, or it waits for an operator
//!    in `quarantined`; the units of the order stay where they are meanwhile.
//! 2. Units move with a step and only once: each step says where they are afterwards, not how far they move.
//! 3. What was given back never passes what was captured, whoever asks.

use crate::order::OrderState;
use crate::outbox::OutboxKind;
use crate::payment::{Ended, PaymentState};
use serde::Serialize;
use service_kit::money::Money;
use service_kit::planted;

/// Every step of an order that there is.
pub const ORDER_EDGES: &[(OrderState, OrderState)] = {
    use OrderState::*;
    &[
        (Held, Paying),
        (Held, Released),
        (Paying, Paid),
        (Paying, Released),
        (Paying, Quarantined),
        (Released, Paid),
        (Released, Refunding),
        (Released, Quarantined),
        (Paid, Refunding),
        (Paid, Quarantined),
        (Refunding, Refunded),
        (Refunding, PartlyRefunded),
        (Refunding, Paid),
        (Refunding, Quarantined),
        (PartlyRefunded, Refunding),
        (PartlyRefunded, Quarantined),
        (Refunded, Quarantined),
        (Quarantined, Paying),
        (Quarantined, Paid),
        (Quarantined, Released),
        (Quarantined, Refunding),
        (Quarantined, Refunded),
    ]
};

/// Every step of a payment that there is. An ended payment has one: money that arrives after all.
pub const PAYMENT_EDGES: &[(PaymentState, PaymentState)] = {
    use PaymentState::*;
    &[
        (Requested, Ready),
        (Requested, Captured),
        (Requested, Failed),
        (Requested, Cancelled),
        (Requested, Expired),
        (Ready, Authorized),
        (Ready, Captured),
        (Ready, Failed),
        (Ready, Cancelled),
        (Ready, Expired),
        (Authorized, Confirming),
        (Authorized, Unknown),
        (Authorized, Captured),
        (Authorized, Failed),
        (Authorized, Cancelled),
        (Authorized, Expired),
        (Confirming, Authorized),
        (Confirming, Unknown),
        (Confirming, Waiting),
        (Confirming, Captured),
        (Confirming, Failed),
        (Confirming, Cancelled),
        (Confirming, Expired),
        (Unknown, Authorized),
        (Unknown, Waiting),
        (Unknown, Captured),
        (Unknown, Failed),
        (Unknown, Cancelled),
        (Unknown, Expired),
        (Waiting, Captured),
        (Waiting, Unknown),
        (Waiting, Failed),
        (Waiting, Cancelled),
        (Waiting, Expired),
        (Failed, Captured),
        (Cancelled, Captured),
        (Expired, Captured),
    ]
};

/// The reason of an order that an operator has ended although its figures differ.
const SETTLED_BY_OPERATOR: &str = "settled_by_operator";

/// Whose hand a step was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Actor {
    Shopper,
    Merchant,
    Operator,
    Service,
    Worker,
    Webhook,
    Reaper,
    Reconciliation,
}

impl Actor {
    /// The word in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shopper => "shopper",
            Self::Merchant => "merchant",
            Self::Operator => "operator",
            Self::Service => "service",
            Self::Worker => "worker",
            Self::Webhook => "webhook",
            Self::Reaper => "reaper",
            Self::Reconciliation => "reconciliation",
        }
    }
}

/// An order as it stands, with its payment.
#[derive(Debug, Clone, PartialEq)]
pub struct Purchase {
    /// Where the order stands.
    pub state: OrderState,
    /// Why it came there, e.g. `cancelled_by_shopper`.
    pub reason: Option<String>,
    /// Where its payment stands, if there is one.
    pub payment: Option<PaymentState>,
    /// Units ordered.
    pub quantity: i64,
    /// Units that are held for it: 0 or all.
    pub held_units: i64,
    /// Units that are the shopper's.
    pub sold_units: i64,
    /// What it costs.
    pub amount: Money,
    /// What the provider took, in minor units of the same currency.
    pub captured_minor: i64,
    /// What went back for certain, in minor units.
    pub refunded_minor: i64,
    /// The refund that runs, if one does.
    pub refund: Option<RefundPart>,
    /// When a hold ends by itself, in ms.
    pub hold_expires_at_ms: i64,
    /// When it was paid, in ms.
    pub paid_at_ms: Option<i64>,
    /// How long after that the shopper may ask for the money alone, in ms.
    pub shopper_refund_ms: i64,
}

/// A refund's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefundPart {
    /// Money, in minor units.
    pub amount_minor: i64,
    /// Units that come back with it. Money alone brings none.
    pub units: i64,
}

/// What is free besides this order: asked under the deal's lock when money arrives late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Units of the deal that nobody holds or has.
    pub free_units: i64,
    /// Units that this person may still take.
    pub allowance_units: i64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The shopper wants to pay.
    PaymentRequested,
    /// The hold's time is over.
    HoldExpired,
    /// The shopper does not want it any more.
    CancelRequested,
    /// The provider has the money.
    Captured {
        /// How much.
        money: Money,
        /// What is free, when the order had ended.
        room: Room,
    },
    /// The payment ended without money.
    Ended(Ended),
    /// A figure of the provider is not ours: amount, currency or order.
    FiguresDiffer,
    /// Somebody wants money back.
    RefundRequested {
        /// Who; a shopper only within the deal's time.
        by: Actor,
        /// How much in minor units; `None` = all that is left.
        amount_minor: Option<i64>,
        /// Units that come back; `None` = all with all the money, else none.
        units: Option<i64>,
    },
    /// The money of the running refund is back.
    RefundDone,
    /// The provider does not give it back.
    RefundRefused,
    /// The provider had given it back and took that back: the shopper has nothing.
    RefundReversed(RefundPart),
    /// Operator: ask the provider again about a quarantined order.
    AskAgain,
    /// Operator: no money is at the provider, or it went back there; the order ends.
    CloseWithoutMoney,
    /// Operator: the provider has this money, whatever the figures were; give it back.
    GiveBack {
        /// How much the provider has.
        captured_minor: i64,
    },
}

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The order's next state.
    pub order: OrderState,
    /// The payment's next state, when it moves.
    pub payment: Option<PaymentState>,
    /// What the provider has taken by then, in minor units.
    pub captured_minor: i64,
    /// Units held afterwards.
    pub held_units: i64,
    /// Units sold afterwards.
    pub sold_units: i64,
    /// The order's new reason, when it has one.
    pub reason: Option<&'static str>,
    /// A refund to open.
    pub open_refund: Option<RefundPart>,
    /// What Redis hears, with the number of units that move.
    pub outbox: Option<(OutboxKind, i64)>,
}

/// Why an event has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has had its effect before.
    #[error("it is so already")]
    Already,
    /// Not in this state.
    #[error("not while the order is {}", .0.as_str())]
    NotNow(OrderState),
    /// The shopper's own time for it is over, or the deal gives none.
    #[error("the time in which a shopper may ask is over")]
    TooLate,
    /// More money than is left of the payment, or none.
    #[error("between 1 and {left_minor} minor units are left")]
    Amount {
        /// What is left, in minor units.
        left_minor: i64,
    },
    /// More units than the shopper has.
    #[error("at most {left_units} units are left")]
    Units {
        /// What is left.
        left_units: i64,
    },
}

impl Purchase {
    /// Money that could still go back, in minor units.
    pub fn refundable_minor(&self) -> i64 {
        let running = self.refund.map_or(0, |r| r.amount_minor);
        self.captured_minor.saturating_sub(self.refunded_minor).saturating_sub(running).max(0)
    }

    /// Whether an operator has ended it, knowing that the figures differ: they are no news.
    fn is_settled_by_operator(&self) -> bool {
        matches!(self.state, OrderState::Released | OrderState::Refunded)
            && self.reason.as_deref() == Some(SETTLED_BY_OPERATOR)
    }

    /// Stays where it is, with its units.
    fn to(&self, order: OrderState) -> Step {
        Step {
            order,
            payment: None,
            captured_minor: self.captured_minor,
            held_units: self.held_units,
            sold_units: self.sold_units,
            reason: None,
            open_refund: None,
            outbox: None,
        }
    }

    /// Ends without money: what was held is free.
    fn released(&self, reason: &'static str) -> Step {
        let freed = self.held_units;
        Step {
            held_units: 0,
            reason: Some(reason),
            outbox: (freed > 0 && !planted!("release-is-not-told")).then_some((OutboxKind::OrderReleased, freed)),
            ..self.to(OrderState::Released)
        }
    }

    fn quarantined(&self, reason: &'static str) -> Step {
        Step { reason: Some(reason), ..self.to(OrderState::Quarantined) }
    }
}

/// What follows from `event`, or why nothing does. The answer's state is a successor of `now.state` in [`ORDER_EDGES`].
///
/// # Errors
/// [`Refusal`]: nothing is to be written.
pub fn step(now: &Purchase, event: &Event, now_ms: i64) -> Result<Step, Refusal> {
    use OrderState::*;
    match event {
        Event::PaymentRequested => match now.state {
            Held if now.hold_expires_at_ms > now_ms => {
                Ok(Step { payment: Some(PaymentState::Requested), ..now.to(Paying) })
            }
            Paying => Err(Refusal::Already),
            state => Err(Refusal::NotNow(state)),
        },
        Event::HoldExpired => match now.state {
            Held if now.hold_expires_at_ms <= now_ms => Ok(now.released("hold_expired")),
            Released => Err(Refusal::Already),
            state => Err(Refusal::NotNow(state)),
        },
        Event::CancelRequested => cancel(now),
        Event::Captured { money, room } => captured(now, *money, *room),
        Event::Ended(how) => ended(now, *how),
        Event::FiguresDiffer => match now.state {
            _ if now.is_settled_by_operator() => Err(Refusal::Already),
            Paying | Released | Paid | PartlyRefunded | Refunded => Ok(now.quarantined("figures_differ")),
            Quarantined => Err(Refusal::Already),
            // While money is on its way back, the figures differ for moments: look again afterwards.
            state @ (Held | Refunding) => Err(Refusal::NotNow(state)),
        },
        Event::RefundRequested { by, amount_minor, units } => refund_requested(now, *by, *amount_minor, *units, now_ms),
        Event::RefundDone => refund_done(now),
        Event::RefundRefused => refund_refused(now),
        Event::RefundReversed(part) => match now.state {
            // The units went back and may be sold again: nobody takes them from the next buyer.
            Refunded | PartlyRefunded if part.amount_minor <= now.refunded_minor => {
                Ok(now.quarantined("refund_reversed"))
            }
            // For something else, or for another refund of it.
            Quarantined => Err(Refusal::Already),
            state => Err(Refusal::NotNow(state)),
        },
        Event::AskAgain => match (now.state, now.payment) {
            (Quarantined, Some(PaymentState::Captured)) => Err(Refusal::NotNow(Quarantined)),
            (Quarantined, Some(_)) if now.held_units > 0 => Ok(Step { reason: Some("asked_again"), ..now.to(Paying) }),
            (state, _) => Err(Refusal::NotNow(state)),
        },
        Event::CloseWithoutMoney => close_without_money(now),
        Event::GiveBack { captured_minor } => give_back(now, *captured_minor),
    }
}

fn cancel(now: &Purchase) -> Result<Step, Refusal> {
    use PaymentState::{Ready, Requested};
    match (now.state, now.payment) {
        (OrderState::Held, _) => Ok(now.released("cancelled_by_shopper")),
        // Money moves only by our own confirm call: before it, ending the payment is safe.
        (OrderState::Paying, Some(Requested | Ready)) => {
            Ok(Step { payment: Some(PaymentState::Cancelled), ..now.released("cancelled_by_shopper") })
        }
        (OrderState::Released, _) => Err(Refusal::Already),
        (state, _) => Err(Refusal::NotNow(state)),
    }
}

fn captured(now: &Purchase, money: Money, room: Room) -> Result<Step, Refusal> {
    use OrderState::*;
    if now.payment == Some(PaymentState::Captured) {
        let same = money.currency() == now.amount.currency() && money.minor() == now.captured_minor;
        return match now.state {
            _ if same || now.is_settled_by_operator() => Err(Refusal::Already),
            Quarantined => Err(Refusal::Already),
            Refunding => Err(Refusal::NotNow(Refunding)),
            _ => Ok(now.quarantined("figures_differ")),
        };
    }
    if money != now.amount {
        return match now.state {
            _ if now.is_settled_by_operator() => Err(Refusal::Already),
            Quarantined => Err(Refusal::Already),
            Held => Err(Refusal::NotNow(Held)),
            _ => Ok(now.quarantined("figures_differ")),
        };
    }
    let taken = Step { payment: Some(PaymentState::Captured), captured_minor: money.minor(), ..now.to(Paid) };
    let paid = Step { held_units: 0, sold_units: now.quantity, ..taken.clone() };
    match now.state {
        Paying => Ok(Step { outbox: Some((OutboxKind::OrderPaid, now.quantity)), ..paid }),
        Quarantined if now.held_units > 0 => {
            Ok(Step { outbox: Some((OutboxKind::OrderPaid, now.quantity)), reason: Some("cleared"), ..paid })
        }
        // Late money. The shopper who turned back wants no goods; everybody else gets them if there are any.
        Released | Quarantined => {
            let wanted = now.reason.as_deref() != Some("cancelled_by_shopper");
            let fits = room.free_units >= now.quantity && room.allowance_units >= now.quantity;
            if wanted && fits {
                Ok(Step { reason: Some("paid_late"), outbox: Some((OutboxKind::OrderPaidLate, now.quantity)), ..paid })
            } else {
                Ok(Step {
                    order: Refunding,
                    reason: Some("late_money_returned"),
                    open_refund: Some(RefundPart { amount_minor: money.minor(), units: 0 }),
                    ..taken
                })
            }
        }
        state => Err(Refusal::NotNow(state)),
    }
}

fn ended(now: &Purchase, how: Ended) -> Result<Step, Refusal> {
    let (payment, reason) = how.step();
    match (now.state, now.payment) {
        (OrderState::Paying, Some(live)) if PAYMENT_EDGES.contains(&(live, payment)) => {
            Ok(Step { payment: Some(payment), ..now.released(reason) })
        }
        (OrderState::Released, _) => Err(Refusal::Already),
        // A late failure never overwrites success.
        (state, _) => Err(Refusal::NotNow(state)),
    }
}

fn refund_requested(
    now: &Purchase,
    by: Actor,
    amount_minor: Option<i64>,
    units: Option<i64>,
    now_ms: i64,
) -> Result<Step, Refusal> {
    match now.state {
        OrderState::Paid | OrderState::PartlyRefunded => {}
        OrderState::Refunding | OrderState::Refunded => return Err(Refusal::Already),
        state => return Err(Refusal::NotNow(state)),
    }
    if by == Actor::Shopper {
        // Free goods have no payment time to count from; they are given back while the rule allows any time at all.
        let until_ms = now.paid_at_ms.unwrap_or(now_ms).saturating_add(now.shopper_refund_ms);
        if now.shopper_refund_ms == 0 || now_ms > until_ms {
            return Err(Refusal::TooLate);
        }
    }
    let left_minor = now.refundable_minor();
    let amount = amount_minor.unwrap_or(left_minor);
    // What cost nothing can still be given back whole.
    let nothing = now.captured_minor == 0 && amount == 0;
    if !nothing && !(1..=left_minor).contains(&amount) {
        return Err(Refusal::Amount { left_minor });
    }
    let whole = amount == left_minor;
    let back = units.unwrap_or(if whole { now.sold_units } else { 0 });
    // With the last of the money go the last of the units.
    if !(0..=now.sold_units).contains(&back) || (whole && back != now.sold_units) {
        return Err(Refusal::Units { left_units: now.sold_units });
    }
    Ok(Step {
        reason: Some("refund_requested"),
        open_refund: Some(RefundPart { amount_minor: amount, units: back }),
        ..now.to(OrderState::Refunding)
    })
}

fn refund_done(now: &Purchase) -> Result<Step, Refusal> {
    let (OrderState::Refunding, Some(part)) = (now.state, now.refund) else {
        return Err(Refusal::NotNow(now.state));
    };
    let whole = now.refunded_minor.saturating_add(part.amount_minor) >= now.captured_minor;
    let next = if whole { OrderState::Refunded } else { OrderState::PartlyRefunded };
    let back = if whole { now.sold_units } else { part.units.min(now.sold_units) };
    Ok(Step {
        sold_units: now.sold_units - back,
        outbox: (back > 0).then_some((OutboxKind::OrderReturned, back)),
        ..now.to(next)
    })
}

fn refund_refused(now: &Purchase) -> Result<Step, Refusal> {
    let (OrderState::Refunding, Some(_)) = (now.state, now.refund) else {
        return Err(Refusal::NotNow(now.state));
    };
    if now.refunded_minor > 0 {
        Ok(Step { reason: Some("refund_refused"), ..now.to(OrderState::PartlyRefunded) })
    } else if now.sold_units == now.quantity {
        Ok(Step { reason: Some("refund_refused"), ..now.to(OrderState::Paid) })
    } else {
        // Late money that cannot go back: no goods, no refund. Only a person can help.
        Ok(now.quarantined("refund_refused"))
    }
}

fn close_without_money(now: &Purchase) -> Result<Step, Refusal> {
    match (now.state, now.payment) {
        // Captured once, and back at the shopper by a way that is not ours.
        (OrderState::Quarantined, Some(PaymentState::Captured)) => {
            let back = now.sold_units;
            Ok(Step {
                sold_units: 0,
                reason: Some(SETTLED_BY_OPERATOR),
                outbox: (back > 0).then_some((OutboxKind::OrderReturned, back)),
                ..now.to(OrderState::Refunded)
            })
        }
        (OrderState::Quarantined, payment) => {
            let live = payment.filter(|p| PAYMENT_EDGES.contains(&(*p, PaymentState::Failed)));
            Ok(Step { payment: live.map(|_| PaymentState::Failed), ..now.released(SETTLED_BY_OPERATOR) })
        }
        (state, _) => Err(Refusal::NotNow(state)),
    }
}

fn give_back(now: &Purchase, captured_minor: i64) -> Result<Step, Refusal> {
    if now.state != OrderState::Quarantined {
        return Err(Refusal::NotNow(now.state));
    }
    let known = now.payment == Some(PaymentState::Captured);
    let left_minor = if known { now.refundable_minor() } else { captured_minor };
    if left_minor < 1 || (known && captured_minor != now.captured_minor) {
        return Err(Refusal::Amount { left_minor: now.refundable_minor() });
    }
    let (held, sold) = (now.held_units, now.sold_units);
    Ok(Step {
        payment: (!known).then_some(PaymentState::Captured),
        captured_minor,
        held_units: 0,
        reason: Some("given_back_by_operator"),
        open_refund: Some(RefundPart { amount_minor: left_minor, units: sold }),
        outbox: (held > 0).then_some((OutboxKind::OrderReleased, held)),
        ..now.to(OrderState::Refunding)
    })
}
