//! The return page: it writes down what the shopper brought back, once, and moves nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use support::{Bench, Bought, SECRET};

async fn get(bench: &Bench, path: &str) -> reqwest::Response {
    bench.http.get(format!("{}{path}", bench.shop)).send().await.unwrap()
}

/// A payment in `ready` and no worker, so that only the page acts.
async fn ready(bench: &mut Bench) -> Bought {
    bench.hire();
    let bought = bench.buy().await;
    bench.until_payment(&bought, "ready").await;
    bench.kill_workers().await;
    bought
}

async fn row(bench: &Bench, bought: &Bought) -> (String, Option<String>, Option<String>) {
    let sql = "SELECT state, approval_code, returned FROM payment WHERE id = $1";
    let row = bench.sql().await.query_one(sql, &[&bought.payment.0]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

#[tokio::test]
async fn a_wrong_address_changes_nothing_and_tells_nothing() {
    let mut bench = Bench::new(2_000).await;
    let bought = ready(&mut bench).await;
    let before = row(&bench, &bought).await;
    let (payment, other) = (bought.payment, service_kit::ids::PaymentId::new());
    let upper = payment.to_string().to_uppercase();
    for path in [
        format!("/payments/{payment}/return/wrong/approve?pg_token=x"),
        format!("/payments/{payment}/return/{SECRET}x/cancel"),
        format!("/payments/{payment}/return/{}/cancel", "s".repeat(5_000)),
        format!("/payments/{other}/return/{SECRET}/cancel"),
        format!("/payments/{upper}/return/{SECRET}/cancel"),
        format!("/payments/x/return/{SECRET}/cancel"),
        format!("/payments/{payment}/return/{SECRET}/capture"),
        format!("/payments/{payment}/return/{SECRET}/approve"),
        format!("/payments/{payment}/return/{SECRET}/approve?pg_token="),
        format!("/payments/{payment}/return/{SECRET}/approve?pg_token=%00"),
        format!("/payments/{payment}/return/{SECRET}/approve?pg_token={}", "x".repeat(201)),
        format!("/payments/{payment}"),
        "/".to_owned(),
    ] {
        let response = get(&bench, &path).await;
        assert_eq!(response.status(), 404, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
    }
    assert_eq!(row(&bench, &bought).await, before);
}

#[tokio::test]
async fn a_browser_gets_a_page_in_both_languages() {
    let bench = Bench::new(2_000).await;
    let request =
        bench.http.get(format!("{}/payments/x/return/y/cancel", bench.shop)).header("accept", "text/html,*/*;q=0.8");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 404);
    assert!(response.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    let body = response.text().await.unwrap();
    assert!(body.contains("<html lang=\"ko\">") && body.contains("lang=\"en\"") && body.contains("/orders"));
}

#[tokio::test]
async fn coming_back_twice_has_one_effect() {
    let mut bench = Bench::new(2_000).await;
    let bought = ready(&mut bench).await;
    let base = format!("/payments/{}/return/{SECRET}", bought.payment);
    for (path, code) in [
        ("approve?pg_token=first", "first"),
        ("approve?pg_token=second", "first"),
        ("cancel", "first"),
        ("fail", "first"),
    ] {
        let response = get(&bench, &format!("{base}/{path}")).await;
        assert_eq!(response.status(), 303, "{path}");
        assert_eq!(response.headers()["location"], format!("/orders/{}", bought.order).as_str());
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["referrer-policy"], "no-referrer");
        assert_eq!(
            row(&bench, &bought).await,
            ("authorized".into(), Some(code.into()), Some("approved".into())),
            "{path}"
        );
    }
    assert!(bench.attempts(&bought, "confirm").await.is_empty(), "the page itself moves no money");
}

#[tokio::test]
async fn a_post_is_taken_like_a_get_and_a_code_after_turning_back_counts() {
    let mut bench = Bench::new(2_000).await;
    let bought = ready(&mut bench).await;
    let base = format!("{}/payments/{}/return/{SECRET}", bench.shop, bought.payment);
    assert_eq!(bench.http.post(format!("{base}/cancel")).send().await.unwrap().status(), 303);
    assert_eq!(row(&bench, &bought).await, ("ready".into(), None, Some("cancelled".into())));
    assert_eq!(bench.http.post(format!("{base}/approve?pg_token=x")).send().await.unwrap().status(), 303);
    assert_eq!(row(&bench, &bought).await.0, "authorized");
}
