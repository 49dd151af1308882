//! What one call of the command line does, one subcommand per file.

pub mod healthcheck;
pub mod key;
pub mod merchant;
pub mod migrate;
pub mod order;
pub mod payments;
pub mod rebuild;
pub mod role;
pub mod room;
pub mod room_codes;
pub mod simulate_payments;
pub mod verify;
pub mod verify_draw;

use std::future::Future;
use std::process::ExitCode;

/// Runs a command that needs an async runtime.
///
/// # Errors
/// The command's own.
pub fn on_runtime<F: Future<Output = anyhow::Result<ExitCode>>>(work: F) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(Box::pin(work));
    // Tasks still sleeping (a status line, a reconnect) must not hold up the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}
