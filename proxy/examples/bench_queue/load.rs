//! The load generator: keep-alive connections, one request at a time on each, fixed bytes. Two threads, each with a
//! queue of its own that is served in order, so that the generator does not favour some connections over others.

use crate::histogram::Histogram;
use anyhow::Context as _;
use service_kit::clock::monotonic;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const THREADS: usize = 2;
/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer.
const ANSWER_BYTES_MAX: usize = 64 * 1_024;

/// What to send.
#[derive(Debug, Clone)]
pub struct Job {
    pub target: SocketAddr,
    /// Taken in turn.
    pub requests: Arc<Vec<Vec<u8>>>,
    pub connections: usize,
    pub total: usize,
    /// Requests per second over all connections; `None` = each connection sends as soon as it has its answer.
    pub rate_per_s: Option<f64>,
}

/// What came back.
#[derive(Debug, Default)]
pub struct Outcome {
    pub latency: Histogram,
    /// Answers whose status is not 2xx, and the last of them.
    pub failed: usize,
    pub failure: Option<String>,
    pub took: Duration,
}

/// Runs a job to its end; blocks.
pub fn run(job: &Job) -> anyhow::Result<Outcome> {
    let next = Arc::new(AtomicUsize::new(0));
    let started = monotonic();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (job, next) = (job.clone(), next.clone());
            std::thread::spawn(move || one_thread(&job, &next, thread))
        })
        .collect();
    let mut all = Outcome::default();
    for thread in threads {
        let part = thread.join().map_err(|_| anyhow::anyhow!("a thread of the load generator failed"))??;
        all.latency.add(&part.latency);
        all.failed += part.failed;
        all.failure = part.failure.or(all.failure);
    }
    all.took = started.elapsed();
    Ok(all)
}

fn one_thread(job: &Job, next: &Arc<AtomicUsize>, thread: usize) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let started = monotonic();
        let mut clients = tokio::task::JoinSet::new();
        let local = tokio::task::LocalSet::new();
        for i in (0..job.connections).filter(|i| i % THREADS == thread) {
            let (job, next) = (job.clone(), next.clone());
            clients.spawn_local_on(async move { client(&job, &next, i, started).await }, &local);
        }
        let mut all = Outcome::default();
        local
            .run_until(async {
                while let Some(part) = clients.join_next().await {
                    let part = part??;
                    all.latency.add(&part.latency);
                    all.failed += part.failed;
                    all.failure = part.failure.or(all.failure.take());
                }
                anyhow::Ok(())
            })
            .await?;
        Ok(all)
    })
}

async fn client(job: &Job, next: &AtomicUsize, i: usize, started: Instant) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut connection = Connection::open(job.target).await?;
    for round in 0_u32.. {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= job.total {
            break;
        }
        let Some(request) = job.requests.get(n % job.requests.len().max(1)) else { break };
        let mut sent = monotonic();
        if let Some(rate) = job.rate_per_s {
            let at = (f64::from(round) * job.connections as f64 + i as f64) / rate;
            let planned = started + Duration::from_secs_f64(at);
            if planned > sent {
                tokio::time::sleep_until(planned.into()).await;
                sent = monotonic();
            } else {
                // Late because the answer before was late: that wait counts.
                sent = planned;
            }
        }
        let status = connection.ask(request).await?;
        outcome.latency.record(sent.elapsed());
        if !(200..300).contains(&status) {
            outcome.failed += 1;
            outcome.failure = Some(connection.text());
        }
        if connection.ended {
            connection = Connection::open(job.target).await?;
        }
    }
    Ok(outcome)
}

/// One keep-alive connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The server said that this was the last answer.
    pub ended: bool,
}

impl Connection {
    pub async fn open(target: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target).await.context("connect")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(2_048), ended: false })
    }
    /// Sends a request and reads its answer; returns the status.
    pub async fn ask(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        self.stream.write_all(request).await.context("send")?;
        self.buffer.clear();
        let whole = tokio::time::timeout(ANSWER_TIMEOUT, self.read_answer()).await.context("no answer in 30 s")??;
        Ok(whole)
    }
    /// Reads only the head of an answer (for streams).
    pub async fn ask_head(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        while !self.buffer.windows(4).any(|w| w == b"\r\n\r\n") {
            anyhow::ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
        }
        status_of(&self.buffer)
    }
    /// The last answer as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }
    /// The body of the last answer.
    pub fn body(&self) -> &[u8] {
        let head = self.buffer.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |i| i + 4);
        self.buffer.get(head..).unwrap_or(&[])
    }
    async fn read_answer(&mut self) -> anyhow::Result<u16> {
        let mut whole = None;
        loop {
            if whole.is_none()
                && let Some(head) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n")
            {
                let text = std::str::from_utf8(self.buffer.get(..head).unwrap_or(&[]))?.to_ascii_lowercase();
                let value = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
                let length: usize = value("content-length:").unwrap_or("0").parse()?;
                self.ended = value("connection:") == Some("close");
                whole = Some(head + 4 + length);
            }
            if whole.is_some_and(|whole| self.buffer.len() >= whole) {
                return status_of(&self.buffer);
            }
            anyhow::ensure!(self.buffer.len() < ANSWER_BYTES_MAX, "an answer is too large");
            anyhow::ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
        }
    }
}

fn status_of(answer: &[u8]) -> anyhow::Result<u16> {
    let line = answer.get(9..12).context("a short answer")?;
    Ok(std::str::from_utf8(line)?.parse()?)
}
