//! The scripts against the model, and against arguments that Rust would never send.

use crate::model::{Model, State};
use crate::world::{Run, World};
use deal_service::fast_stock::{self, FastReply, HoldAsk};
use ledger::{OutboxEvent, OutboxKind};
use queue::losers::{HoldWish, losers};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use service_kit::clock::now_ms;
use service_kit::ids::{AccountId, DealId, OrderId, RoomId, VisitorId};
use service_kit::money::Quantity;
use service_kit::redis::{Script, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};

fn keys(deal: DealId) -> Vec<String> {
    ["stock", "holds", "units", "bought", "ops", "inside", "buying", "room", "entered", "ended"]
        .iter()
        .map(|k| format!("fg:{{deal-{deal}}}:{k}"))
        .collect()
}

async fn numbers(w: &World, key: &str) -> BTreeSet<u64> {
    let reply = w.redis.command("ZRANGE", &[key, "0", "-1"]).await.unwrap();
    reply.list().unwrap().iter().map(|n| u64::try_from(n.int().unwrap()).unwrap()).collect()
}

async fn compare(w: &World, deal: DealId, model: &Model, at: &str) {
    let t = w.totals(deal).await.unwrap();
    assert_eq!((t.available, t.held, t.sold), (model.available, model.held, model.sold), "{at}");
    let unconfirmed = model.units.values().filter(|u| u.state == State::Unconfirmed).count();
    assert_eq!(usize::try_from(t.unconfirmed).unwrap(), unconfirmed, "{at}: unconfirmed");
    let k = keys(deal);
    let bought: BTreeMap<AccountId, i64> =
        w.hash(&k[3]).await.into_iter().map(|(a, n)| (a.parse().unwrap(), n.parse().unwrap())).collect();
    assert_eq!(bought, model.bought, "{at}: bought");
    let units: BTreeSet<OrderId> = w.hash(&k[2]).await.into_keys().map(|o| o.parse().unwrap()).collect();
    assert_eq!(units, model.units.keys().copied().collect(), "{at}: units");
    let ops = w.hash(&k[4]).await;
    let holders: BTreeMap<String, AccountId> =
        ops.iter().filter_map(|(op, a)| Some((op.strip_prefix("p:")?.to_owned(), a.parse().unwrap()))).collect();
    assert_eq!(holders, model.holders, "{at}: whose the passes are");
    let ops = ops.keys().filter(|op| !["n:", "p:", "e:"].iter().any(|own| op.starts_with(own))).count();
    assert_eq!(ops, model.ops.len(), "{at}: operations");
    assert_eq!(numbers(w, &k[5]).await, model.inside, "{at}: inside");
    assert_eq!(numbers(w, &k[6]).await, model.buying, "{at}: buying");
    assert_eq!(numbers(w, &k[9]).await, model.ended, "{at}: ended");
}

/// What the outbox says when units of an order move after its hold has ended.
fn moved(deal: DealId, order: OrderId, account: AccountId, quantity: i64, epoch: i64) -> OutboxEvent {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let (id, kind) = (LAST.fetch_add(1, Ordering::Relaxed) + 1, OutboxKind::OrderReturned);
    OutboxEvent { id, kind, order, deal, account, lease_number: 1, quantity, epoch, created_at_ms: 0 }
}

