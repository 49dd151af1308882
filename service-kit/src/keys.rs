//! The key ring: named secrets, newest first. The first signs, all verify, so keys can be rotated
//! without ending anybody's wait. Each purpose uses its own derived key.

use crate::config::ConfigError;
use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;

/// Section `[keys]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// `["<id>:<43 characters of base64url = 32 bytes>", …]`, the signing key first.
    pub ring: Vec<String>,
}

/// Never prints a secret.
impl std::fmt::Debug for KeysConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeysConfig({} keys)", self.ring.len())
    }
}

/// What a derived key is for. A token of one purpose never verifies as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Waiting-room tickets.
    Ticket,
    /// Waiting-room passes.
    Pass,
    /// Signed-in sessions of shoppers.
    Session,
    /// Form tokens against cross-site requests.
    Csrf,
    /// Ed25519 assertions to foreign upstreams.
    Assertion,
    /// The secrets behind draws.
    Draw,
    /// Codes and invitations that the operator hands out.
    Invitation,
    /// Challenges of the proof of work.
    Proof,
    /// Fingerprints of browsers.
    Browser,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Ticket => b"floodgate ticket",
            Self::Pass => b"floodgate pass",
            Self::Session => b"floodgate session",
            Self::Csrf => b"floodgate csrf",
            Self::Assertion => b"floodgate assertion",
            Self::Draw => b"floodgate draw",
            Self::Invitation => b"floodgate invitation",
            Self::Proof => b"floodgate proof",
            Self::Browser => b"floodgate browser",
        }
    }
}

/// One derived key with the id of the ring key it came from.
#[derive(Clone)]
pub struct DerivedKey {
    /// Key id, as in the configuration.
    pub id: String,
    /// 32 secret bytes.
    pub secret: [u8; 32],
}

/// The parsed ring.
#[derive(Clone)]
pub struct KeyRing {
    keys: Vec<(String, [u8; 32])>,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyRing({} keys)", self.keys.len())
    }
}

impl KeyRing {
    /// # Errors
    /// When the ring is empty, or an entry is not `id:secret` with 32 bytes of base64url, or an id repeats.
    pub fn new(config: &KeysConfig) -> Result<Self, ConfigError> {
        let bad = |why: &str| ConfigError(format!("`keys.ring`: {why}"));
        let mut keys: Vec<(String, [u8; 32])> = Vec::new();
        for entry in &config.ring {
            let (id, secret) = entry.split_once(':').ok_or_else(|| bad("each entry is `id:secret`"))?;
            let id_ok = matches!(id.len(), 1..=16) && id.bytes().all(|b| b.is_ascii_alphanumeric());
            if !id_ok || keys.iter().any(|(k, _)| k == id) {
                return Err(bad("ids are 1–16 letters or digits, each once"));
            }
            let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
                .decode(secret)
                .ok()
                .and_then(|b| <[u8; 32]>::try_from(b).ok())
                .ok_or_else(|| bad("a secret is 32 bytes as base64url without padding"))?;
            keys.push((id.to_owned(), bytes));
        }
        if keys.is_empty() {
            return Err(bad("at least one key is needed; `floodgate key create` makes one"));
        }
        Ok(Self { keys })
    }

    /// A fresh random entry for the ring, `id:secret`.
    pub fn generate(id: &str) -> String {
        let secret: [u8; 32] = rand::random();
        format!("{id}:{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret))
    }

    /// The derived keys for `purpose`, the signing key first.
    pub fn derive(&self, purpose: Purpose) -> Vec<DerivedKey> {
        self.keys
            .iter()
            .map(|(id, secret)| DerivedKey { id: id.clone(), secret: hmac_sha256(secret, &[purpose.label()]) })
            .collect()
    }
}

/// HMAC-SHA256 over the concatenation of `parts`.
pub fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    KeyedHmac::new(key).of(parts)
}

/// HMAC-SHA256 with a key that is worked in already: half of the work for a short text.
#[derive(Clone)]
pub struct KeyedHmac(Hmac<Sha256>);

impl KeyedHmac {
    /// Works the key in.
    pub fn new(key: &[u8; 32]) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        Self(<Hmac<Sha256>>::new_from_slice(key).expect("any key length"))
    }
    /// The code over the concatenation of `parts`.
    pub fn of(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}
