//! Toss Payments: `(our page with the provider's script) → (shopper) → confirm`, `cancel`, `query`.
//!
//! Believed are: a payment object about our order with our currency and amount, the end that its status names, and the
//! two families of confirm errors that are final for this payment: a decline, and a session that is over
//! ([`code`]). Everything else is a [`Doubt`]. "Fully refunded" is `balanceAmount` 0, never a status.
//!
//! What makes a repetition safe. A **confirm** always carries our payment's id as Idempotency-Key, and the ledger keeps
//! one `paymentKey` per payment: two of them for one order cannot both be charged. The provider binds its first answer
//! to the key, errors too: a confirm that was answered "temporary fault" is answered so again, and the payment ends
//! with its session, ten minutes later, without money. That is the safe side, and it is accepted. A **cancel** carries
//! the balance that we know (`refundableAmount`), which no longer fits after the first one, so for it another key is
//! as safe as the same: it is sent with our refund's id as key, and after each [`CANCELS_PER_KEY`] tries with the next
//! key of the same refund, so that a temporary fault that was bound to a key does not hold a shopper's money for 15
//! days. After a definite refusal the same key never succeeds: the worker asks, and when nothing went back the refund
//! has failed; another try is another refund with another id, and so another key. A **prepare** calls nobody.
//!
//! A refund to a virtual account needs the shopper's bank account, which we do not have: the provider refuses it, the
//! refund fails visibly, and an operator gives the money back in the provider's back office.

mod code;
mod notice;
mod wire;

use crate::config::{self, Secret};
use crate::http::{Http, Reach, Reply, Send};
use crate::provider::{
    About, Answer, BadNotice, CheckoutPage, Claims, Doubt, Listed, Listing, Notice, Outcome, Provider, RefundStanding,
    Session, Standing, answer, checkout_url, known, plain, refusal,
};
use async_trait::async_trait;
use axum::http::HeaderMap;
use base64::Engine as _;
use code::{Class, No, said};
use ledger::{PaymentWork, Prepared, RefundWork};
use serde::Deserialize;
use serde_json::json;
use service_kit::clock::rfc3339;
use service_kit::config::{ConfigError, require};
use service_kit::ids::RefundId;
use service_kit::money::Currency;
use wire::{Payment, Transaction, cancel_reason};

/// Longest `paymentKey`, in bytes.
const PAYMENT_KEY_BYTES_MAX: usize = 200;
/// Longest `orderId`, in bytes.
const ORDER_ID_BYTES_MAX: usize = 64;
/// Longest amount in an address, in digits.
const AMOUNT_DIGITS_MAX: usize = 13;
/// Longest order name, in characters.
const ORDER_NAME_CHARS_MAX: usize = 100;
/// Tries of a cancel until the next key is used.
const CANCELS_PER_KEY: i64 = 8;
/// How long a key is good, in ms: the provider keeps it for 15 days; nothing is repeated on its last one.
const KEY_LIFE_MS: i64 = 14 * 24 * 3600 * 1000;
/// Entries of one page of the list.
const PAGE_ENTRIES: usize = 100;
/// Korean time, in which the list of transactions is asked for, before UTC, in ms.
const KST_MS: i64 = 9 * 3600 * 1000;

/// Means of payment that the script knows, for won.
const METHODS: [&str; 5] = ["CARD", "TRANSFER", "VIRTUAL_ACCOUNT", "MOBILE_PHONE", "CULTURE_GIFT_CERTIFICATE"];

/// Settings of the driver.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TossConfig {
    /// Scheme and host of the API.
    pub base_url: String,
    /// The secret key (`test_sk_…`, `live_sk_…`).
    pub secret_key: Secret,
    /// The client key of the same account (`test_ck_…`, `live_ck_…`). It stands in the page: no secret.
    pub client_key: String,
    /// The means of payment that the window opens with, in the script's words.
    #[serde(default = "method")]
    pub method: String,
    /// The address of the provider's script.
    #[serde(default = "sdk_url")]
    pub sdk_url: String,
    /// Further origins that the script talks to or shows.
    #[serde(default = "page_origins")]
    pub page_origins: Vec<String>,
    /// How long one call may take from its first to its last byte, in milliseconds.
    #[serde(default = "config::timeout_ms")]
    pub timeout_ms: u64,
    /// How many calls run at once.
    #[serde(default = "config::concurrency")]
    pub concurrency: usize,
    /// How long the shopper has, in milliseconds. The provider's own window is 30 minutes.
    #[serde(default = "session_ms")]
    pub session_ms: i64,
}

