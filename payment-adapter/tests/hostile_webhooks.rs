//! Ten thousand deliveries to the address for notices, forged, altered, repeated, out of order, before our own answer,
//! hours late and after the refund, around some dozens of purchases at all three providers: each effect happens once.
//!
//! `FLOODGATE_SEED=7` repeats a draw; `FLOODGATE_DELIVERIES=1000000` makes more of them. `--nocapture` prints the figures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod hostile;
mod support;

use futures::StreamExt as _;
use hostile::{Office, Trick};
use ledger::OrderState;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use support::{Bench, Bought, PRICE};

const PROVIDERS: [&str; 3] = ["kakaopay", "toss", "stripe"];
/// Purchases of each provider and fate.
const EACH: usize = 3;
/// Deliveries on their way at once.
const AT_ONCE: usize = 16;

/// What its shopper, its provider and the operator do with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    PartlyBack,
    BackAtOnce,
    BackInParts,
    Declined,
    NeverPaid,
}
use Fate::{BackAtOnce, BackInParts, Declined, Kept, NeverPaid, PartlyBack};

impl Fate {
    fn is_paid(self) -> bool {
        !matches!(self, Declined | NeverPaid)
    }
    /// Every step of the order, in order: one more would be a second effect.
    fn history(self) -> &'static str {
        match self {
            Kept => "held paying paid",
            PartlyBack => "held paying paid refunding partly_refunded",
            BackAtOnce => "held paying paid refunding refunded",
            BackInParts => "held paying paid refunding partly_refunded refunding refunded",
            Declined | NeverPaid => "held paying released",
        }
    }
    /// What Redis hears of it.
    fn outbox(self) -> &'static str {
        match self {
            Kept | PartlyBack => "order_paid",
            BackAtOnce | BackInParts => "order_paid order_returned",
            Declined | NeverPaid => "order_released",
        }
    }
    /// The sums that go back, one by one.
    fn refunds(self) -> &'static [i64] {
        match self {
            PartlyBack => &[2_900],
            BackAtOnce => &[PRICE],
            BackInParts => &[4_000, PRICE - 4_000],
            _ => &[],
        }
    }
}

struct Sale {
    bench: Bench,
    office: Office,
    all: Vec<Bought>,
    fates: Vec<(&'static str, Fate)>,
}

impl Sale {
    async fn open(dice: &mut StdRng) -> Self {
        let bench = Bench::open().await;
        let office = Office::open(&bench).await;
        let mut fates = Vec::new();
        for provider in PROVIDERS {
            for fate in [Kept, PartlyBack, BackAtOnce, BackInParts, Declined, NeverPaid] {
                fates.extend([(provider, fate); EACH]);
            }
        }
        fates.shuffle(dice);
        let mut all = Vec::new();
        for (provider, _) in &fates {
            all.push(bench.buy_with(provider).await);
        }
        Self { bench, office, all, fates }
    }

    fn orders(&self) -> impl Iterator<Item = (&Bought, &'static str, Fate)> {
        self.all.iter().zip(&self.fates).map(|(bought, (provider, fate))| (bought, *provider, *fate))
    }

    fn of(&self, wanted: &str) -> Vec<&Bought> {
        self.orders().filter(|(_, provider, _)| *provider == wanted).map(|(bought, _, _)| bought).collect()
    }

    /// Shoppers pay, or try to; of each provider some answers are lost and some come after the notice about them.
    async fn pay(&self) {
        for (provider, endpoint) in [("kakaopay", "approve"), ("toss", "confirm"), ("stripe", "capture")] {
            for fault in ["drop-after-effect", "delay=500"] {
                let rule = json!({ "provider": provider, "endpoint": endpoint, "fault": fault, "times": 3 });
                self.bench.control("faults", rule).await;
            }
        }
        for (bought, provider, fate) in self.orders() {
            match fate {
                NeverPaid => {}
                Declined => {
                    self.bench.until_payment(bought, "ready").await;
                    let back = self.bench.press_at(bought, provider, "decline").await;
                    assert!(self.bench.http.get(back).send().await.unwrap().status().as_u16() < 500);
                }
                _ => self.bench.pay_at(bought, provider).await,
            }
        }
        for (bought, _, fate) in self.orders() {
            if fate.is_paid() {
                self.bench.until_order(bought, OrderState::Paid).await;
            }
        }
    }

    async fn give_back(&self) {
        for round in 0..2 {
            for (bought, _, fate) in self.orders() {
                if let Some(minor) = fate.refunds().get(round) {
                    self.bench.refund_part(bought, Some(*minor)).await;
                }
            }
            for (bought, _, fate) in self.orders() {
                let over = || async { self.bench.order(bought).await.state != OrderState::Refunding };
                self.bench.until(&format!("{fate:?} came back"), over).await;
            }
        }
    }

    /// Hours pass: whoever did not pay gets nothing, and what is left of the post comes late.
    async fn end(&self) {
        self.bench.pass_time_at_provider(3 * 3_600_000).await;
        self.bench.pass_time(3 * 3_600_000);
        for (bought, _, fate) in self.orders() {
            if !fate.is_paid() {
                self.bench.until_order(bought, OrderState::Released).await;
            }
        }
    }

