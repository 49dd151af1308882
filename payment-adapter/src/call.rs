//! One call to a provider, with everything that surrounds it: the circuit, the attempt's row before and after it, the
//! figures. There is no way to a provider but through here.
//!
//! Steps: wait for a free call → ask the circuit → write the attempt (a confirm moves the payment to `confirming` in the same transaction) →
//! call → tell the circuit → finish the attempt. Killed before the attempt is written: nothing happened. Killed after
//! it: the row has no end, the payment is found in `confirming` when the lease is over, and the provider is asked.
//! Two workers with one payment: only one of them can write the attempt of a confirm.

use crate::book::Book;
use crate::breaker::Circuit;
use crate::metric;
use crate::provider::{Answer, Doubt, Provider};
use crate::providers::Account;
use ledger::{AccountOf, AttemptKind, LedgerError};
use metrics::{counter, histogram};
use service_kit::clock::monotonic;
use service_kit::ids::{MerchantId, PaymentId, RefundId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};

/// A provider's account and its circuit.
pub(crate) struct Line {
    pub(crate) merchant: Option<MerchantId>,
    pub(crate) provider: Arc<dyn Provider>,
    circuit: Mutex<Circuit>,
    /// Calls that may be under way at once. There are more jobs than these: while one settles, another one calls.
    calls: Semaphore,
    /// Longest wait for one of them.
    wait: Duration,
}

/// When a job comes back that found no free call, in ms from now.
const NO_CALL_REST_MS: i64 = 1_000;

/// Which call, and for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// The word in metrics.
    pub(crate) kind: &'static str,
    pub(crate) attempt: AttemptKind,
    pub(crate) payment: PaymentId,
    pub(crate) refund: Option<RefundId>,
}

/// What came of wanting to call.
#[derive(Debug)]
pub(crate) enum Called<T> {
    /// The provider was called.
    Answered(Answer<T>),
    /// Not called: the payment or refund is no longer where this call makes sense.
    MovedOn,
    /// Not called: the circuit is open. Ask again then.
    Resting(i64),
}

impl Line {
    /// A job waits at most `wait` for a free call: longer, and its lease could end under it.
    pub(crate) fn new(account: &Account, wait: Duration) -> Self {
        let provider = account.provider.clone();
        // A few more than the provider takes: they write their attempts while the others call. `http` bounds the calls.
        let concurrency = provider.concurrency();
        let calls = Semaphore::new(concurrency + concurrency / 4);
        Self { merchant: account.merchant, provider, circuit: Mutex::default(), calls, wait }
    }

    /// Whose account this is.
    pub(crate) fn account_of(&self) -> AccountOf {
        if self.merchant.is_some() { AccountOf::Merchant } else { AccountOf::Shop }
    }

    /// Makes one call. `answer` must not have been polled: nothing is sent before the attempt is written.
    /// `say` puts a success into a word or two for the attempt's row.
    pub(crate) async fn call<T>(
        &self,
        book: &Book,
        call: Call,
        answer: impl Future<Output = Answer<T>>,
        say: impl Fn(&T) -> String,
        clock: &(dyn Fn() -> i64 + Send + Sync),
    ) -> Result<Called<T>, LedgerError> {
        // Nothing is written before the call can be made, or nearly.
        let Ok(Ok(free)) = tokio::time::timeout(self.wait, self.calls.acquire()).await else {
            return Ok(Called::Resting(clock().saturating_add(NO_CALL_REST_MS)));
        };
        if let Err(again_ms) = self.turn(|circuit| circuit.ask(clock())).await {
            return Ok(Called::Resting(again_ms));
        }
        let attempt = match book.begin(call, clock).await {
            Ok(Some(attempt)) => attempt,
            not_begun => {
                self.turn(|circuit| (circuit.give_back(clock()), ())).await;
                return not_begun.map(|_| Called::MovedOn);
            }
        };
        let started = monotonic();
        let answer = answer.await;
        let seconds = started.elapsed().as_secs_f64();
        drop(free);

        let provider = self.provider.name();
        histogram!(metric::PROVIDER_DURATION, "provider" => provider).record(seconds);
        let healthy = !matches!(&answer, Answer::Unknown(doubt) if doubt.is_sickness());
        self.turn(|circuit| (circuit.tell(healthy, clock()), ())).await;
        let (outcome, detail) = match &answer {
            Answer::Settled(settled) => ("settled", say(settled)),
            Answer::Unknown(doubt) => (doubt.name(), doubt.to_string()),
        };
        self.count(call, &answer);
        if let Err(error) = book.finish(attempt, outcome, detail, clock).await {
            // The answer is still worth settling; the row without an end only says less than we know.
            tracing::warn!(%attempt, %error, "the end of an attempt was not written");
        }
        Ok(Called::Answered(answer))
    }

    fn count<T>(&self, call: Call, answer: &Answer<T>) {
        let provider = self.provider.name();
        let outcome = match answer {
            Answer::Settled(_) => "ok",
            Answer::Unknown(Doubt::Timeout) => "timeout",
            Answer::Unknown(Doubt::Limited) => "limited",
            Answer::Unknown(Doubt::Refused(_)) => "declined",
            Answer::Unknown(_) => "error",
        };
        counter!(metric::PROVIDER_REQUESTS, "provider" => provider, "kind" => call.kind, "outcome" => outcome)
            .increment(1);
        let Answer::Unknown(doubt) = answer else { return };
        counter!(metric::RETRIES, "provider" => provider, "reason" => doubt.name()).increment(1);
        match doubt {
            Doubt::Mismatch(mismatch) => {
                counter!(metric::MISMATCHES, "provider" => provider, "field" => mismatch.field).increment(1);
                tracing::error!(provider, kind = call.kind, payment = %call.payment, %mismatch,
                    "the provider's answer does not fit the ledger: left unsettled, an operator must look");
            }
            Doubt::Key(status) => tracing::error!(provider, status, "the provider refuses our key"),
            doubt => tracing::warn!(provider, kind = call.kind, payment = %call.payment, %doubt, "no explicit answer"),
        }
    }

    async fn turn<R>(&self, change: impl FnOnce(Circuit) -> (Circuit, R)) -> R {
        let mut circuit = self.circuit.lock().await;
        let before = circuit.name();
        let (after, result) = change(*circuit);
        *circuit = after;
        if before != after.name() {
            metric::circuit(self.provider.name(), after);
            tracing::warn!(provider = self.provider.name(), from = before, to = after.name(), "the circuit changed");
        }
        result
    }
}
