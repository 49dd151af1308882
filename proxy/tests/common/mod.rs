//! A private Redis, an origin that logs every hit, and a gate in a thread, all ended on drop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]
#![allow(dead_code, reason = "each test file uses its own part of this")]

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::PrometheusHandle;
use proxy::Config;
use queue::registry;
use queue::settings::RoomSettings;
use service_kit::ids::{DealId, RoomId};
use service_kit::keys::{KeyRing, KeysConfig};
use service_kit::private_store::{PrivateRedis, ScratchDir};
use service_kit::redis::{Redis, RedisConfig};
use service_kit::shutdown::{Trigger, channel};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::RwLock;

/// One request as the origin saw it.
#[derive(Debug, Clone)]
pub struct Hit {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Hit {
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }
}

type Log = Arc<RwLock<Vec<Hit>>>;

/// Everything a test needs.
pub struct World {
    pub base: String,
    pub address: SocketAddr,
    pub admin: String,
    pub deal: DealId,
    pub room: RoomId,
    pub keys: KeysConfig,
    pub redis: Redis,
    pub hits: Log,
    pub origin: tokio::task::JoinHandle<()>,
    stop: Option<Trigger>,
    gate: Option<JoinHandle<anyhow::Result<()>>>,
    server: Option<PrivateRedis>,
    dir: ScratchDir,
}

pub fn settings(deal: DealId) -> RoomSettings {
    serde_json::from_value(serde_json::json!({
        "room": RoomId::of_deal(deal), "title": "Shoes & <b>more</b>", "rate_per_s": 1_000, "inside_max": 1_000,
        "enter_path": format!("/deals/{deal}/buy"), "case_insensitive": true,
    }))
    .unwrap()
}

