//! Pure checks of a request's head, before any rule: method, Host, Upgrade, number and size of headers.

use crate::reply::Reply;
use http::{HeaderMap, Method, header};
use service_kit::problem::{Problem, Slug};

/// Most headers in a request.
pub const HEADERS_MAX: usize = 100;
/// Most bytes of header names and values together.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Methods that are forwarded; everything else (`TRACE`, `CONNECT`, made-up ones, lower case) is 405.
pub const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Whether a method is one of [`METHODS`].
fn is_forwarded(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS
    )
}

/// What is wrong with a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadHead {
    /// 431: too many headers or too many bytes of them.
    TooLarge,
    /// 405.
    Method,
    /// 400 with the reason.
    Bad(&'static str),
}

impl BadHead {
    /// HTTP status and problem document. 431 has no slug of its own: it is a `bad-request` with another status.
    pub fn problem(&self) -> (u16, Problem) {
        match self {
            Self::TooLarge => (
                431,
                Problem::new(
                    Slug::BadRequest,
                    format!("A request has at most {HEADERS_MAX} headers with {HEADER_BYTES_MAX} bytes together."),
                )
                .with("status", 431),
            ),
            Self::Method => (405, Problem::new(Slug::MethodNotAllowed, format!("Use one of {METHODS}."))),
            Self::Bad(why) => (400, Problem::new(Slug::BadRequest, *why)),
        }
    }

    /// The answer.
    pub fn reply(&self) -> Reply {
        let (status, problem) = self.problem();
        let reply = Reply::problem_as(status, &problem);
        if status == 405 { reply.with(header::ALLOW, METHODS) } else { reply }
    }
}

/// Checks a head; the target is checked by [`crate::canonical`].
///
/// # Errors
/// [`BadHead`] says how to answer.
pub fn check(method: &Method, headers: &HeaderMap) -> Result<(), BadHead> {
    let (mut bytes, mut nul) = (0, false);
    for (name, value) in headers {
        bytes += name.as_str().len() + value.len() + 4;
        nul |= value.as_bytes().contains(&0);
    }
    if headers.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        return Err(BadHead::TooLarge);
    }
    if !is_forwarded(method) {
        return Err(BadHead::Method);
    }
    // A request that asks for another protocol would turn the connection into a tunnel.
    if headers.contains_key(header::UPGRADE) {
        return Err(BadHead::Bad("Upgrade is not possible here."));
    }
    if nul {
        return Err(BadHead::Bad("A header has a NUL byte."));
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if plain_host(host.as_bytes()) => Ok(()),
        (Some(_), None) => Err(BadHead::Bad("The Host header has a character that is not allowed.")),
        (None, _) => Err(BadHead::Bad("The Host header is missing.")),
        (Some(_), Some(_)) => Err(BadHead::Bad("There is more than one Host header.")),
    }
}

/// `name`, `name:port`, `1.2.3.4:port` or `[v6]:port`; nothing that could be a path, a list or a user.
fn plain_host(host: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(host) else { return false };
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((v6, after)) => {
                let ok = !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.');
                (if ok { "v6" } else { "" }, after.strip_prefix(':').or((!after.is_empty()).then_some("bad")))
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    matches!(name.len(), 1..=253)
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-' || b == b'_')
        && port.is_none_or(|p| matches!(p.len(), 1..=5) && p.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn hosts() {
        for good in ["shop.example", "127.0.0.1:8080", "localhost:1", "[::1]:8080", "[fe80::1]"] {
            assert_eq!(check(&Method::GET, &headers(&[("host", good)])), Ok(()), "{good}");
        }
        for bad in ["", "a/b", "a,b", "a b", "a@b", "a:b", "a:", ":80", "[::1", "[]", "[::1]x", "a:123456", "a\\b"] {
            assert!(check(&Method::GET, &headers(&[("host", bad)])).is_err(), "{bad:?}");
        }
        assert!(check(&Method::GET, &headers(&[])).is_err());
        assert!(check(&Method::GET, &headers(&[("host", "a"), ("host", "a")])).is_err());
    }

    #[test]
    fn methods_upgrade_and_sizes() {
        let host = headers(&[("host", "a")]);
        for good in METHODS.split(", ") {
            assert_eq!(check(&Method::from_bytes(good.as_bytes()).unwrap(), &host), Ok(()), "{good}");
        }
        for bad in ["TRACE", "CONNECT", "get", "TRACK", "PROPFIND", "X"] {
            assert_eq!(check(&Method::from_bytes(bad.as_bytes()).unwrap(), &host), Err(BadHead::Method), "{bad}");
        }
        assert!(check(&Method::GET, &headers(&[("host", "a"), ("upgrade", "websocket")])).is_err());
        let mut many = host.clone();
        for i in 0..HEADERS_MAX {
            many.append("x", i.to_string().parse().unwrap());
        }
        assert_eq!(check(&Method::GET, &many), Err(BadHead::TooLarge));
        assert_eq!(
            check(&Method::GET, &headers(&[("host", "a"), ("x", &"a".repeat(HEADER_BYTES_MAX))])),
            Err(BadHead::TooLarge)
        );
    }
}
