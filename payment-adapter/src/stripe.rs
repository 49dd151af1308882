//! Stripe: a PaymentIntent with manual capture. `create → (our page with the provider's script) → (shopper) → capture`,
//! `refunds`, `retrieve`.
//!
//! The shopper's approval only reserves the money; it moves with our capture and with nothing else. Believed are: a
//! PaymentIntent about our payment (its metadata) with our currency and amount, and a refund with our refund's id. An
//! error settles nothing: a decline at capture is found again in the PaymentIntent's status.
//!
//! What makes a repetition safe: each call that changes something carries an Idempotency-Key, and Stripe compares the
//! parameters. It also keeps the first answer to a key, a 500 as well as a success: with one key for all tries, a capture
//! that was refused once (the money was still on its way) would be refused for ever. A PaymentIntent is captured once,
//! whatever the key, and one that nobody was sent to charges nobody, so those two calls have a key per try
//! (`{payment}:prepare:{try}`, `{payment}:{try}`). A refund has no such guard at Stripe: its key is `{refund}` for life,
//! before each repetition the worker asks, and a refund that carries our id is ours.
//!
//! A payment that ends here without a capture is cancelled there (best effort), so that the shopper's money is not
//! reserved for longer than it must; Stripe itself lets go of it after days.

mod notice;
mod wire;

use crate::config::{self, Secret};
use crate::http::{Http, Reach, Reply, Send, short};
use crate::provider::{
    About, Answer, BadNotice, CheckoutPage, Claims, Doubt, Listed, Listing, Notice, Outcome, Provider, RefundStanding,
    Refusal, Session, Standing, answer, checkout_url, known, plain, refusal, same,
};
use async_trait::async_trait;
use axum::http::HeaderMap;
use ledger::{PaymentWork, Prepared, RefundWork};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use service_kit::config::{ConfigError, require};
use wire::{Intent, Page, Refund, Refunds};

/// Longest id of the provider, in bytes.
const ID_BYTES_MAX: usize = 255;
/// Longest description, in characters.
const DESCRIPTION_CHARS_MAX: usize = 200;
/// How long a key is good, in ms: the provider keeps it for at least 24 hours; nothing is repeated in its last one.
const KEY_LIFE_MS: i64 = 23 * 3600 * 1000;
/// Entries of one page of a list.
const PAGE_ENTRIES: usize = 50;
/// Pages of one payment's refunds that are read at most. An order has no more refunds than units of its currency, but
/// a list must end.
const REFUND_PAGES_MAX: usize = 10;

/// Settings of the driver.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StripeConfig {
    /// Scheme and host of the API.
    pub base_url: String,
    /// The secret key (`sk_…`, `rk_…`).
    pub secret_key: Secret,
    /// The publishable key of the same account (`pk_…`). It stands in the page: no secret.
    pub publishable_key: String,
    /// What the endpoint for webhooks is signed with (`whsec_…`).
    pub webhook_secret: Secret,
    /// The secret before it, while both are in use.
    #[serde(default)]
    pub webhook_secret_old: Option<Secret>,
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
    /// How long the shopper has, in milliseconds.
    #[serde(default = "session_ms")]
    pub session_ms: i64,
}

fn sdk_url() -> String {
    "https://js.stripe.com/v3/".to_owned()
}
fn page_origins() -> Vec<String> {
    ["https://api.stripe.com", "https://*.js.stripe.com", "https://hooks.stripe.com"].map(str::to_owned).to_vec()
}
fn session_ms() -> i64 {
    30 * 60 * 1000
}

