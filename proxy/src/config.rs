//! Section `[gate]` of the configuration, checked once at start. An error names the field.

use crate::mailer::MailConfig;
use crate::route::RouteTable;
use queue::settings::RoomSettings;
use serde::Deserialize;
use service_kit::ids::RoomId;
use service_kit::operator::{OperatorConfig, Operators};
use std::net::SocketAddr;
use std::path::PathBuf;

pub use service_kit::config::{ConfigError, require};

/// Section `[gate]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Public address; plain HTTP/1.1. TLS ends in front of the gate.
    pub listen: SocketAddr,
    /// Address of `/healthz`, `/readyz`, `/metrics`. Never the public one.
    pub admin_listen: SocketAddr,
    /// How shoppers reach the gate, e.g. `https://shop.example`; without a path.
    pub public_url: String,
    /// Whether cookies carry `Secure`. `false` only for plain HTTP on a laptop.
    #[serde(default = "default_true")]
    pub cookie_secure: bool,
    /// Threads that serve requests.
    #[serde(default = "default_threads")]
    pub threads: usize,
    /// The services behind the gate.
    pub upstreams: Vec<UpstreamConfig>,
    /// Which path goes where. A path without a route is 404.
    pub routes: Vec<RouteConfig>,
    /// Rooms for upstreams that do not publish rooms themselves.
    #[serde(default)]
    pub rooms: Vec<RoomSettings>,
    /// How many proxies of yours stand in front and append to `X-Forwarded-For`. 0: the header is ignored.
    #[serde(default)]
    pub trusted_proxies: usize,
    /// Limits per client address.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Where the visitors' journal is written (see [`crate::journal`]); without it none is. One directory may serve several
    /// gates, but only one of each address.
    #[serde(default)]
    pub journal_dir: Option<PathBuf>,
    /// Who may steer rooms; in the file the section `[[operators]]`, beside `[gate]`.
    #[serde(default)]
    pub operators: Vec<OperatorConfig>,
    /// Lists of crawlers' networks as search engines publish them (`{"prefixes":[{"ipv4Prefix":…}]}`), at most 16 files.
    #[serde(default)]
    pub crawler_networks: Vec<PathBuf>,
    /// Where draws with `beacon = "file"` find a value that the operator does not choose.
    #[serde(default)]
    pub beacon: Option<queue::draw::BeaconConfig>,
    /// Letters to people whose turn is near. Without this section nobody is asked for an address.
    #[serde(default)]
    pub mail: Option<MailConfig>,
}

/// A service behind the gate.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Name used in `routes`.
    pub name: String,
    /// `host:port`; HTTP/1.1. A host name is looked up again every 10 s.
    pub address: String,
    /// Not one of ours: it gets a signed `Floodgate-Assertion` (Ed25519, see `/.well-known/jwks.json`) instead of the pass.
    #[serde(default)]
    pub foreign: bool,
    /// Longest silence between two reads. Longer than the heartbeat of an event stream (15 s).
    #[serde(default = "default_read_timeout_ms")]
    pub read_timeout_ms: u64,
}

/// One line of the route table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// `/exact`, `/tail/*`, with `{deal}` for a deal id.
    pub path: String,
    /// Name of an upstream.
    pub upstream: String,
    /// The room in front: `deal` (that of the deal in the path) or the id of a room in `rooms`.
    #[serde(default)]
    pub room: Option<String>,
    /// A `POST` here is a hold of the deal service: when nothing is left, the gate may say so itself (see [`crate::loser`]).
    #[serde(default)]
    pub holds: bool,
}

/// Limits per client address (IPv6: per /64). Generous, because many people share one address.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Joins per second; more are demoted: behind everybody else in line.
    pub joins_per_s: u32,
    /// Joins at once; more are demoted.
    pub joins_burst: u32,
    /// Joins per second; more are refused. Without it five times `joins_per_s`.
    pub joins_hard_per_s: Option<u32>,
    /// Joins at once; more are refused. Without it five times `joins_burst`.
    pub joins_hard_burst: Option<u32>,
    /// Claims and leaves per second.
    pub claims_per_s: u32,
    /// Claims and leaves at once.
    pub claims_burst: u32,
    /// Chosen words and wrong codes per minute; right codes of the signed kind do not count.
    pub codes_per_min: u32,
    /// Status polls per second.
    pub polls_per_s: u32,
    /// Status polls at once.
    pub polls_burst: u32,
    /// Most addresses that are remembered one by one; beyond, addresses share 4,096 buckets.
    pub addresses_max: usize,
    /// Event streams open at the same time.
    pub streams_per_address: u32,
    /// Event streams of the whole gate; never more than three quarters of the open files (`ulimit -n`).
    pub streams_max: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            joins_per_s: 200,
            joins_burst: 1_000,
            joins_hard_per_s: None,
            joins_hard_burst: None,
            claims_per_s: 1_000,
            claims_burst: 5_000,
            codes_per_min: 60,
            polls_per_s: 2_000,
            polls_burst: 4_000,
            addresses_max: 200_000,
            streams_per_address: 2_000,
            streams_max: 50_000,
        }
    }
}

