//! Providers' notices: what is taken, what is refused, and that none of them does more than have us ask.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod desk;

use desk::{Bought, Desk, MERCHANTS_WEBHOOK_SECRET, WEBHOOK_SECRET, toss_event};
use hmac::{Hmac, KeyInit as _, Mac as _};
use ledger::{AttemptKind, NoticeAbout, NoticeEffect};
use reqwest::StatusCode;
use serde_json::{Value, json};
use service_kit::clock::now_ms;
use service_kit::ids::OrderId;
use sha2::Sha256;

impl Desk {
    async fn toss(&self, id: &str, body: impl Into<String>) -> StatusCode {
        self.post("toss", &[("tosspayments-webhook-transmission-id", id)], body).await
    }
    async fn stripe(&self, secret: &str, at_ms: i64, body: impl Into<String>) -> StatusCode {
        let body = body.into();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{}.{body}", at_ms / 1_000).as_bytes());
        let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
        self.post("stripe", &[("stripe-signature", &format!("t={},v1={hex}", at_ms / 1_000))], body).await
    }
    async fn fill(&self, rows: &str, bought: Option<&Bought>) {
        let sql = format!("INSERT INTO webhook (provider, event_id, payment_id, kind, received_at_ms) {rows}");
        self.sql().await.execute(&sql, &[&bought.map(|bought| bought.payment.0)]).await.unwrap();
    }
    async fn post(&self, provider: &str, headers: &[(&str, &str)], body: impl Into<String>) -> StatusCode {
        let url = format!("{}/payments/webhooks/{provider}", self.shop);
        let mut request = self.http.post(url).header("content-type", "application/json").body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        if status != 200 {
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            let problem: Value = response.json().await.unwrap();
            assert!(!problem["detail"].as_str().unwrap().is_empty());
        }
        status
    }
}

fn stripe_event(id: &str, kind: &str, object: &Value) -> String {
    json!({ "id": id, "object": "event", "type": kind, "created": 1, "livemode": false, "data": { "object": object } })
        .to_string()
}

#[tokio::test]
async fn ten_deliveries_at_once_have_one_effect() {
    let desk = Desk::open().await;
    let bought = desk.captured("toss", "o").await;
    let body = toss_event(bought.order, "DONE").to_string();
    let deliveries = (0..10).map(|_| desk.toss("t-1", body.clone()));
    for status in futures::future::join_all(deliveries).await {
        assert_eq!(status, 200);
    }
    assert_eq!(desk.notices().await, [("toss".into(), "t-1".into(), "PAYMENT_STATUS_CHANGED".into(), true)]);
    assert!(desk.number(&bought, "recheck_at_ms").await.unwrap() <= now_ms());
    // Looked at meanwhile; a repetition, also days later, has nobody look again.
    desk.ledger.recheck_done(bought.payment).await.unwrap();
    assert_eq!(desk.toss("t-1", body).await, 200);
    assert_eq!(desk.number(&bought, "recheck_at_ms").await, None);
}

#[tokio::test]
async fn a_notice_moves_no_state_in_whatever_order_they_come() {
    let desk = Desk::open().await;
    let (ready, captured) = (desk.ready("toss", "o", "").await, desk.captured("toss", "o").await);
    let states = [standing(&desk, &ready).await, standing(&desk, &captured).await];
    for (n, status) in ["CANCELED", "DONE", "EXPIRED", "PARTIAL_CANCELED", "ABORTED"].iter().enumerate() {
        assert_eq!(desk.toss(&format!("r-{n}"), toss_event(ready.order, status).to_string()).await, 200);
        assert_eq!(desk.toss(&format!("c-{n}"), toss_event(captured.order, status).to_string()).await, 200);
    }
    let after = [standing(&desk, &ready).await, standing(&desk, &captured).await];
    assert_eq!(states, after);
    assert_eq!(desk.notices().await.len(), 10);
}

async fn standing(desk: &Desk, bought: &Bought) -> [Option<String>; 2] {
    [desk.column(bought, "state").await, desk.column(bought, "refunded_minor").await]
}

