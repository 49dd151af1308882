//! What a page says about an order: its state in words and what the shopper can do now.
//! Pure: the same [`OrderView`] and the same instant give the same words and buttons.

use super::deal_facts::Badge;
use super::lang::Lang;
use super::text::Text;
use crate::view::{OrderState, OrderView};

/// A step of an order as its shopper experiences it; the words are in `words`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Held,
    Preparing,
    AtProvider,
    Confirming,
    Unknown,
    Paid,
    Cancelled,
    Expired,
    Declined,
    PaymentCancelled,
    Refunding,
    PartlyRefunded,
    Refunded,
    /// The money came when the units were gone; it goes back, or is back.
    LateMoney,
    LateMoneyBack,
    Quarantined,
}

impl Stage {
    /// From the order's and its payment's state. A hold whose time is over is never offered for
    /// payment, also in the moments before the sweeper has released it.
    pub fn of(order: &OrderView, now_ms: i64) -> Self {
        let payment = order.payment.as_ref().map_or("", |p| p.state.as_str());
        match order.state {
            OrderState::Held if now_ms >= order.hold_expires_at_ms => Self::Expired,
            OrderState::Held => Self::Held,
            OrderState::Paying => match payment {
                "" | "requested" => Self::Preparing,
                "ready" | "waiting" => Self::AtProvider,
                "unknown" => Self::Unknown,
                _ => Self::Confirming,
            },
            OrderState::Paid => Self::Paid,
            OrderState::Released => match order.reason.as_deref().unwrap_or_default() {
                "hold_expired" | "payment_expired" => Self::Expired,
                "payment_declined" => Self::Declined,
                "payment_cancelled" => Self::PaymentCancelled,
                _ => Self::Cancelled,
            },
            OrderState::Refunding if is_late(order) => Self::LateMoney,
            OrderState::Refunded if is_late(order) => Self::LateMoneyBack,
            OrderState::Refunding => Self::Refunding,
            OrderState::PartlyRefunded => Self::PartlyRefunded,
            OrderState::Refunded => Self::Refunded,
            OrderState::Quarantined => Self::Quarantined,
        }
    }

    fn words(self, t: &'static Text) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Held => ("scheduled", t.state_held, t.note_held),
            Self::Preparing => ("busy", t.state_preparing, t.note_preparing),
            Self::AtProvider => ("busy", t.state_at_provider, t.note_at_provider),
            Self::Confirming => ("busy", t.state_confirming, t.note_confirming),
            Self::Unknown => ("busy", t.state_confirming, t.note_unknown),
            Self::Paid => ("good", t.state_paid, t.note_paid),
            Self::Cancelled => ("", t.state_cancelled, t.note_cancelled),
            Self::Expired => ("bad", t.state_expired, t.note_expired),
            Self::Declined => ("bad", t.state_declined, t.note_declined),
            Self::PaymentCancelled => ("", t.state_cancelled, t.note_payment_cancelled),
            Self::Refunding => ("busy", t.state_refunding, t.note_refunding),
            Self::PartlyRefunded => ("good", t.state_partly_refunded, t.note_partly_refunded),
            Self::Refunded => ("good", t.state_refunded, t.note_refunded),
            Self::LateMoney => ("busy", t.state_refunding, t.note_late_money),
            Self::LateMoneyBack => ("good", t.state_refunded, t.note_late_money),
            Self::Quarantined => ("busy", t.state_quarantined, t.note_quarantined),
        }
    }
    /// The badge.
    pub fn badge(self, lang: Lang) -> Badge {
        let (class, label, _) = self.words(lang.text());
        Badge { class, label }
    }
    /// One sentence about it.
    pub fn note(self, lang: Lang) -> &'static str {
        self.words(lang.text()).2
    }
    /// Whether a payment can be started.
    pub fn can_pay(self) -> bool {
        self == Self::Held
    }
    /// Whether the order can be cancelled: nobody has been asked for the money yet.
    pub fn can_cancel(self) -> bool {
        matches!(self, Self::Held | Self::Preparing | Self::AtProvider)
    }
    /// Whether the money can be asked back.
    pub fn can_refund(self) -> bool {
        matches!(self, Self::Paid | Self::PartlyRefunded)
    }
    /// Whether a page without JavaScript should look again by itself: something is on its way.
    pub fn is_moving(self) -> bool {
        matches!(
            self,
            Self::Preparing | Self::AtProvider | Self::Confirming | Self::Unknown | Self::Refunding | Self::LateMoney
        )
    }
}

fn is_late(order: &OrderView) -> bool {
    order.reason.as_deref() == Some("late_money_returned")
}

/// `order state:payment state`, as the script builds it from the API's events.
pub fn key(order: &OrderView) -> String {
    let state = match order.state {
        OrderState::Held => "held",
        OrderState::Paying => "paying",
        OrderState::Paid => "paid",
        OrderState::Released => "released",
        OrderState::Refunding => "refunding",
        OrderState::PartlyRefunded => "partly_refunded",
        OrderState::Refunded => "refunded",
        OrderState::Quarantined => "quarantined",
    };
    format!("{state}:{}", order.payment.as_ref().map_or("", |p| p.state.as_str()))
}

