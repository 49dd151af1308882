//! The admin port of every role: `/healthz` (the process lives), `/readyz` (it can do its work),
//! `/metrics` (Prometheus). Loopback unless told otherwise; never the public port.

use crate::shutdown::Shutdown;
use axum::{Router, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc};

/// Answers whether the role can do its work now; the error says what is missing.
pub type Ready = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// The routes of the admin port, for a role that adds routes of its own to them.
pub fn router(metrics: PrometheusHandle, ready: Ready) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || {
                let check = ready();
                async move {
                    match check.await {
                        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
                        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
                    }
                }
            }),
        )
        .route(
            "/metrics",
            get(move || {
                let body = metrics.render();
                async move { ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], body) }
            }),
        )
}

/// Serves the admin port until shutdown.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    listen: SocketAddr,
    metrics: PrometheusHandle,
    ready: Ready,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let listener =
        tokio::net::TcpListener::bind(listen).await.map_err(|e| anyhow::anyhow!("admin port {listen}: {e}"))?;
    let stop = shutdown.clone();
    axum::serve(listener, router(metrics, ready)).with_graceful_shutdown(async move { stop.requested().await }).await?;
    Ok(())
}

/// A check that always says yes, for roles without a store.
pub fn always_ready() -> Ready {
    Arc::new(|| Box::pin(async { Ok(()) }))
}
