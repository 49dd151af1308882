//! Connections to PostgreSQL, migrations, and the errors that a caller must tell apart.

use crate::statement::{self, Client};
use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Metrics, Pool, QueueMode, RecyclingMethod, Runtime,
};
use serde::Deserialize;
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{NoTls, Row};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Section `[postgres]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PgConfig {
    /// `host=… user=… dbname=…` or `postgres://…`.
    pub url: String,
    /// Connections per process.
    #[serde(default = "default_connections")]
    pub connections: usize,
}

/// A connection that was not used for so long is asked first whether it is alive.
const RESTED: Duration = Duration::from_millis(500);

/// What every connection asks for.
///
/// No scans of whole tables: every statement of a purchase finds its rows by an index. A sale begins with tables that are
/// empty, and a plan that is kept from that moment would read all of them later, when they are not. Whoever needs all
/// rows says so ([`Ledger::verify`]). No bitmaps either: they gather all that an index has before the first row, where an index
/// in the order that is asked for is read as far as the limit. And no compiling of statements, which pays for none of ours.
const OPTIONS: [&str; 7] = [
    "statement_timeout=10000",
    "lock_timeout=5000",
    "idle_in_transaction_session_timeout=10000",
    "client_min_messages=warning",
    "enable_seqscan=off",
    "enable_bitmapscan=off",
    "jit=off",
];

fn default_connections() -> usize {
    8
}

/// PostgreSQL did not do what was asked, or nobody knows whether it did.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Nothing was done: no connection could be had. Safe to repeat.
    #[error("PostgreSQL does not answer: {0}")]
    Unavailable(String),
    /// The connection was lost on the way: it may have been done. Ask by id.
    #[error("the connection to PostgreSQL was lost: {0}")]
    Unknown(String),
    /// A constraint, trigger or type said no. Nothing was done.
    #[error("PostgreSQL refused: {0}")]
    Refused(String),
    /// Two transactions collided (deadlock, serialisation, lock time-out, one key twice). Nothing was done; safe to repeat.
    #[error("the transaction collided with another: {0}")]
    Collision(String),
    /// The settings cannot be used.
    #[error("`postgres.url`: {0}")]
    Config(String),
    /// A row holds what this version does not know.
    #[error("unexpected row: {0}")]
    Shape(String),
}

impl LedgerError {
    /// Whether nothing was done and the same call may be made again.
    pub fn is_safe_to_retry(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Collision(_))
    }
}

impl From<tokio_postgres::Error> for LedgerError {
    fn from(e: tokio_postgres::Error) -> Self {
        let Some(db) = e.as_db_error() else {
            return if e.is_closed()
                || e.to_string().contains("communicating")
                || std::error::Error::source(&e).is_some_and(|s| s.is::<std::io::Error>())
            {
                Self::Unknown(e.to_string())
            } else {
                Self::Shape(e.to_string())
            };
        };
        let text = format!("{} ({})", db.message(), db.constraint().or(db.table()).unwrap_or(db.code().code()));
        match *db.code() {
            // A migration by a newer program; see `statement.rs`.
            _ if statement::is_outdated(db) => Self::Collision(text),
            // One key for two deals at the same moment: after the other's commit the key is found to be used.
            SqlState::UNIQUE_VIOLATION if db.constraint() == Some("orders_account_id_idempotency_key_key") => {
                Self::Collision(text)
            }
            SqlState::T_R_DEADLOCK_DETECTED
            | SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::LOCK_NOT_AVAILABLE
            | SqlState::QUERY_CANCELED => Self::Collision(text),
            SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => Self::Unknown(text),
            SqlState::TOO_MANY_CONNECTIONS => Self::Unavailable(text),
            _ => Self::Refused(text),
        }
    }
}

impl From<deadpool_postgres::PoolError> for LedgerError {
    fn from(e: deadpool_postgres::PoolError) -> Self {
        Self::Unavailable(e.to_string())
    }
}

/// The ledger: a pool of connections. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    pool: Pool,
    pub(crate) settings: tokio_postgres::Config,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger")
    }
}

