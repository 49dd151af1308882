//! The goals, and how a figure stands against them. They are those of the issue and are never loosened.

use crate::say;

/// A figure next to its goal.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Goal {
    pub name: String,
    pub figure: f64,
    pub limit: f64,
    pub unit: &'static str,
    /// Whether the figure must not be above the limit; else it must not be below it.
    pub at_most: bool,
    /// `None`: could not be measured here.
    pub met: Option<bool>,
    pub detail: String,
}

impl Goal {
    /// `figure` must not be above `limit`.
    pub fn at_most(name: &str, figure: f64, limit: f64, unit: &'static str, detail: String) -> Self {
        let met = figure.is_finite().then_some(figure <= limit);
        Self { name: name.into(), figure, limit, unit, at_most: true, met, detail }
    }
    /// `figure` must not be below `limit`.
    pub fn at_least(name: &str, figure: f64, limit: f64, unit: &'static str, detail: String) -> Self {
        let met = figure.is_finite().then_some(figure >= limit);
        Self { name: name.into(), figure, limit, unit, at_most: false, met, detail }
    }
    pub fn print(&self) {
        let verdict = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        let Self { name, figure, limit, unit, at_most, detail, .. } = self;
        let sign = if *at_most { "≤" } else { "≥" };
        say(&format!("{verdict:<13}{name:<44}{figure:>10.2} {unit:<3} goal {sign} {limit:.2} {unit}  {detail}"));
    }
}

/// The middle of some figures.
pub fn median(figures: &[f64]) -> f64 {
    quantile(figures, 0.5)
}

/// The figure below or at which this share (0 to 1) of all lies; NaN of nothing.
pub fn quantile(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let wanted = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(wanted.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
