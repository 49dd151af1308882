//! A lobby through a real gate: what was promised when it opened is what happened, and everybody can find their own
//! record and place again, as `docs/draw.md` says, with nothing but hashes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod common;

use common::{World, client};
use queue::draw::{Draw, Phase, Proof, verify};
use queue::settings::{Mode, RoomSettings};
use queue::ticket::{Ticket, TicketSigner};
use reqwest::header::CACHE_CONTROL;
use serde_json::Value;
use service_kit::clock::now_ms;
use service_kit::keys::hmac_sha256;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::time::Duration;

const ENTRANTS: u64 = 300;

fn draw_room(starts_at_ms: i64) -> impl Fn(&mut RoomSettings) {
    move |room| {
        room.mode = Mode::Draw;
        room.lobby_opens_at_ms = now_ms() - 1_000;
        room.starts_at_ms = starts_at_ms;
        room.rate_per_s = 100;
    }
}

async fn get(url: String, ticket: Option<&str>) -> (u16, String, Value) {
    let mut request = client().get(url);
    if let Some(ticket) = ticket {
        request = request.header("floodgate-ticket", ticket);
    }
    let response = request.send().await.unwrap();
    let (status, cache) = (response.status().as_u16(), response.headers()[CACHE_CONTROL].to_str().unwrap().to_owned());
    (status, cache, response.json().await.unwrap())
}

async fn document(world: &World, phase: Phase) -> Draw {
    for _ in 0..400 {
        let (status, _, body) = get(world.room_url("draw"), None).await;
        if status == 200 {
            let draw: Draw = serde_json::from_value(body).unwrap();
            if draw.phase == phase {
                return draw;
            }
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the draw is not {phase:?} after ten seconds");
}

/// A number; the token, and what it says.
async fn join(world: &World) -> (String, Ticket) {
    let joined = client().post(world.room_url("tickets")).send().await.unwrap();
    assert_eq!(joined.status(), 201);
    let token = joined.json::<Value>().await.unwrap()["ticket"].as_str().unwrap().to_owned();
    let ticket = TicketSigner::new(&world.ring()).verify(&token, &world.room).unwrap();
    (token, ticket)
}

/// Steps 1 to 3 of `docs/draw.md` in other words than the library's.
fn recompute_record(room: &str, token: &str) -> [u8; 32] {
    // Everybody can read the own visitor id: it is the fifth part of the ticket.
    let visitor = token.split('.').nth(4).unwrap();
    Sha256::digest(format!("floodgate-entrant-1\n{room}\n{visitor}")).into()
}

fn root_from(record: [u8; 32], proof: &Value) -> Vec<u8> {
    let hash = |parts: &[&[u8]]| Sha256::digest(parts.concat()).to_vec();
    let unhex = |text: &str| -> Vec<u8> {
        (0..64).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    };
    let (mut index, mut width) = (proof["number"].as_u64().unwrap() - 1, proof["count"].as_u64().unwrap());
    let mut node = hash(&[&[0], &record]);
    let mut path = proof["path"].as_array().unwrap().iter().map(|p| unhex(p.as_str().unwrap()));
    while width > 1 {
        if index % 2 == 1 {
            node = hash(&[&[1], &path.next().unwrap(), &node]);
        } else if index + 1 < width {
            node = hash(&[&[1], &node, &path.next().unwrap()]);
        }
        (index, width) = (index / 2, width.div_ceil(2));
    }
    assert!(path.next().is_none());
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lobby_is_drawn_and_everybody_finds_the_own_record_again() {
    let starts_at_ms = now_ms() + 12_000;
    let world = World::start(draw_room(starts_at_ms)).await;
    let mut lobby = Vec::new();
    while lobby.len() < usize::try_from(ENTRANTS).unwrap() {
        lobby.extend(futures::future::join_all((0..30).map(|_| join(&world))).await);
    }
    assert!(now_ms() < starts_at_ms, "everybody came before the start");
    assert!(lobby.iter().all(|(_, ticket)| ticket.place == 0), "nobody has a place yet");
    let committed = document(&world, Phase::Committed).await;
    assert_eq!((committed.count, committed.root, committed.secret), (None, None, None));
    let (status, _, early) = get(world.room_url("draw/proof?number=1"), None).await;
    assert_eq!((status, early["type"].as_str()), (409, Some("/problems/wrong-state")));

    let drawn = document(&world, Phase::Drawn).await;
    let late = join(&world).await;
    // The promise of the lobby was kept, and the seed follows from it.
    let (secret, root) = (drawn.secret.unwrap(), drawn.root.unwrap());
    assert_eq!(committed.commitment.0, <[u8; 32]>::from(Sha256::digest(secret.0)));
    assert_eq!(drawn.commitment, committed.commitment);
    assert_eq!(drawn.seed.unwrap().0, hmac_sha256(&secret.0, &[&root.0]));
    assert_eq!(drawn.count.map(u64::from), Some(ENTRANTS));
    verify(&drawn).unwrap();

    let permutation = drawn.permutation().unwrap();
    let mut places = BTreeSet::new();
    for (token, ticket) in &lobby {
        let place = loop {
            let (_, _, status) = get(world.room_url("status"), Some(token)).await;
            if let Some(place) = status["place"].as_u64().filter(|place| *place > 0) {
                break place;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let number = u32::try_from(ticket.number).unwrap();
        assert_eq!(place / 8, u64::from(permutation.prp(number - 1).unwrap()) + 1, "{number}");
        places.insert(place);
        let (mut status, mut proof) = (503, Value::Null);
        while status == 503 {
            (status, _, proof) = get(world.room_url("draw/proof"), Some(token)).await;
        }
        assert_eq!((status, proof["number"].as_u64()), (200, Some(ticket.number)), "{proof}");
        let record = recompute_record(world.room.as_str(), token);
        assert_eq!(root_from(record, &proof), root.0, "{number} is in the list, with the own visitor id");
        assert!(serde_json::from_value::<Proof>(proof).unwrap().verify(&root));
    }
    assert_eq!(places.len() as u64, ENTRANTS, "each place once");
    assert!(late.1.place > *places.last().unwrap(), "who came later stands behind everybody of the lobby");

    let by_number = get(world.room_url("draw/proof?number=7"), None).await;
    assert_eq!((by_number.0, by_number.1.as_str()), (200, "public, max-age=3600"));
    assert_eq!(get(world.room_url("draw/proof"), Some(&late.0)).await.0, 404, "not from the lobby: in no list");
    for (query, status) in [("?number=0", 422), ("?number=x", 422), ("", 422), ("?number=301", 404)] {
        assert_eq!(get(world.room_url(&format!("draw/proof{query}")), None).await.0, status, "{query}");
    }
    // The records were read once, however many proofs were asked for.
    let reads = world.redis.command("INFO", &["commandstats"]).await.unwrap().text().unwrap();
    let getrange =
        reads.lines().find_map(|l| l.strip_prefix("cmdstat_getrange:calls=")?.split(',').next()?.parse().ok());
    assert_eq!(getrange, Some(2_u64), "once for the draw, once for the proofs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_has_no_draw_to_check() {
    let world = World::start(|_| {}).await;
    for endpoint in ["draw", "draw/check", "draw/proof?number=1"] {
        assert_eq!(client().get(world.room_url(endpoint)).send().await.unwrap().status(), 404, "{endpoint}");
    }
}
