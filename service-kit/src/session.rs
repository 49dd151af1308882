//! Sessions of signed-in people: a signed token of the shop, as Bearer or in the cookie `fg_session`.
//!
//! The deal service issues them; the gate reads them for rooms with one place per person. A shop that is not ours
//! may mint the same token with a key derived from the ring (see docs/operators.md).

use crate::keys::{KeyRing, Purpose};
use crate::known::Known;
use crate::token::{BadToken, JwtSigner};
use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The cookie that carries the session.
pub const COOKIE: &str = "fg_session";
/// Longest name of an account, in characters.
pub const ACCOUNT_CHARS_MAX: usize = 64;

/// What the token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The account: 1 to 64 of `A-Z`, `a-z`, `0-9`, `-`, `_`, `.`, `@`.
    pub sub: String,
    /// When it was issued, in seconds, as the standard wants.
    pub iat: i64,
    /// When it ends, in seconds.
    pub exp: i64,
}

/// Issues and checks session tokens (JWT HS256, `typ` `session+jwt`).
#[derive(Clone)]
pub struct SessionTokens {
    signer: JwtSigner,
    known: Arc<Known<Claims>>,
}

impl std::fmt::Debug for SessionTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionTokens")
    }
}

impl SessionTokens {
    /// Uses the ring's session keys.
    pub fn new(ring: &KeyRing) -> Self {
        Self { signer: JwtSigner::new(ring, Purpose::Session, "session+jwt"), known: Arc::default() }
    }

    /// The token.
    ///
    /// # Errors
    /// When the claims do not serialise, which they do.
    pub fn issue(&self, claims: &Claims) -> Result<String, BadToken> {
        self.signer.sign(claims)
    }

    /// The account that is signed in, from `Authorization: Bearer` or else the cookie.
    pub fn account(&self, headers: &HeaderMap, now_ms: i64) -> Option<String> {
        let token = bearer(headers).or_else(|| crate::http::cookie(headers, COOKIE))?;
        let claims = self.known.get(token).or_else(|| self.read(token))?;
        (claims.exp > now_ms.div_euclid(1_000)).then_some(claims.sub)
    }

    fn read(&self, token: &str) -> Option<Claims> {
        let claims: Claims = self.signer.verify(token).ok()?;
        let is_plain = (1..=ACCOUNT_CHARS_MAX).contains(&claims.sub.len())
            && claims.sub.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b));
        if !is_plain {
            return None;
        }
        self.known.put(token, &claims);
        Some(claims)
    }
}

/// The token of `Authorization: Bearer …`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeysConfig;

    #[test]
    fn only_a_session_that_is_not_over_names_somebody() {
        crate::install_crypto_providers();
        let ring = KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("a")] }).unwrap();
        let tokens = SessionTokens::new(&ring);
        let of = |sub: &str, purpose_ok: bool, now_ms: i64| {
            let claims = Claims { sub: sub.into(), iat: 0, exp: 100 };
            let token = if purpose_ok {
                tokens.issue(&claims).unwrap()
            } else {
                JwtSigner::new(&ring, Purpose::Pass, "session+jwt").sign(&claims).unwrap()
            };
            let headers = HeaderMap::from_iter([(header::COOKIE, format!("a=b; {COOKIE}={token}").parse().unwrap())]);
            tokens.account(&headers, now_ms)
        };
        assert_eq!(of("ada@shop.example", true, 99_999).as_deref(), Some("ada@shop.example"));
        assert_eq!(of("ada", true, 100_000), None, "over");
        assert_eq!(of("ada", false, 0), None, "a key of another purpose");
        for odd in ["", "a b", "a:b", "a\nb", &"a".repeat(65)] {
            assert_eq!(of(odd, true, 0), None, "{odd:?}");
        }
        assert_eq!(tokens.account(&HeaderMap::new(), 0), None);
    }
}
