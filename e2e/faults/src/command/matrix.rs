//! The kill matrix: one sale per cell. At each fail point each victim dies, the role itself or another one while it
//! stands there.

use super::{program, tasks};
use crate::{RunArgs, say};
use faults::evidence::{Act, Evidence};
use faults::house::template::Template;
use faults::nemesis::{self, Fault, Planned};
use faults::run::{self, Wish};
use futures::StreamExt as _;
use std::path::PathBuf;
use std::sync::Arc;

/// A point and who dies there.
#[derive(Debug, Clone, Copy)]
struct Cell {
    point: &'static str,
    victim: &'static str,
}

/// Runs every cell and prints the table. True when all were reached and hold.
pub async fn matrix(args: RunArgs) -> anyhow::Result<bool> {
    let template = Arc::new(Template::make(&program(args.program.as_ref(), "floodgate")?).await?);
    let points = service_kit::failpoint::POINTS;
    let cells = points.iter().flat_map(|point| nemesis::VICTIMS.map(|victim| Cell { point, victim }));
    let mut results = tasks(cells, |cell| sale(template.clone(), args.clone(), cell)).buffered(args.jobs.into());
    let (mut cells, mut reached, mut failed) = (0, 0, 0);
    say(&format!("{:<10}", "point"));
    for victim in nemesis::VICTIMS {
        say(&format!(" {victim:<16}"));
    }
    while let Some(result) = results.next().await {
        let (cell, holds, struck) = result?;
        if nemesis::VICTIMS.first() == Some(&cell.victim) {
            say(&format!("\n{:<10}", cell.point));
        }
        cells += 1;
        reached += u32::from(struck);
        failed += u32::from(!holds);
        let result = match (holds, struck) {
            (false, _) => "FAIL",
            (true, true) => "ok",
            (true, false) => "not reached",
        };
        say(&format!(" {result:<16}"));
    }
    say(&format!(
        "\n{cells} cells, {reached} reached, {failed} failed; evidence of failures in {}\n",
        args.out.display()
    ));
    Ok(failed == 0 && reached == cells)
}

/// One cell: whether its sale held, and whether the victim died. What a sale did not reach it is to reach sooner.
async fn sale(template: Arc<Template>, args: RunArgs, cell: Cell) -> anyhow::Result<(Cell, bool, bool)> {
    let hits = nemesis::hits(cell.point);
    let first = *hits.start();
    // The second time, or in the midst of the sale for what is passed regularly.
    let usual = if first == 1 { 2 } else { first.midpoint(*hits.end()) };
    let (holds, struck) = attempt(&template, &args, cell, usual).await?;
    if struck || !holds {
        return Ok((cell, holds, struck));
    }
    let (holds, struck) = attempt(&template, &args, cell, first).await?;
    Ok((cell, holds, struck))
}

async fn attempt(template: &Template, args: &RunArgs, cell: Cell, hit: u32) -> anyhow::Result<(bool, bool)> {
    let Cell { point, victim } = cell;
    let seed = args.seed.first().copied().unwrap_or(args.first);
    let role = nemesis::role_of(point);
    let fault = match victim == role {
        true => Fault::FailPoint { role, point, hit },
        false => Fault::KillAt { role, point, hit, victim },
    };
    let folder: PathBuf = args.out.join(format!("point-{point}-{victim}"));
    let planned = vec![Planned { at_ms: 0, fault }];
    let wish = Wish { seed, planned, planted: None };
    let verdict = Box::pin(run::run(template, &wish, &folder)).await?;
    let struck = died(&Evidence::read(&folder)?, victim);
    if verdict.holds() && !args.keep {
        let _ = std::fs::remove_dir_all(&folder);
    }
    Ok((verdict.holds(), struck))
}

/// Whether somebody ended by a signal in this run.
fn died(evidence: &Evidence, whom: &str) -> bool {
    evidence.nemesis.iter().any(|act: &Act| act.what == "exit" && act.whom == whom && act.detail.contains("signal"))
}
