//! Live orders: one LISTEN connection per process fans out to the pages that watch an order.
//!
//! A notice says only "look again"; the state is read from PostgreSQL by each watcher. Watchers are spread
//! over [`SHARDS`] bounded channels by their order; who falls behind just looks again. Every stream looks
//! again with each heartbeat too, so a lost notice costs seconds, not truth.

use crate::app::App;
use crate::refusal;
use crate::view::OrderView;
use futures::Stream;
use ledger::{Ledger, Notice};
use service_kit::ids::{AccountId, OrderId};
use service_kit::problem::{Problem, Slug};
use service_kit::shutdown::Shutdown;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::Instant;

/// Time between two heartbeats of a stream.
pub const HEARTBEAT_MS: u64 = 15_000;
/// Channels that the watchers share.
const SHARDS: usize = 64;
/// Notices that a channel keeps for a slow watcher.
const NOTICES_MAX: usize = 256;
/// Pause before the next look after PostgreSQL did not answer.
const LOOK_PAUSE_MS: u64 = 1_000;

#[derive(Debug, Clone, Copy)]
enum Change {
    Order(OrderId),
    Everything,
}

/// Where watchers come together. Shared by the whole process.
pub struct Hub {
    shards: Vec<broadcast::Sender<Change>>,
    streams: Arc<Semaphore>,
    streams_max: usize,
    per_account_max: usize,
    accounts: Mutex<HashMap<AccountId, Weak<Semaphore>>>,
    shutdown: Shutdown,
}

struct Watch {
    changes: broadcast::Receiver<Change>,
    order: OrderId,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Hub {
    /// A hub for at most `streams_max` watchers, `per_account_max` of one account.
    pub fn new(streams_max: usize, per_account_max: usize, shutdown: Shutdown) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| broadcast::channel(NOTICES_MAX).0).collect(),
            streams: Arc::new(Semaphore::new(streams_max)),
            streams_max,
            per_account_max,
            accounts: Mutex::new(HashMap::new()),
            shutdown,
        }
    }

    /// Live streams now, and how many may be.
    pub fn streams(&self) -> (usize, usize) {
        (self.streams_max - self.streams.available_permits().min(self.streams_max), self.streams_max)
    }

    fn shard(&self, order: OrderId) -> Option<&broadcast::Sender<Change>> {
        let low = order.0.as_u128() % SHARDS as u128; // the random end of a version 7 id
        usize::try_from(low).ok().and_then(|i| self.shards.get(i))
    }

    fn tell(&self, change: Change) {
        match change {
            Change::Order(order) => {
                if let Some(shard) = self.shard(order) {
                    let _ = shard.send(change);
                }
            }
            Change::Everything => {
                for shard in &self.shards {
                    let _ = shard.send(change);
                }
            }
        }
    }

    async fn watch(&self, account: AccountId, order: OrderId) -> Result<Watch, Problem> {
        let Ok(place) = self.streams.clone().try_acquire_owned() else {
            return Err(refusal::busy("live pages"));
        };
        let own = {
            let mut accounts = self.accounts.lock().await;
            if accounts.len() > self.streams_max {
                accounts.retain(|_, s| s.strong_count() > 0);
            }
            match accounts.get(&account).and_then(Weak::upgrade) {
                Some(own) => own,
                None => {
                    let own = Arc::new(Semaphore::new(self.per_account_max));
                    accounts.insert(account, Arc::downgrade(&own));
                    own
                }
            }
        };
        let Ok(own) = own.try_acquire_owned() else {
            return Err(
                Problem::new(Slug::TooManyRequests, "Close another live page of this account first.").retry_after_s(5)
            );
        };
        let changes = self.shard(order).ok_or_else(|| Problem::internal(&"no such shard"))?.subscribe();
        Ok(Watch { changes, order, _permits: [place, own] })
    }
}

impl Watch {
    /// Returns when the order may have changed.
    async fn changed(&mut self) {
        loop {
            match self.changes.recv().await {
                Ok(Change::Order(order)) if order != self.order => {}
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

/// One message of a live order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// The order, at the start and after each change.
    Order(Box<OrderView>),
    /// Nothing happened for [`HEARTBEAT_MS`].
    Heartbeat,
}

struct Viewer {
    app: App,
    account: AccountId,
    watch: Watch,
    shown: Option<OrderView>,
    first: Option<OrderView>,
    heartbeat_at: Instant,
    look_at: Option<Instant>,
}

impl App {
    /// The order of this account, now and after each change; ends when it is settled or at shutdown.
    ///
    /// # Errors
    /// `not-found`, `too-many-requests`, or a 503.
    pub async fn order_events(
        &self,
        account: AccountId,
        order: OrderId,
    ) -> Result<impl Stream<Item = Live> + Send + use<>, Problem> {
        // Watch first, then look: a change in between is seen by both.
        let watch = self.parts.hub.watch(account, order).await?;
        let first = self.order(account, order).await?;
        let viewer = Viewer {
            app: self.clone(),
            account,
            watch,
            shown: None,
            first: Some(first),
            heartbeat_at: Instant::now() + Duration::from_millis(HEARTBEAT_MS),
            look_at: None,
        };
        Ok(futures::stream::unfold(viewer, |mut viewer| async move { viewer.next().await.map(|live| (live, viewer)) }))
    }
}

impl Viewer {
    async fn next(&mut self) -> Option<Live> {
        if let Some(first) = self.first.take() {
            return Some(self.show(first));
        }
        if self.shown.as_ref().is_some_and(|o| o.state.is_settled()) {
            return None;
        }
        let shutdown = self.app.parts.hub.shutdown.clone();
        loop {
            let look_at = self.look_at;
            tokio::select! {
                () = shutdown.requested() => return None,
                () = tokio::time::sleep_until(self.heartbeat_at) => {
                    self.heartbeat_at += Duration::from_millis(HEARTBEAT_MS);
                    self.look_at = Some(Instant::now());
                    return Some(Live::Heartbeat);
                }
                () = self.watch.changed() => self.look_at = Some(Instant::now()),
                () = async { match look_at { Some(at) => tokio::time::sleep_until(at).await, None => std::future::pending().await } } => {
                    self.look_at = None;
                    match self.app.order(self.account, self.watch.order).await {
                        Ok(order) if self.shown.as_ref() != Some(&order) => return Some(self.show(order)),
                        Ok(_) => {}
                        Err(problem) if problem.slug == Slug::NotFound => return None,
                        Err(_) => self.look_at = Some(Instant::now() + Duration::from_millis(LOOK_PAUSE_MS)),
                    }
                }
            }
        }
    }

    fn show(&mut self, order: OrderView) -> Live {
        self.shown = Some(order.clone());
        Live::Order(Box::new(order))
    }
}

/// Passes the ledger's notices on until shutdown.
pub async fn run(app: App, ledger: Ledger, shutdown: Shutdown) {
    let mut notices = ledger.listen(&["floodgate_order"]);
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            notice = notices.recv() => match notice {
                Some(Notice::Changed { payload, .. }) => {
                    if let Ok(order) = payload.parse() {
                        app.parts.hub.tell(Change::Order(order));
                    }
                }
                Some(Notice::Resync) => app.parts.hub.tell(Change::Everything),
                None => return,
            },
        }
    }
}
