//! Who is connected by an event stream, and who is woken when.
//!
//! One task looks at the rooms that have streams twenty times a second. What everybody sees (state, notice, hours) wakes
//! everybody, spread over 300 ms so that a full gate does not write in one instant; a call wakes the called only.
//! A board that changes nothing of this wakes nobody. From an operator's word to the page: the
//! registry (250 ms), the keeper's round (200 ms), this look (50 ms), the spread (300 ms): within a second.
//!
//! Races: a stream that opens during a look sees the room by itself first, and is woken by the next look.
//! Crash: streams break, browsers come back to another gate and present their tickets.

use crate::config::LimitsConfig;
use crate::limits::network;
use crate::metric;
use crate::rooms::{Room, Rooms, Seen};
use metrics::{Counter, Gauge, counter, gauge};
use queue::notice::Notice;
use queue::state::RoomState;
use service_kit::ids::RoomId;
use service_kit::shutdown::Shutdown;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::Notify;

/// Time between two looks.
const LOOK_MS: u64 = 50;
/// Everybody is woken within this time.
const SPREAD_MS: u64 = 300;
/// Steps of that time.
const SPREAD_STEPS: usize = 16;
/// So few are woken at once.
const SPREAD_FROM: usize = 256;

/// The event streams of this gate.
pub struct Streams {
    hubs: RwLock<HashMap<RoomId, Arc<Hub>>>,
    addresses: RwLock<HashMap<IpAddr, u32>>,
    open: AtomicUsize,
    next_id: AtomicU64,
    stopping: AtomicBool,
    max: usize,
    per_address_max: u32,
    open_gauge: Gauge,
    refused_address: Counter,
    refused_gate: Counter,
    events: Counter,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Streams({})", self.open.load(Ordering::Relaxed))
    }
}

/// The streams of one room, by number (0 = without a ticket) and id.
#[derive(Debug)]
struct Hub {
    room: Arc<Room>,
    seats: RwLock<BTreeMap<(u64, u64), Arc<Notify>>>,
    last: RwLock<Option<Look>>,
    /// The room is not served any more.
    gone: AtomicBool,
}

/// What was seen at the last look.
#[derive(Debug)]
struct Look {
    seen: Arc<Seen>,
    visible: Visible,
}

/// What everybody in the room sees, apart from figures that change all the time.
#[derive(Debug, PartialEq)]
struct Visible {
    state: RoomState,
    degraded: bool,
    lobby_opens_at_ms: i64,
    starts_at_ms: i64,
    ends_at_ms: i64,
    notice: Option<Notice>,
}

/// One stream's place in the books; freed when dropped.
#[derive(Debug)]
pub struct Seat {
    streams: Arc<Streams>,
    hub: Arc<Hub>,
    key: (u64, u64),
    address: IpAddr,
    wake: Arc<Notify>,
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// This client has as many as it may.
    Address,
    /// This gate has as many as it may.
    Gate,
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    // A panic elsewhere cannot leave these maps half changed: go on.
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Streams {
    /// As configured, but never so many that the process runs out of open files (`open_files_max`; `None` = no limit).
    pub fn new(config: &LimitsConfig, open_files_max: Option<u64>) -> Arc<Self> {
        // A quarter of the files is left for requests, upstreams and Redis.
        let room = open_files_max.map_or(usize::MAX, |n| usize::try_from(n / 4 * 3).unwrap_or(usize::MAX));
        let max = config.streams_max.min(room);
        if max < config.streams_max {
            tracing::warn!(
                streams_max = config.streams_max,
                effective = max,
                "the limit of open files (ulimit -n) is too low for `gate.limits.streams_max`"
            );
        }
        gauge!(metric::STREAMS_LIMIT).set(max as f64);
        let open_gauge = gauge!(metric::STREAMS);
        open_gauge.set(0.0);
        let counted = |counter: Counter| {
            counter.increment(0);
            counter
        };
        Arc::new(Self {
            hubs: RwLock::default(),
            addresses: RwLock::default(),
            open: AtomicUsize::new(0),
            next_id: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            max,
            per_address_max: config.streams_per_address,
            open_gauge,
            refused_address: counted(counter!(metric::STREAMS_REFUSED, "reason" => "address")),
            refused_gate: counted(counter!(metric::STREAMS_REFUSED, "reason" => "gate")),
            events: counted(counter!(metric::STREAM_EVENTS)),
        })
    }

    /// A seat for one stream of `room`; `number` is 0 without a ticket.
    ///
    /// # Errors
    /// [`Refused`] when a limit is reached.
    pub fn sit(self: &Arc<Self>, room: &Arc<Room>, number: u64, client: IpAddr) -> Result<Seat, Refused> {
        let below_max = |n: usize| (n < self.max && !self.stopping.load(Ordering::Relaxed)).then_some(n + 1);
        if self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below_max).is_err() {
            self.refused_gate.increment(1);
            return Err(Refused::Gate);
        }
        let address = network(client);
        let has_room = {
            let mut addresses = write(&self.addresses);
            let count = addresses.entry(address).or_insert(0);
            let has_room = *count < self.per_address_max;
            *count += u32::from(has_room);
            has_room
        };
        if !has_room {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.refused_address.increment(1);
            return Err(Refused::Address);
        }
        let key = (number, self.next_id.fetch_add(1, Ordering::Relaxed));
        let wake = Arc::new(Notify::new());
        let hub = {
            let mut hubs = write(&self.hubs);
            let hub = match hubs.get(&room.id) {
                Some(hub) if Arc::ptr_eq(&hub.room, room) => hub.clone(),
                other => {
                    if let Some(old) = other {
                        old.dismiss();
                    }
                    let hub = Hub {
                        room: room.clone(),
                        seats: RwLock::default(),
                        last: RwLock::default(),
                        gone: AtomicBool::new(false),
                    };
                    let hub = Arc::new(hub);
                    hubs.insert(room.id.clone(), hub.clone());
                    hub
                }
            };
            // Under the same lock as the sweep of empty hubs.
            write(&hub.seats).insert(key, wake.clone());
            hub
        };
        self.open_gauge.increment(1.0);
        Ok(Seat { streams: self.clone(), hub, key, address, wake })
    }

