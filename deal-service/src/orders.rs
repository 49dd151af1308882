//! What a shopper does with an order: look, pay, cancel, want the money back.

use crate::app::App;
use crate::request::{Answer, OrderAction, PageRequest, fingerprint};
use crate::view::{OrderView, Page};
use crate::{metric, refusal};
use ledger::{
    CancelRefusal, Idem, LedgerError, Order, OrderState, RefundRefusal, Replay, RequestRefund, Saved, StartPayment,
    StartRefusal,
};
use service_kit::clock::now_ms;
use service_kit::ids::{AccountId, OrderId, PaymentId, RefundId, VisitorId};
use service_kit::problem::{Problem, Slug};

/// The one provider that can be asked for.
pub const PROVIDER: &str = "kakaopay";
/// Longest reason of a refund, in characters.
pub const REASON_CHARS_MAX: usize = 200;

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

    /// Asks for a payment; the payment adapter goes on from there. 202.
    ///
    /// # Errors
    /// `not-found`, `wrong-state`, `idempotency-key-reused`, or a 503.
    pub async fn start_payment(&self, action: OrderAction) -> Result<Answer, Problem> {
        let start = StartPayment {
            payment: PaymentId::new(),
            order: action.order,
            account: action.account,
            provider: PROVIDER.to_owned(),
            return_secret: VisitorId::new().as_str().to_owned(), // 128 random bits in URL-safe characters
            trace_id: action.trace_id.clone(),
        };
        let idem = idem(&action, &["payment", PROVIDER]);
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
        let replay =
            self.parts.ledger.cancel_order(action.order, action.account, now_ms(), &idem, |o| saved(200, o)).await;
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
    pub async fn request_refund(&self, action: OrderAction, reason: Option<String>) -> Result<Answer, Problem> {
        let reason = reason.unwrap_or_default().trim().to_owned();
        if reason.chars().count() > REASON_CHARS_MAX || reason.chars().any(char::is_control) {
            return Err(Problem::field("reason", "has at most 200 characters on one line"));
        }
        let idem = idem(&action, &["refund", &reason]);
        let request = RequestRefund {
            refund: RefundId::new(),
            order: action.order,
            account: action.account,
            reason,
            trace_id: action.trace_id,
        };
        let replay = self.parts.ledger.request_refund(&request, now_ms(), &idem, |o| saved(202, o)).await;
        answer(replay, "refunds", |refused| match refused {
            RefundRefusal::NotFound => refusal::not_found("order"),
            RefundRefusal::WrongState(state) => wrong_state(state, "Only a paid order can be refunded."),
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
