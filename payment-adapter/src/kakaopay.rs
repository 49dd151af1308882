//! KakaoPay, single payment: `ready → (shopper) → approve`, `cancel`, `order`.
//!
//! The provider has no webhook, no idempotency key and no public list of error codes, so only three things are
//! believed: an approve answer with an `aid`, a cancel answer with an `aid`, and the status that `/order` reports;
//! and those only when tid, order id and amounts are ours. Everything else is a [`Doubt`].
//!
//! What makes a repetition safe: the provider takes one approve per tid; a cancel carries `cancel_available_amount`,
//! which no longer fits after the first one; a lost `ready` leaves a session that nobody knows and that ends by itself.

mod wire;

use crate::config::{self, Secret};
use crate::http::{Http, Reach, Reply, Send, short};
use crate::provider::{
    Answer, Claims, Doubt, Outcome, Provider, RefundStanding, Refusal, Session, Standing, answer, known, refusal, same,
    same_if_said,
};
use async_trait::async_trait;
use ledger::{PaymentWork, Prepared, RefundWork};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::config::{ConfigError, require};
use service_kit::money::Currency;
use service_kit::planted;
use wire::{ApproveBody, CancelBody, OrderBody, ReadyBody};

/// Longest item name that the provider takes, in characters.
const ITEM_NAME_CHARS_MAX: usize = 100;

/// Longest `pg_token` that is taken, in bytes.
const TOKEN_BYTES_MAX: usize = 200;

/// Settings of the driver.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KakaoPayConfig {
    /// Scheme and host of the API.
    pub base_url: String,
    /// The secret key.
    pub secret_key: Secret,
    /// The merchant code, 10 characters.
    pub cid: String,
    /// How long one call may take from its first to its last byte, in milliseconds.
    #[serde(default = "config::timeout_ms")]
    pub timeout_ms: u64,
    /// How many calls run at once.
    #[serde(default = "config::concurrency")]
    pub concurrency: usize,
    /// Life of a session at the provider, in milliseconds.
    #[serde(default = "session_ms")]
    pub session_ms: i64,
}

fn session_ms() -> i64 {
    15 * 60 * 1000
}

impl KakaoPayConfig {
    /// Refuses values that the types let through. `at` is where the section stands.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self, at: &str) -> Result<(), ConfigError> {
        config::reach(at, &self.base_url, &[("secret_key", &self.secret_key)], self.timeout_ms, self.concurrency)?;
        require(self.cid.len() == 10, &format!("{at}.cid"), "10 characters")?;
        require(
            (1_000..=86_400_000).contains(&self.session_ms),
            &format!("{at}.session_ms"),
            "between 1000 and 86400000 milliseconds",
        )
    }
}

/// The driver.
#[derive(Debug)]
pub struct KakaoPay {
    http: Http,
    cid: String,
    session_ms: i64,
    concurrency: usize,
}

