//! Requests that a room does not stop. A rule matches when all of its conditions do.

use serde::{Deserialize, Serialize};
use service_kit::config::{ConfigError, require};
use service_kit::network::Network;

/// Most rules of a room.
pub const RULES_MAX: usize = 32;
/// Longest path of a rule, in bytes.
pub const PATH_BYTES_MAX: usize = 200;
/// Longest value of a header, in bytes.
pub const HEADER_VALUE_BYTES_MAX: usize = 256;
/// What a request may ask for.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// One rule; at least one condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bypass {
    /// The method, e.g. `GET`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path, or everything below it with `/*` at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A header with exactly this value. Clients write headers: use a secret value, or combine it with `network`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderIs>,
    /// The client's network, e.g. `192.0.2.0/24`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The client is in a network of the gate's `crawler_networks` file.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub crawler: bool,
}

/// A header and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderIs {
    /// The name, in lower case.
    pub name: String,
    /// The value.
    pub value: String,
}

/// Checks the rules of a room.
///
/// # Errors
/// Names the first field that is wrong, e.g. `bypass[1].network`.
pub fn validate(rules: &[Bypass]) -> Result<(), ConfigError> {
    require(rules.len() <= RULES_MAX, "bypass", "at most 32 rules")?;
    for (i, rule) in rules.iter().enumerate() {
        let field = |name: &str| format!("bypass[{i}].{name}");
        require(*rule != Bypass::default(), &format!("bypass[{i}]"), "at least one condition")?;
        let method = rule.method.as_deref();
        require(
            method.is_none_or(|m| METHODS.contains(&m)),
            &field("method"),
            "one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        )?;
        require(rule.path.as_deref().is_none_or(path_ok), &field("path"), "`/exact` or `/below/*`, at most 200 bytes")?;
        if let Some(header) = &rule.header {
            let name = header.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            require((1..=64).contains(&header.name.len()) && name, &field("header.name"), "1 to 64 of a-z, 0-9 and -")?;
            let value = header.value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
            require(
                (1..=HEADER_VALUE_BYTES_MAX).contains(&header.value.len()) && value,
                &field("header.value"),
                "1 to 256 visible characters",
            )?;
        }
        let network = rule.network.as_deref().is_none_or(|n| n.parse::<Network>().is_ok());
        require(network, &field("network"), "a network such as 192.0.2.0/24")?;
        require(
            !rule.crawler || matches!(method, None | Some("GET" | "HEAD")),
            &field("crawler"),
            "crawlers only read: method GET, HEAD or none",
        )?;
    }
    Ok(())
}

/// Whether a pattern can match a canonical path at all.
fn path_ok(pattern: &str) -> bool {
    let body = pattern.strip_suffix("/*").unwrap_or(pattern);
    let visible = pattern.bytes().all(|b| b.is_ascii_graphic() && !b"?#\\\"<>;".contains(&b));
    let dots = body.split('/').any(|segment| matches!(segment, "." | ".."));
    pattern.starts_with('/')
        && pattern.len() <= PATH_BYTES_MAX
        && visible
        && !body.contains("//")
        && !dots
        && !body.contains('*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_rules_pass() {
        let rules: Vec<Bypass> = serde_json::from_str(
            r#"[{"path":"/buy/terms"},{"path":"/*"},{"method":"POST","path":"/hooks/*","network":"192.0.2.0/24"},
                {"header":{"name":"x-monitor","value":"a long secret"}},{"crawler":true},{"crawler":true,"method":"HEAD"}]"#,
        )
        .unwrap();
        assert!(validate(&rules).is_ok());
    }

    #[test]
    fn a_wrong_rule_is_named() {
        for (rule, field) in [
            (r#"{}"#, "bypass[1]"),
            (r#"{"method":"get"}"#, "bypass[1].method"),
            (r#"{"method":"CONNECT"}"#, "bypass[1].method"),
            (r#"{"path":"buy"}"#, "bypass[1].path"),
            (r#"{"path":"/a/../buy"}"#, "bypass[1].path"),
            (r#"{"path":"/a//buy"}"#, "bypass[1].path"),
            (r#"{"path":"/a/*/buy"}"#, "bypass[1].path"),
            (r#"{"path":"/buy*"}"#, "bypass[1].path"),
            (r#"{"path":"/buy?a=1"}"#, "bypass[1].path"),
            (r#"{"header":{"name":"X-Monitor","value":"a"}}"#, "bypass[1].header.name"),
            (r#"{"header":{"name":"x-monitor","value":""}}"#, "bypass[1].header.value"),
            (r#"{"network":"192.0.2.1/24"}"#, "bypass[1].network"),
            (r#"{"network":"anywhere"}"#, "bypass[1].network"),
            (r#"{"crawler":true,"method":"POST"}"#, "bypass[1].crawler"),
        ] {
            let rules = [Bypass { path: Some("/ok".into()), ..Bypass::default() }, serde_json::from_str(rule).unwrap()];
            let error = validate(&rules).unwrap_err().to_string();
            assert!(error.contains(&format!("`{field}`")), "{rule}: {error}");
        }
        assert!(validate(&vec![Bypass { crawler: true, ..Bypass::default() }; RULES_MAX + 1]).is_err());
    }
}
