//! Event streams of waiting visitors, over real HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod common;

use common::{World, client, settings};
use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::BoxStream;
use queue::keys::RoomKeys;
use queue::notice::Notice;
use queue::registry;
use queue::settings::RoomSettings;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;
use service_kit::clock::monotonic;
use std::time::Duration;

/// What "within a second" may take on a busy machine that runs all tests at once.
const ONE_SECOND_AND_SCHEDULING: Duration = Duration::from_secs(2);
/// Nothing here takes longer unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// One event as a browser would see it.
#[derive(Debug, Default)]
struct Event {
    name: String,
    id: String,
    retry_ms: Option<u64>,
    data: Value,
}

/// An open stream.
struct Events {
    bytes: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: String,
}

impl Events {
    async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self { bytes: response.bytes_stream().boxed(), buffer: String::new() }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((text, rest)) = self.buffer.split_once("\n\n") {
                let mut event = Event::default();
                for line in text.lines() {
                    match line.split_once(": ").unwrap() {
                        ("event", name) => event.name = name.to_owned(),
                        ("id", id) => event.id = id.to_owned(),
                        ("retry", ms) => event.retry_ms = ms.parse().ok(),
                        ("data", json) => event.data = serde_json::from_str(json).unwrap(),
                        other => panic!("{other:?}"),
                    }
                }
                self.buffer = rest.to_owned();
                return Some(event);
            }
            let part = tokio::time::timeout(PATIENCE, self.bytes.next()).await.expect("an event in time")?;
            self.buffer.push_str(std::str::from_utf8(&part.ok()?).unwrap());
        }
    }

    /// The first event with this state.
    async fn until(&mut self, state: &str) -> Event {
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("the stream ended before `{state}`"));
            if event.data["state"] == state {
                return event;
            }
        }
    }
}

async fn join(world: &World, http: &Client) -> String {
    let joined = http.post(world.room_url("tickets")).send().await.unwrap();
    assert_eq!(joined.status(), 201);
    joined.json::<Value>().await.unwrap()["ticket"].as_str().unwrap().to_owned()
}

fn events(world: &World, http: &Client, ticket: Option<&str>) -> RequestBuilder {
    let request = http.get(world.room_url("events"));
    match ticket {
        Some(ticket) => request.header("authorization", format!("Ticket {ticket}")),
        None => request,
    }
}

