//! Section `[payment_simulator]`.

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
    /// The only secret key that is accepted. Default: any key that starts with `DEV`.
    #[serde(default)]
    pub secret_key: Option<String>,
    /// The only merchant code that is accepted.
    #[serde(default = "cid")]
    pub cid: String,
    /// Life of a payment session from `ready` on, in milliseconds.
    #[serde(default = "session_ms")]
    pub session_ms: i64,
    /// How many payments are kept. `ready` is refused beyond: an audit needs every payment, so
    /// none is forgotten before a reset.
    #[serde(default = "payments_max")]
    pub payments_max: usize,
    /// How many connections are served at once; more wait to be accepted.
    #[serde(default = "connections_max")]
    pub connections_max: usize,
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

impl Config {
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
        if let Some(url) = &self.public_url {
            require(
                crate::wire::web_origin(url).is_some_and(|origin| origin.len() == url.len()),
                "payment_simulator.public_url",
                "scheme and host without a path, e.g. http://127.0.0.1:8083",
            )?;
        }
        Ok(())
    }
}
