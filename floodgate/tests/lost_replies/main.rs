//! Every reply of Redis, PostgreSQL and the provider is lost once: 0 second effects.
//!
//! First the story is played and the replies on each hop are counted; then it is played once for each of them with exactly
//! that reply swallowed. Both ends see a closed connection; nobody but the server knows that the request was carried out.
//!
//! A share, drawn by a seed, runs with the tests. Everything, in some minutes, with figures:
//! `make lost-replies`. `FLOODGATE_SEED=7` repeats a draw; `FLOODGATE_LOSE="payment adapter → provider"` plays one hop.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod hop;
mod house;
#[path = "../../../payment-adapter/tests/support/page.rs"]
mod page;
mod story;

use hop::Counts;
use house::House;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngCore as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Mutex;

/// Houses that play at the same time: a story is mostly waiting.
const HOUSES: usize = 3;
/// Stories of the share that runs with the tests.
const SHARE: usize = 8;
/// Replies of one kind that are lost of what workers ask for by themselves, again and again.
const POLLS: usize = 2;
/// How long the workers are watched while nothing happens, in ms.
const IDLE_MS: u64 = 1_500;
/// How often a loss is tried whose reply did not come: workers share what is to do, so turns differ a little.
const TRIES: usize = 3;

/// One reply to lose.
#[derive(Debug, Clone)]
struct Loss {
    provider: &'static str,
    hop: usize,
    label: String,
    turn: usize,
}

async fn begin(house: &House, loss: Option<&Loss>) {
    for (n, hop) in house.hops.iter().enumerate() {
        hop.begin(loss.filter(|loss| loss.hop == n).map(|loss| (loss.label.clone(), loss.turn))).await;
    }
}

async fn end(house: &House) -> Vec<(Counts, bool)> {
    let mut ends = Vec::new();
    for hop in &house.hops {
        ends.push(hop.end().await);
    }
    ends
}

/// Which replies there are to lose.
async fn survey(house: &House) -> Vec<Loss> {
    Box::pin(story::play(house, "kakaopay", true, "before the count")).await;
    begin(house, None).await;
    tokio::time::sleep(Duration::from_millis(IDLE_MS)).await;
    let idle = end(house).await;
    let mut losses = Vec::new();
    // The other providers differ on their own hop.
    for (provider, hops, whole) in [("kakaopay", 0..4, true), ("toss", 3..4, false), ("stripe", 3..4, false)] {
        begin(house, None).await;
        Box::pin(story::play(house, provider, whole, &format!("counting at {provider}"))).await;
        let counts = end(house).await;
        for hop in hops {
            for (label, count) in &counts[hop].0 {
                let most = if idle[hop].0.contains_key(label) { POLLS } else { usize::MAX };
                for turn in 1..=*count.min(&most) {
                    losses.push(Loss { provider, hop, label: label.clone(), turn });
                }
            }
        }
    }
    losses
}

#[derive(Default)]
struct Tally {
    /// Per hop: replies lost, and those that did not come again.
    lost: BTreeMap<&'static str, usize>,
    absent: Vec<String>,
}

async fn lose(house: &House, loss: &Loss, tally: &Mutex<Tally>) {
    let name = house.hops[loss.hop].name;
    let at = format!("FLOODGATE_LOSE: {name}, {}: reply {} to `{}` lost", loss.provider, loss.turn, loss.label);
    for _ in 0..TRIES {
        begin(house, Some(loss)).await;
        Box::pin(story::play(house, loss.provider, loss.provider == "kakaopay", &at)).await;
        if end(house).await[loss.hop].1 {
            *tally.lock().await.lost.entry(name).or_default() += 1;
            return;
        }
    }
    tally.lock().await.absent.push(at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lost_reply_has_a_second_effect() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("FLOODGATE_SEED").unwrap_or_else(|| rand::rng().next_u64());
    let all = std::env::var_os("FLOODGATE_LOSE_ALL").is_some();
    let only = std::env::var("FLOODGATE_LOSE").ok();
    println!("FLOODGATE_SEED={seed}");
    let houses = futures::future::join_all((0..HOUSES).map(|_| House::open())).await;
    let mut losses = Box::pin(survey(&houses[0])).await;
    let mut there = BTreeMap::new();
    for loss in &losses {
        *there.entry(houses[0].hops[loss.hop].name).or_insert(0) += 1;
    }
    println!("replies of a story, of polls {POLLS} each: {there:?}");
    losses.shuffle(&mut StdRng::seed_from_u64(seed));
    if let Some(only) = only {
        losses.retain(|loss| houses[0].hops[loss.hop].name == only);
    } else if !all {
        // Of each hop the same part. A statement is prepared once per connection, so that reply comes again only by chance.
        let again = |loss: &&Loss| !loss.label.starts_with("prepare ");
        let mut share = Vec::new();
        for hop in 0..houses[0].hops.len() {
            let of_hop = losses.iter().filter(|loss| loss.hop == hop).filter(again);
            share.extend(of_hop.take(SHARE / houses[0].hops.len()).cloned());
        }
        losses = share;
    }
    let (count, tally, queue) = (losses.len(), Mutex::new(Tally::default()), Mutex::new(losses));
    let work = |house| {
        let (tally, queue) = (&tally, &queue);
        async move {
            loop {
                let (loss, left) = {
                    let mut queue = queue.lock().await;
                    (queue.pop(), queue.len())
                };
                let Some(loss) = loss else { return };
                Box::pin(lose(house, &loss, tally)).await;
                if left % 20 == 0 {
                    println!("{left} left; lost so far: {:?}", tally.lock().await.lost);
                }
            }
        }
    };
    futures::future::join_all(houses.iter().map(work)).await;
    let tally = tally.into_inner();
    for absent in &tally.absent {
        println!("did not come again: {absent}");
    }
    let lost: usize = tally.lost.values().sum();
    println!("{lost} of {count} replies lost, one in each story: {:?}; 0 second effects", tally.lost);
    // Polls may come at another time; the replies of the story itself come each time.
    assert!(tally.absent.len() * 10 <= count, "too many did not come again");
}
