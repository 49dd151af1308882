//! What the house is compared with: redis-benchmark, pgbench, and the disk itself.

use crate::goals::quantile;
use crate::house::House;
use crate::processes::cpu_s;
use crate::wire::Connection;
use anyhow::Context as _;
use service_kit::clock::monotonic;
use service_kit::private_store::find_program;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;

/// A database of its own on the same server: what pgbench writes is in nobody's books.
const DATABASE: &str = "rival";
/// How long pgbench runs each time, in seconds.
const SECONDS: u64 = 3;
/// Longest wait for the script's call to be seen.
const SEEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Writes that are waited for.
const SYNCS: usize = 100;

/// The rivals, ready to run.
pub struct Rivals {
    /// The call of the script as the deal service makes it.
    call: Vec<String>,
    sockets: PathBuf,
    folder: PathBuf,
    deal: uuid::Uuid,
    account: uuid::Uuid,
}

/// What pgbench reached.
#[derive(Debug, Clone, Copy)]
pub struct Reached {
    /// Orders per second.
    pub per_s: f64,
    /// The middle transaction, in ms.
    pub p50_ms: f64,
}

impl Rivals {
    /// `loser` is a hold that ends at the script.
    pub async fn prepare(house: &House, loser: &[u8]) -> anyhow::Result<Self> {
        let call = seen_call(house, loser).await?;
        let (sockets, folder) = (house.postgres_sockets(), house.folder().join(DATABASE));
        // The server's user writes nothing here, and pgbench is ours.
        std::fs::create_dir_all(&folder)?;
        let rows =
            house.sql.query("SELECT d.id, a.id FROM deal d, account a WHERE d.stock = 1000000 LIMIT 1", &[]).await?;
        let row = rows.first().context("a deal and an account")?;
        let (deal, account) = (row.get(0), row.get(1));
        // A copy would need the database to be idle, so the schema is made anew and two rows are carried over.
        house.sql.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
        let url = format!("host={} user=floodgate dbname={DATABASE}", sockets.display());
        let rival = ledger::Ledger::connect(&ledger::PgConfig { url: url.clone(), connections: 1 }).await?;
        rival.migrate().await?;
        let (sql, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        let merchant = uuid::Uuid::new_v4();
        sql.execute("INSERT INTO merchant VALUES ($1, 'Rival', 0)", &[&merchant]).await?;
        sql.execute("INSERT INTO account VALUES ($1, 'a@bench.invalid', 'A', '-', 0)", &[&account]).await?;
        sql.execute(
            "INSERT INTO deal (id, merchant_id, title, description, price_minor, currency, stock, per_user_limit, starts_at_ms,
                ends_at_ms, admission_rate_per_s, admission_cap, hold_ttl_ms, created_at_ms)
             VALUES ($1, $2, 'Rival', '', 1, 'KRW', 1000000, 100, 0, 1000000000000000, 1, 1, 1000, 0)",
            &[&deal, &merchant],
        )
        .await?;
        Ok(Self { call, sockets, folder, deal, account })
    }

    /// CPU seconds that Redis spends when redis-benchmark makes the call so often, from as many connections as the crowd.
    pub async fn script_cpu_s(&self, house: &House, times: usize) -> anyhow::Result<f64> {
        let redis = house.processes.iter().find(|(name, _)| *name == "Redis").context("Redis")?.1;
        let program = find_program("redis-benchmark", "FLOODGATE_REDIS_BENCHMARK", "redis-tools")?;
        let before = cpu_s(redis)?;
        let mut command = Command::new(program);
        command.arg("-s").arg(house.redis_socket()).args(["-q", "-n", &times.to_string()]);
        command.args(["-c", &super::CONNECTIONS.to_string()]).args(&self.call);
        said(command).await?;
        Ok(cpu_s(redis)? - before)
    }