impl StripeConfig {
    /// Refuses values that the types let through. `at` is where the section stands.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self, at: &str) -> Result<(), ConfigError> {
        let mut secrets = vec![("secret_key", &self.secret_key), ("webhook_secret", &self.webhook_secret)];
        secrets.extend(self.webhook_secret_old.as_ref().map(|secret| ("webhook_secret_old", secret)));
        config::reach(at, &self.base_url, &secrets, self.timeout_ms, self.concurrency)?;
        // A secret key here would be shown to every shopper.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        require(
            self.publishable_key.starts_with("pk_") && self.publishable_key.bytes().all(plain),
            &format!("{at}.publishable_key"),
            "a publishable key (pk_…)",
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
pub struct Stripe {
    http: Http,
    publishable_key: String,
    webhook_secrets: Vec<Secret>,
    sdk_url: String,
    page_origins: Vec<String>,
    session_ms: i64,
    concurrency: usize,
}

impl Stripe {
    /// A driver with its own connections.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(cfg: &StripeConfig) -> anyhow::Result<Self> {
        let reach = Reach {
            base_url: &cfg.base_url,
            authorization: format!("Bearer {}", cfg.secret_key.expose()),
            timeout_ms: cfg.timeout_ms,
            concurrency: cfg.concurrency,
        };
        Ok(Self {
            http: Http::new(&reach)?,
            publishable_key: cfg.publishable_key.clone(),
            webhook_secrets: [Some(cfg.webhook_secret.clone()), cfg.webhook_secret_old.clone()]
                .into_iter()
                .flatten()
                .collect(),
            sdk_url: cfg.sdk_url.clone(),
            page_origins: cfg.page_origins.clone(),
            session_ms: cfg.session_ms,
            concurrency: cfg.concurrency,
        })
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, form: &[(&str, String)], key: &str) -> Result<T, Doubt> {
        let form: Vec<(String, String)> =
            form.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        said(self.http.call(path, Send::Form(&form), Some(key)).await?)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, Doubt> {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let path = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        said(self.http.call(&path, Send::Nothing, None).await?)
    }

    async fn try_prepare(&self, work: &PaymentWork, return_url: &str, now_ms: i64) -> Result<Session, Doubt> {
        if work.amount.minor() == 0 {
            return Ok(Session::Declined(refusal("amount", "Stripe takes amounts from 1 on")));
        }
        let page = checkout_url(return_url)?;
        let form = [
            ("amount", work.amount.minor().to_string()),
            ("currency", work.amount.currency().code().to_ascii_lowercase()),
            ("capture_method", "manual".to_owned()),
            ("automatic_payment_methods[enabled]", "true".to_owned()),
            ("description", work.item_name.chars().filter(|c| !c.is_control()).take(DESCRIPTION_CHARS_MAX).collect()),
            ("metadata[order]", work.order.to_string()),
            ("metadata[payment]", work.id.to_string()),
        ];
        let key = format!("{}:prepare:{}", work.id, work.tries);
        let intent: Intent = match self.post("/v1/payment_intents", &form, &key).await {
            // Nothing can be charged without a session, so a refusal is final here.
            Err(Doubt::Refused(why)) => return Ok(Session::Declined(why)),
            said => said?,
        };
        intent.check(work, None)?;
        // With another method the shopper's approval alone would move money.
        same("capture_method", "manual", intent.capture_method.as_deref().unwrap_or_default())?;
        let id = plain_id(&intent.id)?;
        let secret = intent.client_secret.as_deref().filter(|secret| is_secret_of(secret, id));
        let secret = secret.ok_or_else(|| Doubt::Unreadable("a PaymentIntent without its client secret".to_owned()))?;
        Ok(Session::Open(Prepared {
            provider_ref: id.to_owned(),
            redirect_pc: page.clone(),
            redirect_mobile: page,
            redirect_app: secret.to_owned(),
            expires_at_ms: now_ms.saturating_add(self.session_ms),
        }))
    }

    async fn try_confirm(&self, work: &PaymentWork) -> Result<Standing, Doubt> {
        let id = plain_id(known(work.provider_ref.as_deref(), "PaymentIntent")?)?;
        let form = [("amount_to_capture", work.amount.minor().to_string())];
        let key = format!("{}:{}", work.id, work.tries);
        let intent: Intent = self.post(&format!("/v1/payment_intents/{id}/capture"), &form, &key).await?;
        intent.check(work, Some(id))?;
        intent.standing(work, 0)
    }

    async fn try_query(&self, work: &PaymentWork) -> Result<Standing, Doubt> {
        let id = plain_id(known(work.provider_ref.as_deref(), "PaymentIntent")?)?;
        let intent: Intent = self.get(&format!("/v1/payment_intents/{id}"), &[]).await?;
        intent.check(work, Some(id))?;
        let standing = intent.standing(work, 0)?;
        if !matches!(standing, Standing::Ended(Outcome::Paid { .. })) {
            return Ok(standing);
        }
        // What went back since stands in the refunds, not in the PaymentIntent.
        let refunds = self.refunds(id, work.amount).await?;
        intent.standing(work, refunds.gone_minor())
    }

    async fn try_abandon(&self, work: &PaymentWork) -> Result<(), Doubt> {
        let Some(id) = work.provider_ref.as_deref() else { return Ok(()) };
        let path = format!("/v1/payment_intents/{}/cancel", plain_id(id)?);
        let form = [("cancellation_reason", "abandoned".to_owned())];
        let _: Value = self.post(&path, &form, &format!("{}:cancel", work.id)).await?;
        Ok(())
    }

    /// All refunds of a payment, newest first.
    async fn refunds(&self, intent: &str, captured: service_kit::money::Money) -> Result<Refunds, Doubt> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..REFUND_PAGES_MAX {
            let mut query = vec![("payment_intent", intent.to_owned()), ("limit", PAGE_ENTRIES.to_string())];
            query.extend(after.take().map(|after| ("starting_after", after)));
            let page: Page<Refund> = self.get("/v1/refunds", &query).await?;
            for refund in &page.data {
                refund.check(intent, captured)?;
            }
            after = page.data.last().map(|last| last.id.clone()).filter(|_| page.has_more);
            all.extend(page.data);
            if after.is_none() {
                return Ok(Refunds(all));
            }
        }
        Err(Doubt::Unreadable("the list of refunds has no end".to_owned()))
    }

