//! (long: each test is short, and they share their helpers) Who gets a number and who gets in: rules, codes, persons,
//! copied passes, sessions, reloads, proofs, crowds from one address. Over real HTTP, in front of an origin that logs every hit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod common;

use common::{World, client};
use proxy::code::Codes;
use proxy::proof::{self, Proofs};
use queue::pass::{Pass, PassSigner};
use queue::settings::RoomSettings;
use reqwest::header::{ACCEPT, COOKIE, SET_COOKIE, USER_AGENT};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use service_kit::clock::now_ms;
use service_kit::ids::VisitorId;
use service_kit::session::{Claims, SessionTokens};
use std::time::Duration;

const HTML: &str = "text/html,application/xhtml+xml";

/// Puts fields into the room's settings as an operator would write them.
fn with(fields: Value) -> impl Fn(&mut RoomSettings) {
    move |room| {
        let mut all = serde_json::to_value(&*room).unwrap();
        for (name, value) in fields.as_object().unwrap() {
            all[name] = value.clone();
        }
        *room = serde_json::from_value(all).unwrap();
        room.validate().unwrap();
    }
}

fn cookie_of(response: &Response, prefix: &str) -> Option<String> {
    let cookies = response.headers().get_all(SET_COOKIE).iter();
    cookies.filter_map(|v| v.to_str().ok()?.split(';').next().map(str::to_owned)).find(|c| c.starts_with(prefix))
}

