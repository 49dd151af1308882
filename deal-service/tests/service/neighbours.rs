//! Deals side by side: what Redis does not take for one holds up no other, and an old deal leaves nothing behind.

use crate::world::{Run, World, config};
use deal_service::Config;
use ledger::{HoldOutcome, NewHold};
use queue::registry;
use serde_json::json;
use service_kit::clock::now_ms;
use service_kit::ids::{DealId, OrderId, RoomId, VisitorId};

/// Orders that only the ledger knows, fifty per person; their holds are over in half a second.
async fn run_out(w: &World, deal: DealId, people: usize) {
    let (epoch, price) = (w.truth(deal).await.epoch, w.truth(deal).await.price);
    for account in w.people(people).await {
        let now = now_ms();
        let hold = |n: usize| NewHold {
            order: OrderId::new(),
            deal,
            account,
            lease_number: 1,
            visitor: VisitorId::new(),
            quantity: 1,
            amount: price,
            idempotency_key: n.to_string(),
            fingerprint: [1; 32],
            hold_expires_at_ms: now + 500,
            confirm_by_ms: now + 10_000,
            epoch,
            trace_id: "t".into(),
        };
        let placed = w.ledger.place_holds(&(0..50).map(hold).collect::<Vec<_>>(), now).await.unwrap();
        assert!(placed.iter().all(|outcome| matches!(outcome, HoldOutcome::Placed(_))), "{placed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_redis_does_not_take_hold_up_no_other_deal() {
    let w = World::start(Run::All).await;
    let (stuck, other) = (w.deal(250, 50).await, w.deal(5, 5).await);
    // Every script about this deal is refused from now on.
    let stock = format!("fg:{{deal-{stuck}}}:stock");
    w.redis.command("SET", &[&stock, "not a stock"]).await.unwrap();
    run_out(&w, stuck, 5).await;
    w.eventually("all of its events wait", async || w.ledger.outbox_backlog().await.unwrap().0 == 250).await;
    let shopper = w.person().await;
    let order = w.hold(other, shopper, "k", 2).await.order();
    w.settled_at(other, 3, 2, 0).await;
    let cancel = w.post(&format!("/api/v1/orders/{order}/cancel"), Some(shopper), Some("c"), json!({}), None).await;
    assert_eq!(cancel.status, 200, "{}", cancel.json());
    w.settled_at(other, 5, 0, 0).await;
    assert_eq!(w.ledger.outbox_backlog().await.unwrap().0, 250);
    // Once it is right again, what waited is told, too.
    w.redis.command("DEL", &[&stock]).await.unwrap();
    w.eventually("nothing waits", async || w.ledger.outbox_backlog().await.unwrap().0 == 0).await;
    w.settled_at(stuck, 250, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_deal_that_ended_long_ago_redis_keeps_neither_room_nor_stock() {
    let w = World::start_with(Run::All, Config { keep_room_ms: 1_000, ..config() }).await;
    let deal = w.deal_with(5, 5, |d| d.ends_at_ms = now_ms() + 3_000).await;
    let (room, stock) = (RoomId::of_deal(deal), format!("fg:{{deal-{deal}}}:stock"));
    let is_listed = async || {
        let listing = registry::fetch(&w.redis, 0).await.unwrap().unwrap_or_default();
        listing.rooms().iter().any(|listed| listed.room == room)
    };
    w.eventually("the room is published", async || is_listed().await).await;
    w.eventually("the room is taken back", async || !is_listed().await).await;
    assert_eq!(w.redis.command("EXISTS", &[&stock]).await.unwrap().int().unwrap(), 0, "its stock went before it");
}
