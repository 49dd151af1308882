//! Sessions of shoppers: a signed token of 12 hours, as Bearer or in the cookie `fg_session`.
//!
//! The account of a request comes from here and from nowhere else: no path, query, body or header
//! names a user. Nothing is stored; logging out forgets the cookie.
//! Cross-site requests: the cookie is `SameSite=Lax`, and every API call that changes something needs
//! a JSON body, an `Idempotency-Key` header or the method DELETE, which no foreign form can send.

use crate::view::SessionView;
use axum::http::HeaderMap;
use service_kit::ids::AccountId;
use service_kit::keys::KeyRing;
use service_kit::problem::{Problem, Slug};
use service_kit::session::{Claims, SessionTokens};
use service_kit::token::BadToken;

/// How long a session lasts.
pub const SESSION_MS: i64 = 12 * 60 * 60 * 1_000;

pub use service_kit::session::{COOKIE, bearer};

/// Who is signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// The account.
    pub account: AccountId,
}

/// Issues and checks sessions.
#[derive(Clone)]
pub struct Sessions {
    tokens: SessionTokens,
    cookie_secure: bool,
}

impl Sessions {
    /// Uses the ring's session keys; `cookie_secure` marks the cookie for HTTPS only.
    pub fn new(ring: &KeyRing, cookie_secure: bool) -> Self {
        Self { tokens: SessionTokens::new(ring), cookie_secure }
    }

    /// A session for `account` from `now_ms` on. Also what a load test uses to sign in its crowd.
    ///
    /// # Errors
    /// When the claims do not serialise, which they do.
    pub fn issue(&self, account: AccountId, now_ms: i64) -> Result<SessionView, BadToken> {
        let expires_at_ms = now_ms.saturating_add(SESSION_MS);
        let claims = Claims { sub: account.to_string(), iat: now_ms / 1_000, exp: expires_at_ms / 1_000 };
        Ok(SessionView { token: self.tokens.issue(&claims)?, expires_at_ms })
    }

    /// Who is signed in, from `Authorization: Bearer` or else the cookie.
    pub fn from_headers(&self, headers: &HeaderMap, now_ms: i64) -> Option<Session> {
        let account = self.tokens.account(headers, now_ms)?.parse().ok()?;
        Some(Session { account })
    }

    /// As [`Self::from_headers`], with the refusal for who is not signed in.
    ///
    /// # Errors
    /// A `not-signed-in` problem.
    pub fn require(&self, headers: &HeaderMap, now_ms: i64) -> Result<Session, Problem> {
        self.from_headers(headers, now_ms).ok_or_else(|| {
            Problem::new(
                Slug::NotSignedIn,
                "Sign in with POST /api/v1/sessions and send the token as `Authorization: Bearer`.",
            )
        })
    }

    /// The `Set-Cookie` value that signs a browser in.
    pub fn set_cookie(&self, session: &SessionView) -> String {
        self.cookie(&session.token, SESSION_MS / 1_000)
    }
    /// The `Set-Cookie` value that signs a browser out.
    pub fn clear_cookie(&self) -> String {
        self.cookie("", 0)
    }
    fn cookie(&self, value: &str, max_age_s: i64) -> String {
        let secure = if self.cookie_secure { "; Secure" } else { "" };
        format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age_s}{secure}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_kit::keys::KeysConfig;

    fn sessions() -> Sessions {
        service_kit::install_crypto_providers();
        let ring = KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("a")] }).unwrap();
        Sessions::new(&ring, true)
    }
    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn a_session_ends_after_twelve_hours() {
        let (sessions, account, now) = (sessions(), AccountId::new(), 1_000_000_000_000);
        let token = sessions.issue(account, now).unwrap().token;
        let bearer = headers("authorization", &format!("Bearer {token}"));
        assert_eq!(sessions.from_headers(&bearer, now), Some(Session { account }));
        assert_eq!(sessions.from_headers(&bearer, now + SESSION_MS - 1_000), Some(Session { account }));
        assert_eq!(sessions.from_headers(&bearer, now + SESSION_MS), None);
        let cookie = headers("cookie", &format!("a=b; fg_session={token}"));
        assert_eq!(sessions.from_headers(&cookie, now), Some(Session { account }));
    }

    #[test]
    fn anything_else_is_nobody() {
        let (sessions, now) = (sessions(), 1_000_000_000_000);
        for value in ["Bearer ", "Bearer x.y.z", "Basic abc", "Ticket abc", "Bearer"] {
            assert_eq!(sessions.from_headers(&headers("authorization", value), now), None, "{value}");
        }
        assert_eq!(sessions.from_headers(&HeaderMap::new(), now), None);
        let foreign = super::tests::sessions().issue(AccountId::new(), now).unwrap().token;
        assert_eq!(sessions.from_headers(&headers("authorization", &format!("Bearer {foreign}")), now), None);
    }

    #[test]
    fn the_cookie_is_not_for_scripts_and_not_for_other_sites() {
        let sessions = sessions();
        let cookie = sessions.set_cookie(&SessionView { token: "t".into(), expires_at_ms: 0 });
        for part in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/", "Max-Age=43200"] {
            assert!(cookie.contains(part), "{part} missing in {cookie}");
        }
        assert!(sessions.clear_cookie().contains("Max-Age=0"));
    }
}
