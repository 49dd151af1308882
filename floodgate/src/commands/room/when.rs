//! Times as people write them: RFC 3339, or from now on.

use service_kit::clock;

/// Longest span, in days.
const DAYS_MAX: i64 = 3_650;

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Milliseconds since the Unix epoch.
    At(i64),
    /// Milliseconds from now.
    In(i64),
}

impl When {
    /// The moment, if it is `now_ms` now.
    pub fn ms(self, now_ms: i64) -> i64 {
        match self {
            Self::At(ms) => ms,
            Self::In(ms) => now_ms.saturating_add(ms),
        }
    }
}

/// `90s`, `10m`, `2h`, `1d` as milliseconds.
pub fn parse_span(text: &str) -> Result<i64, String> {
    let wrong = || "write a span like 90s, 10m, 2h or 1d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let unit_ms = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return Err(wrong()),
    };
    let number: i64 = text.strip_suffix(unit).and_then(|n| n.parse::<u32>().ok()).ok_or_else(wrong)?.into();
    let ms = number.saturating_mul(unit_ms);
    if ms == 0 || ms > DAYS_MAX * 86_400_000 {
        return Err(format!("a span is longer than nothing and at most {DAYS_MAX} days"));
    }
    Ok(ms)
}

/// A time in RFC 3339, or `+` and a span.
pub fn parse_when(text: &str) -> Result<When, String> {
    if let Some(span) = text.strip_prefix('+') {
        return parse_span(span).map(When::In);
    }
    clock::parse_rfc3339(text)
        .map(When::At)
        .ok_or_else(|| "write a time like 2026-11-21T12:00:00+09:00, or +10m for ten minutes from now".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_from_now_on() {
        assert_eq!(parse_when("+10m").map(|w| w.ms(1_000)), Ok(601_000));
        assert_eq!(parse_when("1970-01-01T09:00:01+09:00").map(|w| w.ms(5)), Ok(1_000));
        assert_eq!(
            (parse_span("90s"), parse_span("2h"), parse_span("1d")),
            (Ok(90_000), Ok(7_200_000), Ok(86_400_000))
        );
        for wrong in ["", "10", "m", "+", "+10", "+-5m", "-5m", "0s", "1w", "5분", "tomorrow", "99999d", "1.5h"] {
            assert!(parse_when(wrong).is_err() && parse_span(wrong).is_err(), "{wrong}");
        }
    }
}
