//! `floodgate healthcheck`: for containers that have no curl.

use crate::launcher::probe;
use crate::output;
use std::net::SocketAddr;
use std::process::ExitCode;

/// Asks `/healthz` of an admin port once.
///
/// # Errors
/// Never; a silent or unhealthy port is exit code 1.
pub async fn run(admin: SocketAddr) -> anyhow::Result<ExitCode> {
    match probe::get(admin, "/healthz").await {
        Ok((200, _)) => Ok(ExitCode::SUCCESS),
        Ok((status, body)) => {
            output::note(&format!("{admin} answers {status}: {}", body.trim()));
            Ok(ExitCode::FAILURE)
        }
        Err(error) => {
            output::note(&format!("{admin} does not answer: {error}"));
            Ok(ExitCode::FAILURE)
        }
    }
}
