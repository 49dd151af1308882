//! The command line itself: help, exit codes, and what needs no store.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::io::Write as _;
use std::process::{Command, Output};

fn floodgate(args: &[&str]) -> Output {
    // An empty directory: no `.floodgate/floodgate.toml` of a developer is picked up.
    let folder = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_floodgate")).args(args).current_dir(folder.path()).output().unwrap()
}
fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_help_has_examples_and_fits_80_columns() {
    let commands: &[&[&str]] = &[
        &["proxy"],
        &["deal-service"],
        &["payment-adapter"],
        &["payment-simulator"],
        &["simulate-payments"],
        &["migrate"],
        &["up"],
        &["demo"],
        &["merchant"],
        &["merchant", "create"],
        &["key"],
        &["key", "create"],
        &["payments"],
        &["payments", "list"],
        &["payments", "resume"],
        &["payments", "recheck"],
        &["payments", "refund"],
        &["payments", "close"],
        &["payments", "give-back"],
        &["payments", "discrepancies"],
        &["payments", "dismiss"],
        &["order"],
        &["rebuild"],
        &["verify"],
        &["verify-draw"],
        &["healthcheck"],
        &[],
    ];
    for command in commands {
        for flag in ["--help", "-h"] {
            let output = floodgate(&[command, &[flag][..]].concat());
            let help = text(&output.stdout);
            assert!(output.status.success() && help.contains("Examples:"), "{command:?} {flag}: {help}");
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{command:?} {flag}: {line}");
            }
        }
    }
}

#[test]
fn wrong_usage_is_2_and_no_arguments_show_help() {
    assert_eq!(floodgate(&["sell-everything"]).status.code(), Some(2));
    assert_eq!(floodgate(&["demo", "--stock", "0"]).status.code(), Some(2));
    assert_eq!(floodgate(&["demo", "--kill", "shop@1"]).status.code(), Some(2));
    let nothing = floodgate(&[]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(text(&nothing.stderr).contains("Usage:"));
}

#[test]
fn a_typo_is_answered_with_a_suggestion() {
    let output = floodgate(&["prxy"]);
    assert!(text(&output.stderr).contains("'proxy'"), "{}", text(&output.stderr));
}

#[test]
fn a_wrong_configuration_is_64_and_one_line_names_the_field() {
    let gate = "[gate]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\npublic_url = \"http://127.0.0.1:1\"\n\
                cookie_secure = false\nupstreams = [{ name = \"shop\", address = \"127.0.0.1:1\" }]\n\
                routes = [{ path = \"/*\", upstream = \"shop\" }]\n";
    let stores =
        "[keys]\nring = [\"k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"]\n[redis]\nurl = \"redis://127.0.0.1:1\"\n";
    let cases: &[(&str, String, &str)] = &[
        ("proxy", String::new(), "keys"),
        ("proxy", gate.to_owned(), "keys"),
        ("proxy", format!("{stores}{gate}colour = \"red\"\n"), "colour"),
        ("proxy", format!("{stores}{gate}threads = 0\n"), "gate.threads"),
        ("proxy", format!("{stores}{gate}threads = \"many\"\n"), "gate.threads"),
        ("proxy", format!("[keys]\nring = []\n{gate}"), "keys.ring"),
        ("deal-service", stores.to_owned(), "postgres"),
        ("payment-adapter", "[postgres]\nurl = \"host=/nowhere\"\n".to_owned(), "payment_adapter"),
        ("payment-simulator", "[payment_simulator]\nlisten = \"here\"\n".to_owned(), "payment_simulator"),
        ("migrate", String::new(), "postgres"),
        ("verify", "[postgres]\n".to_owned(), "postgres"),
        ("migrate", "[nothing]\n".to_owned(), "nothing"),
    ];
    for (command, config, field) in cases {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(config.as_bytes()).unwrap();
        let output = floodgate(&[command, "--config", file.path().to_str().unwrap()]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{command} {field}: {message}");
        assert!(message.contains(field) && message.trim_end().lines().count() == 1, "{command} {field}: {message}");
    }
    assert_eq!(floodgate(&["verify", "--config", "/does/not/exist.toml"]).status.code(), Some(64));
}

#[test]
fn a_check_binds_and_connects_nothing() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"[payment_simulator]\nlisten = \"127.0.0.1:1\"\nadmin_listen = \"127.0.0.1:2\"\n").unwrap();
    let output = floodgate(&["payment-simulator", "--check", "--config", file.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("127.0.0.1:1"));
}

