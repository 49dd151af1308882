//! Seeds: a sale for each, a line for each, and at the end a line per invariant.

use super::{program, tasks};
use crate::{RunArgs, say};
use faults::house::template::Template;
use faults::nemesis;
use faults::run::{self, SALE_MS, Wish};
use faults::verdict::Verdict;
use futures::StreamExt as _;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Runs the seeds. True when all hold.
pub async fn run_seeds(args: RunArgs) -> anyhow::Result<bool> {
    let seeds: Vec<u64> = match args.regressions {
        true => regressions(&args.regressions_dir)?,
        false if args.seed.is_empty() => (args.first..args.first.saturating_add(args.seeds)).collect(),
        false => args.seed.clone(),
    };
    let template = Arc::new(Template::make(&program(args.program.as_ref(), "floodgate")?).await?);
    if let Err(why) = &template.shim {
        say(&format!("clock faults are skipped: {why}\n"));
    }
    let mut runs = tasks(named(&seeds), |(name, seed)| sale(template.clone(), args.clone(), name, seed))
        .buffer_unordered(args.jobs.into());
    let mut sum = Sum::default();
    while let Some(verdict) = runs.next().await {
        sum.add(verdict?);
    }
    sum.failed.sort_unstable();
    say(&sum.table());
    Ok(sum.failed.is_empty() && sum.blind().is_empty())
}

/// A name for each run: a seed that is said twice has two folders.
fn named(seeds: &[u64]) -> Vec<(String, u64)> {
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    let name = |seed: &u64| {
        let time = times.entry(*seed).or_default();
        *time += 1;
        (if *time == 1 { format!("seed-{seed}") } else { format!("seed-{seed}-again-{time}") }, *seed)
    };
    seeds.iter().map(name).collect()
}

async fn sale(template: Arc<Template>, args: RunArgs, name: String, seed: u64) -> anyhow::Result<Verdict> {
    let began = service_kit::clock::monotonic();
    let wish = Wish { seed, planned: nemesis::plan(seed, SALE_MS), planted: None };
    let folder = args.out.join(&name);
    let verdict = Box::pin(run::run(&template, &wish, &folder)).await;
    let verdict = verdict.map_err(|error| error.context(format!("seed {seed}, evidence in {}", folder.display())))?;
    let result = if verdict.holds() { "ok" } else { "FAIL" };
    let mut said =
        format!("seed {seed}: {result}, {} faults, {:.1} s\n", wish.planned.len(), began.elapsed().as_secs_f64());
    if !verdict.holds() {
        said.push_str(&verdict.table());
        keep(&args.regressions_dir, &name, seed, &verdict)?;
    } else if !args.keep {
        let _ = std::fs::remove_dir_all(&folder);
    }
    say(&said);
    Ok(verdict)
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
fn keep(folder: &Path, run: &str, seed: u64, verdict: &Verdict) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let failed: BTreeMap<&str, &[String]> = verdict
        .checks
        .iter()
        .chain([&verdict.verify])
        .filter(|check| !check.holds())
        .map(|check| (check.id, check.violations.as_slice()))
        .collect();
    let file = serde_json::json!({ "seed": seed, "violated": failed, "faults": nemesis::plan(seed, SALE_MS) });
    // In one go: another run of the same seed may write it, too.
    let unfinished = folder.join(format!(".seed-{seed}.{}", run.replace('/', "-")));
    std::fs::write(&unfinished, serde_json::to_string_pretty(&file)? + "\n")?;
    std::fs::rename(&unfinished, folder.join(format!("seed-{seed}.json")))?;
    Ok(())
}

/// In so many runs there is something of everything that a check looks at; if not, the check is blind to it.
const RUNS_TO_SEE_ALL: u64 = 100;

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

    /// What no run had, of invariants in the same words as in the table.
    fn blind(&self) -> Vec<String> {
        let lines = self.lines.iter().filter(|_| self.runs >= RUNS_TO_SEE_ALL);
        let nothing = |line: &Line| {
            let missing = line.counts.iter().filter(|(_, count)| **count == 0);
            missing.map(|(what, _)| format!("{}: {what}", line.id)).collect::<Vec<_>>()
        };
        lines.flat_map(nothing).collect()
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
        for what in self.blind() {
            text.push_str(&format!("BLIND   {what}: there was none in {} runs, so nothing was checked\n", self.runs));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_never_sees_anything_is_blind() {
        let mut sum = Sum { runs: RUNS_TO_SEE_ALL - 1, ..Sum::default() };
        let counts = BTreeMap::from([("numbers given", 0), ("passes used", 7)]);
        sum.lines.push(Line { id: "S1", what: "a pass serves one person", judged: 7, violations: 0, counts });
        assert!(sum.blind().is_empty(), "in a few runs there may be none");
        sum.runs += 1;
        assert_eq!(sum.blind(), ["S1: numbers given"]);
        assert!(
            sum.table().ends_with("BLIND   S1: numbers given: there was none in 100 runs, so nothing was checked\n")
        );
    }
}
