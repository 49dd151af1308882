//! Deals as readers see them: at most one second old, so that a million readers of a page cost
//! PostgreSQL one query per second and deal. While PostgreSQL is away the last answer is served
//! for [`STALE_MS_MAX`].

use ledger::{Deal, Ledger, LedgerError};
use service_kit::clock::monotonic;
use service_kit::ids::DealId;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How old an answer may be.
pub const FRESH_MS: u64 = 1_000;
/// How old an answer may be while PostgreSQL does not answer.
pub const STALE_MS_MAX: u64 = 60_000;
/// Most different answers that are kept; beyond it the old ones are dropped.
const ENTRIES_MAX: usize = 1_024;

/// How long a reader waits for another reader's query.
const WAIT_MS_MAX: u64 = 2_000;

struct Entry<V> {
    value: V,
    /// When PostgreSQL said so.
    fetched_at: Instant,
    /// When it was last asked, whether or not it answered: an outage is noticed by one reader per second.
    asked_at: Instant,
}

type Cell<V> = Arc<Mutex<Option<Entry<V>>>>;

/// Answers by question, each fetched by one caller at a time while the others wait for it.
struct Cache<K, V> {
    cells: Mutex<HashMap<K, Cell<V>>>,
}

impl<K: Hash + Eq + Copy, V: Clone> Cache<K, V> {
    fn new() -> Self {
        Self { cells: Mutex::new(HashMap::new()) }
    }

    async fn get<F>(&self, key: K, fetch: F) -> Result<V, LedgerError>
    where
        F: AsyncFnOnce() -> Result<V, LedgerError>,
    {
        let cell = self.cell(key).await;
        let waited = tokio::time::timeout(Duration::from_millis(WAIT_MS_MAX), cell.lock()).await;
        let mut slot = waited.map_err(|_| LedgerError::Unavailable("many readers wait for one answer".into()))?;
        if let Some(entry) = slot.as_ref().filter(|e| e.asked_at.elapsed() < Duration::from_millis(FRESH_MS)) {
            return Ok(entry.value.clone());
        }
        match fetch().await {
            Ok(value) => {
                let now = monotonic();
                *slot = Some(Entry { value: value.clone(), fetched_at: now, asked_at: now });
                Ok(value)
            }
            Err(error) => {
                match slot.as_mut().filter(|e| e.fetched_at.elapsed() < Duration::from_millis(STALE_MS_MAX)) {
                    Some(entry) => {
                        tracing::warn!(%error, "serving an older answer");
                        entry.asked_at = monotonic();
                        Ok(entry.value.clone())
                    }
                    None => Err(error),
                }
            }
        }
    }

    async fn cell(&self, key: K) -> Cell<V> {
        let mut cells = self.cells.lock().await;
        if cells.len() >= ENTRIES_MAX && !cells.contains_key(&key) {
            cells.retain(|_, cell| {
                cell.try_lock().is_ok_and(|slot| {
                    slot.as_ref().is_some_and(|e| e.asked_at.elapsed() < Duration::from_millis(FRESH_MS))
                })
            });
            if cells.len() >= ENTRIES_MAX {
                cells.clear(); // callers that wait keep their own cell
            }
        }
        cells.entry(key).or_insert_with(|| Arc::new(Mutex::new(None))).clone()
    }

    async fn forget(&self, key: &K) {
        self.cells.lock().await.remove(key);
    }
}

/// The catalogue. Shared by everybody in the process.
pub struct Catalogue {
    ledger: Ledger,
    one: Cache<DealId, Option<Deal>>,
    lists: Cache<(Option<DealId>, i64), Arc<Vec<Deal>>>,
}

impl Catalogue {
    /// Over this ledger.
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger, one: Cache::new(), lists: Cache::new() }
    }

    /// One deal, at most [`FRESH_MS`] old.
    ///
    /// # Errors
    /// When PostgreSQL does not answer and no earlier answer is at hand.
    pub async fn deal(&self, deal: DealId) -> Result<Option<Deal>, LedgerError> {
        self.one.get(deal, async || self.ledger.deal(deal).await).await
    }

    /// Deals, newest first, at most [`FRESH_MS`] old.
    ///
    /// # Errors
    /// As for [`Self::deal`].
    pub async fn list(&self, after: Option<DealId>, limit: i64) -> Result<Arc<Vec<Deal>>, LedgerError> {
        self.lists.get((after, limit), async || self.ledger.list_deals(after, limit).await.map(Arc::new)).await
    }

    /// After a deal was made: nobody has to wait a second to see it.
    pub async fn forget(&self, deal: DealId) {
        self.one.forget(&deal).await;
        self.lists.cells.lock().await.clear();
    }
}
