//! The pages over HTTP, with a private Redis and a private PostgreSQL: a purchase by forms alone, and
//! what a foreign page, a stranger or a repeated click gets.

use crate::app::App;
use crate::new_deal::NewDealBody;
use crate::request::IdempotencyKey;
use crate::session::COOKIE;
use ledger::{Ledger, Merchant, PgConfig};
use queue::pass::{Pass, PassSigner};
use reqwest::header::{COOKIE as COOKIES, LOCATION, SET_COOKIE};
use service_kit::clock::now_ms;
use service_kit::ids::{DealId, MerchantId, RoomId, VisitorId};
use service_kit::keys::{KeyRing, KeysConfig};
use service_kit::private_store::{PrivatePostgres, PrivateRedis, ScratchDir};
use service_kit::redis::Redis;
use std::collections::BTreeMap;
use std::time::Duration;

/// The shop with its stores, and a pass for its one deal.
struct Stage {
    base: String,
    deal: DealId,
    pass: String,
}

/// What stops when it is dropped.
struct Stores {
    _trigger: service_kit::shutdown::Trigger,
    _redis: PrivateRedis,
    postgres: PrivatePostgres,
    _dir: ScratchDir,
}

async fn stage() -> (Stage, Stores) {
    service_kit::install_crypto_providers();
    let dir = ScratchDir::new().unwrap();
    let redis = PrivateRedis::start(&dir.path().join("redis")).await.unwrap();
    let postgres = PrivatePostgres::start(&dir.path().join("postgres")).await.unwrap();
    let ledger = Ledger::connect(&PgConfig { url: postgres.url(), connections: 4 }).await.unwrap();
    ledger.migrate().await.unwrap();
    let ring = KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("a")] }).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let config = serde_json::json!({ "listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "public_url": base });
    let (trigger, shutdown) = service_kit::shutdown::channel();
    let door = Redis::connect(&redis.config()).await.unwrap();
    let (app, feeds) =
        App::new(serde_json::from_value(config).unwrap(), ring.clone(), door, ledger.clone(), shutdown.clone());
    let mut workers = crate::workers::start(&app, feeds, &shutdown);
    tokio::spawn(async move { while workers.join_next().await.is_some() {} });

    let merchant = Merchant { id: MerchantId::new(), name: "Orchard".into() };
    ledger.create_merchant(merchant.id, &merchant.name, now_ms()).await.unwrap();
    let body: NewDealBody = serde_json::from_value(serde_json::json!({
        "title": "Apples <b>5 kg</b>", "description": "Sweet", "price": { "minor": 12_900, "currency": "KRW" },
        "stock": 3, "per_user_limit": 2, "starts_at_ms": now_ms() - 1_000, "ends_at_ms": now_ms() + 3_600_000,
        "admission": { "rate_per_s": 10, "inside_max": 100 },
    }))
    .unwrap();
    let made = app.create_deal(&merchant, &body, &IdempotencyKey::random()).await.unwrap();
    let made: serde_json::Value = serde_json::from_slice(&made.body).unwrap();
    let deal: DealId = made["id"].as_str().unwrap().parse().unwrap();
    let visitor = VisitorId::new();
    let pass = Pass {
        room: RoomId::of_deal(deal),
        visitor,
        number: 1,
        browser: 0,
        issued_ms: now_ms(),
        expires_at_ms: now_ms() + 600_000,
    };
    let pass = PassSigner::new(&ring).issue(&pass).unwrap();
    tokio::spawn(async move { axum::serve(listener, crate::api::service(&app)).await });
    (Stage { base, deal, pass }, Stores { _trigger: trigger, _redis: redis, postgres, _dir: dir })
}

/// A browser without JavaScript: keeps cookies, follows nothing by itself.
struct Browser {
    client: reqwest::Client,
    base: String,
    pass: String,
    cookies: BTreeMap<String, String>,
}

struct Page {
    status: u16,
    location: String,
    html: String,
}

impl Page {
    /// The value of a hidden field of the form that posts to `action`.
    fn hidden(&self, action: &str, name: &str) -> String {
        let form =
            self.html.split("<form").find(|f| f.contains(&format!(r#"action="{action}""#))).expect("the form is there");
        let field = form.split(&format!(r#"name="{name}" value=""#)).nth(1).expect("the field is there");
        field.split('"').next().unwrap().to_owned()
    }
}

impl Browser {
    fn new(stage: &Stage) -> Self {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        Self { client, base: stage.base.clone(), pass: stage.pass.clone(), cookies: BTreeMap::new() }
    }
    async fn send(&mut self, request: reqwest::RequestBuilder) -> Page {
        let jar = self.cookies.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("; ");
        let response = request.header(COOKIES, jar).header("floodgate-pass", &self.pass).send().await.unwrap();
        for cookie in response.headers().get_all(SET_COOKIE) {
            let (name, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let header =
            |name: &str| response.headers().get(name).map_or("", |v| v.to_str().unwrap_or_default()).to_owned();
        assert_eq!(header("cache-control"), "no-store", "pages are personal");
        assert!(header("content-security-policy").contains("default-src 'none'"));
        assert_eq!(
            (header("x-content-type-options"), header("referrer-policy")),
            ("nosniff".into(), "same-origin".into())
        );
        let (status, location) = (response.status().as_u16(), header(LOCATION.as_str()));
        Page { status, location, html: response.text().await.unwrap() }
    }
    async fn get(&mut self, path: &str) -> Page {
        let request = self.client.get(format!("{}{path}", self.base));
        self.send(request).await
    }
    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let request = self.client.post(format!("{}{path}", self.base)).header("origin", &self.base).form(fields);
        self.send(request).await
    }
    async fn sign_up(&mut self, email: &str, next: &str) -> Page {
        let csrf = self.get("/signup").await.hidden("/signup", "csrf");
        let fields = [
            ("csrf", csrf.as_str()),
            ("next", next),
            ("email", email),
            ("name", "Kim"),
            ("password", "correct horse 1!"),
        ];
        self.post("/signup", &fields).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purchase_by_forms_alone_and_what_others_get() {
    let (stage, stores) = stage().await;
    visitors(&stage).await;
    purchase(&stage).await;
    refusals(&stage).await;
    // Without its records the shop still shows its deals; what needs them says so in its own style.
    let mut browser = Browser::new(&stage);
    browser.sign_up("park@example.com", "").await;
    stores.postgres.stop().await;
    assert_eq!(browser.get("/deals?lang=en").await.status, 200);
    let gone = browser.get("/orders").await;
    assert_eq!(gone.status, 503);
    assert!(gone.html.contains("<h1>We cannot reach our records just now</h1>"), "{}", gone.html);
}

/// Who is not signed in: reads, chooses a language, is led to sign in, and cannot be led astray.
async fn visitors(stage: &Stage) {
    let mut browser = Browser::new(stage);
    let list = browser.get("/").await;
    assert!(list.status == 200 && list.html.contains("Apples &#60;b&#62;5 kg"), "{}", list.html);
    assert!(list.html.contains(r#"<html lang="ko">"#));
    assert!(browser.get("/deals?lang=en").await.html.contains(r#"<html lang="en">"#));
    assert!(browser.get("/deals").await.html.contains(r#"<html lang="en">"#), "the choice is remembered");
    for path in [
        "/nothing",
        "/deals/x",
        "/orders/x",
        "/problems/x",
        "/deals/00000000-0000-7000-8000-000000000000",
        "/assets/x.css",
    ] {
        let page = browser.get(path).await;
        assert!(page.status == 404 && page.html.contains("<h1>There is nothing here</h1>"), "{path}: {}", page.status);
    }
    assert_eq!(browser.get("/logout").await.status, 405);
    for slug in service_kit::problem::Slug::ALL {
        assert_eq!(browser.get(&format!("/problems/{}", slug.facts().1)).await.status, 200);
    }
    let orders = browser.get("/orders").await;
    assert_eq!((orders.status, orders.location.as_str()), (303, "/login?next=/orders"));
    let buy = browser.get(&format!("/deals/{}/buy", stage.deal)).await;
    assert_eq!((buy.status, buy.hidden("/login", "next")), (200, format!("/deals/{}/buy", stage.deal)));
    let astray = browser.sign_up("astray@example.com", "//evil.example").await;
    assert_eq!((astray.status, astray.location.as_str()), (303, "/deals"));
}

/// Sign up, order (twice with one form), pay, cancel.
async fn purchase(stage: &Stage) {
    let mut browser = Browser::new(stage);
    let buy = format!("/deals/{}/buy", stage.deal);
    assert_eq!(browser.sign_up("kim@example.com", &buy).await.location, buy);
    let page = browser.get(&buy).await;
    let (csrf, key) = (page.hidden(&buy, "csrf"), page.hidden(&buy, "key"));
    let order_with = |csrf: &str, key: &str, quantity: &str| {
        [("csrf", csrf), ("key", key), ("quantity", quantity)].map(|(k, v)| (k.to_owned(), v.to_owned()))
    };
    let fields = order_with(&csrf, &key, "2");
    let fields: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let mut placed = browser.post(&buy, &fields).await;
    for _ in 0..50 {
        if placed.status == 303 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await; // the room and its fast stock follow the deal
        placed = browser.post(&buy, &fields).await;
    }
    assert_eq!(placed.status, 303, "{}", placed.html);
    assert_eq!(browser.post(&buy, &fields).await.location, placed.location, "one form, one order");
    let order = placed.location;
    let page = browser.get(&order).await;
    assert!(page.html.contains("결제 대기") && page.html.contains("25,800원"), "{}", page.html);
    let pay = format!("{order}/pay");
    let (csrf, key) = (page.hidden(&pay, "csrf"), page.hidden(&pay, "key"));
    let paying = browser.post(&pay, &[("csrf", &csrf), ("key", &key)]).await;
    assert_eq!((paying.status, paying.location), (303, format!("{order}#pay")));
    let page = browser.get(&order).await;
    assert!(page.html.contains("결제 준비 중") && page.html.contains("http-equiv"), "{}", page.html);
    let (pay_csrf, other_key) = (csrf, format!("{key}:again"));
    let twice = browser.post(&pay, &[("csrf", &pay_csrf), ("key", &other_key)]).await;
    assert_eq!(twice.location, format!("{order}#pay"), "a second tab joins the payment that runs");
    // More than the limit of two: refused in words, and the form has a fresh key.
    let page = browser.get(&buy).await;
    let (csrf, key) = (page.hidden(&buy, "csrf"), page.hidden(&buy, "key"));
    let more = browser.post(&buy, &[("csrf", &csrf), ("key", &key), ("quantity", "1")]).await;
    assert!(more.status == 409 && more.html.contains("1인당 한도를 넘었습니다"), "{} {}", more.status, more.html);
    assert_ne!(more.hidden(&buy, "key"), key);
    let odd = browser.post(&buy, &[("csrf", &csrf), ("key", &key), ("quantity", "-1")]).await;
    assert!(odd.status == 422 && odd.html.contains("quantity-error"));
    let page = browser.get(&order).await;
    let cancel = format!("{order}/cancel");
    let (csrf, key) = (page.hidden(&cancel, "csrf"), page.hidden(&cancel, "key"));
    assert_eq!(browser.post(&cancel, &[("csrf", &csrf), ("key", &key)]).await.location, order);
    assert!(browser.get(&order).await.html.contains("취소됨"));
    let late = browser.post(&pay, &[("csrf", &pay_csrf), ("key", "late")]).await;
    assert!(late.status == 409 && late.html.contains("지금 상태에서는 할 수 없습니다"), "{}", late.status);
    assert!(browser.get("/orders").await.html.contains("취소됨"));
    // Somebody else does not find it.
    let mut other = Browser::new(stage);
    other.sign_up("lee@example.com", "/orders").await;
    assert_eq!(other.get(&order).await.status, 404);
    let csrf = browser.get("/deals").await.hidden("/logout", "csrf");
    browser.post("/logout", &[("csrf", &csrf)]).await;
    assert!(browser.cookies.get(COOKIE).is_some_and(String::is_empty));
}

/// Forms that are not ours, not this visitor's, or wrong; and a checkout without a pass.
async fn refusals(stage: &Stage) {
    let mut browser = Browser::new(stage);
    let page = browser.get("/login").await;
    let csrf = page.hidden("/login", "csrf");
    let fields =
        [("csrf", csrf.as_str()), ("next", "/orders"), ("email", "kim@example.com"), ("password", "not it 1!")];
    let wrong = browser.post("/login", &fields).await;
    assert!(
        wrong.status == 401 && wrong.html.contains(r#"value="kim@example.com""#) && !wrong.html.contains("not it 1!")
    );
    assert_eq!(Browser::new(stage).post("/login", &fields).await.status, 403, "another visitor's token");
    assert_eq!(browser.post("/login", &fields[1..]).await.status, 403, "no token");
    let twice = [fields.as_slice(), &[("email", "lee@example.com")]].concat();
    assert_eq!(browser.post("/login", &twice).await.status, 400, "a field twice");
    let foreign =
        browser.client.post(format!("{}/login", stage.base)).header("origin", "https://evil.example").form(&fields);
    assert_eq!(browser.send(foreign).await.status, 403, "another site");
    let large = "x".repeat(super::sent::FORM_BYTES_MAX);
    assert_eq!(browser.post("/login", &[("csrf", csrf.as_str()), ("email", &large)]).await.status, 413);
    let taken = browser.sign_up("kim@example.com", "").await;
    assert!(taken.status == 409 && taken.html.contains("signup-email-error"));
    browser.pass = "not-a-pass".into();
    let out = browser.get(&format!("/deals/{}/buy", stage.deal)).await;
    assert!(out.status == 403 && out.html.contains("입장권이 유효하지 않습니다"), "{}", out.html);
}
