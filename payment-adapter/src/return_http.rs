//! Where the provider sends the shopper back: `/payments/{payment}/return/{secret}/{approve|cancel|fail}`.
//!
//! Only written down here: a GET never moves money. The worker, woken by the row, confirms or asks the provider. The
//! secret is known to the provider and the shopper's browser alone; with a wrong one nothing changes and nothing is
//! told. Coming back twice, or in two tabs, has one effect: the ledger takes a return in state `ready` only.

use crate::metric;
use crate::providers::Account;
use crate::together::{Together, alone};
use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use ledger::{Approval, Ledger, LedgerError, PaymentWork, Return};
use metrics::counter;
use service_kit::clock::now_ms;
use service_kit::ids::{OrderId, PaymentId};
use service_kit::problem::{Problem, Slug};
use std::sync::Arc;

/// Longest secret that is looked up, in bytes.
const SECRET_BYTES_MAX: usize = 128;

/// What the routes need.
#[derive(Clone)]
struct Desk {
    ledger: Ledger,
    accounts: Arc<[Account]>,
    /// Returns that are being written.
    approvals: Arc<Together<Approval, Option<Option<OrderId>>>>,
}

/// The routes.
pub fn router(ledger: Ledger, accounts: Arc<[Account]>) -> Router {
    Router::new()
        .route("/payments/{payment}/return/{secret}/{what}", get(come_back).post(come_back))
        .fallback(|headers: HeaderMap| async move { refuse(&headers, Slug::NotFound) })
        .with_state(Desk { ledger, accounts, approvals: Arc::default() })
}

async fn come_back(
    State(desk): State<Desk>,
    Path((payment, secret, what)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let (result, response) = match record(&desk, &payment, &secret, &what, query.as_deref()).await {
        Ok(Some((word, order))) => {
            (word, (StatusCode::SEE_OTHER, [(header::LOCATION, format!("/orders/{order}"))]).into_response())
        }
        Ok(None) => ("refused", refuse(&headers, Slug::NotFound)),
        Err(error) => {
            tracing::error!(%error, "a return was not written down");
            ("unavailable", refuse(&headers, Slug::StoreUnavailable))
        }
    };
    counter!(metric::RETURNS, "result" => result).increment(1);
    quiet(response)
}

/// Writes the return down. `None` when anything about the address is wrong.
async fn record(
    desk: &Desk,
    payment: &str,
    secret: &str,
    what: &str,
    query: Option<&str>,
) -> Result<Option<(&'static str, OrderId)>, LedgerError> {
    let Ok(payment) = payment.parse::<PaymentId>() else { return Ok(None) };
    if secret.len() > SECRET_BYTES_MAX {
        return Ok(None);
    }
    let (word, what) = match what {
        "approve" => {
            let Some(work) = desk.ledger.payment_by_secret(payment, secret).await? else { return Ok(None) };
            match code(desk, &work, query.unwrap_or_default()) {
                Some(code) => ("approve", Return::Approved { code }),
                None => return Ok(None),
            }
        }
        "cancel" => ("cancel", Return::Cancelled),
        "fail" => ("fail", Return::Failed),
        _ => return Ok(None),
    };
    let order = service_kit::failpoint::around("P5.before", "P5.after", write(desk, payment, secret, what)).await?;
    Ok(order.map(|order| (word, order)))
}

/// Writes it, together with whoever comes back just now; alone, should the batch not have been written.
async fn write(desk: &Desk, payment: PaymentId, secret: &str, what: Return) -> Result<Option<OrderId>, LedgerError> {
    if let Return::Approved { code } = &what {
        let approval = Approval { payment, secret: secret.to_owned(), code: code.clone() };
        let all = |all: Vec<Approval>| async move {
            match desk.ledger.record_approvals(&all, now_ms()).await {
                Ok(orders) => orders.into_iter().map(Some).collect(),
                Err(error) => alone(&error, &all),
            }
        };
        if let Some(order) = desk.approvals.write(approval, all).await.flatten() {
            return Ok(order);
        }
    }
    desk.ledger.record_return(payment, secret, &what, now_ms()).await
}

/// The code for the confirm call, when the address says nothing that contradicts our books. An address with another
/// amount or order was changed on its way (a shopper may type into it): it changes nothing here, and the true one
/// can still come.
fn code(desk: &Desk, work: &PaymentWork, query: &str) -> Option<String> {
    // Any account of the provider: how an address is read does not depend on whose it is, and what came back must not be
    // lost while an account is missing from the configuration.
    let account = desk.accounts.iter().find(|account| account.provider.name() == work.provider)?;
    let claims = account.provider.claims(query)?;
    let agrees = claims.order.is_none_or(|order| order == work.order.to_string())
        && claims.amount_minor.is_none_or(|minor| minor == work.amount.minor())
        && claims.provider_ref.is_none_or(|reference| Some(reference) == work.provider_ref);
    if !agrees {
        tracing::warn!(payment = %work.id, "a return address says another order or amount: not taken");
    }
    agrees.then_some(claims.code)
}

const NOT_FOUND: &str = include_str!("../pages/not_found.html");
const UNAVAILABLE: &str = include_str!("../pages/unavailable.html");

/// A problem document, or for a browser a page that says what to do.
pub(crate) fn refuse(headers: &HeaderMap, slug: Slug) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (detail, page) = match slug {
        Slug::StoreUnavailable => ("Nothing is lost. Call this address again in a few seconds.", UNAVAILABLE),
        _ => ("This return address belongs to no payment.", NOT_FOUND),
    };
    let problem = Problem::new(slug, detail);
    let problem = if slug == Slug::StoreUnavailable { problem.retry_after_s(3) } else { problem };
    if !accepts.contains("text/html") {
        return problem.into_response();
    }
    let status = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::NOT_FOUND);
    let mut response = (status, Html(page)).into_response();
    let policy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    if let Some(seconds) = problem.retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The address holds a secret: no cache keeps it, no other site hears of it.
pub(crate) fn quiet(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
