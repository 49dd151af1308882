//! A TCP proxy that does harm on command, between two processes on this machine.
//!
//! One proxy stands in one hop (gate → deal service, service → Redis, service → PostgreSQL, adapter → provider). What it
//! does is one value, [`Toxics`], that may be exchanged at any time and holds for open connections too. Chance comes
//! from a seed. Two kinds of harm matter most: *half open* (one direction stops, nobody is told) and *swallow* (the
//! request goes through, its reply does not, the connection closes): after them nobody at our side knows what happened.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Longest pause that a slow line makes before one chunk, in ms.
const PAUSE_MS_MAX: u64 = 30_000;

/// A direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Reply,
}

/// What a proxy does to its bytes. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toxics {
    /// Each chunk comes this much later, in ms.
    pub latency_ms: u64,
    /// And up to this much more, in ms.
    pub jitter_ms: u64,
    /// No more than this many bytes per second and direction; 0 = no limit.
    pub bandwidth_bytes_per_s: u64,
    /// Chunks are sent in slices of this many bytes, each flushed; 0 = whole.
    pub slice_bytes: usize,
    /// Bytes of this direction are kept back: the connection is half open.
    pub hold: Option<Way>,
    /// The connection is reset once this many bytes of replies have passed.
    pub limit_reply_bytes: Option<u64>,
    /// New connections are reset at once.
    pub refuse: bool,
}

/// Where the bytes go.
#[derive(Debug, Clone)]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// The handle of a running proxy. It stops when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct TcpProxy {
    shared: Arc<Shared>,
    /// Where it listens.
    pub address: SocketAddr,
}

#[derive(Debug)]
struct Shared {
    toxics: watch::Sender<Toxics>,
    /// Raised by each cut: connections of an older generation are reset.
    generation: watch::Sender<u64>,
    /// How many replies are still to be swallowed.
    swallow: AtomicU32,
    /// Only after a request that contains these bytes; empty = any.
    needle: watch::Sender<Vec<u8>>,
    swallowed: AtomicU64,
    seed: AtomicU64,
    listener: tokio::task::AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.listener.abort();
        let _ = self.generation.send(u64::MAX);
    }
}

impl TcpProxy {
    /// Listens on a free port of the loopback and forwards to `target`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(target: Target, seed: u64) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        // The accept loop gets its handle through a channel, because the handle holds the loop.
        let (give, take) = tokio::sync::oneshot::channel::<std::sync::Weak<Shared>>();
        let task = tokio::spawn(async move {
            let Ok(shared) = take.await else { return };
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let Some(shared) = shared.upgrade() else { return };
                let connection = Connection::new(&shared);
                drop(shared);
                tokio::spawn(connection.serve(client, target.clone()));
            }
        });
        let shared = Arc::new(Shared {
            toxics: watch::Sender::new(Toxics::default()),
            generation: watch::Sender::new(0),
            swallow: AtomicU32::new(0),
            needle: watch::Sender::new(Vec::new()),
            swallowed: AtomicU64::new(0),
            seed: AtomicU64::new(seed),
            listener: task.abort_handle(),
        });
        let _ = give.send(Arc::downgrade(&shared));
        Ok(Self { shared, address })
    }

    /// From now on this, for every connection.
    pub fn set(&self, toxics: Toxics) {
        self.shared.toxics.send_replace(toxics);
    }

    /// Does no harm any more. Bytes that were held back go on.
    pub fn heal(&self) {
        self.set(Toxics::default());
        self.shared.swallow.store(0, Ordering::SeqCst);
    }

    /// Resets every open connection (RST). New ones are taken unless [`Toxics::refuse`] is on.
    pub fn cut(&self) {
        self.shared.generation.send_modify(|generation| *generation = generation.saturating_add(1));
    }

    /// Forwards the next `times` requests that contain `needle`, swallows the reply of each, and closes.
    pub fn swallow(&self, times: u32, needle: &[u8]) {
        self.shared.needle.send_replace(needle.to_vec());
        self.shared.swallow.store(times, Ordering::SeqCst);
    }

    /// How many replies were swallowed so far.
    pub fn swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::SeqCst)
    }
}

/// One connection's view of its proxy. It does not keep the proxy alive.
struct Connection {
    shared: std::sync::Weak<Shared>,
    toxics: watch::Receiver<Toxics>,
    generation: watch::Receiver<u64>,
    born: u64,
    dice: StdRng,
}

/// Why a direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The sender closed its half.
    Closed,
    /// Everything must go, with a reset.
    Reset,
}

impl Connection {
    fn new(shared: &Arc<Shared>) -> Self {
        let mut generation = shared.generation.subscribe();
        let born = *generation.borrow_and_update();
        let seed = shared.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        Self {
            shared: Arc::downgrade(shared),
            toxics: shared.toxics.subscribe(),
            generation,
            born,
            dice: StdRng::seed_from_u64(seed),
        }
    }

