//! Section `[payment_adapter]`.

use crate::providers::{Account, Accounts, MerchantAccounts};
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
    /// The shop's accounts at the payment providers, one section each.
    pub providers: Accounts,
    /// Accounts of single merchants, in place of the shop's own.
    #[serde(default)]
    pub merchants: Vec<MerchantAccounts>,
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
    /// How far back our books are compared with the providers', in milliseconds.
    #[serde(default = "reconcile_window_ms")]
    pub reconcile_window_ms: i64,
    /// How long a payment may stay without a known outcome before it is reported, in milliseconds.
    #[serde(default = "stuck_after_ms")]
    pub stuck_after_ms: i64,
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
fn reconcile_window_ms() -> i64 {
    24 * 60 * 60 * 1000
}
fn stuck_after_ms() -> i64 {
    120_000
}
pub(crate) fn timeout_ms() -> u64 {
    5_000
}
pub(crate) fn concurrency() -> usize {
    32
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
        self.providers.validate("payment_adapter.providers")?;
        require(
            !self.drivers_are_missing(),
            "payment_adapter.providers",
            "at least one provider: kakaopay, toss or stripe",
        )?;
        for (i, merchant) in self.merchants.iter().enumerate() {
            merchant.providers.validate(&format!("payment_adapter.merchants[{i}].providers"))?;
        }
        let timeouts = self.merchants.iter().map(|m| m.providers.timeout_ms_max());
        let timeout_ms = timeouts.chain([self.providers.timeout_ms_max()]).max().unwrap_or(0);
        let timeout_ms = i64::try_from(timeout_ms).unwrap_or(i64::MAX);
        require((10..=60_000).contains(&self.poll_ms), "payment_adapter.poll_ms", "between 10 and 60000 milliseconds")?;
        // A job waits for a free call, calls, and for a refund that was refused asks as well: four time-outs at the worst.
        require(
            self.lease_ms >= timeout_ms.saturating_mul(4).saturating_add(1_000) && self.lease_ms <= 600_000,
            "payment_adapter.lease_ms",
            "at least four times the longest timeout_ms of a provider and a second more, at most 600000 milliseconds",
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
        require(
            (60_000..=31 * 86_400_000).contains(&self.reconcile_window_ms),
            "payment_adapter.reconcile_window_ms",
            "between a minute and 31 days",
        )?;
        require(self.stuck_after_ms >= 1_000, "payment_adapter.stuck_after_ms", "at least 1000 milliseconds")
    }

    fn drivers_are_missing(&self) -> bool {
        self.providers.timeout_ms_max() == 0
    }

    /// A driver per account: the shop's own, then those of single merchants.
    ///
    /// # Errors
    /// When an HTTP client cannot be built.
    pub fn accounts(&self) -> anyhow::Result<Vec<Account>> {
        let mut all = Vec::new();
        for provider in self.providers.drivers()? {
            all.push(Account { merchant: None, provider });
        }
        for own in &self.merchants {
            for provider in own.providers.drivers()? {
                all.push(Account { merchant: Some(own.merchant), provider });
            }
        }
        Ok(all)
    }
}

/// What every driver's settings have in common. `at` is where the section stands.
pub(crate) fn reach(
    at: &str,
    base_url: &str,
    secrets: &[(&str, &Secret)],
    timeout_ms: u64,
    concurrency: usize,
) -> Result<(), ConfigError> {
    require(
        (base_url.starts_with("http://") || base_url.starts_with("https://")) && !base_url.ends_with('/'),
        &format!("{at}.base_url"),
        "http(s)://host without a slash at the end",
    )?;
    for (name, secret) in secrets {
        let text = secret.expose();
        require(
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()),
            &format!("{at}.{name}"),
            "visible ASCII characters",
        )?;
    }
    require((100..=60_000).contains(&timeout_ms), &format!("{at}.timeout_ms"), "between 100 and 60000 milliseconds")?;
    require((1..=1_000).contains(&concurrency), &format!("{at}.concurrency"), "between 1 and 1000")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut serde_json::Value)) -> Result<Config, String> {
        let mut value = serde_json::json!({
            "listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "public_url": "http://shop.example",
            "providers": { "kakaopay": { "base_url": "http://127.0.0.1:1", "secret_key": "DEVvery-secret", "cid": "TC0ONETIME" } },
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
            let error = config(|v| v["providers"]["kakaopay"][field] = value).unwrap_err();
            assert!(error.contains(field), "{error}");
        }
    }
}
