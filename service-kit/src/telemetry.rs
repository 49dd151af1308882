//! Logs as JSON lines on standard output, and the Prometheus recorder.

use crate::metric::{self, buckets};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::io::Write;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Histograms of a role: metric name and bucket bounds. A histogram without bounds would be
/// exported as a summary, which Prometheus cannot add up over instances.
pub type Histograms = &'static [(&'static str, &'static [f64])];

/// Starts JSON logging to standard output. `RUST_LOG` filters; the default is `info`.
/// Calling it twice does nothing.
pub fn init_logs() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,fred=error,pingora=warn,pingora_core=warn,pingora_proxy=warn,hyper=warn,h2=warn,refinery=warn,refinery_core=warn"));
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(Stdout)
        .try_init();
}

struct Stdout;
impl<'a> MakeWriter<'a> for Stdout {
    type Writer = StdoutLine;
    fn make_writer(&'a self) -> StdoutLine {
        StdoutLine
    }
}
/// Writes whole lines and never panics when the reader of a pipe is gone.
struct StdoutLine;
impl Write for StdoutLine {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stdout().lock().write_all(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Installs the process-wide metrics recorder and returns the handle that renders `/metrics`.
/// Upkeep runs on a thread of its own: without it, samples pile up until a scrape.
///
/// # Errors
/// When a recorder is installed already or a histogram has no bounds.
pub fn init_metrics(role: &'static str, histograms: Histograms) -> anyhow::Result<PrometheusHandle> {
    let mut builder = PrometheusBuilder::new();
    let common: Histograms = &[(metric::SCRIPT_DURATION, buckets::REDIS)];
    for (name, bounds) in common.iter().chain(histograms) {
        builder = builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), bounds)?;
    }
    // A histogram that nobody named must not turn into a summary.
    let handle = builder.set_buckets(buckets::REQUEST)?.install_recorder()?;
    let upkeep = handle.clone();
    std::thread::Builder::new().name("metrics-upkeep".into()).spawn(move || {
        loop {
            std::thread::sleep(std::time::Duration::from_secs(5));
            upkeep.run_upkeep();
        }
    })?;
    metrics::describe_histogram!(metric::SCRIPT_DURATION, metrics::Unit::Seconds, "Redis scripts, seen from our side");
    metrics::describe_counter!(metric::SCRIPT_ERRORS, "Redis scripts that failed");
    metrics::describe_gauge!(metric::BUILD_INFO, "Version of this process");
    metrics::gauge!(metric::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "role" => role).set(1.0);
    Ok(handle)
}
