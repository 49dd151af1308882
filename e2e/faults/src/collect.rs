//! Collecting the evidence: rows of PostgreSQL, keys of Redis, the provider's ledger, metrics, logs, what processes use.
//! All of it without a proxy in between, and none of it through a service that could colour it.

use crate::evidence::{LedgerDump, ProviderRow, RedisDump, Sample, UpstreamLine, Usage};
use crate::history::Zero;
use crate::house::House;
use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use service_kit::redis::{Redis, RedisConfig, Reply};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

/// Longest wait for one answer while everything works, in ms.
const ANSWER_MS: u64 = 5_000;

/// A connection to PostgreSQL.
///
/// # Errors
/// When it does not answer.
pub async fn postgres(house: &House) -> anyhow::Result<Client> {
    let url = house.postgres_url();
    let connect = tokio_postgres::connect(&url, NoTls);
    let (client, connection) = tokio::time::timeout(Duration::from_millis(ANSWER_MS), connect).await??;
    tokio::spawn(connection);
    Ok(client)
}

/// A connection to Redis.
///
/// # Errors
/// When it does not answer.
pub async fn redis(house: &House) -> anyhow::Result<Redis> {
    let config = RedisConfig { url: house.redis_url(), connections: 1, command_timeout_ms: 2_000 };
    Ok(tokio::time::timeout(Duration::from_millis(ANSWER_MS), Redis::connect(&config)).await??)
}

async fn rows<T: DeserializeOwned>(client: &Client, table: &str) -> anyhow::Result<Vec<T>> {
    let rows = client.query(&format!("SELECT row_to_json(t)::text FROM {table} t"), &[]).await?;
    rows.iter()
        .map(|row| serde_json::from_str(row.try_get::<_, &str>(0)?).with_context(|| format!("a row of {table}")))
        .collect()
}

/// Everything in PostgreSQL that the checker looks at.
///
/// # Errors
/// When it does not answer.
pub async fn ledger(house: &House) -> anyhow::Result<LedgerDump> {
    let client = postgres(house).await?;
    Ok(LedgerDump {
        deal: rows(&client, "deal").await?,
        orders: rows(&client, "orders").await?,
        order_event: rows(&client, "order_event").await?,
        payment: rows(&client, "payment").await?,
        refund: rows(&client, "refund").await?,
        outbox: rows(&client, "outbox").await?,
        allowance: rows(&client, "allowance").await?,
        attempt: rows(&client, "attempt").await?,
        audit: rows(&client, "audit").await?,
    })
}

async fn hash(redis: &Redis, key: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let reply = redis.command("HGETALL", &[key]).await?;
    let texts: Vec<String> = reply.list()?.iter().map(Reply::text).collect::<Result<_, _>>()?;
    Ok(texts.chunks_exact(2).filter_map(|pair| Some((pair.first()?.clone(), pair.get(1)?.clone()))).collect())
}

/// The fast stock of a deal; `None` when there is none.
///
/// # Errors
/// When Redis does not answer.
pub async fn fast_stock(house: &House, room: &str) -> anyhow::Result<Option<RedisDump>> {
    let redis = redis(house).await?;
    let key = |name: &str| format!("fg:{{{room}}}:{name}");
    let dump = RedisDump {
        stock: hash(&redis, &key("stock")).await?,
        bought: hash(&redis, &key("bought")).await?,
        units: hash(&redis, &key("units")).await?,
    };
    redis.close().await;
    Ok((!dump.stock.is_empty()).then_some(dump))
}

/// Units of the deal in both stores, as far as they answer.
pub async fn sample(house: &House, room: &str, deal: &str, zero: Zero) -> Sample {
    let t = zero.us();
    let ledger = async {
        let client = postgres(house).await.ok()?;
        let row =
            client.query_one("SELECT stock, held, sold FROM deal WHERE id = $1::text::uuid", &[&deal]).await.ok()?;
        Some([row.try_get(0).ok()?, row.try_get(1).ok()?, row.try_get(2).ok()?])
    };
    let fast = async {
        let dump = fast_stock(house, room).await.ok()??;
        Some([dump.figure("available")?, dump.figure("held")?, dump.figure("sold")?])
    };
    let limit = Duration::from_millis(1_000);
    let (ledger, fast) = tokio::join!(tokio::time::timeout(limit, ledger), tokio::time::timeout(limit, fast));
    Sample { t, ledger: ledger.ok().flatten(), redis: fast.ok().flatten() }
}

