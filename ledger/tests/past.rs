//! A long past costs nothing: what a purchase reads does not grow with the purchases before it, although every plan was
//! made when the tables were empty, which is how each sale of a new shop begins.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(missing_docs, reason = "tests are named after what they prove")]

mod support;

use ledger::*;
use service_kit::clock::now_ms;
use service_kit::ids::*;
use service_kit::money::{Currency, Money};
use std::collections::BTreeMap;
use support::*;
use tokio_postgres::Client;

/// More than the five times after which PostgreSQL keeps a plan.
const LIVES: usize = 8;
/// Purchases before, in the short and in the long past.
const PASTS: [i64; 2] = [200, 30_000];
/// Blocks of one table or index that a life may read in the long past, by those in the short one: an index may have a level
/// more. One that is read from end to end once in each life has some hundred blocks.
fn blocks_max(short: i64) -> i64 {
    2 * short + 10
}

/// A purchase from the hold to the money back, and one look of everybody who looks regularly.
async fn life(ledger: &Ledger, deal: DealId) -> OrderId {
    const PROVIDER: &str = "kakaopay";
    let account = account(ledger).await;
    let (left, began_ms) = (held(ledger, deal, account).await, now_ms());
    let order = held(ledger, deal, account).await;
    let s = start(order, account);
    // By the server's clock all is due at once.
    let soon = || now_ms() + 1_000;
    ledger.start_payment(&s, now_ms(), &idem(&s.payment.to_string(), 1), saved).await.unwrap();
    let call = async |kind| {
        let begun = ledger.begin_attempts(&[Begin { payment: s.payment, kind }], now_ms()).await.unwrap();
        let finish = Finish { attempt: begun[0].unwrap(), outcome: "ok".into(), detail: String::new() };
        ledger.finish_attempts(&[finish], now_ms()).await.unwrap();
    };
    assert_eq!(ledger.claim_due_payments(PROVIDER, soon(), 10, 1).await.unwrap().len(), 1);
    call(AttemptKind::Prepare).await;
    assert_eq!(ledger.prepared_many(&[opened(s.payment)], now_ms()).await.unwrap(), [true]);
    assert!(ledger.payment_for_checkout(s.payment, "s3cret").await.unwrap().is_some());
    let code = format!("pg-{order}");
    let approval = Approval { payment: s.payment, secret: "s3cret".into(), code: code.clone() };
    assert_eq!(ledger.record_approvals(&[approval], now_ms()).await.unwrap(), [Some(order)]);
    assert_eq!(ledger.claim_due_payments(PROVIDER, soon() + 1_000, 10, 1).await.unwrap().len(), 1);
    call(AttemptKind::Confirm).await;
    let money = Money::new(1_000, Currency::KRW).unwrap();
    let captured = Captured { payment: s.payment, reference: "A1".into(), money, actor: Actor::Worker };
    assert_eq!(ledger.settle_many(&[captured], now_ms()).await.unwrap(), [true]);
    let event = format!("e-{order}");
    for about in [NoticeAbout::Order(order), NoticeAbout::Reference("unknown"), NoticeAbout::Nothing] {
        ledger.notice_came(PROVIDER, &event, "X", about, now_ms()).await.unwrap();
    }
    ledger.claim_due_payments(PROVIDER, now_ms() + 60_000, 10, 1).await.unwrap();
    ledger.recheck_done(s.payment).await.unwrap();

    let reason = "changed my mind".to_owned();
    let by = RefundBy::Shopper(account);
    let request = RequestRefund { refund: RefundId::new(), order, by, amount_minor: None, units: None, reason };
    let key = idem(&format!("r-{order}"), 1);
    assert!(matches!(ledger.request_refund(&request, now_ms(), &key, saved).await.unwrap(), Replay::Fresh(_)));
    let work = ledger.claim_due_refunds(PROVIDER, soon(), 10, 1_000).await.unwrap().remove(0);
    assert!(ledger.refund_done(work.id, "R1", now_ms()).await.unwrap());
    assert_eq!(ledger.done_refunds(s.payment, 10).await.unwrap().len(), 1);
    let key = idem(&format!("c-{left}"), 1);
    assert!(matches!(ledger.cancel_order(left, account, now_ms(), &key, saved).await.unwrap(), Replay::Fresh(_)));

    let told = ledger.claim_outbox(100, 1_000, now_ms()).await.unwrap();
    ledger.outbox_delivered(&told.iter().map(|event| event.id).collect::<Vec<_>>(), now_ms()).await.unwrap();
    ledger.outbox_backlog().await.unwrap();
    ledger.expire_holds(now_ms(), 100).await.unwrap();
    ledger.seal().await.unwrap();
    ledger.stranded(now_ms(), 60_000).await.unwrap();
    ledger.unsettled_payments().await.unwrap();
    ledger.waiting_counts().await.unwrap();
    let moved = ledger.booked(PROVIDER, began_ms, None, 500).await.unwrap();
    assert!(ledger.booked(PROVIDER, began_ms, moved.last(), 500).await.unwrap().is_empty());
    let by = |payment, order, reference| ListedAs { payment, order, reference };
    let named =
        [by(Some(s.payment.0), None, "?"), by(None, None, "?"), by(None, Some(order.0), "?"), by(None, None, &code)];
    let booked = ledger.booked_as(PROVIDER, &named).await.unwrap();
    let found: Vec<bool> =
        booked.iter().map(|ours| ours.as_ref().is_some_and(|ours| ours.payment == s.payment)).collect();
    assert_eq!(found, [true, false, true, true]);
    ledger.recheck_moved(PROVIDER, began_ms, 200, now_ms()).await.unwrap();
    ledger.recheck_once(&[s.payment], began_ms, 200, now_ms()).await.unwrap();
    ledger.open_discrepancies(10).await.unwrap();
    assert_eq!(ledger.order(order).await.unwrap().unwrap().state, OrderState::Refunded);
    assert_eq!(ledger.orders_of(account, None, 10).await.unwrap().len(), 2);
    assert!(ledger.story(order).await.unwrap().len() > 5);
    ledger.resume(order, now_ms()).await.unwrap();
    order
}

