//! One request for a page: who asks, in which language, and how the answer is dressed.

use super::assets;
use super::csrf::{Binding, Forms};
use super::lang::{self, Lang};
use super::next::Next;
use super::problems;
use super::text::{Text, fill};
use super::{Shop, format};
use crate::api::TraceId;
use crate::session::{self, Session};
use askama::Template;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use service_kit::ids::{AccountId, VisitorId};
use service_kit::problem::Problem;
use std::convert::Infallible;

/// What may run and load on a page: our own style, script and requests, and nothing else. The payment
/// provider is reached by a link, because Chromium applies `form-action` to redirects as well.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// A request for a page.
#[derive(Clone)]
pub struct Visit {
    /// Language of the answer.
    pub lang: Lang,
    /// The instant of the request.
    pub now_ms: i64,
    /// Who is signed in.
    pub session: Option<Session>,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The request's trace id, 32 hex digits.
    pub trace_id: String,
    path: String,
    query: String,
    binding: Binding,
    new_cookies: Vec<String>,
    forms: Forms,
}

impl FromRequestParts<Shop> for Visit {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, shop: &Shop) -> Result<Self, Infallible> {
        let trace_id = parts.extensions.get::<TraceId>().map(|id| id.0.clone());
        Ok(Self::new(shop, parts.headers.clone(), &parts.uri, trace_id, service_kit::clock::now_ms()))
    }
}

impl Visit {
    /// From a request's headers and address.
    pub fn new(shop: &Shop, headers: HeaderMap, uri: &Uri, trace_id: Option<String>, now_ms: i64) -> Self {
        let session = shop.app.sessions().from_headers(&headers, now_ms);
        let query = uri.query();
        let mut new_cookies = Vec::new();
        if let Some(choice) = lang::chosen(query) {
            new_cookies.push(format!("{}={}; Path=/; SameSite=Lax; Max-Age=31536000", lang::COOKIE, choice.code()));
        }
        let binding = match (session, service_kit::http::cookie(&headers, session::COOKIE), Forms::cookie_of(&headers))
        {
            (Some(_), Some(token), _) => Binding::new("session", token),
            (_, _, Some(cookie)) => Binding::new("cookie", cookie),
            _ => {
                let cookie = VisitorId::new();
                new_cookies.push(shop.forms.set_cookie(cookie.as_str()));
                Binding::new("cookie", cookie.as_str())
            }
        };
        Self {
            lang: Lang::negotiate(query, &headers),
            now_ms,
            session,
            trace_id: trace_id.unwrap_or_else(|| service_kit::http::trace_id(&headers)),
            path: uri.path().to_owned(),
            query: query.unwrap_or_default().to_owned(),
            binding,
            new_cookies,
            forms: shop.forms.clone(),
            headers,
        }
    }

    /// The sentences.
    pub fn text(&self) -> &'static Text {
        self.lang.text()
    }
    /// The first value of a parameter in the query, as it was sent (ids and words need no decoding).
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| v)
    }
    /// A token for the forms of the answer.
    pub fn form_token(&self) -> String {
        self.forms.token(&self.binding, self.now_ms)
    }
    /// Whether a form of this request was drawn by us for this visitor.
    pub fn form_ok(&self, token: &str) -> bool {
        self.forms.origin_ok(&self.headers) && self.forms.token_ok(token, &self.binding, self.now_ms)
    }
    /// Whether the browser says it is a phone.
    pub fn is_phone(&self) -> bool {
        let header = |name: &str| self.headers.get(name).and_then(|v| v.to_str().ok());
        match header("sec-ch-ua-mobile") {
            Some(hint) => hint == "?1",
            None => header(header::USER_AGENT.as_str()).is_some_and(|agent| agent.contains("Mobi")),
        }
    }
    /// The account, or the way to the sign-in page and back to `next`.
    ///
    /// # Errors
    /// A redirect for who is not signed in.
    pub fn account_or_sign_in(&self, next: Next) -> Result<AccountId, Refusal> {
        self.session.map(|s| s.account).ok_or_else(|| Refusal::from(self.redirect(&format!("/login?next={next}"))))
    }

    /// The frame of a page. `tab` is the navigation entry that is current, if any.
    pub fn frame(&self, tab: Tab) -> Frame {
        let here = page_of(&self.path);
        let kept: String = self
            .query
            .split('&')
            .filter(|p| p.starts_with("after=") || p.starts_with("next="))
            .map(|p| format!("&{p}"))
            .collect();
        // From the sign-in page itself the way leads on to where it was meant to go, not back to it.
        let next = Next::parse(self.param("next").unwrap_or(&here));
        Frame {
            t: self.text(),
            lang: self.lang,
            tab,
            now_ms: self.now_ms,
            clock: fill(self.text().server_time, &[("time", &format::clock(self.now_ms))]),
            ko_href: format!("{here}?lang=ko{kept}"),
            en_href: format!("{here}?lang=en{kept}"),
            login_href: format!("/login?next={next}"),
            signup_href: format!("/signup?next={next}"),
            css: assets::css(),
            js: assets::js(),
            signed_in: self.session.is_some(),
            csrf: self.form_token(),
        }
    }

    /// A rendered page with its headers and cookies.
    pub fn page(&self, status: StatusCode, page: &impl Template) -> Response {
        match page.render() {
            Ok(html) => {
                let mut response = (status, html).into_response();
                self.dress(response.headers_mut());
                response
            }
            // Rendering writes to memory only, so this needs no page of its own.
            Err(error) => Problem::internal(&error).into_response(),
        }
    }
    /// `303 See Other` to a path that we made.
    pub fn redirect(&self, to: &str) -> Response {
        let mut response = StatusCode::SEE_OTHER.into_response();
        self.dress(response.headers_mut());
        if let Ok(to) = HeaderValue::from_str(to) {
            response.headers_mut().insert(header::LOCATION, to);
        }
        response
    }
    /// A problem as a page.
    pub fn problem(&self, problem: &Problem) -> Response {
        problems::page(self, problem, page_of(&self.path))
    }
    /// A problem as the way out of a handler.
    pub fn refuse(&self, problem: &Problem) -> Refusal {
        Refusal::from(self.problem(problem))
    }

    fn dress(&self, headers: &mut HeaderMap) {
        let fixed: [(HeaderName, &'static str); 6] = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "same-origin"),
            (header::VARY, "Accept-Language, Cookie"),
        ];
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(self.lang.code()));
        for cookie in &self.new_cookies {
            add_cookie(headers, cookie);
        }
    }
}

