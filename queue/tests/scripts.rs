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
use service_kit::redis::StoreError;
use support::{commands_run, field};

/// Per script: how many keys it takes, and arguments that it accepts.
fn calls() -> Vec<(&'static str, usize, Vec<&'static str>)> {
    vec![
        ("join", 6, vec!["5", "9", "5", "5", "0", "0", "5", "5", "key", "aaaaaaaaaaaaaaaaaaaaaa"]),
        ("snapshot", 7, vec!["5"]),
        ("call", 10, vec!["5", "0", "1", "0", "0", "5", "5", "5", "9", "9", "5", "target"]),
        ("beat", 10, vec!["5", "5", "7"]),
        ("claim", 8, vec!["5", "5", "5", "7"]),
        ("leave", 10, vec!["5", "5", "7"]),
        ("board", 7, vec!["5", "9", "99"]),
    ]
}

#[tokio::test]
async fn malformed_arguments_are_refused_before_any_write() {
    let (_server, redis, _) = support::line().await;
    for (name, key_count, good) in calls() {
        let script = Line::scripts().into_iter().find(|s| s.name == name).expect("a script of this name");
        let keys: Vec<String> = (0..key_count).map(|i| format!("fg:{{x}}:{i}")).collect();
        let numbers = match name {
            "join" => 8,
            "call" => 11,
            _ => good.len(),
        };
        for position in 0..good.len() {
            let mut bad = vec!["", "\r\n"];
            if position < numbers {
                bad.extend(["-5", "1e3", "0x10", " 12 ", "nan", "inf", "3.5", "99999999999999999", "+1", "1;"]);
            }
            for value in bad {
                let mut args: Vec<String> = good.iter().map(|a| (*a).to_owned()).collect();
                args[position] = value.to_owned();
                let refused = redis.run(script, &keys, &args).await;
                // A join key may be any text; only its length is the script's business.
                if name == "join" && position == 8 && !value.is_empty() {
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
        redis.command("DEL", &["fg:{x}:0", "fg:{x}:1", "fg:{x}:2", "fg:{x}:3", "fg:{x}:4"]).await.unwrap();
        assert_eq!(redis.command("DBSIZE", &[]).await.unwrap().int(), Ok(0), "{name} wrote before it refused");
        redis.run(script, &keys, &args).await.unwrap_or_else(|e| panic!("{name} refuses good arguments: {e}"));
        redis.command("FLUSHALL", &[]).await.unwrap();
    }
}

#[tokio::test]
async fn a_full_line_refuses_newcomers_but_knows_its_people() {
    let (_server, redis, _) = support::line().await;
    let join = Line::scripts()[0];
    let keys: Vec<String> = (0..6).map(|i| format!("fg:{{x}}:{i}")).collect();
    let run = async |key: &str| {
        let args = ["5", "2", "5", "0", "0", "0", "5", "5", key, "aaaaaaaaaaaaaaaaaaaaaa"].map(str::to_owned);
        redis.run(join, &keys, &args).await
    };
    for key in ["a", "b"] {
        run(key).await.unwrap();
    }
    let refused = run("c").await;
    assert!(matches!(&refused, Err(StoreError::Refused { code, .. }) if code == "FULL"), "{refused:?}");
    assert_eq!(run("a").await.unwrap().at(0).unwrap().int(), Ok(1));
    assert_eq!(field(&redis, "fg:{x}:0", "next").await, 3);
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
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/scripts");
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
    assert_eq!(seen, 10);
}
