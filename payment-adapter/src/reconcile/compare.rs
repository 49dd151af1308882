//! Our books beside the provider's, payment by payment. Pure.

use crate::provider::Listed;
use ledger::{Booked, DiscrepancyClass};
use std::collections::BTreeMap;

/// A payment that moved less than this ago is not compared, in ms: one of the two sides may be a moment behind.
pub const SETTLING_MS: i64 = 10_000;

/// What a provider has of one payment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Theirs {
    /// Taken, in minor units.
    pub captured_minor: i64,
    /// Given back, in minor units.
    pub refunded_minor: i64,
    /// Of this currency.
    pub currency: String,
}

/// Adds a listing up by payment.
pub fn sums(entries: &[Listed]) -> BTreeMap<&str, (Theirs, &Listed)> {
    let mut sums: BTreeMap<&str, (Theirs, &Listed)> = BTreeMap::new();
    for entry in entries {
        let (theirs, _) = sums.entry(&entry.reference).or_insert_with(|| (Theirs::default(), entry));
        theirs.captured_minor = theirs.captured_minor.saturating_add(entry.captured_minor);
        theirs.refunded_minor = theirs.refunded_minor.saturating_add(entry.refunded_minor);
        theirs.currency.clone_from(&entry.currency);
    }
    sums
}

/// What the comparison of one payment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Both sides have the same.
    Agrees,
    /// They have not: in class and words.
    Differs(DiscrepancyClass, String),
    /// One of the two sides may be a moment behind. That proves no difference, and it settles none either.
    NotNow,
}

/// Compares one payment. `theirs` must be all that the provider has of it.
pub fn compare(ours: &Booked, theirs: &Theirs, now_ms: i64) -> Verdict {
    if ours.refunding_minor > 0 || now_ms.saturating_sub(ours.updated_at_ms) < SETTLING_MS {
        return Verdict::NotNow;
    }
    let (class, agrees) = if ours.state == "captured" {
        let same = ours.captured_minor == theirs.captured_minor
            && ours.refunded_minor == theirs.refunded_minor
            && ours.currency.eq_ignore_ascii_case(&theirs.currency);
        (DiscrepancyClass::Amount, same)
    } else {
        // What was taken and given back in full is nobody's any more.
        (DiscrepancyClass::State, theirs.captured_minor <= theirs.refunded_minor)
    };
    if agrees {
        return Verdict::Agrees;
    }
    let figures = format!(
        "ours: {} captured {} refunded {} {}; theirs: captured {} refunded {} {}",
        ours.state,
        ours.captured_minor,
        ours.refunded_minor,
        ours.currency,
        theirs.captured_minor,
        theirs.refunded_minor,
        theirs.currency
    );
    Verdict::Differs(class, figures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::About;
    use service_kit::ids::PaymentId;

    fn ours(state: &str, captured_minor: i64, refunded_minor: i64) -> Booked {
        Booked {
            payment: PaymentId::new(),
            order: PaymentId::new().0,
            provider_ref: Some("r".into()),
            approval_code: None,
            state: state.into(),
            captured_minor,
            refunded_minor,
            refunding_minor: 0,
            currency: "KRW".into(),
            updated_at_ms: 0,
        }
    }
    fn theirs(captured_minor: i64, refunded_minor: i64) -> Theirs {
        Theirs { captured_minor, refunded_minor, currency: "KRW".into() }
    }

    /// The class of a difference; `None` when both agree.
    fn class(ours: &Booked, theirs: &Theirs) -> Option<DiscrepancyClass> {
        match compare(ours, theirs, 1_000_000) {
            Verdict::Agrees => None,
            Verdict::Differs(class, _) => Some(class),
            Verdict::NotNow => panic!("nothing moves here"),
        }
    }

    #[test]
    fn every_difference_has_its_class() {
        assert_eq!(class(&ours("captured", 100, 0), &theirs(100, 0)), None);
        assert_eq!(class(&ours("captured", 100, 40), &theirs(100, 40)), None);
        assert_eq!(class(&ours("captured", 100, 0), &theirs(99, 0)), Some(DiscrepancyClass::Amount));
        assert_eq!(class(&ours("captured", 100, 0), &theirs(100, 1)), Some(DiscrepancyClass::Amount));
        let dollars = Theirs { currency: "USD".into(), ..theirs(100, 0) };
        assert_eq!(class(&ours("captured", 100, 0), &dollars), Some(DiscrepancyClass::Amount));
        for state in ["unknown", "expired", "failed", "cancelled", "ready"] {
            assert_eq!(class(&ours(state, 0, 0), &theirs(100, 0)), Some(DiscrepancyClass::State), "{state}");
            assert_eq!(class(&ours(state, 0, 0), &theirs(100, 100)), None, "{state}: given back in full");
            assert_eq!(class(&ours(state, 0, 0), &theirs(0, 0)), None, "{state}");
        }
    }

    #[test]
    fn what_moves_just_now_neither_differs_nor_agrees() {
        let mut moving = ours("captured", 100, 0);
        moving.refunding_minor = 50;
        for theirs in [theirs(100, 50), theirs(100, 0)] {
            assert_eq!(compare(&moving, &theirs, 1_000_000), Verdict::NotNow);
            for state in ["captured", "unknown"] {
                assert_eq!(compare(&ours(state, 100, 0), &theirs, SETTLING_MS - 1), Verdict::NotNow, "{state}");
            }
        }
        let settled = compare(&ours("unknown", 0, 0), &theirs(100, 0), SETTLING_MS);
        assert!(matches!(settled, Verdict::Differs(DiscrepancyClass::State, _)), "{settled:?}");
        assert_eq!(compare(&ours("captured", 100, 0), &theirs(100, 0), SETTLING_MS), Verdict::Agrees);
    }

    #[test]
    fn entries_of_one_payment_are_added_up() {
        let entry = |reference: &str, captured_minor, refunded_minor| Listed {
            reference: reference.into(),
            about: About::Nothing,
            captured_minor,
            refunded_minor,
            currency: "KRW".into(),
        };
        let entries = [entry("a", 100, 0), entry("b", 5, 0), entry("a", 0, 30), entry("a", 0, 20)];
        let sums = sums(&entries);
        assert_eq!(sums["a"].0, theirs(100, 50));
        assert_eq!(sums["b"].0, theirs(5, 0));
    }
}
