#![doc = include_str!("../README.md")]

mod account;
mod audit;
mod deal;
mod desk;
mod discrepancy;
mod hold;
mod idempotency;
mod listen;
mod many;
mod merchant;
mod notice;
mod order;
mod outbox;
mod payment;
mod pool;
pub mod purchase;
mod purchase_store;
mod quiet;
mod refund;
mod settlement;
mod statement;
mod story;
mod stranded;
mod verify;

pub use account::{Account, NewAccount};
pub use audit::SEAL_MAX;
pub use deal::{ActiveOrder, Deal, DealSnapshot, NewDeal};
pub use desk::{Decision, Waiting};
pub use discrepancy::{Booked, Discrepancy, DiscrepancyClass};
pub use hold::{HoldOutcome, NewHold};
pub use idempotency::{Idem, Replay, Saved};
pub use listen::Notice;
pub use many::{Approval, Begin, Captured, Finish};
pub use merchant::Merchant;
pub use notice::{NoticeAbout, NoticeEffect};
pub use order::{CancelRefusal, Order, OrderState, PaymentView};
pub use outbox::{OutboxEvent, OutboxKind};
pub use payment::{
    AttemptKind, Capture, Ended, PaymentState, PaymentWork, Prepared, Return, StartPayment, StartRefusal,
};
pub use pool::{Ledger, LedgerError, PgConfig};
pub use purchase::Actor;
pub use refund::{RefundBy, RefundRefusal, RefundState, RefundWork, RequestRefund};
pub use story::StoryLine;
pub use stranded::Stranded;
pub use verify::{CHECK_NAMES, Finding};
