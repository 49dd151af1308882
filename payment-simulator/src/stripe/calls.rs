//! What each call does, under the lock: parameters first (nothing has begun), then the effect, then its events.

use super::body;
use super::error::Refusal;
use super::event::{self, Origin, emit_intent, emit_refund, emit_status};
use super::form::Params;
use super::intent::{Asked, Card, Confirm, Intent, Status};
use super::list::Page;
use super::refund::{Refund, RefundStatus, amount_of, course};
use crate::fault::Fault;
use crate::store::{Due, State, random_hex};
use crate::web::{URL_CHARS_MAX, web_origin};
use serde_json::Value;
use service_kit::money::Currency;

/// The largest amount, in minor units: the provider takes eight digits.
const AMOUNT_MAX: i64 = 99_999_999;
/// How long a test card's refund takes to change its mind, in milliseconds of the simulated clock.
const REFUND_LATER_MS: i64 = 60_000;
/// What a wrong amount is wrong by.
const EXTRA: i64 = 100;
const REASONS: [&str; 3] = ["duplicate", "fraudulent", "requested_by_customer"];
const CANCEL_REASONS: [&str; 4] = ["abandoned", "duplicate", "fraudulent", "requested_by_customer"];

/// One call, read as far as the address goes.
#[derive(Debug, Clone)]
pub enum Call {
    Create,
    Query(String),
    List,
    Confirm(String),
    Capture(String),
    Cancel(String),
    Refund,
    RefundQuery(String),
    RefundList,
    Events,
    Event(String),
}

/// What a call has besides its parameters.
#[derive(Debug, Clone)]
pub struct Setting {
    pub fault: Option<Fault>,
    pub origin: Origin,
    pub payments_max: usize,
    pub now_ms: i64,
}

/// Makes the effect of a call.
///
/// # Errors
/// How the provider says no.
pub fn effect(state: &mut State, call: &Call, params: Params, at: &Setting) -> Result<Value, Refusal> {
    match call {
        Call::Create => create(state, params, at),
        Call::Query(id) => query(state, id, params, at),
        Call::List => list(state, params),
        Call::Confirm(id) => confirm(state, id, params, at),
        Call::Capture(id) => capture(state, id, params, at),
        Call::Cancel(id) => cancel(state, id, params, at),
        Call::Refund => refund(state, params, at),
        Call::RefundQuery(id) => query_refund(state, id, params, at),
        Call::RefundList => list_refunds(state, params),
        Call::Events => list_events(state, params),
        Call::Event(id) => {
            params.finish()?;
            let found = state.stripe.events.iter().find(|event| event.id == *id);
            found.map(|event| event.json.clone()).ok_or_else(|| Refusal::not_found("event", id))
        }
    }
}

fn create(state: &mut State, mut params: Params, at: &Setting) -> Result<Value, Refusal> {
    let amount = params.take_number("amount", 1, AMOUNT_MAX)?.ok_or_else(|| Refusal::missing("amount"))?;
    let currency = params.take("currency").ok_or_else(|| Refusal::missing("currency"))?;
    let currency: Currency = currency
        .to_ascii_uppercase()
        .parse()
        .map_err(|_| Refusal::invalid(&format!("Invalid currency: {currency}"), "currency"))?;
    let capture_method = params.take_one_of("capture_method", &["automatic", "automatic_async", "manual"])?;
    let confirmation_method = params.take_one_of("confirmation_method", &["automatic", "manual"])?;
    let automatic = params.take_bool("automatic_payment_methods[enabled]")?;
    params.take_one_of("automatic_payment_methods[allow_redirects]", &["always", "never"])?;
    let types = params.take_group("payment_method_types");
    let right_now = params.take_bool("confirm")?.unwrap_or(false);
    let asked = Asked {
        amount: if at.fault == Some(Fault::WrongAmount) { amount + EXTRA } else { amount },
        currency,
        capture_method: capture_method.unwrap_or("automatic"),
        confirmation_method: confirmation_method.unwrap_or("automatic"),
        payment_method: payment_method(&mut params)?,
        customer: params.take("customer"),
        description: params.take("description"),
        receipt_email: params.take("receipt_email"),
        return_url: return_url(&mut params)?,
        automatic_payment_methods: automatic.unwrap_or(types.is_empty()),
        metadata: params.take_metadata()?,
    };
    let error_on_action = params.take_bool("error_on_requires_action")?.unwrap_or(false);
    let expand = expand(&mut params)?;
    params.finish()?;
    if right_now && asked.payment_method.is_none() {
        return Err(Refusal::missing("payment_method"));
    }
    if at.fault == Some(Fault::Decline) && !right_now {
        return Err(Refusal::card("card_declined", Some("generic_decline")));
    }
    if state.is_full(at.payments_max) {
        return Err(Refusal::full());
    }
    let id = state.next_long_id("pi_");
    let client_secret = format!("{id}_secret_{}", random_hex::<24>());
    state.stripe.add(Intent::new(id.clone(), client_secret, asked, at.now_ms));
    emit_intent(state, "payment_intent.created", &id, &at.origin, at.now_ms);
    if right_now {
        // The amount is wrong already; the charge follows it.
        let fault = at.fault.filter(|fault| *fault != Fault::WrongAmount);
        charge(state, &id, &Setting { fault, ..at.clone() }, Step { authenticated: false, error_on_action })?;
    }
    told(state, &id, expand, lie(at.fault))
}

