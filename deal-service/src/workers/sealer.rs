//! Puts the steps of orders into the audit chain, a moment after they happened. One process seals at a time; the others
//! find it done. A crash leaves the steps for the next round.

use crate::app::App;
use service_kit::shutdown::Shutdown;

/// Time between two looks.
const EVERY_MS: u64 = 500;

/// Runs until shutdown.
pub async fn run(app: App, shutdown: Shutdown) {
    loop {
        let is_full = match app.parts.ledger.seal().await {
            Ok(sealed) => sealed >= ledger::SEAL_MAX,
            Err(error) => {
                tracing::warn!(%error, "could not go on with the audit chain; trying again");
                false
            }
        };
        if !shutdown.sleep_ms(if is_full { 0 } else { EVERY_MS }).await {
            return;
        }
    }
}
