//! Options of `floodgate payments …`. Help stays within 80 columns.

use crate::cli::ConfigArgs;
use clap::{Args, Subcommand};
use service_kit::ids::OrderId;

/// Subcommands of `payments`.
#[derive(Debug, Subcommand)]
pub enum PaymentsCommand {
    /// What waits for an operator, oldest first
    #[command(after_help = "\
Examples:
  floodgate payments list
  floodgate payments list --json | jq '.[] | select(.provider == \"toss\")'

Orders in quarantine (money and order do not fit), payments and refunds
that were set aside, and refunds that the provider refused.")]
    List(ListArgs),
    /// Give what was set aside back to the worker
    #[command(after_help = "\
Examples:
  floodgate payments resume ORDER --by kim --why 'the key was renewed'

The provider is asked first; nothing is charged or sent again blindly.
An order in quarantine is asked about again and released from it only
when the provider's figures fit.")]
    Resume(OrderArgs),
    /// Compare an order's payment with the provider now
    #[command(after_help = "\
Examples:
  floodgate payments recheck ORDER --by kim --why 'the shopper called'")]
    Recheck(OrderArgs),
    /// Give money of a paid order back
    #[command(after_help = "\
Examples:
  floodgate payments refund ORDER --by kim --why 'arrived broken'
  floodgate payments refund ORDER --amount 5000 --by kim --why 'late'
  floodgate payments refund ORDER --amount 5000 --units 1 --by kim --why x

The amount is in minor units (won, cents). Without --amount all that is
left goes back, and the units with it. Money alone returns no units.")]
    Refund(RefundArgs),
    /// End a quarantined order: the provider has no money of it
    #[command(after_help = "\
Examples:
  floodgate payments close ORDER --by kim --why 'cancelled at the provider'

The units go back on sale. Only after you have looked at the provider's
own console: Floodgate believes you.")]
    Close(OrderArgs),
    /// Give a quarantined order's money back
    #[command(
        override_usage = "floodgate payments give-back ORDER --amount N --by NAME --why TEXT",
        after_help = "\
Examples:
  floodgate payments give-back ORDER --amount 12900 --by kim --why 'paid twice'

--amount is what the provider has of it, in minor units."
    )]
    GiveBack(GiveBackArgs),
    /// Where our books and a provider's differ
    #[command(after_help = "\
Examples:
  floodgate payments discrepancies
  floodgate payments discrepancies --json

Classes: ours_only, theirs_only, amount, state.")]
    Discrepancies(ListArgs),
    /// Close a difference that needs no repair
    #[command(after_help = "\
Examples:
  floodgate payments dismiss ID --by kim --why 'a test by the provider'")]
    Dismiss(DismissArgs),
}

/// Options of the lists.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Configuration file and where to look without one.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Most entries
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
}

/// Who does it and why: both go into the order's history.
#[derive(Debug, Args)]
pub struct Hand {
    /// Your name
    #[arg(long, value_name = "NAME")]
    pub by: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub why: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Options of a command about one order.
#[derive(Debug, Args)]
pub struct OrderArgs {
    /// Configuration file and where to look without one.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The order's id
    pub order: OrderId,
    /// Who and why.
    #[command(flatten)]
    pub hand: Hand,
}

/// Options of `payments refund`.
#[derive(Debug, Args)]
pub struct RefundArgs {
    /// The order, who and why.
    #[command(flatten)]
    pub order: OrderArgs,
    /// How much, in minor units [default: all that is left]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub amount: Option<i64>,
    /// Units that come back [default: all with all, else none]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    pub units: Option<i64>,
}

/// Options of `payments give-back`.
#[derive(Debug, Args)]
pub struct GiveBackArgs {
    /// The order, who and why.
    #[command(flatten)]
    pub order: OrderArgs,
    /// What the provider has, in minor units
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub amount: i64,
}

/// Options of `payments dismiss`.
#[derive(Debug, Args)]
pub struct DismissArgs {
    /// Configuration file and where to look without one.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The difference's id, from `payments discrepancies`
    pub id: uuid::Uuid,
    /// Who and why.
    #[command(flatten)]
    pub hand: Hand,
}
