//! What leaves the service: the JSON shapes of the API. The pages are drawn from the same values.

use crate::deal_room::DealRoom;
use queue::settings::Mode;
use serde::Serialize;
use service_kit::ids::{AccountId, DealId, OrderId, PaymentId, RoomId};
use service_kit::money::Money;

/// One page of a list. The next page is asked for with `starting_after` = the last id.
#[derive(Debug, Clone, Serialize)]
pub struct Page<T> {
    /// The entries, newest first.
    pub data: Vec<T>,
    /// Whether entries follow.
    pub has_more: bool,
}

/// Where a deal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DealState {
    /// Before its start.
    Scheduled,
    /// Selling.
    Open,
    /// In its window, but every unit is sold or held (a hold may still come back).
    SoldOut,
    /// After its end.
    Ended,
}

/// How fast people are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AdmissionView {
    /// People called per second.
    pub rate_per_s: u32,
    /// People inside at once who hold nothing yet.
    pub inside_max: u32,
}

/// A deal.
#[derive(Debug, Clone, Serialize)]
pub struct DealView {
    /// Id.
    pub id: DealId,
    /// The waiting room in front of it.
    pub room: RoomId,
    /// Title, 1–120 characters.
    pub title: String,
    /// Description, plain text.
    pub description: String,
    /// Price of one unit.
    pub price: Money,
    /// Units there are.
    pub stock: i64,
    /// Units nobody holds or bought.
    pub available: i64,
    /// Units held.
    pub held: i64,
    /// Units sold.
    pub sold: i64,
    /// Most units for one account.
    pub per_user_limit: i64,
    /// Start of the sale.
    pub starts_at_ms: i64,
    /// End of the sale.
    pub ends_at_ms: i64,
    /// Where it stands.
    pub state: DealState,
    /// How fast people are let in.
    pub admission: AdmissionView,
    /// How places in line are given: `fifo` or `draw`.
    pub mode: Mode,
    /// From when on people may line up.
    pub lobby_opens_at_ms: i64,
}

impl DealView {
    /// The deal as it stands at `now_ms`.
    pub fn of(deal: &ledger::Deal, now_ms: i64) -> Self {
        let available = deal.available();
        let state = if now_ms < deal.starts_at_ms {
            DealState::Scheduled
        } else if now_ms >= deal.ends_at_ms {
            DealState::Ended
        } else if available <= 0 {
            DealState::SoldOut
        } else {
            DealState::Open
        };
        let small = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
        // A deal of a later release is shown all the same; its room is not published (see `workers::rooms`).
        let wishes = DealRoom::of(deal).unwrap_or_default();
        Self {
            id: deal.id,
            room: RoomId::of_deal(deal.id),
            title: deal.title.clone(),
            description: deal.description.clone(),
            price: deal.price,
            stock: deal.stock,
            available,
            held: deal.held,
            sold: deal.sold,
            per_user_limit: deal.per_user_limit,
            starts_at_ms: deal.starts_at_ms,
            ends_at_ms: deal.ends_at_ms,
            state,
            admission: AdmissionView {
                rate_per_s: small(deal.admission_rate_per_s),
                inside_max: small(deal.admission_cap),
            },
            mode: wishes.mode.unwrap_or_default(),
            lobby_opens_at_ms: wishes.lobby_opens_at_ms.unwrap_or(deal.created_at_ms.min(deal.starts_at_ms)),
        }
    }
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words of the ledger")]
pub enum OrderState {
    Held,
    Paying,
    Paid,
    Released,
    Refunding,
    PartlyRefunded,
    Refunded,
    Quarantined,
}

impl OrderState {
    /// Whether a live view may stop watching: nothing happens next by itself.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Paid | Self::Released | Self::PartlyRefunded | Self::Refunded)
    }
}

impl From<ledger::OrderState> for OrderState {
    fn from(state: ledger::OrderState) -> Self {
        match state {
            ledger::OrderState::Held => Self::Held,
            ledger::OrderState::Paying => Self::Paying,
            ledger::OrderState::Paid => Self::Paid,
            ledger::OrderState::Released => Self::Released,
            ledger::OrderState::Refunding => Self::Refunding,
            ledger::OrderState::PartlyRefunded => Self::PartlyRefunded,
            ledger::OrderState::Refunded => Self::Refunded,
            ledger::OrderState::Quarantined => Self::Quarantined,
        }
    }
}

/// The payment of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PaymentView {
    /// Id.
    pub id: PaymentId,
    /// Which provider.
    pub provider: String,
    /// requested, ready, authorized, confirming, waiting (for a deposit), captured, failed, cancelled, expired, unknown.
    pub state: String,
    /// Where a desktop browser goes to pay; known from `ready` on.
    pub redirect_pc: Option<String>,
    /// Where a phone goes to pay.
    pub redirect_mobile: Option<String>,
    /// What the provider said when it refused.
    pub failure_message: Option<String>,
}

/// An order; a hold is an order in its first state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrderView {
    /// Id.
    pub id: OrderId,
    /// The deal.
    pub deal: DealId,
    /// Units.
    pub quantity: i64,
    /// What is paid in all.
    pub amount: Money,
    /// Where it stands.
    pub state: OrderState,
    /// Why it ended, if it did.
    pub reason: Option<String>,
    /// Until when the units are kept without a payment.
    pub hold_expires_at_ms: i64,
    /// When it was made.
    pub created_at_ms: i64,
    /// Units that are the shopper's now.
    pub sold_units: i64,
    /// What went back so far, in minor units.
    pub refunded_minor: i64,
    /// Its payment, once there is one.
    pub payment: Option<PaymentView>,
}

impl OrderView {
    /// The order as it stands.
    pub fn of(order: &ledger::Order) -> Self {
        Self {
            state: order.state.into(),
            reason: order.reason.clone(),
            sold_units: order.sold_units,
            refunded_minor: order.refunded_minor,
            payment: order.payment.as_ref().map(|p| PaymentView {
                id: p.id,
                provider: p.provider.clone(),
                state: p.state.clone(),
                redirect_pc: p.redirect_pc.clone(),
                redirect_mobile: p.redirect_mobile.clone(),
                failure_message: p.failure_message.clone(),
            }),
            ..Self::as_made(order)
        }
    }
    /// What so many units of it cost; `None` unless it has that many.
    pub fn cost_of(&self, units: i64) -> Option<Money> {
        let one = self.amount.minor().checked_div(self.quantity)?;
        let minor = one.checked_mul(units).filter(|_| (1..=self.quantity).contains(&units))?;
        Money::new(minor, self.amount.currency()).ok()
    }
    /// The order as it was when it was made: the same for ever, so that a replay has the same bytes.
    pub fn as_made(order: &ledger::Order) -> Self {
        Self {
            id: order.id,
            deal: order.deal,
            quantity: order.quantity,
            amount: order.amount,
            state: OrderState::Held,
            reason: None,
            hold_expires_at_ms: order.hold_expires_at_ms,
            created_at_ms: order.created_at_ms,
            sold_units: 0,
            refunded_minor: 0,
            payment: None,
        }
    }
}

/// An account.
#[derive(Debug, Clone, Serialize)]
pub struct AccountView {
    /// Id.
    pub id: AccountId,
    /// E-mail in lower case.
    pub email: String,
    /// Name to greet with.
    pub name: String,
}

/// A fresh session.
#[derive(Debug, Clone, Serialize)]
pub struct SessionView {
    /// The session token (JWT); also set as the cookie `fg_session`.
    pub token: String,
    /// When it ends.
    pub expires_at_ms: i64,
}
