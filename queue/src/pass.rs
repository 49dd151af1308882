//! The pass: a short-lived signed permission to enter. Checked without any lookup, here and at our upstreams.

use serde::{Deserialize, Serialize};
use service_kit::ids::{RoomId, VisitorId};
use service_kit::keys::{KeyRing, Purpose};
use service_kit::known::Known;
use service_kit::planted;
use service_kit::token::{BadToken, JwtSigner};
use std::sync::Arc;

/// Who may enter which room, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The room (`aud`).
    pub room: RoomId,
    /// Who (`sub`).
    pub visitor: VisitorId,
    /// The number that was called; it names the lease (`lease`).
    pub number: u64,
    /// The browser that claimed it, as a hash (`brw`); 0 = unknown.
    pub browser: u64,
    /// When this token was made, whole seconds (`iat`): tells how much of its life is over.
    pub issued_ms: i64,
    /// When the lease ends; the token keeps whole seconds, rounded down, so it never outlives the lease (`exp`).
    pub expires_at_ms: i64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Claims {
    aud: RoomId,
    sub: VisitorId,
    lease: u64,
    brw: u64,
    iat: i64,
    exp: i64,
}

/// Signs and checks passes (JWT HS256, `typ` `pass+jwt`).
#[derive(Clone)]
pub struct PassSigner {
    signer: JwtSigner,
    known: Arc<Known<Pass>>,
}

impl std::fmt::Debug for PassSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PassSigner")
    }
}

impl PassSigner {
    /// Uses the ring's pass keys.
    pub fn new(ring: &KeyRing) -> Self {
        Self { signer: JwtSigner::new(ring, Purpose::Pass, "pass+jwt"), known: Arc::default() }
    }

    /// The token.
    ///
    /// # Errors
    /// When the claims do not serialise.
    pub fn issue(&self, pass: &Pass) -> Result<String, BadToken> {
        self.signer.sign(&Claims {
            aud: pass.room.clone(),
            sub: pass.visitor.clone(),
            lease: pass.number,
            brw: pass.browser,
            iat: pass.issued_ms.div_euclid(1_000),
            exp: pass.expires_at_ms.div_euclid(1_000),
        })
    }

    /// The pass, if it is ours, for `room`, and not over at `now_ms`.
    ///
    /// # Errors
    /// For anything else.
    pub fn verify(&self, token: &str, room: &RoomId, now_ms: i64) -> Result<Pass, BadToken> {
        let known = self.known.get(token);
        let is_new = known.is_none();
        let pass = known.map_or_else(|| self.read(token), Ok)?;
        let is_other = pass.room != *room && !planted!("pass-of-another-room");
        let is_over = now_ms >= pass.expires_at_ms && !planted!("pass-never-ends");
        if is_other || is_over {
            return Err(BadToken);
        }
        if is_new {
            self.known.put(token, &pass);
        }
        Ok(pass)
    }

    fn read(&self, token: &str) -> Result<Pass, BadToken> {
        let claims: Claims = self.signer.verify(token)?;
        Ok(Pass {
            room: claims.aud,
            visitor: claims.sub,
            number: claims.lease,
            browser: claims.brw,
            issued_ms: claims.iat.checked_mul(1_000).ok_or(BadToken)?,
            expires_at_ms: claims.exp.checked_mul(1_000).ok_or(BadToken)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_kit::keys::KeysConfig;

    #[test]
    fn a_pass_ends_and_opens_one_room() {
        service_kit::install_crypto_providers();
        let ring = KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("a")] }).unwrap();
        let signer = PassSigner::new(&ring);
        let (room, other): (RoomId, RoomId) = ("shoes".parse().unwrap(), "bags".parse().unwrap());
        let pass = Pass {
            room: room.clone(),
            visitor: VisitorId::new(),
            number: 3,
            browser: u64::MAX,
            issued_ms: 1_000,
            expires_at_ms: 60_999,
        };
        let token = signer.issue(&pass).unwrap();
        assert_eq!(signer.verify(&token, &room, 59_999), Ok(Pass { expires_at_ms: 60_000, ..pass }));
        assert_eq!(signer.verify(&token, &room, 60_000), Err(BadToken));
        assert_eq!(signer.verify(&token, &other, 0), Err(BadToken));
        assert_eq!(signer.verify("", &room, 0), Err(BadToken));
    }

    #[test]
    fn a_pass_that_was_seen_is_checked_as_one_that_was_not() {
        service_kit::install_crypto_providers();
        let ring = || KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("a")] }).unwrap();
        let (signer, stranger) = (PassSigner::new(&ring()), PassSigner::new(&ring()));
        let (room, other): (RoomId, RoomId) = ("shoes".parse().unwrap(), "bags".parse().unwrap());
        let pass = Pass {
            room: room.clone(),
            visitor: VisitorId::new(),
            number: 3,
            browser: 0,
            issued_ms: 1_000,
            expires_at_ms: 60_000,
        };
        let token = signer.issue(&pass).unwrap();
        for _ in 0..2 {
            assert_eq!(signer.verify(&token, &room, 1_000), Ok(pass.clone()));
            assert_eq!(signer.verify(&token, &other, 1_000), Err(BadToken));
            assert_eq!(signer.verify(&token, &room, 60_000), Err(BadToken));
            assert_eq!(stranger.verify(&token, &room, 1_000), Err(BadToken));
            for i in 0..token.len() {
                let mut forged = token.clone().into_bytes();
                forged[i] = if forged[i] == b'A' { b'B' } else { b'A' };
                assert!(signer.verify(std::str::from_utf8(&forged).unwrap(), &room, 1_000).is_err(), "{i}");
            }
        }
    }
}
