//! Units that are taken for a while, and how many there are at one instant.

use std::collections::BTreeMap;

/// From when until when units are certainly (or possibly) taken, in microseconds.
pub struct Span {
    /// From here on.
    pub from: u64,
    /// Until here, not included.
    pub until: u64,
    /// So many.
    pub units: i64,
}

/// The most units that spans hold at one instant, and that instant. One sweep: O(n log n).
pub fn most<'s>(spans: impl IntoIterator<Item = &'s Span>) -> (i64, u64) {
    let mut edges: Vec<(u64, bool, i64)> = Vec::new();
    for span in spans.into_iter().filter(|span| span.from < span.until) {
        edges.push((span.from, true, span.units));
        edges.push((span.until, false, span.units));
    }
    // Ends before starts at the same instant: touching spans do not overlap.
    edges.sort_unstable_by_key(|(at, is_start, _)| (*at, *is_start));
    let (mut now, mut top) = (0, (0, 0));
    for (at, is_start, units) in edges {
        now += if is_start { units } else { -units };
        if now > top.0 {
            top = (now, at);
        }
    }
    top
}

/// The number of units over time: `(from, units)`, by time.
pub fn steps(spans: &[Span]) -> Vec<(u64, i64)> {
    let mut edges: BTreeMap<u64, i64> = BTreeMap::new();
    for span in spans {
        *edges.entry(span.from).or_default() += span.units;
        // The end counts as taken: in doubt for the accused.
        *edges.entry(span.until.saturating_add(1)).or_default() -= span.units;
    }
    let mut now = 0;
    edges
        .into_iter()
        .map(|(at, change)| {
            now += change;
            (at, now)
        })
        .collect()
}

/// The most units at any instant from `t0` to `t1`.
pub fn most_in(curve: &[(u64, i64)], t0: u64, t1: u64) -> i64 {
    let from = curve.partition_point(|(at, _)| *at <= t0).saturating_sub(1);
    let until = curve.partition_point(|(at, _)| *at <= t1);
    let inside = curve.get(from..until).unwrap_or(&[]);
    inside.iter().filter(|(at, _)| *at <= t1).map(|(_, units)| *units).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sweep_finds_the_top() {
        let span = |from, until, units| Span { from, until, units };
        assert_eq!(most(&[span(0, 10, 1), span(10, 20, 1), span(5, 6, 3)]), (4, 5));
        assert_eq!(most(&[]), (0, 0));
        let curve = steps(&[span(10, 20, 2), span(15, 30, 1)]);
        assert_eq!(
            [most_in(&curve, 0, 9), most_in(&curve, 0, 10), most_in(&curve, 18, 50), most_in(&curve, 25, 26)],
            [0, 2, 3, 1]
        );
    }
}
