//! Holds of a deal that has nothing left: which the gate answers, and that it answers them truly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]
#![allow(missing_docs, reason = "tests are named after what they prove")]

mod common;

use common::{World, client};
use queue::keys::RoomKeys;
use queue::pass::{Pass, PassSigner};
use reqwest::{RequestBuilder, StatusCode};
use service_kit::clock::now_ms;
use service_kit::ids::{AccountId, VisitorId};
use service_kit::session::{Claims, SessionTokens};

/// A gate that knows that nothing is left.
async fn sold_out() -> World {
    let world = World::start(|room| room.stock_aware = true).await;
    units(&world, 0).await;
    until_board_says(&world, 0).await;
    world
}

/// Writes a stock into the store, as the deal service does.
async fn units(world: &World, available: i64) {
    let (now, available) = (now_ms(), available.to_string());
    let (starts, ends) = ((now - 60_000).to_string(), (now + 600_000).to_string());
    let fields =
        ["available", &available, "held", "10", "sold", "0", "total", "10", "epoch", "1", "per_user_limit", "2"];
    let key = RoomKeys::new(&world.room).stock();
    let fields: Vec<&str> = fields.into_iter().chain(["starts_at_ms", &starts, "ends_at_ms", &ends]).collect();
    world.redis.command("HSET", &[&[key.as_str()], &fields[..]].concat()).await.unwrap();
}

