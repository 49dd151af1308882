//! The store fails: killed, started empty, replaced by an old copy, swapped. Nobody gets in who should not, nobody's
//! place is lost, and the line goes on by itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use queue::admission::LimitReason;
use queue::line::{Claim, Line, PassInUse, REBUILD_HOLD_MS, REFUSED_LIST, Tick};
use queue::registry;
use queue::settings::{AfterStoreLoss, RoomSettings};
use queue::state::RoomState;
use service_kit::ids::{DealId, RoomId};
use service_kit::private_store::{PrivateRedis, ScratchDir};
use service_kit::redis::{Redis, StoreError};
use std::path::Path;
use std::sync::Arc;
use support::{members, place, room};

const T: i64 = 1_700_000_000_000;

/// A gate that stays while the store behind its address changes: one memory, a new connection each time.
struct Gate {
    line: Line,
    redis: Redis,
}

impl Gate {
    async fn on(server: &PrivateRedis) -> Self {
        service_kit::install_crypto_providers();
        let redis = Redis::connect(&server.config()).await.unwrap();
        Self { line: Line::new(redis.clone()), redis }
    }
    async fn follow(&mut self, server: &PrivateRedis) {
        self.redis = Redis::connect(&server.config()).await.unwrap();
        self.line = self.line.on(self.redis.clone());
    }
}

async fn state(line: &Line, room: &RoomSettings, now: i64) -> RoomState {
    line.at(now).board(Arc::new(room.clone())).await.unwrap().state(now)
}

/// 200 people: 1 to 10 called, 1 to 5 of them inside, the rest waits. The moment after.
async fn busy(gate: &Gate, room: &RoomSettings) -> i64 {
    support::crowd(&gate.line, room, 200, T).await;
    gate.line.at(T).tick(room).await.unwrap();
    assert_eq!(gate.line.at(T + 1_000).tick(room).await.unwrap().calls, 10);
    for number in 1..=5 {
        assert!(matches!(support::claim(&gate.line.at(T + 1_000), room, number).await, Ok(Claim::Inside { .. })));
    }
    gate.line.at(T + 1_200).board(Arc::new(room.clone())).await.unwrap();
    T + 1_200
}

/// The pass of a visitor of [`busy`], claimed by a browser of that number.
fn in_use(number: u64) -> PassInUse {
    PassInUse { number, expires_at_ms: T + 601_000, browser: number }
}

/// Everybody present shows the ticket again; then the room goes on. All who waited, in order.
async fn collect(gate: &Gate, room: &RoomSettings, from: i64, passes: &[PassInUse]) -> (i64, Vec<u64>) {
    let mut now = from;
    while now < from + REBUILD_HOLD_MS - 1_000 {
        let present: Vec<u64> = (11..=200).collect();
        support::beat(&gate.line.at(now), room, &present).await.unwrap();
        gate.line.at(now).readmit(room, passes).await.unwrap();
        let tick = gate.line.at(now).tick(room).await.unwrap();
        assert_eq!((tick.calls, tick.reason), (0, LimitReason::Store), "at {}", now - from);
        assert_eq!(state(&gate.line, room, now).await, RoomState::Hold);
        now += 6_000;
    }
    let line = queue::keys::RoomKeys::new(&room.room).line();
    (from + REBUILD_HOLD_MS, members(&gate.redis, &line).await)
}

