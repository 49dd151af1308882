//! One purchase in all its ends: bought and given back in two parts; bought and kept; cancelled; left until it expires.
//! The client repeats each request with its own key until it hears an answer that stands.

use crate::house::{House, PRICE};
use crate::page;
use ledger::{Order, OrderState};
use serde_json::{Value, json};
use service_kit::ids::{AccountId, DealId, OrderId, RoomId};
use std::process::Command;
use std::time::Duration;

/// Units of each deal.
const STOCK: i64 = 20;
/// Longest hold of the deal whose hold expires, in ms: the shortest that there is.
const SHORT_MS: i64 = 1_000;
/// How often the client repeats a request, and looks for a state. 40 s: an outbox lease of 10 s that nobody heard of, a
/// payment's lease and back-offs are in it.
const TRIES_MAX: u32 = 800;
const PAUSE_MS: u64 = 50;

/// What is left to be seen of one order when everything is over.
struct End {
    order: OrderId,
    history: &'static str,
    outbox: &'static str,
    /// The sums that went back, or that no money was taken at all.
    back: Option<&'static [i64]>,
}

/// Plays the story at `provider`; fails unless every end is exact. `whole` = all ends, else only the one given back.
pub async fn play(house: &House, provider: &str, whole: bool, at: &str) {
    let (deal, short) = (house.deal(STOCK, 60_000).await, house.deal(STOCK, SHORT_MS).await);
    let teller = Teller { house, at };
    let given_back = async {
        let who = house.person().await;
        let order = teller.hold(deal, who, 2).await;
        teller.buy(order, who, provider).await;
        teller.act(order, who, "refunds", "part", json!({ "units": 1 })).await;
        teller.until(order, OrderState::PartlyRefunded).await;
        teller.act(order, who, "refunds", "rest", json!({})).await;
        teller.until(order, OrderState::Refunded).await;
        End {
            order,
            history: "held paying paid refunding partly_refunded refunding refunded",
            outbox: "order_paid order_returned order_returned",
            back: Some(&[PRICE, PRICE]),
        }
    };
    let kept = async {
        let who = house.person().await;
        let order = teller.hold(deal, who, 1).await;
        teller.buy(order, who, provider).await;
        End { order, history: "held paying paid", outbox: "order_paid", back: Some(&[]) }
    };
    let cancelled = async {
        let who = house.person().await;
        let order = teller.hold(deal, who, 1).await;
        teller.act(order, who, "cancel", "cancel", json!({})).await;
        End { order, history: "held released", outbox: "order_released", back: None }
    };
    let expired = async {
        let who = house.person().await;
        let order = teller.hold(short, who, 1).await;
        teller.until(order, OrderState::Released).await;
        End { order, history: "held released", outbox: "order_released", back: None }
    };
    let ends = if whole {
        let (a, b, c, d) = tokio::join!(given_back, kept, cancelled, expired);
        vec![a, b, c, d]
    } else {
        vec![given_back.await]
    };
    let sold = i64::from(whole);
    teller.settled(deal, sold).await;
    teller.settled(short, 0).await;
    let theirs = house.provider_ledger().await;
    for end in &ends {
        teller.check(end, &theirs).await;
    }
    let orders = teller.number("SELECT count(*) FROM orders WHERE deal_id IN ($1, $2)", &[&deal.0, &short.0]).await;
    assert_eq!(orders, i64::try_from(ends.len()).unwrap(), "{at}: one order each");
    teller.verify();
}

struct Teller<'h> {
    house: &'h House,
    at: &'h str,
}

