//! KakaoPay, single payment: `ready → (shopper) → approve`, `cancel`, `order`.
//!
//! The provider has no webhook, no idempotency key and no public list of error codes, so only three things are
//! believed: an approve answer with an `aid`, a cancel answer with an `aid`, and the status that `/order` reports;
//! and those only when tid, order id and amounts are ours. Everything else is a [`Doubt`].
//!
//! What makes a repetition safe: the provider takes one approve per tid; a cancel carries `cancel_available_amount`,
//! which no longer fits after the first one; a lost `ready` leaves a session that nobody knows and that ends by itself.

mod http;
mod wire;

use crate::KakaoPayConfig;
use crate::provider::{Answer, Doubt, Mismatch, Outcome, Provider, RefundStanding, Refusal, Session, Standing};
use async_trait::async_trait;
use http::{Http, Reply};
use ledger::{PaymentWork, Prepared, RefundWork};
use serde_json::json;
use service_kit::money::Currency;
use wire::{ApproveBody, CancelBody, OrderBody, ReadyBody};

/// Longest item name that the provider takes, in characters.
const ITEM_NAME_CHARS_MAX: usize = 100;

/// The driver.
#[derive(Debug)]
pub struct KakaoPay {
    http: Http,
    cid: String,
    session_ms: i64,
}

impl KakaoPay {
    /// A driver with its own connections.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(cfg: &KakaoPayConfig) -> anyhow::Result<Self> {
        Ok(Self { http: Http::new(cfg)?, cid: cfg.cid.clone(), session_ms: cfg.session_ms })
    }

    async fn order(&self, tid: &str, order_id: &str) -> Result<OrderBody, Doubt> {
        let reply = self.http.post("order", &json!({ "cid": self.cid, "tid": tid })).await?;
        let body: OrderBody = reply.ok()?;
        same_if_said("tid", tid, body.tid.as_deref())?;
        same_if_said("partner_order_id", order_id, body.partner_order_id.as_deref())?;
        Ok(body)
    }

    async fn try_prepare(&self, work: &PaymentWork, return_url: &str, now_ms: i64) -> Result<Session, Doubt> {
        if work.amount.currency() != Currency::KRW || work.amount.minor() == 0 {
            return Ok(Session::Declined(refusal("amount", "KakaoPay takes won, from 1 on")));
        }
        let request = json!({
            "cid": self.cid,
            "partner_order_id": work.order,
            "partner_user_id": work.account,
            "item_name": work.item_name.chars().filter(|c| !c.is_control()).take(ITEM_NAME_CHARS_MAX).collect::<String>(),
            "quantity": work.quantity,
            "total_amount": work.amount.minor(),
            "tax_free_amount": 0,
            "approval_url": format!("{return_url}/approve"),
            "cancel_url": format!("{return_url}/cancel"),
            "fail_url": format!("{return_url}/fail"),
        });
        let reply = self.http.post("ready", &request).await?;
        // Nothing can be charged without a session, so a refusal is final here.
        if let Reply::Refused(refusal) = reply {
            return Ok(Session::Declined(refusal));
        }
        let body: ReadyBody = reply.ok()?;
        let addresses = [&body.next_redirect_pc_url, &body.next_redirect_mobile_url, &body.next_redirect_app_url];
        // They become links on our page: nothing but web addresses.
        if !addresses.iter().all(|url| url.starts_with("https://") || url.starts_with("http://")) {
            return Err(Doubt::Unreadable("a redirect address is not a web address".to_owned()));
        }
        Ok(Session::Open(Prepared {
            provider_ref: body.tid,
            redirect_pc: body.next_redirect_pc_url,
            redirect_mobile: body.next_redirect_mobile_url,
            redirect_app: body.next_redirect_app_url,
            // Counted from before the call: the provider's own end is never before ours.
            expires_at_ms: now_ms.saturating_add(self.session_ms),
        }))
    }

    async fn try_confirm(&self, work: &PaymentWork) -> Result<Outcome, Doubt> {
        let tid = known(work.provider_ref.as_deref(), "tid")?;
        let request = json!({
            "cid": self.cid,
            "tid": tid,
            "partner_order_id": work.order,
            "partner_user_id": work.account,
            "pg_token": known(work.approval_code.as_deref(), "pg_token")?,
            "payload": work.id,
            "total_amount": work.amount.minor(),
        });
        let body: ApproveBody = self.http.post("approve", &request).await?.ok()?;
        same("tid", tid, &body.tid)?;
        same("partner_order_id", &work.order.to_string(), &body.partner_order_id)?;
        same("amount", &work.amount.minor().to_string(), &body.amount.total.to_string())?;
        Ok(Outcome::Paid { reference: body.aid, amount: work.amount })
    }

    async fn try_query(&self, work: &PaymentWork) -> Result<Standing, Doubt> {
        let body = self.order(known(work.provider_ref.as_deref(), "tid")?, &work.order.to_string()).await?;
        let ended = |outcome| Ok(Standing::Ended(outcome));
        match body.status.as_str() {
            "READY" | "SEND_TMS" | "OPEN_PAYMENT" | "SELECT_METHOD" | "ARS_WAITING" | "AUTH_PASSWORD" => {
                Ok(Standing::Pending)
            }
            "FAIL_AUTH_PASSWORD" | "FAIL_PAYMENT" => {
                ended(Outcome::Declined(refusal(&body.status, "The payment method refused. Nothing was charged.")))
            }
            "QUIT_PAYMENT" => ended(Outcome::Cancelled(refusal(&body.status, "You turned back. Nothing was charged."))),
            "SUCCESS_PAYMENT" => {
                same("amount", &work.amount.minor().to_string(), &body.amount.total.to_string())?;
                let capture = body.actions("PAYMENT").next();
                let reference = capture.map(|action| action.aid.clone());
                let reference =
                    reference.ok_or_else(|| Doubt::Unreadable("paid without a PAYMENT action".to_owned()))?;
                ended(Outcome::Paid { reference, amount: work.amount })
            }
            // Captured, then given back in full by somebody at the provider's back office: no money is left there.
            "CANCEL_PAYMENT" if body.canceled_amount.total == body.amount.total => ended(Outcome::Cancelled(refusal(
                &body.status,
                "The payment was cancelled at the provider and given back.",
            ))),
            "CANCEL_PAYMENT" | "PART_CANCEL_PAYMENT" => Err(mismatch("status", "SUCCESS_PAYMENT", &body.status)),
            other => Err(Doubt::Unreadable(format!("status {other}"))),
        }
    }

    async fn try_refund(&self, work: &RefundWork) -> Result<String, Doubt> {
        let tid = known(work.provider_ref.as_deref(), "tid")?;
        let request = json!({
            "cid": self.cid,
            "tid": tid,
            "cancel_amount": work.amount.minor(),
            "cancel_tax_free_amount": 0,
            "cancel_available_amount": work.captured.minor(),
            "payload": work.id,
        });
        let body: CancelBody = self.http.post("cancel", &request).await?.ok()?;
        same("tid", tid, &body.tid)?;
        let asked = work.amount.minor().to_string();
        same("canceled_amount", &asked, &body.approved_cancel_amount.total.to_string())?;
        same("canceled_amount", &asked, &body.canceled_amount.total.to_string())?;
        Ok(body.aid)
    }

    async fn try_query_refund(&self, work: &RefundWork) -> Result<RefundStanding, Doubt> {
        let body = self.order(known(work.provider_ref.as_deref(), "tid")?, &work.order.to_string()).await?;
        same("amount", &work.captured.minor().to_string(), &body.amount.total.to_string())?;
        let cancelled = body.canceled_amount.total;
        if cancelled == 0 && body.status == "SUCCESS_PAYMENT" {
            return Ok(RefundStanding::NotDone);
        }
        same("canceled_amount", &work.amount.minor().to_string(), &cancelled.to_string())?;
        let ours = work.id.to_string();
        // Refunds are whole: when all is given back, the shopper has it, whoever pressed the button.
        let action = body
            .actions("CANCEL")
            .find(|a| a.payload.as_deref() == Some(&ours))
            .or_else(|| body.actions("CANCEL").last());
        match action {
            Some(action) => Ok(RefundStanding::Done { reference: action.aid.clone() }),
            None => Err(Doubt::Unreadable("cancelled without a CANCEL action".to_owned())),
        }
    }
}

