//! Signed tokens: compact HMAC text for what is checked on every poll, JWT HS256 for passes and
//! sessions, Ed25519 assertions with their public keys (JWKS) for upstreams that are not ours.

use crate::keys::{DerivedKey, KeyRing, KeyedHmac, Purpose};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Serialize, de::DeserializeOwned};
use subtle::ConstantTimeEq as _;

/// Longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 1_024;

/// The token is not one of ours, or was altered, or is for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token is not valid")]
pub struct BadToken;

/// Signs and checks `<body>.<key id>.<mac>` with a 128-bit HMAC-SHA256.
#[derive(Clone)]
pub struct TextSigner {
    /// Key ids and keys.
    keys: Vec<(String, KeyedHmac)>,
}

impl TextSigner {
    /// Uses the ring's keys for `purpose`.
    pub fn new(ring: &KeyRing, purpose: Purpose) -> Self {
        let keyed = |key: DerivedKey| (key.id, KeyedHmac::new(&key.secret));
        Self { keys: ring.derive(purpose).into_iter().map(keyed).collect() }
    }
    /// `body` must not contain characters that a cookie refuses; it may contain dots.
    pub fn sign(&self, body: &str) -> String {
        match self.keys.first() {
            Some((id, key)) => format!("{body}.{id}.{}", B64.encode(mac16(key, body))),
            None => String::new(), // a ring is never empty
        }
    }
    /// The body, if the token is ours.
    ///
    /// # Errors
    /// For anything else.
    pub fn verify<'t>(&self, token: &'t str) -> Result<&'t str, BadToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BadToken);
        }
        let (rest, mac) = token.rsplit_once('.').ok_or(BadToken)?;
        let (body, id) = rest.rsplit_once('.').ok_or(BadToken)?;
        let (_, key) = self.keys.iter().find(|(k, _)| k == id).ok_or(BadToken)?;
        let mut given = [0_u8; 16];
        // 22 characters carry 132 bits: the strict engine refuses the second spelling.
        match B64.decode_slice(mac, &mut given) {
            Ok(16) if mac.len() == 22 => {}
            _ => return Err(BadToken),
        }
        if bool::from(mac16(key, body).ct_eq(&given)) { Ok(body) } else { Err(BadToken) }
    }
}

fn mac16(key: &KeyedHmac, body: &str) -> [u8; 16] {
    let full = key.of(&[body.as_bytes()]);
    let mut out = [0; 16];
    out.copy_from_slice(&full[..16]);
    out
}

/// Signs and checks JSON Web Tokens with HS256 and one `typ` per purpose.
///
/// Expiry is the caller's to check: claims carry `exp` as an integer and the rule gets `now`.
#[derive(Clone)]
pub struct JwtSigner {
    typ: &'static str,
    sign: Option<(Header, EncodingKey)>,
    verify: Vec<(String, DecodingKey)>,
    validation: Validation,
}

impl JwtSigner {
    /// Uses the ring's keys for `purpose`; `typ` is the token's kind, e.g. `pass+jwt`.
    pub fn new(ring: &KeyRing, purpose: Purpose, typ: &'static str) -> Self {
        let keys = ring.derive(purpose);
        let sign = keys.first().map(|key| {
            let mut header = Header::new(Algorithm::HS256);
            header.typ = Some(typ.to_owned());
            header.kid = Some(key.id.clone());
            (header, EncodingKey::from_secret(&key.secret))
        });
        let verify = keys.into_iter().map(|k| (k.id, DecodingKey::from_secret(&k.secret))).collect();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self { typ, sign, verify, validation }
    }
    /// The signed token.
    ///
    /// # Errors
    /// When the claims do not serialise.
    pub fn sign<T: Serialize>(&self, claims: &T) -> Result<String, BadToken> {
        let (header, key) = self.sign.as_ref().ok_or(BadToken)?;
        jsonwebtoken::encode(header, claims, key).map_err(|_| BadToken)
    }
    /// The claims of a token of ours with the right `typ`, algorithm and key id. Checks no times.
    ///
    /// # Errors
    /// For anything else.
    pub fn verify<T: DeserializeOwned + Clone>(&self, token: &str) -> Result<T, BadToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BadToken);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| BadToken)?;
        if header.typ.as_deref() != Some(self.typ) || header.alg != Algorithm::HS256 {
            return Err(BadToken);
        }
        let id = header.kid.ok_or(BadToken)?;
        let (_, key) = self.verify.iter().find(|(k, _)| *k == id).ok_or(BadToken)?;
        jsonwebtoken::decode::<T>(token, key, &self.validation).map(|t| t.claims).map_err(|_| BadToken)
    }
}

/// Mints Ed25519 assertions and lists the public keys for `/.well-known/jwks.json` (RFC 7517, RFC 8037).
#[derive(Clone)]
pub struct AssertionSigner {
    header: Header,
    key: EncodingKey,
    jwks: String,
}

