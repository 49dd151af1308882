//! `/deals/{id}/buy`: the checkout, behind the waiting room. The gate lets through who has a pass; the
//! pass is verified here again, so that nobody gets past the line by reaching this service directly.
//!
//! The form carries an idempotency key, fresh per page: a double click, a reload of the POST or a second
//! tab of the same page is one order. After an answer that left the outcome open (5xx, still running)
//! the form keeps its key, so that pressing again cannot order twice.

use super::accounts::Entered;
use super::deal_facts::Standing;
use super::deals::deal_of;
use super::next::Next;
use super::problems::{status_of, words};
use super::sent::Sent;
use super::visit::{Frame, Refusal, Tab, Visit};
use super::{Shop, format, text};
use crate::request::{HoldRequest, IdempotencyKey};
use crate::view::DealView;
use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use service_kit::money::Quantity;
use service_kit::problem::{Problem, Slug};

/// Longest list of quantities; the limit per person of a deal is at most this.
const CHOICES_MAX: i64 = 100;

#[derive(Template)]
#[template(path = "buy.html")]
pub(super) struct BuyPage {
    pub f: Frame,
    pub deal_href: String,
    pub title: String,
    pub price: String,
    pub held_note: Option<&'static str>,
    pub alert: Option<Alert>,
    /// The checkout form, while there is something to order and somebody who orders.
    pub order: Option<OrderForm>,
    /// The forms of who is not signed in.
    pub accounts: Option<Accounts>,
}

/// A problem shown in place.
pub(super) struct Alert {
    pub title: &'static str,
    pub body: &'static str,
    pub incident: String,
}

impl Alert {
    pub fn new(visit: &Visit, problem: &Problem) -> Self {
        let (title, body, incident) = words(visit, problem);
        Self { title, body, incident }
    }
}

/// The two ways to become somebody.
pub(super) struct Accounts {
    pub login: Entered,
    pub signup: Entered,
}

/// What can be ordered.
pub(super) struct OrderForm {
    pub key: String,
    pub choices: Vec<Choice>,
    pub help: String,
    /// Beside the field, when what was sent is none of the choices.
    pub error: Option<&'static str>,
}

/// One quantity with its total: the amount on the first screen is the amount that is charged.
pub(super) struct Choice {
    pub quantity: i64,
    pub total: String,
    pub label: String,
    pub selected: bool,
}

impl OrderForm {
    /// The choices of `deal`: up to the limit per person, and not more than are left (at least one,
    /// because held units return).
    pub fn new(deal: &DealView, key: IdempotencyKey, chosen: i64, f: &Frame) -> Self {
        let most = deal.per_user_limit.min(deal.available.max(1)).clamp(1, CHOICES_MAX);
        let choices = (1..=most)
            .filter_map(|n| {
                let total = format::money(deal.price.times(Quantity::new(n).ok()?).ok()?, f.lang);
                let label = text::fill(f.t.quantity_option, &[("n", &n.to_string()), ("total", &total)]);
                Some(Choice { quantity: n, total, label, selected: n == chosen.min(most) })
            })
            .collect();
        let help = text::fill(f.t.quantity_help, &[("limit", &deal.per_user_limit.to_string())]);
        Self { key: key.as_str().to_owned(), choices, help, error: None }
    }
}

/// What of the checkout is shown.
struct Checkout<'a> {
    deal: &'a DealView,
    problem: Option<Problem>,
    key: IdempotencyKey,
    chosen: i64,
}

