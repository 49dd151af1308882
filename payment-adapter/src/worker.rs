//! The worker: takes due payments and refunds from the ledger and makes one call for each.
//!
//! Rows: `payment`, `refund`, `attempt`, and through settling `orders`, `deal`, `outbox`. A job holds a lease, no lock;
//! between its steps anything may happen:
//!
//! | killed or superseded after | left behind | who goes on |
//! |---|---|---|
//! | taking the job | a lease | anybody, when it is over; nothing was sent |
//! | writing the attempt | payment `confirming` / refund `sending` | anybody, when the lease is over: asks the provider first |
//! | the provider's effect | the same | the same: the query finds the effect |
//! | the answer | the same, attempt perhaps finished | the same |
//! | settling | the end | nobody |
//!
//! Two workers with one job (a lease that ran out under a slow worker): one attempt of a confirm is written; settling
//! twice has one effect; ending a payment needs it in the state that was judged. So each capture happens once.

mod refund;
mod reversed;
mod settle;

use crate::book::Book;
use crate::call::{Call, Called, Line};
use crate::provider::{Answer, Doubt, Session, Standing};
use crate::providers::{self, Account};
use crate::rules::{self, Conclusion, Step};
use crate::{Config, metric};
use ledger::{AccountOf, AttemptKind, Ended, Ledger, LedgerError, Opened, PaymentState, PaymentWork, RefundState};
use metrics::{counter, gauge, histogram};
use service_kit::clock::monotonic;
use service_kit::ids::MerchantId;
use service_kit::shutdown::Shutdown;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::Instrument as _;

/// Jobs for each call that a provider takes at once. While one waits for a commit, another one calls.
const JOBS_PER_CALL: usize = 2;
/// Between two looks at the ledger, in ms: what ends meanwhile is found together.
const GATHER_MS: u64 = 5;

/// What tells the time: the machine's clock, or a test's.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How a job ended.
#[derive(Debug, Clone, Copy)]
struct Done {
    /// The word in metrics: ok, declined, retried, failed, duplicate.
    outcome: &'static str,
    /// When the same payment or refund is due again, if it is.
    next_at_ms: Option<i64>,
}

impl Done {
    const OK: Self = Self { outcome: "ok", next_at_ms: None };
    const DECLINED: Self = Self { outcome: "declined", next_at_ms: None };
    /// Somebody else did it.
    const DUPLICATE: Self = Self { outcome: "duplicate", next_at_ms: None };

    fn again(next_at_ms: i64) -> Self {
        Self { outcome: "retried", next_at_ms: Some(next_at_ms) }
    }
}

/// The worker. Cheap to clone.
#[derive(Clone)]
pub struct Worker {
    shared: Arc<Shared>,
}

struct Shared {
    ledger: Ledger,
    book: Book,
    lines: Vec<Line>,
    clock: Clock,
    public_url: String,
    poll_ms: u64,
    lease_ms: i64,
    prepare_give_up_ms: i64,
}

