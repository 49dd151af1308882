//! What an event stream that is idle costs a gate: measured on the real executable, with its allocator.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use service_kit::keys::KeyRing;
use service_kit::private_store::{PrivateRedis, ScratchDir};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The goal, in bytes.
const BYTES_PER_STREAM_MAX: u64 = 8 * 1_024;
/// Streams that are opened, if the limit of open files allows it.
const STREAMS: u64 = 10_000;
/// Opened and closed first, so that what a gate allocates once is not counted.
const WARM_UP: u64 = 200;

struct Gate {
    process: Child,
    port: u16,
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Gate {
    fn start(folder: &ScratchDir, redis_url: &str) -> Self {
        let free_port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, admin, shop) = (free_port(), free_port(), free_port());
        let config = format!(
            r#"
            [keys]
            ring = ["{}"]
            [redis]
            url = "{redis_url}"
            [gate]
            listen = "127.0.0.1:{port}"
            admin_listen = "127.0.0.1:{admin}"
            public_url = "http://127.0.0.1:{port}"
            cookie_secure = false
            upstreams = [{{ name = "shop", address = "127.0.0.1:{shop}" }}]
            rooms = [{{ room = "shoes", title = "Shoes", rate_per_s = 1, inside_max = 1, paused = true, enter_path = "/buy" }}]
            routes = [{{ path = "/buy", upstream = "shop", room = "shoes" }}]
            [gate.limits]
            joins_per_s = 1000000
            joins_burst = 1000000
            polls_per_s = 1000000
            polls_burst = 1000000
            streams_per_address = 1000000
            "#,
            KeyRing::generate("k1")
        );
        let file = folder.path().join("gate.toml");
        std::fs::write(&file, config).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_floodgate"))
            .args(["proxy", "--config"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let gate = Self { process, port };
        for _ in 0..300 {
            if gate.request("GET", "status", "").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return gate;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the gate did not become ready");
    }

    fn connect(&self, method: &str, endpoint: &str, headers: &str) -> Option<TcpStream> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        let head = format!(
            "{method} /_floodgate/rooms/shoes/{endpoint} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n{headers}\r\n"
        );
        socket.write_all(head.as_bytes()).ok()?;
        Some(socket)
    }

    fn request(&self, method: &str, endpoint: &str, headers: &str) -> Option<String> {
        let mut socket =
            self.connect(method, endpoint, &format!("Connection: close\r\nContent-Length: 0\r\n{headers}"))?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn ticket(&self) -> String {
        let answer = self.request("POST", "tickets", "").unwrap();
        let json = answer.split_once("\r\n\r\n").unwrap().1;
        let document: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {answer}"));
        document["ticket"].as_str().unwrap().to_owned()
    }

    /// A stream that has had its first event.
    fn stream(&self, ticket: &str) -> TcpStream {
        let mut socket = self.connect("GET", "events", &format!("Floodgate-Ticket: {ticket}\r\n")).unwrap();
        let mut text = Vec::new();
        let mut part = [0_u8; 4_096];
        while !text.windows(7).any(|w| w == b"data: {") {
            let n = socket.read(&mut part).unwrap();
            text.extend_from_slice(&part[..n]);
            let so_far = String::from_utf8_lossy(&text);
            // A refusal leaves the connection open and costs more than a stream.
            assert!(n > 0 && so_far.starts_with("HTTP/1.1 200"), "no stream: {so_far}");
        }
        socket
    }

    fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1_024
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_stream_costs_the_gate_at_most_8_kib() {
    let folder = ScratchDir::new().unwrap();
    let server = PrivateRedis::start(folder.path()).await.unwrap();
    let gate = Gate::start(&folder, &server.config().url);
    // Both sides keep one file per stream open, and the gate gives streams three quarters of its own.
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = STREAMS.min(files / 2);
    let tickets: Vec<String> = (0..count).map(|_| gate.ticket()).collect();
    let warm: Vec<TcpStream> = tickets.iter().take(WARM_UP as usize).map(|ticket| gate.stream(ticket)).collect();
    drop(warm);
    std::thread::sleep(Duration::from_secs(2));
    let before = gate.resident_bytes();
    let streams: Vec<TcpStream> = tickets.iter().map(|ticket| gate.stream(ticket)).collect();
    // Idle, with heartbeats: what an event needs for a moment is given back.
    std::thread::sleep(Duration::from_secs(3));
    let grown = gate.resident_bytes().saturating_sub(before);
    let each = grown / count;
    println!("{count} idle event streams: {} KiB of memory, {each} bytes each", grown / 1_024);
    assert!(each <= BYTES_PER_STREAM_MAX, "{each} bytes per stream, at most {BYTES_PER_STREAM_MAX}");
    drop(streams);
    drop(server);
}
