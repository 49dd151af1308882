//! House rules that a compiler does not know: sizes, leftovers, headers of scripts, and names that
//! must agree between code, rules, dashboards and runbooks. Each check says what to do about it.
#![allow(clippy::expect_used, clippy::panic, reason = "a failing helper fails its test, and says why")]
#![allow(missing_docs, reason = "tests are named after what they prove")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file, in lines, unless its first line says that and why it is longer.
const LINES_MAX: usize = 450;
/// Longest README, in lines: it is a front door, the rest is in docs/.
const README_LINES_MAX: usize = 150;
/// Folders that are not ours to tidy.
const SKIPPED: &[&str] = &[".git", "target", "node_modules", ".floodgate", "out"];

/// Tests run in the folder of their package. Where that was when they were compiled may be another clone.
fn root() -> &'static Path {
    Path::new("..")
}

/// All files below `folder` (relative to the root) with one of these endings, in order.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.map(|entry| entry.expect("a readable folder")) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let kind = entry.file_type().expect("a known type");
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
                open.push(path);
            } else if kind.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Fails with all findings at once, so that one run shows everything there is to do.
fn none(findings: &[String], what_to_do: &str) {
    assert!(findings.is_empty(), "{what_to_do}\n  {}", findings.join("\n  "));
}

#[test]
fn a_file_is_one_subject() {
    let mut findings = Vec::new();
    for path in files("", &[".rs", ".lua", ".sql", ".mjs", ".js", ".py"]) {
        let source = read(&path);
        let lines = source.lines().count();
        let reason = source.lines().next().is_some_and(|first| first.to_lowercase().contains("long"));
        if lines > LINES_MAX && !reason {
            findings.push(format!("{}: {lines} lines", shown(&path)));
        }
    }
    none(&findings, "split these by subject, or say on the first line why they are long:");
}

#[test]
fn nothing_is_left_over() {
    // Written in pieces, so that this file does not find itself.
    let calls = [["to", "do!("], ["unimpl", "emented!("], ["d", "bg!("]].map(|pieces| pieces.concat());
    let notes = [["FIX", "ME"], ["XX", "X"], ["TO", "DO"], ["HA", "CK:"]].map(|pieces| pieces.concat());
    let mut findings = Vec::new();
    for path in files("", &[".rs", ".lua", ".sql", ".mjs", ".js", ".py", ".yml", ".yaml", ".toml", ".html", ".css"]) {
        for (number, line) in (1..).zip(read(&path).lines()) {
            // Notes count in comments only: elsewhere such a word can be data, like the currency of no country.
            let comment = ["//", "--", "#", "/*"].iter().filter_map(|mark| line.find(mark)).min();
            let comment = comment.and_then(|at| line.get(at..)).unwrap_or("");
            let found = calls
                .iter()
                .filter(|word| has_word(line, word))
                .chain(notes.iter().filter(|word| has_word(comment, word)));
            findings.extend(found.map(|word| format!("{}:{number}: {word}", shown(&path))));
        }
    }
    none(&findings, "finish these, or file an issue and take the note out:");
}

/// Whether `word` stands in `line` with no letter or digit before it or after it.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|l| l.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|l| l.chars().next());
        let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        !letter(before) && (word.ends_with(['(', ':']) || !letter(after))
    })
}

#[test]
fn every_script_explains_itself() {
    let mut findings = Vec::new();
    for path in files("", &[".lua"]) {
        let source = read(&path);
        let header: String =
            source.lines().take_while(|line| line.starts_with("--")).collect::<Vec<_>>().join("\n").to_lowercase();
        for (subject, words) in [
            ("its keys", &["key"][..]),
            ("its arguments", &["arg"]),
            ("its reply", &["repl", "return", "answer"]),
            (
                "its races",
                &["race", "same time", "concurrent", "at once", "twice", "second run", "overtaken", "changes nothing"],
            ),
        ] {
            if !words.iter().any(|word| header.contains(word)) {
                findings.push(format!("{}: the header does not name {subject}", shown(&path)));
            }
        }
    }
    none(&findings, "a script's header comment says: keys, arguments with units, reply, races:");
}

/// Names after `- alert:` in the rules.
fn alerts() -> BTreeSet<String> {
    let rules = read(&root().join("prometheus/alerts.rules.yml"));
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert:")).map(|name| name.trim().to_owned()).collect()
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let alerts = alerts();
    let runbooks: BTreeSet<String> = files("docs/runbooks", &[".md"])
        .iter()
        .filter_map(|path| path.file_stem())
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name != "README")
        .collect();
    assert!(!alerts.is_empty(), "prometheus/alerts.rules.yml has alerts");
    assert_eq!(runbooks, alerts, "docs/runbooks has exactly one page per alert, named after it");

    let rules = read(&root().join("prometheus/alerts.rules.yml"));
    let mut findings = Vec::new();
    for alert in &alerts {
        if !rules.contains(&format!("runbook_url: docs/runbooks/{alert}.md")) {
            findings.push(format!("{alert}: no runbook_url"));
        }
        let page = read(&root().join(format!("docs/runbooks/{alert}.md")));
        for heading in ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"] {
            if !page.contains(heading) {
                findings.push(format!("docs/runbooks/{alert}.md: no `{heading}`"));
            }
        }
    }
    none(&findings, "an alert links its runbook, and a runbook has its four parts:");
}

