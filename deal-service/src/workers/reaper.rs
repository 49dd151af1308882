//! Ends holds whose time is over. The ledger decides and writes the outbox; Redis hears it from there.
//! Runs twice without harm: an order is released once. A crash leaves the rest for the next round.

use crate::app::App;
use service_kit::clock::now_ms;
use service_kit::planted;
use service_kit::shutdown::Shutdown;

/// Time between two looks.
const EVERY_MS: u64 = 400;
/// Holds of one round; a full round is followed by the next at once.
const ROUND_MAX: i64 = 200;

/// Runs until shutdown.
pub async fn run(app: App, shutdown: Shutdown) {
    loop {
        service_kit::failpoint!("X1.before");
        let most = if planted!("hold-never-expires") { 0 } else { ROUND_MAX };
        let is_full = match app.parts.ledger.expire_holds(now_ms(), most).await {
            Ok(ended) => {
                if !ended.is_empty() {
                    service_kit::failpoint!("X2.after");
                }
                i64::try_from(ended.len()).unwrap_or(0) >= ROUND_MAX
            }
            Err(error) => {
                tracing::warn!(%error, "could not end overdue holds; trying again");
                false
            }
        };
        if !shutdown.sleep_ms(if is_full { 0 } else { EVERY_MS }).await {
            return;
        }
    }
}
