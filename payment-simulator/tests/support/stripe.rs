//! A merchant of Stripe.

use super::{Shop, answer};
use serde_json::Value;

pub const SECRET_KEY: &str = "sk_test_test";

impl Shop {
    pub fn stripe_request(&self, path: &str, form: &[(&str, &str)]) -> reqwest::RequestBuilder {
        self.http.post(format!("{}/v1/{path}", self.base)).bearer_auth(SECRET_KEY).form(form)
    }
    pub async fn stripe_post(&self, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        answer(self.stripe_request(path, form)).await.unwrap()
    }
    pub async fn stripe_keyed(&self, path: &str, form: &[(&str, &str)], key: &str) -> (u16, Value) {
        answer(self.stripe_request(path, form).header("idempotency-key", key)).await.unwrap()
    }
    pub async fn stripe_get(&self, path: &str) -> (u16, Value) {
        answer(self.http.get(format!("{}/v1/{path}", self.base)).bearer_auth(SECRET_KEY)).await.unwrap()
    }
    /// A PaymentIntent that the shop has made and not confirmed.
    pub async fn stripe_intent(&self, more: &[(&str, &str)]) -> Value {
        let mut form = vec![("amount", "12900"), ("currency", "krw"), ("metadata[order_id]", "order-1")];
        form.extend_from_slice(more);
        let (status, body) = self.stripe_post("payment_intents", &form).await;
        assert_eq!(status, 200, "{body}");
        body
    }
    /// The id of one that is paid.
    pub async fn stripe_paid(&self) -> String {
        let body = self.stripe_intent(&[("confirm", "true"), ("payment_method", "pm_card_visa")]).await;
        assert_eq!(body["status"], "succeeded", "{body}");
        body["id"].as_str().unwrap().to_owned()
    }
    /// The buyer presses a button. Returns the status and the Location.
    pub async fn stripe_press(&self, intent: &Value, action: &str) -> (u16, String) {
        let url = format!("{}/stripe/pay/{}", self.base, intent["id"].as_str().unwrap());
        let query = [
            ("client_secret", intent["client_secret"].as_str().unwrap()),
            ("return_url", "https://shop.example/back?a=b"),
        ];
        let response = self.http.post(url).query(&query).form(&[("action", action)]).send().await.unwrap();
        let location = response.headers().get("location").map(|l| l.to_str().unwrap().to_owned());
        (response.status().as_u16(), location.unwrap_or_default())
    }
}
