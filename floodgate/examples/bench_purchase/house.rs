//! The house under test: private stores, and the roles behind each other as in a small installation.

use crate::child::{HIDDEN, Role};
use crate::processes::{Cpu, cpu_of};
use crate::wire::{Answer, Connection, get};
use anyhow::Context as _;
use ledger::{Ledger, PgConfig};
use queue::pass::{Pass, PassSigner};
use serde_json::{Value, json};
use service_kit::clock::{monotonic, now_ms};
use service_kit::ids::{AccountId, DealId, RoomId, VisitorId};
use service_kit::keys::{KeyRing, KeysConfig};
use service_kit::private_store::{PrivatePostgres, PrivateRedis, ScratchDir, bound_command, spawn_bound};
use service_kit::session::{Claims, SessionTokens};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Child;

/// Longest wait for something to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Threads of the gate: its default.
const GATE_THREADS: usize = 2;

/// Stores, keys, and the roles that were started.
#[derive(Debug)]
pub struct House {
    pub ledger: Ledger,
    pub sql: tokio_postgres::Client,
    pub gate: SocketAddr,
    pub simulator: SocketAddr,
    pub control: SocketAddr,
    /// Name and process of everything whose CPU counts.
    pub processes: Vec<(&'static str, u32)>,
    passes: PassSigner,
    sessions: SessionTokens,
    ring: Vec<String>,
    shop: SocketAddr,
    payments: SocketAddr,
    children: Vec<Child>,
    redis: PrivateRedis,
    postgres: PrivatePostgres,
    directory: ScratchDir,
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

impl House {
    /// The stores with an empty ledger; no role yet.
    pub async fn stores() -> anyhow::Result<Self> {
        let directory = ScratchDir::new()?;
        let redis = PrivateRedis::start(&directory.path().join("redis")).await?;
        let postgres = PrivatePostgres::start(&directory.path().join("pg")).await?;
        let ledger = Ledger::connect(&PgConfig { url: postgres.url(), connections: 4 }).await?;
        ledger.migrate().await?;
        let (sql, connection) = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        let ring = vec![KeyRing::generate("k1")];
        let keys = KeyRing::new(&KeysConfig { ring: ring.clone() })?;
        let processes = vec![
            ("Redis", redis.pid().context("Redis has no process")?),
            ("PostgreSQL", postgres.pid().context("PostgreSQL has no process")?),
        ];
        Ok(Self {
            ledger,
            sql,
            gate: free_address()?,
            simulator: free_address()?,
            control: free_address()?,
            processes,
            passes: PassSigner::new(&keys),
            sessions: SessionTokens::new(&keys),
            ring,
            shop: free_address()?,
            payments: free_address()?,
            children: Vec::new(),
            redis,
            postgres,
            directory,
        })
    }

    /// The folder of everything; it ends with this.
    pub fn folder(&self) -> PathBuf {
        self.directory.path().to_owned()
    }
    pub fn redis_socket(&self) -> PathBuf {
        self.folder().join("redis/redis.sock")
    }
    pub fn postgres_sockets(&self) -> PathBuf {
        self.folder().join("pg/sock")
    }
    /// The deal service itself, behind the gate.
    pub fn shop(&self) -> SocketAddr {
        self.shop
    }

    /// Starts gate and deal service.
    pub async fn open_shop(&mut self) -> anyhow::Result<()> {
        let (gate, shop, payments) = (self.gate, self.shop, self.payments);
        let public_url = format!("http://{gate}");
        let service = json!({
            "listen": shop, "admin_listen": free_address()?, "public_url": public_url,
            "providers": ["kakaopay", "toss", "stripe"],
        });
        let most = 1_000_000;
        let gate_settings = json!({
            "listen": gate, "admin_listen": free_address()?, "public_url": public_url, "cookie_secure": false,
            "threads": GATE_THREADS,
            "limits": {
                "joins_per_s": most, "joins_burst": most, "claims_per_s": most, "claims_burst": most,
                "polls_per_s": most, "polls_burst": most,
            },
            "upstreams": [{ "name": "shop", "address": shop }, { "name": "payments", "address": payments }],
            "routes": [
                { "path": "/payments/*", "upstream": "payments" },
                { "path": "/deals/{deal}/buy", "upstream": "shop", "room": "deal" },
                { "path": "/api/v1/deals/{deal}/holds", "upstream": "shop", "room": "deal", "holds": true },
                { "path": "/*", "upstream": "shop" },
            ],
        });
        let (ring, redis, postgres) = (self.ring.clone(), self.redis.url(), self.postgres.url());
        self.start(Role::Shop { service, ring: ring.clone(), redis: redis.clone(), postgres }, shop).await?;
        self.start(Role::Gate { gate: gate_settings, ring, redis }, gate).await
    }

    /// Starts the payment adapter and its three providers.
    pub async fn open_payments(&mut self) -> anyhow::Result<()> {
        let (simulator, payments) = (self.simulator, self.payments);
        let provider = format!("http://{simulator}");
        let settings = json!({
            "listen": simulator, "admin_listen": self.control, "public_url": provider, "payments_max": 1_000_000,
        });
        self.start(Role::Simulator { simulator: settings }, simulator).await?;
        let adapter = json!({
            "listen": payments, "admin_listen": free_address()?, "public_url": format!("http://{}", self.gate),
            // No comparison of the books while something is measured.
            "reconcile_every_ms": 3_600_000,
            "providers": {
                "kakaopay": { "base_url": provider, "secret_key": "DEV0000000000000000000000000000000000000", "cid": "TC0ONETIME" },
                "toss": {
                    "base_url": provider, "secret_key": "test_sk_0000", "client_key": "test_ck_0000",
                    "sdk_url": format!("{provider}/toss/sdk/v2"), "page_origins": [provider],
                },
            },
        });
        let postgres = self.postgres.url();
        self.start(Role::Payments { adapter, postgres }, payments).await
    }

    async fn start(&mut self, role: Role, address: SocketAddr) -> anyhow::Result<()> {
        let mut command = bound_command(&std::env::current_exe()?);
        // Prometheus does not scrape here, and logs of a server under load are part of no figure.
        let level = std::env::var("BENCH_LOG").unwrap_or_else(|_| "off".into());
        command.arg(HIDDEN).arg(serde_json::to_string(&role)?).env("RUST_LOG", level).stdout(Stdio::null());
        let child = spawn_bound(command).await.context("start a child")?;
        self.processes.push((role.name(), child.id().context("the child ended at once")?));
        self.children.push(child);
        let deadline = monotonic() + READY_TIMEOUT;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            anyhow::ensure!(monotonic() < deadline, "the {} does not listen on {address}", role.name());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// CPU seconds so far.
    pub fn cpu(&self) -> anyhow::Result<Cpu> {
        cpu_of(&self.processes)
    }

    /// The header lines of somebody who is signed in.
    pub fn session(&self, account: AccountId) -> anyhow::Result<String> {
        let now_s = now_ms() / 1_000;
        let token = self.sessions.issue(&Claims { sub: account.to_string(), iat: now_s, exp: now_s + 36_000 })?;
        Ok(format!("authorization: Bearer {token}\r\n"))
    }

    /// The header line of a pass for a deal.
    pub fn pass(&self, deal: DealId, number: u64) -> anyhow::Result<String> {
        let now = now_ms();
        let pass = Pass {
            room: RoomId::of_deal(deal),
            visitor: VisitorId::new(),
            number,
            browser: 0,
            issued_ms: now,
            expires_at_ms: now + 3_600_000,
        };
        Ok(format!("floodgate-pass: {}\r\n", self.passes.issue(&pass)?))
    }

    /// Repeats a request to the gate until its answer pleases.
    pub async fn until(&self, request: &[u8], good: impl Fn(&Answer) -> bool) -> anyhow::Result<Answer> {
        let deadline = monotonic() + READY_TIMEOUT;
        loop {
            let answer = Connection::new(self.gate).ask(request).await;
            match answer {
                Ok(answer) if good(&answer) => return Ok(answer),
                other if monotonic() > deadline => {
                    let first = String::from_utf8_lossy(request).lines().next().unwrap_or_default().to_owned();
                    anyhow::bail!("`{first}` still answers {other:?}")
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Waits until deals can be bought: their stock is filled and the gate knows their rooms.
    pub async fn until_on_sale(&self, deals: &[DealId]) -> anyhow::Result<()> {
        let redis = service_kit::redis::Redis::connect(&self.redis.config()).await?;
        let fast = deal_service::fast_stock::FastStock::new(redis);
        let deadline = monotonic() + READY_TIMEOUT;
        for deal in deals {
            let room = RoomId::of_deal(*deal);
            while !matches!(fast.audit(&room).await?, deal_service::fast_stock::Audit::Loaded { .. }) {
                anyhow::ensure!(monotonic() < deadline, "the stock of {deal} is not filled");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let board = get(&format!("/_floodgate/rooms/{room}/board"), "");
            self.until(&board, |answer| answer.status == 200).await?;
        }
        Ok(())
    }

    /// Tells the simulator's control port.
    pub async fn control(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<()> {
        let mut bytes = crate::wire::post(&format!("/_control/{path}"), "", "application/json", &body.to_string());
        if method == "DELETE" {
            bytes.splice(0..4, *b"DELETE");
        }
        let answer = Connection::new(self.control).ask(&bytes).await?;
        anyhow::ensure!((200..300).contains(&answer.status), "control {path}: {answer:?}");
        Ok(())
    }

    /// From now on every one of these calls meets this fault, and no other call any.
    pub async fn faults(&self, rules: &[(&str, &str, String)]) -> anyhow::Result<()> {
        self.control("DELETE", "faults", &json!({})).await?;
        let rules: Vec<Value> = rules
            .iter()
            .map(|(provider, endpoint, fault)| {
                json!({ "provider": provider, "endpoint": endpoint, "fault": fault, "probability": 1.0, "seed": 1 })
            })
            .collect();
        if rules.is_empty() { Ok(()) } else { self.control("POST", "faults", &json!(rules)).await }
    }
}
