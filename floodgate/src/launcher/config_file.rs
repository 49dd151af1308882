//! The configuration that the launcher writes: the same file that an operator would write.

use super::layout::Layout;
use super::ports::Ports;
use anyhow::Context as _;
use service_kit::chain::sha256_hex;
use service_kit::keys::KeyRing;
use service_kit::operator::{NewOperator, OperatorConfig, Role};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// What the launcher decides besides addresses.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    /// The table `[gate.limits]`, if not the default.
    pub limits: String,
    /// Lines added to `[deal_service]`.
    pub shop: String,
    /// Lines added to `[payment_adapter]`.
    pub payments: String,
    /// Lines added to each provider's section.
    pub provider: String,
}

/// Worker threads of the gate on a laptop.
const GATE_THREADS: usize = 2;

/// Writes the file, readable only by its owner. The keys are made once and kept.
///
/// # Errors
/// When a file cannot be written.
pub fn write(layout: &Layout, ports: &Ports, choices: &Choices) -> anyhow::Result<()> {
    let ring = keys(&layout.keys())?;
    let operator = operator(&layout.operator_token())?;
    write_secret(&layout.config(), &render(layout, ports, choices, &ring, &operator))
}

/// The entry of the launcher's own operator; its token is made once and kept beside the configuration.
fn operator(file: &Path) -> anyhow::Result<String> {
    const NAME: &str = "launcher";
    if let Ok(kept) = std::fs::read_to_string(file)
        && !kept.trim().is_empty()
    {
        let token_sha256 = sha256_hex(kept.trim().as_bytes());
        return Ok(OperatorConfig { name: NAME.to_owned(), role: Role::Admin, token_sha256 }.to_toml());
    }
    let NewOperator { token, config } = NewOperator::generate(NAME, Role::Admin)?;
    write_secret(file, &token)?;
    Ok(config.to_toml())
}

fn keys(file: &Path) -> anyhow::Result<String> {
    if let Ok(kept) = std::fs::read_to_string(file) {
        // An empty file is what a full disk leaves behind.
        if !kept.trim().is_empty() {
            return Ok(kept.trim().to_owned());
        }
    }
    let made = KeyRing::generate("k1");
    write_secret(file, &made)?;
    Ok(made)
}

fn write_secret(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut open = std::fs::OpenOptions::new();
    open.create(true).truncate(true).write(true).mode(0o600);
    open.open(file)
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .with_context(|| format!("write {}", file.display()))
}

fn render(layout: &Layout, ports: &Ports, choices: &Choices, ring: &str, operator: &str) -> String {
    let (redis, postgres) = (layout.redis_url(), layout.postgres_url());
    let journal = layout.journal();
    // Quoted as JSON, which is also a string of TOML.
    let journal = serde_json::Value::from(journal.display().to_string());
    let Ports { gate, shop, payments, simulator, gate_admin, shop_admin, payments_admin, simulator_admin } = ports;
    let Choices { limits, shop: shop_lines, payments: payment_lines, provider: provider_lines } = choices;
    format!(
        r#"# Written by `floodgate`; it is written again at each start. Secrets inside: keep it private.

[keys]
ring = ["{ring}"]

{operator}
[redis]
url = "{redis}"

[postgres]
url = "{postgres}"

[gate]
listen = "{gate}"
admin_listen = "{gate_admin}"
public_url = "http://{gate}"
cookie_secure = false
threads = {GATE_THREADS}
journal_dir = {journal}
upstreams = [
  {{ name = "shop", address = "{shop}" }},
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

{limits}
[deal_service]
listen = "{shop}"
admin_listen = "{shop_admin}"
public_url = "http://{gate}"
cookie_secure = false
providers = ["kakaopay", "toss", "stripe"]
{shop_lines}
[payment_adapter]
listen = "{payments}"
admin_listen = "{payments_admin}"
public_url = "http://{gate}"
{payment_lines}
[payment_adapter.providers.toss]
base_url = "http://{simulator}"
secret_key = "test_sk_0000000000000000000000000000"
client_key = "test_ck_0000000000000000000000000000"
sdk_url = "http://{simulator}/toss/sdk/v2"
page_origins = ["http://{simulator}"]
{provider_lines}[payment_adapter.providers.stripe]
base_url = "http://{simulator}"
secret_key = "sk_test_simulated"
publishable_key = "pk_test_simulated"
webhook_secret = "whsec_simulated"
sdk_url = "http://{simulator}/stripe/sdk/v3"
page_origins = ["http://{simulator}"]
{provider_lines}[payment_adapter.providers.kakaopay]
base_url = "http://{simulator}"
secret_key = "DEV0000000000000000000000000000000000000"
cid = "TC0ONETIME"
{provider_lines}
[payment_simulator]
listen = "{simulator}"
admin_listen = "{simulator_admin}"
public_url = "http://{simulator}"
toss_webhook_url = "http://{gate}/payments/webhooks/toss"
stripe_webhook_url = "http://{gate}/payments/webhooks/stripe"
"#
    )
}
