//! Accounts, sessions, merchants, deals and rooms.

use crate::world::{Answer, Run, World};
use queue::control::{self, Change, Command};
use queue::overrides::Overrides;
use queue::registry;
use queue::settings::RoomSettings;
use queue::settings::{CopiedPass, Mode, OnePlacePer};
use serde_json::{Value, json};
use service_kit::clock::now_ms;
use service_kit::ids::{DealId, RoomId};

#[tokio::test(flavor = "multi_thread")]
async fn sign_up_sign_in_sign_out() {
    let w = World::start(Run::Committer).await;
    let form = json!({"email": "Kim@Example.com", "password": "abc12345!", "name": "김하늘"});
    let made = w.post("/api/v1/accounts", None, None, form.clone(), None).await;
    assert_eq!((made.status.as_u16(), made.json()["email"].as_str()), (201, Some("kim@example.com")));
    assert!(made.json().get("password_hash").is_none());
    assert_eq!(w.post("/api/v1/accounts", None, None, form, None).await.slug(), "email-taken");
    let sign_in = async |email: &str, password: &str| {
        w.post("/api/v1/sessions", None, None, json!({"email": email, "password": password}), None).await
    };
    let wrong = sign_in("kim@example.com", "abc12345?").await;
    let unknown = sign_in("lee@example.com", "abc12345!").await;
    let odd = sign_in("not an address", "abc12345!").await;
    assert_eq!((wrong.status.as_u16(), wrong.slug().as_str()), (401, "wrong-credentials"));
    assert_eq!((&wrong.bytes, &wrong.bytes), (&unknown.bytes, &odd.bytes), "the answer does not tell who exists");
    let session = sign_in(" KIM@example.com", "abc12345!").await;
    assert_eq!(session.status, 201);
    let cookie = session.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("fg_session=") && cookie.contains("HttpOnly"));
    let token = session.json()["token"].as_str().unwrap().to_owned();
    for (name, value) in [("authorization", format!("Bearer {token}")), ("cookie", format!("fg_session={token}"))] {
        let orders = w.http.get(format!("{}/api/v1/orders", w.url)).header(name, value).send().await.unwrap();
        assert_eq!(orders.status(), 200);
    }
    let out = Answer::of(w.http.delete(format!("{}/api/v1/sessions", w.url)).send().await.unwrap()).await;
    assert_eq!(out.status, 204);
    assert!(out.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
}

