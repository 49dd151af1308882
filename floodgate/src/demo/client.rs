//! One HTTP client for the whole crowd: a bounded number of requests in flight over kept-alive
//! connections, and one rule for repeating.
//!
//! A lost reply is not a refusal: the request is sent again with the same Idempotency-Key until it
//! is answered or the time is up. So are 5xx and "too many requests".

use rand::Rng as _;
use reqwest::{Method, header};
use serde_json::Value;
use service_kit::clock;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Requests of the crowd in flight at once; the rest wait for a free place.
const IN_FLIGHT_MAX: usize = 256;
/// Longest wait for one answer.
const ANSWER_MS: u64 = 10_000;
/// First pause before a repeat, doubled up to the longest.
const REPEAT_FIRST_MS: u64 = 150;
/// Longest pause before a repeat.
const REPEAT_MAX_MS: u64 = 1_500;
/// Longest `Retry-After` that a shopper obeys.
const RETRY_AFTER_MAX_S: u64 = 10;

/// A request, ready to be sent any number of times.
#[derive(Debug, Clone)]
pub struct Ask {
    method: Method,
    url: String,
    headers: Vec<(&'static str, String)>,
    body: Option<(&'static str, String)>,
}

impl Ask {
    /// GET.
    pub fn get(url: String) -> Self {
        Self { method: Method::GET, url, headers: Vec::new(), body: None }
    }
    /// POST without a body.
    pub fn post(url: String) -> Self {
        Self { method: Method::POST, ..Self::get(url) }
    }
    /// Adds a header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
    /// Adds a JSON body.
    pub fn json(mut self, body: &Value) -> Self {
        self.body = Some(("application/json", body.to_string()));
        self
    }
    /// Adds a form body that needs no escaping.
    pub fn form(mut self, body: &str) -> Self {
        self.body = Some(("application/x-www-form-urlencoded", body.to_owned()));
        self
    }
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, if it is JSON; else null.
    pub body: Value,
    /// `Retry-After` in milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl Answer {
    /// The slug of a problem document, e.g. `sold-out`; empty for anything else.
    pub fn problem(&self) -> &str {
        self.body.get("type").and_then(Value::as_str).and_then(|kind| kind.strip_prefix("/problems/")).unwrap_or("")
    }
    /// A member that is text; empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        self.body.get(name).and_then(Value::as_str).unwrap_or("")
    }
    /// Whether the same request should be sent again.
    fn is_passing(&self) -> bool {
        match self.status {
            429 => self.problem() != "wait-in-line",
            409 => self.problem() == "idempotency-key-in-flight",
            status => status >= 500,
        }
    }
}

/// The crowd's client.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    slots: Semaphore,
    /// After this instant nothing is repeated any more.
    pub deadline_ms: i64,
}

impl Client {
    /// A client that gives up at `deadline_ms`.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(deadline_ms: i64) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(IN_FLIGHT_MAX)
            .pool_idle_timeout(Duration::from_secs(20))
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_millis(ANSWER_MS))
            .build()?;
        Ok(Self { http, slots: Semaphore::new(IN_FLIGHT_MAX), deadline_ms })
    }

    /// Whether the time is up.
    pub fn is_over(&self) -> bool {
        clock::now_ms() >= self.deadline_ms
    }

    /// Sends once. `None`: no answer, nobody knows what happened.
    pub async fn once(&self, ask: &Ask) -> Option<Answer> {
        let _slot = self.slots.acquire().await.ok()?;
        let mut request = self.http.request(ask.method.clone(), &ask.url);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some((kind, body)) = &ask.body {
            request = request.header(header::CONTENT_TYPE, *kind).body(body.clone());
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let retry_after_ms = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
            .map(|seconds| seconds.min(RETRY_AFTER_MAX_S).saturating_mul(1_000));
        let bytes = response.bytes().await.ok()?;
        Some(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null), retry_after_ms })
    }

    /// Sends until there is an answer that stands, or the time is up (`None`).
    pub async fn settle(&self, ask: &Ask) -> Option<Answer> {
        let mut pause_ms = REPEAT_FIRST_MS;
        loop {
            let wait_ms = match self.once(ask).await {
                Some(answer) if !answer.is_passing() => return Some(answer),
                Some(answer) => answer.retry_after_ms.unwrap_or(pause_ms),
                None => pause_ms,
            };
            if self.is_over() {
                return None;
            }
            let jitter_ms = rand::rng().random_range(0..=wait_ms / 2);
            tokio::time::sleep(Duration::from_millis(wait_ms.saturating_add(jitter_ms))).await;
            pause_ms = pause_ms.saturating_mul(2).min(REPEAT_MAX_MS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, problem: &str) -> Answer {
        Answer { status, body: serde_json::json!({ "type": format!("/problems/{problem}") }), retry_after_ms: None }
    }

    #[test]
    fn only_what_may_pass_is_repeated() {
        for (status, problem, repeated) in [
            (200, "", false),
            (409, "sold-out", false),
            (409, "idempotency-key-in-flight", true),
            (429, "wait-in-line", false),
            (429, "too-many-requests", true),
            (502, "upstream-unavailable", true),
            (503, "store-unavailable", true),
            (404, "not-found", false),
        ] {
            assert_eq!(answer(status, problem).is_passing(), repeated, "{status} {problem}");
        }
    }
}
