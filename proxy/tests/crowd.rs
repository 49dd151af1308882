//! A crowd through two gates on one store: 100,000 joins at once, and a sale during which gates are restarted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod crowd_support;

use crowd_support::{Client, Gates, ticket_of};
use queue::line::Line;
use queue::settings::RoomSettings;
use service_kit::clock::monotonic;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// One join as its client saw it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    sent: Instant,
    answered: Instant,
    number: u64,
}

/// Pairs in which somebody who had the answer before another one asked got the higher number.
fn inversions(joins: &[Seen]) -> usize {
    let mut by_sent = joins.to_vec();
    by_sent.sort_by_key(|j| j.sent);
    let mut by_answered = joins.to_vec();
    by_answered.sort_by_key(|j| j.answered);
    let (mut answered, mut highest, mut found) = (by_answered.into_iter().peekable(), 0_u64, 0);
    for join in by_sent {
        while let Some(earlier) = answered.next_if(|earlier| earlier.answered < join.sent) {
            highest = highest.max(earlier.number);
        }
        found += usize::from(join.number < highest);
    }
    found
}

#[test]
fn the_check_for_inversions_finds_them() {
    let begin = monotonic();
    let at = |ms: u64| begin + Duration::from_millis(ms);
    let join = |sent: u64, answered: u64, number: u64| Seen { sent: at(sent), answered: at(answered), number };
    assert_eq!(inversions(&[join(0, 10, 2), join(5, 12, 1), join(20, 30, 3)]), 0, "those two overlapped");
    assert_eq!(inversions(&[join(0, 10, 2), join(200, 210, 1), join(400, 430, 3)]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_joins_through_two_gates_are_in_order_and_each_number_is_given_once() {
    const PEOPLE: usize = 100_000;
    const CONNECTIONS: usize = 512;
    // A tenth sends a key and asks again, at the other gate, as if the answer had been lost.
    const KEYED_EVERY: usize = 10;
    let gates = Gates::start(|_| {}).await;
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for c in 0..CONNECTIONS {
        let (next, path, ring) = (next.clone(), gates.join_path(), gates.ring());
        let (mine, other) = (gates.address(c % 2), gates.address((c + 1) % 2));
        clients.spawn(async move {
            let (mut joins, mut keyed) = (Vec::new(), Vec::new());
            let mut client = Client::new(mine);
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= PEOPLE {
                    break;
                }
                let key = (i % KEYED_EVERY == 0).then(|| format!("idempotency-key: key-{i}\r\n"));
                let sent = monotonic();
                let (status, body) = client.post(&path, key.as_deref().unwrap_or("")).await.unwrap();
                let answered = monotonic();
                assert_eq!(status, 201, "{body}");
                let ticket = ticket_of(&ring, &body);
                joins.push(Seen { sent, answered, number: ticket.number });
                keyed.extend(key.map(|key| (key, ticket)));
            }
            let mut other = Client::new(other);
            for (key, ticket) in keyed {
                let (_, body) = other.post(&path, &key).await.unwrap();
                let again = ticket_of(&ring, &body);
                assert_eq!((again.number, &again.visitor), (ticket.number, &ticket.visitor), "{key}");
            }
            joins
        });
    }
    let joins: Vec<Seen> = clients.join_all().await.into_iter().flatten().collect();
    let numbers: BTreeSet<u64> = joins.iter().map(|j| j.number).collect();
    assert_eq!((joins.len(), numbers.len()), (PEOPLE, PEOPLE), "each number once");
    assert_eq!((numbers.first(), numbers.last()), (Some(&1), Some(&(PEOPLE as u64))), "no number is left out");
    assert_eq!(inversions(&joins), 0);
    let board = Line::new(gates.redis.clone()).board(gates.room.clone()).await.unwrap();
    assert_eq!(board.waiting + board.called + board.inside, PEOPLE as u64, "repeats moved nobody and added nobody");
}

/// What the test sees of the room, one line per look.
#[derive(Debug, Clone, Copy)]
struct Look {
    last_tick_ms: i64,
    calls: u64,
    waiting: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn gates_restarted_three_times_under_load_call_everybody_once_in_order_within_the_caps() {
    const PEOPLE: usize = 4_000;
    const RATE_PER_S: u32 = 400;
    const INSIDE_MAX: u32 = 150;
    let mut gates = Gates::start(|room| {
        room.rate_per_s = RATE_PER_S;
        room.inside_max = INSIDE_MAX;
    })
    .await;
    let done = Arc::new(AtomicBool::new(false));
    let tickets: Arc<tokio::sync::RwLock<HashMap<u64, String>>> = Arc::default();

    // Everybody joins, with a key, and asks again at the other gate when an answer is lost.
    let mut joiners = tokio::task::JoinSet::new();
    for lane in 0..32 {
        let (path, ring, tickets, addresses) = (gates.join_path(), gates.ring(), tickets.clone(), gates.addresses());
        joiners.spawn(async move {
            let mut clients = addresses.map(Client::new);
            for i in 0..PEOPLE / 32 {
                let key = format!("idempotency-key: k-{lane}-{i}\r\n");
                let mut gate = lane % 2;
                let body = loop {
                    match clients[gate].post(&path, &key).await {
                        Ok((200 | 201, body)) => break body,
                        Ok((503, _)) | Err(_) => gate = 1 - gate,
                        Ok((status, body)) => panic!("{status} {body}"),
                    }
                };
                let token =
                    serde_json::from_str::<serde_json::Value>(&body).unwrap()["ticket"].as_str().unwrap().to_owned();
                tickets.write().await.insert(ticket_of(&ring, &body).number, token);
            }
        });
    }
    // Others keep polling: gates are restarted under load.
    let mut pollers = tokio::task::JoinSet::new();
    for i in 0..16 {
        let (path, addresses, done) = (gates.status_path(), gates.addresses(), done.clone());
        pollers.spawn(async move {
            let mut clients = addresses.map(Client::new);
            let mut answers = 0_usize;
            while !done.load(Ordering::Relaxed) {
                for client in &mut clients {
                    answers += usize::from(client.get(&path).await.is_ok_and(|(status, _)| status == 200));
                }
                tokio::time::sleep(Duration::from_millis(5 + i)).await;
            }
            answers
        });
    }

    // Whoever is called claims at one gate and leaves at once at the other.
    let line = Line::new(gates.redis.clone());
    let (room, watcher_done) = (gates.room.clone(), done.clone());
    let (pass_path, ticket_path, addresses) = (gates.pass_path(), gates.ticket_path(), gates.addresses());
    let watcher = tokio::spawn(async move {
        let (mut looks, mut deadlines, mut visits) = (Vec::new(), BTreeMap::new(), tokio::task::JoinSet::new());
        while deadlines.len() < PEOPLE || !visits.is_empty() {
            let board = line.board(room.clone()).await.unwrap();
            let inside = board.called + board.inside + board.buying;
            assert!(inside <= u64::from(INSIDE_MAX), "{inside} people are in");
            looks.push(Look { last_tick_ms: board.last_tick_ms, calls: board.totals.calls, waiting: board.waiting });
            for (number, until_ms) in &board.called_until {
                if let Some(before) = deadlines.insert(*number, *until_ms) {
                    assert_eq!(before, *until_ms, "{number} was called twice");
                    continue;
                }
                let (number, tickets) = (*number, tickets.clone());
                let (pass_path, ticket_path) = (pass_path.clone(), ticket_path.clone());
                visits.spawn(async move { visit(number, &tickets, &pass_path, &ticket_path, addresses).await });
            }
            while let Some(visited) = visits.try_join_next() {
                visited.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        watcher_done.store(true, Ordering::Relaxed);
        (looks, deadlines, line.board(room).await.unwrap())
    });

    for gate in [0, 1, 0] {
        gates.restart(gate).await;
    }
    joiners.join_all().await;
    let (looks, deadlines, board) = watcher.await.unwrap();
    let answers: usize = pollers.join_all().await.into_iter().sum();
    assert!(answers > 100, "the load was there: {answers} polls");

    assert_eq!(deadlines.len(), PEOPLE, "everybody was called");
    assert!(deadlines.values().is_sorted(), "somebody was called before a lower number");
    assert_eq!((board.totals.calls, board.totals.inversions), (PEOPLE as u64, 0), "one call each");
    assert_eq!((board.totals.misses, board.totals.skips), (0, 0));
    // The rate, over every window between two ticks while people waited.
    let busy: Vec<Look> = looks.into_iter().filter(|l| l.waiting > 0 && l.last_tick_ms > 0).collect();
    assert!(busy.len() > 50, "{} looks at a busy room", busy.len());
    for (i, from) in busy.iter().enumerate() {
        for to in &busy[i + 1..] {
            let ms = u64::try_from(to.last_tick_ms - from.last_tick_ms).unwrap();
            let calls = to.calls - from.calls;
            assert!(calls <= ms * u64::from(RATE_PER_S) / 1_000 + 1, "{calls} calls in {ms} ms");
        }
    }
}

/// Claims the pass and gives the place back, however many gates are just being restarted.
async fn visit(
    number: u64,
    tickets: &tokio::sync::RwLock<HashMap<u64, String>>,
    pass_path: &str,
    ticket_path: &str,
    addresses: [std::net::SocketAddr; 2],
) {
    let mut clients = addresses.map(Client::new);
    let mut gate = usize::try_from(number % 2).unwrap();
    // The call may be quicker than the answer to the join.
    let token = loop {
        if let Some(token) = tickets.read().await.get(&number) {
            break token.clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let header = format!("floodgate-ticket: {token}\r\n");
    loop {
        match clients[gate].post(pass_path, &header).await {
            Ok((200, _)) => break,
            // 409: a gate that has just started lets nobody in before it has seen the room.
            Ok((409 | 503, _)) | Err(_) => gate = 1 - gate,
            Ok((status, body)) => panic!("claim of {number}: {status} {body}"),
        }
    }
    gate = 1 - gate;
    loop {
        match clients[gate].delete(ticket_path, &header).await {
            Ok((204, _)) => return,
            Ok((503, _)) | Err(_) => gate = 1 - gate,
            Ok((status, body)) => panic!("leaving of {number}: {status} {body}"),
        }
    }
}

/// Settings that the tests start from.
fn base(room: &mut RoomSettings) {
    room.rate_per_s = 1;
    room.inside_max = 1;
    room.claim_window_ms = 600_000;
    room.silence_ms = 600_000;
    room.attack_joins_per_s = 1_000_000;
}
