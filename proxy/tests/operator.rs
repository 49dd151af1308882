//! Operators over real HTTP: who may do what, that every gate obeys, and that log and journal show it afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod operator_support;

use operator_support::House;
use proxy::journal::{evidence, read};
use queue::control;
use serde_json::{Value, json};
use service_kit::chain::Entry;

fn why() -> Value {
    json!({ "why": "a test" })
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_say_who_may_do_what() {
    let house = House::start(1).await;
    let admin = &house.gates[0].admin;
    for path in ["/v1/rooms", "/v1/rooms/drop", "/v1/rooms/drop/log"] {
        let nobody = house.http.get(format!("{admin}{path}")).send().await.unwrap();
        assert_eq!(
            (nobody.status().as_u16(), &nobody.headers()["www-authenticate"]),
            (401, &"Bearer".parse().unwrap())
        );
        assert_eq!(nobody.headers()["content-type"], "application/problem+json");
        for token in [&house.viewer, &house.operator, &house.chief] {
            assert_eq!(house.get(token, path).await.0, 200, "{path}");
        }
        let public = house.http.get(format!("{}{path}", house.gates[0].base)).bearer_auth(&house.chief).send().await;
        assert_eq!(public.unwrap().status(), 404, "{path} is not on the public port");
    }
    // Who, what, body, key, and what comes of it.
    let rate = json!({ "rate_per_s": 7, "why": "a test" });
    type Case<'a> = (&'a str, &'a str, Value, Option<&'a str>, u16, &'a str);
    let cases: &[Case<'_>] = &[
        ("fgo_wrong", "drop/pause", why(), Some("a"), 401, "not-signed-in"),
        (&house.viewer, "drop/pause", why(), Some("a"), 403, "forbidden"),
        (&house.operator, "drop/close", why(), Some("a"), 403, "forbidden"),
        (
            &house.operator,
            "drop/log/archive",
            json!({"upto_seq": 1, "hash": "x", "why": "x"}),
            Some("a"),
            403,
            "forbidden",
        ),
        (&house.operator, "nowhere/pause", why(), Some("a"), 404, "not-found"),
        (&house.operator, "drop/explode", why(), Some("a"), 404, "not-found"),
        (&house.operator, "drop/archive", why(), Some("a"), 404, "not-found"),
        (&house.operator, "drop/pause", json!({}), Some("a"), 422, "invalid-field"),
        (&house.operator, "drop/rate", json!({"rate_per_s": 0, "why": "x"}), Some("a"), 422, "invalid-field"),
        (&house.operator, "drop/pause", why(), None, 400, "idempotency-key-missing"),
        (&house.operator, "drop/pause", why(), Some("a\"b"), 422, "invalid-field"),
        (&house.operator, "drop/extend", json!({"by_ms": 1, "why": "x"}), Some("a"), 409, "wrong-state"),
        (
            &house.chief,
            "drop/log/archive",
            json!({"upto_seq": 1, "hash": "x", "why": "x"}),
            Some("a"),
            409,
            "wrong-state",
        ),
        (&house.operator, "drop/rate", rate.clone(), Some("r"), 200, ""),
        (&house.operator, "drop/rate", rate.clone(), Some("r"), 200, ""),
        (
            &house.operator,
            "drop/rate",
            json!({"rate_per_s": 8, "why": "a test"}),
            Some("r"),
            422,
            "idempotency-key-reused",
        ),
        (&house.chief, "drop/rate", rate.clone(), Some("r"), 422, "idempotency-key-reused"),
        (&house.operator, "drop/pause", why(), Some("p"), 200, ""),
        (&house.operator, "drop/pause", why(), Some("p"), 200, ""),
        (&house.operator, "drop/pause", why(), Some("p2"), 409, "wrong-state"),
        (&house.chief, "drop/close", why(), Some("c"), 200, ""),
        (&house.chief, "drop/reopen", why(), Some("o"), 200, ""),
    ];
    for (token, path, body, key, status, slug) in cases {
        let (answered, document) = house.post(0, token, path, *key, body).await;
        assert_eq!(answered, *status, "{path} {body}: {document}");
        if *status != 200 {
            assert_eq!(document["type"], format!("/problems/{slug}"), "{path} {body}: {document}");
            assert!(document["detail"].as_str().is_some_and(|d| d.len() > 10), "{document}");
        }
    }
    let (_, log) = house.get(&house.viewer, "/v1/rooms/drop/log").await;
    let actions: Vec<_> = log.lines().map(|l| Entry::read(l).unwrap().text("action").unwrap().to_owned()).collect();
    assert_eq!(actions, ["rate", "pause", "close", "reopen"], "what was refused or repeated left no entry");
    let again = house.post(0, &house.operator, "drop/rate", Some("r"), &rate).await.1;
    assert_eq!(
        (&again["repeated"], &again["entry"]["seq"], &again["entry"]["who"]),
        (&json!(true), &json!(1), &json!("otto"))
    );
    let (status, document) = house.get(&house.viewer, "/v1/rooms/drop/log?limit=0").await;
    assert_eq!(status, 422, "{document}");
    let metrics = house.http.get(format!("{admin}/metrics")).send().await.unwrap().text().await.unwrap();
    let counted = |action: &str| {
        let series = format!("action=\"{action}\"");
        let line =
            metrics.lines().find(|l| l.starts_with("floodgate_queue_operator_actions_total{") && l.contains(&series));
        line.and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
    };
    for action in proxy::operator::rules::ACTIONS {
        assert!(counted(action).is_some(), "{action} is not exported");
    }
    // Tests of one process share the counters.
    assert!(counted("rate") >= Some(1.0) && counted("close") >= Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_gate_does_what_one_was_told() {
    let house = House::start(2).await;
    let both = async |what: &str, check: fn(&Value) -> bool| {
        for gate in [0, 1] {
            house.until(what, async || house.board(gate).await.is_some_and(|board| check(&board))).await;
        }
    };
    let tell = async |gate: usize, action: &str, body: Value| {
        let key = format!("{action}-{body}").replace('"', "'").replace(' ', "");
        let (status, document) = house.post(gate, &house.operator, &format!("drop/{action}"), Some(&key), &body).await;
        assert_eq!(status, 200, "{action}: {document}");
        document
    };
    let paused = tell(0, "pause", why()).await;
    assert_eq!(
        (&paused["entry"]["before"], &paused["entry"]["after"]),
        (&json!({"paused": false}), &json!({"paused": true}))
    );
    both("both gates are paused", |board| board["state"] == "paused").await;
    tell(1, "rate", json!({"rate_per_s": 3, "why": "slow"})).await;
    both("both gates know the rate", |board| board["rate_per_s"]["target"] == 3).await;
    tell(0, "resume", why()).await;
    both("both gates are open", |board| board["state"] == "open").await;
    let in_an_hour = service_kit::clock::now_ms() + 3_600_000;
    tell(1, "schedule", json!({"starts_at_ms": in_an_hour, "why": "late"})).await;
    both("both gates are in the lobby", |board| board["state"] == "lobby").await;

    // The store loses everything: gates go on as they were told, write it back, and a new gate learns it.
    house.redis.command("FLUSHALL", &[]).await.unwrap();
    let drop = "drop".parse().unwrap();
    house
        .until("the record is back", async || {
            control::steered(&house.redis, &drop).await.ok().flatten().is_some_and(|s| s.set.rate_per_s == Some(3))
        })
        .await;
    both("both gates keep the hours and the rate", |board| {
        board["starts_at_ms"].as_i64() > Some(service_kit::clock::now_ms()) && board["rate_per_s"]["target"] == 3
    })
    .await;
    let lines = control::log(&house.redis, &drop, 0, 100).await.unwrap();
    let verified = control::verify(lines.iter().map(String::as_str)).unwrap();
    assert_eq!((verified.entries, verified.missing), (1, vec![(1, 4)]));
    let entry = Entry::read(&lines[0]).unwrap();
    assert_eq!((entry.text("action"), entry.text("role")), (Some("restored"), Some("system")));
}

/// Takes a number at a gate, waits for the call, claims. Ticket and number.
async fn through_the_line(house: &House, gate: usize) -> (String, u64) {
    let room = format!("{}/_floodgate/rooms/drop", house.gates[gate].base);
    let joined = house.http.post(format!("{room}/tickets")).header("idempotency-key", format!("k-{gate}")).send().await;
    let joined: Value = joined.unwrap().json().await.unwrap();
    let ticket = joined["ticket"].as_str().unwrap().to_owned();
    house
        .until("the pass is there", async || {
            let claim = house.http.post(format!("{room}/pass")).header("floodgate-ticket", &ticket).send().await;
            claim.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    let number = ticket.split('.').nth(2).unwrap().parse().unwrap();
    (ticket, number)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitors_way_can_be_shown_afterwards() {
    let mut house = House::start(2).await;
    let (ticket, number) = through_the_line(&house, 0).await;
    let (_, other) = through_the_line(&house, 1).await;
    assert_ne!(number, other);
    let notice = json!({ "notice": { "ko": "곧", "en": "Soon" }, "why": "people ask" });
    assert_eq!(house.post(1, &house.operator, "drop/notice", Some("n"), &notice).await.0, 200);
    let room = "drop".parse().unwrap();
    house
        .until("the operator's entry is in the journal", async || {
            evidence::of(&house.journal(), &room, number).is_ok_and(|found| !found.operators.is_empty())
        })
        .await;
    let url = format!("{}/_floodgate/rooms/drop/ticket", house.gates[0].base);
    let left = house.http.delete(url).header("floodgate-ticket", &ticket).send().await.unwrap();
    assert_eq!(left.status(), 204);
    for gate in [0, 1] {
        house.stop(gate);
    }
    let found = evidence::of(&house.journal(), &room, number).unwrap();
    assert!(found.holds() && found.journals.len() == 2 && found.journals.iter().all(|j| j.closed));
    assert_eq!((found.place.is_some(), found.visitor.is_some(), found.joined_ms > Some(0)), (true, true, true));
    let (joined, claimed, left) = (found.joined.unwrap(), found.claimed.unwrap(), found.left.unwrap());
    assert!(joined.seq <= claimed.seq && claimed.seq <= left.seq && joined.gate == left.gate);
    assert!(found.reached.is_some(), "the board showed the call");
    assert_eq!((&found.operators[0]["who"], &found.operators[0]["why"]), (&json!("otto"), &json!("people ask")));

    // A restart goes on with the same chain, and a changed byte anywhere is found.
    let other = evidence::of(&house.journal(), &room, other).unwrap();
    assert!(other.claimed.is_some() && other.left.is_none());
    let file = std::fs::read_dir(house.journal()).unwrap().map(|e| e.unwrap().path()).find(|p| {
        p.extension().is_some_and(|e| e == "ndjson") && std::fs::read_to_string(p).unwrap().contains("\"claims\":[[")
    });
    let file = file.unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("\"claims\":[[", "\"claims\":[[9", 1)).unwrap();
    let reports = read::journals(&house.journal(), |_| {}).unwrap();
    assert_eq!(reports.iter().filter(|r| r.broken.is_some()).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_log_goes_on_where_it_was_cut() {
    let house = House::start(1).await;
    for n in 1..=4 {
        let rate = json!({ "rate_per_s": n, "why": "a test" });
        assert_eq!(house.post(0, &house.operator, "drop/rate", Some(&format!("r{n}")), &rate).await.0, 200);
    }
    let (_, log) = house.get(&house.viewer, "/v1/rooms/drop/log?after=1&limit=2").await;
    let page: Vec<Entry> = log.lines().map(|line| Entry::read(line).unwrap()).collect();
    assert_eq!(page.iter().map(|e| e.seq).collect::<Vec<_>>(), [2, 3]);
    let body = json!({ "upto_seq": 3, "hash": page[1].hash, "why": "saved" });
    let wrong = json!({ "upto_seq": 3, "hash": page[0].hash, "why": "saved" });
    assert_eq!(house.post(0, &house.chief, "drop/log/archive", Some("w"), &wrong).await.0, 409);
    for _ in 0..2 {
        assert_eq!(
            house.post(0, &house.chief, "drop/log/archive", Some("a"), &body).await.0,
            200,
            "a repeat takes out nothing more"
        );
    }
    let (_, rest) = house.get(&house.viewer, "/v1/rooms/drop/log").await;
    let verified = control::verify(rest.lines()).unwrap();
    assert_eq!((verified.entries, verified.tail.seq, verified.missing), (2, 5, vec![(1, 3)]));
    let (_, shown) = house.get(&house.viewer, "/v1/rooms/drop").await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["log"]["hash"], &shown["settings"]["rate_per_s"]), (&json!(verified.tail.hash), &json!(4)));
    assert_eq!(shown["published"]["rate_per_s"], 100);
}
