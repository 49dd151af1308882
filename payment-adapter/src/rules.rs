//! What to do with a payment, decided from its row and from what the provider said. Pure: no clock, no calls.
//!
//! | state | found by the worker when | step |
//! |---|---|---|
//! | requested | new, or a session could not be opened | prepare; give up after a bound: nobody was sent anywhere, so that is safe |
//! | ready | the shopper came back without a code, or the session is over | ask, then end it: money moves only by our confirm call, which was never made |
//! | authorized | the shopper came back with a code | confirm |
//! | confirming | an earlier worker's lease ran out: it was killed, or hangs, between its two notes | ask |
//! | unknown | an answer was lost or not explicit | ask |
//!
//! A second confirm is made only after the provider said that no money moved, while its session lives; the provider
//! takes one confirm per session, so even a first one that arrives late cannot charge a second time.

use crate::provider::{Answer, Outcome, Refusal, Standing};
use ledger::{Ended, PaymentState, PaymentWork};
use service_kit::money::Money;

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
    /// Nothing is decided: look again, in the same state, not before this time.
    WaitUntil(i64),
    /// Nothing is decided: look again after a back-off.
    Retry,
}

/// The next call.
pub fn step(work: &PaymentWork, prepare_give_up_ms: i64, now_ms: i64) -> Step {
    match work.state {
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
        PaymentState::Authorized => Step::Confirm,
        _ => Step::Query,
    }
}

/// What the answer to a query means.
pub fn conclude(work: &PaymentWork, answer: Answer<Standing>, now_ms: i64) -> Conclusion {
    match answer {
        Answer::Settled(Standing::Ended(outcome)) => conclude_outcome(outcome),
        Answer::Settled(Standing::Pending) if work.state == PaymentState::Ready => end_of_ready(work),
        Answer::Settled(Standing::Pending) => {
            let expires_at_ms = work.expires_at_ms.unwrap_or(0);
            if now_ms < expires_at_ms {
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
        Answer::Unknown(_) => Conclusion::Retry,
    }
}

/// What an explicit end means.
pub fn conclude_outcome(outcome: Outcome) -> Conclusion {
    match outcome {
        Outcome::Paid { reference, amount } => Conclusion::Captured { reference, amount },
        Outcome::Declined(why) => Conclusion::End { how: Ended::Declined, why },
        Outcome::Cancelled(why) => Conclusion::End { how: Ended::Cancelled, why },
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
    use crate::provider::Doubt;
    use service_kit::ids::{AccountId, OrderId, PaymentId};
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
        assert!(is_end(&conclude(&ready, Answer::Settled(Standing::Pending), 1), Ended::Cancelled));
        ready.returned = Some("failed".into());
        assert!(is_end(&conclude(&ready, Answer::Settled(Standing::Pending), 1), Ended::Declined));
        ready.returned = None;
        assert!(is_end(&conclude(&ready, Answer::Settled(Standing::Pending), 1_000_000), Ended::Expired));
    }

    #[test]
    fn a_silent_provider_cannot_hold_units_of_a_payment_that_was_never_confirmed() {
        let mut ready = work(PaymentState::Ready);
        assert_eq!(conclude(&ready, Answer::Unknown(Doubt::Timeout), 1_000_000), Conclusion::Retry);
        ready.tries = READY_QUERIES_MAX;
        assert!(is_end(&conclude(&ready, Answer::Unknown(Doubt::Timeout), 1_000_000), Ended::Expired));
    }

    #[test]
    fn after_a_confirm_only_the_provider_ends_a_payment() {
        for state in [PaymentState::Confirming, PaymentState::Unknown] {
            let mut lost = work(state);
            lost.tries = 1_000_000;
            for doubt in [Doubt::Timeout, Doubt::Fault(500), Doubt::Key(401), Doubt::Limited] {
                assert_eq!(conclude(&lost, Answer::Unknown(doubt), i64::MAX), Conclusion::Retry);
            }
            assert_eq!(conclude(&lost, Answer::Settled(Standing::Pending), 999_999), Conclusion::ConfirmAgain);
            assert_eq!(
                conclude(&lost, Answer::Settled(Standing::Pending), 1_000_000),
                Conclusion::Retry,
                "a late confirm may still arrive"
            );
            assert!(is_end(&conclude(&lost, Answer::Settled(Standing::Pending), 1_060_000), Ended::Expired));
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
