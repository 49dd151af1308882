//! The command line of `floodgate room`. Help stays within 80 columns, so doc comments here are short lines.

use super::when::{When, parse_span, parse_when};
use crate::cli::ConfigArgs;
use crate::commands::room_codes::CodesArgs;
use clap::{Args, Subcommand};
use service_kit::ids::RoomId;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Subcommands of `room`.
#[derive(Debug, Subcommand)]
pub enum RoomCommand {
    /// All rooms of a gate with their figures
    #[command(after_help = "\
Examples:
  floodgate room list
  floodgate room list --admin 127.0.0.1:9101 --json")]
    List(Reach),
    /// One room: what holds, what operators said, the figures
    #[command(after_help = "\
Examples:
  floodgate room show drop
  floodgate room show drop --json | jq .board.limit_reason")]
    Show(One),
    /// Stop the calls; everybody keeps the place
    #[command(after_help = "\
Examples:
  floodgate room pause drop --why 'the payment provider is down'")]
    Pause(Plain),
    /// Call again; also ends a hold after a loss of the store
    #[command(after_help = "\
Examples:
  floodgate room resume drop --why 'the provider is back'")]
    Resume(Plain),
    /// Call so many people per second
    #[command(after_help = "\
Examples:
  floodgate room rate drop 50 --why 'the shop is slow'
  floodgate room rate drop published --why 'back to normal'")]
    Rate(Number),
    /// Let so many people be inside at once
    #[command(after_help = "\
Examples:
  floodgate room cap drop 500 --why 'one server less'
  floodgate room cap drop published --why 'back to normal'")]
    Cap(Number),
    /// Tell the people in line something
    #[command(after_help = "\
Examples:
  floodgate room notice drop 'Sizes 40 to 42 are sold out' --why stock
  floodgate room notice drop --ko '곧 시작' --en 'Soon' --why late
  floodgate room notice drop --remove --why 'no longer true'")]
    Notice(NoticeArgs),
    /// End the room for everybody (role admin)
    #[command(after_help = "\
Examples:
  floodgate room close drop --why 'the sale is cancelled'")]
    Close(Plain),
    /// Take a close back (role admin)
    #[command(after_help = "\
Examples:
  floodgate room reopen drop --why 'closed by mistake'")]
    Reopen(Plain),
    /// Move the lobby, the start or the end
    #[command(after_help = "\
Examples:
  floodgate room schedule drop --start +10m --why 'the truck is late'
  floodgate room schedule drop --lobby 2026-11-21T11:30:00+09:00 \\
      --start 2026-11-21T12:00:00+09:00 --why 'as announced'")]
    Schedule(ScheduleArgs),
    /// Move the end back
    #[command(after_help = "\
Examples:
  floodgate room extend drop 30m --why 'many still wait'

A room that is over already is extended from now on.")]
    Extend(ExtendArgs),
    /// Codes for a lane, or invitations to an invite-only room
    #[command(after_help = "\
Examples:
  floodgate room codes drop --lane vip --count 100
  floodgate room codes drop --count 500 --json
  floodgate room codes drop --lane press --uses 20

A code is a signature: no gate is asked, no list is kept, and codes end
with the signing key that made them.")]
    Codes(CodesArgs),
    /// What operators did with a room; verify or archive it
    #[command(after_help = "\
Examples:
  floodgate room log drop
  floodgate room log drop --verify
  floodgate room log drop --archive drop.ndjson --why 'end of season'
  floodgate room log --journal .floodgate/journal --verify

Exit codes: 0 it holds, 1 it does not; the first wrong entry is named.")]
    Log(LogArgs),
    /// One visitor's way through the line, from the journals
    #[command(after_help = "\
Examples:
  floodgate room evidence drop --number 1234 --journal journal/
  floodgate room evidence drop --number 1234 --journal journal/ --json

Exit codes: 0 found, 1 not found or a journal does not hold.")]
    Evidence(EvidenceArgs),
}

