//! Talks to the operators' API of a gate. A lost reply is not a refusal: a command is sent again with the same key.

use super::args::Reach;
use crate::settings::{self, Settings, section};
use anyhow::Context as _;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use service_kit::ids::RoomId;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Longest wait for one answer.
const ANSWER_MS: u64 = 5_000;
/// How often a request is sent when no answer comes.
const TRIES_MAX: u32 = 3;
/// Between two tries.
const PAUSE_MS: u64 = 500;
/// Variable that holds a token.
const TOKEN_VARIABLE: &str = "FLOODGATE_OPERATOR_TOKEN";
/// Entries per page of a log.
const PAGE_ENTRIES: usize = 1_000;

/// A gate's admin port with the token to show there.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Client {
    /// Finds the gate and the token.
    ///
    /// # Errors
    /// When either is nowhere to be found; the text says where they are looked for.
    pub fn new(reach: &Reach) -> anyhow::Result<Self> {
        let admin = match reach.admin {
            Some(admin) => admin,
            None => {
                section(Settings::load(&reach.config)?.gate, "gate")
                    .context("which gate? Name its admin port with --admin, or its configuration with --config")?
                    .admin_listen
            }
        };
        let http = reqwest::Client::builder().timeout(Duration::from_millis(ANSWER_MS)).no_proxy().build()?;
        Ok(Self { http, base: format!("http://{}", reachable(admin)), token: token(reach)? })
    }

    /// `GET path` as text.
    ///
    /// # Errors
    /// What the gate refuses, in its own words, or that nobody answers.
    pub async fn get(&self, path: &str) -> anyhow::Result<String> {
        self.send(Method::GET, path, None, "").await
    }

    /// `POST path` with a body; `key` makes repeats harmless.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post(&self, path: &str, body: &Value, key: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.send(Method::POST, path, Some(body), key).await?)?)
    }

    /// All entries of a room's log, as they were written.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn log(&self, room: &RoomId) -> anyhow::Result<Vec<String>> {
        let mut lines: Vec<String> = Vec::new();
        let mut after = 0;
        loop {
            let page = self.get(&format!("/v1/rooms/{room}/log?after={after}&limit={PAGE_ENTRIES}")).await?;
            let before = lines.len();
            lines.extend(page.lines().map(str::to_owned));
            let last = lines.last().and_then(|line| serde_json::from_str::<Value>(line).ok());
            let last = last.as_ref().and_then(|entry| entry.get("seq")).and_then(Value::as_u64).unwrap_or(0);
            if lines.len() - before < PAGE_ENTRIES || last <= after {
                return Ok(lines);
            }
            after = last;
        }
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>, key: &str) -> anyhow::Result<String> {
        let mut tries = 1;
        loop {
            let mut request =
                self.http.request(method.clone(), format!("{}{path}", self.base)).bearer_auth(&self.token);
            if let Some(body) = body {
                request = request.header("idempotency-key", key).json(body);
            }
            let answer = request.send().await;
            let again = match &answer {
                Ok(answer) => answer.status() == StatusCode::SERVICE_UNAVAILABLE,
                Err(_) => true,
            };
            if again && tries < TRIES_MAX {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
                continue;
            }
            let answer = answer.map_err(|error| {
                // Without the address that is in the text already.
                anyhow::anyhow!("nobody answers at {}: does the gate run there? ({})", self.base, error.without_url())
            })?;
            let (status, text) = (answer.status(), answer.text().await?);
            if status.is_success() {
                return Ok(text);
            }
            let problem: Value = serde_json::from_str(&text).unwrap_or_default();
            let detail = problem.get("detail").and_then(Value::as_str).unwrap_or("this is not a gate's admin port");
            anyhow::bail!("{detail} ({})", status.as_u16());
        }
    }
}

/// An address that a client can connect to: a gate that listens everywhere is on this machine.
fn reachable(admin: SocketAddr) -> SocketAddr {
    match admin {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}

fn token(reach: &Reach) -> anyhow::Result<String> {
    if let Some(file) = &reach.token_file {
        return from_file(file);
    }
    if let Some(token) = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.trim().is_empty()) {
        return Ok(token.trim().to_owned());
    }
    let beside = settings::file(&reach.config).map(|config| config.with_file_name("operator.token"));
    match beside.filter(|file| file.exists()) {
        Some(file) => from_file(&file),
        None => anyhow::bail!(
            "no operator's token: give --token-file FILE or {TOKEN_VARIABLE}; `floodgate key operator --name NAME` makes one"
        ),
    }
}

fn from_file(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read the token in {}", file.display()))?;
    Ok(text.trim().to_owned())
}
