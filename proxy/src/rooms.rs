//! The rooms that this gate serves: static ones from the configuration, published ones from the registry.
//! Requests only read here (one pointer each); [`crate::keeper`] writes.

use crate::cookie::Names;
use crate::draw_api::Proofs;
use crate::health::Health;
use crate::joiner::{JOINS_MAX, Wanted};
use crate::loser::{Asking, LOOKS_MAX};
use crate::people::People;
use crate::presence::Presences;
use crate::signs::Signs;
use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use queue::board::{Board, Status};
use queue::draw::{Digest, Phase, entrant};
use queue::line::{JoinRequest, Joined, Line, PassInUse, Presence};
use queue::pass::Pass;
use queue::settings::RoomSettings;
use queue::ticket::Ticket;
use service_kit::clock::{monotonic, now_ms};
use service_kit::ids::RoomId;
use service_kit::redis::{Redis, StoreError};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, SetOnce, mpsc, oneshot};

/// A board older than this admits nobody.
pub const STALE_AFTER: Duration = Duration::from_secs(3);
/// Most passes of a room that wait to be told to a doubted store.
const READMITS_MAX: usize = 65_536;
/// Most records of entrants of a room that wait to be told to a store that was lost.
const RECORDS_MAX: usize = 65_536;
/// Most heartbeats of a room that wait for the next batch.
const BEATS_MAX: usize = 65_536;

/// The connection to Redis, once there is one.
#[derive(Debug)]
pub struct Store {
    /// The door.
    pub redis: Redis,
    /// The lines behind it.
    pub line: Line,
}

/// One snapshot of a room as this gate got it.
#[derive(Debug)]
pub struct Seen {
    /// The snapshot.
    pub board: Board,
    taken: Instant,
    /// What to add to this machine's clock to get the store's.
    offset_ms: i64,
    public: OnceLock<Bytes>,
}

impl Seen {
    /// A snapshot that has just arrived.
    pub fn new(board: Board) -> Self {
        let offset_ms = board.taken_ms - now_ms();
        Self { board, taken: monotonic(), offset_ms, public: OnceLock::new() }
    }
    /// Whether it is too old to admit anybody.
    pub fn is_stale(&self) -> bool {
        self.taken.elapsed() > STALE_AFTER
    }
    /// The time by the store's clock: every gate sees the same deadlines, whatever its own clock says.
    pub fn now_ms(&self) -> i64 {
        now_ms().saturating_add(self.offset_ms)
    }
    /// What everybody may read; made once per snapshot.
    pub fn public(&self) -> Bytes {
        self.public.get_or_init(|| Bytes::from(self.board.public(self.board.taken_ms).to_string())).clone()
    }
}

/// One room.
#[derive(Debug)]
pub struct Room {
    /// Its name.
    pub id: RoomId,
    /// Names of its cookies.
    pub cookies: Names,
    /// Settings as last published.
    pub settings: ArcSwap<RoomSettings>,
    /// The last snapshot.
    pub seen: ArcSwapOption<Seen>,
    /// What heartbeats said.
    pub presences: Presences,
    /// What this gate remembers about its people.
    pub people: People,
    /// How the upstream does.
    pub health: Health,
    /// Who was in the draw, for proofs.
    pub proofs: Proofs,
    /// Wakes the keeper of an idle room.
    pub wake: Notify,
    /// Set when the first snapshot has come: a tick has compared the store with what is known of it.
    pub looked: SetOnce<()>,
    /// Signs of life that need no answer.
    pub signs: Signs,
    beats: mpsc::Sender<(u64, u64)>,
    joins: mpsc::Sender<Wanted>,
    readmits: mpsc::Sender<(u64, PassInUse)>,
    records: mpsc::Sender<(u64, Digest)>,
    /// Holds that wait for a look at the stock.
    pub looks: mpsc::Sender<Asking>,
}