/// One for all worlds of a test program.
pub fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| service_kit::telemetry::init_metrics("gate-test", proxy::HISTOGRAMS).unwrap()).clone()
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl World {
    /// A gate in front of one deal whose room is changed by `change`.
    pub async fn start(change: impl Fn(&mut RoomSettings)) -> Self {
        Self::start_with(change, |_| {}).await
    }

    /// The same with a changed `[gate]` section.
    pub async fn start_with(
        change: impl Fn(&mut RoomSettings),
        change_config: impl Fn(&mut serde_json::Value),
    ) -> Self {
        service_kit::install_crypto_providers();
        if std::env::var_os("RUST_LOG").is_some() {
            service_kit::telemetry::init_logs();
        }
        let dir = ScratchDir::new().unwrap();
        let server = PrivateRedis::start(dir.path()).await.unwrap();
        let redis_config = RedisConfig { command_timeout_ms: 1_000, ..server.config() };
        let redis = Redis::connect(&redis_config).await.unwrap();
        let deal = DealId::new();
        let mut settings = settings(deal);
        change(&mut settings);
        registry::publish(&redis, &settings).await.unwrap();
        let hits: Log = Arc::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin_address = listener.local_addr().unwrap();
        let app = Router::new().fallback(origin).with_state(hits.clone());
        let origin = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let keys = KeysConfig { ring: vec![KeyRing::generate("k1")] };
        let (port, admin) = (free_port(), free_port());
        let mut config = serde_json::json!({
            "listen": format!("127.0.0.1:{port}"), "admin_listen": format!("127.0.0.1:{admin}"),
            "public_url": format!("http://127.0.0.1:{port}"), "cookie_secure": false,
            "limits": { "joins_per_s": 100_000, "joins_burst": 100_000, "polls_per_s": 100_000, "polls_burst": 100_000, "claims_per_s": 100_000, "claims_burst": 100_000 },
            "upstreams": [
                { "name": "shop", "address": origin_address.to_string() },
                { "name": "away", "address": format!("127.0.0.1:{}", free_port()) },
            ],
            "routes": [
                { "path": "/deals/{deal}/buy/*", "upstream": "shop", "room": "deal" },
                { "path": "/deals/{deal}/buy", "upstream": "shop", "room": "deal" },
                { "path": "/api/v1/deals/{deal}/holds", "upstream": "shop", "room": "deal", "holds": true },
                { "path": "/away/*", "upstream": "away" },
                { "path": "/open/*", "upstream": "shop" },
                { "path": "/", "upstream": "shop" },
            ],
        });
        change_config(&mut config);
        let config: Config = serde_json::from_value(config).unwrap();
        let (stop, shutdown) = channel();
        let gate = {
            let (keys, metrics) = (keys.clone(), metrics());
            std::thread::spawn(move || {
                proxy::run_until(config, keys, redis_config, metrics, Some(shutdown))
                    .inspect_err(|e| eprintln!("gate: {e:#}"))
            })
        };
        let world = Self {
            base: format!("http://127.0.0.1:{port}"),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            admin: format!("http://127.0.0.1:{admin}"),
            deal,
            room: RoomId::of_deal(deal),
            keys,
            redis,
            hits,
            origin,
            stop: Some(stop),
            gate: Some(gate),
            server: Some(server),
            dir,
        };
        world.until_ready().await;
        world
    }

    async fn until_ready(&self) {
        let client = client();
        for _ in 0..200 {
            let status = client.get(self.room_url("status")).send().await;
            if status.is_ok_and(|r| r.status() == 200) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the gate did not become ready");
    }

    pub fn room_url(&self, endpoint: &str) -> String {
        format!("{}/_floodgate/rooms/{}/{endpoint}", self.base, self.room)
    }
    pub fn buy(&self) -> String {
        format!("/deals/{}/buy", self.deal)
    }
    pub fn buy_url(&self) -> String {
        format!("{}{}", self.base, self.buy())
    }
    /// Somebody else's keys, under the same id.
    pub fn stranger_ring() -> KeyRing {
        KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("k1")] }).unwrap()
    }
    pub fn ring(&self) -> KeyRing {
        KeyRing::new(&self.keys).unwrap()
    }
    pub async fn log(&self) -> Vec<Hit> {
        self.hits.read().await.clone()
    }
    /// Ends Redis, as a crash would, and forgets what it had written.
    pub async fn kill_redis(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().await;
        }
        let _ = std::fs::remove_dir_all(self.dir.path().join("appendonlydir"));
    }
    /// Starts it again, empty.
    pub async fn start_redis_again(&mut self) {
        self.server = Some(PrivateRedis::start(self.dir.path()).await.unwrap());
    }
    /// Sends raw bytes on a connection of its own and returns everything that comes back.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
    /// Tells the gate to stop and waits for it; returns how long that took.
    pub fn stop(&mut self) -> Duration {
        let started = service_kit::clock::monotonic();
        if let Some(stop) = self.stop.take() {
            stop.stop();
        }
        if let Some(gate) = self.gate.take() {
            gate.join().unwrap().unwrap();
        }
        started.elapsed()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.stop();
        }
        if let Some(gate) = self.gate.take() {
            let _ = gate.join();
        }
        self.origin.abort();
    }
}

pub fn client() -> reqwest::Client {
    service_kit::install_crypto_providers();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

async fn origin(State(hits): State<Log>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let events = head.uri.path().ends_with("/events");
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    hits.write().await.push(Hit {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: head
            .headers
            .iter()
            .map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
            .collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    if events {
        let stream = futures::stream::unfold(0_u32, |n| async move {
            if n > 0 {
                tokio::time::sleep(Duration::from_millis(600)).await;
            }
            Some((Ok::<_, std::convert::Infallible>(format!("data: {n}\n\n")), n + 1))
        });
        return ([("content-type", "text/event-stream")], Body::from_stream(stream)).into_response();
    }
    let mut answer = ([("x-frame-options", "DENY")], "origin").into_response();
    // A path can make the origin speak to the gate.
    for (end, name, command) in
        [("/end", "floodgate-command", "end-session"), ("/revoke", "cf-waiting-room-command", "revoke")]
    {
        if head.uri.path().ends_with(end) {
            answer.headers_mut().insert(name, command.parse().unwrap());
        }
    }
    answer
}
