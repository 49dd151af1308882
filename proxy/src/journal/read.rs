//! Reading journals: every entry in order, and whether the chain holds. Works on a copy of the directory, on any machine.

use super::files;
use serde::Serialize;
use serde_json::Value;
use service_kit::chain::{Entry, Fault, Tail};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

/// Longest line that is read, in bytes.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The journal of one gate, checked from its first file to its last.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The gate, as in the file names.
    pub gate: String,
    /// How many files there are.
    pub files: usize,
    /// How many sound entries.
    pub entries: u64,
    /// Number of the first entry; more than 1 when earlier files are not here.
    pub first_seq: u64,
    /// The end of the chain; compare it with one that was noted elsewhere.
    pub tail: Tail,
    /// Events that the gate could not record, by its own account.
    pub missing_events: u64,
    /// Files whose last line is not whole: the gate was killed while it wrote. Not tampering.
    pub torn: Vec<PathBuf>,
    /// The gate ended in order; otherwise the last lines of a running or killed gate may follow or be missing.
    pub closed: bool,
    /// The first thing that is wrong.
    pub broken: Option<Broken>,
}

/// Where a chain breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: usize,
    /// The number of the entry; where it cannot be read, the one that should stand there.
    pub seq: u64,
    /// What is wrong.
    pub what: String,
}

/// Reads every journal in `dir`, hands each sound entry to `visit`, and reports on each gate. Behind the first broken
/// entry of a gate nothing of it is handed on.
///
/// # Errors
/// When the directory or a file cannot be read.
pub fn journals(dir: &Path, mut visit: impl FnMut(&Entry)) -> std::io::Result<Vec<Report>> {
    let mut reports: Vec<Report> = Vec::new();
    for (gate, index, path) in files::list(dir)? {
        if reports.last().is_none_or(|report| report.gate != gate) {
            // The first file that is here may be any; the chain is followed from there.
            reports.push(Report { gate, ..Report::default() });
        }
        let Some(report) = reports.last_mut() else { continue };
        report.files += 1;
        if report.broken.is_none() {
            report.broken = file(&path, index, report, &mut visit)?;
        }
    }
    Ok(reports)
}

fn file(
    path: &Path,
    index: u64,
    report: &mut Report,
    visit: &mut impl FnMut(&Entry),
) -> std::io::Result<Option<Broken>> {
    let mut reader = BufReader::new(File::open(path)?);
    for line in 1.. {
        let mut bytes = Vec::new();
        reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let broken = |fault: Fault, seq: u64| Broken { file: path.to_owned(), line, seq, what: fault.to_string() };
        let should_be = report.tail.seq.saturating_add(1);
        if bytes.pop() != Some(b'\n') {
            report.torn.push(path.to_owned());
            return Ok(None);
        }
        let entry = match std::str::from_utf8(&bytes).map_err(|_| Fault::Unreadable).and_then(Entry::read) {
            Ok(entry) => entry,
            Err(fault) => return Ok(Some(broken(fault, should_be))),
        };
        // The very first entry that is here starts the chain; if it is not the first that ever was, that is reported.
        let first = report.entries == 0;
        let begins = first && (entry.seq > 1 || entry.follows(&Tail::default()));
        if !(begins || entry.follows(&report.tail)) {
            return Ok(Some(broken(Fault::Unlinked, entry.seq)));
        }
        // A file begins with its own `opened`: otherwise its head was cut off together with the files before.
        if line == 1 && entry.value.get("opened").and_then(Value::as_u64) != Some(index) {
            return Ok(Some(broken(Fault::Unlinked, entry.seq)));
        }
        if first {
            report.first_seq = entry.seq;
        }
        report.entries += 1;
        report.tail = entry.tail();
        report.closed = entry.value.get("closed").is_some();
        report.missing_events += entry.value.get("gap").and_then(Value::as_u64).unwrap_or(0);
        visit(&entry);
    }
    Ok(None)
}