fn tickets(world: &World) -> RequestBuilder {
    client().post(world.room_url("tickets"))
}
fn visit(world: &World, query: &str) -> RequestBuilder {
    client().get(format!("{}{query}", world.buy_url())).header(ACCEPT, HTML).header("accept-language", "en")
}
async fn send(request: RequestBuilder) -> Response {
    request.send().await.unwrap()
}
/// Status code and JSON.
async fn json_of(request: RequestBuilder) -> (u16, Value) {
    let response = send(request).await;
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}")))
}
/// The number that a join gave.
async fn number_of(request: RequestBuilder) -> u64 {
    let (status, body) = json_of(request).await;
    assert!(status == 201 || status == 200, "{status} {body}");
    body["status"]["number"].as_u64().unwrap()
}
fn location(response: &Response) -> &str {
    response.headers()["location"].to_str().unwrap()
}
/// A pass as the gate would sign it, `age_ms` old.
fn pass(world: &World, number: u64, browser: u64, age_ms: i64, rest_ms: i64) -> Pass {
    let (room, now) = (world.room.clone(), now_ms());
    Pass { room, visitor: VisitorId::new(), number, browser, issued_ms: now - age_ms, expires_at_ms: now + rest_ms }
}
fn signed(world: &World, pass: &Pass) -> String {
    PassSigner::new(&world.ring()).issue(pass).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bypass_rule_opens_what_it_says_and_nothing_else() {
    let world = World::start(|room| {
        let buy = room.enter_path.clone();
        with(json!({ "paused": true, "case_insensitive": false, "bypass": [
            { "path": format!("{buy}/terms") },
            { "method": "POST", "path": format!("{buy}/hook/*"), "header": { "name": "x-key", "value": "a long secret" } },
            { "path": format!("{buy}/inside"), "network": "127.0.0.0/8" },
            { "path": format!("{buy}/outside"), "network": "192.0.2.0/24" },
            { "path": format!("{buy}/robots"), "crawler": true },
        ] }))(room);
    })
    .await;
    let url = |path: &str| format!("{}{path}", world.buy_url());
    let key = ("x-key", "a long secret");
    let open = [
        ("GET", "/terms", None),
        ("GET", "/terms?x=1", None),
        ("POST", "/hook/a", Some(key)),
        ("GET", "/inside", None),
    ];
    for (method, path, header) in open {
        let mut request = client().request(method.parse().unwrap(), url(path)).header("floodgate-visitor", "evil");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        assert_eq!(send(request).await.status(), 200, "{method} {path}");
    }
    let log = world.log().await;
    assert_eq!(log.len(), open.len());
    for hit in &log {
        for name in ["floodgate-room", "floodgate-visitor", "floodgate-lease", "floodgate-pass"] {
            assert!(hit.all(name).is_empty(), "{name} for nobody in particular");
        }
    }
    let googlebot = (USER_AGENT.as_str(), "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)");
    for (method, path, (name, value)) in [
        ("GET", "/terms/", key),
        ("GET", "/terms/x", key),
        ("GET", "/Terms", key),
        ("GET", "/hook/a", key),
        ("POST", "/hook", key),
        ("POST", "/hook/a", ("x-key", "a long secre")),
        ("POST", "/hook/a", ("x-other", "a long secret")),
        ("GET", "/outside", ("x-forwarded-for", "192.0.2.1")),
        ("GET", "/robots", googlebot),
        ("GET", "", key),
    ] {
        let request = client().request(method.parse().unwrap(), url(path)).header(name, value);
        assert_eq!(send(request).await.status(), 429, "{method} {path} {name}: {value}");
    }
    assert_eq!(world.log().await.len(), open.len(), "none of these reached the origin");
    // Who has a pass is somebody, also where nobody needs one.
    let pass = signed(&world, &pass(&world, 1, 0, 0, 60_000));
    assert_eq!(send(client().get(url("/terms")).header("floodgate-pass", pass)).await.status(), 200);
    assert_eq!(world.log().await.last().unwrap().all("floodgate-lease"), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crawler_comes_from_its_network_and_only_reads() {
    let file = tempfile();
    std::fs::write(&file, r#"{"prefixes":[{"ipv4Prefix":"127.0.0.0/8"},{"ipv6Prefix":"2001:db8::/32"}]}"#).unwrap();
    let lists = |config: &mut Value| config["crawler_networks"] = json!([file]);
    let world = World::start_with(with(json!({ "bypass": [{ "path": "/elsewhere" }] })), lists).await;
    for request in [visit(&world, ""), client().get(world.buy_url()), tickets(&world), client().post(world.buy_url())] {
        let answer = send(request).await;
        assert_eq!((answer.status().as_u16(), answer.headers().contains_key("retry-after")), (503, true));
        assert!(answer.headers().get(SET_COOKIE).is_none(), "no number");
    }
    drop(world);
    let world = World::start_with(with(json!({ "paused": true, "bypass": [{ "crawler": true }] })), lists).await;
    assert_eq!(send(visit(&world, "?q=1")).await.text().await.unwrap(), "origin");
    assert_eq!(send(client().head(world.buy_url())).await.status(), 200);
    assert_eq!(send(client().post(world.buy_url()).body("buy=1")).await.status(), 503);
    assert_eq!(world.log().await.len(), 2);
    std::fs::remove_file(file).unwrap();
}

fn tempfile() -> String {
    format!("{}/crawlers-{}.json", std::env::temp_dir().display(), VisitorId::new())
}

fn lanes() -> Value {
    json!([
        { "name": "vip", "share_percent": 20, "codes": [{ "code": "Spring-24", "uses_max": 2 }, { "code": "OPEN-DAY" }] },
        { "name": "press", "share_percent": 10 },
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_opens_its_lane_as_often_as_it_may() {
    let world = World::start(with(json!({ "paused": true, "lanes": lanes() }))).await;
    let codes = Codes::new(&world.ring());
    let join = |code: &str| json_of(tickets(&world).header("floodgate-code", code));
    for (code, lane) in [("spring-24", 1), ("SPRING-24", 1), ("open-day", 1), ("OPEN-DAY", 1)] {
        let (status, body) = join(code).await;
        assert_eq!((status, body["status"]["lane"].as_u64()), (201, Some(lane)), "{code}: {body}");
    }
    let (status, body) = join("Spring-24").await;
    assert_eq!((status, body["type"].as_str()), (403, Some("/problems/code-used")), "the third of two");
    let press = codes.sign(&world.room, "press", 7, 1);
    // A reply that was lost: the same key gets the same number, and the code is used once.
    let once = || tickets(&world).header("floodgate-code", press.to_lowercase()).header("idempotency-key", "k1");
    let number = number_of(once()).await;
    assert_eq!(number_of(once()).await, number);
    assert_eq!(join(&press).await.1["type"], "/problems/code-used");
    let elsewhere = codes.sign(&"other".parse().unwrap(), "press", 7, 1);
    let nobody = codes.sign(&world.room, "nobody", 7, 1);
    for wrong in [elsewhere.as_str(), nobody.as_str(), "spring", "spring-2", "한국", "?", &press.replace('-', "0")] {
        let request = tickets(&world).header("floodgate-code", wrong.as_bytes());
        let (status, body) = json_of(request).await;
        assert_eq!((status, body["type"].as_str()), (403, Some("/problems/code-invalid")), "{wrong}");
    }
    let (_, main) = json_of(tickets(&world)).await;
    assert_eq!(main["status"]["lane"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_enters_a_code_without_javascript() {
    let world = World::start(with(json!({ "paused": true, "lanes": lanes() }))).await;
    let codes = Codes::new(&world.ring());
    for (query, link) in [("", r#"href="?fg_code=""#), ("?a=1", "?a=1&#38;fg_code=")] {
        let page = send(visit(&world, query)).await.text().await.unwrap();
        assert!(page.contains(link) && page.contains("I have a code"), "{page}");
    }
    let form = send(visit(&world, "?a=1&fg_code=")).await;
    assert!(form.status() == 200 && form.headers().get(SET_COOKIE).is_none());
    assert!(form.text().await.unwrap().contains("Do you have a code?"));
    let wrong = send(visit(&world, "?a=1&fg_code=nonsense")).await;
    assert!(wrong.status() == 403 && wrong.headers().get(SET_COOKIE).is_none());
    let page = wrong.text().await.unwrap();
    assert!(page.contains("The code is not right") && page.contains(r#"name="fg_code""#), "{page}");
    assert!(page.contains(r#"type="hidden" name="a" value="1""#), "{page}");
    // Right: a number, and the code is gone from the address.
    let placed = send(visit(&world, "?a=1&fg_code=open-day")).await;
    assert_eq!((placed.status().as_u16(), location(&placed)), (303, format!("{}?a=1", world.buy()).as_str()));
    let ticket = cookie_of(&placed, "fg_t_").unwrap();
    let status = |cookie: String| json_of(client().get(world.room_url("status")).header(COOKIE, cookie));
    assert_eq!(status(ticket.clone()).await.1["lane"], 1);
    // Somebody in line changes over with another code, once; the number before it is given up.
    let code = codes.sign(&world.room, "press", 1, 1);
    let change = || visit(&world, &format!("?fg_code={code}")).header(COOKIE, &ticket);
    let (changed, again) = (send(change()).await, send(change()).await);
    let changed_to = cookie_of(&changed, "fg_t_").unwrap();
    assert_eq!((changed.status().as_u16(), location(&changed)), (303, world.buy().as_str()));
    let lane = status(changed_to.clone()).await.1;
    assert_eq!(lane["lane"], 2, "{lane}");
    if let Some(same) = cookie_of(&again, "fg_t_") {
        assert_eq!(status(same).await.1["number"], lane["number"], "sent twice, it is one change");
    }
    // The same code again is no news for who stands in its lane.
    let stays = send(visit(&world, &format!("?fg_code={code}")).header(COOKIE, &changed_to)).await;
    assert!(stays.status() == 200 && cookie_of(&stays, "fg_t_").is_none());
    assert!(world.log().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_only_room_asks_before_it_works() {
    let world = World::start(with(json!({ "paused": true, "invite_only": true }))).await;
    let codes = Codes::new(&world.ring());
    for _ in 0..3 {
        let (status, body) = json_of(tickets(&world)).await;
        assert_eq!((status, body["type"].as_str()), (403, Some("/problems/invitation-required")));
        let page = send(visit(&world, "")).await;
        assert!(page.status() == 403 && page.headers().get(SET_COOKIE).is_none());
        let page = page.text().await.unwrap();
        assert!(page.contains("For invited people") && page.contains(r#"name="fg_code""#), "{page}");
    }
    let code = codes.sign(&world.room, "", 5, 1);
    let joined = send(tickets(&world).header("floodgate-code", &code)).await;
    let cookie = cookie_of(&joined, "fg_t_").unwrap();
    let body: Value = joined.json().await.unwrap();
    assert_eq!(body["status"]["number"], 1, "those before took no number");
    assert_eq!(json_of(tickets(&world).header("floodgate-code", &code)).await.1["type"], "/problems/code-used");
    // Who leaves stays invited: one number follows another, and never two.
    assert_eq!(send(client().delete(world.room_url("ticket")).header(COOKIE, &cookie)).await.status(), 204);
    let next = number_of(tickets(&world).header(COOKIE, &cookie)).await;
    assert_eq!((next, number_of(tickets(&world).header(COOKIE, &cookie)).await), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_codes_is_slow() {
    let few = |config: &mut Value| config["limits"]["codes_per_min"] = 3.into();
    let world = World::start_with(with(json!({ "paused": true, "lanes": lanes() })), few).await;
    let join = |code: String| json_of(tickets(&world).header("floodgate-code", code));
    for guess in ["0000", "0001", "0002"] {
        assert_eq!(join(guess.to_owned()).await.0, 403);
    }
    for guess in ["0003", "open-day"] {
        let (status, body) = join(guess.to_owned()).await;
        assert_eq!((status, body["type"].as_str()), (429, Some("/problems/too-many-requests")), "right or wrong");
    }
    let code = Codes::new(&world.ring()).sign(&world.room, "vip", 1, 1);
    assert_eq!(join(code).await.0, 201, "a signed code cannot be guessed");
    assert_eq!(json_of(tickets(&world)).await.0, 201, "nor does anybody need one");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_signed_in_person_has_one_place() {
    let world =
        World::start(with(json!({ "paused": true, "one_place_per": "person", "sign_in_path": "/login" }))).await;
    let tokens = SessionTokens::new(&world.ring());
    let session = |account: &str, exp: i64| tokens.issue(&Claims { sub: account.into(), iat: 0, exp }).unwrap();
    let (status, body) = json_of(tickets(&world)).await;
    assert_eq!(
        (status, body["type"].as_str(), body["sign_in_path"].as_str()),
        (401, Some("/problems/not-signed-in"), Some("/login"))
    );
    let sent = send(visit(&world, "?a=1&b=2&fg_lang=en")).await;
    assert_eq!(
        (sent.status().as_u16(), location(&sent)),
        (303, format!("/login?next={}?a=1%26b=2", world.buy()).as_str())
    );
    assert!(cookie_of(&sent, "fg_t_").is_none());
    let good = now_ms() / 1_000 + 600;
    let over = session("ada", now_ms() / 1_000 - 1);
    let stranger = World::stranger_ring();
    let foreign = SessionTokens::new(&stranger).issue(&Claims { sub: "ada".into(), iat: 0, exp: good }).unwrap();
    let other_kind = signed(&world, &pass(&world, 1, 0, 0, 60_000));
    for bad in [over.as_str(), foreign.as_str(), other_kind.as_str(), "x.y.z", "ada"] {
        let request = tickets(&world).header("authorization", format!("Bearer {bad}"));
        assert_eq!(json_of(request).await.0, 401, "{bad}");
    }
    let (ada, bob) = (session("ada", good), session("bob", good));
    let by_cookie = |token: &str| tickets(&world).header(COOKIE, format!("fg_session={token}"));
    let by_bearer = |token: &str| tickets(&world).header("authorization", format!("Bearer {token}"));
    let number = number_of(by_cookie(&ada)).await;
    // Another device, another key of its own, another kind of client: the same number.
    assert_eq!(number_of(by_bearer(&ada).header("idempotency-key", "other")).await, number);
    let page = send(visit(&world, "").header(COOKIE, format!("fg_session={ada}"))).await;
    let ticket = cookie_of(&page, "fg_t_").unwrap();
    let (_, status) = json_of(client().get(world.room_url("status")).header(COOKIE, &ticket)).await;
    assert_eq!(status["number"], number);
    assert_ne!(number_of(by_bearer(&bob)).await, number);
    // The next number only when this one is over, and then again one.
    assert_eq!(send(client().delete(world.room_url("ticket")).header(COOKIE, &ticket)).await.status(), 204);
    let next = number_of(by_cookie(&ada)).await;
    assert_ne!(next, number);
    assert_eq!(number_of(by_bearer(&ada)).await, next);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_pass_is_noticed_or_refused() {
    for (policy, status) in [("warn", 200), ("refuse", 403)] {
        let world = World::start(with(json!({ "copied_pass": policy }))).await;
        let joined = send(tickets(&world).header(USER_AGENT, "Firefox/150")).await;
        let ticket = cookie_of(&joined, "fg_t_").unwrap();
        let claim = || client().post(world.room_url("pass")).header(COOKIE, &ticket).header(USER_AGENT, "Firefox/150");
        let pass = loop {
            let claimed = send(claim()).await;
            if claimed.status() == 200 {
                break claimed.json::<Value>().await.unwrap()["pass"].as_str().unwrap().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let by = |agent: &str, name: &str, value: String| {
            client().get(world.buy_url()).header(USER_AGENT, agent).header(name, value)
        };
        let cookie = format!("fg_p_{}={pass}", world.room);
        for (name, value) in [("floodgate-pass", pass.clone()), ("cookie", cookie.clone())] {
            assert_eq!(send(by("Firefox/150", name, value.clone())).await.status(), 200, "its own browser");
            assert_eq!(send(by("curl/8", name, value)).await.status(), status, "{policy}");
        }
        if policy == "refuse" {
            let (_, body) = json_of(by("curl/8", "floodgate-pass", pass.clone())).await;
            assert_eq!(body["type"], "/problems/pass-of-another-browser");
            let both = format!("{cookie}; {ticket}");
            let browser = |query: &str| visit(&world, query).header(USER_AGENT, "Chrome/156").header(COOKIE, &both);
            let page = send(browser("?a=1")).await;
            assert!(page.status() == 403 && page.headers().get(SET_COOKIE).is_none());
            let page = page.text().await.unwrap();
            assert!(page.contains("belongs to another browser") && page.contains("a=1&#38;fg_drop=1"), "{page}");
            // The way out: let go of both, and stand in line like everybody.
            let dropped = send(browser("?a=1&fg_drop=1")).await;
            assert_eq!(location(&dropped), format!("{}?a=1", world.buy()));
            assert_eq!(
                dropped
                    .headers()
                    .get_all(SET_COOKIE)
                    .iter()
                    .filter(|c| c.to_str().unwrap().contains("Max-Age=0"))
                    .count(),
                2
            );
        }
        assert_eq!(world.log().await.len(), if policy == "warn" { 4 } else { 2 });
    }
}

/// How often a copied pass or ticket was noticed in this test program.
fn noticed(policy: &str) -> f64 {
    let name = format!("floodgate_gate_copied_passes_total{{policy=\"{policy}\"}}");
    let rendered = common::metrics().render();
    rendered.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_ticket_claims_nothing_twice() {
    for (policy, status) in [("warn", 200), ("refuse", 403)] {
        let world = World::start(with(json!({ "copied_pass": policy }))).await;
        let joined = send(tickets(&world).header(USER_AGENT, "Firefox/150")).await;
        let ticket = cookie_of(&joined, "fg_t_").unwrap();
        let claim =
            |agent: &str| client().post(world.room_url("pass")).header(COOKIE, &ticket).header(USER_AGENT, agent);
        let before = noticed(policy);
        let first = loop {
            let (status, body) = json_of(claim("Firefox/150")).await;
            if status == 200 {
                break body;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        // The reply was lost: the owner asks again, as often as it takes, also after the copy has.
        for _ in 0..2 {
            let (again, body) = json_of(claim("Firefox/150")).await;
            assert_eq!((again, &body["expires_at_ms"]), (200, &first["expires_at_ms"]));
            let (copied, body) = json_of(claim("Chrome/156")).await;
            assert_eq!(copied, status, "{policy}: {body}");
            if policy == "refuse" {
                assert_eq!(body["type"], "/problems/pass-of-another-browser");
            } else {
                // Noticed wherever it goes: the pass stays that of the browser which claimed.
                let signer = PassSigner::new(&world.ring());
                let brw = |body: &Value| {
                    signer.verify(body["pass"].as_str().unwrap(), &world.room, now_ms()).unwrap().browser
                };
                assert_eq!(brw(&body), brw(&first));
            }
        }
        assert!(noticed(policy) >= before + 2.0, "{policy}");
        if policy == "warn" {
            continue;
        }
        // A browser with the copy is told, by page and by form, and let go of it; nothing reaches the origin.
        let browser = |query: &str| visit(&world, query).header(USER_AGENT, "Chrome/156").header(COOKIE, &ticket);
        let page = send(browser("?a=1")).await;
        assert_eq!((page.status().as_u16(), page.headers().get(SET_COOKIE).is_none()), (403, true));
        assert!(page.text().await.unwrap().contains("belongs to another browser"));
        let form = send(claim("Chrome/156").header(ACCEPT, HTML)).await;
        assert_eq!((form.status().as_u16(), cookie_of(&form, "fg_p_")), (303, None));
        let dropped = send(browser("?a=1&fg_drop=1")).await;
        assert_eq!(location(&dropped), format!("{}?a=1", world.buy()));
        assert!(cookie_of(&dropped, "fg_t_").is_some_and(|c| c.ends_with('=')), "the copy is taken away");
        assert!(world.log().await.is_empty());
    }
}

/// Joins and claims; the number and the pass.
async fn inside(world: &World) -> (u64, Pass) {
    let (_, body) = json_of(tickets(world)).await;
    let ticket = body["ticket"].as_str().unwrap().to_owned();
    loop {
        let claimed = send(client().post(world.room_url("pass")).header("floodgate-ticket", &ticket)).await;
        if claimed.status() == 200 {
            let body: Value = claimed.json().await.unwrap();
            let signer = PassSigner::new(&world.ring());
            let pass = signer.verify(body["pass"].as_str().unwrap(), &world.room, now_ms()).unwrap();
            return (pass.number, pass);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn activity_carries_a_lease_on_once_per_half_life() {
    let world = World::start(with(json!({ "lease_ms": 600_000, "lease_max_ms": 900_000 }))).await;
    let (number, given) = inside(&world).await;
    let at = |age_ms, rest_ms| Pass { visitor: given.visitor.clone(), ..pass(&world, number, 0, age_ms, rest_ms) };
    let with_cookie = |pass: &Pass| {
        client().get(world.buy_url()).header(COOKIE, format!("fg_p_{}={}", world.room, signed(&world, pass)))
    };
    let young = send(with_cookie(&at(100_000, 500_000))).await;
    assert!(young.status() == 200 && cookie_of(&young, "fg_p_").is_none(), "less than half is over");
    let old = at(500_000, 100_000);
    let carried = send(with_cookie(&old)).await;
    let longer = cookie_of(&carried, "fg_p_").expect("a longer pass");
    assert_eq!(
        (carried.headers()["cache-control"].to_str().unwrap(), carried.headers().contains_key("floodgate-pass")),
        ("no-store", false)
    );
    let token = longer.split_once('=').unwrap().1;
    let longer = PassSigner::new(&world.ring()).verify(token, &world.room, now_ms()).unwrap();
    assert!(longer.expires_at_ms > old.expires_at_ms && longer.expires_at_ms <= now_ms() + 600_000, "{longer:?}");
    assert_eq!((longer.number, longer.visitor.clone(), longer.browser), (number, old.visitor.clone(), 0));
    assert_eq!(world.log().await.last().unwrap().all("floodgate-pass"), [token], "the origin sees the longer one");
    assert!(cookie_of(&send(with_cookie(&old)).await, "fg_p_").is_none(), "not twice in half a life");
    // A pass whose lease the store does not have goes on as it is: nobody is stopped for that.
    let lost = send(with_cookie(&pass(&world, 999, 0, 500_000, 100_000))).await;
    assert!(lost.status() == 200 && cookie_of(&lost, "fg_p_").is_none());
    // Apps get it in the header, and only there: a script of a page must not read a cookie's pass.
    let (app, _) = inside(&world).await;
    let old = signed(&world, &pass(&world, app, 0, 500_000, 100_000));
    let carried = send(client().get(world.buy_url()).header("floodgate-pass", &old)).await;
    assert!(carried.headers().contains_key("floodgate-pass") && cookie_of(&carried, "fg_p_").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_ends_a_session_and_nobody_else_does() {
    let world = World::start(|_| {}).await;
    for command in ["end", "revoke"] {
        let (number, given) = inside(&world).await;
        let token = signed(&world, &given);
        let go = |path: &str| client().get(format!("{}{path}", world.buy_url())).header("floodgate-pass", &token);
        // What a client says to the gate in the upstream's words is not heard, and not passed on.
        let said = go("").header("floodgate-command", "end-session").header("cf-waiting-room-command", "revoke");
        assert_eq!(send(said).await.status(), 200);
        assert!(world.log().await.last().unwrap().all("floodgate-command").is_empty());
        assert_eq!(send(go("")).await.status(), 200, "still inside");
        let ended = send(go(&format!("/{command}"))).await;
        assert_eq!(ended.status(), 200, "the last answer is the upstream's");
        for name in ["floodgate-command", "cf-waiting-room-command"] {
            assert!(!ended.headers().contains_key(name), "{name}");
        }
        let cleared: Vec<&str> = ended.headers().get_all(SET_COOKIE).iter().map(|c| c.to_str().unwrap()).collect();
        for prefix in ["fg_t_", "fg_p_"] {
            assert!(cleared.iter().any(|c| c.starts_with(prefix) && c.contains("Max-Age=0")), "{cleared:?}");
        }
        assert_eq!(send(go("")).await.status(), 429, "the pass is over at once");
        let line = queue::line::Line::new(world.redis.clone());
        let board = line.board(std::sync::Arc::new(common::settings(world.deal))).await.unwrap();
        assert!(board.ended(number), "every gate hears it");
    }
    // Without a pass there is nothing to end, and the command stays inside all the same.
    let open = send(client().get(format!("{}/open/end", world.base))).await;
    assert!(open.status() == 200 && !open.headers().contains_key("floodgate-command"));
    assert!(open.headers().get(SET_COOKIE).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_costs_the_place_only_where_the_room_says_so() {
    for (policy, costs) in [("keep", false), ("requeue", true)] {
        let world = World::start(with(json!({ "paused": true, "refresh": policy }))).await;
        let number = |cookie: String| async {
            let (_, status) = json_of(client().get(world.room_url("status")).header(COOKIE, cookie)).await;
            status["number"].as_u64().unwrap()
        };
        let ticket = cookie_of(&send(visit(&world, "")).await, "fg_t_").unwrap();
        let first = number(ticket.clone()).await;
        let kept = send(visit(&world, "?fg_keep=1").header(COOKIE, &ticket)).await;
        assert!(kept.status() == 200 && cookie_of(&kept, "fg_t_").is_none(), "{policy}: the page's own reload");
        let reloaded = send(visit(&world, "").header(COOKIE, &ticket)).await;
        assert_eq!(reloaded.status(), 200);
        let Some(next) = cookie_of(&reloaded, "fg_t_") else {
            assert!(!costs, "a reload takes a new number");
            continue;
        };
        assert!(costs);
        let second = number(next.clone()).await;
        assert!(second > first);
        // Two tabs that reload at once share what comes after.
        let other_tab = send(visit(&world, "").header(COOKIE, &ticket)).await;
        if let Some(same) = cookie_of(&other_tab, "fg_t_") {
            assert!(number(same).await >= second);
        }
        // Nothing that the gate itself sends a browser to costs a place.
        let back = client().post(world.room_url("tickets")).header(ACCEPT, HTML).header(COOKIE, &next).body("");
        let back = send(back.header("content-type", "application/x-www-form-urlencoded")).await;
        assert_eq!(location(&back), format!("{}?fg_keep=1", world.buy()));
        let form = client().post(world.buy_url()).header(ACCEPT, HTML).header(COOKIE, &next).form(&[("quantity", "1")]);
        assert_eq!(location(&send(form).await), format!("{}?fg_keep=1", world.buy()));
        let turn = client().post(world.room_url("pass")).header(ACCEPT, HTML).header(COOKIE, &next).form(&[("a", "1")]);
        assert_eq!(location(&send(turn).await), format!("{}?fg_keep=1", world.buy()));
        // Programs reload nothing.
        assert_eq!(number_of(tickets(&world).header(COOKIE, &next)).await, second);
        assert!(world.log().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_opens_the_door_and_changes_no_place() {
    let world = World::start(with(json!({ "paused": true, "proof_of_work": "always", "proof_bits": 8 }))).await;
    let ask = || json_of(tickets(&world));
    let (status, body) = ask().await;
    assert_eq!(
        (status, body["type"].as_str(), body["bits"].as_u64()),
        (403, Some("/problems/proof-required"), Some(8)),
        "{body}"
    );
    let challenge = |body: &Value| body["challenge"].as_str().unwrap().to_owned();
    let solution = proof::solve(&challenge(&body), 8);
    let join = |solution: &str| tickets(&world).header("floodgate-proof", solution);
    let number = number_of(join(&solution)).await;
    assert_eq!(number_of(join(&solution)).await, number, "used twice, it is one number");
    assert_eq!(number_of(join(&solution).header("idempotency-key", "other")).await, number);
    let (_, second) = ask().await;
    let harder = proof::solve(&challenge(&second), 12);
    assert_eq!(number_of(join(&harder)).await, number + 1, "more work than asked for is no better place");
    let (_, third) = ask().await;
    let third = challenge(&third);
    let foreign = Proofs::new(&World::stranger_ring()).challenge(&world.room, 8, &VisitorId::new(), now_ms());
    for wrong in [third.clone(), format!("{third}.x"), format!("{third}.wait"), proof::solve(&foreign, 8)] {
        let (status, body) = json_of(join(&wrong)).await;
        assert_eq!((status, body["type"].as_str()), (403, Some("/problems/proof-required")), "{wrong}");
    }
    // A browser: the check page, and with the solution in the address a number and a clean address.
    let check = send(visit(&world, "?a=1")).await;
    assert!(check.status() == 200 && check.headers().get(SET_COOKIE).is_none());
    let page = check.text().await.unwrap();
    let data = page.split_once(r#"id="fg">"#).unwrap().1.split_once("</script>").unwrap().0;
    let data: Value = serde_json::from_str(data).unwrap();
    let solution = proof::solve(data["challenge"].as_str().unwrap(), 8);
    let to = data["to"].as_str().unwrap().strip_prefix(&world.buy()).unwrap();
    assert_eq!(to, "?a=1&fg_proof=");
    let passed = send(visit(&world, &format!("?a=1&fg_proof={solution}"))).await;
    assert_eq!((passed.status().as_u16(), location(&passed)), (303, format!("{}?a=1", world.buy()).as_str()));
    assert!(cookie_of(&passed, "fg_t_").is_some());
    // Without JavaScript: too early is the same challenge once more, later it is good.
    let early = send(visit(&world, &format!("?fg_proof={third}.wait"))).await.text().await.unwrap();
    assert!(early.contains(&format!("fg_proof={third}.wait")), "{early}");
    let waited = Proofs::new(&world.ring()).challenge(&world.room, 8, &VisitorId::new(), now_ms() - proof::wait_ms(8));
    let late = send(visit(&world, &format!("?fg_proof={waited}.wait"))).await;
    assert!(late.status() == 303 && cookie_of(&late, "fg_t_").is_some());
    assert!(world.log().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_are_asked_for_under_attack() {
    let world = World::start(with(
        json!({ "paused": true, "proof_of_work": "under_attack", "proof_bits": 8, "attack_joins_per_s": 1 }),
    ))
    .await;
    let mut asked = None;
    let mut free = 0;
    for _ in 0..50 {
        let (status, body) = json_of(tickets(&world)).await;
        if status == 403 {
            asked = Some(body);
            break;
        }
        free += 1;
    }
    assert!(free >= 1, "the first of a second is free");
    let body = asked.expect("more than one join per second");
    let solution = proof::solve(body["challenge"].as_str().unwrap(), 8);
    assert_eq!(number_of(tickets(&world).header("floodgate-proof", solution)).await, free + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_from_one_address_is_demoted_and_told() {
    let few = |config: &mut Value| {
        for (name, most) in [("joins_per_s", 1), ("joins_burst", 2), ("joins_hard_per_s", 1), ("joins_hard_burst", 6)] {
            config["limits"][name] = most.into();
        }
    };
    let world = World::start_with(with(json!({ "paused": true, "lanes": lanes() })), few).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let (status, body) = json_of(tickets(&world)).await;
        assert_eq!(status, 201);
        seen.push((body["status"]["lane"].as_u64().unwrap(), body["status"]["demoted"].is_string()));
    }
    assert_eq!(seen, [(0, false), (0, false), (7, true), (7, true)], "never silently dropped");
    // A code that only so many can use keeps its lane.
    let code = Codes::new(&world.ring()).sign(&world.room, "vip", 1, 1);
    let (status, body) = json_of(tickets(&world).header("floodgate-code", code)).await;
    assert_eq!((status, body["status"]["lane"].as_u64()), (201, Some(1)));
    // Demoted people wait behind everybody: also behind those of other addresses who come later.
    let place = |body: &Value| body["status"]["place"].as_u64().unwrap();
    let (_, last) = json_of(tickets(&world).header("floodgate-code", "open-day")).await;
    assert!(
        last["status"]["lane"] == 7 && place(&last) > place(&body),
        "a word that anybody knows does not help: {last}"
    );
    let (status, body) = json_of(tickets(&world)).await;
    assert_eq!((status, body["type"].as_str()), (429, Some("/problems/too-many-requests")));
    drop(world);
    let draw = with(json!({ "mode": "draw", "lobby_opens_at_ms": 0, "starts_at_ms": now_ms() + 3_600_000 }));
    let world = World::start_with(draw, few).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(send(tickets(&world)).await.status().as_u16());
    }
    assert_eq!(statuses, [201, 201, 429], "a draw knows no lanes");
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_have_their_own_budget() {
    let few = |config: &mut Value| {
        config["limits"]["claims_per_s"] = 1.into();
        config["limits"]["claims_burst"] = 2.into();
    };
    let world = World::start_with(|r| r.paused = true, few).await;
    let (_, body) = json_of(tickets(&world)).await;
    let claim = || client().post(world.room_url("pass")).header("floodgate-ticket", body["ticket"].as_str().unwrap());
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(send(claim()).await.status().as_u16());
    }
    assert_eq!(statuses, [409, 409, 429]);
    assert_eq!(json_of(tickets(&world)).await.0, 201, "joins go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_the_gates_own_reaches_the_origin() {
    let world = World::start(with(json!({ "paused": true, "lanes": lanes(), "copied_pass": "refuse" }))).await;
    let good = signed(&world, &pass(&world, 1, 0, 0, 60_000));
    let own = "fg_keep=1&fg_code=open-day&fg_proof=1.2.3&fg_drop=1&fg_refresh=off";
    for (path, target) in [
        (format!("{}?a=1&{own}&b=2", world.buy()), format!("{}?a=1&b=2", world.buy())),
        (format!("{}?{own}", world.buy()), world.buy()),
        (format!("/open/x?{own}&a=%EA"), "/open/x?a=%EA".to_owned()),
        ("/open/x?a=fg_code=1".to_owned(), "/open/x?a=fg_code=1".to_owned()),
    ] {
        let request = client().get(format!("{}{path}", world.base)).header("floodgate-pass", &good);
        let request =
            request.header("floodgate-code", "x").header("floodgate-proof", "y").header("Floodgate_Code", "z");
        assert_eq!(send(request).await.status(), 200, "{path}");
        let log = world.log().await;
        let hit = log.last().unwrap();
        assert_eq!(hit.target, target);
        let text = format!("{:?}", hit.headers).to_lowercase();
        assert!(
            !text.contains("floodgate-code") && !text.contains("floodgate-proof") && !text.contains("floodgate_code"),
            "{text}"
        );
    }
    // Whatever is presented without a pass: nothing of it is forwarded.
    let before = world.log().await.len();
    let codes = Codes::new(&world.ring());
    let copied = signed(&world, &pass(&world, 2, 42, 0, 60_000));
    let challenge = Proofs::new(&world.ring()).challenge(&world.room, 8, &VisitorId::new(), now_ms());
    let mut values = vec![
        "open-day".to_owned(),
        codes.sign(&world.room, "vip", 9, 100),
        proof::solve(&challenge, 8),
        format!("{challenge}.wait"),
        copied,
        "end-session".into(),
        "1".into(),
        String::new(),
    ];
    values.extend((0..8).map(|n| codes.sign(&world.room, "vip", n, 1).replace(char::from(b'0' + n as u8), "Z")));
    let mut sent = 0;
    for value in &values {
        for name in ["fg_code", "fg_proof", "fg_keep", "fg_drop", "fg_pass", "fg_refresh"] {
            for accept in [HTML, "application/json"] {
                let request = client().get(format!("{}?{name}={value}", world.buy_url())).header(ACCEPT, accept);
                let request = request
                    .header("floodgate-code", value)
                    .header("floodgate-proof", value)
                    .header("floodgate-command", value);
                let request = request.header("floodgate-pass", value).header("floodgate-lease", "1");
                assert_ne!(send(request).await.text().await.unwrap(), "origin", "{name}={value}");
                sent += 1;
            }
        }
    }
    assert!(sent >= 180, "{sent}");
    assert_eq!(world.log().await.len(), before);
}
