//! Holds through HTTP: the two gates together.

use crate::world::{Answer, Run, World, config};
use ledger::NewHold;
use service_kit::clock::now_ms;
use service_kit::ids::{AccountId, DealId, OrderId, RoomId, VisitorId};
use service_kit::money::{Currency, Money};
use std::sync::Arc;

/// Everybody holds at the same moment, each with a key of their own.
async fn rush(w: &Arc<World>, deal: DealId, people: &[AccountId], quantity: i64) -> Vec<Answer> {
    let tasks: Vec<_> = people
        .iter()
        .enumerate()
        .map(|(i, account)| {
            let (w, account) = (w.clone(), *account);
            tokio::spawn(async move { w.hold(deal, account, &format!("rush-{i}"), quantity).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_people_and_fifty_units() {
    let w = Arc::new(World::start(Run::All).await);
    let deal = w.deal(50, 2).await;
    let people = w.people(200).await;
    let answers = rush(&w, deal, &people, 1).await;
    let made: Vec<_> = answers.iter().filter(|a| a.status == 201).collect();
    let refused: Vec<_> = answers.iter().filter(|a| a.status == 409).collect();
    assert_eq!((made.len(), refused.len()), (50, 150));
    assert!(refused.iter().all(|a| a.slug() == "sold-out"));
    w.settled_at(deal, 0, 50, 0).await;
    for answer in made {
        assert_eq!(
            w.ledger.order(answer.order()).await.unwrap().unwrap().quantity,
            1,
            "what was promised is in the ledger"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_per_person_holds_when_one_person_is_many() {
    let w = Arc::new(World::start(Run::All).await);
    let deal = w.deal(50, 3).await;
    let one = vec![w.person().await; 40];
    let answers = rush(&w, deal, &one, 1).await;
    assert_eq!(answers.iter().filter(|a| a.status == 201).count(), 3);
    assert!(answers.iter().filter(|a| a.status != 201).all(|a| a.slug() == "per-user-limit"));
    let too_many = w.hold(deal, w.person().await, "k", 4).await;
    assert_eq!(too_many.slug(), "per-user-limit");
    w.settled_at(deal, 47, 3, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_serves_one_account() {
    let w = Arc::new(World::start(Run::All).await);
    let deal = w.deal(50, 2).await;
    let path = format!("/api/v1/deals/{deal}/holds");
    let one = serde_json::json!({ "quantity": 1 });
    // Twenty people and one pass, at the same moment.
    let (pass, people) = (w.pass(deal, 5), w.people(20).await);
    let tasks: Vec<_> = people
        .iter()
        .map(|account| {
            let (w, path, one, pass, account) = (w.clone(), path.clone(), one.clone(), pass.clone(), *account);
            tokio::spawn(async move { (account, w.post(&path, Some(account), Some("k"), one, Some(&pass)).await) })
        })
        .collect();
    let mut made = Vec::new();
    for task in tasks {
        let (account, answer) = task.await.unwrap();
        if answer.status == 201 {
            made.push((account, answer));
        } else {
            assert_eq!((answer.status.as_u16(), answer.slug().as_str()), (403, "pass-of-another-account"));
        }
    }
    let [(holder, answer)] = &made[..] else { panic!("{} accounts bought with one pass", made.len()) };
    w.settled_at(deal, 49, 1, 0).await;
    // The holder goes on with it; after the order has ended it is still nobody else's, also when Redis forgets.
    assert_eq!(w.post(&path, Some(*holder), Some("k2"), one.clone(), Some(&pass)).await.status, 201);
    let cancel = format!("/api/v1/orders/{}/cancel", answer.order());
    assert_eq!(w.post(&cancel, Some(*holder), Some("c"), serde_json::json!({}), None).await.status, 200);
    w.settled_at(deal, 49, 1, 0).await;
    w.redis.command("FLUSHALL", &[]).await.unwrap();
    let stranger = people.iter().find(|p| *p != holder).unwrap();
    let refused = w.post(&path, Some(*stranger), Some("late"), one.clone(), Some(&pass)).await;
    assert_eq!((refused.status.as_u16(), refused.slug().as_str()), (403, "pass-of-another-account"));
    w.settled_at(deal, 49, 1, 0).await;
    assert_eq!(
        w.post(&path, Some(*holder), Some("k3"), one, Some(&pass)).await.status,
        201,
        "and is still the holder's"
    );
    assert_eq!(w.ledger.verify().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_the_same_bytes_for_ever() {
    let w = Arc::new(World::start(Run::All).await);
    let deal = w.deal(2, 2).await;
    let shopper = w.person().await;
    // The same request ten times at once: one order, one answer.
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let w = w.clone();
            tokio::spawn(async move { w.hold(deal, shopper, "same", 2).await })
        })
        .collect();
    let mut answers = Vec::new();
    for t in tasks {
        answers.push(t.await.unwrap());
    }
    let first = answers[0].clone();
    assert_eq!(first.status, 201, "{}", first.json());
    assert!(answers.iter().all(|a| a.status == 201 && a.bytes == first.bytes));
    assert_eq!(answers.iter().filter(|a| a.headers.contains_key("idempotency-replayed")).count(), 9);
    w.settled_at(deal, 0, 2, 0).await;
    // The key belongs to this request only.
    assert_eq!(w.hold(deal, shopper, "same", 1).await.slug(), "idempotency-key-reused");
    let other = w.deal(5, 5).await;
    assert_eq!(w.hold(other, shopper, "same", 2).await.slug(), "idempotency-key-reused");
    w.settled_at(other, 5, 0, 0).await;
    // After the order has ended, and even when somebody else has all units, the answer stays.
    let cancel = format!("/api/v1/orders/{}/cancel", first.order());
    assert_eq!(w.post(&cancel, Some(shopper), Some("c"), serde_json::json!({}), None).await.status, 200);
    w.settled_at(deal, 2, 0, 0).await;
    let replay = w.hold(deal, shopper, "same", 2).await;
    assert_eq!((replay.status, &replay.bytes), (first.status, &first.bytes));
    w.settled_at(deal, 2, 0, 0).await;
    assert_eq!(w.hold(deal, w.person().await, "k", 2).await.status, 201);
    let replay = w.hold(deal, shopper, "same", 2).await;
    assert_eq!(
        (replay.status, &replay.bytes),
        (first.status, &first.bytes),
        "a loser with a history is asked for in the ledger"
    );
    assert_eq!(w.hold(deal, shopper, "same", 1).await.slug(), "idempotency-key-reused");
    assert_eq!(w.hold(deal, shopper, "new", 2).await.slug(), "sold-out");
    w.settled_at(deal, 0, 2, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ledger_refuses_goes_back_into_redis() {
    let w = World::start(Run::Committer).await;
    let deal = w.deal(5, 5).await;
    w.sql(&format!("UPDATE deal SET stock = 2 WHERE id = '{deal}'")).await;
    assert_eq!(w.hold(deal, w.person().await, "k", 3).await.slug(), "sold-out");
    let t = w.totals(deal).await.unwrap();
    assert_eq!((t.available, t.held, t.unconfirmed), (5, 0, 0), "released before the shopper heard no");
    assert_eq!(w.hold(deal, w.person().await, "k", 2).await.status, 201);
    assert_eq!(w.hold(deal, w.person().await, "k", 1).await.slug(), "sold-out");
    assert_eq!(w.truth(deal).await.held, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_impossible_entry_does_not_harm_its_neighbours() {
    let w = Arc::new(World::start(Run::Committer).await);
    let deal = w.deal(50, 2).await;
    let mut people = w.people(20).await;
    people.insert(10, AccountId::new()); // signed in, but no such account
    let answers = rush(&w, deal, &people, 1).await;
    assert_eq!(answers.iter().filter(|a| a.status == 201).count(), 20);
    assert_eq!(answers.iter().filter(|a| a.status == 500).count(), 1);
    w.settled_at(deal, 30, 20, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_before_anything_is_kept() {
    let w = Arc::new(
        World::start_with(Run::Committer, deal_service::Config { hold_queue_max: 2, batch_max: 1, ..config() }).await,
    );
    let deal = w.deal(100, 2).await;
    let people = w.people(60).await;
    let answers = rush(&w, deal, &people, 1).await;
    let made = answers.iter().filter(|a| a.status == 201).count();
    let busy: Vec<_> = answers.iter().filter(|a| a.status == 503).collect();
    assert_eq!(made + busy.len(), 60);
    assert!(busy.iter().all(|a| a.slug() == "store-unavailable" && a.headers.contains_key("retry-after")));
    let made = i64::try_from(made).unwrap();
    w.settled_at(deal, 100 - made, made, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_comes_too_late_is_not_committed() {
    let w = World::start(Run::Committer).await;
    let deal = w.deal(5, 5).await;
    let now = now_ms();
    let hold = NewHold {
        order: OrderId::new(),
        deal,
        account: w.person().await,
        lease_number: 1,
        visitor: VisitorId::new(),
        quantity: 1,
        amount: Money::new(12_900, Currency::KRW).unwrap(),
        idempotency_key: "k".into(),
        fingerprint: [0; 32],
        hold_expires_at_ms: now + 60_000,
        confirm_by_ms: now - 1,
        epoch: w.truth(deal).await.epoch,
        trace_id: "t".into(),
    };
    let outcomes = w.ledger.place_holds(&[hold], now).await.unwrap();
    assert_eq!(outcomes, [ledger::HoldOutcome::Expired]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_visitor_moves_between_inside_and_buying() {
    let w = World::start(Run::All).await;
    let deal = w.deal(5, 5).await;
    let shopper = w.person().await;
    let room = RoomId::of_deal(deal);
    let (inside, buying) = (format!("fg:{{{room}}}:inside"), format!("fg:{{{room}}}:buying"));
    w.redis.command("ZADD", &[&inside, &(now_ms() + 600_000).to_string(), "7"]).await.unwrap();
    let is_in =
        async |key: &str| w.redis.command("ZSCORE", &[key, "7"]).await.unwrap() != service_kit::redis::Reply::Nil;
    let order = w.hold(deal, shopper, "a", 1).await.order();
    assert!(!is_in(&inside).await && is_in(&buying).await);
    w.post(&format!("/api/v1/orders/{order}/cancel"), Some(shopper), Some("c"), serde_json::json!({}), None).await;
    w.settled_at(deal, 5, 0, 0).await;
    assert!(is_in(&inside).await && !is_in(&buying).await, "who gives units back may look on");
    let until = w.redis.command("ZSCORE", &[&inside, "7"]).await.unwrap().int().unwrap();
    assert!(until <= now_ms() + 30_000, "but does not keep the last units from others for a whole lease");
    let order = w.hold(deal, shopper, "b", 1).await.order();
    w.post(
        &format!("/api/v1/orders/{order}/payments"),
        Some(shopper),
        Some("p"),
        serde_json::json!({"provider": "kakaopay"}),
        None,
    )
    .await;
    w.capture(order).await;
    w.settled_at(deal, 4, 0, 1).await;
    assert!(!is_in(&inside).await && !is_in(&buying).await, "a sale ends the visit");
}
