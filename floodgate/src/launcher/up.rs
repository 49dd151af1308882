//! `floodgate up`: everything on this machine until Ctrl-C.

use super::config_file::Choices;
use super::house::House;
use super::state::HouseState;
use crate::cli::UpArgs;
use crate::output;
use service_kit::shutdown;
use std::process::ExitCode;

/// Starts everything, prints where it is, and stops it when asked.
///
/// # Errors
/// When something cannot be started; then nothing is left running.
pub async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signal();
    let mut house = House::prepare(&args.dir, false, &Choices::default()).await?;
    output::note("starting Redis, PostgreSQL and every role …");
    let started = tokio::select! {
        result = house.start() => result.map(|()| true),
        () = stop.requested() => Ok(false),
    };
    if matches!(started, Ok(true)) {
        let state = house.board.snapshot().await;
        if args.json {
            output::data(&serde_json::to_string(&state)?)
        } else {
            output::data(&table(&state))
        }
        stop.requested().await;
    }
    output::note("stopping …");
    house.stop().await;
    started.map(|_| ExitCode::SUCCESS)
}

/// The children as a table, and what to do next.
pub fn table(state: &HouseState) -> String {
    let mut lines = vec![format!("{:<18} {:>8}  {:<24} {}", "role", "pid", "serves", "admin")];
    for role in &state.roles {
        let pid = role.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let dash = "-".to_owned();
        let (url, admin) = (role.url.as_ref().unwrap_or(&dash), role.admin.as_ref().unwrap_or(&dash));
        lines.push(format!("{:<18} {pid:>8}  {url:<24} {admin}", role.name));
    }
    lines.push(String::new());
    lines.push(format!("shop      {}/", state.gate_url));
    lines.push(format!("logs      {}", state.dir.join("logs").display()));
    lines.push(format!("merchant  floodgate merchant create --name NAME --config {}", state.config.display()));
    lines.push("Ctrl-C stops everything.".to_owned());
    lines.join("\n")
}
