//! What the upstream learns about a visitor. Everything a client says about identity is removed first:
//! only the gate speaks in these headers.

use crate::cookie::OWN_PREFIXES;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::http::{RequestHeader, ResponseHeader};
use service_kit::http::traceparent;
use std::net::IpAddr;

/// A visitor with a verified pass.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The room.
    pub room: String,
    /// The visitor.
    pub visitor: String,
    /// The number that names the lease.
    pub lease: u64,
    /// The pass itself; our own upstreams verify it again.
    pub pass: String,
}

/// Whether a header may only come from the gate. Compared the way CGI-like servers fold names:
/// every character that is no letter or digit counts as `-`, so `Floodgate_Room` is caught too.
pub fn is_reserved(name: &str) -> bool {
    let folded: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    folded.starts_with("floodgate-")
        || folded.starts_with("x-forwarded-")
        || matches!(folded.as_str(), "x-real-ip" | "forwarded" | "traceparent" | "tracestate" | "proxy")
}

/// Removes everything reserved and the gate's own cookies, then states what the gate knows. With an
/// assertion (a foreign upstream) the pass itself stays here.
///
/// # Errors
/// When a value cannot stand in a header, which the types exclude.
pub fn apply(
    request: &mut RequestHeader,
    client: IpAddr,
    trace_id: &str,
    admitted: Option<&Admitted>,
    assertion: Option<&str>,
) -> pingora::Result<()> {
    let reserved: Vec<HeaderName> = request.headers.keys().filter(|n| is_reserved(n.as_str())).cloned().collect();
    for name in &reserved {
        // `remove_header` takes one value at a time off its record of spellings.
        while request.remove_header(name).is_some() {}
    }
    if let Some(kept) = cookies_without_own(&request.headers) {
        while request.remove_header(&header::COOKIE).is_some() {}
        if !kept.is_empty() {
            request.insert_header(header::COOKIE, kept)?;
        }
    }
    request.insert_header("Floodgate-Client-Ip", client.to_string())?;
    request.insert_header("traceparent", traceparent(trace_id))?;
    if let Some(admitted) = admitted {
        request.insert_header("Floodgate-Room", admitted.room.as_str())?;
        request.insert_header("Floodgate-Visitor", admitted.visitor.as_str())?;
        request.insert_header("Floodgate-Lease", admitted.lease.to_string())?;
        match assertion {
            Some(assertion) => request.insert_header("Floodgate-Assertion", assertion)?,
            None => request.insert_header("Floodgate-Pass", admitted.pass.as_str())?,
        }
    }
    Ok(())
}

/// Takes the upstream's commands to the gate off an answer: whether it ends the visitor's session. Its own command, and
/// the one that shops know which stood behind another waiting room.
pub fn take_commands(response: &mut ResponseHeader) -> bool {
    let mut ends = false;
    for (name, command) in [("floodgate-command", "end-session"), ("cf-waiting-room-command", "revoke")] {
        let said = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(command.as_bytes());
        ends |= response.headers.get_all(name).iter().any(said);
        while response.remove_header(name).is_some() {}
    }
    ends
}

/// All cookies but the gate's own, as one value; `None` when there are no such cookies.
fn cookies_without_own(headers: &HeaderMap) -> Option<HeaderValue> {
    let own = |pair: &[u8]| OWN_PREFIXES.iter().any(|prefix| pair.starts_with(prefix.as_bytes()));
    let mut found = false;
    let mut kept: Vec<u8> = Vec::new();
    for value in headers.get_all(header::COOKIE) {
        for pair in value.as_bytes().split(|b| *b == b';').map(<[u8]>::trim_ascii) {
            if own(pair) {
                found = true;
            } else if !pair.is_empty() {
                if !kept.is_empty() {
                    kept.extend_from_slice(b"; ");
                }
                kept.extend_from_slice(pair);
            }
        }
    }
    if found { Some(HeaderValue::from_bytes(&kept).unwrap_or(HeaderValue::from_static(""))) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_caught_in_every_spelling() {
        for name in [
            "floodgate-room",
            "Floodgate-Visitor",
            "floodgate_room",
            "FLOODGATE_PASS",
            "floodgate.room",
            "x-forwarded-for",
            "X_Forwarded_Host",
            "x-real-ip",
            "x_real_ip",
            "forwarded",
            "traceparent",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["host", "cookie", "x-request-id", "my-floodgate-x", "accept"] {
            assert!(!is_reserved(name), "{name}");
        }
    }

    #[test]
    fn commands_are_read_and_taken_off() {
        for (headers, ends) in [
            (&[("Floodgate-Command", "end-session")][..], true),
            (&[("Cf-Waiting-Room-Command", "revoke")], true),
            (&[("floodgate-command", "other"), ("Floodgate-Command", " End-Session ")], true),
            (&[("Floodgate-Command", "revoke")], false),
            (&[("Floodgate-Command", "end-session, x")], false),
            (&[("X-Command", "end-session")], false),
        ] {
            let mut response = ResponseHeader::build(200, None).unwrap();
            for (name, value) in headers {
                response.append_header(*name, *value).unwrap();
            }
            assert_eq!(take_commands(&mut response), ends, "{headers:?}");
            let mut wire = Vec::new();
            response.header_to_h1_wire(&mut wire);
            let wire = String::from_utf8(wire).unwrap().to_ascii_lowercase();
            assert!(!wire.contains("floodgate-command") && !wire.contains("waiting-room-command"), "{wire}");
        }
    }

    #[test]
    fn only_the_gate_speaks() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in [
            ("Floodgate-Room", "a"),
            ("floodgate-room", "b"),
            ("Floodgate_Visitor", "c"),
            ("X-Forwarded-For", "6.6.6.6"),
            ("x-forwarded-for", "7.7.7.7"),
            ("Cookie", "a=1; fg_t_hall=x; b=2"),
            ("Cookie", "fg_p_hall=y; fg_e_hall=z; c=3"),
        ] {
            request.append_header(name, value).unwrap();
        }
        let admitted = Admitted { room: "hall".into(), visitor: "v".into(), lease: 7, pass: "p".into() };
        apply(&mut request, "192.0.2.1".parse().unwrap(), &"a".repeat(32), Some(&admitted), None).unwrap();
        let all = |name: &str| {
            request.headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(all("floodgate-room"), ["hall"]);
        assert_eq!(all("floodgate-lease"), ["7"]);
        assert_eq!(all("floodgate_visitor"), [""; 0]);
        assert_eq!(all("x-forwarded-for"), [""; 0]);
        assert_eq!(all("cookie"), ["a=1; b=2; c=3"]);
        let mut wire = Vec::new();
        request.header_to_h1_wire(&mut wire);
        let wire = String::from_utf8(wire).unwrap().to_ascii_lowercase();
        assert_eq!(wire.matches("floodgate-room").count(), 1, "{wire}");
        assert!(!wire.contains("6.6.6.6") && !wire.contains("floodgate_"), "{wire}");
    }
}
