//! What `verify` and the audit chain see of rows that somebody changed behind the ledger's back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn verify_sees_what_was_tampered_with() {
    let (ledger, url) = ledger_and_url().await;
    let deal_id = deal(&ledger, 5, 5).await;
    let a = account(&ledger).await;
    let order = held(&ledger, deal_id, a).await;
    pay(&ledger, order, a).await;
    held(&ledger, deal_id, a).await;
    assert_eq!(ledger.verify().await.unwrap(), []);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    for (damage, check) in [
        ("UPDATE deal SET held = held + 1", "held_equals_orders"),
        ("UPDATE deal SET sold = sold - 1", "sold_equals_orders"),
        ("UPDATE allowance SET units = units - 1", "allowance_equals_orders"),
        ("DELETE FROM attempt; DELETE FROM payment", "paid_order_has_one_equal_capture"),
        ("ALTER TABLE order_event DISABLE TRIGGER order_event_stays; DELETE FROM order_event", "history_matches_state"),
    ] {
        client.batch_execute(damage).await.unwrap();
        let findings = ledger.verify().await.unwrap();
        assert!(findings.iter().any(|f| f.check == check), "{damage} was not seen as {check}: {findings:?}");
    }
    for forbidden in [
        "UPDATE deal SET stock = 1",
        "UPDATE orders SET state = 'refunded' WHERE state = 'held'",
        "UPDATE orders SET quantity = quantity + 1",
        "UPDATE allowance SET units = -1",
    ] {
        assert!(client.batch_execute(forbidden).await.is_err(), "{forbidden} must be refused");
    }
}

/// The chain names the first entry that is wrong, whatever was done to it.
#[tokio::test(flavor = "multi_thread")]
async fn the_audit_chain_shows_every_tampering() {
    let (ledger, url) = ledger_and_url().await;
    let deal = deal(&ledger, 5, 5).await;
    let a = account(&ledger).await;
    for _ in 0..2 {
        let order = held(&ledger, deal, a).await;
        pay(&ledger, order, a).await;
    }
    let (one, two) = tokio::join!(ledger.seal(), ledger.seal());
    assert_eq!(one.unwrap() + two.unwrap(), 6, "each step once, whoever seals");
    held(&ledger, deal, a).await;
    assert_eq!(ledger.seal().await.unwrap(), 1);
    assert_eq!(ledger.seal().await.unwrap(), 0);
    assert_eq!(ledger.audit_tail().await.unwrap().seq, 7);
    assert_eq!(ledger.verify().await.unwrap(), []);

    let (mut client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    assert!(client.batch_execute("UPDATE order_event SET at_ms = 0").await.is_err(), "append-only");
    client
        .batch_execute("CREATE TABLE audit_copy AS TABLE audit; CREATE TABLE order_event_copy AS TABLE order_event")
        .await
        .unwrap();
    for (damage, entry) in [
        ("UPDATE order_event SET actor = 'operator' WHERE seq = 3", "entry 3 "),
        ("DELETE FROM order_event WHERE seq = 4", "entry 4 "),
        ("UPDATE audit SET line = replace(line, 'paying', 'paid') WHERE seq = 2", "entry 2 "),
        ("DELETE FROM audit WHERE seq = 5", "entry 6 "),
        ("DELETE FROM audit WHERE seq = 7", "order "),
        ("UPDATE order_event SET sealed = false, at_ms = 0 WHERE seq = 7; DELETE FROM audit WHERE seq = 7", "order "),
    ] {
        let tx = client.transaction().await.unwrap();
        tx.batch_execute(&format!("ALTER TABLE order_event DISABLE TRIGGER order_event_stays; {damage}"))
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let findings = ledger.verify().await.unwrap();
        let first = findings.iter().find(|f| f.check == "audit_chain");
        assert!(first.is_some_and(|f| f.subject.starts_with(entry)), "{damage}: {findings:?}");
        put_back(&mut client).await;
    }
}

/// Puts the history and the chain back as they were.
async fn put_back(client: &mut tokio_postgres::Client) {
    client
        .batch_execute(
            "DELETE FROM audit; DELETE FROM order_event; INSERT INTO audit SELECT * FROM audit_copy;
             INSERT INTO order_event OVERRIDING SYSTEM VALUE SELECT * FROM order_event_copy",
        )
        .await
        .unwrap();
}
