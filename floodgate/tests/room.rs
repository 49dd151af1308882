//! `floodgate room` against a real gate and a real Redis: what it says, its exit codes, and that tampering is found.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use queue::keys::room_log_key;
use serde_json::Value;
use service_kit::private_store::{PrivateRedis, ScratchDir};
use service_kit::redis::Redis;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn floodgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floodgate"));
    command.env_remove("FLOODGATE_OPERATOR_TOKEN").env_remove("FLOODGATE_CONFIG");
    command
}

#[test]
fn every_help_has_examples_and_fits_80_columns() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "", "list", "show", "pause", "resume", "rate", "cap", "notice", "close", "reopen", "schedule", "extend", "log",
        "codes", "evidence",
    ] {
        for flag in ["--help", "-h"] {
            let mut command = floodgate();
            command.arg("room").args(Some(name).filter(|n| !n.is_empty())).arg(flag).current_dir(folder.path());
            let output = command.output().unwrap();
            let help = text(&output.stdout);
            assert!(output.status.success() && help.contains("Examples:"), "{name} {flag}: {help}");
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{name} {flag}: {line}");
            }
        }
    }
    let key = floodgate().args(["key", "operator", "--help"]).output().unwrap();
    assert!(
        text(&key.stdout).lines().all(|line| line.chars().count() <= 80) && text(&key.stdout).contains("Examples:")
    );
}

#[test]
fn wrong_usage_is_2_and_a_missing_token_says_where_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| floodgate().arg("room").args(args).current_dir(folder.path()).output().unwrap();
    for wrong in [
        &["pause", "drop"][..],
        &["pause", "--why", "x"],
        &["pause", "Drop!", "--why", "x"],
        &["rate", "drop", "fast", "--why", "x"],
        &["notice", "drop", "--why", "x"],
        &["notice", "drop", "text", "--ko", "x", "--why", "x"],
        &["schedule", "drop", "--why", "x"],
        &["schedule", "drop", "--start", "soon", "--why", "x"],
        &["extend", "drop", "--why", "x"],
        &["log"],
        &["log", "--journal", "x"],
        &["log", "drop", "--archive", "x"],
        &["evidence", "drop", "--journal", "x"],
    ] {
        assert_eq!(run(wrong).status.code(), Some(2), "{wrong:?}");
    }
    let no_token = run(&["list", "--admin", "127.0.0.1:1"]);
    assert_eq!(no_token.status.code(), Some(1));
    assert!(text(&no_token.stderr).contains("floodgate key operator"), "{}", text(&no_token.stderr));
    let no_gate = run(&["list"]);
    assert!(text(&no_gate.stderr).contains("--admin"), "{}", text(&no_gate.stderr));
    let no_journal = run(&["log", "--journal", ".", "--verify"]);
    assert!(!no_journal.status.success() && text(&no_journal.stderr).contains("no journal"));
}