/// Which step of the buyer a charge follows.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// 3-D Secure is passed.
    pub authenticated: bool,
    /// Refuse instead of asking for it.
    pub error_on_action: bool,
}

/// Confirms a PaymentIntent with the payment method that it has, and tells everybody.
///
/// # Errors
/// When the card refuses, or the state is not one for this.
pub fn charge(state: &mut State, id: &str, at: &Setting, step: Step) -> Result<(), Refusal> {
    let charge_id = state.next_long_id("ch_");
    let public_url = state.stripe.public_url().to_owned();
    let Some(intent) = state.stripe.find_mut(id) else { return Err(Refusal::not_found("payment_intent", id)) };
    let Some(given) = intent.asked.payment_method.as_deref() else {
        return Err(Refusal::state("You cannot confirm this PaymentIntent because it's missing a payment method."));
    };
    let card = match at.fault {
        Some(Fault::Decline) => Card::Declined("card_declined", Some("generic_decline")),
        _ => Card::of(given).unwrap_or(Card::Good),
    };
    let extra = if at.fault == Some(Fault::WrongAmount) { EXTRA } else { 0 };
    let Step { authenticated, error_on_action } = step;
    let slow = matches!(at.fault, Some(Fault::Processing(_)));
    let how = Confirm { card, charge_id: charge_id.clone(), extra, authenticated, error_on_action, slow };
    let was_open = intent.status.is_open();
    let result = intent
        .confirm(&how, at.now_ms)
        .map_err(|refusal| Refusal { intent: was_open.then(|| body::intent(intent, &public_url, None)), ..refusal });
    let status = intent.status;
    if was_open {
        state.stripe.note_charge(&charge_id, id);
        emit_status(state, id, &at.origin, at.now_ms);
        event::watch_authorization(state, id, at.now_ms);
        if let (Status::Processing, Some(Fault::Processing(ms))) = (status, at.fault) {
            state.at(at.now_ms.saturating_add(ms), Due::StripePayment(id.to_owned()));
        }
    }
    result
}

fn query(state: &State, id: &str, mut params: Params, at: &Setting) -> Result<Value, Refusal> {
    params.take("client_secret");
    let expand = expand(&mut params)?;
    params.finish()?;
    told(state, id, expand, at.fault)
}

fn confirm(state: &mut State, id: &str, mut params: Params, at: &Setting) -> Result<Value, Refusal> {
    let given = payment_method(&mut params)?;
    let return_url = return_url(&mut params)?;
    let error_on_action = params.take_bool("error_on_requires_action")?.unwrap_or(false);
    let expand = expand(&mut params)?;
    params.finish()?;
    let intent = state.stripe.find_mut(id).ok_or_else(|| Refusal::not_found("payment_intent", id))?;
    if intent.status.is_open() {
        intent.asked.payment_method = given.or(intent.asked.payment_method.take());
        intent.asked.return_url = return_url.or(intent.asked.return_url.take());
    }
    charge(state, id, at, Step { authenticated: false, error_on_action })?;
    told(state, id, expand, lie(at.fault))
}

