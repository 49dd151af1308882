//! The post that reaches the shop: what the providers wrote, brought on as it came, and everything that somebody else
//! makes of it.

use crate::support::{Bench, Bought, SECRET};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::post;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use service_kit::clock::now_ms;
use service_kit::ids::{OrderId, PaymentId};
use sha2::Sha256;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The secret that the simulator of Stripe signs with.
const STRIPE_SECRET: &str = "whsec_simulated";
const TRANSMISSION: &str = "tosspayments-webhook-transmission-id";
/// Longer than any notice that is read.
const OVERSIZE_BYTES: usize = 257 * 1024;

/// What is done to a letter before it is put through the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trick {
    /// Signed with another secret; where nothing is signed, an event that nobody sent.
    Forged,
    /// Another amount or state in the body, after it was signed.
    Altered,
    /// About this order, with the provider's key of another one.
    OtherKey,
    /// The same event once more; drawn from all that came so far, so out of order, and late in the last part.
    Repeated,
    /// The same event's id with another content.
    OtherContent,
    /// Hours old by its own signature or time.
    Stale,
    /// No JSON, or cut off.
    Garbage,
    /// More than is read.
    Oversize,
    /// Not said to be JSON.
    WrongType,
    /// About an order that is none of ours.
    Unknown,
}

/// How often each is drawn.
const TRICKS: [(Trick, u32); 10] = [
    (Trick::Forged, 4),
    (Trick::Altered, 3),
    (Trick::OtherKey, 2),
    (Trick::Repeated, 5),
    (Trick::OtherContent, 2),
    (Trick::Stale, 3),
    (Trick::Garbage, 2),
    (Trick::Oversize, 1),
    (Trick::WrongType, 1),
    (Trick::Unknown, 1),
];

pub fn draw(dice: &mut StdRng) -> (Trick, u64) {
    let trick = TRICKS.choose_weighted(dice, |(_, weight)| *weight).unwrap().0;
    (trick, dice.random())
}

/// A notice as a provider wrote it.
#[derive(Debug, Clone)]
struct Letter {
    provider: String,
    /// The id by which a repetition is known.
    event: String,
    body: String,
}

/// Takes what the simulators send, keeps a copy, and brings it to the shop at once.
#[derive(Clone)]
pub struct Office {
    http: reqwest::Client,
    shop: String,
    letters: Arc<Mutex<Vec<Letter>>>,
    /// Ids of events that the shop took; each is one row there.
    taken: Arc<Mutex<BTreeSet<(String, String)>>>,
}

impl Office {
    pub async fn open(bench: &Bench) -> Self {
        let office =
            Self { http: bench.http.clone(), shop: bench.shop.clone(), letters: Arc::default(), taken: Arc::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/{provider}", post(Self::pass_on)).with_state(office.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        for provider in ["toss", "stripe"] {
            let target = json!({ "provider": provider, "url": format!("http://{address}/{provider}") });
            bench.control("webhooks", target).await;
        }
        office
    }

    async fn pass_on(State(office): State<Self>, Path(provider): Path<String>, headers: HeaderMap, body: Bytes) {
        let body = String::from_utf8(body.to_vec()).unwrap();
        let event = match headers.get(TRANSMISSION) {
            Some(id) => id.to_str().unwrap().to_owned(),
            None => serde_json::from_str::<Value>(&body).unwrap()["id"].as_str().unwrap().to_owned(),
        };
        // A simulator whose clock was moved signs with its own time: here the shop reads it at the time of its signing.
        let signed = sign(STRIPE_SECRET, now_ms() / 1_000, &body);
        let header = if provider == "toss" { (TRANSMISSION, event.clone()) } else { ("stripe-signature", signed) };
        assert_eq!(
            office.put(&provider, Some(header), body.clone(), "application/json").await,
            200,
            "{provider}: {body}"
        );
        office.taken.lock().await.insert((provider.clone(), event.clone()));
        office.letters.lock().await.push(Letter { provider, event, body });
    }

    async fn put(&self, provider: &str, header: Option<(&str, String)>, body: String, content_type: &str) -> u16 {
        let mut request = self.http.post(format!("{}/payments/webhooks/{provider}", self.shop));
        request = request.header("content-type", content_type);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        request.body(body).send().await.unwrap().status().as_u16()
    }

