//! `floodgate room`: look at rooms, steer them, and prove afterwards what was done and what happened.

pub mod args;
mod client;
mod print;
mod when;

use crate::output;
use anyhow::Context as _;
use args::{EvidenceArgs, LogArgs, NoticeArgs, Reach, RoomCommand, Said, ScheduleArgs};
use client::Client;
use proxy::journal::{evidence, read};
use queue::control;
use serde_json::{Value, json};
use service_kit::chain::Tail;
use service_kit::clock::now_ms;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

/// Runs one subcommand.
///
/// # Errors
/// When the gate refuses or does not answer, or a file cannot be read or written.
pub async fn run(command: RoomCommand) -> anyhow::Result<ExitCode> {
    match command {
        RoomCommand::List(reach) => look(&reach, "/v1/rooms", print::rooms).await,
        RoomCommand::Show(one) => look(&one.reach, &format!("/v1/rooms/{}", one.room), print::room).await,
        RoomCommand::Pause(plain) => change(&plain.said, "pause", json!({})).await,
        RoomCommand::Resume(plain) => change(&plain.said, "resume", json!({})).await,
        RoomCommand::Close(plain) => change(&plain.said, "close", json!({})).await,
        RoomCommand::Reopen(plain) => change(&plain.said, "reopen", json!({})).await,
        RoomCommand::Rate(rate) => change(&rate.said, "rate", json!({ "rate_per_s": rate.number.0 })).await,
        RoomCommand::Cap(cap) => change(&cap.said, "cap", json!({ "inside_max": cap.number.0 })).await,
        RoomCommand::Notice(notice) => change(&notice.said, "notice", json!({ "notice": notice_of(&notice) })).await,
        RoomCommand::Schedule(hours) => change(&hours.said, "schedule", hours_of(&hours, now_ms())).await,
        RoomCommand::Extend(extend) => change(&extend.said, "extend", json!({ "by_ms": extend.by_ms })).await,
        RoomCommand::Codes(codes) => super::room_codes::run(&codes),
        RoomCommand::Log(log) => match (&log.journal, &log.archive) {
            (Some(dir), _) => journals(dir, log.reach.json),
            (None, Some(file)) => archive(&log, file).await,
            (None, None) => show_log(&log).await,
        },
        RoomCommand::Evidence(wanted) => visitor(&wanted),
    }
}

async fn look(reach: &Reach, path: &str, shown: fn(&Value) -> String) -> anyhow::Result<ExitCode> {
    let answer: Value = serde_json::from_str(&Client::new(reach)?.get(path).await?)?;
    output::data(&if reach.json { answer.to_string() } else { shown(&answer) });
    Ok(ExitCode::SUCCESS)
}

async fn change(said: &Said, action: &str, mut body: Value) -> anyhow::Result<ExitCode> {
    if let Some(fields) = body.as_object_mut() {
        fields.insert("why".into(), said.why.clone().into());
    }
    let client = Client::new(&said.reach)?;
    let key = said.id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let answer = client.post(&format!("/v1/rooms/{}/{action}", said.room), &body, &key).await?;
    output::data(&if said.reach.json { answer.to_string() } else { print::done(&answer) });
    Ok(ExitCode::SUCCESS)
}

fn notice_of(args: &NoticeArgs) -> Value {
    if args.remove {
        return Value::Null;
    }
    if let Some(text) = &args.text {
        return text.clone().into();
    }
    let texts = [("ko", &args.ko), ("en", &args.en), ("ja", &args.ja)];
    texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Value::from(text.clone()?)))).collect()
}

fn hours_of(args: &ScheduleArgs, now_ms: i64) -> Value {
    let hours = [("lobby_opens_at_ms", args.lobby), ("starts_at_ms", args.start), ("ends_at_ms", args.end)];
    hours.into_iter().filter_map(|(name, when)| Some((name.to_owned(), Value::from(when?.ms(now_ms))))).collect()
}

/// The end of a room's log as the room's record names it, if anything was ever said about the room.
async fn end_of_log(client: &Client, log: &LogArgs) -> anyhow::Result<Option<Tail>> {
    let room = log.room.as_ref().context("which room?")?;
    let shown: Value = serde_json::from_str(&client.get(&format!("/v1/rooms/{room}")).await?)?;
    Ok(serde_json::from_value(shown.get("log").cloned().unwrap_or_default())?)
}