    /// Wakes streams until shutdown, then all of them at once, to end.
    pub async fn watch(self: Arc<Self>, rooms: Arc<Rooms>, stop: Shutdown) {
        while stop.sleep_ms(LOOK_MS).await {
            let hubs: Vec<Arc<Hub>> = read(&self.hubs).values().cloned().collect();
            let mut empty = false;
            for hub in hubs {
                if rooms.get(hub.room.id.as_str()).is_some_and(|room| Arc::ptr_eq(&room, &hub.room)) {
                    hub.look();
                } else {
                    hub.dismiss();
                }
                empty |= read(&hub.seats).is_empty();
            }
            if empty {
                write(&self.hubs).retain(|_, hub| !read(&hub.seats).is_empty());
            }
        }
        self.stopping.store(true, Ordering::Relaxed);
        for hub in read(&self.hubs).values() {
            hub.dismiss();
        }
    }
}

impl Hub {
    /// One look at the room: wakes whom it concerns.
    fn look(&self) {
        // A room that somebody watches is kept busy, or a change would wait for its idle round.
        self.room.wake.notify_one();
        let Some(seen) = self.room.seen.load_full() else { return };
        let settings = self.room.settings.load();
        let visible = Visible {
            state: seen.board.state(seen.now_ms()),
            degraded: seen.is_stale(),
            lobby_opens_at_ms: settings.lobby_opens_at_ms,
            starts_at_ms: settings.starts_at_ms,
            ends_at_ms: settings.ends_at_ms,
            notice: settings.notice.clone(),
        };
        let last = write(&self.last).replace(Look { seen: seen.clone(), visible });
        let Some(last) = last else { return self.wake_all() };
        if read(&self.last).as_ref().is_some_and(|look| look.visible != last.visible) {
            self.wake_all();
        } else if !Arc::ptr_eq(&seen, &last.seen) {
            let seats = read(&self.seats);
            for number in newly(&last.seen.board.called_until, &seen.board.called_until) {
                seats.range((number, 0)..=(number, u64::MAX)).for_each(|(_, wake)| wake.notify_one());
            }
        }
    }

    /// Wakes everybody, in steps.
    fn wake_all(&self) {
        let all: Vec<Arc<Notify>> = read(&self.seats).values().cloned().collect();
        if all.len() <= SPREAD_FROM {
            return all.iter().for_each(|wake| wake.notify_one());
        }
        tokio::spawn(async move {
            for some in all.chunks(all.len().div_ceil(SPREAD_STEPS)) {
                some.iter().for_each(|wake| wake.notify_one());
                tokio::time::sleep(Duration::from_millis(SPREAD_MS / SPREAD_STEPS as u64)).await;
            }
        });
    }

    /// Ends all streams.
    fn dismiss(&self) {
        self.gone.store(true, Ordering::Relaxed);
        read(&self.seats).values().for_each(|wake| wake.notify_one());
    }
}