/// Repeats what is there of `order`, `n` times, each time for somebody else.
async fn repeat(sql: &Client, order: OrderId, n: i64) {
    sql.batch_execute("SET session_replication_role = replica").await.unwrap();
    // Table, what differs from row to row, which rows are repeated.
    let o = format!("order_id = '{order}'");
    let p = format!("payment_id IN (SELECT id FROM payment WHERE {o})");
    let a = format!("(SELECT account_id FROM orders WHERE id = '{order}')");
    let [own, by_account] =
        ["id", "account_id"].map(|column| move |what: &str| format!("'{column}', md5('{what}' || n)::uuid"));
    let ordered = "'order_id', md5('o' || n)::uuid".to_owned();
    let paid = "'payment_id', md5('p' || n)::uuid".to_owned();
    // Beyond what the lives that follow will take.
    let seq = |column: &str| format!("'{column}', (n + 1000) * 1000 + {column}");
    let tables = [
        ("account", format!("{}, 'email', n || '@example.org'", own("a")), format!("id = {a}")),
        ("pass_holder", format!("{}, 'lease_number', n + 10", by_account("a")), format!("account_id = {a} LIMIT 1")),
        ("allowance", by_account("a"), format!("account_id = {a}")),
        (
            "orders",
            format!("{}, {}, 'idempotency_key', 'k' || n", own("o"), by_account("a")),
            format!("id = '{order}'"),
        ),
        ("payment", format!("{}, {ordered}, 'provider_ref', 'T' || n", own("p")), o.clone()),
        ("refund", format!("{}, {ordered}, {paid}", own("r")), o.clone()),
        ("attempt", format!("'id', gen_random_uuid(), {paid}"), p.clone()),
        ("webhook", format!("'event_id', 'w' || n, {paid}"), p.clone()),
        ("outbox", format!("{}, {ordered}", seq("id")), o.clone()),
        ("order_event", format!("{}, {ordered}", seq("seq")), o.clone()),
        ("idempotency", "'key', 'k' || n".to_owned(), format!("key = 'r-{order}'")),
    ];
    for (table, differs, which) in tables {
        let made = sql
            .execute(
                &format!(
                    "INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT c.* FROM (
                        SELECT {table}.row, jsonb_build_object({differs}) AS differs
                        FROM generate_series(1, {n}) AS n, LATERAL (SELECT {table} AS row, {table}.* FROM {table} WHERE {which}) AS {table}) AS s,
                        LATERAL jsonb_populate_record(s.row, s.differs) AS c"
                ),
                &[],
            )
            .await
            .unwrap_or_else(|e| panic!("{table}: {e:?}"));
        assert!(made >= u64::try_from(n).unwrap(), "{table}: {made}");
    }
}

/// Blocks of each table and index that were looked at since the last reset.
async fn blocks(sql: &Client) -> BTreeMap<String, i64> {
    let rows = sql
        .query(
            "SELECT relname::text, heap_blks_read + heap_blks_hit FROM pg_statio_user_tables
             UNION ALL SELECT indexrelname::text, idx_blks_read + idx_blks_hit FROM pg_statio_user_indexes",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get::<_, Option<i64>>(1).unwrap_or(0))).collect()
}

async fn read_after(past: i64) -> BTreeMap<String, i64> {
    let (first, url) = ledger_and_url().await;
    let (sql, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let tables = sql
        .query("SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace", &[]);
    for table in tables.await.unwrap() {
        // Nobody tells the planner that the tables have grown, and nobody else reads them.
        let table: String = table.get(0);
        sql.batch_execute(&format!("ALTER TABLE {table} SET (autovacuum_enabled = false)")).await.unwrap();
    }
    let deal = deal(&first, 1_000, 10).await;
    drop(first);
    let ledger = Ledger::connect(&PgConfig { url, connections: 1 }).await.unwrap();
    let mut order = None;
    for _ in 0..LIVES {
        order = Some(life(&ledger, deal).await);
    }
    repeat(&sql, order.unwrap(), past).await;
    sql.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    // What the ledger's connection has not counted yet comes on top: the same after a short and a long past.
    sql.batch_execute("SELECT pg_stat_reset()").await.unwrap();
    for _ in 0..LIVES {
        life(&ledger, deal).await;
    }
    drop(ledger);
    // A connection that ends has counted all it did.
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    while sql.query_one(others, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let read = blocks(&sql).await;
    connection.abort();
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_reads_no_more_after_many() {
    let [short, long] = [read_after(PASTS[0]).await, read_after(PASTS[1]).await];
    assert!(short["orders"] > 0 && short["payment_pkey"] > 0, "{short:?}");
    let per_life = |read: i64| read / i64::try_from(LIVES).unwrap();
    let grown: Vec<_> = long
        .iter()
        .map(|(name, read)| (name, per_life(short[name]), per_life(*read)))
        .filter(|(_, short, long)| *long > blocks_max(*short))
        .collect();
    assert!(grown.is_empty(), "blocks per purchase, after few and after many: {grown:?}");
}