#[async_trait]
impl Provider for KakaoPay {
    fn name(&self) -> &'static str {
        "kakaopay"
    }
    async fn prepare(&self, work: &PaymentWork, return_url: &str, now_ms: i64) -> Answer<Session> {
        answer(self.try_prepare(work, return_url, now_ms).await)
    }
    async fn confirm(&self, work: &PaymentWork) -> Answer<Outcome> {
        answer(self.try_confirm(work).await)
    }
    async fn query(&self, work: &PaymentWork) -> Answer<Standing> {
        answer(self.try_query(work).await)
    }
    async fn refund(&self, work: &RefundWork) -> Answer<String> {
        answer(self.try_refund(work).await)
    }
    async fn query_refund(&self, work: &RefundWork) -> Answer<RefundStanding> {
        answer(self.try_query_refund(work).await)
    }
}

fn answer<T>(result: Result<T, Doubt>) -> Answer<T> {
    match result {
        Ok(settled) => Answer::Settled(settled),
        Err(doubt) => Answer::Unknown(doubt),
    }
}

fn refusal(code: &str, message: &str) -> Refusal {
    Refusal { code: code.to_owned(), message: message.to_owned() }
}

fn mismatch(field: &'static str, expected: &str, got: &str) -> Doubt {
    let got = got.chars().take(100).collect();
    Doubt::Mismatch(Mismatch { field, expected: expected.to_owned(), got })
}

fn same(field: &'static str, expected: &str, got: &str) -> Result<(), Doubt> {
    if expected == got { Ok(()) } else { Err(mismatch(field, expected, got)) }
}

/// Some answers are not documented to carry the id; when one does, it must be ours.
fn same_if_said(field: &'static str, expected: &str, got: Option<&str>) -> Result<(), Doubt> {
    got.map_or(Ok(()), |got| same(field, expected, got))
}

fn known<'w>(value: Option<&'w str>, name: &str) -> Result<&'w str, Doubt> {
    value.ok_or_else(|| Doubt::Unreadable(format!("the ledger has no {name} for this payment")))
}
