//! What operators say: one effect and one entry per operation id, nobody overwrites anybody unseen, and neither a
//! publisher nor a store that lost its memory takes the last word back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod support;

use queue::control::{self, Change, Command, ControlError, Done, LOG_ENTRIES_MAX};
use queue::keys::{OVERRIDES, room_log_key};
use queue::overrides::Overrides;
use queue::registry::{self, Known, fetch, publish, retract};
use queue::settings::RoomSettings;
use serde_json::json;
use service_kit::chain::Entry;
use service_kit::ids::RoomId;
use service_kit::redis::{Redis, StoreError};
use support::room;

fn command<'a>(room: &'a RoomId, operation: &'a str) -> Command<'a> {
    Command { room, who: "kim", role: "operator", action: "rate", asked: "", why: "a test", operation, urgent: false }
}

/// Adds one to the rate that operators set.
fn one_more(set: &Overrides) -> Result<Change, ()> {
    let rate = set.rate_per_s.unwrap_or(0);
    Ok(Change {
        set: Overrides { rate_per_s: Some(rate + 1), ..set.clone() },
        before: json!({ "rate_per_s": rate }),
        after: json!({ "rate_per_s": rate + 1 }),
        take_out: 0,
    })
}

async fn rate(redis: &Redis, room: &RoomId) -> Option<u32> {
    control::steered(redis, room).await.unwrap().and_then(|s| s.set.rate_per_s)
}

async fn lines(redis: &Redis, room: &RoomId) -> Vec<String> {
    control::log(redis, room, 0, usize::MAX).await.unwrap()
}

