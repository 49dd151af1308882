//! Taking units: the pass, the fast gate, the final gate.
//!
//! Order: deal known → pass → session (the edge) → key → quantity → fast gate → final gate. The answer to a
//! replay is built from the facts of the moment when the order was made, so it is the same bytes for ever.

use crate::app::App;
use crate::fast_stock::{FastReply, HoldAsk};
use crate::final_gate::GateError;
use crate::request::{HoldRequest, fingerprint};
use crate::view::OrderView;
use crate::{metric, refusal};
use axum::http::HeaderMap;
use ledger::{Deal, HoldOutcome, NewHold};
use service_kit::clock::{monotonic, now_ms};
use service_kit::ids::{DealId, OrderId, RoomId, VisitorId};
use service_kit::planted;
use service_kit::problem::{Problem, Slug};

/// How often a hold is tried while the fast stock is being filled.
const TRIES_MAX: u32 = 8;
/// Pause between two such tries.
const TRY_PAUSE_MS: u64 = 60;

impl App {
    /// Lease number and visitor of a valid pass for this deal's room (header `Floodgate-Pass`, set by the gate).
    ///
    /// # Errors
    /// `forbidden` without a valid pass: nobody gets past the line by reaching this service directly.
    pub fn check_pass(&self, deal: DealId, headers: &HeaderMap, now_ms: i64) -> Result<(u64, VisitorId), Problem> {
        let token = headers.get("floodgate-pass").and_then(|v| v.to_str().ok()).unwrap_or_default();
        match self.parts.passes.verify(token, &RoomId::of_deal(deal), now_ms) {
            Ok(pass) => Ok((pass.number, pass.visitor)),
            Err(_) => {
                metric::reservation(deal, "not_admitted");
                Err(Problem::new(
                    Slug::Forbidden,
                    "Enter through the waiting room: this needs a valid pass for this deal.",
                )
                .with("enter_path", format!("/deals/{deal}/buy")))
            }
        }
    }

    /// Takes units. Answers with the order as it was made, and whether the same key had made it before.
    ///
    /// # Errors
    /// `sold-out`, `pass-of-another-account`, `per-user-limit`, `deal-not-open`, `idempotency-key-reused`, `invalid-field`, or a 503 that says whether to repeat.
    pub async fn place_hold(&self, request: HoldRequest) -> Result<(OrderView, bool), Problem> {
        let result = self.try_hold(&request).await;
        if planted!("descriptor-per-request") {
            std::mem::forget(std::fs::File::open("/dev/null"));
        }
        if planted!("series-per-person") {
            metrics::counter!(metric::RESERVATIONS, "account" => request.account.to_string()).increment(1);
        }
        let label = match &result {
            Ok((_, false)) => "ok",
            Ok((_, true)) if planted!("replay-counted-as-new") => "ok",
            Ok((_, true)) => "duplicate",
            Err(problem) => match problem.slug {
                Slug::SoldOut => "sold_out",
                Slug::PerUserLimit => "limit_per_user",
                Slug::DealNotOpen => "closed",
                Slug::PassOfAnotherAccount => "not_admitted",
                _ => "error",
            },
        };
        // Unknown deals must not make series.
        if !matches!(&result, Err(p) if p.slug == Slug::NotFound) {
            metric::reservation(request.deal, label);
        }
        match &result {
            Ok((_, false)) => metric::order(request.deal, "placed"),
            Ok((_, true)) => metrics::counter!(metric::REPLAYS, "route" => "holds").increment(1),
            Err(_) => {}
        }
        result
    }

    async fn try_hold(&self, request: &HoldRequest) -> Result<(OrderView, bool), Problem> {
        let deal =
            self.parts.catalogue.deal(request.deal).await.map_err(|e| refusal::ledger(&e))?.ok_or_else(no_deal)?;
        let amount = deal.price.times(request.quantity).map_err(|e| Problem::field("quantity", e.to_string()))?;
        let amount = if planted!("price-not-multiplied") { deal.price } else { amount };
        let room = RoomId::of_deal(deal.id);
        for _ in 0..TRIES_MAX {
            let now = now_ms();
            let mut hold = NewHold {
                order: OrderId::new(),
                deal: deal.id,
                account: request.account,
                lease_number: i64::try_from(request.lease).unwrap_or(i64::MAX),
                visitor: request.visitor.clone(),
                quantity: request.quantity.get(),
                amount,
                idempotency_key: match planted!("key-not-kept-with-the-order") {
                    true => OrderId::new().to_string(),
                    false => request.key.as_str().to_owned(),
                },
                fingerprint: fingerprint(&["hold", &deal.id.to_string(), &request.quantity.get().to_string()]),
                hold_expires_at_ms: now.saturating_add(deal.hold_ttl_ms),
                confirm_by_ms: now.saturating_add(i64::from(self.parts.config.confirm_ms)),
                epoch: 0,
                trace_id: request.trace_id.clone(),
            };
            let ask = HoldAsk {
                order: hold.order,
                account: request.account,
                key: request.key.as_str(),
                quantity: request.quantity,
                lease: request.lease,
                visitor: &request.visitor,
                confirm_ms: self.parts.config.confirm_ms,
            };
            let started = monotonic();
            let reply =
                service_kit::failpoint::around("R1.before", "R1.after", self.parts.fast.hold(&room, &ask)).await;
            metrics::histogram!(metric::RESERVATION_DURATION).record(started.elapsed().as_secs_f64());
            let refusal = match reply.map_err(|e| refusal::store(&e))? {
                FastReply::Taken { order, epoch } => {
                    (hold.order, hold.epoch) = (order, epoch);
                    match self.commit(&room, &deal, hold).await? {
                        Some(made) => return Ok(made),
                        None => {
                            pause().await;
                            continue;
                        }
                    }
                }
                FastReply::KeyReused => return Err(refusal::key_reused()),
                FastReply::NotLoaded if now < deal.ends_at_ms => {
                    self.parts.suspects.report(deal.id);
                    pause().await;
                    continue;
                }
                FastReply::NotLoaded => (true, not_open(&deal)),
                FastReply::NotOpen { known } => (known, not_open(&deal)),
                FastReply::Stranger { known } => (known, stranger(&deal)),
                FastReply::PerUserLimit { known } => (known, limit(&deal)),
                FastReply::SoldOut { known } => (known, Problem::sold_out()),
            };
            return match refusal {
                (false, problem) => Err(problem),
                (true, problem) => self.replay_or(hold, problem).await,
            };
        }
        Err(Problem::new(
            Slug::StoreUnavailable,
            "The stock of this deal is being prepared; nothing was taken. Try again in a moment.",
        )
        .retry_after_s(1))
    }

