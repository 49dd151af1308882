//! The plan of the house as a test: which room may use which, and which libraries stay behind
//! which door. It reads the manifests through `cargo metadata`, so nothing has to be compiled.
#![allow(clippy::expect_used, clippy::panic, reason = "a failing helper fails its test, and says why")]
#![allow(missing_docs, reason = "tests are named after what they prove")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Every room, and the rooms that it may use. Arrows point one way; nothing else is allowed.
const ARROWS: &[(&str, &[&str])] = &[
    ("floodgate", &["deal-service", "ledger", "payment-adapter", "payment-simulator", "proxy", "queue", "service-kit"]),
    ("proxy", &["queue", "service-kit"]),
    ("deal-service", &["ledger", "queue", "service-kit"]),
    ("payment-adapter", &["ledger", "service-kit"]),
    ("payment-simulator", &["service-kit"]),
    ("queue", &["service-kit"]),
    ("ledger", &["service-kit"]),
    ("service-kit", &[]),
    // A tool of developers: it runs the executable from outside, and nothing may use it.
    ("faults", &["service-kit"]),
];

/// What tests may use besides, and why.
const TEST_ARROWS: &[(&str, &str, &str)] =
    &[("payment-adapter", "payment-simulator", "the drivers are tested against the provider that the house brings")];

/// Libraries that a room must not name, in any kind of dependency but tests, and why.
const CLOSED_DOORS: &[(&str, &[&str], &str)] = &[
    ("queue", &["axum", "hyper", "pingora", "reqwest", "tower-http", "http"], "the waiting room does not speak HTTP"),
    ("queue", &["tokio-postgres", "deadpool-postgres", "refinery"], "the line lives in Redis"),
    ("ledger", &["axum", "hyper", "pingora", "reqwest", "tower-http", "http"], "the ledger does not speak HTTP"),
    ("proxy", &["tokio-postgres", "deadpool-postgres", "refinery"], "the gate never waits for PostgreSQL"),
    ("deal-service", &["reqwest", "hyper-util", "pingora"], "the deal service calls nobody over HTTP"),
    ("deal-service", &["tokio-postgres", "deadpool-postgres", "refinery"], "SQL is written in the ledger only"),
    ("payment-adapter", &["tokio-postgres", "deadpool-postgres", "refinery"], "SQL is written in the ledger only"),
    ("payment-simulator", &["tokio-postgres", "deadpool-postgres", "refinery"], "it stands for somebody else's house"),
];

/// Libraries that exactly these rooms may name: each has one door. Tests may go round it, e.g. to forge a token.
const ONE_DOOR: &[(&str, &[&str], &str)] = &[
    ("fred", &["service-kit"], "the Redis client is exchanged in one file"),
    ("redis", &[], "fred is the client; see service_kit::redis"),
    ("pingora", &["proxy", "service-kit"], "only the gate is a proxy; service-kit pins its features"),
    ("sqlx", &[], "it loses pool permits for ever when a connection dies silently"),
    ("jsonwebtoken", &["service-kit"], "tokens are made and checked in service_kit::token"),
];

/// One dependency of one room.
struct Use {
    name: String,
    for_tests: bool,
}

fn rooms() -> BTreeMap<String, Vec<Use>> {
    let root = Path::new("..");
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"])
        .current_dir(root)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata.get("packages").and_then(Value::as_array).expect("a list of packages");
    packages.iter().map(|package| (text(package, "name"), uses(package))).collect()
}

fn uses(package: &Value) -> Vec<Use> {
    let dependencies = package.get("dependencies").and_then(Value::as_array).expect("a list of dependencies");
    dependencies
        .iter()
        .map(|d| Use { name: text(d, "name"), for_tests: d.get("kind").and_then(Value::as_str) == Some("dev") })
        .collect()
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).expect("cargo's format has this field").to_owned()
}

#[test]
fn every_crate_is_a_room_of_the_plan() {
    let planned: BTreeSet<String> = ARROWS.iter().map(|(room, _)| (*room).to_owned()).collect();
    let found: BTreeSet<String> = rooms().into_keys().collect();
    assert_eq!(found, planned, "a new crate belongs into ARROWS, with its arrows, and into ARCHITECTURE.md");
}

#[test]
fn rooms_are_used_only_along_the_arrows() {
    let rooms = rooms();
    for (room, allowed) in ARROWS {
        for used in rooms.get(*room).expect("the plan is complete") {
            let inside = rooms.contains_key(&used.name);
            let for_tests =
                used.for_tests && TEST_ARROWS.iter().any(|(from, to, _)| (*from, *to) == (*room, used.name.as_str()));
            assert!(!inside || for_tests || allowed.contains(&used.name.as_str()), "{room} must not use {}", used.name);
        }
    }
}

#[test]
fn the_arrows_have_no_circle() {
    // A topological order exists if rooms without open arrows can be taken away until none is left.
    let mut open: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(r, uses)| (*r, uses.iter().copied().collect())).collect();
    while !open.is_empty() {
        let free: Vec<&str> = open.iter().filter(|(_, uses)| uses.is_empty()).map(|(room, _)| *room).collect();
        assert!(!free.is_empty(), "these use each other in a circle: {:?}", open.keys());
        for room in free {
            open.remove(room);
            open.values_mut().for_each(|uses| {
                uses.remove(room);
            });
        }
    }
}

#[test]
fn closed_doors_stay_closed() {
    let rooms = rooms();
    for (room, libraries, why) in CLOSED_DOORS {
        for used in rooms.get(*room).expect("the plan is complete") {
            let named = !used.for_tests && libraries.contains(&used.name.as_str());
            assert!(!named, "{room} must not name {}: {why}", used.name);
        }
    }
}

#[test]
fn libraries_with_one_door_are_named_nowhere_else() {
    let rooms = rooms();
    for (library, doors, why) in ONE_DOOR {
        for (room, uses) in &rooms {
            let named = uses.iter().any(|used| used.name == *library && !used.for_tests);
            assert!(!named || doors.contains(&room.as_str()), "{room} must not name {library}: {why}");
        }
    }
}
