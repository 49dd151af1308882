//! Money as integer minor units, and quantities. Checked arithmetic only.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The largest amount of one order, in minor units. Keeps every sum far inside 64 bits.
pub const AMOUNT_MINOR_MAX: i64 = 1_000_000_000_000;
/// The most units one order may take.
pub const QUANTITY_MAX: i64 = 1_000;

/// The value was outside what money or a quantity may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAmount {
    /// Not between 0 and [`AMOUNT_MINOR_MAX`].
    #[error("an amount must be between 0 and {AMOUNT_MINOR_MAX} minor units")]
    Amount,
    /// Not between 1 and [`QUANTITY_MAX`].
    #[error("a quantity must be a whole number between 1 and {QUANTITY_MAX}")]
    Quantity,
    /// Not one of the currencies that the product knows.
    #[error("the currency must be one of KRW, USD, EUR, JPY")]
    Currency,
}

/// A currency by its ISO 4217 code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the codes are the standard's own")]
pub enum Currency {
    KRW,
    USD,
    EUR,
    JPY,
}

impl Currency {
    /// The three letters.
    pub fn code(self) -> &'static str {
        match self {
            Self::KRW => "KRW",
            Self::USD => "USD",
            Self::EUR => "EUR",
            Self::JPY => "JPY",
        }
    }
    /// How many digits the minor unit has (ISO 4217).
    pub fn digits(self) -> u32 {
        match self {
            Self::KRW | Self::JPY => 0,
            Self::USD | Self::EUR => 2,
        }
    }
}
impl FromStr for Currency {
    type Err = BadAmount;
    fn from_str(text: &str) -> Result<Self, BadAmount> {
        [Self::KRW, Self::USD, Self::EUR, Self::JPY].into_iter().find(|c| c.code() == text).ok_or(BadAmount::Currency)
    }
}

/// An amount of money: `minor` units of `currency`, never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

impl Money {
    /// # Errors
    /// When `minor` is negative or above [`AMOUNT_MINOR_MAX`].
    pub fn new(minor: i64, currency: Currency) -> Result<Self, BadAmount> {
        if (0..=AMOUNT_MINOR_MAX).contains(&minor) { Ok(Self { minor, currency }) } else { Err(BadAmount::Amount) }
    }
    /// Minor units: won for KRW, cents for USD.
    pub fn minor(self) -> i64 {
        self.minor
    }
    /// The currency.
    pub fn currency(self) -> Currency {
        self.currency
    }
    /// The price of `quantity` pieces.
    ///
    /// # Errors
    /// When the product passes [`AMOUNT_MINOR_MAX`].
    pub fn times(self, quantity: Quantity) -> Result<Self, BadAmount> {
        let minor = self.minor.checked_mul(quantity.get()).ok_or(BadAmount::Amount)?;
        Self::new(minor, self.currency)
    }
}
impl fmt::Display for Money {
    /// `₩12,900`-like text without a locale: `KRW 12,900`, `USD 12.90`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.currency.digits();
        let unit = 10_i64.pow(digits);
        let grouped = grouped((self.minor / unit).unsigned_abs());
        write!(f, "{} {grouped}", self.currency.code())?;
        if digits > 0 {
            write!(f, ".{:02}", self.minor % unit)?;
        }
        Ok(())
    }
}

/// `12,345,678`: digits in groups of three, as Korean and English write them.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// How many units of a deal: 1 to [`QUANTITY_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Quantity(i64);

impl Quantity {
    /// # Errors
    /// When `units` is not between 1 and [`QUANTITY_MAX`].
    pub fn new(units: i64) -> Result<Self, BadAmount> {
        if (1..=QUANTITY_MAX).contains(&units) { Ok(Self(units)) } else { Err(BadAmount::Quantity) }
    }
    /// The number of units.
    pub fn get(self) -> i64 {
        self.0
    }
}
impl TryFrom<i64> for Quantity {
    type Error = BadAmount;
    fn try_from(units: i64) -> Result<Self, BadAmount> {
        Self::new(units)
    }
}
impl From<Quantity> for i64 {
    fn from(q: Quantity) -> i64 {
        q.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_bounds() {
        assert!(Money::new(-1, Currency::KRW).is_err());
        assert!(Money::new(AMOUNT_MINOR_MAX + 1, Currency::KRW).is_err());
        let price = Money::new(AMOUNT_MINOR_MAX, Currency::KRW).unwrap();
        assert!(price.times(Quantity::new(2).unwrap()).is_err(), "no wrap, no surprise");
        for bad in [i64::MIN, -1, 0, QUANTITY_MAX + 1, i64::MAX] {
            assert!(Quantity::new(bad).is_err());
        }
    }

    #[test]
    fn money_reads_well() {
        assert_eq!(Money::new(1_234_567, Currency::KRW).unwrap().to_string(), "KRW 1,234,567");
        assert_eq!(Money::new(123_405, Currency::USD).unwrap().to_string(), "USD 1,234.05");
    }
}
