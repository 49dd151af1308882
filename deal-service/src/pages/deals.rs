//! `/deals` and `/deals/{id}`: what is sold.

use super::deal_facts::{self, Badge, Bar, Phase, Standing};
use super::visit::{Frame, Refusal, Tab, Visit};
use super::{Shop, format, text};
use crate::request::PageRequest;
use crate::view::DealView;
use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use service_kit::ids::DealId;
use service_kit::problem::{Problem, Slug};

/// Deals on one page of the list: a first screen and its scroll, inside the byte budget.
const DEALS_PER_PAGE: u32 = 12;

#[derive(Template)]
#[template(path = "deals.html")]
pub(super) struct DealsPage {
    pub f: Frame,
    pub cards: Vec<Card>,
    pub more: Option<String>,
}

/// A deal in the list.
pub(super) struct Card {
    href: String,
    title: String,
    price: String,
    badge: Badge,
    bar: Option<Bar>,
    stock: String,
    when: String,
}

impl Card {
    pub fn new(deal: &DealView, visit_lang: super::lang::Lang) -> Self {
        Self {
            href: format!("/deals/{}", deal.id),
            title: deal.title.clone(),
            price: format::money(deal.price, visit_lang),
            badge: Standing::of(deal).badge(visit_lang),
            bar: deal_facts::bar(deal, visit_lang),
            stock: deal_facts::stock_words(deal, visit_lang),
            when: deal_facts::when(deal, visit_lang),
        }
    }
}

#[derive(Template)]
#[template(path = "deal.html")]
pub(super) struct DealPage {
    pub f: Frame,
    pub href: String,
    pub title: String,
    pub description: String,
    pub price: String,
    pub bar: Option<Bar>,
    pub stock: String,
    pub limit: String,
    pub starts: String,
    pub ends: String,
    pub starts_at_ms: i64,
    pub ends_at_ms: i64,
    pub as_of: String,
    pub phases: Vec<Phase>,
}

impl DealPage {
    pub fn new(f: Frame, deal: &DealView) -> Self {
        let (t, lang, now_ms) = (f.t, f.lang, f.now_ms);
        let number = |n: i64| format::grouped(n.max(0));
        Self {
            href: format!("/deals/{}", deal.id),
            title: deal.title.clone(),
            description: deal.description.clone(),
            price: format::money(deal.price, lang),
            bar: deal_facts::bar(deal, lang),
            stock: text::fill(t.fact_stock_value, &[("left", &number(deal.available)), ("total", &number(deal.stock))]),
            limit: text::fill(t.fact_limit_value, &[("limit", &number(deal.per_user_limit))]),
            starts: format::date_time(deal.starts_at_ms, lang),
            ends: format::date_time(deal.ends_at_ms, lang),
            starts_at_ms: deal.starts_at_ms,
            ends_at_ms: deal.ends_at_ms,
            as_of: text::fill(t.as_of, &[("time", &format::clock(now_ms))]),
            phases: deal_facts::phases(deal, now_ms, lang),
            f,
        }
    }
}

/// The list, newest first.
pub async fn list(State(shop): State<Shop>, visit: Visit) -> Result<Response, Refusal> {
    let request =
        PageRequest { limit: DEALS_PER_PAGE, starting_after: visit.param("after").and_then(|id| id.parse().ok()) };
    let found = shop.app.list_deals(request).await.map_err(|p| visit.refuse(&p))?;
    let page = DealsPage {
        f: visit.frame(Tab::Deals),
        cards: found.data.iter().map(|d| Card::new(d, visit.lang)).collect(),
        more: found.data.last().filter(|_| found.has_more).map(|d| format!("/deals?after={}", d.id)),
    };
    Ok(visit.page(StatusCode::OK, &page))
}

/// One deal.
pub async fn show(State(shop): State<Shop>, visit: Visit, Path(id): Path<String>) -> Result<Response, Refusal> {
    let deal = deal_of(&shop, &visit, &id).await?;
    Ok(visit.page(StatusCode::OK, &DealPage::new(visit.frame(Tab::Deals), &deal)))
}

/// The deal with the id in a path.
///
/// # Errors
/// The page for an id that is none, or a deal that cannot be read.
pub async fn deal_of(shop: &Shop, visit: &Visit, id: &str) -> Result<DealView, Refusal> {
    let id: DealId = id.parse().map_err(|_| visit.refuse(&Problem::new(Slug::NotFound, "")))?;
    shop.app.deal(id).await.map_err(|p| visit.refuse(&p))
}
