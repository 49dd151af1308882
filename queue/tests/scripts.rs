//! Every script refuses what it does not expect, before any write, and says at its top what it does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use queue::line::Line;
use service_kit::redis::{Script, StoreError};
use support::{commands_run, field};

const GATE: &str = "aaaaaaaaaaaaaaaaaaaaaa";
const LEAF: &str = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
const BLOCK: &str = match std::str::from_utf8(&[b'U'; 1_024]) {
    Ok(text) => text,
    Err(_) => "",
};
const BROWSER: &str = "00000000000000ff";

/// Per script: how many keys it takes, and arguments that it accepts.
fn calls() -> Vec<(&'static str, usize, Vec<&'static str>)> {
    vec![
        (
            "join",
            9,
            vec![
                "5", "9", "5", "5", "0", "0", "0", "5", "5", "0", GATE, "1", "key", GATE, "0", "1000", "code", "2", "",
            ],
        ),
        ("snapshot", 8, vec!["5"]),
        ("call", 15, vec!["5", "0", "1", "0", "0", "5", "5", "5", "9", "9", "5", "target", "1000", "0", "0"]),
        ("beat", 11, vec!["5", "5", "7", "8"]),
        ("mark", 2, vec!["1024", BLOCK]),
        ("claim", 11, vec!["5", "5", "5", "5", "0", "7", "8", BROWSER]),
        ("leave", 12, vec!["5", "5", "5", "7"]),
        ("board", 9, vec!["5", "9", "99"]),
        ("renew", 4, vec!["5", "5", "5", "7"]),
        ("end", 5, vec!["5", "9", "7"]),
        ("hold", 2, vec!["5", "0", "5", "0", "0", "5", "-5", "abc", "def", "memory"]),
        ("readmit", 9, vec!["5", "7", "9", BROWSER]),
        ("record", 2, vec!["7", LEAF]),
        ("draw_close", 1, vec!["5", "5", GATE, "5"]),
        ("draw_place", 3, vec!["0", "7"]),
        ("draw_note", 1, vec!["none", "committed", "{}"]),
    ]
}

fn script(name: &str) -> &'static Script {
    Line::scripts().into_iter().find(|script| script.name == name).unwrap()
}

#[tokio::test]
async fn malformed_arguments_are_refused_before_any_write() {
    let (_server, redis, _) = support::line().await;
    for (name, key_count, good) in calls() {
        let script = Line::scripts()
            .into_iter()
            .chain(queue::drawing::scripts())
            .find(|s| s.name == name)
            .expect("a script of this name");
        let keys: Vec<String> = (0..key_count).map(|i| format!("fg:{{x}}:{i}")).collect();
        // Arguments that are no whole numbers have rules of their own; and a difference may be negative.
        let is_number = |position: usize| match name {
            "join" => position < 10 || position == 11 || position == 15 || position == 17,
            "call" => position != 11,
            "claim" => position != 7,
            "readmit" => position != 3,
            "record" => position == 0,
            "hold" => position < 6,
            "draw_close" => position != 2,
            "draw_note" => false,
            _ => true,
        };
        let may_be_empty = |position: usize| name == "join" && [12, 16, 18].contains(&position);
        for position in 0..good.len() {
            let mut bad = vec!["", "\r\n"];
            if is_number(position) {
                bad.extend(["-5", "1e3", "0x10", " 12 ", "nan", "inf", "3.5", "99999999999999999", "+1", "1;"]);
            }
            for value in bad {
                let mut args: Vec<String> = good.iter().map(|a| (*a).to_owned()).collect();
                args[position] = value.to_owned();
                let refused = redis.run(script, &keys, &args).await;
                if value.is_empty() && may_be_empty(position) {
                    assert!(refused.is_ok(), "{name}: argument {} may be left out: {refused:?}", position + 1);
                    redis.command("FLUSHALL", &[]).await.unwrap();
                    continue;
                }
                assert!(
                    matches!(&refused, Err(StoreError::Refused { code, .. }) if code == "BADARG"),
                    "{name}: argument {} = {value:?} gave {refused:?}",
                    position + 1
                );
            }
        }
        let args: Vec<String> = good.iter().map(|a| (*a).to_owned()).collect();
        for (keys, args) in [(&keys[1..], &args[..]), (&keys[..], &args[1..])] {
            assert!(redis.run(script, keys, args).await.is_err(), "{name} with too few");
        }
        assert_eq!(redis.command("DBSIZE", &[]).await.unwrap().int(), Ok(0), "{name} wrote before it refused");
        redis.run(script, &keys, &args).await.unwrap_or_else(|e| panic!("{name} refuses good arguments: {e}"));
        redis.command("FLUSHALL", &[]).await.unwrap();
    }
}

