//! Faults on demand: for one request by the header `Floodgate-Simulate`, for the next n requests of an endpoint, or
//! for a share of them drawn from a seed ([`Plan`]).

mod endpoint;
mod plan;

pub use endpoint::{Endpoint, Provider};
pub use plan::{Plan, RULES_MAX, Rule};

use axum::http::HeaderMap;
use std::str::FromStr;

/// Longest delay in milliseconds.
pub const DELAY_MS_MAX: u64 = 600_000;
/// Longest time until something accepted is decided, in milliseconds of the simulated clock: ten days.
pub const LATER_MS_MAX: i64 = 10 * 86_400_000;
/// The same where none is said: a minute.
const LATER_MS: i64 = 60_000;
/// The header that asks for a fault on one request.
pub const HEADER: &str = "floodgate-simulate";

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The effect happens, then the connection closes without an answer.
    DropAfterEffect,
    /// The effect happens at once, the answer comes this many milliseconds later.
    Delay(u64),
    /// Nothing happens for this many milliseconds, then the effect and the answer.
    DelayBefore(u64),
    /// The effect happens, then HTTP 500.
    ErrorAfterEffect,
    /// The payment method refuses. A call that charges: the payment fails; elsewhere nothing changes.
    Decline,
    /// HTTP 429, nothing happens.
    Limited,
    /// A call that charges takes another amount than was asked; other calls only say another amount.
    WrongAmount,
    /// The answer says another currency.
    WrongCurrency,
    /// The answer says another order.
    WrongOrder,
    /// The refund is accepted, and fails this many simulated milliseconds later.
    RefundFailsLater(i64),
    /// The refund is accepted, and succeeds this many simulated milliseconds later.
    RefundPending(i64),
    /// The payment is processing, and succeeds this many simulated milliseconds later.
    Processing(i64),
}

/// The text names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "one of drop-after-effect, delay=<ms>, delay-before=<ms>, error-after-effect, decline, limited, wrong-amount, \
     wrong-currency, wrong-order, refund-fails-later[=<ms>], refund-pending[=<ms>], processing[=<ms>]; a delay has at most {DELAY_MS_MAX} ms"
)]
pub struct BadFault;

impl Fault {
    /// The name without its number, for a metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::DropAfterEffect => "drop-after-effect",
            Self::Delay(_) => "delay",
            Self::DelayBefore(_) => "delay-before",
            Self::ErrorAfterEffect => "error-after-effect",
            Self::Decline => "decline",
            Self::Limited => "limited",
            Self::WrongAmount => "wrong-amount",
            Self::WrongCurrency => "wrong-currency",
            Self::WrongOrder => "wrong-order",
            Self::RefundFailsLater(_) => "refund-fails-later",
            Self::RefundPending(_) => "refund-pending",
            Self::Processing(_) => "processing",
        }
    }
    /// Whether it means something there. What means nothing is refused, so that no test believes in it.
    pub fn fits(self, endpoint: Endpoint) -> bool {
        use Endpoint as E;
        match self {
            Self::DropAfterEffect | Self::Delay(_) | Self::DelayBefore(_) | Self::ErrorAfterEffect | Self::Limited => {
                true
            }
            Self::Decline => {
                endpoint.provider() == Provider::Kakaopay
                    || matches!(
                        endpoint,
                        E::TossConfirm
                            | E::TossCancel
                            | E::StripeCreate
                            | E::StripeConfirm
                            | E::StripeCapture
                            | E::StripeRefund
                    )
            }
            Self::WrongAmount => {
                endpoint.provider() == Provider::Kakaopay || endpoint.tells_a_payment() || endpoint.tells_a_refund()
            }
            Self::WrongCurrency => endpoint.tells_a_payment() || endpoint.tells_a_refund(),
            Self::WrongOrder => endpoint.tells_a_payment() || endpoint.tells_a_refund(),
            Self::RefundFailsLater(_) | Self::RefundPending(_) => matches!(endpoint, E::TossCancel | E::StripeRefund),
            Self::Processing(_) => matches!(endpoint, E::StripeCreate | E::StripeConfirm),
        }
    }
    /// The fault that a request asks for in its header.
    ///
    /// # Errors
    /// When the header names none, or one that means nothing at this endpoint.
    pub fn asked(headers: &HeaderMap, endpoint: Endpoint) -> Result<Option<Self>, BadFault> {
        let Some(value) = headers.get(HEADER) else { return Ok(None) };
        let fault: Self = value.to_str().unwrap_or_default().parse()?;
        if fault.fits(endpoint) { Ok(Some(fault)) } else { Err(BadFault) }
    }
}

impl FromStr for Fault {
    type Err = BadFault;
    fn from_str(text: &str) -> Result<Self, BadFault> {
        let delay = |ms: &str| ms.parse().ok().filter(|ms| *ms <= DELAY_MS_MAX).ok_or(BadFault);
        let later = |ms: &str| ms.parse().ok().filter(|ms| (0..=LATER_MS_MAX).contains(ms)).ok_or(BadFault);
        match text.split_once('=') {
            None => match text {
                "drop-after-effect" => Ok(Self::DropAfterEffect),
                "error-after-effect" => Ok(Self::ErrorAfterEffect),
                "decline" => Ok(Self::Decline),
                "limited" => Ok(Self::Limited),
                "wrong-amount" => Ok(Self::WrongAmount),
                "wrong-currency" => Ok(Self::WrongCurrency),
                "wrong-order" => Ok(Self::WrongOrder),
                "refund-fails-later" => Ok(Self::RefundFailsLater(LATER_MS)),
                "refund-pending" => Ok(Self::RefundPending(LATER_MS)),
                "processing" => Ok(Self::Processing(LATER_MS)),
                _ => Err(BadFault),
            },
            Some(("delay", ms)) => delay(ms).map(Self::Delay),
            Some(("delay-before", ms)) => delay(ms).map(Self::DelayBefore),
            Some(("refund-fails-later", ms)) => later(ms).map(Self::RefundFailsLater),
            Some(("refund-pending", ms)) => later(ms).map(Self::RefundPending),
            Some(("processing", ms)) => later(ms).map(Self::Processing),
            Some(_) => Err(BadFault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_one_spelling() {
        assert_eq!("delay=3000".parse(), Ok(Fault::Delay(3000)));
        assert_eq!("refund-pending".parse(), Ok(Fault::RefundPending(60_000)));
        assert_eq!("refund-fails-later=5".parse(), Ok(Fault::RefundFailsLater(5)));
        for bad in
            ["", "Decline", "delay", "delay=", "delay=-1", "delay=600001", "decline=1", "drop", "refund-pending=-1"]
        {
            assert_eq!(bad.parse::<Fault>(), Err(BadFault), "{bad:?}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (fault, endpoint, fits) in [
            ("decline", Endpoint::KakaoOrder, true),
            ("wrong-currency", Endpoint::KakaoApprove, false),
            ("decline", Endpoint::TossQuery, false),
            ("wrong-order", Endpoint::TossQuery, true),
            ("refund-pending", Endpoint::TossConfirm, false),
            ("refund-fails-later", Endpoint::StripeRefund, true),
            ("wrong-amount", Endpoint::StripeEvents, false),
            ("limited", Endpoint::StripeEvents, true),
        ] {
            assert_eq!(fault.parse::<Fault>().unwrap().fits(endpoint), fits, "{fault} {endpoint:?}");
        }
    }
}