/// What a backup of the running store would hold: its append-only file as it is now.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from.join("appendonlydir")).unwrap() {
        let entry = entry.unwrap();
        std::fs::create_dir_all(to.join("appendonlydir")).unwrap();
        std::fs::copy(entry.path(), to.join("appendonlydir").join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_restart_without_loss_holds_and_goes_on_with_everything() {
    let directory = ScratchDir::new().unwrap();
    let home = directory.path();
    let mut server = PrivateRedis::start(home).await.unwrap();
    let mut gate = Gate::on(&server).await;
    let room = room("restarted");
    let now = busy(&gate, &room).await;
    server.kill().await;
    server = PrivateRedis::start(home).await.unwrap();
    gate.follow(&server).await;
    assert_eq!(
        gate.line.at(now + 500).tick(&room).await.unwrap().reason,
        LimitReason::Store,
        "another process answers"
    );
    let held = support::claim(&gate.line.at(now + 600), &room, 6).await;
    assert_eq!(held, Ok(Claim::NotYourTurn), "no pass while the store is doubted");
    let kept = support::claim(&gate.line.at(now + 600), &room, 1).await;
    assert_eq!(kept, Ok(Claim::Inside { lease_until_ms: T + 601_000, browser: 0 }), "a lease is a lease");
    let (now, order) = collect(&gate, &room, now + 500, &[]).await;
    assert_eq!(order, (11..=200).collect::<Vec<_>>());
    let tick = gate.line.at(now).tick(&room).await.unwrap();
    assert!(tick.calls > 0, "it goes on by itself: {tick:?}");
    assert!(
        matches!(support::claim(&gate.line.at(now), &room, 6).await, Ok(Claim::Inside { .. })),
        "the call was kept"
    );
}

#[tokio::test]
async fn an_empty_store_is_rebuilt_from_tickets_and_passes() {
    let directory = ScratchDir::new().unwrap();
    let server = PrivateRedis::start(&directory.path().join("a")).await.unwrap();
    let mut gate = Gate::on(&server).await;
    let room = RoomSettings { inside_max: 12, ..room("emptied") };
    let now = busy(&gate, &room).await;
    // Another instance answers at the same address, and it knows nothing.
    let other = PrivateRedis::start(&directory.path().join("b")).await.unwrap();
    gate.follow(&other).await;
    assert_eq!(gate.line.at(now + 500).tick(&room).await.unwrap().reason, LimitReason::Store);
    let passes: Vec<PassInUse> = (1..=5).map(in_use).collect();
    let newcomer = support::join(&gate.line, &room, "new", now + 600).await;
    assert!(newcomer.number > 200 && newcomer.place > place(200), "{newcomer:?}");
    let (now, order) = collect(&gate, &room, now + 500, &passes).await;
    assert_eq!(order, (11..=200).chain([newcomer.number]).collect::<Vec<_>>(), "in the same order");
    let board = gate.line.at(now).board(Arc::new(room.clone())).await.unwrap();
    assert_eq!((board.inside, board.totals.losses), (5, 1), "passes in hand count again");
    let copied = gate.line.at(now).claim(&room, 3, support::place(3), 99, false).await;
    assert!(matches!(copied, Ok(Claim::Inside { browser: 3, .. })), "the store knows again whose it is: {copied:?}");
    assert_eq!(gate.line.at(now).tick(&room).await.unwrap().calls, 7, "the cap counts those inside");
}

#[tokio::test]
async fn an_old_copy_calls_nobody_twice() {
    let directory = ScratchDir::new().unwrap();
    let home = directory.path().join("a");
    let server = PrivateRedis::start(&home).await.unwrap();
    let mut gate = Gate::on(&server).await;
    let room = room("copied");
    // The copy is taken while all 200 wait; ten are called afterwards.
    support::crowd(&gate.line, &room, 200, T).await;
    gate.line.at(T).tick(&room).await.unwrap();
    gate.line.at(T).board(Arc::new(room.clone())).await.unwrap();
    let backup = directory.path().join("b");
    copy(&home, &backup);
    assert_eq!(gate.line.at(T + 1_000).tick(&room).await.unwrap().calls, 10);
    for number in 1..=10 {
        assert!(matches!(support::claim(&gate.line.at(T + 1_000), &room, number).await, Ok(Claim::Inside { .. })));
    }
    let late = support::join(&gate.line, &room, "after-the-copy", T + 1_100).await;
    assert_eq!(late.number, 201);
    let old = PrivateRedis::start(&backup).await.unwrap();
    gate.follow(&old).await;
    let now = T + 2_000;
    assert_eq!(gate.line.at(now).tick(&room).await.unwrap().reason, LimitReason::Store);
    let passes: Vec<PassInUse> = (1..=10).map(in_use).collect();
    support::beat(&gate.line.at(now), &room, &[201]).await.unwrap();
    let (now, order) = collect(&gate, &room, now, &passes).await;
    assert_eq!(order, (11..=201).collect::<Vec<_>>(), "who is inside waits nowhere; nobody is missing");
    let newcomer = support::join(&gate.line, &room, "newer", now).await;
    assert!(newcomer.number > 201, "no number is given twice");
    gate.line.at(now).tick(&room).await.unwrap();
    gate.line.at(now + 1_000).tick(&room).await.unwrap();
    let called = gate.line.at(now + 1_000).board(Arc::new(room.clone())).await.unwrap().called_until;
    assert!(called.iter().all(|(n, _)| *n > 10), "nobody is called twice: {called:?}");
}

#[tokio::test]
async fn an_old_copy_and_gates_that_remember_nothing_give_no_number_twice() {
    let directory = ScratchDir::new().unwrap();
    let home = directory.path().join("a");
    let server = PrivateRedis::start(&home).await.unwrap();
    let gate = Gate::on(&server).await;
    let room = room("forgotten");
    support::crowd(&gate.line, &room, 200, T).await;
    gate.line.at(T).tick(&room).await.unwrap();
    let backup = directory.path().join("b");
    copy(&home, &backup);
    let late = support::join(&gate.line, &room, "after-the-copy", T + 1_100).await;
    assert_eq!(late.number, 201);
    let old = PrivateRedis::start(&backup).await.unwrap();
    let fresh = Gate::on(&old).await;
    let now = T + 2_000;
    assert_eq!(fresh.line.at(now).tick(&room).await.unwrap().reason, LimitReason::Store);
    let newcomer = support::join(&fresh.line, &room, "newer", now).await;
    assert!(newcomer.number > late.number && newcomer.place > late.place, "{newcomer:?}");
    let back = fresh.line.at(now).beat(&room, &[(late.number, late.place)]).await.unwrap();
    assert_eq!(back, [queue::line::Presence::Waiting], "and the ticket is good");
    let (_, order) = collect(&fresh, &room, now, &[]).await;
    assert!(order.ends_with(&[late.number, newcomer.number]), "{order:?}");
}

#[tokio::test]
async fn a_copy_that_comes_back_twice_does_not_begin_twice_at_the_same_number() {
    let directory = ScratchDir::new().unwrap();
    let home = directory.path().join("a");
    let server = PrivateRedis::start(&home).await.unwrap();
    let gate = Gate::on(&server).await;
    let room = room("twice");
    support::crowd(&gate.line, &room, 200, T).await;
    gate.line.at(T).tick(&room).await.unwrap();
    let mut given = vec![];
    for (name, now) in [("b", T + 2_000), ("c", T + 3_000)] {
        let backup = directory.path().join(name);
        copy(&home, &backup);
        let old = PrivateRedis::start(&backup).await.unwrap();
        let fresh = Gate::on(&old).await;
        assert_eq!(fresh.line.at(now).tick(&room).await.unwrap().reason, LimitReason::Store);
        given.push(support::join(&fresh.line, &room, "newer", now).await);
    }
    // Between the two, a second in which ten thousand might have come.
    assert!(given[0].number + 10_000 <= given[1].number && given[0].place < given[1].place, "{given:?}");
}

#[tokio::test]
async fn an_empty_store_gives_no_number_that_somebody_else_remembers() {
    let directory = ScratchDir::new().unwrap();
    let server = PrivateRedis::start(directory.path()).await.unwrap();
    let gate = Gate::on(&server).await;
    let room = RoomSettings { numbers_from: 38, ..room("remembered") };
    assert_eq!(gate.line.at(T).tick(&room).await.unwrap().reason, LimitReason::Store);
    let newcomer = support::join(&gate.line, &room, "newer", T + 100).await;
    assert!(newcomer.number > 38 && newcomer.place > place(38), "{newcomer:?}");
    let back = gate.line.at(T + 200).beat(&room, &[(37, place(37))]).await.unwrap();
    assert_eq!(back, [queue::line::Presence::Waiting], "tickets from before are good");
    let (_, order) = collect(&gate, &room, T + 200, &[]).await;
    assert!(order.ends_with(&[newcomer.number]) && order.contains(&37), "{order:?}");
}

/// Nobody has bought between the two losses: the ledger knows no more the second time, and no gate remembers.
#[tokio::test]
async fn an_empty_store_does_not_begin_twice_at_the_same_number() {
    let room = RoomSettings { numbers_from: 38, ..room("emptied") };
    let mut given = vec![];
    for now in [T, T + 1_000] {
        let directory = ScratchDir::new().unwrap();
        let server = PrivateRedis::start(directory.path()).await.unwrap();
        let gate = Gate::on(&server).await;
        assert_eq!(gate.line.at(now).tick(&room).await.unwrap().reason, LimitReason::Store);
        given.push(support::join(&gate.line, &room, "newer", now + 100).await);
    }
    assert!(given[0].number + 10_000 <= given[1].number && given[0].place < given[1].place, "{given:?}");
}

/// A gate that has read the list of rooms and not ticked yet remembers nothing that would show the loss.
#[tokio::test]
async fn a_deals_room_begins_only_while_the_list_has_it() {
    let directory = ScratchDir::new().unwrap();
    let server = PrivateRedis::start(directory.path()).await.unwrap();
    let gate = Gate::on(&server).await;
    let read = RoomSettings { room: RoomId::of_deal(DealId::new()), ..room("listed") };
    let unlisted =
        |tick: Result<Tick, StoreError>| matches!(tick, Err(StoreError::Refused { code, .. }) if code == REFUSED_LIST);
    assert!(unlisted(gate.line.at(T).tick(&read).await), "the list is gone");
    let back = RoomSettings { numbers_from: 38, ..read.clone() };
    registry::publish(&gate.redis, &back).await.unwrap();
    assert!(unlisted(gate.line.at(T + 200).tick(&read).await), "the owner knows more than this gate has read");
    assert_eq!(gate.line.at(T + 400).tick(&back).await.unwrap().reason, LimitReason::Store);
    assert!(support::join(&gate.line, &back, "newer", T + 500).await.number > 38);
    let new = RoomSettings { room: RoomId::of_deal(DealId::new()), ..room("listed") };
    registry::publish(&gate.redis, &new).await.unwrap();
    gate.line.at(T).tick(&new).await.unwrap();
    assert_eq!(support::join(&gate.line, &new, "first", T + 100).await.number, 1);
}

#[tokio::test]
async fn the_operator_decides_where_the_room_says_so() {
    let directory = ScratchDir::new().unwrap();
    let server = PrivateRedis::start(&directory.path().join("a")).await.unwrap();
    let mut gate = Gate::on(&server).await;
    let room = RoomSettings { after_store_loss: AfterStoreLoss::Operator, ..room("by-hand") };
    let now = busy(&gate, &room).await;
    let other = PrivateRedis::start(&directory.path().join("b")).await.unwrap();
    gate.follow(&other).await;
    gate.line.at(now).tick(&room).await.unwrap();
    let (now, _) = collect(&gate, &room, now, &[]).await;
    assert_eq!(state(&gate.line, &room, now + 600_000).await, RoomState::Hold, "it waits for a word");
    let resumed = RoomSettings { resumed_ms: now + 600_000, ..room.clone() };
    assert_eq!(state(&gate.line, &resumed, now + 600_001).await, RoomState::Open);
}
