//! A shop in one process: deal service with all its workers, payment adapter, simulator, a private Redis and PostgreSQL,
//! and between them lines that can lose a reply.

use crate::hop::{Hop, Target};
use deal_service::app::App;
use ledger::{Idem, Ledger, NewAccount, NewDeal, PgConfig, Saved};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use queue::pass::{Pass, PassSigner};
use reqwest::Client;
use serde_json::{Value, json};
use service_kit::clock::now_ms;
use service_kit::ids::{AccountId, DealId, MerchantId, RoomId, VisitorId};
use service_kit::keys::{KeyRing, KeysConfig};
use service_kit::money::{Currency, Money};
use service_kit::private_store::{PrivatePostgres, PrivateRedis, ScratchDir};
use service_kit::redis::{Redis, RedisConfig};
use service_kit::shutdown::{Trigger, channel};
use std::path::PathBuf;
use std::sync::OnceLock;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub const PRICE: i64 = 12_900;
/// How long a call to a provider may take here, in ms; a lease is four times that and a second.
const TIMEOUT_MS: u64 = 600;

pub struct House {
    pub hops: [Hop; 4],
    pub app: App,
    /// Past the lines: what really happened.
    pub ledger: Ledger,
    pub sql: tokio_postgres::Client,
    pub redis: Redis,
    pub http: Client,
    pub shop: String,
    pub provider: String,
    control: String,
    pub config_file: PathBuf,
    merchant: MerchantId,
    _stop: Trigger,
    _running: JoinSet<()>,
    _stores: (PrivateRedis, PrivatePostgres),
    _dir: ScratchDir,
}

fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| PrometheusBuilder::new().install_recorder().unwrap()).clone()
}

impl House {
    pub async fn open() -> Self {
        service_kit::install_crypto_providers();
        let dir = ScratchDir::new().unwrap();
        let redis_server = PrivateRedis::start(&dir.path().join("redis")).await.unwrap();
        let postgres = PrivatePostgres::start(&dir.path().join("pg")).await.unwrap();
        let socket = |url: String, scheme: &str| PathBuf::from(url.strip_prefix(scheme).unwrap());
        let redis_socket = socket(redis_server.url(), "redis+unix://");
        let pg_socket = dir.path().join("pg/sock/.s.PGSQL.5432");
        assert!(redis_socket.exists() && pg_socket.exists());
        let ledger = Ledger::connect(&PgConfig { url: postgres.url(), connections: 16 }).await.unwrap();
        ledger.migrate().await.unwrap();
        let (sql, connection) = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let redis = Redis::connect(&redis_server.config()).await.unwrap();
        let (stop, flag) = channel();

        let sim = json!({ "listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "secret_key": "DEVtest" });
        let sim =
            payment_simulator::start(serde_json::from_value(sim).unwrap(), metrics(), flag.clone()).await.unwrap();
        let hops = [
            Hop::open("deal service → Redis", Target::Redis(redis_socket)).await,
            Hop::open("deal service → PostgreSQL", Target::Postgres(pg_socket.clone())).await,
            Hop::open("payment adapter → PostgreSQL", Target::Postgres(pg_socket)).await,
            Hop::open("payment adapter → provider", Target::Http(sim.address)).await,
        ];
        let pg = |hop: &Hop| PgConfig {
            url: format!("host={} port={} user=floodgate dbname=floodgate", hop.address.ip(), hop.address.port()),
            connections: 3,
        };

        let pages = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = format!("http://{}", sim.address);
        let through = format!("http://{}", hops[3].address);
        let cfg: payment_adapter::Config = serde_json::from_value(json!({
            "listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "poll_ms": 50,
            "public_url": format!("http://{}", pages.local_addr().unwrap()),
            "lease_ms": 4 * TIMEOUT_MS + 1_000,
            "providers": {
                "kakaopay": { "base_url": through, "secret_key": "DEVtest", "cid": "TC0ONETIME", "timeout_ms": TIMEOUT_MS },
                "toss": { "base_url": through, "secret_key": "test_sk_x", "client_key": "test_ck_x", "timeout_ms": TIMEOUT_MS,
                    "sdk_url": format!("{provider}/toss/sdk/v2"), "page_origins": [provider] },
                "stripe": { "base_url": through, "secret_key": "sk_test_x", "publishable_key": "pk_test_x",
                    "webhook_secret": "whsec_simulated", "timeout_ms": TIMEOUT_MS,
                    "sdk_url": format!("{provider}/stripe/sdk/v3"), "page_origins": [provider] },
            },
        }))
        .unwrap();
        cfg.validate().unwrap();
        let paying = Ledger::connect(&pg(&hops[2])).await.unwrap();
        let accounts = cfg.accounts().unwrap();
        let worker = payment_adapter::Worker::new(&cfg, paying.clone(), &accounts, std::sync::Arc::new(now_ms));
        let router = payment_adapter::pages(&paying, &accounts.into(), &cfg.public_url);

        let deal_config: deal_service::Config = serde_json::from_value(json!({
            "listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "public_url": "http://127.0.0.1:8080",
            "cookie_secure": false, "confirm_ms": 1_000, "providers": ["kakaopay", "toss", "stripe"],
        }))
        .unwrap();
        deal_config.validate().unwrap();
        let line =
            RedisConfig { url: format!("redis://{}", hops[0].address), connections: 2, command_timeout_ms: 1_000 };
        let ring = KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("a")] }).unwrap();
        let selling = Ledger::connect(&pg(&hops[1])).await.unwrap();
        let (app, feeds) = App::new(deal_config, ring, Redis::connect(&line).await.unwrap(), selling, flag.clone());
        let mut running = deal_service::workers::start(&app, feeds, &flag);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shop = format!("http://{}", listener.local_addr().unwrap());
        let service = deal_service::api::service(&app);
        running.spawn(async move { axum::serve(listener, service).await.unwrap() });
        running.spawn(async move { axum::serve(pages, router).await.unwrap() });
        running.spawn(async move { worker.run(flag).await });

