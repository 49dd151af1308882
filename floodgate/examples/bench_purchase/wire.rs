//! The crowd: keep-alive connections, raw bytes, one request at a time on each.

use anyhow::Context as _;
use service_kit::clock::monotonic;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer.
const ANSWER_BYTES_MAX: usize = 256 * 1_024;

/// Requests as bytes.
pub type Requests = Arc<Vec<Vec<u8>>>;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }
    /// This answer, if its status is the one.
    pub fn expect(self, status: u16) -> anyhow::Result<Self> {
        anyhow::ensure!(
            self.status == status,
            "{} instead of {status}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        Ok(self)
    }
}

/// One keep-alive connection; opened again when the server ends it.
#[derive(Debug)]
pub struct Connection {
    target: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn new(target: SocketAddr) -> Self {
        Self { target, stream: None, buffer: Vec::with_capacity(4_096) }
    }
    /// Connects if it is not yet.
    pub async fn open(&mut self) -> anyhow::Result<()> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.target).await.context("connect")?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        Ok(())
    }
    pub async fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.open().await?;
        tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(request)).await.context("no answer in a minute")?
    }
    async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        let stream = self.stream.as_mut().context("not connected")?;
        stream.write_all(request).await.context("send")?;
        self.buffer.clear();
        let mut whole = None;
        loop {
            if whole.is_none()
                && let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n")
            {
                let head = std::str::from_utf8(self.buffer.get(..at).unwrap_or(&[]))?.to_owned();
                let status = head.get(9..12).context("a short answer")?.parse()?;
                let answer = Answer { status, head, body: Vec::new() };
                let length: usize = answer.header("content-length").unwrap_or("0").parse()?;
                anyhow::ensure!(answer.header("transfer-encoding").is_none(), "an answer in chunks");
                whole = Some((answer, at + 4, at + 4 + length));
            }
            if let Some((answer, body, end)) = &mut whole
                && self.buffer.len() >= *end
            {
                answer.body = self.buffer.get(*body..*end).unwrap_or(&[]).to_vec();
                if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                    self.stream = None;
                }
                return Ok(answer.clone());
            }
            anyhow::ensure!(self.buffer.len() < ANSWER_BYTES_MAX, "an answer is too large");
            anyhow::ensure!(stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
        }
    }
}

/// What came back.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Milliseconds, from the moment when a request was to be sent.
    pub latencies_ms: Vec<f64>,
    pub answers: Vec<Answer>,
    pub took_s: f64,
    failed: usize,
    failure: String,
}

impl Outcome {
    /// Itself, unless an answer had another status than it should.
    pub fn whole(self, what: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(self.failed == 0, "{what}: {} refused, the last with {}", self.failed, self.failure);
        Ok(self)
    }
    fn take(&mut self, answer: Answer, status: u16, latency: Duration, keep: bool) {
        self.latencies_ms.push(latency.as_secs_f64() * 1_000.0);
        if answer.status != status {
            self.failed += 1;
            self.failure = format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        if keep {
            self.answers.push(answer);
        }
    }
    fn add(&mut self, other: Self) {
        self.latencies_ms.extend(other.latencies_ms);
        self.answers.extend(other.answers);
        self.failed += other.failed;
        if other.failed > 0 {
            self.failure = other.failure;
        }
    }
}

/// What a crowd sends.
#[derive(Debug, Clone)]
pub struct Job {
    pub target: SocketAddr,
    /// Each once, in this order; with `total` above their number, again from the beginning.
    pub requests: Requests,
    pub total: usize,
    pub connections: usize,
    /// The status that every answer must have.
    pub status: u16,
    /// Whether answers are kept.
    pub keep: bool,
}

/// Every connection sends its next request as soon as it has its answer.
pub async fn at_once(job: &Job) -> anyhow::Result<Outcome> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    let started = monotonic();
    for _ in 0..job.connections.min(job.total) {
        let (job, next) = (job.clone(), next.clone());
        clients.spawn(async move {
            let (mut outcome, mut connection) = (Outcome::default(), Connection::new(job.target));
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let Some(request) = job.requests.get(n % job.requests.len().max(1)).filter(|_| n < job.total) else {
                    return anyhow::Ok(outcome);
                };
                let sent = monotonic();
                let answer = connection.ask(request).await?;
                outcome.take(answer, job.status, sent.elapsed(), job.keep);
            }
        });
    }
    collect(clients, started).await
}

/// Requests leave at a fixed rate, whatever the answers do, until all are sent or `stop` is set. A request that leaves
/// late because the one before on its connection was late is counted from when it should have left.
pub async fn paced(job: &Job, rate_per_s: f64, stop: Arc<AtomicBool>) -> anyhow::Result<Outcome> {
    let mut clients = JoinSet::new();
    let started = monotonic();
    for i in 0..job.connections {
        let (job, stop) = (job.clone(), stop.clone());
        clients.spawn(async move {
            let (mut outcome, mut connection) = (Outcome::default(), Connection::new(job.target));
            connection.open().await?;
            for n in (i..job.total).step_by(job.connections) {
                let planned = started + Duration::from_secs_f64(n as f64 / rate_per_s);
                tokio::time::sleep_until(planned.into()).await;
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let Some(request) = job.requests.get(n % job.requests.len().max(1)) else { break };
                let answer = connection.ask(request).await?;
                outcome.take(answer, job.status, planned.elapsed(), job.keep);
            }
            anyhow::Ok(outcome)
        });
    }
    collect(clients, started).await
}

async fn collect(
    mut clients: JoinSet<anyhow::Result<Outcome>>,
    started: std::time::Instant,
) -> anyhow::Result<Outcome> {
    let mut all = Outcome::default();
    while let Some(part) = clients.join_next().await {
        all.add(part??);
    }
    all.took_s = started.elapsed().as_secs_f64();
    Ok(all)
}

/// The bytes of a GET; `headers` are whole lines.
pub fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: shop.example\r\naccept: */*\r\n{headers}\r\n").into_bytes()
}

/// The bytes of a POST; `headers` are whole lines.
pub fn post(path: &str, headers: &str, content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: shop.example\r\naccept: application/json\r\n{headers}content-type: {content_type}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
