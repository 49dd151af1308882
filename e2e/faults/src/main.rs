//! `faults`: runs seeds, replays one, judges evidence again. See the crate's README.

mod command;

use clap::{Parser, Subcommand};
use command::matrix::matrix;
use command::planted::{PlantedArgs, planted};
use command::seeds::run_seeds;
use faults::evidence::Evidence;
use faults::nemesis;
use faults::run::SALE_MS;
use faults::verdict;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Tells the second start of this program that it has its own mounts.
const NAMESPACE: &str = "FAULTS_NAMESPACE";

#[derive(Debug, Parser)]
#[command(about = "Sells under seeded faults, and checks what must hold", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs seeds; ends with 1 when an invariant is violated.
    Run(RunArgs),
    /// The kill matrix: at each fail point each process dies once, a sale for each cell. Prints the table.
    Matrix(RunArgs),
    /// Plants one bug after the other and runs seeds until the checker finds it; ends with 1 when one is not found.
    Planted(PlantedArgs),
    /// Prints the faults of a seed.
    Plan {
        /// The seed.
        seed: u64,
    },
    /// Judges the evidence of an earlier run again.
    Judge {
        /// Its folder.
        folder: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, clap::Args)]
struct RunArgs {
    /// How many seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Only this one; may be said several times.
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Vec<u64>,
    /// The seeds that failed before, from the folder of regressions.
    #[arg(long, conflicts_with_all = ["seeds", "first", "seed"])]
    regressions: bool,
    /// The executable under test; beside this one if not said.
    #[arg(long, env = "FLOODGATE_BIN")]
    program: Option<PathBuf>,
    /// Where history, logs and evidence of failing runs are kept.
    #[arg(long, default_value = "e2e/out/faults")]
    out: PathBuf,
    /// Where a file is written for each seed that fails.
    #[arg(long, default_value = "e2e/faults/regressions")]
    regressions_dir: PathBuf,
    /// Also keep the evidence of runs that hold.
    #[arg(long)]
    keep: bool,
    /// How many sales run at once; if not said, one per core. A run mostly waits.
    #[arg(long, default_value_t = command::cores(), value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
}

fn main() -> ExitCode {
    service_kit::install_crypto_providers();
    let cli = Cli::parse();
    if matches!(cli.command, Command::Run(_) | Command::Matrix(_) | Command::Planted(_)) {
        own_mounts();
    }
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(Box::pin(dispatch(cli.command))));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("faults: {error:#}\n"));
            ExitCode::from(2)
        }
    }
}

/// As root, starts this program again in a mount namespace of its own: its small file systems vanish with it, even
/// after kill -9. Without `unshare` it goes on as it is.
fn own_mounts() {
    if !service_kit::private_store::is_root() || std::env::var_os(NAMESPACE).is_some() {
        return;
    }
    let Ok(me) = std::env::current_exe() else { return };
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private"]).arg(me).args(std::env::args_os().skip(1));
    let _never = unshare.env(NAMESPACE, "1").exec();
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

async fn dispatch(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Plan { seed } => {
            for planned in nemesis::plan(seed, SALE_MS) {
                say(&format!("{:>6} ms  {}\n", planned.at_ms, serde_json::to_string(&planned.fault)?));
            }
            Ok(true)
        }
        Command::Judge { folder, json } => {
            let verdict = verdict::judge(&Evidence::read(&folder)?);
            say(&if json { serde_json::to_string_pretty(&verdict)? + "\n" } else { verdict.table() });
            Ok(verdict.holds())
        }
        Command::Run(args) => run_seeds(args).await,
        Command::Matrix(args) => matrix(args).await,
        Command::Planted(args) => planted(args).await,
    }
}
