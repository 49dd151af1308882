//! Two ways through the gate, one answer: plain requests are answered in front of Pingora, all others by it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]
#![allow(missing_docs, reason = "tests are named after what they prove")]

mod common;

use common::World;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Sent along, it changes no answer, but such a request is not plain.
const BY_PINGORA: &str = "TE: trailers\r\n";

#[derive(Debug)]
struct Answer {
    status: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// One connection that stays open.
struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    fn open(world: &World) -> Self {
        let stream = TcpStream::connect(world.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { stream, read: Vec::new() }
    }
    fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).unwrap();
    }
    fn more(&mut self) -> bool {
        let mut some = [0; 4_096];
        let n = self.stream.read(&mut some).unwrap();
        self.read.extend_from_slice(&some[..n]);
        n > 0
    }
    fn answer(&mut self) -> Answer {
        let head = loop {
            match self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                Some(end) => break String::from_utf8(self.read.drain(..end + 4).collect()).unwrap(),
                None => assert!(self.more(), "the connection ended"),
            }
        };
        let (status, lines) = head.trim_end().split_once("\r\n").unwrap();
        let headers: BTreeMap<String, String> = lines
            .lines()
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            assert!(self.more(), "the connection ended in a body");
        }
        let body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        Answer { status: status.to_owned(), headers, body }
    }
    fn ask(&mut self, head: &str) -> Answer {
        self.send(head);
        self.answer()
    }
}

fn head(first: &str, more: &str) -> String {
    format!("{first} HTTP/1.1\r\nHost: shop.example\r\n{more}\r\n")
}

/// What must be equal: all but the moment, what was drawn by lot, and lengths that follow from these.
fn comparable(answer: &Answer) -> (String, BTreeMap<String, String>, BTreeSet<String>) {
    let mut headers = answer.headers.clone();
    for name in ["date", "content-length"] {
        assert!(headers.remove(name).is_some(), "{name}: {answer:?}");
    }
    if let Some(cookie) = headers.get_mut("set-cookie") {
        let (name, rest) = cookie.split_once('=').unwrap();
        *cookie = format!("{name}; {}", rest.split_once("; ").unwrap().1);
    }
    let keys: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
    (answer.status.clone(), headers, keys.as_object().unwrap().keys().cloned().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_answer_alike() {
    let world = World::start(|room| room.paused = true).await;
    let path = |endpoint: &str| format!("/_floodgate/rooms/{}/{endpoint}", world.room);
    let mut wire = Wire::open(&world);
    let joined = wire.ask(&head(&format!("POST {}", path("tickets")), "Content-Length: 0\r\n"));
    let document: serde_json::Value = serde_json::from_str(&joined.body).unwrap();
    let ticket = format!("Authorization: Ticket {}\r\n", document["ticket"].as_str().unwrap());
    let cookie = joined.headers["set-cookie"].split(';').next().unwrap().to_owned();
    let foreign = "Sec-Fetch-Site: cross-site\r\n";
    for (first, more) in [
        (format!("GET {}", path("status")), String::new()),
        (format!("GET {}", path("status")), ticket.clone()),
        (format!("GET {}", path("status")), format!("Cookie: {cookie}\r\n")),
        (format!("GET {}", path("status")), "Authorization: Ticket forged\r\n".to_owned()),
        (format!("GET {}", path("board")), String::new()),
        (format!("GET {}", path("pass")), String::new()),
        (format!("POST {}", path("status")), String::new()),
        (format!("POST {}", path("tickets")), String::new()),
        (format!("POST {}", path("tickets")), ticket.clone()),
        (format!("POST {}", path("tickets")), foreign.to_owned()),
        (format!("POST {}", path("tickets")), "Idempotency-Key: no spaces\r\n".to_owned()),
        (format!("POST {}", path("pass")), ticket.clone()),
        (format!("POST {}", path("pass")), String::new()),
        ("GET /_floodgate/rooms/nowhere/status".to_owned(), String::new()),
        ("GET /_floodgate/rooms/%62/status".to_owned(), String::new()),
        ("GET /_floodgate/rooms//status".to_owned(), String::new()),
    ] {
        let short = wire.ask(&head(&first, &more));
        let long = wire.ask(&head(&first, &format!("{more}{BY_PINGORA}")));
        assert_eq!(comparable(&short), comparable(&long), "{first} {more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_goes_both_ways_and_loses_no_byte() {
    let world = World::start(|room| room.paused = true).await;
    let poll = head(&format!("GET /_floodgate/rooms/{}/status", world.room), "");
    let open = head("POST /open/x", "Content-Length: 4\r\n");
    let mut wire = Wire::open(&world);
    let is_poll = |answer: &Answer| answer.status.contains("200") && answer.body.contains("\"next_poll_ms\"");
    for _ in 0..3 {
        assert!(is_poll(&wire.ask(&poll)));
        let forwarded = wire.ask(&format!("{open}body"));
        assert!(forwarded.status.contains("200") && !is_poll(&forwarded), "{forwarded:?}");
    }
    // A head in pieces, and a body that comes after its head. Nothing tells when the first piece was read: hence the pauses.
    for pieces in [[&poll[..3], &poll[3..]], [&poll[..poll.len() - 1], &poll[poll.len() - 1..]]] {
        wire.send(pieces[0]);
        tokio::time::sleep(Duration::from_millis(50)).await;
        wire.send(pieces[1]);
        assert!(is_poll(&wire.answer()));
    }
    wire.send(&open);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(wire.ask("body").status.contains("200"));
    assert!(is_poll(&wire.ask(&poll)));
    // Two at once: Pingora answers the first and ends the connection; the second is never taken for anything else.
    wire.send(&format!("{poll}{poll}"));
    assert!(is_poll(&wire.answer()));
    let rest = {
        while wire.more() {}
        wire.read.len()
    };
    assert_eq!(rest, 0);
    // What a client asks to be the last is the last.
    let mut wire = Wire::open(&world);
    assert!(is_poll(&wire.ask(&poll)));
    let last = wire.ask(&poll.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    assert_eq!(last.headers["connection"], "close");
    assert!(!wire.more());
    let bodies: Vec<String> = world.log().await.into_iter().map(|hit| hit.body).collect();
    assert_eq!(bodies, ["body"; 4]);
}
