//! The application: what every handler, page and worker of the process shares. The use cases are
//! `impl App` blocks in the files of their subjects: `accounts`, `deals`, `holds`, `orders`, `events`.

use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::events::Hub;
use crate::fast_stock::FastStock;
use crate::final_gate::{FinalGate, Queue};
use crate::password::Passwords;
use crate::session::Sessions;
use crate::suspects::Suspects;
use ledger::Ledger;
use queue::pass::PassSigner;
use service_kit::ids::DealId;
use service_kit::keys::KeyRing;
use service_kit::redis::Redis;
use service_kit::shutdown::Shutdown;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Everything a request needs. Cheap to clone.
#[derive(Clone)]
pub struct App {
    pub(crate) parts: Arc<Parts>,
}

pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) keys: KeyRing,
    pub(crate) sessions: Sessions,
    pub(crate) passes: PassSigner,
    pub(crate) passwords: Passwords,
    pub(crate) ledger: Ledger,
    pub(crate) redis: Redis,
    pub(crate) fast: FastStock,
    pub(crate) gate: FinalGate,
    pub(crate) catalogue: Catalogue,
    pub(crate) suspects: Suspects,
    pub(crate) hub: Hub,
}

/// What the workers of this process read from the application's other end.
pub struct Feeds {
    /// Holds that wait for their commit.
    pub holds: Queue,
    /// Deals to look at now.
    pub suspects: mpsc::Receiver<DealId>,
}

impl App {
    /// Puts the parts together. Nothing runs yet; see [`crate::workers::start`].
    pub fn new(config: Config, keys: KeyRing, redis: Redis, ledger: Ledger, shutdown: Shutdown) -> (Self, Feeds) {
        let (gate, holds) = FinalGate::new(config.hold_queue_max);
        let (suspects, suspects_rx) = Suspects::new();
        let parts = Parts {
            sessions: Sessions::new(&keys, config.cookie_secure),
            passes: PassSigner::new(&keys),
            passwords: Passwords::new(config.password_hashers, config.password_queue_max),
            fast: FastStock::new(redis.clone()),
            catalogue: Catalogue::new(ledger.clone()),
            hub: Hub::new(config.streams_max, config.streams_per_account_max, shutdown),
            gate,
            suspects,
            config,
            keys,
            ledger,
            redis,
        };
        (Self { parts: Arc::new(parts) }, Feeds { holds, suspects: suspects_rx })
    }
    /// The settings.
    pub fn config(&self) -> &Config {
        &self.parts.config
    }
    /// The key ring, for form tokens.
    pub fn keys(&self) -> &KeyRing {
        &self.parts.keys
    }
    /// Sessions: who is signed in, and the cookie.
    pub fn sessions(&self) -> &Sessions {
        &self.parts.sessions
    }
    /// The fast stock, for audits.
    pub fn fast_stock(&self) -> &FastStock {
        &self.parts.fast
    }
    /// Whether both stores answer now.
    ///
    /// # Errors
    /// Names the one that does not.
    pub async fn ready(&self) -> Result<(), String> {
        self.parts.ledger.ping().await.map_err(|e| format!("PostgreSQL: {e}"))?;
        self.parts.redis.command("PING", &[]).await.map_err(|e| format!("Redis: {e}"))?;
        Ok(())
    }
}