fn capture(state: &mut State, id: &str, mut params: Params, at: &Setting) -> Result<Value, Refusal> {
    let amount = params.take_number("amount_to_capture", 1, AMOUNT_MAX)?;
    let expand = expand(&mut params)?;
    params.finish()?;
    let intent = state.stripe.find_mut(id).ok_or_else(|| Refusal::not_found("payment_intent", id))?;
    if at.fault == Some(Fault::Decline) {
        return Err(Refusal::card("card_declined", Some("generic_decline")));
    }
    intent.capture(amount, if at.fault == Some(Fault::WrongAmount) { EXTRA } else { 0 })?;
    emit_status(state, id, &at.origin, at.now_ms);
    told(state, id, expand, lie(at.fault))
}

fn cancel(state: &mut State, id: &str, mut params: Params, at: &Setting) -> Result<Value, Refusal> {
    let reason = params.take_one_of("cancellation_reason", &CANCEL_REASONS)?;
    let expand = expand(&mut params)?;
    params.finish()?;
    let intent = state.stripe.find_mut(id).ok_or_else(|| Refusal::not_found("payment_intent", id))?;
    intent.cancel(reason, at.now_ms)?;
    emit_status(state, id, &at.origin, at.now_ms);
    told(state, id, expand, at.fault)
}

fn refund(state: &mut State, mut params: Params, at: &Setting) -> Result<Value, Refusal> {
    let amount = params.take_number("amount", 1, AMOUNT_MAX)?;
    let reason = params.take_one_of("reason", &REASONS)?;
    let metadata = params.take_metadata()?;
    let (intent, charge) = (params.take("payment_intent"), params.take("charge"));
    params.take_group("expand");
    params.finish()?;
    let id = match (intent, charge) {
        (Some(id), None) => id,
        (None, Some(charge)) => {
            let known = state.stripe.intent_of(&charge).map(str::to_owned);
            known.ok_or_else(|| Refusal::no_such("charge", &charge, "charge"))?
        }
        (None, None) => return Err(Refusal::missing("payment_intent")),
        _ => return Err(Refusal::invalid("Give either payment_intent or charge.", "charge")),
    };
    let intent = state.stripe.find(&id).ok_or_else(|| Refusal::no_such("payment_intent", &id, "payment_intent"))?;
    let amount = amount_of(intent, state.stripe.refunded(intent), amount)?;
    let Some(paid) = intent.charge.clone() else { return Err(Refusal::internal()) };
    let currency = body::code(intent.asked.currency);
    if at.fault == Some(Fault::Decline) {
        return Err(Refusal::refund(
            "The charge has been charged back; it cannot be refunded.",
            Some("charge_disputed"),
        ));
    }
    let ((status, ends_as), later_ms) = match at.fault {
        Some(Fault::RefundFailsLater(ms)) => ((RefundStatus::Pending, RefundStatus::Failed), ms),
        Some(Fault::RefundPending(ms)) => ((RefundStatus::Pending, RefundStatus::Succeeded), ms),
        _ => (course(paid.card), REFUND_LATER_MS),
    };
    let refund_id = state.next_long_id("re_");
    let (charge, created_ms) = (paid.id, at.now_ms);
    let new = Refund {
        id: refund_id.clone(),
        intent: id,
        charge,
        amount,
        currency,
        reason,
        metadata,
        status,
        ends_as,
        created_ms,
    };
    let mut object = body::refund(&new);
    state.stripe.add_refund(new);
    emit_refund(state, "refund.created", &refund_id, None, &at.origin, at.now_ms);
    if status != ends_as {
        state.at(at.now_ms.saturating_add(later_ms), Due::StripeRefund(refund_id));
    }
    body::falsify(&mut object, at.fault);
    Ok(object)
}

fn query_refund(state: &State, id: &str, mut params: Params, at: &Setting) -> Result<Value, Refusal> {
    params.take_group("expand");
    params.finish()?;
    let refund = state.stripe.refund(id).ok_or_else(|| Refusal::not_found("refund", id))?;
    let mut object = body::refund(refund);
    body::falsify(&mut object, at.fault);
    Ok(object)
}

fn list(state: &State, mut params: Params) -> Result<Value, Refusal> {
    let page = Page::read(&mut params)?;
    let customer = params.take("customer");
    params.take_group("expand");
    params.finish()?;
    let all = state.stripe.newest_intents().filter(|i| customer.is_none() || i.asked.customer == customer);
    let (cut, more) = page.cut(all, |intent| &intent.id, |intent| intent.created_ms)?;
    let data = cut.into_iter().map(|intent| body::intent(intent, state.stripe.public_url(), None)).collect();
    Ok(body::list("/v1/payment_intents", data, more))
}

