//! A crowd that pays at once.

use super::steps::{self, CONNECTIONS, Round, STARTS_PER_S};
use super::{Figures, Measured};
use crate::Options;
use crate::goals::quantile;
use crate::house::House;
use crate::processes::between;
use crate::wire::{Connection, Job, Outcome, at_once, paced};
use anyhow::Context as _;
use service_kit::clock::now_ms;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Connections over which payments are started at a fixed rate.
const STARTERS: usize = 8;
/// Browsers at the provider's page at once.
const BROWSERS: usize = 16;

/// The provider takes so long for every call that moves a payment on.
async fn slow(house: &House, options: &Options) -> anyhow::Result<()> {
    let delay = format!("delay-before={}", options.provider_ms);
    house
        .faults(&[
            ("toss", "confirm", delay.clone()),
            ("kakaopay", "ready", delay.clone()),
            ("kakaopay", "approve", delay),
        ])
        .await
}

fn figures(settled_s: f64, starts: &Outcome) -> Figures {
    Figures::from([
        ("settled_s".to_owned(), settled_s),
        ("start_p50_ms".to_owned(), quantile(&starts.latencies_ms, 0.5)),
        ("start_p99_ms".to_owned(), quantile(&starts.latencies_ms, 0.99)),
        ("starts".to_owned(), starts.latencies_ms.len() as f64),
    ])
}

/// Everybody stands at the provider's page and comes back in one moment; others start payments meanwhile.
pub async fn come_back(house: &House, round: &Round, options: &Options) -> anyhow::Result<Measured> {
    steps::all_ready(house, &round.crowd, "toss").await?;
    let returns = steps::paid_at_toss(house, round.crowd.deal).await?;
    let starts: anyhow::Result<Vec<_>> = round.starters.held.iter().map(|h| steps::start(house, h, "toss")).collect();
    let starts = steps::job(house, starts?, STARTERS, 202);
    slow(house, options).await?;

    let stop = Arc::new(AtomicBool::new(false));
    let before = house.cpu()?;
    let began_ms = now_ms();
    let starters = tokio::spawn({
        let stop = stop.clone();
        async move { paced(&starts, STARTS_PER_S, stop).await }
    });
    let back = tokio::spawn({
        let job = steps::job(house, returns, CONNECTIONS, 303);
        async move { at_once(&job).await }
    });
    let paid = steps::all_paid(house, round.crowd.deal, round.crowd.held.len()).await?;
    let after = house.cpu()?;
    stop.store(true, Ordering::Relaxed);
    let back = back.await??.whole("come back")?;
    let starts = starters.await??.whole("start payments")?;
    house.faults(&[]).await?;

    let last_ms = paid.values().max().copied().unwrap_or(i64::MAX);
    let mut figures = figures((last_ms - began_ms) as f64 / 1_000.0, &starts);
    figures.insert("back_s".to_owned(), back.took_s);
    Ok(Measured { figures, cpu: between(&before, &after) })
}

/// Everybody presses "pay", pays at the provider's page when it opens, and comes back.
pub async fn whole(house: &House, round: &Round, options: &Options) -> anyhow::Result<Measured> {
    let orders = &round.whole;
    // As fast as the provider opens sessions, which is as fast as anybody can get through.
    let rate = super::CONCURRENCY * 1_000.0 / options.provider_ms as f64 / 2.0;
    let starts: anyhow::Result<Vec<_>> = orders.held.iter().map(|held| steps::start(house, held, "kakaopay")).collect();
    let starts = steps::job(house, starts?, CONNECTIONS, 202);
    slow(house, options).await?;

    let before = house.cpu()?;
    let began_ms = now_ms();
    let starters = tokio::spawn(async move { paced(&starts, rate, Arc::default()).await });
    let (pages, queue) = mpsc::channel(orders.held.len().max(1));
    let browsers = tokio::spawn(browsers(house.simulator, house.gate, queue));
    let (ended, end) = oneshot::channel::<()>();
    let watched = watch(house, round, pages, end);
    let paid = async {
        let paid = steps::all_paid(house, orders.deal, orders.held.len()).await;
        let _ = ended.send(());
        paid
    };
    let (watched, paid) = tokio::join!(watched, paid);
    watched?;
    let paid = paid?;
    let after = house.cpu()?;
    browsers.await??;
    let starts = starters.await??.whole("start payments")?;
    house.faults(&[]).await?;
    let last_ms = paid.values().max().copied().unwrap_or(i64::MAX);
    let figures = figures((last_ms - began_ms) as f64 / 1_000.0, &starts);
    Ok(Measured { figures, cpu: between(&before, &after) })
}

/// Tells the browsers of each page that opens. In the place of the order pages, which hear it by server-sent events.
async fn watch(
    house: &House,
    round: &Round,
    pages: mpsc::Sender<String>,
    mut end: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    // What is new only: all of them each time would be the most expensive statement of the run.
    let sql = "SELECT p.id, p.redirect_pc, p.updated_at_ms FROM payment p JOIN orders o ON o.id = p.order_id
               WHERE o.deal_id = $1 AND p.state = 'ready' AND p.updated_at_ms >= $2";
    let (mut known, mut last_ms) = (BTreeSet::new(), 0_i64);
    loop {
        // A commit may be seen after one that began later.
        let since_ms = last_ms - 2_000;
        for row in house.sql.query(sql, &[&round.whole.deal.0, &since_ms]).await? {
            let (payment, page): (uuid::Uuid, String) = (row.get(0), row.get(1));
            last_ms = last_ms.max(row.get(2));
            if known.insert(payment) {
                pages.send(steps::path(&page)?).await?;
            }
        }
        tokio::select! {
            _ = &mut end => return Ok(()),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
}

/// Browsers that pay at the provider's page and come back.
async fn browsers(
    simulator: std::net::SocketAddr,
    gate: std::net::SocketAddr,
    mut pages: mpsc::Receiver<String>,
) -> anyhow::Result<()> {
    let (work, queue) = async_queue();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..BROWSERS {
        let queue = queue.clone();
        all.spawn(async move {
            let (mut there, mut here) = (Connection::new(simulator), Connection::new(gate));
            loop {
                let Some(page) = queue.lock().await.recv().await else { return anyhow::Ok(()) };
                let answer = steps::ask_provider(&mut there, &steps::press(page)?).await?;
                here.ask(&steps::come_back(&answer)?).await?.expect(303)?;
            }
        });
    }
    while let Some(page) = pages.recv().await {
        work.send(page).await.context("no browser is left")?;
    }
    drop(work);
    while let Some(browser) = all.join_next().await {
        browser??;
    }
    Ok(())
}

type Shared = Arc<tokio::sync::Mutex<mpsc::Receiver<String>>>;

fn async_queue() -> (mpsc::Sender<String>, Shared) {
    let (work, queue) = mpsc::channel(BROWSERS);
    (work, Arc::new(tokio::sync::Mutex::new(queue)))
}

/// Comes back with these requests at a fixed rate.
pub async fn come_back_paced(house: &House, returns: Vec<Vec<u8>>, rate_per_s: f64) -> anyhow::Result<Outcome> {
    let job: Job = steps::job(house, returns, STARTERS, 303);
    paced(&job, rate_per_s, Arc::default()).await
}