fn method() -> String {
    "CARD".to_owned()
}
fn sdk_url() -> String {
    "https://js.tosspayments.com/v2/standard".to_owned()
}
fn page_origins() -> Vec<String> {
    vec!["https://*.tosspayments.com".to_owned()]
}
fn session_ms() -> i64 {
    30 * 60 * 1000
}

impl TossConfig {
    /// Refuses values that the types let through. `at` is where the section stands.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self, at: &str) -> Result<(), ConfigError> {
        config::reach(at, &self.base_url, &[("secret_key", &self.secret_key)], self.timeout_ms, self.concurrency)?;
        // A secret key here would be shown to every shopper.
        require(
            self.client_key.contains("ck_") && self.client_key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
            &format!("{at}.client_key"),
            "a client key (…ck_…)",
        )?;
        require(
            METHODS.contains(&self.method.as_str()),
            &format!("{at}.method"),
            "CARD, TRANSFER, VIRTUAL_ACCOUNT, MOBILE_PHONE or CULTURE_GIFT_CERTIFICATE",
        )?;
        crate::checkout_http::validate(at, &self.sdk_url, &self.page_origins)?;
        require(
            (1_000..=86_400_000).contains(&self.session_ms),
            &format!("{at}.session_ms"),
            "between 1000 and 86400000 milliseconds",
        )
    }
}

/// The driver.
#[derive(Debug)]
pub struct Toss {
    http: Http,
    client_key: String,
    method: String,
    sdk_url: String,
    page_origins: Vec<String>,
    session_ms: i64,
    concurrency: usize,
}