    pub async fn letters(&self) -> usize {
        self.letters.lock().await.len()
    }
    pub async fn taken(&self) -> BTreeSet<(String, String)> {
        self.taken.lock().await.clone()
    }

    /// One delivery, drawn from its seed, about one of the orders `of` a provider. Says what the shop answered and what it
    /// should answer.
    pub async fn play<'b>(
        &self,
        trick: Trick,
        seed: u64,
        of: impl Fn(&str) -> Vec<&'b Bought>,
    ) -> (u16, &'static [u16]) {
        let mut dice = StdRng::seed_from_u64(seed);
        let draw = dice.random_range(0..20);
        let orders = of(match draw {
            0 | 1 => "kakaopay",
            n if n % 2 == 0 => "toss",
            _ => "stripe",
        });
        let (one, other) = (orders[dice.random_range(0..orders.len())], orders[dice.random_range(0..orders.len())]);
        match draw {
            0 => (self.put("kakaopay", None, event("DONE", one.order).to_string(), "application/json").await, &[404]),
            1 => (self.return_with_a_wrong_secret(one.payment, &mut dice).await, &[404]),
            n if n % 2 == 0 => self.to_toss(trick, one, other, &mut dice).await,
            _ => self.to_stripe(trick, one, other, &mut dice).await,
        }
    }

    /// KakaoPay sends no notices; what comes from outside about its payments is a shopper's return.
    async fn return_with_a_wrong_secret(&self, payment: PaymentId, dice: &mut StdRng) -> u16 {
        let secret: String =
            SECRET.bytes().map(|b| char::from(b ^ u8::from(dice.random_bool(0.5)))).collect::<String>() + "x";
        let url = format!("{}/payments/{payment}/return/{secret}/approve?pg_token=stolen", self.shop);
        self.http.get(url).send().await.unwrap().status().as_u16()
    }

    async fn any(&self, provider: &str, dice: &mut StdRng) -> Option<Letter> {
        let letters = self.letters.lock().await;
        let fitting: Vec<&Letter> = letters.iter().filter(|letter| letter.provider == provider).collect();
        if fitting.is_empty() { None } else { Some(fitting[dice.random_range(0..fitting.len())].clone()) }
    }

    async fn to_toss(&self, trick: Trick, one: &Bought, other: &Bought, dice: &mut StdRng) -> (u16, &'static [u16]) {
        let said = ["DONE", "CANCELED", "PARTIAL_CANCELED", "ABORTED", "EXPIRED"][dice.random_range(0..5)];
        let new = format!("{:032x}", dice.random::<u128>());
        let known = self.any("toss", dice).await;
        let (mut id, mut body) = (new, event(said, one.order));
        let json = "application/json";
        match trick {
            // Nothing of this is signed: taken as a hint, and what it says is not believed.
            Trick::Forged => {}
            Trick::Altered => body["data"]["totalAmount"] = json!(1),
            Trick::OtherKey => body["data"]["paymentKey"] = json!(other.payment),
            Trick::Stale => body["createdAt"] = json!("2020-01-01T00:00:00.000000"),
            Trick::Repeated | Trick::OtherContent => {
                if let Some(letter) = known {
                    id = letter.event;
                    if trick == Trick::Repeated {
                        body = serde_json::from_str(&letter.body).unwrap();
                    }
                }
            }
            Trick::Unknown => {
                let body = event(said, OrderId::new()).to_string();
                let status = self.put("toss", Some((TRANSMISSION, id.clone())), body, json).await;
                self.note("toss", id, status).await;
                return (status, &[200, 429]);
            }
            Trick::Garbage => {
                let cut = body.to_string();
                let cut = cut[..cut.floor_char_boundary(dice.random_range(0..cut.len()))].to_owned();
                return (self.put("toss", Some((TRANSMISSION, id)), cut, json).await, &[400]);
            }
            Trick::Oversize => {
                body["padding"] = json!("x".repeat(OVERSIZE_BYTES));
                return (self.put("toss", Some((TRANSMISSION, id)), body.to_string(), json).await, &[413]);
            }
            Trick::WrongType => {
                return (self.put("toss", Some((TRANSMISSION, id)), body.to_string(), "text/plain").await, &[400]);
            }
        }
        let status = self.put("toss", Some((TRANSMISSION, id.clone())), body.to_string(), json).await;
        self.note("toss", id, status).await;
        (status, &[200])
    }

    async fn to_stripe(&self, trick: Trick, one: &Bought, other: &Bought, dice: &mut StdRng) -> (u16, &'static [u16]) {
        let kinds =
            ["payment_intent.succeeded", "payment_intent.canceled", "charge.refunded", "payment_intent.payment_failed"];
        let kind = kinds[dice.random_range(0..kinds.len())];
        let new = format!("evt_{:032x}", dice.random::<u128>());
        let known = self.any("stripe", dice).await;
        let object = |payment: PaymentId| json!({ "object": "payment_intent", "id": "pi_forged", "metadata": { "payment": payment } });
        let made = |id: &str, object: Value| {
            json!({ "id": id, "object": "event", "type": kind, "created": 1, "data": { "object": object } }).to_string()
        };
        let now_s = now_ms() / 1_000;
        let body = known.as_ref().map_or_else(|| made(&new, object(one.payment)), |letter| letter.body.clone());
        let json = "application/json; charset=utf-8";
        let signed = |body: &str| Some(("stripe-signature", sign(STRIPE_SECRET, now_s, body)));
        match trick {
            Trick::Forged => {
                let header = Some(("stripe-signature", sign("whsec_of_somebody", now_s, &body)));
                (self.put("stripe", header, body, json).await, &[401])
            }
            Trick::Altered => {
                let header = signed(&body);
                let changed = body.replacen("\"object\":\"event\"", "\"object\":\"event\",\"livemode\":true", 1);
                assert_ne!(body, changed);
                (self.put("stripe", header, changed, json).await, &[401])
            }
            Trick::Stale => {
                let hours_ago_s = now_s - 3_600 * dice.random_range(1..100);
                let header = Some(("stripe-signature", sign(STRIPE_SECRET, hours_ago_s, &body)));
                (self.put("stripe", header, body, json).await, &[401])
            }
            Trick::Garbage => {
                let cut = body[..body.floor_char_boundary(dice.random_range(0..body.len()))].to_owned();
                let header = signed(&cut);
                (self.put("stripe", header, cut, json).await, &[400])
            }
            Trick::Oversize => {
                let body = body + &" ".repeat(OVERSIZE_BYTES);
                let header = signed(&body);
                (self.put("stripe", header, body, json).await, &[413])
            }
            Trick::WrongType => {
                let header = signed(&body);
                (self.put("stripe", header, body, "text/plain").await, &[400])
            }
            // Signed as it should be, by somebody who has the secret: still no more than a hint.
            Trick::OtherKey | Trick::OtherContent | Trick::Unknown | Trick::Repeated => {
                let (id, body) = match (trick, known) {
                    (Trick::Repeated, Some(letter)) => (letter.event, body),
                    (Trick::OtherContent, Some(letter)) => {
                        let body = made(&letter.event, object(other.payment));
                        (letter.event, body)
                    }
                    (Trick::Unknown, _) => (new.clone(), made(&new, object(PaymentId::new()))),
                    _ => (new.clone(), made(&new, object(one.payment))),
                };
                let status = self.put("stripe", signed(&body), body, json).await;
                self.note("stripe", id, status).await;
                (status, if trick == Trick::Unknown { &[200, 429] } else { &[200] })
            }
        }
    }

    async fn note(&self, provider: &str, event: String, status: u16) {
        if status == 200 {
            self.taken.lock().await.insert((provider.to_owned(), event));
        }
    }
}

/// An unsigned event about an order.
fn event(status: &str, order: OrderId) -> Value {
    json!({ "eventType": "PAYMENT_STATUS_CHANGED", "createdAt": "2026-11-21T12:00:00.000000",
        "data": { "orderId": order, "status": status, "paymentKey": "made-up", "totalAmount": 12_900 } })
}

fn sign(secret: &str, at_s: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{at_s}.{body}").as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    format!("t={at_s},v1={hex}")
}
