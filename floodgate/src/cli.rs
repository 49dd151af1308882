//! (long: one entry per subcommand) The command line: every subcommand, its options and the examples in its help.
//!
//! Help stays within 80 columns (a test measures it), so doc comments here are short lines.

use crate::commands::order::OrderArgs;
use crate::commands::payments::args::PaymentsCommand;
use crate::commands::rebuild::RebuildArgs;
use crate::commands::room::args::RoomCommand;
use clap::{Args, Parser, Subcommand};
use service_kit::operator::Role;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A fair line in front of a sale.
#[derive(Debug, Parser)]
#[command(name = "floodgate", version, arg_required_else_help = true, max_term_width = 80)]
#[command(after_help = "\
Examples:
  floodgate up                     start everything on this machine
  floodgate demo --once            watch a synthetic sale, get a report
  floodgate proxy --config f.toml  run one role

Exit codes: 0 done, 1 failed, 2 wrong usage, 64 wrong configuration.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The gate: waiting room, passes, forwarding
    #[command(after_help = "\
Examples:
  floodgate proxy --config floodgate.toml
  floodgate proxy --config floodgate.toml --check")]
    Proxy(RoleArgs),
    /// The shop: deals, stock, holds, orders, pages
    #[command(after_help = "\
Examples:
  floodgate deal-service --config floodgate.toml
  floodgate deal-service --config floodgate.toml --check")]
    DealService(RoleArgs),
    /// The payment worker: provider calls, refunds
    #[command(after_help = "\
Examples:
  floodgate payment-adapter --config floodgate.toml
  floodgate payment-adapter --config floodgate.toml --check")]
    PaymentAdapter(RoleArgs),
    /// A payment provider that takes no real money
    #[command(after_help = "\
Examples:
  floodgate payment-simulator --config floodgate.toml
  floodgate payment-simulator --config floodgate.toml --check")]
    PaymentSimulator(RoleArgs),
    /// KakaoPay, Toss and Stripe on this machine, for any shop
    #[command(after_help = "\
Examples:
  floodgate simulate-payments
  floodgate simulate-payments --listen 127.0.0.1:0 --json
  floodgate simulate-payments --stripe-webhook-url http://127.0.0.1:3000/hook

Needs no configuration and keeps nothing. Faults, clock and ledger are on the
control port: curl http://127.0.0.1:9104/_control/ledger")]
    SimulatePayments(SimulateArgs),
    /// Bring the PostgreSQL schema up to date
    #[command(after_help = "\
Examples:
  floodgate migrate --config floodgate.toml
  FLOODGATE__POSTGRES__URL='host=/run/pg user=floodgate' floodgate migrate")]
    Migrate(ConfigArgs),
    /// Start private stores and every role until Ctrl-C
    #[command(after_help = "\
Examples:
  floodgate up
  floodgate up --dir /var/tmp/shop --json

The stores' programs come from FLOODGATE_REDIS_SERVER (a file) and
FLOODGATE_PG_BIN (a directory), else PATH, else /usr/lib/postgresql.")]
    Up(UpArgs),
    /// Run a whole sale with synthetic shoppers, and check it
    #[command(after_help = "\
Examples:
  floodgate demo
  floodgate demo --once --shoppers 500 --stock 50 --json
  floodgate demo --once --kill deal-service@1 --kill redis@2

Every run has fresh stores in DIR/demo, wiped at the start. Exit code 0
means: sold exactly, nobody overtaken, nobody charged twice, sums clean.")]
    Demo(DemoArgs),
    /// Merchants, who may create deals
    #[command(
        arg_required_else_help = true,
        after_help = "\
Examples:
  floodgate merchant create --name 'Corner shop'"
    )]
    Merchant {
        /// What to do with merchants.
        #[command(subcommand)]
        command: MerchantCommand,
    },
    /// Keys and operators' tokens
    #[command(
        arg_required_else_help = true,
        after_help = "\
Examples:
  floodgate key create --id k2
  floodgate key operator --name kim"
    )]
    Key {
        /// What to do with keys.
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Steer waiting rooms; read and verify what was done
    #[command(
        arg_required_else_help = true,
        after_help = "\
Examples:
  floodgate room list
  floodgate room pause drop --why 'the payment provider is down'
  floodgate room log drop --verify

The gate's admin port and the token come from --admin and --token-file,
else from the configuration and its directory (after `floodgate up`)."
    )]
    Room {
        /// What to do with rooms.
        #[command(subcommand)]
        command: RoomCommand,
    },
    /// Money that waits for an operator: look, resume, refund
    #[command(
        arg_required_else_help = true,
        after_help = "\
Examples:
  floodgate payments list
  floodgate payments refund ORDER --by kim --why 'arrived broken'
  floodgate payments resume ORDER --by kim --why 'the key was renewed'"
    )]
    Payments {
        /// What to do.
        #[command(subcommand)]
        command: PaymentsCommand,
    },
    /// Tell the whole story of one order
    #[command(after_help = "\