impl AssertionSigner {
    /// Derives one Ed25519 key per key of the ring.
    ///
    /// # Errors
    /// When a key cannot be made, which the derivation excludes.
    pub fn new(ring: &KeyRing) -> Result<Self, BadToken> {
        use ring::signature::{Ed25519KeyPair, KeyPair as _};
        let keys = ring.derive(Purpose::Assertion);
        let mut listed = Vec::new();
        for key in &keys {
            let pair = Ed25519KeyPair::from_seed_unchecked(&key.secret).map_err(|_| BadToken)?;
            listed.push(serde_json::json!({
                "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
                "kid": key.id, "x": B64.encode(pair.public_key().as_ref()),
            }));
        }
        let first = keys.first().ok_or(BadToken)?;
        // PKCS#8 v1 wrapping of a raw Ed25519 seed (RFC 8410 §7).
        let mut der =
            vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        der.extend_from_slice(&first.secret);
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some("assertion+jwt".to_owned());
        header.kid = Some(first.id.clone());
        Ok(Self {
            header,
            key: EncodingKey::from_ed_der(&der),
            jwks: serde_json::json!({ "keys": listed }).to_string(),
        })
    }
    /// The signed assertion.
    ///
    /// # Errors
    /// When the claims do not serialise.
    pub fn sign<T: Serialize>(&self, claims: &T) -> Result<String, BadToken> {
        jsonwebtoken::encode(&self.header, claims, &self.key).map_err(|_| BadToken)
    }
    /// The public keys as a JWK set.
    pub fn jwks(&self) -> &str {
        &self.jwks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeysConfig;

    fn ring(entries: &[String]) -> KeyRing {
        crate::install_crypto_providers();
        KeyRing::new(&KeysConfig { ring: entries.to_vec() }).unwrap()
    }

    #[test]
    fn every_altered_character_is_refused() {
        let signer = TextSigner::new(&ring(&[KeyRing::generate("a")]), Purpose::Ticket);
        let token = signer.sign("room.17.visitor");
        assert_eq!(signer.verify(&token), Ok("room.17.visitor"));
        for i in 0..token.len() {
            for replacement in [b'A', b'b', b'.', b'0', b'_'] {
                let mut bytes = token.clone().into_bytes();
                if bytes[i] == replacement {
                    continue;
                }
                bytes[i] = replacement;
                let forged = String::from_utf8(bytes).unwrap();
                assert!(signer.verify(&forged).is_err(), "{forged} was accepted");
            }
        }
        for cut in 0..token.len() {
            assert!(signer.verify(&token[..cut]).is_err());
        }
        assert!(signer.verify(&format!("{token}A")).is_err());
    }

    #[test]
    fn old_keys_verify_and_purposes_do_not_mix() {
        let (old, new) = (KeyRing::generate("old"), KeyRing::generate("new"));
        let before = TextSigner::new(&ring(std::slice::from_ref(&old)), Purpose::Ticket).sign("x");
        let rotated = ring(&[new, old]);
        assert!(TextSigner::new(&rotated, Purpose::Ticket).verify(&before).is_ok());
        assert!(TextSigner::new(&rotated, Purpose::Csrf).verify(&before).is_err());
    }

    #[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
    struct Claims {
        exp: i64,
    }

    #[test]
    fn a_jwt_of_another_type_key_or_algorithm_is_refused() {
        let keys = ring(&[KeyRing::generate("a")]);
        let pass = JwtSigner::new(&keys, Purpose::Pass, "pass+jwt");
        let session = JwtSigner::new(&keys, Purpose::Session, "session+jwt");
        let token = pass.sign(&Claims { exp: 7 }).unwrap();
        assert_eq!(pass.verify::<Claims>(&token), Ok(Claims { exp: 7 }));
        assert!(session.verify::<Claims>(&token).is_err());
        let none =
            format!("{}.{}.", B64.encode(br#"{"alg":"none","typ":"pass+jwt","kid":"a"}"#), B64.encode(br#"{"exp":7}"#));
        assert!(pass.verify::<Claims>(&none).is_err());
        #[derive(Serialize)]
        struct Wrong {
            exp: &'static str,
        }
        assert!(pass.verify::<Claims>(&pass.sign(&Wrong { exp: "7" }).unwrap()).is_err(), "exp must be a number");
    }

    #[test]
    fn assertions_verify_with_the_published_key() {
        let signer = AssertionSigner::new(&ring(&[KeyRing::generate("a")])).unwrap();
        let token = signer.sign(&Claims { exp: 9 }).unwrap();
        let jwks: serde_json::Value = serde_json::from_str(signer.jwks()).unwrap();
        let key = DecodingKey::from_ed_components(jwks["keys"][0]["x"].as_str().unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        assert_eq!(jsonwebtoken::decode::<Claims>(&token, &key, &validation).unwrap().claims.exp, 9);
    }
}
