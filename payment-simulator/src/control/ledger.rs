//! The ledger dump: every payment of every provider in one list, because it is one of the truths that are compared
//! after a run.

use crate::fault::Provider;
use crate::server::Simulator;
use crate::{kakaopay, stripe, toss};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use service_kit::money::Currency;
use std::collections::BTreeMap;

/// One payment. `tid` is the provider's own id of it (Toss: paymentKey, Stripe: PaymentIntent).
#[derive(Debug, Serialize)]
pub struct Entry {
    pub provider: Provider,
    pub tid: String,
    pub partner_order_id: String,
    pub amount: i64,
    pub currency: &'static str,
    pub status: &'static str,
    /// Minor units that were taken.
    pub captured: i64,
    /// Minor units that went back.
    pub cancelled: i64,
    /// How often money was taken: anything but 0 or 1 is a double charge.
    pub approvals: u32,
    pub cancels: Vec<Value>,
    pub created_ms: i64,
}

impl From<&kakaopay::Payment> for Entry {
    fn from(payment: &kakaopay::Payment) -> Self {
        let cancels = payment.actions.iter().filter(|action| action.kind == "CANCEL");
        Self {
            provider: Provider::Kakaopay,
            tid: payment.tid.clone(),
            partner_order_id: payment.asked.partner_order_id.clone(),
            amount: payment.asked.total_amount,
            currency: Currency::KRW.code(),
            status: payment.status.name(),
            captured: payment.captured(),
            cancelled: payment.cancelled.total,
            approvals: payment.approvals,
            cancels: cancels
                .map(|action| json!({ "aid": action.aid, "amount": action.amount.total, "payload": action.payload }))
                .collect(),
            created_ms: payment.created_ms,
        }
    }
}

impl From<&toss::Payment> for Entry {
    fn from(payment: &toss::Payment) -> Self {
        let cancel = |c: &toss::Cancel| json!({ "aid": c.transaction, "amount": c.amount, "payload": c.reason, "status": c.status.name() });
        Self {
            provider: Provider::Toss,
            tid: payment.key.clone(),
            partner_order_id: payment.asked.order_id.clone(),
            amount: payment.asked.amount,
            currency: payment.asked.currency.code(),
            status: payment.status.name(),
            captured: payment.captured(),
            cancelled: payment.cancelled(),
            approvals: payment.approvals,
            cancels: payment.cancels.iter().map(cancel).collect(),
            created_ms: payment.requested_ms,
        }
    }
}

/// Sums of one currency.
#[derive(Debug, Default, Serialize)]
struct Sums {
    captured: i64,
    cancelled: i64,
}

/// `GET /_control/ledger`.
pub async fn dump(State(sim): State<Simulator>) -> Json<Value> {
    let state = sim.lock().await;
    let mut payments: Vec<Entry> = state.kakaopay.payments().into_iter().map(Entry::from).collect();
    payments.extend(state.toss.payments().map(Entry::from));
    payments.extend(stripe::ledger(&state.stripe));
    let mut sums: BTreeMap<&str, Sums> = BTreeMap::new();
    for payment in &payments {
        let sum = sums.entry(payment.currency).or_default();
        sum.captured += payment.captured;
        sum.cancelled += payment.cancelled;
    }
    let won = |of: fn(&Sums) -> i64| sums.get(Currency::KRW.code()).map_or(0, of);
    let totals = json!({
        "payments": payments.len(),
        // In won, as ever; other currencies stand in `by_currency`.
        "captured": won(|sum| sum.captured),
        "cancelled": won(|sum| sum.cancelled),
        "by_currency": sums,
        "approvals": payments.iter().map(|p| u64::from(p.approvals)).sum::<u64>(),
        "approved_twice": payments.iter().filter(|p| p.approvals > 1).count(),
    });
    Json(json!({ "now_ms": state.now_ms(), "totals": totals, "payments": payments }))
}
