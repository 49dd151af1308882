//! The services behind the gate: where they are now, and how a connection to them behaves.

use crate::config::UpstreamConfig;
use arc_swap::ArcSwapOption;
use pingora::upstreams::peer::HttpPeer;
use service_kit::shutdown::Shutdown;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest stall while sending.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// An idle connection is closed before a usual server (5 s) closes it under a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Time between two look-ups of host names.
const RESOLVE_MS: u64 = 10_000;

/// One service.
#[derive(Debug)]
pub struct Upstream {
    name: String,
    address: String,
    read_timeout: Duration,
    is_foreign: bool,
    current: ArcSwapOption<SocketAddr>,
}

impl Upstream {
    /// A service as configured; a numeric address needs no look-up.
    pub fn new(config: &UpstreamConfig) -> Self {
        Self {
            name: config.name.clone(),
            address: config.address.clone(),
            read_timeout: Duration::from_millis(config.read_timeout_ms),
            is_foreign: config.foreign,
            current: ArcSwapOption::from(config.address.parse().ok().map(Arc::new)),
        }
    }
    /// Whether it gets an assertion instead of the pass.
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }
    /// Where to connect; `None` while the host name has not been found.
    pub fn peer(&self) -> Option<HttpPeer> {
        let address = *self.current.load_full()?;
        let mut peer = HttpPeer::new(address, false, String::new());
        peer.options.connection_timeout = Some(CONNECT_TIMEOUT);
        peer.options.total_connection_timeout = Some(CONNECT_TIMEOUT);
        peer.options.read_timeout = Some(self.read_timeout);
        peer.options.write_timeout = Some(WRITE_TIMEOUT);
        peer.options.idle_timeout = Some(IDLE_TIMEOUT);
        Some(peer)
    }
    async fn resolve(&self) {
        match tokio::net::lookup_host(&self.address).await.map(|mut found| found.next()) {
            Ok(Some(address)) => self.current.store(Some(Arc::new(address))),
            Ok(None) => tracing::warn!(upstream = self.name, "the host name has no address"),
            Err(error) => tracing::warn!(upstream = self.name, %error, "the host name cannot be looked up"),
        }
    }
}

/// Keeps host names looked up until shutdown. An address that was found stays when a look-up fails.
pub async fn keep_resolved(upstreams: Arc<Vec<Upstream>>, stop: Shutdown) {
    let named: Vec<&Upstream> = upstreams.iter().filter(|u| u.address.parse::<SocketAddr>().is_err()).collect();
    if named.is_empty() {
        return;
    }
    loop {
        for upstream in &named {
            upstream.resolve().await;
        }
        if !stop.sleep_ms(RESOLVE_MS).await {
            return;
        }
    }
}
