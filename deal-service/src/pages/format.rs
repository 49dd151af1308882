//! Money, times and durations in words, per language. Pure: no clock, no locale of the machine.

use super::lang::Lang;
use service_kit::money::{Currency, Money};
use time::{OffsetDateTime, UtcOffset};

/// Korea has had no daylight saving since 1988, so one offset is right for every sale. The pages name it.
const KOREA: UtcOffset = match UtcOffset::from_hms(9, 0, 0) {
    Ok(offset) => offset,
    Err(_) => UtcOffset::UTC,
};

/// `12,900원` in Korean, `₩12,900` in English; other currencies by their sign in both.
pub fn money(amount: Money, lang: Lang) -> String {
    let digits = amount.currency().digits();
    let unit = 10_i64.pow(digits);
    let mut number = grouped(amount.minor() / unit);
    if digits > 0 {
        number.push_str(&format!(".{:02}", amount.minor() % unit));
    }
    match (amount.currency(), lang) {
        (Currency::KRW, Lang::Ko) => format!("{number}원"),
        (Currency::KRW, Lang::En) => format!("₩{number}"),
        (Currency::JPY, _) => format!("¥{number}"),
        (Currency::USD, _) => format!("${number}"),
        (Currency::EUR, _) => format!("€{number}"),
    }
}

/// A whole number, never below zero, with a comma every three digits.
pub fn grouped(number: i64) -> String {
    service_kit::money::grouped(number.max(0).unsigned_abs())
}

/// Date and time to the minute in Korean time, e.g. `2026년 11월 21일 20:00` or `21 Nov 2026, 20:00 KST`.
pub fn date_time(at_ms: i64, lang: Lang) -> String {
    let t = korean(at_ms);
    let (hour, minute) = (t.hour(), t.minute());
    match lang {
        Lang::Ko => format!("{}년 {}월 {}일 {hour:02}:{minute:02}", t.year(), u8::from(t.month()), t.day()),
        Lang::En => {
            let month: String = t.month().to_string().chars().take(3).collect();
            format!("{} {month} {}, {hour:02}:{minute:02} KST", t.day(), t.year())
        }
    }
}

/// The time of day to the second in Korean time, `20:00:12`.
pub fn clock(at_ms: i64) -> String {
    let t = korean(at_ms);
    format!("{:02}:{:02}:{:02}", t.hour(), t.minute(), t.second())
}

/// A time left in one rounded unit. Rounded down: a promise of time must never be too long.
pub fn left(left_ms: i64, lang: Lang) -> String {
    let minutes = left_ms.max(0) / 60_000;
    let (hours, days) = (minutes / 60, minutes / 1_440);
    let (n, ko, en) = match minutes {
        0 => return lang.text().under_a_minute.to_owned(),
        1..=119 => (minutes, "분", "minute"),
        120..=2_879 => (hours, "시간", "hour"),
        _ => (days, "일", "day"),
    };
    match lang {
        Lang::Ko => format!("{n}{ko}"),
        Lang::En => format!("{n} {en}{}", if n == 1 { "" } else { "s" }),
    }
}

fn korean(at_ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at_ms.div_euclid(1_000)).unwrap_or(OffsetDateTime::UNIX_EPOCH).to_offset(KOREA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_reads_as_people_write_it() {
        let of = |minor, currency, lang| money(Money::new(minor, currency).unwrap(), lang);
        assert_eq!(of(1_290_000, Currency::KRW, Lang::Ko), "1,290,000원");
        assert_eq!(of(900, Currency::KRW, Lang::En), "₩900");
        assert_eq!(of(123_405, Currency::USD, Lang::Ko), "$1,234.05");
        assert_eq!(of(5, Currency::EUR, Lang::En), "€0.05");
        assert_eq!(of(100_000, Currency::JPY, Lang::En), "¥100,000");
    }

    #[test]
    fn times_are_korean_and_say_so() {
        let at = 1_795_258_812_000; // 2026-11-21T11:00:12Z
        assert_eq!(date_time(at, Lang::Ko), "2026년 11월 21일 20:00");
        assert_eq!(date_time(at, Lang::En), "21 Nov 2026, 20:00 KST");
        assert_eq!(clock(at), "20:00:12");
        assert_eq!(clock(-1), "08:59:59");
        assert!(date_time(i64::MAX, Lang::Ko).starts_with("1970"), "an impossible time does no harm");
    }

    #[test]
    fn time_left_is_rounded_down_to_one_unit() {
        assert_eq!(left(59_999, Lang::En), "less than a minute");
        assert_eq!(left(119_999, Lang::En), "1 minute");
        assert_eq!(left(600_000, Lang::Ko), "10분");
        assert_eq!(left(7_200_000, Lang::En), "2 hours");
        assert_eq!(left(200_000_000, Lang::Ko), "2일");
        assert_eq!(left(9 * 86_400_000, Lang::Ko), "9일");
        assert_eq!(left(-5, Lang::Ko), "1분 미만");
    }
}