/// One random step in both; `true` replies must agree.
async fn step(
    w: &World,
    deal: DealId,
    model: &mut Model,
    rng: &mut StdRng,
    people: &[AccountId],
    epoch: i64,
    at: &str,
) {
    let (room, fast) = (RoomId::of_deal(deal), w.app.fast_stock());
    let known: Vec<OrderId> = model.units.keys().copied().collect();
    let some_order = |rng: &mut StdRng| {
        if known.is_empty() || rng.random_bool(0.1) { OrderId::new() } else { known[rng.random_range(0..known.len())] }
    };
    // Every mutation is sent twice now and then: the second time must change nothing.
    let times = if rng.random_bool(0.3) { 2 } else { 1 };
    match rng.random_range(0..12) {
        0..=4 => {
            let somebody = people[rng.random_range(0..people.len())];
            let (order, account) = (OrderId::new(), if rng.random_bool(0.2) { AccountId::new() } else { somebody });
            let (key, quantity, lease) =
                (format!("k{}", rng.random_range(0..6)), rng.random_range(1..=4), rng.random_range(1..=8));
            // The same number twice, as after a store that lost everything, is still two passes.
            let visitor = &["a", "b", "c"][rng.random_range(0..3)].repeat(22).parse().unwrap();
            let ask = HoldAsk {
                order,
                account,
                key: &key,
                quantity: Quantity::new(quantity).unwrap(),
                lease,
                visitor,
                confirm_ms: 10_000,
            };
            let wish =
                HoldWish { account, key: key.clone(), quantity: ask.quantity, pass: (lease, ask.visitor.clone()) };
            for _ in 0..times {
                let looked = losers(&w.redis, &room, std::slice::from_ref(&wish)).await.unwrap();
                let expected = model.hold(order, account, &key, quantity, (lease, visitor), epoch);
                assert_eq!(fast.hold(&room, &ask).await.unwrap(), expected, "{at}: hold");
                // The gate may answer exactly those who would hear this and have no history here.
                assert_eq!(looked, [expected == FastReply::SoldOut { known: false }], "{at}: look");
            }
        }
        5 => {
            // An order that was offered twice in one batch is named twice.
            let mut orders: Vec<OrderId> = (0..rng.random_range(1..=3)).map(|_| some_order(rng)).collect();
            orders.extend(orders.first().copied().filter(|_| rng.random_bool(0.5)));
            let holds: Vec<_> = orders.iter().map(|order| (*order, now_ms() + 60_000)).collect();
            for _ in 0..times {
                fast.confirm(&room, &holds).await.unwrap();
                orders.iter().for_each(|order| model.confirm(*order));
            }
        }
        6 | 7 => {
            let (order, ends) = (some_order(rng), rng.random_bool(0.5));
            // Of an order that was paid before a filling, the event alone knows the number.
            let number = rng.random_bool(0.5).then(|| rng.random_range(1..=8));
            for _ in 0..times {
                let settled = fast.settle(&room, order, number, ends.then_some(600_000)).await.unwrap();
                assert_eq!(settled, model.settle(order, number, ends), "{at}: settle");
            }
        }
        8 => {
            let order = some_order(rng);
            for _ in 0..times {
                assert_eq!(fast.release(&room, order).await.unwrap(), model.release(order, false), "{at}: release");
            }
        }
        9 => {
            let (order, account, quantity) = (OrderId::new(), people[rng.random_range(0..people.len())], 1);
            let event = moved(deal, order, account, quantity, epoch);
            for _ in 0..times {
                let said = fast.move_units(&room, &event, false).await.unwrap();
                assert_eq!(said, model.paid_late(event.id, order, account, quantity), "{at}: paid late");
            }
        }
        10 => {
            // Whole or in part, told before its payment or after it.
            let units = model.units.iter().map(|(order, unit)| (*order, unit.account, unit.quantity));
            let late = model.late.iter().map(|(order, (account, quantity))| (*order, *account, *quantity));
            let all: Vec<_> = units.chain(late).collect();
            if all.is_empty() {
                return;
            }
            let (order, account, most) = all[rng.random_range(0..all.len())];
            let event = moved(deal, order, account, rng.random_range(1..=most), epoch);
            for _ in 0..times {
                let said = fast.move_units(&room, &event, true).await.unwrap();
                assert_eq!(said, model.returned(event.id, order, account, event.quantity), "{at}: returned");
            }
        }
        _ => {
            let order = some_order(rng);
            for _ in 0..times {
                assert_eq!(
                    fast.release_refused(&room, order).await.unwrap(),
                    model.release(order, true),
                    "{at}: release refused"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_do_what_the_model_does() {
    let w = World::start(Run::Committer).await;
    let seed: u64 = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    for round in 0..6 {
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(round));
        let (stock, limit) = (rng.random_range(1..=12), rng.random_range(1..=6));
        let deal = w.deal(stock, limit.min(stock)).await;
        let people = w.people(4).await;
        let mut model = Model {
            available: stock,
            held: 0,
            sold: 0,
            limit: limit.min(stock),
            units: BTreeMap::new(),
            ops: BTreeMap::new(),
            bought: BTreeMap::new(),
            holders: BTreeMap::new(),
            inside: (1..=8).collect(),
            buying: BTreeSet::new(),
            ended: BTreeSet::new(),
            late: BTreeMap::new(),
            events: BTreeSet::new(),
        };
        let lease_until = (now_ms() + 600_000).to_string();
        for number in 1..=8 {
            w.redis.command("ZADD", &[&keys(deal)[5], &lease_until, &number.to_string()]).await.unwrap();
        }
        let epoch = w.totals(deal).await.unwrap().epoch;
        for i in 0..250 {
            let at = format!("SEED={seed} round {round} step {i}");
            step(&w, deal, &mut model, &mut rng, &people, epoch, &at).await;
            compare(&w, deal, &model, &at).await;
        }
    }
}

async fn refused(w: &World, script: &'static Script, deal: DealId, args: &[&str]) {
    let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    match w.redis.run(script, &keys(deal), &args).await {
        Err(StoreError::Refused { code, .. }) if code == "BADARG" => {}
        other => panic!("{} {args:?}: {other:?}", script.name),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_refuse_odd_arguments_and_change_nothing() {
    let w = World::start(Run::Committer).await;
    let deal = w.deal(10, 5).await;
    let (o, a, v) = (OrderId::new().to_string(), AccountId::new().to_string(), VisitorId::new().to_string());
    let before = w.hash(&keys(deal)[0]).await;
    for quantity in [
        "0",
        "-1",
        "-5",
        "1.5",
        "1e3",
        "0x10",
        " 1",
        "1 ",
        "01",
        "+1",
        "",
        "nan",
        "inf",
        "10000",
        "9223372036854775807",
        "１",
    ] {
        refused(&w, &fast_stock::HOLD, deal, &[&o, &a, "k", quantity, "1", "1000", &v]).await;
    }
    let good = [o.as_str(), a.as_str(), "k", "1", "1", "1000", v.as_str()];
    for (place, odd) in [(0, "x"), (1, "x"), (2, ""), (2, "a|b"), (4, "-1"), (5, "0"), (5, "1e9"), (6, "short")] {
        let mut args = good;
        args[place] = odd;
        refused(&w, &fast_stock::HOLD, deal, &args).await;
    }
    refused(&w, &fast_stock::HOLD, deal, &good[..6]).await;
    refused(&w, &fast_stock::CONFIRM, deal, &[&o]).await;
    refused(&w, &fast_stock::CONFIRM, deal, &[&o, "-1"]).await;
    refused(&w, &fast_stock::SETTLE, deal, &["x", "0", "0"]).await;
    refused(&w, &fast_stock::SETTLE, deal, &[&o, "-1", "0"]).await;
    refused(&w, &fast_stock::SETTLE, deal, &[&o, "0", "-1"]).await;
    refused(&w, &fast_stock::SETTLE, deal, &[&o, "0"]).await;
    refused(&w, &fast_stock::RELEASE, deal, &[&o, "all"]).await;
    refused(&w, &fast_stock::SWEEP, deal, &["0", "0"]).await;
    refused(&w, &fast_stock::SWEEP, deal, &["-1", "10"]).await;
    refused(&w, &fast_stock::fill::BEGIN, deal, &["short", "", "1000"]).await;
    refused(&w, &fast_stock::fill::ROWS, deal, &["token-123", "orders", &o]).await;
    refused(&w, &fast_stock::fill::ROWS, deal, &["token-123", "bought", &a, "-1"]).await;
    refused(&w, &fast_stock::fill::FINISH, deal, &["token-123", "9", "5", "0", "0", "6", "0", "1", "1"]).await;
    assert_eq!(w.hash(&keys(deal)[0]).await, before);
    assert_eq!(w.totals(deal).await.unwrap().available, 10);
    // And with good ones it works: what is refused above is refused for the odd one.
    let args = good.map(str::to_owned);
    assert_eq!(
        w.redis.run(&fast_stock::HOLD, &keys(deal), &args).await.unwrap().at(0).unwrap().text().unwrap(),
        "held"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_is_checked_by_the_clock_of_redis() {
    let w = World::start(Run::Committer).await;
    let now = now_ms();
    let early = w.deal_with(5, 5, |d| d.starts_at_ms = now + 600_000).await;
    let late = w.deal_with(5, 5, |d| (d.starts_at_ms, d.ends_at_ms) = (now - 2_000, now - 1_000)).await;
    for deal in [early, late] {
        let ask = HoldAsk {
            order: OrderId::new(),
            account: AccountId::new(),
            key: "k",
            quantity: Quantity::new(1).unwrap(),
            lease: 1,
            visitor: &VisitorId::new(),
            confirm_ms: 1_000,
        };
        let reply = w.app.fast_stock().hold(&RoomId::of_deal(deal), &ask).await.unwrap();
        assert_eq!(reply, FastReply::NotOpen { known: false });
    }
}
