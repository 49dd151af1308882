//! Sends what is due. One task per simulator; each try is a task of its own, so that a slow shop holds up nobody, as
//! many at once as the configuration allows.

use crate::metric;
use crate::server::Simulator;
use crate::webhook::{ANSWER_TIMEOUT_MS, Job};
use axum::http::header;
use service_kit::shutdown::Shutdown;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Longest sleep between two looks at the clock, in milliseconds: this machine's clock may be set forward.
const NAP_MS: i64 = 1_000;
/// The most of an answer's reason that is kept, in characters.
const REASON_CHARS_MAX: usize = 200;

/// A client for webhooks: no redirects, no proxy, the time-out of the contract.
///
/// # Errors
/// When the TLS library cannot be started.
pub fn client() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(Duration::from_millis(ANSWER_TIMEOUT_MS))
        .build()?)
}

/// Sends until shutdown.
///
/// # Errors
/// When the semaphore is closed, which nobody does.
pub async fn run(sim: Simulator, http: reqwest::Client, shutdown: Shutdown) -> anyhow::Result<()> {
    let slots = Arc::new(Semaphore::new(sim.cfg.webhook_concurrency));
    let wake = sim.state.lock().await.webhooks.wake.clone();
    loop {
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot?,
            () = shutdown.requested() => return Ok(()),
        };
        let (job, nap_ms) = {
            let mut state = sim.lock().await;
            let now_ms = state.now_ms();
            let job = state.webhooks.take_due(now_ms);
            let next_ms = [state.next_due_ms(), state.webhooks.next_due_ms()].into_iter().flatten().min();
            (job, next_ms.map_or(NAP_MS, |next_ms| next_ms.saturating_sub(now_ms)).clamp(1, NAP_MS))
        };
        if let Some(job) = job {
            let (sim, http) = (sim.clone(), http.clone());
            tokio::spawn(async move {
                deliver(&sim, &http, job).await;
                drop(slot);
            });
            continue;
        }
        drop(slot);
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(nap_ms.unsigned_abs())) => {}
            () = shutdown.requested() => return Ok(()),
        }
    }
}

async fn deliver(sim: &Simulator, http: &reqwest::Client, job: Job) {
    let mut request = http.post(&job.url).header(header::CONTENT_TYPE, &job.message.content_type);
    for (name, value) in &job.headers {
        request = request.header(*name, value);
    }
    let outcome = match request.body(job.message.body.as_bytes().to_vec()).send().await {
        Ok(response) => Ok(response.status().as_u16()),
        Err(error) if error.is_timeout() => Err("no answer in time".to_owned()),
        Err(error) => Err(error.without_url().to_string().chars().take(REASON_CHARS_MAX).collect()),
    };
    let taken = sim.lock().await.webhooks.finish(job.id, outcome);
    let outcome = if taken { "delivered" } else { "failed" };
    metrics::counter!(metric::WEBHOOKS, "provider" => job.message.provider.name(), "outcome" => outcome).increment(1);
}