impl Ledger {
    /// Prepares the pool. Connects lazily: a missing PostgreSQL shows at the first call.
    ///
    /// # Errors
    /// [`LedgerError::Config`] when the address cannot be read.
    pub async fn connect(config: &PgConfig) -> Result<Self, LedgerError> {
        let mut settings: tokio_postgres::Config =
            config.url.parse().map_err(|e: tokio_postgres::Error| LedgerError::Config(e.to_string()))?;
        settings
            .connect_timeout(Duration::from_secs(2))
            .keepalives_idle(Duration::from_secs(10))
            .tcp_user_timeout(Duration::from_secs(10))
            .application_name("floodgate")
            .options(OPTIONS.map(|option| format!("-c {option}")).join(" "));
        let manager =
            Manager::from_config(settings.clone(), NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let pool = Pool::builder(manager)
            .max_size(config.connections.clamp(1, 64))
            .runtime(Runtime::Tokio1)
            // The connection that was used last: its server process has everything at hand.
            .queue_mode(QueueMode::Lifo)
            .create_timeout(Some(Duration::from_secs(2)))
            .post_recycle(Hook::async_fn(|client, metrics| Box::pin(verified(client, metrics))))
            .wait_timeout(Some(Duration::from_secs(3)))
            .build()
            .map_err(|e| LedgerError::Config(e.to_string()))?;
        Ok(Self { pool, settings })
    }

    /// Brings the schema up to date. Safe to run from several processes at once.
    ///
    /// # Errors
    /// When PostgreSQL does not answer or a migration fails (it is rolled back).
    pub async fn migrate(&self) -> Result<(), LedgerError> {
        // Past the kept statements: this is what changes under them.
        let mut client = self.pool.get().await?;
        // One migrator at a time; the lock goes with the session. An index on a large table takes longer than a statement
        // may elsewhere, and the next migrator waits for it.
        client
            .batch_execute(
                "SET statement_timeout = 0; SET lock_timeout = 0; SELECT pg_advisory_lock(4601); RESET lock_timeout",
            )
            .await?;
        let result = embedded::migrations::runner().run_async(&mut **client).await;
        client.batch_execute("SELECT pg_advisory_unlock(4601); RESET statement_timeout").await?;
        result.map(|_| ()).map_err(|e| LedgerError::Refused(e.to_string()))
    }

    /// Whether PostgreSQL answers now.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), LedgerError> {
        self.client().await?.simple_query("SELECT 1").await?;
        Ok(())
    }

    /// `(in use, waiting for one)` of the pool, for gauges.
    pub fn pool_usage(&self) -> (usize, usize) {
        let status = self.pool.status();
        (status.size.saturating_sub(status.available), status.waiting)
    }

    pub(crate) async fn client(&self) -> Result<Client, LedgerError> {
        Ok(self.pool.get().await?.into())
    }
}

/// Asks a connection that has rested whether it is alive. One that was used a moment ago is; if it is not after all, its
/// statement fails, and nobody believes that it was done.
async fn verified(client: &mut ClientWrapper, metrics: &Metrics) -> Result<(), HookError> {
    if metrics.last_used() < RESTED {
        return Ok(());
    }
    let asked = tokio::time::timeout(Duration::from_secs(1), client.simple_query("")).await;
    match asked {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(HookError::Backend(error)),
        Err(_) => Err(HookError::message("a connection that rested does not answer")),
    }
}

/// A column as an `i64` that SQL keeps non-negative.
pub(crate) fn int(row: &Row, column: &str) -> Result<i64, LedgerError> {
    row.try_get(column).map_err(|e| LedgerError::Shape(e.to_string()))
}

pub(crate) fn text(row: &Row, column: &str) -> Result<String, LedgerError> {
    row.try_get(column).map_err(|e| LedgerError::Shape(e.to_string()))
}

pub(crate) fn opt_text(row: &Row, column: &str) -> Result<Option<String>, LedgerError> {
    row.try_get(column).map_err(|e| LedgerError::Shape(e.to_string()))
}

pub(crate) fn id(row: &Row, column: &str) -> Result<uuid::Uuid, LedgerError> {
    row.try_get(column).map_err(|e| LedgerError::Shape(e.to_string()))
}

pub(crate) fn money(row: &Row, amount_column: &str) -> Result<service_kit::money::Money, LedgerError> {
    let currency = text(row, "currency")?.parse().map_err(|e| LedgerError::Shape(format!("{e}")))?;
    service_kit::money::Money::new(int(row, amount_column)?, currency).map_err(|e| LedgerError::Shape(e.to_string()))
}
