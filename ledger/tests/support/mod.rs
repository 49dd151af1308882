//! A fresh ledger on a real PostgreSQL, and the way of an order through it.
#![allow(dead_code, reason = "each test file uses a part")]

use ledger::*;
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

/// A fresh database on the one server of this test process.
pub async fn ledger() -> Ledger {
    ledger_and_url().await.0
}

pub async fn ledger_and_url() -> (Ledger, String) {
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
    let ledger = Ledger::connect(&PgConfig { url: url.clone(), connections: 8 }).await.unwrap();
    ledger.migrate().await.unwrap();
    (ledger, url)
}

pub fn idem(key: &str, fingerprint: u8) -> Idem {
    Idem { actor: "test".into(), key: key.into(), fingerprint: [fingerprint; 32] }
}

pub fn saved<T>(_: &T) -> Saved {
    Saved { status: 201, body: b"made".to_vec() }
}

pub async fn deal(ledger: &Ledger, stock: i64, per_user_limit: i64) -> DealId {
    let (merchant, deal, now) = (MerchantId::new(), DealId::new(), now_ms());
    ledger.create_merchant(merchant, "Demo", now).await.unwrap();
    let new = NewDeal {
        id: deal,
        merchant,
        title: "Lamp".into(),
        description: String::new(),
        price: Money::new(1_000, Currency::KRW).unwrap(),
        stock,
        per_user_limit,
        starts_at_ms: now - 1_000,
        ends_at_ms: now + 3_600_000,
        admission_rate_per_s: 10,
        admission_cap: 100,
        hold_ttl_ms: 60_000,
        shopper_refund_ms: 604_800_000,
        room: serde_json::json!({}),
    };
    assert!(matches!(
        ledger.create_deal(&new, now, &idem(&deal.to_string(), 1), saved).await.unwrap(),
        Replay::Fresh(_)
    ));
    deal
}

pub async fn account(ledger: &Ledger) -> AccountId {
    let id = AccountId::new();
    let new = NewAccount { id, email: format!("{id}@example.org"), password_hash: "x".into(), name: "A".into() };
    assert!(ledger.create_account(&new, now_ms()).await.unwrap());
    id
}

pub fn hold(deal: DealId, account: AccountId, quantity: i64, key: &str) -> NewHold {
    let now = now_ms();
    NewHold {
        order: OrderId::new(),
        deal,
        account,
        lease_number: 1,
        visitor: VisitorId::new(),
        quantity,
        amount: Money::new(1_000 * quantity, Currency::KRW).unwrap(),
        idempotency_key: key.into(),
        fingerprint: [u8::try_from(quantity).unwrap(); 32],
        hold_expires_at_ms: now + 60_000,
        confirm_by_ms: now + 10_000,
        epoch: 0,
        trace_id: "t".into(),
    }
}

pub async fn held(ledger: &Ledger, deal: DealId, account: AccountId) -> OrderId {
    let outcome =
        ledger.place_holds(&[hold(deal, account, 1, &OrderId::new().to_string())], now_ms()).await.unwrap().remove(0);
    let HoldOutcome::Placed(order) = outcome else { panic!("{outcome:?}") };
    order.id
}

pub fn start(order: OrderId, account: AccountId) -> StartPayment {
    StartPayment {
        payment: PaymentId::new(),
        order,
        account,
        provider: "kakaopay".into(),
        return_secret: "s3cret".into(),
        trace_id: "t".into(),
    }
}

pub fn session() -> Prepared {
    Prepared {
        provider_ref: "T1".into(),
        redirect_pc: "http://x/pc".into(),
        redirect_mobile: "http://x/m".into(),
        redirect_app: "http://x/a".into(),
        expires_at_ms: now_ms() + 900_000,
    }
}

/// Brings an order to `paid` the way the worker does.
pub fn opened(payment: PaymentId) -> Opened {
    Opened { payment, session: session(), account_of: AccountOf::Shop }
}

pub async fn pay(ledger: &Ledger, order: OrderId, account: AccountId) -> PaymentId {
    let s = start(order, account);
    ledger.start_payment(&s, now_ms(), &idem(&s.payment.to_string(), 1), saved).await.unwrap();
    assert!(ledger.prepared(s.payment, &session(), AccountOf::Shop, now_ms()).await.unwrap());
    let back =
        ledger.record_return(s.payment, "s3cret", &Return::Approved { code: "pg".into() }, now_ms()).await.unwrap();
    assert_eq!(back, Some(order));
    assert!(ledger.begin_attempt(s.payment, AttemptKind::Confirm, None, now_ms()).await.unwrap().is_some());
    let amount = Money::new(1_000, Currency::KRW).unwrap();
    assert_eq!(ledger.settle_captured(s.payment, "A1", amount, Actor::Worker, now_ms()).await.unwrap(), Capture::Paid);
    s.payment
}