async fn until_board_says(world: &World, available: u64) {
    for _ in 0..200 {
        let board: serde_json::Value =
            client().get(world.room_url("board")).send().await.unwrap().json().await.unwrap();
        if board["stock"]["available"] == available {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("the board does not say {available}");
}

/// Somebody inside who is signed in.
struct Person {
    account: AccountId,
    pass: String,
    pass_key: String,
    session: String,
}

impl Person {
    fn new(world: &World, number: u64) -> Self {
        let (account, visitor, now) = (AccountId::new(), VisitorId::new(), now_ms());
        let pass = Pass {
            room: world.room.clone(),
            visitor: visitor.clone(),
            number,
            browser: 0,
            issued_ms: now,
            expires_at_ms: now + 600_000,
        };
        let claims = Claims { sub: account.to_string(), iat: now / 1_000, exp: now / 1_000 + 600 };
        Self {
            account,
            pass: PassSigner::new(&world.ring()).issue(&pass).unwrap(),
            pass_key: format!("p:{number}:{visitor}"),
            session: SessionTokens::new(&world.ring()).issue(&claims).unwrap(),
        }
    }
    fn hold(&self, world: &World, body: &str) -> RequestBuilder {
        client()
            .post(format!("{}/api/v1/deals/{}/holds", world.base, world.deal))
            .header("floodgate-pass", &self.pass)
            .header("idempotency-key", "once")
            .header("content-type", "application/json")
            .bearer_auth(&self.session)
            .body(body.to_owned())
    }
}

const ONE: &str = r#"{"quantity":1}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_loser_is_answered_by_the_gate() {
    let world = sold_out().await;
    for number in 1..=3 {
        let answer = Person::new(&world, number).hold(&world, ONE).send().await.unwrap();
        assert_eq!(
            (answer.status(), answer.headers()["content-type"].to_str().unwrap()),
            (StatusCode::CONFLICT, "application/problem+json")
        );
        assert_eq!(answer.headers()["cache-control"], "no-store");
        assert_eq!(answer.text().await.unwrap().into_bytes(), service_kit::problem::Problem::sold_out().to_json());
    }
    assert_eq!(world.log().await.len(), 0, "the origin heard of nobody");
    let metrics = client().get(format!("{}/metrics", world.admin)).send().await.unwrap().text().await.unwrap();
    // All gates of this program count together.
    let line = metrics.lines().find_map(|l| l.strip_prefix(r#"floodgate_gate_stock_looks_total{result="sold_out"} "#));
    assert!(line.is_some_and(|count| count.parse::<u64>().unwrap() >= 3), "{line:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_came_back_is_for_whoever_asks_next_however_old_the_board() {
    let world = sold_out().await;
    let person = Person::new(&world, 1);
    for round in 0..20 {
        units(&world, 0).await;
        until_board_says(&world, 0).await;
        assert_eq!(person.hold(&world, ONE).send().await.unwrap().status(), StatusCode::CONFLICT, "round {round}");
        // The board is up to a second behind; the next request must not be told so.
        units(&world, 1).await;
        let answer = person.hold(&world, ONE).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "origin", "round {round}");
        assert_eq!(person.hold(&world, r#"{"quantity":2}"#).send().await.unwrap().status(), StatusCode::CONFLICT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_not_plain_goes_to_the_deal_service() {
    let world = sold_out().await;
    let keys = RoomKeys::new(&world.room);
    let hset = async |key: &str, field: &str, value: &str| {
        world.redis.command("HSET", &[key, field, value]).await.unwrap();
    };
    let somebody = |number| Person::new(&world, number);

    let (held_before, repeats, strange) = (somebody(1), somebody(2), somebody(3));
    hset(&keys.bought(), &held_before.account.to_string(), "0").await;
    hset(&keys.ops(), &format!("{}:once", repeats.account), "an order").await;
    hset(&keys.ops(), &strange.pass_key, &AccountId::new().to_string()).await;
    let plain = somebody(4);
    let mut signed_out = somebody(5);
    signed_out.session = "nothing".into();
    let hold = |person: &Person, body: &str| person.hold(&world, body);
    for (what, request) in [
        ("held before", hold(&held_before, ONE)),
        ("the same key again", hold(&repeats, ONE)),
        ("a pass of another account", hold(&strange, ONE)),
        ("not signed in", hold(&signed_out, ONE)),
        ("more than the limit", hold(&plain, r#"{"quantity":3}"#)),
        ("a quantity that is none", hold(&plain, r#"{"quantity":0}"#)),
        ("a field too many", hold(&plain, r#"{"quantity":1,"price":0}"#)),
        ("another body", hold(&plain, "quantity=1")),
        ("a long body", hold(&plain, &format!("{}{ONE}", " ".repeat(100)))),
        ("two keys", hold(&plain, ONE).header("idempotency-key", "twice")),
        (
            "a key with a blank",
            client()
                .post(plain.hold(&world, ONE).build().unwrap().url().clone())
                .header("floodgate-pass", &plain.pass)
                .header("idempotency-key", "a b")
                .header("content-type", "application/json")
                .bearer_auth(&plain.session)
                .body(ONE),
        ),
        ("TE, which is Pingora's", hold(&plain, ONE).header("te", "trailers")),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "origin", "{what}");
    }
    assert_eq!(hold(&plain, ONE).send().await.unwrap().status(), StatusCode::CONFLICT, "and the plain one does not");
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_the_window_and_without_a_stock_the_deal_service_answers() {
    let world = sold_out().await;
    let (person, key) = (Person::new(&world, 1), RoomKeys::new(&world.room).stock());
    let asks = async |what: &str| {
        assert_eq!(person.hold(&world, ONE).send().await.unwrap().text().await.unwrap(), "origin", "{what}");
    };
    for (field, value) in [("starts_at_ms", now_ms() + 60_000), ("ends_at_ms", now_ms() - 1)] {
        world.redis.command("HSET", &[&key, field, &value.to_string()]).await.unwrap();
        asks(field).await;
        units(&world, 0).await;
    }
    for field in ["available", "epoch", "per_user_limit"] {
        world.redis.command("HDEL", &[&key, field]).await.unwrap();
        asks(field).await;
        units(&world, 0).await;
    }
    world.redis.command("DEL", &[&key]).await.unwrap();
    asks("nothing at all").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_does_not_open_this_room_gets_no_answer_about_its_stock() {
    let world = sold_out().await;
    let mut person = Person::new(&world, 1);
    person.pass = PassSigner::new(&World::stranger_ring())
        .issue(&Pass {
            room: world.room.clone(),
            visitor: VisitorId::new(),
            number: 1,
            browser: 0,
            issued_ms: now_ms(),
            expires_at_ms: now_ms() + 60_000,
        })
        .unwrap();
    let answer = person.hold(&world, ONE).send().await.unwrap();
    assert_ne!(answer.status(), StatusCode::CONFLICT);
    assert_eq!(world.log().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_the_deal_service_answers() {
    let mut world = sold_out().await;
    world.kill_redis().await;
    let answer = Person::new(&world, 1).hold(&world, ONE).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "origin");
}
