//! A whole sale through the real executable: exact, also when roles and stores are killed in the
//! middle of it; and nothing is left running.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use serde_json::Value;
use service_kit::private_store::{self, ScratchDir};
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// One run of `demo --once --json` in a directory of its own.
struct Run {
    folder: ScratchDir,
    child: Option<Child>,
    /// Every process id that `state.json` ever showed.
    pids: BTreeSet<u64>,
}

impl Run {
    fn start(args: &[&str]) -> Self {
        let folder = ScratchDir::new().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_floodgate"))
            .args(["demo", "--once", "--json", "--dir"])
            .arg(folder.path())
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { folder, child: Some(child), pids: BTreeSet::new() }
    }

    fn state(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.folder.path().join("demo/state.json")).ok()?).ok()
    }

    fn look(&mut self) -> Option<Value> {
        let state = self.state()?;
        self.pids.extend(state["roles"].as_array()?.iter().filter_map(|role| role["pid"].as_u64()));
        Some(state)
    }

    /// Waits until all six children have been seen.
    fn wait_for_house(&mut self) {
        for _ in 0..1_200 {
            if self.look().is_some_and(|state| state["roles"].as_array().is_some_and(|roles| roles.len() == 6)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the house did not start: {:?}", self.child.take().map(|mut child| child.kill()));
    }

    /// Waits for the line of `up` on standard output: every role answers.
    fn wait_until_ready(&mut self) {
        let child = self.child.as_mut().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "it ended before it was ready: {line:?}");
        child.stdout = Some(out.into_inner());
    }

    fn finish(&mut self) -> Output {
        let mut child = self.child.take().unwrap();
        // Read the pipes on the side, so that the pids can be collected meanwhile.
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let read = |mut pipe: Box<dyn std::io::Read + Send>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                pipe.read_to_end(&mut bytes).map(|_| bytes).unwrap_or_default()
            })
        };
        let (out, err) = (read(Box::new(out)), read(Box::new(err)));
        let status = loop {
            self.look();
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        Output { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
    }

    fn assert_nothing_runs(&self) {
        assert!(self.pids.len() >= 6, "six children were seen: {:?}", self.pids);
        for pid in &self.pids {
            let process = PathBuf::from(format!("/proc/{pid}"));
            assert!(!process.exists() || !is_ours(&process), "process {pid} still runs");
        }
    }
}

/// Process ids are given again; only one of our programs counts as left over.
fn is_ours(process: &Path) -> bool {
    let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
    ["floodgate", "redis-server", "postgres"].contains(&name.trim())
}

fn assert_exact(run: &mut Run, shoppers: u64, stock: u64) -> Value {
    let output = run.finish();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout.trim().lines().count(), 1, "one object on standard output: {stdout}\n{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert!(output.status.success(), "{report:#}\n{stderr}");
    for (field, expected) in [
        ("shoppers", shoppers),
        ("stock", stock),
        ("sold", stock),
        ("paid", stock),
        ("oversold", 0),
        ("undersold", 0),
        ("inversions", 0),
        ("double_charges", 0),
    ] {
        assert_eq!(report[field], expected, "{field}: {report:#}\n{stderr}");
    }
    assert_eq!(report["audit"], "clean", "{report:#}");
    run.assert_nothing_runs();
    report
}

#[test]
fn a_sale_is_exact() {
    let mut run = Run::start(&["--shoppers", "300", "--stock", "30", "--seed", "1"]);
    let report = assert_exact(&mut run, 300, 30);
    for field in ["joined", "called", "claimed", "held", "released", "wait_seconds", "eta_error", "seconds"] {
        assert!(!report[field].is_null(), "{field}: {report:#}");
    }
    assert_eq!(run.state().unwrap()["running"], false);
}

#[test]
fn a_sale_is_exact_while_roles_and_stores_are_killed() {
    let kills = [
        "--kill",
        "deal-service@0.7",
        "--kill",
        "payment-adapter@1.2",
        "--kill",
        "proxy@2",
        "--kill",
        "redis@3.2",
        "--kill",
        "postgres@5",
    ];
    let mut run =
        Run::start(&[&["--shoppers", "300", "--stock", "60", "--rate-per-s", "8", "--seed", "2"], &kills[..]].concat());
    let report = assert_exact(&mut run, 300, 60);
    let state = run.state().unwrap();
    for role in state["roles"].as_array().unwrap() {
        let expected = role["name"] != "payment-simulator";
        assert_eq!(role["restarts"].as_u64().unwrap() > 0, expected, "{role}: {report:#}");
    }
}

#[test]
fn children_do_not_outlive_a_killed_launcher() {
    let mut run = Run::start(&["--shoppers", "50", "--stock", "5", "--opens-in-s", "60"]);
    run.wait_for_house();
    let mut child = run.child.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    for _ in 0..100 {
        if run.pids.iter().all(|pid| !is_ours(&PathBuf::from(format!("/proc/{pid}")))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    run.assert_nothing_runs();
}

/// What an operator does beside a running house.
fn the_other_commands_work(run: &Run) {
    let state = run.state().unwrap();
    let command = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_floodgate"))
            .args(args)
            .env("FLOODGATE_CONFIG", state["config"].as_str().unwrap())
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    command(&["migrate"]);
    let merchant: Value =
        serde_json::from_str(&command(&["merchant", "create", "--name", "Corner shop", "--json"])).unwrap();
    assert_eq!(merchant["api_key"].as_str().unwrap().len(), 51, "{merchant}");
    let verdict: Value = serde_json::from_str(&command(&["verify", "--json"])).unwrap();
    assert_eq!((&verdict["clean"], &verdict["redis_compared"]), (&true.into(), &true.into()), "{verdict}");
    for role in state["roles"].as_array().unwrap() {
        if let Some(admin) = role["admin"].as_str() {
            command(&["healthcheck", "--admin", admin]);
        }
    }
    let second = Command::new(env!("CARGO_BIN_EXE_floodgate"))
        .args(["up", "--dir", state["dir"].as_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1), "one launcher per directory");
}

#[test]
fn ctrl_c_stops_everything_in_order() {
    // A private home: as root, PostgreSQL's user cannot enter it, so the stores live elsewhere.
    let folder = ScratchDir::new().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_floodgate"))
        .args(["up", "--json", "--dir"])
        .arg(folder.path().join("demo"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let mut run = Run { folder, child: Some(child), pids: BTreeSet::new() };
    run.wait_for_house();
    run.wait_until_ready();
    the_other_commands_work(&run);
    assert!(Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap().success());
    let output = run.finish();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(!stderr.contains("starting it again"), "{stderr}");
    run.assert_nothing_runs();

    let config = std::fs::read_to_string(run.folder.path().join("demo/floodgate.toml")).unwrap();
    let socket = config.split('"').find_map(|word| word.strip_prefix("redis+unix://")).unwrap();
    let stores = Path::new(socket).ancestors().nth(2).unwrap();
    if private_store::is_root() {
        assert!(!stores.starts_with(run.folder.path()) && stderr.contains("the stores are in"), "{stderr}");
        std::fs::remove_dir_all(stores).unwrap();
    }
}
