//! `docs/known-failures.md` names tests: each of them exists and is run, and no failure of the list is left out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing helper fails its test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PAGE: &str = "docs/known-failures.md";
/// How many failures of others the list has, and how many defects of one seed ("D").
const STORIES: usize = 57;
const DEFECTS: usize = 16;
/// How far above its name the attribute of a test may stand, in lines.
const ATTRIBUTE_LINES: usize = 4;

fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new("..").join(path)).ok()
}

/// Whether the file has a test of this name that is not ignored.
fn is_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().collect();
    let is_named = |line: &&str| line.trim_start().trim_start_matches("async ").starts_with(&format!("fn {name}("));
    lines.iter().position(is_named).is_some_and(|at| {
        let above = &lines[at.saturating_sub(ATTRIBUTE_LINES)..at];
        let after_the_last_item = above.iter().rposition(|line| *line == "}").map_or(above, |end| &above[end + 1..]);
        let has = |what: &str| after_the_last_item.iter().any(|line| line.trim_start().starts_with(what));
        (has("#[test]") || has("#[tokio::test")) && !has("#[ignore")
    })
}

#[test]
fn every_named_test_exists() {
    let page = read(PAGE).unwrap();
    let named: BTreeSet<(&str, &str)> =
        page.split('`').skip(1).step_by(2).filter_map(|text| text.split_once("::")).collect();
    assert!(named.len() > 60, "the page names its tests as `file::test`");
    let missing: Vec<String> = named
        .iter()
        .filter(|(file, test)| !read(file).is_some_and(|source| is_test(&source, test)))
        .map(|(file, test)| format!("{file}::{test}"))
        .collect();
    assert!(missing.is_empty(), "{PAGE} names tests that do not exist or are not run:\n  {}", missing.join("\n  "));
}

#[test]
fn every_failure_has_a_test_or_a_reason() {
    let page = read(PAGE).unwrap();
    let wanted = (1..=STORIES).map(|n| n.to_string()).chain((1..=DEFECTS).map(|n| format!("D{n}")));
    for id in wanted {
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with(&format!("| {id} |"))).collect();
        assert_eq!(rows.len(), 1, "{PAGE}: failure {id} has one row");
        let answer = rows[0].split('|').nth(3).unwrap_or_default();
        assert!(answer.contains("::") || answer.contains("Cannot arise: "), "{PAGE}: {id} has a test or a reason");
    }
}

#[test]
fn a_test_is_told_from_other_functions() {
    let source = "fn helper() {\n}\n#[tokio::test(flavor = \"multi_thread\")]\nasync fn holds() {\n}\n#[test]\n#[ignore]\nfn skipped() {}\n";
    assert!(is_test(source, "holds"));
    assert!(!is_test(source, "helper") && !is_test(source, "skipped") && !is_test(source, "hold"));
}