    async fn serve(mut self, client: TcpStream, target: Target) {
        if self.toxics.borrow().refuse {
            reset(client);
            return;
        }
        let _ = client.set_nodelay(true);
        match target {
            Target::Tcp(address) => match TcpStream::connect(address).await {
                Ok(server) => {
                    let _ = server.set_nodelay(true);
                    let (mut client, mut server) = (client, server);
                    let (client_read, client_write) = client.split();
                    let (server_read, server_write) = server.split();
                    if self.pump(client_read, client_write, server_read, server_write).await == End::Reset {
                        reset(server);
                        reset(client);
                    }
                }
                Err(_) => reset(client),
            },
            Target::Unix(path) => match UnixStream::connect(path).await {
                Ok(mut server) => {
                    let mut client = client;
                    let (client_read, client_write) = client.split();
                    let (server_read, server_write) = server.split();
                    if self.pump(client_read, client_write, server_read, server_write).await == End::Reset {
                        reset(client);
                    }
                }
                Err(_) => reset(client),
            },
        }
    }

    /// Moves bytes both ways until both ends are closed or the connection is to be reset.
    async fn pump(
        &mut self,
        client_read: impl AsyncRead + Unpin,
        client_write: impl AsyncWrite + Unpin,
        server_read: impl AsyncRead + Unpin,
        server_write: impl AsyncWrite + Unpin,
    ) -> End {
        let asked = Arc::new(watch::Sender::new(false));
        let (born, mut generation) = (self.born, self.generation.clone());
        let (request_seed, reply_seed) = (self.dice.random(), self.dice.random());
        let line = |way, seed| Line {
            way,
            shared: self.shared.clone(),
            toxics: self.toxics.clone(),
            asked: asked.clone(),
            passed_bytes: 0,
            dice: StdRng::seed_from_u64(seed),
        };
        let mut requests = line(Way::Request, request_seed);
        let mut replies = line(Way::Reply, reply_seed);
        let both = async {
            let mut there = std::pin::pin!(requests.run(client_read, server_write));
            let mut back = std::pin::pin!(replies.run(server_read, client_write));
            // A client that closed its half may still read; a reset of either way ends both.
            tokio::select! {
                end = &mut there => if end == End::Reset { End::Reset } else { back.await },
                end = &mut back => if end == End::Reset { End::Reset } else { there.await },
            }
        };
        tokio::select! {
            end = both => end,
            _ = generation.wait_for(|generation| *generation != born) => End::Reset,
        }
    }
}

/// One direction of one connection.
struct Line {
    way: Way,
    shared: std::sync::Weak<Shared>,
    toxics: watch::Receiver<Toxics>,
    /// Whether the last request was one whose reply is to be swallowed.
    asked: Arc<watch::Sender<bool>>,
    passed_bytes: u64,
    dice: StdRng,
}

impl Line {
    async fn run(&mut self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> End {
        let mut chunk = vec![0_u8; CHUNK_BYTES];
        loop {
            let length = match from.read(&mut chunk).await {
                Ok(0) => {
                    let _ = to.shutdown().await;
                    return End::Closed;
                }
                Ok(length) => length,
                Err(_) => return End::Reset,
            };
            let bytes = chunk.get(..length).unwrap_or(&[]);
            if self.swallows(bytes) {
                return End::Reset;
            }
            if self.forward(bytes, &mut to).await == End::Reset {
                return End::Reset;
            }
        }
    }

    /// Notes what a request is; says whether a reply is to vanish, with its connection.
    fn swallows(&self, bytes: &[u8]) -> bool {
        let Some(shared) = self.shared.upgrade() else { return false };
        match self.way {
            Way::Request => {
                if shared.swallow.load(Ordering::SeqCst) > 0 {
                    let needle = shared.needle.borrow();
                    let found = needle.is_empty() || bytes.windows(needle.len()).any(|part| part == needle.as_slice());
                    if found {
                        self.asked.send_replace(true);
                    }
                }
                false
            }
            Way::Reply => {
                if !*self.asked.borrow() {
                    return false;
                }
                self.asked.send_replace(false);
                let one_less = |left: u32| left.checked_sub(1);
                let mine = shared.swallow.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
                if mine {
                    shared.swallowed.fetch_add(1, Ordering::SeqCst);
                }
                mine
            }
        }
    }

    async fn forward(&mut self, bytes: &[u8], to: &mut (impl AsyncWrite + Unpin)) -> End {
        // Held back until somebody heals the line.
        let way = self.way;
        let waited = self.toxics.wait_for(|toxics| toxics.hold != Some(way)).await.is_ok();
        if !waited {
            return End::Reset;
        }
        let toxics = self.toxics.borrow_and_update().clone();
        let late_ms = match toxics.jitter_ms {
            0 => toxics.latency_ms,
            jitter_ms => toxics.latency_ms.saturating_add(self.dice.random_range(0..=jitter_ms)),
        };
        pause(late_ms).await;
        let slice = if toxics.slice_bytes == 0 { bytes.len() } else { toxics.slice_bytes };
        for part in bytes.chunks(slice.max(1)) {
            if way == Way::Reply {
                self.passed_bytes = self.passed_bytes.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
                if toxics.limit_reply_bytes.is_some_and(|limit| self.passed_bytes > limit) {
                    return End::Reset;
                }
            }
            if to.write_all(part).await.is_err() || to.flush().await.is_err() {
                return End::Reset;
            }
            let bytes = u64::try_from(part.len()).unwrap_or(u64::MAX);
            if let Some(ms) = bytes.saturating_mul(1_000).checked_div(toxics.bandwidth_bytes_per_s) {
                pause(ms).await;
            } else if toxics.slice_bytes > 0 {
                tokio::task::yield_now().await;
            }
        }
        End::Closed
    }
}

async fn pause(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms.min(PAUSE_MS_MAX))).await;
    }
}

/// Closes with RST instead of FIN: what is still on its way is lost.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests;
