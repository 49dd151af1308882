//! Assertions to foreign upstreams: who was admitted, signed with Ed25519, so that a shop that is not ours
//! can verify it with the public keys of `/.well-known/jwks.json` and never holds a key that could let people in.
//!
//! A foreign upstream does not get the pass itself: whoever holds a pass could use it.

use crate::identity::Admitted;
use serde::{Deserialize, Serialize};
use service_kit::keys::KeyRing;
use service_kit::token::{AssertionSigner, BadToken};

/// How long an assertion is valid, in seconds: it is made for one request.
const LIFE_S: i64 = 60;

/// What an assertion states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The gate's public address.
    pub iss: String,
    /// The room.
    pub aud: String,
    /// The visitor.
    pub sub: String,
    /// The number that names the lease.
    pub lease: u64,
    /// When it was made, seconds since 1970.
    pub iat: i64,
    /// When it ends, seconds since 1970.
    pub exp: i64,
}

/// Mints assertions.
pub struct Assertions {
    signer: AssertionSigner,
    issuer: String,
}

impl std::fmt::Debug for Assertions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Assertions({})", self.issuer)
    }
}

impl Assertions {
    /// Assertions issued by `issuer`, the gate's public address.
    ///
    /// # Errors
    /// When no key can be derived.
    pub fn new(ring: &KeyRing, issuer: &str) -> Result<Self, BadToken> {
        Ok(Self { signer: AssertionSigner::new(ring)?, issuer: issuer.to_owned() })
    }
    /// The public keys as a JWK set.
    pub fn jwks(&self) -> &str {
        self.signer.jwks()
    }
    /// The assertion for one request.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn mint(&self, admitted: &Admitted, now_ms: i64) -> Result<String, BadToken> {
        let iat = now_ms / 1_000;
        self.signer.sign(&Claims {
            iss: self.issuer.clone(),
            aud: admitted.room.clone(),
            sub: admitted.visitor.clone(),
            lease: admitted.lease,
            iat,
            exp: iat + LIFE_S,
        })
    }
}
