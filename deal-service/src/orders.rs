//! What a shopper does with an order: look, pay, cancel, want the money back.

use crate::app::App;
use crate::request::{Answer, IdempotencyKey, OrderAction, PageRequest, fingerprint};
use crate::view::{OrderView, Page};
use crate::{metric, refusal};
use ledger::{
    CancelRefusal, Idem, LedgerError, Order, OrderState, RefundBy, RefundRefusal, Replay, RequestRefund, Saved,
    StartPayment, StartRefusal,
};
use service_kit::clock::now_ms;
use service_kit::ids::{AccountId, MerchantId, OrderId, PaymentId, RefundId, VisitorId};
use service_kit::money::{Currency, Money};
use service_kit::problem::{Problem, Slug};

/// A payment provider as shoppers know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaymentProvider {
    /// Its name in the ledger and the API.
    pub name: &'static str,
    /// The only currency that it takes, if it takes only one.
    pub currency: Option<Currency>,
}

/// All providers that the payment adapter has a driver for.
pub const PROVIDERS: &[PaymentProvider] = &[
    PaymentProvider { name: "kakaopay", currency: Some(Currency::KRW) },
    PaymentProvider { name: "toss", currency: Some(Currency::KRW) },
    PaymentProvider { name: "stripe", currency: None },
];
/// Longest reason of a refund, in characters.
pub const REASON_CHARS_MAX: usize = 200;

/// The body of a request for a refund.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundAsk {
    /// Why, for people.
    #[serde(default)]
    pub reason: Option<String>,
    /// How much, in minor units; absent = all that is left.
    #[serde(default)]
    pub amount_minor: Option<i64>,
    /// Units that come back; absent = all with all the money, none with a part of it.
    #[serde(default)]
    pub units: Option<i64>,
}

impl RefundAsk {
    fn reason(&self) -> Result<String, Problem> {
        let reason = self.reason.as_deref().unwrap_or_default().trim().to_owned();
        if reason.chars().count() > REASON_CHARS_MAX || reason.chars().any(char::is_control) {
            return Err(Problem::field("reason", "has at most 200 characters on one line"));
        }
        Ok(reason)
    }
}

impl App {
    /// One order of this account.
    ///
    /// # Errors
    /// `not-found`, also for an order of somebody else; or a 503.
    pub async fn order(&self, account: AccountId, order: OrderId) -> Result<OrderView, Problem> {
        let found = self.parts.ledger.order(order).await.map_err(|e| refusal::ledger(&e))?;
        found.filter(|o| o.account == account).map(|o| OrderView::of(&o)).ok_or_else(|| refusal::not_found("order"))
    }

    /// Orders of this account, newest first.
    ///
    /// # Errors
    /// A 503 when PostgreSQL does not answer.
    pub async fn orders(&self, account: AccountId, page: PageRequest<OrderId>) -> Result<Page<OrderView>, Problem> {
        let wanted = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let found = self
            .parts
            .ledger
            .orders_of(account, page.starting_after, i64::from(page.limit) + 1)
            .await
            .map_err(|e| refusal::ledger(&e))?;
        Ok(Page { data: found.iter().take(wanted).map(OrderView::of).collect(), has_more: found.len() > wanted })
    }

