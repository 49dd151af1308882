//! The final gate beside a model: whatever a batch holds, each entry hears what it would have heard alone, one after the other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use ledger::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use service_kit::clock::now_ms;
use service_kit::ids::*;
use service_kit::money::{Currency, Money};
use std::collections::HashMap;
use support::*;

/// One deal as the gate sees it; `place_holds` says the rules in SQL.
struct Model {
    free: i64,
    limit: i64,
    units: HashMap<AccountId, i64>,
    holders: HashMap<(i64, VisitorId), AccountId>,
}

impl Model {
    fn place(&mut self, keys: &mut HashMap<(AccountId, String), [u8; 32]>, hold: &NewHold, now: i64) -> &'static str {
        let (account, pass) = (hold.account, (hold.lease_number, hold.visitor.clone()));
        let had = self.units.get(&account).copied().unwrap_or(0);
        match keys.get(&(account, hold.idempotency_key.clone())) {
            Some(fingerprint) if *fingerprint == hold.fingerprint => return "existing",
            Some(_) => return "key_reused",
            None if hold.epoch != 0 => return "wrong_epoch",
            None if now > hold.confirm_by_ms || now >= hold.hold_expires_at_ms => return "expired",
            None if self.holders.get(&pass).is_some_and(|holder| *holder != account) => return "stranger",
            None if hold.amount.minor() != 1_000 * hold.quantity => return "wrong_amount",
            None if hold.quantity > self.free => return "sold_out",
            None if had + hold.quantity > self.limit => return "per_user_limit",
            None => {}
        }
        self.free -= hold.quantity;
        self.units.insert(account, had + hold.quantity);
        self.holders.entry(pass).or_insert(account);
        keys.insert((account, hold.idempotency_key.clone()), hold.fingerprint);
        "placed"
    }
}

fn word(outcome: &HoldOutcome) -> &'static str {
    match outcome {
        HoldOutcome::Placed(_) => "placed",
        HoldOutcome::Existing(_) => "existing",
        HoldOutcome::KeyReused => "key_reused",
        HoldOutcome::SoldOut => "sold_out",
        HoldOutcome::Stranger => "stranger",
        HoldOutcome::PerUserLimit => "per_user_limit",
        HoldOutcome::NotOpen => "not_open",
        HoldOutcome::WrongEpoch => "wrong_epoch",
        HoldOutcome::Expired => "expired",
        HoldOutcome::WrongAmount => "wrong_amount",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_says_what_its_entries_would_hear_one_by_one() {
    let ledger = ledger().await;
    let seed: u64 = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    let mut seen: HashMap<&'static str, u32> = HashMap::new();
    let (mut plain, mut mixed) = (0, 0);
    for round in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(round));
        let mut deals = Vec::new();
        for _ in 0..2 {
            let (stock, limit) = (rng.random_range(5..=60), rng.random_range(1..=4));
            let model = Model { free: stock, limit, units: HashMap::new(), holders: HashMap::new() };
            deals.push((deal(&ledger, stock, limit).await, model));
        }
        let mut keys = HashMap::new();
        let mut regulars = Vec::new();
        for _ in 0..4 {
            regulars.push((account(&ledger).await, VisitorId::new()));
        }
        for step in 0..8 {
            // Half of the batches are of newcomers only, as in the first second of a sale.
            let (newcomers, size) = (rng.random_bool(0.5), rng.random_range(1..=12));
            let mut batch = Vec::new();
            for _ in 0..size {
                let (of, _) = &deals[if newcomers { 0 } else { rng.random_range(0..2) }];
                let somebody = rng.random_range(0..4);
                let mut hold = match newcomers || rng.random_bool(0.3) {
                    true => hold(*of, account(&ledger).await, rng.random_range(1..=2), "new"),
                    false => {
                        let key = format!("{of}-{}", rng.random_range(0..8));
                        let mut hold = hold(*of, regulars[somebody].0, rng.random_range(1..=3), &key);
                        // Mostly the own pass, sometimes another one's.
                        let pass = if rng.random_bool(0.9) { somebody } else { rng.random_range(0..4) };
                        hold.visitor = regulars[pass].1.clone();
                        hold
                    }
                };
                if let Some(before) = batch.last().filter(|_| newcomers) {
                    // Two with one pass, or one person twice, who would be plain without each other.
                    let before: &NewHold = before;
                    match rng.random_range(0..20) {
                        0 => hold.visitor = before.visitor.clone(),
                        1 => (hold.account, hold.idempotency_key) = (before.account, "another".into()),
                        _ => {}
                    }
                }
                match rng.random_range(0..if newcomers { 200 } else { 20 }) {
                    0 => hold.epoch = 7,
                    1 => hold.confirm_by_ms = 1,
                    2 => hold.amount = Money::new(1, Currency::KRW).unwrap(),
                    _ => {}
                }
                batch.push(hold);
            }
            let now = now_ms();
            let mut expected = Vec::new();
            for hold in &batch {
                let (_, model) = deals.iter_mut().find(|(id, _)| *id == hold.deal).unwrap();
                expected.push(model.place(&mut keys, hold, now));
            }
            // The gate goes deal by deal: a key of both deals would make their order matter.
            let outcomes = ledger.place_holds(&batch, now).await.unwrap();
            let heard: Vec<_> = outcomes.iter().map(word).collect();
            assert_eq!(heard, expected, "SEED={seed} round {round} step {step}");
            heard.iter().for_each(|word| *seen.entry(word).or_default() += 1);
            if heard.iter().all(|word| *word == "placed") { plain += 1 } else { mixed += 1 }
        }
        for (id, model) in &deals {
            let after = ledger.deal(*id).await.unwrap().unwrap();
            assert_eq!(after.available(), model.free, "SEED={seed} round {round}");
        }
    }
    assert_eq!(ledger.verify().await.unwrap(), []);
    // The model was asked about everything that it knows.
    assert!(seen.len() == 9 && plain > 20 && mixed > 20, "SEED={seed}: {seen:?}, {plain} plain, {mixed} mixed");
}