        let merchant = MerchantId::new();
        ledger.create_merchant(merchant, "Sample store", now_ms()).await.unwrap();
        let config_file = dir.path().join("floodgate.toml");
        let text = format!("[redis]\nurl = \"{}\"\n[postgres]\nurl = \"{}\"\n", redis_server.url(), postgres.url());
        std::fs::write(&config_file, text).unwrap();
        let http = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let control = format!("http://{}", sim.control_address);
        let stores = (redis_server, postgres);
        Self {
            hops,
            app,
            ledger,
            sql,
            redis,
            http,
            shop,
            provider,
            control,
            config_file,
            merchant,
            _stop: stop,
            _running: running,
            _stores: stores,
            _dir: dir,
        }
    }

    pub async fn provider_ledger(&self) -> Value {
        self.http.get(format!("{}/_control/ledger", self.control)).send().await.unwrap().json().await.unwrap()
    }

    /// A deal that sells now, once Redis has its stock.
    pub async fn deal(&self, stock: i64, hold_ttl_ms: i64) -> DealId {
        let now = now_ms();
        let new = NewDeal {
            id: DealId::new(),
            merchant: self.merchant,
            title: "Shoes".into(),
            description: String::new(),
            price: Money::new(PRICE, Currency::KRW).unwrap(),
            stock,
            per_user_limit: 2,
            starts_at_ms: now - 1_000,
            ends_at_ms: now + 3_600_000,
            admission_rate_per_s: 100,
            admission_cap: 1_000,
            hold_ttl_ms,
            shopper_refund_ms: 604_800_000,
            room: json!({}),
        };
        let idem = Idem { actor: "test".into(), key: new.id.to_string(), fingerprint: [0; 32] };
        self.ledger.create_deal(&new, now, &idem, |_| Saved { status: 201, body: vec![] }).await.unwrap();
        let _ = self.app.fast_stock().fill(&self.ledger, new.id, None, "test-token").await;
        new.id
    }

    pub async fn person(&self) -> AccountId {
        let id = AccountId::new();
        let new =
            NewAccount { id, email: format!("{id}@example.com"), password_hash: "none".into(), name: "Kim".into() };
        assert!(self.ledger.create_account(&new, now_ms()).await.unwrap());
        id
    }

    pub fn pass(&self, deal: DealId) -> String {
        let pass = Pass {
            room: RoomId::of_deal(deal),
            visitor: VisitorId::new(),
            number: 7,
            browser: 0,
            issued_ms: now_ms(),
            expires_at_ms: now_ms() + 600_000,
        };
        PassSigner::new(self.app.keys()).issue(&pass).unwrap()
    }
}