impl Teller<'_> {
    async fn post(&self, path: &str, who: AccountId, key: &str, body: &Value, pass: Option<&str>) -> Value {
        let token = self.house.app.sessions().issue(who, service_kit::clock::now_ms()).unwrap().token;
        for _ in 0..TRIES_MAX {
            let mut request = self.house.http.post(format!("{}{path}", self.house.shop)).json(body);
            request = request.bearer_auth(&token).header("idempotency-key", key);
            if let Some(pass) = pass {
                request = request.header("floodgate-pass", pass);
            }
            let response = request.send().await.unwrap();
            let status = response.status();
            let answer: Value = response.json().await.unwrap();
            if status.is_success() {
                return answer;
            }
            assert_eq!(status, 503, "{}: {path}: {answer}", self.at);
            tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
        }
        panic!("{}: {path}: no answer that stands", self.at);
    }

    async fn hold(&self, deal: DealId, who: AccountId, quantity: i64) -> OrderId {
        let pass = self.house.pass(deal);
        let path = format!("/api/v1/deals/{deal}/holds");
        let order = self.post(&path, who, "hold", &json!({ "quantity": quantity }), Some(&pass)).await;
        order["id"].as_str().unwrap().parse().unwrap()
    }

    async fn act(&self, order: OrderId, who: AccountId, verb: &str, key: &str, body: Value) {
        self.post(&format!("/api/v1/orders/{order}/{verb}"), who, key, &body, None).await;
    }

    async fn buy(&self, order: OrderId, who: AccountId, provider: &str) {
        self.act(order, who, "payments", "pay", json!({ "provider": provider })).await;
        self.eventually("a session at the provider", async || {
            self.order(order).await.payment.is_some_and(|payment| payment.state == "ready")
        })
        .await;
        let opened = self.order(order).await.payment.unwrap().redirect_pc.unwrap();
        let http = &self.house.http;
        let back = page::press(http, &self.house.provider, &opened, (provider, "CARD"), "pay").await;
        for _ in 0..TRIES_MAX {
            // Also the browser: a page that says "try again" is loaded again.
            if http.get(&back).send().await.unwrap().status().is_redirection() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
        }
        self.until(order, OrderState::Paid).await;
    }

    async fn order(&self, order: OrderId) -> Order {
        self.house.ledger.order(order).await.unwrap().unwrap()
    }

    async fn until(&self, order: OrderId, state: OrderState) {
        self.eventually(&format!("{state:?}"), async || self.order(order).await.state == state).await;
    }

    async fn eventually(&self, what: &str, check: impl AsyncFn() -> bool) {
        for _ in 0..TRIES_MAX {
            if check().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
        }
        panic!("{}: not within 40 s: {what}", self.at);
    }

    /// Redis has heard everything and says what the ledger says; nobody holds anything; no job is open.
    async fn settled(&self, deal: DealId, sold: i64) {
        let room = RoomId::of_deal(deal);
        let open = "SELECT (SELECT count(*) FROM outbox WHERE deal_id = $1 AND delivered_at_ms IS NULL)
            + (SELECT count(*) FROM payment p JOIN orders o ON o.id = p.order_id WHERE o.deal_id = $1 AND p.state <> 'captured')
            + (SELECT count(*) FROM refund r JOIN orders o ON o.id = r.order_id WHERE o.deal_id = $1 AND r.state <> 'done')";
        self.eventually(&format!("Redis and the ledger both say that {sold} are sold"), async || {
            let truth = self.house.ledger.deal(deal).await.unwrap().unwrap();
            let stock = self
                .house
                .redis
                .command("HMGET", &[&format!("fg:{{{room}}}:stock"), "available", "held", "sold"])
                .await;
            let holds =
                self.house.redis.command("ZCARD", &[&format!("fg:{{{room}}}:holds")]).await.unwrap().int().unwrap();
            let bought =
                self.house.redis.command("HVALS", &[&format!("fg:{{{room}}}:bought")]).await.unwrap().ints().unwrap();
            let stock = stock.unwrap().ints().unwrap_or_default();
            (truth.held, truth.sold) == (0, sold)
                && stock == [STOCK - sold, 0, sold]
                && (holds, bought.iter().sum::<i64>()) == (0, sold)
                && self.number(open, &[&deal.0]).await == 0
        })
        .await;
    }

    async fn check(&self, end: &End, theirs: &Value) {
        let at = format!("{}: order {}", self.at, end.order);
        let words = async |text: &str| {
            let rows = self.house.sql.query(text, &[&end.order.0]).await.unwrap();
            rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            words("SELECT to_state FROM order_event WHERE order_id = $1 ORDER BY seq").await,
            end.history,
            "{at}"
        );
        assert_eq!(words("SELECT kind FROM outbox WHERE order_id = $1 ORDER BY id").await, end.outbox, "{at}");
        let charged: Vec<&Value> = theirs["payments"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|payment| payment["partner_order_id"] == end.order.to_string() && payment["approvals"] != 0)
            .collect();
        let captures: i64 = self
            .number("SELECT count(*) FROM payment WHERE order_id = $1 AND state = 'captured'", &[&end.order.0])
            .await;
        assert_eq!(
            (charged.len(), captures),
            (usize::from(end.back.is_some()), i64::from(end.back.is_some())),
            "{at}: {charged:?}"
        );
        for payment in charged {
            assert_eq!(payment["approvals"], 1, "{at}: charged once: {payment}");
            let back: Vec<i64> =
                payment["cancels"].as_array().unwrap().iter().map(|c| c["amount"].as_i64().unwrap()).collect();
            assert_eq!(Some(back.as_slice()), end.back, "{at}: {payment}");
        }
    }

    async fn number(&self, text: &str, params: &[&(dyn tokio_postgres::types::ToSql + Sync)]) -> i64 {
        self.house.sql.query_one(text, params).await.unwrap().get(0)
    }

    /// The product's own proof.
    fn verify(&self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_floodgate"));
        let output = command.args(["verify", "--json", "--config"]).arg(&self.house.config_file).output().unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!((&said["clean"], &said["redis_compared"]), (&json!(true), &json!(true)), "{}: {said}", self.at);
    }
}
