//! The gate over real HTTP, in front of an origin that logs every hit. One long file: each test is short, and they share one world.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod common;

use common::{World, client, settings};
use futures::StreamExt as _;
use queue::pass::{Pass, PassSigner};
use queue::ticket::{Ticket, TicketSigner};
use reqwest::header::{ACCEPT, COOKIE, SET_COOKIE};
use serde_json::Value;
use service_kit::clock::{monotonic, now_ms};
use service_kit::ids::VisitorId;
use std::time::Duration;

const HTML: &str = "text/html,application/xhtml+xml";

/// `name=value` of a `Set-Cookie`.
fn cookie_of(response: &reqwest::Response, prefix: &str) -> Option<String> {
    response
        .headers()
        .get_all(SET_COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok()?.split(';').next().map(str::to_owned))
        .find(|c| c.starts_with(prefix))
}

/// A pass for number 7 that lasts a minute.
fn pass_7(world: &World) -> Pass {
    Pass {
        room: world.room.clone(),
        visitor: VisitorId::new(),
        number: 7,
        browser: 0,
        issued_ms: now_ms(),
        expires_at_ms: now_ms() + 60_000,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn join_status_claim_forward() {
    let world = World::start(|_| {}).await;
    let http = client();
    let joined = http.post(world.room_url("tickets")).header("idempotency-key", "k-1").send().await.unwrap();
    assert_eq!(joined.status(), 201);
    let cookie = cookie_of(&joined, "fg_t_").unwrap();
    let body: Value = joined.json().await.unwrap();
    let ticket = body["ticket"].as_str().unwrap().to_owned();
    // The same key gives the same ticket's number; the same cookie gives the same ticket.
    let again: Value = http
        .post(world.room_url("tickets"))
        .header("idempotency-key", "k-1")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(again["status"]["place"], body["status"]["place"]);
    let same = http.post(world.room_url("tickets")).header(COOKIE, &cookie).send().await.unwrap();
    assert_eq!(same.status(), 200);
    assert_eq!(same.json::<Value>().await.unwrap()["ticket"], ticket.as_str());

    let mut state = String::new();
    for _ in 0..50 {
        let status = http
            .get(world.room_url("status"))
            .header("authorization", format!("Ticket {ticket}"))
            .send()
            .await
            .unwrap();
        assert_eq!(status.status(), 200);
        let status: Value = status.json().await.unwrap();
        state = status["state"].as_str().unwrap().to_owned();
        assert_eq!(status["degraded"], false);
        if state == "called" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(state, "called");
    let claimed = http.post(world.room_url("pass")).header("floodgate-ticket", &ticket).send().await.unwrap();
    assert_eq!(claimed.status(), 200);
    let pass_cookie = cookie_of(&claimed, "fg_p_").unwrap();
    let claimed: Value = claimed.json().await.unwrap();
    assert_eq!(claimed["enter_path"], world.buy().as_str());
    for (name, value) in [("cookie", pass_cookie.as_str()), ("floodgate-pass", claimed["pass"].as_str().unwrap())] {
        let inside = http.post(world.buy_url()).header(name, value).body("quantity=1").send().await.unwrap();
        assert_eq!(inside.status(), 200);
        assert_eq!(inside.headers()["x-frame-options"], "DENY");
        assert_eq!(inside.text().await.unwrap(), "origin");
    }
    let log = world.log().await;
    assert_eq!(log.len(), 2);
    for hit in &log {
        assert_eq!(hit.body, "quantity=1");
        assert_eq!(hit.all("floodgate-room"), [world.room.as_str()]);
        assert_eq!(hit.all("floodgate-lease"), [body["status"]["number"].to_string()]);
        assert_eq!(hit.all("floodgate-client-ip"), ["127.0.0.1"]);
        assert_eq!(hit.all("floodgate-visitor").len(), 1);
        assert_eq!(hit.all("traceparent").len(), 1);
        assert!(hit.all("cookie").is_empty(), "the gate's cookies stay at the gate");
        let pass = PassSigner::new(&world.ring()).verify(hit.all("floodgate-pass")[0], &world.room, now_ms()).unwrap();
        assert_eq!(pass.visitor.as_str(), hit.all("floodgate-visitor")[0]);
    }
    let left = http.delete(world.room_url("ticket")).header(COOKIE, &cookie).send().await.unwrap();
    assert_eq!(left.status(), 204);
    assert_eq!(
        http.get(format!("{}/.well-known/jwks.json", world.base)).send().await.unwrap().json::<Value>().await.unwrap()
            ["keys"][0]["crv"],
        "Ed25519"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_sees_no_page_when_nobody_waits() {
    let world = World::start(|_| {}).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut entered = client().get(world.buy_url()).header(ACCEPT, HTML).send().await.unwrap();
    let ticket = cookie_of(&entered, "fg_t_").unwrap();
    for _ in 0..30 {
        if cookie_of(&entered, "fg_p_").is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        entered = client().get(world.buy_url()).header(ACCEPT, HTML).header(COOKIE, &ticket).send().await.unwrap();
    }
    let pass = cookie_of(&entered, "fg_p_").expect("a pass");
    assert_eq!(entered.headers()["cache-control"], "no-store");
    assert_eq!(entered.text().await.unwrap(), "origin");
    let inside = client().get(world.buy_url()).header(ACCEPT, HTML).header(COOKIE, pass).send().await.unwrap();
    assert_eq!(inside.text().await.unwrap(), "origin");
    let log = world.log().await;
    assert_eq!(log.len(), 2);
    // Own parameters never reach the origin: a claim with them is sent round once.
    let sent = client()
        .get(format!("{}?fg_refresh=off&a=1", world.buy_url()))
        .header(ACCEPT, HTML)
        .header(COOKIE, &ticket)
        .send()
        .await
        .unwrap();
    assert_eq!(sent.status(), 303);
    assert_eq!(sent.headers()["location"], format!("{}?a=1", world.buy()).as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_in_a_paused_room() {
    let world = World::start(|r| r.paused = true).await;
    let http = client();
    let page = http.get(world.buy_url()).header(ACCEPT, HTML).header("accept-language", "en").send().await.unwrap();
    assert_eq!(page.status(), 200);
    let ticket = cookie_of(&page, "fg_t_").unwrap();
    let csp = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert_eq!(page.headers()["cache-control"], "no-store");
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    assert_eq!(page.headers()["referrer-policy"], "same-origin");
    assert!(page.headers()["vary"].to_str().unwrap().contains("Accept-Language"));
    let body = page.text().await.unwrap();
    assert!(body.len() <= 12 * 1024, "{} bytes", body.len());
    assert!(body.contains("Entry is paused") && body.contains("Shoes &#38; &#60;b&#62;more"), "{body}");
    for (open, close) in [("<style>", "</style>"), ("<script>", "</script>")] {
        let text = body.split_once(open).unwrap().1.split_once(close).unwrap().0;
        let hash = sha256_base64(text);
        assert!(csp.contains(&format!("'sha256-{hash}'")), "{open} is not in {csp}");
    }
    assert!(body.contains("http-equiv=\"refresh\""));
    // The link that stops the refresh works, and the place stays the same.
    let href = body.split_once("<noscript><p>").unwrap().1.split_once("href=\"").unwrap().1.split_once('"').unwrap().0;
    let stopped = http
        .get(format!("{}{href}", world.buy_url()))
        .header(ACCEPT, HTML)
        .header(COOKIE, &ticket)
        .send()
        .await
        .unwrap();
    assert!(cookie_of(&stopped, "fg_t_").is_none(), "no second ticket");
    let stopped = stopped.text().await.unwrap();
    assert!(!stopped.contains("http-equiv") && stopped.contains("입장이 잠시 멈췄습니다"), "Korean by default");
    // The language link works without JavaScript.
    let english = http
        .get(format!("{}?fg_lang=en", world.buy_url()))
        .header(ACCEPT, HTML)
        .header(COOKIE, &ticket)
        .send()
        .await
        .unwrap();
    assert_eq!(cookie_of(&english, "fg_lang=").as_deref(), Some("fg_lang=en"));
    assert!(english.text().await.unwrap().contains("Entry is paused"));
    // Not one of these reached the origin, and forms and programs are told so in their own way.
    let form = http.post(world.buy_url()).header(ACCEPT, HTML).form(&[("quantity", "1")]).send().await.unwrap();
    assert_eq!((form.status().as_u16(), form.headers()["location"].to_str().unwrap()), (303, world.buy().as_str()));
    let api = http.post(format!("{}/api/v1/deals/{}/holds", world.base, world.deal)).body("{}").send().await.unwrap();
    assert_eq!(api.status(), 429);
    assert!(api.headers().contains_key("retry-after"));
    assert_eq!(api.headers()["content-type"], "application/problem+json");
    let problem: Value = api.json().await.unwrap();
    assert_eq!(problem["type"], "/problems/wait-in-line");
    assert_eq!(problem["join"], format!("/_floodgate/rooms/{}/tickets", world.room).as_str());
    assert_eq!(problem["state"], "paused");
    let head = http.head(world.buy_url()).header(ACCEPT, HTML).send().await.unwrap();
    assert!(head.status() == 200 && cookie_of(&head, "fg_t_").is_none());
    // Leaving works without JavaScript and gives a page.
    let left = http
        .post(world.room_url("leave"))
        .header(ACCEPT, HTML)
        .header(COOKIE, &ticket)
        .header("content-length", "0")
        .send()
        .await
        .unwrap();
    assert_eq!(left.status(), 200);
    assert!(left.text().await.unwrap().contains("줄에서 나왔습니다"));
    assert!(world.log().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_variant_of_a_protected_path_reaches_the_origin() {
    // As in production, everything that no other route names goes to the shop: a second spelling that the
    // gate took for another path would be forwarded.
    let catch_all = |config: &mut Value| {
        config["routes"].as_array_mut().unwrap().push(serde_json::json!({ "path": "/*", "upstream": "shop" }));
    };
    let world = World::start_with(|r| r.paused = true, catch_all).await;
    let deal = world.deal.to_string();
    let variants = variants(&deal);
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get"];
    assert!(variants.len() * methods.len() >= 5_000, "{}", variants.len() * methods.len());
    let world = std::sync::Arc::new(world);
    let tasks = variants.chunks(variants.len().div_ceil(8)).map(|chunk| {
        let (chunk, world) = (chunk.to_vec(), world.clone());
        tokio::task::spawn_blocking(move || {
            let mut refused = 0;
            for target in chunk {
                for method in methods {
                    let answer = world.raw(&request(method, &target, ""));
                    refused += usize::from(answer.starts_with("HTTP/1.1 4"));
                }
            }
            refused
        })
    });
    let refused: usize =
        futures::future::join_all(tasks.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).sum();
    // What did arrive is another path for every server, however lenient.
    let protected =
        [format!("deals/{deal}/buy"), format!("deals/{deal}/buy/now"), format!("api/v1/deals/{deal}/holds")];
    for hit in world.log().await {
        let read = lenient(&hit.target);
        assert!(!protected.contains(&read), "{} {} is read as {read}", hit.method, hit.target);
    }
    assert!(refused > 4_000, "{refused}");
}

fn request(method: &str, target: &[u8], headers: &str) -> Vec<u8> {
    let mut bytes = format!("{method} ").into_bytes();
    bytes.extend_from_slice(target);
    bytes
        .extend_from_slice(format!(" HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n{headers}\r\n").as_bytes());
    bytes
}

/// How the most lenient server would read a target: decoded twice, folded, resolved, trimmed.
fn lenient(target: &str) -> String {
    let decode = |text: &str| {
        let mut out: Vec<u8> = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((byte, tail)) = rest.split_first() {
            let code = (*byte == b'%')
                .then(|| tail.get(..2))
                .flatten()
                .and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
            out.push(code.unwrap_or(*byte));
            rest = if code.is_some() { &tail[2..] } else { tail };
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    let path = target.split(['?', '#']).next().unwrap_or("");
    let text = decode(&decode(path)).replace('\\', "/").to_lowercase();
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/').map(|s| s.split([';', '\0']).next().unwrap_or("").trim()) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            s => segments.push(s),
        }
    }
    segments.join("/")
}

/// Second spellings of the protected paths, as servers are known to read them.
fn variants(deal: &str) -> Vec<Vec<u8>> {
    let paths = [format!("/deals/{deal}/buy"), format!("/deals/{deal}/buy/now"), format!("/api/v1/deals/{deal}/holds")];
    let mut out: Vec<Vec<u8>> = Vec::new();
    for path in &paths {
        out.extend(
            [path.clone(), format!("{path}/"), path.to_uppercase(), path.replace("deals", "Deals")]
                .map(String::into_bytes),
        );
        for i in 1..path.len() {
            let (head, tail) = path.split_at(i);
            let (first, rest) = tail.split_at(1);
            let byte = first.as_bytes()[0];
            let escaped =
                [format!("%{byte:02X}"), format!("%{byte:02x}"), format!("%25{byte:02X}"), format!("%u00{byte:02x}")];
            out.extend(escaped.iter().map(|e| format!("{head}{e}{rest}").into_bytes()));
            out.push(format!("{head}{}{rest}", first.to_ascii_uppercase()).into_bytes());
            for wide in
                [vec![0xC0 | byte >> 6, 0x80 | (byte & 0x3F)], vec![0xE0, 0x80 | byte >> 6, 0x80 | (byte & 0x3F)]]
            {
                let text: String = wide.iter().map(|b| format!("%{b:02X}")).collect();
                out.push(format!("{head}{text}{rest}").into_bytes());
                out.push([head.as_bytes(), &wide, rest.as_bytes()].concat());
            }
            if byte == b'/' {
                for slash in [
                    "//",
                    "/./",
                    "/x/../",
                    "/%2e/",
                    "/%2E%2E/x/",
                    "\\",
                    "%2F",
                    "%2f",
                    "%5C",
                    "/;/",
                    ";/",
                    "/..;/",
                    "/.;/",
                    "/%20/",
                    "/\u{2215}",
                    "%EF%BC%8F",
                ] {
                    out.push(format!("{head}{slash}{rest}").into_bytes());
                }
            }
        }
        for end in [
            "%00", "%0a", "%20", "%09", ";", ";x=1", "#", "%23", "?", "?a=b", "..", "/.", "/..;/", "/./", "//", "\\",
            ".json", "%3F", "~", "\t", "\0", "%", "%2", "%zz", "/%2e", "\u{a0}",
        ] {
            out.push(format!("{path}{end}").into_bytes());
        }
        for start in [
            "http://shop.example",
            "http://shop.example/",
            "HTTPS://shop.example",
            "//shop.example",
            "*",
            "shop.example:80",
            "/.",
            "/x/..",
            "/%2e",
            "\\",
            "x",
        ] {
            out.push(format!("{start}{path}").into_bytes());
        }
    }
    out.retain(|t| !t.is_empty() && !t.contains(&b' '));
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_expired_and_foreign_tokens_open_nothing() {
    let world = World::start(|r| r.paused = true).await;
    let http = client();
    let other: service_kit::ids::RoomId = "deal-other".parse().unwrap();
    let (passes, tickets) = (PassSigner::new(&world.ring()), TicketSigner::new(&world.ring()));
    let stranger = service_kit::keys::KeyRing::new(&service_kit::keys::KeysConfig {
        ring: vec![service_kit::keys::KeyRing::generate("k1")],
    })
    .unwrap();
    let pass = |room: &service_kit::ids::RoomId, ms: i64| Pass {
        room: room.clone(),
        visitor: VisitorId::new(),
        number: 1,
        browser: 0,
        issued_ms: now_ms(),
        expires_at_ms: now_ms() + ms,
    };
    let good = passes.issue(&pass(&world.room, 60_000)).unwrap();
    let inside = http.get(world.buy_url()).header("floodgate-pass", &good).send().await.unwrap();
    assert_eq!(inside.status(), 200, "a good pass works");
    let ticket = |room: &service_kit::ids::RoomId| Ticket {
        room: room.clone(),
        number: 1,
        place: 8,
        visitor: VisitorId::new(),
        joined_ms: now_ms(),
        promise_low_ms: 0,
        promise_high_ms: 0,
        nonce: None,
    };
    let mut bad = vec![
        passes.issue(&pass(&world.room, -1_000)).unwrap(),
        passes.issue(&pass(&other, 60_000)).unwrap(),
        PassSigner::new(&stranger).issue(&pass(&world.room, 60_000)).unwrap(),
        tickets.issue(&ticket(&world.room)),
        "eyJhbGciOiJub25lIiwidHlwIjoicGFzcytqd3QiLCJraWQiOiJrMSJ9.eyJhdWQiOiJ4In0.".into(),
        "x".repeat(2_000),
    ];
    for i in (0..good.len()).step_by(3) {
        let mut bytes = good.clone().into_bytes();
        bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
        bad.push(String::from_utf8(bytes).unwrap());
        bad.push(good[..i].to_owned());
    }
    for token in &bad {
        for request in [
            http.get(world.buy_url()).header("floodgate-pass", token),
            http.get(world.buy_url()).header(COOKIE, format!("fg_p_{}={token}", world.room)),
        ] {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 429, "{token}");
        }
    }
    assert_eq!(world.log().await.len(), 1);
    for token in
        [tickets.issue(&ticket(&other)), TicketSigner::new(&stranger).issue(&ticket(&world.room)), good, "x".into()]
    {
        for endpoint in ["status", "pass", "tickets"] {
            let method = if endpoint == "status" { reqwest::Method::GET } else { reqwest::Method::POST };
            let answer =
                http.request(method, world.room_url(endpoint)).header("floodgate-ticket", &token).send().await.unwrap();
            assert_eq!(answer.status(), 401, "{endpoint} {token}");
            assert_eq!(answer.json::<Value>().await.unwrap()["type"], "/problems/ticket-invalid");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_headers_come_from_the_gate_only() {
    let world = World::start(|_| {}).await;
    let injected = "Floodgate-Visitor: evil\r\nfloodgate-visitor: evil2\r\nFloodgate_Visitor: evil3\r\nFLOODGATE-ROOM: evil\r\nFloodgate-Lease: 1\r\nFloodgate-Lease: 2\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-Host: evil\r\nFloodgate-Client-Ip: 6.6.6.6\r\nfloodgate.pass: evil\r\n";
    world.raw(&request("GET", b"/open/x", injected));
    let pass = pass_7(&world);
    let token = PassSigner::new(&world.ring()).issue(&pass).unwrap();
    let nominated = format!(
        "{injected}Floodgate-Pass: {token}\r\nConnection: floodgate-visitor, floodgate-room, floodgate-lease, floodgate-client-ip, traceparent\r\n"
    );
    let answer = world.raw(&request("GET", world.buy().as_bytes(), &nominated));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let log = world.log().await;
    assert_eq!(log.len(), 2);
    for hit in &log {
        let text = format!("{:?}", hit.headers);
        assert!(!text.contains("evil") && !text.contains("6.6.6.6"), "{text}");
        assert_eq!(hit.all("floodgate-client-ip"), ["127.0.0.1"]);
    }
    assert!(log[0].all("floodgate-room").is_empty());
    assert_eq!(log[1].all("floodgate-visitor"), [pass.visitor.as_str()]);
    assert_eq!(log[1].all("floodgate-room"), [world.room.as_str()]);
    assert_eq!(log[1].all("floodgate-lease"), ["7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_polls_while_five_thousand_wait_do_not_touch_redis() {
    const PEOPLE: usize = 5_000;
    const POLLS: usize = 20_000;
    let world = World::start(|r| r.paused = true).await;
    let settings = settings(world.deal);
    let line = queue::line::Line::new(world.redis.clone());
    let tickets = TicketSigner::new(&world.ring());
    let mut waiting = Vec::with_capacity(PEOPLE);
    for n in 0..PEOPLE {
        let visitor = VisitorId::new();
        let joined = line.join(&settings, &visitor, &format!("k{n}"), now_ms()).await.unwrap();
        let ticket = Ticket {
            room: world.room.clone(),
            number: joined.number,
            place: joined.place,
            visitor,
            joined_ms: joined.joined_ms,
            promise_low_ms: 0,
            promise_high_ms: 0,
            nonce: None,
        };
        waiting.push(tickets.issue(&ticket));
    }
    let calls = || async {
        let info = world.redis.command("INFO", &["commandstats"]).await.unwrap().text().unwrap();
        info.split("calls=").skip(1).filter_map(|s| s.split(',').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    let http = client();
    let before = calls().await;
    let started = monotonic();
    futures::stream::iter(0..POLLS)
        .for_each_concurrent(32, |n| {
            let poll = http.get(world.room_url("status")).header("floodgate-ticket", &waiting[n % PEOPLE]);
            async move { assert_eq!(poll.send().await.unwrap().status(), 200) }
        })
        .await;
    let (polling, during) = (started.elapsed(), calls().await - before);
    // Ticks, boards and heartbeats in batches go on by the clock; compare with as long a time without polls.
    let before = calls().await;
    tokio::time::sleep(polling).await;
    let quiet = calls().await - before;
    let more = during.saturating_sub(quiet);
    eprintln!("{POLLS} polls in {polling:?}: {during} commands, scripts' inner ones included; {quiet} without polls");
    assert!(more < POLLS as u64 / 20, "{more} commands more than without polls");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_upstream_gets_an_assertion_and_not_the_pass() {
    let world = World::start_with(|_| {}, |config| config["upstreams"][0]["foreign"] = true.into()).await;
    let pass = pass_7(&world);
    let token = PassSigner::new(&world.ring()).issue(&pass).unwrap();
    let http = client();
    let forged = http.get(world.buy_url()).header("floodgate-pass", &token).header("floodgate-assertion", "forged");
    assert_eq!(forged.send().await.unwrap().status(), 200);
    let log = world.log().await;
    assert!(log[0].all("floodgate-pass").is_empty());
    let [assertion] = log[0].all("floodgate-assertion")[..] else { panic!("exactly one assertion: {:?}", log[0]) };
    let keys: Value =
        http.get(format!("{}/.well-known/jwks.json", world.base)).send().await.unwrap().json().await.unwrap();
    let key = jsonwebtoken::DecodingKey::from_ed_components(keys["keys"][0]["x"].as_str().unwrap()).unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    rules.set_audience(&[world.room.as_str()]);
    rules.set_issuer(&[&world.base]);
    let claims = jsonwebtoken::decode::<proxy::assertion::Claims>(assertion, &key, &rules).unwrap().claims;
    assert_eq!((claims.sub.as_str(), claims.lease), (pass.visitor.as_str(), 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_methods_bodies_hosts_and_routes() {
    let world = World::start(|_| {}).await;
    let http = client();
    for (endpoint, method, allow) in [
        ("tickets", "GET", "POST"),
        ("status", "POST", "GET, HEAD"),
        ("board", "DELETE", "GET, HEAD"),
        ("pass", "GET", "POST"),
        ("leave", "GET", "POST"),
        ("ticket", "POST", "DELETE"),
    ] {
        let answer = http.request(method.parse().unwrap(), world.room_url(endpoint)).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["allow"].to_str().unwrap()), (405, allow), "{endpoint}");
    }
    assert_eq!(http.post(world.room_url("tickets")).body(vec![b'x'; 1_025]).send().await.unwrap().status(), 413);
    assert_eq!(http.post(world.room_url("tickets")).body("small").send().await.unwrap().status(), 201);
    assert_eq!(
        http.post(world.room_url("tickets")).header("idempotency-key", "no spaces").send().await.unwrap().status(),
        422
    );
    assert_eq!(http.get(world.room_url("nothing")).send().await.unwrap().status(), 404);
    assert_eq!(http.get(format!("{}/_floodgate/rooms/deal-x/status", world.base)).send().await.unwrap().status(), 404);
    assert_eq!(http.get(format!("{}/elsewhere", world.base)).send().await.unwrap().status(), 404);
    let unknown = format!("{}/deals/{}/buy", world.base, service_kit::ids::DealId::new());
    assert_eq!(http.get(unknown).send().await.unwrap().status(), 404);
    let board = http.get(world.room_url("board")).send().await.unwrap();
    assert_eq!(board.headers()["cache-control"], "public, max-age=1");
    for (bytes, status) in [
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\nConnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n", "400"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "405"),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nConnection: close\r\n\r\n", "405"),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "400"),
    ] {
        let answer = world.raw(bytes.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{bytes}: {answer}");
    }
    let many: String = (0..120).map(|i| format!("X-{i}: 1\r\n")).collect();
    assert!(world.raw(&request("GET", b"/", &many)).starts_with("HTTP/1.1 431"));
    assert!(world.log().await.is_empty());
    assert_eq!(http.get(&world.base).send().await.unwrap().text().await.unwrap(), "origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_away_is_told_in_the_callers_way() {
    let world = World::start(|_| {}).await;
    let api = client().get(format!("{}/away/x", world.base)).send().await.unwrap();
    assert_eq!(api.status(), 502);
    assert_eq!(api.json::<Value>().await.unwrap()["type"], "/problems/upstream-unavailable");
    let page = client()
        .get(format!("{}/away/x", world.base))
        .header(ACCEPT, HTML)
        .header("accept-language", "en")
        .send()
        .await
        .unwrap();
    assert_eq!(page.status(), 502);
    assert!(page.text().await.unwrap().contains("The shop does not answer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_pass_through_unbuffered() {
    let world = World::start(|_| {}).await;
    let answer = client().get(format!("{}/open/events", world.base)).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut events = answer.bytes_stream();
    let first =
        tokio::time::timeout(Duration::from_millis(500), events.next()).await.expect("at once").unwrap().unwrap();
    assert_eq!(&first[..], b"data: 0\n\n");
    let second = tokio::time::timeout(Duration::from_millis(1_500), events.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(&second[..], b"data: 1\n\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_away_admits_nobody_and_keeps_passes() {
    let mut world = World::start(|_| {}).await;
    let http = client();
    let pass = pass_7(&world);
    let token = PassSigner::new(&world.ring()).issue(&pass).unwrap();
    world.kill_redis().await;
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    let status: Value = http.get(world.room_url("status")).send().await.unwrap().json().await.unwrap();
    assert_eq!(status["degraded"], true);
    let page = http.get(world.buy_url()).header(ACCEPT, HTML).header("accept-language", "en").send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("Connection lost"));
    assert_eq!(http.post(world.room_url("tickets")).send().await.unwrap().status(), 503);
    assert_eq!(http.get(format!("{}/readyz", world.admin)).send().await.unwrap().status(), 503);
    let unknown = format!("{}/deals/{}/buy", world.base, service_kit::ids::DealId::new());
    assert_eq!(http.get(unknown).send().await.unwrap().status(), 503, "the room may exist");
    assert!(world.log().await.is_empty());
    let inside = http.get(world.buy_url()).header("floodgate-pass", &token).send().await.unwrap();
    assert_eq!(inside.status(), 200, "passes in hand keep working");
    world.start_redis_again().await;
    let mut back = false;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let status: Value = http.get(world.room_url("status")).send().await.unwrap().json().await.unwrap();
        back = status["degraded"] == false;
        if back {
            break;
        }
    }
    assert!(back, "it goes on by itself");
    assert_eq!(http.get(format!("{}/readyz", world.admin)).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_site_cannot_take_a_place_away() {
    let world = World::start(|_| {}).await;
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example"), ("origin", "null")] {
        for endpoint in ["tickets", "leave", "pass"] {
            let answer = client()
                .post(world.room_url(endpoint))
                .header(ACCEPT, HTML)
                .header(name, value)
                .body("")
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), 403, "{endpoint} {name}: {value}");
            assert!(cookie_of(&answer, "fg_t_").is_none());
        }
    }
    let own = client()
        .post(world.room_url("tickets"))
        .header(ACCEPT, HTML)
        .header("origin", &world.base)
        .header("sec-fetch-site", "same-origin");
    let own =
        own.header("referer", format!("{}?a=1&fg_lang=en", world.buy_url())).form(&[("a", "b")]).send().await.unwrap();
    assert_eq!(
        (own.status().as_u16(), own.headers()["location"].to_str().unwrap()),
        (303, format!("{}?a=1", world.buy()).as_str())
    );
    assert!(cookie_of(&own, "fg_t_").is_some());
    for referer in [
        "https://evil.example/x",
        "//evil.example",
        "http://shop.example@evil.example/",
        &format!("{}//evil.example", world.base),
    ] {
        let back = client()
            .post(world.room_url("tickets"))
            .header(ACCEPT, HTML)
            .header("referer", referer)
            .form(&[("a", "b")]);
        assert_eq!(back.send().await.unwrap().headers()["location"], world.buy().as_str(), "{referer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_per_address_answer_in_the_callers_way() {
    let fewer = |config: &mut Value| {
        for (name, most) in [("joins_per_s", 1), ("joins_burst", 1), ("joins_hard_per_s", 1), ("joins_hard_burst", 2)] {
            config["limits"][name] = most.into();
        }
    };
    let world = World::start_with(|_| {}, fewer).await;
    let join = || client().post(world.room_url("tickets")).header("x-forwarded-for", "9.9.9.9").send();
    assert_eq!((join().await.unwrap().status().as_u16(), join().await.unwrap().status().as_u16()), (201, 201));
    let limited = join().await.unwrap();
    assert_eq!(limited.status(), 429);
    assert!(limited.headers().contains_key("retry-after"));
    assert_eq!(limited.json::<Value>().await.unwrap()["type"], "/problems/too-many-requests");
    let page = client().get(world.buy_url()).header(ACCEPT, HTML).send().await.unwrap();
    assert_eq!(page.status(), 429);
    assert!(page.text().await.unwrap().contains("잠시만 기다려 주세요"));
    assert_eq!(
        client().get(world.room_url("status")).send().await.unwrap().status(),
        200,
        "polls have their own budget"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_room_needs_no_registry() {
    let hall = |config: &mut Value| {
        config["rooms"] = serde_json::json!([{ "room": "hall", "title": "Hall", "rate_per_s": 100, "inside_max": 100, "enter_path": "/hall/" }]);
        config["routes"]
            .as_array_mut()
            .unwrap()
            .push(serde_json::json!({ "path": "/hall/*", "upstream": "shop", "room": "hall" }));
    };
    let world = World::start_with(|_| {}, hall).await;
    let url = format!("{}/hall/x", world.base);
    let mut answer = client().get(&url).header(ACCEPT, HTML).send().await.unwrap();
    let ticket = cookie_of(&answer, "fg_t_hall=").unwrap();
    for _ in 0..30 {
        if cookie_of(&answer, "fg_p_hall=").is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        answer = client().get(&url).header(ACCEPT, HTML).header(COOKIE, &ticket).send().await.unwrap();
    }
    assert_eq!(answer.text().await.unwrap(), "origin");
    assert_eq!(world.log().await[0].all("floodgate-room"), ["hall"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_rooms_say_so() {
    let world = World::start(|r| r.closed = true).await;
    let page = client().get(world.buy_url()).header(ACCEPT, HTML).header("accept-language", "en").send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(cookie_of(&page, "fg_t_").is_none());
    assert!(page.text().await.unwrap().contains("The waiting room is closed"));
    let api = client().post(world.buy_url()).send().await.unwrap();
    assert_eq!(api.status(), 409);
    assert_eq!(api.json::<Value>().await.unwrap()["type"], "/problems/room-closed");
    assert_eq!(client().post(world.room_url("tickets")).send().await.unwrap().status(), 409);
    assert!(world.log().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_described_and_the_end_is_quick() {
    let mut world = World::start(|_| {}).await;
    let text = client().get(format!("{}/metrics", world.admin)).send().await.unwrap().text().await.unwrap();
    for name in [
        "floodgate_gate_status_requests_total",
        "floodgate_gate_pass_verifications_total",
        "floodgate_gate_inflight_requests",
    ] {
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
    let took = tokio::task::spawn_blocking(move || world.stop()).await.unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

fn sha256_base64(text: &str) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(text.as_bytes()))
}