#[tokio::test]
async fn a_notice_before_the_answer_leaves_the_worker_its_lease() {
    let desk = Desk::open().await;
    let bought = desk.ready("toss", "o", "").await;
    desk.come_back(&bought).await;
    let now = now_ms();
    let work = desk.ledger.claim_due_payments("toss", now, 1, 30_000).await.unwrap().remove(0);
    assert!(desk.ledger.begin_attempt(work.id, AttemptKind::Confirm, None, now).await.unwrap().is_some());
    let lease = desk.number(&bought, "lease_until_ms").await;
    assert_eq!(desk.toss("t-1", toss_event(bought.order, "DONE").to_string()).await, 200);
    assert_eq!(desk.number(&bought, "lease_until_ms").await, lease);
    assert_eq!(desk.column(&bought, "state").await.as_deref(), Some("confirming"));
    assert!(
        desk.ledger.claim_due_payments("toss", now_ms(), 1, 30_000).await.unwrap().is_empty(),
        "nobody else takes it"
    );
}

#[tokio::test]
async fn a_notice_before_the_session_is_known_finds_its_payment() {
    let desk = Desk::open().await;
    let bought = desk.buy("stripe").await;
    let object = json!({ "object": "payment_intent", "id": "pi_1", "metadata": { "payment": bought.payment } });
    let body = stripe_event("evt_1", "payment_intent.created", &object);
    assert_eq!(desk.stripe(WEBHOOK_SECRET, now_ms(), body).await, 200);
    assert!(desk.notices().await[0].3);
    let ready = desk.ready("stripe", "pi_2", "").await;
    let refund = json!({ "object": "refund", "id": "re_1", "payment_intent": "pi_2" });
    assert_eq!(desk.stripe(WEBHOOK_SECRET, now_ms(), stripe_event("evt_2", "refund.updated", &refund)).await, 200);
    assert!(desk.notices().await[1].3);
    assert!(desk.number(&ready, "next_at_ms").await.unwrap() <= now_ms() + 1_000);
}

#[tokio::test]
async fn a_deposit_that_came_is_looked_at_at_once() {
    let desk = Desk::open().await;
    let bought = desk.ready("toss", "o", "").await;
    desk.come_back(&bought).await;
    let sent = now_ms() - 60_000;
    desk.ledger.begin_attempt(bought.payment, AttemptKind::Confirm, None, sent).await.unwrap();
    let (until, next) = (now_ms() + 86_400_000, now_ms() + 600_000);
    desk.ledger.mark_waiting(bought.payment, until, next, sent).await.unwrap();
    let flat = json!({ "createdAt": "2026-11-21T12:00:00+09:00", "secret": "forged or not", "status": "DONE",
        "transactionKey": "k", "orderId": bought.order });
    assert_eq!(desk.toss("t-1", flat.to_string()).await, 200);
    assert!(desk.number(&bought, "next_at_ms").await.unwrap() <= now_ms());
    assert_eq!(desk.column(&bought, "state").await.as_deref(), Some("waiting"), "the provider's answer decides");
}

#[tokio::test]
async fn only_the_providers_own_signature_counts() {
    let desk = Desk::open().await;
    let body = || stripe_event("evt_1", "charge.refunded", &json!({ "object": "charge", "payment_intent": "pi_1" }));
    assert_eq!(desk.stripe("whsec_of_somebody", now_ms(), body()).await, 401);
    assert_eq!(desk.stripe(WEBHOOK_SECRET, now_ms() - 301_000, body()).await, 401, "replayed later");
    assert_eq!(desk.post("stripe", &[], body()).await, 401);
    assert_eq!(desk.post("stripe", &[("stripe-signature", "t=1,v1=")], body()).await, 401);
    assert_eq!(desk.notices().await, []);
    for secret in [WEBHOOK_SECRET, "whsec_before", MERCHANTS_WEBHOOK_SECRET] {
        assert_eq!(desk.stripe(secret, now_ms(), body()).await, 200, "{secret}");
    }
    assert_eq!(desk.notices().await.len(), 1, "one event");
}

