//! `faults`: runs seeds, replays one, judges evidence again. See the crate's README.

use clap::{Parser, Subcommand};
use faults::evidence::{Act, Evidence};
use faults::house::template::Template;
use faults::nemesis::{self, Fault, Planned};
use faults::run::{self, SALE_MS, Wish};
use faults::verdict::{self, Verdict};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
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

#[derive(Debug, clap::Args)]
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
    /// Some shoppers try a stranger's pass with their own session.
    #[arg(long)]
    strangers: bool,
    /// Also keep the evidence of runs that hold.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    service_kit::install_crypto_providers();
    let cli = Cli::parse();
    if matches!(cli.command, Command::Run(_) | Command::Matrix(_)) {
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
    }
}

fn program(args: &RunArgs) -> anyhow::Result<PathBuf> {
    match &args.program {
        Some(program) => Ok(program.clone()),
        None => Ok(std::env::current_exe()?.with_file_name("floodgate")),
    }
}

/// One sale per cell: at each fail point each victim dies, the role itself or another one while it stands there.
async fn matrix(args: RunArgs) -> anyhow::Result<bool> {
    let template = Template::make(&program(&args)?).await?;
    let seed = args.seed.first().copied().unwrap_or(args.first);
    let (mut cells, mut reached, mut failed) = (0, 0, 0);
    say(&format!("{:<10}", "point"));
    for victim in nemesis::VICTIMS {
        say(&format!(" {victim:<16}"));
    }
    for point in service_kit::failpoint::POINTS {
        say(&format!("\n{point:<10}"));
        for victim in nemesis::VICTIMS {
            let (role, hits) = (nemesis::role_of(point), nemesis::hits(point));
            // The second time, or in the midst of the sale for what is passed regularly.
            let hit = if *hits.start() == 1 { 2 } else { hits.start().midpoint(*hits.end()) };
            let fault = match victim == role {
                true => Fault::FailPoint { role, point, hit },
                false => Fault::KillAt { role, point, hit, victim },
            };
            let folder = args.out.join(format!("point-{point}-{victim}"));
            let wish = Wish { seed, planned: vec![Planned { at_ms: 0, fault }], strangers: args.strangers };
            let verdict = Box::pin(run::run(&template, &wish, &folder)).await?;
            let struck = died(&Evidence::read(&folder)?, victim);
            cells += 1;
            reached += u32::from(struck);
            failed += u32::from(!verdict.holds());
            let result = match (verdict.holds(), struck) {
                (false, _) => "FAIL",
                (true, true) => "ok",
                (true, false) => "not reached",
            };
            say(&format!(" {result:<16}"));
            if verdict.holds() && !args.keep {
                let _ = std::fs::remove_dir_all(&folder);
            }
        }
    }
    say(&format!(
        "\n{cells} cells, {reached} reached, {failed} failed; evidence of failures in {}\n",
        args.out.display()
    ));
    Ok(failed == 0)
}

/// Whether somebody ended by a signal in this run.
fn died(evidence: &Evidence, whom: &str) -> bool {
    evidence.nemesis.iter().any(|act: &Act| act.what == "exit" && act.whom == whom && act.detail.contains("signal"))
}

async fn run_seeds(args: RunArgs) -> anyhow::Result<bool> {
    let program = program(&args)?;
    let seeds: Vec<u64> = match args.regressions {
        true => regressions(&args.regressions_dir)?,
        false if args.seed.is_empty() => (args.first..args.first.saturating_add(args.seeds)).collect(),
        false => args.seed.clone(),
    };
    let template = Template::make(&program).await?;
    if let Err(why) = &template.shim {
        say(&format!("clock faults are skipped: {why}\n"));
    }
    let mut sum = Sum::default();
    for seed in seeds {
        let began = service_kit::clock::monotonic();
        let wish = Wish { seed, planned: nemesis::plan(seed, SALE_MS), strangers: args.strangers };
        let folder = args.out.join(format!("seed-{seed}"));
        let verdict = Box::pin(run::run(&template, &wish, &folder)).await;
        let verdict =
            verdict.map_err(|error| error.context(format!("seed {seed}, evidence in {}", folder.display())))?;
        let result = if verdict.holds() { "ok" } else { "FAIL" };
        say(&format!("seed {seed}: {result}, {} faults, {:.1} s\n", wish.planned.len(), began.elapsed().as_secs_f64()));
        if !verdict.holds() {
            say(&verdict.table());
            keep(&args.regressions_dir, seed, &verdict)?;
        } else if !args.keep {
            let _ = std::fs::remove_dir_all(&folder);
        }
        sum.add(verdict);
    }
    say(&sum.table());
    Ok(sum.failed.is_empty())
}

/// Seeds that have a file.
fn regressions(folder: &Path) -> anyhow::Result<Vec<u64>> {
    let mut seeds = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let seed: Option<u64> = name.strip_prefix("seed-").and_then(|rest| rest.strip_suffix(".json")?.parse().ok());
        seeds.extend(seed);
    }
    seeds.sort_unstable();
    Ok(seeds)
}

/// Writes what a failing seed violated, with its plan: the file that makes it run again.
fn keep(folder: &Path, seed: u64, verdict: &Verdict) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let failed: BTreeMap<&str, &[String]> = verdict
        .checks
        .iter()
        .chain([&verdict.verify])
        .filter(|check| !check.holds())
        .map(|check| (check.id, check.violations.as_slice()))
        .collect();
    let file = serde_json::json!({ "seed": seed, "violated": failed, "faults": nemesis::plan(seed, SALE_MS) });
    std::fs::write(folder.join(format!("seed-{seed}.json")), serde_json::to_string_pretty(&file)? + "\n")?;
    Ok(())
}

/// All runs together, a line per invariant.
#[derive(Debug, Default)]
struct Sum {
    runs: u64,
    failed: Vec<u64>,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    id: &'static str,
    what: &'static str,
    judged: u64,
    violations: usize,
    counts: BTreeMap<&'static str, u64>,
}

impl Sum {
    fn add(&mut self, verdict: Verdict) {
        self.runs += 1;
        if !verdict.holds() {
            self.failed.push(verdict.seed);
        }
        for check in verdict.checks.into_iter().chain([verdict.verify]) {
            let known = self.lines.iter().position(|line| line.id == check.id).unwrap_or_else(|| {
                let (id, what) = (check.id, check.what);
                self.lines.push(Line { id, what, judged: 0, violations: 0, counts: BTreeMap::new() });
                self.lines.len() - 1
            });
            let Some(line) = self.lines.get_mut(known) else { continue };
            line.judged += u64::from(check.is_judged());
            line.violations += check.violations.len();
            for (count, what) in &check.looked_at {
                *line.counts.entry(what).or_default() += count;
            }
        }
    }

    fn table(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let result = if line.violations > 0 {
                "FAIL"
            } else if line.judged > 0 {
                "ok"
            } else {
                "-"
            };
            let counts: Vec<String> = line.counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
            let counts = if counts.is_empty() { "not judged".to_owned() } else { counts.join(", ") };
            text.push_str(&format!(
                "{:<7} {result:<4} {}: {counts}, {} violations, judged in {} of {} runs\n",
                line.id, line.what, line.violations, line.judged, self.runs
            ));
        }
        let failed = u64::try_from(self.failed.len()).unwrap_or(u64::MAX);
        text.push_str(&format!("{} passed, {failed} failed", self.runs.saturating_sub(failed)));
        if !self.failed.is_empty() {
            text.push_str(&format!(": seeds {:?}", self.failed));
        }
        text.push('\n');
        text
    }
}
