//! What to do with a payment, decided from its row and from what the provider said. Pure: no clock, no calls.
//!
//! | state | found by the worker when | step |
//! |---|---|---|
//! | requested | new, or a session could not be opened | prepare; give up after a bound: nobody was sent anywhere, so that is safe |
//! | ready | the shopper came back without a code, or the session is over | ask, then end it: money moves only by our confirm call, which was never made |
//! | authorized | the shopper came back with a code | confirm |
//! | confirming | an earlier worker's lease ran out: it was killed, or hangs, between its two notes | ask |
//! | unknown | an answer was lost or not explicit | ask |
//! | waiting | a deposit is awaited | ask |
//! | an end | a notice or the reconciliation says that the provider may see it otherwise | ask |
//!
//! A second confirm is made only after the provider said that no money moved, while its session lives; the provider
//! takes one confirm per session, so even a first one that arrives late cannot charge a second time.

use crate::provider::{Answer, Doubt, Outcome, Refusal, Standing};
use ledger::{Ended, PaymentState, PaymentWork};
use service_kit::money::Money;
use service_kit::planted;

/// First wait after an answer that settled nothing, in milliseconds.
pub const BACK_OFF_MS: i64 = 200;
/// Longest wait, in milliseconds.
pub const BACK_OFF_MS_MAX: i64 = 30_000;
/// Longest wait before another session is asked for, in milliseconds: a shopper looks on, and nothing can go wrong twice.
pub const PREPARE_BACK_OFF_MS_MAX: i64 = 2_000;
/// How long after its end a session may still let a late confirm through, in milliseconds.
pub const SESSION_MARGIN_MS: i64 = 60_000;
/// How often the provider is asked about a payment whose confirm was never called before it is ended without an answer.
pub const READY_QUERIES_MAX: i64 = 5;
/// How often an answer that cannot be read is asked for again before the payment is set aside.
pub const UNREADABLE_MAX: i64 = 20;
/// Time between two looks at a payment that waits for a deposit, in milliseconds.
pub const DEPOSIT_LOOK_MS: i64 = 10 * 60 * 1000;

/// The next call for a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Open a session.
    Prepare,
    /// Take the money.
    Confirm,
    /// Ask.
    Query,
    /// No call: do as said.
    Conclude(Conclusion),
}

/// What an answer means for a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conclusion {
    /// Captured.
    Captured {
        /// The provider's id.
        reference: String,
        /// How much.
        amount: Money,
        /// How much of it went back since, in minor units.
        refunded_minor: i64,
    },
    /// Ended without money.
    End {
        /// How.
        how: Ended,
        /// Why.
        why: Refusal,
    },
    /// No money moved: the confirm call may be made again.
    ConfirmAgain,
    /// A deposit is awaited until then: look again at the second time.
    Deposit {
        /// The end of the time to pay, in ms.
        until_ms: i64,
        /// The next look, in ms.
        next_at_ms: i64,
    },
    /// An ended payment is at the provider as it is here.
    Agrees,
    /// A figure of the provider is not ours: the order is quarantined.
    Differs,
    /// Nothing more can be done by itself: an operator must look.
    Park(&'static str),
    /// Nothing is decided: look again, in the same state, not before this time.
    WaitUntil(i64),
    /// Nothing is decided: look again after a back-off.
    Retry,
}

/// The next call.
pub fn step(work: &PaymentWork, prepare_give_up_ms: i64, now_ms: i64) -> Step {
    match work.state {
        _ if work.is_recheck => Step::Query,
        PaymentState::Requested if now_ms.saturating_sub(work.created_at_ms) > prepare_give_up_ms => Step::Conclude(
            end(Ended::Declined, "provider_unavailable", "The payment provider does not answer. Nothing was charged."),
        ),
        PaymentState::Requested => Step::Prepare,
        PaymentState::Ready => match work.expires_at_ms {
            Some(expires_at_ms) if work.returned.is_none() && now_ms < expires_at_ms => {
                Step::Conclude(Conclusion::WaitUntil(expires_at_ms))
            }
            _ => Step::Query,
        },
        PaymentState::Authorized if planted!("return-is-believed") => Step::Conclude(believed(work)),
        PaymentState::Authorized => Step::Confirm,
        _ => Step::Query,
    }
}

