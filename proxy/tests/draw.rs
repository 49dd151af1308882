//! A lobby through a real gate: what was promised when it opened is what happened, and everybody can find their own
//! record and place again, as `docs/draw.md` says, with nothing but hashes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod common;

use common::{World, client};
use queue::draw::{Draw, Phase, Proof, verify};
use queue::settings::{Beacon, Mode, RoomSettings};
use queue::ticket::{Ticket, TicketSigner};
use reqwest::Response;
use reqwest::header::{ACCEPT, CACHE_CONTROL, COOKIE, LOCATION, REFERER, SET_COOKIE};
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
    panic!("the draw is not {phase:?} ten seconds later");
}

/// A number; the token, and what it says.
async fn join(world: &World) -> (String, Ticket) {
    let joined = client().post(world.room_url("tickets")).send().await.unwrap();
    assert_eq!(joined.status(), 201);
    let token = joined.json::<Value>().await.unwrap()["ticket"].as_str().unwrap().to_owned();
    let ticket = TicketSigner::new(&world.ring()).verify(&token, &world.room).unwrap();
    (token, ticket)
}

/// The same with something thrown in.
async fn join_throwing(world: &World, nonce: &str) -> (String, Ticket) {
    let joined = client().post(world.room_url("tickets")).header("floodgate-nonce", nonce).send().await.unwrap();
    assert_eq!(joined.status(), 201);
    let body: Value = joined.json().await.unwrap();
    assert_eq!(body["nonce"], *nonce, "what is in the record is told");
    let token = body["ticket"].as_str().unwrap().to_owned();
    let ticket = TicketSigner::new(&world.ring()).verify(&token, &world.room).unwrap();
    (token, ticket)
}

