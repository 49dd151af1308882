//! The planted bugs: is the checker awake?

use super::{program, tasks};
use crate::say;
use faults::house::template::Template;
use faults::planted::{self, BUGS, Bug, PROGRAM};
use faults::run::{self, Wish};
use faults::verdict::Verdict;
use futures::StreamExt as _;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

/// What to plant and how long to look.
#[derive(Debug, Clone, clap::Args)]
pub struct PlantedArgs {
    /// Only this bug; may be said several times.
    #[arg(long)]
    bug: Vec<String>,
    /// The most seeds per bug.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// The executable with the bugs; beside this one if not said.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Where history, logs and evidence of runs are kept that did not find their bug.
    #[arg(long, default_value = "e2e/out/planted")]
    out: PathBuf,
    /// Also keep the evidence of runs that found it.
    #[arg(long)]
    keep: bool,
    /// How many sales run at once; if not said, one per core.
    #[arg(long, default_value_t = super::cores(), value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// The table as JSON.
    #[arg(long)]
    json: bool,
    /// Only print the list, as the README has it.
    #[arg(long)]
    list: bool,
}

/// What became of one bug.
#[derive(Debug, Clone, Serialize)]
struct Found {
    bug: &'static str,
    /// The invariants of which one should find it.
    should: &'static [&'static str],
    /// The invariants that were broken in the run that found it.
    by: Vec<&'static str>,
    /// The seed that found it.
    seed: Option<u64>,
    /// How many seeds were run.
    runs: u64,
    /// How many of them came to the mistake at all.
    reached: u64,
}

/// Plants one bug after the other. True when all are found.
pub async fn planted(args: PlantedArgs) -> anyhow::Result<bool> {
    if args.list {
        say(&planted::table());
        return Ok(true);
    }
    let bugs: Vec<&'static Bug> = match args.bug.as_slice() {
        [] => BUGS.iter().collect(),
        names => names.iter().map(|name| Bug::named(name)).collect::<Result<_, _>>()?,
    };
    let template = Arc::new(Template::make(&program(args.program.as_ref(), PROGRAM)?).await?);
    let mut hunts = tasks(bugs, |bug| hunt(template.clone(), args.clone(), bug)).buffer_unordered(args.jobs.into());
    let mut all = Vec::new();
    while let Some(found) = hunts.next().await {
        let found = found?;
        if !args.json {
            say(&line(&found));
        }
        all.push(found);
    }
    let missed: Vec<&str> = all.iter().filter(|found| found.seed.is_none()).map(|found| found.bug).collect();
    if args.json {
        say(&(serde_json::to_string_pretty(&all)? + "\n"));
    } else {
        say(&format!("{} of {} planted bugs found", all.len() - missed.len(), all.len()));
        say(&if missed.is_empty() { "\n".to_owned() } else { format!("; not found: {}\n", missed.join(", ")) });
    }
    Ok(missed.is_empty())
}

fn line(found: &Found) -> String {
    let Found { bug, should, by, seed, runs, reached } = found;
    let how = match seed {
        Some(seed) => format!("found by {} with seed {seed}", by.join(", ")),
        None => format!("NOT FOUND in {runs} seeds; {reached} of them came to it"),
    };
    format!("{bug:<32} {:<8} {how}\n", should.join(", "))
}

/// Runs seeds until an invariant finds the bug that should.
async fn hunt(template: Arc<Template>, args: PlantedArgs, bug: &'static Bug) -> anyhow::Result<Found> {
    let Bug { name, caught_by: should, .. } = *bug;
    let mut found = Found { bug: name, should, by: Vec::new(), seed: None, runs: 0, reached: 0 };
    for seed in args.first..args.first.saturating_add(args.seeds) {
        let wish = Wish { seed, planned: bug.plan(seed), planted: Some(bug) };
        let folder = args.out.join(format!("{name}-seed-{seed}"));
        let verdict = Box::pin(run::run(&template, &wish, &folder)).await;
        let verdict = verdict.map_err(|error| error.context(format!("{name}, seed {seed}: {}", folder.display())))?;
        found.runs += 1;
        found.reached += u64::from(bug.was_reached(&folder.join("logs")));
        let broken = broken(&verdict);
        let is_found = broken.iter().any(|id| should.contains(id));
        if is_found {
            (found.by, found.seed) = (broken, Some(seed));
        }
        if is_found && !args.keep {
            let _ = std::fs::remove_dir_all(&folder);
        }
        if is_found {
            break;
        }
    }
    Ok(found)
}

fn broken(verdict: &Verdict) -> Vec<&'static str> {
    let checks = verdict.checks.iter().chain([&verdict.verify]);
    checks.filter(|check| !check.holds()).map(|check| check.id).collect()
}
