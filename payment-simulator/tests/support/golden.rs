//! Replays a transcript: requests with their answers, in between the shopper's buttons and the clock.
//!
//! A step is one of
//! - `{"request": {method, path, headers?, body? | form?}, "response": {status, headers?, body?}, "varies": [pointers],
//!   "fault"?}`,
//! - `{"shopper": "pay|decline|cancel", "location": "…"}`: a button of the pay page, and where it leads,
//! - `{"session": {…}}`: a Toss window is opened with these fields of the form,
//! - `{"advance_ms": n}`, `{"deposit": "<paymentKey>", "error"?: true}`.
//!
//! Values named by `varies` differ from run to run: the example text stands for the real one in every later step.
//! KakaoPay's answers must be equal, the others must contain what is written (their objects are large).

use super::toss::form;
use super::{KEY, Shop, stripe, toss};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Shorter examples stand only for whole values, not for parts of a longer text.
const PART_CHARS_MIN: usize = 8;

pub struct Replay<'s> {
    shop: &'s Shop,
    provider: String,
    real: BTreeMap<String, String>,
    /// The payment that the shopper looks at, by its real id.
    payment: Option<String>,
    client_secret: String,
}

pub async fn replay(provider: &str, name: &str, transcript: &Value) {
    let shop = Shop::open().await;
    let mut run = Replay {
        shop: &shop,
        provider: provider.to_owned(),
        real: BTreeMap::new(),
        payment: None,
        client_secret: String::new(),
    };
    let steps = transcript["steps"].as_array().unwrap();
    for (n, step) in steps.iter().enumerate() {
        run.step(&format!("{provider}/{name}, step {n}"), step, &steps[n..]).await;
    }
}

