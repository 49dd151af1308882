//! The run: rounds of every case in turn, then the tails, the memory, and the report.

use crate::child::Role;
use crate::fill::{self, House, Room, THREADS};
use crate::goals::{Goal, median};
use crate::load::{self, Job};
use crate::process::cpu_of;
use crate::server::{Server, free_address, get, pin_generator, post};
use crate::{Options, note, say};
use anyhow::Context as _;
use serde_json::json;
use service_kit::private_store::{PrivateRedis, ScratchDir};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

mod streams;
mod tails;

/// Connections of the cases that count CPU.
const CONNECTIONS: usize = 64;
/// Different tickets that poll; each stands for a visitor.
const POLLERS_MAX: u64 = 100_000;
/// Different passes.
const PASSES: u64 = 1_000;
/// Time for heartbeats on their way, before CPU is read.
const SETTLE: Duration = Duration::from_millis(300);

/// CPU seconds per 100,000 requests: case → one figure per round.
type Figures = BTreeMap<&'static str, Vec<f64>>;

/// Servers without a room.
struct Bare {
    constant: Server,
    forward: Server,
    joins: Server,
    joins_pids: Vec<u32>,
    _origin: Server,
    _store: (PrivateRedis, ScratchDir),
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    pin_generator();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(all(options))
}

async fn all(options: &Options) -> anyhow::Result<()> {
    let origin_address = free_address()?;
    let origin = Server::start(&Role::Origin { listen: origin_address }, origin_address).await?;
    let houses = fill::both(options, origin_address).await?;
    note(&format!("bench-queue: {} people join the small room, {} the large one", options.few, options.many));
    let few = houses[0].room(options.few).await?;
    let mut many = houses[1].room(options.many).await?;
    let bytes_per_person = many.bytes_per_person;
    // The constant is as long as a status.
    let sample = houses[0].gate.until(&status_path(&few), |status, _| status == 200).await?;
    let bare = start_bare(origin, origin_address, "x".repeat(sample.len() + 100)).await?;
    houses[0].drop_room(&few).await?;

    let mut figures = Figures::new();
    for round in 0..=options.rounds {
        // The first round only warms up.
        let requests = if round == 0 { (options.requests / 5).max(1_000) } else { options.requests };
        let asked = Round { requests, only: options.only.as_deref() };
        let done = one_round(&bare, &houses, &mut many, &asked).await?;
        if round > 0 {
            note(&format!("bench-queue: round {round} of {} done", options.rounds));
            for (case, figure) in done {
                figures.entry(case).or_default().push(figure);
            }
        }
    }
    let few = houses[0].room(options.few).await?;
    let (mut tails, mut stream_bytes) = (tails::Tails::default(), f64::NAN);
    if options.only.is_none() {
        tails = tails::measure(&bare.constant, &houses[0], &few, options).await?;
        stream_bytes = streams::bytes_per_idle_stream(&houses[0], &few).await?;
    }

    let mut goals = goals_of(&figures);
    goals.extend(tails.goals());
    goals.push(Goal::at_most("Redis memory per waiting person", bytes_per_person, 300.0, "bytes", String::new()));
    goals.push(Goal::at_most("gate memory per idle stream", stream_bytes, 8_192.0, "bytes", String::new()));
    report(options, &figures, &tails, &goals);
    Ok(())
}

async fn start_bare(origin_server: Server, origin: SocketAddr, body: String) -> anyhow::Result<Bare> {
    let listen = free_address()?;
    let constant = Server::start(&Role::Constant { listen, threads: THREADS, body }, listen).await?;
    let listen = free_address()?;
    let forward = Server::start(&Role::Forward { listen, threads: THREADS, origin }, listen).await?;
    let directory = ScratchDir::new()?;
    let store = PrivateRedis::start(directory.path()).await?;
    let listen = free_address()?;
    let keys = ["room", "line", "seen", "called", "joins", "stock"].map(|k| format!("fg:{{plain}}:{k}")).to_vec();
    let joins = Role::Joins { listen, threads: THREADS, redis_url: store.url(), keys };
    let joins = Server::start(&joins, listen).await?;
    let joins_pids = vec![joins.pid, store.pid().context("Redis has no process")?];
    Ok(Bare { constant, forward, joins, joins_pids, _origin: origin_server, _store: (store, directory) })
}

fn status_path(room: &Room) -> String {
    format!("/_floodgate/rooms/{}/status", room.settings.room)
}

/// Every case once, in an order that spreads what the machine does besides.
async fn one_round(bare: &Bare, houses: &[House; 2], many: &mut Room, round: &Round<'_>) -> anyhow::Result<Done> {
    let [small, large] = houses;
    let mut few = small.room(small.waiting).await?;
    let mut done = Done::new();
    let poll_few = polls(small, &few);
    round.case(&mut done, "bare constant", &[bare.constant.pid], &bare.constant, &poll_few).await?;
    round.case(&mut done, "poll, few wait", &small.pids, &small.gate, &poll_few).await?;
    round.case(&mut done, "poll, many wait", &large.pids, &large.gate, &polls(large, many)).await?;

    let pass_few = passes(small, &few)?;
    round.case(&mut done, "bare forwarding", &[bare.forward.pid], &bare.forward, &pass_few).await?;
    round.case(&mut done, "pass check, few wait", &small.pids, &small.gate, &pass_few).await?;
    round.case(&mut done, "pass check, many wait", &large.pids, &large.gate, &passes(large, many)?).await?;

    let join = |room: &Room| Arc::new(vec![post(&format!("/_floodgate/rooms/{}/tickets", room.settings.room), "")]);
    round.case(&mut done, "plain EVALSHA join", &bare.joins_pids, &bare.joins, &join(&few)).await?;
    round.case(&mut done, "join, few wait", &small.pids, &small.gate, &join(&few)).await?;
    round.case(&mut done, "join, many wait", &large.pids, &large.gate, &join(many)).await?;
    small.drop_room(&few).await?;

    let people = round.requests as u64;
    if round.wants("claim, few wait") {
        // People to be called, and as many as usual behind them.
        few = small.room(small.waiting + people).await?;
        claims(small, &mut few, round, &mut done, "claim, few wait").await?;
        small.drop_room(&few).await?;
    }
    if round.wants("claim, many wait") {
        claims(large, many, round, &mut done, "claim, many wait").await?;
    }
    Ok(done)
}