/// Appends a `Set-Cookie`.
pub fn add_cookie(headers: &mut HeaderMap, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        headers.append(header::SET_COOKIE, value);
    }
}

/// An answer that ends a handler early. Boxed, because it travels in the error half of a result.
#[derive(Debug)]
pub struct Refusal(Box<Response>);

impl From<Response> for Refusal {
    fn from(response: Response) -> Self {
        Self(Box::new(response))
    }
}
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// Which entry of the navigation is current, named after the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    Deals,
    Orders,
    Login,
    Signup,
    None,
}

/// What every page shows around its own content, named as in `base.html`.
#[derive(Debug, Clone)]
pub struct Frame {
    pub t: &'static Text,
    pub lang: Lang,
    pub tab: Tab,
    pub now_ms: i64,
    pub clock: String,
    pub ko_href: String,
    pub en_href: String,
    pub login_href: String,
    pub signup_href: String,
    pub css: &'static str,
    pub js: &'static str,
    pub signed_in: bool,
    pub csrf: String,
}

impl Frame {
    /// Whether `tab` is the current entry; for the templates.
    pub fn is(&self, tab: Tab) -> bool {
        self.tab == tab
    }
    /// Whether the page is in this language; for the templates.
    pub fn speaks(&self, code: &str) -> bool {
        self.lang.code() == code
    }
}

/// The page that a path belongs to: where a link may lead back to with GET. Built from known pages
/// only, so that a path like `//elsewhere` never becomes a link.
pub fn page_of(path: &str) -> String {
    let known_post = ["/pay", "/cancel", "/refund"].iter().find_map(|verb| path.strip_suffix(verb));
    match path {
        "/login" | "/signup" => path.to_owned(),
        _ => match path.strip_prefix("/problems/").and_then(super::problem_text::slug_of) {
            Some(slug) => format!("/problems/{}", slug.facts().1),
            None => Next::parse(known_post.unwrap_or(path)).to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_kit::ids::OrderId;

    #[test]
    fn links_lead_to_known_pages_only() {
        let id = OrderId::new();
        assert_eq!(page_of(&format!("/orders/{id}/pay")), format!("/orders/{id}"));
        assert_eq!(page_of("/login"), "/login");
        assert_eq!(page_of("/problems/sold-out"), "/problems/sold-out");
        for path in ["//evil.example", "/", "/logout", "/problems/x", "/deals//evil", "/\\evil"] {
            assert_eq!(page_of(path), "/deals");
        }
    }

    #[test]
    fn the_policy_allows_nothing_inline_and_nothing_foreign() {
        for banned in ["unsafe", "http", "*"] {
            assert!(!POLICY.contains(banned), "{banned}");
        }
        for needed in ["default-src 'none'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"] {
            assert!(POLICY.contains(needed), "{needed}");
        }
    }
}
