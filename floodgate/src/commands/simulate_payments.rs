//! `floodgate simulate-payments`: three payment providers on this machine, without a configuration file, for any shop.

use crate::cli::SimulateArgs;
use crate::output;
use anyhow::Context as _;
use payment_simulator::{Config, Running, start};
use serde_json::{Value, json};
use service_kit::{shutdown, telemetry};
use std::process::ExitCode;

/// Plays the providers until Ctrl-C.
///
/// # Errors
/// When an address cannot be bound or a webhook's address is refused.
pub async fn run(args: SimulateArgs) -> anyhow::Result<ExitCode> {
    let cfg = Config {
        toss_webhook_url: args.toss_webhook_url.unwrap_or_default(),
        stripe_webhook_url: args.stripe_webhook_url.unwrap_or_default(),
        toss_test_limit: args.toss_test_limit,
        ..Config::local(args.listen, args.admin_listen)
    };
    cfg.validate()?;
    let secrets = (cfg.toss_webhook_secret.clone(), cfg.stripe_webhook_secret.clone());
    let metrics = telemetry::init_metrics("payment-simulator", payment_simulator::HISTOGRAMS)?;
    let running = start(cfg, metrics, shutdown::on_signal())
        .await
        .context("the simulator cannot start; --listen 127.0.0.1:0 and --admin-listen 127.0.0.1:0 take free ports")?;
    let said = addresses(&running, &secrets);
    if args.json {
        output::data(&said.to_string());
    } else {
        output::data(&table(&said));
        output::note("Simulating KakaoPay, Toss Payments and Stripe until Ctrl-C. No real money moves.");
    }
    running.finished().await?;
    Ok(ExitCode::SUCCESS)
}

/// What a shop puts into its settings. Any key of the shown kind is taken.
fn addresses(running: &Running, (toss_secret, stripe_secret): &(String, String)) -> Value {
    let base = format!("http://{}", running.address);
    json!({
        "base_url": base,
        "control_url": format!("http://{}/_control", running.control_address),
        "kakaopay": { "secret_key": "DEV_simulated", "cid": "TC0ONETIME" },
        "toss": {
            "secret_key": "test_sk_simulated",
            "client_key": "test_ck_simulated",
            "sdk_url": format!("{base}/toss/sdk/v2"),
            "webhook_secret": toss_secret,
        },
        "stripe": {
            "secret_key": "sk_test_simulated",
            "publishable_key": "pk_test_simulated",
            "sdk_url": format!("{base}/stripe/sdk/v3"),
            "webhook_secret": stripe_secret,
        },
    })
}

fn table(said: &Value) -> String {
    let text = |pointer: &str| said.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let rows = [
        ("all three APIs", text("/base_url")),
        ("control port", text("/control_url")),
        (
            "KakaoPay",
            format!("Authorization: SECRET_KEY {}, cid {}", text("/kakaopay/secret_key"), text("/kakaopay/cid")),
        ),
        ("Toss Payments", format!("{}, {}", text("/toss/secret_key"), text("/toss/client_key"))),
        ("", format!("browser: {}", text("/toss/sdk_url"))),
        ("Stripe", format!("{}, {}", text("/stripe/secret_key"), text("/stripe/publishable_key"))),
        ("", format!("browser: {}", text("/stripe/sdk_url"))),
        ("", format!("webhooks: {}", text("/stripe/webhook_secret"))),
    ];
    rows.map(|(name, value)| format!("{name:<16}{value}")).join("\n")
}