#[test]
fn the_simulator_needs_no_configuration_and_says_where_it_is() {
    use std::io::{BufRead as _, Read as _};
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_floodgate"))
        .args(["simulate-payments", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--json"])
        .current_dir(folder.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    let control = said["control_url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    let mut stream = std::net::TcpStream::connect(control.strip_suffix("/_control").unwrap()).unwrap();
    stream.write_all(b"GET /_control/ledger HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"payments\":[]"), "{answer}");
    child.kill().unwrap();
    child.wait().unwrap();
    let refused =
        floodgate(&["simulate-payments", "--toss-webhook-url", "http://198.51.100.7/hook", "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.status.code(), Some(64), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("toss_webhook_url"), "{}", text(&refused.stderr));
}

#[test]
fn keys_are_fresh_and_named() {
    let (one, other) = (floodgate(&["key", "create"]), floodgate(&["key", "create"]));
    let key = text(&one.stdout);
    assert!(one.status.success() && key.starts_with("k1:") && key.trim().len() == 46, "{key}");
    assert_ne!(one.stdout, other.stdout);
    assert!(text(&floodgate(&["key", "create", "--id", "2026b"]).stdout).starts_with("2026b:"));
    assert_eq!(floodgate(&["key", "create", "--id", "with space"]).status.code(), Some(64));
}

#[test]
fn nobody_at_the_admin_port_is_unhealthy() {
    let output = floodgate(&["healthcheck", "--admin", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("does not answer"));
}

/// Everything between backquotes in the pages that people start with.
fn quoted_commands(start: &str) -> Vec<String> {
    let root = std::path::Path::new("..");
    let mut pages = vec![root.join("README.md"), root.join("ARCHITECTURE.md"), root.join("CONTRIBUTING.md")];
    pages.extend(std::fs::read_dir(root.join("docs")).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()));
    let mut found = Vec::new();
    for page in pages {
        for line in std::fs::read_to_string(&page).unwrap().lines() {
            let quoted = line.split('`').skip(1).step_by(2).chain(std::iter::once(line));
            found.extend(quoted.map(str::trim).filter(|text| text.starts_with(start)).map(str::to_owned));
        }
    }
    assert!(!found.is_empty(), "no page names a command that starts with {start:?}");
    found
}

#[test]
fn documented_commands_exist_with_their_flags() {
    let root = std::path::Path::new("..");
    for command in quoted_commands("make ") {
        let target = command.split_whitespace().nth(1).unwrap().to_owned();
        let dry = Command::new("make").args(["-n", &target]).current_dir(root).output().unwrap();
        assert!(dry.status.success(), "`{command}`: {}", text(&dry.stderr));
        let help = text(&floodgate(&["demo", "--help"]).stdout);
        for flag in command.split(|c: char| c == '"' || c.is_whitespace()).filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag), "`{command}`: `floodgate demo` has no {flag}");
        }
    }
    let subcommand = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
    for command in quoted_commands("floodgate ") {
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        let names: Vec<&str> = words.iter().copied().take_while(subcommand).collect();
        if names.is_empty() {
            continue; // `floodgate ROLE …`, `floodgate → …`
        }
        let output = floodgate(&[&names[..], &["--help"]].concat());
        assert!(output.status.success(), "`{command}`: {}", text(&output.stderr));
        let help = text(&output.stdout);
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag.trim_end_matches([',', '.'])), "`{command}`: no {flag} in its help");
        }
    }
}
