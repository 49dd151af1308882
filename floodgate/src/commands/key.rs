//! `floodgate key create`: an entry for `keys.ring`; `floodgate key operator`: an operator's token.

use crate::output;
use service_kit::keys::{KeyRing, KeysConfig};
use service_kit::operator::{NewOperator, Role};
use std::process::ExitCode;

/// Prints a fresh entry.
///
/// # Errors
/// When the id is not 1–16 letters or digits.
pub fn create(id: &str) -> anyhow::Result<ExitCode> {
    let entry = KeyRing::generate(id);
    KeyRing::new(&KeysConfig { ring: vec![entry.clone()] })?;
    output::data(&entry);
    Ok(ExitCode::SUCCESS)
}

/// Prints a fresh token and the entry for `[[operators]]`. Only the entry is to be kept by us.
///
/// # Errors
/// When the name is not allowed.
pub fn operator(name: &str, role: Role, json: bool) -> anyhow::Result<ExitCode> {
    let NewOperator { token, config } = NewOperator::generate(name, role)?;
    if json {
        let hash = &config.token_sha256;
        let document = serde_json::json!({ "name": name, "role": role, "token": token, "token_sha256": hash });
        output::data(&document.to_string());
    } else {
        output::data(&token);
        output::note("The line above is the token. It is shown only once: give it to its owner now.");
        output::data(&format!("\n{}", config.to_toml().trim_end()));
    }
    Ok(ExitCode::SUCCESS)
}
