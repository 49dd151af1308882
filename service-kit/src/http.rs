//! What every HTTP edge shares: strict JSON bodies, trace ids, and a server with a bounded drain.

use crate::problem::{Problem, Slug};
use crate::shutdown::Shutdown;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::time::Duration;

/// Largest JSON body that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// A JSON body, read strictly: right content type, no unknown field (where `T` says so), and an
/// error that names the field. Anything else is a 4xx problem before the handler runs.
#[derive(Debug)]
pub struct StrictJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for StrictJson<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let json =
            request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(|v| {
                v.split(';').next().is_some_and(|m| m.trim().eq_ignore_ascii_case("application/json"))
            });
        if !json {
            return Err(Problem::new(Slug::BadRequest, "Send the body as `Content-Type: application/json`."));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            use axum::response::IntoResponse as _;
            if rejection.into_response().status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
                Problem::new(Slug::BodyTooLarge, format!("A body has at most {BODY_BYTES_MAX} bytes."))
            } else {
                Problem::new(Slug::BadRequest, "The body did not arrive whole. Send it again.")
            }
        })?;
        parse(&bytes).map(StrictJson)
    }
}

/// Parses JSON with an error that names the field.
///
/// # Errors
/// A `bad-request` problem for broken JSON, `invalid-field` for a field of the wrong type or name.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let path = e.path().to_string();
        let inner = e.into_inner();
        match inner.classify() {
            serde_json::error::Category::Data => Problem::field(&path, inner.to_string()),
            _ => Problem::new(Slug::BadRequest, format!("The body is not valid JSON: {inner}")),
        }
    })?;
    reader.end().map_err(|e| Problem::new(Slug::BadRequest, format!("The body is not valid JSON: {e}")))?;
    Ok(value)
}

/// The trace id of a request: from a well-formed W3C `traceparent`, else a new one. 32 hex digits.
pub fn trace_id(headers: &HeaderMap) -> String {
    headers
        .get("traceparent")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split('-').nth(1))
        .filter(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0'))
        .map_or_else(new_trace_id, str::to_ascii_lowercase)
}

/// A fresh trace id.
pub fn new_trace_id() -> String {
    // Not by `Uuid::new_v4`: that asks the kernel each time, which a forwarded request can feel.
    format!("{:032x}", rand::random::<u128>().max(1))
}

/// A `traceparent` header value for a call made on behalf of `trace_id` (W3C Trace Context).
pub fn traceparent(trace_id: &str) -> String {
    format!("00-{trace_id}-{:016x}-01", rand::random::<u64>().max(1))
}

/// One cookie of a request by name. Broken pairs beside it do no harm.
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(n, _)| *n == name)
        .map(|(_, v)| v)
}

/// Serves `router` on `listen` until shutdown, then gives open requests `drain_ms`.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(listen: SocketAddr, router: Router, shutdown: Shutdown, drain_ms: u64) -> anyhow::Result<()> {
    let listener =
        tokio::net::TcpListener::bind(listen).await.map_err(|e| anyhow::anyhow!("listen on {listen}: {e}"))?;
    tracing::info!(%listen, "listening");
    let stop = shutdown.clone();
    let server = axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async move { stop.requested().await });
    tokio::select! {
        result = server => result.map_err(Into::into),
        () = async { shutdown.requested().await; tokio::time::sleep(Duration::from_millis(drain_ms)).await } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[allow(dead_code)]
        quantity: crate::money::Quantity,
    }

    #[test]
    fn bad_bodies_name_the_field() {
        assert!(parse::<Body>(br#"{"quantity": 1}"#).is_ok());
        for (body, slug, named) in [
            (&br#"{"quantity": -1}"#[..], Slug::InvalidField, "quantity"),
            (br#"{"quantity": 1.5}"#, Slug::InvalidField, "quantity"),
            (br#"{"quantity": "1"}"#, Slug::InvalidField, "quantity"),
            (br#"{"quantity": 1, "price": 0}"#, Slug::InvalidField, "price"),
            (br#"{"quantity": 1}}"#, Slug::BadRequest, "JSON"),
            (br#"{"quantity": "#, Slug::BadRequest, "JSON"),
        ] {
            let problem = parse::<Body>(body).unwrap_err();
            assert_eq!(problem.slug, slug, "{}", problem.detail);
            assert!(problem.detail.contains(named), "{}", problem.detail);
        }
    }

    #[test]
    fn cookies_are_found_wherever_they_stand() {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", "sid=1; broken; queue=abc; queue2=x".parse().unwrap());
        assert_eq!(cookie(&headers, "queue"), Some("abc"));
        assert_eq!(cookie(&headers, "nothing"), None);
    }

    #[test]
    fn only_a_well_formed_trace_id_is_taken_over() {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap());
        assert_eq!(trace_id(&headers), "4bf92f3577b34da6a3ce929d0e0e4736");
        headers.insert("traceparent", "00-zz-00f067aa0ba902b7-01".parse().unwrap());
        assert_eq!(trace_id(&headers).len(), 32);
    }
}
