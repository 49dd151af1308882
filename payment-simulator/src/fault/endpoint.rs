//! The providers and their calls, by the names that faults and metrics use.

use serde::{Deserialize, Serialize};

/// Whose API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// KakaoPay, the only one that has neither webhooks nor idempotency keys.
    #[default]
    Kakaopay,
    /// Toss Payments.
    Toss,
    /// Stripe.
    Stripe,
}

impl Provider {
    /// As in a URL, a metric label and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kakaopay => "kakaopay",
            Self::Toss => "toss",
            Self::Stripe => "stripe",
        }
    }
}

/// A call of one of the APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the table below says which call each is")]
pub enum Endpoint {
    KakaoReady,
    KakaoApprove,
    KakaoCancel,
    KakaoOrder,
    TossConfirm,
    TossQuery,
    TossCancel,
    TossTransactions,
    StripeCreate,
    StripeQuery,
    StripeList,
    StripeConfirm,
    StripeCapture,
    StripeCancel,
    StripeRefund,
    StripeRefundQuery,
    StripeRefundList,
    StripeEvents,
}

use Endpoint as E;
use Provider::{Kakaopay, Stripe, Toss};

const TABLE: [(Endpoint, Provider, &str); 18] = [
    (E::KakaoReady, Kakaopay, "ready"),
    (E::KakaoApprove, Kakaopay, "approve"),
    (E::KakaoCancel, Kakaopay, "cancel"),
    (E::KakaoOrder, Kakaopay, "order"),
    (E::TossConfirm, Toss, "confirm"),
    (E::TossQuery, Toss, "query"),
    (E::TossCancel, Toss, "cancel"),
    (E::TossTransactions, Toss, "transactions"),
    (E::StripeCreate, Stripe, "create"),
    (E::StripeQuery, Stripe, "query"),
    (E::StripeList, Stripe, "list"),
    (E::StripeConfirm, Stripe, "confirm"),
    (E::StripeCapture, Stripe, "capture"),
    (E::StripeCancel, Stripe, "cancel"),
    (E::StripeRefund, Stripe, "refund"),
    (E::StripeRefundQuery, Stripe, "refund-query"),
    (E::StripeRefundList, Stripe, "refund-list"),
    (E::StripeEvents, Stripe, "events"),
];

impl Endpoint {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }
    /// Those of one provider.
    pub fn of(provider: Provider) -> impl Iterator<Item = Self> {
        TABLE.iter().filter(move |row| row.1 == provider).map(|row| row.0)
    }
    /// The call with this name.
    pub fn find(provider: Provider, name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == provider && row.2 == name).map(|row| row.0)
    }
    /// Whose call it is.
    pub fn provider(self) -> Provider {
        self.row().map_or(Kakaopay, |row| row.1)
    }
    /// Its name, unique within the provider.
    pub fn name(self) -> &'static str {
        self.row().map_or("", |row| row.2)
    }
    /// The answer is one payment (of Toss or Stripe), whose amount, currency and order may be told wrong.
    pub fn tells_a_payment(self) -> bool {
        matches!(
            self,
            E::TossConfirm
                | E::TossQuery
                | E::TossCancel
                | E::StripeCreate
                | E::StripeQuery
                | E::StripeConfirm
                | E::StripeCapture
                | E::StripeCancel
        )
    }
    /// The answer is one refund (of Stripe).
    pub fn tells_a_refund(self) -> bool {
        matches!(self, E::StripeRefund | E::StripeRefundQuery)
    }
    fn row(self) -> Option<&'static (Self, Provider, &'static str)> {
        TABLE.iter().find(|row| row.0 == self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_name_once() {
        for endpoint in Endpoint::all() {
            assert_eq!(Endpoint::find(endpoint.provider(), endpoint.name()), Some(endpoint));
        }
        assert_eq!(Endpoint::find(Kakaopay, "capture"), None);
    }
}
