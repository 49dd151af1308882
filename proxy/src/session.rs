//! A pass works in one browser: the fingerprint that it carries is compared with that of whoever presents it.
//!
//! The fingerprint is a keyed hash of what a browser says of itself with every request, and never of the address: people
//! change networks on the way. Apps that send the same `User-Agent` throughout keep working. It notices a pass that
//! was handed on; it is no proof against somebody who also imitates the browser.

use http::{HeaderMap, HeaderValue, header};
use service_kit::keys::{DerivedKey, KeyRing, Purpose, hmac_sha256};
use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

/// Most numbers per generation of [`Once`].
const GENERATION_MAX: usize = 10_000;

/// Makes and compares fingerprints.
#[derive(Clone)]
pub struct Browsers {
    /// All of them: a pass that was claimed before a rotation is still recognised.
    keys: Vec<DerivedKey>,
}

impl std::fmt::Debug for Browsers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Browsers")
    }
}

impl Browsers {
    /// Uses the ring's browser keys.
    pub fn new(ring: &KeyRing) -> Self {
        Self { keys: ring.derive(Purpose::Browser) }
    }

    /// The fingerprint to put into a pass; never 0.
    pub fn fingerprint(&self, headers: &HeaderMap) -> u64 {
        self.keys.first().map_or(0, |key| fingerprint(key, headers))
    }

    /// Whether these headers can come from the browser with that fingerprint. 0 = nothing is known, so yes.
    pub fn same(&self, browser: u64, headers: &HeaderMap) -> bool {
        browser == 0 || self.keys.iter().any(|key| alike(browser, fingerprint(key, headers)))
    }
}

/// Upper half: the program. Lower half: its platform, 0 where it does not say.
fn fingerprint(key: &DerivedKey, headers: &HeaderMap) -> u64 {
    let half = |kind: &[u8], value: &[u8]| {
        let [a, b, c, d, ..] = hmac_sha256(&key.secret, &[kind, value]);
        u32::from_be_bytes([a, b, c, d]).max(1)
    };
    let program = headers.get(header::USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
    let platform = headers.get("sec-ch-ua-platform").map_or(0, |v| half(b"platform ", v.as_bytes()));
    u64::from(half(b"program ", program)) << 32 | u64::from(platform)
}

/// The same program, and no two different platforms. A request without the platform header (many senders of
/// background requests, plain HTTP) is no other browser.
fn alike(a: u64, b: u64) -> bool {
    let platform = |f: u64| f & u64::from(u32::MAX);
    a >> 32 == b >> 32 && (platform(a) == platform(b) || platform(a) == 0 || platform(b) == 0)
}

/// What a room does once per number, in bounded memory: after many others a number may come up again.
#[derive(Debug, Default)]
pub struct Once {
    generations: RwLock<[HashSet<u64>; 2]>,
}

impl Once {
    /// Whether the number is new here.
    pub fn first(&self, number: u64) -> bool {
        // A panic elsewhere cannot leave a set half changed in a way that matters.
        let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *generations;
        if old.contains(&number) || !young.insert(number) {
            return false;
        }
        if young.len() >= GENERATION_MAX {
            *old = std::mem::take(young);
        }
        true
    }
    /// Whether the number was here.
    pub fn has(&self, number: u64) -> bool {
        let generations = self.generations.read().unwrap_or_else(PoisonError::into_inner);
        generations.iter().any(|g| g.contains(&number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_kit::keys::KeysConfig;

    fn headers(agent: Option<&str>, platform: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [("user-agent", agent), ("sec-ch-ua-platform", platform)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        headers
    }

    #[test]
    fn another_browser_is_noticed_and_a_missing_hint_is_not_one() {
        let entries: Vec<String> = ["a", "b"].map(KeyRing::generate).into();
        let browsers = Browsers::new(&KeyRing::new(&KeysConfig { ring: entries.clone() }).unwrap());
        let firefox = headers(Some("Firefox/150"), None);
        let chrome = headers(Some("Chrome/156"), Some("\"Linux\""));
        let bound = |h: &HeaderMap| browsers.fingerprint(h);
        assert!(browsers.same(bound(&firefox), &firefox) && browsers.same(bound(&chrome), &chrome));
        assert!(!browsers.same(bound(&firefox), &chrome) && !browsers.same(bound(&chrome), &firefox));
        assert!(!browsers.same(bound(&chrome), &headers(Some("Chrome/156"), Some("\"Android\""))));
        let silent = headers(Some("Chrome/156"), None);
        assert!(browsers.same(bound(&chrome), &silent) && browsers.same(bound(&silent), &chrome));
        let app = headers(None, None);
        assert!(browsers.same(bound(&app), &app) && bound(&app) != 0);
        assert!(!browsers.same(bound(&app), &firefox));
        assert!(browsers.same(0, &firefox), "a pass without a fingerprint");
        // The address and everything else may change.
        let mut travelled = chrome.clone();
        travelled.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
        travelled.insert("accept-language", "ko".parse().unwrap());
        assert!(browsers.same(bound(&chrome), &travelled));
        // After a rotation the old fingerprint is still known.
        let rotated = Browsers::new(&KeyRing::new(&KeysConfig { ring: entries.into_iter().rev().collect() }).unwrap());
        assert!(rotated.same(bound(&chrome), &chrome) && rotated.fingerprint(&chrome) != bound(&chrome));
    }

    #[test]
    fn once_is_once_and_memory_is_bounded() {
        let once = Once::default();
        assert!(once.first(7) && !once.first(7) && once.has(7) && !once.has(8));
        for n in 0..100_000 {
            once.first(n);
        }
        let sizes = once.generations.write().unwrap().iter().map(HashSet::len).sum::<usize>();
        assert!(sizes <= 2 * GENERATION_MAX);
    }
}