/// How to reach a gate, and the form of the answer.
#[derive(Debug, Clone, Args)]
pub struct Reach {
    /// Configuration file and where to look without one.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Admin port of a gate [default: of the configuration]
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// File with the operator's token
    ///
    /// Without it: the variable FLOODGATE_OPERATOR_TOKEN, else
    /// operator.token beside the configuration file.
    #[arg(long, value_name = "FILE", verbatim_doc_comment)]
    pub token_file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// One room.
#[derive(Debug, Args)]
pub struct One {
    /// Name of the room
    pub room: RoomId,
    /// How to reach a gate.
    #[command(flatten)]
    pub reach: Reach,
}

/// A change of one room.
#[derive(Debug, Args)]
pub struct Said {
    /// Name of the room
    pub room: RoomId,
    /// Why, 1 to 200 characters; it stands in the log
    #[arg(long, value_name = "TEXT")]
    pub why: String,
    /// Id of this command: repeated, it has one effect
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// How to reach a gate.
    #[command(flatten)]
    pub reach: Reach,
}

/// A change without a parameter.
#[derive(Debug, Args)]
pub struct Plain {
    /// The change.
    #[command(flatten)]
    pub said: Said,
}

/// A change to a number.
#[derive(Debug, Args)]
pub struct Number {
    /// The change.
    #[command(flatten)]
    pub said: Said,
    /// The number, or `published`
    #[arg(value_name = "N", value_parser = parse_number)]
    pub number: Wanted,
}

/// A number, or the published one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted(pub Option<u32>);

fn parse_number(text: &str) -> Result<Wanted, String> {
    if text == "published" {
        return Ok(Wanted(None));
    }
    text.parse().map(|n| Wanted(Some(n))).map_err(|_| "write a whole number, or `published`".to_owned())
}

/// Options of `room notice`.
#[derive(Debug, Args)]
pub struct NoticeArgs {
    /// The change.
    #[command(flatten)]
    pub said: Said,
    /// One text for everybody
    #[arg(conflicts_with_all = ["ko", "en", "ja", "remove"], required_unless_present_any = ["ko", "en", "ja", "remove"])]
    pub text: Option<String>,
    /// In Korean
    #[arg(long, value_name = "TEXT")]
    pub ko: Option<String>,
    /// In English
    #[arg(long, value_name = "TEXT")]
    pub en: Option<String>,
    /// In Japanese
    #[arg(long, value_name = "TEXT")]
    pub ja: Option<String>,
    /// Take the notice away
    #[arg(long, conflicts_with_all = ["ko", "en", "ja"])]
    pub remove: bool,
}

/// Options of `room schedule`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct ScheduleArgs {
    /// The change.
    #[command(flatten)]
    pub said: Said,
    /// When people may take numbers: RFC 3339 or +10m
    #[arg(long, value_name = "TIME", value_parser = parse_when)]
    pub lobby: Option<When>,
    /// When people are called: RFC 3339 or +10m
    #[arg(long, value_name = "TIME", value_parser = parse_when, required_unless_present_any = ["lobby", "end"])]
    pub start: Option<When>,
    /// When the room ends: RFC 3339 or +10m
    #[arg(long, value_name = "TIME", value_parser = parse_when)]
    pub end: Option<When>,
}

/// Options of `room extend`.
#[derive(Debug, Args)]
pub struct ExtendArgs {
    /// The change.
    #[command(flatten)]
    pub said: Said,
    /// By how much: 90s, 10m, 2h, 1d
    #[arg(value_name = "SPAN", value_parser = parse_span)]
    pub by_ms: i64,
}

/// Options of `room log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Name of the room (not with --journal)
    #[arg(required_unless_present = "journal", conflicts_with = "journal")]
    pub room: Option<RoomId>,
    /// Check every hash and every link
    #[arg(long)]
    pub verify: bool,
    /// Check the visitors' journals in DIR instead
    #[arg(long, value_name = "DIR", requires = "verify")]
    pub journal: Option<PathBuf>,
    /// Save the log to FILE, then clear it (role admin)
    #[arg(long, value_name = "FILE", requires = "why", conflicts_with_all = ["journal", "verify"])]
    pub archive: Option<PathBuf>,
    /// Why it is archived
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    /// How to reach a gate.
    #[command(flatten)]
    pub reach: Reach,
}

/// Options of `room evidence`.
#[derive(Debug, Args)]
pub struct EvidenceArgs {
    /// Name of the room
    pub room: RoomId,
    /// The visitor's number
    #[arg(long, value_name = "N")]
    pub number: u64,
    /// Directory with the journals of all gates
    #[arg(long, value_name = "DIR")]
    pub journal: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
