//! Starts children and waits until they answer.

use crate::child::{HIDDEN, Role};
use crate::load::Connection;
use anyhow::Context as _;
use service_kit::clock::monotonic;
use service_kit::private_store::{bound_command, spawn_bound};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Child;

/// Longest wait for a child.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// A running child. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    pub pid: u32,
    _child: Child,
}

/// An address that was free a moment ago.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

impl Server {
    /// Starts a child that listens on `address`.
    pub async fn start(role: &Role, address: SocketAddr) -> anyhow::Result<Self> {
        // Servers have a processor of their own, apart from the load generator and Redis: otherwise every answer may
        // preempt the server that sent it, and slow servers would look slower than they are.
        let own = std::env::current_exe()?;
        let mut command = if pinned() {
            let mut command = bound_command(Path::new("taskset"));
            command.args(["-c", "1"]).arg(own);
            command
        } else {
            bound_command(&own)
        };
        // Prometheus is not scraped here, and logs of a server under load are part of no figure.
        command.arg(HIDDEN).arg(serde_json::to_string(role)?).env("RUST_LOG", "off").stdout(Stdio::null());
        let child = spawn_bound(command).await.context("start a child")?;
        let pid = child.id().context("the child ended at once")?;
        let server = Self { address, pid, _child: child };
        let deadline = monotonic() + READY_TIMEOUT;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            anyhow::ensure!(monotonic() < deadline, "a child does not listen on {address}: {role:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    /// Repeats a GET until its answer pleases; returns the body.
    pub async fn until(&self, path: &str, good: impl Fn(u16, &str) -> bool) -> anyhow::Result<String> {
        let deadline = monotonic() + READY_TIMEOUT;
        let mut last = String::new();
        loop {
            if let Ok(mut connection) = Connection::open(self.address).await
                && let Ok(status) = connection.ask(&get(path, "")).await
            {
                let body = String::from_utf8_lossy(connection.body()).into_owned();
                if good(status, &body) {
                    return Ok(body);
                }
                last = format!("{status} {body}");
            }
            anyhow::ensure!(monotonic() < deadline, "GET {path} still says {last}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Whether there are processors to share out, and the means to do it.
pub fn pinned() -> bool {
    // Read once, before this process itself is pinned and sees one processor only.
    static PINNED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *PINNED.get_or_init(|| {
        let several = std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
        several && Path::new("/usr/bin/taskset").exists()
    })
}

/// Keeps this process, and Redis that it starts, on the first processor. Before any thread is made.
pub fn pin_generator() {
    if pinned() {
        let own = std::process::id().to_string();
        let _ = std::process::Command::new("taskset").args(["-pc", "0", &own]).stdout(Stdio::null()).status();
    }
}

/// The bytes of a GET; `headers` are whole lines.
pub fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: shop.example\r\naccept: */*\r\n{headers}\r\n").into_bytes()
}

/// The bytes of a POST without a body.
pub fn post(path: &str, headers: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nhost: shop.example\r\naccept: */*\r\ncontent-length: 0\r\n{headers}\r\n")
        .into_bytes()
}