/// Publishes the room of this world with a change.
async fn publish(world: &World, change: impl Fn(&mut RoomSettings)) {
    let mut room = settings(world.deal);
    change(&mut room);
    registry::publish(&world.redis, &room).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_reaches_the_stream() {
    let only_one = |room: &mut RoomSettings| room.inside_max = 1;
    let world = World::start(only_one).await;
    let http = client();
    let first = join(&world, &http).await;
    let mut inside = Events::open(events(&world, &http, Some(&first))).await;
    inside.until("called").await;
    let claimed = http.post(world.room_url("pass")).header("floodgate-ticket", &first).send().await.unwrap();
    assert_eq!(claimed.status(), 200);

    let second = join(&world, &http).await;
    let mut waiting = Events::open(events(&world, &http, Some(&second))).await;
    let event = waiting.next().await.unwrap();
    assert_eq!((event.name.as_str(), event.data["state"].as_str()), ("status", Some("waiting")));
    assert!(event.retry_ms.is_some(), "the browser is told when to come back");
    let polled: Value = http
        .get(world.room_url("status"))
        .header("floodgate-ticket", &second)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let names = |document: &Value| document.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&event.data), names(&polled), "the same document as /status");
    assert!(waiting.next().await.unwrap().retry_ms.is_none(), "only once");

    let left = http.delete(world.room_url("ticket")).header("floodgate-ticket", &first).send().await.unwrap();
    assert_eq!(left.status(), 204);
    let called = waiting.until("called").await;
    assert!(called.data["claim_by_ms"].is_i64(), "{called:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_notice_and_sold_out_reach_500_streams_within_a_second() {
    let base = |room: &mut RoomSettings| {
        (room.rate_per_s, room.inside_max, room.stock_aware) = (1, 1, true);
    };
    let world = World::start(base).await;
    let stock = RoomKeys::new(&world.room).stock();
    let set_stock = async |available: &str, sold: &str| {
        let fields = [&stock, "available", available, "held", "0", "sold", sold, "total", "9"];
        world.redis.command("HSET", &fields.map(|f| f as &str)).await.unwrap();
    };
    set_stock("9", "0").await;
    let http = client();
    let streams = join_all((0..500).map(async |i| {
        let ticket = if i % 2 == 0 { Some(join(&world, &http).await) } else { None };
        Events::open(events(&world, &http, ticket.as_deref()).header("accept-language", "en")).await
    }));
    let mut streams = streams.await;
    join_all(streams.iter_mut().map(async |s| s.next().await.unwrap())).await;

    let notice: Notice = serde_json::from_str(r#"{"ko":"잠시만요","en":"One moment"}"#).unwrap();
    let started = monotonic();
    publish(&world, |room| {
        base(room);
        (room.paused, room.notice) = (true, Some(notice.clone()));
    })
    .await;
    let paused = join_all(streams.iter_mut().map(|s| s.until("paused"))).await;
    let took = started.elapsed();
    assert!(took < ONE_SECOND_AND_SCHEDULING, "the bound is 1 s and what a busy machine adds: {took:?}");
    assert!(paused.iter().all(|event| event.data["notice"] == "One moment"));

    publish(&world, base).await;
    join_all(streams.iter_mut().map(|s| s.until("waiting"))).await;
    let started = monotonic();
    set_stock("0", "9").await;
    let over = join_all(streams.iter_mut().map(|s| s.until("sold_out"))).await;
    let took = started.elapsed();
    assert!(took < ONE_SECOND_AND_SCHEDULING, "the bound is 1 s and what a busy machine adds: {took:?}");
    assert!(over.iter().all(|event| event.data["next_poll_ms"] == 0 && event.id == "final"));
    let ends = join_all(streams.iter_mut().map(Events::next)).await;
    assert!(ends.iter().all(Option::is_none), "a final state ends the stream");
    // A browser that comes back all the same is told to stop; one that comes anew is told the state.
    let again = events(&world, &http, None).header("last-event-id", "final").send().await.unwrap();
    assert_eq!(again.status(), 204);
    let mut anew = Events::open(events(&world, &http, None)).await;
    assert!(anew.next().await.unwrap().data["state"] == "sold_out" && anew.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_limits_a_page_can_still_poll() {
    let world = World::start_with(
        |room| room.paused = true,
        |config| {
            config["trusted_proxies"] = 1.into();
            config["limits"]["streams_per_address"] = 2.into();
            config["limits"]["streams_max"] = 3.into();
        },
    )
    .await;
    let http = client();
    let from = |address: &str| events(&world, &http, None).header("x-forwarded-for", address);
    let one = Events::open(from("192.0.2.1")).await;
    let _two = Events::open(from("192.0.2.1")).await;
    let third = from("192.0.2.1").send().await.unwrap();
    assert_eq!(third.status(), 429);
    assert!(third.headers().contains_key("retry-after"));
    let _three = Events::open(from("192.0.2.2")).await;
    let fourth = from("192.0.2.3").send().await.unwrap();
    assert_eq!(fourth.status(), 429);
    assert!(fourth.text().await.unwrap().contains("Poll the status"));
    let polled = http.get(world.room_url("status")).header("x-forwarded-for", "192.0.2.3").send().await.unwrap();
    assert_eq!(polled.status(), 200);
    // A client that leaves makes room, for its own network and for the gate.
    drop(one);
    let mut status = StatusCode::TOO_MANY_REQUESTS;
    for _ in 0..200 {
        status = from("192.0.2.3").send().await.unwrap().status();
        if status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(status, 200);
    let metrics = http.get(format!("{}/metrics", world.admin)).send().await.unwrap().text().await.unwrap();
    for name in ["floodgate_gate_streams", "floodgate_gate_streams_refused_total", "floodgate_gate_stream_events_total"]
    {
        assert!(metrics.contains(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_plain_get_with_a_good_ticket_opens_a_stream() {
    let world = World::start(|room| room.paused = true).await;
    let http = client();
    let url = world.room_url("events");
    for (request, status, allow) in [
        (http.head(&url), 405, "GET"),
        (http.post(&url).body(""), 405, "GET"),
        (http.request(reqwest::Method::OPTIONS, &url), 204, "GET"),
        (http.get(&url).body("x"), 413, ""),
        (http.get(&url).header("floodgate-ticket", "2.forged"), 401, ""),
        (http.get(format!("{}/_floodgate/rooms/nowhere/events", world.base)), 404, ""),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers().get("allow").map_or("", |v| v.to_str().unwrap()), allow);
    }
    // By cookie as by header.
    let ticket = join(&world, &http).await;
    let cookie = format!("fg_t_{}={ticket}", world.room);
    let mut stream = Events::open(http.get(&url).header("cookie", cookie)).await;
    assert!(stream.next().await.unwrap().data["place"].is_u64());
    assert!(world.log().await.is_empty(), "no stream reaches the origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_keeps_the_place_alive() {
    let closed = |room: &mut RoomSettings| (room.paused, room.silence_ms, room.rate_per_s) = (true, 3_000, 1);
    let world = World::start(closed).await;
    let http = client();
    let joined = async || {
        let body: Value = http.post(world.room_url("tickets")).send().await.unwrap().json().await.unwrap();
        (body["ticket"].as_str().unwrap().to_owned(), body["status"]["now_ms"].as_i64().unwrap())
    };
    let (_silent, _) = joined().await;
    let (present, joined_ms) = joined().await;
    let mut stream = Events::open(events(&world, &http, Some(&present))).await;
    // Longer than the silence: who says nothing meanwhile is passed over.
    while stream.next().await.unwrap().data["now_ms"].as_i64().unwrap() < joined_ms + 5_000 {}
    publish(&world, |room| {
        closed(room);
        room.paused = false;
    })
    .await;
    stream.until("called").await;
    let silent = RoomKeys::new(&world.room).silent();
    assert_eq!(world.redis.command("ZCARD", &[&silent]).await.unwrap().int(), Ok(1), "the other one was skipped");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_say_when_the_store_is_away() {
    let mut world = World::start(|room| room.paused = true).await;
    let mut stream = Events::open(events(&world, &client(), None)).await;
    assert_eq!(stream.next().await.unwrap().data["degraded"], false);
    world.kill_redis().await;
    while stream.next().await.unwrap().data["degraded"] != true {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_gone_ends_its_streams() {
    let world = World::start(|room| room.paused = true).await;
    let mut stream = Events::open(events(&world, &client(), None)).await;
    stream.next().await.unwrap();
    registry::retract(&world.redis, &world.room).await.unwrap();
    let mut last = Event::default();
    while let Some(event) = stream.next().await {
        last = event;
    }
    assert!(last.data.is_null() && last.retry_ms.is_some(), "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_all_streams_and_says_when_to_come_back() {
    let mut world = World::start(|room| room.paused = true).await;
    let http = client();
    let mut streams = join_all((0..50).map(async |_| Events::open(events(&world, &http, None)).await)).await;
    let stopped = tokio::task::spawn_blocking(move || world.stop());
    let returns = join_all(streams.iter_mut().map(async |stream| {
        let mut last = Event::default();
        while let Some(event) = stream.next().await {
            last = event;
        }
        assert!(last.data.is_null(), "the last word is no status: {last:?}");
        last.retry_ms.expect("a time to come back")
    }))
    .await;
    let spread = returns.iter().collect::<std::collections::BTreeSet<_>>();
    assert!(spread.len() > 25, "they do not all come back at once: {spread:?}");
    stopped.await.unwrap();
}
