//! The servers under test, each in a process of its own: this program, started again.

use crate::plain::{Constant, Forward, Joins, serve};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use service_kit::redis::{Redis, RedisConfig};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// First argument of a child; the second is a [`Role`] as JSON.
pub const HIDDEN: &str = "--child";

/// What a child is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Role {
    /// The gate itself, as `floodgate proxy` runs it.
    Gate { gate: serde_json::Value, ring: Vec<String>, redis_url: String },
    /// A bare Pingora that answers a constant.
    Constant { listen: SocketAddr, threads: usize, body: String },
    /// A bare Pingora that forwards.
    Forward { listen: SocketAddr, threads: usize, origin: SocketAddr },
    /// A bare Pingora with one script call per join.
    Joins { listen: SocketAddr, threads: usize, redis_url: String, keys: Vec<String> },
    /// What stands behind: answers every request with the same few bytes.
    Origin { listen: SocketAddr },
}

/// Runs a child until its parent ends it.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let role: Role = serde_json::from_str(args.first().context("a child needs its role")?)?;
    let config = |url: String| RedisConfig { url, connections: 2, command_timeout_ms: 5_000 };
    match role {
        Role::Gate { gate, ring, redis_url } => {
            let metrics = service_kit::telemetry::init_metrics("gate", proxy::HISTOGRAMS)?;
            let gate = serde_json::from_value(gate).context("the gate's settings")?;
            proxy::run(gate, service_kit::keys::KeysConfig { ring }, config(redis_url), metrics)
        }
        Role::Constant { listen, threads, body } => {
            serve(Constant { body: body.into() }, listen, threads);
            Ok(())
        }
        Role::Forward { listen, threads, origin } => {
            serve(Forward { origin }, listen, threads);
            Ok(())
        }
        Role::Joins { listen, threads, redis_url, keys } => {
            // As in the gate: connections live on a runtime of their own.
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            let redis = runtime.block_on(Redis::connect(&config(redis_url)))?;
            serve(Joins { redis, keys }, listen, threads);
            drop(runtime);
            Ok(())
        }
        Role::Origin { listen } => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(origin(listen))
        }
    }
}

/// Answers anything that ends like a request without a body.
async fn origin(listen: SocketAddr) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut buffer = Vec::with_capacity(4_096);
            while stream.read_buf(&mut buffer).await.is_ok_and(|n| n > 0) {
                if buffer.ends_with(b"\r\n\r\n") {
                    buffer.clear();
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\norigin";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}