    async fn try_refund(&self, work: &RefundWork) -> Result<RefundStanding, Doubt> {
        let intent = plain_id(known(work.provider_ref.as_deref(), "PaymentIntent")?)?;
        let form = [
            ("payment_intent", intent.to_owned()),
            ("amount", work.amount.minor().to_string()),
            ("reason", "requested_by_customer".to_owned()),
            ("metadata[refund]", work.id.to_string()),
            ("metadata[order]", work.order.to_string()),
        ];
        let refund: Refund = self.post("/v1/refunds", &form, &work.id.to_string()).await?;
        refund.check(intent, work.captured)?;
        same("reference", &work.id.to_string(), refund.our_id().unwrap_or_default())?;
        refund.standing(work)
    }

    async fn try_query_refund(&self, work: &RefundWork) -> Result<RefundStanding, Doubt> {
        let intent = plain_id(known(work.provider_ref.as_deref(), "PaymentIntent")?)?;
        let refunds = self.refunds(intent, work.captured).await?;
        if let Some(ours) = refunds.ours(work.id) {
            return ours.standing(work);
        }
        let gone_minor = refunds.gone_minor();
        if gone_minor == work.refunded_before_minor {
            return Ok(RefundStanding::NotDone);
        }
        // When all is given back, the shopper has it, whoever pressed the button; less than that is not ours to judge.
        same("refunded", &work.captured.minor().to_string(), &gone_minor.to_string())?;
        match refunds.0.first() {
            Some(latest) => Ok(RefundStanding::Done { reference: latest.id.clone() }),
            None => Err(Doubt::Unreadable("given back without a refund".to_owned())),
        }
    }

    /// First the PaymentIntents made in the time, then the refunds made in it; the cursor says which list it is in.
    async fn try_list(&self, from_ms: i64, to_ms: i64, page: Option<String>) -> Result<Listing, Doubt> {
        let page = page.unwrap_or_else(|| INTENTS.to_owned());
        let (list, after) = page.split_once(':').unwrap_or((page.as_str(), ""));
        let mut query = vec![
            ("created[gte]", from_ms.div_euclid(1_000).to_string()),
            ("created[lt]", to_ms.div_euclid(1_000).saturating_add(1).to_string()),
            ("limit", PAGE_ENTRIES.to_string()),
        ];
        if !after.is_empty() {
            query.push(("starting_after", after.to_owned()));
        }
        if list == INTENTS {
            let page: Page<Intent> = self.get("/v1/payment_intents", &query).await?;
            let next = page.cursor(INTENTS, |intent| &intent.id).unwrap_or_else(|| REFUNDS.to_owned());
            return Ok(Listing { entries: page.data.iter().filter_map(Intent::listed).collect(), next: Some(next) });
        }
        let page: Page<Refund> = self.get("/v1/refunds", &query).await?;
        let next = page.cursor(REFUNDS, |refund| &refund.id);
        Ok(Listing { entries: page.data.iter().filter_map(Refund::listed).collect(), next })
    }
}

/// The cursor's word for the list of PaymentIntents.
const INTENTS: &str = "payment_intents";
/// The cursor's word for the list of refunds.
const REFUNDS: &str = "refunds";

