//! `make bench-hold`: what a hold costs through HTTP, from the gate to the stores and back.
//!
//! *losers*: holds of a deal that is sold out; CPU seconds of everything on their way, next to those that Redis alone
//! spends on the same call of the same script, made by redis-benchmark on the same stock. *winners*: holds that become
//! orders, durable before the answer; how many per second, next to pgbench, which inserts the same rows into the same
//! tables of the same server, as many per commit as there are connections here. *latency*: winners, and people whom the
//! fast gate refuses because they want more than the limit, at a fixed rate, side by side: the same way without the final
//! gate. What a winner waits longer, next to one commit: of pgbench without a rest, which the goals are about, and of
//! pgbench at the winners' pace, because a server that rests takes its time to wake.

mod rivals;

use crate::goals::{Goal, median, quantile};
use crate::house::House;
use crate::processes::{Cpu, between};
use crate::wire::{Job, at_once, paced, post};
use crate::{Options, note, say, seed};
use serde_json::json;
use service_kit::ids::{AccountId, DealId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Connections of a crowd, and orders in one transaction of pgbench.
const CONNECTIONS: usize = 64;
/// Different losers; each comes again.
const LOSERS: usize = 4_000;
/// Requests per second of the latency case, winners and refused each.
const PACE_PER_S: f64 = 50.0;
/// How many of each.
const PACED: usize = 250;
/// Whole path of a loser, at most this many times what Redis spends on the script.
const LOSER_MAX: f64 = 2.5;
/// Winners, at least this share of pgbench's rate.
const WINNERS_MIN: f64 = 0.7;
/// What a winner waits longer, in commits.
const ADDED_P50_MAX: f64 = 1.0;
const ADDED_P99_MAX: f64 = 3.0;

/// Figures by name, one per round.
type Figures = BTreeMap<String, Vec<f64>>;

/// The deals and the people of a run.
struct Sale {
    sold_out: DealId,
    losers: Vec<Vec<u8>>,
    /// A deal per round with enough units, and one for each latency case.
    winning: Vec<(DealId, DealId)>,
    accounts: Vec<AccountId>,
}

pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut house = House::stores().await?;
    let sale = seeded(&house, &options).await?;
    house.open_shop().await?;
    let deals: Vec<DealId> = sale.winning.iter().flat_map(|(a, b)| [*a, *b]).chain([sale.sold_out]).collect();
    house.until_on_sale(&deals).await?;
    let rivals = rivals::Rivals::prepare(&house, sale.losers.first().map(Vec::as_slice).unwrap_or_default()).await?;

    let mut figures = Figures::new();
    for (round, (deal, slow)) in sale.winning.iter().enumerate() {
        let mut done = BTreeMap::new();
        if options.wants("losers") {
            losers(&house, &sale, &rivals, &options, &mut done).await?;
        }
        if options.wants("winners") {
            winners(&house, &sale, *deal, &rivals, &options, &mut done).await?;
        }
        if options.wants("latency") {
            latency(&house, &sale, *slow, &rivals, &mut done).await?;
        }
        // The first round only warms up.
        if round > 0 {
            note(&format!("bench-hold: round {round} of {}: {done:.2?}", options.rounds));
            for (name, figure) in done {
                figures.entry(name).or_default().push(figure);
            }
        }
    }
    let findings = house.ledger.verify().await?;
    anyhow::ensure!(findings.is_empty(), "the books do not agree: {findings:?}");
    report(&options, &figures);
    Ok(())
}

async fn seeded(house: &House, options: &Options) -> anyhow::Result<Sale> {
    let merchant = seed::merchant(house).await?;
    let accounts = seed::accounts(house, options.winners.max(PACED)).await?;
    let sold_out = seed::deal(house, merchant, 1, 1).await?;
    seed::held(house, sold_out, accounts.get(..1).unwrap_or_default()).await?;
    let mut losers = Vec::new();
    for number in 1..=LOSERS {
        // Nobody of them holds anything, so PostgreSQL need not know them.
        losers.push(hold(house, sold_out, AccountId::new(), number)?);
    }
    let mut winning = Vec::new();
    for _ in 0..=options.rounds {
        winning
            .push((seed::deal(house, merchant, 1_000_000, 1).await?, seed::deal(house, merchant, 1_000_000, 1).await?));
    }
    Ok(Sale { sold_out, losers, winning, accounts })
}