    /// `tricks` around whatever `story` does meanwhile.
    async fn among(&self, tricks: &[(Trick, u64)], story: impl Future<Output = ()>) -> BTreeMap<u16, usize> {
        let deliveries = futures::stream::iter(tricks)
            .map(|(trick, seed)| async move {
                let (status, expected) = self.office.play(*trick, *seed, |provider| self.of(provider)).await;
                assert!(expected.contains(&status), "{trick:?} of seed {seed}: {status}, not {expected:?}");
                status
            })
            .buffer_unordered(AT_ONCE);
        let (statuses, ()) = tokio::join!(deliveries.collect::<Vec<u16>>(), story);
        let mut count = BTreeMap::new();
        for status in statuses {
            *count.entry(status).or_default() += 1;
        }
        count
    }

    /// Everything is exact: the steps of each order, its money here and there, its units, what Redis hears, the chain.
    async fn check(&self) {
        let sql = self.bench.sql().await;
        let looked = "SELECT count(*) FROM payment WHERE recheck_at_ms IS NOT NULL";
        self.bench
            .until("every hint was followed", || async {
                sql.query_one(looked, &[]).await.unwrap().get::<_, i64>(0) == 0
            })
            .await;
        let theirs = self.bench.provider_ledger().await;
        let words = async |text: &str, order| {
            let rows = sql.query(text, &[&order]).await.unwrap();
            rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join(" ")
        };
        let mut sold = 0;
        for (bought, provider, fate) in self.orders() {
            let (id, at) = (bought.order.0, format!("{provider} {fate:?} {}", bought.order));
            assert_eq!(
                words("SELECT to_state FROM order_event WHERE order_id = $1 ORDER BY seq", id).await,
                fate.history(),
                "{at}"
            );
            assert_eq!(
                words("SELECT kind FROM outbox WHERE order_id = $1 ORDER BY id", id).await,
                fate.outbox(),
                "{at}"
            );
            let confirms = self.bench.attempts(bought, "confirm").await.len();
            let once = if fate.is_paid() { 1..=1 } else { 0..=1 };
            assert!(once.contains(&confirms), "{at}: {confirms} calls to charge");
            let taken: Vec<&serde_json::Value> = theirs["payments"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|p| p["partner_order_id"] == bought.order.to_string() && p["approvals"] != 0)
                .collect();
            assert_eq!(taken.len(), usize::from(fate.is_paid()), "{at}: charged {taken:?}");
            for payment in taken {
                assert_eq!(
                    (payment["approvals"].as_i64(), payment["captured"].as_i64()),
                    (Some(1), Some(PRICE)),
                    "{at}"
                );
                let mut back: Vec<i64> =
                    payment["cancels"].as_array().unwrap().iter().map(|c| c["amount"].as_i64().unwrap()).collect();
                back.sort_unstable();
                let mut due = fate.refunds().to_vec();
                due.sort_unstable();
                assert_eq!(back, due, "{at}");
            }
            sold += i64::from(matches!(fate, Kept | PartlyBack));
        }
        let deal = self.bench.ledger.deal(self.bench.deal).await.unwrap().unwrap();
        assert_eq!((deal.held, deal.sold, deal.stock), (0, sold, 1_000));
        let rows = sql.query("SELECT provider, event_id FROM webhook", &[]).await.unwrap();
        let written: BTreeSet<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(rows.len(), written.len());
        assert_eq!(written, self.office.taken().await, "each event that was taken, once");
        while self.bench.ledger.seal().await.unwrap() > 0 {}
        let chain = "SELECT (SELECT count(*) FROM audit), (SELECT count(*) FROM order_event)";
        let chain = sql.query_one(chain, &[]).await.unwrap();
        let steps: usize = self.fates.iter().map(|(_, fate)| fate.history().split(' ').count()).sum();
        assert_eq!((chain.get::<_, i64>(0), chain.get::<_, i64>(1)), (steps as i64, steps as i64));
        self.bench.audit().await;
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_hostile_deliveries_have_no_second_effect() {
    let seed = number("FLOODGATE_SEED").unwrap_or_else(rand::random);
    let deliveries = usize::try_from(number("FLOODGATE_DELIVERIES").unwrap_or(10_000)).unwrap();
    println!("FLOODGATE_SEED={seed}, {deliveries} deliveries");
    let mut dice = StdRng::seed_from_u64(seed);
    let tricks: Vec<(Trick, u64)> = (0..deliveries).map(|_| hostile::draw(&mut dice)).collect();
    let sale = Sale::open(&mut dice).await;
    let (before, rest) = tricks.split_at(deliveries / 10);
    let (paying, rest) = rest.split_at(deliveries * 3 / 10);
    let (refunding, late) = rest.split_at(deliveries * 3 / 10);
    let mut answers = BTreeMap::new();
    for counted in [
        sale.among(before, async {}).await,
        sale.among(paying, sale.pay()).await,
        sale.among(refunding, sale.give_back()).await,
        sale.among(late, sale.end()).await,
    ] {
        for (status, count) in counted {
            *answers.entry(status).or_insert(0) += count;
        }
    }
    sale.check().await;
    let mut kinds = BTreeMap::new();
    for (trick, _) in &tricks {
        *kinds.entry(*trick).or_insert(0) += 1;
    }
    let genuine = sale.office.letters().await;
    let questions: i64 = sale
        .bench
        .sql()
        .await
        .query_one("SELECT count(*) FROM attempt WHERE kind = 'query'", &[])
        .await
        .unwrap()
        .get(0);
    println!(
        "{deliveries} hostile deliveries among {genuine} genuine ones about {} orders: {kinds:?}, answers {answers:?}, \
         {questions} questions to the providers, 0 second effects",
        sale.all.len()
    );
}