impl Replay<'_> {
    async fn step(&mut self, at: &str, step: &Value, rest: &[Value]) {
        if let Some(action) = step["shopper"].as_str() {
            self.shopper(at, action, step["location"].as_str().unwrap(), rest).await;
        } else if let Some(fields) = step["session"].as_object() {
            self.open_session(fields).await;
        } else if let Some(ms) = step["advance_ms"].as_i64() {
            self.shop.advance(ms).await;
        } else if let Some(key) = step["deposit"].as_str() {
            let body = serde_json::json!({ "payment": self.text(key), "error": step["error"] == true });
            assert_eq!(self.shop.control("toss/deposit", body).await.0, 200, "{at}");
        } else {
            self.request(at, step, rest).await;
        }
    }

    /// The window of a Toss payment; what a transcript does not say is told by its confirm.
    async fn open_session(&mut self, fields: &Map<String, Value>) {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut all: BTreeMap<String, String> = form().into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        all.extend(fields.iter().map(|(k, v)| (k.clone(), text(v))));
        let pairs: Vec<(&str, &str)> =
            all.iter().filter(|(k, _)| *k != "payment_key").map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let key = self.shop.toss_open(&pairs).await;
        if let Some(example) = fields.get("payment_key").and_then(Value::as_str) {
            self.real.insert(example.to_owned(), key.clone());
        }
        self.payment = Some(key);
    }
    /// The fields of a window by the confirm that follows and the address that the shopper comes back to.
    fn session_of(rest: &[Value], location: Option<&str>) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut put = |name: &str, value: &Value| {
            if !value.is_null() {
                fields.insert(name.to_owned(), value.clone());
            }
        };
        let is_confirm =
            |step: &&Value| step["request"]["path"].as_str().is_some_and(|path| path.ends_with("/confirm"));
        if let Some(confirm) = rest.iter().find(is_confirm) {
            let (asked, told) = (&confirm["request"]["body"], &confirm["response"]["body"]);
            put("payment_key", &asked["paymentKey"]);
            put("order_id", &asked["orderId"]);
            put("amount", &asked["amount"]);
            put("order_name", &told["orderName"]);
            put("currency", &told["currency"]);
            if told["status"] == "WAITING_FOR_DEPOSIT" {
                put("method", &"VIRTUAL_ACCOUNT".into());
            }
        }
        if let Some((address, query)) = location.and_then(|location| location.split_once('?')) {
            put("success_url", &address.into());
            put("fail_url", &address.into());
            for (name, value) in form_urlencoded::parse(query.as_bytes()) {
                match name.as_ref() {
                    "orderId" => put("order_id", &value.as_ref().into()),
                    "amount" => put("amount", &value.as_ref().into()),
                    "paymentKey" => put("payment_key", &value.as_ref().into()),
                    _ => {}
                }
            }
        }
        fields
    }

    async fn shopper(&mut self, at: &str, action: &str, expected: &str, rest: &[Value]) {
        if self.provider == "toss" && self.payment.is_none() {
            self.open_session(&Self::session_of(rest, Some(expected))).await;
        }
        let payment = self.payment.clone().unwrap_or_else(|| panic!("{at}: no payment yet"));
        let (status, location) = match self.provider.as_str() {
            "kakaopay" => self.shop.press(&payment, action).await,
            "toss" => self.shop.toss_press(&payment, action).await,
            _ => {
                let return_url = expected.split(['?', '&']).next().unwrap();
                let url = format!("{}/stripe/pay/{payment}", self.shop.base);
                let query = [("client_secret", self.client_secret.as_str()), ("return_url", return_url)];
                let request = self.shop.http.post(url).query(&query).form(&[("action", action)]);
                let response = request.send().await.unwrap();
                let location = response.headers().get("location").map(|l| l.to_str().unwrap().to_owned());
                (response.status().as_u16(), location.unwrap_or_default())
            }
        };
        assert_eq!(status, 303, "{at}");
        self.compare_location(at, expected, &location);
    }

    fn compare_location(&mut self, at: &str, expected: &str, got: &str) {
        let split = |url: &str| {
            let (address, query) = url.split_once('?').unwrap_or((url, ""));
            let pairs: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            (address.to_owned(), pairs)
        };
        let ((address, expected), (got_address, got)) = (split(expected), split(got));
        assert_eq!(address, got_address, "{at}");
        for (name, example) in expected {
            let value = got.get(&name).unwrap_or_else(|| panic!("{at}: {name} is missing in {got:?}"));
            match name.as_str() {
                // A text for people, and optional in the contract.
                "message" | "paymentType" => {}
                "pg_token" => {
                    assert_eq!(example.len(), value.len(), "{at}");
                    self.real.insert(example, value.clone());
                }
                _ => assert_eq!(&self.text(&example), value, "{at}: {name}"),
            }
        }
    }

    async fn request(&mut self, at: &str, step: &Value, rest: &[Value]) {
        let asked = &step["request"];
        let path = asked["path"].as_str().unwrap();
        let confirms = self.provider == "toss" && path.ends_with("/confirm") && step["response"]["status"] != 404;
        if confirms && self.payment.is_none() {
            self.open_session(&Self::session_of(rest, None)).await;
            let key = self.payment.clone().unwrap();
            assert_eq!(self.shop.toss_press(&key, "pay").await.0, 303, "{at}");
        }
        let url = format!("{}{}", self.shop.base, self.text(path));
        let method = asked["method"].as_str().unwrap_or("POST").parse().unwrap();
        let mut request = self.shop.http.request(method, url);
        request = match self.provider.as_str() {
            "kakaopay" => request.header("authorization", format!("SECRET_KEY {KEY}")),
            "toss" => request.basic_auth(toss::SECRET_KEY, Some("")),
            _ => request.bearer_auth(stripe::SECRET_KEY),
        };
        for (name, value) in asked["headers"].as_object().into_iter().flatten() {
            if !["authorization", "content-type"].contains(&name.to_lowercase().as_str()) {
                request = request.header(name, self.text(value.as_str().unwrap()));
            }
        }
        let body = if asked["form"].is_null() { &asked["body"] } else { &asked["form"] };
        request = match (self.provider.as_str(), self.translate(body)) {
            (_, Value::Null) => request,
            ("stripe", Value::String(text)) => {
                request.header("content-type", "application/x-www-form-urlencoded").body(text)
            }
            ("stripe", value) => request.form(&flatten("", &value)),
            (_, value) => request.json(&value),
        };
        if let Some(fault) = step["fault"].as_str() {
            request = request.header("floodgate-simulate", fault);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(_) if step["response"].is_null() => return,
            Err(error) => panic!("{at}: {error}"),
        };
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let got: Value = response.json().await.unwrap();
        assert_eq!(status, step["response"]["status"], "{at}: {got}");
        self.remember(&got);
        self.compare(at, step, got);
        for (name, value) in step["response"]["headers"].as_object().into_iter().flatten() {
            let real = headers.get(name.as_str()).unwrap_or_else(|| panic!("{at}: no header {name}"));
            let expected = self.text(value.as_str().unwrap());
            assert!(expected == real.to_str().unwrap() || is_request_id(name), "{at}: {name}");
        }
    }

    /// What the shopper looks at from now on.
    fn remember(&mut self, got: &Value) {
        if let Some(tid) = got["tid"].as_str().filter(|_| !got["next_redirect_pc_url"].is_null()) {
            self.payment = Some(tid.to_owned());
        }
        if got["object"] == "payment_intent" {
            self.payment = got["id"].as_str().map(str::to_owned);
            self.client_secret = got["client_secret"].as_str().unwrap_or_default().to_owned();
        }
    }

    fn compare(&mut self, at: &str, step: &Value, mut got: Value) {
        let mut expected = step["response"]["body"].clone();
        for pointer in step["varies"].as_array().into_iter().flatten() {
            let pointer = pointer.as_str().unwrap();
            let example = expected.pointer_mut(pointer).unwrap_or_else(|| panic!("{at}: {pointer} is no member"));
            let value = got.pointer_mut(pointer).unwrap_or_else(|| panic!("{at}: {pointer} is missing"));
            assert_eq!(kind(example), kind(value), "{at}: {pointer} {value}");
            if let (Value::String(example), Value::String(value)) = (&*example, &*value) {
                let loose = ["url", "scheme", "message", "code"].iter().any(|word| pointer.contains(word));
                let fixed_length = self.provider == "kakaopay" && !loose;
                assert!(!fixed_length || example.len() == value.len(), "{at}: {pointer} {value}");
                self.real.insert(example.clone(), value.clone());
            }
            *value = Value::Null;
            *example = Value::Null;
        }
        let expected = self.translate(&expected);
        if self.provider == "kakaopay" || step["exact"] == true {
            assert_eq!(got, expected, "{at}");
        } else if let Err(why) = contains(&got, &expected, "") {
            panic!("{at}: {why} in {got}");
        }
    }

    /// The text with every example in it replaced by what this run has in its place.
    fn text(&self, text: &str) -> String {
        if let Some(whole) = self.real.get(text) {
            return whole.clone();
        }
        let mut out = text.to_owned();
        for (example, real) in self.real.iter().filter(|(example, _)| example.len() >= PART_CHARS_MIN) {
            out = out.replace(example, real);
        }
        out
    }
    fn translate(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text).into(),
            Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), self.translate(v))).collect(),
            Value::Array(list) => list.iter().map(|v| self.translate(v)).collect(),
            other => other.clone(),
        }
    }
}

