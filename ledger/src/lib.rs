#![doc = include_str!("../README.md")]

mod account;
mod deal;
mod hold;
mod idempotency;
mod listen;
mod merchant;
mod order;
mod outbox;
mod payment;
mod pool;
mod refund;
mod settlement;
mod verify;

pub use account::{Account, NewAccount};
pub use deal::{ActiveOrder, Deal, DealSnapshot, NewDeal};
pub use hold::{HoldOutcome, NewHold};
pub use idempotency::{Idem, Replay, Saved};
pub use listen::Notice;
pub use merchant::Merchant;
pub use order::{CancelRefusal, Order, OrderState, PaymentView};
pub use outbox::{OutboxEvent, OutboxKind};
pub use payment::{
    AttemptKind, Capture, Ended, PaymentState, PaymentWork, Prepared, Return, StartPayment, StartRefusal,
};
pub use pool::{Ledger, LedgerError, PgConfig};
pub use refund::{RefundRefusal, RefundState, RefundWork, RequestRefund};
pub use verify::Finding;
