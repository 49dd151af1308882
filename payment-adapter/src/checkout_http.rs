//! Our page around a provider's script: `/payments/{payment}/checkout/{secret}`, for providers that have no page of
//! their own to send the shopper to.
//!
//! It reads the ledger and nothing else: no call to a provider, no write. The secret is the one of the return address;
//! with a wrong one nothing is told. Where nothing can be paid (any more), the shopper goes on to the order. In the page
//! are what the shopper knows anyhow, the provider's public key, and this payment's own session; the policy lets it
//! run our one script by its number and talk to the provider's origins, to nobody else.

use crate::provider::CheckoutPage;
use crate::providers::{Account, account_for};
use crate::return_http::{quiet, refuse};
use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use ledger::{Ledger, PaymentState, PaymentWork};
use serde_json::json;
use service_kit::config::{ConfigError, require};
use service_kit::ids::PaymentId;
use service_kit::money::{Currency, Money, grouped};
use service_kit::problem::Slug;
use std::sync::Arc;

/// Longest secret that is looked up, in bytes.
const SECRET_BYTES_MAX: usize = 128;
/// Longest address of a script or an origin, in bytes.
const ADDRESS_BYTES_MAX: usize = 200;
/// Most further origins.
const ORIGINS_MAX: usize = 16;
/// Entries of `Accept-Language` that are looked at.
const LANGUAGES_MAX: usize = 20;

#[derive(Clone)]
struct Shop {
    ledger: Ledger,
    accounts: Arc<[Account]>,
    public_url: Arc<str>,
}

/// The routes. `public_url` is the shop as browsers reach it.
pub fn router(ledger: Ledger, accounts: Arc<[Account]>, public_url: &str) -> Router {
    let shop = Shop { ledger, accounts, public_url: public_url.into() };
    Router::new().route("/payments/{payment}/checkout/{secret}", get(show)).with_state(shop)
}

/// Refuses addresses that cannot stand in a page's policy. `at` is where the provider's section stands.
///
/// # Errors
/// Names the field.
pub(crate) fn validate(at: &str, sdk_url: &str, origins: &[String]) -> Result<(), ConfigError> {
    require(is_address(sdk_url), &format!("{at}.sdk_url"), "http(s)://host/path in plain characters")?;
    require(
        origins.len() <= ORIGINS_MAX && origins.iter().all(|o| is_address(o) && origin(o) == Some(o.as_str())),
        &format!("{at}.page_origins"),
        "at most 16 of http(s)://host, without a path",
    )
}