fn default_true() -> bool {
    true
}
fn default_threads() -> usize {
    2
}
fn default_read_timeout_ms() -> u64 {
    60_000
}

impl Config {
    /// Checks what the types let through.
    ///
    /// # Errors
    /// Naming the first wrong field.
    pub fn validate(&self) -> Result<RouteTable, ConfigError> {
        require((1..=256).contains(&self.threads), "gate.threads", "must be 1–256")?;
        require(
            self.listen != self.admin_listen || self.listen.port() == 0,
            "gate.admin_listen",
            "must differ from `gate.listen`",
        )?;
        require(self.trusted_proxies <= 8, "gate.trusted_proxies", "must be 0–8")?;
        let host = self.public_host();
        require(
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b)),
            "gate.public_url",
            "must be `http(s)://host[:port]` without a path",
        )?;
        require(
            !self.cookie_secure || self.public_url.starts_with("https://"),
            "gate.cookie_secure",
            "needs an https `gate.public_url`: browsers drop Secure cookies on plain HTTP",
        )?;
        self.validate_upstreams()?;
        self.limits.validate()?;
        Operators::new(&self.operators)?;
        self.mail.as_ref().map_or(Ok(()), MailConfig::validate)?;
        let lists = self.crawler_networks.len();
        require(lists <= crate::crawler::FILES_MAX, "gate.crawler_networks", "must be at most 16 files")?;
        let mut ids: Vec<RoomId> = Vec::new();
        for (i, room) in self.rooms.iter().enumerate() {
            room.validate().map_err(|e| ConfigError(format!("`gate.rooms[{i}]`: {}", e.0)))?;
            require(!ids.contains(&room.room), &format!("gate.rooms[{i}].room"), "is there twice")?;
            require(
                room.beacon != queue::settings::Beacon::File || self.beacon.is_some(),
                &format!("gate.rooms[{i}].beacon"),
                "needs `gate.beacon`",
            )?;
            ids.push(room.room.clone());
        }
        let names: Vec<String> = self.upstreams.iter().map(|u| u.name.clone()).collect();
        require(!self.routes.is_empty(), "gate.routes", "must not be empty")?;
        RouteTable::new(&self.routes, &names, &ids)
    }

    /// `host[:port]` of `public_url`; empty when that is no http address.
    pub fn public_host(&self) -> &str {
        self.public_url.strip_prefix("https://").or_else(|| self.public_url.strip_prefix("http://")).unwrap_or("")
    }

    fn validate_upstreams(&self) -> Result<(), ConfigError> {
        require(!self.upstreams.is_empty(), "gate.upstreams", "must not be empty")?;
        for (i, upstream) in self.upstreams.iter().enumerate() {
            let field = |name: &str| format!("gate.upstreams[{i}].{name}");
            let twice = self.upstreams.iter().filter(|u| u.name == upstream.name).count() > 1;
            require(!upstream.name.is_empty() && !twice, &field("name"), "must be there once")?;
            let port = upstream
                .address
                .rsplit_once(':')
                .and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok())?);
            require(port.is_some_and(|p| p > 0), &field("address"), "must be `host:port`")?;
            require(
                (1_000..=3_600_000).contains(&upstream.read_timeout_ms),
                &field("read_timeout_ms"),
                "must be 1,000–3,600,000",
            )?;
        }
        Ok(())
    }
}