/// Whether everything that is expected is there.
fn contains(got: &Value, expected: &Value, at: &str) -> Result<(), String> {
    match (got, expected) {
        (Value::Object(got), Value::Object(expected)) => expected.iter().try_for_each(|(name, value)| {
            let member = got.get(name).ok_or_else(|| format!("{at}/{name} is missing"))?;
            contains(member, value, &format!("{at}/{name}"))
        }),
        (Value::Array(got), Value::Array(expected)) if got.len() == expected.len() => {
            got.iter().zip(expected).enumerate().try_for_each(|(n, (g, e))| contains(g, e, &format!("{at}/{n}")))
        }
        _ if got == expected => Ok(()),
        _ => Err(format!("{at} is {got}, not {expected}")),
    }
}

fn is_request_id(name: &str) -> bool {
    name.eq_ignore_ascii_case("request-id")
}

pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Number(n) if n.is_i64() => "integer",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        _ => "something else",
    }
}

/// Form fields with brackets for what is nested.
fn flatten(prefix: &str, value: &Value) -> Vec<(String, String)> {
    let name = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}[{key}]") };
    match value {
        Value::Object(map) => map.iter().flat_map(|(key, value)| flatten(&name(key), value)).collect(),
        Value::Array(list) => list.iter().flat_map(|value| flatten(&format!("{prefix}[]"), value)).collect(),
        Value::String(text) => vec![(prefix.to_owned(), text.clone())],
        other => vec![(prefix.to_owned(), other.to_string())],
    }
}