/// A gate in a process of its own, with the files that the launcher would have written.
struct Gate {
    folder: PathBuf,
    child: Child,
    redis: Redis,
    _server: PrivateRedis,
    _dir: ScratchDir,
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gate {
    async fn start() -> Self {
        service_kit::install_crypto_providers();
        let dir = ScratchDir::new().unwrap();
        let folder = dir.path().to_owned();
        let server = PrivateRedis::start(&folder).await.unwrap();
        let redis = Redis::connect(&server.config()).await.unwrap();
        let made = floodgate().args(["key", "operator", "--name", "kim", "--role", "admin"]).output().unwrap();
        let made = text(&made.stdout);
        let (token, entry) = made.split_once('\n').unwrap();
        std::fs::write(folder.join("operator.token"), token).unwrap();
        let ports = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let config = format!(
            r#"{entry}
[keys]
ring = ["k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
[redis]
url = "{redis_url}"
[gate]
listen = "127.0.0.1:{gate}"
admin_listen = "127.0.0.1:{admin}"
public_url = "http://127.0.0.1:{gate}"
cookie_secure = false
journal_dir = "{journal}"
upstreams = [{{ name = "shop", address = "127.0.0.1:{shop}" }}]
routes = [{{ path = "/buy", upstream = "shop", room = "drop" }}]
rooms = [{{ room = "drop", title = "The drop", rate_per_s = 50, inside_max = 500, enter_path = "/buy" }}]
"#,
            redis_url = server.config().url,
            journal = folder.join("journal").display(),
            gate = ports[0],
            admin = ports[1],
            shop = ports[2],
        );
        std::fs::write(folder.join("floodgate.toml"), config).unwrap();
        let child = floodgate()
            .args(["proxy", "--config", "floodgate.toml"])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let gate = Self { folder, child, redis, _server: server, _dir: dir };
        let ready = async {
            loop {
                let list = gate.run(&["list", "--json"]);
                let list: Value = serde_json::from_slice(&list.stdout).unwrap_or_default();
                if list["rooms"][0]["board"]["state"] == "open" {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ready).await.expect("the gate gets ready");
        gate
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = floodgate();
        command.arg("room").args(args).args(["--config", "floodgate.toml"]).current_dir(&self.folder);
        command.output().unwrap()
    }

    /// Standard output of a command that succeeds.
    fn done(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn shown(&self) -> Value {
        serde_json::from_str(&self.done(&["show", "drop", "--json"])).unwrap()
    }

    /// Exit code and standard output of the log's verification.
    fn verify(&self) -> (Option<i32>, String) {
        let output = self.run(&["log", "drop", "--verify"]);
        (output.status.code(), text(&output.stdout))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_steered_and_its_log_proves_it() {
    let gate = Gate::start().await;
    assert!(gate.done(&["list"]).contains("drop"));
    let paused = gate.done(&["pause", "drop", "--why", "the provider is down"]);
    assert!(paused.contains("kim (admin)") && paused.contains("paused: false -> true"), "{paused}");
    let again = gate.run(&["pause", "drop", "--why", "again"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("paused already"), "{}", text(&again.stderr));
    gate.done(&["resume", "drop", "--why", "it is back"]);
    for _ in 0..2 {
        gate.done(&["rate", "drop", "7", "--why", "slow", "--id", "same"]);
    }
    gate.done(&["cap", "drop", "70", "--why", "slow"]);
    gate.done(&["notice", "drop", "--ko", "곧", "--en", "Soon", "--why", "people ask"]);
    gate.done(&["schedule", "drop", "--end", "+2h", "--why", "an end"]);
    gate.done(&["extend", "drop", "30m", "--why", "a later end"]);
    gate.done(&["close", "drop", "--why", "enough"]);
    gate.done(&["reopen", "drop", "--why", "not enough"]);
    let shown = gate.shown();
    assert_eq!((&shown["settings"]["rate_per_s"], &shown["settings"]["notice"]["ko"]), (&7.into(), &"곧".into()));
    assert_eq!(shown["log"]["seq"], 9, "a repeated id is one entry");
    gate.done(&["rate", "drop", "published", "--why", "back to normal"]);
    gate.done(&["notice", "drop", "--remove", "--why", "no longer true"]);
    let plain = gate.done(&["show", "drop"]);
    assert!(plain.contains("rate_per_s           50") && plain.contains("(operator)"), "{plain}");
    let log = gate.done(&["log", "drop"]);
    assert!(
        log.lines().count() == 11 && log.contains("rate_per_s: 50 -> 7") && log.contains("the provider is down"),
        "{log}"
    );
    let wrong = gate.run(&["rate", "drop", "0", "--why", "x"]);
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("rate_per_s"), "{}", text(&wrong.stderr));

    let (code, holds) = gate.verify();
    assert!(code == Some(0) && holds.contains("11 entries hold"), "{holds}");
    let key = room_log_key(&"drop".parse().unwrap());
    let third = gate.redis.command("LINDEX", &[&key, "2"]).await.unwrap().text().unwrap();
    gate.redis.command("LSET", &[&key, "2", &third.replace("slow", "fast")]).await.unwrap();
    let (code, broken) = gate.verify();
    assert!(code == Some(1) && broken.contains("entry 3"), "{broken}");
    gate.redis.command("LSET", &[&key, "2", &third]).await.unwrap();
    let last = gate.redis.command("RPOP", &[&key]).await.unwrap().text().unwrap();
    let (code, cut) = gate.verify();
    assert!(code == Some(1) && cut.contains("entry 11"), "{cut}");
    gate.redis.command("RPUSH", &[&key, &last]).await.unwrap();

    gate.done(&["log", "drop", "--archive", "saved.ndjson", "--why", "end of season"]);
    let saved = gate.folder.join("saved.ndjson");
    assert_eq!(std::fs::metadata(&saved).unwrap().permissions().mode() & 0o777, 0o600);
    let saved = std::fs::read_to_string(saved).unwrap();
    assert_eq!(queue::control::verify(saved.lines()).unwrap().entries, 11);
    let (code, rest) = gate.verify();
    assert!(code == Some(0) && rest.contains("1 entries hold") && rest.contains("1 to 11"), "{rest}");
    let taken = gate.run(&["log", "drop", "--archive", "saved.ndjson", "--why", "again"]);
    assert!(!taken.status.success(), "a file that is there is not overwritten");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitors_file_comes_from_the_journal() {
    let gate = Gate::start().await;
    let address: Value = serde_json::from_str(&gate.done(&["list", "--json"])).unwrap();
    assert_eq!(address["rooms"][0]["room"], "drop");
    let config = std::fs::read_to_string(gate.folder.join("floodgate.toml")).unwrap();
    let base = config.lines().find_map(|l| l.strip_prefix("public_url = ")).unwrap().trim_matches('"').to_owned();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let joined = http.post(format!("{base}/_floodgate/rooms/drop/tickets")).header("idempotency-key", "k").send().await;
    let joined: Value = joined.unwrap().json().await.unwrap();
    let number = joined["ticket"].as_str().unwrap().split('.').nth(2).unwrap().to_owned();
    let journal = gate.folder.join("journal");
    let journal = journal.to_str().unwrap();
    let run = |args: &[&str]| floodgate().arg("room").args(args).output().unwrap();
    let file = ["evidence", "drop", "--number", &number, "--journal", journal];
    let found = async {
        while run(&file).status.code() != Some(0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.expect("the join is in the journal");
    let shown = text(&run(&file).stdout);
    assert!(
        shown.contains(&format!("number {number}")) && shown.contains("joined") && shown.contains("holds"),
        "{shown}"
    );
    let as_json: Value = serde_json::from_slice(&run(&[&file[..], &["--json"]].concat()).stdout).unwrap();
    assert!(as_json["visitor"].as_str().is_some_and(|v| v.len() == 22) && as_json["joined_ms"].as_i64() > Some(0));
    let nobody = run(&["evidence", "drop", "--number", "999", "--journal", journal]);
    assert!(nobody.status.code() == Some(1) && text(&nobody.stderr).contains("999"));

    let verify = ["log", "--journal", journal, "--verify"];
    assert!(run(&verify).status.success(), "{}", text(&run(&verify).stdout));
    let path = std::fs::read_dir(journal)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "ndjson"));
    let path = path.unwrap();
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, whole.replacen("\"opened\":1", "\"opened\":2", 1)).unwrap();
    let broken = run(&verify);
    assert_eq!(broken.status.code(), Some(1));
    assert!(text(&broken.stdout).contains("DOES NOT HOLD from entry 1"), "{}", text(&broken.stdout));
}