fn hold(house: &House, deal: DealId, account: AccountId, number: usize) -> anyhow::Result<Vec<u8>> {
    wish(house, deal, account, number, 1)
}

fn wish(house: &House, deal: DealId, account: AccountId, number: usize, units: u32) -> anyhow::Result<Vec<u8>> {
    let (session, pass) = (house.session(account)?, house.pass(deal, number as u64)?);
    let headers = format!("{session}{pass}idempotency-key: hold-{deal}\r\n");
    Ok(post(
        &format!("/api/v1/deals/{deal}/holds"),
        &headers,
        "application/json",
        &format!(r#"{{"quantity":{units}}}"#),
    ))
}

fn job(house: &House, requests: Vec<Vec<u8>>, total: usize, status: u16) -> Job {
    Job { target: house.gate, requests: Arc::new(requests), total, connections: CONNECTIONS, status, keep: false }
}

/// Writes the CPU seconds per 100,000 requests of each process and of all.
fn note_cpu(done: &mut BTreeMap<String, f64>, case: &str, used: &Cpu, requests: usize) -> f64 {
    let per = 100_000.0 / requests as f64;
    for (name, s) in used {
        done.insert(format!("{case}: {name}"), s * per);
    }
    let all = used.values().sum::<f64>() * per;
    done.insert(format!("{case}: all"), all);
    all
}

async fn losers(
    house: &House,
    sale: &Sale,
    rivals: &rivals::Rivals,
    options: &Options,
    done: &mut BTreeMap<String, f64>,
) -> anyhow::Result<()> {
    let before = house.cpu()?;
    let outcome = at_once(&job(house, sale.losers.clone(), options.losers, 409)).await?.whole("losers")?;
    let used = between(&before, &house.cpu()?);
    let all = note_cpu(done, "losers", &used, options.losers);
    done.insert("losers per second".into(), options.losers as f64 / outcome.took_s);
    let alone = rivals.script_cpu_s(house, options.losers).await? * 100_000.0 / options.losers as f64;
    done.insert("script alone".into(), alone);
    done.insert("losers to script".into(), all / alone);
    Ok(())
}

async fn winners(
    house: &House,
    sale: &Sale,
    deal: DealId,
    rivals: &rivals::Rivals,
    options: &Options,
    done: &mut BTreeMap<String, f64>,
) -> anyhow::Result<()> {
    let people = sale.accounts.iter().take(options.winners);
    let requests: anyhow::Result<Vec<_>> =
        (1..).zip(people).map(|(n, account)| hold(house, deal, *account, n)).collect();
    let job = job(house, requests?, options.winners, 201);
    // Before and after: a machine that is shared becomes slower and faster meanwhile.
    let first = rivals.orders_per_s(CONNECTIONS, None).await?.per_s;
    let before = house.cpu()?;
    let outcome = at_once(&job).await?.whole("winners")?;
    note_cpu(done, "winners", &between(&before, &house.cpu()?), options.winners);
    let per_s = options.winners as f64 / outcome.took_s;
    done.insert("winners per second".into(), per_s);
    let batched = f64::midpoint(first, rivals.orders_per_s(CONNECTIONS, None).await?.per_s);
    done.insert("pgbench, orders per second, 64 per commit".into(), batched);
    done.insert("winners to pgbench".into(), per_s / batched);
    Ok(())
}

async fn latency(
    house: &House,
    sale: &Sale,
    deal: DealId,
    rivals: &rivals::Rivals,
    done: &mut BTreeMap<String, f64>,
) -> anyhow::Result<()> {
    let people = sale.accounts.iter().take(PACED);
    let requests: anyhow::Result<Vec<_>> =
        (1..).zip(people).map(|(n, account)| hold(house, deal, *account, n)).collect();
    let winners = Job { connections: 8, ..job(house, requests?, PACED, 201) };
    let greedy: anyhow::Result<Vec<_>> =
        (1..=PACED).map(|n| wish(house, deal, AccountId::new(), 1_000_000 + n, 2)).collect();
    let refused = Job { connections: 8, ..job(house, greedy?, PACED, 409) };
    // Half a period apart: they are not to wait for each other.
    let later = async {
        tokio::time::sleep(Duration::from_secs_f64(0.5 / PACE_PER_S)).await;
        paced(&refused, PACE_PER_S, Arc::default()).await
    };
    let (won, lost) = tokio::join!(paced(&winners, PACE_PER_S, Arc::default()), later);
    let (won, lost) = (won?.whole("winners")?.latencies_ms, lost?.whole("refused")?.latencies_ms);
    let commit = rivals.orders_per_s(1, None).await?;
    let rested = rivals.orders_per_s(1, Some(PACE_PER_S)).await?;
    let sync_ms = rivals::sync_ms(&house.folder())?;
    done.insert("commit of one order, p50 in ms".into(), commit.p50_ms);
    done.insert("commit of one order at this pace, p50 in ms".into(), rested.p50_ms);
    done.insert("fdatasync of 8 KiB, p50 in ms".into(), sync_ms);
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let (winner, refused) = (quantile(&won, share), quantile(&lost, share));
        done.insert(format!("winner, {name} in ms"), winner);
        done.insert(format!("refused by the fast gate, {name} in ms"), refused);
        done.insert(format!("added {name} in commits"), (winner - refused) / commit.p50_ms);
        done.insert(format!("added {name} in commits at this pace"), (winner - refused) / rested.p50_ms);
    }
    Ok(())
}

