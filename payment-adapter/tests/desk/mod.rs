//! A real PostgreSQL and everything that the payment adapter serves behind the gate, without a worker: what these
//! routes do by themselves is seen in the rows.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use ledger::*;
use payment_adapter::Config;
use serde_json::{Value, json};
use service_kit::clock::now_ms;
use service_kit::ids::*;
use service_kit::money::{Currency, Money};
use service_kit::private_store::{PrivatePostgres, ScratchDir};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::OnceCell;

struct Server {
    postgres: PrivatePostgres,
    _dir: ScratchDir,
}
static SERVER: OnceCell<Server> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(0);

pub const SECRET: &str = "s3cret-of-the-return-url";
pub const WEBHOOK_SECRET: &str = "whsec_of_the_shop";
pub const MERCHANTS_WEBHOOK_SECRET: &str = "whsec_of_a_merchant";

pub struct Desk {
    pub ledger: Ledger,
    pub http: reqwest::Client,
    pub shop: String,
    name: String,
    url: String,
    deal: DealId,
}

pub struct Bought {
    pub order: OrderId,
    pub payment: PaymentId,
}

impl Desk {
    pub async fn open() -> Self {
        service_kit::install_crypto_providers();
        let server = SERVER
            .get_or_init(|| async {
                let dir = ScratchDir::new().unwrap();
                let postgres = PrivatePostgres::start(&dir.path().join("pg")).await.unwrap();
                Server { postgres, _dir: dir }
            })
            .await;
        let name = format!("desk{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server.postgres.ensure_database(&name).await.unwrap();
        let url = server.postgres.url_of(&name);
        let ledger = Ledger::connect(&PgConfig { url: url.clone(), connections: 4 }).await.unwrap();
        ledger.migrate().await.unwrap();
        let deal = make_deal(&ledger).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shop = format!("http://{}", listener.local_addr().unwrap());
        let nowhere = "http://127.0.0.1:1";
        let stripe = |secret: &str| {
            json!({ "base_url": nowhere, "secret_key": "sk_test_hidden", "publishable_key": "pk_test_open",
                "webhook_secret": secret, "webhook_secret_old": "whsec_before" })
        };
        let cfg: Config = serde_json::from_value(json!({
            "listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "public_url": shop,
            "providers": {
                "kakaopay": { "base_url": nowhere, "secret_key": "DEVhidden", "cid": "TC0ONETIME" },
                "toss": { "base_url": nowhere, "secret_key": "test_sk_hidden", "client_key": "test_ck_open" },
                "stripe": stripe(WEBHOOK_SECRET),
            },
            "merchants": [{ "merchant": MerchantId::new(), "providers": { "stripe": stripe(MERCHANTS_WEBHOOK_SECRET) } }],
        }))
        .unwrap();
        cfg.validate().unwrap();
        let router = payment_adapter::pages(&ledger, &cfg.accounts().unwrap().into(), &cfg.public_url);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { ledger, http, shop, name, url, deal }
    }

    /// Holds a unit and starts its payment.
    pub async fn buy(&self, provider: &str) -> Bought {
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
            quantity: 2,
            amount: Money::new(25_800, Currency::KRW).unwrap(),
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
        let idem = idem(&start.payment.to_string());
        let begun = self.ledger.start_payment(&start, now_ms(), &idem, saved).await.unwrap();
        assert!(matches!(begun, Replay::Fresh(_)), "{begun:?}");
        Bought { order: order.id, payment: start.payment }
    }

    /// … and opens the session, as the worker would have done it.
    pub async fn ready(&self, provider: &str, reference: &str, session: &str) -> Bought {
        let bought = self.buy(provider).await;
        let prepared = Prepared {
            provider_ref: reference.into(),
            redirect_pc: "x".into(),
            redirect_mobile: "x".into(),
            redirect_app: session.into(),
            expires_at_ms: now_ms() + 1_800_000,
        };
        assert!(self.ledger.prepared(bought.payment, &prepared, AccountOf::Shop, now_ms()).await.unwrap());
        bought
    }

    /// … and takes the money.
    pub async fn captured(&self, provider: &str, reference: &str) -> Bought {
        let bought = self.ready(provider, reference, "").await;
        self.come_back(&bought).await;
        let begun = self.ledger.begin_attempt(bought.payment, AttemptKind::Confirm, None, now_ms() - 5_000).await;
        assert!(begun.unwrap().is_some());
        let money = Money::new(25_800, Currency::KRW).unwrap();
        let capture = self.ledger.settle_captured(bought.payment, "A1", money, Actor::Worker, now_ms()).await.unwrap();
        assert_eq!(capture, Capture::Paid);
        bought
    }

    pub async fn come_back(&self, bought: &Bought) {
        let back = Return::Approved { code: "code".into() };
        let order = self.ledger.record_return(bought.payment, SECRET, &back, now_ms()).await.unwrap();
        assert_eq!(order, Some(bought.order));
    }

    pub async fn get(&self, path: &str, language: &str) -> reqwest::Response {
        let request = self.http.get(format!("{}{path}", self.shop)).header("accept-language", language);
        request.header("accept", "text/html").send().await.unwrap()
    }

    pub async fn sql(&self) -> tokio_postgres::Client {
        connect(&self.url).await
    }

    /// One value of a payment's row, as text.
    pub async fn column(&self, bought: &Bought, column: &str) -> Option<String> {
        let sql = format!("SELECT {column}::text FROM payment WHERE id = $1");
        self.sql().await.query_one(&sql, &[&bought.payment.0]).await.unwrap().get(0)
    }
    pub async fn number(&self, bought: &Bought, column: &str) -> Option<i64> {
        self.column(bought, column).await.map(|text| text.parse().unwrap())
    }

    /// The notices that were written down, as `(provider, event, kind, payment is known)`.
    pub async fn notices(&self) -> Vec<(String, String, String, bool)> {
        let sql = "SELECT provider, event_id, kind, payment_id IS NOT NULL FROM webhook ORDER BY event_id";
        let rows = self.sql().await.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
    }

    /// Takes the database away, or brings it back.
    pub async fn store_is(&self, there: bool) {
        let admin = connect(&SERVER.get().unwrap().postgres.url_of("postgres")).await;
        let sql = format!(
            "ALTER DATABASE {0} WITH ALLOW_CONNECTIONS {there}; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{0}'",
            self.name
        );
        admin.batch_execute(&sql).await.unwrap();
    }
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub fn idem(key: &str) -> Idem {
    Idem { actor: "test".into(), key: key.into(), fingerprint: [1; 32] }
}

pub fn saved<T>(_: &T) -> Saved {
    Saved { status: 200, body: Vec::new() }
}

/// What Toss Payments sends when a payment changes.
pub fn toss_event(order: OrderId, status: &str) -> Value {
    json!({ "eventType": "PAYMENT_STATUS_CHANGED", "createdAt": "2026-11-21T12:00:00.000000",
        "data": { "orderId": order, "paymentKey": "tgen_1", "status": status } })
}

async fn make_deal(ledger: &Ledger) -> DealId {
    let (merchant, deal, now) = (MerchantId::new(), DealId::new(), now_ms());
    ledger.create_merchant(merchant, "Demo", now).await.unwrap();
    let new = NewDeal {
        id: deal,
        merchant,
        title: "제주 감귤 </script> 5kg".into(),
        description: String::new(),
        price: Money::new(12_900, Currency::KRW).unwrap(),
        stock: 1_000,
        per_user_limit: 2,
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
