//! A shop's address for webhooks that remembers what came and answers as it is told.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::sync::Mutex;

#[derive(Debug, Clone)]
pub struct Got {
    pub headers: HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

#[derive(Clone, Default)]
pub struct Hook {
    pub url: String,
    status: Arc<AtomicU16>,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Hook {
    pub async fn open() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let hook = Self { url, status: Arc::new(AtomicU16::new(200)), ..Self::default() };
        let router = Router::new()
            .fallback(take)
            .layer(axum::extract::DefaultBodyLimit::max(4 * 1024 * 1024))
            .with_state(hook.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        hook
    }
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }
    /// Everything that came so far, and forgets it.
    pub async fn take(&self) -> Vec<Got> {
        std::mem::take(&mut *self.got.lock().await)
    }
}

async fn take(State(hook): State<Hook>, headers: HeaderMap, bytes: Bytes) -> StatusCode {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    hook.got.lock().await.push(Got { headers, text, body });
    StatusCode::from_u16(hook.status.load(Ordering::Relaxed)).unwrap()
}