impl Checkout<'_> {
    fn answer(self, visit: &Visit) -> Response {
        let standing = Standing::of(self.deal);
        let nothing_left = match standing {
            Standing::Scheduled | Standing::Ended => Some(Problem::new(Slug::DealNotOpen, "")),
            Standing::SoldOut => Some(Problem::new(Slug::SoldOut, "")),
            Standing::Live | Standing::AllHeld => None,
        };
        let can_order = nothing_left.is_none();
        let problem = self.problem.or(nothing_left);
        let f = visit.frame(Tab::Deals);
        let next = Next::Buy(self.deal.id);
        let bad_quantity = problem.as_ref().is_some_and(|p| p.slug == Slug::InvalidField);
        let order = (can_order && visit.session.is_some()).then(|| OrderForm {
            error: bad_quantity.then_some(f.t.error_quantity),
            ..OrderForm::new(self.deal, self.key, self.chosen, &f)
        });
        let page = BuyPage {
            deal_href: format!("/deals/{}", self.deal.id),
            title: self.deal.title.clone(),
            price: format::money(self.deal.price, visit.lang),
            held_note: (standing == Standing::AllHeld).then_some(visit.text().held_note),
            alert: problem.as_ref().filter(|_| !bad_quantity || order.is_none()).map(|p| Alert::new(visit, p)),
            order,
            accounts: (can_order && visit.session.is_none())
                .then(|| Accounts { login: Entered::empty(next), signup: Entered::empty(next) }),
            f,
        };
        visit.page(problem.as_ref().map_or(StatusCode::OK, status_of), &page)
    }
}

/// The checkout, or the sign-in forms in its place.
pub async fn show(State(shop): State<Shop>, visit: Visit, Path(id): Path<String>) -> Result<Response, Refusal> {
    let deal = deal_of(&shop, &visit, &id).await?;
    shop.app.check_pass(deal.id, &visit.headers, visit.now_ms).map_err(|p| no_pass(&visit, &deal, &p))?;
    Ok(Checkout { deal: &deal, problem: None, key: IdempotencyKey::random(), chosen: 1 }.answer(&visit))
}

/// Takes the units and leads to the order.
pub async fn place(State(shop): State<Shop>, Path(id): Path<String>, sent: Sent) -> Result<Response, Refusal> {
    let Sent { visit, fields } = sent;
    let deal = deal_of(&shop, &visit, &id).await?;
    let (lease, visitor) =
        shop.app.check_pass(deal.id, &visit.headers, visit.now_ms).map_err(|p| no_pass(&visit, &deal, &p))?;
    let account = visit.account_or_sign_in(Next::Buy(deal.id))?;
    let key = fields.key().map_err(|p| visit.refuse(&p))?;
    let chosen = fields.get("quantity").parse::<i64>().unwrap_or(0);
    let placed = match Quantity::new(chosen) {
        Ok(quantity) => {
            let trace_id = visit.trace_id.clone();
            shop.app
                .place_hold(HoldRequest {
                    account,
                    deal: deal.id,
                    lease,
                    visitor,
                    quantity,
                    key: key.clone(),
                    trace_id,
                })
                .await
        }
        Err(_) => Err(Problem::field("quantity", "is not one of the quantities shown")),
    };
    match placed {
        Ok((order, _)) => Ok(visit.redirect(&Next::Order(order.id).to_string())),
        Err(problem) => {
            let key = if is_open(&problem) { key } else { IdempotencyKey::random() };
            Ok(Checkout { deal: &deal, problem: Some(problem), key, chosen: chosen.max(1) }.answer(&visit))
        }
    }
}

/// Whether the order may exist although this answer is a refusal.
fn is_open(problem: &Problem) -> bool {
    problem.status() >= 500 || problem.slug == Slug::IdempotencyKeyInFlight
}

fn no_pass(visit: &Visit, deal: &DealView, problem: &Problem) -> Refusal {
    Refusal::from(super::problems::page(visit, problem, Next::Deal(deal.id).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_definite_refusal_gives_the_form_a_new_key() {
        for slug in [Slug::Internal, Slug::StoreUnavailable, Slug::IdempotencyKeyInFlight] {
            assert!(is_open(&Problem::new(slug, "")), "{slug:?}");
        }
        for slug in [Slug::SoldOut, Slug::PerUserLimit, Slug::DealNotOpen, Slug::IdempotencyKeyReused] {
            assert!(!is_open(&Problem::new(slug, "")), "{slug:?}");
        }
    }
}
