//! A private Redis and a database of its own per test; one PostgreSQL per run.

use axum::http::StatusCode;
use deal_service::app::App;
use deal_service::fast_stock::{Audit, Totals};
use deal_service::{Config, api, final_gate, workers};
use ledger::{Deal, Idem, Ledger, NewAccount, NewDeal, PgConfig, Saved};
use queue::pass::{Pass, PassSigner};
use serde_json::{Value, json};
use service_kit::clock::now_ms;
use service_kit::ids::{AccountId, DealId, MerchantId, OrderId, RoomId, VisitorId};
use service_kit::keys::{KeyRing, KeysConfig};
use service_kit::money::{Currency, Money};
use service_kit::private_store::{PrivatePostgres, PrivateRedis, ScratchDir};
use service_kit::redis::Redis;
use service_kit::shutdown::{self, Trigger};
use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// One server for the whole run; it dies with this process.
static POSTGRES: LazyLock<PrivatePostgres> = LazyLock::new(|| {
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = ScratchDir::new().unwrap();
            tx.send(PrivatePostgres::start(&dir.path().join("pg")).await.expect("PostgreSQL starts")).unwrap();
            std::future::pending::<()>().await;
        });
    });
    rx.recv().unwrap()
});
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Which workers run.
#[derive(Clone, Copy, PartialEq)]
pub enum Run {
    /// All of them.
    All,
    /// Only the committer: a test plays the other workers itself.
    Committer,
}

pub struct World {
    pub app: App,
    pub ledger: Ledger,
    pub redis: Redis,
    pub server: PrivateRedis,
    pub url: String,
    pub pg_url: String,
    pub http: reqwest::Client,
    pub merchant: MerchantId,
    pub stop: Trigger,
    pub running: JoinSet<()>,
    pub dir: ScratchDir,
}

pub fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        public_url: "http://127.0.0.1:8080".into(),
        cookie_secure: false,
        batch_max: 64,
        hold_queue_max: 4_096,
        confirm_ms: 10_000,
        claim_window_ms: 30_000,
        lease_ms: 600_000,
        overbooking_percent: 150,
        keep_room_ms: 3_600_000,
        rebuild: deal_service::config::Rebuild::Automatic,
        providers: vec!["kakaopay".into(), "toss".into(), "stripe".into()],
        streams_max: 64,
        streams_per_account_max: 2,
        password_hashers: 2,
        password_queue_max: 64,
        drain_ms: 1_000,
    }
}

impl World {
    pub async fn start(run: Run) -> Self {
        Self::start_with(run, config()).await
    }

