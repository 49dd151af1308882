//! A merchant and a buyer of Toss Payments.

use super::{Shop, answer};
use serde_json::{Value, json};

pub const SECRET_KEY: &str = "test_sk_test";

pub fn form() -> Vec<(&'static str, &'static str)> {
    vec![
        ("client_key", "test_ck_test"),
        ("method", "CARD"),
        ("amount", "12900"),
        ("currency", "KRW"),
        ("order_id", "order-1"),
        ("order_name", "귤 <5kg>"),
        ("success_url", "https://shop.example/ok?a=b"),
        ("fail_url", "https://shop.example/no"),
    ]
}

pub fn confirm(key: &str) -> Value {
    json!({ "paymentKey": key, "orderId": "order-1", "amount": 12_900 })
}

impl Shop {
    /// The window opens. Returns the paymentKey.
    pub async fn toss_open(&self, form: &[(&str, &str)]) -> String {
        let request = self.http.post(format!("{}/toss/sdk/payments", self.base)).header("accept", "application/json");
        let (status, body) = answer(request.form(form)).await.unwrap();
        assert_eq!(status, 200, "{body}");
        body["payment_key"].as_str().unwrap().to_owned()
    }
    pub async fn toss_press(&self, key: &str, action: &str) -> (u16, String) {
        let url = format!("{}/toss/pay/{key}", self.base);
        let response = self.http.post(url).form(&[("action", action)]).send().await.unwrap();
        let location = response.headers().get("location").map(|l| l.to_str().unwrap().to_owned());
        (response.status().as_u16(), location.unwrap_or_default())
    }
    pub fn toss_request(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.http.post(format!("{}/v1/{path}", self.base)).basic_auth(SECRET_KEY, Some("")).json(body)
    }
    pub async fn toss_post(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.toss_request(path, body)).await.unwrap()
    }
    /// With an idempotency key.
    pub async fn toss_keyed(&self, path: &str, body: &Value, key: &str) -> (u16, Value) {
        answer(self.toss_request(path, body).header("idempotency-key", key)).await.unwrap()
    }
    pub async fn toss_get(&self, path: &str) -> (u16, Value) {
        answer(self.http.get(format!("{}/v1/{path}", self.base)).basic_auth(SECRET_KEY, Some(""))).await.unwrap()
    }
    /// A payment that the buyer has authenticated.
    pub async fn toss_authenticated(&self, form: &[(&str, &str)]) -> String {
        let key = self.toss_open(form).await;
        assert_eq!(self.toss_press(&key, "pay").await.0, 303);
        key
    }
    /// A payment of 12,900 won that is done.
    pub async fn toss_done(&self) -> String {
        let key = self.toss_authenticated(&form()).await;
        let (status, body) = self.toss_post("payments/confirm", &confirm(&key)).await;
        assert_eq!((status, &body["status"]), (200, &json!("DONE")), "{body}");
        key
    }
    pub async fn toss_cancel(&self, key: &str, body: Value) -> (u16, Value) {
        self.toss_post(&format!("payments/{key}/cancel"), &body).await
    }
}
