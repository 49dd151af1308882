#![doc = include_str!("../README.md")]

mod cli;
mod commands;
mod demo;
mod launcher;
mod output;
mod settings;

use clap::Parser as _;
use cli::{Cli, Command, KeyCommand, MerchantCommand};
use service_kit::config::ConfigError;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit code of a configuration that cannot be used (`EX_USAGE` of sysexits, as linkerd does).
const EXIT_CONFIG: u8 = 64;

fn main() -> ExitCode {
    service_kit::install_crypto_providers();
    let cli = Cli::parse();
    launcher::parent::die_with_launcher();
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            output::note(&format!("floodgate: {error:#}"));
            let config = error.chain().any(|cause| cause.is::<ConfigError>());
            ExitCode::from(if config { EXIT_CONFIG } else { 1 })
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Proxy(role) => commands::role::proxy(&role),
        Command::DealService(role) => commands::role::deal_service(&role),
        Command::PaymentAdapter(role) => commands::role::payment_adapter(&role),
        Command::PaymentSimulator(role) => commands::role::payment_simulator(&role),
        Command::SimulatePayments(args) => commands::on_runtime(commands::simulate_payments::run(args)),
        Command::Migrate(config) => commands::on_runtime(commands::migrate::run(config)),
        Command::Up(up) => commands::on_runtime(launcher::up::run(up)),
        Command::Demo(demo) => commands::on_runtime(demo::run(demo)),
        Command::Merchant { command: MerchantCommand::Create(create) } => {
            commands::on_runtime(commands::merchant::create(create))
        }
        Command::Key { command: KeyCommand::Create { id } } => commands::key::create(&id),
        Command::VerifyDraw(args) => commands::on_runtime(commands::verify_draw::run(args)),
        Command::Key { command: KeyCommand::Operator { name, role, json } } => {
            commands::key::operator(&name, role, json)
        }
        Command::Payments { command } => commands::on_runtime(commands::payments::run(command)),
        Command::Order(args) => commands::on_runtime(commands::order::run(args)),
        Command::Rebuild(args) => commands::on_runtime(commands::rebuild::run(args)),
        Command::Room { command } => commands::on_runtime(commands::room::run(command)),
        Command::Verify(verify) => commands::on_runtime(commands::verify::run(verify)),
        Command::Healthcheck { admin } => commands::on_runtime(commands::healthcheck::run(admin)),
    }
}
