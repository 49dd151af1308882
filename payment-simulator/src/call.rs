//! What the calls of Toss and Stripe have in common: an answer that can be kept byte for byte, and the way of a request
//! through its fault.
//!
//! The effect runs in a task of its own: a client that hangs up in the middle stops nothing half-way, and its
//! idempotency key does not stay "running" for ever.

use crate::accept::Hangup;
use crate::fault::{Fault, Provider};
use crate::server::Simulator;
use crate::store::State;
use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use std::time::Duration;

/// An answer, ready to be sent any number of times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers besides the content type.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// JSON.
    pub body: Bytes,
}

impl Answer {
    /// An answer with a JSON text.
    pub fn new(status: u16, json: String) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, headers: Vec::new(), body: json.into() }
    }
    /// With one more header; a value that no header can carry is left out.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((HeaderName::from_static(name), value));
        }
        self
    }
    /// As a response.
    pub fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response
    }
}

/// What an effect gives back.
#[derive(Debug)]
pub struct Done {
    /// The answer.
    pub answer: Answer,
    /// Whether it is bound to the idempotency key.
    pub keep: bool,
}

/// Carries out one call: wait, effect, fault, and what is kept under `key`. `internal` is the answer that hides an
/// effect.
pub async fn carry_out(
    sim: &Simulator,
    key: Option<(Provider, String)>,
    fault: Option<Fault>,
    internal: Answer,
    effect: impl FnOnce(&mut State) -> Done + Send + 'static,
) -> Response {
    let whole = {
        let sim = sim.clone();
        async move {
            if let Some(Fault::DelayBefore(ms)) = fault {
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            let Done { mut answer, keep } = effect(&mut *sim.lock().await);
            match fault {
                Some(Fault::ErrorAfterEffect) => answer = internal,
                Some(Fault::Delay(ms)) => tokio::time::sleep(Duration::from_millis(ms)).await,
                _ => {}
            }
            if let Some((provider, key)) = key {
                let mut state = sim.lock().await;
                if let Some(memory) = state.memory(provider) {
                    memory.finish(&key, keep.then(|| answer.clone()));
                }
            }
            answer
        }
    };
    match tokio::spawn(whole).await {
        Ok(_) if fault == Some(Fault::DropAfterEffect) => Hangup::response(),
        Ok(answer) => answer.into_response(),
        Err(_) => Answer::new(500, "{}".to_owned()).into_response(),
    }
}