#[tokio::test]
async fn garbage_is_refused_and_leaves_nothing() {
    let desk = Desk::open().await;
    let event = toss_event(OrderId::new(), "DONE").to_string();
    for body in ["", "x", "[]", "{}", "{\"eventType\":1}"] {
        assert_eq!(desk.toss("t", body).await, 400, "{body}");
        assert_eq!(desk.stripe(WEBHOOK_SECRET, now_ms(), body).await, 400, "{body}");
    }
    assert_eq!(desk.post("toss", &[], event.clone()).await, 400, "no transmission id");
    assert_eq!(desk.toss("t", "x".repeat(256 * 1024 + 1)).await, 413);
    for content_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let url = format!("{}/payments/webhooks/toss", desk.shop);
        let request = desk
            .http
            .post(url)
            .header("tosspayments-webhook-transmission-id", "t")
            .header("content-type", content_type);
        assert_eq!(request.body(event.clone()).send().await.unwrap().status(), 400, "{content_type}");
    }
    for provider in ["kakaopay", "paypal", "TOSS", "..", "toss%00"] {
        let status = desk.post(provider, &[("tosspayments-webhook-transmission-id", "t")], event.clone()).await;
        assert_eq!(status, 404, "{provider}");
    }
    let got = desk.http.get(format!("{}/payments/webhooks/toss", desk.shop)).send().await.unwrap();
    assert_eq!(got.status(), 405);
    assert_eq!(desk.notices().await, []);
}

#[tokio::test]
async fn a_notice_about_nothing_of_ours_is_written_down_without_an_effect() {
    let desk = Desk::open().await;
    let others = desk.ready("stripe", "pi_1", "").await;
    assert_eq!(desk.toss("t-1", toss_event(OrderId::new(), "DONE").to_string()).await, 200);
    assert_eq!(desk.toss("t-2", toss_event(others.order, "DONE").to_string()).await, 200, "another provider's payment");
    let known: Vec<bool> = desk.notices().await.into_iter().map(|notice| notice.3).collect();
    assert_eq!(known, [false, false]);
    assert!(desk.number(&others, "next_at_ms").await.unwrap() > now_ms() + 1_000_000);
}

#[tokio::test]
async fn with_the_store_away_the_provider_is_told_to_come_again() {
    let desk = Desk::open().await;
    let bought = desk.captured("toss", "o").await;
    desk.store_is(false).await;
    assert_eq!(desk.toss("t-1", toss_event(bought.order, "DONE").to_string()).await, 503);
    desk.store_is(true).await;
    assert_eq!(desk.toss("t-1", toss_event(bought.order, "DONE").to_string()).await, 200);
    assert!(desk.number(&bought, "recheck_at_ms").await.is_some());
}

/// Notices every 50 ms for ten seconds of the store's time, all different, and a worker that looks whenever it may.
#[tokio::test]
async fn a_flood_about_one_payment_asks_once_a_second() {
    let desk = Desk::open().await;
    let live = desk.ready("toss", "o", "").await;
    desk.come_back(&live).await;
    let start = now_ms();
    desk.ledger.begin_attempt(live.payment, AttemptKind::Confirm, None, start).await.unwrap();
    desk.ledger.mark_waiting(live.payment, start + 86_400_000, start + 600_000, start).await.unwrap();
    let ended = desk.captured("toss", "o").await;
    let (mut asked_live, mut asked_ended) = (Vec::new(), Vec::new());
    for n in 0..200 {
        let now = start + 50 * n;
        for bought in [&live, &ended] {
            let about = NoticeAbout::Order(bought.order);
            let event = format!("{n}-{}", bought.order);
            let effect = desk.ledger.notice_came("toss", &event, "X", about, now).await.unwrap();
            assert_eq!(effect, NoticeEffect::Asked);
        }
        for work in desk.ledger.claim_due_payments("toss", now, 10, 5).await.unwrap() {
            desk.ledger.begin_attempt(work.id, AttemptKind::Query, None, now).await.unwrap();
            if work.id == live.payment {
                asked_live.push(now);
                desk.ledger.mark_waiting(work.id, start + 86_400_000, now + 600_000, now).await.unwrap();
            } else {
                asked_ended.push(now);
                desk.ledger.recheck_done(work.id).await.unwrap();
            }
        }
    }
    for asked in [&asked_live, &asked_ended] {
        assert!((9..=10).contains(&asked.len()), "{asked:?}");
        assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= 1_000), "{asked:?}");
    }
}

