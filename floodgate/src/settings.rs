//! The whole configuration file: one section per subject, each owned by its crate.
//!
//! Every section is optional in the file; a role asks for the ones it needs and refuses to start
//! without them, naming the section.

use crate::cli::ConfigArgs;
use serde::Deserialize;
use service_kit::config::{self, ConfigError};
use service_kit::keys::KeysConfig;
use service_kit::operator::OperatorConfig;
use service_kit::redis::RedisConfig;
use std::path::{Path, PathBuf};

/// Where `up` writes its configuration; commands look here when no file is named.
pub const DEFAULT_FILE: &str = ".floodgate/floodgate.toml";

/// The file. Unknown sections and fields are refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `[keys]`: the signing keys.
    pub keys: Option<KeysConfig>,
    /// `[[operators]]`: who may steer rooms.
    #[serde(default)]
    pub operators: Vec<OperatorConfig>,
    /// `[redis]`.
    pub redis: Option<RedisConfig>,
    /// `[postgres]`.
    pub postgres: Option<ledger::PgConfig>,
    /// `[gate]`: the proxy.
    pub gate: Option<proxy::Config>,
    /// `[deal_service]`.
    pub deal_service: Option<deal_service::Config>,
    /// `[payment_adapter]`.
    pub payment_adapter: Option<payment_adapter::Config>,
    /// `[payment_simulator]`.
    pub payment_simulator: Option<payment_simulator::Config>,
}

impl Settings {
    /// Reads the file and the environment.
    ///
    /// # Errors
    /// When a field is missing, unknown or wrong; the text names it.
    pub fn load(args: &ConfigArgs) -> Result<Self, ConfigError> {
        config::load(file(args).as_deref())
    }
}

/// The file that is read, if any.
pub fn file(args: &ConfigArgs) -> Option<PathBuf> {
    args.config.clone().or_else(|| Path::new(DEFAULT_FILE).exists().then(|| DEFAULT_FILE.into()))
}

/// The section, or a refusal that names it.
///
/// # Errors
/// When the section is missing.
pub fn section<T>(value: Option<T>, name: &str) -> Result<T, ConfigError> {
    value.ok_or_else(|| ConfigError(format!("`{name}`: this command needs the section [{name}]")))
}