fn list_refunds(state: &State, mut params: Params) -> Result<Value, Refusal> {
    let page = Page::read(&mut params)?;
    let (intent, charge) = (params.take("payment_intent"), params.take("charge"));
    params.take_group("expand");
    params.finish()?;
    let all = state.stripe.newest_refunds().filter(|refund| {
        intent.as_ref().is_none_or(|id| refund.intent == *id) && charge.as_ref().is_none_or(|id| refund.charge == *id)
    });
    let (cut, more) = page.cut(all, |refund| &refund.id, |refund| refund.created_ms)?;
    Ok(body::list("/v1/refunds", cut.into_iter().map(body::refund).collect(), more))
}

fn list_events(state: &State, mut params: Params) -> Result<Value, Refusal> {
    let page = Page::read(&mut params)?;
    let mut kinds: Vec<String> = params.take_group("types").into_values().collect();
    kinds.extend(params.take("type"));
    params.finish()?;
    let all = state.stripe.events.iter().rev().filter(|event| kinds.is_empty() || kinds.contains(&event.kind));
    let (cut, more) = page.cut(all, |event| &event.id, |event| event.created_ms)?;
    Ok(body::list("/v1/events", cut.into_iter().map(|event| event.json.clone()).collect(), more))
}

/// The PaymentIntent, with the lie that was asked for.
fn told(state: &State, id: &str, expand: bool, fault: Option<Fault>) -> Result<Value, Refusal> {
    let intent = state.stripe.find(id).ok_or_else(|| Refusal::not_found("payment_intent", id))?;
    let refunded = expand.then(|| state.stripe.refunded(intent));
    let mut object = body::intent(intent, state.stripe.public_url(), refunded);
    body::falsify(&mut object, fault);
    Ok(object)
}

/// What is only said. A wrong amount of a call that charges is the truth already.
fn lie(fault: Option<Fault>) -> Option<Fault> {
    fault.filter(|fault| *fault != Fault::WrongAmount)
}

fn payment_method(params: &mut Params) -> Result<Option<String>, Refusal> {
    let Some(given) = params.take("payment_method") else { return Ok(None) };
    match Card::of(&given) {
        Some(_) => Ok(Some(given)),
        None => Err(Refusal::no_such("PaymentMethod", &given, "payment_method")),
    }
}

/// Whether `latest_charge` is wanted whole; nothing else can be expanded.
fn expand(params: &mut Params) -> Result<bool, Refusal> {
    let wanted = params.take_group("expand");
    match wanted.values().find(|what| what.as_str() != "latest_charge") {
        Some(other) => Err(Refusal::invalid(&format!("This property cannot be expanded ({other})."), "expand")),
        None => Ok(!wanted.is_empty()),
    }
}

fn return_url(params: &mut Params) -> Result<Option<String>, Refusal> {
    let Some(url) = params.take("return_url") else { return Ok(None) };
    if url.len() <= URL_CHARS_MAX && web_origin(&url).is_some() {
        Ok(Some(url))
    } else {
        Err(Refusal::invalid("Not a valid URL", "return_url").with_code("url_invalid"))
    }
}

/// The buyer's card on the pay page: attached if the shop gave none that could be asked about.
pub fn pay(state: &mut State, id: &str, at: &Setting) -> Result<(), Refusal> {
    if let Some(intent) = state.stripe.find_mut(id).filter(|intent| intent.status != Status::RequiresAction) {
        intent.asked.payment_method = Some("pm_card_visa".to_owned());
    }
    charge(state, id, at, Step { authenticated: true, error_on_action: false })
}

/// The buyer's bank says no on the pay page.
pub fn decline(state: &mut State, id: &str, at: &Setting) {
    if let Some(intent) = state.stripe.find_mut(id).filter(|intent| intent.status.is_open()) {
        let code = if intent.status == Status::RequiresAction {
            "payment_intent_authentication_failure"
        } else {
            "card_declined"
        };
        intent.refuse(Refusal::card(code, Some("generic_decline")));
        event::emit_status(state, id, &at.origin, at.now_ms);
    }
}
