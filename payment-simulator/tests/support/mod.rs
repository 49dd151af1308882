//! A simulator on free ports and a client that talks to it as a merchant, a shopper and an operator.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod golden;
pub mod hook;
pub mod stripe;
pub mod toss;

use payment_simulator::{Config, Running, start};
use serde_json::{Value, json};
use service_kit::shutdown::{Trigger, channel};

pub const KEY: &str = "DEVtest";

pub struct Shop {
    pub http: reqwest::Client,
    pub base: String,
    pub control: String,
    _trigger: Trigger,
    _running: Running,
}

pub fn config() -> Config {
    serde_json::from_value(json!({ "listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "secret_key": KEY }))
        .unwrap()
}

pub fn recorder() -> metrics_exporter_prometheus::PrometheusHandle {
    metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle()
}

impl Shop {
    pub async fn open() -> Self {
        Self::with(config()).await
    }
    pub async fn with(cfg: Config) -> Self {
        service_kit::install_crypto_providers();
        let (trigger, shutdown) = channel();
        let running = start(cfg, recorder(), shutdown).await.unwrap();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self {
            http,
            base: format!("http://{}", running.address),
            control: format!("http://{}", running.control_address),
            _trigger: trigger,
            _running: running,
        }
    }
    pub fn request(&self, endpoint: &str, body: &Value) -> reqwest::RequestBuilder {
        self.http
            .post(format!("{}/online/v1/payment/{endpoint}", self.base))
            .header("authorization", format!("SECRET_KEY {KEY}"))
            .json(body)
    }
    pub async fn call(&self, endpoint: &str, body: &Value) -> (u16, Value) {
        answer(self.request(endpoint, body)).await.unwrap()
    }
    pub async fn faulty(&self, endpoint: &str, body: &Value, fault: &str) -> reqwest::Result<(u16, Value)> {
        answer(self.request(endpoint, body).header("floodgate-simulate", fault)).await
    }
    pub async fn control(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.http.post(format!("{}/_control/{path}", self.control)).json(&body)).await.unwrap()
    }
    /// Moves the simulated clock, and waits until every webhook that is due then was tried.
    pub async fn advance(&self, ms: i64) {
        assert_eq!(self.control("clock", json!({ "advance_ms": ms })).await.0, 200);
        self.webhooks().await;
    }
    /// The queue of webhooks, once nothing is due.
    pub async fn webhooks(&self) -> Vec<Value> {
        let url = format!("{}/_control/webhooks?wait_ms=10000", self.control);
        let body: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        body["webhooks"].as_array().unwrap().clone()
    }
    pub async fn ledger(&self) -> Value {
        self.http.get(format!("{}/_control/ledger", self.control)).send().await.unwrap().json().await.unwrap()
    }
    /// The only payment of the ledger.
    pub async fn entry(&self) -> Value {
        let ledger = self.ledger().await;
        assert_eq!(ledger["totals"]["payments"], 1);
        ledger["payments"][0].clone()
    }
    pub async fn ready(&self) -> String {
        let (status, body) = self.call("ready", &ready()).await;
        assert_eq!(status, 200, "{body}");
        body["tid"].as_str().unwrap().to_owned()
    }
    /// The shopper presses a button. Returns the status and the Location.
    pub async fn press(&self, tid: &str, action: &str) -> (u16, String) {
        let url = format!("{}/pay/{tid}", self.base);
        let response = self.http.post(url).form(&[("action", action)]).send().await.unwrap();
        let location = response.headers().get("location").map(|l| l.to_str().unwrap().to_owned());
        (response.status().as_u16(), location.unwrap_or_default())
    }
    /// A payment that the shopper has authenticated: tid and pg_token.
    pub async fn authenticated(&self) -> (String, String) {
        let tid = self.ready().await;
        let (status, location) = self.press(&tid, "pay").await;
        assert_eq!(status, 303);
        let token = location.split_once("pg_token=").unwrap().1.to_owned();
        (tid, token)
    }
    pub async fn captured(&self) -> String {
        let (tid, token) = self.authenticated().await;
        assert_eq!(self.call("approve", &approve(&tid, &token)).await.0, 200);
        tid
    }
    pub async fn order(&self, tid: &str) -> Value {
        let (status, body) = self.call("order", &json!({ "cid": "TC0ONETIME", "tid": tid })).await;
        assert_eq!(status, 200, "{body}");
        body
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> reqwest::Result<(u16, Value)> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let text = response.text().await?;
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

pub fn ready() -> Value {
    json!({
        "cid": "TC0ONETIME", "partner_order_id": "order-1", "partner_user_id": "shopper-1", "item_name": "귤 <5kg> & \"more\"",
        "quantity": 1, "total_amount": 12_900, "tax_free_amount": 0,
        "approval_url": "https://shop.example/approve?a=b", "cancel_url": "https://shop.example/cancel", "fail_url": "https://shop.example/fail",
    })
}

pub fn approve(tid: &str, token: &str) -> Value {
    json!({ "cid": "TC0ONETIME", "tid": tid, "partner_order_id": "order-1", "partner_user_id": "shopper-1", "pg_token": token })
}

pub fn cancel(tid: &str, amount: i64, available: i64) -> Value {
    json!({
        "cid": "TC0ONETIME", "tid": tid, "cancel_amount": amount, "cancel_tax_free_amount": 0,
        "cancel_available_amount": available, "payload": "refund-1",
    })
}

/// A copy of `body` with one member set.
pub fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}