#[tokio::test]
async fn a_record_is_a_leaf_with_or_without_a_nonce() {
    let (_server, redis, _) = support::line().await;
    let keys: Vec<String> = (0..9).map(|i| format!("fg:{{x}}:{i}")).collect();
    let run = async |record: &str| {
        let args =
            ["5", "9", "5", "0", "0", "0", "0", "5", "5", "9", GATE, "0", "k", GATE, "0", "1000", "", "0", record];
        redis.run(script("join"), &keys, &args.map(str::to_owned)).await
    };
    let nonce = |length: usize| format!("{LEAF}:{}", "a-_9".repeat(17).split_at(length).0);
    for wrong in [
        &LEAF[1..],
        &format!("{LEAF}0"),
        &LEAF.replace('A', "g"),
        &format!("{LEAF}:"),
        &nonce(15),
        &nonce(65),
        &format!("{}:", nonce(16)),
        &nonce(16).replace('_', "%"),
        &format!("{}\n", nonce(16)),
        &nonce(20)[1..],
        &format!(":{}", &nonce(16)[65..]),
    ] {
        let refused = run(wrong).await;
        assert!(matches!(&refused, Err(StoreError::Refused { code, .. }) if code == "BADARG"), "{wrong}: {refused:?}");
    }
    assert_eq!(redis.command("DBSIZE", &[]).await.unwrap().int(), Ok(0), "wrote before it refused");
    for good in [String::new(), LEAF.to_owned(), nonce(16), nonce(64)] {
        let reply = run(&good).await.unwrap().at(0).unwrap().clone();
        let told = reply.list().unwrap().get(6).map(|nonce| nonce.text().unwrap());
        assert_eq!(told.as_deref(), good.get(65..), "{good}");
        redis.command("FLUSHALL", &[]).await.unwrap();
    }
}

#[tokio::test]
async fn a_full_line_refuses_newcomers_but_knows_its_people() {
    let (_server, redis, _) = support::line().await;
    let join = script("join");
    let keys: Vec<String> = (0..9).map(|i| format!("fg:{{x}}:{i}")).collect();
    let run = async |key: &str| {
        let args = ["5", "2", "5", "0", "0", "0", "0", "5", "5", "0", GATE, "0", key, GATE, "0", "1000", "", "0", ""];
        redis.run(join, &keys, &args.map(str::to_owned)).await.unwrap()
    };
    for key in ["a", "b"] {
        run(key).await;
    }
    assert_eq!(run("c").await.at(0).unwrap().text().unwrap(), "FULL");
    assert_eq!(run("a").await.at(0).unwrap().at(0).unwrap().int(), Ok(1));
    assert_eq!(field(&redis, "fg:{x}:0", "next").await, 3);
}

#[tokio::test]
async fn a_code_lets_in_as_many_as_it_may_and_a_repeat_uses_none() {
    let (_server, redis, _) = support::line().await;
    let keys: Vec<String> = (0..9).map(|i| format!("fg:{{x}}:{i}")).collect();
    let run = async |key: &str, batch: &str| {
        let args =
            ["5", "9", "5", "0", "0", "0", "0", "5", "5", "0", GATE, batch, key, GATE, "1", "5000", "spring", "2", ""];
        redis.run(script("join"), &keys, &args.map(str::to_owned)).await.unwrap().at(0).unwrap().clone()
    };
    for (key, batch) in [("a", "1"), ("a", "2"), ("", "3"), ("", "3")] {
        assert!(run(key, batch).await.at(0).unwrap().int().unwrap() <= 2, "{key:?} {batch}");
    }
    assert_eq!(run("", "4").await.text().unwrap(), "USED");
    assert_eq!(run("", "4").await.text().unwrap(), "USED", "the same batch has the same answer");
    assert_eq!(run("a", "5").await.at(0).unwrap().int(), Ok(1));
    assert_eq!((field(&redis, "fg:{x}:6", "spring").await, field(&redis, "fg:{x}:0", "next").await), (2, 3));
}