fn verify(lines: &[String]) -> Result<control::Verified, control::Broken> {
    control::verify(lines.iter().map(String::as_str))
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_who_race_never_overwrite_each_other() {
    let (_server, redis, _) = support::line().await;
    let id = room("drop").room;
    let racers: Vec<_> = (0..8)
        .map(|racer| {
            let (redis, id) = (redis.clone(), id.clone());
            tokio::spawn(async move {
                for turn in 0..5 {
                    let operation = format!("{racer}-{turn}");
                    let mut tries = 0;
                    loop {
                        match control::carry_out(&redis, &command(&id, &operation), 1_000, one_more).await {
                            Ok(Done::Now(_)) => break,
                            Err(ControlError::Contended) if tries < 50 => tries += 1,
                            other => panic!("{other:?}"),
                        }
                    }
                }
            })
        })
        .collect();
    for racer in racers {
        racer.await.unwrap();
    }
    assert_eq!(rate(&redis, &id).await, Some(40), "no change was lost and none counted twice");
    let log = lines(&redis, &id).await;
    let verified = verify(&log).unwrap();
    assert_eq!((verified.entries, verified.tail.seq), (40, 40));
    assert_eq!(control::steered(&redis, &id).await.unwrap().unwrap().tail, verified.tail, "the record knows the end");
    for (i, line) in log.iter().enumerate() {
        assert_eq!(Entry::read(line).unwrap().value["before"]["rate_per_s"], i, "each saw the one before");
    }
}

#[tokio::test]
async fn a_repeat_has_one_effect_and_one_entry() {
    let (_server, redis, _) = support::line().await;
    let id = room("drop").room;
    let Done::Now(first) = control::carry_out(&redis, &command(&id, "op-1"), 1_000, one_more).await.unwrap() else {
        panic!("the first is carried out")
    };
    for later_ms in [2_000, 3_000] {
        let again = control::carry_out(&redis, &command(&id, "op-1"), later_ms, one_more).await.unwrap();
        assert_eq!(again, Done::Before(first.clone()));
    }
    // Even when the rule would refuse it by now.
    let refuse = |_: &Overrides| Err::<Change, _>("too late");
    assert_eq!(control::carry_out(&redis, &command(&id, "op-1"), 4_000, refuse).await.unwrap(), Done::Before(first));
    let other = Command { asked: "{\"rate_per_s\":9}", ..command(&id, "op-1") };
    assert!(matches!(control::carry_out(&redis, &other, 5_000, one_more).await, Err(ControlError::OperationReused)));
    let somebody_else = Command { who: "lee", ..command(&id, "op-1") };
    let theirs = control::carry_out(&redis, &somebody_else, 5_000, one_more).await;
    assert!(matches!(theirs, Err(ControlError::OperationReused)));
    assert!(matches!(
        control::carry_out(&redis, &command(&id, "op-2"), 5_000, refuse).await,
        Err(ControlError::Refused("too late"))
    ));
    assert_eq!((rate(&redis, &id).await, lines(&redis, &id).await.len()), (Some(1), 1));
}

#[tokio::test]
async fn publishing_again_keeps_what_operators_said() {
    let (_server, redis, _) = support::line().await;
    publish(&redis, &room("a")).await.unwrap();
    let first = fetch(&redis, 0).await.unwrap().unwrap();
    control::carry_out(&redis, &command(&room("a").room, "op-1"), 1_000, one_more).await.unwrap();
    let steered = fetch(&redis, first.version).await.unwrap().expect("a change moves the version");
    assert_eq!((steered.version, steered.rooms()[0].rate_per_s), (first.version + 1, 1));
    assert_eq!(steered.published.as_ref().unwrap(), &[room("a")], "what the owner published is untouched");
    publish(&redis, &RoomSettings { title: "New".into(), rate_per_s: 77, ..room("a") }).await.unwrap();
    let again = fetch(&redis, 0).await.unwrap().unwrap();
    assert_eq!((again.rooms()[0].rate_per_s, again.rooms()[0].title.as_str()), (1, "New"));
    assert!(again.steered.contains_key(&room("a").room));

    // A room that is taken back takes the overrides along; its log stays, and goes on when the room comes again.
    retract(&redis, &room("a").room).await.unwrap();
    publish(&redis, &room("a")).await.unwrap();
    assert_eq!(fetch(&redis, 0).await.unwrap().unwrap().rooms()[0], room("a"));
    let key = room_log_key(&room("a").room);
    assert!(redis.command("TTL", &[&key]).await.unwrap().int().unwrap() > 0);
    control::carry_out(&redis, &command(&room("a").room, "op-2"), 2_000, one_more).await.unwrap();
    assert_eq!(redis.command("TTL", &[&key]).await.unwrap().int(), Ok(-1), "a log that is written again stays");
    assert_eq!(verify(&lines(&redis, &room("a").room).await).unwrap().entries, 2);
}

#[tokio::test]
async fn tampering_in_the_store_is_found() {
    let (_server, redis, _) = support::line().await;
    let id = room("drop").room;
    for i in 1..=6 {
        control::carry_out(&redis, &command(&id, &format!("op-{i}")), i * 1_000, one_more).await.unwrap();
    }
    let key = room_log_key(&id);
    let whole = lines(&redis, &id).await;
    assert_eq!(verify(&whole).unwrap().entries, 6);
    assert_eq!(control::log(&redis, &id, 4, 10).await.unwrap(), whole[4..]);
    assert_eq!(control::log(&redis, &id, 1, 2).await.unwrap(), whole[1..3]);
    redis.command("LSET", &[&key, "2", &whole[2].replace("a test", "a joke")]).await.unwrap();
    assert_eq!(verify(&lines(&redis, &id).await).unwrap_err().seq, 3);
    redis.command("LREM", &[&key, "1", &whole[2].replace("a test", "a joke")]).await.unwrap();
    assert_eq!(verify(&lines(&redis, &id).await).unwrap_err().seq, 4);
    redis.command("LTRIM", &[&key, "0", "1"]).await.unwrap();
    let short = verify(&lines(&redis, &id).await).unwrap();
    let record = control::steered(&redis, &id).await.unwrap().unwrap();
    assert_ne!(short.tail, record.tail, "a log cut at its end does not reach what the record names");
}

#[tokio::test]
async fn a_full_log_refuses_until_it_is_archived_and_a_stop_still_works() {
    let (_server, redis, _) = support::line().await;
    let id = room("drop").room;
    for i in 1..=3 {
        control::carry_out(&redis, &command(&id, &format!("op-{i}")), i * 1_000, one_more).await.unwrap();
    }
    let whole = lines(&redis, &id).await;
    // As many entries as may be: copies of the last one stand for them, the script only counts.
    let key = room_log_key(&id);
    let push: Vec<&str> = std::iter::once(key.as_str()).chain(std::iter::repeat_n("{}", LOG_ENTRIES_MAX - 3)).collect();
    redis.command("LPUSH", &push).await.unwrap();
    let full = control::carry_out(&redis, &command(&id, "op-4"), 4_000, one_more).await;
    assert!(matches!(full, Err(ControlError::LogFull)), "{full:?}");
    let urgent = Command { urgent: true, action: "pause", ..command(&id, "op-5") };
    control::carry_out(&redis, &urgent, 5_000, one_more).await.unwrap();
    redis.command("LTRIM", &[&key, &(LOG_ENTRIES_MAX - 3).to_string(), "-1"]).await.unwrap();

    let saved = Entry::read(&whole[1]).unwrap();
    let archive = Command { action: control::ARCHIVED, urgent: true, ..command(&id, "op-6") };
    let take_two = |set: &Overrides| {
        let after = json!({ "upto_seq": saved.seq, "hash": saved.hash });
        Ok::<_, ()>(Change { set: set.clone(), before: json!({}), after, take_out: 2 })
    };
    control::carry_out(&redis, &archive, 6_000, take_two).await.unwrap();
    let rest = lines(&redis, &id).await;
    let verified = verify(&rest).unwrap();
    assert_eq!((verified.entries, verified.missing, rest[0].clone()), (3, vec![(1, 2)], whole[2].clone()));
    let operations = redis.command("HLEN", &[&queue::keys::operations_key(&id)]).await.unwrap().int();
    assert_eq!(operations, Ok(3), "operation ids leave with their entries");
}

#[tokio::test]
async fn a_store_that_lost_everything_gets_the_operators_word_back() {
    let (_server, redis, _) = support::line().await;
    let drop = room("drop");
    let mut known = Known::new(vec![drop.clone()]);
    for i in 1..=3 {
        control::carry_out(&redis, &command(&drop.room, &format!("op-{i}")), i * 1_000, one_more).await.unwrap();
    }
    let before = lines(&redis, &drop.room).await;
    assert_eq!(known.take(fetch(&redis, 0).await.unwrap().unwrap(), 0).spoken, std::slice::from_ref(&drop.room));
    redis.command("FLUSHALL", &[]).await.unwrap();

    let news = known.take(fetch(&redis, known.version(10)).await.unwrap().unwrap(), 10);
    assert_eq!(known.rooms()[0].rate_per_s, 3, "the gate goes on as it was told");
    // Two gates at once, and once more: one entry.
    tokio::join!(registry::restore(&redis, &news.lost, |_| 9_000), registry::restore(&redis, &news.lost, |_| 9_000),);
    registry::restore(&redis, &news.lost, |_| 9_000).await;
    assert_eq!(rate(&redis, &drop.room).await, Some(3));
    let after = lines(&redis, &drop.room).await;
    assert_eq!(after.len(), 1);
    let restored = Entry::read(&after[0]).unwrap();
    assert_eq!((restored.seq, restored.prev.as_str()), (4, Entry::read(&before[2]).unwrap().hash.as_str()));
    assert_eq!(verify(&after).unwrap().missing, [(1, 3)], "the log says itself what it lost");
    assert_eq!(verify(&[before, after].concat()).unwrap().missing, [], "with the lost part it is whole again");
    let list = fetch(&redis, 0).await.unwrap().unwrap();
    assert_eq!(
        (list.version, list.published),
        (0, None),
        "writing back does not make a list that its owners did not publish"
    );
}

#[tokio::test]
async fn malformed_arguments_are_refused_before_any_write() {
    let (_server, redis, _) = support::line().await;
    let keys: Vec<String> = (0..4).map(|i| format!("fg:{{rooms}}:{i}")).collect();
    let record = "{\"seq\":1,\"hash\":\"x\"}";
    let fingerprint = "a".repeat(64);
    let good = ["10", "10", "0", "drop", "", record, "op", &fingerprint, "{\"seq\":1,\"a\":1}"].map(str::to_owned);
    for position in 0..good.len() {
        let bad: &[&str] = match position {
            0..=2 => &["", "-1", "1e3", "1000000000", "nan"],
            3 => &["", "Drop", "a b", "{x}"],
            4 => continue,
            5 => &["", "{}", "[1]", "{\"seq\":x,}"],
            6 => &["", "a b", "줄", "a\nb", "a\"b", "a\\b"],
            7 => &["", "A", "abc"],
            _ => &["", "{}", "{\"seq\":1,\"a\":\n1}"],
        };
        for value in bad {
            let mut args = good.clone();
            args[position] = (*value).to_owned();
            let refused = redis.run(&control::CONTROL, &keys, &args).await;
            assert!(
                matches!(&refused, Err(StoreError::Refused { code, .. }) if code == "BADARG"),
                "argument {} = {value:?} gave {refused:?}",
                position + 1
            );
        }
    }
    assert!(redis.run(&control::CONTROL, &keys[1..], &good).await.is_err());
    assert_eq!(redis.command("DBSIZE", &[]).await.unwrap().int(), Ok(0));
    redis.run(&control::CONTROL, &keys, &good).await.unwrap();
    assert_eq!(redis.command("EXISTS", &[OVERRIDES]).await.unwrap().int(), Ok(0), "the keys are the caller's");
}