impl Toss {
    /// A driver with its own connections.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(cfg: &TossConfig) -> anyhow::Result<Self> {
        // The colon after the key is mandatory: the key is the user, the password is empty.
        let user = base64::engine::general_purpose::STANDARD.encode(format!("{}:", cfg.secret_key.expose()));
        let reach = Reach {
            base_url: &cfg.base_url,
            authorization: format!("Basic {user}"),
            timeout_ms: cfg.timeout_ms,
            concurrency: cfg.concurrency,
        };
        Ok(Self {
            http: Http::new(&reach)?,
            client_key: cfg.client_key.clone(),
            method: cfg.method.clone(),
            sdk_url: cfg.sdk_url.clone(),
            page_origins: cfg.page_origins.clone(),
            session_ms: cfg.session_ms,
            concurrency: cfg.concurrency,
        })
    }

    async fn get(&self, path: &str) -> Result<Result<Reply, No>, Doubt> {
        said(self.http.call(path, Send::Nothing, None).await?)
    }

    fn try_prepare(&self, work: &PaymentWork, return_url: &str, now_ms: i64) -> Result<Session, Doubt> {
        if work.amount.currency() != Currency::KRW || work.amount.minor() == 0 {
            return Ok(Session::Declined(refusal("amount", "Toss Payments takes won here, from 1 on")));
        }
        let page = checkout_url(return_url)?;
        Ok(Session::Open(Prepared {
            // The provider makes its key when the shopper approves; until then our order's id is the name of it all.
            provider_ref: work.order.to_string(),
            redirect_pc: page.clone(),
            redirect_mobile: page,
            redirect_app: String::new(),
            expires_at_ms: now_ms.saturating_add(self.session_ms),
        }))
    }

    async fn try_confirm(&self, work: &PaymentWork) -> Result<Standing, Doubt> {
        let key = known(work.approval_code.as_deref(), "paymentKey")?;
        let request = json!({ "paymentKey": key, "orderId": work.order, "amount": work.amount.minor() });
        let id = work.id.to_string();
        let reply = said(self.http.call("/v1/payments/confirm", Send::Json(&request), Some(&id)).await?)?;
        let payment: Payment = match reply {
            Ok(reply) => reply.read()?,
            Err(no) => {
                return match no.class {
                    Class::Declined => Ok(Standing::Ended(Outcome::Declined(no.why))),
                    // Answered to our key and this paymentKey, so the answer to every repetition as well.
                    Class::SessionOver => Ok(Standing::Ended(Outcome::Expired(no.why))),
                    // Processed, by an earlier call of ours: nothing to wait for before asking.
                    Class::Unknown if no.why.code == "ALREADY_PROCESSED_PAYMENT" => Err(Doubt::Refused(no.why)),
                    _ => Err(no.doubt()),
                };
            }
        };
        payment.check(work.order, work.amount, Some(key))?;
        payment.standing(work.amount)
    }

    async fn try_query(&self, work: &PaymentWork) -> Result<Standing, Doubt> {
        let key = work.approval_code.as_deref();
        let reply = match key {
            Some(key) => self.get(&format!("/v1/payments/{key}")).await?,
            None => self.get(&format!("/v1/payments/orders/{}", work.order)).await?,
        };
        let payment: Payment = match reply {
            Ok(reply) => reply.read()?,
            // Nothing there: nothing was ever confirmed under this name.
            Err(no) if no.class == Class::Missing => return Ok(Standing::Pending),
            Err(no) => return Err(no.doubt()),
        };
        payment.check(work.order, work.taken(), key)?;
        payment.standing(work.taken())
    }

    async fn try_refund(&self, work: &RefundWork) -> Result<RefundStanding, Doubt> {
        let key = key_of(work)?;
        let balance = work.captured.minor().saturating_sub(work.refunded_before_minor);
        let request = json!({
            "cancelReason": cancel_reason(&work.reason, work.id),
            "cancelAmount": work.amount.minor(),
            "refundableAmount": balance,
        });
        let path = format!("/v1/payments/{key}/cancel");
        let idempotency_key = cancel_key(work.id, work.tries);
        let reply = said(self.http.call(&path, Send::Json(&request), Some(&idempotency_key)).await?)?;
        let payment: Payment = reply.map_err(No::doubt)?.read()?;
        payment.check(work.order, work.captured, Some(key))?;
        let standing = payment.our_refund(work)?;
        let standing = standing.ok_or_else(|| Doubt::Unreadable("cancelled without our cancel".to_owned()))?;
        if matches!(standing, RefundStanding::Done { .. }) {
            payment.balance_fits(work)?;
        }
        Ok(standing)
    }

    async fn try_query_refund(&self, work: &RefundWork) -> Result<RefundStanding, Doubt> {
        let key = key_of(work)?;
        let payment: Payment = self.get(&format!("/v1/payments/{key}")).await?.map_err(No::doubt)?.read()?;
        payment.check(work.order, work.captured, Some(key))?;
        match payment.our_refund(work)? {
            Some(standing) => Ok(standing),
            None => payment.refund_by_balance(work),
        }
    }

    /// The names of the cursor (`startingAfter`) and of the page size (`limit`), the form of the dates (Korean time
    /// without a zone), and that a cancel is an entry of its own with its amount, are assumptions: the contract says
    /// that they exist and not how. A page that cannot be read is a doubt, so a wrong assumption is seen, not believed.
    async fn try_list(&self, from_ms: i64, to_ms: i64, page: Option<String>) -> Result<Listing, Doubt> {
        let local = |ms: i64| rfc3339(ms.saturating_add(KST_MS)).chars().take(19).collect::<String>();
        let mut query =
            vec![("startDate", local(from_ms)), ("endDate", local(to_ms)), ("limit", PAGE_ENTRIES.to_string())];
        query.extend(page.map(|after| ("startingAfter", after)));
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&query).finish();
        let reply = self.get(&format!("/v1/transactions?{query}")).await?.map_err(No::doubt)?;
        let transactions: Vec<Transaction> = reply.read_list()?;
        let next = transactions.last().filter(|_| transactions.len() >= PAGE_ENTRIES);
        let next = next.map(|last| last.transaction_key.clone());
        Ok(Listing { entries: transactions.iter().filter_map(listed).collect(), next })
    }
}

/// An entry of the list in which money moved.
fn listed(transaction: &Transaction) -> Option<Listed> {
    let amount = transaction.amount.saturating_abs();
    let (captured_minor, refunded_minor) = match transaction.status.as_str() {
        "DONE" => (amount, 0),
        "CANCELED" | "PARTIAL_CANCELED" => (0, amount),
        _ => return None,
    };
    Some(Listed {
        reference: transaction.payment_key.clone(),
        about: transaction.order_id.parse().map_or(About::Nothing, About::Order),
        captured_minor,
        refunded_minor,
        currency: transaction.currency.to_ascii_uppercase(),
    })
}

/// The provider's key of a captured payment.
fn key_of(work: &RefundWork) -> Result<&str, Doubt> {
    known(work.approval_code.as_deref().or(work.capture_ref.as_deref()), "paymentKey")
}

/// The Idempotency-Key of a cancel; see the module.
fn cancel_key(refund: RefundId, tries: i64) -> String {
    match tries.saturating_sub(1).max(0) / CANCELS_PER_KEY {
        0 => refund.to_string(),
        nth => format!("{refund}-{nth}"),
    }
}

