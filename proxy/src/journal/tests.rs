//! What the journal keeps, and that every kind of tampering is found while a crash is not mistaken for it.

use super::files::Files;
use super::*;
use crate::journal::read::{Report, journals};
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

fn room() -> RoomId {
    "drop".parse().unwrap()
}

fn row(number: u64) -> JoinRow {
    (number, number, VisitorId::new(), 1_000, 5_000, 9_000)
}

fn dir() -> service_kit::private_store::ScratchDir {
    service_kit::private_store::ScratchDir::new().unwrap()
}

/// Three starts of one gate with a few lines each.
fn written(dir: &Path) -> Vec<PathBuf> {
    for start in 0..3_u64 {
        let mut files = Files::open(dir, "127.0.0.1:8080", FILE_BYTES_MAX, 1_000).unwrap();
        for n in 0..4_u64 {
            files.append(1_000, &[serde_json::json!({ "room": "drop", "leaves": [start * 10 + n] })]).unwrap();
        }
    }
    files::list(dir).unwrap().into_iter().map(|(.., path)| path).collect()
}

fn only(dir: &Path) -> Report {
    let mut reports = journals(dir, |_| {}).unwrap();
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

#[test]
fn events_of_a_tick_become_one_line_per_room() {
    let dir = dir();
    let journal = Journal::open(dir.path(), "127.0.0.1:8080").unwrap();
    let visitor = VisitorId::new();
    let ticket = Ticket {
        room: room(),
        number: 7,
        place: 7,
        visitor: visitor.clone(),
        joined_ms: 1_000,
        promise_low_ms: 5_000,
        promise_high_ms: 9_000,
        nonce: None,
    };
    journal.joined(&ticket);
    journal.called(&room(), Calls { from: 3, to: 6, count: 3 });
    journal.called(&room(), Calls { from: 6, to: 9, count: 3 });
    journal.called(&room(), Calls { from: 9, to: 9, count: 0 });
    journal.claimed(&room(), 7, 61_000);
    journal.ended(&room(), 7);
    journal.left(&"other".parse().unwrap(), 7);
    journal.close();
    let mut lines = Vec::new();
    let report = journals(dir.path(), |entry| lines.push(entry.value.clone())).unwrap().remove(0);
    assert!(report.closed && report.broken.is_none() && report.torn.is_empty());
    let ours: Vec<_> = lines.iter().filter(|l| l["room"] == "drop").collect();
    assert_eq!(ours[0]["joins"], serde_json::json!([[7, 7, visitor, 1_000, 5_000, 9_000]]));
    let calls: u64 = ours.iter().filter_map(|l| l["calls"]["count"].as_u64()).sum();
    assert_eq!(calls, 6);

    let evidence = evidence::of(dir.path(), &room(), 7).unwrap();
    assert_eq!((evidence.visitor, evidence.place, evidence.promise_ms), (Some(visitor), Some(7), Some((5_000, 9_000))));
    assert!(evidence.reached.is_some() && evidence.claimed.is_some() && evidence.ended.is_some());
    assert_eq!((evidence.lease_until_ms, evidence.left), (Some(61_000), None), "who left was in another room");
    let nobody = evidence::of(dir.path(), &room(), 8).unwrap();
    assert!(nobody.joined.is_none() && nobody.claimed.is_none());
}

#[test]
fn the_chain_goes_on_over_starts_and_every_tampering_is_found() {
    type Tamper = fn(&[PathBuf]);
    fn lines(path: &Path) -> Vec<String> {
        fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }
    fn put(path: &Path, lines: &[String]) {
        fs::write(path, lines.join("\n") + "\n").unwrap();
    }
    let cases: &[(&str, u64, Tamper)] = &[
        ("an edited entry", 7, |f| {
            put(&f[1], &lines(&f[1]).iter().map(|l| l.replace("[10]", "[99]")).collect::<Vec<_>>())
        }),
        ("a missing entry", 4, |f| put(&f[0], &[&lines(&f[0])[..2], &lines(&f[0])[3..]].concat())),
        ("a file cut at its end", 6, |f| put(&f[0], &lines(&f[0])[..3])),
        ("swapped entries", 9, |f| {
            let mut all = lines(&f[1]);
            all.swap(2, 3);
            put(&f[1], &all);
        }),
        ("a missing file", 11, |f| fs::remove_file(&f[1]).unwrap()),
        ("a missing beginning", 2, |f| put(&f[0], &lines(&f[0])[1..])),
        ("something that is no entry", 3, |f| {
            let mut all = lines(&f[0]);
            all.insert(2, "hello".into());
            put(&f[0], &all);
        }),
    ];
    for (name, seq, tamper) in cases {
        let dir = dir();
        let files = written(dir.path());
        let whole = only(dir.path());
        assert_eq!((whole.entries, whole.files, whole.first_seq, whole.tail.seq), (15, 3, 1, 15));
        assert!(whole.broken.is_none());
        tamper(&files);
        let broken = only(dir.path()).broken.unwrap_or_else(|| panic!("{name} was not found"));
        assert_eq!(broken.seq, *seq, "{name}: {broken:?}");
    }
    let dir = dir();
    fs::remove_file(&written(dir.path())[0]).unwrap();
    let rest = only(dir.path());
    assert!(rest.broken.is_none() && rest.first_seq == 6, "files moved away are reported, not called tampering");
}

#[test]
fn a_torn_last_line_is_a_crash_and_the_chain_goes_on_behind_it() {
    let dir = dir();
    let files = written(dir.path());
    let mut last = fs::OpenOptions::new().append(true).open(&files[2]).unwrap();
    last.write_all(b"{\"seq\":16,\"at_ms\":1").unwrap();
    let torn = only(dir.path());
    assert_eq!((torn.torn.len(), torn.entries, torn.broken), (1, 15, None));
    drop(Files::open(dir.path(), "127.0.0.1:8080", FILE_BYTES_MAX, 2_000).unwrap());
    let again = only(dir.path());
    assert_eq!((again.torn.len(), again.entries, again.broken), (1, 16, None));
}

#[test]
fn a_full_file_is_followed_by_another_and_one_writer_owns_a_name() {
    let dir = dir();
    let mut files = Files::open(dir.path(), "gate", 300, 1_000).unwrap();
    for n in 0..5_u64 {
        files.rotate(1_000, false).unwrap();
        files.append(1_000, &[serde_json::json!({ "n": n })]).unwrap();
    }
    assert!(Files::open(dir.path(), "gate", 300, 1_000).is_err(), "two writers would break each other's chain");
    assert!(Journal::open(dir.path(), "gate").unwrap_err().0.contains("gate.journal_dir"));
    let report = only(dir.path());
    assert!(report.files >= 3 && report.broken.is_none());
    use std::os::unix::fs::PermissionsExt as _;
    let path = files::list(dir.path()).unwrap().remove(0).2;
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_found_no_place_is_counted_in_the_journal_itself() {
    let dir = dir();
    let dropped = Arc::new(AtomicU64::new(0));
    let (queue, events) = sync_channel(4);
    let journal = Journal { inner: Some(Arc::new(Inner { queue, dropped: dropped.clone() })) };
    for n in 1..=10 {
        journal.left(&room(), n);
    }
    let files = Files::open(dir.path(), "gate", FILE_BYTES_MAX, 1_000).unwrap();
    let writer = std::thread::spawn(move || writer::Writer::new(files, dropped).run(&events));
    journal.close();
    writer.join().unwrap();
    assert_eq!(only(dir.path()).missing_events, 6);
    let off = Journal::off();
    off.joined(&Ticket {
        room: room(),
        number: 1,
        place: 1,
        visitor: row(1).2,
        joined_ms: 0,
        promise_low_ms: 0,
        promise_high_ms: 0,
        nonce: None,
    });
    off.close();
    assert!(!off.is_on());
}
