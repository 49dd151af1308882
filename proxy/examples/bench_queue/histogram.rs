//! Latencies in logarithmic buckets of 1/16: 6 % exact, a few hundred counters.

use std::time::Duration;

const STEPS: usize = 16;
const BUCKETS: usize = 48 * STEPS;

#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS] }
    }
}

impl Histogram {
    pub fn record(&mut self, took: Duration) {
        let us = took.as_micros().max(1);
        let bucket = ((us as f64).log2() * STEPS as f64) as usize;
        if let Some(count) = self.counts.get_mut(bucket.min(BUCKETS - 1)) {
            *count += 1;
        }
    }
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }
    /// The value below which a share (0 to 1) of all latencies lies, in milliseconds.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let all: u64 = self.counts.iter().sum();
        let wanted = (all as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return ((bucket as f64 + 0.5) / STEPS as f64).exp2() / 1_000.0;
            }
        }
        f64::INFINITY
    }
}
