//! The goals, and how a figure stands against them. They are those of the issue and are never loosened.

use crate::say;

/// A figure next to its goal.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Goal {
    pub name: String,
    pub figure: f64,
    pub limit: f64,
    pub unit: &'static str,
    /// `None`: could not be measured here.
    pub met: Option<bool>,
    pub detail: String,
}

impl Goal {
    /// `figure` must not be above `limit`.
    pub fn at_most(name: impl Into<String>, figure: f64, limit: f64, unit: &'static str, detail: String) -> Self {
        let met = figure.is_finite().then_some(figure <= limit);
        Self { name: name.into(), figure, limit, unit, met, detail }
    }
    pub fn print(&self) {
        let verdict = match self.met {
            Some(true) => "ok",
            Some(false) => "MISSED",
            None => "not measured",
        };
        let Self { name, figure, limit, unit, detail, .. } = self;
        say(&format!("{verdict:<13}{name:<46}{figure:>10.2} {unit:<6} goal ≤ {limit:.2} {unit}  {detail}"));
    }
}

/// The middle of some figures.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted.get(n / 2).copied().unwrap_or(f64::NAN),
        n => sorted.get(n / 2 - 1..=n / 2).map_or(f64::NAN, |pair| pair.iter().sum::<f64>() / 2.0),
    }
}
