//! One shopper's HTTP client. Each request is one operation of the history; a request without a standing answer is sent
//! again with the same key, and every try is written down.

use crate::history::{Ended, Outcome, Recorder};
use rand::Rng as _;
use reqwest::{Method, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Longest wait for one answer, in ms.
const ANSWER_MS: u64 = 2_500;
/// First pause before a repetition, in ms; doubled up to the longest.
const AGAIN_FIRST_MS: u64 = 100;
/// Longest pause before a repetition, in ms.
const AGAIN_MAX_MS: u64 = 800;

/// A request that can be sent any number of times.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The operation's name in the history.
    pub op: &'static str,
    /// Its arguments in the history.
    pub args: Value,
    /// Its Idempotency-Key.
    pub key: Option<String>,
    method: Method,
    url: String,
    headers: Vec<(&'static str, String)>,
    body: Option<(&'static str, String)>,
}

impl Ask {
    /// GET.
    pub fn get(op: &'static str, url: String) -> Self {
        let (headers, args) = (Vec::new(), json!({}));
        Self { op, args, key: None, method: Method::GET, url, headers, body: None }
    }
    /// POST.
    pub fn post(op: &'static str, url: String) -> Self {
        Self { method: Method::POST, ..Self::get(op, url) }
    }
    /// Adds arguments for the history.
    pub fn about(mut self, args: Value) -> Self {
        self.args = args;
        self
    }
    /// Adds the Idempotency-Key.
    pub fn keyed(mut self, key: String) -> Self {
        self.headers.push(("idempotency-key", key.clone()));
        self.key = Some(key);
        self
    }
    /// Adds a header.
    pub fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
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

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status; 0 = none came.
    pub status: u16,
    /// The body, if it is JSON.
    pub body: Value,
    /// What is known of the effect.
    pub outcome: Outcome,
}

impl Answer {
    /// A member that is text, or nothing.
    pub fn text(&self, name: &str) -> &str {
        self.body.get(name).and_then(Value::as_str).unwrap_or("")
    }
    /// The slug of a problem document, or nothing.
    pub fn problem(&self) -> &str {
        self.text("type").strip_prefix("/problems/").unwrap_or("")
    }
}

/// What an answer says about the effect of its request. Only a plain no is a no.
fn outcome(status: u16, problem: &str) -> Outcome {
    match status {
        200..=399 => Outcome::Ok,
        408 | 425 | 429 => {
            if problem == "wait-in-line" {
                Outcome::Fail
            } else {
                Outcome::Info
            }
        }
        409 if problem == "idempotency-key-in-flight" => Outcome::Info,
        400..=499 => Outcome::Fail,
        _ => Outcome::Info,
    }
}

/// The client of one shopper, with the history that it writes.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    recorder: Recorder,
    /// After this instant nothing is repeated.
    pub deadline: Instant,
    /// A history with holes proves nothing: the first trouble with the file is kept and ends the run.
    pub broken: Option<anyhow::Error>,
}

impl Client {
    /// A client that writes to `recorder`.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(recorder: Recorder, deadline: Instant) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_millis(1_000))
            .timeout(Duration::from_millis(ANSWER_MS))
            .build()?;
        Ok(Self { http, recorder, deadline, broken: None })
    }

    /// Whether the time is up.
    pub fn is_over(&self) -> bool {
        service_kit::clock::monotonic() >= self.deadline
    }

    /// Sends once and writes it down.
    pub async fn once(&mut self, ask: &Ask) -> Answer {
        let begun = self.recorder.begin(ask.op, ask.args.clone(), ask.key.clone());
        let sent = send(&self.http, ask).await;
        let (answer, ended) = judge(sent);
        self.note(begun, ended);
        answer
    }

    /// Sends twice at the same time, as after a double click, and writes both down.
    pub async fn twice(&mut self, ask: &Ask) -> Answer {
        let begun = [0, 1].map(|_| self.recorder.begin(ask.op, ask.args.clone(), ask.key.clone()));
        let (first, second) = tokio::join!(send(&self.http, ask), send(&self.http, ask));
        let mut answers = Vec::new();
        for (begun, sent) in begun.into_iter().zip([first, second]) {
            let (answer, ended) = judge(sent);
            self.note(begun, ended);
            answers.push(answer);
        }
        let best = answers.iter().position(|answer| answer.outcome == Outcome::Ok).unwrap_or(0);
        answers.swap_remove(best)
    }

    fn note(&mut self, begun: crate::history::Begun, ended: Ended) {
        if let Err(error) = self.recorder.end(begun, ended) {
            self.broken.get_or_insert(error);
        }
    }

    /// Sends until an answer stands or the time is up (`None`).
    pub async fn settle(&mut self, ask: &Ask) -> Option<Answer> {
        let mut pause_ms = AGAIN_FIRST_MS;
        loop {
            let answer = self.once(ask).await;
            if answer.outcome != Outcome::Info {
                return Some(answer);
            }
            if self.is_over() {
                return None;
            }
            let jitter_ms = rand::rng().random_range(0..=pause_ms);
            tokio::time::sleep(Duration::from_millis(pause_ms.saturating_add(jitter_ms))).await;
            pause_ms = pause_ms.saturating_mul(2).min(AGAIN_MAX_MS);
        }
    }
}

