//! One call to a provider: bounded in number, time and size, and never repeated by itself.

use crate::provider::Doubt;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long a connection may take to be made, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 1_000;
/// How long an idle connection is kept, in milliseconds. Shorter than the idle time of common servers, so that a call
/// seldom meets a connection that is just being closed.
const IDLE_MS: u64 = 4_000;
/// Largest answer that is read, in bytes. A page of a provider's list is the largest that is asked for.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Longest text of the provider that is kept, in characters.
const MESSAGE_CHARS_MAX: usize = 200;

/// How a provider is reached.
#[derive(Debug, Clone)]
pub(crate) struct Reach<'c> {
    /// Scheme and host.
    pub(crate) base_url: &'c str,
    /// The value of `Authorization`.
    pub(crate) authorization: String,
    /// How long one call may take from its first to its last byte, in milliseconds.
    pub(crate) timeout_ms: u64,
    /// How many calls run at once.
    pub(crate) concurrency: usize,
}

/// The connections to a provider.
#[derive(Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    base_url: String,
    slots: Semaphore,
    timeout_ms: u64,
}

/// A complete answer that is JSON.
#[derive(Debug)]
pub(crate) struct Reply {
    /// HTTP status: 2xx or 4xx, but none that says nothing about the payment (401, 403 without a body, 429).
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Value,
}

impl Reply {
    /// The body of a success.
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<T, Doubt> {
        // A list would be read as the fields in their order.
        if !self.body.is_object() {
            return Err(Doubt::Unreadable(format!("HTTP {} without an object", self.status)));
        }
        serde_json::from_value(self.body).map_err(|e| Doubt::Unreadable(e.to_string()))
    }

    /// The entries of a success that is a bare list.
    pub(crate) fn read_list<T: DeserializeOwned>(self) -> Result<Vec<T>, Doubt> {
        let Value::Array(entries) = self.body else {
            return Err(Doubt::Unreadable(format!("HTTP {} without a list", self.status)));
        };
        let entry = |entry: Value| if entry.is_object() { serde_json::from_value(entry).ok() } else { None };
        let read: Option<Vec<T>> = entries.into_iter().map(entry).collect();
        read.ok_or_else(|| Doubt::Unreadable("an entry of the list cannot be read".to_owned()))
    }
}

/// A call's body.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Send<'b> {
    /// GET.
    Nothing,
    /// POST with JSON.
    Json(&'b Value),
    /// POST with a form.
    Form(&'b [(String, String)]),
}

impl Http {
    pub(crate) fn new(reach: &Reach<'_>) -> anyhow::Result<Self> {
        let mut key = HeaderValue::try_from(reach.authorization.as_str())?;
        key.set_sensitive(true);
        let client = reqwest::Client::builder()
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, key)]))
            .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
            .timeout(Duration::from_millis(reach.timeout_ms))
            .pool_idle_timeout(Duration::from_millis(IDLE_MS))
            .pool_max_idle_per_host(reach.concurrency)
            // A redirect would carry the secret to another address; an answer is an answer.
            .redirect(reqwest::redirect::Policy::none())
            // The worker decides about repetitions, with the attempt written down first.
            .retry(reqwest::retry::never())
            // The secret goes to the configured address, not to what the environment names as a proxy.
            .no_proxy()
            .build()?;
        Ok(Self {
            client,
            base_url: reach.base_url.to_owned(),
            slots: Semaphore::new(reach.concurrency),
            timeout_ms: reach.timeout_ms,
        })
    }

    /// Calls once. `idempotency_key` goes into the header of that name.
    pub(crate) async fn call(&self, path: &str, send: Send<'_>, idempotency_key: Option<&str>) -> Result<Reply, Doubt> {
        let wait = Duration::from_millis(self.timeout_ms);
        let Ok(Ok(_slot)) = tokio::time::timeout(wait, self.slots.acquire()).await else { return Err(Doubt::Timeout) };
        let url = format!("{}{path}", self.base_url);
        let request = match send {
            Send::Nothing => self.client.get(url),
            Send::Json(body) => self.client.post(url).json(body),
            Send::Form(fields) => {
                let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
                self.client.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
            }
        };
        let request = match idempotency_key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        };
        let mut response = request.send().await.map_err(lost)?;
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

/// What status and bytes mean. Whether a 4xx is a refusal, and of what, is the driver's business. A 5xx says nothing
/// about the effect, whatever its body says.
fn read(status: u16, bytes: &[u8]) -> Result<Reply, Doubt> {
    let body: Result<Value, _> = serde_json::from_slice(bytes);
    match (status, body) {
        (429, _) => Err(Doubt::Limited),
        (401, _) => Err(Doubt::Key(status)),
        (200..=299, Ok(body)) if body.is_object() || body.is_array() => Ok(Reply { status, body }),
        (402..=499, Ok(body)) if body.is_object() => Ok(Reply { status, body }),
        (400, Ok(body)) if body.is_object() => Ok(Reply { status, body }),
        (403, _) => Err(Doubt::Key(status)),
        (200 | 201 | 400..=499, Ok(_)) => Err(Doubt::Unreadable(format!("HTTP {status} without an object"))),
        (200 | 201 | 400..=499, Err(e)) => Err(Doubt::Unreadable(format!("HTTP {status}: {e}"))),
        (other, _) => Err(Doubt::Fault(other)),
    }
}

/// A provider's text, cut to a sane length and to one line.
pub(crate) fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_never_read_as_an_object() {
        #[derive(Debug, serde::Deserialize)]
        struct Two {
            a: i64,
        }
        let reply = |body: &[u8]| read(200, body).unwrap();
        assert_eq!(reply(b"{\"a\":1}").read::<Two>().unwrap().a, 1);
        assert!(reply(b"[1]").read::<Two>().is_err() && reply(b"[[1]]").read_list::<Two>().is_err());
        assert!(reply(b"{\"a\":1}").read_list::<Two>().is_err());
        assert_eq!(reply(b"[{\"a\":1}]").read_list::<Two>().unwrap().len(), 1);
    }

    #[test]
    fn only_a_whole_and_well_formed_answer_counts() {
        assert!(matches!(read(200, b"{\"aid\":\"A\"}"), Ok(Reply { status: 200, .. })));
        assert!(matches!(read(400, br#"{"error_code":-780}"#), Ok(Reply { status: 400, .. })));
        assert!(matches!(read(403, br#"{"code":"NOT_CANCELABLE_AMOUNT"}"#), Ok(Reply { status: 403, .. })));
        for (status, body, name) in [
            (200, &b"{\"aid\":"[..], "unreadable"),
            (200, b"<html>", "unreadable"),
            (200, b"1", "unreadable"),
            (400, b"[]", "unreadable"),
            (204, b"", "fault"),
            (302, b"", "fault"),
            (400, b"<html>", "unreadable"),
            (401, b"{}", "key"),
            (403, b"", "key"),
            (429, b"", "limited"),
            (500, br#"{"error_code":-1,"error_message":"x"}"#, "fault"),
            (503, b"", "fault"),
        ] {
            assert_eq!(read(status, body).unwrap_err().name(), name, "{status}");
        }
    }
}