/// The ends of a room's buffers that its keepers empty.
#[derive(Debug)]
pub struct Ends {
    /// Heartbeats, number and place.
    pub beats: mpsc::Receiver<(u64, u64)>,
    /// Joins.
    pub joins: mpsc::Receiver<Wanted>,
    /// Passes seen while the store was doubted, by number.
    pub readmits: mpsc::Receiver<(u64, PassInUse)>,
    /// Records of entrants seen after a loss of the store, by number.
    pub records: mpsc::Receiver<(u64, Digest)>,
    /// Holds that wait for a look at the stock.
    pub looks: mpsc::Receiver<Asking>,
}

impl Room {
    /// A room without a board yet.
    pub fn new(settings: RoomSettings) -> (Arc<Self>, Ends) {
        let (beats, beats_end) = mpsc::channel(BEATS_MAX);
        let (joins, joins_end) = mpsc::channel(JOINS_MAX);
        let (readmits, readmits_end) = mpsc::channel(READMITS_MAX);
        let (records, records_end) = mpsc::channel(RECORDS_MAX);
        let (looks, looks_end) = mpsc::channel(LOOKS_MAX);
        let room = Self {
            id: settings.room.clone(),
            cookies: Names::of(&settings.room),
            settings: ArcSwap::from_pointee(settings),
            seen: ArcSwapOption::empty(),
            presences: Presences::default(),
            people: People::default(),
            health: Health::default(),
            proofs: Proofs::default(),
            wake: Notify::new(),
            looked: SetOnce::new(),
            signs: Signs::default(),
            beats,
            joins,
            readmits,
            records,
            looks,
        };
        let ends =
            Ends { beats: beats_end, joins: joins_end, readmits: readmits_end, records: records_end, looks: looks_end };
        (Arc::new(room), ends)
    }
    /// Notes that the holder of a ticket is there. False when the buffer is full: nothing is lost but one sign of life.
    pub fn beat(&self, ticket: &Ticket) -> bool {
        let seen = self.seen.load();
        let place = match (ticket.place, seen.as_ref()) {
            (0, Some(seen)) => self.place_of_entrant(seen, ticket),
            (place, _) => place,
        };
        let simply_waits = seen.as_ref().is_some_and(|seen| seen.board.simply_waits(ticket.number, place));
        if simply_waits && self.signs.note(ticket.number, place) {
            return true;
        }
        self.beats.try_send((ticket.number, place)).is_ok()
    }
    /// The drawn place of an entrant; before the draw 0, and a store that was lost is told the record again: nonce and
    /// visitor are signed in the ticket.
    fn place_of_entrant(&self, seen: &Seen, ticket: &Ticket) -> u64 {
        let place = seen.board.place_of(ticket).unwrap_or(0);
        let is_open = || seen.board.draw.as_ref().is_none_or(|lobby| lobby.draw.phase == Phase::Committed);
        if place == 0 && seen.board.losses.lost_ms > 0 && is_open() {
            // A full buffer costs one try; the next heartbeat is another.
            let leaf = entrant(&self.id, &ticket.visitor, ticket.nonce.as_ref());
            let _ = self.records.try_send((ticket.number, leaf));
        }
        place
    }
    /// Asks for a number; the answer comes with the batch.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] when nobody answers, or too many wait already: then nothing was sent.
    pub async fn join(&self, request: JoinRequest) -> Result<Joined, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.joins
            .try_send(Wanted { request, reply })
            .map_err(|_| StoreError::Unknown("too many people join at once".to_owned()))?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the room is gone".to_owned())))
    }
    /// Notes that a pass is in use, if the store may have forgotten it. False when its lease has ended.
    pub fn in_use(&self, pass: &Pass) -> bool {
        if self.people.ended.has(pass.number) {
            return false;
        }
        let seen = self.seen.load();
        let Some(seen) = seen.as_ref() else { return true };
        if seen.board.losses.lost_ms > 0 && seen.now_ms() < seen.board.losses.hold_until_ms {
            // A full buffer costs one sign of life; the next request gives another.
            let Pass { number, expires_at_ms, browser, .. } = *pass;
            let _ = self.readmits.try_send((number, PassInUse { number, expires_at_ms, browser }));
        }
        true
    }
    /// What a visitor is told, from memory only.
    pub fn view(&self, ticket: Option<&Ticket>) -> View {
        let presence = ticket.and_then(|t| self.presences.get(t.number));
        match self.seen.load_full() {
            Some(seen) => View {
                status: Some(seen.board.status(ticket, presence, seen.now_ms())),
                degraded: seen.is_stale(),
                presence,
            },
            None => View { status: None, degraded: true, presence },
        }
    }
    /// The time by the store's clock, or by ours while there is no board.
    pub fn now_ms(&self) -> i64 {
        self.seen.load().as_ref().map_or_else(now_ms, |seen| seen.now_ms())
    }
}

