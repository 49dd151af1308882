//! Fail points: named places between two steps where a debug build can be made to die, as kill -9 would end it.
//!
//! `FLOODGATE_FAILPOINTS="R1.after=kill@3,P4.before=stop@1"` ends the process at the third hit of `R1.after` and stops
//! it (SIGSTOP) at the first of `P4.before`, so that the bench can kill somebody else at that moment. In a release build a point compiles to nothing and the variable is not read. The points are
//! those of the kill matrix (see `e2e/faults`); a name that is none of them, or another action, ends the process at
//! once with a word about it: a bench must not believe in a fault that never happened.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The variable that arms points.
pub const VARIABLE: &str = "FLOODGATE_FAILPOINTS";

/// Every point that some code has.
pub const POINTS: &[&str] = &[
    // Join script; signed ticket.
    "J1.before",
    "J1.after",
    "J2.before",
    // The call, which moves the frontier.
    "A1.before",
    "A1.after",
    // Claim script; signed pass.
    "A3.before",
    "A3.after",
    "A2.after",
    // Fast gate, final gate, answer.
    "R1.before",
    "R1.after",
    "R2.before",
    "R2.after",
    "R3.before",
    // Row of the attempt, confirm sent and answered, settled.
    "P1.before",
    "P1.after",
    "P2.after",
    "P3.after",
    "P4.after",
    // The way back from the provider is written down.
    "P5.before",
    "P5.after",
    // Redis: held to sold.
    "P6.before",
    "P6.after",
    // Overdue holds: looked for, released, told to Redis.
    "X1.before",
    "X2.after",
    "X3.before",
    "X3.after",
    // Cancel and refund: row, sent, recorded.
    "C1.before",
    "C1.after",
    "C2.before",
    "C2.after",
    "C3.before",
    "C3.after",
    // Outbox marked as delivered; reconciliation.
    "Q1.before",
    "Q1.after",
    "Q2.before",
    "Q2.after",
];

/// Places that are the same place: nothing happens between the two. The second is what the code calls it.
pub const ALIASES: &[(&str, &str)] = &[
    ("J2.after", "J2.before"),
    ("A2.before", "A3.after"),
    ("R3.after", "R3.before"),
    ("P2.before", "P1.after"),
    ("P3.before", "P2.after"),
    ("P4.before", "P3.after"),
    // Inside one transaction: before it and after it are the only places.
    ("X1.after", "X1.before"),
    ("X2.before", "X1.before"),
];

/// Dies here if the bench wants it. In a release build: nothing.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        if cfg!(debug_assertions) {
            $crate::failpoint::hit($name);
        }
    };
}

/// Points `NAME.before` and `NAME.after` around a step, when `armed`.
pub async fn around<T>(before: &'static str, after: &'static str, step: impl Future<Output = T>) -> T {
    if cfg!(debug_assertions) {
        hit(before);
    }
    let done = step.await;
    if cfg!(debug_assertions) {
        hit(after);
    }
    done
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Stop,
}

#[derive(Debug)]
struct Armed {
    action: Action,
    at: u64,
    hits: AtomicU64,
}

/// What [`failpoint!`](crate::failpoint!) calls.
pub fn hit(name: &'static str) {
    static ARMED: OnceLock<HashMap<String, Armed>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| match parse(&std::env::var(VARIABLE).unwrap_or_default()) {
        Ok(armed) => armed,
        Err(why) => end(&format!("{VARIABLE}: {why}")),
    });
    if let Some(point) = armed.get(name)
        && point.hits.fetch_add(1, Ordering::SeqCst).saturating_add(1) == point.at
    {
        match point.action {
            Action::Kill => end(&format!("fail point {name}: hit {} ends this process", point.at)),
            Action::Stop => stop(),
        }
    }
}

/// No destructor runs and nothing is flushed, as after kill -9.
fn end(why: &str) -> ! {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{why}");
    std::process::abort()
}

/// Stops the whole process here, until somebody lets it go on.
fn stop() {
    let kill = std::process::Command::new("kill").arg("-STOP").arg(std::process::id().to_string()).status();
    if !kill.is_ok_and(|status| status.success()) {
        end("fail point: this process could not be stopped");
    }
}

fn parse(text: &str) -> Result<HashMap<String, Armed>, String> {
    let mut armed = HashMap::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (name, action) =
            entry.split_once('=').ok_or_else(|| format!("`{entry}` is not NAME=kill@N or NAME=stop@N"))?;
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
        if !POINTS.contains(&name) {
            return Err(format!("`{name}` is no fail point"));
        }
        let (action, at) = match action.split_once('@') {
            Some(("kill", at)) => (Action::Kill, at),
            Some(("stop", at)) => (Action::Stop, at),
            _ => return Err(format!("`{action}` is not kill@N or stop@N")),
        };
        let at = at.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("`{at}` is no number from 1"))?;
        armed.insert(name.to_owned(), Armed { action, at, hits: AtomicU64::new(0) });
    }
    Ok(armed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_armed_by_name_and_number() {
        let armed = parse("R1.after=kill@3, P2.before=stop@1,").unwrap();
        assert_eq!(armed.len(), 2);
        assert_eq!(armed["R1.after"].at, 3);
        assert_eq!(armed["P1.after"].action, Action::Stop, "by its other name");
        assert!(parse("").unwrap().is_empty());
        for bad in
            ["R1.after", "R1.after=kill", "R1.after=kill@0", "R1.after=stop@x", "R1.after=sleep@1", "M1.before=kill@1"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_name_is_one_of_the_matrix_and_an_alias_leads_to_a_point() {
        for name in POINTS.iter().chain(ALIASES.iter().map(|(alias, _)| alias)) {
            let (point, side) = name.split_once('.').unwrap();
            assert!(point.len() == 2 && matches!(side, "before" | "after"), "{name}");
        }
        assert!(ALIASES.iter().all(|(alias, name)| POINTS.contains(name) && !POINTS.contains(alias)));
    }

    #[test]
    fn an_unarmed_point_does_nothing() {
        crate::failpoint!("R1.before");
        hit("R1.after");
    }
}
