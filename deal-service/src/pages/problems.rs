//! `/problems/{slug}`: what each kind of refusal means. And every refusal of a page, as a page.

use super::Shop;
use super::problem_text::{problem_text, slug_of};
use super::text::fill;
use super::visit::{Frame, Refusal, Tab, Visit};
use askama::Template;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use futures::FutureExt as _;
use service_kit::problem::{Problem, Slug};
use std::panic::AssertUnwindSafe;

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    f: Frame,
    title: &'static str,
    body: &'static str,
    incident: String,
    back: String,
    /// Status and address of the kind, on its documentation page.
    reference: Option<(u16, String)>,
}

/// Documentation of one kind.
pub async fn show(visit: Visit, Path(slug): Path<String>) -> Result<Response, Refusal> {
    let slug = slug_of(&slug).ok_or_else(|| visit.refuse(&Problem::new(Slug::NotFound, "")))?;
    let (status, name, _) = slug.facts();
    let (title, body) = problem_text(slug, visit.lang);
    let page = ProblemPage {
        f: visit.frame(Tab::None),
        title,
        body,
        incident: String::new(),
        back: "/deals".to_owned(),
        reference: Some((status, format!("/problems/{name}"))),
    };
    Ok(visit.page(StatusCode::OK, &page))
}

/// The title, the explanation and the incident of a problem, for a page that shows it in place.
pub fn words(visit: &Visit, problem: &Problem) -> (&'static str, &'static str, String) {
    let (mut title, mut body) = problem_text(problem.slug, visit.lang);
    // A refusal that names the way in is about the pass; the shopper's words for that are another kind's.
    if problem.extra.contains_key("enter_path") {
        (title, body) = problem_text(Slug::TicketInvalid, visit.lang);
    }
    if problem.extra.contains_key("stale_form") {
        body = visit.text().problem_stale_form;
    }
    let incident = problem
        .extra
        .get("incident")
        .and_then(|v| v.as_str())
        .map(|id| fill(visit.text().problem_incident, &[("incident", id)]));
    (title, body, incident.unwrap_or_default())
}

/// A problem as a page of its own, with a link to `back`.
pub fn page(visit: &Visit, problem: &Problem, back: String) -> Response {
    let (title, body, incident) = words(visit, problem);
    let page = ProblemPage { f: visit.frame(Tab::None), title, body, incident, back, reference: None };
    let mut response = visit.page(status_of(problem), &page);
    if let Some(seconds) = problem.retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The HTTP status of a problem.
pub fn status_of(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The net under a handler that panics: the same page as for every other fault of ours.
pub async fn catch_panic(State(shop): State<Shop>, request: Request, next: Next) -> Response {
    let (headers, uri) = (request.headers().clone(), request.uri().clone());
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            let visit = Visit::new(&shop, headers, &uri, None, service_kit::clock::now_ms());
            visit.problem(&Problem::internal(&"a page panicked"))
        }
    }
}

/// Any path that is no page: an asset, or nothing.
pub async fn not_found(visit: Visit, uri: axum::http::Uri) -> Response {
    super::assets::serve(uri.path()).unwrap_or_else(|| visit.problem(&Problem::new(Slug::NotFound, "")))
}

/// A page's path with a method that it does not have.
pub async fn wrong_method(visit: Visit) -> Response {
    visit.problem(&Problem::new(Slug::MethodNotAllowed, ""))
}