/// How many orders are not at an end, how many outbox entries are not delivered. A hold whose deadline lies further
/// ahead than a hold may last is not waited for: the checker tells of it.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn open_ends(house: &House) -> anyhow::Result<i64> {
    let sane_ms = service_kit::clock::now_ms().saturating_add(crate::house::config::HOLD_TTL_MS);
    let sql = "SELECT (SELECT count(*) FROM orders WHERE state IN ('paying', 'refunding')
                     OR state = 'held' AND hold_expires_at_ms < $1)
                    + (SELECT count(*) FROM outbox WHERE delivered_at_ms IS NULL)
                    + (SELECT count(*) FROM refund WHERE state IN ('requested', 'sending', 'unknown'))
                    + (SELECT count(*) FROM payment WHERE state IN ('authorized', 'confirming', 'unknown')
                       AND parked_reason IS NULL)";
    Ok(postgres(house).await?.query_one(sql, &[&sane_ms]).await?.try_get(0)?)
}

/// The provider's ledger.
///
/// # Errors
/// When the simulator does not answer.
pub async fn provider(house: &House) -> anyhow::Result<Vec<ProviderRow>> {
    let url = format!("http://{}/_control/ledger", house.addresses.simulator_admin);
    let said: Value = get(&url).await?.json().await?;
    Ok(serde_json::from_value(said.get("payments").cloned().unwrap_or_default())?)
}

/// `/metrics` of every role that answers.
pub async fn metrics(house: &House) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for role in crate::house::ROLES {
        let Some(admin) = house.addresses.admin(role) else { continue };
        if let Ok(answer) = get(&format!("http://{admin}/metrics")).await
            && let Ok(text) = answer.text().await
        {
            all.insert(role.to_owned(), text);
        }
    }
    all
}

async fn get(url: &str) -> anyhow::Result<reqwest::Response> {
    let http = reqwest::Client::builder().timeout(Duration::from_millis(ANSWER_MS)).build()?;
    Ok(http.get(url).send().await?.error_for_status()?)
}

/// The lines that the deal service wrote about requests.
pub fn upstream(log: &Path) -> Vec<UpstreamLine> {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter(|line| line.contains("\"answered\""));
    let text_of = |line: &Value, name: &str| line.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    lines
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|line| UpstreamLine {
            route: text_of(&line, "route"),
            method: text_of(&line, "method"),
            status: line.get("status").and_then(Value::as_i64).unwrap_or(0),
            trace_id: text_of(&line, "trace_id"),
        })
        .collect()
}

/// What every process uses now, and how many connections the stores have.
pub async fn usage(house: &House) -> Vec<Usage> {
    let mut all = Vec::new();
    for role in crate::house::ROLES {
        let Some(pid) = house.process(role).ok().and_then(crate::house::child::Process::pid) else { continue };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let figure = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        all.push(Usage {
            whom: role.to_owned(),
            fds: i64::try_from(fds).unwrap_or(0),
            threads: figure("Threads:"),
            rss_kib: figure("VmRSS:"),
        });
    }
    if let Ok(client) = postgres(house).await
        && let Ok(row) = client.query_one("SELECT count(*) FROM pg_stat_activity", &[]).await
    {
        all.push(Usage { whom: "postgres".into(), fds: row.try_get(0).unwrap_or(0), ..Usage::default() });
    }
    if let Ok(redis) = redis(house).await {
        if let Ok(info) = redis.command("INFO", &["clients"]).await
            && let Ok(text) = info.text()
        {
            let clients = text.lines().find_map(|line| line.strip_prefix("connected_clients:"));
            let fds = clients.and_then(|n| n.trim().parse().ok()).unwrap_or(0);
            all.push(Usage { whom: "redis".into(), fds, ..Usage::default() });
        }
        redis.close().await;
    }
    all
}