/// Steps 1 to 3 of `docs/draw.md` in other words than the library's.
fn recompute_record(room: &str, token: &str, nonce: Option<&str>) -> [u8; 32] {
    // Everybody can read the own visitor id: it is the fifth part of the ticket.
    let visitor = token.split('.').nth(4).unwrap();
    let nonce = nonce.map(|nonce| format!("\n{nonce}")).unwrap_or_default();
    Sha256::digest(format!("floodgate-entrant-1\n{room}\n{visitor}{nonce}")).into()
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
        let record = recompute_record(world.room.as_str(), token, None);
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

async fn proof_of(world: &World, token: &str) -> Value {
    loop {
        let (status, _, proof) = get(world.room_url("draw/proof"), Some(token)).await;
        if status == 200 {
            return proof;
        }
        assert_eq!(status, 503, "{proof}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_entrants_throw_in_is_in_their_records_and_in_the_seed_also_after_the_store_lost_it() {
    let starts_at_ms = now_ms() + 25_000;
    let world = World::start(|room| {
        draw_room(starts_at_ms)(room);
        room.beacon = Beacon::Entrants;
    })
    .await;
    let mut lobby: Vec<(Option<String>, String, Ticket)> = Vec::new();
    while lobby.len() < usize::try_from(ENTRANTS).unwrap() {
        let some = (lobby.len()..lobby.len() + 30).map(|n| {
            let (world, nonce) = (&world, (n % 3 > 0).then(|| format!("nonce-of-entrant_{n}")));
            async move {
                let (token, ticket) = match &nonce {
                    Some(nonce) => join_throwing(world, nonce).await,
                    None => join(world).await,
                };
                (nonce, token, ticket)
            }
        });
        lobby.extend(futures::future::join_all(some).await);
    }
    for wrong in ["short", "with a space in the middle", "0123456789abcde\u{e9}"] {
        let refused = client().post(world.room_url("tickets")).header("floodgate-nonce", wrong).send().await.unwrap();
        assert_eq!(refused.status(), 422, "{wrong}");
        assert!(refused.text().await.unwrap().contains("Floodgate-Nonce"));
    }
    // A repeated join keeps the first nonce, whatever the second one brings.
    let again = async |nonce: &str| -> Value {
        let post = client().post(world.room_url("tickets")).header("idempotency-key", "twice");
        post.header("floodgate-nonce", nonce).send().await.unwrap().json().await.unwrap()
    };
    let (first, second) = (again("the-first-nonce-1").await, again("the-second-nonce").await);
    assert_eq!(
        (&second["nonce"], &second["status"]["number"]),
        (&"the-first-nonce-1".into(), &first["status"]["number"])
    );

    // The store loses every record but the first hundred. Tickets are receipts: who polls brings the record back.
    let key = queue::keys::RoomKeys::new(&world.room);
    let kept = world.redis.command("GETRANGE", &[&key.entrants(), "0", "6399"]).await.unwrap().text().unwrap();
    world.redis.command("SET", &[&key.entrants(), &kept]).await.unwrap();
    world.redis.command("HSET", &[&key.room(), "lost_ms", "1"]).await.unwrap();
    let told = async |n: u64| {
        let at = (64 * (n - 1)).to_string();
        let record = world.redis.command("GETRANGE", &[&key.entrants(), &at, &(64 * n - 1).to_string()]).await;
        record.unwrap().text().unwrap().bytes().any(|b| b != 0)
    };
    let silent = lobby.iter().find(|(_, _, ticket)| ticket.number == 250).unwrap();
    loop {
        let mut missing = 0;
        for (_, token, ticket) in lobby.iter().filter(|(_, _, ticket)| ticket.number != 250) {
            if !told(ticket.number).await {
                get(world.room_url("status"), Some(token)).await;
                missing += 1;
            }
        }
        if missing == 0 {
            break;
        }
        assert!(now_ms() < starts_at_ms, "{missing} records are still missing at the start");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    tokio::time::sleep(Duration::from_millis(u64::try_from(starts_at_ms - now_ms()).unwrap_or(0))).await;
    let drawn = document(&world, Phase::Drawn).await;
    let (secret, root) = (drawn.secret.unwrap(), drawn.root.unwrap());
    assert_eq!(drawn.seed.unwrap().0, hmac_sha256(&secret.0, &[&root.0, &root.0]), "the root is the beacon");
    verify(&drawn).unwrap();
    for (nonce, token, ticket) in &lobby {
        let proof = proof_of(&world, token).await;
        assert_eq!((proof["number"].as_u64(), proof["nonce"].as_str()), (Some(ticket.number), nonce.as_deref()));
        assert_eq!(ticket.nonce.as_ref().map(|n| n.as_str()), nonce.as_deref());
        if ticket.number == silent.2.number {
            assert_eq!(proof["leaf"], "0".repeat(64), "nobody told it again, and the list says so");
            continue;
        }
        let record = recompute_record(world.room.as_str(), token, nonce.as_deref());
        assert_eq!(root_from(record, &proof), root.0, "{} is in the list, with the own nonce", ticket.number);
        if nonce.is_some() {
            let without = recompute_record(world.room.as_str(), token, None);
            assert_ne!(root_from(without, &proof), root.0, "the nonce counts");
        }
    }
    assert_eq!(get(world.room_url("draw/proof?number=2"), None).await.2.get("visitor"), None, "not for everybody");
}

fn cookies_of(response: &Response) -> Vec<String> {
    let cookies = response.headers().get_all(SET_COOKIE).iter();
    cookies.map(|v| v.to_str().unwrap().split(';').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_asked_before_it_gets_a_number_and_its_tries_are_one_entry() {
    let world = World::start(|room| {
        draw_room(now_ms() + 3_600_000)(room);
        room.beacon = Beacon::Entrants;
    })
    .await;
    document(&world, Phase::Committed).await;
    let buy = format!("{}/deals/{}/buy", world.base, world.deal);
    let open = async |query: &str, cookies: &str| {
        let get = client().get(format!("{buy}{query}")).header(ACCEPT, "text/html").header("accept-language", "en");
        get.header(COOKIE, cookies).send().await.unwrap()
    };
    let page = open("?a=1", "").await;
    assert_eq!(page.status(), 200);
    let cookies = cookies_of(&page);
    assert!(cookies.len() == 1 && cookies[0].starts_with("fg_e_"), "a key and no ticket: {cookies:?}");
    let (entry, body) = (cookies[0].clone(), page.text().await.unwrap());
    assert!(body.contains(r#"name="fg_nonce""#) && body.contains(r#""go":true"#), "{body}");
    // A link of somebody else brings a nonce, but not the cookie.
    let link = open("?fg_nonce=somebody-elses-nonce", "").await;
    assert!(cookies_of(&link).iter().all(|c| c.starts_with("fg_e_")));
    assert!(link.text().await.unwrap().contains(r#""go":false"#), "no way in circles");
    let wrong = open("?fg_nonce=short", &entry).await;
    assert_eq!((wrong.status().as_u16(), &cookies_of(&wrong)[0]), (422, &entry), "the key stays");

    let signer = TicketSigner::new(&world.ring());
    let ticket_of = |response: &Response| {
        let cookie = cookies_of(response).into_iter().find(|c| c.starts_with("fg_t_")).expect("a ticket");
        let ticket = signer.verify(cookie.split_once('=').unwrap().1, &world.room).unwrap();
        (cookie, ticket)
    };
    let joined = open("?a=1&fg_nonce=my-own-nonce-0001", &entry).await;
    assert_eq!(
        (joined.status().as_u16(), joined.headers()[LOCATION].to_str().unwrap()),
        (303, &*format!("/deals/{}/buy?a=1", world.deal))
    );
    let (cookie, ticket) = ticket_of(&joined);
    assert_eq!(ticket.nonce.as_ref().map(|n| n.as_str()), Some("my-own-nonce-0001"));
    // The answer was lost, or a second tab was faster: the same number, and the nonce of the first try.
    let (_, again) = ticket_of(&open("?fg_nonce=another-nonce-0002", &entry).await);
    assert_eq!((again.number, &again.visitor, &again.nonce), (ticket.number, &ticket.visitor, &ticket.nonce));
    let both = format!("{cookie}; {entry}");
    assert!(open("", &both).await.text().await.unwrap().contains("Waiting for the draw"));

    // Who leaves and comes again makes another entry, also when the browser kept the key.
    let left = client().post(world.room_url("leave")).header(ACCEPT, "text/html").header(COOKIE, &both);
    let left = left.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
    assert!(cookies_of(&left).iter().any(|c| c.strip_prefix("fg_e_").is_some_and(|c| c.ends_with('='))), "{left:?}");
    let (_, next) = ticket_of(&open("?fg_nonce=a-new-nonce-00003", &both).await);
    assert_eq!((next.number, next.nonce.unwrap().as_str()), (ticket.number + 1, "a-new-nonce-00003"));
    // Without JavaScript one may go on without a value; a form that takes a number asks as the page does.
    let (name, _) = entry.split_once('=').unwrap();
    let (_, without) = ticket_of(&open("?fg_nonce=", &format!("{name}=another-key-0123456789")).await);
    assert_eq!((without.number, without.nonce), (ticket.number + 2, None));
    let form = client().post(world.room_url("tickets")).header(ACCEPT, "text/html").header(REFERER, &buy);
    let form = form.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
    assert!(
        form.status() == 200 && form.text().await.unwrap().contains(&format!("action=\"/deals/{}/buy\"", world.deal))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_has_no_draw_to_check() {
    let world = World::start(|_| {}).await;
    for endpoint in ["draw", "draw/check", "draw/proof?number=1"] {
        assert_eq!(client().get(world.room_url(endpoint)).send().await.unwrap().status(), 404, "{endpoint}");
    }
}
