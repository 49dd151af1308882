//! Requests that a room does not stop, as the requests see the rules: compiled once, then only compared. Pure.

use crate::canonical::CanonicalPath;
use http::{HeaderMap, HeaderName, Method};
use queue::bypass::Bypass;
use service_kit::network::Network;
use std::net::IpAddr;
use subtle::ConstantTimeEq as _;

/// What a rule looks at.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// The method.
    pub method: &'r Method,
    /// The path in its one spelling.
    pub path: &'r CanonicalPath,
    /// The headers as the client sent them.
    pub headers: &'r HeaderMap,
    /// The client's address.
    pub client: IpAddr,
    /// Whether that address belongs to a known crawler.
    pub is_crawler: bool,
}

/// Which rule let a request by: a label for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bypassed {
    /// A rule for crawlers.
    Crawler,
    /// Any other rule.
    Rule,
}

impl Bypassed {
    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Crawler => "crawler",
            Self::Rule => "rule",
        }
    }
}

#[derive(Debug, Clone)]
enum PathIs {
    Exactly(String),
    /// Everything that starts with this, which ends in `/`.
    Below(String),
}

#[derive(Debug, Clone)]
struct Rule {
    method: Option<Method>,
    path: Option<PathIs>,
    header: Option<(HeaderName, String)>,
    network: Option<Network>,
    crawler: bool,
}

/// The rules of one room.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    rules: Vec<Rule>,
}

impl Rules {
    /// Reads the rules of validated settings. A rule that cannot be read, which validation excludes, opens nothing.
    pub fn compile(rules: &[Bypass]) -> Self {
        Self { rules: rules.iter().filter_map(Rule::compile).collect() }
    }

    /// The first rule that lets this request by.
    pub fn find(&self, request: &Request<'_>) -> Option<Bypassed> {
        let rule = self.rules.iter().find(|rule| rule.matches(request))?;
        Some(if rule.crawler { Bypassed::Crawler } else { Bypassed::Rule })
    }
}

impl Rule {
    fn compile(rule: &Bypass) -> Option<Self> {
        if *rule == Bypass::default() {
            return None;
        }
        let method = match rule.method.as_deref() {
            Some(method) => Some(method.parse().ok()?),
            None => None,
        };
        let path = rule.path.as_deref().map(|pattern| match pattern.strip_suffix('*') {
            Some(start) => PathIs::Below(start.to_owned()),
            None => PathIs::Exactly(pattern.to_owned()),
        });
        let header = match &rule.header {
            Some(header) => Some((header.name.parse().ok()?, header.value.clone())),
            None => None,
        };
        let network = match rule.network.as_deref() {
            Some(network) => Some(network.parse().ok()?),
            None => None,
        };
        Some(Self { method, path, header, network, crawler: rule.crawler })
    }

    fn matches(&self, request: &Request<'_>) -> bool {
        let reads = matches!(*request.method, Method::GET | Method::HEAD);
        self.method.as_ref().is_none_or(|m| m == request.method)
            && self.path.as_ref().is_none_or(|p| p.holds(request.path.path()))
            && self.header.as_ref().is_none_or(|(name, value)| has(request.headers, name, value))
            && self.network.is_none_or(|n| n.contains(request.client))
            && (!self.crawler || (request.is_crawler && reads))
    }
}

impl PathIs {
    fn holds(&self, path: &str) -> bool {
        match self {
            Self::Exactly(text) => path == text,
            Self::Below(start) => path.starts_with(start.as_str()),
        }
    }
}

