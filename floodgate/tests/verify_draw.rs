//! `floodgate verify-draw` from the outside: what it prints, and what it returns.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use queue::draw::{Draw, Hex, Tree, TreeBuilder, commitment, entrant};
use queue::settings::Beacon;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const ENTRANTS: u32 = 700;

/// An honest draw of a room with its files.
struct Sale {
    folder: tempfile::TempDir,
    leaves: Vec<u8>,
    committed: Draw,
    closed: Draw,
    drawn: Draw,
    tree: Tree,
}

impl Sale {
    fn new() -> Self {
        let room: service_kit::ids::RoomId = "lamp".parse().unwrap();
        let leaves: Vec<u8> =
            (1..=ENTRANTS).flat_map(|n| entrant(&room, &format!("{n:022}").parse().unwrap(), None).0).collect();
        let mut builder = TreeBuilder::default();
        builder.extend(&leaves);
        let tree = builder.finish().unwrap();
        let secret = Hex([7; 32]);
        let committed = Draw::committed(room, 1_000, commitment(&secret), Beacon::Off, None, 1_000);
        let closed = committed.close(2_000, &tree);
        let drawn = closed.draw(secret, None, 2_500).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), leaves, committed, closed, drawn, tree }
    }
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path: PathBuf = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
    fn json(&self, name: &str, draw: &Draw) -> String {
        self.file(name, serde_json::to_vec(draw).unwrap())
    }
}

fn command(args: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floodgate"));
    command.arg("verify-draw").args(args).current_dir(folder);
    command
}

/// Exit code, standard output, standard error.
fn verify(sale: &Sale, args: &[&str]) -> (i32, String, String) {
    parts(command(args, sale.folder.path()).output().unwrap())
}

