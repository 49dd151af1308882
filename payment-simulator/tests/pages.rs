//! The payment page: what a browser gets, in both languages, and what its buttons do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use serde_json::{Value, json};
use support::Shop;

async fn get(shop: &Shop, path: &str, accept_language: &str) -> (u16, reqwest::header::HeaderMap, String) {
    let request = shop.http.get(format!("{}{path}", shop.base)).header("accept-language", accept_language);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.headers().clone(), response.text().await.unwrap())
}

#[tokio::test]
async fn the_page_speaks_both_languages_and_asks_nobody_else() {
    let shop = Shop::open().await;
    let tid = shop.ready().await;
    for (language, lang, button) in [("ko-KR", "ko", "결제하기"), ("en-US,ko;q=0.5", "en", ">Pay<")] {
        let (status, headers, body) = get(&shop, &format!("/pay/{tid}"), language).await;
        assert_eq!(status, 200);
        assert!(body.contains(&format!("<html lang=\"{lang}\">")) && body.contains(button), "{body}");
        assert_eq!(body.matches("<h1>").count(), 1);
        assert!(!body.contains("<script") && !body.contains("style="), "nothing that the policy would stop");
        assert!(body.contains("&#60;5kg&#62;"), "the item name is text: {body}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'self'; img-src 'self' data:;"), "{policy}");
        assert!(policy.contains("form-action 'self' https://shop.example;"), "{policy}");
        assert!(!policy.contains("unsafe"));
        assert_eq!(headers["cache-control"], "no-store");
        for outside in body.match_indices("http").map(|(at, _)| &body[at..]) {
            assert!(outside.starts_with(&shop.base), "{outside}");
        }
    }
    assert_eq!(shop.order(&tid).await["status"], "OPEN_PAYMENT", "seen");
}

#[tokio::test]
async fn the_qr_code_is_an_svg_and_the_phone_page_has_none() {
    let shop = Shop::open().await;
    let tid = shop.ready().await;
    let (status, headers, body) = get(&shop, &format!("/pay/{tid}/qr.svg"), "ko").await;
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "image/svg+xml"));
    assert!(body.contains("<svg") && body.contains("<path"));
    let (_, _, phone) = get(&shop, &format!("/pay/{tid}?on=phone"), "ko").await;
    assert!(!phone.contains("qr.svg") && phone.contains("결제하기"));
    let (status, headers, _) = get(&shop, "/pay.css", "ko").await;
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "text/css; charset=utf-8"));
}

#[tokio::test]
async fn each_button_leads_to_its_return_url() {
    let shop = Shop::open().await;
    for (action, begins, status) in [
        ("pay", "https://shop.example/approve?a=b&pg_token=", "AUTH_PASSWORD"),
        ("decline", "https://shop.example/fail", "FAIL_AUTH_PASSWORD"),
        ("cancel", "https://shop.example/cancel", "QUIT_PAYMENT"),
    ] {
        let tid = shop.ready().await;
        let (code, location) = shop.press(&tid, action).await;
        assert_eq!(code, 303);
        assert!(location.starts_with(begins), "{location}");
        assert_eq!(shop.order(&tid).await["status"], status);
        if action != "pay" {
            assert_eq!(shop.press(&tid, "pay").await.0, 410, "an ended payment stays ended");
            assert_eq!(get(&shop, &format!("/pay/{tid}"), "en").await.0, 410);
        }
    }
}

#[tokio::test]
async fn a_crowd_can_pay_and_read_json() {
    let shop = Shop::open().await;
    let tid = shop.ready().await;
    let request = shop
        .http
        .post(format!("{}/pay/{tid}", shop.base))
        .header("accept", "application/json")
        .form(&[("action", "pay")]);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["status"], json!("AUTH_PASSWORD"));
    assert!(answer["redirect_url"].as_str().unwrap().contains("pg_token="));
}

#[tokio::test]
async fn unknown_payments_and_buttons_are_refused() {
    let shop = Shop::open().await;
    let tid = shop.ready().await;
    let (status, headers, body) = get(&shop, "/pay/T0000000000000000000", "en").await;
    assert_eq!(status, 404);
    assert!(headers.contains_key("content-security-policy") && body.contains("lang=\"en\""));
    assert_eq!(shop.press("nothing", "pay").await.0, 404);
    assert_eq!(shop.press(&tid, "steal").await.0, 422);
    assert_eq!(shop.order(&tid).await["status"], "READY");
}

#[tokio::test]
async fn the_control_port_is_not_on_the_public_address() {
    let shop = Shop::open().await;
    for path in ["/_control/ledger", "/_control/faults", "/metrics", "/healthz"] {
        assert_eq!(get(&shop, path, "en").await.0, 404, "{path}");
    }
    for path in ["healthz", "readyz", "metrics"] {
        let response = shop.http.get(format!("{}/{path}", shop.control)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
}
