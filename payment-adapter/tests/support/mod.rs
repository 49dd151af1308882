//! A real PostgreSQL, the real simulator, the real return page, and workers that a test starts, kills and moves in time.
#![allow(dead_code, reason = "each test binary uses a part of it")]

mod browser;
mod page;

use ledger::*;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use payment_adapter::providers::{Account, Accounts, MerchantAccounts};
use payment_adapter::{Clock, Config, Worker, checkout_http, return_http, webhook_http};
use serde_json::{Value, json};
use service_kit::clock::now_ms;
use service_kit::ids::*;
use service_kit::money::{Currency, Money};
use service_kit::private_store::{PrivatePostgres, ScratchDir};
use service_kit::shutdown::{Trigger, channel};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

struct Server {
    postgres: PrivatePostgres,
    _dir: ScratchDir,
}
static SERVER: OnceCell<Server> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The recorder of this test process: a counter may be raised by several tests, never lowered.
pub fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| PrometheusBuilder::new().install_recorder().unwrap()).clone()
}

pub const PRICE: i64 = 12_900;
pub const SECRET: &str = "s3cret-of-the-return-url";

pub struct Bench {
    pub ledger: Ledger,
    pub url: String,
    pub http: reqwest::Client,
    pub shop: String,
    pub provider: String,
    control: String,
    cfg: Config,
    ahead_ms: Arc<AtomicI64>,
    pub deal: DealId,
    workers: Vec<JoinHandle<()>>,
    trigger: Trigger,
    shutdown: service_kit::shutdown::Shutdown,
}

pub struct Bought {
    pub order: OrderId,
    pub payment: PaymentId,
    pub account: AccountId,
}

