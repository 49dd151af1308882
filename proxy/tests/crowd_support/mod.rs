//! Two gates on one private Redis (or, with `FLOODGATE_TEST_REDIS=cluster`, a cluster), and raw keep-alive clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use metrics_exporter_prometheus::PrometheusHandle;
use proxy::Config;
use queue::registry;
use queue::settings::RoomSettings;
use queue::ticket::{Ticket, TicketSigner};
use service_kit::ids::{DealId, RoomId};
use service_kit::keys::{KeyRing, KeysConfig};
use service_kit::private_cluster::PrivateCluster;
use service_kit::private_store::{PrivateRedis, ScratchDir};
use service_kit::redis::{Redis, RedisConfig};
use service_kit::shutdown::{Trigger, channel};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest wait for an answer, and for a gate to be ready.
const PATIENCE: Duration = Duration::from_secs(30);

struct Gate {
    address: SocketAddr,
    stop: Option<Trigger>,
    thread: Option<JoinHandle<()>>,
}

/// Held only to be ended on drop.
enum Store {
    One { _server: PrivateRedis },
    Cluster { _cluster: PrivateCluster },
}

/// Two gates, one room, one store. All of it ends on drop.
pub struct Gates {
    pub redis: Redis,
    pub room: Arc<RoomSettings>,
    keys: KeysConfig,
    redis_config: RedisConfig,
    gates: Vec<Gate>,
    _store: Store,
    _directory: ScratchDir,
}

fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| service_kit::telemetry::init_metrics("crowd-test", proxy::HISTOGRAMS).unwrap()).clone()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Gates {
    pub async fn start(change: impl Fn(&mut RoomSettings)) -> Self {
        service_kit::install_crypto_providers();
        let directory = ScratchDir::new().unwrap();
        let (store, redis_config) = if std::env::var("FLOODGATE_TEST_REDIS").is_ok_and(|kind| kind == "cluster") {
            let cluster = PrivateCluster::start(directory.path()).await.unwrap();
            let config = cluster.config();
            (Store::Cluster { _cluster: cluster }, config)
        } else {
            let server = PrivateRedis::start(directory.path()).await.unwrap();
            let config = server.config();
            (Store::One { _server: server }, config)
        };
        let redis_config = RedisConfig { command_timeout_ms: 10_000, ..redis_config };
        let redis = Redis::connect(&redis_config).await.unwrap();
        let deal = DealId::new();
        let mut room = RoomSettings::new(RoomId::of_deal(deal), "Shoes".into(), 1, 1);
        super::base(&mut room);
        change(&mut room);
        registry::publish(&redis, &room).await.unwrap();
        let keys = KeysConfig { ring: vec![KeyRing::generate("k1")] };
        let mut gates = Self {
            redis,
            room: Arc::new(room),
            keys,
            redis_config,
            gates: Vec::new(),
            _store: store,
            _directory: directory,
        };
        for _ in 0..2 {
            let gate = gates.start_gate(free_address());
            gates.gates.push(gate);
        }
        for gate in 0..2 {
            gates.until_ready(gate).await;
        }
        gates
    }

    fn start_gate(&self, address: SocketAddr) -> Gate {
        let most = 1_000_000;
        let config: Config = serde_json::from_value(serde_json::json!({
            "listen": address, "admin_listen": free_address(), "public_url": format!("http://{address}"),
            "cookie_secure": false,
            "limits": {
                "joins_per_s": most, "joins_burst": most, "claims_per_s": most, "claims_burst": most,
                "polls_per_s": most, "polls_burst": most,
            },
            "upstreams": [{ "name": "shop", "address": "127.0.0.1:9" }],
            "routes": [{ "path": "/deals/{deal}/buy", "upstream": "shop", "room": "deal" }],
        }))
        .unwrap();
        let (keys, redis, metrics) = (self.keys.clone(), self.redis_config.clone(), metrics());
        let (stop, shutdown) = channel();
        let run = move || proxy::run_until(config, keys, redis, metrics, Some(shutdown)).unwrap();
        Gate { address, stop: Some(stop), thread: Some(std::thread::spawn(run)) }
    }

    /// Stops a gate as a deployment does, and starts it again at the same address.
    pub async fn restart(&mut self, gate: usize) {
        let address = self.gates[gate].address;
        let (stop, thread) = (self.gates[gate].stop.take().unwrap(), self.gates[gate].thread.take().unwrap());
        stop.stop();
        tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
        self.gates[gate] = self.start_gate(address);
        self.until_ready(gate).await;
    }

    async fn until_ready(&self, gate: usize) {
        let mut client = Client::new(self.address(gate));
        let ready = async {
            while !client.get(&self.status_path()).await.is_ok_and(|(status, _)| status == 200) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("the gate becomes ready");
    }

    pub fn address(&self, gate: usize) -> SocketAddr {
        self.gates[gate].address
    }
    pub fn addresses(&self) -> [SocketAddr; 2] {
        [self.address(0), self.address(1)]
    }
    pub fn ring(&self) -> Arc<(TicketSigner, RoomId)> {
        Arc::new((TicketSigner::new(&KeyRing::new(&self.keys).unwrap()), self.room.room.clone()))
    }
    fn path(&self, endpoint: &str) -> String {
        format!("/_floodgate/rooms/{}/{endpoint}", self.room.room)
    }
    pub fn join_path(&self) -> String {
        self.path("tickets")
    }
    pub fn status_path(&self) -> String {
        self.path("status")
    }
    pub fn pass_path(&self) -> String {
        self.path("pass")
    }
    pub fn ticket_path(&self) -> String {
        self.path("ticket")
    }
}

impl Drop for Gates {
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

/// The ticket in the answer to a join, its signature checked.
pub fn ticket_of((signer, room): &(TicketSigner, RoomId), body: &str) -> Ticket {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    signer.verify(body["ticket"].as_str().expect("a ticket"), room).expect("a ticket of this room")
}

/// One keep-alive connection that is opened again when it breaks.
pub struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }
    pub async fn get(&mut self, path: &str) -> std::io::Result<(u16, String)> {
        self.ask("GET", path, "").await
    }
    pub async fn post(&mut self, path: &str, headers: &str) -> std::io::Result<(u16, String)> {
        self.ask("POST", path, headers).await
    }
    pub async fn delete(&mut self, path: &str, headers: &str) -> std::io::Result<(u16, String)> {
        self.ask("DELETE", path, headers).await
    }

    async fn ask(&mut self, method: &str, path: &str, headers: &str) -> std::io::Result<(u16, String)> {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 0\r\n{headers}\r\n");
        let asked = async {
            let mut stream = match self.stream.take() {
                Some(stream) => stream,
                None => TcpStream::connect(self.address).await?,
            };
            stream.set_nodelay(true)?;
            stream.write_all(request.as_bytes()).await?;
            let (status, keep, body) = answer(&mut stream).await?;
            self.stream = keep.then_some(stream);
            Ok((status, body))
        };
        let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer");
        let result = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()));
        if result.is_err() {
            // A gate that is being restarted refuses at once: do not spin.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        result
    }
}

/// Status, whether the connection stays, and body.
async fn answer(stream: &mut TcpStream) -> std::io::Result<(u16, bool, String)> {
    let mut bytes = Vec::with_capacity(2_048);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let value = |name: &str| head.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        let length: usize = value("content-length:").map_or(0, |v| v.parse().unwrap());
        if bytes.len() >= end + 4 + length {
            let body = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
            return Ok((head[9..12].parse().unwrap(), value("connection:") != Some("close"), body));
        }
    }
}
