//! The pass: a short-lived signed permission to enter. Checked without any lookup, here and at our upstreams.

use serde::{Deserialize, Serialize};
use service_kit::ids::{RoomId, VisitorId};
use service_kit::keys::{KeyRing, Purpose};
use service_kit::token::{BadToken, JwtSigner};

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
}

impl std::fmt::Debug for PassSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PassSigner")
    }
}

impl PassSigner {
    /// Uses the ring's pass keys.
    pub fn new(ring: &KeyRing) -> Self {
        Self { signer: JwtSigner::new(ring, Purpose::Pass, "pass+jwt") }
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
        let claims: Claims = self.signer.verify(token)?;
        let expires_at_ms = claims.exp.checked_mul(1_000).ok_or(BadToken)?;
        if claims.aud != *room || now_ms >= expires_at_ms {
            return Err(BadToken);
        }
        let issued_ms = claims.iat.checked_mul(1_000).ok_or(BadToken)?;
        Ok(Pass {
            room: claims.aud,
            visitor: claims.sub,
            number: claims.lease,
            browser: claims.brw,
            issued_ms,
            expires_at_ms,
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
}
