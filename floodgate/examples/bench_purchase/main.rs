//! `make bench-pay` and `make bench-hold`: what a purchase costs, with real processes and real stores, in one run.
//!
//! Gate, deal service, payment adapter and the simulated provider are children of their own: this program, started
//! again with a hidden first argument. Redis and PostgreSQL are private ones. Cases that are compared alternate within a
//! round and medians are printed, because other work on the machine moves every figure. A goal that is missed is printed
//! as MISSED; the exit code is 0 anyway.
#![allow(missing_docs, reason = "a program, not a library")]

mod child;
mod goals;
mod hold;
mod house;
mod pay;
mod processes;
mod seed;
mod wire;

use anyhow::Context as _;
use std::process::ExitCode;

// As in the shipped program: the allocator is part of what is measured.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const HELP: &str = "\
usage: bench_purchase pay  [--json] [--rounds N] [--only TEXT] [--payments N] [--provider-ms N]
       bench_purchase hold [--json] [--rounds N] [--only TEXT] [--losers N] [--winners N]
  --json           a report for machines on standard output
  --rounds N       rounds; medians are reported (default 3)
  --only TEXT      only cases whose name has this in it, e.g. crowd, hang, losers, winners
  --payments N     shoppers who pay at once (default 1000)
  --provider-ms N  how long the provider takes for a call, in ms (default 50)
  --losers N       holds of a deal that is sold out, per round (default 20000)
  --winners N      holds of a deal with enough units, per round (default 10000)";

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Options {
    pub json: bool,
    pub rounds: usize,
    pub only: Option<String>,
    pub payments: usize,
    pub provider_ms: u64,
    pub losers: usize,
    pub winners: usize,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> anyhow::Result<Option<Self>> {
        let mut options = Self {
            json: false,
            rounds: 3,
            only: None,
            payments: 1_000,
            provider_ms: 50,
            losers: 20_000,
            winners: 10_000,
        };
        while let Some(arg) = args.next() {
            let mut number = || -> anyhow::Result<usize> {
                let value = args.next().with_context(|| format!("{arg} needs a number"))?;
                let value = value.parse().with_context(|| format!("{arg} needs a number, not `{value}`"))?;
                anyhow::ensure!(value > 0, "{arg} must be at least 1");
                Ok(value)
            };
            match arg.as_str() {
                "--json" => options.json = true,
                "--rounds" => options.rounds = number()?,
                "--payments" => options.payments = number()?,
                "--provider-ms" => options.provider_ms = number()? as u64,
                "--losers" => options.losers = number()?,
                "--winners" => options.winners = number()?,
                "--only" => options.only = Some(args.next().context("--only needs a text")?),
                "--help" | "-h" => return Ok(None),
                other => anyhow::bail!("`{other}` is not known\n{HELP}"),
            }
        }
        Ok(Some(options))
    }

    /// Whether a case runs.
    pub fn wants(&self, case: &str) -> bool {
        self.only.as_deref().is_none_or(|only| case.contains(only))
    }
}

fn main() -> ExitCode {
    service_kit::install_crypto_providers();
    let mut args = std::env::args().skip(1);
    let done = match args.next().as_deref() {
        Some(child::HIDDEN) => child::run(args.next()),
        Some("pay") => measure(args, |options| Box::pin(pay::run(options))),
        Some("hold") => measure(args, |options| Box::pin(hold::run(options))),
        _ => {
            say(HELP);
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("bench_purchase: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

type Run = std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

fn measure(args: impl Iterator<Item = String>, run: impl FnOnce(Options) -> Run) -> anyhow::Result<()> {
    let Some(options) = Options::parse(args)? else {
        say(HELP);
        return Ok(());
    };
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(options))
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