    /// The providers that a shopper may choose for an amount of this currency, the shop's first choice first.
    pub fn providers_for(&self, currency: Currency) -> Vec<&'static str> {
        let configured = self.parts.config.providers.iter();
        configured
            .filter_map(|name| PROVIDERS.iter().find(|p| p.name == name))
            .filter(|p| p.currency.is_none_or(|only| only == currency))
            .map(|p| p.name)
            .collect()
    }

    /// Asks for a payment at a provider; the payment adapter goes on from there. 202.
    ///
    /// # Errors
    /// `not-found`, `wrong-state`, `invalid-field` for another provider, `idempotency-key-reused`, or a 503.
    pub async fn start_payment(&self, action: OrderAction, provider: &str) -> Result<Answer, Problem> {
        let order = self.order(action.account, action.order).await?;
        let choice = self.providers_for(order.amount.currency());
        let Some(provider) = choice.iter().copied().find(|name| *name == provider) else {
            let names = choice.join("`, `");
            return Err(Problem::field("provider", format!("must be one of `{names}` for this order")));
        };
        let start = StartPayment {
            payment: PaymentId::new(),
            order: action.order,
            account: action.account,
            provider: provider.to_owned(),
            return_secret: VisitorId::new().as_str().to_owned(), // 128 random bits in URL-safe characters
            trace_id: action.trace_id.clone(),
        };
        let idem = idem(&action, &["payment", provider]);
        let replay = self.parts.ledger.start_payment(&start, now_ms(), &idem, |o| saved(202, o)).await;
        answer(replay, "payments", |refused| match refused {
            StartRefusal::NotFound => refusal::not_found("order"),
            StartRefusal::WrongState(state) => {
                wrong_state(state, "Only a held order can be paid, before its hold is over.")
            }
        })
    }

    /// Gives the units back, unless money may be moving. 200.
    ///
    /// # Errors
    /// `not-found`, `wrong-state`, `idempotency-key-reused`, or a 503.
    pub async fn cancel_order(&self, action: OrderAction) -> Result<Answer, Problem> {
        let idem = idem(&action, &["cancel"]);
        let replay = service_kit::failpoint::around(
            "C1.before",
            "C1.after",
            self.parts.ledger.cancel_order(action.order, action.account, now_ms(), &idem, |o| saved(200, o)),
        )
        .await;
        answer(replay, "cancel", |refused| match refused {
            CancelRefusal::NotFound => refusal::not_found("order"),
            CancelRefusal::WrongState(state) => wrong_state(
                state,
                "An order can be cancelled until the provider is asked for the money; a paid one can be refunded.",
            ),
        })
    }

    /// Asks for the money back. 202.
    ///
    /// # Errors
    /// `not-found`, `wrong-state`, `invalid-field`, `idempotency-key-reused`, or a 503.
    pub async fn request_refund(&self, action: OrderAction, ask: RefundAsk) -> Result<Answer, Problem> {
        let reason = ask.reason()?;
        // A shopper gives goods back and gets what they cost; other sums are the merchant's to grant.
        if ask.amount_minor.is_some() {
            return Err(Problem::field("amount_minor", "is the merchant's to choose; name `units` or leave both out"));
        }
        let amount_minor = match ask.units {
            None => None,
            Some(units) => Some(self.cost_of(action.account, action.order, units).await?),
        };
        let words = [ask.units.map(|n| n.to_string()).unwrap_or_default(), reason.clone()];
        let idem = idem(&action, &["refund", &words[0], &words[1]]);
        let request = RequestRefund {
            refund: RefundId::new(),
            order: action.order,
            by: RefundBy::Shopper(action.account),
            amount_minor,
            units: ask.units,
            reason,
        };
        self.refund(request, &idem).await
    }

    /// What `units` of an order cost, in minor units.
    async fn cost_of(&self, account: AccountId, order: OrderId, units: i64) -> Result<i64, Problem> {
        let cost = self.order(account, order).await?.cost_of(units);
        cost.map(Money::minor).ok_or_else(|| Problem::field("units", "are 1 to those of the order"))
    }

    /// A merchant gives money of an order of its own deals back, whole or in part. 202.
    ///
    /// # Errors
    /// `not-found`, `wrong-state`, `invalid-field`, `idempotency-key-reused`, or a 503.
    pub async fn merchant_refund(
        &self,
        merchant: MerchantId,
        order: OrderId,
        key: &IdempotencyKey,
        ask: RefundAsk,
    ) -> Result<Answer, Problem> {
        let reason = ask.reason()?;
        let words = [ask.amount_minor, ask.units].map(|n| n.map(|n| n.to_string()).unwrap_or_default());
        let idem = Idem {
            actor: format!("merchant:{merchant}"),
            key: key.as_str().to_owned(),
            fingerprint: fingerprint(&["refund", &words[0], &words[1], &reason, &order.to_string()]),
        };
        let request = RequestRefund {
            refund: RefundId::new(),
            order,
            by: RefundBy::Merchant(merchant),
            amount_minor: ask.amount_minor,
            units: ask.units,
            reason,
        };
        self.refund(request, &idem).await
    }

    async fn refund(&self, request: RequestRefund, idem: &Idem) -> Result<Answer, Problem> {
        let replay = service_kit::failpoint::around(
            "C1.before",
            "C1.after",
            self.parts.ledger.request_refund(&request, now_ms(), idem, |o| saved(202, o)),
        )
        .await;
        answer(replay, "refunds", |refused| match refused {
            RefundRefusal::NotFound => refusal::not_found("order"),
            RefundRefusal::TooLate => Problem::new(
                Slug::WrongState,
                "The time in which you can ask for a refund yourself is over. Please ask the shop.",
            ),
            RefundRefusal::WrongState(state) => wrong_state(state, "Only a paid order can be refunded."),
            RefundRefusal::Amount { left_minor } => {
                Problem::field("amount_minor", "is more than what is left of the payment")
                    .with("left_minor", left_minor)
            }
            RefundRefusal::Units { left_units } => {
                Problem::field("units", "do not fit the amount: with the last of the money go the last of the units")
                    .with("left_units", left_units)
            }
        })
    }
}

fn idem(action: &OrderAction, what: &[&str]) -> Idem {
    let order = action.order.to_string();
    let parts: Vec<&str> = what.iter().copied().chain([order.as_str()]).collect();
    Idem {
        actor: format!("account:{}", action.account),
        key: action.key.as_str().to_owned(),
        fingerprint: fingerprint(&parts),
    }
}

fn saved(status: u16, order: &Order) -> Saved {
    Saved { status, body: serde_json::to_vec(&OrderView::of(order)).unwrap_or_default() }
}

fn answer<R>(
    replay: Result<Replay<R>, LedgerError>,
    route: &'static str,
    refuse: impl FnOnce(R) -> Problem,
) -> Result<Answer, Problem> {
    match replay.map_err(|e| refusal::ledger(&e))? {
        Replay::Fresh(saved) => Ok(Answer { status: saved.status, body: saved.body, replayed: false }),
        Replay::Replayed(saved) => {
            metrics::counter!(metric::REPLAYS, "route" => route).increment(1);
            Ok(Answer { status: saved.status, body: saved.body, replayed: true })
        }
        Replay::KeyReused => Err(refusal::key_reused()),
        Replay::Refused(refused) => Err(refuse(refused)),
    }
}

fn wrong_state(state: OrderState, detail: &str) -> Problem {
    Problem::new(Slug::WrongState, detail).with("state", state.as_str())
}
