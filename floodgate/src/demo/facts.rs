//! The evidence that no service can colour: rows of PostgreSQL read directly, and the provider's
//! own ledger from its control port.

use super::report::{OrderRow, PaymentRow, ProviderRow};
use crate::launcher::house::House;
use anyhow::Context as _;
use serde::Deserialize;
use service_kit::clock;
use service_kit::ids::DealId;
use std::time::Duration;
use tokio_postgres::Client;

/// Between two looks while the last orders come to an end.
const LOOK_MS: u64 = 250;
/// The ledger of a large demo is large; the probe of the launcher reads less.
const LEDGER_MS: u64 = 30_000;

/// Everything about money and units.
#[derive(Debug, Default)]
pub struct Facts {
    /// All orders of the deal.
    pub orders: Vec<OrderRow>,
    /// All payments of these orders.
    pub payments: Vec<PaymentRow>,
    /// All payments at the provider.
    pub provider: Vec<ProviderRow>,
}

/// Waits until no order of the deal is open and the outbox is empty, then reads everything.
/// After `patience_ms` it reads what there is: an order without an end is a finding.
///
/// # Errors
/// When PostgreSQL or the provider does not answer.
pub async fn collect(house: &House, deal: DealId, patience_ms: u64) -> anyhow::Result<Facts> {
    let until_ms = clock::now_ms().saturating_add(i64::try_from(patience_ms).unwrap_or(i64::MAX));
    loop {
        // A fresh connection each time: a planned kill may have ended the last one.
        let open = match connect(house).await {
            Ok(client) => open_ends(&client, deal).await,
            Err(error) => Err(error),
        };
        if matches!(open, Ok(0)) {
            break;
        }
        if clock::now_ms() >= until_ms {
            open.context("wait for the last orders")?;
            break;
        }
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
    let client = connect(house).await?;
    Ok(Facts {
        orders: orders(&client, deal).await?,
        payments: payments(&client, deal).await?,
        provider: provider(house).await?,
    })
}

async fn connect(house: &House) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(&house.layout.postgres_url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn open_ends(client: &Client, deal: DealId) -> anyhow::Result<i64> {
    let sql = "SELECT (SELECT count(*) FROM orders WHERE deal_id = $1 AND state IN ('held', 'paying', 'refunding'))
                    + (SELECT count(*) FROM outbox WHERE deal_id = $1 AND delivered_at_ms IS NULL)";
    Ok(client.query_one(sql, &[&deal.0]).await?.try_get(0)?)
}

async fn orders(client: &Client, deal: DealId) -> anyhow::Result<Vec<OrderRow>> {
    let sql = "SELECT id::text, quantity, amount_minor, state FROM orders WHERE deal_id = $1";
    let rows = client.query(sql, &[&deal.0]).await?;
    rows.iter()
        .map(|row| {
            Ok(OrderRow {
                id: row.try_get(0)?,
                quantity: row.try_get(1)?,
                amount_minor: row.try_get(2)?,
                state: row.try_get(3)?,
            })
        })
        .collect()
}

async fn payments(client: &Client, deal: DealId) -> anyhow::Result<Vec<PaymentRow>> {
    let sql = "SELECT order_id::text, p.state, provider_ref FROM payment p JOIN orders o ON o.id = p.order_id WHERE o.deal_id = $1";
    let rows = client.query(sql, &[&deal.0]).await?;
    rows.iter()
        .map(|row| Ok(PaymentRow { order: row.try_get(0)?, state: row.try_get(1)?, provider_ref: row.try_get(2)? }))
        .collect()
}

#[derive(Deserialize)]
struct ProviderLedger {
    payments: Vec<ProviderEntry>,
}

#[derive(Deserialize)]
struct ProviderEntry {
    tid: String,
    approvals: i64,
    captured: i64,
    cancelled: i64,
}

async fn provider(house: &House) -> anyhow::Result<Vec<ProviderRow>> {
    let http = reqwest::Client::builder().timeout(Duration::from_millis(LEDGER_MS)).build()?;
    let url = format!("http://{}/_control/ledger", house.ports.simulator_admin);
    let ledger: ProviderLedger =
        http.get(url).send().await?.error_for_status()?.json().await.context("the provider's ledger")?;
    Ok(ledger
        .payments
        .into_iter()
        .map(|entry| ProviderRow {
            tid: entry.tid,
            approvals: entry.approvals,
            captured: entry.captured,
            cancelled: entry.cancelled,
        })
        .collect())
}