/// Whether the header is there once, with this very value. The value may be a secret: compared in constant time.
fn has(headers: &HeaderMap, name: &HeaderName, value: &str) -> bool {
    let mut found = headers.get_all(name).iter();
    match (found.next(), found.next()) {
        (Some(only), None) => only.as_bytes().ct_eq(value.as_bytes()).into(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn rules(json: &str) -> Rules {
        let rules: Vec<Bypass> = serde_json::from_str(json).unwrap();
        queue::bypass::validate(&rules).unwrap();
        Rules::compile(&rules)
    }

    fn find(
        rules: &Rules,
        method: &Method,
        path: &str,
        headers: &[(&'static str, &str)],
        client: &str,
    ) -> Option<Bypassed> {
        let path = CanonicalPath::parse(path.as_bytes()).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let is_crawler = client.starts_with("66.");
        let request = Request { method, path: &path, headers: &map, client: client.parse().unwrap(), is_crawler };
        rules.find(&request)
    }

    #[test]
    fn no_rule_opens_nothing() {
        assert_eq!(find(&Rules::default(), &Method::GET, "/buy", &[], "192.0.2.1"), None);
        // What validation would have refused does not become a rule without conditions.
        let unread = Rules::compile(&[Bypass::default(), Bypass { network: Some("x".into()), ..Bypass::default() }]);
        assert_eq!(find(&unread, &Method::GET, "/buy", &[], "192.0.2.1"), None);
    }

    #[test]
    fn all_conditions_of_a_rule_must_hold() {
        let rules = rules(
            r#"[{"method":"POST","path":"/buy/hook","header":{"name":"x-key","value":"s3cret"},"network":"192.0.2.0/24"}]"#,
        );
        let good: &[(&'static str, &str)] = &[("x-key", "s3cret")];
        assert_eq!(find(&rules, &Method::POST, "/buy/hook", good, "192.0.2.1"), Some(Bypassed::Rule));
        assert_eq!(find(&rules, &Method::POST, "/buy/hook?a=1", good, "192.0.2.1"), Some(Bypassed::Rule));
        for (method, path, headers, client) in [
            (Method::GET, "/buy/hook", good, "192.0.2.1"),
            (Method::POST, "/buy/hooks", good, "192.0.2.1"),
            (Method::POST, "/buy/hook/", good, "192.0.2.1"),
            (Method::POST, "/buy/Hook", good, "192.0.2.1"),
            (Method::POST, "/buy/hook", &[("x-key", "s3cre")], "192.0.2.1"),
            (Method::POST, "/buy/hook", &[("x-key", "S3cret")], "192.0.2.1"),
            (Method::POST, "/buy/hook", &[("x-key", "s3cret"), ("x-key", "s3cret")], "192.0.2.1"),
            (Method::POST, "/buy/hook", &[], "192.0.2.1"),
            (Method::POST, "/buy/hook", good, "192.0.3.1"),
        ] {
            assert_eq!(find(&rules, &method, path, headers, client), None, "{method} {path} {headers:?} {client}");
        }
    }

    #[test]
    fn a_tail_is_what_is_below() {
        let rules = rules(r#"[{"path":"/buy/free/*"}]"#);
        for (path, open) in [
            ("/buy/free/a", true),
            ("/buy/free/a/b", true),
            ("/buy/free/", true),
            ("/buy/free", false),
            ("/buy/freed", false),
            ("/buy/x", false),
        ] {
            assert_eq!(find(&rules, &Method::GET, path, &[], "192.0.2.1").is_some(), open, "{path}");
        }
    }

    #[test]
    fn a_crawler_is_a_network_and_only_reads() {
        let rules = rules(r#"[{"crawler":true,"path":"/buy"}]"#);
        assert_eq!(find(&rules, &Method::GET, "/buy", &[], "66.249.64.1"), Some(Bypassed::Crawler));
        assert_eq!(find(&rules, &Method::HEAD, "/buy", &[], "66.249.64.1"), Some(Bypassed::Crawler));
        assert_eq!(find(&rules, &Method::POST, "/buy", &[], "66.249.64.1"), None);
        let name: &[(&'static str, &str)] = &[("user-agent", "Mozilla/5.0 (compatible; Googlebot/2.1)")];
        assert_eq!(find(&rules, &Method::GET, "/buy", name, "192.0.2.1"), None, "what it calls itself does not count");
    }
}