async fn show_log(log: &LogArgs) -> anyhow::Result<ExitCode> {
    let room = log.room.as_ref().context("which room?")?;
    let client = Client::new(&log.reach)?;
    // The end first: entries that are written meanwhile come behind it.
    let end = end_of_log(&client, log).await?;
    let lines = client.log(room).await?;
    if !log.verify {
        for line in &lines {
            let shown = if log.reach.json {
                line.clone()
            } else {
                print::entry(&serde_json::from_str(line).unwrap_or_default())
            };
            output::data(&shown);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let verified = control::verify(lines.iter().map(String::as_str));
    let cut = verified.as_ref().is_ok_and(|v| end.as_ref().is_some_and(|end| v.tail.seq < end.seq));
    let (holds, text) = match &verified {
        Err(broken) => (false, format!("{room}: {broken}")),
        Ok(v) if cut => (false, format!("{room}: entry {}: it and what follows are missing", v.tail.seq + 1)),
        Ok(v) => {
            let missing: String = v
                .missing
                .iter()
                .map(|(from, to)| format!("; {from} to {to} were archived or lost by the store"))
                .collect();
            (true, format!("{room}: {} entries hold{missing}, last hash {}", v.entries, v.tail.hash))
        }
    };
    if log.reach.json {
        let wrong = match &verified {
            Err(broken) => Some(broken.seq),
            Ok(v) => cut.then_some(v.tail.seq + 1),
        };
        let tail = verified.as_ref().ok().map(|v| &v.tail);
        let document = json!({ "room": room, "holds": holds, "entries": lines.len(), "tail": tail, "first_wrong": wrong, "text": text });
        output::data(&document.to_string());
    } else {
        output::data(&text);
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Saves the log, and only when it is safely on the disk has the gate take the entries out.
async fn archive(log: &LogArgs, file: &Path) -> anyhow::Result<ExitCode> {
    let room = log.room.as_ref().context("which room?")?;
    let client = Client::new(&log.reach)?;
    let lines = client.log(room).await?;
    let verified = control::verify(lines.iter().map(String::as_str))
        .map_err(|broken| anyhow::anyhow!("nothing was archived, because the log does not hold: {broken}"))?;
    anyhow::ensure!(verified.entries > 0, "the log of {room} is empty: there is nothing to archive");
    let mut open = std::fs::OpenOptions::new();
    let saved = open.create_new(true).write(true).mode(0o600).open(file).and_then(|mut opened| {
        opened.write_all((lines.join("\n") + "\n").as_bytes())?;
        opened.sync_all()
    });
    saved.with_context(|| format!("save the log to {}", file.display()))?;
    let Tail { seq, hash } = verified.tail;
    let body = json!({ "upto_seq": seq, "hash": hash, "why": log.why });
    let key = format!("archive-{seq}-{hash}");
    client.post(&format!("/v1/rooms/{room}/log/archive"), &body, &key).await?;
    output::data(&format!("{} entries up to {seq} are in {}", verified.entries, file.display()));
    Ok(ExitCode::SUCCESS)
}

fn journals(dir: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let reports = read::journals(dir, |_| {}).with_context(|| format!("read the journals in {}", dir.display()))?;
    anyhow::ensure!(!reports.is_empty(), "there is no journal in {}", dir.display());
    let holds = reports.iter().all(|report| report.broken.is_none());
    if as_json {
        output::data(&json!({ "holds": holds, "journals": reports }).to_string());
    } else {
        reports.iter().for_each(|report| output::data(&print::report(report)));
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn visitor(wanted: &EvidenceArgs) -> anyhow::Result<ExitCode> {
    let found = evidence::of(&wanted.journal, &wanted.room, wanted.number)
        .with_context(|| format!("read the journals in {}", wanted.journal.display()))?;
    output::data(&if wanted.json { serde_json::to_string(&found)? } else { print::evidence(&found) });
    if found.joined.is_none() && found.claimed.is_none() {
        output::note(&format!(
            "no journal in {} knows number {} of {}",
            wanted.journal.display(),
            wanted.number,
            wanted.room
        ));
        return Ok(ExitCode::FAILURE);
    }
    Ok(if found.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