/// Words of `text` that look like names in a query language.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).filter(|word| !word.is_empty())
}

/// Every metric that some room declares: the quoted names in `metric.rs` and `metric/*.rs`.
fn declared() -> BTreeSet<String> {
    let mut metrics = BTreeSet::new();
    for path in files("", &["metric.rs", "metrics.rs"]) {
        for quoted in read(&path).split('"').skip(1).step_by(2).filter(|quoted| quoted.starts_with("floodgate_")) {
            metrics.insert(quoted.to_owned());
        }
    }
    metrics
}

/// The names of the recording rules.
fn recorded() -> BTreeSet<String> {
    let rules = read(&root().join("prometheus/recording.rules.yml"));
    rules.lines().filter_map(|line| line.trim().strip_prefix("- record:")).map(|name| name.trim().to_owned()).collect()
}

#[test]
fn dashboards_rules_and_runbooks_use_metrics_that_exist() {
    let (declared, recorded) = (declared(), recorded());
    assert!(!declared.is_empty() && !recorded.is_empty(), "some room declares metrics, and some rule records");
    let mut used = files("prometheus", &[".yml"]);
    used.extend(files("grafana", &[".json"]));
    used.extend(files("docs/runbooks", &[".md"]));
    let mut findings = BTreeSet::new();
    for path in used {
        for name in names(&read(&path)) {
            let known = if name.contains(":floodgate_") {
                recorded.contains(name)
            } else if name.starts_with("floodgate_") {
                let series = ["_bucket", "_sum", "_count"].iter().find_map(|tail| name.strip_suffix(tail));
                declared.contains(name) || series.is_some_and(|histogram| declared.contains(histogram))
            } else {
                true
            };
            if !known {
                findings.insert(format!("{}: {name}", shown(&path)));
            }
        }
    }
    none(&findings.into_iter().collect::<Vec<_>>(), "no metric.rs and no recording rule has these:");
}

#[test]
fn metrics_are_named_by_the_rules() {
    let mut findings = Vec::new();
    for name in declared() {
        let shape = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let milliseconds = name.ends_with("_ms") || name.ends_with("_milliseconds");
        if !shape || milliseconds || name.ends_with("_count") || name.ends_with("_sum") || name.ends_with("_bucket") {
            findings.push(name);
        }
    }
    none(&findings, "metrics are snake_case, in base units (seconds), and leave the endings of histograms alone:");
}

#[test]
fn dashboards_are_whole() {
    let mut findings = Vec::new();
    let dashboards = files("grafana/dashboards", &[".json"]);
    assert!(!dashboards.is_empty(), "there is a dashboard");
    for path in dashboards {
        let dashboard: serde_json::Value =
            serde_json::from_str(&read(&path)).unwrap_or_else(|e| panic!("{}: {e}", shown(&path)));
        for field in ["uid", "title", "schemaVersion", "panels", "refresh"] {
            if dashboard.get(field).is_none() {
                findings.push(format!("{}: no {field}", shown(&path)));
            }
        }
        let mut ids = BTreeSet::new();
        for panel in dashboard.get("panels").and_then(serde_json::Value::as_array).into_iter().flatten() {
            let title = panel.get("title").and_then(serde_json::Value::as_str).unwrap_or("");
            let is_row = panel.get("type").and_then(serde_json::Value::as_str) == Some("row");
            if title.is_empty() || !ids.insert(panel.get("id").and_then(serde_json::Value::as_u64)) {
                findings
                    .push(format!("{}: panel `{title}` has no title or an id that another panel has", shown(&path)));
            }
            if !is_row && (panel.get("description").is_none() || panel.pointer("/fieldConfig/defaults/unit").is_none())
            {
                findings.push(format!("{}: panel `{title}` has no description or no unit", shown(&path)));
            }
        }
    }
    none(&findings, "a dashboard can be read by somebody who did not make it:");
}

#[test]
fn the_front_door_is_short_and_its_links_lead_somewhere() {
    let readme = read(&root().join("README.md"));
    let lines = readme.lines().count();
    assert!(
        lines <= README_LINES_MAX,
        "README.md has {lines} lines, at most {README_LINES_MAX}: move details to docs/"
    );

    let mut pages = files("docs", &[".md"]);
    pages.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
            .map(|name| root().join(name)),
    );
    let mut findings = Vec::new();
    for page in pages.iter().filter(|page| page.exists()) {
        for target in read(page).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or("");
            let outside = target.contains("://") || target.starts_with("mailto:") || file.is_empty();
            if !outside && !page.parent().is_some_and(|folder| folder.join(file).exists()) {
                findings.push(format!("{}: {target}", shown(page)));
            }
        }
    }
    none(&findings, "these links lead nowhere:");
}
