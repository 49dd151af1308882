//! One private Redis and any number of gates with one static room, three operators and a journal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use service_kit::keys::{KeyRing, KeysConfig};
use service_kit::operator::{NewOperator, Role};
use service_kit::private_store::{PrivateRedis, ScratchDir};
use service_kit::redis::{Redis, RedisConfig};
use service_kit::shutdown::{Trigger, channel};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest wait for something that is to happen.
const AWAIT: Duration = Duration::from_secs(20);

/// One running gate.
pub struct Gate {
    pub base: String,
    pub admin: String,
    stop: Option<Trigger>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

/// Everything a test needs.
pub struct House {
    pub redis: Redis,
    pub viewer: String,
    pub operator: String,
    pub chief: String,
    pub gates: Vec<Gate>,
    pub http: reqwest::Client,
    entries: Value,
    keys: KeysConfig,
    redis_config: RedisConfig,
    dir: ScratchDir,
    _server: PrivateRedis,
}

fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| service_kit::telemetry::init_metrics("gate-test", proxy::HISTOGRAMS).unwrap()).clone()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl House {
    pub async fn start(gates: usize) -> Self {
        service_kit::install_crypto_providers();
        let dir = ScratchDir::new().unwrap();
        let server = PrivateRedis::start(dir.path()).await.unwrap();
        let redis_config = RedisConfig { command_timeout_ms: 2_000, ..server.config() };
        let redis = Redis::connect(&redis_config).await.unwrap();
        let people = [("vera", Role::Viewer), ("otto", Role::Operator), ("anna", Role::Admin)]
            .map(|(name, role)| NewOperator::generate(name, role).unwrap());
        let entries = people
            .each_ref()
            .map(|p| json!({ "name": p.config.name, "role": p.config.role, "token_sha256": p.config.token_sha256 }));
        let [viewer, operator, chief] = people.map(|p| p.token);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let keys = KeysConfig { ring: vec![KeyRing::generate("k1")] };
        let entries = json!(entries);
        let gates_wanted = gates;
        let gates = Vec::new();
        let mut house =
            Self { redis, viewer, operator, chief, gates, http, entries, keys, redis_config, dir, _server: server };
        for _ in 0..gates_wanted {
            house.add_gate().await;
        }
        house
    }

    pub fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    /// Starts one more gate and waits until it serves the room.
    pub async fn add_gate(&mut self) {
        let (port, admin) = (free_port(), free_port());
        let config = json!({
            "listen": format!("127.0.0.1:{port}"), "admin_listen": format!("127.0.0.1:{admin}"),
            "public_url": format!("http://127.0.0.1:{port}"), "cookie_secure": false,
            "upstreams": [{ "name": "shop", "address": format!("127.0.0.1:{}", free_port()) }],
            "routes": [{ "path": "/buy", "upstream": "shop", "room": "drop" }],
            "rooms": [{ "room": "drop", "title": "The drop", "rate_per_s": 100, "inside_max": 100, "enter_path": "/buy" }],
            "journal_dir": self.journal(), "operators": self.entries,
        });
        let config: proxy::Config = serde_json::from_value(config).unwrap();
        let (stop, shutdown) = channel();
        let (keys, redis, metrics) = (self.keys.clone(), self.redis_config.clone(), metrics());
        let thread = std::thread::spawn(move || {
            proxy::run_until(config, keys, redis, metrics, Some(shutdown)).inspect_err(|e| eprintln!("gate: {e:#}"))
        });
        self.gates.push(Gate {
            base: format!("http://127.0.0.1:{port}"),
            admin: format!("http://127.0.0.1:{admin}"),
            stop: Some(stop),
            thread: Some(thread),
        });
        let last = self.gates.len() - 1;
        self.until("the gate serves the room", async || self.board(last).await.is_some_and(|b| b["state"] == "open"))
            .await;
    }

    /// What everybody may read about the room at a gate.
    pub async fn board(&self, gate: usize) -> Option<Value> {
        let url = format!("{}/_floodgate/rooms/drop/board", self.gates[gate].base);
        self.http.get(url).send().await.ok()?.json().await.ok()
    }

    /// Waits for something to become true.
    pub async fn until(&self, what: &str, check: impl AsyncFn() -> bool) {
        let wait = async {
            while !check().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(AWAIT, wait).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
    }

    /// A request to the operators' API of the first gate.
    pub async fn get(&self, token: &str, path: &str) -> (u16, String) {
        let request = self.http.get(format!("{}{path}", self.gates[0].admin)).bearer_auth(token);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// A command at a gate; status and document.
    pub async fn post(&self, gate: usize, token: &str, path: &str, key: Option<&str>, body: &Value) -> (u16, Value) {
        let url = format!("{}/v1/rooms/{path}", self.gates[gate].admin);
        let mut request = self.http.post(url).bearer_auth(token).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// Ends a gate in order: its journal is closed.
    pub fn stop(&mut self, gate: usize) {
        let gate = &mut self.gates[gate];
        if let Some(stop) = gate.stop.take() {
            stop.stop();
        }
        if let Some(thread) = gate.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for gate in &mut self.gates {
            if let Some(stop) = gate.stop.take() {
                stop.stop();
            }
        }
        for gate in &mut self.gates {
            if let Some(thread) = gate.thread.take() {
                let _ = thread.join();
            }
        }
    }
}
