//! Spellings of a time, Korean and otherwise. The time itself comes from [`crate::store::State::now_ms`].

const SEOUL_AHEAD_MS: i64 = 9 * 3_600_000;

/// Korean local time without a zone, `2026-11-21T12:00:00`.
pub fn seoul(ms: i64) -> String {
    service_kit::clock::rfc3339(ms.saturating_add(SEOUL_AHEAD_MS)).chars().take(19).collect()
}

/// Korean time with its zone, `2026-11-21T12:00:00+09:00`.
pub fn seoul_with_zone(ms: i64) -> String {
    format!("{}+09:00", seoul(ms))
}

/// Korean local time with microseconds and without a zone, `2026-11-21T12:00:00.123000`.
pub fn seoul_micros(ms: i64) -> String {
    format!("{}.{:03}000", seoul(ms), ms.rem_euclid(1_000))
}

/// Reads a time as the Korean API takes it: with a zone, without one (then Korean), or only a day.
pub fn parse_seoul(text: &str) -> Option<i64> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00+09:00"),
        _ if text.ends_with('Z') || text.get(19..).is_some_and(|rest| rest.contains(['+', '-'])) => text.to_owned(),
        _ => format!("{text}+09:00"),
    };
    service_kit::clock::parse_rfc3339(&whole)
}

/// Whole seconds since 1970.
pub fn unix_s(ms: i64) -> i64 {
    ms.div_euclid(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_spelled_in_korea() {
        let ms = service_kit::clock::parse_rfc3339("2026-11-21T03:00:00.123Z").unwrap();
        assert_eq!(seoul(ms), "2026-11-21T12:00:00");
        assert_eq!(seoul_with_zone(ms), "2026-11-21T12:00:00+09:00");
        assert_eq!(seoul_micros(ms), "2026-11-21T12:00:00.123000");
        for text in ["2026-11-21T12:00:00", "2026-11-21T12:00:00+09:00", "2026-11-21T03:00:00Z"] {
            assert_eq!(parse_seoul(text), Some(ms - 123), "{text}");
        }
        assert_eq!(parse_seoul("2026-11-22"), Some(ms - 123 + 12 * 3_600_000));
        assert_eq!(parse_seoul("yesterday"), None);
    }
}
