//! The provider writes amounts as numbers in the currency of the payment: `12900` won, `12.9` dollars. Inside, everything
//! is whole minor units; numbers with a fraction exist only in JSON, on the way in and out.

use serde_json::{Number, Value};
use service_kit::money::{AMOUNT_MINOR_MAX, Currency};

/// Minor units of a number; none when it is negative, too large, or finer than the currency.
pub fn minor_of(amount: &Number, currency: Currency) -> Option<i64> {
    let unit = 10_i64.checked_pow(currency.digits())?;
    let minor = match amount.as_i64() {
        Some(whole) => whole.checked_mul(unit)?,
        None => {
            let exact = amount.as_f64()? * 10_f64.powi(i32::try_from(currency.digits()).ok()?);
            // A double holds every amount up to the largest exactly; the bound also keeps the conversion from wrapping.
            let near = exact.is_finite() && exact.abs() < 1e15 && (exact - exact.round()).abs() < 1e-6;
            near.then(|| exact.round() as i64)?
        }
    };
    (0..=AMOUNT_MINOR_MAX).contains(&minor).then_some(minor)
}

/// The number of an amount: whole for won.
pub fn number_of(minor: i64, currency: Currency) -> Value {
    match currency.digits() {
        0 => minor.into(),
        _ => {
            let text = format!("{}.{:02}", minor / 100, minor % 100);
            text.parse::<f64>().map_or_else(|_| minor.into(), Into::into)
        }
    }
}

/// The value added tax in an amount: an eleventh of what is taxed, rounded to the nearest unit.
pub fn vat_of(minor: i64, tax_free: i64) -> i64 {
    (minor.saturating_sub(tax_free).max(0) + 5) / 11
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_or_refused() {
        let minor = |text: &str, currency| minor_of(&serde_json::from_str(text).unwrap(), currency);
        assert_eq!(minor("12900", Currency::KRW), Some(12_900));
        assert_eq!(minor("12900.0", Currency::KRW), Some(12_900));
        assert_eq!(minor("12.34", Currency::USD), Some(1_234));
        assert_eq!(minor("0.29", Currency::USD), Some(29));
        for (bad, currency) in [
            ("12.345", Currency::USD),
            ("0.5", Currency::KRW),
            ("-1", Currency::KRW),
            ("1e30", Currency::KRW),
            ("1000000000001", Currency::KRW),
        ] {
            assert_eq!(minor(bad, currency), None, "{bad}");
        }
        assert_eq!(number_of(1_234, Currency::USD).to_string(), "12.34");
        assert_eq!(number_of(1_200, Currency::USD).to_string(), "12.0");
        assert_eq!(number_of(12_900, Currency::KRW).to_string(), "12900");
        assert_eq!((vat_of(12_900, 0), vat_of(0, 0), vat_of(100, 200)), (1_173, 0, 0));
    }
}
