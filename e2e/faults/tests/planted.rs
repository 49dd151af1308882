//! The planted bugs are where the list says, and nowhere in the executable that is shipped. That each is found is proved by
//! `make faults-planted`, which needs an executable of its own.
#![allow(missing_docs, clippy::expect_used, clippy::panic, reason = "tests are named after what they prove")]

use faults::planted::{self, BUGS, Sql, VARIABLE, replaced};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Tests run in the folder of their package.
fn root() -> PathBuf {
    PathBuf::from("../..")
}

/// All files of the product with this ending.
fn sources(ending: &str) -> Vec<(PathBuf, String)> {
    let rooms = ["deal-service", "ledger", "payment-adapter", "proxy", "queue", "service-kit", "floodgate"];
    let mut open: Vec<PathBuf> = rooms.map(|room| root().join(room)).into();
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("a room").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|kind| kind == ending) {
                let text = std::fs::read_to_string(&path).expect("a source file");
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

/// Bytes of the mistakes would be found by their names: the macro leaves none behind.
#[test]
fn the_shipped_executable_has_no_planted_bug() {
    let program = Path::new(env!("CARGO_BIN_EXE_faults")).with_file_name("floodgate");
    let bytes = std::fs::read(program).expect("the executable is built by `cargo test --workspace`");
    // Pieces, so that a look needs no search per name over a hundred megabytes.
    let marks: Vec<&[u8]> =
        [VARIABLE, "planted bug"].into_iter().chain(BUGS.iter().map(|bug| bug.name)).map(str::as_bytes).collect();
    let firsts: BTreeSet<u8> = marks.iter().filter_map(|mark| mark.first()).copied().collect();
    let starts = bytes.iter().enumerate().filter(|(_, byte)| firsts.contains(byte)).map(|(at, _)| &bytes[at..]);
    let found: BTreeSet<String> = starts
        .flat_map(|rest| marks.iter().filter(move |mark| rest.starts_with(mark)))
        .map(|mark| String::from_utf8_lossy(mark).into_owned())
        .collect();
    assert!(found.is_empty(), "built with the feature `planted-bugs`? It has {found:?}");
}

/// The feature is asked for by one target of make, and nothing has it by default.
#[test]
fn nothing_asks_for_planted_bugs() {
    for (path, text) in sources("toml") {
        assert!(!text.contains("default = ["), "{}: a default feature", path.display());
        let names = text.matches("planted-bugs").count();
        let most =
            if path.ends_with("floodgate/Cargo.toml") || path.ends_with("service-kit/Cargo.toml") { 4 } else { 0 };
        assert!(names <= most, "{} names the feature", path.display());
    }
    for file in ["Dockerfile", "scripts/setup", "scripts/test", ".ci/run", "docker-compose.yml"] {
        let text = std::fs::read_to_string(root().join(file)).expect("a file of the repository");
        assert!(!text.contains("planted"), "{file}");
    }
}

#[test]
fn every_bug_stands_where_the_list_says() {
    let code = sources("rs");
    let listed: BTreeSet<&str> = BUGS.iter().filter(|bug| bug.in_code).map(|bug| bug.name).collect();
    let mut planted: BTreeSet<&str> = BTreeSet::new();
    for (_, text) in &code {
        planted.extend(text.split("planted!(\"").skip(1).filter_map(|rest| rest.split('"').next()));
    }
    assert_eq!(planted, listed);
}

#[test]
fn every_text_that_a_bug_replaces_is_there_once() {
    let scripts = sources("lua");
    let migrations: String = sources("sql").into_iter().map(|(_, text)| text).collect();
    for bug in BUGS {
        for lua in bug.lua {
            let of: Vec<&String> = scripts
                .iter()
                .map(|(_, text)| text)
                .filter(|text| text.strip_prefix("-- ").is_some_and(|text| text.starts_with(lua.script)))
                .collect();
            let [script] = of.as_slice() else { panic!("{}: {} scripts begin so", bug.name, of.len()) };
            replaced(script, lua.from, lua.to).unwrap_or_else(|why| panic!("{}: {why}", bug.name));
        }
        for sql in bug.sql {
            let Sql::Function { name, from, to } = sql else { continue };
            let last = migrations.rfind(&format!("FUNCTION {name}(")).expect("a migration makes the function");
            let function = migrations.get(last..).and_then(|rest| rest.split("$$;").next()).expect("its end");
            replaced(function, from, to).unwrap_or_else(|why| panic!("{}: {name}: {why}", bug.name));
        }
    }
}

#[test]
fn the_readme_has_the_list() {
    let readme = std::fs::read_to_string(root().join("e2e/faults/README.md")).expect("the README");
    assert!(readme.contains(&planted::table()), "`faults planted --list` prints the table for e2e/faults/README.md");
}
