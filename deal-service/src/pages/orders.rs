//! `/orders` and `/orders/{id}`: what a shopper holds, pays and gets back. The page is live by the
//! order's events; without JavaScript it refreshes itself while something is on its way, and can be told to stop.

use super::buy::Alert;
use super::deal_facts::Badge;
use super::lang::Lang;
use super::next::Next;
use super::order_facts::{self, Stage};
use super::problems::status_of;
use super::sent::Sent;
use super::visit::{Frame, Refusal, Tab, Visit};
use super::{Shop, format, text};
use crate::orders::{REASON_CHARS_MAX, RefundAsk};
use crate::request::{Answer, IdempotencyKey, OrderAction, PageRequest};
use crate::view::OrderView;
use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use service_kit::ids::{AccountId, DealId, OrderId};
use service_kit::problem::{Problem, Slug};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Orders on one page of the list.
const ORDERS_PER_PAGE: u32 = 10;
/// Choices of units to give back on an order's page; the API takes any number.
const REFUND_CHOICES_MAX: usize = 20;

#[derive(Template)]
#[template(path = "orders.html")]
pub(super) struct OrdersPage {
    pub f: Frame,
    pub rows: Vec<Row>,
    pub more: Option<String>,
}

/// An order in the list.
pub(super) struct Row {
    pub href: String,
    pub title: String,
    pub badge: Badge,
    pub amount: String,
    pub quantity: String,
    pub at: String,
}

#[derive(Template)]
#[template(path = "order.html")]
pub(super) struct OrderPage {
    pub f: Frame,
    pub id: OrderId,
    pub here: String,
    pub deal_href: String,
    pub title: String,
    pub alert: Option<Alert>,
    pub key: String,
    pub live: bool,
    pub badge: Badge,
    pub note: &'static str,
    pub provider_note: Option<String>,
    pub quantity: String,
    pub amount: String,
    pub ordered: String,
    pub hold: Option<Hold>,
    pub provider: Option<String>,
    /// The providers to choose from: name and words; empty when nothing is to be paid.
    pub pay_with: Vec<PayWith>,
    pub can_cancel: bool,
    pub can_refund: bool,
    /// How many units can be given back, all of them first; empty when nothing can be.
    pub refund_choices: Vec<RefundChoice>,
    pub ended: bool,
    pub refreshes: bool,
    pub reason_chars_max: usize,
    pub form_key: String,
}

/// Until when the units are kept.
pub(super) struct Hold {
    pub until_ms: i64,
    pub left: String,
    pub words: String,
}

/// So many units for so much money; without `units` all that is left.
pub(super) struct RefundChoice {
    pub units: String,
    pub label: String,
}

fn refund_choices(order: &OrderView, lang: Lang) -> Vec<RefundChoice> {
    let t = lang.text();
    let all = RefundChoice {
        units: String::new(),
        label: text::fill(t.refund_all, &[("units", &order.sold_units.to_string())]),
    };
    let some = |units: i64| {
        let (units, amount) = (units.to_string(), format::money(order.cost_of(units)?, lang));
        let label = text::fill(t.refund_some, &[("units", &units), ("amount", &amount)]);
        Some(RefundChoice { units, label })
    };
    std::iter::once(all).chain((1..order.sold_units).filter_map(some)).take(REFUND_CHOICES_MAX).collect()
}

/// A button to pay with.
pub(super) struct PayWith {
    pub provider: &'static str,
    pub label: &'static str,
}

