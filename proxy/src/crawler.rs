//! Networks of search engines, from the lists that they publish:
//! `{"prefixes":[{"ipv4Prefix":"192.0.2.0/24"},{"ipv6Prefix":"2001:db8::/32"}]}`. Read once, at start.

use crate::config::ConfigError;
use serde::Deserialize;
use service_kit::network::{Network, Networks};
use std::path::{Path, PathBuf};

/// Largest list, in bytes.
const FILE_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Most lists.
pub const FILES_MAX: usize = 16;

/// One published list. It may say more, e.g. when it was made.
#[derive(Deserialize)]
struct List {
    prefixes: Vec<Prefix>,
}

#[derive(Deserialize)]
struct Prefix {
    #[serde(rename = "ipv4Prefix")]
    v4: Option<String>,
    #[serde(rename = "ipv6Prefix")]
    v6: Option<String>,
}

/// The networks of all lists.
///
/// # Errors
/// Names the file that cannot be read or is no such list.
pub fn read(files: &[PathBuf]) -> Result<Networks, ConfigError> {
    let mut all = Vec::new();
    for (i, file) in files.iter().enumerate() {
        all.extend(
            read_one(file)
                .map_err(|why| ConfigError(format!("`gate.crawler_networks[{i}]`: {}: {why}", file.display())))?,
        );
    }
    Ok(all.into_iter().collect())
}

fn read_one(file: &Path) -> Result<Vec<Network>, String> {
    let bytes = std::fs::read(file).map_err(|e| e.to_string())?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Vec<Network>, String> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
    }
    let list: List = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if list.prefixes.is_empty() {
        return Err("`prefixes` is empty".to_owned());
    }
    let mut networks = Vec::with_capacity(list.prefixes.len());
    for (n, prefix) in list.prefixes.iter().enumerate() {
        let text = match (&prefix.v4, &prefix.v6) {
            (Some(text), None) if !text.contains(':') => text,
            (None, Some(text)) if text.contains(':') => text,
            _ => return Err(format!("`prefixes[{n}]`: one of `ipv4Prefix` and `ipv6Prefix`")),
        };
        networks.push(text.parse().map_err(|e| format!("`prefixes[{n}]`: {text}: {e}"))?);
    }
    Ok(networks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_list_is_read() {
        let list = br#"{"creationTime":"2026-11-20T15:46:05.000000","prefixes":[
            {"ipv6Prefix":"2001:4860:4801:10::/64"},{"ipv4Prefix":"66.249.64.0/27"},{"ipv4Prefix":"66.249.64.32/27"}]}"#;
        let networks: Networks = parse(list).unwrap().into_iter().collect();
        assert!(
            networks.contains("66.249.64.63".parse().unwrap())
                && networks.contains("2001:4860:4801:10::1".parse().unwrap())
        );
        assert!(!networks.contains("66.249.64.64".parse().unwrap()));
        assert!(read(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_wrong_list_is_refused_and_named() {
        for (text, named) in [
            ("", "EOF"),
            ("[]", "invalid"),
            (r#"{"prefixes":[]}"#, "empty"),
            (r#"{"prefixes":[{}]}"#, "prefixes[0]"),
            (r#"{"prefixes":[{"ipv4Prefix":"66.249.64.0/27","ipv6Prefix":"2001:db8::/32"}]}"#, "prefixes[0]"),
            (r#"{"prefixes":[{"ipv4Prefix":"66.249.64.0/27"},{"ipv4Prefix":"66.249.64.1/27"}]}"#, "prefixes[1]"),
            (r#"{"prefixes":[{"ipv4Prefix":"2001:db8::/32"}]}"#, "prefixes[0]"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
        let error = read(&["/nowhere/crawlers.json".into()]).unwrap_err().to_string();
        assert!(error.contains("`gate.crawler_networks[0]`"), "{error}");
    }
}
