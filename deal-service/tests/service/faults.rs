//! Stores that forget, commits that get lost, processes that stop half-way.

use crate::world::{Run, World, config};
use deal_service::Config;
use deal_service::config::Rebuild;
use deal_service::fast_stock::fill::Filled;
use deal_service::fast_stock::{Applied, FastReply, HoldAsk};
use serde_json::json;
use service_kit::ids::{AccountId, DealId, OrderId, RoomId, VisitorId};
use service_kit::money::Quantity;
use service_kit::private_store::PrivateRedis;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn quick() -> Config {
    Config { confirm_ms: 500, ..config() }
}

async fn fast_hold(
    w: &World,
    deal: DealId,
    account: AccountId,
    order: OrderId,
    key: &str,
    confirm_ms: u32,
) -> FastReply {
    let visitor = &VisitorId::new();
    let ask = HoldAsk { order, account, key, quantity: Quantity::new(2).unwrap(), lease: 1, visitor, confirm_ms };
    w.app.fast_stock().hold(&RoomId::of_deal(deal), &ask).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_two_gates() {
    let w = World::start_with(Run::All, quick()).await;
    let deal = w.deal(5, 5).await;
    let reply = fast_hold(&w, deal, w.person().await, OrderId::new(), "k", 500).await;
    assert!(matches!(reply, FastReply::Taken { .. }));
    assert_eq!(w.totals(deal).await.unwrap().unconfirmed, 1);
    w.settled_at(deal, 5, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_of_redis_is_found_again() {
    let w = World::start(Run::All).await;
    let deal = w.deal(5, 5).await;
    let (shopper, order) = (w.person().await, OrderId::new());
    // The reply is thrown away; the shopper's second try comes with an order id of its own.
    let lost = fast_hold(&w, deal, shopper, order, "k", 10_000).await;
    let again = fast_hold(&w, deal, shopper, OrderId::new(), "k", 10_000).await;
    assert_eq!(lost, again);
    assert_eq!(w.totals(deal).await.unwrap().held, 2);
    let answer = w.hold(deal, shopper, "k", 2).await;
    assert_eq!((answer.status.as_u16(), answer.order()), (201, order), "the request continues the hold that exists");
    w.settled_at(deal, 3, 2, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_commit_and_the_confirm() {
    let w = World::start_with(Run::All, quick()).await;
    let deal = w.deal(5, 5).await;
    let order = w.hold(deal, w.person().await, "k", 2).await.order();
    w.settled_at(deal, 3, 2, 0).await;
    // Make it look as if the confirm had never come.
    let room = RoomId::of_deal(deal);
    let units = format!("fg:{{{room}}}:units");
    let unit = w.hash(&units).await[&order.to_string()].replace("|h|", "|u|");
    w.redis.command("HSET", &[&units, &order.to_string(), &unit]).await.unwrap();
    w.redis.command("HINCRBY", &[&format!("fg:{{{room}}}:stock"), "unconfirmed", "1"]).await.unwrap();
    w.redis.command("ZADD", &[&format!("fg:{{{room}}}:holds"), "1", &order.to_string()]).await.unwrap();
    w.settled_at(deal, 3, 2, 0).await;
    let deadline =
        w.redis.command("ZSCORE", &[&format!("fg:{{{room}}}:holds"), &order.to_string()]).await.unwrap().int().unwrap();
    assert_eq!(deadline, w.ledger.order(order).await.unwrap().unwrap().hold_expires_at_ms, "its real deadline");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_hold_comes_back_once() {
    let w = World::start(Run::All).await;
    let deal = w.deal_with(5, 5, |d| d.hold_ttl_ms = 1_000).await;
    let shopper = w.person().await;
    let order = w.hold(deal, shopper, "k", 3).await.order();
    w.settled_at(deal, 5, 0, 0).await;
    let read = w.get(&format!("/api/v1/orders/{order}"), Some(shopper)).await.json();
    assert_eq!((read["state"].as_str(), read["reason"].as_str()), (Some("released"), Some("hold_expired")));
    // Told again and again, by every path that could.
    for _ in 0..3 {
        w.app.fast_stock().release(&RoomId::of_deal(deal), order).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    w.settled_at(deal, 5, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_keeps_the_units_beyond_the_hold() {
    let w = World::start(Run::All).await;
    let deal = w.deal_with(5, 5, |d| d.hold_ttl_ms = 1_500).await;
    let shopper = w.person().await;
    let order = w.hold(deal, shopper, "k", 2).await.order();
    let paying = w
        .post(
            &format!("/api/v1/orders/{order}/payments"),
            Some(shopper),
            Some("p"),
            json!({"provider": "kakaopay"}),
            None,
        )
        .await;
    assert_eq!((paying.status.as_u16(), paying.json()["state"].as_str()), (202, Some("paying")));
    tokio::time::sleep(Duration::from_millis(5_000)).await;
    w.settled_at(deal, 3, 2, 0).await;
    w.capture(order).await;
    w.settled_at(deal, 3, 0, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_forgets_everything_in_the_middle_of_a_sale() {
    let w = Arc::new(World::start(Run::All).await);
    let deal = w.deal(60, 2).await;
    let people = w.people(150).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let flusher = {
        let (w, is_over) = (w.clone(), is_over.clone());
        tokio::spawn(async move {
            for pause_ms in [60_u64, 400, 700] {
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                w.redis.command("FLUSHALL", &["SYNC"]).await.unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        })
    };
    let shoppers: Vec<_> = people
        .into_iter()
        .map(|account| {
            let (w, is_over) = (w.clone(), is_over.clone());
            tokio::spawn(async move {
                for _ in 0..100 {
                    let answer = w.hold(deal, account, "k", 1).await;
                    let sold_out_for_good = answer.status == 409 && is_over.load(Ordering::Relaxed);
                    if answer.status == 201 || sold_out_for_good {
                        return answer.status == 201;
                    }
                    tokio::time::sleep(Duration::from_millis(40)).await;
                }
                panic!("no answer that stands");
            })
        })
        .collect();
    let mut made = 0_i64;
    for shopper in shoppers {
        made += i64::from(shopper.await.unwrap());
    }
    flusher.await.unwrap();
    assert_eq!(made, 60, "every unit went to exactly one shopper");
    w.settled_at(deal, 0, 60, 0).await;
    w.eventually("the room is published again", async || {
        !w.redis.command("HGETALL", &["fg:{rooms}:settings"]).await.unwrap().list().unwrap().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_that_disagree_are_filled_anew_under_a_new_epoch() {
    let w = World::start(Run::All).await;
    let deal = w.deal(9, 5).await;
    w.hold(deal, w.person().await, "k", 2).await.order();
    w.settled_at(deal, 7, 2, 0).await;
    let epoch = w.totals(deal).await.unwrap().epoch;
    let stock = format!("fg:{{deal-{deal}}}:stock");
    w.redis.command("HSET", &[&stock, "available", "8"]).await.unwrap();
    w.settled_at(deal, 7, 2, 0).await;
    assert!(w.totals(deal).await.unwrap().epoch > epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_the_stock_is_filled_anew_although_its_epoch_is_right() {
    let mut w = World::start(Run::All).await;
    let deal = w.deal(9, 5).await;
    let shopper = w.person().await;
    let first = w.hold(deal, shopper, "k", 2).await.order();
    w.settled_at(deal, 7, 2, 0).await;
    let epoch = w.totals(deal).await.unwrap().epoch;
    let (files, old) = (w.dir.path().join("redis/appendonlydir"), w.dir.path().join("old"));
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let _ = std::fs::remove_dir_all(to);
        let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(copied.success());
    };
    copy(&files, &old);
    // Units moved since: what was held is sold, and others are held. The old copy offers them again.
    let pay = w
        .post(
            &format!("/api/v1/orders/{first}/payments"),
            Some(shopper),
            Some("p"),
            json!({"provider": "kakaopay"}),
            None,
        )
        .await;
    assert_eq!(pay.status, 202, "{}", pay.json());
    w.capture(first).await;
    w.hold(deal, w.person().await, "k", 5).await.order();
    w.settled_at(deal, 2, 5, 2).await;
    w.server.kill().await;
    copy(&old, &files);
    w.server = PrivateRedis::start(&w.dir.path().join("redis")).await.unwrap();
    w.settled_at(deal, 2, 5, 2).await;
    let after = w.totals(deal).await.unwrap().epoch;
    assert!(after > epoch);
    // Also a restart that lost nothing is not believed.
    w.server.kill().await;
    w.server = PrivateRedis::start(&w.dir.path().join("redis")).await.unwrap();
    let filled = async {
        while w.totals(deal).await.is_none_or(|totals| totals.epoch == after) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), filled).await.expect("filled anew");
    w.settled_at(deal, 2, 5, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_offers_of_one_hold_the_refused_one_gives_nothing_back() {
    let w = World::start_with(Run::All, quick()).await;
    let deal = w.deal(5, 5).await;
    let (account, order, room) = (AccountId::new(), OrderId::new(), RoomId::of_deal(deal));
    // A double click: the first offer fails, the second may be just about to be committed.
    for _ in 0..2 {
        let offered = fast_hold(&w, deal, account, order, "k", 500).await;
        assert!(matches!(offered, FastReply::Taken { order: taken, .. } if taken == order), "{offered:?}");
    }
    let fast = w.app.fast_stock();
    assert_eq!(fast.release_refused(&room, order).await.unwrap(), Applied::Before);
    assert_eq!(fast.release_overdue(&room, order).await.unwrap(), Applied::Before, "its time is not over");
    assert_eq!(w.totals(deal).await.unwrap().held, 2);
    // Neither was committed after all: the sweeper asks the ledger.
    w.settled_at(deal, 5, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_that_has_not_sold_what_comes_back_waits_for_a_filling() {
    let w = World::start(Run::Committer).await;
    let deal = w.deal(5, 5).await;
    let epoch = w.totals(deal).await.unwrap().epoch;
    let (order, account) = (OrderId::new().to_string(), AccountId::new().to_string());
    let keys =
        ["stock", "holds", "units", "bought", "ops", "inside", "buying"].map(|k| format!("fg:{{deal-{deal}}}:{k}"));
    let args = ["7", &epoch.to_string(), &order, &account, "2", "returned"].map(str::to_owned);
    for _ in 0..2 {
        let reply = w.redis.run(&deal_service::fast_stock::MOVE_UNITS, &keys, &args).await.unwrap();
        assert_eq!(reply.text().unwrap(), "loading");
    }
    let totals = w.totals(deal).await.unwrap();
    assert_eq!((totals.available, totals.sold), (5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_of_an_older_epoch_sells_nothing() {
    let w = World::start(Run::Committer).await;
    let deal = w.deal(5, 5).await;
    w.ledger.load_deal(deal).await.unwrap(); // somebody fenced the old filling off
    let answer = w.hold(deal, w.person().await, "k", 1).await;
    assert_eq!((answer.status.as_u16(), answer.slug().as_str()), (503, "store-unavailable"));
    assert_eq!(w.truth(deal).await.held, 0);
    let t = w.totals(deal).await.unwrap();
    assert_eq!((t.available, t.unconfirmed), (5, 0));
    // And the loader finds it.
    let fast = w.app.fast_stock();
    assert!(matches!(fast.fill(&w.ledger, deal, Some(t.epoch), "another-token").await.unwrap(), Filled::Loaded { .. }));
    assert_eq!(w.hold(deal, w.person().await, "k", 1).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_policy_a_lost_stock_waits_for_an_operator() {
    let w = World::start_with(Run::All, Config { rebuild: Rebuild::Operator, ..config() }).await;
    let deal = w.deal(9, 5).await;
    let kept = w.hold(deal, w.person().await, "k", 2).await.order();
    w.settled_at(deal, 7, 2, 0).await;
    // Emptied; and come back with a stock that the ledger contradicts.
    for wrong in [false, true] {
        w.redis.command("FLUSHALL", &["SYNC"]).await.unwrap();
        if wrong {
            let room = RoomId::of_deal(deal);
            let epoch = (w.truth(deal).await.epoch - 1).to_string();
            let stock = ["epoch", &epoch, "available", "9", "held", "0", "sold", "0", "total", "9"];
            let times =
                ["starts_at_ms", "0", "ends_at_ms", "99999999999999", "per_user_limit", "5", "unconfirmed", "0"];
            let key = format!("fg:{{{room}}}:stock");
            let args: Vec<&str> = std::iter::once(key.as_str()).chain(stock).chain(times).collect();
            w.redis.command("HSET", &args).await.unwrap();
            w.eventually("the wrong stock is closed", async || w.totals(deal).await.is_none()).await;
        }
        let before = w.truth(deal).await.epoch;
        let answer = w.hold(deal, w.person().await, "k", 1).await;
        assert_eq!((answer.status.as_u16(), answer.slug().as_str()), (503, "store-unavailable"));
        assert_eq!((w.truth(deal).await.epoch, w.totals(deal).await), (before, None), "nobody fills it by itself");
        // What `floodgate rebuild` does.
        assert!(matches!(
            w.app.fast_stock().fill(&w.ledger, deal, None, "the-operator").await.unwrap(),
            Filled::Loaded { .. }
        ));
        w.settled_at(deal, 7, 2, 0).await;
    }
    assert_eq!(w.hold(deal, w.person().await, "k", 7).await.slug(), "per-user-limit");
    assert_eq!(w.hold(deal, w.person().await, "k", 5).await.status, 201);
    assert!(w.ledger.order(kept).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_fillings_at_once_leave_one_right_stock() {
    let w = Arc::new(World::start(Run::Committer).await);
    let deal = w.deal(9, 5).await;
    w.hold(deal, w.person().await, "k", 2).await.order();
    w.settled_at(deal, 7, 2, 0).await;
    for _ in 0..5 {
        w.redis.command("FLUSHALL", &["SYNC"]).await.unwrap();
        let tasks: Vec<_> = (0..4)
            .map(|i| {
                let w = w.clone();
                tokio::spawn(async move {
                    w.app.fast_stock().fill(&w.ledger, deal, None, &format!("filling-{i}")).await.unwrap()
                })
            })
            .collect();
        let mut loaded = 0;
        for task in tasks {
            loaded += usize::from(matches!(task.await.unwrap(), Filled::Loaded { .. }));
        }
        assert_eq!(loaded, 1);
        w.settled_at(deal, 7, 2, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_while_a_stock_is_being_filled() {
    let w = World::start(Run::Committer).await;
    let deal = w.deal(9, 5).await;
    let order = w.hold(deal, w.person().await, "k", 2).await.order();
    let room = RoomId::of_deal(deal);
    let keys: Vec<String> =
        ["stock", "holds", "units", "bought", "ops", "inside", "buying", "room", "entered", "ended"]
            .iter()
            .map(|k| format!("fg:{{{room}}}:{k}"))
            .collect();
    let epoch = w.totals(deal).await.unwrap().epoch.to_string();
    let begin = ["a-token-of-its-own".to_owned(), epoch, "10000".to_owned()];
    w.redis.run(&deal_service::fast_stock::fill::BEGIN, &keys, &begin).await.unwrap();
    let fast = w.app.fast_stock();
    use deal_service::fast_stock::Applied::Loading;
    assert_eq!(
        (fast.settle(&room, order, None, Some(600_000)).await.unwrap(), fast.release(&room, order).await.unwrap()),
        (Loading, Loading)
    );
    assert_eq!(fast_hold(&w, deal, AccountId::new(), OrderId::new(), "k", 1_000).await, FastReply::NotLoaded);
    assert_eq!(
        fast.fill(&w.ledger, deal, None, "another-token").await.unwrap(),
        Filled::Elsewhere,
        "somebody else is at it"
    );
    assert!(matches!(fast.fill(&w.ledger, deal, None, "a-token-of-its-own").await.unwrap(), Filled::Loaded { .. }));
    w.settled_at(deal, 7, 2, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_are_cut_off_end_in_one_order_each() {
    let w = Arc::new(World::start(Run::All).await);
    let deal = w.deal(80, 2).await;
    let people = w.people(120).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let cutter = {
        let (w, is_over) = (w.clone(), is_over.clone());
        tokio::spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                w.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%place_holds%' AND pid <> pg_backend_pid()").await;
                tokio::time::sleep(Duration::from_millis(7)).await;
            }
        })
    };
    let shoppers: Vec<_> = people
        .into_iter()
        .map(|account| {
            let w = w.clone();
            tokio::spawn(async move {
                for _ in 0..200 {
                    let answer = w.hold(deal, account, "k", 1).await;
                    if answer.status == 201 {
                        return Some(answer.order());
                    }
                    if answer.status == 409 {
                        return None;
                    }
                    assert_eq!(answer.status, 503, "{}", answer.json());
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
                panic!("no answer that stands");
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    is_over.store(true, Ordering::Relaxed);
    cutter.await.unwrap();
    let mut made = std::collections::BTreeSet::new();
    for shopper in shoppers {
        if let Some(order) = shopper.await.unwrap() {
            assert!(made.insert(order), "one order for one shopper");
        }
    }
    assert_eq!(made.len(), 80);
    w.settled_at(deal, 0, 80, 0).await;
    assert_eq!(
        w.ledger.order_states(&made.into_iter().collect::<Vec<_>>()).await.unwrap().len(),
        80,
        "what was promised is there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_missed_while_it_was_away_is_told_later() {
    let w = World::start(Run::All).await;
    let deal = w.deal(5, 5).await;
    let shopper = w.person().await;
    let order = w.hold(deal, shopper, "k", 2).await.order();
    w.settled_at(deal, 3, 2, 0).await;
    let pid = w.server.pid().unwrap().to_string();
    let signal = |name: &str| std::process::Command::new("kill").args([name, &pid]).status().unwrap();
    signal("-STOP");
    let cancel = w.post(&format!("/api/v1/orders/{order}/cancel"), Some(shopper), Some("c"), json!({}), None).await;
    assert_eq!(cancel.status, 200, "the ledger alone decides");
    let hold = w.hold(deal, shopper, "k2", 1).await;
    assert_eq!((hold.status.as_u16(), hold.slug().as_str()), (503, "store-unavailable"));
    signal("-CONT");
    // The cut-off hold may have run when Redis woke up; then it is swept. Its key finds out.
    let answer = w.hold(deal, shopper, "k2", 1).await;
    assert_eq!(answer.status, 201, "{}", answer.json());
    w.settled_at(deal, 4, 1, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_stop_when_told() {
    let mut w = World::start(Run::All).await;
    w.deal(5, 5).await;
    w.stop.stop();
    // All but the committer and the listener, which live until the process ends.
    let ended = async {
        while w.running.len() > 2 {
            w.running.join_next().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("workers end within 5 s");
}
