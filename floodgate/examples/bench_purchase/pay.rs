//! `make bench-pay`: 1,000 shoppers who pay at once, and a provider that hangs.
//!
//! *crowd*: 1,000 shoppers come back from Toss in one moment; each payment is one call to the provider. Measured from
//! that moment to the commit of the last one, while others start payments at a fixed rate. *whole*: 1,000 shoppers press
//! "pay" with KakaoPay as fast as they can be let through, pay at the provider's page as soon as it opens, and come
//! back: two calls each. *hang*: shoppers of KakaoPay, holds and pages at fixed rates, once while Toss answers and once
//! while it takes 30 s for each call.

mod crowd;
mod hang;
mod steps;

use crate::goals::{Goal, median};
use crate::house::House;
use crate::processes::Cpu;
use crate::{Options, note, say};
use serde_json::json;
use std::collections::BTreeMap;

/// Calls that a driver makes at once, as it is configured here: the default.
const CONCURRENCY: f64 = 32.0;
/// How far above the provider's own time the whole may take.
const SETTLED_MAX: f64 = 1.5;
/// The 99th percentile of requests that start a payment, in ms.
const START_P99_MS: f64 = 50.0;
/// How much slower anything else may be while a provider hangs; above 1 because two runs of one thing differ.
const BESIDE_MAX: f64 = 1.1;

/// Figures of one round of one case, by name.
type Figures = BTreeMap<String, f64>;

/// One case of one round.
#[derive(Debug, Default)]
struct Measured {
    figures: Figures,
    cpu: Cpu,
}

pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut house = House::stores().await?;
    let mut plan = steps::Plan::seed(&house, &options).await?;
    house.open_payments().await?;
    house.open_shop().await?;
    house.until_on_sale(&plan.deals()).await?;
    let mut all: BTreeMap<&'static str, Vec<Measured>> = BTreeMap::new();
    for round in 0..=options.rounds {
        let Some(orders) = plan.rounds.pop() else { break };
        for case in ["crowd", "whole", "hang"].into_iter().filter(|case| options.wants(case)) {
            let measured = match case {
                "crowd" => crowd::come_back(&house, &orders, &options).await?,
                "whole" => crowd::whole(&house, &orders, &options).await?,
                _ => hang::beside(&house, &orders, &options).await?,
            };
            // The first round only warms up.
            if round > 0 {
                note(&format!("bench-pay: {case}, round {round}: {:?}", measured.figures));
                all.entry(case).or_default().push(measured);
            }
        }
    }
    let findings = house.ledger.verify().await?;
    anyhow::ensure!(findings.is_empty(), "the books do not agree: {findings:?}");
    report(&options, &all);
    Ok(())
}

/// The median of a figure over the rounds.
fn of(all: &BTreeMap<&'static str, Vec<Measured>>, case: &str, figure: &str) -> f64 {
    let rounds = all.get(case).map(Vec::as_slice).unwrap_or_default();
    median(&rounds.iter().filter_map(|round| round.figures.get(figure).copied()).collect::<Vec<_>>())
}

fn goals(options: &Options, all: &BTreeMap<&'static str, Vec<Measured>>) -> Vec<Goal> {
    let least_s = options.payments as f64 * options.provider_ms as f64 / 1_000.0 / CONCURRENCY;
    let mut goals = Vec::new();
    for (case, calls, name) in [("crowd", 1.0, "one call each, settled"), ("whole", 2.0, "two calls each, settled")] {
        if !all.contains_key(case) {
            continue;
        }
        let least_s = least_s * calls;
        let settled_s = of(all, case, "settled_s");
        let detail = format!("{settled_s:.2} s; the provider alone takes {least_s:.2} s");
        goals.push(Goal::at_most(name, settled_s / least_s, SETTLED_MAX, "×", detail));
        let detail = format!("p50 {:.1} ms", of(all, case, "start_p50_ms"));
        let p99 = of(all, case, "start_p99_ms");
        goals.push(Goal::at_most("… requests that start a payment, p99", p99, START_P99_MS, "ms", detail));
    }
    if all.contains_key("hang") {
        for (what, name) in [
            ("pay", "beside a hanging provider: payment, p50"),
            ("hold", "beside a hanging provider: hold, p50"),
            ("page", "beside a hanging provider: page, p50"),
        ] {
            let [before, beside] = ["before", "beside"].map(|when| of(all, "hang", &format!("{what}_p50_ms_{when}")));
            let [p99, p99_beside] = ["before", "beside"].map(|when| of(all, "hang", &format!("{what}_p99_ms_{when}")));
            let ratio = of(all, "hang", &format!("{what}_p50_ratio"));
            let detail = format!("{before:.1} to {beside:.1} ms; p99 {p99:.1} to {p99_beside:.1} ms");
            goals.push(Goal::at_most(name, ratio, BESIDE_MAX, "×", detail));
        }
    }
    goals
}

fn report(options: &Options, all: &BTreeMap<&'static str, Vec<Measured>>) {
    let goals = goals(options, all);
    let cpu = |rounds: &[Measured]| -> Cpu {
        let names = rounds.first().map(|round| round.cpu.keys().copied().collect::<Vec<_>>()).unwrap_or_default();
        let of = |name| median(&rounds.iter().filter_map(|r| r.cpu.get(name).copied()).collect::<Vec<_>>());
        names.into_iter().map(|name| (name, of(name))).collect()
    };
    if options.json {
        let rounds: BTreeMap<_, _> =
            all.iter().map(|(case, r)| (case, r.iter().map(|r| &r.figures).collect::<Vec<_>>())).collect();
        let cpu: BTreeMap<_, _> = all.iter().map(|(case, r)| (case, cpu(r))).collect();
        let report = json!({
            "payments": options.payments, "provider_ms": options.provider_ms, "rounds": rounds, "cpu_s": cpu, "goals": goals,
        });
        return say(&report.to_string());
    }
    say(&format!("{} payments at once, {} ms per call to the provider", options.payments, options.provider_ms));
    for (case, rounds) in all {
        let used = cpu(rounds);
        let all_s: f64 = used.values().sum();
        let parts: Vec<String> = used.iter().map(|(name, s)| format!("{name} {s:.2}")).collect();
        say(&format!("  {case}: CPU seconds {all_s:.2} ({})", parts.join(", ")));
    }
    say("Goals");
    for goal in &goals {
        goal.print();
    }
}