impl Bench {
    /// Everything but a worker. `timeout_ms` is the driver's.
    pub async fn new(timeout_ms: u64) -> Self {
        service_kit::install_crypto_providers();
        let server = SERVER
            .get_or_init(|| async {
                let dir = ScratchDir::new().unwrap();
                let postgres = PrivatePostgres::start(&dir.path().join("pg")).await.unwrap();
                Server { postgres, _dir: dir }
            })
            .await;
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server.postgres.ensure_database(&name).await.unwrap();
        let url = server.postgres.url_of(&name);
        // PostgreSQL is not killed by these tests: no commit need wait for the disk.
        let (sql, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        sql.batch_execute(&format!("ALTER DATABASE {name} SET synchronous_commit = off")).await.unwrap();
        let ledger = Ledger::connect(&PgConfig { url: url.clone(), connections: 4 }).await.unwrap();
        ledger.migrate().await.unwrap();
        let deal = make_deal(&ledger).await;

        let (trigger, shutdown) = channel();
        let sim_cfg = json!({ "listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "secret_key": "DEVtest" });
        let sim = payment_simulator::start(serde_json::from_value(sim_cfg).unwrap(), metrics(), shutdown.clone())
            .await
            .unwrap();
        let pages = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shop = format!("http://{}", pages.local_addr().unwrap());
        let provider = format!("http://{}", sim.address);
        let cfg: Config = serde_json::from_value(json!({
            "listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "public_url": shop, "poll_ms": 50,
            "lease_ms": 4 * timeout_ms + 1_000,
            "providers": {
                "kakaopay": { "base_url": provider, "secret_key": "DEVtest", "cid": "TC0ONETIME", "timeout_ms": timeout_ms },
                "toss": { "base_url": provider, "secret_key": "test_sk_x", "client_key": "test_ck_x", "timeout_ms": timeout_ms,
                    "sdk_url": format!("{provider}/toss/sdk/v2"), "page_origins": [provider] },
                "stripe": { "base_url": provider, "secret_key": "sk_test_x", "publishable_key": "pk_test_x",
                    "webhook_secret": "whsec_simulated", "timeout_ms": timeout_ms,
                    "sdk_url": format!("{provider}/stripe/sdk/v3"), "page_origins": [provider] },
            },
        }))
        .unwrap();
        cfg.validate().unwrap();
        let accounts: Arc<[Account]> = cfg.accounts().unwrap().into();
        let router = return_http::router(ledger.clone(), accounts.clone())
            .merge(checkout_http::router(ledger.clone(), accounts.clone(), &cfg.public_url))
            .merge(webhook_http::router(ledger.clone(), accounts));
        tokio::spawn(async move { axum::serve(pages, router).await });
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let control = format!("http://{}", sim.control_address);
        let ahead_ms = Arc::default();
        Self { ledger, url, http, shop, provider, control, cfg, ahead_ms, deal, workers: Vec::new(), trigger, shutdown }
    }
    /// With one worker.
    pub async fn open() -> Self {
        let mut bench = Self::new(2_000).await;
        bench.hire();
        bench
    }
    pub fn worker(&self) -> Worker {
        let ahead_ms = self.ahead_ms.clone();
        let clock: Clock = Arc::new(move || now_ms() + ahead_ms.load(Ordering::Relaxed));
        Worker::new(&self.cfg, self.ledger.clone(), &self.cfg.accounts().unwrap(), clock)
    }
    pub fn hire(&mut self) {
        let (worker, shutdown) = (self.worker(), self.shutdown.clone());
        self.workers.push(tokio::spawn(async move { worker.run(shutdown).await }));
    }
    /// Kills all workers where they stand: their tasks and the jobs in them are dropped.
    pub async fn kill_workers(&mut self) {
        for worker in self.workers.drain(..) {
            worker.abort();
            let _ = worker.await;
        }
    }
    pub fn config(&self) -> Config {
        self.cfg.clone()
    }
    pub fn set_toss_method(&mut self, method: &str) {
        self.cfg.providers.toss.as_mut().unwrap().method = method.to_owned();
    }
    pub fn point_driver_at(&mut self, base_url: &str) {
        self.cfg.providers.kakaopay.as_mut().unwrap().base_url = base_url.to_owned();
    }
    /// A merchant's own account at KakaoPay.
    pub fn give_account(&mut self, merchant: MerchantId, base_url: &str) {
        let mut kakaopay = self.cfg.providers.kakaopay.clone().unwrap();
        kakaopay.base_url = base_url.to_owned();
        let providers = Accounts { kakaopay: Some(kakaopay), ..Accounts::default() };
        self.cfg.merchants = vec![MerchantAccounts { merchant, providers }];
    }
    /// A merchant's own account at Toss, and none of the shop's.
    pub fn give_toss_only_to(&mut self, merchant: MerchantId) {
        let providers = Accounts { toss: self.cfg.providers.toss.take(), ..Accounts::default() };
        self.cfg.merchants = vec![MerchantAccounts { merchant, providers }];
    }
    /// No merchant has an account of its own any more.
    pub fn take_accounts(&mut self) {
        self.cfg.merchants.clear();
    }
    /// Whether a payment has been looked at and put off.
    pub async fn due_later(&self, bought: &Bought) -> bool {
        let sql = "SELECT tries > 0 AND next_at_ms > $2 FROM payment WHERE id = $1";
        let now = now_ms() + self.ahead_ms.load(Ordering::Relaxed);
        self.sql().await.query_one(sql, &[&bought.payment.0, &now]).await.unwrap().get(0)
    }
    /// Moves the workers' clock.
    pub fn pass_time(&self, ms: i64) {
        self.ahead_ms.fetch_add(ms, Ordering::Relaxed);
    }
    /// Moves the provider's clock.
    pub async fn pass_time_at_provider(&self, ms: i64) {
        self.control("clock", json!({ "advance_ms": ms })).await;
    }
    pub async fn control(&self, path: &str, body: Value) {
        let response = self.http.post(format!("{}/_control/{path}", self.control)).json(&body).send().await.unwrap();
        assert!(response.status().is_success());
    }
    /// The next `times` calls of `endpoint` meet `fault`.
    pub async fn fault(&self, endpoint: &str, fault: &str, times: u32) {
        self.control("faults", json!({ "endpoint": endpoint, "fault": fault, "times": times })).await;
    }
    pub async fn provider_ledger(&self) -> Value {
        self.http.get(format!("{}/_control/ledger", self.control)).send().await.unwrap().json().await.unwrap()
    }
    /// Holds a unit and starts its payment at KakaoPay.
    pub async fn buy(&self) -> Bought {
        self.buy_with("kakaopay").await
    }
    /// Holds a unit and starts its payment.
    pub async fn buy_with(&self, provider: &str) -> Bought {
        let account = AccountId::new();
        let new = NewAccount {
            id: account,
            email: format!("{account}@example.org"),
            password_hash: "x".into(),
            name: "A".into(),
        };
        assert!(self.ledger.create_account(&new, now_ms()).await.unwrap());
        let hold = NewHold {
            order: OrderId::new(),
            deal: self.deal,
            account,
            lease_number: 1,
            visitor: VisitorId::new(),
            quantity: 1,
            amount: Money::new(PRICE, Currency::KRW).unwrap(),
            idempotency_key: "hold".into(),
            fingerprint: [1; 32],
            hold_expires_at_ms: now_ms() + 60_000,
            confirm_by_ms: now_ms() + 10_000,
            epoch: 0,
            trace_id: "t".into(),
        };
        let placed = self.ledger.place_holds(&[hold], now_ms()).await.unwrap().remove(0);
        let HoldOutcome::Placed(order) = placed else { panic!("{placed:?}") };
        let start = StartPayment {
            payment: PaymentId::new(),
            order: order.id,
            account,
            provider: provider.into(),
            return_secret: SECRET.into(),
            trace_id: "t".into(),
        };
        let begun =
            self.ledger.start_payment(&start, now_ms(), &idem(&start.payment.to_string()), saved).await.unwrap();
        assert!(matches!(begun, Replay::Fresh(_)), "{begun:?}");
        Bought { order: order.id, payment: start.payment, account }
    }
    pub async fn order(&self, bought: &Bought) -> Order {
        self.ledger.order(bought.order).await.unwrap().unwrap()
    }
    pub async fn payment_state(&self, bought: &Bought) -> String {
        self.order(bought).await.payment.unwrap().state
    }
    pub async fn until_payment(&self, bought: &Bought, state: &str) {
        self.until(&format!("payment {state}"), || async { self.payment_state(bought).await == state }).await;
    }
    pub async fn until_order(&self, bought: &Bought, state: OrderState) {
        self.until(&format!("order {state:?}"), || async { self.order(bought).await.state == state }).await;
    }
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, is_so: impl Fn() -> F) {
        for _ in 0..800 {
            if is_so().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let now = now_ms() + self.ahead_ms.load(Ordering::Relaxed);
        let sql = "SELECT format('%s %s returned %s, try %s, due in %s ms, leased for %s ms, attempts %s', id, state, returned, tries,
                       next_at_ms - $1, lease_until_ms - $1, (SELECT string_agg(kind || ' ' || coalesce(outcome, 'without end'), ', ' ORDER BY id)
                       FROM attempt WHERE payment_id = payment.id)) FROM payment WHERE state NOT IN ('captured', 'failed', 'cancelled', 'expired')";
        let rows = self.sql().await.query(sql, &[&now]).await.unwrap();
        let rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        panic!("waited 16 s for: {what}; not settled:\n{}", rows.join("\n"));
    }
    /// The shopper presses a button at KakaoPay. Answers the address of the return page.
    pub async fn press(&self, bought: &Bought, action: &str) -> String {
        self.press_at(bought, "kakaopay", action).await
    }
    /// … and the browser follows.
    pub async fn go_back(&self, bought: &Bought, action: &str) {
        let address = self.press(bought, action).await;
        let response = self.http.get(address).send().await.unwrap();
        assert_eq!(response.status(), 303);
        assert_eq!(response.headers()["location"], format!("/orders/{}", bought.order).as_str());
    }
    /// A payment that the shopper brings to the point where it is to be confirmed.
    pub async fn buy_and_pay(&self) -> Bought {
        let bought = self.buy().await;
        self.until_payment(&bought, "ready").await;
        self.go_back(&bought, "pay").await;
        bought
    }
    pub async fn refund(&self, bought: &Bought) {
        let request = RequestRefund {
            refund: RefundId::new(),
            order: bought.order,
            by: RefundBy::Shopper(bought.account),
            amount_minor: None,
            units: None,
            reason: "changed my mind".into(),
        };
        let replay =
            self.ledger.request_refund(&request, now_ms(), &idem(&request.refund.to_string()), saved).await.unwrap();
        assert!(matches!(replay, Replay::Fresh(_)), "{replay:?}");
    }
    /// Attempts of a kind of a payment, as `(outcome, finished)`.
    pub async fn attempts(&self, bought: &Bought, kind: &str) -> Vec<Option<String>> {
        let sql = "SELECT outcome FROM attempt WHERE payment_id = $1 AND kind = $2 ORDER BY id";
        let rows = self.sql().await.query(sql, &[&bought.payment.0, &kind]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
    pub async fn sql(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
    /// The sums agree, here and between the two ledgers: every capture of the provider is a captured payment of ours of
    /// the same amount, once.
    pub async fn audit(&self) {
        let findings = self.ledger.verify().await.unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        let theirs = self.provider_ledger().await;
        let mut captured: Vec<(String, i64, i64)> = theirs["payments"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|p| p["approvals"] != 0)
            .map(|p| {
                assert_eq!(p["approvals"], 1, "captured twice: {p}");
                (
                    p["partner_order_id"].as_str().unwrap().to_owned(),
                    p["captured"].as_i64().unwrap(),
                    p["cancelled"].as_i64().unwrap(),
                )
            })
            .collect();
        let rows = self
            .sql()
            .await
            .query(
                "SELECT p.order_id, p.amount_minor, coalesce((SELECT sum(amount_minor) FROM refund r WHERE r.payment_id = p.id AND r.state = 'done'), 0)::bigint
                 FROM payment p WHERE p.state = 'captured'",
                &[],
            )
            .await
            .unwrap();
        let mut ours: Vec<(String, i64, i64)> =
            rows.iter().map(|row| (row.get::<_, uuid::Uuid>(0).to_string(), row.get(1), row.get(2))).collect();
        captured.sort();
        ours.sort();
        assert_eq!(captured, ours, "the provider's ledger and ours");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.trigger.stop();
    }
}

fn idem(key: &str) -> Idem {
    Idem { actor: "test".into(), key: key.into(), fingerprint: [1; 32] }
}

fn saved<T>(_: &T) -> Saved {
    Saved { status: 200, body: Vec::new() }
}

async fn make_deal(ledger: &Ledger) -> DealId {
    let (merchant, deal, now) = (MerchantId::new(), DealId::new(), now_ms());
    ledger.create_merchant(merchant, "Demo", now).await.unwrap();
    let new = NewDeal {
        id: deal,
        merchant,
        title: "제주 감귤 5kg".into(),
        description: String::new(),
        price: Money::new(PRICE, Currency::KRW).unwrap(),
        stock: 1_000,
        per_user_limit: 1,
        starts_at_ms: now - 1_000,
        ends_at_ms: now + 3_600_000,
        admission_rate_per_s: 10,
        admission_cap: 100,
        hold_ttl_ms: 60_000,
        shopper_refund_ms: 604_800_000,
        room: serde_json::json!({}),
    };
    assert!(matches!(ledger.create_deal(&new, now, &idem("deal"), saved).await.unwrap(), Replay::Fresh(_)));
    deal
}
