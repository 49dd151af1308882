//! A thousand bursts of thirty requests that begin at the same moment: never more wins than there may be.
//!
//! Each burst is one shopper's: a hold with one key thirty times, with thirty keys, with three; and, for a share of them,
//! the start of a payment, a cancel or a refund of the order that was won. After each one the exact counts in Redis and in
//! the ledger are compared. `FLOODGATE_SEED=7` repeats a draw; `FLOODGATE_BURSTS=10000` makes more of them.

use crate::world::{Run, World};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};
use service_kit::ids::{AccountId, DealId, OrderId, RoomId};
use std::collections::{BTreeMap, BTreeSet};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// Requests of a burst, each on a connection of its own.
const WIDTH: usize = 30;

/// What the thirty ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Burst {
    /// A hold, as many times as there are requests, with this many different keys.
    Hold(usize),
    /// With one key or with thirty.
    Pay(usize),
    Cancel(usize),
    Refund(usize),
}

/// How often each is drawn.
const BURSTS: [(Burst, u32); 9] = [
    (Burst::Hold(1), 40),
    (Burst::Hold(WIDTH), 30),
    (Burst::Hold(3), 12),
    (Burst::Pay(1), 3),
    (Burst::Pay(WIDTH), 3),
    (Burst::Cancel(1), 3),
    (Burst::Cancel(WIDTH), 3),
    (Burst::Refund(1), 3),
    (Burst::Refund(WIDTH), 3),
];

/// Units that a person may have, each in a shop of its own beside the others.
const LIMITS: [i64; 3] = [1, 1, 2];

/// Connections that stay open, so that a burst is not spread by their opening.
struct Volley {
    lines: Vec<BufReader<TcpStream>>,
    host: String,
}

/// An answer: status and body.
type Heard = (u16, Vec<u8>);

impl Volley {
    async fn open(url: &str) -> Self {
        let host = url.strip_prefix("http://").unwrap().to_owned();
        let mut lines = Vec::new();
        for _ in 0..WIDTH {
            let stream = TcpStream::connect(&host).await.unwrap();
            stream.set_nodelay(true).unwrap();
            lines.push(BufReader::new(stream));
        }
        Self { lines, host }
    }

    /// Sends all heads but their last byte, then for each that byte and the short body in one packet, then reads. Not the
    /// last byte of the body: what needs no body begins before it.
    async fn fire(&mut self, path: &str, headers: &str, keys: &[String], body: &Value) -> Vec<Heard> {
        let body = body.to_string();
        let last = format!("\n{body}");
        for (line, key) in self.lines.iter_mut().zip(keys) {
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: {}\r\n{headers}idempotency-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r",
                self.host,
                body.len()
            );
            line.write_all(head.as_bytes()).await.unwrap();
        }
        for line in &mut self.lines {
            line.write_all(last.as_bytes()).await.unwrap();
        }
        futures::future::join_all(self.lines.iter_mut().map(read)).await
    }
}

