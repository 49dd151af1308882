//! `floodgate verify-draw`: recomputes a published draw, offline but for reading the document.
//!
//! What is checked is pure and lives in [`queue::draw`]; here documents are read and findings are printed. A finding is
//! exit code 1. Whatever keeps us from checking at all (a file that is not there, an answer that is no draw) is 2, so
//! that a script never takes "could not look" for "looked and found nothing".

use crate::cli::VerifyDrawArgs;
use crate::output;
use anyhow::{Context as _, anyhow, bail, ensure};
use futures::StreamExt as _;
use queue::draw::{
    DRAW_BYTES_MAX, Digest, Draw, Fact, Finding, LEAF_BYTES, Phase, Proof, TreeBuilder, entrant, verify, verify_leaves,
    verify_place, verify_proof, verify_record, verify_unchanged,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{BufRead as _, BufReader, Read};
use std::process::ExitCode;
use std::time::Duration;

/// Longest wait for one document.
const ANSWER_MS: u64 = 15_000;
/// Exit code when nothing could be checked.
const EXIT_UNREADABLE: u8 = 2;
/// Bytes of leaves read at once.
const PIECE_BYTES: usize = 65_536;
/// A record as text: 64 digits and a line feed.
const LINE_BYTES: usize = 2 * LEAF_BYTES + 1;

/// What was asked, and what came of it.
#[derive(Debug, Serialize)]
struct Report {
    verified: bool,
    room: String,
    phase: Phase,
    /// The name of what is wrong, and what it means.
    finding: Option<Finding>,
    detail: Option<String>,
    proved: Vec<Fact>,
    /// Part of the promise, but not checked here.
    open: Vec<Fact>,
    count: Option<u32>,
    number: Option<u32>,
    place: Option<u32>,
}

/// Reads a draw, checks it, and prints what it proves.
///
/// # Errors
/// Never; what cannot be read is exit code 2.
pub async fn run(args: VerifyDrawArgs) -> anyhow::Result<ExitCode> {
    match check(&args).await {
        Ok(report) => {
            if args.json {
                output::data(&serde_json::to_string(&report)?);
            } else {
                lines(&report).iter().for_each(|line| output::data(line));
            }
            Ok(if report.verified { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => {
            output::note(&format!("floodgate: nothing was checked: {error:#}"));
            Ok(ExitCode::from(EXIT_UNREADABLE))
        }
    }
}

async fn check(args: &VerifyDrawArgs) -> anyhow::Result<Report> {
    let from_stdin = [Some(&args.draw), args.earlier.as_ref(), args.proof.as_ref(), args.leaves.as_ref()];
    ensure!(from_stdin.into_iter().flatten().filter(|source| *source == "-").count() <= 1, "`-` can be read once only");
    let draw: Draw = document(&args.draw).await?;
    let mut report = Report {
        verified: false,
        room: draw.room.to_string(),
        phase: draw.phase,
        finding: None,
        detail: None,
        proved: Vec::new(),
        open: Vec::new(),
        count: draw.count,
        number: args.number,
        place: None,
    };
    let earlier: Option<Draw> = read(args.earlier.as_deref()).await?;
    let proof: Option<Proof> = read(args.proof.as_deref()).await?;
    let leaves = args.leaves.as_deref().map(leaves).transpose()?;
    let given = Given { earlier, proof, leaves, number: args.number };
    match recompute(&draw, given, entrant_of(args, &draw), &mut report) {
        Ok(()) => report.verified = true,
        Err(finding) => (report.finding, report.detail) = (Some(finding), Some(finding.to_string())),
    }
    Ok(report)
}

/// What there is beside the document.
struct Given {
    earlier: Option<Draw>,
    proof: Option<Proof>,
    leaves: Option<TreeBuilder>,
    number: Option<u32>,
}

/// The record that somebody knows from their own ticket and nonce.
fn entrant_of(args: &VerifyDrawArgs, draw: &Draw) -> Option<Digest> {
    args.visitor.as_ref().map(|visitor| entrant(&draw.room, visitor, args.nonce.as_ref()))
}

/// Fills the report up to the first finding.
fn recompute(draw: &Draw, given: Given, record: Option<Digest>, report: &mut Report) -> Result<(), Finding> {
    let Given { earlier, proof, leaves, number } = given;
    let verified = verify(draw)?;
    (report.proved, report.open) = (verified.proved, verified.open);
    let mut proved = |fact| {
        report.open.retain(|open| *open != fact);
        report.proved.push(fact);
    };
    if let Some(earlier) = earlier {
        verify_unchanged(&earlier, draw)?;
        proved(Fact::Unchanged);
    }
    if let Some(leaves) = leaves {
        verify_leaves(draw, leaves)?;
        proved(Fact::Root);
    }
    if let Some(proof) = &proof {
        verify_proof(draw, proof)?;
        proved(Fact::Proof);
        if let Some(record) = record {
            verify_record(proof, &record)?;
            proved(Fact::Record);
        }
    }
    report.number = number.or(proof.map(|proof| proof.number));
    // Before the draw a number of the lobby has no place yet; that is nothing wrong.
    if let Some(number) = report.number.filter(|_| draw.phase == Phase::Drawn) {
        report.place = Some(verify_place(draw, number)?);
    }
    Ok(())
}

async fn read<T: DeserializeOwned>(source: Option<&str>) -> anyhow::Result<Option<T>> {
    match source {
        Some(source) => document(source).await.map(Some),
        None => Ok(None),
    }
}

/// A JSON document from an address, a file or standard input (`-`).
async fn document<T: DeserializeOwned>(source: &str) -> anyhow::Result<T> {
    let bytes = if source.starts_with("https://") || source.starts_with("http://") {
        download(source).await.with_context(|| source.to_owned())?
    } else {
        let mut bytes = Vec::new();
        open(source)?.take(DRAW_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).with_context(|| source.to_owned())?;
        bytes
    };
    ensure!(bytes.len() <= DRAW_BYTES_MAX, "{source}: longer than {DRAW_BYTES_MAX} bytes");
    serde_json::from_slice(&bytes).with_context(|| format!("{source} is not what it should be"))
}

async fn download(url: &str) -> anyhow::Result<Vec<u8>> {
    let client = reqwest::Client::builder().timeout(Duration::from_millis(ANSWER_MS)).build()?;
    let answer = client.get(url).header(reqwest::header::ACCEPT, "application/json").send().await?;
    if !answer.status().is_success() {
        bail!("the answer is {}", answer.status());
    }
    let mut bytes = Vec::new();
    let mut body = answer.bytes_stream();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece?);
        ensure!(bytes.len() <= DRAW_BYTES_MAX, "longer than {DRAW_BYTES_MAX} bytes");
    }
    Ok(bytes)
}

fn open(source: &str) -> anyhow::Result<Box<dyn Read>> {
    if source == "-" {
        return Ok(Box::new(std::io::stdin()));
    }
    Ok(Box::new(std::fs::File::open(source).with_context(|| source.to_owned())?))
}

/// The entrants: records of 32 bytes, or one record per line in hexadecimal. A million lines are read in pieces.
fn leaves(source: &str) -> anyhow::Result<TreeBuilder> {
    let mut input = BufReader::with_capacity(PIECE_BYTES, open(source)?);
    let mut builder = TreeBuilder::default();
    if is_text(input.fill_buf().with_context(|| source.to_owned())?) {
        let mut line = String::with_capacity(LINE_BYTES);
        for number in 1_u64.. {
            line.clear();
            // One byte more than a line may have shows one that is too long, and bounds the memory.
            let read = input.by_ref().take(LINE_BYTES as u64 + 2).read_line(&mut line);
            if read.with_context(|| format!("{source}, line {number}"))? == 0 {
                break;
            }
            let record: queue::draw::Digest =
                line.trim_end().parse().map_err(|bad| anyhow!("{source}, line {number}: {bad}"))?;
            builder.push(&record.0);
        }
        return Ok(builder);
    }
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let bytes = input.read(&mut piece).with_context(|| source.to_owned())?;
        match piece.get(..bytes) {
            Some(read) if !read.is_empty() => builder.extend(read),
            _ => return Ok(builder),
        }
    }
}

/// Hashes in binary that look like a line of hexadecimal: less likely than finding a collision.
fn is_text(start: &[u8]) -> bool {
    let line = start.get(..LINE_BYTES).unwrap_or(start).trim_ascii_end();
    line.len() == LINE_BYTES - 1 && line.iter().all(u8::is_ascii_hexdigit)
}

/// The report for people.
fn lines(report: &Report) -> Vec<String> {
    let phase = match report.phase {
        Phase::Committed => "the lobby is open, the secret is committed to",
        Phase::Closed => "the lobby is closed, the draw is not made yet",
        Phase::Drawn => "drawn",
    };
    let mut lines = vec![format!("room {}: {phase}", report.room)];
    lines.extend(report.proved.iter().map(|fact| format!("  proved    {}", words(*fact))));
    lines.extend(report.open.iter().map(|fact| format!("  not here  {}", words(*fact))));
    if let (Some(finding), Some(detail)) = (report.finding, &report.detail) {
        let name = serde_json::to_value(finding).ok().and_then(|name| name.as_str().map(str::to_owned));
        lines.push(format!("FINDING {}: {detail}", name.unwrap_or_default()));
        return lines;
    }
    match (report.number, report.place, report.count) {
        (Some(number), Some(place), Some(count)) => lines.push(format!("number {number} has place {place} of {count}")),
        (Some(number), None, _) => lines.push(format!("number {number} has no place yet")),
        _ => {}
    }
    lines
}

fn words(fact: Fact) -> &'static str {
    match fact {
        Fact::Commitment => "the secret is the one committed to",
        Fact::Seed => "the seed follows from secret, root and beacon",
        Fact::BeaconSignature => "the announced third party signed the beacon",
        Fact::BeaconAfterRoot => "the third party had seen the list of entrants",
        Fact::BeaconEntrants => "every entrant's own value is in the seed",
        Fact::Root => "the entrants give the root (--leaves)",
        Fact::Proof => "the entrant is under the root (--proof)",
        Fact::Record => "the entrant's record is yours (--visitor, --nonce)",
        Fact::Unchanged => "nothing was changed since an earlier copy (--earlier)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn leaves_are_the_same_in_binary_and_in_lines() {
        let records: Vec<[u8; 32]> = (0..3_000_u32).map(|n| [(n % 251) as u8; 32]).collect();
        let binary = records.concat();
        let hex: String = records.iter().map(|r| format!("{}\n", queue::draw::Hex(*r))).collect();
        let root = |bytes: &[u8]| leaves(file(bytes).path().to_str().unwrap()).unwrap().finish().unwrap();
        assert_eq!(root(&binary), root(hex.as_bytes()));
        assert_eq!(root(&binary), root(hex.replace('\n', "\r\n").as_bytes()));
        assert_eq!(root(&binary), root(hex.trim_end().as_bytes()), "the last line feed may be missing");
        assert_eq!(root(&[]).count(), 0);
        let broken = file(format!("{hex}zz\n").as_bytes());
        let error = leaves(broken.path().to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("line 3001"), "{error}");
    }
}
