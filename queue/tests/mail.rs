//! Letters to people whose turn is near: whom the script picks, and what a crash or a failure leaves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use queue::keys::RoomKeys;
use queue::mail::{self, Letter};
use service_kit::ids::RoomId;
use service_kit::redis::{Redis, StoreError};

const LEASE_MS: u64 = 60_000;
const NOW_MS: i64 = 1_000_000;

fn room() -> RoomId {
    "shoes".parse().unwrap()
}

/// Puts `numbers` into the line, each at ten times its number.
async fn stand(redis: &Redis, numbers: impl IntoIterator<Item = u64>) {
    let line = RoomKeys::new(&room()).line();
    for number in numbers {
        redis.command("ZADD", &[&line, &(number * 10).to_string(), &number.to_string()]).await.unwrap();
    }
}

async fn want(redis: &Redis, number: u64) -> bool {
    mail::put(redis, &room(), number, "ko", &format!("p{number}@shop.example")).await.unwrap()
}

async fn take(redis: &Redis, near: u64, now_ms: i64) -> Vec<u64> {
    let (letters, _) = mail::take(redis, &room(), near, LEASE_MS, now_ms).await.unwrap();
    letters.iter().map(|l| l.number).collect()
}

async fn addresses(redis: &Redis) -> i64 {
    redis.command("HLEN", &[&RoomKeys::new(&room()).mailto()]).await.unwrap().int().unwrap()
}

#[tokio::test]
async fn only_those_who_are_near_are_told_and_each_once() {
    let (_server, redis, _) = support::line().await;
    stand(&redis, 1..=10).await;
    for number in [2, 5, 9] {
        assert!(want(&redis, number).await);
    }
    let (letters, more) = mail::take(&redis, &room(), 5, LEASE_MS, NOW_MS).await.unwrap();
    let letter =
        |number: u64| Letter { number, tries: 1, language: "ko".into(), address: format!("p{number}@shop.example") };
    assert_eq!((letters, more), (vec![letter(2), letter(5)], false));
    assert!(take(&redis, 5, NOW_MS + 1).await.is_empty(), "both are leased");
    for number in [2, 5] {
        mail::finished(&redis, &room(), number).await.unwrap();
        assert!(!want(&redis, number).await, "one letter per number");
    }
    assert_eq!(addresses(&redis).await, 1, "an address is forgotten with its letter");
    assert!(take(&redis, 0, NOW_MS).await.is_empty(), "nobody is near before the start");
    assert_eq!(take(&redis, 99, NOW_MS).await, [9], "a line shorter than the mark is near as a whole");
}

#[tokio::test]
async fn a_place_that_was_given_later_counts() {
    let (_server, redis, _) = support::line().await;
    // Before a draw nobody has a place.
    let lobby = RoomKeys::new(&room()).lobby();
    for number in 1..=3 {
        redis.command("ZADD", &[&lobby, &number.to_string(), &number.to_string()]).await.unwrap();
        assert!(want(&redis, number).await);
    }
    assert!(take(&redis, 1, NOW_MS).await.is_empty() && addresses(&redis).await == 3, "they wait for the draw");
    redis.command("DEL", &[&lobby]).await.unwrap();
    let line = RoomKeys::new(&room()).line();
    for (place, number) in [("10", "3"), ("20", "1"), ("30", "2")] {
        redis.command("ZADD", &[&line, place, number]).await.unwrap();
    }
    assert_eq!(take(&redis, 1, NOW_MS).await, [3]);
    assert_eq!(take(&redis, 2, NOW_MS).await, [1]);
}

