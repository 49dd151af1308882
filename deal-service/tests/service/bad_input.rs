//! Every way to ask wrongly: the right problem document, and nothing changed.

use crate::world::{Answer, Run, World};
use queue::pass::{Pass, PassSigner};
use serde_json::{Value, json};
use service_kit::clock::now_ms;
use service_kit::ids::{DealId, OrderId, RoomId, VisitorId};
use service_kit::keys::{KeyRing, KeysConfig};

struct Ask<'a> {
    body: &'a str,
    content_type: &'a str,
    key: Option<&'a str>,
    token: Option<String>,
    pass: Option<String>,
    path: String,
}

async fn send(w: &World, ask: Ask<'_>) -> Answer {
    let mut request = w
        .http
        .post(format!("{}{}", w.url, ask.path))
        .header("content-type", ask.content_type)
        .body(ask.body.to_owned());
    if let Some(key) = ask.key {
        request = request.header("idempotency-key", key);
    }
    if let Some(token) = ask.token {
        request = request.bearer_auth(token);
    }
    if let Some(pass) = ask.pass {
        request = request.header("floodgate-pass", pass);
    }
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_asked_wrongly_changes_nothing() {
    let w = World::start(Run::Committer).await;
    let deal = w.deal(10, 5).await;
    let shopper = w.person().await;
    let path = format!("/api/v1/deals/{deal}/holds");
    let good = || Ask {
        body: r#"{"quantity":1}"#,
        content_type: "application/json",
        key: Some("k"),
        token: Some(w.token(shopper)),
        pass: Some(w.pass(deal, 1)),
        path: path.clone(),
    };
    let huge = format!(r#"{{"quantity":1,"x":"{}"}}"#, "y".repeat(70_000));
    let long_key = "k".repeat(65);
    for (body, status, slug) in [
        (r#"{"quantity":0}"#, 422, "invalid-field"),
        (r#"{"quantity":-1}"#, 422, "invalid-field"),
        (r#"{"quantity":-5}"#, 422, "invalid-field"),
        (r#"{"quantity":1001}"#, 422, "invalid-field"),
        (r#"{"quantity":2147483648}"#, 422, "invalid-field"),
        (r#"{"quantity":9007199254740993}"#, 422, "invalid-field"),
        (r#"{"quantity":9223372036854775807}"#, 422, "invalid-field"),
        (r#"{"quantity":9223372036854775808}"#, 422, "invalid-field"),
        (r#"{"quantity":1.0}"#, 422, "invalid-field"),
        (r#"{"quantity":1.5}"#, 422, "invalid-field"),
        (r#"{"quantity":1e3}"#, 422, "invalid-field"),
        (r#"{"quantity":"1"}"#, 422, "invalid-field"),
        (r#"{"quantity":true}"#, 422, "invalid-field"),
        (r#"{"quantity":null}"#, 422, "invalid-field"),
        (r#"{"quantity":[1]}"#, 422, "invalid-field"),
        (r#"{"quantity":NaN}"#, 400, "bad-request"),
        (r#"{}"#, 422, "invalid-field"),
        (r#"[]"#, 422, "invalid-field"),
        (r#"{"quantity":1,"quantity":2}"#, 422, "invalid-field"),
        (r#"{"quantity":1,"price":{"minor":1,"currency":"KRW"}}"#, 422, "invalid-field"),
        (r#"{"quantity":1,"account":"x"}"#, 422, "invalid-field"),
        (r#"{"quantity":1,"state":"paid"}"#, 422, "invalid-field"),
        (r#"{"quantity":1,"__proto__":{}}"#, 422, "invalid-field"),
        (r#"{"quantity":1"#, 400, "bad-request"),
        (r#"{"quantity":1}}"#, 400, "bad-request"),
        ("", 400, "bad-request"),
        (huge.as_str(), 413, "body-too-large"),
    ] {
        let answer = send(&w, Ask { body, ..good() }).await;
        assert_eq!((answer.status.as_u16(), answer.slug().as_str()), (status, slug), "{:.80}", body);
    }
    for (key, status, slug) in [
        (None, 400, "idempotency-key-missing"),
        (Some(""), 400, "idempotency-key-missing"),
        (Some("a b"), 422, "invalid-field"),
        (Some("a|b"), 422, "invalid-field"),
        (Some(long_key.as_str()), 422, "invalid-field"),
    ] {
        let answer = send(&w, Ask { key, ..good() }).await;
        assert_eq!((answer.status.as_u16(), answer.slug().as_str()), (status, slug), "{key:?}");
    }
    assert_eq!(send(&w, Ask { content_type: "text/plain", ..good() }).await.slug(), "bad-request");
    assert_eq!(send(&w, Ask { path: "/api/v1/deals/nothing/holds".into(), ..good() }).await.slug(), "not-found");
    assert_eq!(
        send(&w, Ask { path: format!("/api/v1/deals/{}/holds", DealId::new()), ..good() }).await.slug(),
        "not-found"
    );
    assert_eq!(send(&w, Ask { token: None, ..good() }).await.slug(), "not-signed-in");
    assert_eq!(send(&w, Ask { token: Some("a.b.c".into()), ..good() }).await.slug(), "not-signed-in");
    let t = w.totals(deal).await.unwrap();
    assert_eq!((t.available, t.held, t.unconfirmed), (10, 0, 0));
    assert_eq!(w.truth(deal).await.held, 0);
    assert_eq!(send(&w, good()).await.status, 201, "and the right request works");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_pass_opens() {
    let w = World::start(Run::Committer).await;
    let (deal, other) = (w.deal(10, 5).await, w.deal(10, 5).await);
    let shopper = w.person().await;
    let pass_of = |room: RoomId, expires_at_ms: i64, keys: &KeyRing| {
        PassSigner::new(keys)
            .issue(&Pass { room, visitor: VisitorId::new(), number: 1, browser: 0, issued_ms: 0, expires_at_ms })
            .unwrap()
    };
    let foreign = KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("a")] }).unwrap();
    let now = now_ms();
    let good = w.pass(deal, 1);
    for (why, pass) in [
        ("none", None),
        ("empty", Some(String::new())),
        ("not a token", Some("true".into())),
        ("another room's", Some(w.pass(other, 1))),
        ("expired", Some(pass_of(RoomId::of_deal(deal), now - 2_000, w.app.keys()))),
        ("signed by somebody else", Some(pass_of(RoomId::of_deal(deal), now + 60_000, &foreign))),
        ("a session", Some(w.token(shopper))),
        ("cut", Some(good[..good.len() - 2].to_owned())),
    ] {
        let answer = w
            .post(
                &format!("/api/v1/deals/{deal}/holds"),
                Some(shopper),
                Some("k"),
                json!({"quantity": 1}),
                pass.as_deref(),
            )
            .await;
        assert_eq!((answer.status.as_u16(), answer.slug().as_str()), (403, "forbidden"), "{why}");
    }
    assert_eq!(w.truth(deal).await.held, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_nobody_elses() {
    let w = World::start(Run::Committer).await;
    let deal = w.deal(10, 5).await;
    let people = w.people(2).await;
    let (owner, other) = (people[0], people[1]);
    let order = w.hold(deal, owner, "k", 1).await.order();
    let path = format!("/api/v1/orders/{order}");
    assert_eq!(w.get(&path, Some(owner)).await.status, 200);
    assert_eq!(w.get(&path, None).await.slug(), "not-signed-in");
    for path in [
        path.clone(),
        format!("{path}/events"),
        format!("/api/v1/orders/{}", OrderId::new()),
        "/api/v1/orders/1".into(),
    ] {
        assert_eq!(w.get(&path, Some(other)).await.slug(), "not-found", "{path}");
    }
    for (verb, body) in [("payments", json!({"provider": "kakaopay"})), ("cancel", json!({})), ("refunds", json!({}))] {
        let path = format!("{path}/{verb}");
        assert_eq!(w.post(&path, Some(other), Some("x"), body.clone(), None).await.slug(), "not-found", "{verb}");
        assert_eq!(w.post(&path, None, Some("x"), body.clone(), None).await.slug(), "not-signed-in", "{verb}");
        assert_eq!(w.post(&path, Some(owner), None, body, None).await.slug(), "idempotency-key-missing", "{verb}");
    }
    let listed = w.get("/api/v1/orders", Some(other)).await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 0);
    assert_eq!(w.get(&path, Some(owner)).await.json()["state"], "held");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_methods_that_do_not_exist() {
    let w = World::start(Run::Committer).await;
    assert_eq!(w.get("/api/v1/nothing", None).await.slug(), "not-found");
    assert_eq!(w.get("/api/v1/sessions", None).await.slug(), "method-not-allowed");
    assert_eq!(w.get("/api/v1/accounts", None).await.slug(), "method-not-allowed");
    for query in ["limit=0", "limit=101", "limit=x", "limit=-1", "starting_after=x"] {
        assert_eq!(w.get(&format!("/api/v1/deals?{query}"), None).await.slug(), "invalid-field", "{query}");
    }
    assert_eq!(w.get("/api/v1/deals?colour=red", None).await.slug(), "bad-request");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bodies_asked_wrongly() {
    let w = World::start(Run::Committer).await;
    let deal = w.deal(10, 5).await;
    let shopper = w.person().await;
    let order = w.hold(deal, shopper, "k", 1).await.order();
    let cases: Vec<(String, Value, &str)> = vec![
        (format!("/api/v1/orders/{order}/payments"), json!({"provider": "bank"}), "invalid-field"),
        (format!("/api/v1/orders/{order}/payments"), json!({"provider": "kakaopay", "amount": 1}), "invalid-field"),
        (format!("/api/v1/orders/{order}/payments"), json!({}), "invalid-field"),
        (format!("/api/v1/orders/{order}/refunds"), json!({"reason": "x".repeat(201)}), "invalid-field"),
        (format!("/api/v1/orders/{order}/refunds"), json!({"amount": 1}), "invalid-field"),
        (format!("/api/v1/orders/{order}/refunds"), json!({}), "wrong-state"),
        ("/api/v1/accounts".into(), json!({"email": "kim", "password": "abc12345!", "name": "Kim"}), "invalid-field"),
        (
            "/api/v1/accounts".into(),
            json!({"email": "kim@example.com", "password": "short1!", "name": "Kim"}),
            "invalid-field",
        ),
        (
            "/api/v1/accounts".into(),
            json!({"email": "kim@example.com", "password": "abc12345!", "name": ""}),
            "invalid-field",
        ),
        (
            "/api/v1/accounts".into(),
            json!({"email": "kim@example.com", "password": "abc12345!", "name": "Kim", "id": 1}),
            "invalid-field",
        ),
        ("/api/v1/deals".into(), json!({"title": "x"}), "not-signed-in"),
    ];
    for (path, body, slug) in cases {
        assert_eq!(w.post(&path, Some(shopper), Some("z"), body.clone(), None).await.slug(), slug, "{path} {body}");
    }
    assert_eq!(w.get(&format!("/api/v1/orders/{order}"), Some(shopper)).await.json()["state"], "held");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_keeps_a_room_as_it_is_and_refuses_what_none_can_be() {
    let w = World::start(Run::Committer).await;
    let wanted = json!({"mode": "draw", "theme": {"name": "가온 \"도예\""}, "notice": "a\nb"});
    let mut good = None;
    let deal = w
        .deal_with(5, 5, |d| {
            d.room = wanted.clone();
            good = Some(d.clone());
        })
        .await;
    assert_eq!(w.truth(deal).await.room, wanted);
    let good = good.unwrap();
    for room in [
        json!([]),
        json!("draw"),
        json!({"mode": "lottery"}),
        json!({"lobby_opens_at_ms": good.starts_at_ms + 1}),
        json!({"lobby_opens_at_ms": "soon"}),
        json!({"end_on_purchase": "yes"}),
        json!({"notice": "x".repeat(65_536)}),
    ] {
        let new = ledger::NewDeal { id: DealId::new(), room: room.clone(), ..good.clone() };
        let idem = ledger::Idem { actor: "test".into(), key: new.id.to_string(), fingerprint: [0; 32] };
        let made = w.ledger.create_deal(&new, now_ms(), &idem, |_| ledger::Saved { status: 201, body: vec![] }).await;
        assert!(matches!(made, Err(ledger::LedgerError::Refused(_))), "{room}: {made:?}");
        assert!(w.ledger.deal(new.id).await.unwrap().is_none());
    }
}