fn new_deal() -> Value {
    json!({
        "title": "Shoes", "price": {"minor": 12_900, "currency": "KRW"}, "stock": 50, "per_user_limit": 2,
        "starts_at_ms": now_ms() - 1_000, "ends_at_ms": now_ms() + 3_600_000, "admission": {"rate_per_s": 10, "inside_max": 100},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_makes_a_deal_and_it_sells() {
    let w = World::start(Run::All).await;
    let api_key = &w.api_key().await;
    let post = async |bearer: &str, key: Option<&str>, body: &Value| {
        let mut request = w.http.post(format!("{}/api/v1/deals", w.url)).bearer_auth(bearer).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        Answer::of(request.send().await.unwrap()).await
    };
    let body = new_deal();
    assert_eq!(post("sk_live_wrong", Some("d"), &body).await.slug(), "not-signed-in");
    assert_eq!(
        post(&w.token(w.person().await), Some("d"), &body).await.slug(),
        "not-signed-in",
        "shoppers do not sell"
    );
    assert_eq!(post(api_key, None, &body).await.slug(), "idempotency-key-missing");
    let made = post(api_key, Some("d"), &body).await;
    assert_eq!(made.status, 201, "{}", made.json());
    let deal: DealId = made.json()["id"].as_str().unwrap().parse().unwrap();
    for (field, value) in [
        ("room", json!(format!("deal-{deal}"))),
        ("available", json!(50)),
        ("state", json!("open")),
        ("sold", json!(0)),
    ] {
        assert_eq!(made.json()[field], value);
    }
    assert_eq!(post(api_key, Some("d"), &body).await.bytes, made.bytes, "a replay is the same bytes");
    let mut other = body.clone();
    other["stock"] = json!(51);
    assert_eq!(post(api_key, Some("d"), &other).await.slug(), "idempotency-key-reused");
    let listed = w.get("/api/v1/deals", None).await.json();
    assert_eq!(
        (listed["data"][0]["id"].as_str(), listed["has_more"].as_bool()),
        (Some(deal.to_string().as_str()), Some(false))
    );
    assert_eq!(w.get(&format!("/api/v1/deals/{deal}"), None).await.status, 200);
    w.eventually("it is loaded", async || w.totals(deal).await.is_some()).await;
    assert_eq!(w.hold(deal, w.person().await, "k", 2).await.status, 201);
    w.settled_at(deal, 48, 2, 0).await;
    w.eventually("readers see it within a second or two", async || {
        w.get(&format!("/api/v1/deals/{deal}"), None).await.json()["held"] == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_deal_is_told_again_when_it_is_over() {
    let w = World::start(Run::Committer).await;
    let api_key = w.api_key().await;
    let mut body = new_deal();
    let ends_at_ms = now_ms() + 2_000;
    body["ends_at_ms"] = json!(ends_at_ms);
    let made = w.new_deal(&api_key, "lost", &body).await;
    assert_eq!(made.status, 201, "{}", made.json());
    while now_ms() <= ends_at_ms {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let again = w.new_deal(&api_key, "lost", &body).await;
    assert_eq!((again.status.as_u16(), again.bytes), (201, made.bytes));
    let late = w.new_deal(&api_key, "another", &body).await;
    assert_eq!((late.status.as_u16(), late.slug().as_str()), (422, "invalid-field"));
    assert!(late.json()["detail"].as_str().unwrap().contains("`ends_at_ms`"), "{}", late.json());
    // Nor is that a stored answer: the same key makes a deal that has not ended.
    body["ends_at_ms"] = json!(now_ms() + 3_600_000);
    assert_eq!(w.new_deal(&api_key, "another", &body).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_deal_gets_a_room_and_the_operator_keeps_the_last_word() {
    let w = World::start(Run::All).await;
    let deal = w.deal(5, 5).await;
    let room_id = RoomId::of_deal(deal);
    let find = async || {
        let listing = registry::fetch(&w.redis, 0).await.unwrap().unwrap_or_default();
        listing.rooms().into_iter().find(|r| r.room == room_id)
    };
    w.eventually("the room is published", async || find().await.is_some()).await;
    let room = find().await.unwrap();
    assert_eq!(
        (room.enter_path.as_str(), room.stock_aware, room.rate_per_s),
        (format!("/deals/{deal}/buy").as_str(), true, 100)
    );
    let command = Command {
        room: &room_id,
        who: "kim",
        role: "operator",
        action: "pause",
        asked: "",
        why: "a test",
        operation: "op-1",
        urgent: false,
    };
    let slower = |said: &Overrides| {
        let set = Overrides { paused: Some(true), rate_per_s: Some(3), ..said.clone() };
        Ok::<_, ()>(Change { set, before: json!({}), after: json!({}), take_out: 0 })
    };
    control::carry_out(&w.redis, &command, 1_000, slower).await.unwrap();
    // The owner's own words change (as if by an older program), and are put right; the operator's stay.
    let published = control::published(&w.redis, &room_id).await.unwrap().unwrap();
    let old = RoomSettings { title: "Old".into(), ..published.clone() };
    registry::publish(&w.redis, &old).await.unwrap();
    w.eventually("the deal's title is published again", async || {
        control::published(&w.redis, &room_id).await.unwrap().is_some_and(|r| r.title == published.title)
    })
    .await;
    let steered = find().await.unwrap();
    assert_eq!((steered.paused, steered.rate_per_s, steered.title), (true, 3, published.title));
    w.redis.command("FLUSHALL", &["SYNC"]).await.unwrap();
    w.eventually("the room comes back", async || find().await.is_some()).await;
    let back = find().await.unwrap();
    assert_eq!(back.numbers_from, 2, "it was published before: number 1 is somebody's");
    assert_eq!(
        RoomSettings { numbers_from: 0, ..back },
        room,
        "as the deal says; gates bring the operator's words back"
    );
    // Whoever held units had a number, as the ledger knows, whatever became of Redis, gates and this process.
    w.eventually("the stock is filled", async || w.totals(deal).await.is_some()).await;
    assert_eq!(w.hold(deal, w.person().await, "k", 1).await.status, 201);
    w.redis.command("FLUSHALL", &["SYNC"]).await.unwrap();
    w.eventually("the room comes back", async || find().await.is_some()).await;
    let highest = u64::try_from(w.ledger.highest_lease(deal).await.unwrap()).unwrap();
    assert_eq!(find().await.unwrap().numbers_from, (highest + 1).max(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_says_what_the_room_is_like() {
    let w = World::start(Run::All).await;
    let api_key = w.api_key().await;
    let starts_at_ms = now_ms() + 600_000;
    let mut body = new_deal();
    body["starts_at_ms"] = json!(starts_at_ms);
    body["room"] = json!({
        "mode": "draw", "beacon": "entrants", "lobby_opens_at_ms": starts_at_ms - 60_000, "copied_pass": "refuse", "refresh": "keep",
        "lease_ms": 120_000, "one_place_per": "person", "end_on_purchase": true,
        "theme": { "look": "night", "name": "Gaon Ceramics", "accent": "#ffd7a0" },
        "notice": { "ko": "결제는 카카오페이만 됩니다.", "en": "Only KakaoPay is taken today." },
    });
    let made = w.new_deal(&api_key, "room", &body).await;
    assert_eq!(made.status, 201, "{}", made.json());
    assert_eq!(
        (&made.json()["mode"], &made.json()["lobby_opens_at_ms"]),
        (&json!("draw"), &json!(starts_at_ms - 60_000))
    );
    let room_id: RoomId = made.json()["room"].as_str().unwrap().parse().unwrap();
    let find = async || {
        let listing = registry::fetch(&w.redis, 0).await.unwrap().unwrap_or_default();
        listing.rooms().into_iter().find(|r| r.room == room_id)
    };
    w.eventually("the room is published", async || find().await.is_some()).await;
    let room = find().await.unwrap();
    assert_eq!((room.mode, room.lobby_opens_at_ms, room.lease_ms), (Mode::Draw, starts_at_ms - 60_000, 120_000));
    assert!(room.takes_nonces(starts_at_ms - 1) && !room.takes_nonces(starts_at_ms));
    assert_eq!((room.copied_pass, room.one_place_per), (CopiedPass::Refuse, OnePlacePer::Person));
    assert_eq!(room.theme.name.as_deref(), Some("Gaon Ceramics"));
    assert_eq!(room.notice.as_ref().map(|n| n.text("en")), Some("Only KakaoPay is taken today."));
    // What was not said is as the service is set up, and stays so.
    assert_eq!((room.claim_window_ms, room.stock_aware), (w.app.config().claim_window_ms, true));
    // Codes of lanes are the merchant's own: nobody else reads them.
    let mut secret = new_deal();
    secret["room"] = json!({ "lanes": [{ "name": "vip", "share_percent": 20, "codes": [{ "code": "Spring-24" }] }] });
    let made = w.new_deal(&api_key, "lanes", &secret).await;
    assert_eq!(made.status, 201, "{}", made.json());
    let read = w.get(&format!("/api/v1/deals/{}", made.json()["id"].as_str().unwrap()), None).await;
    assert!(!String::from_utf8(read.bytes).unwrap().contains("Spring-24"));
    // Each rule that is broken is named, and nothing is made.
    for (room, field) in [
        (json!({ "mode": "lottery" }), "room.mode"),
        (json!({ "beacon": "entrants" }), "room.beacon"),
        (json!({ "mode": "draw", "beacon": "file" }), "room.beacon"),
        (json!({ "lobby_opens_at_ms": starts_at_ms + 1 }), "room.lobby_opens_at_ms"),
        (json!({ "theme": { "accent": "#ffffff" } }), "room.theme.accent"),
        (json!({ "enter_path": "/elsewhere" }), "room.enter_path"),
    ] {
        let mut bad = body.clone();
        bad["room"] = room;
        let refused = w.new_deal(&api_key, "bad", &bad).await;
        assert_eq!((refused.status.as_u16(), refused.slug().as_str()), (422, "invalid-field"), "{field}");
        assert!(refused.json()["detail"].as_str().unwrap().contains(&format!("`{field}`")), "{}", refused.json());
    }
    assert_eq!(w.get("/api/v1/deals", None).await.json()["data"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_do_not_reach_postgresql_one_by_one() {
    let w = std::sync::Arc::new(World::start(Run::Committer).await);
    let deal = w.deal(5, 5).await;
    assert_eq!(w.get(&format!("/api/v1/deals/{deal}"), None).await.status, 200);
    // With the row locked away every query would wait; answers still come.
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let w = w.clone();
            tokio::spawn(async move { w.get(&format!("/api/v1/deals/{deal}"), None).await.status.as_u16() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 200);
    }
    assert_eq!(w.get(&format!("/api/v1/deals/{}", DealId::new()), None).await.slug(), "not-found");
}