/// An id that may stand in an address.
fn plain_id(id: &str) -> Result<&str, Doubt> {
    let ok = (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if ok { Ok(id) } else { Err(Doubt::Unreadable("an id of the provider is not plain".to_owned())) }
}

/// Whether a client secret belongs to a PaymentIntent.
fn is_secret_of(secret: &str, intent: &str) -> bool {
    secret.strip_prefix(intent).is_some_and(|rest| rest.starts_with("_secret_"))
}

/// The body of a 2xx; of a 4xx the provider's own words.
fn said<T: DeserializeOwned>(reply: Reply) -> Result<T, Doubt> {
    let status = reply.status;
    if (200..=299).contains(&status) {
        return reply.read();
    }
    let error = reply.body.get("error");
    let word = |name: &str| error.and_then(|error| error.get(name)).and_then(Value::as_str);
    let kind = word("type").ok_or_else(|| Doubt::Unreadable(format!("HTTP {status} without an error type")))?;
    let code = word("decline_code").or_else(|| word("code")).unwrap_or(kind);
    Err(match (status, kind) {
        (403, _) => Doubt::Key(status),
        // The twin of this request is still running.
        (409, _) => Doubt::Limited,
        (_, "api_error") => Doubt::Fault(status),
        (_, "card_error" | "invalid_request_error" | "idempotency_error") => {
            Doubt::Refused(Refusal { code: short(code), message: short(word("message").unwrap_or_default()) })
        }
        _ => Doubt::Unreadable(format!("error type {}", short(kind))),
    })
}

#[async_trait]
impl Provider for Stripe {
    fn name(&self) -> &'static str {
        "stripe"
    }
    fn concurrency(&self) -> usize {
        self.concurrency
    }
    fn key_life_ms(&self) -> Option<i64> {
        Some(KEY_LIFE_MS)
    }
    async fn prepare(&self, work: &PaymentWork, return_url: &str, now_ms: i64) -> Answer<Session> {
        answer(self.try_prepare(work, return_url, now_ms).await)
    }
    fn checkout(&self, work: &PaymentWork, session: &str, return_url: &str) -> Option<CheckoutPage> {
        // The page's own address: the provider sends the shopper there after a redirect, and a failed one is tried again.
        let page = checkout_url(return_url).ok()?;
        is_secret_of(session, work.provider_ref.as_deref()?).then(|| CheckoutPage {
            script_url: self.sdk_url.clone(),
            start: include_str!("stripe/start.js"),
            data: json!({
                "publishableKey": self.publishable_key,
                "clientSecret": session,
                "returnUrl": page,
                "approveUrl": format!("{return_url}/approve"),
            }),
            origins: self.page_origins.clone(),
        })
    }
    fn claims(&self, query: &str) -> Option<Claims> {
        let status = plain(query, "redirect_status", ID_BYTES_MAX)?;
        if !matches!(status.as_str(), "succeeded" | "pending" | "processing" | "requires_capture") {
            return None;
        }
        let id = plain(query, "payment_intent", ID_BYTES_MAX).filter(|id| plain_id(id).is_ok())?;
        Some(Claims { code: id.clone(), order: None, amount_minor: None, provider_ref: Some(id) })
    }
    async fn confirm(&self, work: &PaymentWork) -> Answer<Standing> {
        answer(self.try_confirm(work).await)
    }
    async fn query(&self, work: &PaymentWork) -> Answer<Standing> {
        answer(self.try_query(work).await)
    }
    async fn abandon(&self, work: &PaymentWork) {
        if let Err(doubt) = self.try_abandon(work).await {
            tracing::info!(payment = %work.id, %doubt, "a PaymentIntent was not cancelled; the provider lets go of it by itself");
        }
    }
    async fn refund(&self, work: &RefundWork) -> Answer<RefundStanding> {
        answer(self.try_refund(work).await)
    }
    async fn query_refund(&self, work: &RefundWork) -> Answer<RefundStanding> {
        answer(self.try_query_refund(work).await)
    }
    fn notice(&self, headers: &HeaderMap, body: &[u8], now_ms: i64) -> Result<Notice, BadNotice> {
        let secrets: Vec<&[u8]> = self.webhook_secrets.iter().map(|secret| secret.expose().as_bytes()).collect();
        notice::read(&secrets, headers, body, now_ms)
    }
    fn lists(&self) -> bool {
        true
    }
    async fn list(&self, from_ms: i64, to_ms: i64, page: Option<String>) -> Answer<Listing> {
        answer(self.try_list(from_ms, to_ms, page).await)
    }
}

impl Intent {
    fn listed(&self) -> Option<Listed> {
        let payment = self.ours("payment").and_then(|id| id.parse().ok());
        (self.amount_received > 0).then(|| Listed {
            reference: self.id.clone(),
            about: payment.map_or_else(|| About::Reference(self.id.clone()), About::Payment),
            captured_minor: self.amount_received,
            refunded_minor: 0,
            currency: self.currency.to_ascii_uppercase(),
        })
    }
}

impl Refund {
    fn listed(&self) -> Option<Listed> {
        let intent = self.payment_intent.clone()?;
        self.is_gone().then(|| Listed {
            reference: intent.clone(),
            about: About::Reference(intent),
            captured_minor: 0,
            refunded_minor: self.amount,
            currency: self.currency.to_ascii_uppercase(),
        })
    }
}