Examples:
  floodgate order 01a1fd86-9865-70cf-85d0-e8ed17a513ce
  floodgate order 01a1fd86-9865-70cf-85d0-e8ed17a513ce --json")]
    Order(OrderArgs),
    /// Fill Redis' stock anew from the ledger, and prove it
    #[command(after_help = "\
Examples:
  floodgate rebuild
  floodgate rebuild --deal 01a1fd86-9865-70cf-85d0-e8ed17a513ce --json

Sales pause for the moments of their filling. Exit codes: 0 Redis agrees
with the ledger, 1 it does not.")]
    Rebuild(RebuildArgs),
    /// Check every sum: ledger, and Redis against it
    #[command(after_help = "\
Examples:
  floodgate verify --config floodgate.toml
  floodgate verify --json | jq .findings
  floodgate verify --providers --hours 6

Exit codes: 0 clean, 1 findings.")]
    Verify(VerifyArgs),
    /// Recompute a published draw: commitment, seed, places
    #[command(after_help = "\
Examples:
  floodgate verify-draw https://shop.example/_floodgate/rooms/lamp/draw
  floodgate verify-draw draw.json --number 1234 --leaves entrants.bin
  floodgate verify-draw draw.json --earlier lobby.json --json

Exit codes: 0 verified, 1 a finding (which is named), 2 wrong usage or
nothing to check (no such file, no answer, not a draw).")]
    VerifyDraw(VerifyDrawArgs),
    /// Ask a role's admin port whether the process lives
    #[command(after_help = "\
Examples:
  floodgate healthcheck --admin 127.0.0.1:9101")]
    Healthcheck {
        /// Address of the admin port
        #[arg(long, value_name = "ADDR")]
        admin: SocketAddr,
    },
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// Configuration file (TOML)
    ///
    /// Without it: .floodgate/floodgate.toml if that exists, else
    /// only the environment (FLOODGATE__SECTION__FIELD).
    #[arg(long, value_name = "FILE", env = "FLOODGATE_CONFIG", hide_env_values = true, verbatim_doc_comment)]
    pub config: Option<PathBuf>,
}

/// Options of a role.
#[derive(Debug, Args)]
pub struct RoleArgs {
    /// Configuration file and where to look without one.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Check the configuration, say what would run, exit
    #[arg(long)]
    pub check: bool,
}

/// Options of `simulate-payments`.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// APIs and pages
    ///
    /// Port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8083")]
    pub listen: SocketAddr,
    /// Control port
    ///
    /// Faults, clock, webhooks, ledger. Port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9104")]
    pub admin_listen: SocketAddr,
    /// Where Toss sends its webhooks
    ///
    /// An address of this machine.
    #[arg(long, value_name = "URL")]
    pub toss_webhook_url: Option<String>,
    /// Where Stripe sends its webhooks
    ///
    /// An address of this machine.
    #[arg(long, value_name = "URL")]
    pub stripe_webhook_url: Option<String>,
    /// Toss: 100 requests a minute and endpoint
    ///
    /// As the provider limits test keys.
    #[arg(long)]
    pub toss_test_limit: bool,
    /// Print the addresses as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Options of `up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Where stores, logs and settings live
    #[arg(long, value_name = "DIR", default_value = ".floodgate")]
    pub dir: PathBuf,
    /// Print the state as one JSON object once everything runs
    #[arg(long)]
    pub json: bool,
}

/// Options of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// One sale, a report, and exit; else stay up afterwards
    #[arg(long)]
    pub once: bool,
    /// Seconds to stay up afterwards [default: until Ctrl-C]
    ///
    /// Without a terminal nobody can press Ctrl-C: then 60 seconds.
    #[arg(long, value_name = "S", conflicts_with = "once")]
    pub stay_s: Option<u32>,
    /// Synthetic shoppers
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub shoppers: u32,
    /// Units for sale
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub stock: u32,
    /// Seconds until the opening [default: 20, with --once 3]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub opens_in_s: Option<u32>,
    /// Shoppers called per second [default: by the stock]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate_per_s: Option<u32>,
    /// Most shoppers inside at once [default: by the stock]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub inside_max: Option<u32>,
    /// Seed of the crowd's behaviour [default: random]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Kill -9 a role or store S seconds into the sale
    ///
    /// Repeatable; also redis and postgres. The supervisor starts it
    /// again; the sale goes on.
    #[arg(long, value_name = "ROLE@S", value_parser = parse_kill, verbatim_doc_comment)]
    pub kill: Vec<Kill>,
    /// Report as one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    /// The demo lives in DIR/demo
    #[arg(long, value_name = "DIR", default_value = ".floodgate")]
    pub dir: PathBuf,
}

