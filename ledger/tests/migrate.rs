//! Several processes bring the schema up to date at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(missing_docs, reason = "tests are named after what they prove")]

mod support;

use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn migrators_wait_for_each_other() {
    let (ledger, url) = ledger_and_url().await;
    let (sql, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    sql.batch_execute("SELECT pg_advisory_lock(4601)").await.unwrap();
    let others: Vec<_> = (0..3)
        .map(|_| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.migrate().await })
        })
        .collect();
    let wait = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while sql.query_one(wait, &[]).await.unwrap().get::<_, i64>(0) < 3 {
        tokio::task::yield_now().await;
    }
    sql.batch_execute("SELECT pg_advisory_unlock(4601)").await.unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
}
