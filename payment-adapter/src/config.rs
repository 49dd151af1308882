//! Section `[payment_adapter]`.

use serde::Deserialize;
use service_kit::config::{ConfigError, require};
use std::fmt;
use std::net::SocketAddr;

/// Settings of the payment adapter.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the return pages are served, behind the gate.
    pub listen: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub admin_listen: SocketAddr,
    /// Scheme and host of the shop as browsers reach it; the return URLs begin with it.
    pub public_url: String,
    /// The KakaoPay driver.
    pub kakaopay: KakaoPayConfig,
    /// How long the worker sleeps at most between two looks at the ledger, in milliseconds. Notices wake it earlier.
    #[serde(default = "poll_ms")]
    pub poll_ms: u64,
    /// How long a payment belongs to the worker that took it, in milliseconds. After that another one may ask the provider.
    #[serde(default = "lease_ms")]
    pub lease_ms: i64,
    /// How long the provider may be unable to open a session before the payment ends and the units go back, in milliseconds.
    #[serde(default = "prepare_give_up_ms")]
    pub prepare_give_up_ms: i64,
    /// How often the reconciliation looks, in milliseconds.
    #[serde(default = "reconcile_every_ms")]
    pub reconcile_every_ms: u64,
    /// How long a payment may stay without a known outcome before it is reported, in milliseconds.
    #[serde(default = "stuck_after_ms")]
    pub stuck_after_ms: i64,
}

/// Settings of the KakaoPay driver.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KakaoPayConfig {
    /// Scheme and host of the API.
    pub base_url: String,
    /// The secret key.
    pub secret_key: Secret,
    /// The merchant code, 10 characters.
    pub cid: String,
    /// How long one call may take from its first to its last byte, in milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// How many calls run at once.
    #[serde(default = "concurrency")]
    pub concurrency: usize,
    /// Life of a session at the provider, in milliseconds.
    #[serde(default = "session_ms")]
    pub session_ms: i64,
}

/// A text that no log line and no debug output shows.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text, for the one place that sends it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn poll_ms() -> u64 {
    1_000
}
fn lease_ms() -> i64 {
    30_000
}
fn prepare_give_up_ms() -> i64 {
    120_000
}
fn reconcile_every_ms() -> u64 {
    30_000
}
fn stuck_after_ms() -> i64 {
    120_000
}
fn timeout_ms() -> u64 {
    5_000
}
fn concurrency() -> usize {
    32
}
fn session_ms() -> i64 {
    15 * 60 * 1000
}

impl Config {
    /// Refuses values that the types let through, and limits that do not fit each other.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let web = |url: &str| url.starts_with("http://") || url.starts_with("https://");
        // The provider takes return URLs of 255 characters; ours need 120 besides this.
        require(
            web(&self.public_url) && self.public_url.len() <= 120 && !self.public_url.ends_with('/'),
            "payment_adapter.public_url",
            "http(s)://host without a slash at the end, at most 120 characters",
        )?;
        let kakaopay = &self.kakaopay;
        require(
            web(&kakaopay.base_url) && !kakaopay.base_url.ends_with('/'),
            "payment_adapter.kakaopay.base_url",
            "http(s)://host without a slash at the end",
        )?;
        let key = kakaopay.secret_key.expose();
        require(
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic()),
            "payment_adapter.kakaopay.secret_key",
            "visible ASCII characters",
        )?;
        require(kakaopay.cid.len() == 10, "payment_adapter.kakaopay.cid", "10 characters")?;
        let timeout_ms = i64::try_from(kakaopay.timeout_ms).unwrap_or(i64::MAX);
        require(
            (100..=60_000).contains(&timeout_ms),
            "payment_adapter.kakaopay.timeout_ms",
            "between 100 and 60000 milliseconds",
        )?;
        require(
            (1..=1_000).contains(&kakaopay.concurrency),
            "payment_adapter.kakaopay.concurrency",
            "between 1 and 1000",
        )?;
        require(
            (1_000..=86_400_000).contains(&kakaopay.session_ms),
            "payment_adapter.kakaopay.session_ms",
            "between 1000 and 86400000 milliseconds",
        )?;
        require((10..=60_000).contains(&self.poll_ms), "payment_adapter.poll_ms", "between 10 and 60000 milliseconds")?;
        // A job waits for a free call, calls, and for a refund that was refused asks as well: four time-outs at the worst.
        require(
            self.lease_ms >= timeout_ms.saturating_mul(4).saturating_add(1_000) && self.lease_ms <= 600_000,
            "payment_adapter.lease_ms",
            "at least four times kakaopay.timeout_ms and a second more, at most 600000 milliseconds",
        )?;
        require(
            (1_000..=3_600_000).contains(&self.prepare_give_up_ms),
            "payment_adapter.prepare_give_up_ms",
            "between 1000 and 3600000 milliseconds",
        )?;
        require(
            (100..=3_600_000).contains(&self.reconcile_every_ms),
            "payment_adapter.reconcile_every_ms",
            "between 100 and 3600000 milliseconds",
        )?;
        require(self.stuck_after_ms >= 1_000, "payment_adapter.stuck_after_ms", "at least 1000 milliseconds")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut serde_json::Value)) -> Result<Config, String> {
        let mut value = serde_json::json!({
            "listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "public_url": "http://shop.example",
            "kakaopay": { "base_url": "http://127.0.0.1:1", "secret_key": "DEVvery-secret", "cid": "TC0ONETIME" },
        });
        change(&mut value);
        let config: Config = serde_json::from_value(value).map_err(|e| e.to_string())?;
        config.validate().map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn the_secret_is_never_shown() {
        let text = format!("{:?}", config(|_| ()).unwrap());
        assert!(!text.contains("very-secret"), "{text}");
    }

    #[test]
    fn limits_that_do_not_fit_name_their_field() {
        for (field, value) in [
            ("public_url", serde_json::json!("ftp://x")),
            ("lease_ms", serde_json::json!(20_000)),
            ("poll_ms", serde_json::json!(0)),
            ("colour", serde_json::json!(1)),
        ] {
            let error = config(|v| v[field] = value).unwrap_err();
            assert!(error.contains(field), "{error}");
        }
        for (field, value) in [
            ("cid", serde_json::json!("short")),
            ("secret_key", serde_json::json!("a b")),
            ("timeout_ms", serde_json::json!(1)),
        ] {
            let error = config(|v| v["kakaopay"][field] = value).unwrap_err();
            assert!(error.contains(field), "{error}");
        }
    }
}
