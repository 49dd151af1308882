//! Section `[payment_simulator]`.

use crate::web::{URL_CHARS_MAX, is_loopback, web_origin};
use serde::Deserialize;
use service_kit::config::{ConfigError, require};
use std::net::SocketAddr;

/// Settings of the simulator. Only the two addresses are required.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the provider's API and its pages are served. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where `/_control/…`, `/healthz`, `/readyz` and `/metrics` are served. Never the public port.
    pub admin_listen: SocketAddr,
    /// Scheme and host of the payment pages as a browser reaches them. Default: `http://<listen>`.
    #[serde(default)]
    pub public_url: Option<String>,
    /// KakaoPay: the only secret key that is accepted. Default: any key that starts with `DEV`.
    #[serde(default)]
    pub secret_key: Option<String>,
    /// KakaoPay: the only merchant code that is accepted.
    #[serde(default = "cid")]
    pub cid: String,
    /// KakaoPay: life of a payment session from `ready` on, in milliseconds.
    #[serde(default = "session_ms")]
    pub session_ms: i64,
    /// How many payments are kept, of all providers together. New ones are refused beyond: an audit needs every
    /// payment, so none is forgotten before a reset.
    #[serde(default = "payments_max")]
    pub payments_max: usize,
    /// How many connections are served at once; more wait to be accepted.
    #[serde(default = "connections_max")]
    pub connections_max: usize,
    /// Toss: the only secret key that is accepted. Default: any `test_sk_…`, `test_gsk_…`, `live_sk_…`, `live_gsk_…`.
    #[serde(default)]
    pub toss_secret_key: Option<String>,
    /// Toss: refuse more than 100 requests a minute per endpoint with a test key, as the provider does.
    #[serde(default)]
    pub toss_test_limit: bool,
    /// Toss: where webhooks go. Empty: nowhere.
    #[serde(default)]
    pub toss_webhook_url: String,
    /// Toss: the secret of the signature that only `payout.changed` and `seller.changed` have.
    #[serde(default = "toss_webhook_secret")]
    pub toss_webhook_secret: String,
    /// Stripe: the only secret key that is accepted. Default: any `sk_test_…` or `rk_test_…`.
    #[serde(default)]
    pub stripe_secret_key: Option<String>,
    /// Stripe: where webhooks go. Empty: nowhere.
    #[serde(default)]
    pub stripe_webhook_url: String,
    /// Stripe: the secret of the webhooks' signature.
    #[serde(default = "stripe_webhook_secret")]
    pub stripe_webhook_secret: String,
    /// Let webhooks go to other machines than this one.
    #[serde(default)]
    pub webhook_anywhere: bool,
    /// How many webhooks are on the wire at once. 1 keeps them in order.
    #[serde(default = "webhook_concurrency")]
    pub webhook_concurrency: usize,
}

fn cid() -> String {
    "TC0ONETIME".to_owned()
}
fn session_ms() -> i64 {
    15 * 60 * 1000
}
fn payments_max() -> usize {
    200_000
}
fn connections_max() -> usize {
    8_192
}
fn toss_webhook_secret() -> String {
    "toss_simulated_secret".to_owned()
}
fn stripe_webhook_secret() -> String {
    "whsec_simulated".to_owned()
}
fn webhook_concurrency() -> usize {
    16
}

impl Config {
    /// The defaults of every field that has one.
    pub fn local(listen: SocketAddr, admin_listen: SocketAddr) -> Self {
        Self {
            listen,
            admin_listen,
            public_url: None,
            secret_key: None,
            cid: cid(),
            session_ms: session_ms(),
            payments_max: payments_max(),
            connections_max: connections_max(),
            toss_secret_key: None,
            toss_test_limit: false,
            toss_webhook_url: String::new(),
            toss_webhook_secret: toss_webhook_secret(),
            stripe_secret_key: None,
            stripe_webhook_url: String::new(),
            stripe_webhook_secret: stripe_webhook_secret(),
            webhook_anywhere: false,
            webhook_concurrency: webhook_concurrency(),
        }
    }
    /// Whether webhooks may go there.
    ///
    /// # Errors
    /// The rule that the address breaks.
    pub fn webhook_target(&self, url: &str) -> Result<(), &'static str> {
        if url.is_empty() {
            return Ok(());
        }
        if web_origin(url).is_none() || url.len() > URL_CHARS_MAX {
            return Err("an http or https address, or empty for none");
        }
        if self.webhook_anywhere || is_loopback(url) {
            Ok(())
        } else {
            Err("an address of this machine; others need `webhook_anywhere = true` in the configuration")
        }
    }
    /// Refuses values that the types let through.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        require(self.cid.len() == 10, "payment_simulator.cid", "a cid has 10 characters")?;
        require(
            (1_000..=86_400_000).contains(&self.session_ms),
            "payment_simulator.session_ms",
            "between 1000 and 86400000 milliseconds",
        )?;
        require(
            (1..=2_000_000).contains(&self.payments_max),
            "payment_simulator.payments_max",
            "between 1 and 2000000",
        )?;
        require(
            (1..=100_000).contains(&self.connections_max),
            "payment_simulator.connections_max",
            "between 1 and 100000",
        )?;
        for (field, url) in [
            ("payment_simulator.toss_webhook_url", &self.toss_webhook_url),
            ("payment_simulator.stripe_webhook_url", &self.stripe_webhook_url),
        ] {
            self.webhook_target(url).or_else(|rule| require(false, field, rule))?;
        }
        require(
            (1..=256).contains(&self.webhook_concurrency),
            "payment_simulator.webhook_concurrency",
            "between 1 and 256",
        )?;
        if let Some(url) = &self.public_url {
            require(
                web_origin(url).is_some_and(|origin| origin.len() == url.len()),
                "payment_simulator.public_url",
                "scheme and host without a path, e.g. http://127.0.0.1:8083",
            )?;
        }
        Ok(())
    }
}
