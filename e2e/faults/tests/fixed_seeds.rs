//! A small fixed set of seeds, so that every `make test` sells under faults. `make faults SEEDS=n` runs many.
#![allow(missing_docs, clippy::expect_used, reason = "tests are named after what they prove")]

use faults::nemesis::{Fault, plan};
use faults::run::SALE_MS;
use service_kit::failpoint::POINTS;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Chosen for what they strike with; a change of the nemesis may choose others.
const SEEDS: [u64; 3] = [4, 9, 13];

/// Tests run in the folder of their package.
fn root() -> PathBuf {
    PathBuf::from("../..")
}

#[test]
fn a_sale_survives_the_fixed_seeds() {
    let bench = Path::new(env!("CARGO_BIN_EXE_faults"));
    let out = tempfile::tempdir().expect("a folder");
    let mut run = Command::new(bench);
    // The executable is built by `cargo test --workspace` for the tests of the command line.
    run.arg("run").arg("--program").arg(bench.with_file_name("floodgate"));
    for seed in SEEDS {
        run.args(["--seed", &seed.to_string()]);
    }
    let ended = run.arg("--out").arg(out.path()).arg("--regressions-dir").arg(out.path()).output();
    let ended = ended.expect("the bench runs");
    let (said, complained) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "`make faults SEED=…` repeats one of these:\n{said}{complained}");
}

#[test]
fn the_fixed_seeds_strike_hard() {
    let faults: Vec<Fault> = SEEDS.iter().flat_map(|seed| plan(*seed, SALE_MS)).map(|planned| planned.fault).collect();
    let has = |kind: fn(&Fault) -> bool| faults.iter().any(kind);
    assert!(has(|fault| matches!(fault, Fault::Kill { .. } | Fault::RedisEmpty { .. })), "a process dies");
    assert!(has(|fault| matches!(fault, Fault::Hop { .. })), "a hop is harmed");
    assert!(has(|fault| matches!(fault, Fault::FailPoint { .. })), "a role dies between two steps");
    assert!(has(|fault| matches!(fault, Fault::Provider { .. })), "the provider misbehaves");
}

/// A point that nobody passes would be a fault that never happens.
#[test]
fn every_fail_point_stands_in_the_code() {
    let mut code = String::new();
    let mut open: Vec<PathBuf> = ["queue", "proxy", "deal-service", "payment-adapter", "ledger"]
        .map(|room| root().join(room).join("src"))
        .into();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("a room").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                code.push_str(&std::fs::read_to_string(path).expect("a source file"));
            }
        }
    }
    let missing: Vec<&&str> = POINTS.iter().filter(|point| !code.contains(&format!("\"{point}\""))).collect();
    assert!(missing.is_empty(), "no code passes {missing:?}");
}