/// Numbers that were called (again) since; both lists are sorted by number.
fn newly<'b>(before: &'b [(u64, i64)], after: &'b [(u64, i64)]) -> impl Iterator<Item = u64> + 'b {
    let mut before = before.iter().peekable();
    after.iter().filter_map(move |called| {
        while before.next_if(|(number, _)| *number < called.0).is_some() {}
        (before.peek() != Some(&called)).then_some(called.0)
    })
}

impl Seat {
    /// Waits until there is something to tell.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }
    /// Whether the gate stops or the room is gone.
    pub fn is_over(&self) -> bool {
        self.hub.gone.load(Ordering::Relaxed) || self.streams.stopping.load(Ordering::Relaxed)
    }
    /// The room.
    pub fn room(&self) -> &Arc<Room> {
        &self.hub.room
    }
    /// Different for each stream of this gate.
    pub fn id(&self) -> u64 {
        self.key.1
    }
    /// Counts a sent event.
    pub fn sent(&self) {
        self.streams.events.increment(1);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        write(&self.hub.seats).remove(&self.key);
        let mut addresses = write(&self.streams.addresses);
        if let Some(count) = addresses.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
        drop(addresses);
        self.streams.open.fetch_sub(1, Ordering::Relaxed);
        self.streams.open_gauge.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use queue::settings::RoomSettings;

    fn streams(per_address: u32, max: usize, open_files: Option<u64>) -> Arc<Streams> {
        let config = LimitsConfig { streams_per_address: per_address, streams_max: max, ..LimitsConfig::default() };
        Streams::new(&config, open_files)
    }

    fn room(name: &str) -> Arc<Room> {
        Room::new(RoomSettings::new(name.parse().unwrap(), "Shoes".into(), 10, 100)).0
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn limits_per_address_and_per_gate_and_seats_are_given_back() {
        let (streams, room) = (streams(2, 3, None), room("shoes"));
        let first = streams.sit(&room, 1, address(1)).unwrap();
        let _second = streams.sit(&room, 1, address(1)).unwrap();
        assert_eq!(streams.sit(&room, 2, address(1)).unwrap_err(), Refused::Address);
        let _third = streams.sit(&room, 3, address(2)).unwrap();
        assert_eq!(streams.sit(&room, 4, address(3)).unwrap_err(), Refused::Gate);
        drop(first);
        let fourth = streams.sit(&room, 4, address(1)).unwrap();
        assert_eq!(read(&fourth.hub.seats).len(), 3);
        drop((_second, _third, fourth));
        assert!(read(&streams.addresses).is_empty() && streams.open.load(Ordering::Relaxed) == 0);
    }

    #[test]
    fn streams_never_take_all_open_files() {
        assert_eq!(streams(9, 50_000, Some(1_024)).max, 768);
        assert_eq!(streams(9, 500, Some(1_024)).max, 500);
    }

    #[test]
    fn only_the_newly_called_are_found() {
        let newly = |before: &[(u64, i64)], after: &[(u64, i64)]| super::newly(before, after).collect::<Vec<_>>();
        assert_eq!(newly(&[], &[(1, 5), (2, 5)]), [1, 2]);
        assert_eq!(newly(&[(1, 5), (3, 5), (7, 5)], &[(1, 5), (2, 6), (7, 9), (8, 9)]), [2, 7, 8]);
        assert_eq!(newly(&[(1, 5), (2, 5)], &[]), Vec::<u64>::new());
    }

    #[tokio::test]
    async fn a_room_that_is_gone_ends_its_streams_and_only_those() {
        let (streams, shoes, bags) = (streams(9, 9, None), room("shoes"), room("bags"));
        let (in_shoes, in_bags) =
            (streams.sit(&shoes, 0, address(1)).unwrap(), streams.sit(&bags, 0, address(1)).unwrap());
        let rooms = Arc::new(Rooms::default());
        rooms.replace(HashMap::from([("bags".to_owned(), bags.clone())]));
        let (trigger, stop) = service_kit::shutdown::channel();
        let watch = tokio::spawn(streams.clone().watch(rooms, stop));
        in_shoes.woken().await;
        assert!(in_shoes.is_over() && !in_bags.is_over());
        // The same room published again is another room with another hub.
        let again = room("shoes");
        let fresh = streams.sit(&again, 0, address(1)).unwrap();
        assert!(Arc::ptr_eq(fresh.room(), &again));
        trigger.stop();
        in_bags.woken().await;
        watch.await.unwrap();
        assert!(in_bags.is_over());
        assert_eq!(streams.sit(&bags, 0, address(1)).unwrap_err(), Refused::Gate, "a gate that stops takes nobody");
    }
}
