//! What the cases are made of: orders prepared for each round, and the steps of a shopper who pays.

use crate::Options;
use crate::house::House;
use crate::seed::{self, Held};
use crate::wire::{Answer, Connection, Job, at_once, get, post};
use anyhow::Context as _;
use service_kit::clock::monotonic;
use service_kit::ids::{AccountId, DealId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Connections of a crowd.
pub const CONNECTIONS: usize = 64;
/// Payments per second that others start while a crowd is settled.
pub const STARTS_PER_S: f64 = 50.0;
/// Orders for those.
const STARTS_MAX: usize = 500;
/// Payments, holds and pages per second beside a provider that hangs.
pub const BESIDE_PER_S: f64 = 20.0;
/// How long that is looked at, in seconds.
pub const BESIDE_S: f64 = 4.0;
/// Shoppers whose provider hangs.
pub const HANGING: usize = 96;
/// Longest wait for a step.
const STEP_TIMEOUT: Duration = Duration::from_secs(90);

/// A deal and orders of it.
#[derive(Debug)]
pub struct Orders {
    pub deal: DealId,
    pub held: Vec<Held>,
}

/// Everything for one round.
#[derive(Debug)]
pub struct Round {
    pub crowd: Orders,
    pub starters: Orders,
    pub whole: Orders,
    pub hanging: Orders,
    /// Orders of KakaoPay beside a provider that answers, and beside one that hangs.
    pub beside: [Orders; 2],
    /// A deal for holds through the gate, with accounts that hold nothing of it.
    pub fresh: DealId,
    pub shoppers: Vec<AccountId>,
}

/// All rounds, the one that warms up included.
#[derive(Debug)]
pub struct Plan {
    pub rounds: Vec<Round>,
}

impl Plan {
    /// Writes everything that any round needs, before a process could see a part of it.
    pub async fn seed(house: &House, options: &Options) -> anyhow::Result<Self> {
        let merchant = seed::merchant(house).await?;
        let beside = (BESIDE_PER_S * BESIDE_S) as usize;
        let most = options.payments.max(STARTS_MAX);
        let accounts = seed::accounts(house, most).await?;
        let orders = async |n: usize| -> anyhow::Result<Orders> {
            let deal = seed::deal(house, merchant, 1_000_000, 100).await?;
            Ok(Orders { deal, held: seed::held(house, deal, accounts.get(..n).unwrap_or_default()).await? })
        };
        let mut rounds = Vec::new();
        for _ in 0..=options.rounds {
            let of = async |case: &str, n: usize| orders(if options.wants(case) { n } else { 0 }).await;
            rounds.push(Round {
                crowd: of("crowd", options.payments).await?,
                starters: of("crowd", STARTS_MAX).await?,
                whole: of("whole", options.payments).await?,
                hanging: of("hang", HANGING).await?,
                beside: [of("hang", beside).await?, of("hang", beside).await?],
                fresh: seed::deal(house, merchant, 1_000_000, 100).await?,
                shoppers: accounts.clone(),
            });
        }
        Ok(Self { rounds })
    }

    pub fn deals(&self) -> Vec<DealId> {
        let of = |r: &Round| {
            [&r.crowd, &r.starters, &r.whole, &r.hanging, &r.beside[0], &r.beside[1]].map(|o| o.deal).to_vec()
        };
        self.rounds.iter().flat_map(|round| of(round).into_iter().chain([round.fresh])).collect()
    }
}

/// The request that starts a payment.
pub fn start(house: &House, held: &Held, provider: &str) -> anyhow::Result<Vec<u8>> {
    let headers = format!("{}idempotency-key: pay-{}\r\n", house.session(held.account)?, held.order);
    let path = format!("/api/v1/orders/{}/payments", held.order);
    Ok(post(&path, &headers, "application/json", &format!(r#"{{"provider":"{provider}"}}"#)))
}

/// A crowd that sends each of these once.
pub fn job(house: &House, requests: Vec<Vec<u8>>, connections: usize, status: u16) -> Job {
    let total = requests.len();
    Job { target: house.gate, requests: Arc::new(requests), total, connections, status, keep: false }
}

/// Starts payments of all these orders and waits until the shoppers may go to the provider.
pub async fn all_ready(house: &House, orders: &Orders, provider: &str) -> anyhow::Result<()> {
    let requests: anyhow::Result<Vec<_>> = orders.held.iter().map(|held| start(house, held, provider)).collect();
    at_once(&job(house, requests?, 16, 202)).await?.whole("start payments")?;
    let sql =
        "SELECT count(*) FROM payment p JOIN orders o ON o.id = p.order_id WHERE o.deal_id = $1 AND p.state = 'ready'";
    until("payments ready", async || {
        let ready: i64 = house.sql.query_one(sql, &[&orders.deal.0]).await?.get(0);
        Ok(ready >= orders.held.len() as i64)
    })
    .await
}

/// The shoppers pay at Toss' page; answers the requests with which their browsers come back.
pub async fn paid_at_toss(house: &House, deal: DealId) -> anyhow::Result<Vec<Vec<u8>>> {
    let sql = "SELECT p.id, p.return_secret, p.order_id FROM payment p JOIN orders o ON o.id = p.order_id
               WHERE o.deal_id = $1 AND p.state = 'ready'";
    let rows = house.sql.query(sql, &[&deal.0]).await?;
    let mut opened = Vec::new();
    for row in &rows {
        let (payment, secret, order): (uuid::Uuid, String, uuid::Uuid) = (row.get(0), row.get(1), row.get(2));
        let back = format!("http%3A%2F%2F{}%2Fpayments%2F{payment}%2Freturn%2F{secret}", house.gate);
        let form = format!(
            "client_key=test_ck_0000&method=CARD&amount={}&currency=KRW&order_id={order}&order_name=a&success_url={back}%2Fapprove&fail_url={back}%2Ffail",
            seed::PRICE
        );
        opened.push(post("/toss/sdk/payments", "", "application/x-www-form-urlencoded", &form));
    }
    let at_provider = |requests: Vec<Vec<u8>>| Job {
        target: house.simulator,
        total: requests.len(),
        requests: Arc::new(requests),
        connections: 16,
        status: 200,
        keep: true,
    };
    let opened = at_once(&at_provider(opened)).await?.whole("open Toss' window")?;
    let pressed: anyhow::Result<Vec<_>> =
        opened.answers.iter().map(|answer| press(path_of(&answer.json()?, "pay_url")?)).collect();
    let pressed = at_once(&at_provider(pressed?)).await?.whole("pay at Toss")?;
    pressed.answers.iter().map(come_back).collect()
}

/// The button of a pay page, pressed by a program.
pub fn press(path: String) -> anyhow::Result<Vec<u8>> {
    Ok(post(&path, "", "application/x-www-form-urlencoded", "action=pay"))
}

/// The request with which a browser comes back after this answer of a pay page.
pub fn come_back(answer: &Answer) -> anyhow::Result<Vec<u8>> {
    Ok(get(&path_of(&answer.json()?, "redirect_url")?, ""))
}

/// The path of an address in a document.
fn path_of(document: &serde_json::Value, field: &str) -> anyhow::Result<String> {
    let url = document.get(field).and_then(serde_json::Value::as_str).context("an address")?;
    path(url)
}

/// The path of an address.
pub fn path(url: &str) -> anyhow::Result<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let at = rest.find('/').context("a path")?;
    Ok(rest.get(at..).unwrap_or("/").to_owned())
}

/// When each order of a deal was paid, in ms; waits until all are.
pub async fn all_paid(house: &House, deal: DealId, n: usize) -> anyhow::Result<BTreeMap<uuid::Uuid, i64>> {
    let sql = "SELECT count(*) FROM orders WHERE deal_id = $1 AND state = 'paid'";
    until("orders paid", async || {
        let paid: i64 = house.sql.query_one(sql, &[&deal.0]).await?.get(0);
        Ok(paid >= n as i64)
    })
    .await?;
    let rows =
        house.sql.query("SELECT id, paid_at_ms FROM orders WHERE deal_id = $1 AND state = 'paid'", &[&deal.0]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Asks again every 20 ms until it is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = monotonic() + STEP_TIMEOUT;
    while !is_so().await? {
        anyhow::ensure!(monotonic() < deadline, "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// One request to the provider's page.
pub async fn ask_provider(connection: &mut Connection, request: &[u8]) -> anyhow::Result<Answer> {
    connection.ask(request).await?.expect(200)
}
