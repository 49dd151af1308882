//! The configuration of each role. Every hop that can be harmed leads through a proxy, so each role has its own file.

use super::Addresses;
use std::path::Path;

/// How long units may wait in Redis for their commit, in ms.
pub const CONFIRM_MS: i64 = 2_000;
/// How long a hold lasts, in ms: the shortest that the product takes.
pub const HOLD_TTL_MS: i64 = 10_000;

/// Where this file's reader finds the stores and the provider.
#[derive(Debug, Clone)]
pub struct Ways {
    /// Redis.
    pub redis: String,
    /// PostgreSQL.
    pub postgres: String,
    /// The deal service, for the gate.
    pub shop: String,
    /// The provider, for the adapter.
    pub provider: String,
}

/// The file. Time-outs and leases are short, so that a crash is repaired within a run.
pub fn render(addresses: &Addresses, ways: &Ways, ring: &str, journal: &Path) -> String {
    let Addresses { gate, shop, payments, simulator, gate_admin, shop_admin, payments_admin, simulator_admin } =
        addresses;
    let Ways { redis, postgres, shop: shop_way, provider } = ways;
    let journal = serde_json::Value::from(journal.display().to_string());
    let most = 1_000_000;
    format!(
        r#"[keys]
ring = ["{ring}"]

[redis]
url = "{redis}"

[postgres]
url = "{postgres}"

[gate]
listen = "{gate}"
admin_listen = "{gate_admin}"
public_url = "http://{gate}"
cookie_secure = false
threads = 2
journal_dir = {journal}
upstreams = [
  {{ name = "shop", address = "{shop_way}" }},
  {{ name = "payments", address = "{payments}" }},
]
routes = [
  {{ path = "/payments/*", upstream = "payments" }},
  {{ path = "/deals/{{deal}}/buy/*", upstream = "shop", room = "deal" }},
  {{ path = "/deals/{{deal}}/buy", upstream = "shop", room = "deal" }},
  {{ path = "/api/v1/deals/{{deal}}/holds", upstream = "shop", room = "deal", holds = true }},
  {{ path = "/*", upstream = "shop" }},
]
rooms = []

[gate.limits]
joins_per_s = {most}
joins_burst = {most}
claims_per_s = {most}
claims_burst = {most}
polls_per_s = {most}
polls_burst = {most}

[deal_service]
listen = "{shop}"
admin_listen = "{shop_admin}"
public_url = "http://{gate}"
cookie_secure = false
confirm_ms = {CONFIRM_MS}
claim_window_ms = 5000
lease_ms = 10000

[payment_adapter]
listen = "{payments}"
admin_listen = "{payments_admin}"
public_url = "http://{gate}"
poll_ms = 200
lease_ms = 5000
prepare_give_up_ms = 5000
reconcile_every_ms = 1000

[payment_adapter.providers.kakaopay]
base_url = "{provider}"
secret_key = "DEV0000000000000000000000000000000000000"
cid = "TC0ONETIME"
timeout_ms = 1000

[payment_simulator]
listen = "{simulator}"
admin_listen = "{simulator_admin}"
public_url = "http://{simulator}"
"#
    )
}