type Sent = Option<(u16, bool, Vec<u8>)>;

async fn send(http: &reqwest::Client, ask: &Ask) -> Sent {
    let mut request = http.request(ask.method.clone(), &ask.url);
    for (name, value) in &ask.headers {
        request = request.header(*name, value);
    }
    if let Some((kind, body)) = &ask.body {
        request = request.header(header::CONTENT_TYPE, *kind).body(body.clone());
    }
    let response = request.send().await.ok()?;
    let replayed = response.headers().contains_key("idempotency-replayed");
    let status = response.status().as_u16();
    Some((status, replayed, response.bytes().await.ok()?.to_vec()))
}

fn judge(sent: Sent) -> (Answer, Ended) {
    let Some((status, replayed, bytes)) = sent else {
        let answer = Answer { status: 0, body: Value::Null, outcome: Outcome::Info };
        return (answer, Ended { outcome: Outcome::Info, status: 0, body_digest: String::new(), ids: BTreeMap::new() });
    };
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let mut answer = Answer { status, body, outcome: Outcome::Info };
    answer.outcome = outcome(status, answer.problem());
    let mut ids = BTreeMap::new();
    let mut note = |name: &str, value: &str| {
        if !value.is_empty() {
            ids.insert(name.to_owned(), value.to_owned());
        }
    };
    note("order", answer.text("id"));
    note("state", answer.text("state"));
    note("problem", answer.problem());
    // A join has it in its status, a look at the line is the status.
    let number = ["/status/number", "/number"].iter().find_map(|at| answer.body.pointer(at)?.as_u64());
    note("number", &number.map_or_else(String::new, |number| number.to_string()));
    note("pass", &digest(answer.text("pass").as_bytes()));
    note("replayed", if replayed { "true" } else { "" });
    let ended = Ended { outcome: answer.outcome, status, body_digest: digest(&bytes), ids };
    (answer, ended)
}

/// The first 16 hex digits of SHA-256; empty for nothing. Secrets appear in the history in this form only.
pub fn digest(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return String::new();
    }
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_no_is_a_no() {
        for (status, problem, wanted) in [
            (201, "", Outcome::Ok),
            (303, "", Outcome::Ok),
            (409, "sold-out", Outcome::Fail),
            (422, "idempotency-key-reused", Outcome::Fail),
            (409, "idempotency-key-in-flight", Outcome::Info),
            (429, "wait-in-line", Outcome::Fail),
            (429, "too-many-requests", Outcome::Info),
            (503, "store-unavailable", Outcome::Info),
            (502, "", Outcome::Info),
        ] {
            assert_eq!(outcome(status, problem), wanted, "{status} {problem}");
        }
        assert_eq!(judge(None).1.outcome, Outcome::Info);
    }

    #[test]
    fn the_number_is_found_where_the_gate_puts_it() {
        for body in [r#"{"ticket":"t","status":{"number":7}}"#, r#"{"state":"waiting","number":7}"#] {
            let (_, ended) = judge(Some((201, false, body.into())));
            assert_eq!(ended.ids.get("number").map(String::as_str), Some("7"), "{body}");
        }
    }
}
