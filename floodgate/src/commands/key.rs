//! `floodgate key create`: an entry for `keys.ring`.

use crate::output;
use service_kit::keys::{KeyRing, KeysConfig};
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
