//! When to ask again: often near the front, seldom far back, and never all at the same moment.

use crate::settings::RoomSettings;

/// Nobody polls more often.
const POLL_MIN_MS: u64 = 1_000;
/// Nobody polls more seldom, so that a change is seen soon.
const POLL_MAX_MS: u64 = 20_000;
/// Asked again after this part of the remaining wait.
const PARTS: u64 = 8;
/// Jitter to either side, in percent.
const JITTER_PERCENT: u64 = 15;

/// The next poll of somebody whose turn is `wait_ms` away; `None` = nobody knows.
///
/// Deterministic in `number` and in the second of `now_ms`, so that repeating a poll gives the same answer.
pub fn next_poll_ms(settings: &RoomSettings, wait_ms: Option<u64>, number: u64, now_ms: i64) -> u64 {
    // A heartbeat must come well inside the silence and the claim window, or polite pages would lose their turn.
    let patience = u64::from(settings.silence_ms.min(settings.claim_window_ms)) / 3;
    let longest = POLL_MAX_MS.min(patience).max(POLL_MIN_MS);
    let base = wait_ms.map_or(longest / 2, |ms| ms / PARTS).clamp(POLL_MIN_MS, longest);
    let second = u64::try_from(now_ms.div_euclid(1_000)).unwrap_or(0);
    let jitter = base * JITTER_PERCENT / 100;
    base - jitter + mix(number, second) % (2 * jitter + 1)
}

/// Mixes two numbers well enough to spread polls (splitmix64). Not for secrets.
pub fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(b).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::room;

    #[test]
    fn near_is_often_and_far_is_seldom() {
        for (wait_ms, about) in
            [(Some(0), 1_000), (Some(8_000), 1_000), (Some(80_000), 10_000), (Some(u64::MAX), 20_000), (None, 10_000)]
        {
            for number in 0..500 {
                let ms = next_poll_ms(&room(), wait_ms, number, 77_000);
                assert!((about * 85 / 100..=about * 115 / 100).contains(&ms), "{wait_ms:?}: {ms}");
            }
        }
    }

    #[test]
    fn a_short_silence_or_claim_window_makes_everybody_poll_in_time() {
        for room in [RoomSettings { silence_ms: 6_000, ..room() }, RoomSettings { claim_window_ms: 6_000, ..room() }] {
            assert!((0..500).all(|n| next_poll_ms(&room, Some(u64::MAX), n, 0) <= 2_300));
        }
    }

    #[test]
    fn the_polls_of_a_crowd_are_spread() {
        let mut buckets = [0_u32; 30];
        for number in 0..30_000 {
            let ms = next_poll_ms(&room(), Some(u64::MAX), number, 5_000);
            buckets[((ms - 17_000) / 201) as usize] += 1;
        }
        assert!(buckets.iter().all(|n| (500..1_500).contains(n)), "{buckets:?}");
        assert_eq!(
            next_poll_ms(&room(), None, 7, 5_000),
            next_poll_ms(&room(), None, 7, 5_999),
            "same second, same answer"
        );
    }
}