#[tokio::test]
async fn a_flood_about_one_payment_fills_no_table() {
    let desk = Desk::open().await;
    let bought = desk.captured("toss", "o").await;
    desk.fill("SELECT 'toss', n::text, $1, 'X', 0 FROM generate_series(1, 1000) n", Some(&bought)).await;
    let about = NoticeAbout::Order(bought.order);
    let came = |event: &'static str| desk.ledger.notice_came("toss", event, "X", about, now_ms());
    assert_eq!(came("one-more").await.unwrap(), NoticeEffect::TooMany);
    assert_eq!(came("7").await.unwrap(), NoticeEffect::Repeated);
    assert_eq!(desk.number(&bought, "recheck_at_ms").await, None);
    assert_eq!(desk.toss("one-more", toss_event(bought.order, "DONE").to_string()).await, 429);
}

#[tokio::test]
async fn a_flood_about_nothing_fills_no_table() {
    let desk = Desk::open().await;
    let now = now_ms();
    desk.fill(&format!("SELECT 'toss', 'n-' || n, $1, 'X', {now} FROM generate_series(1, 600) n"), None).await;
    let came = |at: i64, event: &'static str| desk.ledger.notice_came("toss", event, "X", NoticeAbout::Nothing, at);
    assert_eq!(came(now, "next").await.unwrap(), NoticeEffect::TooMany);
    assert_eq!(came(now, "n-1").await.unwrap(), NoticeEffect::Repeated);
    let bought = desk.captured("toss", "o").await;
    let effect = desk.ledger.notice_came("toss", "real", "X", NoticeAbout::Order(bought.order), now).await.unwrap();
    assert_eq!(effect, NoticeEffect::Asked, "a real one passes the flood");
    assert_eq!(came(now + 60_000, "next").await.unwrap(), NoticeEffect::Unknown, "a minute later");
}

#[tokio::test]
async fn notices_about_nothing_are_kept_for_a_day() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
    let (desk, now) = (Desk::open().await, now_ms());
    let bought = desk.captured("toss", "o").await;
    desk.fill(&format!("SELECT 'toss', 'old-' || n, $1, 'X', {now} - n FROM generate_series(1, 3) n"), None).await;
    desk.fill(&format!("SELECT 'toss', 'ours', $1, 'X', {now} - 9"), Some(&bought)).await;
    let came = |at: i64, event: &'static str| desk.ledger.notice_came("toss", event, "X", NoticeAbout::Nothing, at);
    let kept = async || -> Vec<String> { desk.notices().await.into_iter().map(|(_, event, ..)| event).collect() };
    assert_eq!(came(now + DAY_MS - 3, "a").await.unwrap(), NoticeEffect::Unknown);
    assert_eq!(kept().await, ["a", "old-1", "old-2", "old-3", "ours"], "a day is not over");
    let later = now + DAY_MS;
    assert_eq!(came(later, "a").await.unwrap(), NoticeEffect::Repeated);
    let about = NoticeAbout::Order(bought.order);
    assert_eq!(desk.ledger.notice_came("toss", "b", "X", about, later).await.unwrap(), NoticeEffect::Asked);
    assert_eq!(kept().await, ["a", "b", "old-1", "old-2", "old-3", "ours"], "only a new one about nothing clears up");
    assert_eq!(came(later, "c").await.unwrap(), NoticeEffect::Unknown);
    assert_eq!(kept().await, ["a", "b", "c", "old-1", "ours"], "two at a time, the oldest first");
    assert_eq!(came(later, "d").await.unwrap(), NoticeEffect::Unknown);
    assert_eq!(kept().await, ["a", "b", "c", "d", "ours"], "what is about a payment stays");
}