#[tokio::test]
async fn who_left_the_line_gets_no_letter_and_who_is_called_or_silent_does() {
    let (_server, redis, _) = support::line().await;
    stand(&redis, 1..=4).await;
    for number in 1..=4 {
        want(&redis, number).await;
    }
    let keys = RoomKeys::new(&room());
    redis.command("ZREM", &[&keys.line(), "1", "2", "3"]).await.unwrap();
    redis.command("ZADD", &[&keys.called(), "2000000", "2"]).await.unwrap();
    redis.command("ZADD", &[&keys.silent(), "30", "3"]).await.unwrap();
    let mut told = take(&redis, 1, NOW_MS).await;
    told.sort_unstable();
    assert_eq!(told, [2, 3, 4]);
    assert_eq!(addresses(&redis).await, 3, "the address of who is gone is forgotten");
    // Leaving takes it away at once, also from a letter that is leased.
    mail::finished(&redis, &room(), 4).await.unwrap();
    assert_eq!(addresses(&redis).await, 2);
    mail::forget_room(&redis, &room()).await.unwrap();
    assert_eq!(addresses(&redis).await, 0);
    let left = redis.command("KEYS", &["fg:{shoes}:mail*"]).await.unwrap();
    assert!(left.list().unwrap().is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_gate_that_dies_repeats_a_letter_once_and_not_twice() {
    let (_server, redis, _) = support::line().await;
    stand(&redis, [1]).await;
    want(&redis, 1).await;
    let later = |leases: i64| NOW_MS + leases * (LEASE_MS as i64 + 1);
    assert_eq!(take(&redis, 1, later(0)).await, [1]);
    assert_eq!(take(&redis, 1, later(1)).await, [1], "nobody reported on it");
    assert!(take(&redis, 1, later(2)).await.is_empty());
    assert_eq!(addresses(&redis).await, 0);
}

#[tokio::test]
async fn a_letter_that_did_not_go_out_is_tried_again_a_bounded_number_of_times() {
    let (_server, redis, _) = support::line().await;
    stand(&redis, [1]).await;
    want(&redis, 1).await;
    let mut now_ms = NOW_MS;
    for _ in 0..mail::TRIES_MAX {
        assert_eq!(take(&redis, 1, now_ms).await, [1]);
        mail::failed(&redis, &room(), 1, 5_000, now_ms).await.unwrap();
        assert!(take(&redis, 1, now_ms + 4_999).await.is_empty(), "too soon");
        now_ms += 5_001;
    }
    assert!(take(&redis, 1, now_ms).await.is_empty());
    assert_eq!(addresses(&redis).await, 0);
}

#[tokio::test]
async fn an_address_may_be_corrected_until_its_letter_is_under_way() {
    let (_server, redis, _) = support::line().await;
    stand(&redis, [1]).await;
    for address in ["first@shop.example", "second@shop.example"] {
        assert!(mail::put(&redis, &room(), 1, "en", address).await.unwrap());
    }
    let (letters, _) = mail::take(&redis, &room(), 1, LEASE_MS, NOW_MS).await.unwrap();
    assert_eq!((letters.len(), letters[0].address.as_str()), (1, "second@shop.example"));
    assert!(!mail::put(&redis, &room(), 1, "en", "third@shop.example").await.unwrap(), "it may be out already");
    mail::failed(&redis, &room(), 1, 5_000, NOW_MS).await.unwrap();
    assert!(mail::put(&redis, &room(), 1, "en", "third@shop.example").await.unwrap(), "it surely is not");
    let (letters, _) = mail::take(&redis, &room(), 1, LEASE_MS, NOW_MS).await.unwrap();
    assert_eq!(letters[0].address, "third@shop.example");
}

#[tokio::test]
async fn malformed_arguments_are_refused_before_any_write() {
    let (_server, redis, _) = support::line().await;
    let cases: [(_, usize, Vec<&str>, &[usize]); 3] = [
        (&mail::PUT, 6, vec!["7", "ko", "a@b.example", "5", "5"], &[0, 3, 4]),
        (&mail::TAKE, 8, vec!["5", "5", "5", "5", "5", "5", "5"], &[0, 1, 2, 3, 4, 5, 6]),
        (&mail::DONE, 4, vec!["5", "7", "5", "5"], &[0, 1, 2, 3]),
    ];
    for (script, key_count, good, numbers) in cases {
        let keys: Vec<String> = (0..key_count).map(|i| format!("fg:{{x}}:{i}")).collect();
        let refused = async |position: usize, value: &str| {
            let mut args: Vec<String> = good.iter().map(|a| (*a).to_owned()).collect();
            args[position] = value.to_owned();
            let refused = redis.run(script, &keys, &args).await;
            assert!(
                matches!(&refused, Err(StoreError::Refused { code, .. }) if code == "BADARG"),
                "{}: argument {} = {value:?} gave {refused:?}",
                script.name,
                position + 1
            );
        };
        for position in numbers {
            for value in ["", "\r\n", "-5", "1e3", "0x10", "nan", "inf", "3.5", "99999999999999999", "+1"] {
                refused(*position, value).await;
            }
        }
        if script.name == "mail_put" {
            for language in ["", "KO", "k", "kor", "k|"] {
                refused(1, language).await;
            }
            for address in ["", "a", "@", "a b@c", "a@b\r\nBcc: c@d", "a|b@c", &format!("{}@b", "a".repeat(300))] {
                refused(2, address).await;
            }
        }
        let args: Vec<String> = good.iter().map(|a| (*a).to_owned()).collect();
        for (keys, args) in [(&keys[1..], &args[..]), (&keys[..], &args[1..])] {
            assert!(redis.run(script, keys, args).await.is_err(), "{} with too few", script.name);
        }
        assert_eq!(redis.command("EXISTS", &["fg:{x}:0"]).await.unwrap().int(), Ok(0), "{} wrote", script.name);
    }
}

#[tokio::test]
async fn a_room_has_a_bounded_number_of_addresses_and_they_expire() {
    let (_server, redis, _) = support::line().await;
    let keys = RoomKeys::new(&room());
    let six = [keys.mail(), keys.mailto(), keys.mailing(), keys.mailed(), keys.line(), keys.silent()];
    let put = async |number: &str| {
        let args = [number, "ko", "a@b.example", "2", "5000"].map(str::to_owned);
        redis.run(&mail::PUT, &six, &args).await
    };
    for number in ["1", "2", "1"] {
        assert_eq!(put(number).await.unwrap().int(), Ok(1));
    }
    let refused = put("3").await;
    assert!(matches!(&refused, Err(StoreError::Refused { code, .. }) if code == mail::REFUSED_FULL), "{refused:?}");
    let left_ms = redis.command("PTTL", &[&keys.mailto()]).await.unwrap().int().unwrap();
    assert!((1..=5_000).contains(&left_ms), "{left_ms}");
}
