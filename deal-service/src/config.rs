//! Section `[deal_service]`.

use serde::Deserialize;
use service_kit::config::{ConfigError, require};
use std::net::SocketAddr;

/// Settings of the deal service. Every limit carries its unit; the defaults fit one machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the API and the pages listen. Behind the gate: loopback or a private network.
    pub listen: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` listen. Never public.
    pub admin_listen: SocketAddr,
    /// The address that shoppers see, without a slash at its end.
    pub public_url: String,
    /// Marks cookies for HTTPS only. On wherever the public address is `https://`.
    #[serde(default)]
    pub cookie_secure: bool,
    /// Most holds in one commit.
    #[serde(default = "batch_max")]
    pub batch_max: usize,
    /// Most holds that wait for a commit; more are refused with 503 before anything is written.
    #[serde(default = "hold_queue_max")]
    pub hold_queue_max: usize,
    /// How long a hold may stay in Redis before its commit; then the sweeper looks into it.
    #[serde(default = "confirm_ms")]
    pub confirm_ms: u32,
    /// How long a called visitor may take to claim the pass.
    #[serde(default = "claim_window_ms")]
    pub claim_window_ms: u32,
    /// How long a visitor may stay inside.
    #[serde(default = "lease_ms")]
    pub lease_ms: u32,
    /// People called per unit that is left, in percent.
    #[serde(default = "overbooking_percent")]
    pub overbooking_percent: u32,
    /// How long a room and its fast stock stay in Redis after the deal's end.
    #[serde(default = "keep_room_ms")]
    pub keep_room_ms: i64,
    /// Who fills the fast stock again that Redis has lost.
    #[serde(default)]
    pub rebuild: Rebuild,
    /// The payment providers that a shopper may choose, the first one first. Each needs its account in the payment adapter.
    #[serde(default = "providers")]
    pub providers: Vec<String>,
    /// Most live order pages (SSE) of this process.
    #[serde(default = "streams_max")]
    pub streams_max: usize,
    /// Most live order pages of one account.
    #[serde(default = "streams_per_account_max")]
    pub streams_per_account_max: usize,
    /// Passwords hashed at once: about 19 MiB and one core each.
    #[serde(default = "password_hashers")]
    pub password_hashers: usize,
    /// Most log-ins and sign-ups that wait for a hasher; more are refused with 503.
    #[serde(default = "password_queue_max")]
    pub password_queue_max: usize,
    /// How long open requests may take after the signal to stop.
    #[serde(default = "drain_ms")]
    pub drain_ms: u64,
}

/// Who fills the fast stock of a deal anew when it is missing or disagrees with the ledger; after a restart of Redis only
/// the automatic way does. The first filling of a deal is always automatic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rebuild {
    /// The deal service, within a second.
    #[default]
    Automatic,
    /// An operator, by `floodgate rebuild`. Until then that deal sells nothing.
    Operator,
}

fn batch_max() -> usize {
    256
}
fn hold_queue_max() -> usize {
    4_096
}
fn confirm_ms() -> u32 {
    10_000
}
fn claim_window_ms() -> u32 {
    30_000
}
fn lease_ms() -> u32 {
    600_000
}
fn overbooking_percent() -> u32 {
    150
}
fn keep_room_ms() -> i64 {
    3_600_000
}
fn providers() -> Vec<String> {
    vec!["kakaopay".to_owned()]
}
fn streams_max() -> usize {
    4_096
}
fn streams_per_account_max() -> usize {
    8
}
fn password_hashers() -> usize {
    2
}
fn password_queue_max() -> usize {
    64
}
fn drain_ms() -> u64 {
    5_000
}

impl Config {
    /// Refuses values that the types let through.
    ///
    /// # Errors
    /// Names the first field that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let field = |name: &str| format!("deal_service.{name}");
        let url_ok = (self.public_url.starts_with("http://") || self.public_url.starts_with("https://"))
            && !self.public_url.ends_with('/');
        require(url_ok, &field("public_url"), "must start with http:// or https:// and not end with a slash")?;
        require((1..=1_000).contains(&self.batch_max), &field("batch_max"), "must be 1 to 1000")?;
        require((1..=100_000).contains(&self.hold_queue_max), &field("hold_queue_max"), "must be 1 to 100000")?;
        require((500..=60_000).contains(&self.confirm_ms), &field("confirm_ms"), "must be 500 to 60000")?;
        require(
            (5_000..=600_000).contains(&self.claim_window_ms),
            &field("claim_window_ms"),
            "must be 5000 to 600000",
        )?;
        require((10_000..=7_200_000).contains(&self.lease_ms), &field("lease_ms"), "must be 10000 to 7200000")?;
        require(
            (100..=1_000).contains(&self.overbooking_percent),
            &field("overbooking_percent"),
            "must be 100 to 1000",
        )?;
        require((0..=604_800_000).contains(&self.keep_room_ms), &field("keep_room_ms"), "must be 0 to 604800000")?;
        let known = |name: &String| crate::orders::PROVIDERS.iter().any(|p| p.name == name);
        let distinct = self.providers.iter().collect::<std::collections::BTreeSet<_>>().len() == self.providers.len();
        require(
            !self.providers.is_empty() && distinct && self.providers.iter().all(known),
            &field("providers"),
            "names each provider once: kakaopay, toss, stripe",
        )?;
        require((1..=100_000).contains(&self.streams_max), &field("streams_max"), "must be 1 to 100000")?;
        require(
            (1..=100).contains(&self.streams_per_account_max),
            &field("streams_per_account_max"),
            "must be 1 to 100",
        )?;
        require((1..=64).contains(&self.password_hashers), &field("password_hashers"), "must be 1 to 64")?;
        require((1..=10_000).contains(&self.password_queue_max), &field("password_queue_max"), "must be 1 to 10000")?;
        require(self.drain_ms <= 60_000, &field("drain_ms"), "must be 0 to 60000")
    }
}