/// What one round asks for.
struct Round<'o> {
    requests: usize,
    only: Option<&'o str>,
}

/// Case and CPU seconds per 100,000.
type Done = Vec<(&'static str, f64)>;

impl Round<'_> {
    fn wants(&self, case: &str) -> bool {
        self.only.is_none_or(|only| case.contains(only) || case.starts_with("bare"))
    }
    async fn case(
        &self,
        done: &mut Done,
        case: &'static str,
        pids: &[u32],
        server: &Server,
        requests: &Arc<Vec<Vec<u8>>>,
    ) -> anyhow::Result<()> {
        if self.wants(case) {
            let figure = cpu(pids, server.address, requests, self.requests).await;
            done.push((case, figure.with_context(|| format!("case `{case}`"))?));
        }
        Ok(())
    }
}

async fn claims(
    house: &House,
    room: &mut Room,
    round: &Round<'_>,
    done: &mut Done,
    case: &'static str,
) -> anyhow::Result<()> {
    let people = round.requests as u64;
    house.call(room, people).await?;
    let path = format!("/_floodgate/rooms/{}/pass", room.settings.room);
    let numbers = room.claimed + 1..=room.claimed + people;
    let requests = Arc::new(numbers.map(|n| post(&path, &house.ticket(room, n))).collect());
    round.case(done, case, &house.pids, &house.gate, &requests).await?;
    room.claimed += people;
    Ok(())
}

fn polls(house: &House, room: &Room) -> Arc<Vec<Vec<u8>>> {
    // Different people from the whole line, in no order that a cache could like.
    let people = house.waiting.min(POLLERS_MAX);
    let step = (house.waiting / people).max(1);
    let number = |i: u64| room.claimed + 1 + (i * 7_919 % people) * step;
    Arc::new((0..people).map(|i| get(&status_path(room), &house.ticket(room, number(i)))).collect())
}

fn passes(house: &House, room: &Room) -> anyhow::Result<Arc<Vec<Vec<u8>>>> {
    let path = format!("/deals/{}/buy", room.deal);
    let all: Result<_, _> = (1..=PASSES).map(|n| Ok::<_, anyhow::Error>(get(&path, &house.pass(room, n)?))).collect();
    Ok(Arc::new(all?))
}

/// CPU seconds per 100,000 requests.
async fn cpu(pids: &[u32], target: SocketAddr, requests: &Arc<Vec<Vec<u8>>>, total: usize) -> anyhow::Result<f64> {
    let job = Job { target, requests: requests.clone(), connections: CONNECTIONS, total, rate_per_s: None };
    let before = cpu_of(pids)?;
    let outcome = tokio::task::spawn_blocking(move || load::run(&job)).await??;
    tokio::time::sleep(SETTLE).await;
    let used = cpu_of(pids)? - before;
    if let Some(failure) = outcome.failure {
        anyhow::bail!("{} of {total} requests were refused, the last with: {failure}", outcome.failed);
    }
    Ok(used * 100_000.0 / total as f64)
}

/// The median over rounds of a ratio within each round.
fn ratio(figures: &Figures, case: &str, to: &str) -> f64 {
    let (Some(a), Some(b)) = (figures.get(case), figures.get(to)) else { return f64::NAN };
    median(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>())
}

fn goals_of(figures: &Figures) -> Vec<Goal> {
    let of =
        |name: &str, case, to, limit| Goal::at_most(name, ratio(figures, case, to), limit, "×", format!("of {to}"));
    let flat = (ratio(figures, "poll, many wait", "poll, few wait") - 1.0).abs() * 100.0;
    vec![
        of("poll, few wait", "poll, few wait", "bare constant", 1.15),
        of("poll, many wait", "poll, many wait", "bare constant", 1.15),
        Goal::at_most("poll from few to many: change", flat, 5.0, "%", "either way".into()),
        of("join, few wait", "join, few wait", "plain EVALSHA join", 0.65),
        of("join, many wait", "join, many wait", "plain EVALSHA join", 0.65),
        of("pass check, few wait", "pass check, few wait", "bare forwarding", 1.05),
        of("pass check, many wait", "pass check, many wait", "bare forwarding", 1.05),
    ]
}

fn report(options: &Options, figures: &Figures, tails: &tails::Tails, goals: &[Goal]) {
    if options.json {
        let medians: BTreeMap<_, _> = figures.iter().map(|(case, all)| (case, median(all))).collect();
        let report = json!({
            "few": options.few, "many": options.many, "requests": options.requests, "rounds": options.rounds,
            "cpu_s_per_100000": medians, "rounds_cpu_s_per_100000": figures, "tails": tails, "goals": goals,
        });
        return say(&report.to_string());
    }
    say(&format!("CPU seconds per 100,000, gate and Redis; few = {}, many = {} wait", options.few, options.many));
    for (case, all) in figures {
        let (low, high) = all.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
        say(&format!("  {case:<24}{:>7.2}   ({low:.2} to {high:.2} in {} rounds)", median(all), all.len()));
    }
    tails.print();
    say("Goals");
    for goal in goals {
        goal.print();
    }
}