impl KakaoPay {
    /// A driver with its own connections.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(cfg: &KakaoPayConfig) -> anyhow::Result<Self> {
        let reach = Reach {
            base_url: &cfg.base_url,
            authorization: format!("SECRET_KEY {}", cfg.secret_key.expose()),
            timeout_ms: cfg.timeout_ms,
            concurrency: cfg.concurrency,
        };
        let http = Http::new(&reach)?;
        Ok(Self { http, cid: cfg.cid.clone(), session_ms: cfg.session_ms, concurrency: cfg.concurrency })
    }

    async fn post(&self, endpoint: &str, body: &Value) -> Result<Said, Doubt> {
        said(self.http.call(&format!("/online/v1/payment/{endpoint}"), Send::Json(body), None).await?)
    }

    async fn order(&self, tid: &str, order_id: &str) -> Result<OrderBody, Doubt> {
        let reply = self.post("order", &json!({ "cid": self.cid, "tid": tid })).await?;
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
            "partner_order_id": if planted!("provider-gets-another-reference") { work.id.0 } else { work.order.0 },
            "partner_user_id": work.account,
            "item_name": work.item_name.chars().filter(|c| !c.is_control()).take(ITEM_NAME_CHARS_MAX).collect::<String>(),
            "quantity": work.quantity,
            "total_amount": work.amount.minor(),
            "tax_free_amount": 0,
            "approval_url": format!("{return_url}/approve"),
            "cancel_url": format!("{return_url}/cancel"),
            "fail_url": format!("{return_url}/fail"),
        });
        let reply = self.post("ready", &request).await?;
        // Nothing can be charged without a session, so a refusal is final here.
        if let Said::No(refusal) = reply {
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

    async fn try_confirm(&self, work: &PaymentWork) -> Result<Standing, Doubt> {
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
        let body: ApproveBody = self.post("approve", &request).await?.ok()?;
        same("tid", tid, &body.tid)?;
        same("partner_order_id", &work.order.to_string(), &body.partner_order_id)?;
        if !planted!("amount-not-compared") {
            same("amount", &work.amount.minor().to_string(), &body.amount.total.to_string())?;
        }
        Ok(Standing::Ended(Outcome::Paid { reference: body.aid, amount: work.amount, refunded_minor: 0 }))
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
            "SUCCESS_PAYMENT" | "PART_CANCEL_PAYMENT" | "CANCEL_PAYMENT" => {
                if !planted!("amount-not-compared") {
                    same("amount", &work.taken().minor().to_string(), &body.amount.total.to_string())?;
                }
                // Word and sum must tell the same story. A last part may leave the word at "in part": the sum decides.
                let told = match body.canceled_amount.total {
                    0 => "SUCCESS_PAYMENT",
                    sum if sum == body.amount.total && body.status == "CANCEL_PAYMENT" => "CANCEL_PAYMENT",
                    sum if (1..=body.amount.total).contains(&sum) => "PART_CANCEL_PAYMENT",
                    _ => "a sum within the amount",
                };
                same("status", told, &body.status)?;
                let capture = body.actions("PAYMENT").next().map(|action| action.aid.clone());
                let reference = capture.ok_or_else(|| Doubt::Unreadable("paid without a PAYMENT action".to_owned()))?;
                let refunded_minor = body.canceled_amount.total;
                ended(Outcome::Paid { reference, amount: work.taken(), refunded_minor })
            }
            other => Err(Doubt::Unreadable(format!("status {other}"))),
        }
    }

    async fn try_refund(&self, work: &RefundWork) -> Result<RefundStanding, Doubt> {
        let tid = known(work.provider_ref.as_deref(), "tid")?;
        let balance = work.captured.minor().saturating_sub(work.refunded_before_minor);
        let request = json!({
            "cid": self.cid,
            "tid": tid,
            "cancel_amount": work.amount.minor(),
            "cancel_tax_free_amount": 0,
            "cancel_available_amount": balance,
            "payload": work.id,
        });
        let body: CancelBody = self.post("cancel", &request).await?.ok()?;
        same("tid", tid, &body.tid)?;
        let asked = work.amount.minor();
        same("canceled_amount", &asked.to_string(), &body.approved_cancel_amount.total.to_string())?;
        let sum = work.refunded_before_minor.saturating_add(asked);
        same("canceled_amount", &sum.to_string(), &body.canceled_amount.total.to_string())?;
        Ok(RefundStanding::Done { reference: body.aid })
    }

    async fn try_query_refund(&self, work: &RefundWork) -> Result<RefundStanding, Doubt> {
        let body = self.order(known(work.provider_ref.as_deref(), "tid")?, &work.order.to_string()).await?;
        same("amount", &work.captured.minor().to_string(), &body.amount.total.to_string())?;
        let ours = work.id.to_string();
        if let Some(action) = body.actions("CANCEL").find(|a| a.payload.as_deref() == Some(&ours)) {
            return Ok(RefundStanding::Done { reference: action.aid.clone() });
        }
        let cancelled = body.canceled_amount.total;
        if cancelled == work.refunded_before_minor {
            return Ok(RefundStanding::NotDone);
        }
        // When all is given back, the shopper has it, whoever pressed the button; less than that is not ours to judge.
        same("canceled_amount", &work.captured.minor().to_string(), &cancelled.to_string())?;
        match body.actions("CANCEL").last() {
            Some(action) => Ok(RefundStanding::Done { reference: action.aid.clone() }),
            None => Err(Doubt::Unreadable("cancelled without a CANCEL action".to_owned())),
        }
    }
}