fn pay_with(providers: &[&'static str], lang: Lang) -> Vec<PayWith> {
    let t = lang.text();
    let label = |provider: &str| match provider {
        "kakaopay" => t.pay_kakaopay,
        "toss" => t.pay_toss,
        _ => t.pay_stripe,
    };
    providers.iter().map(|provider| PayWith { provider, label: label(provider) }).collect()
}

impl OrderPage {
    pub fn new(
        f: Frame,
        order: &OrderView,
        title: String,
        providers: &[&'static str],
        phone: bool,
        may_refresh: bool,
    ) -> Self {
        let (t, lang, now_ms) = (f.t, f.lang, f.now_ms);
        let stage = Stage::of(order, now_ms);
        let hold = stage.can_pay().then(|| {
            let left = format::left(order.hold_expires_at_ms.saturating_sub(now_ms), lang);
            let words =
                text::fill(t.hold_until, &[("time", &format::clock(order.hold_expires_at_ms)), ("left", &left)]);
            Hold { until_ms: order.hold_expires_at_ms, left, words }
        });
        let message = order.payment.as_ref().and_then(|p| p.failure_message.as_deref()).filter(|m| !m.is_empty());
        Self {
            id: order.id,
            here: format!("/orders/{}", order.id),
            deal_href: format!("/deals/{}", order.deal),
            title,
            alert: None,
            key: order_facts::key(order),
            live: !order.state.is_settled(),
            badge: stage.badge(lang),
            note: stage.note(lang),
            provider_note: message.map(|m| text::fill(t.provider_says, &[("message", m)])),
            quantity: text::fill(t.fact_limit_value, &[("limit", &order.quantity.to_string())]),
            amount: format::money(order.amount, lang),
            ordered: format::date_time(order.created_at_ms, lang),
            hold,
            provider: order_facts::provider_page(order, phone).map(str::to_owned),
            pay_with: if stage.can_pay() { pay_with(providers, lang) } else { Vec::new() },
            can_cancel: stage.can_cancel(),
            can_refund: stage.can_refund(),
            refund_choices: if stage.can_refund() { refund_choices(order, lang) } else { Vec::new() },
            ended: matches!(
                stage,
                Stage::Cancelled | Stage::Expired | Stage::Declined | Stage::PaymentCancelled | Stage::Refunded
            ),
            refreshes: stage.is_moving() && may_refresh,
            reason_chars_max: REASON_CHARS_MAX,
            form_key: IdempotencyKey::random().as_str().to_owned(),
            f,
        }
    }
}

/// The shopper's orders, newest first.
pub async fn list(State(shop): State<Shop>, visit: Visit) -> Result<Response, Refusal> {
    let account = visit.account_or_sign_in(Next::Orders)?;
    let request =
        PageRequest { limit: ORDERS_PER_PAGE, starting_after: visit.param("after").and_then(|id| id.parse().ok()) };
    let found = shop.app.orders(account, request).await.map_err(|p| visit.refuse(&p))?;
    let mut titles: BTreeMap<DealId, String> = BTreeMap::new();
    let mut rows = Vec::with_capacity(found.data.len());
    for order in &found.data {
        if let Entry::Vacant(unknown) = titles.entry(order.deal) {
            unknown.insert(title_of(&shop, order).await);
        }
        rows.push(Row {
            href: format!("/orders/{}", order.id),
            title: titles.get(&order.deal).cloned().unwrap_or_default(),
            badge: Stage::of(order, visit.now_ms).badge(visit.lang),
            amount: format::money(order.amount, visit.lang),
            quantity: text::fill(visit.text().fact_limit_value, &[("limit", &order.quantity.to_string())]),
            at: format::date_time(order.created_at_ms, visit.lang),
        });
    }
    let more = found.data.last().filter(|_| found.has_more).map(|o| format!("/orders?after={}", o.id));
    Ok(visit.page(StatusCode::OK, &OrdersPage { f: visit.frame(Tab::Orders), rows, more }))
}

/// One order.
pub async fn show(State(shop): State<Shop>, visit: Visit, Path(id): Path<String>) -> Result<Response, Refusal> {
    let id = order_id(&visit, &id)?;
    let account = visit.account_or_sign_in(Next::Order(id))?;
    let may_refresh = visit.param("refresh") != Some("off");
    draw(&shop, &visit, account, id, None, may_refresh).await
}

/// Starts the payment; the order page leads on to the provider.
pub async fn pay(State(shop): State<Shop>, Path(id): Path<String>, sent: Sent) -> Result<Response, Refusal> {
    let action = action(&sent, &id)?;
    let (account, order) = (action.account, action.order);
    // A page from before the choice existed names none: the shop's first.
    let first = shop.app.parts.config.providers.first().map_or("", String::as_str);
    let named = sent.fields.get("provider");
    let done = shop.app.start_payment(action, if named.is_empty() { first } else { named }).await;
    // The fragment tells the script that pay was pressed just now: it may open the provider's page once.
    after(&shop, &sent.visit, account, order, done, "#pay").await
}

/// Gives the units back.
pub async fn cancel(State(shop): State<Shop>, Path(id): Path<String>, sent: Sent) -> Result<Response, Refusal> {
    let action = action(&sent, &id)?;
    let (account, order) = (action.account, action.order);
    let done = shop.app.cancel_order(action).await;
    after(&shop, &sent.visit, account, order, done, "").await
}

/// Asks for the money back.
pub async fn refund(State(shop): State<Shop>, Path(id): Path<String>, sent: Sent) -> Result<Response, Refusal> {
    let action = action(&sent, &id)?;
    let (account, order) = (action.account, action.order);
    let reason: String =
        sent.fields.get("reason").trim().chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
    let units = match sent.fields.get("units") {
        "" => None,
        units => Some(units.parse().map_err(|_| {
            sent.visit.refuse(&Problem::field("units", "is a number of units, or empty for all of them"))
        })?),
    };
    let ask = RefundAsk { reason: (!reason.is_empty()).then_some(reason), units, ..RefundAsk::default() };
    let done = shop.app.request_refund(action, ask).await;
    after(&shop, &sent.visit, account, order, done, "").await
}

fn order_id(visit: &Visit, id: &str) -> Result<OrderId, Refusal> {
    id.parse().map_err(|_| visit.refuse(&Problem::new(Slug::NotFound, "")))
}

fn action(sent: &Sent, id: &str) -> Result<OrderAction, Refusal> {
    let order = order_id(&sent.visit, id)?;
    let account = sent.visit.account_or_sign_in(Next::Order(order))?;
    let key = sent.fields.key().map_err(|p| sent.visit.refuse(&p))?;
    Ok(OrderAction { account, order, key, trace_id: sent.visit.trace_id.clone() })
}

/// On success back to the order; a refusal is shown on the order as it is now.
async fn after(
    shop: &Shop,
    visit: &Visit,
    account: AccountId,
    order: OrderId,
    done: Result<Answer, Problem>,
    fragment: &str,
) -> Result<Response, Refusal> {
    match done {
        Ok(_) => Ok(visit.redirect(&format!("{}{fragment}", Next::Order(order)))),
        Err(problem) if problem.slug == Slug::NotFound => Err(visit.refuse(&problem)),
        Err(problem) => draw(shop, visit, account, order, Some(problem), false).await,
    }
}

async fn draw(
    shop: &Shop,
    visit: &Visit,
    account: AccountId,
    id: OrderId,
    problem: Option<Problem>,
    may_refresh: bool,
) -> Result<Response, Refusal> {
    let order = match shop.app.order(account, id).await {
        Ok(order) => order,
        // If even reading fails, the first problem says more than the second.
        Err(second) => return Err(visit.refuse(problem.as_ref().unwrap_or(&second))),
    };
    let title = title_of(shop, &order).await;
    let providers = shop.app.providers_for(order.amount.currency());
    let mut page = OrderPage::new(visit.frame(Tab::Orders), &order, title, &providers, visit.is_phone(), may_refresh);
    page.alert = problem.as_ref().map(|p| Alert::new(visit, p));
    Ok(visit.page(problem.as_ref().map_or(StatusCode::OK, status_of), &page))
}

/// The deal's title; an order is worth showing without it.
async fn title_of(shop: &Shop, order: &OrderView) -> String {
    shop.app.deal(order.deal).await.map(|d| d.title).unwrap_or_else(|_| order.deal.to_string())
}