    /// Orders inserted by one client of pgbench, `batch` in each transaction, with the deal's count as the house keeps it:
    /// one transaction after the other, or `pace_per_s` of them with rests between.
    pub async fn orders_per_s(&self, batch: usize, pace_per_s: Option<f64>) -> anyhow::Result<Reached> {
        let Self { deal, account, .. } = self;
        let insert = format!(
            "INSERT INTO orders (id, deal_id, account_id, lease_number, quantity, held_units, amount_minor, currency, state, step_actor, \
             idempotency_key, fingerprint, hold_expires_at_ms, created_at_ms, updated_at_ms, trace_id) VALUES (gen_random_uuid(), '{deal}', \
             '{account}', 1, 1, 1, 12900, 'KRW', 'held', 'shopper', gen_random_uuid()::text, decode(repeat('01', 32), 'hex'), \
             1000000000000, 1, 1, 'rival');\n"
        );
        // The count goes back and forth, so that no run meets the end of the stock.
        let script = format!(
            "BEGIN;\nUPDATE deal SET held = (held + 1) % 1000 WHERE id = '{deal}';\n{}COMMIT;\n",
            insert.repeat(batch)
        );
        let file = self.folder.join(format!("orders-{batch}.sql"));
        std::fs::write(&file, script)?;
        for old in
            std::fs::read_dir(&self.folder)?.flatten().filter(|f| f.file_name().to_string_lossy().starts_with("log."))
        {
            std::fs::remove_file(old.path())?;
        }
        let program = find_program("pgbench", "FLOODGATE_PG_BIN", "postgresql-contrib")?;
        let mut command = Command::new(program);
        command.arg("-h").arg(&self.sockets).args([
            "-U",
            "floodgate",
            "-n",
            "-M",
            "prepared",
            "-c",
            "1",
            "-T",
            &SECONDS.to_string(),
        ]);
        command.args(pace_per_s.map(|pace| format!("--rate={pace}")));
        command.arg("-f").arg(&file).args(["-l", "--log-prefix=log"]).arg(DATABASE).current_dir(&self.folder);
        let text = said(command).await?;
        let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")).context("tps of pgbench")?;
        let tps: f64 = tps.split_whitespace().next().unwrap_or_default().parse()?;
        let mut took_ms = Vec::new();
        for log in
            std::fs::read_dir(&self.folder)?.flatten().filter(|f| f.file_name().to_string_lossy().starts_with("log."))
        {
            let text = std::fs::read_to_string(log.path())?;
            took_ms.extend(text.lines().filter_map(took_us).map(|us| us / 1_000.0));
        }
        Ok(Reached { per_s: tps * batch as f64, p50_ms: quantile(&took_ms, 0.5) })
    }
}

/// What a line of pgbench's log says about its transaction. With a pace the time counts from when it was due; the seventh
/// word is how much later it began.
fn took_us(line: &str) -> Option<f64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let late_us = words.get(6).map_or(Ok(0.0), |word| word.parse::<f64>()).ok()?;
    Some(words.get(2)?.parse::<f64>().ok()? - late_us)
}

/// The middle fdatasync of an 8 KiB append, in ms.
pub fn sync_ms(folder: &Path) -> anyhow::Result<f64> {
    let mut file = std::fs::File::create(folder.join("sync"))?;
    // As PostgreSQL's log: the file has its length, and blocks are overwritten.
    file.write_all(&vec![0; 8_192 * SYNCS])?;
    file.sync_all()?;
    std::io::Seek::rewind(&mut file)?;
    let mut took_ms = Vec::new();
    for _ in 0..SYNCS {
        let started = monotonic();
        file.write_all(&[1; 8_192])?;
        file.sync_data()?;
        took_ms.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(quantile(&took_ms, 0.5))
}

/// Watches Redis while one hold goes through, and answers the call of the script, word for word.
async fn seen_call(house: &House, loser: &[u8]) -> anyhow::Result<Vec<String>> {
    let mut stream = UnixStream::connect(house.redis_socket()).await?;
    stream.write_all(b"MONITOR\r\n").await?;
    let mut lines = BufReader::new(stream).lines();
    lines.next_line().await?;
    // The key of the request stands among the arguments.
    let key = " \"hold-";
    let seen = async {
        loop {
            let line = lines.next_line().await?.context("Redis hung up")?;
            if line.contains("\"EVALSHA\"") && line.contains(key) {
                return anyhow::Ok(line);
            }
        }
    };
    let ask = async { Connection::new(house.shop()).ask(loser).await?.expect(409) };
    let (line, answer) = tokio::join!(tokio::time::timeout(SEEN_TIMEOUT, seen), ask);
    answer?;
    let line = line.context("the script was not called")??;
    // `1700000000.1 [0 unix:…] "EVALSHA" "sha" …`: none of the words has a quote or a blank inside.
    Ok(line.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

async fn said(mut command: Command) -> anyhow::Result<String> {
    let output = command.stdin(std::process::Stdio::null()).output().await?;
    anyhow::ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
