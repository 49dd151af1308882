//! Deals side by side: none leaves another one out, and none makes another one wait.
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
use support::*;

const LEASE_MS: i64 = 10_000;

/// Orders of one unit whose holds are over: an event each. Fifty per person.
async fn run_out(ledger: &Ledger, url: &str, deal: DealId, orders: usize) {
    let mut left = orders;
    while left > 0 {
        let (person, some) = (account(ledger).await, left.min(50));
        let holds: Vec<NewHold> = (0..some).map(|n| hold(deal, person, 1, &n.to_string())).collect();
        let placed = ledger.place_holds(&holds, now_ms()).await.unwrap();
        assert!(placed.iter().all(|outcome| matches!(outcome, HoldOutcome::Placed(_))), "{placed:?}");
        left -= some;
    }
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("UPDATE orders SET hold_expires_at_ms = created_at_ms WHERE state = 'held'").await.unwrap();
    assert_eq!(ledger.expire_holds(now_ms(), 1_000).await.unwrap().len(), orders);
}

fn ids(events: &[OutboxEvent]) -> Vec<i64> {
    events.iter().map(|event| event.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_were_not_taken_let_others_have_their_turn() {
    let (ledger, url) = ledger_and_url().await;
    let (dead, alive) = (deal(&ledger, 250, 50).await, deal(&ledger, 1, 1).await);
    let later = now_ms() + 120_000;
    run_out(&ledger, &url, dead, 250).await;
    run_out(&ledger, &url, alive, 1).await;

    let first = ledger.claim_outbox(200, LEASE_MS, later).await.unwrap();
    assert!(first.len() == 200 && first.iter().all(|event| event.deal == dead), "in order of writing");
    ledger.outbox_postponed(&ids(&first), 1_000, later).await.unwrap();
    let second = ledger.claim_outbox(200, LEASE_MS, later).await.unwrap();
    let (taken, left): (Vec<_>, Vec<_>) = second.into_iter().partition(|event| event.deal == alive);
    assert_eq!((taken.len(), left.len()), (1, 50), "the other deal's turn comes at once");
    ledger.outbox_delivered(&ids(&taken), later).await.unwrap();
    ledger.outbox_postponed(&ids(&left), 1_000, later + 500).await.unwrap();
    assert!(ledger.claim_outbox(200, LEASE_MS, later + 999).await.unwrap().is_empty());

    // All of them are due again; a new event goes before them, and then those that wait longest.
    run_out(&ledger, &url, alive, 1).await;
    let third = ledger.claim_outbox(101, LEASE_MS, later + 1_500).await.unwrap();
    let (fresh, again): (Vec<_>, Vec<_>) = third.into_iter().partition(|event| event.deal == alive);
    assert_eq!((fresh.len(), ids(&again)), (1, ids(&first[..100])));

    // Whoever postponed by a clock that is an hour ahead keeps nobody waiting for that hour.
    ledger.outbox_postponed(&ids(&again), 1_000, later + 3_600_000).await.unwrap();
    assert_eq!(ledger.claim_outbox(300, LEASE_MS, later + 20_000).await.unwrap().len(), 251);
}

fn lamp(merchant: MerchantId, starts_at_ms: i64, ends_at_ms: i64) -> NewDeal {
    NewDeal {
        id: DealId::new(),
        merchant,
        title: "Lamp".into(),
        description: String::new(),
        price: Money::new(1_000, Currency::KRW).unwrap(),
        stock: 1,
        per_user_limit: 1,
        starts_at_ms,
        ends_at_ms,
        admission_rate_per_s: 10,
        admission_cap: 100,
        hold_ttl_ms: 60_000,
        shopper_refund_ms: 604_800_000,
        room: serde_json::json!({}),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_open_deal_is_found_however_many_there_are() {
    let ledger = ledger().await;
    let (merchant, now) = (MerchantId::new(), now_ms());
    ledger.create_merchant(merchant, "Demo", now).await.unwrap();
    let mut open = Vec::new();
    // Start and end in seconds from now; many end in the same moment, and two are over for longer than the grace.
    let times =
        [(-9, 60), (5, 60), (-9, 60), (-8, 60), (4, 60), (3, 30), (-60, -9), (2, 90), (-60, -10), (-90, -11), (1, 2)];
    for (starts_s, ends_s) in times {
        let new = lamp(merchant, now + starts_s * 1_000, now + ends_s * 1_000);
        let made = ledger.create_deal(&new, new.starts_at_ms, &idem(&new.id.to_string(), 1), saved).await.unwrap();
        assert!(matches!(made, Replay::Fresh(_)));
        if ends_s > -10 {
            open.push((new.starts_at_ms, new.id));
        }
    }
    open.sort_unstable();
    for page in [1, 2, 3, 4, 9, 10, 1_000] {
        let found = ledger.open_deals(now, 10_000, page).await.unwrap();
        let found: Vec<_> = found.iter().map(|deal| (deal.starts_at_ms, deal.id)).collect();
        assert_eq!(found, open, "in pages of {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deal_is_made_before_its_end_and_told_again_after_it() {
    let ledger = ledger().await;
    let (merchant, now) = (MerchantId::new(), now_ms());
    ledger.create_merchant(merchant, "Demo", now).await.unwrap();
    let new = lamp(merchant, now, now + 1_000);
    let create = async |new: &NewDeal, key: &str, at_ms: i64| {
        ledger.create_deal(new, at_ms, &idem(key, 1), saved).await.unwrap()
    };
    assert!(matches!(create(&new, "in time", now + 999).await, Replay::Fresh(_)));
    let again = NewDeal { id: DealId::new(), ..new.clone() };
    assert!(matches!(create(&again, "in time", now + 1_000).await, Replay::Replayed(_)));
    assert_eq!(create(&again, "too late", now + 1_000).await, Replay::Refused(DealRefusal::Ended));
    assert!(ledger.deal(again.id).await.unwrap().is_none());
    // A refusal is not stored: the key is still free.
    assert!(matches!(create(&again, "too late", now + 999).await, Replay::Fresh(_)));
}