#[async_trait]
impl Provider for Toss {
    fn name(&self) -> &'static str {
        "toss"
    }
    fn concurrency(&self) -> usize {
        self.concurrency
    }
    fn key_life_ms(&self) -> Option<i64> {
        Some(KEY_LIFE_MS)
    }
    async fn prepare(&self, work: &PaymentWork, return_url: &str, now_ms: i64) -> Answer<Session> {
        answer(self.try_prepare(work, return_url, now_ms))
    }
    fn checkout(&self, work: &PaymentWork, _session: &str, return_url: &str) -> Option<CheckoutPage> {
        let name = work.item_name.chars().filter(|c| !c.is_control()).take(ORDER_NAME_CHARS_MAX).collect::<String>();
        Some(CheckoutPage {
            script_url: self.sdk_url.clone(),
            start: include_str!("toss/start.js"),
            data: json!({
                "clientKey": self.client_key,
                "method": self.method,
                "amount": { "currency": work.amount.currency().code(), "value": work.amount.minor() },
                "orderId": work.order,
                "orderName": name,
                "successUrl": format!("{return_url}/approve"),
                "failUrl": format!("{return_url}/fail"),
            }),
            origins: self.page_origins.clone(),
        })
    }
    fn claims(&self, query: &str) -> Option<Claims> {
        let amount = plain(query, "amount", AMOUNT_DIGITS_MAX)?;
        if !amount.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(Claims {
            code: plain(query, "paymentKey", PAYMENT_KEY_BYTES_MAX)?,
            order: Some(plain(query, "orderId", ORDER_ID_BYTES_MAX)?),
            amount_minor: Some(amount.parse().ok()?),
            provider_ref: None,
        })
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
    fn notice(&self, headers: &HeaderMap, body: &[u8], _now_ms: i64) -> Result<Notice, BadNotice> {
        notice::read(headers, body)
    }
    fn lists(&self) -> bool {
        true
    }
    async fn list(&self, from_ms: i64, to_ms: i64, page: Option<String>) -> Answer<Listing> {
        answer(self.try_list(from_ms, to_ms, page).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver() -> Toss {
        service_kit::install_crypto_providers();
        let cfg = json!({ "base_url": "http://127.0.0.1:1", "secret_key": "test_sk_x", "client_key": "test_ck_x" });
        Toss::new(&serde_json::from_value(cfg).unwrap()).unwrap()
    }

    #[test]
    fn only_what_the_provider_sends_is_taken() {
        let driver = driver();
        let good = "paymentType=NORMAL&orderId=0190-aB_c&paymentKey=tgen_2026&amount=25800";
        let claims = driver.claims(good).unwrap();
        assert_eq!((claims.code.as_str(), claims.order.as_deref()), ("tgen_2026", Some("0190-aB_c")));
        assert_eq!((claims.amount_minor, claims.provider_ref), (Some(25_800), None));
        for bad in [
            "",
            "orderId=o&amount=1",
            "paymentKey=k&amount=1",
            "paymentKey=k&orderId=o",
            "paymentKey=k&orderId=o&amount=1.5",
            "paymentKey=k&orderId=o&amount=-1",
            "paymentKey=k&orderId=o&amount=99999999999999",
            "paymentKey=k%2F..%2Fcancel&orderId=o&amount=1",
            "paymentKey=k&paymentKey=l&orderId=o&amount=1",
            "paymentKey=k&orderId=o&amount=1&amount=2",
            &format!("paymentKey={}&orderId=o&amount=1", "k".repeat(201)),
            &format!("paymentKey=k&orderId={}&amount=1", "o".repeat(65)),
        ] {
            assert_eq!(driver.claims(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_cancel_keeps_its_key_for_a_while() {
        let refund = RefundId::new();
        for tries in [i64::MIN, 0, 1, 2, 8] {
            assert_eq!(cancel_key(refund, tries), refund.to_string(), "{tries}");
        }
        assert_eq!(cancel_key(refund, 9), format!("{refund}-1"));
        assert_eq!(cancel_key(refund, 17), format!("{refund}-2"));
    }

    #[test]
    fn a_secret_key_is_no_client_key() {
        let cfg = |client: &str| -> TossConfig {
            let cfg = json!({ "base_url": "http://127.0.0.1:1", "secret_key": "test_sk_x", "client_key": client });
            serde_json::from_value(cfg).unwrap()
        };
        assert!(cfg("test_ck_x").validate("t").is_ok() && cfg("live_gck_x").validate("t").is_ok());
        let error = cfg("test_sk_x").validate("t").unwrap_err().to_string();
        assert!(error.contains("t.client_key"), "{error}");
    }
}
