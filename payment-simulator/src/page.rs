//! What the pay pages of all providers share: one template with three buttons that work without scripts, the QR code,
//! the two notices, and the policy that stops everything else.

use crate::text::{Lang, Words};
use crate::web::web_origin;
use askama::Template;
use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use qrcode::QrCode;
use qrcode::render::svg;
use serde::Deserialize;
use service_kit::money::{Currency, Money};

const STYLE: &str = include_str!("../templates/pay.css");

/// The routes that belong to no provider.
pub fn router() -> Router {
    Router::new().route("/pay.css", get(|| async { ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE) }))
}

/// The pay page.
#[derive(Debug, Template)]
#[template(path = "pay.html")]
pub struct PayPage<'p> {
    pub lang: Lang,
    pub words: &'static Words,
    /// Whose page it plays.
    pub title: &'static str,
    pub item: &'p str,
    pub quantity: Option<i64>,
    pub amount: String,
    pub order: &'p str,
    /// The end of the session as `12:34`, Korean time.
    pub until: Option<String>,
    /// Addresses of the QR code and of the page that it leads to.
    pub scan: Option<(String, String)>,
    /// The second button.
    pub decline: &'static str,
    /// Where the buttons post to.
    pub action: String,
    /// The query string of this page in the other language.
    pub other_language: String,
}

#[derive(Debug, Template)]
#[template(path = "notice.html")]
struct NoticePage {
    lang: Lang,
    words: &'static Words,
    title: &'static str,
    text: String,
}

/// The query of a page.
#[derive(Debug, Deserialize)]
pub struct View {
    pub lang: Option<String>,
    pub on: Option<String>,
}

/// What the shopper does on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Press {
    /// Pays with the right password.
    Pay,
    /// Is refused by the payment method.
    Decline,
    /// Leaves.
    Cancel,
}

/// The form of the three buttons.
#[derive(Debug, Deserialize)]
pub struct Pressed {
    pub action: Press,
}

/// The language that the request asks for.
pub fn lang(asked: Option<&str>, headers: &HeaderMap) -> Lang {
    Lang::choose(asked, headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()))
}

/// 404: no such payment.
pub fn missing(lang: Lang) -> Response {
    let words = lang.words();
    let page = NoticePage { lang, words, title: words.missing_title, text: words.missing.to_owned() };
    html(StatusCode::NOT_FOUND, &page, "'none'")
}

/// 410: it has ended.
pub fn ended(lang: Lang) -> Response {
    let words = lang.words();
    let page = NoticePage { lang, words, title: words.ended_title, text: words.ended.to_owned() };
    html(StatusCode::GONE, &page, "'none'")
}

/// A receipt.
pub fn receipt(lang: Lang, text: String) -> Response {
    let words = lang.words();
    html(StatusCode::OK, &NoticePage { lang, words, title: words.receipt_title, text }, "'none'")
}

/// A page that asks nobody else; its forms lead where `form_action` says.
pub fn html(status: StatusCode, page: &impl Template, form_action: &str) -> Response {
    let Ok(body) = page.render() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action {form_action}; base-uri 'none'; frame-ancestors 'none'"
    );
    let mut response = (status, Html(body)).into_response();
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Where the forms may lead: here, and by the redirect that follows to the shop. Browsers check the redirect too.
pub fn form_targets(urls: &[&str]) -> String {
    let mut targets = vec!["'self'".to_owned()];
    for url in urls {
        targets.extend(web_origin(url).filter(|origin| !targets.contains(origin)));
    }
    targets.join(" ")
}

/// The browser goes on to `location`.
pub fn see_other(location: String) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, location), (header::CACHE_CONTROL, "no-store".to_owned())])
        .into_response()
}

/// A QR code of an address as a picture.
pub fn qr(address: &str) -> Response {
    match QrCode::new(address) {
        Ok(code) => {
            let image = code.render::<svg::Color<'_>>().min_dimensions(240, 240).build();
            ([(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "no-store")], image).into_response()
        }
        // Only an address beyond what a QR code holds; the page shows it as text as well.
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// `₩12,900` for won, `USD 12.90` for others.
pub fn price(minor: i64, currency: Currency) -> String {
    match currency {
        Currency::KRW => format!("₩{}", service_kit::money::grouped(minor.unsigned_abs())),
        other => Money::new(minor, other).map_or_else(|_| minor.to_string(), |money| money.to_string()),
    }
}

/// `12:34` in Korea.
pub fn korean_clock(ms: i64) -> String {
    let seoul_ms = ms.saturating_add(9 * 3_600_000);
    service_kit::clock::rfc3339(seoul_ms).chars().skip(11).take(5).collect()
}

/// A script for pages of any shop.
pub fn script(source: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ];
    (headers, source).into_response()
}