/// What the answer to a query means.
pub fn conclude(work: &PaymentWork, answer: Answer<Standing>, key_life_ms: Option<i64>, now_ms: i64) -> Conclusion {
    if work.is_recheck {
        return conclude_recheck(work, answer);
    }
    match answer {
        Answer::Settled(Standing::Ended(outcome)) => conclude_outcome(work, outcome),
        Answer::Settled(Standing::Waiting { until_ms }) => deposit(until_ms, now_ms),
        Answer::Settled(Standing::Pending) if work.state == PaymentState::Ready => end_of_ready(work),
        Answer::Settled(Standing::Pending) => {
            let expires_at_ms = work.expires_at_ms.unwrap_or(0);
            let key_lives = match (key_life_ms, work.confirm_sent_at_ms) {
                (Some(life_ms), Some(sent_at_ms)) => now_ms < sent_at_ms.saturating_add(life_ms),
                _ => true,
            };
            if now_ms < expires_at_ms && key_lives && work.approval_code.is_some() {
                Conclusion::ConfirmAgain
            } else if now_ms >= expires_at_ms.saturating_add(SESSION_MARGIN_MS) {
                end(Ended::Expired, "session_over", "The time to pay was over. Nothing was charged.")
            } else {
                Conclusion::Retry
            }
        }
        Answer::Unknown(_) if work.state == PaymentState::Ready && work.tries >= READY_QUERIES_MAX => {
            end_of_ready(work)
        }
        // Never confirmed, so no money moved, whatever sum the shopper's browser told the provider.
        Answer::Unknown(Doubt::Mismatch(_)) if work.state == PaymentState::Ready => end_of_ready(work),
        Answer::Unknown(doubt) => doubtful(&doubt, work.tries),
    }
}

/// What an answer that settles nothing means: usually, ask again. A figure that is not ours, or an answer that cannot
/// be read however often it is asked for, is for an operator.
pub fn doubtful(doubt: &Doubt, tries: i64) -> Conclusion {
    match doubt {
        _ if planted!("unknown-is-failed") => end(Ended::Declined, "no_answer", "The provider did not answer."),
        Doubt::Mismatch(_) => Conclusion::Differs,
        Doubt::Unreadable(_) if tries >= UNREADABLE_MAX => Conclusion::Park("the provider's answers cannot be read"),
        _ => Conclusion::Retry,
    }
}

/// Money that nobody has seen: what the planted bugs book.
pub fn believed(work: &PaymentWork) -> Conclusion {
    Conclusion::Captured { reference: "believed".to_owned(), amount: work.amount, refunded_minor: 0 }
}

/// A deposit is looked after seldom: a notice of the provider comes first.
pub fn deposit(until_ms: i64, now_ms: i64) -> Conclusion {
    let next_at_ms = now_ms.saturating_add(DEPOSIT_LOOK_MS).min(until_ms.max(now_ms.saturating_add(1_000)));
    Conclusion::Deposit { until_ms, next_at_ms }
}

/// What a look at an ended payment means.
fn conclude_recheck(work: &PaymentWork, answer: Answer<Standing>) -> Conclusion {
    // While money is on its way back, the two sides differ for moments.
    if work.refunding_minor > 0 {
        return Conclusion::Retry;
    }
    let captured = work.state == PaymentState::Captured;
    match answer {
        Answer::Settled(Standing::Ended(Outcome::Paid { reference, amount, refunded_minor })) => {
            if captured && refunded_minor == work.refunded_minor && amount.minor() == work.captured_minor {
                Conclusion::Agrees
            } else if !captured && refunded_minor == amount.minor() {
                // Taken and given back in full, all by others: no money is left there.
                Conclusion::Agrees
            } else {
                Conclusion::Captured { reference, amount, refunded_minor }
            }
        }
        // Money that we booked and the provider does not have.
        Answer::Settled(_) if captured => Conclusion::Differs,
        Answer::Settled(_) => Conclusion::Agrees,
        Answer::Unknown(doubt) => doubtful(&doubt, work.tries),
    }
}

/// What an explicit end means.
pub fn conclude_outcome(work: &PaymentWork, outcome: Outcome) -> Conclusion {
    match outcome {
        // Captured, and given back in full at the provider's back office before we knew: no money is left there.
        Outcome::Paid { amount, refunded_minor, .. } if refunded_minor > 0 && refunded_minor == amount.minor() => {
            if work.captured_minor > 0 {
                return Conclusion::Differs;
            }
            end(Ended::Cancelled, "given_back", "The payment was cancelled at the provider and given back.")
        }
        Outcome::Paid { reference, amount, refunded_minor } => {
            Conclusion::Captured { reference, amount, refunded_minor }
        }
        Outcome::Declined(why) => Conclusion::End { how: Ended::Declined, why },
        Outcome::Cancelled(why) => Conclusion::End { how: Ended::Cancelled, why },
        Outcome::Expired(why) => Conclusion::End { how: Ended::Expired, why },
    }
}