    pub async fn start_with(run: Run, config: Config) -> Self {
        service_kit::install_crypto_providers();
        let dir = ScratchDir::new().unwrap();
        let server = PrivateRedis::start(&dir.path().join("redis")).await.unwrap();
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let postgres = tokio::task::spawn_blocking(|| &*POSTGRES).await.unwrap();
        postgres.ensure_database(&name).await.unwrap();
        let pg_url = postgres.url_of(&name);
        // PostgreSQL is not killed by these tests: no commit need wait for the disk.
        let (sql, connection) = tokio_postgres::connect(&pg_url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        sql.batch_execute(&format!("ALTER DATABASE {name} SET synchronous_commit = off")).await.unwrap();
        let ledger = Ledger::connect(&PgConfig { url: pg_url.clone(), connections: 8 }).await.unwrap();
        ledger.migrate().await.unwrap();
        let redis = Redis::connect(&server.config()).await.unwrap();
        let ring = KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("a")] }).unwrap();
        let (stop, flag) = shutdown::channel();
        let batch_max = config.batch_max;
        let (app, feeds) = App::new(config, ring, redis.clone(), ledger.clone(), flag.clone());
        let mut running = match run {
            Run::All => workers::start(&app, feeds, &flag),
            Run::Committer => {
                let mut set = JoinSet::new();
                set.spawn(final_gate::run(feeds.holds, ledger.clone(), app.fast_stock().clone(), batch_max));
                // The place for hints must stay open, or they would be lost with an error.
                set.spawn(async move {
                    let mut suspects = feeds.suspects;
                    while suspects.recv().await.is_some() {}
                });
                set
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = api::service(&app);
        running.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let merchant = MerchantId::new();
        ledger.create_merchant(merchant, "Sample store", now_ms()).await.unwrap();
        Self { app, ledger, redis, server, url, pg_url, http, merchant, stop, running, dir }
    }

    /// An API key of the merchant.
    pub async fn api_key(&self) -> String {
        let key = "sk_live_0123456789abcdef";
        let hash: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(key).into();
        self.ledger.create_api_key(self.merchant, &hash, "sk_live_0123", now_ms()).await.unwrap();
        key.to_owned()
    }

    /// What the API says to a merchant's new deal.
    pub async fn new_deal(&self, api_key: &str, key: &str, body: &Value) -> Answer {
        let request = self.http.post(format!("{}/api/v1/deals", self.url)).bearer_auth(api_key).json(body);
        Answer::of(request.header("idempotency-key", key).send().await.unwrap()).await
    }

    /// A deal that is open for an hour; loaded when this returns.
    pub async fn deal(&self, stock: i64, per_user_limit: i64) -> DealId {
        self.deal_with(stock, per_user_limit, |_| {}).await
    }

    pub async fn deal_with(&self, stock: i64, per_user_limit: i64, change: impl FnOnce(&mut NewDeal)) -> DealId {
        let now = now_ms();
        let mut new = NewDeal {
            id: DealId::new(),
            merchant: self.merchant,
            title: "Shoes".into(),
            description: String::new(),
            price: Money::new(12_900, Currency::KRW).unwrap(),
            stock,
            per_user_limit,
            starts_at_ms: now - 1_000,
            ends_at_ms: now + 3_600_000,
            admission_rate_per_s: 100,
            admission_cap: 1_000,
            hold_ttl_ms: 60_000,
            shopper_refund_ms: 604_800_000,
            room: serde_json::json!({}),
        };
        change(&mut new);
        let idem = Idem { actor: "test".into(), key: new.id.to_string(), fingerprint: [0; 32] };
        // One that has ended by now was made before its end.
        let made_at_ms = now.min(new.ends_at_ms - 1);
        self.ledger.create_deal(&new, made_at_ms, &idem, |_| Saved { status: 201, body: vec![] }).await.unwrap();
        if self.totals(new.id).await.is_none() {
            let _ = self.app.fast_stock().fill(&self.ledger, new.id, None, "test-token").await.unwrap();
        }
        self.eventually("the stock is loaded", async || self.totals(new.id).await.is_some()).await;
        new.id
    }

    pub async fn people(&self, count: usize) -> Vec<AccountId> {
        let new: Vec<NewAccount> = (0..count)
            .map(|_| {
                let id = AccountId::new();
                NewAccount { id, email: format!("{id}@example.com"), password_hash: "none".into(), name: "Kim".into() }
            })
            .collect();
        self.ledger.create_accounts(&new, now_ms()).await.unwrap();
        new.into_iter().map(|a| a.id).collect()
    }

    pub async fn person(&self) -> AccountId {
        self.people(1).await[0]
    }

    pub fn token(&self, account: AccountId) -> String {
        self.app.sessions().issue(account, now_ms()).unwrap().token
    }

    pub fn pass(&self, deal: DealId, number: u64) -> String {
        let pass = Pass {
            room: RoomId::of_deal(deal),
            visitor: VisitorId::new(),
            number,
            browser: 0,
            issued_ms: now_ms(),
            expires_at_ms: now_ms() + 600_000,
        };
        PassSigner::new(self.app.keys()).issue(&pass).unwrap()
    }

    /// One hold through HTTP, with a pass of its own.
    pub async fn hold(&self, deal: DealId, account: AccountId, key: &str, quantity: i64) -> Answer {
        self.post(
            &format!("/api/v1/deals/{deal}/holds"),
            Some(account),
            Some(key),
            json!({ "quantity": quantity }),
            Some(&self.pass(deal, 7)),
        )
        .await
    }

    pub async fn post(
        &self,
        path: &str,
        account: Option<AccountId>,
        key: Option<&str>,
        body: Value,
        pass: Option<&str>,
    ) -> Answer {
        let mut request = self.http.post(format!("{}{path}", self.url)).json(&body);
        if let Some(account) = account {
            request = request.bearer_auth(self.token(account));
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(pass) = pass {
            request = request.header("floodgate-pass", pass);
        }
        Answer::of(request.send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str, account: Option<AccountId>) -> Answer {
        let mut request = self.http.get(format!("{}{path}", self.url));
        if let Some(account) = account {
            request = request.bearer_auth(self.token(account));
        }
        Answer::of(request.send().await.unwrap()).await
    }

    pub async fn totals(&self, deal: DealId) -> Option<Totals> {
        match self.app.fast_stock().audit(&RoomId::of_deal(deal)).await.unwrap() {
            Audit::Loaded { totals, .. } => Some(totals),
            _ => None,
        }
    }

    pub async fn truth(&self, deal: DealId) -> Deal {
        self.ledger.deal(deal).await.unwrap().unwrap()
    }

    pub async fn hash(&self, key: &str) -> HashMap<String, String> {
        let reply = self.redis.command("HGETALL", &[key]).await.unwrap();
        reply.list().unwrap().chunks(2).map(|p| (p[0].text().unwrap(), p[1].text().unwrap())).collect()
    }

    /// Runs SQL behind everybody's back.
    pub async fn sql(&self, text: &str) {
        let (client, connection) = tokio_postgres::connect(&self.pg_url, tokio_postgres::NoTls).await.unwrap();
        let driver = tokio::spawn(connection);
        client.batch_execute(text).await.unwrap();
        driver.abort();
    }

    /// Redis and the ledger say `(available, held, sold)`, every sum inside each agrees, and nothing is unconfirmed.
    pub async fn settled_at(&self, deal: DealId, available: i64, held: i64, sold: i64) {
        self.eventually(&format!("Redis and the ledger both say {available}/{held}/{sold}"), async || {
            let truth = self.truth(deal).await;
            let same = (truth.available(), truth.held, truth.sold) == (available, held, sold);
            let redis = self.totals(deal).await;
            same && redis.is_some_and(|t| (t.available, t.held, t.sold, t.unconfirmed) == (available, held, sold, 0))
        })
        .await;
        self.sums(deal).await;
    }

    /// The sums inside Redis and inside the ledger.
    pub async fn sums(&self, deal: DealId) {
        let room = format!("fg:{{deal-{deal}}}:");
        let (units, bought) = (self.hash(&format!("{room}units")).await, self.hash(&format!("{room}bought")).await);
        let t = self.totals(deal).await.unwrap();
        assert_eq!(t.available + t.held + t.sold, t.total);
        assert!(t.available >= 0 && t.held >= 0 && t.sold >= 0, "{t:?}");
        let rows: Vec<Vec<&str>> = units.values().map(|u| u.split('|').collect()).collect();
        let of = |state: &[&str]| {
            rows.iter().filter(|r| state.contains(&r[3])).map(|r| r[1].parse::<i64>().unwrap()).sum::<i64>()
        };
        assert_eq!(of(&["u", "a", "h"]), t.held, "units that are held");
        assert!(of(&["s"]) <= t.sold, "units sold in this filling");
        let holds = self.redis.command("ZCARD", &[&format!("{room}holds")]).await.unwrap().int().unwrap();
        assert_eq!(
            usize::try_from(holds).unwrap(),
            rows.iter().filter(|r| r[3] != "s").count(),
            "one deadline per hold"
        );
        assert_eq!(
            bought.values().map(|n| n.parse::<i64>().unwrap()).sum::<i64>(),
            t.held + t.sold,
            "units per account"
        );
        let findings = self.ledger.verify().await.unwrap();
        assert!(findings.is_empty(), "{findings:?}");
    }

    /// The money arrives: what the payment adapter does at the end.
    pub async fn capture(&self, order: OrderId) {
        let found = self.ledger.order(order).await.unwrap().unwrap();
        let payment = found.payment.expect("a payment was started").id;
        self.ledger.settle_captured(payment, "A1", found.amount, ledger::Actor::Worker, now_ms()).await.unwrap();
    }

    pub async fn eventually(&self, what: &str, check: impl AsyncFn() -> bool) {
        for _ in 0..600 {
            if check().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("not within 15 s: {what}");
    }
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: axum::http::HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, bytes: response.bytes().await.unwrap().to_vec() }
    }
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }
    /// The slug of a problem document, after checking that it is one.
    pub fn slug(&self) -> String {
        let doc = self.json();
        assert_eq!(self.headers["content-type"], "application/problem+json", "{} {doc}", self.status);
        assert_eq!(doc["status"], self.status.as_u16());
        for member in ["title", "detail"] {
            assert!(doc[member].is_string(), "{member} missing: {doc}");
        }
        doc["type"].as_str().unwrap().strip_prefix("/problems/").unwrap().to_owned()
    }
    pub fn order(&self) -> OrderId {
        self.json()["id"].as_str().unwrap_or_else(|| panic!("{} {}", self.status, self.json())).parse().unwrap()
    }
}
