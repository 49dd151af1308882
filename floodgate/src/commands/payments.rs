//! `floodgate payments …`: the operator's desk for money. Works on the ledger; the payment adapter hears of it at once.

pub mod args;

use crate::output;
use crate::settings::{Settings, section};
use anyhow::Context as _;
use args::{DismissArgs, GiveBackArgs, Hand, ListArgs, OrderArgs, PaymentsCommand, RefundArgs};
use ledger::purchase::{Refusal, Step};
use ledger::{Decision, Idem, Ledger, Order, RefundBy, RefundRefusal, Replay, RequestRefund, Saved};
use serde_json::json;
use service_kit::clock::now_ms;
use service_kit::ids::{OrderId, RefundId};
use sha2::{Digest as _, Sha256};
use std::process::ExitCode;

/// Longest name and reason, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// Carries out a subcommand.
///
/// # Errors
/// When the configuration is wrong, the ledger does not answer, or what is asked for cannot be.
pub async fn run(command: PaymentsCommand) -> anyhow::Result<ExitCode> {
    match command {
        PaymentsCommand::List(args) => list(args).await,
        PaymentsCommand::Discrepancies(args) => discrepancies(args).await,
        PaymentsCommand::Dismiss(args) => dismiss(args).await,
        PaymentsCommand::Resume(args) => resume(args).await,
        PaymentsCommand::Recheck(args) => recheck(args).await,
        PaymentsCommand::Refund(args) => refund(args).await,
        PaymentsCommand::Close(args) => decide(args, Decision::CloseWithoutMoney).await,
        PaymentsCommand::GiveBack(GiveBackArgs { order, amount }) => decide(order, Decision::GiveBack(amount)).await,
    }
}

async fn open(config: &crate::cli::ConfigArgs) -> anyhow::Result<Ledger> {
    Ok(Ledger::connect(&section(Settings::load(config)?.postgres, "postgres")?).await?)
}

fn check(hand: &Hand) -> anyhow::Result<()> {
    for (name, text) in [("--by", &hand.by), ("--why", &hand.why)] {
        let ok = (1..=TEXT_CHARS_MAX).contains(&text.trim().chars().count()) && !text.chars().any(char::is_control);
        anyhow::ensure!(ok, "{name} has 1 to {TEXT_CHARS_MAX} characters on one line");
    }
    Ok(())
}

fn done(hand: &Hand, order: OrderId, what: &str) -> ExitCode {
    match hand.json {
        true => output::data(&json!({ "order": order, "done": what }).to_string()),
        false => output::data(&format!("order {order}: {what}")),
    }
    ExitCode::SUCCESS
}

async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let waiting = open(&args.config).await?.waiting_for_operator(i64::from(args.limit)).await?;
    if args.json {
        output::data(&serde_json::to_string(&waiting)?);
    } else if waiting.is_empty() {
        output::data("nothing waits for an operator");
    } else {
        for w in &waiting {
            let what = match (&w.refund, &w.state) {
                (Some(refund), Some(state)) => format!("refund {refund} {state}"),
                (None, Some(state)) => format!("payment {state}"),
                (_, None) => "no payment".to_owned(),
            };
            let (provider, reason) = (w.provider.as_deref().unwrap_or("-"), w.reason.as_deref().unwrap_or("-"));
            output::data(&format!(
                "order {} {} {provider} {what} {} {} ({reason})",
                w.order, w.order_state, w.amount_minor, w.currency
            ));
        }
        output::note("The whole story of one: floodgate order ORDER. Help: floodgate payments --help");
    }
    Ok(ExitCode::SUCCESS)
}

