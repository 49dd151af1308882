//! Names of the metrics that every process has. Each room keeps its own names in its own `metric.rs`.

/// Time of one Redis script from our side, in seconds. Label `script`.
pub const SCRIPT_DURATION: &str = "floodgate_queue_script_duration_seconds";
/// Scripts that failed. Labels `script`, `reason`.
pub const SCRIPT_ERRORS: &str = "floodgate_queue_script_errors_total";
/// Always 1; labels `version`, `role`.
pub const BUILD_INFO: &str = "floodgate_build_info";

/// Bucket bounds by use; each has a bound exactly on its objective. Seconds unless said otherwise.
pub mod buckets {
    /// HTTP requests.
    pub const REQUEST: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    /// Redis and Lua.
    pub const REDIS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];
    /// Calls to payment providers.
    pub const PROVIDER: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0];
    /// Waiting in line.
    pub const WAIT: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0];
    /// From order to its end.
    pub const ORDER: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0];
    /// Error of the promised waiting time, as a ratio.
    pub const ETA_ERROR: &[f64] = &[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0];
}