/// An answer in the provider's form.
#[derive(Debug)]
enum Said {
    /// HTTP 200.
    Yes(Reply),
    /// HTTP 4xx with the provider's error body.
    No(Refusal),
}

impl Said {
    /// The body of a success.
    fn ok<T: serde::de::DeserializeOwned>(self) -> Result<T, Doubt> {
        match self {
            Self::Yes(reply) => reply.read(),
            Self::No(refusal) => Err(Doubt::Refused(refusal)),
        }
    }
}

fn said(reply: Reply) -> Result<Said, Doubt> {
    if reply.status == 200 {
        return Ok(Said::Yes(reply));
    }
    if reply.status == 403 {
        return Err(Doubt::Key(403));
    }
    let code = reply.body.get("error_code").and_then(Value::as_i64);
    let code = code.ok_or_else(|| Doubt::Unreadable(format!("HTTP {} without error_code", reply.status)))?;
    let method = reply.body.pointer("/extras/method_result_message").and_then(Value::as_str);
    let message = method.or_else(|| reply.body.get("error_message").and_then(Value::as_str)).unwrap_or_default();
    Ok(Said::No(Refusal { code: code.to_string(), message: short(message) }))
}

#[async_trait]
impl Provider for KakaoPay {
    fn name(&self) -> &'static str {
        "kakaopay"
    }
    fn concurrency(&self) -> usize {
        self.concurrency
    }
    fn claims(&self, query: &str) -> Option<Claims> {
        let code = query.split('&').find_map(|pair| pair.strip_prefix("pg_token="))?;
        // Only its plain alphabet: it is sent on to the provider as it is.
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
        let ok = (1..=TOKEN_BYTES_MAX).contains(&code.len()) && code.bytes().all(plain);
        ok.then(|| Claims { code: code.to_owned(), order: None, amount_minor: None, provider_ref: None })
    }
    async fn prepare(&self, work: &PaymentWork, return_url: &str, now_ms: i64) -> Answer<Session> {
        answer(self.try_prepare(work, return_url, now_ms).await)
    }
    async fn confirm(&self, work: &PaymentWork) -> Answer<Standing> {
        answer(self.try_confirm(work).await)
    }
    async fn query(&self, work: &PaymentWork) -> Answer<Standing> {
        answer(self.try_query(work).await)
    }
    async fn refund(&self, work: &RefundWork) -> Answer<RefundStanding> {
        answer(self.try_refund(work).await)
    }
    async fn query_refund(&self, work: &RefundWork) -> Answer<RefundStanding> {
        answer(self.try_query_refund(work).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver() -> KakaoPay {
        service_kit::install_crypto_providers();
        let cfg = json!({ "base_url": "http://127.0.0.1:1", "secret_key": "DEVk", "cid": "TC0ONETIME" });
        KakaoPay::new(&serde_json::from_value(cfg).unwrap()).unwrap()
    }

    #[test]
    fn only_a_plain_code_is_taken() {
        let driver = driver();
        assert_eq!(driver.claims("a=b&pg_token=f0e1-_").map(|c| c.code).as_deref(), Some("f0e1-_"));
        let long = format!("pg_token={}", "x".repeat(201));
        for bad in ["", "pg_token=", "pg_token=a%20b", "xpg_token=a", "pg_token=a\"b", &long] {
            assert_eq!(driver.claims(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_refusal_needs_the_providers_own_form() {
        let reply = |status, body| said(Reply { status, body });
        assert!(
            matches!(reply(400, json!({ "error_code": -780, "error_message": "no" })), Ok(Said::No(r)) if r.code == "-780")
        );
        assert!(matches!(reply(404, json!({})), Err(Doubt::Unreadable(_))));
        assert!(matches!(reply(403, json!({})), Err(Doubt::Key(403))));
    }
}
