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

type Cell<V> = Arc<Mutex<Option<(Instant, V)>>>;

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
        let mut slot = cell.lock().await;
        let age = slot.as_ref().map(|(at, _)| at.elapsed());
        if let (Some((_, value)), Some(age)) = (slot.as_ref(), age)
            && age < Duration::from_millis(FRESH_MS)
        {
            return Ok(value.clone());
        }
        match fetch().await {
            Ok(value) => {
                *slot = Some((monotonic(), value.clone()));
                Ok(value)
            }
            Err(error) => match (slot.as_ref(), age) {
                (Some((_, value)), Some(age)) if age < Duration::from_millis(STALE_MS_MAX) => {
                    tracing::warn!(%error, "serving an older answer");
                    Ok(value.clone())
                }
                _ => Err(error),
            },
        }
    }

    async fn cell(&self, key: K) -> Cell<V> {
        let mut cells = self.cells.lock().await;
        if cells.len() >= ENTRIES_MAX && !cells.contains_key(&key) {
            cells.retain(|_, cell| {
                cell.try_lock().is_ok_and(|slot| {
                    slot.as_ref().is_some_and(|(at, _)| at.elapsed() < Duration::from_millis(FRESH_MS))
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