#[tokio::test]
async fn a_lease_belongs_to_the_browser_that_claimed_first() {
    let (_server, redis, line) = support::line().await;
    let claim = Line::scripts().into_iter().find(|s| s.name == "claim").unwrap();
    let keys: Vec<String> = (0..11).map(|i| format!("fg:{{x}}:{i}")).collect();
    redis.command("ZADD", &["fg:{x}:4", "900", "7"]).await.unwrap();
    let run = async |browser: &str, now: &str| {
        let args = [now, "500", "5", "100", "0", "7", "8", browser].map(str::to_owned);
        let reply = redis.run(claim, &keys, &args).await.unwrap();
        (reply.at(0).unwrap().int().unwrap(), reply.at(2).unwrap().int().unwrap(), reply.at(3).unwrap().text().unwrap())
    };
    let owner = |fresh| (0, fresh, BROWSER.to_owned());
    assert_eq!(run(BROWSER, "10").await, owner(1));
    assert_eq!(run("00000000000000ee", "11").await, owner(0), "a copy is told whose it is, and changes nothing");
    assert_eq!(run(BROWSER, "12").await, owner(0), "the owner lost the reply");
    assert_eq!(run(BROWSER, "510").await.0, 2, "the lease is over for everybody");
    // What a lease was before browsers were kept with it, and renewals, stay readable.
    redis.command("HSET", &["fg:{x}:9", "7", "10"]).await.unwrap();
    assert_eq!(run("00000000000000ee", "13").await, (0, 0, String::new()));
    drop(line);
}

#[tokio::test]
async fn the_board_of_a_long_line_is_a_bounded_number_of_commands() {
    let (_server, redis, line) = support::line().await;
    let room = std::sync::Arc::new(support::room("long"));
    let key = queue::keys::RoomKeys::new(&room.room).line();
    // Uneven on purpose: leavers tear holes, and between two rungs only the middle can be guessed.
    let place = |rank: u64| rank + 1 + rank / 700 * 1_000_000;
    for block in 0..200_u64 {
        let mut args = vec![key.clone()];
        for rank in block * 1_000..block * 1_000 + 1_000 {
            args.extend([place(rank).to_string(), place(rank).to_string()]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        redis.command("ZADD", &args).await.unwrap();
    }
    line.board(room.clone()).await.unwrap();
    let before = commands_run(&redis).await;
    let board = line.board(room).await.unwrap();
    let commands = commands_run(&redis).await - before;
    assert!(commands < 550, "{commands} commands for one board");
    for rank in (0..200_000_u64).step_by(97).chain([0, 63, 64, 199_999]) {
        let found = board.ladder.ahead_of(place(rank));
        assert!(found.abs_diff(rank) * 50 <= rank, "rank {rank} was found as {found}");
        if rank < 64 {
            assert_eq!(found, rank);
        }
    }
}

#[test]
fn every_script_says_what_it_does_and_what_may_go_wrong() {
    let folder = std::path::Path::new("src/scripts");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let header: String = text.lines().take_while(|l| l.starts_with("--")).collect::<Vec<_>>().join("\n");
        assert!(header.starts_with(&format!("-- {name}: ")), "{name}.lua must begin with its name");
        for part in ["Keys ", "Args ", "Reply ", "Operation id: ", "Races: ", "Crash: "] {
            assert!(header.contains(part), "{name}.lua: its header lacks `{part}`");
        }
        seen += 1;
    }
    assert!(seen >= 16, "{seen} scripts");
}
