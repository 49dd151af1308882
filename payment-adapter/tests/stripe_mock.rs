//! The driver's requests against `stripe-mock`, Stripe's own checker of requests: each must be known by address, method,
//! key and every parameter. It keeps no state and knows no behaviour, so its answers are about payments that are none of
//! ours: the driver must read them, and must not believe them.
//!
//! It runs where the program is: `go install github.com/stripe/stripe-mock@v0.203.0`, found by `STRIPE_MOCK` or on the path.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod script;

use payment_adapter::provider::{Answer, Doubt, Provider};
use payment_adapter::stripe::{Stripe, StripeConfig};
use script::{RETURN_URL, payment, refund};
use serde_json::json;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The program on a port of its own; `None` where it is not installed.
async fn mock() -> Option<(Child, String)> {
    let program = std::env::var("STRIPE_MOCK").unwrap_or_else(|_| "stripe-mock".to_owned());
    let mut command = Command::new(program);
    command.args(["-http-addr", "127.0.0.1:0", "-https-addr", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().ok()?;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(address) = line.strip_prefix("Listening for HTTP at address: ") {
            let base_url = format!("http://{address}");
            // It stops when nobody reads what it prints.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Some((child, base_url));
        }
    }
    panic!("stripe-mock ended without an address");
}

/// Understood, and not believed.
fn understood<T: std::fmt::Debug>(call: &str, answer: Answer<T>) {
    match answer {
        Answer::Settled(settled) if call == "list" => println!("{call}: {settled:?}"),
        Answer::Unknown(Doubt::Mismatch(mismatch)) => println!("{call}: {mismatch}"),
        other => panic!("{call}: {other:?}"),
    }
}

#[tokio::test]
async fn every_request_is_well_formed() {
    service_kit::install_crypto_providers();
    let Some((_running, base_url)) = mock().await else {
        println!("skipped: stripe-mock is not installed (see the top of this file)");
        return;
    };
    let config = json!({ "base_url": base_url, "secret_key": "sk_test_x", "publishable_key": "pk_test_x",
        "webhook_secret": "whsec_x" });
    let driver = Stripe::new(&serde_json::from_value::<StripeConfig>(config).unwrap()).unwrap();
    let mut work = payment("stripe");
    work.provider_ref = Some("pi_1".into());
    understood("prepare", driver.prepare(&work, RETURN_URL, 0).await);
    understood("capture", driver.confirm(&work).await);
    understood("query", driver.query(&work).await);
    driver.abandon(&work).await;
    understood("refund", driver.refund(&refund(&work, 0, 10_000)).await);
    understood("query_refund", driver.query_refund(&refund(&work, 0, 10_000)).await);
    for page in [None, Some("payment_intents:pi_1"), Some("refunds"), Some("refunds:re_1")] {
        understood("list", driver.list(0, 86_400_000, page.map(str::to_owned)).await);
    }
}