/// How a payment ends that came up in `ready` and for which the provider knows nothing better.
fn end_of_ready(work: &PaymentWork) -> Conclusion {
    match work.returned.as_deref() {
        Some("cancelled") => end(Ended::Cancelled, "shopper_cancelled", "You turned back. Nothing was charged."),
        Some("failed") => end(Ended::Declined, "shopper_failed", "The payment was not completed. Nothing was charged."),
        _ => end(Ended::Expired, "session_over", "The time to pay was over. Nothing was charged."),
    }
}

fn end(how: Ended, code: &str, message: &str) -> Conclusion {
    Conclusion::End { how, why: Refusal { code: code.to_owned(), message: message.to_owned() } }
}

/// How long to wait before try number `tries + 1`: doubled each time, bounded, and drawn from its upper half so that
/// payments that failed together do not come back together. `draw` is from 0 to 1.
pub fn back_off_ms(tries: i64, draw: f64) -> i64 {
    let doublings = u32::try_from(tries.saturating_sub(1).clamp(0, 16)).unwrap_or(16);
    let full = BACK_OFF_MS.saturating_mul(1_i64 << doublings).min(BACK_OFF_MS_MAX);
    let half = full / 2;
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "at most 15000")]
    let jitter = (half as f64 * draw.clamp(0.0, 1.0)) as i64;
    half + jitter
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_kit::ids::{AccountId, MerchantId, OrderId, PaymentId};
    use service_kit::money::Currency;

    fn work(state: PaymentState) -> PaymentWork {
        PaymentWork {
            id: PaymentId::new(),
            order: OrderId::new(),
            account: AccountId::new(),
            provider: "kakaopay".into(),
            state,
            amount: Money::new(100, Currency::KRW).unwrap(),
            item_name: "x".into(),
            quantity: 1,
            return_secret: "s".into(),
            provider_ref: Some("T".into()),
            approval_code: Some("pg".into()),
            returned: None,
            expires_at_ms: Some(1_000_000),
            merchant: MerchantId::new(),
            account_of: None,
            confirm_sent_at_ms: None,
            is_recheck: false,
            captured_minor: 0,
            refunded_minor: 0,
            refunding_minor: 0,
            tries: 1,
            created_at_ms: 0,
            trace_id: "t".into(),
        }
    }

    fn is_end(conclusion: &Conclusion, expected: Ended) -> bool {
        matches!(conclusion, Conclusion::End { how, .. } if *how == expected)
    }

    #[test]
    fn each_state_has_its_call() {
        assert_eq!(step(&work(PaymentState::Requested), 120_000, 120_000), Step::Prepare);
        assert!(
            matches!(step(&work(PaymentState::Requested), 120_000, 120_001), Step::Conclude(c) if is_end(&c, Ended::Declined))
        );
        assert_eq!(step(&work(PaymentState::Authorized), 0, 0), Step::Confirm);
        for asks in [PaymentState::Confirming, PaymentState::Unknown] {
            assert_eq!(step(&work(asks), 0, 0), Step::Query, "{asks:?} is never confirmed blindly");
        }
    }

    #[test]
    fn a_ready_payment_is_left_alone_until_somebody_returns_or_its_time_is_over() {
        let mut ready = work(PaymentState::Ready);
        assert_eq!(step(&ready, 0, 999_999), Step::Conclude(Conclusion::WaitUntil(1_000_000)));
        assert_eq!(step(&ready, 0, 1_000_000), Step::Query);
        ready.returned = Some("cancelled".into());
        assert_eq!(step(&ready, 0, 1), Step::Query);
        assert!(is_end(&conclude(&ready, Answer::Settled(Standing::Pending), None, 1), Ended::Cancelled));
        ready.returned = Some("failed".into());
        assert!(is_end(&conclude(&ready, Answer::Settled(Standing::Pending), None, 1), Ended::Declined));
        ready.returned = None;
        assert!(is_end(&conclude(&ready, Answer::Settled(Standing::Pending), None, 1_000_000), Ended::Expired));
    }

    #[test]
    fn a_silent_provider_cannot_hold_units_of_a_payment_that_was_never_confirmed() {
        let mut ready = work(PaymentState::Ready);
        assert_eq!(conclude(&ready, Answer::Unknown(Doubt::Timeout), None, 1_000_000), Conclusion::Retry);
        ready.tries = READY_QUERIES_MAX;
        assert!(is_end(&conclude(&ready, Answer::Unknown(Doubt::Timeout), None, 1_000_000), Ended::Expired));
    }

    #[test]
    fn a_sum_that_the_shopper_changed_holds_no_units_and_one_in_a_confirmed_payment_is_for_an_operator() {
        let differs = || {
            let (expected, got) = ("100".to_owned(), "1".to_owned());
            Answer::Unknown(Doubt::Mismatch(crate::provider::Mismatch { field: "amount", expected, got }))
        };
        assert!(is_end(&conclude(&work(PaymentState::Ready), differs(), None, 1_000_000), Ended::Expired));
        for state in [PaymentState::Confirming, PaymentState::Unknown, PaymentState::Waiting] {
            assert_eq!(conclude(&work(state), differs(), None, 1_000_000), Conclusion::Differs, "{state:?}");
        }
    }

    #[test]
    fn an_ended_payment_is_compared_and_nothing_else() {
        let paid = |refunded_minor| {
            let amount = Money::new(100, Currency::KRW).unwrap();
            Answer::Settled(Standing::Ended(Outcome::Paid { reference: "A".into(), amount, refunded_minor }))
        };
        let mut captured = work(PaymentState::Captured);
        (captured.is_recheck, captured.captured_minor) = (true, 100);
        assert_eq!(step(&captured, 0, 0), Step::Query);
        assert_eq!(conclude(&captured, paid(0), None, 0), Conclusion::Agrees);
        assert!(matches!(conclude(&captured, paid(40), None, 0), Conclusion::Captured { refunded_minor: 40, .. }));
        assert_eq!(conclude(&captured, Answer::Settled(Standing::Pending), None, 0), Conclusion::Differs);
        captured.refunding_minor = 40;
        assert_eq!(conclude(&captured, paid(40), None, 0), Conclusion::Retry, "money is on its way back");
        let mut expired = work(PaymentState::Expired);
        expired.is_recheck = true;
        assert!(matches!(conclude(&expired, paid(0), None, 0), Conclusion::Captured { .. }), "late money");
        assert_eq!(conclude(&expired, paid(100), None, 0), Conclusion::Agrees, "taken and given back by others");
        assert_eq!(conclude(&expired, Answer::Settled(Standing::Pending), None, 0), Conclusion::Agrees);
    }

    #[test]
    fn nothing_is_confirmed_again_with_a_key_that_the_provider_has_forgotten() {
        let mut lost = work(PaymentState::Unknown);
        lost.confirm_sent_at_ms = Some(0);
        let pending = || Answer::Settled(Standing::Pending);
        assert_eq!(conclude(&lost, pending(), Some(500_000), 499_999), Conclusion::ConfirmAgain);
        assert_eq!(conclude(&lost, pending(), Some(500_000), 500_000), Conclusion::Retry);
        assert!(is_end(&conclude(&lost, pending(), Some(500_000), 1_060_000), Ended::Expired));
    }

    #[test]
    fn after_a_confirm_only_the_provider_ends_a_payment() {
        for state in [PaymentState::Confirming, PaymentState::Unknown] {
            let mut lost = work(state);
            lost.tries = 1_000_000;
            for doubt in [Doubt::Timeout, Doubt::Fault(500), Doubt::Key(401), Doubt::Limited] {
                assert_eq!(conclude(&lost, Answer::Unknown(doubt), None, i64::MAX), Conclusion::Retry);
            }
            assert_eq!(conclude(&lost, Answer::Settled(Standing::Pending), None, 999_999), Conclusion::ConfirmAgain);
            assert_eq!(
                conclude(&lost, Answer::Settled(Standing::Pending), None, 1_000_000),
                Conclusion::Retry,
                "a late confirm may still arrive"
            );
            assert!(is_end(&conclude(&lost, Answer::Settled(Standing::Pending), None, 1_060_000), Ended::Expired));
        }
    }

    #[test]
    fn the_back_off_grows_from_its_first_to_its_last_value() {
        assert_eq!((back_off_ms(1, 0.0), back_off_ms(1, 1.0)), (100, 200));
        assert_eq!(back_off_ms(2, 1.0), 400);
        assert_eq!(back_off_ms(i64::MAX, 1.0), BACK_OFF_MS_MAX);
        assert_eq!(back_off_ms(i64::MIN, 1.0), BACK_OFF_MS);
    }
}
