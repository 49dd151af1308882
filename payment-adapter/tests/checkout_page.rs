//! Our page around a provider's script: what stands in it, what does not, and who may see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod desk;

use desk::{Bought, Desk, SECRET};
use ledger::{Ended, PaymentState};
use service_kit::clock::now_ms;
use service_kit::ids::PaymentId;

const CLIENT_SECRET: &str = "pi_1_secret_xyz";

fn path(bought: &Bought) -> String {
    format!("/payments/{}/checkout/{SECRET}", bought.payment)
}

#[tokio::test]
async fn the_page_shows_order_and_amount_and_runs_only_its_own_code() {
    let desk = Desk::open().await;
    for (provider, session, script) in [
        ("toss", "", "https://js.tosspayments.com/v2/standard"),
        ("stripe", CLIENT_SECRET, "https://js.stripe.com/v3/"),
    ] {
        let bought = desk.ready(provider, "pi_1", session).await;
        for (language, lang, amount, noscript) in
            [("ko-KR,ko;q=0.9", "ko", "25,800원", "자바스크립트"), ("en-GB", "en", "KRW 25,800", "needs JavaScript")]
        {
            let response = desk.get(&path(&bought), language).await;
            assert_eq!(response.status(), 200, "{provider}");
            let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(
                (header("cache-control").as_str(), header("referrer-policy").as_str()),
                ("no-store", "no-referrer")
            );
            let policy = header("content-security-policy");
            let body = response.text().await.unwrap();
            let nonce = body.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
            assert_eq!(nonce.len(), 32);
            for rule in [
                "default-src 'none'",
                "base-uri 'none'",
                "frame-ancestors 'none'",
                &format!("script-src 'nonce-{nonce}' https://js."),
            ] {
                assert!(policy.contains(rule), "{policy}");
            }
            assert!(!policy.contains("script-src 'unsafe") && !policy.contains("unsafe-eval"), "{policy}");
            assert_eq!(body.matches("<script nonce=").count(), 2);
            assert_eq!(body.matches("<script").count(), 3, "and the data");
            assert!(
                body.contains(&format!("<html lang=\"{lang}\">")) && body.contains(&format!("src=\"{script}\"")),
                "{body}"
            );
            let order = bought.order.to_string();
            assert!(
                body.contains(amount) && body.contains(&order) && body.contains(&format!("href=\"/orders/{order}\""))
            );
            let quiet = body.split("<noscript>").nth(1).unwrap().split("</noscript>").next().unwrap();
            assert!(quiet.contains(noscript), "{quiet}");
            for secret in ["sk_test_hidden", "test_sk_hidden", "DEVhidden", "whsec"] {
                assert!(!body.contains(secret), "{provider}: {secret}");
            }
            assert!(!body.contains("감귤 </script>"), "a title cannot end the element");
        }
        let (first, second) = (desk.get(&path(&bought), "ko").await, desk.get(&path(&bought), "ko").await);
        let policy = |r: &reqwest::Response| r.headers()["content-security-policy"].clone();
        assert_ne!(policy(&first), policy(&second), "each page has its own number");
    }
}

#[tokio::test]
async fn a_wrong_address_tells_nothing() {
    let desk = Desk::open().await;
    let bought = desk.ready("toss", "o", "").await;
    let kakao = desk.ready("kakaopay", "T1", "https://app.example").await;
    for path in [
        format!("/payments/{}/checkout/wrong", bought.payment),
        format!("/payments/{}/checkout/{SECRET}x", bought.payment),
        format!("/payments/{}/checkout/{}", bought.payment, "s".repeat(5_000)),
        format!("/payments/{}/checkout/{SECRET}", PaymentId::new()),
        format!("/payments/x/checkout/{SECRET}"),
        format!("/payments/{}/checkout", bought.payment),
        // A provider with a page of its own has none here.
        path(&kakao),
    ] {
        let response = desk.http.get(format!("{}{path}", desk.shop)).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
    }
}

#[tokio::test]
async fn where_nothing_can_be_paid_the_shopper_goes_to_the_order() {
    let desk = Desk::open().await;
    let requested = desk.buy("toss").await;
    let back = desk.ready("toss", "o", "").await;
    desk.come_back(&back).await;
    let late = desk.ready("toss", "o", "").await;
    let sql = "UPDATE payment SET expires_at_ms = 1 WHERE id = $1";
    desk.sql().await.execute(sql, &[&late.payment.0]).await.unwrap();
    let ended = desk.ready("toss", "o", "").await;
    let how = Ended::Cancelled;
    assert!(desk.ledger.settle_ended(ended.payment, PaymentState::Ready, how, "c", "m", now_ms()).await.unwrap());
    for bought in [requested, back, late, ended] {
        let response = desk.get(&path(&bought), "ko").await;
        assert_eq!(response.status(), 303);
        assert_eq!(response.headers()["location"], format!("/orders/{}", bought.order).as_str());
        assert_eq!(response.headers()["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn a_session_of_something_else_is_not_shown() {
    let desk = Desk::open().await;
    let bought = desk.ready("stripe", "pi_1", "pi_2_secret_xyz").await;
    assert_eq!(desk.get(&path(&bought), "ko").await.status(), 404);
}

#[tokio::test]
async fn with_the_store_away_the_page_says_try_again() {
    let desk = Desk::open().await;
    let bought = desk.ready("toss", "o", "").await;
    desk.store_is(false).await;
    let response = desk.get(&path(&bought), "ko").await;
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "3"));
    desk.store_is(true).await;
}