impl Worker {
    /// A worker for these accounts.
    pub fn new(cfg: &Config, ledger: Ledger, accounts: &[Account], clock: Clock) -> Self {
        // A quarter of the lease is for this wait; see `Config::validate`.
        let wait = Duration::from_millis(u64::try_from(cfg.lease_ms / 4).unwrap_or(0));
        let shared = Shared {
            book: Book::new(ledger.clone()),
            ledger,
            lines: accounts.iter().map(|account| Line::new(account, wait)).collect(),
            clock,
            public_url: cfg.public_url.clone(),
            poll_ms: cfg.poll_ms,
            lease_ms: cfg.lease_ms,
            prepare_give_up_ms: cfg.prepare_give_up_ms,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Works until shutdown, then lets the running jobs end. Woken by notices, by the earliest retry of its own, and by a poll.
    pub async fn run(&self, shutdown: Shutdown) {
        let mut notices = self.shared.ledger.listen(&["floodgate_payment"]);
        let mut jobs = Jobs::default();
        let mut soonest_ms = i64::MAX;
        let mut looked: Option<std::time::Instant> = None;
        while !shutdown.is_requested() {
            if let Some(at) = looked {
                tokio::time::sleep_until((at + Duration::from_millis(GATHER_MS)).into()).await;
            }
            while notices.try_recv().is_ok() {}
            while let Some(next_at_ms) = jobs.has_ended() {
                soonest_ms = soonest_ms.min(next_at_ms.unwrap_or(i64::MAX));
            }
            looked = Some(monotonic());
            let now_ms = (self.shared.clock)();
            if soonest_ms <= now_ms {
                soonest_ms = i64::MAX;
            }
            if let Err(error) = self.take(&mut jobs, now_ms).await {
                tracing::warn!(%error, "no jobs can be taken just now");
            }
            gauge!(metric::INFLIGHT).set(f64::from(u32::try_from(jobs.set.len()).unwrap_or(u32::MAX)));
            let sleep_ms = u64::try_from(soonest_ms.saturating_sub(now_ms)).unwrap_or(0).clamp(1, self.shared.poll_ms);
            tokio::select! {
                () = shutdown.requested() => break,
                Some(_) = notices.recv() => {}
                Some(next_at_ms) = jobs.ended() => soonest_ms = soonest_ms.min(next_at_ms.unwrap_or(i64::MAX)),
                () = tokio::time::sleep(Duration::from_millis(sleep_ms)) => {}
            }
        }
        let drain = async { while jobs.ended().await.is_some() {} };
        // Whoever is not done by then is found again through its lease.
        let _ =
            tokio::time::timeout(Duration::from_millis(u64::try_from(self.shared.lease_ms).unwrap_or(0)), drain).await;
    }

    /// Takes as many jobs of each provider as there is room for. A provider that hangs fills its own room only. A
    /// quarter of the room is for refunds, so that a rush does not starve them.
    async fn take(&self, jobs: &mut Jobs, now_ms: i64) -> Result<(), LedgerError> {
        let shared = &self.shared;
        for (provider, concurrency) in shared.rooms() {
            let room = concurrency.saturating_sub(jobs.running(provider));
            if room == 0 {
                continue;
            }
            let refunds =
                shared.ledger.claim_due_refunds(provider, now_ms, limit(room.div_ceil(4)), shared.lease_ms).await?;
            let room = room.saturating_sub(refunds.len());
            for work in refunds {
                claimed(work.state == RefundState::Sending);
                let shared = shared.clone();
                let span =
                    tracing::info_span!("refund", refund = %work.id, order = %work.order, trace_id = %work.trace_id);
                jobs.spawn(provider, async move { shared.refund(&work).await }.instrument(span));
            }
            if room == 0 {
                continue;
            }
            for work in shared.ledger.claim_due_payments(provider, now_ms, limit(room), shared.lease_ms).await? {
                claimed(work.state == PaymentState::Confirming);
                let shared = shared.clone();
                let span =
                    tracing::info_span!("payment", payment = %work.id, order = %work.order, trace_id = %work.trace_id);
                jobs.spawn(provider, async move { shared.payment(&work).await }.instrument(span));
            }
        }
        Ok(())
    }
}

/// The running jobs, counted by provider.
#[derive(Default)]
struct Jobs {
    set: JoinSet<(&'static str, Option<i64>)>,
    running: BTreeMap<&'static str, usize>,
}

impl Jobs {
    fn spawn(&mut self, provider: &'static str, job: impl Future<Output = Option<i64>> + Send + 'static) {
        *self.running.entry(provider).or_default() += 1;
        // Whatever becomes of the job, its place is given back: a panic inside is caught here.
        self.set.spawn(async move {
            let ended = tokio::spawn(job).await;
            let next_at_ms = ended.unwrap_or_else(|error| {
                tracing::error!(%error, "a job broke; its lease will run out");
                None
            });
            (provider, next_at_ms)
        });
    }
    fn running(&self, provider: &str) -> usize {
        self.running.get(provider).copied().unwrap_or(0)
    }
    /// The next job that ends; answers when it is due again.
    async fn ended(&mut self) -> Option<Option<i64>> {
        let (provider, next_at_ms) = self.set.join_next().await?.ok()?;
        Some(self.ended_one(provider, next_at_ms))
    }
    /// As [`Self::ended`], if one has.
    fn has_ended(&mut self) -> Option<Option<i64>> {
        let (provider, next_at_ms) = self.set.try_join_next()?.ok()?;
        Some(self.ended_one(provider, next_at_ms))
    }
    fn ended_one(&mut self, provider: &str, next_at_ms: Option<i64>) -> Option<i64> {
        if let Some(running) = self.running.get_mut(provider) {
            *running = running.saturating_sub(1);
        }
        next_at_ms
    }
}

fn limit(room: usize) -> i64 {
    i64::try_from(room).unwrap_or(i64::MAX)
}

fn claimed(after_crash: bool) {
    counter!(metric::CLAIMS, "reason" => if after_crash { "crash" } else { "due" }).increment(1);
}

impl Shared {
    /// One job of a payment. Answers when it is due again.
    async fn payment(&self, work: &PaymentWork) -> Option<i64> {
        let started = monotonic();
        let step = rules::step(work, self.prepare_give_up_ms, (self.clock)());
        let kind = match &step {
            Step::Prepare => "prepare",
            Step::Confirm => "confirm",
            Step::Query | Step::Conclude(_) => "query",
        };
        let done = match (self.line(&work.provider, work.merchant, work.account_of), step) {
            (Some(line), step) => self.do_step(line, work, step).await,
            // Nobody was sent anywhere: what was never opened can end without a provider.
            (None, Step::Conclude(Conclusion::End { how, why })) => self.end_unopened(work, how, &why).await,
            (None, _) => self.no_account(work).await,
        };
        report(&work.provider, kind, started, done)
    }

    async fn do_step(&self, line: &Line, work: &PaymentWork, step: Step) -> Result<Done, LedgerError> {
        match step {
            Step::Conclude(conclusion) => self.settle(line, work, work.state, conclusion).await,
            Step::Prepare => self.prepare(line, work).await,
            Step::Confirm => self.confirm(line, work).await,
            Step::Query => self.query(line, work).await,
        }
    }

    async fn prepare(&self, line: &Line, work: &PaymentWork) -> Result<Done, LedgerError> {
        let return_url = format!("{}/payments/{}/return/{}", self.public_url, work.id, work.return_secret);
        let answer = line.provider.prepare(work, &return_url, (self.clock)());
        let call = Call { kind: "prepare", attempt: AttemptKind::Prepare, payment: work.id, refund: None };
        let said = |session: &Session| match session {
            Session::Open(prepared) => prepared.provider_ref.clone(),
            Session::Declined(why) => why.to_string(),
        };
        match line.call(&self.book, call, answer, said, &*self.clock).await? {
            Called::MovedOn => Ok(Done::DUPLICATE),
            Called::Resting(again_ms) => self.postpone(work, again_ms).await,
            Called::Answered(Answer::Settled(Session::Open(prepared))) => {
                let account_of = line.account_of();
                let opened = Opened { payment: work.id, session: prepared.clone(), account_of };
                let open = match self.book.prepared(opened, &*self.clock).await {
                    Some(open) => open,
                    // Should it have been written after all, that is "moved on", which is as good.
                    None => {
                        self.persist(|| self.ledger.prepared(work.id, &prepared, account_of, (self.clock)())).await?
                    }
                };
                Ok(if open { Done::OK } else { Done::DUPLICATE })
            }
            Called::Answered(Answer::Settled(Session::Declined(why))) => {
                self.settle(line, work, work.state, Conclusion::End { how: Ended::Declined, why }).await
            }
            // A lost session is harmless: nobody was sent there, and nobody can confirm it.
            Called::Answered(Answer::Unknown(_)) => {
                let wait_ms = rules::back_off_ms(work.tries, rand::random()).min(rules::PREPARE_BACK_OFF_MS_MAX);
                self.postpone(work, (self.clock)().saturating_add(wait_ms)).await
            }
        }
    }

    async fn confirm(&self, line: &Line, work: &PaymentWork) -> Result<Done, LedgerError> {
        let call = Call { kind: "confirm", attempt: AttemptKind::Confirm, payment: work.id, refund: None };
        service_kit::failpoint!("P1.before");
        let answer = service_kit::failpoint::around("P1.after", "P2.after", line.provider.confirm(work));
        match line.call(&self.book, call, answer, |end| format!("{end:?}"), &*self.clock).await? {
            Called::MovedOn => Ok(Done::DUPLICATE),
            Called::Resting(again_ms) => self.postpone(work, again_ms).await,
            Called::Answered(Answer::Settled(Standing::Ended(outcome))) => {
                self.settle(line, work, PaymentState::Confirming, rules::conclude_outcome(work, outcome)).await
            }
            Called::Answered(Answer::Settled(Standing::Waiting { until_ms })) => {
                self.settle(line, work, PaymentState::Confirming, rules::deposit(until_ms, (self.clock)())).await
            }
            // A refusal alone proves nothing: the repetition of what succeeded is refused as well. Ask at once.
            // Neither does one wrong figure: the alarm is raised, and the provider's own record decides.
            Called::Answered(Answer::Unknown(_)) if service_kit::planted!("unknown-is-paid") => {
                self.settle(line, work, PaymentState::Confirming, rules::believed(work)).await
            }
            Called::Answered(
                Answer::Settled(Standing::Pending) | Answer::Unknown(Doubt::Refused(_) | Doubt::Mismatch(_)),
            ) => {
                let next_at_ms = (self.clock)();
                self.persist(|| self.ledger.mark_unknown(work.id, next_at_ms, (self.clock)())).await?;
                Ok(Done::again(next_at_ms))
            }
            Called::Answered(Answer::Unknown(doubt)) => {
                let conclusion = rules::doubtful(&doubt, work.tries);
                self.settle(line, work, PaymentState::Confirming, conclusion).await
            }
        }
    }

    async fn query(&self, line: &Line, work: &PaymentWork) -> Result<Done, LedgerError> {
        let call = Call { kind: "query", attempt: AttemptKind::Query, payment: work.id, refund: None };
        match line.call(&self.book, call, line.provider.query(work), |at| format!("{at:?}"), &*self.clock).await? {
            Called::MovedOn => Ok(Done::DUPLICATE),
            Called::Resting(again_ms) => self.postpone(work, again_ms).await,
            Called::Answered(answer) => {
                let conclusion = rules::conclude(work, answer, line.provider.key_life_ms(), (self.clock)());
                self.settle(line, work, work.state, conclusion).await
            }
        }
    }

    /// A row of an account that is not configured (any more): nothing can be done before an operator acts.
    async fn no_account(&self, work: &PaymentWork) -> Result<Done, LedgerError> {
        tracing::error!(
            provider = work.provider, merchant = %work.merchant, account_of = ?work.account_of,
            "the account that this payment was made with is not configured"
        );
        self.postpone(work, (self.clock)().saturating_add(rules::BACK_OFF_MS_MAX)).await
    }

    async fn postpone(&self, work: &PaymentWork, next_at_ms: i64) -> Result<Done, LedgerError> {
        self.ledger.postpone_payment(work.id, next_at_ms).await?;
        Ok(Done::again(next_at_ms))
    }

    /// The line to the account that has this payment, or that it goes to.
    fn line(&self, provider: &str, merchant: MerchantId, account_of: Option<AccountOf>) -> Option<&Line> {
        let of = |whose| self.lines.iter().find(|line| line.provider.name() == provider && line.merchant == whose);
        providers::choose(of, merchant, account_of)
    }

    /// Each provider once, with the jobs of all of its accounts that may run at once.
    fn rooms(&self) -> BTreeMap<&'static str, usize> {
        let mut rooms = BTreeMap::new();
        for line in &self.lines {
            *rooms.entry(line.provider.name()).or_default() += line.provider.concurrency() * JOBS_PER_CALL;
        }
        rooms
    }

    fn after_back_off(&self, tries: i64) -> i64 {
        (self.clock)().saturating_add(rules::back_off_ms(tries, rand::random()))
    }
}

/// Counts a job's end and answers when it is due again. After an error of the ledger the lease brings it back.
fn report(
    provider: &str,
    kind: &'static str,
    started: std::time::Instant,
    done: Result<Done, LedgerError>,
) -> Option<i64> {
    let done = done.unwrap_or_else(|error| {
        tracing::error!(kind, %error, "a job was not finished; it comes back when its lease is over");
        Done { outcome: "failed", next_at_ms: None }
    });
    counter!(metric::COMMANDS, "provider" => provider.to_owned(), "kind" => kind, "outcome" => done.outcome)
        .increment(1);
    histogram!(metric::COMMAND_DURATION, "provider" => provider.to_owned(), "kind" => kind)
        .record(started.elapsed().as_secs_f64());
    done.next_at_ms
}