    /// The order and whether it existed before; `None` when the fast stock was older than the ledger's.
    async fn commit(&self, room: &RoomId, deal: &Deal, hold: NewHold) -> Result<Option<(OrderView, bool)>, Problem> {
        let order = hold.order;
        match self.parts.gate.commit(hold).await {
            Ok(HoldOutcome::Placed(order)) => Ok(Some((OrderView::as_made(&order), false))),
            Ok(HoldOutcome::Existing(order)) => Ok(Some((OrderView::as_made(&order), true))),
            Ok(HoldOutcome::KeyReused) => Err(refusal::key_reused()),
            Ok(HoldOutcome::WrongEpoch) => {
                self.parts.suspects.report(deal.id);
                Ok(None)
            }
            // Redis had more to give than the ledger: it needs a new filling.
            Ok(HoldOutcome::SoldOut) => {
                self.parts.suspects.report(deal.id);
                Err(Problem::sold_out())
            }
            Ok(HoldOutcome::PerUserLimit) => {
                self.parts.suspects.report(deal.id);
                Err(limit(deal))
            }
            Ok(HoldOutcome::Stranger) => Err(stranger(deal)),
            Ok(HoldOutcome::NotOpen) => Err(not_open(deal)),
            Ok(HoldOutcome::Expired) => Err(refusal::busy("holds")),
            Ok(HoldOutcome::WrongAmount) => Err(Problem::internal(&"the ledger knows another price for this deal")),
            Err(GateError::Full) => {
                if let Err(error) = self.parts.fast.release_refused(room, order).await {
                    tracing::warn!(%error, %order, "could not give units back; the sweeper will");
                }
                Err(refusal::busy("holds"))
            }
            Err(error) => Err(no_outcome(&error)),
        }
    }

    /// Before a loser with a history hears no: perhaps this is the repetition of a request that was answered yes.
    async fn replay_or(&self, hold: NewHold, problem: Problem) -> Result<(OrderView, bool), Problem> {
        match self.parts.gate.ask(hold).await {
            Ok(HoldOutcome::Existing(order)) => Ok((OrderView::as_made(&order), true)),
            Ok(HoldOutcome::KeyReused) => Err(refusal::key_reused()),
            Ok(_) => Err(problem),
            Err(error) => Err(no_outcome(&error)),
        }
    }
}

async fn pause() {
    tokio::time::sleep(std::time::Duration::from_millis(TRY_PAUSE_MS)).await;
}

fn no_outcome(error: &GateError) -> Problem {
    match error {
        GateError::Full => refusal::busy("holds"),
        GateError::NotDone => {
            Problem::new(Slug::StoreUnavailable, "Nothing was taken. Try again in a moment.").retry_after_s(1)
        }
        GateError::Broken(why) => Problem::internal(why),
        GateError::Unknown => refusal::unknown_outcome(),
    }
}

/// The refusal for a deal that does not exist.
pub fn no_deal() -> Problem {
    Problem::new(Slug::NotFound, "There is no such deal.")
}

fn stranger(deal: &Deal) -> Problem {
    Problem::new(
        Slug::PassOfAnotherAccount,
        "Another account has bought with this pass, and a pass serves one account. Take a place of your own in the line.",
    )
    .with("enter_path", format!("/deals/{}/buy", deal.id))
}

fn limit(deal: &Deal) -> Problem {
    Problem::new(Slug::PerUserLimit, format!("One account may have at most {} of this deal.", deal.per_user_limit))
        .with("per_user_limit", deal.per_user_limit)
}

fn not_open(deal: &Deal) -> Problem {
    Problem::new(Slug::DealNotOpen, "The deal sells between `starts_at_ms` and `ends_at_ms`.")
        .with("starts_at_ms", deal.starts_at_ms)
        .with("ends_at_ms", deal.ends_at_ms)
}
