//! Answers as people read them.

use proxy::journal::evidence::{Evidence, Source};
use proxy::journal::read::Report;
use serde_json::Value;
use service_kit::clock::rfc3339;

/// A value without quotes around text.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn at<'v>(value: &'v Value, pointer: &str) -> &'v Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// A time field as a date, other fields as they are.
fn named(name: &str, value: &Value) -> String {
    match value.as_i64() {
        Some(ms) if name.ends_with("_ms") && ms > 0 => rfc3339(ms),
        _ => plain(value),
    }
}

/// The rooms of a gate.
pub fn rooms(answer: &Value) -> String {
    let mut lines = vec![format!(
        "{:<24} {:<10} {:>8} {:>7} {:>8}  {}",
        "room", "state", "waiting", "inside", "rate/s", "limited by"
    )];
    for room in at(answer, "/rooms").as_array().into_iter().flatten() {
        let inside = ["/board/called", "/board/inside", "/board/buying"].map(|p| at(room, p).as_u64().unwrap_or(0));
        lines.push(format!(
            "{:<24} {:<10} {:>8} {:>7} {:>8}  {}",
            plain(at(room, "/room")),
            plain(at(room, "/board/state")),
            plain(at(room, "/board/waiting")),
            inside.iter().sum::<u64>(),
            plain(at(room, "/rate_per_s")),
            plain(at(room, "/board/limit_reason")),
        ));
    }
    lines.join("\n")
}

/// One room.
pub fn room(answer: &Value) -> String {
    let mut lines = vec![format!("{}  {}", plain(at(answer, "/room")), plain(at(answer, "/title")))];
    let empty = serde_json::Map::new();
    let said = at(answer, "/overrides").as_object().unwrap_or(&empty);
    lines.push("holds".to_owned());
    for (name, value) in at(answer, "/settings").as_object().unwrap_or(&empty) {
        let mark = if said.contains_key(name) { "  (operator)" } else { "" };
        lines.push(format!("  {name:<20} {}{mark}", named(name, value)));
    }
    lines.push("now".to_owned());
    for (name, value) in at(answer, "/board").as_object().unwrap_or(&empty) {
        lines.push(format!("  {name:<20} {}", named(name, value)));
    }
    if let Some(seq) = at(answer, "/log/seq").as_u64() {
        lines.push(format!("log  entry {seq}, {}", plain(at(answer, "/log/hash"))));
    }
    lines.join("\n")
}

/// What changed, as `name: before -> after`.
fn changes(entry: &Value) -> String {
    let empty = serde_json::Map::new();
    let before = at(entry, "/before").as_object().unwrap_or(&empty);
    let after = at(entry, "/after").as_object().unwrap_or(&empty);
    let change = |(name, is): (&String, &Value)| match before.get(name) {
        Some(was) => format!("{name}: {} -> {}", named(name, was), named(name, is)),
        None => format!("{name}: {}", named(name, is)),
    };
    after.iter().map(change).collect::<Vec<_>>().join(", ")
}

/// One entry of a room's log.
pub fn entry(entry: &Value) -> String {
    format!(
        "{:>5}  {}  {} ({})  {}  {}  — {}",
        plain(at(entry, "/seq")),
        rfc3339(at(entry, "/at_ms").as_i64().unwrap_or(0)),
        plain(at(entry, "/who")),
        plain(at(entry, "/role")),
        plain(at(entry, "/action")),
        changes(entry),
        plain(at(entry, "/why")),
    )
}

/// The answer to a command.
pub fn done(answer: &Value) -> String {
    let repeated = if at(answer, "/repeated") == true { "done before:" } else { "done:" };
    format!("{repeated} {}", entry(at(answer, "/entry")).trim_start())
}

/// What is known about one gate's journal.
pub fn report(report: &Report) -> String {
    let mut text = format!(
        "{}: {} entries in {} files, {} to {}",
        report.gate, report.entries, report.files, report.first_seq, report.tail.seq
    );
    if report.first_seq > 1 {
        text.push_str(&format!("; the entries before {} are not here", report.first_seq));
    }
    if report.missing_events > 0 {
        text.push_str(&format!("; the gate could not record {} events", report.missing_events));
    }
    for torn in &report.torn {
        text.push_str(&format!("; the last line of {} is torn: a crash while writing", torn.display()));
    }
    match &report.broken {
        Some(b) => text.push_str(&format!(
            "; DOES NOT HOLD from entry {} ({}:{}): {}",
            b.seq,
            b.file.display(),
            b.line,
            b.what
        )),
        None => text.push_str(&format!("; holds, last hash {}", report.tail.hash)),
    }
    text
}

fn source(source: &Source) -> String {
    format!("{}  ({}, entry {})", rfc3339(source.at_ms), source.gate, source.seq)
}

/// One visitor's file.
pub fn evidence(found: &Evidence) -> String {
    let mut lines = vec![format!("room {}, number {}", found.room, found.number)];
    let mut line =
        |name: &str, text: Option<String>| lines.push(format!("  {name:<12} {}", text.as_deref().unwrap_or("-")));
    line("visitor", found.visitor.as_ref().map(ToString::to_string));
    line("place", found.place.map(|place| place.to_string()));
    line("joined", found.joined.as_ref().map(source));
    line("promised", found.promise_ms.map(|(low, high)| format!("{} to {} s", low / 1_000, high / 1_000)));
    line("reached", found.reached.as_ref().map(source));
    line("claimed", found.claimed.as_ref().map(source));
    line("lease until", found.lease_until_ms.map(rfc3339));
    line("left", found.left.as_ref().map(source));
    line("ended", found.ended.as_ref().map(source));
    if !found.operators.is_empty() {
        lines.push("operators meanwhile".to_owned());
        lines.extend(found.operators.iter().map(entry));
    }
    lines.push("journals".to_owned());
    lines.extend(found.journals.iter().map(|journal| format!("  {}", report(journal))));
    lines.join("\n")
}
