//! The history: every operation of every client, with its start, its end and what is known about its outcome.
//!
//! One file of JSON lines per client, append-only, one write per line: a bench that is killed leaves whole lines and
//! at most one torn one, which reading skips. Times come from one monotonic clock that no fault moves.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::clock;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is known about an operation's effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It happened.
    Ok,
    /// It did not happen and never will.
    Fail,
    /// Nobody knows: no answer, or an answer that does not say. It may happen at any later time.
    Info,
}

/// One operation: one request, and its answer if there was one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Op {
    /// The run it belongs to.
    pub run: String,
    /// The seed of that run.
    pub seed: u64,
    /// The client.
    pub proc: u32,
    /// Its number among the client's operations.
    pub n: u64,
    /// What was asked: `hold`, `pay`, …
    pub op: String,
    /// With what.
    pub args: Value,
    /// The Idempotency-Key, if it has one.
    pub key: Option<String>,
    /// Start, in microseconds of the bench's monotonic clock.
    pub t0: u64,
    /// End, in the same.
    pub t1: u64,
    /// What is known.
    pub outcome: Outcome,
    /// HTTP status; 0 without an answer.
    pub status: u16,
    /// SHA-256 of the body, first 16 hex digits; empty without an answer.
    pub body_digest: String,
    /// Names in the answer that other evidence knows too: `order`, `number`, `pass`, `problem`, `state`, …
    pub ids: BTreeMap<String, String>,
}

impl Op {
    /// A name in the answer, or nothing.
    pub fn id(&self, name: &str) -> &str {
        self.ids.get(name).map_or("", String::as_str)
    }
    /// An argument that is text, or nothing.
    pub fn arg(&self, name: &str) -> &str {
        self.args.get(name).and_then(Value::as_str).unwrap_or("")
    }
    /// An argument that is a number, or 0.
    pub fn number(&self, name: &str) -> i64 {
        self.args.get(name).and_then(Value::as_i64).unwrap_or(0)
    }
    /// Whether it certainly happened.
    pub fn is_ok(&self) -> bool {
        self.outcome == Outcome::Ok
    }
    /// Whether it certainly did not.
    pub fn is_fail(&self) -> bool {
        self.outcome == Outcome::Fail
    }
}

/// The zero of a run's clock.
#[derive(Debug, Clone, Copy)]
pub struct Zero(Instant);

impl Zero {
    /// Now.
    pub fn now() -> Self {
        Self(clock::monotonic())
    }
    /// Microseconds since then.
    pub fn us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// One client's file.
#[derive(Debug)]
pub struct Recorder {
    file: std::fs::File,
    run: String,
    seed: u64,
    proc: u32,
    n: u64,
    zero: Zero,
}

/// An operation that has begun.
#[derive(Debug)]
pub struct Begun {
    op: &'static str,
    args: Value,
    key: Option<String>,
    t0: u64,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// What is known.
    pub outcome: Outcome,
    /// HTTP status, 0 without an answer.
    pub status: u16,
    /// Digest of the body.
    pub body_digest: String,
    /// Names in the answer.
    pub ids: BTreeMap<String, String>,
}

impl Recorder {
    /// The file of client `proc` in `folder`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(folder: &Path, run: &str, seed: u64, proc: u32, zero: Zero) -> anyhow::Result<Self> {
        let path = file_of(folder, proc);
        let file = std::fs::File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        Ok(Self { file, run: run.to_owned(), seed, proc, n: 0, zero })
    }

    /// Notes the start.
    pub fn begin(&self, op: &'static str, args: Value, key: Option<String>) -> Begun {
        Begun { op, args, key, t0: self.zero.us() }
    }

    /// Notes the end and writes the line.
    ///
    /// # Errors
    /// When the line cannot be written: a history with holes proves nothing, so the run has to stop.
    pub fn end(&mut self, begun: Begun, ended: Ended) -> anyhow::Result<()> {
        let Begun { op, args, key, t0 } = begun;
        let Ended { outcome, status, body_digest, ids } = ended;
        self.n = self.n.saturating_add(1);
        let op = Op {
            run: self.run.clone(),
            seed: self.seed,
            proc: self.proc,
            n: self.n,
            op: op.to_owned(),
            args,
            key,
            t0,
            t1: self.zero.us(),
            outcome,
            status,
            body_digest,
            ids,
        };
        let mut line = serde_json::to_vec(&op)?;
        line.push(b'\n');
        self.file.write_all(&line).context("write the history")
    }
}

fn file_of(folder: &Path, proc: u32) -> PathBuf {
    folder.join(format!("client-{proc:04}.jsonl"))
}

/// All operations of all files in `folder`, by start. A torn last line of a file is skipped; any other is an error.
///
/// # Errors
/// When a file cannot be read or holds something else.
pub fn read(folder: &Path) -> anyhow::Result<Vec<Op>> {
    let mut ops = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|kind| kind != "jsonl") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or(""));
        for line in whole.lines() {
            ops.push(serde_json::from_str::<Op>(line).with_context(|| format!("{}: {line}", path.display()))?);
        }
    }
    ops.sort_by_key(|op| (op.t0, op.proc, op.n));
    Ok(ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(outcome: Outcome) -> Ended {
        Ended { outcome, status: 200, body_digest: "d".into(), ids: BTreeMap::from([("order".into(), "o1".into())]) }
    }

    #[test]
    fn what_is_written_is_read_and_a_torn_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let zero = Zero::now();
        for proc in [7, 3] {
            let mut recorder = Recorder::new(folder.path(), "r", 5, proc, zero).unwrap();
            for outcome in [Outcome::Ok, Outcome::Info] {
                let begun = recorder.begin("hold", serde_json::json!({ "quantity": 2 }), Some("k".into()));
                recorder.end(begun, ended(outcome)).unwrap();
            }
        }
        let mut torn = std::fs::File::options().append(true).open(file_of(folder.path(), 3)).unwrap();
        torn.write_all(b"{\"run\":\"r\",\"se").unwrap();
        let ops = read(folder.path()).unwrap();
        assert_eq!(ops.len(), 4);
        assert!(ops.windows(2).all(|pair| pair[0].t0 <= pair[1].t0), "by start");
        assert!(ops.iter().all(|op| op.t1 >= op.t0 && op.number("quantity") == 2 && op.id("order") == "o1"));
        assert_eq!(ops.iter().filter(|op| op.proc == 7 && op.is_ok()).count(), 1);
    }

    #[test]
    fn a_broken_line_in_the_middle_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("client-0001.jsonl"), "{broken\n{}\n").unwrap();
        assert!(read(folder.path()).is_err());
    }
}