async fn read(line: &mut BufReader<TcpStream>) -> Heard {
    let (mut head, mut length) = (String::new(), 0);
    line.read_line(&mut head).await.unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    loop {
        let mut header = String::new();
        line.read_line(&mut header).await.unwrap();
        if header == "\r\n" {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    line.read_exact(&mut body).await.unwrap();
    (status, body)
}

struct Range {
    w: World,
    volley: Volley,
    sql: tokio_postgres::Client,
    deal: DealId,
    limit: i64,
    /// What all bursts so far must have left. Nothing stays sold: what is captured here goes back.
    held: i64,
}

impl Range {
    async fn open(limit: i64) -> Self {
        let w = World::start(Run::All).await;
        // No hold ends by itself meanwhile: the counts are exact.
        let deal = w.deal_with(1_000_000, limit, |new| new.hold_ttl_ms = 3_600_000).await;
        let volley = Volley::open(&w.url).await;
        let (sql, connection) = tokio_postgres::connect(&w.pg_url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        Self { w, volley, sql, deal, limit, held: 0 }
    }

    async fn play_many(limit: i64, bursts: usize, mut dice: StdRng) -> BTreeMap<String, usize> {
        let mut range = Self::open(limit).await;
        let mut played = BTreeMap::new();
        for who in range.w.people(bursts).await {
            let burst = BURSTS.choose_weighted(&mut dice, |(_, weight)| *weight).unwrap().0;
            range.play(burst, who).await;
            *played.entry(format!("{burst:?} at limit {limit}")).or_default() += 1;
        }
        range.w.sums(range.deal).await;
        played
    }

    async fn fire(&mut self, who: AccountId, path: &str, keys: usize, body: &Value) -> Vec<Heard> {
        let headers =
            format!("authorization: Bearer {}\r\nfloodgate-pass: {}\r\n", self.w.token(who), self.w.pass(self.deal, 7));
        let keys: Vec<String> = (0..WIDTH).map(|n| format!("burst-{}", n % keys)).collect();
        self.volley.fire(path, &headers, &keys, body).await
    }

    async fn play(&mut self, burst: Burst, who: AccountId) {
        match burst {
            Burst::Hold(keys) => {
                let path = format!("/api/v1/deals/{}/holds", self.deal);
                let answers = self.fire(who, &path, keys, &json!({ "quantity": 1 })).await;
                let won: BTreeSet<&[u8]> = answers.iter().filter(|a| a.0 == 201).map(|a| a.1.as_slice()).collect();
                let may = keys.min(usize::try_from(self.limit).unwrap());
                assert_eq!(won.len(), may, "{burst:?}: {:?}", statuses(&answers));
                // Whoever repeats a winning key hears the winner's answer, all others a plain no.
                let wins = answers.iter().filter(|a| a.0 == 201).count();
                assert_eq!(wins, may * WIDTH / keys, "{:?}", statuses(&answers));
                assert!(answers.iter().all(|a| a.0 == 201 || slug(a) == "per-user-limit"), "{:?}", statuses(&answers));
                self.held += i64::try_from(may).unwrap();
                self.check(burst, who, i64::try_from(may).unwrap()).await;
            }
            Burst::Pay(keys) => {
                let order = self.won(who).await;
                let answers = self.act(who, order, "payments", keys).await;
                self.one_effect(burst, &answers, 202);
                let payments = "SELECT count(*) FROM payment WHERE order_id = $1";
                assert_eq!(self.count(payments, order).await, 1, "{burst:?}");
                self.check(burst, who, 1).await;
            }
            Burst::Cancel(keys) => {
                let order = self.won(who).await;
                let answers = self.act(who, order, "cancel", keys).await;
                self.one_effect(burst, &answers, 200);
                self.held -= 1;
                let told = "SELECT count(*) FROM outbox WHERE order_id = $1 AND kind = 'order_released'";
                assert_eq!(self.count(told, order).await, 1, "{burst:?}");
                self.check(burst, who, 0).await;
            }
            Burst::Refund(keys) => {
                let order = self.won(who).await;
                let start = json!({ "provider": "kakaopay" });
                let pay =
                    self.w.post(&format!("/api/v1/orders/{order}/payments"), Some(who), Some("p"), start, None).await;
                assert_eq!(pay.status, 202);
                self.w.capture(order).await;
                let answers = self.act(who, order, "refunds", keys).await;
                self.one_effect(burst, &answers, 202);
                let asked = "SELECT count(*) FROM refund WHERE order_id = $1";
                assert_eq!(self.count(asked, order).await, 1, "{burst:?}");
                let work =
                    self.w.ledger.claim_due_refunds("kakaopay", service_kit::clock::now_ms(), 10, 1_000).await.unwrap();
                assert_eq!(work.len(), 1);
                assert!(self.w.ledger.refund_done(work[0].id, "R", service_kit::clock::now_ms()).await.unwrap());
                self.held -= 1;
                let told = "SELECT count(*) FROM outbox WHERE order_id = $1 AND kind = 'order_returned'";
                assert_eq!(self.count(told, order).await, 1, "{burst:?}");
                self.check(burst, who, 0).await;
            }
        }
    }

    async fn won(&mut self, who: AccountId) -> OrderId {
        self.held += 1;
        self.w.hold(self.deal, who, "first", 1).await.order()
    }

    async fn act(&mut self, who: AccountId, order: OrderId, verb: &str, keys: usize) -> Vec<Heard> {
        let body = if verb == "payments" { json!({ "provider": "kakaopay" }) } else { json!({}) };
        self.fire(who, &format!("/api/v1/orders/{order}/{verb}"), keys, &body).await
    }

    /// With one key all hear the same; with thirty, one has the effect and the others hear of it or a plain no.
    fn one_effect(&self, burst: Burst, answers: &[Heard], status: u16) {
        let same = matches!(burst, Burst::Pay(1) | Burst::Cancel(1) | Burst::Refund(1));
        let won: Vec<&Heard> = answers.iter().filter(|a| a.0 == status).collect();
        assert!(!won.is_empty() && (!same || won.len() == WIDTH), "{burst:?}: {:?}", statuses(answers));
        assert!(!same || won.iter().all(|a| a.1 == won[0].1), "{burst:?}");
        assert!(
            answers.iter().all(|a| a.0 == status || slug(a) == "wrong-state"),
            "{burst:?}: {:?}",
            statuses(answers)
        );
    }

    async fn count(&self, text: &str, order: OrderId) -> i64 {
        self.sql.query_one(text, &[&order.0]).await.unwrap().get(0)
    }

    /// This person's units and everybody's, in the ledger at once and in Redis as soon as it has heard.
    async fn check(&self, burst: Burst, who: AccountId, units: i64) {
        let text = "SELECT (SELECT held FROM deal WHERE id = $1), (SELECT sold FROM deal WHERE id = $1),
            (SELECT coalesce(sum(units), 0)::bigint FROM allowance WHERE account_id = $2),
            (SELECT coalesce(sum(held_units), 0)::bigint FROM orders WHERE account_id = $2),
            (SELECT count(*) FROM orders WHERE account_id = $2)";
        let row = self.sql.query_one(text, &[&self.deal.0, &who.0]).await.unwrap();
        let ours: Vec<i64> = (0..4).map(|column| row.get(column)).collect();
        assert_eq!(ours, [self.held, 0, units, units], "{burst:?}: held, sold, this person's twice");
        assert_eq!(row.get::<_, i64>(4), units.max(1), "{burst:?}: orders");
        let room = RoomId::of_deal(self.deal);
        let bought = format!("fg:{{{room}}}:bought");
        let heard = async || {
            let totals = self.w.totals(self.deal).await.unwrap();
            let (has, deadlines) = (
                self.w.redis.command("HGET", &[&bought, &who.to_string()]).await.unwrap(),
                self.w.redis.command("ZCARD", &[&format!("fg:{{{room}}}:holds")]).await.unwrap().int().unwrap(),
            );
            (totals.held, totals.sold, totals.unconfirmed, has.int().unwrap_or(0), deadlines)
                == (self.held, 0, 0, units, self.held)
        };
        self.w.eventually(&format!("{burst:?}: Redis has the ledger's counts"), heard).await;
    }
}

fn slug(answer: &Heard) -> String {
    let problem: Value = serde_json::from_slice(&answer.1).unwrap();
    problem["type"].as_str().unwrap_or("none").trim_start_matches("/problems/").to_owned()
}

fn statuses(answers: &[Heard]) -> BTreeMap<u16, usize> {
    let mut count = BTreeMap::new();
    for answer in answers {
        *count.entry(answer.0).or_default() += 1;
    }
    count
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_burst_of_a_thousand_wins_more_than_the_limit() {
    let seed = number("FLOODGATE_SEED").unwrap_or_else(rand::random);
    let bursts = usize::try_from(number("FLOODGATE_BURSTS").unwrap_or(1_000)).unwrap();
    println!("FLOODGATE_SEED={seed}, {bursts} bursts of {WIDTH}");
    let ranges = LIMITS.iter().zip(1..).map(|(limit, n)| {
        let share = bursts / LIMITS.len() + usize::from(n <= bursts % LIMITS.len());
        Range::play_many(*limit, share, StdRng::seed_from_u64(seed.wrapping_add(n as u64)))
    });
    let (mut all, mut played) = (0, BTreeMap::new());
    for counted in futures::future::join_all(ranges).await {
        for (burst, count) in counted {
            *played.entry(burst).or_insert(0) += count;
            all += count;
        }
    }
    assert_eq!(all, bursts);
    println!("{played:?}; 0 of {bursts} won more than the limit");
}
