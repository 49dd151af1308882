//! Proof that a form was sent from our own page by the person it was drawn for.
//!
//! Three locks, each enough for current browsers: cookies are `SameSite=Lax`; `Sec-Fetch-Site` or
//! `Origin` must be ours; a signed token binds the form to the session (or, signed out, to a random
//! cookie), so that signing a victim into a foreign account does not work either (login CSRF).

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use service_kit::http::cookie;
use service_kit::keys::{KeyRing, Purpose};
use service_kit::token::TextSigner;
use sha2::{Digest as _, Sha256};

/// The cookie that forms of signed-out visitors are bound to.
pub const COOKIE: &str = "fg_form";
/// How long a form may lie open: as long as a session.
pub const FORM_MS_MAX: i64 = crate::session::SESSION_MS;

/// What a form is bound to: a digest of the session or of the visitor's form cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding(String);

impl Binding {
    /// Binds to `secret`; the two kinds never mean the same thing.
    pub fn new(kind: &str, secret: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(kind.as_bytes());
        hash.update([0]);
        hash.update(secret.as_bytes());
        Self(B64.encode(hash.finalize()))
    }
}

/// Issues and checks form tokens, and knows which origin is ours.
#[derive(Clone)]
pub struct Forms {
    signer: TextSigner,
    origin: String,
    cookie_secure: bool,
}

impl Forms {
    /// `public_url` is the address that shoppers see.
    pub fn new(ring: &KeyRing, public_url: &str, cookie_secure: bool) -> Self {
        let origin = public_url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/").to_ascii_lowercase();
        Self { signer: TextSigner::new(ring, Purpose::Csrf), origin, cookie_secure }
    }
    /// A token for a form drawn at `now_ms`.
    pub fn token(&self, binding: &Binding, now_ms: i64) -> String {
        self.signer.sign(&format!("{}.{now_ms}", binding.0))
    }
    /// Whether a token is ours, for this binding, and not too old.
    pub fn token_ok(&self, token: &str, binding: &Binding, now_ms: i64) -> bool {
        let Ok(body) = self.signer.verify(token) else { return false };
        let Some((bound, issued)) = body.rsplit_once('.') else { return false };
        // The digest is no secret: the signature has been checked in constant time.
        bound == binding.0 && issued.parse::<i64>().is_ok_and(|at| now_ms.saturating_sub(at) <= FORM_MS_MAX)
    }
    /// Whether a POST came from one of our pages, as far as the browser says.
    pub fn origin_ok(&self, headers: &HeaderMap) -> bool {
        let named = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
        match (named("sec-fetch-site"), named(header::ORIGIN.as_str())) {
            (Some(site), _) => site == "same-origin",
            (None, Some(origin)) => origin.eq_ignore_ascii_case(&self.origin),
            (None, None) => true, // an old browser: the token and the cookie's SameSite remain
        }
    }
    /// The visitor's form cookie, if it has the shape that we give it.
    pub fn cookie_of(headers: &HeaderMap) -> Option<&str> {
        cookie(headers, COOKIE).filter(|v| v.parse::<service_kit::ids::VisitorId>().is_ok())
    }
    /// The `Set-Cookie` value of a form cookie.
    pub fn set_cookie(&self, value: &str) -> String {
        let secure = if self.cookie_secure { "; Secure" } else { "" };
        format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={}{secure}", FORM_MS_MAX / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_kit::keys::KeysConfig;

    fn forms() -> Forms {
        let ring = KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("a")] }).unwrap();
        Forms::new(&ring, "https://Shop.example:8443/base", true)
    }

    #[test]
    fn a_token_fits_one_binding_for_a_while() {
        let (forms, mine, now) = (forms(), Binding::new("session", "s1"), 1_000_000);
        let token = forms.token(&mine, now);
        assert!(forms.token_ok(&token, &mine, now + FORM_MS_MAX));
        assert!(!forms.token_ok(&token, &mine, now + FORM_MS_MAX + 1));
        assert!(!forms.token_ok(&token, &Binding::new("session", "s2"), now));
        assert!(!forms.token_ok(&token, &Binding::new("cookie", "s1"), now));
        assert!(!super::tests::forms().token_ok(&token, &mine, now), "another key");
        for bad in ["", ".", "a.b.c", &token[1..]] {
            assert!(!forms.token_ok(bad, &mine, now), "{bad:?}");
        }
    }

    #[test]
    fn only_our_own_pages_may_post() {
        let ok = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            forms().origin_ok(&headers)
        };
        assert!(ok(&[("sec-fetch-site", "same-origin"), ("origin", "https://shop.example:8443")]));
        assert!(ok(&[("origin", "https://shop.example:8443")]));
        assert!(ok(&[]));
        for site in ["cross-site", "same-site", "none", ""] {
            assert!(!ok(&[("sec-fetch-site", site), ("origin", "https://shop.example:8443")]), "{site}");
        }
        for origin in
            ["null", "https://shop.example", "https://shop.example:8443.evil.example", "http://shop.example:8443"]
        {
            assert!(!ok(&[("origin", origin)]), "{origin}");
        }
    }
}