/// The provider's page for this device, once it is known and only while the shopper is expected there.
/// Only web addresses: the text comes from outside.
pub fn provider_page(order: &OrderView, phone: bool) -> Option<&str> {
    let payment = order.payment.as_ref().filter(|p| order.state == OrderState::Paying && p.state == "ready")?;
    let (first, second) = match phone {
        true => (&payment.redirect_mobile, &payment.redirect_pc),
        false => (&payment.redirect_pc, &payment.redirect_mobile),
    };
    first.as_deref().or(second.as_deref()).filter(|url| url.starts_with("https://") || url.starts_with("http://"))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::view::PaymentView;
    use service_kit::ids::{DealId, OrderId, PaymentId};
    use service_kit::money::{Currency, Money};

    /// An order whose hold ends at 1,000 s; `payment` is empty for none.
    pub fn order(state: OrderState, payment: &str, reason: Option<&str>) -> OrderView {
        OrderView {
            id: OrderId::new(),
            deal: DealId::new(),
            quantity: 2,
            amount: Money::new(25_800, Currency::KRW).unwrap(),
            state,
            reason: reason.map(str::to_owned),
            hold_expires_at_ms: 1_000_000,
            created_at_ms: 700_000,
            sold_units: 0,
            refunded_minor: 0,
            payment: (!payment.is_empty()).then(|| PaymentView {
                id: PaymentId::new(),
                provider: "kakaopay".into(),
                state: payment.to_owned(),
                redirect_pc: Some("https://pay.example/pc".into()),
                redirect_mobile: Some("https://pay.example/mobile".into()),
                failure_message: None,
            }),
        }
    }

    #[test]
    fn each_state_has_its_words_and_buttons() {
        use OrderState::*;
        // state, payment, reason → label, pay, cancel, refund, moving
        let cases = [
            (order(Held, "", None), "결제 대기", true, true, false, false),
            (order(Paying, "requested", None), "결제 준비 중", false, true, false, true),
            (order(Paying, "ready", None), "결제 진행 중", false, true, false, true),
            (order(Paying, "authorized", None), "결제 확인 중", false, false, false, true),
            (order(Paying, "confirming", None), "결제 확인 중", false, false, false, true),
            (order(Paying, "unknown", None), "결제 확인 중", false, false, false, true),
            (order(Paying, "a-word-of-tomorrow", None), "결제 확인 중", false, false, false, true),
            (order(Paid, "captured", None), "결제 완료", false, false, true, false),
            (order(Released, "", Some("cancelled_by_shopper")), "취소됨", false, false, false, false),
            (order(Released, "", Some("hold_expired")), "시간 만료", false, false, false, false),
            (order(Released, "failed", Some("payment_declined")), "결제 실패", false, false, false, false),
            (order(Released, "cancelled", Some("payment_cancelled")), "취소됨", false, false, false, false),
            (order(Released, "expired", Some("payment_expired")), "시간 만료", false, false, false, false),
            (order(Refunding, "captured", None), "환불 중", false, false, false, true),
            (order(Refunded, "captured", None), "환불 완료", false, false, false, false),
            (order(Refunding, "captured", Some("late_money_returned")), "환불 중", false, false, false, true),
            (order(Refunded, "captured", Some("late_money_returned")), "환불 완료", false, false, false, false),
        ];
        for (order, label, pay, cancel, refund, moving) in cases {
            let s = Stage::of(&order, 999_999);
            assert_eq!(s.badge(Lang::Ko).label, label, "{order:?}");
            assert_eq!(
                (s.can_pay(), s.can_cancel(), s.can_refund(), s.is_moving()),
                (pay, cancel, refund, moving),
                "{order:?}"
            );
        }
    }

    #[test]
    fn money_that_goes_back_by_itself_says_why() {
        for state in [OrderState::Refunding, OrderState::Refunded] {
            let note = |reason| Stage::of(&order(state, "captured", reason), 0).note(Lang::En);
            assert!(note(Some("late_money_returned")).contains("after the order had ended"));
            assert!(!note(None).contains("after the order had ended"));
        }
    }

    #[test]
    fn a_hold_whose_time_is_over_cannot_be_paid() {
        let held = order(OrderState::Held, "", None);
        assert!(Stage::of(&held, 999_999).can_pay());
        assert!(!Stage::of(&held, 1_000_000).can_pay());
    }

    #[test]
    fn the_provider_link_is_a_web_address_and_only_while_it_leads_somewhere() {
        let mut ready = order(OrderState::Paying, "ready", None);
        assert_eq!(provider_page(&ready, false), Some("https://pay.example/pc"));
        assert_eq!(provider_page(&ready, true), Some("https://pay.example/mobile"));
        assert_eq!(provider_page(&order(OrderState::Paid, "ready", None), false), None);
        assert_eq!(provider_page(&order(OrderState::Paying, "confirming", None), false), None);
        if let Some(p) = ready.payment.as_mut() {
            p.redirect_pc = Some("javascript:alert(1)".into());
        }
        assert_eq!(provider_page(&ready, false), None);
    }

    #[test]
    fn the_key_is_what_the_script_builds() {
        assert_eq!(key(&order(OrderState::Held, "", None)), "held:");
        assert_eq!(key(&order(OrderState::Paying, "ready", None)), "paying:ready");
        let json = serde_json::to_value(OrderState::Refunding).unwrap();
        assert_eq!(json, "refunding", "the API's word");
    }
}