async fn discrepancies(args: ListArgs) -> anyhow::Result<ExitCode> {
    let open = open(&args.config).await?.open_discrepancies(i64::from(args.limit)).await?;
    if args.json {
        output::data(&serde_json::to_string(&open)?);
    } else if open.is_empty() {
        output::data("our books and the providers' agree");
    } else {
        for d in &open {
            output::data(&format!("{} {} {} {}: {}", d.id, d.provider, d.class, d.reference, d.detail));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn dismiss(args: DismissArgs) -> anyhow::Result<ExitCode> {
    check(&args.hand)?;
    let who = format!("{}: {}", args.hand.by.trim(), args.hand.why.trim());
    let closed = open(&args.config).await?.close_discrepancy(args.id, false, &who, now_ms()).await?;
    anyhow::ensure!(closed, "no open difference has the id {}", args.id);
    match args.hand.json {
        true => output::data(&json!({ "id": args.id, "done": "dismissed" }).to_string()),
        false => output::data(&format!("{} is dismissed", args.id)),
    }
    Ok(ExitCode::SUCCESS)
}

async fn resume(args: OrderArgs) -> anyhow::Result<ExitCode> {
    check(&args.hand)?;
    let ledger = open(&args.config).await?;
    let resumed = ledger.resume(args.order, now_ms()).await?;
    let asked = ledger.decide(args.order, Decision::AskAgain, &args.hand.by, &args.hand.why, now_ms()).await?;
    match asked {
        None => anyhow::bail!("there is no order {}", args.order),
        Some(Ok(_)) => Ok(done(&args.hand, args.order, "the provider is asked again")),
        Some(Err(_)) if resumed > 0 => Ok(done(&args.hand, args.order, "given back to the worker")),
        Some(Err(refusal)) => Err(cannot(refusal, "nothing of this order waits to be resumed")),
    }
}

async fn recheck(args: OrderArgs) -> anyhow::Result<ExitCode> {
    check(&args.hand)?;
    let looked = open(&args.config).await?.recheck_order(args.order, now_ms()).await?;
    anyhow::ensure!(looked, "order {} has no payment to compare", args.order);
    Ok(done(&args.hand, args.order, "the provider is asked; floodgate order shows the answer"))
}

async fn decide(args: OrderArgs, decision: Decision) -> anyhow::Result<ExitCode> {
    check(&args.hand)?;
    let ledger = open(&args.config).await?;
    match ledger.decide(args.order, decision, args.hand.by.trim(), args.hand.why.trim(), now_ms()).await? {
        None => anyhow::bail!("there is no order {}", args.order),
        Some(Ok(Step { order, .. })) => Ok(done(&args.hand, args.order, &format!("{} now", order.as_str()))),
        Some(Err(refusal)) => Err(cannot(refusal, "only an order in quarantine can be decided about")),
    }
}

fn cannot(refusal: Refusal, hint: &str) -> anyhow::Error {
    anyhow::anyhow!("{refusal}: {hint} (floodgate payments list)")
}

async fn refund(args: RefundArgs) -> anyhow::Result<ExitCode> {
    let RefundArgs { order: args, amount, units } = args;
    check(&args.hand)?;
    let ledger = open(&args.config).await?;
    let request = RequestRefund {
        refund: RefundId::new(),
        order: args.order,
        by: RefundBy::Operator,
        amount_minor: amount,
        units,
        reason: format!("{}: {}", args.hand.by.trim(), args.hand.why.trim()),
    };
    // One refund of an order runs at a time, so a repetition of this command meets the first one's.
    let idem = Idem {
        actor: format!("operator:{}", args.hand.by.trim()),
        key: request.refund.to_string(),
        fingerprint: Sha256::digest(request.refund.to_string()).into(),
    };
    let saved = |order: &Order| Saved { status: 202, body: order.state.as_str().into() };
    match ledger.request_refund(&request, now_ms(), &idem, saved).await.context("ask for the refund")? {
        Replay::Refused(RefundRefusal::NotFound) => anyhow::bail!("there is no order {}", args.order),
        Replay::Refused(RefundRefusal::WrongState(state)) => {
            anyhow::bail!("only a paid order can be refunded; this one is {}", state.as_str())
        }
        Replay::Refused(RefundRefusal::Amount { left_minor }) => {
            anyhow::bail!("--amount: between 1 and {left_minor} minor units are left")
        }
        Replay::Refused(RefundRefusal::Units { left_units }) => {
            anyhow::bail!("--units: at most {left_units} are left, and with the last of the money go all of them")
        }
        Replay::Refused(RefundRefusal::TooLate) => anyhow::bail!("the time for it is over"),
        Replay::KeyReused => anyhow::bail!("try again: the id of this refund was used before"),
        Replay::Fresh(saved) | Replay::Replayed(saved) => {
            Ok(done(&args.hand, args.order, &format!("{} now", String::from_utf8_lossy(&saved.body))))
        }
    }
}