/// A web address without anything that means something in a policy or in a page.
fn is_address(url: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/*[]@%".contains(&b);
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    url.len() <= ADDRESS_BYTES_MAX
        && url.bytes().all(plain)
        && host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
}

/// Scheme and host of an address.
fn origin(url: &str) -> Option<&str> {
    let host = url.find("://")?.checked_add(3)?;
    let end = url.get(host..)?.find('/').map_or(url.len(), |at| host.saturating_add(at));
    url.get(..end)
}

async fn show(
    State(shop): State<Shop>,
    Path((payment, secret)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let Ok(payment) = payment.parse::<PaymentId>() else { return quiet(refuse(&headers, Slug::NotFound)) };
    if secret.len() > SECRET_BYTES_MAX {
        return quiet(refuse(&headers, Slug::NotFound));
    }
    quiet(match shop.ledger.payment_for_checkout(payment, &secret).await {
        Ok(Some((work, session))) => page_of(&shop, &work, &session, &headers),
        Ok(None) => refuse(&headers, Slug::NotFound),
        Err(error) => {
            tracing::error!(%error, "a checkout page was not shown");
            refuse(&headers, Slug::StoreUnavailable)
        }
    })
}

fn page_of(shop: &Shop, work: &PaymentWork, session: &str, headers: &HeaderMap) -> Response {
    let is_open = work.state == PaymentState::Ready
        && work.returned.is_none()
        && work.expires_at_ms.is_some_and(|end_ms| service_kit::clock::now_ms() < end_ms);
    if !is_open {
        let order = format!("/orders/{}", work.order);
        return (StatusCode::SEE_OTHER, [(header::LOCATION, order)]).into_response();
    }
    let return_url = format!("{}/payments/{}/return/{}", shop.public_url, work.id, work.return_secret);
    let account = account_for(&shop.accounts, work);
    match account.and_then(|account| account.provider.checkout(work, session, &return_url)) {
        Some(page) => render(work, page, &return_url, headers),
        None => refuse(headers, Slug::NotFound),
    }
}

#[derive(Template)]
#[template(path = "checkout.html")]
struct Checkout<'p> {
    lang: &'static str,
    words: &'static Words,
    nonce: &'p str,
    item: &'p str,
    quantity: i64,
    amount: String,
    order: String,
    cancel: String,
    script: &'p str,
    start: &'static str,
    data: String,
}

fn render(work: &PaymentWork, mut page: CheckoutPage, return_url: &str, headers: &HeaderMap) -> Response {
    let lang = language(headers);
    let words = if lang == "en" { &ENGLISH } else { &KOREAN };
    if let Some(data) = page.data.as_object_mut() {
        data.insert("lang".to_owned(), lang.into());
        let text = json!({ "notLoaded": words.not_loaded, "notOpened": words.not_opened, "failed": words.failed });
        data.insert("text".to_owned(), text);
    }
    let nonce = format!("{:032x}", rand::random::<u128>());
    let html = Checkout {
        lang,
        words,
        nonce: &nonce,
        item: &work.item_name,
        quantity: work.quantity,
        amount: amount(work.amount, lang),
        order: work.order.to_string(),
        cancel: format!("{return_url}/cancel"),
        script: &page.script_url,
        start: page.start,
        data: in_script(&page.data),
    };
    let (Ok(html), Ok(policy)) = (html.render(), HeaderValue::from_str(&policy(&nonce, &page))) else {
        return refuse(headers, Slug::NotFound);
    };
    let mut response = Html(html).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Language"));
    response
}

/// Our own script by its number, the provider's by its origins; no other code, no other address, no frame around us.
/// Style attributes are allowed because the provider's script places its frame with them; none of ours are.
fn policy(nonce: &str, page: &CheckoutPage) -> String {
    let origins: Vec<&str> =
        origin(&page.script_url).into_iter().chain(page.origins.iter().map(String::as_str)).collect();
    let origins = origins.join(" ");
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}' {origins}; style-src 'nonce-{nonce}'; \
         style-src-attr 'unsafe-inline'; connect-src {origins}; frame-src {origins}; img-src {origins} data:; \
         font-src {origins}; form-action {origins}; base-uri 'none'; frame-ancestors 'none'"
    )
}

/// JSON that can stand in a script element: nothing in it ends the element or begins another.
fn in_script(data: &serde_json::Value) -> String {
    data.to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

fn amount(money: Money, lang: &str) -> String {
    match (money.currency(), lang) {
        (Currency::KRW, "ko") => format!("{}원", grouped(money.minor().unsigned_abs())),
        _ => money.to_string(),
    }
}

/// Korean or English, by the browser's wish; Korean when it has none.
fn language(headers: &HeaderMap) -> &'static str {
    let wish = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut best = ("ko", 0.0_f32);
    for entry in wish.split(',').take(LANGUAGES_MAX) {
        let (range, weight) = entry.split_once(";q=").unwrap_or((entry, "1"));
        let lang = match range.trim().split('-').next().map(str::to_ascii_lowercase).as_deref() {
            Some("ko") => "ko",
            Some("en") => "en",
            _ => continue,
        };
        let weight: f32 = weight.trim().parse().unwrap_or(0.0);
        if weight > best.1 {
            best = (lang, weight);
        }
    }
    best.0
}

struct Words {
    title: &'static str,
    item: &'static str,
    amount: &'static str,
    order: &'static str,
    pay: &'static str,
    back: &'static str,
    cancel: &'static str,
    noscript: &'static str,
    not_loaded: &'static str,
    not_opened: &'static str,
    failed: &'static str,
}

const KOREAN: Words = Words {
    title: "결제하기",
    item: "상품",
    amount: "결제 금액",
    order: "주문 번호",
    pay: "결제하기",
    back: "주문으로 돌아가기",
    cancel: "결제하지 않기",
    noscript: "이 결제 수단은 자바스크립트가 필요합니다. 자바스크립트를 켜고 이 페이지를 새로 고치거나, 주문으로 돌아가 주세요. 아직 결제되지 않았습니다.",
    not_loaded: "결제사의 화면을 불러오지 못했습니다. 버튼을 누르면 다시 시도합니다. 아직 결제되지 않았습니다.",
    not_opened: "결제가 끝나지 않았습니다. 다시 시도할 수 있습니다.",
    failed: "결제가 승인되지 않았습니다. 다시 시도하거나 다른 수단을 골라 주세요.",
};

const ENGLISH: Words = Words {
    title: "Payment",
    item: "Item",
    amount: "To pay",
    order: "Order",
    pay: "Pay",
    back: "Back to the order",
    cancel: "Do not pay",
    noscript: "This way of paying needs JavaScript. Switch it on and load this page again, or go back to the order. Nothing has been paid.",
    not_loaded: "The payment provider's part of this page did not load. Press the button to try again. Nothing has been paid.",
    not_opened: "The payment was not completed. You can try again.",
    failed: "The payment was not approved. Try again, or choose another way to pay.",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_data_ends_its_element() {
        let data = json!({ "name": "</script><script>alert(1)</script>&\u{2028}" });
        let text = in_script(&data);
        assert!(!text.contains(['<', '>', '&', '\u{2028}']), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), data);
    }

    #[test]
    fn the_language_is_the_browsers_wish() {
        let lang = |wish: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_str(wish).unwrap());
            language(&headers)
        };
        assert_eq!(language(&HeaderMap::new()), "ko");
        for (wish, expected) in [
            ("en-US,en;q=0.9,ko;q=0.8", "en"),
            ("ko-KR,ko;q=0.9,en;q=0.8", "ko"),
            ("de,en;q=0.5", "en"),
            ("fr", "ko"),
            ("en;q=0", "ko"),
            ("en;q=x", "ko"),
        ] {
            assert_eq!(lang(wish), expected, "{wish}");
        }
    }

    #[test]
    fn an_address_cannot_open_the_policy() {
        let ok = |sdk: &str, origin: &str| validate("at", sdk, &[origin.to_owned()]).is_ok();
        assert!(ok("https://js.example/v1", "https://*.example"));
        assert!(ok("http://127.0.0.1:8080/sdk.js", "http://127.0.0.1:8080"));
        for bad in [
            "",
            "javascript:x",
            "https://",
            "https:///x",
            "https://a b",
            "https://a;script-src",
            "https://a'",
            "https://a,b",
        ] {
            assert!(!ok(bad, "https://a"), "{bad}");
            assert!(!ok("https://a/b", bad), "{bad}");
        }
        assert!(!ok("https://a/b", "https://a/b"), "an origin has no path");
        assert_eq!(origin("https://js.example/v1/x"), Some("https://js.example"));
    }
}