fn report(options: &Options, figures: &Figures) {
    let of = |name: &str| figures.get(name).map_or(f64::NAN, |all| median(all));
    let mut goals = Vec::new();
    if options.wants("losers") {
        let detail = format!("{:.2} s of {:.2} s per 100,000", of("losers: all"), of("script alone"));
        goals.push(Goal::at_most(
            "loser's whole path to the script alone",
            of("losers to script"),
            LOSER_MAX,
            "×",
            detail,
        ));
    }
    if options.wants("winners") {
        let (ours, theirs) = (of("winners per second"), of("pgbench, orders per second, 64 per commit"));
        let detail = format!("{ours:.0} of {theirs:.0} per second");
        goals.push(Goal::at_least("winners to pgbench in batches", of("winners to pgbench"), WINNERS_MIN, "×", detail));
    }
    if options.wants("latency") {
        for (name, most) in [("p50", ADDED_P50_MAX), ("p99", ADDED_P99_MAX)] {
            let [winner, refused] =
                ["winner", "refused by the fast gate"].map(|who| of(&format!("{who}, {name} in ms")));
            let (commit, sync) = (of("commit of one order, p50 in ms"), of("fdatasync of 8 KiB, p50 in ms"));
            let rested = of(&format!("added {name} in commits at this pace"));
            let detail = format!(
                "{winner:.2} to {refused:.2} ms; a commit {commit:.2} ms, its fdatasync {sync:.2}; in commits as rare {rested:.1} ×"
            );
            let figure = of(&format!("added {name} in commits"));
            goals.push(Goal::at_most(&format!("winner's added {name}, in commits"), figure, most, "×", detail));
        }
    }
    if options.json {
        let medians: BTreeMap<_, _> = figures.iter().map(|(name, all)| (name, median(all))).collect();
        return say(&json!({ "medians": medians, "rounds": figures, "goals": goals }).to_string());
    }
    say("Medians; by process: CPU seconds per 100,000 holds");
    for (name, all) in figures {
        let (low, high) = all.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
        say(&format!("  {name:<44}{:>10.2}   ({low:.2} to {high:.2})", median(all)));
    }
    say("Goals");
    for goal in &goals {
        goal.print();
    }
}
