//! Configuration: one TOML file, overridden by environment variables, parsed once into typed sections.
//!
//! `FLOODGATE__GATE__LISTEN=127.0.0.1:8080` overrides `listen` in section `[gate]`. An unknown or
//! wrong field refuses to start with one line that names it.

use serde::de::DeserializeOwned;
use std::path::Path;

/// The configuration cannot be used. The text names the field.
#[derive(Debug, thiserror::Error)]
#[error("configuration: {0}")]
pub struct ConfigError(pub String);

/// Reads `file` (if given) and then the process environment into `T`.
///
/// # Errors
/// When the file cannot be read, or a field is missing, unknown or of the wrong type.
pub fn load<T: DeserializeOwned>(file: Option<&Path>) -> Result<T, ConfigError> {
    let mut builder = config::Config::builder();
    if let Some(path) = file {
        builder = builder.add_source(config::File::from(path).format(config::FileFormat::Toml));
    }
    let settings = builder
        .add_source(
            config::Environment::with_prefix("FLOODGATE").prefix_separator("__").separator("__").try_parsing(true),
        )
        .build()
        .map_err(|e| ConfigError(one_line(&e.to_string())))?;
    serde_path_to_error::deserialize(settings).map_err(|e| {
        let path = e.path().to_string();
        ConfigError(format!("`{path}`: {}", one_line(&e.into_inner().to_string())))
    })
}

/// Refuses a value that the types let through, naming the field.
///
/// # Errors
/// When `ok` is false.
pub fn require(ok: bool, field: &str, rule: &str) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(ConfigError(format!("`{field}`: {rule}"))) }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        gate: Gate,
    }
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Gate {
        threads: u16,
    }

    fn read(text: &str) -> Result<Settings, ConfigError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        load(Some(file.path()))
    }

    #[test]
    fn a_wrong_field_is_named_on_one_line() {
        assert_eq!(read("[gate]\nthreads = 2").unwrap().gate.threads, 2);
        for (text, named) in [
            ("[gate]\nthreads = \"many\"", "gate.threads"),
            ("[gate]\nthreads = 2\ncolour = 1", "colour"),
            ("[gate]", "threads"),
            ("[gate\n", "TOML"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(named) && !error.contains('\n'), "{error}");
        }
    }
}