fn parts(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn an_honest_draw_is_verified_with_everything_there_is() {
    let sale = Sale::new();
    let (drawn, closed) = (sale.json("drawn.json", &sale.drawn), sale.json("closed.json", &sale.closed));
    let leaves = sale.file("entrants.bin", &sale.leaves);
    let proof = sale.tree.proof(300, &sale.leaves[sale.tree.chunk_of(300).unwrap()]).unwrap();
    let proof = sale.file("proof.json", serde_json::to_vec(&proof).unwrap());
    let place = sale.drawn.permutation().unwrap().prp(299).unwrap() + 1;

    let (code, out, err) = verify(&sale, &[&drawn, "--leaves", &leaves, "--proof", &proof, "--earlier", &closed]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("room lamp: drawn") && !out.contains("not here"), "{out}");
    assert!(out.contains(&format!("number 300 has place {place} of 700")), "the proof's number: {out}");

    let (code, out, _) = verify(&sale, &[&drawn, "--number", "300", "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["verified"], &report["place"]), (0, &Value::Bool(true), &place.into()), "{report}");
    assert_eq!(report["proved"], serde_json::json!(["commitment", "seed"]));
    assert_eq!(report["open"], serde_json::json!(["root", "unchanged"]));
}

#[test]
fn before_the_draw_there_is_no_place_and_no_finding() {
    let sale = Sale::new();
    for (name, draw) in [("committed.json", &sale.committed), ("closed.json", &sale.closed)] {
        let (code, out, _) = verify(&sale, &[&sale.json(name, draw), "--number", "5"]);
        assert_eq!(code, 0, "{out}");
        assert!(out.contains("number 5 has no place yet") && out.contains("not here"), "{out}");
    }
}

#[test]
fn a_finding_is_named_and_is_1() {
    let sale = Sale::new();
    let other = Hex([9; 32]);
    let drawn = sale.json("drawn.json", &sale.drawn);
    let changed = |name: &str, draw: Draw| sale.json(name, &draw);
    let mut leaves = sale.leaves.clone();
    leaves[40] ^= 1;
    let leaves = sale.file("changed.bin", &leaves);
    let fewer = sale.file("fewer.bin", &sale.leaves[32..]);
    let cases: [(&str, Vec<String>); 6] = [
        ("commitment", vec![changed("a.json", Draw { secret: Some(other), ..sale.drawn.clone() })]),
        ("seed", vec![changed("b.json", Draw { root: Some(other), ..sale.drawn.clone() })]),
        ("root", vec![drawn.clone(), "--leaves".into(), leaves]),
        ("count", vec![drawn.clone(), "--leaves".into(), fewer]),
        ("number", vec![drawn.clone(), "--number".into(), "701".into()]),
        (
            "changed",
            vec![drawn, "--earlier".into(), changed("c.json", Draw { root: Some(other), ..sale.closed.clone() })],
        ),
    ];
    for (finding, args) in cases {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (code, out, _) = verify(&sale, &args);
        assert!(code == 1 && out.contains(&format!("FINDING {finding}: ")), "{finding}: {code} {out}");
        let (code, out, _) = verify(&sale, &[&args[..], &["--json"]].concat());
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &report["verified"], &report["finding"]), (1, &Value::Bool(false), &finding.into()));
    }
}

#[test]
fn somebody_recomputes_the_own_record_with_the_own_nonce() {
    let folder = tempfile::tempdir().unwrap();
    let room: service_kit::ids::RoomId = "lamp".parse().unwrap();
    let visitor = |n: u32| format!("{n:022}");
    let nonce = |n: u32| n.is_multiple_of(2).then(|| format!("the-nonce-of-{n:04}"));
    let leaf = |n: u32| match n {
        9 => [0; 32],
        _ => entrant(&room, &visitor(n).parse().unwrap(), nonce(n).map(|n| n.parse().unwrap()).as_ref()).0,
    };
    let leaves: Vec<u8> = (1..=ENTRANTS).flat_map(leaf).collect();
    let mut builder = TreeBuilder::default();
    builder.extend(&leaves);
    let tree = builder.finish().unwrap();
    let secret = Hex([7; 32]);
    let committed = Draw::committed(room.clone(), 1_000, commitment(&secret), Beacon::Entrants, None, 1_000);
    let drawn = committed.close(2_000, &tree).draw(secret, None, 2_500).unwrap();
    let sale = Sale { folder, leaves, closed: committed.close(2_000, &tree), committed, drawn, tree };
    let drawn = sale.json("drawn.json", &sale.drawn);
    let run = |n: u32, visitor: &str, nonce: Option<&str>| {
        let proof = sale.tree.proof(n, &sale.leaves[sale.tree.chunk_of(n).unwrap()]).unwrap();
        let proof = sale.file("proof.json", serde_json::to_vec(&proof).unwrap());
        let mut args = vec![drawn.as_str(), "--proof", &proof, "--visitor", visitor];
        args.extend(nonce.map(|nonce| ["--nonce", nonce]).into_iter().flatten());
        verify(&sale, &args)
    };
    for n in [4, 5, 700] {
        let (code, out, _) = run(n, &visitor(n), nonce(n).as_deref());
        assert!(code == 0 && out.contains("the entrant's record is yours"), "{n}: {out}");
        assert!(out.contains("every entrant's own value is in the seed"), "{out}");
    }
    for (n, who, thrown) in [(4, 4, None), (5, 5, nonce(4)), (4, 6, nonce(4)), (4, 4, nonce(6))] {
        let (code, out, _) = run(n, &visitor(who), thrown.as_deref());
        assert!(code == 1 && out.contains("FINDING record: "), "{n}: {out}");
    }
    let (code, out, _) = run(9, &visitor(9), None);
    assert!(code == 1 && out.contains("FINDING record_lost: "), "{out}");
    for wrong in [&["--visitor", "short"][..], &["--visitor", &visitor(4)], &["--nonce", "the-nonce-of-0004"]] {
        assert_eq!(verify(&sale, &[&[drawn.as_str()], wrong].concat()).0, 2, "{wrong:?}");
    }
}

#[test]
fn what_cannot_be_read_is_2_and_not_a_finding() {
    let sale = Sale::new();
    let drawn = sale.json("drawn.json", &sale.drawn);
    let text = sale.file("text.json", "{\"hello\": 1}");
    let long = sale.file("long.json", " ".repeat(70_000));
    for (args, word) in [
        (vec!["nowhere.json"], "nowhere.json"),
        (vec![text.as_str()], "text.json"),
        (vec![long.as_str()], "longer"),
        (vec!["http://127.0.0.1:1/draw"], "127.0.0.1:1"),
        (vec!["-", "--earlier", "-"], "once"),
        (vec![drawn.as_str(), "--leaves", "nobody.bin"], "nobody.bin"),
    ] {
        let (code, out, err) = verify(&sale, &args);
        assert!(code == 2 && out.is_empty() && err.contains(word), "{args:?}: {code} {out} {err}");
    }
    for wrong in [&["--number", "0", "draw.json"][..], &["--number", "-1", "draw.json"], &[]] {
        assert_eq!(verify(&sale, wrong).0, 2, "{wrong:?}");
    }
}

#[test]
fn a_draw_comes_from_a_pipe_or_from_the_network() {
    let sale = Sale::new();
    let json = serde_json::to_vec(&sale.drawn).unwrap();
    let mut child = command(&["-"], sale.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&json).unwrap();
    let (code, out, err) = parts(child.wait_with_output().unwrap());
    assert!(code == 0 && out.contains("drawn"), "{out}{err}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for status in ["200 OK", "404 Not Found"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1_024];
            let read = stream.read(&mut head).unwrap();
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            assert!(head.starts_with("GET /_floodgate/rooms/lamp/draw HTTP/1.1"), "{head}");
            let length = json.len();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").unwrap();
            stream.write_all(&json).unwrap();
        }
    });
    let url = format!("http://{address}/_floodgate/rooms/lamp/draw");
    let (code, out, err) = verify(&sale, &[&url]);
    assert!(code == 0 && out.contains("room lamp: drawn"), "{out}{err}");
    let (code, _, err) = verify(&sale, &[&url]);
    assert!(code == 2 && err.contains("404"), "{err}");
    server.join().unwrap();
}