impl LimitsConfig {
    /// Joins per second and at once above which they are refused.
    pub fn joins_hard(&self) -> (u32, u32) {
        let or_five_times = |hard: Option<u32>, soft: u32| hard.unwrap_or(soft.saturating_mul(5));
        (or_five_times(self.joins_hard_per_s, self.joins_per_s), or_five_times(self.joins_hard_burst, self.joins_burst))
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let limits = [
            ("joins_per_s", self.joins_per_s),
            ("joins_burst", self.joins_burst),
            ("claims_per_s", self.claims_per_s),
            ("claims_burst", self.claims_burst),
            ("codes_per_min", self.codes_per_min),
            ("polls_per_s", self.polls_per_s),
            ("polls_burst", self.polls_burst),
            ("streams_per_address", self.streams_per_address),
        ];
        for (name, value) in limits {
            require((1..=1_000_000).contains(&value), &format!("gate.limits.{name}"), "must be 1–1,000,000")?;
        }
        let (hard_per_s, hard_burst) = self.joins_hard();
        for (name, hard, soft) in
            [("joins_hard_per_s", hard_per_s, self.joins_per_s), ("joins_hard_burst", hard_burst, self.joins_burst)]
        {
            require(
                (soft..=5_000_000).contains(&hard),
                &format!("gate.limits.{name}"),
                "must not be below the limit that demotes, at most 5,000,000",
            )?;
        }
        require((1..=1_000_000).contains(&self.streams_max), "gate.limits.streams_max", "must be 1–1,000,000")?;
        require(
            (1_000..=10_000_000).contains(&self.addresses_max),
            "gate.limits.addresses_max",
            "must be 1,000–10,000,000",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl Fn(&mut serde_json::Value)) -> Result<RouteTable, ConfigError> {
        let mut value = serde_json::json!({
            "listen": "127.0.0.1:8080", "admin_listen": "127.0.0.1:9101", "public_url": "http://127.0.0.1:8080", "cookie_secure": false,
            "upstreams": [{ "name": "shop", "address": "127.0.0.1:8081" }],
            "routes": [{ "path": "/deals/{deal}/buy", "upstream": "shop", "room": "deal" }, { "path": "/*", "upstream": "shop" }],
        });
        change(&mut value);
        serde_json::from_value::<Config>(value).map_err(|e| ConfigError(e.to_string()))?.validate()
    }

    #[test]
    fn the_default_file_passes() {
        config(|_| {}).unwrap();
    }

    #[test]
    fn a_wrong_field_is_named() {
        type Change = fn(&mut serde_json::Value);
        let cases: &[(&str, Change)] = &[
            ("gate.threads", |v| v["threads"] = 0.into()),
            ("gate.admin_listen", |v| v["admin_listen"] = "127.0.0.1:8080".into()),
            ("gate.public_url", |v| v["public_url"] = "http://a/b".into()),
            ("gate.public_url", |v| v["public_url"] = "shop.example".into()),
            ("gate.cookie_secure", |v| v["cookie_secure"] = true.into()),
            ("gate.upstreams", |v| v["upstreams"] = serde_json::json!([])),
            ("gate.upstreams[0].address", |v| v["upstreams"][0]["address"] = "shop".into()),
            ("gate.upstreams[0].read_timeout_ms", |v| v["upstreams"][0]["read_timeout_ms"] = 1.into()),
            ("gate.routes", |v| v["routes"] = serde_json::json!([])),
            ("gate.routes[1].upstream", |v| v["routes"][1]["upstream"] = "x".into()),
            ("gate.limits.polls_per_s", |v| v["limits"] = serde_json::json!({ "polls_per_s": 0 })),
            ("gate.limits.codes_per_min", |v| v["limits"] = serde_json::json!({ "codes_per_min": 0 })),
            ("gate.limits.joins_hard_per_s", |v| {
                v["limits"] = serde_json::json!({ "joins_per_s": 10, "joins_hard_per_s": 9 });
            }),
            ("gate.limits.joins_hard_burst", |v| {
                v["limits"] = serde_json::json!({ "joins_burst": 10, "joins_hard_burst": 9 });
            }),
            ("gate.crawler_networks", |v| v["crawler_networks"] = serde_json::json!(vec!["a"; 17])),
            ("gate.limits.streams_per_address", |v| v["limits"] = serde_json::json!({ "streams_per_address": 0 })),
            ("gate.limits.streams_max", |v| v["limits"] = serde_json::json!({ "streams_max": 0 })),
            ("gate.mail.near_people", |v| {
                v["mail"] = serde_json::json!({ "smtp_url": "smtp://127.0.0.1", "from": "a@b.example" });
            }),
            ("gate.trusted_proxies", |v| v["trusted_proxies"] = 9.into()),
            ("colour", |v| v["colour"] = 1.into()),
            ("listen", |v| v["listen"] = "nowhere".into()),
        ];
        for (named, change) in cases {
            let error = config(change).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(named) || (*named == "listen" && error.contains("address")), "{named}: {error}");
        }
    }
}
