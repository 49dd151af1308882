//! What every request gets, from the outside in: a trace id and one log line, a net under panics, a limit for bodies.

use super::TraceId;
use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::{HeaderValue, Method};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use service_kit::clock::monotonic;
use service_kit::http::{BODY_BYTES_MAX, trace_id};
use service_kit::problem::Problem;
use std::any::Any;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument as _;

/// Wraps all routes.
pub fn wrap(router: Router) -> Router {
    router
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(after_panic))
        .layer(from_fn(trace))
}

async fn trace(mut request: Request, next: Next) -> Response {
    let id = trace_id(request.headers());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "-".to_owned(), |m| m.as_str().to_owned());
    request.extensions_mut().insert(TraceId(id.clone()));
    let started = monotonic();
    let span = tracing::info_span!("request", trace_id = %id);
    let mut response = next.run(request).instrument(span).await;
    // Reading pages are too many to log one by one; the gate counts them.
    if !matches!(method, Method::GET | Method::HEAD | Method::OPTIONS) {
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(trace_id = %id, %method, route, status = response.status().as_u16(), duration_ms, "answered");
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

fn after_panic(panic: Box<dyn Any + Send + 'static>) -> Response {
    let what = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "a panic without words".to_owned());
    Problem::internal(&what).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;

    #[tokio::test]
    async fn a_panic_is_a_problem_document() {
        let router = wrap(Router::new().route("/", get(|| async { panic!("boom") as () })));
        let (listener, client) = (tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(), reqwest_free_get);
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let text = client(address).await;
        assert!(
            text.starts_with("HTTP/1.1 500") && text.contains("application/problem+json") && !text.contains("boom"),
            "{text}"
        );
        assert!(text.contains("x-request-id"), "{text}");
        let _ = Body::empty();
    }

    async fn reqwest_free_get(address: std::net::SocketAddr) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }
}
