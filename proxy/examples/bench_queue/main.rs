//! `make bench-queue`: what the waiting room costs, next to a bare Pingora, in one run.
//!
//! CPU seconds are those of the processes under test (gate and its Redis, by `/proc/PID/stat`); the load generator is
//! this process and is left out. Every server under test is a child of its own: this program, started again with a
//! hidden first argument, on the second processor; the load generator and Redis are on the first. Rounds of all cases alternate, and medians are printed, because other work on the machine
//! moves every figure. A goal that is missed is printed as MISSED; the exit code is 0 anyway.
#![allow(missing_docs, reason = "a program, not a library")]

mod cases;
mod child;
mod fill;
mod goals;
mod histogram;
mod load;
mod plain;
mod process;
mod server;

use anyhow::Context as _;
use std::process::ExitCode;

// As in the shipped program: the allocator is part of what is measured.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const HELP: &str = "\
usage: bench_queue [--json] [--only TEXT] [--requests N] [--rounds N] [--few N] [--many N]
  --json        a report for machines on standard output
  --only TEXT   only cases whose name has this in it, e.g. poll; no tails and no streams
  --requests N  requests per round and case (default 50000)
  --rounds N    rounds; medians are reported (default 5)
  --few N       people who wait in the small room (default 1000)
  --many N      people who wait in the large room (default 1000000)";

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Options {
    pub json: bool,
    pub only: Option<String>,
    pub requests: usize,
    pub rounds: usize,
    pub few: u64,
    pub many: u64,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> anyhow::Result<Option<Self>> {
        let mut options = Self { json: false, only: None, requests: 50_000, rounds: 5, few: 1_000, many: 1_000_000 };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--json" => options.json = true,
                "--only" => options.only = Some(args.next().context("--only needs a text")?),
                "--requests" => options.requests = usize::try_from(number(&arg, args.next())?)?,
                "--rounds" => options.rounds = usize::try_from(number(&arg, args.next())?)?,
                "--few" => options.few = number(&arg, args.next())?,
                "--many" => options.many = number(&arg, args.next())?,
                "--help" | "-h" => return Ok(None),
                other => anyhow::bail!("`{other}` is not known\n{HELP}"),
            }
        }
        Ok(Some(options))
    }
}

fn number(option: &str, value: Option<String>) -> anyhow::Result<u64> {
    let value = value.with_context(|| format!("{option} needs a number"))?;
    let value = value.parse().with_context(|| format!("{option} needs a number, not `{value}`"))?;
    anyhow::ensure!(value > 0, "{option} must be at least 1");
    Ok(value)
}

fn main() -> ExitCode {
    service_kit::install_crypto_providers();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.first().map(String::as_str) {
        Some(child::HIDDEN) => child::run(args.get(1..).unwrap_or(&[])),
        _ => Options::parse(args.into_iter()).and_then(|options| match options {
            Some(options) => cases::run(&options),
            None => {
                say(HELP);
                Ok(())
            }
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("bench-queue: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// One line of the report.
#[allow(clippy::print_stdout, reason = "the report is what this program is for")]
pub fn say(line: &str) {
    println!("{line}");
}

/// One line about what is going on.
#[allow(clippy::print_stderr, reason = "progress and errors go to standard error")]
pub fn note(line: &str) {
    eprintln!("{line}");
}