/// One planned kill.
#[derive(Debug, Clone, PartialEq)]
pub struct Kill {
    /// Name of a child of the launcher.
    pub role: String,
    /// When, in milliseconds after the opening.
    pub after_ms: u64,
}

fn parse_kill(text: &str) -> Result<Kill, String> {
    let (role, seconds) = text.split_once('@').ok_or("write ROLE@SECONDS, e.g. deal-service@2")?;
    if !crate::launcher::NAMES.contains(&role) {
        return Err(format!("`{role}` is none of {}", crate::launcher::NAMES.join(", ")));
    }
    if role == "payment-simulator" {
        return Err("the provider's ledger is evidence and lives in its memory: it cannot be killed".into());
    }
    let seconds: f64 = seconds.parse().map_err(|_| "SECONDS is a number, e.g. 2 or 0.5")?;
    if !(0.0..=3_600.0).contains(&seconds) {
        return Err("SECONDS is between 0 and 3600".into());
    }
    // Bounded just above: the conversion is exact enough and cannot wrap.
    Ok(Kill { role: role.to_owned(), after_ms: std::time::Duration::from_secs_f64(seconds).as_millis() as u64 })
}

/// Subcommands of `merchant`.
#[derive(Debug, Subcommand)]
pub enum MerchantCommand {
    /// Create a merchant and print its API key once
    #[command(after_help = "\
Examples:
  floodgate merchant create --name 'Corner shop'
  floodgate merchant create --name 'Corner shop' --json")]
    Create(MerchantArgs),
}

/// Options of `merchant create`.
#[derive(Debug, Args)]
pub struct MerchantArgs {
    /// Configuration file and where to look without one.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Name of the merchant, 1 to 120 characters
    #[arg(long)]
    pub name: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Subcommands of `key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make an entry for `keys.ring` in the configuration
    #[command(after_help = "\
Examples:
  floodgate key create
  floodgate key create --id k2

Put the new entry first in `keys.ring`: the first signs, all verify.")]
    Create {
        /// Id of the key, 1 to 16 letters or digits
        #[arg(long, default_value = "k1")]
        id: String,
    },
    /// Make an operator's token and its [[operators]] entry
    #[command(after_help = "\
Examples:
  floodgate key operator --name kim
  floodgate key operator --name lee --role admin --json

Give the token to its owner; the entry goes into the configuration of
every gate. viewer looks, operator steers, admin also closes.")]
    Operator {
        /// Who: 1 to 64 letters, digits and . _ - @
        #[arg(long)]
        name: String,
        /// viewer, operator or admin
        #[arg(long, default_value = "operator")]
        role: Role,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Options of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Configuration file and where to look without one.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Compare with the payment providers' own books too
    ///
    /// Asks the providers of [payment_adapter]; changes nothing.
    #[arg(long, verbatim_doc_comment)]
    pub providers: bool,
    /// Of the last so many hours, with --providers
    #[arg(long, value_name = "N", default_value_t = 48, requires = "providers", value_parser = clap::value_parser!(u32).range(1..=8_760))]
    pub hours: u32,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Options of `verify-draw`.
#[derive(Debug, Args)]
pub struct VerifyDrawArgs {
    /// Address or file of the published draw; - is standard input
    #[arg(value_name = "URL|FILE")]
    pub draw: String,
    /// Tell the place of this number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub number: Option<u32>,
    /// Recompute the root from the entrants' records
    ///
    /// 32 bytes each, or one per line as 64 hexadecimal digits.
    #[arg(long, value_name = "FILE", verbatim_doc_comment)]
    pub leaves: Option<String>,
    /// Check that one entrant is under the root
    #[arg(long, value_name = "URL|FILE")]
    pub proof: Option<String>,
    /// Recompute the record of this visitor; needs --proof
    ///
    /// The fifth part of a ticket.
    #[arg(long, value_name = "ID", requires = "proof", verbatim_doc_comment)]
    pub visitor: Option<service_kit::ids::VisitorId>,
    /// What this visitor threw into the draw, if anything
    #[arg(long, value_name = "VALUE", requires = "visitor")]
    pub nonce: Option<queue::draw::Nonce>,
    /// Compare with a copy saved while the lobby was open
    #[arg(long, value_name = "FILE")]
    pub earlier: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_kill_names_a_child_and_a_moment() {
        assert_eq!(parse_kill("redis@1.5"), Ok(Kill { role: "redis".into(), after_ms: 1_500 }));
        for wrong in ["redis", "redis@", "redis@-1", "redis@NaN", "payment-simulator@1", "shop@1", "@1"] {
            assert!(parse_kill(wrong).is_err(), "{wrong}");
        }
    }
}
