//! `floodgate demo`: a whole sale with a synthetic crowd on private stores, and its verdict.
//!
//! Steps, each with its undo: start the house (stop it) → merchant, accounts, deal (the stores are
//! wiped at the next demo) → the crowd, while planned kills happen → wait for the last orders →
//! evidence → report. Whatever fails, the house is stopped.

mod behaviour;
mod client;
mod crowd;
mod facts;
mod history;
mod live;
mod plan;
mod progress;
mod purchase;
mod report;
mod scene;
mod shopper;

use crate::cli::{DemoArgs, Kill};
use crate::commands::verify;
use crate::launcher::house::House;
use crate::launcher::up;
use crate::output;
use anyhow::Context as _;
use ledger::{Finding, Ledger};
use plan::Plan;
use report::{Evidence, Report};
use scene::Scene;
use service_kit::clock;
use service_kit::redis::Redis;
use service_kit::shutdown::{self, Shutdown};
use std::cell::Cell;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for the last orders: a hold's life, and time for payments to be resolved.
const PATIENCE_MS: u64 = 60_000;
/// Longest wait for a store that was killed at the very end, before the audit gives up.
const AUDIT_MS: i64 = 20_000;
/// A child that is just being restarted is killed as soon as it runs, if it does within this time.
const KILL_TRIES: u32 = 40;

/// How long the shop stays open after the report when nobody can press Ctrl-C.
const STAY_UNATTENDED_S: u32 = 60;

/// Runs the demo.
///
/// # Errors
/// When something cannot be started or does not answer; then nothing is left running.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signal();
    let plan = Plan::new(&args);
    if u64::from(plan.shoppers) < u64::from(plan.stock) * 2 {
        output::note("fewer than two shoppers per unit: the deal may not sell out, and the verdict will say so");
    }
    let mut house = House::prepare(&args.dir.join("demo"), true, &plan::choices()).await?;
    output::note("starting Redis, PostgreSQL and every role …");
    let result = tokio::select! {
        biased;
        result = Box::pin(show(&mut house, &args, plan, &stop)) => result,
        () = stop.requested() => Ok(ExitCode::FAILURE),
    };
    output::note("stopping …");
    house.stop().await;
    result
}

async fn show(house: &mut House, args: &DemoArgs, plan: Plan, stop: &Shutdown) -> anyhow::Result<ExitCode> {
    house.start().await?;
    output::note(&up::table(&house.board.snapshot().await));
    let ledger = house.ledger().await?;
    let scene = Arc::new(Box::pin(scene::set(house, &ledger, &plan)).await?);
    output::note(&format!("deal      {}/deals/{}", scene.gate, scene.deal));
    let Plan { shoppers, stock, rate_per_s, inside_max, seed, .. } = plan;
    output::note(&format!(
        "{shoppers} shoppers, {stock} units, {rate_per_s} called per second, at most {inside_max} inside, seed {seed}"
    ));

    let seen = {
        let crowd = crowd::run(scene.clone(), plan);
        let struck = Cell::new(0_usize);
        let beside = async {
            let kills = args.kill.iter().map(|kill| strike(house, &scene, kill, &struck));
            tokio::join!(live::show(&scene), futures::future::join_all(kills)).0
        };
        let (crowd, beside) = (std::pin::pin!(crowd), std::pin::pin!(beside));
        let seen = match futures::future::select(crowd, beside).await {
            futures::future::Either::Left((seen, _)) => seen,
            futures::future::Either::Right((never, _)) => match never {},
        };
        if struck.get() < args.kill.len() {
            output::note("the sale was over before every planned kill");
        }
        seen
    };
    let sale_ms = clock::now_ms().saturating_sub(scene.starts_at_ms);
    output::note("the crowd has gone home; checking …");
    let facts = facts::collect(house, scene.deal, PATIENCE_MS).await?;
    let audit = audit(house, &ledger).await?;
    let report = report::report(Evidence {
        stock: i64::from(plan.stock),
        orders: facts.orders,
        payments: facts.payments,
        provider: facts.provider,
        turns: seen.turns,
        crowd: seen.counts,
        audit,
        seconds: sale_ms as f64 / 1_000.0,
        seed: plan.seed,
    });
    tell(&report, args.json)?;
    if !args.once {
        stay(args, &scene.gate, stop).await;
    }
    Ok(if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The audit; repeated while a store that was killed at the very end comes back.
async fn audit(house: &House, ledger: &Ledger) -> anyhow::Result<Vec<Finding>> {
    let redis = house.settings()?.redis.context("[redis] is in the file")?;
    let until_ms = clock::now_ms().saturating_add(AUDIT_MS);
    loop {
        let result = async { verify::audit(ledger, Some(&Redis::connect(&redis).await?)).await }.await;
        match result {
            Err(_) if clock::now_ms() < until_ms => tokio::time::sleep(Duration::from_millis(500)).await,
            result => return result,
        }
    }
}

/// Leaves the shop open for a look around. Without a terminal nobody can press Ctrl-C, so it ends by itself.
async fn stay(args: &DemoArgs, gate: &str, stop: &Shutdown) {
    let unattended = !std::io::stdin().is_terminal();
    match args.stay_s.or(unattended.then_some(STAY_UNATTENDED_S)) {
        Some(seconds) => {
            output::note(&format!("still up for {seconds} s: {gate}/   (Ctrl-C stops everything)"));
            stop.sleep_ms(u64::from(seconds) * 1_000).await;
        }
        None => {
            output::note(&format!("still up: {gate}/   (Ctrl-C stops everything)"));
            stop.requested().await;
        }
    }
}

fn tell(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        output::data(&serde_json::to_string(report)?);
    } else {
        output::data(&report.table());
    }
    for why in &report.failed {
        output::note(&format!("check failed: {why}"));
    }
    Ok(())
}

/// kill -9 of one child at its moment.
async fn strike(house: &House, scene: &Scene, kill: &Kill, struck: &Cell<usize>) {
    let pause_ms =
        scene.starts_at_ms.saturating_sub(clock::now_ms()).saturating_add(i64::try_from(kill.after_ms).unwrap_or(0));
    tokio::time::sleep(Duration::from_millis(u64::try_from(pause_ms).unwrap_or(0))).await;
    for _ in 0..KILL_TRIES {
        if house.kill(&kill.role) {
            struck.set(struck.get().saturating_add(1));
            output::note(&format!("kill -9 {}", kill.role));
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
