//! Web addresses and the language of a request: what the pages of all providers check.

use axum::http::{HeaderMap, header};

/// Longest return address of a shop, in characters.
pub const URL_CHARS_MAX: usize = 2_048;

/// Scheme, host and port of a web address, e.g. `https://shop.example:8443`. None for anything else: another scheme,
/// a user name in it, or characters that could escape from a header.
pub fn web_origin(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
    let authority = uri.authority()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    authority.as_str().bytes().all(plain).then(|| format!("{scheme}://{authority}"))
}

/// Whether an address leads to this machine: `localhost`, `127.0.0.0/8` or `[::1]`.
pub fn is_loopback(url: &str) -> bool {
    let Some(host) = url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)) else { return false };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// `url` with more in its query string.
pub fn with_query(url: &str, pairs: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let (url, fragment) = url.split_once('#').map_or((url, None), |(url, fragment)| (url, Some(fragment)));
    let separator = if url.contains('?') { '&' } else { '?' };
    let fragment = fragment.map(|fragment| format!("#{fragment}")).unwrap_or_default();
    format!("{url}{separator}{query}{fragment}")
}

/// Whether the client wants JSON instead of a page or a redirect.
pub fn wants_json(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|accept| accept == "application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_addresses_have_an_origin() {
        assert_eq!(web_origin("https://a.example:8443/x?y=1").as_deref(), Some("https://a.example:8443"));
        assert_eq!(web_origin("http://[::1]:80/").as_deref(), Some("http://[::1]:80"));
        for bad in ["", "/x", "ftp://a/", "javascript:alert(1)", "http://", "http://u@a/", "http://a;b/", "http://a b/"]
        {
            assert_eq!(web_origin(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for here in ["http://127.0.0.1:80/x", "http://127.9.9.9/", "http://[::1]:9/hook", "https://localhost/"] {
            assert!(is_loopback(here), "{here}");
        }
        for away in ["http://10.0.0.1/", "http://localhost.example/", "http://127.0.0.1.example/", "/hook", ""] {
            assert!(!is_loopback(away), "{away}");
        }
    }

    #[test]
    fn a_query_is_added_before_the_fragment() {
        assert_eq!(with_query("http://a/b", &[("c", "d e")]), "http://a/b?c=d+e");
        assert_eq!(with_query("http://a/b?x=1#top", &[("c", "&")]), "http://a/b?x=1&c=%26#top");
    }
}
