//! One POST to the provider: bounded in number, time and size, and never repeated by itself.

use crate::KakaoPayConfig;
use crate::provider::{Doubt, Refusal};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long a connection may take to be made, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 1_000;
/// How long an idle connection is kept, in milliseconds. Shorter than the idle time of common servers, so that a call
/// seldom meets a connection that is just being closed.
const IDLE_MS: u64 = 4_000;
/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Longest text of the provider that is kept, in characters.
const MESSAGE_CHARS_MAX: usize = 200;

/// The connections to the provider.
#[derive(Debug)]
pub(super) struct Http {
    client: reqwest::Client,
    base_url: String,
    slots: Semaphore,
    timeout_ms: u64,
}

/// A complete, well-formed answer.
#[derive(Debug)]
pub(super) enum Reply {
    /// HTTP 200.
    Ok(Value),
    /// HTTP 4xx with the provider's error body.
    Refused(Refusal),
}

impl Reply {
    /// The body of a success.
    pub(super) fn ok<T: DeserializeOwned>(self) -> Result<T, Doubt> {
        match self {
            Self::Ok(body) => serde_json::from_value(body).map_err(|e| Doubt::Unreadable(e.to_string())),
            Self::Refused(refusal) => Err(Doubt::Refused(refusal)),
        }
    }
}

impl Http {
    pub(super) fn new(cfg: &KakaoPayConfig) -> anyhow::Result<Self> {
        let mut key = HeaderValue::try_from(format!("SECRET_KEY {}", cfg.secret_key.expose()))?;
        key.set_sensitive(true);
        let client = reqwest::Client::builder()
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, key)]))
            .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
            .timeout(Duration::from_millis(cfg.timeout_ms))
            .pool_idle_timeout(Duration::from_millis(IDLE_MS))
            .pool_max_idle_per_host(cfg.concurrency)
            // A redirect would carry the secret to another address; an answer is an answer.
            .redirect(reqwest::redirect::Policy::none())
            // The worker decides about repetitions, with the attempt written down first.
            .retry(reqwest::retry::never())
            // The secret goes to the configured address, not to what the environment names as a proxy.
            .no_proxy()
            .build()?;
        Ok(Self {
            client,
            base_url: cfg.base_url.clone(),
            slots: Semaphore::new(cfg.concurrency),
            timeout_ms: cfg.timeout_ms,
        })
    }

    /// Calls `endpoint` once.
    pub(super) async fn post(&self, endpoint: &str, body: &Value) -> Result<Reply, Doubt> {
        let wait = Duration::from_millis(self.timeout_ms);
        let Ok(Ok(_slot)) = tokio::time::timeout(wait, self.slots.acquire()).await else { return Err(Doubt::Timeout) };
        let url = format!("{}/online/v1/payment/{endpoint}", self.base_url);
        let mut response = self.client.post(url).json(body).send().await.map_err(lost)?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Doubt::Unreadable(format!("more than {ANSWER_BYTES_MAX} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        read(status, &bytes)
    }
}

/// The error without its address: a URL in a log line tells nothing new.
fn lost(error: reqwest::Error) -> Doubt {
    if error.is_timeout() && !error.is_connect() {
        Doubt::Timeout
    } else {
        Doubt::Connection(error.without_url().to_string())
    }
}

/// What status and bytes mean.
fn read(status: u16, bytes: &[u8]) -> Result<Reply, Doubt> {
    match status {
        200 => serde_json::from_slice(bytes).map(Reply::Ok).map_err(|e| Doubt::Unreadable(e.to_string())),
        401 | 403 => Err(Doubt::Key(status)),
        429 => Err(Doubt::Limited),
        400..=499 => {
            let body: Value =
                serde_json::from_slice(bytes).map_err(|e| Doubt::Unreadable(format!("HTTP {status}: {e}")))?;
            let code = body.get("error_code").and_then(Value::as_i64);
            let code = code.ok_or_else(|| Doubt::Unreadable(format!("HTTP {status} without error_code")))?;
            let method = body.pointer("/extras/method_result_message").and_then(Value::as_str);
            let message = method.or_else(|| body.get("error_message").and_then(Value::as_str)).unwrap_or_default();
            let message = message.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect();
            Ok(Reply::Refused(Refusal { code: code.to_string(), message }))
        }
        other => Err(Doubt::Fault(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_and_well_formed_answer_counts() {
        assert!(matches!(read(200, b"{\"aid\":\"A\"}"), Ok(Reply::Ok(_))));
        assert!(
            matches!(read(400, br#"{"error_code":-780,"error_message":"no"}"#), Ok(Reply::Refused(r)) if r.code == "-780")
        );
        for (status, body, name) in [
            (200, &b"{\"aid\":"[..], "unreadable"),
            (200, b"<html>", "unreadable"),
            (204, b"", "fault"),
            (302, b"", "fault"),
            (400, b"<html>", "unreadable"),
            (404, b"{}", "unreadable"),
            (401, b"{}", "key"),
            (403, b"{}", "key"),
            (429, b"", "limited"),
            (500, br#"{"error_code":-1,"error_message":"x"}"#, "fault"),
            (503, b"", "fault"),
        ] {
            assert_eq!(read(status, body).unwrap_err().name(), name, "{status}");
        }
    }
}