/// A visitor's view of a room.
#[derive(Debug)]
pub struct View {
    /// The status; `None` when there was never a board.
    pub status: Option<Status>,
    /// The board is too old (or not there): nobody is admitted.
    pub degraded: bool,
    /// What the last heartbeat said.
    pub presence: Option<Presence>,
}

/// How sure the gate is about its list of rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knowledge {
    /// The registry answered within the last 3 s: a room that is not listed does not exist.
    Fresh,
    /// It has not answered lately, or never: a room that is not listed may exist.
    Unsure,
}

/// All rooms of this gate.
#[derive(Debug)]
pub struct Rooms {
    map: ArcSwap<HashMap<String, Arc<Room>>>,
    store: ArcSwapOption<Store>,
    started: Instant,
    /// Milliseconds after `started` when Redis last answered.
    answered_ms: AtomicU64,
    loaded: AtomicBool,
    ignores_case: AtomicBool,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            map: ArcSwap::default(),
            store: ArcSwapOption::empty(),
            started: monotonic(),
            answered_ms: AtomicU64::new(0),
            loaded: AtomicBool::new(false),
            ignores_case: AtomicBool::new(false),
        }
    }
}

impl Rooms {
    /// A room by name.
    pub fn get(&self, room: &str) -> Option<Arc<Room>> {
        self.map.load().get(room).cloned()
    }
    /// All rooms.
    pub fn all(&self) -> Arc<HashMap<String, Arc<Room>>> {
        self.map.load_full()
    }
    /// Puts a new set in place.
    pub fn replace(&self, rooms: HashMap<String, Arc<Room>>) {
        let ignores_case = rooms.values().any(|r| r.settings.load().case_insensitive);
        self.map.store(Arc::new(rooms));
        self.ignores_case.store(ignores_case, Ordering::Relaxed);
    }
    /// Whether any room stands in front of an upstream that ignores letter case.
    pub fn any_ignores_case(&self) -> bool {
        self.ignores_case.load(Ordering::Relaxed)
    }
    /// The store, once connected.
    pub fn store(&self) -> Option<Arc<Store>> {
        self.store.load_full()
    }
    /// Sets the store.
    pub fn connected(&self, redis: Redis) {
        self.store.store(Some(Arc::new(Store { line: Line::new(redis.clone()), redis })));
    }
    /// Notes that the registry has answered.
    pub fn answered(&self) {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.answered_ms.store(ms, Ordering::Relaxed);
        self.loaded.store(true, Ordering::Relaxed);
    }
    /// How sure the list is.
    pub fn knowledge(&self) -> Knowledge {
        let age =
            self.started.elapsed().saturating_sub(Duration::from_millis(self.answered_ms.load(Ordering::Relaxed)));
        if self.loaded.load(Ordering::Relaxed) && age <= STALE_AFTER { Knowledge::Fresh } else { Knowledge::Unsure }
    }
}
