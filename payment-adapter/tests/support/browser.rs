//! What a shopper's browser does at each provider's page, and what an operator does afterwards.

use super::{Bench, Bought, page};
use ledger::*;
use service_kit::clock::now_ms;
use service_kit::ids::RefundId;

impl Bench {
    /// What the shopper's browser does: opens the page, presses a button; answers where it is sent back to.
    pub async fn press_at(&self, bought: &Bought, provider: &str, action: &str) -> String {
        let page = self.order(bought).await.payment.unwrap().redirect_pc.unwrap();
        let method = self.config().providers.toss.unwrap().method;
        page::press(&self.http, &self.provider, &page, (provider, &method), action).await
    }

    pub async fn pay_at(&self, bought: &Bought, provider: &str) {
        self.until_payment(bought, "ready").await;
        let back = self.press_at(bought, provider, "pay").await;
        assert!(self.http.get(back).send().await.unwrap().status().is_redirection(), "{provider}");
    }

    /// An operator gives a part of the money back, or with `None` the rest.
    pub async fn refund_part(&self, bought: &Bought, amount_minor: Option<i64>) {
        let request = RequestRefund {
            refund: RefundId::new(),
            order: bought.order,
            by: RefundBy::Operator,
            amount_minor,
            units: None,
            reason: "part".into(),
        };
        let idem = Idem { actor: "test".into(), key: request.refund.to_string(), fingerprint: [1; 32] };
        let saved = |_: &Order| Saved { status: 202, body: Vec::new() };
        let asked = self.ledger.request_refund(&request, now_ms(), &idem, saved).await.unwrap();
        assert!(matches!(asked, Replay::Fresh(_)), "{asked:?}");
    }
}
